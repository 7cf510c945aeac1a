"""``synth-faces``: a twin of CelebV-HQ for FAPDER: an expression to recognize, five attributes of the face to hide.

Clips of one source (one YouTube id) show one face in one place with different expressions, which develop from neutral
and go back to it. Attributes belong to the source, so they are independent of the expression.

The names of the sources decide on which side of the benchmark's 60/40 split they are. Labels follow quotas on each side
of split 1, so that even the smallest preset has every expression and both values of every attribute on both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from stp_bench.schema import Target
from stp_bench.synth import _scene
from stp_bench.synth._brush import Pose
from stp_bench.synth._drawing import Content, Drawing
from stp_bench.synth._figure import Frame
from stp_bench.synth._motions import Array, Rng
from stp_bench.synth._plan import FPS, GRADES, Sizes, dealt, generator, youtube_id
from stp_bench.synth._portrait import EXPRESSIONS, HAIR, Looks, Mimic, draw_face, head_box, looks, mimic

NAME = "synth-faces"
ATTRIBUTES: Mapping[str, float] = {
    "young": 0.5, "pointy_nose": 0.5, "male": 0.6, "rosy_cheeks": 0.4, "brown_hair": 0.4,
}  # fmt: skip
"""The private attributes and the share of sources that have them."""
APPEARANCE = (
    "blurry", "male", "young", "chubby", "pale_skin", "rosy_cheeks", "oval_face", "receding_hairline", "bald", "bangs",
    "black_hair", "blonde_hair", "gray_hair", "brown_hair", "straight_hair", "wavy_hair", "long_hair",
    "arched_eyebrows", "bushy_eyebrows", "bags_under_eyes", "eyeglasses", "sunglasses", "narrow_eyes", "big_nose",
    "pointy_nose", "high_cheekbones", "big_lips", "double_chin", "no_beard", "5_o_clock_shadow", "goatee", "mustache",
    "sideburns", "heavy_makeup", "wearing_earrings", "wearing_hat", "wearing_lipstick", "wearing_necklace",
    "wearing_necktie", "wearing_mask",
)  # fmt: skip
"""CelebV-HQ's names in its order."""
DEEDS: Mapping[str, str] = {"frown": "anger", "smile": "happy"}
"""Names of CelebV-HQ's actions that are drawn, and the expression that shows each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacePreset(Sizes):
    """Sizes of a preset."""

    sources: int
    clips: int
    """Clips per source with one expression."""
    mixed: int
    """Further clips that show two expressions one after the other, at most one per source."""
    block: int
    """Sources over which quotas of attributes are exact."""
    shares: Mapping[str, int]
    """Clips per expression in a block of clips."""


_EVEN = {"neutral": 2} | {e: 1 for e in EXPRESSIONS if e != "neutral"}
_UNEVEN = {
    "neutral": 6, "happy": 4, "sadness": 3, "anger": 3, "fear": 2, "surprise": 3, "contempt": 2, "disgust": 2,
}  # fmt: skip
PRESETS: Mapping[str, FacePreset] = {
    "tiny": FacePreset(width=48, height=48, frames=16, sources=8, clips=3, mixed=2, block=3, shares=_EVEN),
    "small": FacePreset(width=96, height=96, frames=32, sources=180, clips=4, mixed=20, block=10, shares=_UNEVEN),
    "full": FacePreset(width=192, height=192, frames=64, sources=400, clips=5, mixed=60, block=10, shares=_UNEVEN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One video to be made."""

    preset: str
    seed: int
    source: str
    number: int
    """Which clip of its source."""
    attributes: tuple[int, ...]
    """0 or 1, in the order of `ATTRIBUTES`."""
    expressions: tuple[str, ...]
    """One, or two that follow each other."""

    @property
    def video_id(self) -> str:
        """CelebV-HQ's clip id."""
        return f"{self.source}_{self.number}"

    @property
    def sizes(self) -> FacePreset:
        """The sizes of this video's preset."""
        return PRESETS[self.preset]

    @property
    def looks(self) -> Looks:
        """The face of its source."""
        shown = {name: bool(value) for name, value in zip(ATTRIBUTES, self.attributes, strict=True)}
        return looks(**shown, rng=generator(self.seed, NAME, "looks", self.source))


def targets(preset: str) -> tuple[Target, ...]:
    """The eight expressions, and the five attributes."""
    return (
        Target(name="expression", kind="multiclass", classes=tuple(EXPRESSIONS)),
        Target(name="privacy", kind="multilabel", classes=tuple(ATTRIBUTES), private=True),
    )


def count(preset: str) -> int:
    """How many videos a preset has, those with two expressions included."""
    sizes = PRESETS[preset]
    return sizes.sources * sizes.clips + sizes.mixed


def content(preset: str, seed: int) -> Content:
    """Videos and label file: a pure function of its arguments."""
    clips = plan(preset, seed)
    drawings = tuple(
        Drawing(video_id=c.video_id, sizes=c.sizes, frames=partial(frames, c), boxes=partial(boxes, c)) for c in clips
    )
    document = {
        "meta_info": {"appearance_mapping": list(APPEARANCE), "action_mapping": list(DEEDS)},
        "clips": {clip.video_id: _record(clip) for clip in clips},
    }
    return Content(drawings=drawings, label_files={"celebvhq_info.json": json.dumps(document).encode()})


# --- which clips there are ---


def plan(preset: str, seed: int) -> tuple[Clip, ...]:
    """All clips, sorted by id."""
    sizes = PRESETS[preset]
    names = [youtube_id(generator(seed, NAME, "source", str(i))) for i in range(sizes.sources)]
    ranked = sorted(names, key=_rank)
    train = round(0.6 * len(ranked))
    sides = {"train": ranked[:train], "test": ranked[train:]}
    mixed = {ranked[i * sizes.sources // sizes.mixed] for i in range(sizes.mixed)}
    clips = [clip for side, sources in sides.items() for clip in _side(preset, seed, side, sources, mixed)]
    return tuple(sorted(clips, key=lambda c: c.video_id))


def _rank(source: str) -> str:
    """What the 60/40 rule of split 1 orders sources by."""
    return hashlib.sha256(f"stp:{NAME}:0:{source}".encode()).hexdigest()


def _side(preset: str, seed: int, side: str, sources: Sequence[str], mixed: Set[str]) -> Iterator[Clip]:
    """The clips of one side's sources; those in ``mixed`` have one more, with two expressions."""
    sizes = PRESETS[preset]

    def stream(purpose: str) -> Rng:
        return generator(seed, NAME, "labels", side, purpose)

    columns = []
    for attribute, share in ATTRIBUTES.items():
        positive = round(share * sizes.block)
        columns.append(dealt({1: positive, 0: sizes.block - positive}, len(sources), stream(attribute)))
    attributes = dict(zip(sources, zip(*columns, strict=True), strict=True))
    # Whole decks of expressions go to sources that look alike, so that no look prefers an expression.
    alike = sorted(sources, key=lambda s: attributes[s])
    cards = iter(dealt(sizes.shares, len(sources) * sizes.clips, stream("expression")))
    for source in alike:
        shown: list[tuple[str, ...]] = [(next(cards),) for _ in range(sizes.clips)]
        if source in mixed:
            first, second = stream(source).permutation([e for e in EXPRESSIONS if e != "neutral"])[:2]
            shown.append((str(first), str(second)))
        for number, expressions in enumerate(shown):
            yield Clip(
                preset=preset,
                seed=seed,
                source=source,
                number=number,
                attributes=attributes[source],
                expressions=expressions,
            )


# --- what happens in a clip ---


@dataclass(frozen=True, slots=True)
class Play:
    """A clip's course over T frames."""

    mimics: list[Mimic]
    poses: list[Pose]
    segments: list[tuple[str, int, int]]
    """Expression, first and last frame in which it shows, in order."""


def play(clip: Clip) -> Play:
    """Expressions that come and go, blinks, a mouth that perhaps talks, and a head that is never still."""
    sizes = clip.sizes
    count, width, height = sizes.frames, sizes.width, sizes.height
    rng = generator(clip.seed, NAME, clip.video_id, "play")
    t = np.arange(count)

    def drift(scale: float, period: tuple[float, float] = (14, 40)) -> Array:
        return np.asarray(scale * np.sin(2 * np.pi * t / rng.uniform(*period) + rng.uniform(0, 2 * np.pi)))

    spans = ((0.08, 0.9),) if len(clip.expressions) == 1 else ((0.04, 0.46), (0.54, 0.96))
    courses = [_course(count, *span, rng) for span in spans]
    parts = {"brow_inner": drift(0.1), "brow_outer": drift(0.1), "corners": drift(0.1), "lids": _blinks(count, rng)}
    if rng.random() < 0.4:
        parts["drop"] = 0.22 * np.abs(drift(1.0, (6, 10)))
    mimics = [
        mimic(
            {part: float(track[i]) for part, track in parts.items()},
            {e: float(course[i]) for e, course in zip(clip.expressions, courses, strict=True)},
        )
        for i in range(count)
    ]
    x = width * (0.5 + rng.uniform(-0.05, 0.05) + drift(0.012))
    y = height * (0.48 + rng.uniform(-0.03, 0.03) + drift(0.01))
    scale = height * rng.uniform(0.32, 0.37) * (1 + drift(0.02))
    roll, yaw = rng.uniform(-0.06, 0.06) + drift(0.03), rng.uniform(-0.4, 0.4) + drift(0.3)
    poses = [
        Pose(
            float(x[i]),
            float(y[i] + 0.1 * scale[i] * m.nod),
            float(scale[i]),
            float(roll[i] + 0.14 * m.tilt),
            float(yaw[i]),
        )
        for i, m in enumerate(mimics)
    ]
    shown = [np.flatnonzero(course > 0.5 * course.max()) for course in courses]
    segments = [(e, int(s[0]), int(s[-1])) for e, s in zip(clip.expressions, shown, strict=True)]
    return Play(mimics, poses, segments)


def _course(count: int, start: float, end: float, rng: Rng) -> Array:
    """T: an expression's strength: 0, up within a fifth of its time, held, and back to 0."""
    long = end - start
    begin, finish = start + long * rng.uniform(0.0, 0.15), end - long * rng.uniform(0.0, 0.1)
    rise, fall = long * rng.uniform(0.15, 0.25), long * rng.uniform(0.15, 0.25)
    at = np.arange(count) / count
    share = np.clip(np.minimum((at - begin) / rise, (finish - at) / fall), 0.0, 1.0)
    return np.asarray(rng.uniform(0.8, 1.15) * share * share * (3 - 2 * share))


def _blinks(count: int, rng: Rng) -> Array:
    """T: lids that close for a moment once or twice."""
    lids = np.zeros(count)
    for at in rng.integers(0, count, int(rng.integers(1, 3))):
        lids[at : at + 2] = -1.0
    return lids


def frames(clip: Clip) -> Iterator[Frame]:
    """The pictures of a clip (H x W x 3 RGB), in order."""
    cv2.setNumThreads(1)
    sizes, look, course = clip.sizes, clip.looks, play(clip)
    rng = generator(clip.seed, NAME, clip.video_id, "scene")
    camera = _scene.camera(sizes.frames, sizes.width, moves=False, rng=rng)
    wall = _wall(look, sizes, generator(clip.seed, NAME, clip.source, "place"))
    still = np.clip(wall * (_scene.falloff(sizes.width, sizes.height, rng) * camera.light), 0, 255).astype(np.uint8)
    quality = int(rng.integers(len(GRADES)))
    noises = _scene.sensor_noise(sizes.frames, sizes.width, sizes.height, quality=quality, rng=rng)
    for t, noise in enumerate(noises):
        frame = still.copy()
        draw_face(frame, look, course.mimics[t], course.poses[t], camera.light)
        frame = np.asarray(cv2.convertScaleAbs(frame, alpha=float(camera.flicker_T[t])), dtype=np.uint8)
        yield np.asarray(cv2.add(frame, noise, dtype=cv2.CV_8U), dtype=np.uint8)


def _wall(look: Looks, sizes: Sizes, rng: Rng) -> Frame:
    """A background out of focus (H x W x 3)."""
    width, height = sizes.width, sizes.height
    ramp = np.linspace(0, 1, height)[:, None, None]
    top, low = (np.array(color) for color in look.wall)
    wall = np.empty((height, width, 3), dtype=np.uint8)
    wall[:] = top * (1 - ramp) + low * ramp
    for _ in range(5):
        center = (int(rng.uniform(0, 1) * width), int(rng.uniform(0, 1) * height))
        color = [int(v) for v in rng.integers(50, 210, 3)]
        cv2.circle(wall, center, int(rng.uniform(0.06, 0.2) * width), color, -1)
    return np.asarray(cv2.GaussianBlur(wall, (0, 0), 0.05 * width), dtype=np.uint8)


def boxes(clip: Clip) -> Array:
    """1 x T x 2 x 4: the box of the head, as person and as head, clipped to the picture."""
    look = clip.looks
    heads = np.stack([head_box(look, pose) for pose in play(clip).poses])
    clipped = np.clip(heads, 0.0, [clip.sizes.width, clip.sizes.height] * 2)
    return np.stack([clipped, clipped], axis=1)[None]


# --- the label file ---


def _record(clip: Clip) -> dict[str, Any]:
    rng = generator(clip.seed, NAME, clip.video_id, "record")
    start, top, left, side = round(float(rng.uniform(5, 600)), 2), *rng.uniform(0.05, 0.3, 2), rng.uniform(0.3, 0.6)
    bbox = {"top": top, "bottom": top + side, "left": left, "right": left + side}
    return {
        "ytb_id": clip.source,
        "duration": {"start_sec": start, "end_sec": round(start + clip.sizes.frames / FPS, 2)},
        "bbox": {edge: round(float(value), 4) for edge, value in bbox.items()},
        "attributes": {
            "appearance": _appearance(clip.looks),
            "action": [int(expression in clip.expressions) for expression in DEEDS.values()],
            "emotion": _emotion(clip),
        },
        "version": "v1",
    }


def _appearance(look: Looks) -> list[int]:
    """0 or 1 per name of `APPEARANCE`: what the drawing shows."""
    shown = {
        "male": look.male, "young": look.young, "rosy_cheeks": look.rosy_cheeks, "pointy_nose": look.pointy_nose,
        "long_hair": not look.male, "wearing_lipstick": not look.male, "bushy_eyebrows": look.male,
        "mustache": look.mustache, "no_beard": not look.mustache,
        "bangs": look.young, "receding_hairline": not look.young, "bags_under_eyes": not look.young,
    } | {color: look.hair == color for color in HAIR}  # fmt: skip
    return [int(shown.get(name, False)) for name in APPEARANCE]


def _emotion(clip: Clip) -> dict[str, Any]:
    """One emotion of the whole clip, or stretches in seconds with a gap between them."""
    if len(clip.expressions) == 1:
        return {"sep_flag": False, "labels": clip.expressions[0]}
    stretches: Sequence[tuple[str, int, int]] = play(clip).segments
    labels = [
        {"emotion": e, "start_sec": round(first / FPS, 2), "end_sec": round((last + 1) / FPS, 2)}
        for e, first, last in stretches
    ]
    return {"sep_flag": True, "labels": labels}
