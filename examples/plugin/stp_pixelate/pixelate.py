"""Pixelation: every block of a frame becomes its mean color."""

import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from stp_bench.clips import Anonymized, Clips
from stp_bench.methods import FitTask
from stp_bench.schema import VitSpec
from stp_pixelate import Config


class Pixelate:
    """A fixed transform: nothing to learn, nothing to store."""

    def __init__(self, config: Config, vit: VitSpec) -> None:
        self.blocks = config.blocks

    def phases(self, task: FitTask) -> tuple[()]:
        """No phases."""
        return ()

    def parts(self) -> dict[str, torch.nn.Module]:
        """No weights."""
        return {}

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clip in blocks."""
        x_BCTHW = clips.x_BCTHW
        small = adaptive_avg_pool2d(x_BCTHW.flatten(1, 2), self.blocks)
        return Anonymized(interpolate(small, size=x_BCTHW.shape[-2:], mode="nearest").reshape(x_BCTHW.shape))
