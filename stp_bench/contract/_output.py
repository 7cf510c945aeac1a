"""The output of ``anonymize``: what a recognizer can use."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stp_bench.clips import Anonymized, Clips
from stp_bench.errors import MethodError

RANGE_TOLERANCE = 1e-5
"""How far rounding may carry a value out of [0, 1]."""


def validate_output(name: str, clips: Clips, out: Anonymized) -> None:
    """Refuse an output that no recognizer could use, or that claims what it does not do.

    Raises:
        MethodError: another shape, dtype or device than the clips; a gradient graph; values that are not finite, or
            outside [0, 1] in space ``rgb01``; a ``keep`` that is not a grid of zeros and ones; pixels other than 0 in
            a tubelet that is not kept.
    """
    if not isinstance(out, Anonymized):
        raise violation(name, f"anonymize returned {type(out).__name__}", "return an Anonymized")
    x, given = out.x_BCTHW, clips.x_BCTHW
    if x.shape != given.shape:
        shapes = f"clips of shape {tuple(given.shape)} became {tuple(x.shape)}"
        raise violation(name, shapes, "return clips of the same shape")
    if x.dtype != torch.float32 or x.device != given.device:
        made = f"clips of torch.float32 on {given.device} became {x.dtype} on {x.device}"
        raise violation(name, made, "return float32 on the device of the clips")
    if x.requires_grad or (out.keep_BLN is not None and out.keep_BLN.requires_grad):
        raise violation(name, "its output carries a gradient graph", "decorate anonymize with torch.no_grad()")
    low, high = torch.stack(torch.aminmax(x)).tolist()  # one pass and one wait for the device; NaN wins both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise violation(name, "its output has values that are not finite", "mend the computation that made them")
    if out.space not in ("rgb01", "free"):
        raise violation(name, f"its output is in space {out.space!r}", "say rgb01 or free")
    if out.space == "rgb01" and (low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE):
        mend = "stay within [0, 1] or return space free"
        raise violation(name, f"its output spans [{low:.3g}, {high:.3g}] in space rgb01", mend)
    if out.keep_BLN is not None:
        _validate_keep(name, x, out.keep_BLN)


def _validate_keep(name: str, x_BCTHW: Tensor, keep_BLN: Tensor) -> None:
    clips, channels, frames, height, width = x_BCTHW.shape
    if keep_BLN.ndim != 3 or len(keep_BLN) != clips or 0 in keep_BLN.shape:
        shapes = f"keep has shape {tuple(keep_BLN.shape)} for clips of shape {tuple(x_BCTHW.shape)}"
        raise violation(name, shapes, "return keep as (clips, slots, tubelets of a slot)")
    if keep_BLN.dtype != torch.float32 or keep_BLN.device != x_BCTHW.device:
        made = f"keep is {keep_BLN.dtype} on {keep_BLN.device}"
        raise violation(name, made, "return keep as float32 on the device of the clips")
    slots, tubelets = keep_BLN.shape[1:]
    side = math.isqrt(tubelets)
    if side * side != tubelets or frames % slots or height % side or width % side:
        grid = f"keep of {slots} slots x {tubelets} tubelets does not tile {frames} frames of {height} x {width} pixels"
        raise violation(name, grid, "return one value per tubelet of a square grid")
    if not ((keep_BLN == 0) | (keep_BLN == 1)).all():
        raise violation(name, "keep has values other than 0 and 1", "return the hard decision")
    blocks = x_BCTHW.reshape(clips, channels, slots, frames // slots, side, height // side, side, width // side)
    colored_BLN = (blocks != 0).any(7).any(5).any(3).any(1).reshape(clips, slots, tubelets)
    if (colored_BLN & (keep_BLN == 0)).any():
        raise violation(name, "a tubelet that keep drops still has pixels", "set the pixels of dropped tubelets to 0")


def violation(name: str, why: str, mend: str) -> MethodError:
    """The error for something that a method does against the contract."""
    return MethodError(f"method {name!r} breaks the contract", why, mend)
