"""What of a video's look is left after anonymization, as numbers: edges, structure, and what pruning took. Pure.

Frames are uint8 RGB, (T, H, W, 3); everything is measured on their luminance and averaged over frames.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def edge_similarity(raw_THWC: Frames, other_THWC: Frames) -> float:
    """Correlation of the edges of two clips, in [-1, 1]: 1 for the same silhouettes, 0 for unrelated ones.

    Pearson's coefficient between the gradient magnitudes (Sobel 3 x 3) of corresponding frames, mean over frames. A
    frame without any edges resembles nothing: 0.
    """
    return math.fsum(_correlation(edges(a), edges(b)) for a, b in zip(raw_THWC, other_THWC, strict=True)) / len(
        raw_THWC
    )


def ssim(raw_THWC: Frames, other_THWC: Frames) -> float:
    """Structural similarity of two clips, in [-1, 1], mean over frames.

    Wang et al. 2004: Gaussian window of deviation 1.5 and 11 pixels, K1 = 0.01, K2 = 0.03, range 255, mean over the
    pixels whose window lies inside the frame.
    """
    return math.fsum(_ssim(_gray(a), _gray(b)) for a, b in zip(raw_THWC, other_THWC, strict=True)) / len(raw_THWC)


def pruned(raw_THWC: Frames, keep_LNN: NDArray[np.bool_]) -> float:
    """The share of a clip's edges (summed gradient magnitude) that lie in dropped tubelets, in [0, 1].

    All clips of a method keep equally many tubelets; how much was to be seen in the dropped ones differs.

    Args:
        keep_LNN: grid of kept tubelets per time slot.
    """
    slots, frames = len(keep_LNN), len(raw_THWC)
    total = gone = 0.0
    for number, frame in enumerate(raw_THWC):
        edges_HW = edges(frame)
        kept = enlarge(keep_LNN[number * slots // frames], edges_HW.shape[0], edges_HW.shape[1])
        total += float(edges_HW.sum())
        gone += float(edges_HW[~kept].sum())
    return gone / total if total else 0.0


def enlarge(grid_NN: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (height, width) of a grid's true cells."""
    rows = np.arange(height) * grid_NN.shape[0] // height
    columns = np.arange(width) * grid_NN.shape[1] // width
    return np.asarray(grid_NN[rows[:, None], columns])


def edges(frame_HWC: Frames) -> NDArray[np.float32]:
    """Gradient magnitude of the luminance (H, W)."""
    gray = _gray(frame_HWC)
    return np.asarray(cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)), np.float32)


def _gray(frame_HWC: Frames) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), np.float32)


def _correlation(a_HW: NDArray[np.float32], b_HW: NDArray[np.float32]) -> float:
    a, b = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (a_HW, b_HW))
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0


def _ssim(a_HW: NDArray[np.float32], b_HW: NDArray[np.float32]) -> float:
    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5])

    a, b = a_HW.astype(np.float64), b_HW.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    return float((top / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))).mean())
