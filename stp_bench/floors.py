"""What predictors reach that never look at the video: without them a privacy score means little.

Two kinds. *Priors* know only how common each class is. *Action-informed attackers* know the action (the true one, or
what a run's own action recognizer says of it) and how common each attribute was among training videos of that action. A
method that keeps the action recognizable can't hide what the action implies: only an attacker's *excess* over them is a
leak of its own.

Axes as in `stp_bench.metrics`, and C actions. The actions of units are numbers (V,), or 0 and 1 per action (V, C) where
a unit may show several at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stp_bench.metrics import THRESHOLD, Floats, Ints


def top1_chance(classes: int) -> float:
    """Top-1 of a uniform guess, in percent."""
    return 100.0 / classes


def top1_majority(action_V: Ints) -> float:
    """Top-1 of always answering the most frequent action of these units, in percent."""
    return float(100.0 * np.bincount(action_V).max() / len(action_V))


def f1_all_positive(prevalence_K: Floats) -> Floats:
    """F1 of always answering yes: 2p / (1 + p); NaN for a class without a positive, which has no F1."""
    return np.where(prevalence_K > 0, 2 * prevalence_K / (1 + prevalence_K), np.nan)


def f1_majority(prevalence_K: Floats) -> Floats:
    """F1 of always giving each class's more frequent answer: that of yes where p >= 0.5, else 0."""
    yes = f1_all_positive(prevalence_K)
    return np.where((prevalence_K < THRESHOLD) & ~np.isnan(yes), 0.0, yes)


def training_counts(action: Ints, labels_VK: Ints, actions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labelled units and positives of each action and class: two arrays (C, K)."""
    labelled = np.zeros((actions, labels_VK.shape[1]), dtype=np.int64)
    positives = np.zeros_like(labelled)
    if action.ndim == 1:
        np.add.at(labelled, action, (labels_VK >= 0).astype(np.int64))
        np.add.at(positives, action, (labels_VK == 1).astype(np.int64))
        return labelled, positives
    for rows in _blocks(len(action)):  # as floats, whose products are fast and, for counts, exact
        shown_CV = (action[rows] == 1).astype(np.float64).T
        labelled += (shown_CV @ (labels_VK[rows] >= 0)).astype(np.int64)
        positives += (shown_CV @ (labels_VK[rows] == 1)).astype(np.int64)
    return labelled, positives


def action_only(action: Ints, labelled_CK: Ints, positives_CK: Ints) -> Floats:
    """Scores (V, K) of an attacker who is told the true action: the share of positives in training videos of it.

    An action without labelled training videos gets the share over all actions (0 if nothing is labelled at all); a unit
    of several actions gets the mean of their shares, one of none the share over all.
    """
    overall = _rate(positives_CK.sum(axis=0), labelled_CK.sum(axis=0), np.zeros(labelled_CK.shape[1]))
    rates_CK = _rate(positives_CK, labelled_CK, np.broadcast_to(overall, labelled_CK.shape))
    if action.ndim == 1:
        return np.asarray(rates_CK[action])
    shown_VC = (action == 1).astype(np.float64)
    count_V1 = shown_VC.sum(axis=1, keepdims=True)
    scores = _mixed(np.divide(shown_VC, count_V1, out=np.zeros_like(shown_VC), where=count_V1 > 0), rates_CK)
    return np.where(count_V1 > 0, scores, overall)


def action_informed(posterior_VC: NDArray[np.floating], labelled_CK: Ints, positives_CK: Ints) -> Floats:
    """Scores (V, K) of an attacker who only reads the run's action posteriors: sum over c of p(c | v) x rate(k | c).

    The rates are Laplace-smoothed, (positives + 1) / (labelled + 2), so that a rare action can't answer with certainty.
    Posteriors of several actions at once, which need not sum to 1, are to be divided by their sum first.
    """
    return _mixed(posterior_VC, (positives_CK + 1.0) / (labelled_CK + 2.0))


def _mixed(weights_VC: NDArray[np.floating], rates_CK: Floats) -> Floats:
    """Weighted means of the rates: (V, K)."""
    scores = np.zeros((len(weights_VC), rates_CK.shape[1]))
    # Action by action instead of a matrix product, whose last bit depends on the machine: ties of scores must not.
    for c in range(len(rates_CK)):
        scores += weights_VC[:, c, None].astype(np.float64) * rates_CK[c]
    return scores


def _blocks(units: int, size: int = 4096) -> Iterator[slice]:
    """Slices that bound the memory of a copy."""
    return (slice(start, start + size) for start in range(0, units, size))


def _rate(part: Ints, whole: Ints, otherwise: Floats) -> Floats:
    return np.divide(part, whole, out=np.array(otherwise, dtype=np.float64), where=whole > 0)
