"""What recognizers minimize, whatever kind of target they learn: evaluation's own, and those inside a method.

Axes: B units (clips or frames), K classes of a target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stp_bench.schema import Target


def recognition_loss(
    logits_BK: Tensor, labels: Tensor, target: Target, *, label_smoothing: float = 0.0, partial: bool = False
) -> Tensor:
    """Mean loss of a batch, a scalar: cross-entropy, or binary cross-entropy averaged over classes.

    Args:
        labels: int64 class numbers (B,) of a multiclass target, float32 (B, K) in {0, 1} of a multilabel one.
        label_smoothing: of cross-entropy only.
        partial: whether labels may be -1; such entries count for nothing.
    """
    logits = logits_BK.float()
    if target.kind == "multiclass":
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if not (partial or target.groups):
        return F.binary_cross_entropy_with_logits(logits, labels)
    loss_BK = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    if not partial:
        return group_mean(loss_BK.mean(0), target.groups)
    known_BK = (labels >= 0).to(loss_BK.dtype)
    return group_mean((loss_BK * known_BK).sum(0) / known_BK.sum(0).clamp(min=1), target.groups)


def group_mean(values_K: Tensor, groups: Sequence[tuple[str, int]]) -> Tensor:
    """Mean over classes; where they come in groups (`Target.groups`), the mean over groups of their means."""
    if not groups:
        return values_K.mean()
    return torch.stack([part.mean() for part in values_K.split([size for _, size in groups])]).mean()


def hit_rate(logits_BK: Tensor, labels: Tensor, target: Target) -> Tensor:
    """Share of right answers of a batch, a scalar: of units, or of the yes-or-no answers of a multilabel target."""
    if target.kind == "multiclass":
        return (logits_BK.argmax(1) == labels).float().mean()
    return ((logits_BK > 0) == (labels > 0.5)).float().mean()
