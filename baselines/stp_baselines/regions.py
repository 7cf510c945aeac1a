"""Blackening and blurs: obfuscation of the regions where people are.

Functions of tensors first, the methods around them below. Axes: B clips, C channels, T frames, M boxes of a frame,
H, W pixels.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor

from stp_baselines import BlurConfig, RegionConfig
from stp_baselines.filters import FixedTransform
from stp_bench.clips import Anonymized, Clips
from stp_bench.errors import UserError, WorkError
from stp_bench.schema import VitSpec

REFERENCE_SIDE = 112
"""The short side in pixels at which sizes in configurations are counted (the paper's clips, section 4.3)."""

_log = logging.getLogger(__name__)


def filled_boxes(boxes_BTM4: Tensor) -> Tensor:
    """Which boxes are boxes, and not padding or empty: bool (B, T, M)."""
    x1, y1, x2, y2 = boxes_BTM4.unbind(-1)
    return (x2 > x1) & (y2 > y1)


def box_mask(boxes_BTM4: Tensor, height: int, width: int, *, dilate: float = 0.0) -> Tensor:
    """The union of each frame's boxes as a mask of pixels.

    A box covers every pixel that it touches: its corners are rounded outwards, then clipped to the frame.

    Args:
        boxes_BTM4: (x1, y1, x2, y2) in pixels of the frame, edges between pixels; empty boxes cover nothing.
        height: H.
        width: W.
        dilate: pixels added to each side of a box first.

    Returns:
        float32 (B, 1, T, H, W): 1 inside, 0 outside. Not bool, since products are several times as fast as choices.
    """
    x1, y1, x2, y2 = boxes_BTM4.unbind(-1)
    filled = filled_boxes(boxes_BTM4)
    rows = torch.arange(height, device=boxes_BTM4.device)
    columns = torch.arange(width, device=boxes_BTM4.device)
    in_rows_BTMH = (rows >= (y1 - dilate).floor()[..., None]) & (rows < (y2 + dilate).ceil()[..., None])
    in_columns_BTMW = (columns >= (x1 - dilate).floor()[..., None]) & (columns < (x2 + dilate).ceil()[..., None])
    # How many boxes cover a pixel is a product of matrices over M: no (B, T, M, H, W) tensor is ever made. Its small
    # integers are exact under autocast, too.
    covers_BTHW = (in_rows_BTMH & filled[..., None]).float().transpose(-1, -2) @ in_columns_BTMW.float()
    return covers_BTHW.clamp_(max=1).float()[:, None]


def blacken(x_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
    """The clip with 0 where the mask is 1, untouched elsewhere."""
    return x_BCTHW * (1 - mask_B1THW)


def scaled_blur(kernel: int, sigma: float, short_side: int) -> tuple[int, float]:
    """A blur given at `REFERENCE_SIDE` for another short side: the next odd kernel up, and sigma in proportion.

    >>> scaled_blur(21, 10.0, 112), scaled_blur(21, 10.0, 56)
    ((21, 10.0), (11, 5.0))
    """
    pixels = -(-kernel * short_side // REFERENCE_SIDE)
    return pixels + 1 - pixels % 2, sigma * short_side / REFERENCE_SIDE


def gaussian_kernel(kernel: int, sigma: float) -> Tensor:
    """Weights exp(-i^2 / (2 sigma^2)) at the offsets i from -(kernel // 2) to kernel // 2, summing to 1; float64."""
    offsets = torch.arange(-(kernel // 2), kernel // 2 + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


@lru_cache(maxsize=32)
def blur_matrix(size: int, kernel: int, sigma: float, device: torch.device) -> Tensor:
    """The blur of a line of ``size`` pixels as a float32 (size, size) matrix, rows summing to 1.

    Pixels beyond an end are mirrored at the end pixel, back and forth if the line is shorter than half a kernel.
    """
    offsets = torch.arange(-(kernel // 2), kernel // 2 + 1)
    period = max(2 * (size - 1), 1)
    source = (torch.arange(size)[:, None] + offsets) % period
    source = torch.minimum(source, period - source).clamp(max=size - 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, source, gaussian_kernel(kernel, sigma).expand(size, -1))
    return matrix.to(device, torch.float32)


def gaussian_blur(x_BCTHW: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blur each channel of each frame with a separable Gaussian, mirrored at the borders.

    Two matrix products, along W and along H: exact for frames of any size, and on a CPU 1.5 to 5 times as fast as
    torchvision's convolution (benchmarks/transforms.py).
    """
    height, width = x_BCTHW.shape[-2:]
    across = blur_matrix(width, kernel, sigma, x_BCTHW.device)
    down = blur_matrix(height, kernel, sigma, x_BCTHW.device)
    # Under autocast the products would round pixels to 8 bits of mantissa.
    with torch.autocast(x_BCTHW.device.type, enabled=False):
        return down @ (x_BCTHW @ across.T)


class RegionMethod(FixedTransform):
    """Finds the regions for its subclasses."""

    def __init__(self, config: RegionConfig, vit: VitSpec) -> None:
        self.config = config
        self._told = False

    def variant(self, has_boxes: bool) -> str:
        """Which regions are treated, given whether the benchmark has boxes: ``boxes`` or ``full_frame``."""
        if self.config.regions == "auto":
            return "boxes" if has_boxes else "full_frame"
        return self.config.regions

    def mask(self, clips: Clips) -> Tensor | None:
        """The pixels to treat as in `box_mask`; None for all of them.

        Raises:
            UserError: ``regions=boxes`` and the clips have none.
            WorkError: ``on_missing=error`` and a frame has no box.
        """
        boxes = clips.boxes_BTM4
        if self.variant(boxes is not None) == "full_frame":
            if self.config.regions == "auto" and not self._told:
                _log.warning("no person boxes here: the whole frame is treated (variant full_frame)")
                self._told = True
            return None
        if boxes is None:
            raise UserError(
                "regions=boxes cannot be followed",
                "these videos have no person boxes",
                "use regions=auto or full_frame",
            )
        height, width = clips.x_BCTHW.shape[-2:]
        mask = box_mask(boxes, height, width, dilate=self.config.dilate * min(height, width) / REFERENCE_SIDE)
        if self.config.on_missing == "keep":
            return mask
        missing_BT = ~filled_boxes(boxes).any(-1)
        if self.config.on_missing == "full_frame":
            return torch.maximum(mask, missing_BT[:, None, :, None, None].float())
        if missing_BT.any():
            raise WorkError(
                f"{int(missing_BT.sum())} of {missing_BT.numel()} frames of a batch cannot be anonymized",
                "they have no person box and on_missing is error",
                "add boxes, or use on_missing=keep or full_frame",
            )
        return mask


class Blackening(RegionMethod):
    """People, or whole frames, become black."""

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clip with hard-edged black regions."""
        mask = self.mask(clips)
        x = clips.x_BCTHW
        return Anonymized(torch.zeros_like(x) if mask is None else blacken(x, mask))


class Blur(RegionMethod):
    """People, or whole frames, are blurred: WeakBlur and StrongBlur by configuration."""

    def __init__(self, config: BlurConfig, vit: VitSpec) -> None:
        super().__init__(config, vit)
        self.kernel, self.sigma = config.kernel, config.sigma

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clip with its regions taken from a blur of the whole frames, so that regions have no inner border."""
        mask = self.mask(clips)
        x = clips.x_BCTHW
        blurred = gaussian_blur(x, *scaled_blur(self.kernel, self.sigma, min(x.shape[-2:])))
        blurred.clamp_(0, 1)  # rounding may leave the range by an ulp
        return Anonymized(blurred if mask is None else x.lerp(blurred, mask))
