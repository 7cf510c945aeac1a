"""Clips: the three batches that methods see, and which frames and crops make a clip or a test view.

The index arithmetic is pure NumPy; the batches are records of tensors. Cutting, augmenting and normalizing on the
device is `clipstore`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stp_bench.schema import ClipSpec, Space

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Clips:
    """A batch of clips as every method receives it."""

    x_BCTHW: Tensor
    """float32 RGB in [0, 1]."""
    boxes_BTM4: Tensor | None = None
    """Person boxes (x1, y1, x2, y2) in clip pixels, padded with empty boxes (all zero); None where there are none."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A training batch; a label that the receiver may not see is None."""

    clips: Clips
    action_B: Tensor | None
    """int64 class indices; of a multilabel action float32 in {0, 1}, (B, C)."""
    privacy_BK: Tensor | None
    """float32 in {0, 1}. Recognizers may also meet -1 (not labelled), methods never do."""
    privacy_BTK: Tensor | None = None
    """Labels of the clip's frames, float32 in {0, 1} or -1 (not labelled), for probes of frame-level benchmarks."""


@dataclass(frozen=True, slots=True)
class Anonymized:
    """What a method returns."""

    x_BCTHW: Tensor
    keep_BLN: Tensor | None = None
    """float32 in {0, 1}: tubelets that survive; None means all. Pixels of a dropped tubelet are 0."""
    space: Space = "rgb01"
    """``rgb01``: values in [0, 1], normalized by the recognizer. ``free``: unbounded, fed as they are."""
    keep_MBLN: Tensor | None = None
    """How ``keep_BLN`` came about, of a method that drops in M steps: the decision after each; the last is the final
    one. Only shown to people, never to a recognizer."""


def train_window(frames: int, spec: ClipSpec, rng: np.random.Generator) -> NDArray[np.int64]:
    """Frame numbers of one random training clip, (T,), non-decreasing, in [0, frames).

    ``exact``: T frames exactly ``stride`` apart from a uniform start; a video too short for that starts at 0 and
    repeats its last frame. ``videomae``: the rule of VideoMAE's reference loader, which spreads T numbers evenly over a
    uniform window of T x stride frames and so steps by T x stride / (T - 1); a video of at most T x stride frames is
    sampled evenly as a whole, then its last frame is repeated.

    Args:
        frames: decoded length of the video, at least 1.
        spec: clip length, stride and rule.
        rng: source of the one draw that a long enough video takes; a short one takes none.
    """
    count, stride = spec.frames, spec.stride
    if spec.sampling == "exact":
        slack = frames - (count - 1) * stride
        start = int(rng.integers(slack)) if slack > 1 else 0
        numbers: NDArray[np.int64] = np.minimum(start + stride * np.arange(count), frames - 1)
        return numbers
    window = count * stride
    if frames > window:
        end = int(rng.integers(window, frames))
        spread = np.linspace(end - window, end, count)
        return np.clip(spread, end - window, end - 1).astype(np.int64)
    spread = np.full(count, float(frames))
    spread[: frames // stride] = np.linspace(0, frames, frames // stride)
    return np.clip(spread, 0, frames - 1).astype(np.int64)


def test_windows(frames: int, spec: ClipSpec, clips: int = 5) -> NDArray[np.int64]:
    """Frame numbers of the test clips, (clips, T): windows spread evenly over every ``stride``-th frame.

    The strided sequence 0, r, 2r, ... is filled up to T items with its last one; of n items, clip k starts at item
    floor(k (n - T) / (clips - 1)) (paper section 4.3, as VideoMAE does it). A single clip is the central one.
    """
    strided = np.arange(0, frames, spec.stride)
    if len(strided) < spec.frames:
        strided = np.pad(strided, (0, spec.frames - len(strided)), "edge")
    starts = _spread(len(strided) - spec.frames, clips)
    windows: NDArray[np.int64] = strided[starts[:, None] + np.arange(spec.frames)]
    return windows


def tile_windows(frames: int, spec: ClipSpec) -> NDArray[np.int64]:
    """Frame numbers of the clips that together hold every ``stride``-th frame, (clips, T).

    Consecutive windows of the sequence 0, r, 2r, ...; the last one ends with its last item and so overlaps the one
    before. A sequence shorter than T is filled up with its last item.
    """
    strided = np.arange(0, frames, spec.stride)
    if len(strided) < spec.frames:
        strided = np.pad(strided, (0, spec.frames - len(strided)), "edge")
    starts = np.arange(0, len(strided), spec.frames)
    starts = np.minimum(starts, len(strided) - spec.frames)
    windows: NDArray[np.int64] = strided[starts[:, None] + np.arange(spec.frames)]
    return windows


def crop_offsets(height: int, width: int, size: int, crops: int = 3) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """The plane that a video is resized to for testing, and where its square crops lie in it.

    The short side becomes ``size``, the long side L becomes floor(size L / S); crop j lies at floor(j (long - size) /
    (crops - 1)) along the long side, so nothing is lost across it. A single crop is the central one.

    Args:
        height: of the decoded frames, like ``width``, whatever size they are stored in.
        width: see ``height``.
        size: side of a crop.
        crops: how many.

    Returns:
        (height, width) of the plane, and (top, left) of each crop, (crops, 2).
    """
    short = min(height, width)
    plane = size * height // short, size * width // short
    offsets = np.zeros((crops, 2), np.int64)
    offsets[:, 0 if height > width else 1] = _spread(max(plane) - size, crops)
    return plane, offsets


def _spread(slack: int, count: int) -> NDArray[np.int64]:
    """``count`` integer positions from 0 to ``slack``, evenly spread, rounded down; the middle for a single one."""
    return np.array([slack // 2]) if count == 1 else np.arange(count) * slack // (count - 1)
