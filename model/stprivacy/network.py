"""STPrivacy's transformer: tubelets -> three sparsification blocks -> anonymization block (paper sections 3.1-3.3).

Axes in tensor names: B clips, C channels, T frames, H, W pixels; L time slots, N tubelets of a slot, S tokens (L x N,
or fewer once some were dropped), D features, M sparsification blocks. Parameter names are those of the release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stp_bench.errors import UserError
from stp_bench.schema import Space, VitSpec
from stp_bench.tubelets import assemble, from_temporal_basis, keep_to_mask, temporal_gain
from stp_bench.vit import TubeletTransformer, masked_mean, normalize
from stprivacy import Config
from stprivacy.sparsify import KeepPredictor, best_of_all, best_of_each_slot, keep_count, keep_rates, sample_decision

M = 3
"""Sparsification blocks of the paper."""

Decide = Callable[[int, Tensor, Tensor], Tensor]
"""(block, log-probabilities (B, L, N, 2), previous decision) -> next decision."""


class Transformed(NamedTuple):
    """What the transformer makes of a batch of clips."""

    x_BCTHW: Tensor
    """The transformed clips. Zero on abandoned tubelets, except in training, where masks hide them."""
    keep_BLN: Tensor
    """The final decision, 1 for kept; in training its gradient is straight-through."""
    keep_MBLN: Tensor
    """The nested decisions of all sparsification blocks."""
    action_BD: Tensor
    """Mean of the kept tokens: what the initialization phase classifies."""


class STPrivacy(TubeletTransformer):
    """Three privacy sparsification blocks (PSB: layers, then a `KeepPredictor`), one privacy anonymization block (PAB).

    In training decisions are sampled, and abandoned tokens stay in place behind masked attention. In evaluation every
    clip keeps its best tokens, equally many, and the others are dropped: deterministic, and cheaper.
    """

    def __init__(self, vit: VitSpec, config: Config) -> None:
        layers = vit.depth // (M + 1)
        if layers < 1 or vit.dim % 3:
            raise UserError(
                f"STPrivacy cannot have depth {vit.depth} and width {vit.dim}",
                "its four blocks need a layer each and its three feature levels equal shares of the width",
                "use a depth of 4 or more and a width divisible by 3",
            )
        self.has_psb = config.mechanisms != "anonymization_only"
        self.has_pab = config.mechanisms != "sparsification_only"
        super().__init__(vit if self.has_pab else dataclasses.replace(vit, depth=M * layers), attn_eps=config.attn_eps)
        self.config = config
        self.spans = [slice(m * layers, (m + 1) * layers) for m in range(M)] + [slice(M * layers, vit.depth)]
        predictors = [KeepPredictor(vit.dim, config.separate_mlps) for _ in range(M if self.has_psb else 0)]
        self.score_predictor = nn.ModuleList(predictors)
        self.norm_recon = nn.LayerNorm(vit.dim, eps=1e-6)
        if self.has_pab:
            self.head_recon = nn.Linear(vit.dim, vit.tubelet * vit.patch**2 * 3)
        self.init_weights()
        for predictor in predictors:
            predictor.lean_to_keeping(config.keep_bias)

    @property
    def space(self) -> Space:
        """Range of the output."""
        return "free" if self.has_pab and self.config.output == "linear" else "rgb01"

    def forward(self, x_BCTHW: Tensor, alpha: float | Sequence[float] | None = None) -> Transformed:
        """Transform clips in [0, 1]. ``alpha``: keep ratio per block in evaluation; None for the configured one."""
        rates = keep_rates(self.config.alpha if alpha is None else alpha, M)
        x_BSD = self.embed(normalize(x_BCTHW))
        if self.has_psb and not self.training and self.config.selection == "per_slot":
            x_BSD, keep_MBLN = self.sparsify_by_dropping(x_BSD, rates)
            visible_BS = None
        else:
            x_BSD, keep_MBLN = self.sparsify_in_place(x_BSD, self._sample if self.training else self._choose(rates))
            visible_BS = keep_MBLN[-1].flatten(1) if self.has_psb else None
        keep_BLN = keep_MBLN[-1]
        if self.has_pab:
            x_BSD = self._layers(M, x_BSD, visible_BS)
        x_BSD = self.norm_recon(x_BSD)
        video_BCTHW = self._render(x_BSD, keep_BLN) if self.has_pab else x_BCTHW
        # In training, abandoned tubelets stay under the recognizers' masks (release): were they black, the gradient of
        # their decisions would say that keeping them is of no use, and the network would come to keep nothing.
        if not self.training or self.config.mask_blind:
            video_BCTHW = video_BCTHW * keep_to_mask(keep_BLN.detach(), self.vit.frames, self.vit.size)
        return Transformed(video_BCTHW, keep_BLN, keep_MBLN, masked_mean(x_BSD, visible_BS))

    def sparsify_in_place(self, x_BSD: Tensor, decide: Decide) -> tuple[Tensor, Tensor]:
        """The PSBs with all tokens in their places; attention and means see kept ones only."""
        keep_BLN = x_BSD.new_ones(len(x_BSD), self.vit.slots, self.vit.tubelets)
        decisions: list[Tensor] = []
        for m in range(M):
            x_BSD = self._layers(m, x_BSD, keep_BLN.flatten(1) if decisions else None)
            if self.has_psb:
                score = self.score_predictor[m](x_BSD.unflatten(1, (self.vit.slots, -1)), keep_BLN)
                keep_BLN = decide(m, score, keep_BLN)
                decisions.append(keep_BLN)
        return x_BSD, torch.stack(decisions or [keep_BLN])

    def sparsify_by_dropping(self, x_BSD: Tensor, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """The PSBs where each keeps the best tokens of every slot and drops the others: shorter sequences, same result.

        The remaining tokens come slot by slot in the order of their positions.
        """
        B, L, N = len(x_BSD), self.vit.slots, self.vit.tubelets
        place_BLN = torch.arange(N, device=x_BSD.device).expand(B, L, N)
        decisions = []
        for m, rate in enumerate(rates):
            x_BLND = self._layers(m, x_BSD).unflatten(1, (L, -1))
            score = self.score_predictor[m](x_BLND, x_BLND.new_ones(x_BLND.shape[:3]))
            best = best_of_each_slot(score[..., 0], keep_count(N, rate))
            x_BSD = x_BLND.take_along_dim(best.unsqueeze(-1), 2).flatten(1, 2)
            place_BLN = place_BLN.gather(2, best)
            decisions.append(x_BSD.new_zeros(B, L, N).scatter(2, place_BLN, 1.0))
        return x_BSD, torch.stack(decisions)

    def _layers(self, part: int, x_BSD: Tensor, visible_BS: Tensor | None = None) -> Tensor:
        for block in self.blocks[self.spans[part]]:
            x_BSD = block(x_BSD, visible_BS)
        return x_BSD

    def _sample(self, m: int, log_probability_BLN2: Tensor, keep_BLN: Tensor) -> Tensor:
        return sample_decision(log_probability_BLN2, keep_BLN, self.config.tau)

    def _choose(self, rates: Sequence[float]) -> Decide:
        """Deployment over whole clips: after every block, or by the last predictor alone."""

        def decide(m: int, log_probability_BLN2: Tensor, keep_BLN: Tensor) -> Tensor:
            if self.config.selection == "global" and m < M - 1:
                return keep_BLN
            return best_of_all(log_probability_BLN2[..., 0], keep_BLN, keep_count(keep_BLN[0].numel(), rates[m]))

        return decide

    def _render(self, x_BSD: Tensor, keep_BLN: Tensor) -> Tensor:
        """Eq. 11: tokens as pixels, in the places of the kept tubelets where others were dropped."""
        values_BSP = self.head_recon(x_BSD)
        if values_BSP.shape[1] < keep_BLN[0].numel():
            placed = values_BSP.new_zeros(len(keep_BLN), keep_BLN[0].numel(), values_BSP.shape[2])
            placed[keep_BLN.flatten(1) > 0] = values_BSP.flatten(0, 1)
            values_BSP = placed
        video_BCTHW = assemble(values_BSP, self.vit).float()
        if gain := temporal_gain(self.vit):
            video_BCTHW = from_temporal_basis(video_BCTHW, gain)
        return video_BCTHW.sigmoid() if self.config.output == "sigmoid" else video_BCTHW

    def in_pab(self, name: str) -> bool:
        """Whether a parameter belongs to the anonymization block; all others sparsify."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) >= self.spans[M].start
        return name.startswith(("norm_recon.", "head_recon."))

    def layer_of(self, name: str) -> int:
        """As for the recognizers; a predictor learns like the layer that follows it (release)."""
        if name.startswith("score_predictor."):
            return int(self.spans[int(name.split(".")[1])].stop)
        return super().layer_of(name)


def load_official(state_dict: Mapping[str, Tensor], *, size: int = 112, alpha: float = 0.7) -> STPrivacy:
    """The network of a checkpoint in the layout of the authors' release, in evaluation mode.

    Args:
        state_dict: parameters by the release's names, with or without a leading ``module.``. Width, depth, patch,
            tubelet length and frames are read off their shapes; a head has 64 features.
        size: side of a frame in pixels.
        alpha: keep ratio per sparsification block.

    Raises:
        UserError: names or shapes are not the release's.
    """
    state = {name.removeprefix("module."): value for name, value in state_dict.items()}

    def mismatch(why: str) -> UserError:
        return UserError(
            "this is no STPrivacy checkpoint", why, "give the state_dict of the official STPrivacy network"
        )

    try:
        kernel, positions = state["patch_embed.proj.weight"], state["pos_embed"]
        (dim, _, tubelet, patch, _), hidden = kernel.shape, len(state["blocks.0.mlp.fc1.bias"])
    except (KeyError, ValueError) as error:
        raise mismatch(f"its {error} is missing or of another shape") from error
    vit = VitSpec(
        frames=positions.shape[1] // (size // patch) ** 2 * tubelet,
        size=size,
        tubelet=tubelet,
        patch=patch,
        dim=dim,
        depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        heads=dim // 64,
        mlp_ratio=hidden / dim,
        drop_path=0.0,
    )
    network = STPrivacy(vit, Config(alpha=alpha))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise mismatch(str(error).replace("\n", " ")) from error
    return network.eval()
