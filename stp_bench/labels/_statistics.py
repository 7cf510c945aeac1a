"""What a label table holds, and what can be reached on it without a pixel.

Axes as in `stp_bench.metrics`: V units (videos, or runs of frames that count by their length), K classes.
Units of measure too: AP, cMAP, AUROC and top-1 in percent, F1, shares and phi as decimals.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stp_bench import floors, metrics
from stp_bench.errors import UserError
from stp_bench.labels._csv import is_wide
from stp_bench.labels._table import LabelTable
from stp_bench.metrics import Floats, Ints
from stp_bench.schema import Labels, Part, Target

_SIDES: tuple[Part, ...] = ("train", "test")
FEW = 5
"""Positives below which a class's score says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """One class among some units."""

    name: str
    labelled: int
    positives: int
    share: float | None
    """Positives among labelled units; None where there are none."""
    published: float | None
    """The share that the release's authors state of its videos, where they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """A group of many tags on one side of the release's split, or on both (``side`` None)."""

    name: str
    side: Part | None
    videos: int
    tags: int
    present: int
    """Tags with a positive: the others have no score."""
    usable: int
    """Tags with at least `FEW` positives."""
    per_video: float
    """Tags of a video, on average."""
    cmap_chance: float | None
    f1_all_positive: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatistics:
    """One target among all videos, or among all labelled frames. What its kind does not have is empty."""

    target: str
    kind: Literal["multiclass", "multilabel", "tags"]
    unit: Literal["video", "frame"]
    units: int
    classes: tuple[ClassCount, ...] = ()
    together: tuple[tuple[int, ...], ...] = ()
    """Units that show both of two classes, (K, K)."""
    phi: tuple[tuple[float | None, ...], ...] = ()
    """Correlation of two classes among the units labelled for both, (K, K); None where one never varies."""
    patterns: Mapping[str, int] = field(default_factory=dict)
    """Labels of fully labelled units as a word of 0 and 1 in the order of classes, to their number; most frequent
    first."""
    groups: tuple[GroupCount, ...] = ()
    floors: Mapping[str, float | None] = field(default_factory=dict)
    """By name as in a result: what constant answers reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A label table in numbers."""

    release: str
    videos: int
    sides: Mapping[str, int]
    """Videos of each side, where the release is split."""
    sources: int | None
    """How many sources the videos are cut from, where the release names them."""
    targets: tuple[TargetStatistics, ...]
    """Per target; the private one of a frame-level table twice, by video and by frame."""


def statistics(table: LabelTable) -> Statistics:
    """Count a table."""
    found: list[TargetStatistics] = []
    for target in table.targets:
        if is_wide(target):
            found.append(_tags(table, target))
            continue
        rows = [labels for row in table.rows.values() if (labels := row.get(target.name)) is not None]
        if target.kind == "multiclass":
            found.append(_multiclass(table, target, rows))
        else:
            found.append(_multilabel(table, target, "video", rows, [1] * len(rows)))
        if table.spans and target.private:
            spans = [span for of in table.spans.values() for span in of]
            lengths = [span.end - span.start + 1 for span in spans]
            found.append(_multilabel(table, target, "frame", [span.labels for span in spans], lengths))
    return Statistics(
        release=table.release,
        videos=len(table.rows),
        sides=dict(Counter(table.parts.values())),
        sources=len(set(table.groups.values())) if table.groups else None,
        targets=tuple(found),
    )


def _multiclass(table: LabelTable, target: Target, rows: Sequence[Labels]) -> TargetStatistics:
    counts = Counter(row[0] for row in rows)
    published = table.manifest.get("prevalence", {})
    return TargetStatistics(
        target=target.name,
        kind="multiclass",
        unit="video",
        units=len(rows),
        classes=tuple(
            ClassCount(
                name=name,
                labelled=len(rows),
                positives=counts[i],
                share=counts[i] / len(rows) if rows else None,
                published=published.get(name),
            )
            for i, name in enumerate(target.classes)
        ),
        floors={
            "top1_chance": floors.top1_chance(len(target.classes)),
            "top1_majority": floors.top1_majority(np.array([row[0] for row in rows])) if rows else None,
        },
    )


def _multilabel(
    table: LabelTable,
    target: Target,
    unit: Literal["video", "frame"],
    rows: Sequence[Labels],
    weights: Sequence[int],
) -> TargetStatistics:
    labels_VK = np.array(rows, dtype=np.int64).reshape(len(rows), len(target.classes))
    weight_V = np.array(weights, dtype=np.int64)
    yes, known = (labels_VK == 1) * weight_V[:, None], (labels_VK >= 0) * weight_V[:, None]
    positives_K, labelled_K = yes.sum(axis=0), known.sum(axis=0)
    share_K = np.divide(positives_K, labelled_K, out=np.full(len(positives_K), np.nan), where=labelled_K > 0)
    published = table.manifest.get("prevalence", {}) if unit == "video" else {}
    patterns: Counter[str] = Counter()
    for row, weight in zip(rows, weights, strict=True):
        if min(row) >= 0:
            patterns["".join(map(str, row))] += weight
    return TargetStatistics(
        target=target.name,
        kind="multilabel",
        unit=unit,
        units=int(weight_V.sum()),
        classes=tuple(
            ClassCount(
                name=name,
                labelled=int(labelled_K[k]),
                positives=int(positives_K[k]),
                share=_defined(share_K[k]),
                published=published.get(name),
            )
            for k, name in enumerate(target.classes)
        ),
        together=tuple(map(tuple, (yes.T @ (labels_VK == 1)).tolist())),
        phi=tuple(tuple(map(_defined, row)) for row in _phi(labels_VK, labels_VK, weight_V)),
        patterns=dict(sorted(patterns.items(), key=lambda one: (-one[1], one[0]))),
        floors=_constant_answers(share_K),
    )


def _constant_answers(share_K: Floats) -> dict[str, float | None]:
    """What constant answers reach; a class without a positive has no score."""
    positive_K = np.where(share_K > 0, share_K, np.nan)
    return {
        "cmap_prevalence": _defined(100 * metrics.macro(positive_K)),
        "f1_all_positive": _defined(metrics.macro(floors.f1_all_positive(share_K))),
        "f1_majority": _defined(metrics.macro(floors.f1_majority(share_K))),
    }


def _tags(table: LabelTable, target: Target) -> TargetStatistics:
    """Count a target of thousands of classes row by row: all rows at once would fill the memory."""
    sides: list[Part | None] = [None, *sorted(set(table.parts.values()))]
    counts = {side: np.zeros(len(target.classes), dtype=np.int64) for side in sides}
    videos: Counter[Part | None] = Counter()
    for video_id, row in table.rows.items():
        labels = row.get(target.name)
        if labels is None:
            continue
        present = np.asarray(labels) == 1
        for side in {None, table.parts.get(video_id)}:
            counts[side] += present
            videos[side] += 1
    groups = target.groups or ((target.name, len(target.classes)),)
    ends = list(itertools.accumulate(size for _, size in groups))
    found = []
    for (name, size), end in zip(groups, ends, strict=True):
        for side in sides:
            positives_K = counts[side][end - size : end]
            constant = _constant_answers(positives_K / max(videos[side], 1))
            found.append(
                GroupCount(
                    name=name,
                    side=side,
                    videos=videos[side],
                    tags=size,
                    present=int((positives_K > 0).sum()),
                    usable=int((positives_K >= FEW).sum()),
                    per_video=float(positives_K.sum() / max(videos[side], 1)),
                    cmap_chance=constant["cmap_prevalence"],
                    f1_all_positive=constant["f1_all_positive"],
                )
            )
    return TargetStatistics(target=target.name, kind="tags", unit="video", units=videos[None], groups=tuple(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFloors:
    """What attackers reach on one split who see no pixel. Each value: class to number, and ``macro`` their mean."""

    train: int
    test: int
    values: Mapping[str, Mapping[str, float | None]]
    """Keys: ``train_prevalence``; ``test_prevalence``; ``ap_chance`` (the latter in percent); ``f1_all_positive``;
    ``f1_majority``; of an attacker who is told the true action and how common each class is in training videos of it
    ``ap_action_only``, ``f1_action_only``, ``auroc_action_only``, ``f1_action_only_tuned`` (thresholds chosen on the
    training videos); and ``ap_class_oracle``, of one who is told how common it is in the test videos of the action."""


def split_floors(
    table: LabelTable, parts: Mapping[int, Mapping[str, Part]], actions: Mapping[str, str]
) -> dict[int, SplitFloors]:
    """Floors of the private target on each split.

    Args:
        table: labels by video; those of videos that no split uses are not looked at.
        parts: split to video id to side.
        actions: video id to action.

    Raises:
        UserError: the target has too many classes for this, or a side of a split has no labelled video.
    """
    target = next(t for t in table.targets if t.private)
    if is_wide(target):
        why = f"its target {target.name} is told in tags"
        raise UserError(f"no floors of single attributes for {table.release}", why, "leave the splits out")
    return {number: _split_floors(table, target, number, of, actions) for number, of in parts.items()}


def _split_floors(
    table: LabelTable, target: Target, number: int, parts: Mapping[str, Part], actions: Mapping[str, str]
) -> SplitFloors:
    labelled = {key for key, row in table.rows.items() if row.get(target.name) is not None}
    sides = {side: sorted(key for key, of in parts.items() if of == side and key in labelled) for side in _SIDES}
    for side, ids in sides.items():
        if not ids:
            why = "the split lists and the labels have no such video in common"
            raise UserError(
                f"split {number} has no labelled {side} video", why, "give lists and labels of one data set"
            )
    known = {name: i for i, name in enumerate(sorted({actions[key] for ids in sides.values() for key in ids}))}
    action = {side: np.array([known[actions[key]] for key in ids]) for side, ids in sides.items()}
    labels = {side: np.array([table.rows[key][target.name] for key in ids]) for side, ids in sides.items()}
    train, test = labels["train"], labels["test"]
    counts = floors.training_counts(action["train"], train, len(known))
    scores = floors.action_only(action["test"], *counts)
    tuned = metrics.best_f1_threshold(train, floors.action_only(action["train"], *counts))
    oracle = floors.action_only(action["test"], *floors.training_counts(action["test"], test, len(known)))
    share_K = metrics.prevalence(test)
    values: dict[str, Floats] = {
        "train_prevalence": metrics.prevalence(train),
        "test_prevalence": share_K,
        "ap_chance": np.where(share_K > 0, 100 * share_K, np.nan),
        "f1_all_positive": floors.f1_all_positive(share_K),
        "f1_majority": floors.f1_majority(share_K),
        "ap_action_only": metrics.average_precision(test, scores),
        "f1_action_only": metrics.f1(test, scores),
        "auroc_action_only": metrics.auroc(test, scores),
        "f1_action_only_tuned": metrics.f1(test, scores, thresholds=tuned),
        "ap_class_oracle": metrics.average_precision(test, oracle),
    }
    named = {
        name: dict(zip((*target.classes, "macro"), map(_defined, (*of, metrics.macro(of))), strict=True))
        for name, of in values.items()
    }
    return SplitFloors(train=len(train), test=len(test), values=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTest:
    """Whether the columns of VP-HMDB51 mean what its manifest says, by the frame labels of PA-HMDB51."""

    videos: int
    """Videos that both label."""
    stated: tuple[str, ...]
    """What the columns of the file mean, as the manifest states it."""
    best: tuple[str, ...]
    """The order whose columns correlate best with the attributes of their names."""
    stated_sum: float
    best_sum: float
    phi: Mapping[str, tuple[float | None, ...]]
    """Attribute of PA-HMDB51 (in some frame) to its correlation with each column of the file."""

    @property
    def agrees(self) -> bool:
        """Whether no other order is better than the stated one."""
        return self.best == self.stated


def order_test(vp: LabelTable, pa: LabelTable) -> OrderTest:
    """Correlate the columns of a video-level table, in the order of its file, with a second labelling of its videos.

    Raises:
        UserError: the tables have no video in common.
    """
    (mine,), (theirs,) = vp.targets, pa.targets
    stated = tuple(vp.manifest.get("columns") or mine.classes)
    place = [mine.classes.index(name) for name in stated]
    both = [
        (a, b)
        for key, row in pa.rows.items()
        if (b := row[theirs.name]) is not None and (a := vp.rows.get(key, {}).get(mine.name)) is not None
    ]
    if not both:
        raise UserError(
            f"cannot compare {vp.release} with {pa.release}", "they label no common video", "import both of HMDB51"
        )
    columns_VK = np.array([[a[i] for i in place] for a, _ in both])
    named_VK = np.array([list(b) for _, b in both])
    phi = _phi(named_VK, columns_VK, np.ones(len(both), dtype=np.int64))
    filled = np.nan_to_num(phi)  # a column that never varies speaks for no order
    row = {name: i for i, name in enumerate(theirs.classes)}
    sums = {
        order: float(sum(filled[row[name], k] for k, name in enumerate(order)))
        for order in itertools.permutations(stated)
    }
    top = max(sums.values())
    # The stated order wins a tie.
    best = stated if math.isclose(sums[stated], top) else max(sums, key=sums.__getitem__)
    return OrderTest(
        videos=len(both),
        stated=stated,
        best=best,
        stated_sum=sums[stated],
        best_sum=sums[best],
        phi={name: tuple(map(_defined, phi[i])) for i, name in enumerate(theirs.classes)},
    )


def _phi(rows_VK: Ints, columns_VJ: Ints, weight_V: Ints) -> Floats:
    """Correlation of each class of one labelling with each of another, (K, J), among the units that both label."""
    found = np.full((rows_VK.shape[1], columns_VJ.shape[1]), np.nan)
    for k, j in np.ndindex(*found.shape):
        known = (rows_VK[:, k] >= 0) & (columns_VJ[:, j] >= 0)
        weight, a, b = weight_V[known], rows_VK[known, k], columns_VJ[known, j]
        n, n_a, n_b, n_ab = (float((weight * x).sum()) for x in (np.ones_like(a), a, b, a * b))
        scale = n_a * (n - n_a) * n_b * (n - n_b)
        if scale > 0:
            found[k, j] = (n * n_ab - n_a * n_b) / math.sqrt(scale)
    return found


def _defined(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
