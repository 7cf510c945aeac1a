"""Tubelets: how the pixels of a clip and the tokens of a transformer correspond (paper section 3.1).

Axes in tensor names: B clips, C channels, T frames, H, W pixels; L time slots, N tubelets of a slot, S = L x N tokens
(slot, row, column: column fastest), P = tubelet x patch x patch x C values of a tubelet (channel fastest). A *keep
decision* keep_BLN is 1 for a visible tubelet and 0 for an abandoned one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stp_bench.schema import VitSpec


def tokenize(x_BCTHW: Tensor, vit: VitSpec) -> Tensor:
    """The values of each tubelet, (B, S, P). `assemble` is its inverse."""
    B, C = x_BCTHW.shape[:2]
    t, p = vit.tubelet, vit.patch
    x = x_BCTHW.reshape(B, C, vit.slots, t, vit.side, p, vit.side, p)
    return x.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(B, vit.slots * vit.tubelets, t * p * p * C)


def assemble(values_BSP: Tensor, vit: VitSpec) -> Tensor:
    """The clip (B, C, T, H, W) whose tubelets hold these values."""
    B, t, p = len(values_BSP), vit.tubelet, vit.patch
    x = values_BSP.reshape(B, vit.slots, vit.side, vit.side, t, p, p, -1)
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(B, -1, vit.frames, vit.size, vit.size)


def to_temporal_basis(x_BCTHW: Tensor, gain: float) -> Tensor:
    """Each frame pair as its mean and ``gain`` x its difference: an invertible change of basis along time."""
    first, second = x_BCTHW.unflatten(2, (-1, 2)).unbind(3)
    return torch.stack([(first + second) / 2, gain * (second - first)], 3).flatten(2, 3)


def from_temporal_basis(x_BCTHW: Tensor, gain: float) -> Tensor:
    """The inverse of `to_temporal_basis`."""
    mean, difference = x_BCTHW.unflatten(2, (-1, 2)).unbind(3)
    half = difference / (2 * gain)
    return torch.stack([mean - half, mean + half], 3).flatten(2, 3)


def temporal_gain(vit: VitSpec) -> float:
    """The gain in force: tubelets of an odd length hold no frame pairs and keep the plain basis (0)."""
    return 0.0 if vit.tubelet % 2 else vit.temporal_gain


def keep_to_mask(keep_BLN: Tensor, frames: int, size: int) -> Tensor:
    """The pixels a decision keeps, (B, 1, ``frames``, ``size``, ``size``): raw pixels x mask is the sparsified view."""
    B, slots, tubelets = keep_BLN.shape
    side = math.isqrt(tubelets)
    t, p = frames // slots, size // side
    grid = keep_BLN.reshape(B, 1, slots, 1, side, 1, side, 1)
    return grid.expand(B, 1, slots, t, side, p, side, p).reshape(B, 1, frames, size, size)


def resample_keep(keep_BLN: Tensor, source: VitSpec, target: VitSpec) -> Tensor:
    """A keep decision of ``source``'s grid on ``target``'s: a token is visible if any of its pixels is.

    Returns (B, ``source.frames // target.tubelet``, ``target.tubelets``): for a single-frame target a row per frame.
    """
    if (source.tubelet, source.side) == (target.tubelet, target.side):
        return keep_BLN
    mask = keep_to_mask(keep_BLN, source.frames, source.size)
    kernel = (target.tubelet, source.size // target.side, source.size // target.side)
    return F.max_pool3d(mask, kernel).flatten(3).squeeze(1)
