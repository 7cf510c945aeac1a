"""``synth-pa``: a twin of PA-HMDB51, whose labels are levels of single frames.

Three quarters of its videos are videos of ``synth-hmdb``, byte for byte, from both sides of its splits: whoever
evaluates on them has to take them out of the action training. In the others, drawn for it, the people turn round, so
that what is seen of their faces changes over time.

The label files have PA-HMDB51's form and its irregularities: labels that start late, end before the last frame or have
a hole, notes that are missing, and lists of values where two people differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from stp_annotations import attributes
from stp_bench.schema import Target
from stp_bench.synth._drawing import Content, Drawing
from stp_bench.synth._figure import SKIN_TONES, Frame, Head, Look, draw
from stp_bench.synth._plan import (
    BYSTANDER,
    GRADES,
    PLACES,
    Plan,
    actions,
    even_ranks,
    generator,
    labels_by_quota,
    plan,
)  # fmt: skip
from stp_bench.synth._render import PASSER, cast, drawing, film

NAME = "synth-pa"
SOURCE = "synth-hmdb"
SHARED: Mapping[str, int] = {"tiny": 3, "small": 36, "full": 90}
"""Videos of the source per action, by preset."""
OWN: Mapping[str, int] = {"tiny": 1, "small": 12, "full": 30}
"""Videos per action in which people turn round."""
FACE_LEVELS: Mapping[Head, int] = {"face": 2, "profile": 1, "back": 0, "helmet": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewed:
    """A video and what shows of the heads in it."""

    plan: Plan
    views: tuple[tuple[int, Head], ...]
    """First frame and kind of every stretch, in order; a single one where nobody turns round."""

    @property
    def heads(self) -> list[Head]:
        """The kind of head of every frame."""
        starts = [start for start, _ in self.views]
        return [self.views[i - 1][1] for i in np.searchsorted(starts, np.arange(self.plan.sizes.frames), side="right")]


def targets(preset: str) -> tuple[Target, ...]:
    """The actions of the source, and the five attributes."""
    return (
        Target(name="action", kind="multiclass", classes=actions(SOURCE, preset)),
        Target(name="privacy", kind="multilabel", classes=tuple(a.name for a in attributes()), private=True),
    )


def count(preset: str) -> int:
    """How many videos a preset has."""
    return len(actions(SOURCE, preset)) * (SHARED[preset] + OWN[preset])


def content(preset: str, seed: int) -> Content:
    """Videos and label files: a pure function of its arguments."""
    videos = sorted(shared(preset, seed) + turning(preset, seed), key=lambda v: v.plan.video_id)
    drawings = tuple(_drawing(v) for v in videos)
    documents: dict[str, dict[str, Any]] = {action: {} for action in actions(SOURCE, preset)}
    holed = next(i for i, v in enumerate(videos) if len(v.views) > 1)
    for i, video in enumerate(videos):
        action, _, stem = video.plan.video_id.partition("/")
        documents[action][f"{stem}.avi"] = _record(video, i, hole=i == holed)
    files = {f"PrivacyAttributes/{action}.json": json.dumps(found).encode() for action, found in documents.items()}
    return Content(drawings=drawings, label_files=files)


def shared(preset: str, seed: int) -> list[Viewed]:
    """Videos of the source, from all its folds alike."""
    plans = plan(SOURCE, preset, seed)
    chosen: list[Plan] = []
    for action in actions(SOURCE, preset):
        able = [p for p in plans if p.action == action]
        rank = even_ranks(np.array([str(p.fold) for p in able]), generator(seed, NAME, "shared", action))
        chosen += [able[i] for i in np.argsort(rank)[: SHARED[preset]]]
    return [Viewed(plan=p, views=((0, p.head),)) for p in chosen]


def turning(preset: str, seed: int) -> list[Viewed]:
    """Videos in places that the source does not have; their attributes follow its quotas."""
    slots = [(action, i) for action in actions(SOURCE, preset) for i in range(1, OWN[preset] + 1)]
    labels = labels_by_quota(NAME, seed, np.array([a for a, _ in slots]), np.zeros(len(slots), dtype=np.int64))
    return [_turning(preset, seed, *slot, tuple(row)) for slot, row in zip(slots, labels.tolist(), strict=True)]


def _turning(preset: str, seed: int, action: str, number: int, labels: tuple[int, ...]) -> Viewed:
    shown = dict(zip((a.name for a in attributes()), labels, strict=True)) | {"face": 1}
    rng = generator(seed, NAME, "plan", f"{action}/{number}")
    people = 2 if rng.random() < BYSTANDER or shown["relationship"] else 1
    camera_moves, quality = bool(rng.random() < 0.5), int(rng.integers(len(GRADES)))
    place = PLACES[number % len(PLACES)]
    title, camera = f"Turning_{place}_{number:02d}", "cm" if camera_moves else "nm"
    front = bool(rng.random() < 0.5)
    stem = f"{title}_{action}_f_{camera}_np{people}_{'fr' if front else 'ba'}_{GRADES[quality]}_0"
    planned = Plan(
        dataset=SOURCE,  # its motions; a video of its own has random streams of its own
        preset=preset,
        seed=seed,
        video_id=f"{action}/{stem}",
        action=action,
        group=title,
        place=place,
        fold=0,
        labels=tuple(shown.values()),
        head="face",
        people=people,
        camera_moves=camera_moves,
        quality=quality,
    )
    frames = planned.sizes.frames
    first, second = (int(frames * rng.uniform(*share)) for share in ((0.2, 0.4), (0.65, 0.8)))
    profile = max(2, frames // 10)
    heads: tuple[Head, Head] = ("face", "back") if front else ("back", "face")
    views: list[tuple[int, Head]] = [(0, heads[0]), (first, "profile"), (first + profile, heads[1])]
    if rng.random() < 0.4:
        views += [(second, "profile"), (second + profile, heads[0])]
    return Viewed(plan=planned, views=tuple(views))


def _drawing(one: Viewed) -> Drawing:
    drawn = drawing(one.plan)
    return drawn if len(one.views) == 1 else replace(drawn, frames=partial(_frames, one))


def _frames(one: Viewed) -> Iterator[Frame]:
    people, heads = cast(one.plan), one.heads
    turned = {h: [replace(f, look=replace(f.look, head=h)) for f in people.figures] for h in set(heads)}

    def paint(frame: Frame, t: int) -> None:
        for figure in turned[heads[t]]:
            draw(frame, figure, t)

    return film(one.plan, people.camera, paint, passers=PASSER)


# --- labels ---

Level = int | list[int]


def _record(video: Viewed, number: int, *, hole: bool) -> dict[str, Any]:
    """A video's entry: per attribute ranges [start, end, level], both ends included, and the annotators' remarks.

    ``number`` decides on irregularities, so that every preset has all of them.
    """
    planned = video.plan
    first = 2 if number % 7 == 3 else 0
    last = planned.sizes.frames - (2 if number % 3 == 1 else 1)
    looks = [figure.look for figure in cast(planned).figures]
    steady: dict[str, Level] = {
        "skin_color": _merged([_skin(look) for look in looks]),
        "gender": _merged([{"covered": 0, "short": 1, "long": 2}[look.style] for look in looks]),
        "nudity": max(2 if look.bare_torso else int(look.bare_limbs) for look in looks),
        "relationship": dict(zip((a.name for a in attributes()), planned.labels, strict=True))["relationship"],
    }
    ends = [start - 1 for start, _ in video.views[1:]] + [last]
    face = [[max(start, first), end, FACE_LEVELS[head]] for (start, head), end in zip(video.views, ends, strict=True)]
    if hole:
        longest = max(range(len(face)), key=lambda i: face[i][1] - face[i][0])
        start, end, level = face[longest]
        middle = (start + end) // 2
        face[longest : longest + 1] = [[start, middle - 1, level], [middle + 1, end, level]]
    record: dict[str, Any] = {"face": face} | {name: [[first, last, level]] for name, level in steady.items()}
    record["review"] = number % 6 != 2
    if number % 8 != 5:
        record["note"] = ""
    return record


def _skin(look: Look) -> int:
    """PA-HMDB51's level: 0 not to be seen, 1 to 3 from light to dark."""
    return 1 + SKIN_TONES.index(look.skin) * 3 // len(SKIN_TONES) if look.bare_limbs else 0


def _merged(levels: list[int]) -> Level:
    """What the people of a video show together: a list where they differ."""
    found = sorted(set(levels))
    return found[0] if len(found) == 1 else found
