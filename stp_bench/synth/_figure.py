"""The cartoon people: skeleton from motion tracks, looks from labels, and the strokes that draw them.

Proportions are in body heights S. The head is larger than life so that it survives low resolution. Every part has a
dark outline, so that a figure stays readable on any background.

Letters in array names: T frames, J joints, 2 image coordinates (x right, y down in pixels; y up in body heights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stp_bench.synth._motions import SIDES, Array, Motion, Rng

Frame = NDArray[np.uint8]
Color = tuple[int, int, int]
Point = tuple[int, int]
Head = Literal["face", "profile", "back", "helmet"]

HEAD = 0.125
TORSO = 0.27
LEG_BONE = 0.19
UPPER_ARM = 0.155
FOREARM = 0.15
LEG_WIDTH = 0.085
ARM_WIDTH = 0.074
SHIFT = 4  # fractional bits of OpenCV coordinates: sub-pixel strokes move smoothly
ONE = 1 << SHIFT

SKIN_TONES: tuple[Color, ...] = (
    (250, 214, 184), (236, 188, 150), (214, 160, 118), (182, 126, 86), (140, 92, 62), (104, 68, 46),
)  # fmt: skip
HAIR_COLORS: tuple[Color, ...] = (
    (28, 24, 24), (66, 44, 34), (112, 46, 32), (176, 176, 184), (54, 62, 112), (110, 54, 96),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labels:
    """Which attributes can be identified in a video."""

    face: bool
    skin_color: bool
    gender: bool
    nudity: bool
    relationship: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Everything about a person that does not move."""

    skin: Color
    hair: Color
    top: Color
    bottom: Color
    cover: Color
    """Of hood, helmet and gloves."""
    shoes: Color
    head: Head
    style: Literal["long", "short", "covered"]
    bare_limbs: bool
    bare_torso: bool
    pattern: Literal["plain", "stripes"]


def look(labels: Labels, head: Head, rng: Rng) -> Look:
    """A random look that shows exactly the attributes in ``labels``; ``head`` is how the face shows or is hidden."""
    style: Literal["long", "short", "covered"] = "covered"
    if labels.gender:
        style = "long" if rng.random() < 0.5 else "short"
    top, bottom, cover = garment(rng), garment(rng), garment(rng)
    if style == "covered":  # hood, coat and trousers of one cloth hide the figure best
        bottom = cover = top
    return Look(
        skin=SKIN_TONES[rng.integers(len(SKIN_TONES))],
        hair=HAIR_COLORS[rng.integers(len(HAIR_COLORS))],
        top=top,
        bottom=bottom,
        cover=cover,
        shoes=garment(rng),
        head=head,
        style=style,
        bare_limbs=labels.skin_color,
        bare_torso=labels.nudity,
        pattern="stripes" if rng.random() < 0.35 else "plain",
    )


def garment(rng: Rng) -> Color:
    """A cloth color outside the range of skin hues."""
    hsv = np.array([[[rng.integers(35, 165), rng.integers(90, 210), rng.integers(80, 215)]]], dtype=np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joint positions of a body in body heights, y up from the ground line, x from its own center."""

    pelvis: Array
    """T x 2."""
    neck: Array
    head: Array
    shoulders: Array
    """T x 2 sides x 2; the pairs below alike."""
    elbows: Array
    hands: Array
    hips: Array
    knees: Array
    feet: Array


def skeleton(motion: Motion, *, broad: float) -> Skeleton:
    """Forward kinematics of trunk and arms, two-bone inverse kinematics of the legs. ``broad`` scales the shoulders."""
    x = motion.x
    pelvis = np.stack([x + motion.hips, 0.385 - 0.18 * motion.crouch + motion.lift], axis=1)
    up = np.stack([np.sin(motion.lean), np.cos(motion.lean)], axis=1)
    across = np.stack([up[:, 1], -up[:, 0]], axis=1)
    neck = pelvis + TORSO * up
    head = neck + (HEAD + 0.015) * up
    shoulders = (neck - 0.03 * up)[:, None] + 0.09 * broad * SIDES[None, :, None] * across[:, None]
    elbows = shoulders + UPPER_ARM * _outward(motion.shoulder)
    hands = elbows + FOREARM * _outward(motion.shoulder + motion.elbow)
    hips = pelvis[:, None] + np.stack([0.052 * SIDES, [-0.02, -0.02]], axis=1)
    ankles = np.stack([x[:, None] + motion.foot_x, 0.03 + motion.foot_y + motion.lift[:, None]], axis=2)
    knees, feet = _two_bones(hips, ankles, LEG_BONE, LEG_BONE, SIDES)
    return Skeleton(pelvis, neck, head, shoulders, elbows, hands, hips, knees, feet)


def reach(body: Skeleton, side: int, target: Array) -> None:
    """Bend one arm of ``body`` in place so that its hand goes to ``target`` (T x 2), as far as it is long."""
    shoulder = body.shoulders[:, side : side + 1]
    elbow, hand = _two_bones(shoulder, target[:, None], UPPER_ARM, FOREARM, SIDES[side : side + 1])
    body.elbows[:, side : side + 1], body.hands[:, side : side + 1] = elbow, hand


def _outward(angle: Array) -> Array:
    """Unit vectors (T x 2 sides x 2) at ``angle`` from down, turned to each side's outside."""
    return np.stack([np.sin(angle) * SIDES, -np.cos(angle)], axis=2)


def _two_bones(start: Array, goal: Array, first: float, second: float, bend: Array) -> tuple[Array, Array]:
    """Middle joint and end of two bones from ``start`` towards ``goal``; ``bend`` is the side the middle goes to."""
    way = goal - start
    distance = np.maximum(np.linalg.norm(way, axis=2, keepdims=True), 1e-6)
    way = way / distance
    distance = np.minimum(distance, 0.999 * (first + second))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    off = np.sqrt(np.maximum(first**2 - along**2, 0.0))
    normal = np.stack([-way[..., 1], way[..., 0]], axis=2) * bend[None, :, None]
    return start + along * way + off * normal, start + distance * way


@dataclass(slots=True)
class Figure:
    """A person placed in the picture: ready to be drawn frame by frame."""

    look: Look
    scale: float
    """Pixels per body height."""
    points: list[list[Point]]
    """Per frame, the 15 joints in fixed-point pixels: pelvis, neck, head, then pairs as in `Skeleton`."""
    boxes: Array
    """T x 2 x 4: the person's and the head's box (x1, y1, x2, y2) in pixels, not clipped to the picture."""
    light: Array
    """Per-channel factor of the light on the clothes."""
    colors: dict[Color, tuple[Color, Color]]

    def paint(self, color: Color) -> tuple[Color, Color]:
        """A color in this light, and its outline."""
        if color not in self.colors:
            lit = np.clip(np.asarray(color) * self.light, 0, 255)
            fill, edge = lit.astype(int).tolist(), (0.5 * lit).astype(int).tolist()
            self.colors[color] = ((fill[0], fill[1], fill[2]), (edge[0], edge[1], edge[2]))
        return self.colors[color]


PELVIS, NECK, HEAD_JOINT = 0, 1, 2
SHOULDER, ELBOW, HAND, HIP, KNEE, FOOT = 3, 5, 7, 9, 11, 13


def place(body: Skeleton, look: Look, scale: float, origin_T2: Array, light: Array) -> Figure:
    """Put a skeleton into pixels: ``origin_T2`` is where its ground point appears in every frame."""
    pairs = (body.shoulders, body.elbows, body.hands, body.hips, body.knees, body.feet)
    joints = np.stack([body.pelvis, body.neck, body.head, *(p[:, s] for p in pairs for s in (0, 1))], axis=1)
    pixels = origin_T2[:, None] + joints * np.array([scale, -scale])
    fixed = np.floor(pixels * ONE + 0.5).astype(int).tolist()
    radius = HEAD * scale
    head = np.concatenate([pixels[:, HEAD_JOINT] - 1.15 * radius, pixels[:, HEAD_JOINT] + 1.15 * radius], axis=1)
    pad = 0.05 * scale
    low = np.minimum(pixels.min(axis=1) - pad, head[:, :2])
    high = np.maximum(pixels.max(axis=1) + pad, head[:, 2:])
    boxes = np.stack([np.concatenate([low, high], axis=1), head], axis=1)
    return Figure(look, scale, [[(x, y) for x, y in row] for row in fixed], boxes, light, {})


def draw(frame: Frame, figure: Figure, t: int) -> None:
    """Draw one person into ``frame`` (H x W x 3 RGB, changed in place) at time ``t``."""
    look, s, p = figure.look, figure.scale, figure.points[t]
    head, radius = p[HEAD_JOINT], HEAD * s
    sleeve = look.skin if look.bare_torso else look.top
    forearm = look.skin if look.bare_limbs else look.top
    shin = look.skin if look.bare_limbs else look.bottom
    coat = look.style == "covered" and not look.bare_torso
    skirt = look.style == "long"
    leg, arm = LEG_WIDTH * s, ARM_WIDTH * s

    if look.style == "long":
        _hair_behind(frame, figure, head, radius)
    for side in (0, 1):
        foot = p[FOOT + side]
        outward = (2 * side - 1) * int(0.02 * s * ONE)
        _limb(frame, figure, p[HIP + side], p[KNEE + side], look.bottom, leg)
        _limb(frame, figure, p[KNEE + side], foot, shin, leg * 0.85)
        _ellipse(frame, figure, (foot[0] + outward, foot[1]), (0.058 * s, 0.03 * s), look.shoes)
    if skirt or coat:
        _skirt(frame, figure, p, length=0.7 if coat else 0.5, color=look.top if coat else look.bottom)
    _trunk(frame, figure, p)
    for side in (0, 1):
        _limb(frame, figure, p[SHOULDER + side], p[ELBOW + side], sleeve, arm)
        _limb(frame, figure, p[ELBOW + side], p[HAND + side], forearm, arm * 0.88)
        _disc(frame, figure, p[HAND + side], 0.045 * s, look.skin if look.bare_limbs else look.cover)
    _head(frame, figure, head, radius)


def _limb(frame: Frame, figure: Figure, a: Point, b: Point, color: Color, width: float) -> None:
    fill, edge = figure.paint(color)
    thickness = max(1, int(width + 0.5))
    cv2.line(frame, a, b, edge, thickness + 2, cv2.LINE_AA, SHIFT)
    cv2.line(frame, a, b, fill, thickness, cv2.LINE_AA, SHIFT)


def _disc(frame: Frame, figure: Figure, center: Point, radius: float, color: Color) -> None:
    fill, edge = figure.paint(color)
    cv2.circle(frame, center, int((radius + 0.8) * ONE), edge, -1, cv2.LINE_AA, SHIFT)
    cv2.circle(frame, center, int(radius * ONE), fill, -1, cv2.LINE_AA, SHIFT)


def _ellipse(frame: Frame, figure: Figure, center: Point, axes: tuple[float, float], color: Color) -> None:
    fill, edge = figure.paint(color)
    wide, high = axes
    cv2.ellipse(
        frame, center, (int((wide + 0.8) * ONE), int((high + 0.8) * ONE)), 0, 0, 360, edge, -1, cv2.LINE_AA, SHIFT
    )
    cv2.ellipse(frame, center, (int(wide * ONE), int(high * ONE)), 0, 0, 360, fill, -1, cv2.LINE_AA, SHIFT)


def _polygon(frame: Frame, figure: Figure, points: list[Point], color: Color) -> None:
    fill, edge = figure.paint(color)
    corners = np.array(points, dtype=np.int32)
    cv2.fillConvexPoly(frame, corners, fill, cv2.LINE_AA, SHIFT)
    cv2.polylines(frame, [corners], True, edge, 1, cv2.LINE_AA, SHIFT)


def _toward(a: Point, b: Point, share: float) -> Point:
    """The point at ``share`` of the way from a to b."""
    return int(a[0] + share * (b[0] - a[0])), int(a[1] + share * (b[1] - a[1]))


def _trunk(frame: Frame, figure: Figure, p: list[Point]) -> None:
    """Shoulders to hips; the waist is narrow, straight or broad with the style."""
    look = figure.look
    color = look.skin if look.bare_torso else look.top
    left, right = p[SHOULDER], p[SHOULDER + 1]
    hip_left, hip_right = p[HIP], p[HIP + 1]
    if look.style == "long":
        waist = [_toward(right, hip_right, 0.6), _toward(left, hip_left, 0.6)]
        narrow = [_toward(waist[0], waist[1], 0.22), _toward(waist[1], waist[0], 0.22)]
        _polygon(frame, figure, [left, right, narrow[0], narrow[1]], color)
        _polygon(frame, figure, [narrow[1], narrow[0], hip_right, hip_left], color)
    else:
        _polygon(frame, figure, [left, right, hip_right, hip_left], color)
    if look.bare_torso:
        belt = [_toward(left, hip_left, 0.86), _toward(right, hip_right, 0.86), hip_right, hip_left]
        _polygon(frame, figure, belt, look.bottom)
        if look.style == "long":
            top = [_toward(left, hip_left, s) for s in (0.2, 0.45)]
            low = [_toward(right, hip_right, s) for s in (0.2, 0.45)]
            _polygon(frame, figure, [top[0], low[0], low[1], top[1]], look.top)
    elif look.pattern == "stripes":
        edge = figure.paint(look.cover)[0]
        for share in (0.3, 0.6):
            a, b = _toward(left, hip_left, share), _toward(right, hip_right, share)
            inset = 0.22 if look.style == "long" else 0.08
            a, b = _toward(a, b, inset), _toward(b, a, inset)
            cv2.line(frame, a, b, edge, max(1, int(0.025 * figure.scale)), cv2.LINE_AA, SHIFT)


def _skirt(frame: Frame, figure: Figure, p: list[Point], *, length: float, color: Color) -> None:
    """A skirt, or the lower half of a long coat: from the hips over the thighs, wider towards the hem."""
    flare = int(0.035 * figure.scale * ONE)
    low = (p[FOOT][1] + p[FOOT + 1][1]) // 2
    hem = []
    for side in (0, 1):
        hip, knee = p[HIP + side], p[KNEE + side]
        hem.append((_toward(hip, knee, 0.8)[0], _toward(hip, (0, low), length)[1]))
    corners = [
        (p[HIP][0] - flare // 2, p[HIP][1]), (p[HIP + 1][0] + flare // 2, p[HIP + 1][1]),
        (hem[1][0] + flare, hem[1][1]), (hem[0][0] - flare, hem[0][1]),
    ]  # fmt: skip
    _polygon(frame, figure, corners, color)


def _hair_behind(frame: Frame, figure: Figure, head: Point, radius: float) -> None:
    """Long hair that falls over the shoulders, drawn before the body."""
    fill, edge = figure.paint(figure.look.hair)
    drop = (head[0], head[1] + int(1.25 * radius * ONE))
    for color, extra in ((edge, 2), (fill, 0)):
        cv2.line(frame, head, drop, color, int(2.2 * radius) + extra, cv2.LINE_AA, SHIFT)


def _head(frame: Frame, figure: Figure, head: Point, radius: float) -> None:
    look = figure.look
    x, y = head
    r = radius * ONE

    def at(dx: float, dy: float) -> Point:
        return int(x + dx * r), int(y + dy * r)

    shell = look.cover if look.style == "covered" else look.hair
    match look.head:
        case "back":
            _disc(frame, figure, head, 1.08 * radius, shell)
            if look.style == "long":
                _ellipse(frame, figure, at(0, 0.8), (0.95 * radius, 1.0 * radius), shell)
            elif look.style == "short":
                _ellipse(frame, figure, at(0, 0.9), (0.45 * radius, 0.25 * radius), look.skin)
        case "helmet":
            _disc(frame, figure, head, 1.12 * radius, look.cover)
            _ellipse(frame, figure, at(0, 0.1), (0.85 * radius, 0.5 * radius), (26, 28, 36))
            glint = figure.paint((150, 160, 180))[0]
            cv2.line(frame, at(-0.5, 0.0), at(-0.1, -0.15), glint, 1, cv2.LINE_AA, SHIFT)
        case "profile":
            _disc(frame, figure, head, (1.14 if look.style == "covered" else 1.06) * radius, shell)
            _disc(frame, figure, at(0.98, 0.24), 0.17 * radius, look.skin)
            _ellipse(frame, figure, at(0.36, 0.16), (0.62 * radius, 0.86 * radius), look.skin)
            if look.style == "short":
                _ellipse(frame, figure, at(0.5, 0.8), (0.36 * radius, 0.26 * radius), look.hair)
            dark = figure.paint((30, 22, 22))[0]
            cv2.circle(frame, at(0.56, 0.02), int(0.17 * r), figure.paint((245, 245, 245))[0], -1, cv2.LINE_AA, SHIFT)
            cv2.circle(frame, at(0.62, 0.04), int(0.1 * r), dark, -1, cv2.LINE_AA, SHIFT)
            cv2.line(frame, at(0.4, -0.26), at(0.78, -0.26), dark, 1, cv2.LINE_AA, SHIFT)
            lips = figure.paint((170, 50, 56))[0]
            cv2.line(frame, at(0.56, 0.56), at(0.84, 0.56), lips, max(1, int(0.14 * radius)), cv2.LINE_AA, SHIFT)
        case "face":
            _disc(frame, figure, head, (1.14 if look.style == "covered" else 1.06) * radius, shell)
            _ellipse(frame, figure, at(0, 0.16), (0.86 * radius, 0.86 * radius), look.skin)
            if look.style == "short":
                _ellipse(frame, figure, at(0, 0.8), (0.5 * radius, 0.26 * radius), look.hair)
            dark = figure.paint((30, 22, 22))[0]
            white = figure.paint((245, 245, 245))[0]
            for dx in (-0.34, 0.34):
                cv2.circle(frame, at(dx, 0.02), int(0.19 * r), white, -1, cv2.LINE_AA, SHIFT)
                cv2.circle(frame, at(dx, 0.04), int(0.1 * r), dark, -1, cv2.LINE_AA, SHIFT)
                cv2.line(frame, at(dx - 0.2, -0.26), at(dx + 0.2, -0.26), dark, 1, cv2.LINE_AA, SHIFT)
            cv2.line(frame, at(0, 0.1), at(0.06, 0.3), figure.paint(look.skin)[1], 1, cv2.LINE_AA, SHIFT)
            lips = figure.paint((170, 50, 56))[0]
            cv2.line(frame, at(-0.26, 0.56), at(0.26, 0.56), lips, max(1, int(0.14 * radius)), cv2.LINE_AA, SHIFT)
