"""Prepared benchmarks on disk: where they lie, opening one, and whether it is what its index says.

`check` reads every file once. What decoding showed is in the index since the data were prepared, so a file with the
indexed SHA-256 needs no second decoding; only one that differs is decoded, to tell a damaged file from a replaced one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from stp_bench import labels, real, video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import OFFICIAL, Dataset, read_index, same_content
from stp_bench.labels import LabelTable
from stp_bench.schema import Labels, Part, Target, Video

Side = Literal["train", "test", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReport:
    """One side of a split, or all videos."""

    videos: int
    labelled: int
    """Videos with private labels."""
    prevalence: Mapping[str, float | None]
    """Share of positives per private class among labelled videos; None where none is labelled."""
    per_action: Mapping[str, int]
    """Videos per action class; classes without any are listed with 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """An official split."""

    train: SideReport
    test: SideReport
    unused: int
    same_content: tuple[tuple[str, str], ...]
    """Pairs (training video, test video) whose files are equal."""
    shared_groups: tuple[str, ...]
    """Groups (one source video, one set of people) with clips on both sides: identity can leak."""
    test_in_shared_groups: int
    """Test videos of these groups."""
    tested_elsewhere: Mapping[str, tuple[str, ...]]
    """Other benchmark to the training videos that are test videos there, by name or content: they are left out where
    that one is judged."""
    floors: labels.SplitFloors | None
    """What attackers reach who see no pixel; None where actions or attributes are told in tags, or nobody labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check` found. ``problems`` holds one sentence per defect; facts that the data set is known for, such as
    groups on both sides of its official split, are no defects."""

    name: str
    videos: int
    frames: int
    seconds: float
    bytes: int
    all: SideReport
    splits: Mapping[int, SplitReport]
    stated_prevalence: Mapping[str, float]
    """What the label release states; empty where it states nothing."""
    label_release: str
    as_published: bool | None
    """Whether the labels are those of the release, by its digest; None for embedded data, which have none."""
    labels: labels.Statistics
    """Counts, co-occurrence and chance of the labels."""
    same_content: tuple[tuple[str, ...], ...]
    """Videos whose files are equal, byte for byte."""
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    """Readable files that are not the indexed ones."""
    unreadable: Mapping[str, str]
    """Video id to reason."""
    problems: tuple[str, ...]


def folder(home: Path, name: str, preset: str, seed: int) -> Path:
    """Where the data home keeps an embedded benchmark."""
    return home / "data" / name / f"{preset}-seed{seed}"


def prepared_folder(home: Path, name: str) -> Path:
    """Where the data home keeps the index of a real data set."""
    return home / "data" / name / "prepared"


def prepared_names(home: Path) -> tuple[str, ...]:
    """Names under which the data home has the index of a real data set, sorted."""
    return tuple(sorted(path.parents[1].name for path in (home / "data").glob("*/prepared/index.json")))


def open_dataset(folder: Path, lists: str = OFFICIAL) -> Dataset:
    """Open a prepared benchmark with the splits of some lists.

    Raises:
        UserError: the folder is missing, not (or not completely) prepared, or without videos or such lists.
        WorkError: its index is damaged.
    """
    if not (folder / "index.json").exists():
        why = "it was not finished" if folder.exists() else "there is no such folder"
        mend = "make it with 'stp-bench data synth', or 'stp-bench data prepare' for real data"
        raise UserError(f"no prepared benchmark in {folder}", why, mend)
    try:
        dataset = read_index(folder, lists)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        why = f"it cannot be understood ({type(error).__name__}: {error})"
        raise WorkError(f"the index in {folder} is damaged", why, "make the data again") from error
    if not dataset.videos:
        raise UserError(
            f"the benchmark in {folder} is empty", "it has no videos", "prepare it from a folder with videos"
        )
    if not dataset.videos_root.is_dir():
        name = dataset.name
        again = f"stp-bench data prepare {name} --videos DIR{'' if name in real.NAMES else ' --own --labels FILE'}"
        raise UserError(
            f"the videos of {name} are not where they were",
            f"there is no folder {dataset.videos_root}",
            f"put them back, or say where they are by '{again}'",
        )
    return dataset


def check(
    dataset: Dataset, *, others: Sequence[Dataset] = (), progress: Callable[[int, int], None] | None = None
) -> Report:
    """Compare a prepared benchmark with its own index, splits and label release.

    Args:
        dataset: what to check.
        others: benchmarks whose test videos may be among its training videos.
        progress: called as ``progress(done, total)`` with numbers of videos.
    """
    missing, changed, unreadable = [], [], {}
    for done, video in enumerate(dataset.videos, start=1):
        path = dataset.path(video)
        if not path.is_file():
            missing.append(video.video_id)
        else:
            try:
                if sha256_file(path) != dataset.facts[video.video_id][1]:
                    video_io.probe(path)
                    changed.append(video.video_id)
            except WorkError as error:
                unreadable[video.video_id] = error.why
            except OSError as error:
                unreadable[video.video_id] = (error.strerror or str(error)).lower()
        if progress is not None:
            progress(done, len(dataset.videos))
    splits = {number: _split_report(dataset, side, others) for number, side in dataset.parts.items()}
    everything = _side_report(dataset, dataset.videos)
    stated = _stated_prevalence(dataset)
    found = {
        "missing": missing,
        "changed since they were prepared": changed,
        "unreadable": list(unreadable),
        "without private labels": _unlabelled(dataset),
    }
    problems = [f"{_some(ids)} {what}" for what, ids in found.items() if ids]
    for number, split in splits.items():
        if split.same_content:
            problems.append(
                f"split {number}: {_some([b for _, b in split.same_content])} also in training under another name"
            )
        problems += [
            f"split {number}: no {part} videos" for part in ("train", "test") if not getattr(split, part).videos
        ]
    problems += [
        f"prevalence of {name} is {everything.prevalence[name]:.3f}, its release states {value:.3f}"
        for name, value in (stated.items() if _complete(dataset) else ())
        if (measured := everything.prevalence[name]) is not None and abs(measured - value) >= 0.0005
    ]
    return Report(
        name=dataset.benchmark.name,
        videos=len(dataset.videos),
        frames=sum(v.frames for v in dataset.videos),
        seconds=sum(v.frames / v.fps for v in dataset.videos if v.fps > 0),
        bytes=sum(size for size, _ in dataset.facts.values()),
        all=everything,
        splits=splits,
        stated_prevalence=stated,
        label_release=str(dataset.manifest.get("label_release") or ""),
        as_published=None if dataset.benchmark.embedded else dataset.manifest.get("labels_verified"),
        labels=_statistics(dataset),
        same_content=same_content(dataset.facts),
        missing=tuple(missing),
        changed=tuple(changed),
        unreadable=unreadable,
        problems=tuple(problems),
    )


def prevalence(videos: Sequence[Video], target: Target) -> dict[str, float | None]:
    """Share of positives per class of a multilabel target among labelled videos; None where none is labelled."""
    labelled, positives = (np.zeros(len(target.classes), dtype=np.int64) for _ in range(2))
    for video in videos:  # one by one: all rows of a target of thousands of tags would fill the memory
        if (found := video.labels.get(target.name)) is not None:
            row = np.asarray(found)
            labelled += row >= 0
            positives += row == 1
    counts = zip(target.classes, positives.tolist(), labelled.tolist(), strict=True)
    return {name: yes / known if known else None for name, yes, known in counts}


def _side_report(dataset: Dataset, videos: Sequence[Video]) -> SideReport:
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    counts: Counter[int] = Counter()
    for video in videos:
        found = video.labels.get(action.name)
        if found is not None:
            counts.update(found if action.kind == "multiclass" else np.flatnonzero(np.asarray(found) == 1).tolist())
    return SideReport(
        videos=len(videos),
        labelled=sum(v.labels.get(privacy.name) is not None for v in videos),
        prevalence=prevalence(videos, privacy),
        per_action={name: counts[number] for number, name in enumerate(action.classes)},
    )


def _split_report(dataset: Dataset, parts: Mapping[str, Part], others: Sequence[Dataset]) -> SplitReport:
    sides = {part: [v for v in dataset.videos if parts.get(v.video_id) == part] for part in ("train", "test")}
    train, test = sides["train"], sides["test"]
    trained = {dataset.facts[v.video_id][1]: v.video_id for v in train}
    pairs = ((trained.get(dataset.facts[v.video_id][1]), v.video_id) for v in test)
    shared = {v.group for v in train} & {v.group for v in test} - {None}
    return SplitReport(
        train=_side_report(dataset, train),
        test=_side_report(dataset, test),
        unused=len(dataset.videos) - len(train) - len(test),
        same_content=tuple((a, b) for a, b in pairs if a is not None),
        shared_groups=tuple(sorted(g for g in shared if g is not None)),
        test_in_shared_groups=sum(v.group in shared for v in test),
        tested_elsewhere={other.benchmark.name: found for other in others if (found := _tested(dataset, train, other))},
        floors=_floors(dataset, parts),
    )


def _tested(dataset: Dataset, train: Sequence[Video], other: Dataset) -> tuple[str, ...]:
    """The training videos that some split of another benchmark tests."""
    ids = {video_id for side in other.parts.values() for video_id, part in side.items() if part == "test"}
    contents = {other.facts[video_id][1] for video_id in ids}
    return tuple(v.video_id for v in train if v.video_id in ids or dataset.facts[v.video_id][1] in contents)


def _floors(dataset: Dataset, parts: Mapping[str, Part]) -> labels.SplitFloors | None:
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    if action.kind != "multiclass" or privacy.groups:
        return None
    actions: dict[str, str] = {}
    rows: dict[str, Mapping[str, Labels | None]] = {}
    for video in dataset.videos:
        number, found = video.labels.get(action.name), video.labels.get(privacy.name)
        if number is not None and found is not None and video.video_id in parts:
            actions[video.video_id] = action.classes[number[0]]
            rows[video.video_id] = {privacy.name: found}
    sides = {i: parts[i] for i in rows}
    if set(sides.values()) != {"train", "test"}:
        return None
    table = LabelTable(release=dataset.name, targets=(privacy,), rows=rows)
    return labels.split_floors(table, {1: sides}, actions)[1]


def _statistics(dataset: Dataset) -> labels.Statistics:
    privacy = dataset.benchmark.privacy
    return labels.statistics(
        LabelTable(
            release=str(dataset.manifest.get("label_release") or dataset.name),
            targets=(privacy,),
            rows={v.video_id: {privacy.name: v.labels.get(privacy.name)} for v in dataset.videos},
            spans={v.video_id: v.spans[privacy.name] for v in dataset.videos if v.spans.get(privacy.name)},
            manifest={"prevalence": _stated_prevalence(dataset)},
        )
    )


def _complete(dataset: Dataset) -> bool:
    """Whether every labelled video is in the index, so that the release's figures must come out."""
    counts = dataset.manifest.get("counts") or {}
    return not any(counts.get(what) for what in ("missing", "unreadable"))


def _stated_prevalence(dataset: Dataset) -> dict[str, float]:
    stated = dataset.manifest.get("prevalence")
    names = dataset.benchmark.privacy.classes
    return {n: float(stated[n]) for n in names if n in stated} if isinstance(stated, Mapping) else {}


def _unlabelled(dataset: Dataset) -> list[str]:
    name = dataset.benchmark.privacy.name
    return [v.video_id for v in dataset.videos if v.labels.get(name) is None]


def _some(ids: Sequence[str]) -> str:
    """``3 videos (a, b, c)``, with at most the first five ids."""
    more = ", ..." if len(ids) > 5 else ""
    return f"{len(ids)} video{'s' if len(ids) != 1 else ''} ({', '.join(ids[:5])}{more})"
