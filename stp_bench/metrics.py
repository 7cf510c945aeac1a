"""What the benchmark measures: arrays in, numbers out (numpy only).

Axes: V units that are scored (videos, or frames of them), K classes of a target, R resamples.
Units are chosen here, once: top-1, AP, cMAP and AUROC in percent; F1, skill and prevalence as decimals.

``labels_VK`` holds 1 (present), 0 (absent) or `UNLABELLED`; an unlabelled unit is left out for that class only. A class
without a labelled positive has no score of any kind: its value is NaN here, null and named in a result, and means over
classes skip it. ``weights_RV`` says how often each unit counts in each resample, so that one call measures a thousand
bootstrap samples; without weights every unit counts once and the leading axis is dropped.

Average precision, F1 and their macro means follow the paper's section 4.2 (mean over attributes, 0.5 on a probability,
the positive class), in scikit-learn's definitions of `average_precision_score`, `f1_score` and `roc_auc_score`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

VERSION = 1
"""Raised whenever a change here may move a score: part of the key of everything that is scored."""

UNLABELLED = -1
THRESHOLD = 0.5
"""A score of at least this much says yes."""

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


def top1(action_V: Ints, predicted_V: Ints, weights_RV: Floats | None = None) -> Floats:
    """Share of units whose predicted class is the true one, in percent: shape () or (R,)."""
    weights, single = _weights(weights_RV, len(action_V))
    return _unwrap(_share(weights @ (action_V == predicted_V).astype(np.float64), weights.sum(axis=1)) * 100.0, single)


def balanced_accuracy(action_V: Ints, predicted_V: Ints) -> float:
    """Mean over the true classes of the share of their units that are recognized, in percent.

    A constant answer reaches 100 / classes, however common its class is.
    """
    classes, true_V = np.unique(action_V, return_inverse=True)
    hits = np.bincount(true_V, weights=(action_V == predicted_V).astype(np.float64), minlength=len(classes))
    return float(np.mean(hits / np.bincount(true_V)) * 100.0)


def average_precision(labels_VK: Ints, scores_VK: Floats, weights_RV: Floats | None = None) -> Floats:
    """Average precision of each class, in percent: shape (K,) or (R, K).

    AP = sum over distinct scores, descending, of (recall - recall before) x precision: no interpolation, and equal
    scores enter together, so that a constant score has exactly the prevalence as its AP whatever the order of units.
    """
    weights, single = _weights(weights_RV, len(labels_VK))
    weights_VR = np.ascontiguousarray(weights.T)
    columns = [_step_precision(labels_VK[:, k], scores_VK[:, k], weights_VR) for k in range(labels_VK.shape[1])]
    return _unwrap(np.stack(columns, axis=1) * 100.0, single)


def f1(
    labels_VK: Ints, scores_VK: Floats, weights_RV: Floats | None = None, *, thresholds: ArrayLike = THRESHOLD
) -> Floats:
    """F1 of the positive class, 2TP / (2TP + FP + FN), of each class: decimals of shape (K,) or (R, K).

    ``thresholds`` is one number or one per class (NaN: the class has no threshold and hence no F1); a score that equals
    its threshold says yes.
    """
    weights, single = _weights(weights_RV, len(labels_VK))
    limits = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), labels_VK.shape[1:])
    present, said = labels_VK == 1, scores_VK >= limits
    hits = weights @ (present & said).astype(np.float64)
    positives = weights @ present.astype(np.float64)
    yeses = weights @ ((labels_VK != UNLABELLED) & said).astype(np.float64)
    value = np.where(positives > 0, _share(2 * hits, positives + yeses), np.nan)
    return _unwrap(np.where(np.isnan(limits), np.nan, value), single)


def auroc(labels_VK: Ints, scores_VK: Floats) -> Floats:
    """Area under the ROC curve of each class, in percent (chance 50), shape (K,); ties count half.

    The share of (positive, negative) pairs that the score puts in the right order; NaN without one of the two.
    Far below 50 an output still leaks, with its sign flipped.
    """
    values = np.full(labels_VK.shape[1], np.nan)
    for k in range(labels_VK.shape[1]):
        labelled = labels_VK[:, k] != UNLABELLED
        present, scores = labels_VK[labelled, k] == 1, scores_VK[labelled, k]
        positives, negatives = int(present.sum()), int((~present).sum())
        if positives and negatives:
            _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
            mean_rank = np.cumsum(counts) - (counts - 1) / 2
            wins = mean_rank[place.reshape(-1)][present].sum() - positives * (positives + 1) / 2
            values[k] = 100.0 * wins / (positives * negatives)
    return values


def prevalence(labels_VK: Ints) -> Floats:
    """Share of positives among the labelled units of each class, a decimal, shape (K,); NaN where nobody labelled."""
    return _share((labels_VK == 1).sum(axis=0), (labels_VK != UNLABELLED).sum(axis=0))


def skill(ap_K: Floats, prevalence_K: Floats) -> Floats:
    """(AP - prevalence) / (1 - prevalence) of each class: 0 is chance, 1 is perfect; may be negative.

    ``ap_K`` in percent, ``prevalence_K`` and the result as decimals; NaN where every unit is positive.
    """
    return _share(ap_K / 100.0 - prevalence_K, 1.0 - prevalence_K)


def macro(values_K: Floats) -> Floats:
    """Mean over the last axis, leaving undefined classes out; NaN where all are undefined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice" is what NaN says already
        return np.asarray(np.nanmean(values_K, axis=-1), dtype=np.float64)


def cmap(labels_VK: Ints, scores_VK: Floats) -> tuple[float, tuple[int, ...]]:
    """Class-wise mean average precision in percent, and the classes that it skips for want of a positive."""
    values = average_precision(labels_VK, scores_VK)
    return float(macro(values)), tuple(np.flatnonzero(np.isnan(values)).tolist())


def best_f1_threshold(labels_VK: Ints, scores_VK: Floats) -> Floats:
    """For each class the score that, taken as threshold, gives the largest F1: shape (K,), NaN without a positive.

    To be chosen on training units and applied by ``f1(..., thresholds=...)`` to test units. The highest one wins a tie.
    """
    best = np.full(labels_VK.shape[1], np.nan)
    for k in range(labels_VK.shape[1]):
        hits, seen, scores = _ranking(labels_VK[:, k], scores_VK[:, k], np.ones((len(labels_VK), 1)))
        if hits.size and hits[-1, 0] > 0:
            best[k] = scores[np.argmax(2 * hits[:, 0] / (hits[-1, 0] + seen[:, 0]))]
    return best


def group_index(groups: Sequence[Any]) -> Ints:
    """A number for each unit's group: equal for equal groups, and the same whatever the order of units."""
    number = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([number[group] for group in groups], dtype=np.int64)


def resample(group_V: Ints, resamples: int, seed: int) -> Floats:
    """Bootstrap by group: how often each unit counts in each resample, (R, V).

    Whole groups are drawn with replacement, as many as there are, since clips of one source resemble each other. Drawn
    from the raw bits of PCG64, which numpy promises never to change: a published interval can be recomputed.
    """
    groups = int(group_V.max()) + 1
    drawn = np.random.PCG64(seed).random_raw(resamples * groups).reshape(resamples, groups) % np.uint64(groups)
    cell = drawn.astype(np.int64) + groups * np.arange(resamples)[:, None]
    counts = np.bincount(cell.reshape(-1), minlength=resamples * groups).reshape(resamples, groups)
    return np.asarray(counts[:, group_V], dtype=np.float64)


def interval(values_R: Floats, level: float = 0.95) -> tuple[float, float]:
    """The central ``level`` of resampled values (percentile bootstrap); undefined resamples are left out.

    (NaN, NaN) if none is defined.
    """
    defined = values_R[~np.isnan(values_R)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _step_precision(label_V: Ints, score_V: Floats, weights_VR: Floats) -> Floats:
    """AP in [0, 1] of one class in each resample. Counts are whole numbers, so their sums are exact in any order."""
    hits, seen, _ = _ranking(label_V, score_V, weights_VR)
    if not len(hits):
        return np.full(weights_VR.shape[1], np.nan)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    gained = np.diff(hits, axis=0, prepend=0.0)
    return _share((gained * precision).sum(axis=0), hits[-1])


def _ranking(label_V: Ints, score_V: Floats, weights_VR: Floats) -> tuple[Floats, Floats, Floats]:
    """For each distinct score of the labelled units, descending: how many positives and how many units lie at or above
    it in each resample, both (scores, R), and the score itself."""
    order = np.flatnonzero(label_V != UNLABELLED)
    order = order[np.argsort(-score_V[order], kind="stable")]
    scores = score_V[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(order)])
    weights = weights_VR[order]  # units first: a resample is a column, and sums run down whole rows at once
    seen = np.cumsum(weights, axis=0)[ends]
    hits = np.cumsum(weights * (label_V[order] == 1)[:, None], axis=0)[ends]
    return hits, seen, scores[ends]


def _weights(weights_RV: Floats | None, units: int) -> tuple[Floats, bool]:
    return (np.ones((1, units)), True) if weights_RV is None else (weights_RV, False)


def _unwrap(values_R: Floats, single: bool) -> Floats:
    return np.asarray(values_R[0] if single else values_R)


def _share(part: ArrayLike, whole: ArrayLike) -> Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    share = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=share, where=whole != 0)
    return share
