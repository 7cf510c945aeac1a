"""What will be made: sizes of the presets, and for every video its name, split side and labels, before any pixel.

Labels follow exact quotas: within each split side every attribute has round(prevalence x videos) positive videos,
spread evenly over the actions, so that neither action nor split tells anything about an attribute.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stp_annotations import attributes
from stp_bench.errors import unknown_name
from stp_bench.schema import Benchmark, Part, Target
from stp_bench.synth._figure import Head
from stp_bench.synth._motions import ACTIONS, Rng

Card = TypeVar("Card")

NAMES: tuple[str, ...] = tuple(ACTIONS)
TITLES: Mapping[str, str] = {"synth-hmdb": "Synthetic HMDB", "synth-ucf": "Synthetic UCF"}
VERSION = 1

PREVALENCE: Mapping[str, float] = {
    "face": 0.60, "skin_color": 0.50, "gender": 0.60, "nudity": 0.35, "relationship": 0.35,
}  # fmt: skip
"""Share of positive videos. Balanced on purpose: rare negatives would leave a perfect attacker little room."""
BYSTANDER = 0.3
"""Share of the videos without relationship that show a second person who stands apart."""

PLACES = ("room", "park", "gym", "city")
GRADES = ("bad", "med", "goo")
"""HMDB51's codes of video quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Pixels and frames of every video of a data preset."""

    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset(Sizes):
    """Sizes of a data preset. Every group (place) holds ``clips`` videos of every action."""

    actions: int | None
    groups: int
    test_groups: int
    """Groups on the test side of one split; the splits' test groups do not overlap."""
    clips: int
    splits: int


PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(actions=4, groups=3, test_groups=1, clips=2, splits=1, width=96, height=72, frames=16),
    "small": Preset(actions=None, groups=50, test_groups=15, clips=2, splits=1, width=160, height=120, frames=32),
    "full": Preset(actions=None, groups=80, test_groups=24, clips=5, splits=3, width=320, height=240, frames=64),
}
FPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One video to be made."""

    dataset: str
    preset: str
    seed: int
    video_id: str
    """``<action>/<file name without suffix>``."""
    action: str
    group: str
    """The place, shared by videos of all actions; a split never divides it."""
    place: str
    fold: int
    """The split in whose test side the video is; 0 for always training."""
    labels: tuple[int, ...]
    """0 or 1 in the order of the attribute definitions."""
    head: Head
    people: int
    camera_moves: bool
    quality: int
    """Index into the grades: the amount of sensor noise."""

    @property
    def relpath(self) -> str:
        """Where the file goes, relative to the data set's folder."""
        return f"videos/{self.video_id}.avi"

    @property
    def sizes(self) -> Preset:
        """The sizes of this video's preset."""
        return PRESETS[self.preset]

    def part(self, split: int) -> Part:
        """Its side of an official split."""
        return "test" if self.fold == split else "train"


def generator(seed: int, *names: str) -> Rng:
    """The random generator of one purpose, independent of all others and of the order in which they are used."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, *(zlib.crc32(n.encode()) for n in names)]))
    )


def check_request(name: str, preset: str) -> None:
    """Raise a `UserError` for an unknown data set or preset."""
    if name not in NAMES:
        raise unknown_name("embedded benchmark", name, NAMES)
    if preset not in PRESETS:
        raise unknown_name("data preset", preset, PRESETS)


def actions(name: str, preset: str) -> tuple[str, ...]:
    """The action classes, in the order of their indices."""
    return tuple(sorted(ACTIONS[name]))[: PRESETS[preset].actions]


def benchmark(name: str, preset: str = "small") -> Benchmark:
    """An embedded data set as the protocol sees it.

    Raises:
        UserError: no such data set or preset.
    """
    check_request(name, preset)
    return Benchmark(
        name=name,
        title=TITLES[name],
        version=VERSION,
        targets=(
            Target(name="action", kind="multiclass", classes=actions(name, preset)),
            Target(name="privacy", kind="multilabel", classes=tuple(a.name for a in attributes()), private=True),
        ),
        stride=2,
        splits=PRESETS[preset].splits,
        embedded=True,
    )


def counts(name: str, preset: str) -> int:
    """How many videos a preset has.

    Raises:
        UserError: no such data set or preset.
    """
    check_request(name, preset)
    sizes = PRESETS[preset]
    return len(actions(name, preset)) * sizes.groups * sizes.clips


def plan(name: str, preset: str, seed: int) -> tuple[Plan, ...]:
    """All videos of a data set, sorted by id: a pure function of its arguments."""
    sizes = PRESETS[preset]
    slots = [
        (action, group, clip)
        for action in actions(name, preset)
        for group in range(1, sizes.groups + 1)
        for clip in range(1, sizes.clips + 1)
    ]
    folds = np.array([_fold(group, sizes) for _, group, _ in slots])
    labels = labels_by_quota(name, seed, np.array([action for action, _, _ in slots]), folds)
    plans = [
        _video(name, preset, seed, slot, fold, tuple(row))
        for slot, fold, row in zip(slots, folds.tolist(), labels.tolist(), strict=True)
    ]
    return tuple(sorted(plans, key=lambda p: p.video_id))


def _video(name: str, preset: str, seed: int, slot: tuple[str, int, int], fold: int, labels: tuple[int, ...]) -> Plan:
    action, group, clip = slot
    shown = dict(zip((a.name for a in attributes()), labels, strict=True))
    rng = generator(seed, name, "plan", f"{action}/{group}/{clip}")
    hidden: Head = "back" if rng.random() < 0.6 else "helmet"
    head: Head = "face" if shown["face"] else hidden
    people = 2 if rng.random() < BYSTANDER or shown["relationship"] else 1
    camera_moves, quality = bool(rng.random() < 0.5), int(rng.integers(3))
    place = PLACES[group % len(PLACES)]
    if name == "synth-hmdb":
        where = f"Synthetic_{place}_{group:02d}"
        camera, view, grade = "cm" if camera_moves else "nm", "ba" if head == "back" else "fr", GRADES[quality]
        stem = f"{where}_{action}_f_{camera}_np{people}_{view}_{grade}_{clip - 1}"
    else:
        where = f"g{group:02d}"
        stem = f"v_{action}_{where}_c{clip:02d}"
    return Plan(
        dataset=name,
        preset=preset,
        seed=seed,
        video_id=f"{action}/{stem}",
        action=action,
        group=where,
        place=place,
        fold=fold,
        labels=labels,
        head=head,
        people=people,
        camera_moves=camera_moves,
        quality=quality,
    )


def _fold(group: int, sizes: Preset) -> int:
    """Groups 1..n are the test side of split 1, the next n of split 2, and so on; the last ones are always training."""
    fold = (group - 1) // sizes.test_groups + 1
    return fold if fold <= sizes.splits else 0


def labels_by_quota(name: str, seed: int, actions_V: NDArray[np.str_], folds_V: NDArray[np.int64]) -> NDArray[np.int64]:
    """V x 5 labels in {0, 1} by exact quotas per fold. A bare torso shows skin: nudity is drawn among skin_color."""
    columns: dict[str, NDArray[np.int64]] = {}
    for attribute in attributes():
        column = np.zeros(len(actions_V), dtype=np.int64)
        for fold in np.unique(folds_V):
            inside = np.flatnonzero(folds_V == fold)
            able = inside if attribute.name != "nudity" else inside[columns["skin_color"][inside] == 1]
            rank = even_ranks(actions_V[able], generator(seed, name, "labels", attribute.name, str(fold)))
            quota = round(PREVALENCE[attribute.name] * len(inside))
            column[able[np.argsort(rank)[:quota]]] = 1
        columns[attribute.name] = column
    return np.stack(list(columns.values()), axis=1)


def even_ranks(classes: NDArray[np.str_], rng: Rng) -> NDArray[np.float64]:
    """Random ranks in [0, 1) whose smallest k are spread evenly over the classes, for any k."""
    rank = np.empty(len(classes))
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        rank[members] = (rng.permutation(len(members)) + rng.random(len(members))) / len(members)
    return rank


def dealt(quota: Mapping[Card, int], count: int, rng: Rng) -> list[Card]:
    """``count`` cards from shuffled decks that each hold every card as often as its quota says."""
    deck = [card for card, times in quota.items() for _ in range(times)]
    cards: list[Card] = []
    while len(cards) < count:
        cards += [deck[i] for i in rng.permutation(len(deck))]
    return cards[:count]


def youtube_id(rng: Rng) -> str:
    """A name in the form of the 11 characters that YouTube gives a video; it may begin with a hyphen."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(letters[i] for i in rng.integers(len(letters), size=11))
