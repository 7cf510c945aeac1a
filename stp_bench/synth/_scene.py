"""Places and what disturbs the view: painted backgrounds, a moving camera, light, noise and things that cross."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stp_bench.synth._figure import SHIFT, Color, Frame, garment
from stp_bench.synth._motions import Array, Rng

MARGIN = 0.06
"""Share of the picture's width and height that a background has to spare on each side for the camera."""
NOISE = (3.5, 2.2, 1.2)
"""Standard deviation of the sensor noise for bad, medium and good quality."""


def background(kind: str, width: int, height: int, rng: Rng) -> Frame:
    """A picture of a place, larger than the frame by the margin on each side (H' x W' x 3 RGB)."""
    wide, high = int(width * (1 + 2 * MARGIN)) + 2, int(height * (1 + 2 * MARGIN)) + 2
    canvas = np.empty((high, wide, 3), dtype=np.uint8)
    horizon = int(high * rng.uniform(0.6, 0.75))
    {"room": _room, "park": _park, "gym": _gym, "city": _city}[kind](canvas, horizon, rng)
    texture: Array = np.zeros((high, wide))
    for step in (24, 10, 4):
        grains = rng.normal(0, 3.5, (high // step + 2, wide // step + 2))
        smooth = cv2.resize(grains, (wide, high), interpolation=cv2.INTER_LINEAR)
        texture = np.asarray(texture + smooth, dtype=np.float64)
    return np.asarray(np.clip(canvas + texture[:, :, None], 0, 255), dtype=np.uint8)


def _tone(rng: Rng, saturation: tuple[int, int], value: tuple[int, int], hue: tuple[int, int] = (0, 180)) -> Color:
    hsv = np.array([[[rng.integers(*hue), rng.integers(*saturation), rng.integers(*value)]]], dtype=np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _box(canvas: Frame, x: float, y: float, w: float, h: float, color: Color) -> None:
    cv2.rectangle(canvas, (int(x), int(y)), (int(x + w), int(y + h)), color, -1)


def _room(canvas: Frame, horizon: int, rng: Rng) -> None:
    high, wide = canvas.shape[:2]
    canvas[:horizon] = _tone(rng, (20, 90), (110, 190))
    canvas[horizon:] = _tone(rng, (30, 110), (50, 100))
    _box(canvas, 0, horizon - high * 0.02, wide, high * 0.02, _tone(rng, (10, 60), (60, 120)))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0, 0.85) * wide, rng.uniform(0.03, 0.25) * high
        w, h = rng.uniform(0.1, 0.2) * wide, rng.uniform(0.1, 0.2) * high
        _box(canvas, x - 2, y - 2, w + 4, h + 4, _tone(rng, (20, 80), (40, 90)))
        _box(canvas, x, y, w, h, _tone(rng, (40, 140), (100, 200)))


def _park(canvas: Frame, horizon: int, rng: Rng) -> None:
    high, wide = canvas.shape[:2]
    top, low = _tone(rng, (60, 130), (150, 220), (95, 130)), _tone(rng, (20, 60), (190, 235), (90, 130))
    ramp = np.linspace(0, 1, horizon)[:, None, None]
    canvas[:horizon] = (np.array(top) * (1 - ramp) + np.array(low) * ramp).astype(np.uint8)
    for _ in range(3):
        center = (int(rng.uniform(0, 1) * wide), horizon + int(0.1 * high))
        axes = (int(rng.uniform(0.25, 0.5) * wide), int(rng.uniform(0.15, 0.3) * high))
        cv2.ellipse(canvas, center, axes, 0, 180, 360, _tone(rng, (90, 150), (50, 100), (40, 75)), -1)
    canvas[horizon:] = _tone(rng, (90, 160), (60, 120), (40, 70))
    for _ in range(int(rng.integers(2, 5))):
        x, size = rng.uniform(0, 1) * wide, rng.uniform(0.06, 0.12) * wide
        _box(canvas, x - size * 0.12, horizon - size * 1.2, size * 0.24, size * 1.3, (70, 48, 34))
        cv2.circle(
            canvas,
            (int(x), int(horizon - size * 1.6)),
            int(size * 0.8),
            _tone(rng, (100, 170), (50, 110), (38, 80)),
            -1,
        )


def _gym(canvas: Frame, horizon: int, rng: Rng) -> None:
    high, wide = canvas.shape[:2]
    wall, joint = _tone(rng, (40, 110), (100, 170)), _tone(rng, (20, 60), (70, 110))
    canvas[:horizon] = wall
    row, brick = max(4, high // 14), max(8, wide // 10)
    for i, y in enumerate(range(0, horizon, row)):
        cv2.line(canvas, (0, y), (wide, y), joint, 1)
        for x in range(-(i % 2) * brick // 2, wide, brick):
            cv2.line(canvas, (x, y), (x, min(horizon, y + row)), joint, 1)
    canvas[horizon:] = _tone(rng, (80, 140), (80, 140), (10, 25))
    for x in range(-wide, 2 * wide, max(6, wide // 9)):
        cv2.line(canvas, (wide // 2 + (x - wide // 2) // 3, horizon), (x, high), (70, 50, 36), 1)


def _city(canvas: Frame, horizon: int, rng: Rng) -> None:
    high, wide = canvas.shape[:2]
    canvas[:horizon] = _tone(rng, (40, 120), (90, 190), (95, 170))
    x = 0.0
    while x < wide:
        w, h = rng.uniform(0.12, 0.22) * wide, rng.uniform(0.3, 0.85) * horizon
        _box(canvas, x, horizon - h, w, h, _tone(rng, (20, 70), (50, 90)))
        lit = _tone(rng, (60, 120), (170, 230), (18, 32))
        step = max(4, int(w / 4))
        for wx in range(int(x) + step // 2, int(x + w) - step // 2, step):
            for wy in range(int(horizon - h) + step // 2, horizon - step, step):
                if rng.random() < 0.4:
                    _box(canvas, wx, wy, step // 3, step // 3, lit)
        x += w + 1
    canvas[horizon:] = _tone(rng, (5, 40), (60, 100))
    _box(canvas, 0, horizon + 0.4 * (high - horizon), wide, high * 0.012, (200, 200, 190))


@dataclass(frozen=True, slots=True)
class Camera:
    """How the picture is taken over T frames."""

    shift_T2: Array
    """Displacement of the scene in pixels."""
    flicker_T: Array
    """Brightness factor around 1."""
    light: Array
    """3: factor per color channel of the whole video."""


def camera(frames: int, width: int, *, moves: bool, rng: Rng) -> Camera:
    """A random camera: light and white balance, slow flicker, and a gently swaying hand if it ``moves``."""
    t = np.arange(frames)

    def sway(share: float, period: tuple[float, float]) -> Array:
        wave = np.sin(2 * np.pi * t / rng.uniform(*period) + rng.uniform(0, 2 * np.pi))
        return np.asarray(share * width * wave)

    shift = np.zeros((frames, 2))
    if moves:
        shift[:, 0] = sway(0.003, (12, 20)) + sway(0.008, (30, 60))
        shift[:, 1] = sway(0.002, (12, 20)) + sway(0.005, (30, 60))
    return Camera(
        shift_T2=shift,
        flicker_T=1 + 0.02 * np.sin(2 * np.pi * t / rng.uniform(20, 50) + rng.uniform(0, 2 * np.pi)),
        light=rng.uniform(0.78, 1.12) * (1 + rng.uniform(-0.07, 0.07, 3)),
    )


def sensor_noise(frames: int, width: int, height: int, *, quality: int, rng: Rng) -> Iterator[NDArray[np.int16]]:
    """Per frame an H x W x 3 array of noise to add: random windows of one patch, since fresh noise would cost most."""
    slack = 16
    grains = rng.standard_normal((height + slack, width + slack, 3), dtype=np.float32) * NOISE[quality]
    patch = grains.round().astype(np.int16)
    for y, x in rng.integers(0, slack, (frames, 2)):
        yield patch[y : y + height, x : x + width]


def falloff(width: int, height: int, rng: Rng) -> Array:
    """H x W x 1 light map: brightest at a random place, down to about three quarters in the far corner."""
    cx, cy = rng.uniform(0.2, 0.8) * width, rng.uniform(0.0, 0.6) * height
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = ((xs - cx) / width) ** 2 + ((ys - cy) / height) ** 2
    return np.asarray(1.05 - 0.25 * np.minimum(distance, 1.0))[:, :, None]


@dataclass(frozen=True, slots=True)
class Passer:
    """A thing that crosses the picture behind the people: a ball, a bird or a car."""

    kind: str
    color: Color
    size: float
    path_T2: Array

    def draw(self, frame: Frame, t: int) -> None:
        """Draw it into ``frame`` at time ``t``."""
        x, y = (int(v) for v in self.path_T2[t] * (1 << SHIFT))
        r = self.size * (1 << SHIFT)
        match self.kind:
            case "ball":
                cv2.circle(frame, (x, y), int(r), self.color, -1, cv2.LINE_AA, SHIFT)
            case "bird":
                flap = int(r * (0.8 if t % 4 < 2 else -0.3))
                wings = np.array([[x - int(r), y - flap], [x, y], [x + int(r), y - flap]], dtype=np.int32)
                cv2.polylines(frame, [wings], False, (30, 30, 36), max(1, int(self.size / 3)), cv2.LINE_AA, SHIFT)
            case _:
                body = np.array([[x - 2 * r, y - r], [x + 2 * r, y - r], [x + 2 * r, y], [x - 2 * r, y]]).astype(
                    np.int32
                )
                cv2.fillConvexPoly(frame, body, self.color, cv2.LINE_AA, SHIFT)
                for dx in (-1.2, 1.2):
                    cv2.circle(frame, (int(x + dx * r), y), int(0.45 * r), (24, 24, 24), -1, cv2.LINE_AA, SHIFT)


def passer(frames: int, width: int, height: int, rng: Rng) -> Passer:
    """A random thing on its way across the picture."""
    kind = ("ball", "bird", "car")[rng.integers(3)]
    level = {"ball": (0.7, 0.9), "bird": (0.05, 0.2), "car": (0.72, 0.8)}[kind]
    way = np.linspace(-0.1, 1.1, frames) + rng.uniform(-0.3, 0.3)
    if rng.random() < 0.5:
        way = way[::-1]
    y = rng.uniform(*level) + (0.04 * np.abs(np.sin(np.arange(frames) / 2)) if kind == "ball" else 0.0)
    path = np.stack([way * width, (y + np.zeros(frames)) * height], axis=1)
    return Passer(kind, garment(rng), 0.03 * height, path)
