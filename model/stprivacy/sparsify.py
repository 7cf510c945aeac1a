"""Privacy sparsification: which tubelets matter for the action (paper section 3.2).

Axes in tensor names: B clips, L time slots, N tubelets of a slot, D features, M sparsification blocks. A decision
keep_BLN is 1 for a kept tubelet and 0 for an abandoned one; decisions are nested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeepPredictor(nn.Module):
    """Multi-level features and the retaining probability made of them (Eq. 1-5).

    As in the released code, one normalization and one linear map stand for the three maps of Eq. 1-3, whose thirds
    are the local, the spatial and the spatio-temporal feature; ``separate_mlps`` gives each its own, from the plain
    tokens, as Eq. 1-3 read.
    """

    def __init__(self, dim: int, separate_mlps: bool) -> None:
        super().__init__()
        self.separate_mlps = separate_mlps
        self.in_conv: nn.Sequential | nn.ModuleList
        if separate_mlps:
            self.in_conv = nn.ModuleList(nn.Sequential(nn.Linear(dim, dim // 3), nn.GELU()) for _ in range(3))
        else:
            self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(-1),
        )

    def lean_to_keeping(self, bias: float) -> None:
        """Start with the logits of keeping and abandoning ``bias`` above and below 0."""
        with torch.no_grad():
            self.out_conv.get_parameter("4.bias").copy_(torch.tensor([bias, -bias]))

    def forward(self, x_BLND: Tensor, keep_BLN: Tensor) -> Tensor:
        """Log-probabilities (B, L, N, 2) of keeping and of abandoning; means run over kept tokens only."""
        if self.separate_mlps:
            local, spatial, whole = (mlp(x_BLND) for mlp in self.in_conv)
        else:
            local, spatial, whole = self.in_conv(x_BLND).chunk(3, -1)
        keep = keep_BLN.unsqueeze(-1)
        spatial = _mean_over_kept(spatial, keep, (2,)).expand_as(local)
        whole = _mean_over_kept(whole, keep, (1, 2)).expand_as(local)
        log_probability: Tensor = self.out_conv(torch.cat([local, spatial, whole], -1))
        return log_probability


def _mean_over_kept(x: Tensor, keep: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean of the kept entries along ``dims``; zero where none is kept."""
    return (x * keep).sum(dims, keepdim=True) / keep.sum(dims, keepdim=True).clamp(min=1)


def sample_decision(log_probability_BLN2: Tensor, keep_BLN: Tensor, tau: float) -> Tensor:
    """The next decision in training: a straight-through Gumbel-softmax sample times the previous decision (Eq. 6)."""
    sample = F.gumbel_softmax(log_probability_BLN2.float(), tau=tau, hard=True)
    return sample[..., 0] * keep_BLN


def best_of_each_slot(score_BLN: Tensor, count: int) -> Tensor:
    """Positions (B, L, ``count``) of the best tokens of every slot, in ascending order; of equals, the first wins."""
    return score_BLN.sort(dim=-1, descending=True, stable=True).indices[..., :count].sort(-1).values


def best_of_all(score_BLN: Tensor, keep_BLN: Tensor, count: int) -> Tensor:
    """The decision that keeps the ``count`` best of the kept tokens of a clip, whatever their slot."""
    score = score_BLN.masked_fill(keep_BLN == 0, -torch.inf).flatten(1)
    best = score.sort(dim=-1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(score).scatter_(1, best, 1.0).view_as(keep_BLN)


def keep_rates(alpha: float | Sequence[float], blocks: int) -> tuple[float, ...]:
    """Share of all tubelets left after each block: alpha^m, or the running product of one ratio per block."""
    ratios = [float(alpha)] * blocks if isinstance(alpha, (int, float)) else [float(a) for a in alpha]
    return tuple(math.prod(ratios[: m + 1]) for m in range(blocks))


def keep_count(tubelets: int, rate: float) -> int:
    """How many of ``tubelets`` a rate keeps: rounded down (but for errors of floating point), at least one."""
    return max(1, math.floor(tubelets * rate + 1e-6))


def sparsity_loss(keep_MBLN: Tensor, rates: Sequence[float]) -> Tensor:
    """Squared distance of every slot's kept share from its block's rate, averaged (Eq. 7)."""
    target = keep_MBLN.new_tensor(rates).view(-1, 1, 1)
    return (keep_MBLN.float().mean(-1) - target).square().mean()
