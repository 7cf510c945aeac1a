"""What a model of annotators makes of the same votes: a diagnostic beside the majority, never instead of it.

Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm" (Applied Statistics
28(1), 1979), for yes or no: each annotator finds what is there with one probability (sensitivity) and sees that nothing
is there with another (specificity), independently of the others given the truth. Where the model and the majority
differ, a few reliable people were outvoted, or the model's independence does not hold; both are worth a look.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS, _SETTLED = 500, 1e-6


class Fit(NamedTuple):
    """The model of one attribute. NaN where nothing is known of a video or an annotator."""

    posterior_V: Floats
    """Probability that the answer is yes."""
    sensitivity_A: Floats
    specificity_A: Floats
    prevalence: float


def fit(video_N: NDArray[np.integer], annotator_N: NDArray[np.integer], yes_N: NDArray[np.bool_]) -> Fit:
    """Fit the model to N valid votes by EM, from the shares of yes on.

    Rates are smoothed by one vote of each kind, (hits + 1) / (votes + 2), so that nobody is taken to be infallible.

    Args:
        video_N: number of the video of each vote, from 0.
        annotator_N: number of its annotator, from 0.
        yes_N: whether it says yes.
    """
    videos, annotators = (int(of.max(initial=-1)) + 1 for of in (video_N, annotator_N))
    if not len(video_N):
        return Fit(np.zeros(0), np.zeros(0), np.zeros(0), float("nan"))
    count_V = np.bincount(video_N, minlength=videos)
    seen_A = np.bincount(annotator_N, minlength=annotators) > 0
    yes = yes_N.astype(np.float64)
    share_V = np.bincount(video_N, weights=yes, minlength=videos) / np.maximum(count_V, 1)
    for _ in range(_STEPS):
        truth_N = share_V[video_N]
        sensitivity_A = _rate(annotator_N, truth_N, yes, annotators)
        specificity_A = _rate(annotator_N, 1 - truth_N, 1 - yes, annotators)
        prevalence = (share_V[count_V > 0].sum() + 1) / ((count_V > 0).sum() + 2)
        weight_of_yes = np.log(sensitivity_A) - np.log(1 - specificity_A)
        weight_of_no = np.log(1 - sensitivity_A) - np.log(specificity_A)
        evidence_N = np.where(yes_N, weight_of_yes[annotator_N], weight_of_no[annotator_N])
        odds_V = np.bincount(video_N, weights=evidence_N, minlength=videos) + np.log(prevalence / (1 - prevalence))
        before, share_V = share_V, 1 / (1 + np.exp(-np.clip(odds_V, -500, 500)))
        if np.abs(share_V - before)[count_V > 0].max() < _SETTLED:
            break
    return Fit(
        np.where(count_V > 0, share_V, np.nan),
        np.where(seen_A, sensitivity_A, np.nan),
        np.where(seen_A, specificity_A, np.nan),
        float(prevalence),
    )


def _rate(annotator_N: NDArray[np.integer], weight_N: Floats, hit_N: Floats, annotators: int) -> Floats:
    hits = np.bincount(annotator_N, weights=weight_N * hit_N, minlength=annotators)
    return (hits + 1) / (np.bincount(annotator_N, weights=weight_N, minlength=annotators) + 2)
