"""Whether two tables speak of a benchmark's own videos: which were tested, what they show, how often it was taught.

Predictions prove the figures of a record, but not that their labels are true: those are the index's to say, where the
data home has it. Thresholds tuned in training (``f1_tuned``) follow from scores that nobody submits and stay unproved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stp_bench import catalogue
from stp_bench.config import PRESETS
from stp_bench.errors import BenchError
from stp_bench.floors import training_counts
from stp_bench.index import Dataset
from stp_bench.metrics import UNLABELLED
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.schema import SplitRef, Target, Video

PROTOCOLS = ("known", "unseen", "frame")
"""Those whose attackers are known to be trained and tested on the sides of one split of the judged benchmark."""

Finding = tuple[str, str]
"""A field, and what is wrong with it."""


class NotThere(Exception):
    """The data home cannot tell; the message says why."""


def compare(
    result: Result, predictions: Predictions, reference: Reference, home: Path
) -> tuple[list[Finding], list[str]]:
    """What of a result's two tables contradicts the benchmark's index, and what could not be compared.

    Raises:
        NotThere: the data home has no index of the benchmark, or the protocol is not one of ours.
    """
    if result.protocol not in PROTOCOLS:
        raise NotThere(f"protocol {result.protocol} is not one of {', '.join(PROTOCOLS)}")
    embedded_preset, seed = result.data["preset"] or "", result.data["seed"] or 0
    if result.data["preset"] is not None and (embedded_preset not in PRESETS or seed < 0):
        return [("data", f"is {dict(result.data)!r:.80}, which no embedded data are made with")], []
    dataset = _open(result.on, embedded_preset, seed, home)
    notes = []
    if result.provenance["index_sha256"] != dataset.manifest["index_sha256"]:
        notes.append("the index is another file than the record's (its videos may be encoded anew)")
    if result.skipped["unreadable"]:
        notes.append(f"{result.skipped['unreadable']} videos were left out as unreadable: counts may be lower by these")
    findings = [*_label_release(result, dataset), *_classes(dataset, reference)]
    if not findings:
        findings = [*_tested(result, dataset, predictions), *_taught(result, dataset, reference)]
    return findings, notes


@lru_cache(maxsize=2)
def _open(name: str, preset: str, seed: int, home: Path) -> Dataset:
    try:
        return catalogue.prepared(name, preset=preset, seed=seed, home=home)
    except BenchError as error:
        raise NotThere(f"{error.what}; {error.mend}") from error


def _label_release(result: Result, dataset: Dataset) -> Iterator[Finding]:
    recorded, known = result.provenance["label_release"], dataset.manifest.get("label_release", "")
    if recorded != known:
        yield "provenance.label_release", f"is {recorded!r:.80} in the record but {known!r} in the index"


def _classes(dataset: Dataset, reference: Reference) -> Iterator[Finding]:
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    for field, recorded, known in (
        ("action", reference.actions, action.classes),
        ("attribute", reference.attributes, privacy.classes),
        ("attribute_group", reference.groups, privacy.groups),
    ):
        if recorded != known:
            yield field, f"of the reference does not list the {len(known)} that {dataset.benchmark.name} has"


def _tested(result: Result, dataset: Dataset, predictions: Predictions) -> Iterator[Finding]:
    """Units, groups, actions and labels of the test side, the first difference of each kind."""
    side = _side(result, dataset, "test")
    benchmark = dataset.benchmark
    known = {unit: (video, labels) for unit, video, labels in _units(result, dataset, side)}
    table = predictions.units
    units = list(zip(table["video_id"].to_pylist(), table["frame"].to_pylist()))
    where = f"test side of split {result.split} of {benchmark.name}"
    if foreign := [unit for unit in units if unit not in known]:
        yield "video_id", f"names {_named(foreign[0])}, which is not on the {where}"
        return
    there = set(units)
    absent = [unit for unit in known if unit not in there]
    if len({video for video, _ in absent}) > result.skipped["unreadable"]:
        yield "video_id", f"lacks {_named(absent[0])} of the {where} ({len(absent)} missing)"
        return
    groups = table["group"].to_pylist()
    actions = None if predictions.several_actions else table["action"].to_pylist()
    faults: dict[str, str] = {}
    for i, unit in enumerate(units):
        video, labels = known[unit]
        if groups[i] != video.group:
            faults.setdefault("group", f"of {_named(unit)} is not {video.group!r}, as the index says")
        own = video.labels[benchmark.action.name] or (UNLABELLED,)
        if actions is None:
            if not np.array_equal(predictions.actions_VC[i], np.asarray(own, np.int8)):
                faults.setdefault("label_action", f"of {_named(unit)} differs from the index")
        elif actions[i] != benchmark.action.classes[own[0]]:
            faults.setdefault(
                "action", f"of {_named(unit)} is {actions[i]!r}, not {benchmark.action.classes[own[0]]!r} of the index"
            )
        for k in np.flatnonzero(predictions.labels_VK[i] != labels)[:1].tolist():
            field = "label_privacy" if predictions.tags else f"label_{predictions.attributes[k]}"
            faults.setdefault(
                field,
                f"of {_named(unit)} is {_label(predictions.labels_VK[i][k])}, by the index {_label(labels[k])}",
            )
    yield from faults.items()


def _taught(result: Result, dataset: Dataset, reference: Reference) -> Iterator[Finding]:
    """Training counts. Training videos that are test videos, by name or content, taught nothing."""
    benchmark = dataset.benchmark
    tested = _side(result, dataset, "test")
    ids, contents = {v.video_id for v in tested}, {dataset.facts[v.video_id][1] for v in tested}
    side = [
        v for v in _side(result, dataset, "train")
        if v.video_id not in ids and dataset.facts[v.video_id][1] not in contents
    ]  # fmt: skip
    rows = list(_units(result, dataset, side))
    if not rows:
        return
    action: NDArray[Any]
    if benchmark.action.kind == "multiclass":
        action = np.array([(v.labels[benchmark.action.name] or (UNLABELLED,))[0] for _, v, _ in rows])
    else:
        action = np.array([v.labels[benchmark.action.name] for _, v, _ in rows], dtype=np.int8)
    labelled, positives = training_counts(
        action, np.stack([labels for *_, labels in rows]), len(benchmark.action.classes)
    )
    lenient = result.skipped["unreadable"] > 0
    for field, recorded, known in (
        ("n", reference.labelled_CK, labelled),
        ("positives", reference.positives_CK, positives),
    ):
        wrong = recorded > known if lenient else recorded != known
        if wrong.any():
            c, k = np.argwhere(wrong)[0].tolist()
            cell = f"{reference.actions[c]}, {reference.attributes[k]}"
            yield field, f"of the reference is {recorded[c, k]} for {cell}, not {known[c, k]} as by the index"


def _side(result: Result, dataset: Dataset, part: Any) -> tuple[Video, ...]:
    try:
        return dataset.split(SplitRef(benchmark=result.on, part=part, split=result.split))
    except BenchError as error:
        raise NotThere(f"{error.what}, {error.why}") from error


def _units(
    result: Result, dataset: Dataset, videos: Sequence[Video]
) -> Iterator[tuple[tuple[str, int | None], Video, NDArray[np.int8]]]:
    """What is scored of some videos, with its labels (K,): each whole, or those of its sampled frames that somebody
    labelled."""
    privacy = dataset.benchmark.privacy
    for video in videos:
        if result.protocol == "frame":
            labels_FK = _frame_labels(video, privacy)
            for frame in range(0, video.frames, dataset.benchmark.stride):
                if (labels_FK[frame] != UNLABELLED).any():
                    yield (video.video_id, frame), video, labels_FK[frame]
        else:
            known = video.labels[privacy.name]
            labels = np.full(len(privacy.classes), UNLABELLED, np.int8) if known is None else np.asarray(known, np.int8)
            yield (video.video_id, None), video, labels


def _frame_labels(video: Video, privacy: Target) -> NDArray[np.int8]:
    """Labels of all frames of a video, (F, K)."""
    labels_FK = np.full((video.frames, len(privacy.classes)), UNLABELLED, np.int8)
    for span in video.spans.get(privacy.name, ()):
        labels_FK[span.start : span.end + 1] = span.labels
    return labels_FK


def _named(unit: tuple[str, int | None]) -> str:
    video, frame = unit
    return f"{video!r:.120}" if frame is None else f"frame {frame} of {video!r:.120}"


def _label(value: int) -> str:
    return "unlabelled" if value == UNLABELLED else str(int(value))
