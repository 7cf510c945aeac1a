"""Shapes in units of a thing, carried into the picture by where the thing is: for faces and objects.

A shape is a K x 2 array (x right, y down) around the thing's own origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stp_bench.synth._figure import ONE, SHIFT, Color, Frame
from stp_bench.synth._motions import Array

CIRCLE = np.linspace(0, 2 * np.pi, 28, endpoint=False)
ARC = np.linspace(0, np.pi, 14)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a thing is in the picture."""

    x: float
    """Pixels, of its origin."""
    y: float
    scale: float
    """Pixels per unit."""
    roll: float = 0.0
    """Radians, clockwise."""
    yaw: float = 0.0
    """-1 to 1: how far what is near to the viewer slides sideways, as if the thing turned."""


def oval(x: float, y: float, wide: float, high: float) -> Array:
    """An ellipse around (x, y) with these half axes."""
    return np.stack([x + wide * np.cos(CIRCLE), y + high * np.sin(CIRCLE)], axis=1)


def rectangle(left: float, top: float, right: float, bottom: float) -> Array:
    """A rectangle between two corners."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def mixed(color: Color, other: Color, share: float) -> Color:
    """``color`` with a ``share`` of another one."""
    red, green, blue = (int((1 - share) * a + share * b) for a, b in zip(color, other, strict=True))
    return red, green, blue


class Brush:
    """Draws the shapes of one thing into a frame (H x W x 3 RGB, changed in place).

    ``light`` is a factor per color channel.
    """

    def __init__(self, frame: Frame, pose: Pose, light: Array) -> None:
        self.frame, self.pose, self.light = frame, pose, light

    def fill(self, points_K2: Array, color: Color, *, depth: float = 0.0, edge: bool = True) -> None:
        """A polygon, with a dark outline or without."""
        corners = self._fixed(points_K2, depth)
        cv2.fillPoly(self.frame, [corners], self._lit(color), cv2.LINE_AA, SHIFT)
        if edge:
            thick = max(1, int(0.03 * self.pose.scale))
            cv2.polylines(self.frame, [corners], True, self._lit(color, 0.5), thick, cv2.LINE_AA, SHIFT)

    def line(self, points_K2: Array, color: Color, width: float, *, depth: float = 0.0) -> None:
        """An open line of a ``width`` in units."""
        thick = max(1, int(width * self.pose.scale + 0.5))
        cv2.polylines(self.frame, [self._fixed(points_K2, depth)], False, self._lit(color), thick, cv2.LINE_AA, SHIFT)

    def _fixed(self, points_K2: Array, depth: float) -> NDArray[np.int32]:
        return np.asarray(np.floor(pixels(points_K2, self.pose, depth) * ONE + 0.5), dtype=np.int32)

    def _lit(self, color: Color, factor: float = 1.0) -> Color:
        red, green, blue = np.clip(np.asarray(color) * self.light * factor, 0, 255).astype(int).tolist()
        return red, green, blue


def pixels(points_K2: Array, pose: Pose, depth: float = 0.0) -> Array:
    """Where the points of a shape (K x 2) are in the picture; ``depth`` is how near to the viewer they are."""
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    slid = points_K2 + np.array([0.16 * depth * pose.yaw, 0.0])
    return np.asarray(slid @ (pose.scale * np.array([[cos, sin], [-sin, cos]])) + np.array([pose.x, pose.y]))
