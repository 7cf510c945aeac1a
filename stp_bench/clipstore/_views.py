"""From stored frames to clips: the geometry of crops, boxes that follow it, and the one device operation that cuts.

A view is a rectangle in the plane of a stored frame that becomes a square of ``size`` pixels, possibly mirrored. Pixel
centers lie at half-integers, so resizing means what ``interpolate(align_corners=False)`` means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stp_bench.clips import crop_offsets
from stp_bench.clipstore._shard import Entry

_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10
_CACHED = 1_000_000
"""Values of a piece that a CPU cuts at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Augment:
    """Training augmentation, equal for all frames of a clip."""

    crop_scale: float = 1.0
    """Smallest share of the area in a random resized crop (aspect 3/4 to 4/3); 1 for a plain random crop."""
    color_jitter: float = 0.0
    """j: a random factor in 1 +- 2j for all channels and an offset in +-j for each, clamped to [0, 1]."""
    flip: bool = True
    """Mirror half of the clips."""


@dataclass(frozen=True, slots=True)
class Rects:
    """Views of a batch: ``corners_B4`` (top, left, height, width) in stored pixels, and which are mirrored."""

    corners_B4: Floats
    flip_B: NDArray[np.bool_]

    def __getitem__(self, rows: slice) -> Rects:
        return Rects(self.corners_B4[rows], self.flip_B[rows])

    def plain(self, size: int) -> bool:
        """Whether all views are whole-pixel crops at full scale: they are then cut exactly, without resampling."""
        corners, sides = self.corners_B4[:, :2], self.corners_B4[:, 2:]
        return bool((sides == size).all() and (corners == np.floor(corners)).all())


def random_rects(entries: list[Entry], size: int, augment: Augment, rng: np.random.Generator) -> Rects:
    """One random training view per stored video; a fixed number of draws per video."""
    sides = np.array([(e.height, e.width) for e in entries], np.float64).reshape(-1, 2)
    if augment.crop_scale < 1:
        corners = _resized_crops(sides, augment.crop_scale, rng)
    else:
        side = np.minimum(size, sides.min(axis=1))[:, None]
        corners = np.hstack([rng.integers((sides - side).astype(np.int64) + 1), side, side])
    flips = rng.random(len(entries)) < 0.5
    return Rects(corners, flips if augment.flip else np.zeros_like(flips))


def _resized_crops(sides: Floats, scale: float, rng: np.random.Generator) -> Floats:
    """Rectangles of random area and aspect; the first of ten tries that fits, else the largest central square."""
    area = sides.prod(axis=1)[:, None] * rng.uniform(scale, 1, (len(sides), _TRIES))
    aspect = np.exp(rng.uniform(np.log(_ASPECT[0]), np.log(_ASPECT[1]), (len(sides), _TRIES)))
    tries = np.stack([np.round(np.sqrt(area / aspect)), np.round(np.sqrt(area * aspect))], axis=2)
    fits = (tries[:, :, 0] >= 1) & (tries[:, :, 1] >= 1) & (tries <= sides[:, None]).all(axis=2)
    chosen = tries[np.arange(len(sides)), fits.argmax(axis=1)]
    square = np.repeat(sides.min(axis=1)[:, None], 2, axis=1)
    none = (fits.sum(axis=1) == 0)[:, None]
    chosen = np.where(none, square, chosen)
    slack = sides - chosen
    corner = np.where(none, slack // 2, np.floor(rng.random((len(sides), 2)) * (slack + 1)))
    return np.hstack([corner, chosen])


def test_rects(entry: Entry, size: int, crops: int) -> Floats:
    """Corners of a video's test crops, (crops, 4): those of `clips.crop_offsets`, mapped into the stored plane."""
    plane, offsets = crop_offsets(entry.source_height, entry.source_width, size, crops)
    scale = np.array([entry.height, entry.width]) / np.array(plane)
    return np.hstack([offsets * scale, np.broadcast_to(size * scale, (crops, 2))])


def cut(
    frames_UTHWC: Tensor, sides_U2: NDArray[np.int64], rows_B: NDArray[np.int64], rects: Rects, size: int
) -> Tensor:
    """Cut views out of stored frames, bilinear, in one operation on the frames' device.

    Args:
        frames_UTHWC: uint8; smaller videos are padded at the bottom and right, and the padding is never seen.
        sides_U2: true height and width of each.
        rows_B: from which row of the frames each view is cut.
        rects: the views.
        size: side of a view.

    Returns:
        float32 (B, 3, T, size, size) in [0, 1].
    """
    u, t, h, w, c = frames_UTHWC.shape
    device = frames_UTHWC.device
    centers = (np.arange(size) + 0.5) / size
    mirrored = np.where(rects.flip_B[:, None], centers[::-1], centers)
    sides = sides_U2[rows_B]
    # Clamping to the outermost pixel centers repeats the border, as interpolate does, and keeps out of the padding.
    y_BS = np.clip(rects.corners_B4[:, :1] + rects.corners_B4[:, 2:3] * centers, 0.5, sides[:, :1] - 0.5)
    x_BS = np.clip(rects.corners_B4[:, 1:2] + rects.corners_B4[:, 3:4] * mirrored, 0.5, sides[:, 1:] - 0.5)
    y, x = (torch.from_numpy((2 * v / n - 1).astype(np.float32)).to(device) for v, n in ((y_BS, h), (x_BS, w)))
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=3)
    out = torch.empty(len(rows_B), c * t, size, size, device=device)
    # A CPU works through pieces that fit its cache: twice as fast as the whole batch at once.
    step = max(1, _CACHED // (t * h * w * c)) if device.type == "cpu" else u
    for first in range(0, u, step):
        chosen = np.flatnonzero((rows_B >= first) & (rows_B < first + step))
        planes = frames_UTHWC[first : first + step].permute(0, 4, 1, 2, 3).reshape(-1, c * t, h, w).float()
        rows = rows_B[chosen] - first
        if not np.array_equal(rows, np.arange(len(planes))):
            planes = planes[torch.from_numpy(rows).to(device)]
        at = torch.from_numpy(chosen).to(device)
        cropped = torch.nn.functional.grid_sample(planes, grid[at], padding_mode="border", align_corners=False)
        out[at] = cropped.div_(255)
    return out.view(-1, c, t, size, size)


@dataclass(frozen=True, slots=True)
class Tint:
    """Random brightness and color of a batch (`Augment.color_jitter`)."""

    gain_B: NDArray[np.float32]
    offset_B3: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> Tint:
        return Tint(self.gain_B[rows], self.offset_B3[rows])

    def apply_(self, x_BCTHW: Tensor) -> Tensor:
        """Tint in place, clamped to [0, 1]."""
        gain, offset = (torch.from_numpy(v).to(x_BCTHW.device) for v in (self.gain_B, self.offset_B3))
        return x_BCTHW.mul_(gain[:, None, None, None, None]).add_(offset[:, :, None, None, None]).clamp_(0, 1)


def random_tint(count: int, strength: float, rng: np.random.Generator) -> Tint | None:
    """One random tint per clip; None for strength 0."""
    if strength == 0:
        return None
    gain = rng.uniform(1 - 2 * strength, 1 + 2 * strength, count)
    return Tint(gain.astype(np.float32), rng.uniform(-strength, strength, (count, 3)).astype(np.float32))


def follow(boxes_BTM4: NDArray[np.float32], scale_B2: Floats, rects: Rects, size: int) -> NDArray[np.float32]:
    """Boxes in decoded pixels -> boxes in clip pixels, clipped to the view; one that leaves it becomes all zero.

    Args:
        boxes_BTM4: (x1, y1, x2, y2), zeros where there is none.
        scale_B2: stored over decoded size, (height, width).
        rects: the views.
        size: side of a view.
    """
    factor = size / rects.corners_B4[:, 2:]
    corner, mirrored = rects.corners_B4[:, None, None, :2], rects.flip_B[:, None, None, None]
    gain = (scale_B2 * factor)[:, None, None, :]
    y = boxes_BTM4[..., 1::2] * gain[..., :1] - corner[..., :1] * factor[:, None, None, :1]
    x = boxes_BTM4[..., 0::2] * gain[..., 1:] - corner[..., 1:] * factor[:, None, None, 1:]
    x = np.where(mirrored, size - x[..., ::-1], x)
    x, y = np.clip(x, 0, size), np.clip(y, 0, size)
    seen = (boxes_BTM4[..., 2:] > boxes_BTM4[..., :2]).all(-1) & (x[..., 1] > x[..., 0]) & (y[..., 1] > y[..., 0])
    out = np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)
    return np.where(seen[..., None], out, 0).astype(np.float32)
