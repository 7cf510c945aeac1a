"""Cartoon faces: looks that do not change within a video, an expression that does, and the shapes that draw both.

Features are larger than life, so that an expression can be told at 32 pixels. A face lies in units of half its height:
x right, y down, the middle between eyes and mouth at the origin. Every shape is a polygon in these units that a turned,
shifted and scaled head carries into the picture.

Letters in array names: T frames, K points, 2 coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from stp_bench.synth._brush import ARC, CIRCLE, Brush, Pose, mixed, oval, pixels
from stp_bench.synth._figure import SKIN_TONES, Color, Frame, garment
from stp_bench.synth._motions import SIDES, Array, Rng

HAIR: Mapping[str, Color] = {
    "black_hair": (26, 24, 30),
    "blonde_hair": (232, 204, 110),
    "brown_hair": (124, 70, 30),
    "gray_hair": (172, 174, 180),
}
"""By CelebV-HQ's names."""
DARK, WHITE, MOUTH, LIPS, TONGUE = (34, 24, 24), (246, 246, 244), (92, 20, 26), (196, 44, 60), (232, 110, 124)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Everything about a face that an expression does not move."""

    skin: Color
    hair: str
    """A key of `HAIR`."""
    clothes: Color
    wall: tuple[Color, Color]
    """Color of the background above and below."""
    young: bool
    pointy_nose: bool
    male: bool
    rosy_cheeks: bool
    mustache: bool
    wide: float
    """Width of the face relative to the mean."""


def looks(*, young: bool, pointy_nose: bool, male: bool, rosy_cheeks: bool, brown_hair: bool, rng: Rng) -> Looks:
    """A random face that shows exactly these attributes; gray hair is left to the old."""
    others = ("black_hair", "blonde_hair", "gray_hair")
    other = others[rng.integers(2 if young else 3)]
    return Looks(
        skin=SKIN_TONES[rng.integers(len(SKIN_TONES))],
        hair="brown_hair" if brown_hair else other,
        clothes=garment(rng),
        wall=(garment(rng), garment(rng)),
        young=young,
        pointy_nose=pointy_nose,
        male=male,
        rosy_cheeks=rosy_cheeks,
        mustache=bool(rng.random() < 0.5) and male,
        wide=float(rng.uniform(0.93, 1.07)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mimic:
    """How far the parts of a face are from rest: 0 is neutral, 1 a strong movement, signs as said."""

    brow_inner: float = 0.0
    """Inner ends of the brows up (down: negative)."""
    brow_outer: float = 0.0
    brow_one: float = 0.0
    """The brow of one side alone up."""
    frown: float = 0.0
    """Brows together."""
    lids: float = 0.0
    """Eyes wide open; -1 is closed."""
    corners: float = 0.0
    """Corners of the mouth up."""
    corner_one: float = 0.0
    """The corner of one side alone up and out."""
    wide: float = 0.0
    """Mouth wider (narrower: negative)."""
    drop: float = 0.0
    """Mouth open."""
    teeth: float = 0.0
    """Teeth in the open mouth."""
    tongue: float = 0.0
    wrinkle: float = 0.0
    """Nose wrinkled."""
    nod: float = 0.0
    """Head down (back: negative)."""
    tilt: float = 0.0
    """Head to one side."""


EXPRESSIONS: Mapping[str, Mimic] = {
    "neutral": Mimic(),
    "happy": Mimic(corners=1.0, wide=0.7, drop=0.8, teeth=1.0, lids=-0.35, brow_inner=0.15, brow_outer=0.2),
    "sadness": Mimic(corners=-1.0, wide=-0.2, brow_inner=0.9, brow_outer=-0.7, lids=-0.5, nod=0.8),
    "anger": Mimic(brow_inner=-1.0, brow_outer=0.5, frown=1.0, lids=-0.1, wide=0.3, drop=0.7, teeth=1.0, corners=-0.6),
    "fear": Mimic(brow_inner=1.0, brow_outer=0.1, frown=0.6, lids=0.8, wide=0.9, drop=0.75, corners=-0.7, nod=-0.5),
    "surprise": Mimic(brow_inner=1.1, brow_outer=1.1, lids=1.0, wide=-0.6, drop=1.3, nod=-0.3),
    "contempt": Mimic(brow_one=1.0, corner_one=1.0, lids=-0.45, tilt=0.8, nod=-0.5),
    "disgust": Mimic(brow_inner=-0.5, brow_outer=-0.2, lids=-0.75, wrinkle=1.0, drop=0.7, tongue=1.0, corners=-0.8),
}  # fmt: skip
"""In the order of the class numbers."""

_PARTS = tuple(f.name for f in fields(Mimic))


def mimic(parts: Mapping[str, float], expressions: Mapping[str, float]) -> Mimic:
    """The sum of weighted ``expressions`` and of small movements of single ``parts``."""
    total = {p: parts.get(p, 0.0) + sum(w * getattr(EXPRESSIONS[e], p) for e, w in expressions.items()) for p in _PARTS}
    return Mimic(**{p: max(v, -1.0) if p == "lids" else v for p, v in total.items()})


def head_box(look: Looks, pose: Pose) -> Array:
    """4: the box (x1, y1, x2, y2) of head and hair in pixels, not clipped to the picture."""
    points = pixels(np.concatenate([_skull(look), _mane(look), _cap(look)]), pose)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def draw_face(frame: Frame, look: Looks, now: Mimic, pose: Pose, light: Array) -> None:
    """Draw a head with neck and shoulders into ``frame`` (H x W x 3 RGB, changed in place).

    Args:
        frame: what is behind it.
        look: whose face.
        now: its expression at this time.
        pose: where it is.
        light: factor per color channel.
    """
    brush, body = Brush(frame, pose, light), Brush(frame, replace(pose, roll=0.0), light)
    hair, skin = HAIR[look.hair], look.skin
    shade = mixed(skin, DARK, 0.35)
    brush.fill(_mane(look), hair)
    neck = 0.5 if look.male else 0.34
    body.fill(np.array([[-neck, 0.5], [neck, 0.5], [neck + 0.1, 1.6], [-neck - 0.1, 1.6]]), mixed(skin, DARK, 0.15))
    body.fill(oval(0, 1.95, 1.5 if look.male else 1.15, 0.62), look.clothes)
    for side in SIDES:
        brush.fill(oval(side * 0.84 * look.wide, 0.02, 0.14, 0.2), skin)
    brush.fill(_skull(look), skin)
    if look.rosy_cheeks:
        for side in SIDES:
            brush.fill(oval(side * 0.52, 0.36, 0.24, 0.18), mixed(skin, (250, 40, 70), 0.6), depth=0.7, edge=False)
    brush.fill(_cap(look), hair)
    if not look.young:
        _age(brush, shade)
    for index, side in enumerate(SIDES):
        _eye(brush, look, now, float(side), one=index == 1)
    _nose(brush, look, now, shade)
    _mouth(brush, look, now)


def _skull(look: Looks) -> Array:
    """Outline of the face: a square jaw or a narrow chin."""
    jaw = 0.86 if look.male else 0.66
    x, y = np.cos(CIRCLE), np.sin(CIRCLE)
    narrowing = np.where(y > 0, 1 - (1 - jaw) * y, 1.0)
    squareness = np.where((y > 0) & look.male, np.abs(x) ** 0.75 * np.sign(x), x)
    return np.stack([0.84 * look.wide * squareness * narrowing, 1.02 * y], axis=1)


def _mane(look: Looks) -> Array:
    """Long hair behind the head; of a man only what the cap covers."""
    if look.male:
        return oval(0, -0.22, 0.92 * look.wide, 0.92)
    top = np.stack([1.08 * look.wide * np.cos(ARC), -0.2 - 0.98 * np.sin(ARC)], axis=1)
    return np.concatenate([top, [[-1.2, 1.35], [-0.55, 1.5], [0.55, 1.5], [1.2, 1.35]]])


def _cap(look: Looks) -> Array:
    """Hair over the forehead: a low fringe of the young, a high hairline of the old."""
    wide = (0.92 if look.male else 1.0) * look.wide
    top = np.stack([wide * np.cos(ARC), -0.28 - 0.86 * np.sin(ARC)], axis=1)
    if look.young:
        low = [[-0.8, -0.2], [-0.62, -0.52], [-0.25, -0.6], [0.2, -0.56], [0.62, -0.52], [0.8, -0.2]]
    else:
        low = [[-0.86, -0.12], [-0.74, -0.5], [-0.6, -0.86], [0.0, -0.98], [0.6, -0.86], [0.74, -0.5], [0.86, -0.12]]
    return np.concatenate([top, np.array(low) * np.array([look.wide, 1.0])])


def _age(brush: Brush, shade: Color) -> None:
    """Lines of the forehead, bags under the eyes, folds beside the mouth."""
    for y in (-0.72, -0.6):
        brush.line(np.array([[-0.34, y], [0.0, y - 0.03], [0.34, y]]), shade, 0.035, depth=0.6)
    for side in SIDES:
        bag = np.stack([side * 0.4 + 0.22 * np.cos(ARC), 0.16 + 0.1 * np.sin(ARC)], axis=1)
        brush.line(bag, shade, 0.05, depth=1.0)
        brush.line(np.array([[side * 0.26, 0.3], [side * 0.46, 0.48], [side * 0.5, 0.7]]), shade, 0.05, depth=1.0)


def _eye(brush: Brush, look: Looks, now: Mimic, side: float, *, one: bool) -> None:
    x, y = side * 0.39, -0.08
    size = 1.1 if look.young else 0.92
    wide, high = 0.23 * size, max(0.02, 0.16 * size * (1 + (0.55 if now.lids > 0 else 0.95) * now.lids))
    if high > 0.04:
        white = oval(x, y, wide, high)
        brush.fill(white, WHITE, depth=1.0)
        pupil = oval(x, y + 0.01, 0.1, min(0.1, high))
        brush.fill(pupil, DARK, depth=1.25, edge=False)
    lash = np.stack([x - wide * np.cos(ARC), y - high * np.sin(ARC)], axis=1)
    brush.line(lash, DARK, 0.045 if look.male else 0.065, depth=1.0)
    lift = now.brow_one if one else 0.0
    inner = np.array([side * (0.18 - 0.08 * now.frown), -0.38 - 0.17 * now.brow_inner - 0.2 * lift])
    outer = np.array([side * 0.64, -0.36 - 0.15 * now.brow_outer - 0.26 * lift])
    middle = (inner + outer) / 2 - np.array([0.0, 0.05 + 0.05 * max(now.brow_outer, 0.0)])
    brow = mixed(HAIR[look.hair], DARK, 0.65)
    brush.line(np.stack([inner, middle, outer]), brow, 0.12 if look.male else 0.075, depth=1.0)


def _nose(brush: Brush, look: Looks, now: Mimic, shade: Color) -> None:
    up = -0.06 * now.wrinkle
    if look.pointy_nose:
        tip = np.array([[0.0, -0.1], [0.17, 0.36 + up], [0.02, 0.46 + up], [-0.15, 0.36 + up]])
        brush.fill(tip, mixed(look.skin, WHITE, 0.2), depth=1.8)
        brush.fill(np.array([[0.0, -0.1], [0.17, 0.36 + up], [0.02, 0.46 + up]]), shade, depth=1.8, edge=False)
    else:
        brush.fill(oval(0, 0.28 + up, 0.21, 0.13), mixed(look.skin, (220, 90, 80), 0.15), depth=1.5)
    if now.wrinkle > 0.2:
        for side in SIDES:
            wing = np.array([[side * 0.1, -0.12], [side * 0.2, 0.04], [side * 0.3, 0.22]])
            brush.line(wing, shade, 0.06 * min(1.0, now.wrinkle), depth=1.3)


def _mouth(brush: Brush, look: Looks, now: Mimic) -> None:
    """Upper and lower lip as curves from corner to corner, and what is between them."""
    wide = 0.34 * (1 + 0.45 * now.wide)
    opening = 0.3 * max(now.drop, 0.0)
    y = 0.64 - 0.04 * now.drop
    along = np.linspace(-1, 1, 13)
    right = np.maximum(along, 0)
    x = wide * along + 0.08 * now.corner_one * right
    bend = 0.17 * now.corners
    line = y + bend * (0.5 - along**2) - 0.26 * now.corner_one * right**1.5
    swell = np.sqrt(np.maximum(0.0, 1 - along**2))
    upper, lower = line - 0.35 * opening * swell, line + opening * swell
    if look.mustache:
        tache = np.concatenate([
            np.stack([1.15 * x, line - 0.1 - 0.35 * opening * swell], axis=1),
            np.stack([0.9 * x, upper - 0.14 * swell - 0.1], axis=1)[::-1],
        ])  # fmt: skip
        brush.fill(tache, HAIR[look.hair], depth=1.3)
    lips = mixed(look.skin, LIPS, 0.45 if look.male else 1.0)
    inside = np.concatenate([np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)[::-1]])
    if opening > 0.03:
        brush.fill(inside, MOUTH, depth=1.2, edge=False)
        if now.teeth > 0.3:
            bite = np.minimum(lower, upper + 0.62 * (lower - upper) * now.teeth)
            shown = np.concatenate([np.stack([x, upper], axis=1), np.stack([x, bite], axis=1)[::-1]])
            brush.fill(shown, WHITE, depth=1.2, edge=False)
        if now.tongue > 0.2:
            brush.fill(oval(0, y + 0.9 * opening, 0.62 * wide, 0.2 * now.tongue), TONGUE, depth=1.2)
    thick = 0.06 if look.male else 0.075
    brush.line(np.stack([x, upper], axis=1), lips, thick, depth=1.2)
    if opening > 0.03:
        brush.line(np.stack([x, lower], axis=1), lips, thick, depth=1.2)
