"""What predictors reach that never look at the video: without them a privacy score means little.

Two kinds. *Priors* know only how common each class is. *Action-informed attackers* know the action (the true one, or
what a run's own action recognizer says of it) and how common each attribute was among training videos of that action. A
method that keeps the action recognizable can't hide what the action implies: only an attacker's *excess* over them is a
leak of its own.

Axes as in `stp_bench.metrics`, and C actions.
"""

from __future__ import annotations

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


def training_counts(action_V: Ints, labels_VK: Ints, actions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labelled units and positives of each action and class: two arrays (C, K)."""
    labelled = np.zeros((actions, labels_VK.shape[1]), dtype=np.int64)
    positives = np.zeros_like(labelled)
    np.add.at(labelled, action_V, (labels_VK >= 0).astype(np.int64))
    np.add.at(positives, action_V, (labels_VK == 1).astype(np.int64))
    return labelled, positives


def action_only(action_V: Ints, labelled_CK: Ints, positives_CK: Ints) -> Floats:
    """Scores (V, K) of an attacker who is told the true action: the share of positives in training videos of it.

    An action without labelled training videos gets the share over all actions (0 if nothing is labelled at all).
    """
    overall = _rate(positives_CK.sum(axis=0), labelled_CK.sum(axis=0), np.zeros(labelled_CK.shape[1]))
    return _rate(positives_CK, labelled_CK, np.broadcast_to(overall, labelled_CK.shape))[action_V]


def action_informed(posterior_VC: NDArray[np.floating], labelled_CK: Ints, positives_CK: Ints) -> Floats:
    """Scores (V, K) of an attacker who only reads the run's action posteriors: sum over c of p(c | v) x rate(k | c).

    The rates are Laplace-smoothed, (positives + 1) / (labelled + 2), so that a rare action can't answer with certainty.
    """
    rates_CK = (positives_CK + 1.0) / (labelled_CK + 2.0)
    scores = np.zeros((len(posterior_VC), rates_CK.shape[1]))
    # Action by action instead of a matrix product, whose last bit depends on the machine: ties of scores must not.
    for c in range(len(rates_CK)):
        scores += posterior_VC[:, c, None].astype(np.float64) * rates_CK[c]
    return scores


def _rate(part: Ints, whole: Ints, otherwise: Floats) -> Floats:
    return np.divide(part, whole, out=np.array(otherwise, dtype=np.float64), where=whole > 0)
