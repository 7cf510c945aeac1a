"""The numbers of a data set's card, counted from its index; no video is read.

A *side* is ``all`` videos, or ``split N train`` or ``split N test``. Cards count per unit: a target with labels of
frames is there twice, by frame and by video.

Axes as in `stp_bench.metrics`: K classes.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stp_bench import floors, labels, metrics
from stp_bench.card._sources import Source, source_of
from stp_bench.index import Dataset
from stp_bench.labels import LabelTable, SplitFloors
from stp_bench.metrics import Floats
from stp_bench.schema import Labels, Part, Target, Unit, Video

ALL = "all"
FEW = 5
"""Positives below which a class's score says little."""
_WIDE = 64
"""Targets of more classes have no floors that know the action: their tables would be too large."""


def side_name(split: int, part: Part) -> str:
    """The name of one side of a split in a card."""
    return f"split {split} {part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """One class of a target, by side."""

    name: str
    group: str | None
    """Of a target whose classes are scored in groups."""
    stated: float | None
    """Share of videos that the label release states, where it does and these are its labels."""
    labelled: Mapping[str, int]
    positives: Mapping[str, int]
    share: Mapping[str, float | None]
    """Positives among labelled units; None where none is labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCount:
    """A target, counted by video or by frame."""

    target: str
    kind: Literal["multiclass", "multilabel"]
    private: bool
    unit: Unit
    units: Mapping[str, int]
    """Labelled units by side."""
    classes: tuple[ClassCount, ...]

    def by_group(self) -> dict[str, tuple[ClassCount, ...]]:
        """Its classes by group; all under the target's own name where it has no groups."""
        found: dict[str, list[ClassCount]] = {}
        for one in self.classes:
            found.setdefault(one.group or self.target, []).append(one)
        return {name: tuple(of) for name, of in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One split: its sides, what both of them hold, and what is reached on it without a pixel."""

    train: int
    test: int
    unused: int
    shared_groups: int
    """Groups (one film, one source video) with clips on both sides: identity can leak."""
    test_in_shared_groups: int
    same_content: int
    """Test videos whose file is also a training video's."""
    tested_elsewhere: Mapping[str, int]
    """Other benchmark to how many training videos are test videos there."""
    floors: Mapping[str, Mapping[str, float | None]]
    """Target, ``<target> by frame`` or group of classes to name to value; names as in results, top-1 and cMAP in
    percent."""
    attribute_floors: SplitFloors | None
    """The same per attribute; None where the private target is told in tags, or actions are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """Where the labels come from."""

    release: str
    verified: bool | None
    """Whether they are the published ones; None where nobody published any."""
    columns: tuple[str, ...]
    columns_known: str
    """How their order is known; empty where there is none to know."""
    sha256: str | None
    left_out: Mapping[str, int]
    """Why labels of the release were left out, and how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A data set in numbers and facts: everything that the page, the pictures and the metadata say."""

    name: str
    title: str
    version: int
    embedded: bool
    drawn_from: Mapping[str, Any]
    """Preset and seed of embedded data."""
    stride: int
    videos: int
    frames: int
    seconds: float
    bytes: int
    length: tuple[int, int, int]
    """Frames of the shortest, the median and the longest video."""
    smallest: tuple[int, int]
    """Height and width of the smallest picture; ``largest`` likewise."""
    largest: tuple[int, int]
    fps: tuple[float, float]
    index_sha256: str
    index_bytes: int
    known: int | None
    """Videos that lists or labels name, where that is known."""
    same_content: int
    """Videos whose file is also that of another one."""
    targets: tuple[TargetCount, ...]
    splits: Mapping[int, Split]
    labels: LabelFacts
    source: Source
    limits: tuple[str, ...]

    @property
    def action(self) -> TargetCount:
        """The target whose recognition must survive."""
        return next(t for t in self.targets if not t.private)

    @property
    def privacy(self) -> tuple[TargetCount, ...]:
        """The target that should become hard to recognize: by frame first, where frames are labelled."""
        return tuple(t for t in self.targets if t.private)

    @property
    def first_sides(self) -> tuple[str, ...]:
        """All videos, and the sides of the first split: what tables and pictures show."""
        first = min(self.splits)
        return (ALL, side_name(first, "train"), side_name(first, "test"))


def describe(dataset: Dataset, *, others: Sequence[Dataset] = ()) -> Card:
    """Count a prepared benchmark.

    Args:
        dataset: what to describe, with the splits of some lists.
        others: benchmarks whose test videos may be among its training videos.
    """
    videos, manifest = dataset.videos, dataset.manifest
    sides: dict[str, list[Video]] = {ALL: list(videos)}
    for number, parts in dataset.parts.items():
        for part in ("train", "test"):
            sides[side_name(number, part)] = [v for v in videos if parts.get(v.video_id) == part]
    targets = tuple(_count_targets(dataset, sides))
    splits = {number: _split(dataset, number, sides, targets, others) for number in dataset.parts}
    sizes = [(v.height, v.width) for v in videos]
    lengths = sorted(v.frames for v in videos)
    counts = manifest.get("counts") or {}
    about = manifest.get("labels") or {}
    contents = [dataset.facts[v.video_id][1] for v in videos]
    card = Card(
        name=dataset.benchmark.name,
        title=dataset.benchmark.title,
        version=dataset.benchmark.version,
        embedded=dataset.benchmark.embedded,
        drawn_from=dict(manifest.get("data") or {}),
        stride=dataset.benchmark.stride,
        videos=len(videos),
        frames=sum(lengths),
        seconds=sum(v.frames / v.fps for v in videos if v.fps > 0),
        bytes=sum(size for size, _ in dataset.facts.values()),
        length=(lengths[0], int(statistics.median_low(lengths)), lengths[-1]),
        smallest=min(sizes, key=lambda size: size[0] * size[1]),
        largest=max(sizes, key=lambda size: size[0] * size[1]),
        fps=(min(v.fps for v in videos), max(v.fps for v in videos)),
        index_sha256=str(manifest["index_sha256"]),
        index_bytes=(dataset.root / "index.parquet").stat().st_size,
        known=counts.get("known"),
        same_content=len(contents) - len(set(contents)),
        targets=targets,
        splits=splits,
        labels=LabelFacts(
            release=str(manifest.get("label_release") or ""),
            verified=None if dataset.benchmark.embedded else manifest.get("labels_verified"),
            columns=tuple(about.get("columns") or ()),
            columns_known=str(about.get("columns_known") or ""),
            sha256=manifest.get("labels_sha256"),
            left_out=dict(about.get("left_out") or {}),
        ),
        source=source_of(dataset),
        limits=(),
    )
    return dataclasses.replace(card, limits=tuple(_limits(card)))


def _count_targets(dataset: Dataset, sides: Mapping[str, Sequence[Video]]) -> Iterator[TargetCount]:
    for target in dataset.benchmark.targets:
        if any(v.spans.get(target.name) for v in dataset.videos):
            frames = {name: _count(_frames(of, target), target) for name, of in sides.items()}
            yield _target_count(target, "frame", frames, {})
        videos = {name: _count(_videos(of, target), target) for name, of in sides.items()}
        yield _target_count(target, "video", videos, dataset.manifest.get("prevalence") or {})


def _videos(videos: Iterable[Video], target: Target) -> Iterator[tuple[Labels, int]]:
    return ((found, 1) for v in videos if (found := v.labels.get(target.name)) is not None)


def _frames(videos: Iterable[Video], target: Target) -> Iterator[tuple[Labels, int]]:
    return ((s.labels, s.end - s.start + 1) for v in videos for s in v.spans.get(target.name, ()))


@dataclass(frozen=True, slots=True)
class _Counted:
    units: int
    labelled_K: NDArray[np.int64]
    positives_K: NDArray[np.int64]


def _count(units: Iterable[tuple[Labels, int]], target: Target) -> _Counted:
    """Labelled and positive units per class. One by one: all rows of thousands of tags would fill the memory."""
    labelled, positives = (np.zeros(len(target.classes), dtype=np.int64) for _ in range(2))
    total = 0
    for found, weight in units:
        total += weight
        if target.kind == "multiclass":
            labelled += weight
            positives[found[0]] += weight
        else:
            row = np.asarray(found)
            labelled += weight * (row >= 0)
            positives += weight * (row == 1)
    return _Counted(total, labelled, positives)


def _target_count(
    target: Target, unit: Unit, sides: Mapping[str, _Counted], stated: Mapping[str, float]
) -> TargetCount:
    groups: list[str | None] = [name for name, size in target.groups for _ in range(size)]
    groups = groups or [None] * len(target.classes)
    labelled = {side: of.labelled_K.tolist() for side, of in sides.items()}
    positives = {side: of.positives_K.tolist() for side, of in sides.items()}
    return TargetCount(
        target=target.name,
        kind=target.kind,
        private=target.private,
        unit=unit,
        units={side: of.units for side, of in sides.items()},
        classes=tuple(
            ClassCount(
                name=name,
                group=groups[k],
                stated=stated.get(name),
                labelled={side: of[k] for side, of in labelled.items()},
                positives={side: of[k] for side, of in positives.items()},
                share={side: positives[side][k] / of[k] if of[k] else None for side, of in labelled.items()},
            )
            for k, name in enumerate(target.classes)
        ),
    )


def _split(
    dataset: Dataset,
    number: int,
    sides: Mapping[str, Sequence[Video]],
    targets: Sequence[TargetCount],
    others: Sequence[Dataset],
) -> Split:
    train, test = (sides[side_name(number, part)] for part in ("train", "test"))
    shared = {v.group for v in train} & {v.group for v in test} - {None}
    trained = {dataset.facts[v.video_id][1] for v in train}
    attributes = _attribute_floors(dataset, number)
    return Split(
        train=len(train),
        test=len(test),
        unused=len(dataset.videos) - len(train) - len(test),
        shared_groups=len(shared),
        test_in_shared_groups=sum(v.group in shared for v in test),
        same_content=sum(dataset.facts[v.video_id][1] in trained for v in test),
        tested_elsewhere={other.benchmark.name: n for other in others if (n := _tested(dataset, train, other))},
        floors=_floors(targets, side_name(number, "test"), attributes),
        attribute_floors=attributes,
    )


def _tested(dataset: Dataset, train: Sequence[Video], other: Dataset) -> int:
    """How many training videos some split of another benchmark tests, by name or content."""
    ids = {video_id for side in other.parts.values() for video_id, part in side.items() if part == "test"}
    contents = {other.facts[video_id][1] for video_id in ids}
    return sum(v.video_id in ids or dataset.facts[v.video_id][1] in contents for v in train)


def _attribute_floors(dataset: Dataset, number: int) -> SplitFloors | None:
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    if action.kind != "multiclass" or len(privacy.classes) > _WIDE or privacy.groups:
        return None
    parts = dataset.parts[number]
    actions: dict[str, str] = {}
    rows: dict[str, Mapping[str, Labels | None]] = {}
    for v in dataset.videos:
        shown, found = v.labels.get(action.name), v.labels.get(privacy.name)
        if shown is not None and found is not None and v.video_id in parts:
            actions[v.video_id], rows[v.video_id] = action.classes[shown[0]], {privacy.name: found}
    used = {video_id: parts[video_id] for video_id in rows}
    if set(used.values()) != {"train", "test"}:
        return None
    table = LabelTable(release=dataset.name, targets=(privacy,), rows=rows)
    return labels.split_floors(table, {number: used}, actions)[number]


def _floors(
    targets: Sequence[TargetCount], test: str, attributes: SplitFloors | None
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for of in targets:
        if of.kind == "multiclass":
            most = max(c.positives[test] for c in of.classes)
            majority = 100 * most / of.units[test] if of.units[test] else None
            found[of.target] = {"top1_chance": floors.top1_chance(len(of.classes)), "top1_majority": majority}
            continue
        for name, classes in of.by_group().items():
            share = np.array([np.nan if (p := c.share[test]) is None else p for c in classes])
            found[f"{name} by frame" if of.unit == "frame" else name] = _constant_answers(share)
        if of.private and of.unit == "video" and attributes is not None:
            macro = {name: values["macro"] for name, values in attributes.values.items()}
            found[of.target] |= {
                "cmap_action_only": macro["ap_action_only"],
                "cmap_class_oracle": macro["ap_class_oracle"],
                "f1_action_only": macro["f1_action_only"],
                "f1_action_only_tuned": macro["f1_action_only_tuned"],
            }
    return found


def _constant_answers(share_K: Floats) -> dict[str, float | None]:
    """What is reached by answers that are the same for every unit; a class without a positive has no score."""
    values = {
        "cmap_prevalence": 100 * metrics.macro(np.where(share_K > 0, share_K, np.nan)),
        "f1_all_positive": metrics.macro(floors.f1_all_positive(share_K)),
        "f1_majority": metrics.macro(floors.f1_majority(share_K)),
    }
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}


def _limits(card: Card) -> Iterator[str]:
    """What a reader should know before drawing conclusions, as far as the numbers tell it."""
    if card.embedded:
        yield "The videos are drawn by a program: use them to develop, test and compare; they say nothing about people."
    if card.known is not None and card.videos < card.known:
        share = 100 * card.videos / card.known
        yield f"{card.videos:,} of {card.known:,} videos are here ({share:.1f} %): scores are not those of the whole."
    if card.labels.verified is False:
        yield "The labels are not the published ones, or were changed."
    if card.labels.columns_known == "inferred":
        yield (
            "The label file does not name its columns; what they mean is inferred. Scores of single attributes depend "
            "on it, means over attributes do not."
        )
    first = min(card.splits)
    split, test = card.splits[first], side_name(first, "test")
    if split.shared_groups:
        share = 100 * split.test_in_shared_groups / max(split.test, 1)
        yield (
            f"Identity can leak: {split.test_in_shared_groups:,} test videos of split {first} ({share:.0f} %) share "
            "their source with training videos."
        )
    if card.same_content:
        yield f"{card.same_content:,} videos are byte for byte another one again."
    majority = split.floors.get(card.action.target, {}).get("top1_majority")
    if majority is not None and majority >= 40:
        most = max(card.action.classes, key=lambda c: c.positives[test]).name
        yield f"Always answering {most!r} is right for {majority:.1f} % of the test videos: read balanced accuracy too."
    for of in card.targets:
        rare = sum(c.positives[test] < FEW for c in of.classes)
        if rare:
            yield (
                f"{rare:,} of {len(of.classes):,} classes of {of.target} have fewer than {FEW} positive {of.unit}s in "
                f"the test side of split {first}: their own scores say little."
            )
    if not card.embedded:
        yield (
            "The videos show real people. The contact sheet shows frames of them: publish it only as far as the terms "
            "above allow."
        )
