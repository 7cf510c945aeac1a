"""The things that stand beside people: each has its own shape and color, and is about one unit high.

Units as in `_brush`: x right, y down, the origin on the ground below the thing's middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stp_bench.synth._brush import ARC, Brush, oval, rectangle

_WOOD, _METAL, _BLACK, _WHITE = (190, 124, 52), (208, 212, 220), (28, 28, 32), (244, 244, 240)


def _ball(brush: Brush) -> None:
    brush.fill(oval(0, -0.27, 0.27, 0.27), (232, 56, 40))
    brush.line(np.stack([0.27 * np.cos(ARC), -0.27 - 0.08 * np.sin(ARC)], axis=1), _WHITE, 0.07)


def _balloon(brush: Brush) -> None:
    brush.line(np.array([[0.0, -0.2], [0.03, -0.5], [0.0, -0.8]]), _BLACK, 0.02)
    brush.fill(oval(0, -1.12, 0.27, 0.34), (240, 60, 170))
    brush.fill(oval(-0.09, -1.24, 0.06, 0.09), _WHITE, edge=False)


def _box(brush: Brush) -> None:
    brush.fill(rectangle(-0.32, -0.54, 0.32, 0.0), (186, 138, 78))
    brush.fill(rectangle(-0.06, -0.54, 0.06, 0.0), (226, 200, 150), edge=False)


def _car(brush: Brush) -> None:
    brush.fill(np.array([[-0.4, -0.36], [-0.24, -0.62], [0.22, -0.62], [0.4, -0.36]]), (150, 200, 235))
    brush.fill(rectangle(-0.66, -0.38, 0.66, -0.1), (36, 84, 220))
    for x in (-0.38, 0.38):
        brush.fill(oval(x, -0.1, 0.14, 0.14), _BLACK)
        brush.fill(oval(x, -0.1, 0.06, 0.06), _METAL, edge=False)


def _chair(brush: Brush) -> None:
    for x in (-0.24, 0.18):
        brush.fill(rectangle(x, -0.4, x + 0.08, 0.0), _WOOD)
    brush.fill(rectangle(-0.26, -0.96, -0.16, -0.4), _WOOD)
    brush.fill(rectangle(-0.28, -0.48, 0.3, -0.36), _WOOD)


def _cone(brush: Brush) -> None:
    brush.fill(rectangle(-0.3, -0.08, 0.3, 0.0), (250, 122, 20))
    brush.fill(np.array([[-0.2, -0.08], [-0.03, -0.72], [0.03, -0.72], [0.2, -0.08]]), (250, 122, 20))
    brush.fill(np.array([[-0.15, -0.26], [-0.1, -0.46], [0.1, -0.46], [0.15, -0.26]]), _WHITE, edge=False)


def _lamp(brush: Brush) -> None:
    brush.line(np.array([[0.0, 0.0], [0.0, -1.0]]), _BLACK, 0.06)
    brush.fill(rectangle(-0.16, -0.06, 0.16, 0.0), _BLACK)
    brush.fill(np.array([[-0.3, -0.88], [-0.15, -1.26], [0.15, -1.26], [0.3, -0.88]]), (255, 236, 110))


def _plant(brush: Brush) -> None:
    for x, y in ((-0.22, -0.6), (0.22, -0.6), (0.0, -0.82)):
        brush.line(np.array([[0.0, -0.3], [x, y]]), (30, 100, 40), 0.05)
        brush.fill(oval(x, y, 0.2, 0.24), (64, 186, 72))
    brush.fill(np.array([[-0.22, -0.36], [0.22, -0.36], [0.15, 0.0], [-0.15, 0.0]]), (178, 84, 56))


def _table(brush: Brush) -> None:
    for x in (-0.5, 0.42):
        brush.fill(rectangle(x, -0.5, x + 0.08, 0.0), _METAL)
    brush.fill(rectangle(-0.6, -0.6, 0.6, -0.46), _METAL)


def _umbrella(brush: Brush) -> None:
    brush.line(np.array([[0.0, 0.0], [0.0, -0.7]]), _BLACK, 0.05)
    brush.fill(np.stack([0.6 * np.cos(ARC), -0.62 - 0.52 * np.sin(ARC)], axis=1), (128, 64, 214))
    brush.fill(np.stack([0.2 * np.cos(ARC), -0.62 - 0.52 * np.sin(ARC)], axis=1), (250, 214, 60), edge=False)


PROPS: Mapping[str, Callable[[Brush], None]] = {
    "ball": _ball, "balloon": _balloon, "box": _box, "car": _car, "chair": _chair, "cone": _cone, "lamp": _lamp,
    "plant": _plant, "table": _table, "umbrella": _umbrella,
}  # fmt: skip
"""What draws each thing."""
