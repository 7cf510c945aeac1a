"""``synth-scenes``: a twin of P-HVU for OSPAR: several actions to recognize, the objects and the scene to hide.

One or two people do something between things that stand about in a place. The label files have HVU's form: tags of six
categories, a list of clips for training and one for validation. As in HVU some rows lack an action, an object or a
scene; P-HVU leaves them out, so they have no video here. Some tags of each target are in no video: their average
precision is undefined.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np

from stp_bench.schema import Target
from stp_bench.synth import _scene
from stp_bench.synth._brush import Brush, Pose
from stp_bench.synth._drawing import Content, Drawing
from stp_bench.synth._figure import Figure, Frame, Head, Labels, draw, look, place, skeleton
from stp_bench.synth._motions import ACTIONS, Action, Array, perform
from stp_bench.synth._plan import FPS, GRADES, Sizes, dealt, generator, youtube_id
from stp_bench.synth._props import PROPS
from stp_bench.synth._render import broad, clipped_boxes, film

NAME = "synth-scenes"
DOINGS: Mapping[str, Action] = {
    "clapping": ACTIONS["synth-hmdb"]["clap"],
    "climbing": ACTIONS["synth-ucf"]["RopeClimbing"],
    "jumping": ACTIONS["synth-hmdb"]["jump"],
    "kicking": ACTIONS["synth-hmdb"]["kick"],
    "lunging": ACTIONS["synth-ucf"]["Lunges"],
    "marching": ACTIONS["synth-ucf"]["HighKnees"],
    "punching": ACTIONS["synth-hmdb"]["punch"],
    "squatting": ACTIONS["synth-ucf"]["BodyWeightSquats"],
    "walking": ACTIONS["synth-hmdb"]["walk"],
    "waving": ACTIONS["synth-hmdb"]["wave"],
}
"""Action tags and the movement behind each."""
SURROUNDINGS: Mapping[str, str] = {"city": "outdoor", "gym": "indoor", "park": "outdoor", "room": "indoor"}
"""Scene tags of the places, and the second tag that comes with each."""
UNSEEN: Mapping[str, str] = {"swimming": "action", "bicycle": "object", "beach": "scene"}
"""Tags of the tag file that no video has."""
FURTHER: Mapping[str, str] = {
    "animation": "concept", "fun": "concept", "sport": "concept", "colorful": "attribute", "flat": "attribute",
    "performance": "event", "training": "event",
}  # fmt: skip
"""Tags of the categories that P-HVU does not use."""

Side = Literal["Train", "Val"]
SIDES: tuple[Side, ...] = ("Train", "Val")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedPreset(Sizes):
    """Sizes of a preset."""

    actions: tuple[str, ...]
    objects: tuple[str, ...]
    places: tuple[str, ...]
    clips: Mapping[Side, int]


_ALL = {"actions": tuple(DOINGS), "objects": tuple(PROPS), "places": tuple(SURROUNDINGS)}
PRESETS: Mapping[str, TaggedPreset] = {
    "tiny": TaggedPreset(
        width=96, height=72, frames=16, clips={"Train": 16, "Val": 8},
        actions=("clapping", "kicking", "squatting", "walking"), objects=("ball", "car", "chair", "umbrella"),
        places=("park", "room"),
    ),
    "small": TaggedPreset(width=160, height=120, frames=32, clips={"Train": 500, "Val": 220}, **_ALL),
    "full": TaggedPreset(width=320, height=240, frames=64, clips={"Train": 1600, "Val": 800}, **_ALL),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedClip:
    """One video to be made."""

    preset: str
    seed: int
    side: Side
    source: str
    """Id of the video that it is cut from; its clips show one place."""
    start: int
    """Where it begins in its source, in tenths of a second."""
    place: str
    actions: tuple[str, ...]
    """What each person does."""
    objects: tuple[str, ...]
    camera_moves: bool
    quality: int

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return NAME

    @property
    def group(self) -> str:
        """What shares a background."""
        return self.source

    @property
    def sizes(self) -> TaggedPreset:
        """The sizes of this video's preset."""
        return PRESETS[self.preset]

    @property
    def end(self) -> int:
        """Where it ends in its source, in tenths of a second."""
        return self.start + round(10 * self.sizes.frames / FPS)

    @property
    def video_id(self) -> str:
        """The usual name of a clip: source and times."""
        return f"{self.source}_{self.start:06d}_{self.end:06d}"

    @property
    def tags(self) -> set[str]:
        """The tags of what is drawn."""
        return {*self.actions, *self.objects, self.place, SURROUNDINGS[self.place]}


def targets(preset: str) -> tuple[Target, ...]:
    """Action tags, and object and scene tags, in the order of the tag file."""
    names = {c: tuple(t for t, found in tags(preset).items() if found == c) for c in ("action", "object", "scene")}
    groups = tuple((category, len(names[category])) for category in ("object", "scene"))
    return (
        Target(name="action", kind="multilabel", classes=names["action"]),
        Target(
            name="privacy", kind="multilabel", classes=names["object"] + names["scene"], private=True, groups=groups
        ),
    )


def tags(preset: str) -> dict[str, str]:
    """Every tag and its category, in the order of the tag file."""
    sizes = PRESETS[preset]
    found = dict.fromkeys(sizes.actions, "action") | dict.fromkeys(sizes.objects, "object")
    found |= dict.fromkeys([*sizes.places, *(SURROUNDINGS[p] for p in sizes.places)], "scene")
    return dict(sorted((found | dict(UNSEEN) | dict(FURTHER)).items()))


def count(preset: str) -> int:
    """How many videos a preset has."""
    return sum(PRESETS[preset].clips.values())


def content(preset: str, seed: int) -> Content:
    """Videos and label files: a pure function of its arguments."""
    clips = plan(preset, seed)
    drawings = tuple(
        Drawing(video_id=c.video_id, sizes=c.sizes, frames=partial(frames, c), boxes=partial(boxes, c)) for c in clips
    )
    files = {"HVU_Tags_Categories_V1.0.csv": _table([("Tag", "Category"), *tags(preset).items()])}
    for side in SIDES:
        rows = [_row(c.tags, c) for c in clips if c.side == side] + _rows_without_video(preset, seed, side)
        header = ("Tags", "youtube_id", "time_start", "time_end")
        files[f"HVU_{side}_V1.0.csv"] = _table([header, *sorted(rows, key=lambda row: row[1:])])
    return Content(drawings=drawings, label_files=files)


# --- which clips there are ---


def plan(preset: str, seed: int) -> tuple[TaggedClip, ...]:
    """All clips, sorted by id."""
    return tuple(sorted((c for side in SIDES for c in _side(preset, seed, side)), key=lambda c: c.video_id))


def _side(preset: str, seed: int, side: Side) -> Iterator[TaggedClip]:
    """The clips of one side. Every tag comes equally often, whatever the others are."""
    sizes = PRESETS[preset]
    count = sizes.clips[side]

    def stream(purpose: str) -> np.random.Generator:
        return generator(seed, NAME, "labels", side, purpose)

    people = dealt({1: 1, 2: 1}, count, stream("people"))
    things = dealt({1: 1, 2: 1, 3: 1}, count, stream("things"))
    doings = iter(dealt(dict.fromkeys(sizes.actions, 1), sum(people), stream("action")))
    objects = iter(dealt(dict.fromkeys(sizes.objects, 1), sum(things), stream("object")))
    places = iter(dealt(dict.fromkeys(sizes.places, 1), count, stream("scene")))
    source, place_, start = "", "", 0
    for i in range(count):
        rng = generator(seed, NAME, "plan", f"{side}/{i}")
        again = i % 5 == 4  # every fifth is a later clip of the source before
        if not again:
            source, place_ = youtube_id(rng), next(places)
        start = (start + 200 if again else 0) + int(rng.integers(0, 1000))
        yield TaggedClip(
            preset=preset,
            seed=seed,
            side=side,
            source=source,
            start=start,
            place=place_,
            actions=tuple(islice(doings, people[i])),
            objects=tuple(dict.fromkeys(islice(objects, things[i]))),
            camera_moves=bool(rng.random() < 0.5),
            quality=int(rng.integers(len(GRADES))),
        )


# --- pictures ---


def cast(clip: TaggedClip) -> tuple[list[Figure], _scene.Camera]:
    """The people, left to right, and the camera that sees them."""
    sizes = clip.sizes
    rng = generator(clip.seed, NAME, clip.video_id, "people")
    camera = _scene.camera(sizes.frames, sizes.width, moves=clip.camera_moves, rng=rng)
    alone = len(clip.actions) == 1
    figures = []
    for action, x in zip(clip.actions, (0.5,) if alone else (0.3, 0.7), strict=True):
        labels = Labels(*(bool(v) for v in rng.random(5) < (0.7, 0.5, 0.7, 0.0, 0.0)))
        head: Head = "face" if labels.face else "back"
        looks = look(labels, head, rng)
        motion = perform(DOINGS[action], sizes.frames, rng, int(rng.integers(2)))
        scale = sizes.height * (rng.uniform(0.62, 0.72) if alone else rng.uniform(0.52, 0.6))
        ground = np.array([(x + rng.uniform(-0.05, 0.05)) * sizes.width, rng.uniform(0.92, 0.98) * sizes.height])
        body = skeleton(motion, broad=broad(looks))
        figures.append(place(body, looks, scale, ground + camera.shift_T2, camera.light))
    return figures, camera


def standing(clip: TaggedClip) -> list[Pose]:
    """Where each object stands: behind the people, at the sides first."""
    sizes = clip.sizes
    rng = generator(clip.seed, NAME, clip.video_id, "things")
    slots = (0.19, 0.81, 0.36) if len(clip.actions) == 1 else (0.13, 0.87, 0.5)
    chosen = rng.permutation(len(slots)) if len(clip.objects) == len(slots) else rng.permutation(2)
    return [
        Pose(
            (slots[i] + rng.uniform(-0.03, 0.03)) * sizes.width,
            rng.uniform(0.76, 0.86) * sizes.height,
            rng.uniform(0.34, 0.42) * sizes.height,
        )
        for i in chosen[: len(clip.objects)]
    ]


def frames(clip: TaggedClip) -> Iterator[Frame]:
    """The pictures of a clip (H x W x 3 RGB), in order."""
    figures, camera = cast(clip)
    poses = standing(clip)

    def paint(frame: Frame, t: int) -> None:
        dx, dy = camera.shift_T2[t]
        for name, pose in zip(clip.objects, poses, strict=True):
            PROPS[name](Brush(frame, Pose(pose.x + dx, pose.y + dy, pose.scale), camera.light))
        for figure in figures:
            draw(frame, figure, t)

    return film(clip, camera, paint)


def boxes(clip: TaggedClip) -> Array:
    """P x T x 2 x 4: person and head box of each person, clipped to the picture, so perhaps empty."""
    return clipped_boxes(cast(clip)[0], clip.sizes)


# --- the label files ---

Row = tuple[str, str, str, str]


def _row(drawn: set[str], clip: TaggedClip) -> Row:
    """A clip's row: its tags in any order, some of other categories among them."""
    rng = generator(clip.seed, NAME, clip.video_id, "row")
    found = sorted(drawn) + [tag for tag in FURTHER if rng.random() < 0.3]
    shuffled = [found[i] for i in rng.permutation(len(found))]
    return "|".join(shuffled), clip.source, f"{clip.start / 10:.1f}", f"{clip.end / 10:.1f}"


def _rows_without_video(preset: str, seed: int, side: Side) -> list[Row]:
    """Rows that the filter of P-HVU drops: one category after the other is missing."""
    sizes = PRESETS[preset]
    rows = []
    for i in range(max(3, sizes.clips[side] // 8)):
        rng = generator(seed, NAME, "dropped", f"{side}/{i}")
        place_ = sizes.places[rng.integers(len(sizes.places))]
        kinds = (
            {sizes.actions[rng.integers(len(sizes.actions))]},
            {sizes.objects[rng.integers(len(sizes.objects))]},
            {place_, SURROUNDINGS[place_]},
        )
        clip = TaggedClip(
            preset=preset, seed=seed, side=side, source=youtube_id(rng), start=int(rng.integers(0, 1000)),
            place=place_, actions=(), objects=(), camera_moves=False, quality=0,
        )  # fmt: skip
        rows.append(_row({tag for k, kind in enumerate(kinds) if k != i % 3 for tag in kind}, clip))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
