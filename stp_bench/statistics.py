"""What a difference between methods is worth: paired tests over the same videos, fronts, and whether a ranking holds.

Arrays in, numbers out. Resamples are those of `metrics.resample`: whole groups, drawn from the bits of a seed. Two runs
over the same videos that are resampled with one seed meet the same videos in every resample, hence their difference,
resample by resample, is a paired one.

Axes as in `stp_bench.metrics`: V units, C actions, K attributes, R resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stp_bench import floors, metrics
from stp_bench.errors import UserError
from stp_bench.metrics import Floats, macro
from stp_bench.pictures import pareto_front
from stp_bench.predictions import Predictions, Reference

RESAMPLES = 1000

_CELLS = 300_000
"""Resamples x units measured at a time: memory is bounded."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """The figures of one run: on its test videos, and on every resample of them."""

    value: Mapping[str, float]
    """``top1`` (or ``action_cmap``), ``excess`` of the first kind of attackers, and their ``cmap``, or ``<group>_cmap``
    where classes come in groups: percent, NaN where undefined."""
    values_R: Mapping[str, Floats]
    """The same on each resample."""
    hit_V: Bools
    """Which videos' actions are recognized; empty where a video may show several."""
    videos_digest: str
    """Runs of equal digest were asked about the same videos."""

    def interval(self, name: str) -> tuple[float, float]:
        """The central 95 % of a figure over resamples of the test videos; NaN without one."""
        return metrics.interval(self.values_R[name])


def resampled(
    predictions: Predictions, reference: Reference, *, resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """A run's figures on resamples of its test videos, by group; there are none where all are of one group.

    The excess is that of the attacker's cMAP over the action-informed floor, both on the same resample.

    Raises:
        UserError: the tables do not belong together.
    """
    labels_VK = predictions.labels_VK
    if labels_VK.shape[1] != len(reference.attributes) or predictions.posterior_VC.shape[1] != len(reference.actions):
        raise UserError(
            "these predictions cannot be compared", "they have other classes than their reference",
            "give the two tables of one run",
        )  # fmt: skip
    measure = _measure(predictions, reference)
    group_V = metrics.group_index(predictions.groups)
    if group_V.max() == 0:
        resamples = 0  # whoever draws from one group draws the same each time
    weights_RV = metrics.resample(group_V, resamples, seed)
    step = max(1, _CELLS // len(labels_VK))
    blocks = [measure(weights_RV[start : start + step]) for start in range(0, resamples, step)]
    first_V, right_V = _hits(predictions)
    value = {name: float(found[0]) for name, found in measure(np.ones((1, len(labels_VK)))).items()}
    return Resampled(
        value=value,
        values_R={name: np.concatenate([np.zeros(0), *(block[name] for block in blocks)]) for name in value},
        hit_V=right_V[first_V] if len(right_V) else right_V,
        videos_digest=predictions.videos_digest,
    )


def mean_over_seeds(runs: Sequence[Resampled]) -> Resampled:
    """Several trainings of one method as one: the mean of their figures, on the test videos and on each resample.

    What the resamples then show is how the mean depends on the choice of test videos. ``hit_V`` is the first run's.
    """
    first = runs[0]
    return Resampled(
        value={name: float(np.mean([run.value[name] for run in runs])) for name in first.value},
        values_R={name: np.mean([run.values_R[name] for run in runs], axis=0) for name in first.values_R},
        hit_V=first.hit_V,
        videos_digest=first.videos_digest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far one method is from another over the same videos."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval (percentile bootstrap)."""
    p: float
    """Two-sided, of no difference: twice the smaller share of resamples on one side of 0, each with one added."""


def paired_difference(one: Resampled, other: Resampled, name: str) -> Difference:
    """``one`` minus ``other`` in a figure; NaN where it is undefined.

    Raises:
        UserError: the two were tested on other videos, or on other resamples.
    """
    if one.videos_digest != other.videos_digest or one.values_R[name].shape != other.values_R[name].shape:
        raise UserError(
            "these runs cannot be paired", "they were tested on other videos",
            "compare runs of one benchmark, split and preset",
        )  # fmt: skip
    difference_R = one.values_R[name] - other.values_R[name]
    low, high = metrics.interval(difference_R)
    defined_R = difference_R[~np.isnan(difference_R)]
    tail = min((defined_R <= 0).sum(), (defined_R >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(defined_R) + 1)) if len(defined_R) else math.nan
    return Difference(value=one.value[name] - other.value[name], low=low, high=high, p=float(p))


@dataclass(frozen=True, slots=True)
class McNemar:
    """Which of two methods' videos are recognized by one alone, and the exact two-sided p of that being chance."""

    only_one: int
    only_other: int
    p: float


def mcnemar(one_V: Bools, other_V: Bools) -> McNemar:
    """McNemar's exact test: of the videos that only one of the two gets right, each is a fair coin's throw if the two
    are equally good. Unlike the bootstrap it takes videos of one group for independent ones.

    Raises:
        ValueError: other numbers of videos.
    """
    if one_V.shape != other_V.shape:
        raise ValueError(f"{len(one_V)} videos cannot be paired with {len(other_V)}")
    first, second = int((one_V & ~other_V).sum()), int((~one_V & other_V).sum())
    total = first + second
    # Python's whole numbers: nothing overflows, nothing is rounded before the last division.
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return McNemar(first, second, min(1.0, 2 * tail / 2**total))


def holm(p_N: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of several p-values: with a bound on each, the chance of any false alarm keeps that
    bound. NaN stays NaN and counts for nothing."""
    order = sorted((i for i, p in enumerate(p_N) if not math.isnan(p)), key=lambda i: p_N[i])
    adjusted = [math.nan] * len(p_N)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_N[i]))
        adjusted[i] = worst
    return adjusted


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area between the points (leakage, utility) and a reference that is worse than they are: how much of the
    trade-off they reach together. Points that are not better than the reference in both add nothing.

    >>> hypervolume([(60, 70), (50, 40)], (100, 0))
    3200.0
    """
    better = [(x, y) for x, y in points if x < reference[0] and y > reference[1]]
    area, floor = 0.0, reference[1]
    for i in pareto_front(better):
        leakage, utility = better[i]
        area += (reference[0] - leakage) * max(0.0, utility - floor)
        floor = max(floor, utility)
    return area


def own_share(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> list[float]:
    """Per point the part of the hypervolume that would be lost without it: 0 for whatever another one beats."""
    whole = hypervolume(points, reference)
    return [whole - hypervolume([*points[:i], *points[i + 1 :]], reference) for i in range(len(points))]


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the same things: 1 for equal, -1 for opposite ones; NaN where one of them
    ranks nothing. Pairs with a NaN on either side are left out.

    >>> kendall_tau([1, 2, 3], [10, 30, 20])
    0.3333333333333333
    """
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if not (math.isnan(a) or math.isnan(b))]
    signs = [
        (_sign(a - c), _sign(b - d)) for (a, b), (c, d) in itertools.combinations(pairs, 2)
    ]  # fmt: skip
    scale = math.sqrt(sum(s != 0 for s, _ in signs) * sum(t != 0 for _, t in signs))
    return sum(s * t for s, t in signs) / scale if scale else math.nan


def rank_stability(values_by_seed: Sequence[Sequence[float]]) -> float:
    """How alike several seeds rank the methods: the mean of Kendall's tau over all pairs of seeds.

    Args:
        values_by_seed: a figure per seed and method, methods in one order.

    Returns:
        NaN for fewer than two seeds or methods.
    """
    taus = [kendall_tau(one, other) for one, other in itertools.combinations(values_by_seed, 2)]
    defined = [tau for tau in taus if not math.isnan(tau)]
    return float(np.mean(defined)) if defined else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Attackers:
    """What several attackers of one run find together: excess of cMAP over the action-informed floor, in points."""

    count: int
    mean: float
    worst: float
    worst_kind: str


def attackers(measured: Mapping[str, object]) -> Attackers | None:
    """Mean and worst over all attackers of a result's block ``metrics``, of every kind and seed; None if undefined."""
    mean: list[tuple[int, float]] = []
    worst: list[tuple[float, str]] = []
    blocks = measured["attackers"]
    assert isinstance(blocks, Mapping)
    for kind, block in blocks.items():
        if block is None or block["excess"]["cmap"] is None:
            continue
        spread = block.get("spread", {}).get("excess", {})
        mean.append((block.get("seeds", 1), block["excess"]["cmap"]))
        worst.append((spread.get("max", block["excess"]["cmap"]), kind))
    if not mean:
        return None
    count = sum(n for n, _ in mean)
    value, kind = max(worst)
    return Attackers(count=count, mean=sum(n * v for n, v in mean) / count, worst=value, worst_kind=kind)


def _measure(predictions: Predictions, reference: Reference) -> Callable[[Floats], dict[str, Floats]]:
    """A function from weights (R, V) to figures (R,); everything that does not depend on the weights is done once."""
    labels_VK = predictions.labels_VK
    posterior_VC: NDArray[np.floating] = predictions.posterior_VC
    kinds = dict.fromkeys(name.split("-")[0] for name in predictions.attackers)
    headline = "video" if "video" in kinds else next(iter(kinds))
    scores = [predictions.scores_VK(name) for name in predictions.attackers if name.split("-")[0] == headline]
    first_V, right_V = _hits(predictions)
    actions_VC = predictions.actions_VC if predictions.several_actions else None
    if actions_VC is not None:
        total_V1 = posterior_VC.sum(axis=1, keepdims=True, dtype=np.float64)
        shares_VC = np.divide(posterior_VC, total_V1, out=np.zeros(posterior_VC.shape), where=total_V1 > 0)
    else:
        shares_VC = posterior_VC
    informed_VK = floors.action_informed(shares_VC, reference.labelled_CK, reference.positives_CK)
    sizes = reference.groups or (("", len(reference.attributes)),)
    ends = np.cumsum([size for _, size in sizes]).tolist()
    slices = {name: slice(end - size, end) for (name, size), end in zip(sizes, ends, strict=True)}

    def over_groups(values_RK: Floats) -> Floats:
        return macro(np.stack([macro(values_RK[..., columns]) for columns in slices.values()], axis=-1))

    def measure(weights_RV: Floats) -> dict[str, Floats]:
        found = [metrics.average_precision(labels_VK, values, weights_RV) for values in scores]
        floor_R = over_groups(metrics.average_precision(labels_VK, informed_VK, weights_RV))
        cmap_R = np.mean([over_groups(ap_RK) for ap_RK in found], axis=0)
        values: dict[str, Floats] = {}
        weights = weights_RV[:, first_V]
        if actions_VC is not None:
            posterior = posterior_VC[first_V].astype(np.float64)
            values["action_cmap"] = macro(metrics.average_precision(actions_VC[first_V], posterior, weights))
        else:
            hit_V = right_V[first_V].astype(np.int64)
            values["top1"] = metrics.top1(np.ones_like(hit_V), hit_V, weights)
        values |= {"excess": cmap_R - floor_R} | ({} if reference.groups else {"cmap": cmap_R})
        for name, columns in slices.items() if reference.groups else ():
            values[f"{name}_cmap"] = np.mean([macro(ap_RK[:, columns]) for ap_RK in found], axis=0)
        return values

    return measure


def _hits(predictions: Predictions) -> tuple[Bools, Bools]:
    """Whether a unit is its video's first (actions count once per video), and whether its action is recognized."""
    videos = np.array(predictions.units["video_id"].to_pylist(), dtype=object)
    first_V = np.append(True, videos[1:] != videos[:-1])
    if predictions.several_actions:
        return first_V, np.zeros(0, dtype=np.bool_)
    true, said = (np.array(predictions.units[name].to_pylist(), dtype=object) for name in ("action", "action_pred"))
    return first_V, np.asarray(true == said, dtype=np.bool_)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
