"""Anonymized clips as people see them: pixels in [0, 1], dropped tubelets black."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stp_bench.clips import Anonymized, Clips
from stp_bench.tubelets import keep_to_mask


def display(out: Anonymized, channel_range: Sequence[Sequence[float]] | None) -> Tensor:
    """The output in [0, 1], (B, 3, T, H, W).

    An unbounded output is mapped affinely, per channel, from ``channel_range`` = [low_C, high_C] (of the checkpoint)
    and clamped; what tubelets are dropped stays black. Lossy: it is not the form that is evaluated.
    """
    if out.space == "rgb01":
        return out.x_BCTHW.clamp(0, 1)
    if channel_range is None:
        raise ValueError("an unbounded output needs the range of its checkpoint")
    low, high = (torch.tensor(v, device=out.x_BCTHW.device).view(1, 3, 1, 1, 1) for v in channel_range)
    shown = ((out.x_BCTHW.float() - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    return shown * _mask(out) if out.keep_BLN is not None else shown


def sparsified(clips: Clips, out: Anonymized) -> Tensor:
    """The raw clip with dropped tubelets black, (B, 3, T, H, W) in [0, 1]; the clip itself if none is dropped."""
    return clips.x_BCTHW * _mask(out) if out.keep_BLN is not None else clips.x_BCTHW


def to_uint8(x: Tensor) -> Tensor:
    """[0, 1] to 0...255, rounded."""
    return (x * 255).round().to(torch.uint8)


def _mask(out: Anonymized) -> Tensor:
    assert out.keep_BLN is not None
    return keep_to_mask(out.keep_BLN, out.x_BCTHW.shape[2], out.x_BCTHW.shape[3])
