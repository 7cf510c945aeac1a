"""Raw data and downsampling: what remains without any idea of where people are.

Functions of tensors first, the methods around them below. Axes: B clips, C channels, T frames, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from stp_baselines import DownsampleConfig
from stp_bench.clips import Anonymized, Clips
from stp_bench.methods import FitTask, NoConfig, Phase, Stateful
from stp_bench.schema import VitSpec


def downsample(
    x_BCTHW: Tensor,
    factor: int,
    *,
    restore: Literal["bilinear", "nearest"] = "bilinear",
    filter: Literal["area", "bicubic-antialias"] = "area",
) -> Tensor:
    """Reduce each frame ``factor`` times and enlarge it to its old size.

    The reduction is relative to the clip that the recognizer sees, not to the source video: halving a 240 pixel video
    before a 112 pixel crop would remove almost nothing. A side that ``factor`` does not divide is reduced to
    ``side // factor`` block means of nearly equal blocks.

    Args:
        x_BCTHW: values in [0, 1].
        factor: at least 1.
        restore: enlargement, pixel centers aligned (``align_corners`` off).
        filter: reduction; ``bicubic-antialias`` overshoots at edges and is therefore clamped to [0, 1].
    """
    height, width = x_BCTHW.shape[-2:]
    small = (max(1, height // factor), max(1, width // factor))
    frames = x_BCTHW.flatten(1, 2)  # frames as channels: 2-D operators treat each on its own
    if filter == "bicubic-antialias":
        reduced = functional.interpolate(frames, size=small, mode="bicubic", antialias=True).clamp_(0, 1)
    else:
        reduced = functional.adaptive_avg_pool2d(frames, small)
    return functional.interpolate(reduced, size=(height, width), mode=restore).reshape(x_BCTHW.shape)


class FixedTransform:
    """What a method without anything to learn answers to the harness."""

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """No phases."""
        return ()

    def parts(self) -> Mapping[str, Stateful]:
        """No parts."""
        return {}


class Raw(FixedTransform):
    """The clip itself: the upper reference of utility and of leakage."""

    def __init__(self, config: NoConfig, vit: VitSpec) -> None:
        pass

    def anonymize(self, clips: Clips) -> Anonymized:
        """The clip, bit for bit."""
        return Anonymized(clips.x_BCTHW)


class Downsample(FixedTransform):
    """See `downsample`."""

    def __init__(self, config: DownsampleConfig, vit: VitSpec) -> None:
        self.config = config

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clip at a fraction of its resolution, enlarged to its old size."""
        config = self.config
        return Anonymized(downsample(clips.x_BCTHW, config.factor, restore=config.restore, filter=config.filter))
