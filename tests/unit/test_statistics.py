"""Differences between methods, fronts and rankings, against independent oracles: scikit-learn, statsmodels, scipy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from stp_bench import statistics
from stp_bench.errors import UserError
from stp_bench.predictions import Predictions, Reference
from stp_bench.schema import Target
from stp_bench.scoring import Scores, score

ACTION = Target(name="action", kind="multiclass", classes=("run", "sing", "swim"))
SEVERAL = Target(name="action", kind="multilabel", classes=("run", "sing", "swim"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
TAGS = Target(
    name="privacy", kind="multilabel", classes=("ball", "car", "city"), private=True,
    groups=(("object", 2), ("scene", 1)),
)  # fmt: skip
VIDEOS = 40


def tables(seed: int, *, grouped: bool = False, **changes: Any) -> tuple[Predictions, Reference]:
    """Labels are the same for every seed, what is predicted is not."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    action, privacy = (SEVERAL, TAGS) if grouped else (ACTION, PRIVACY)
    k = len(privacy.classes)
    posterior = rng.random((VIDEOS, 3))
    true: Any = (truth.random((VIDEOS, 3)) < 0.5).astype(np.int8) if grouped else truth.integers(0, 3, VIDEOS)
    labels = (truth.random((VIDEOS, k)) < 0.5).astype(np.int8)
    values = {
        "video_ids": [f"v{i:02d}" for i in range(VIDEOS)],
        "groups": [f"g{i // 4}" for i in range(VIDEOS)],
        "action_V": true,
        "posterior_VC": posterior if grouped else posterior / posterior.sum(axis=1, keepdims=True),
        "labels_VK": labels,
        "scores": {name: 0.3 * labels + 0.7 * rng.random((VIDEOS, k)) for name in ("video", "video-1", "frame")},
    } | changes
    thresholds = {name: np.full(k, 0.5) for name in values["scores"]}
    reference = Reference.of(action=action, privacy=privacy, action_V=true, labels_VK=labels, thresholds=thresholds)
    return Predictions.of(action=action, privacy=privacy, **values), reference


def scored(both: tuple[Predictions, Reference]) -> Scores:
    return score(*both, bootstrap=50, seed=0)


def test_figures_and_intervals_are_those_of_the_result() -> None:
    found, result = statistics.resampled(*tables(1), resamples=50), scored(tables(1)).metrics
    assert found.value["top1"] == result["top1"]
    assert found.value["cmap"] == pytest.approx(result["cmap"], abs=1e-9)
    assert found.value["excess"] == pytest.approx(result["excess"]["cmap"], abs=1e-9)
    for name, key in (("top1", "top1"), ("cmap", "cmap"), ("excess", "excess_cmap")):
        assert found.interval(name) == pytest.approx(result["ci95"][key], abs=1e-9)


def test_figures_of_groups_of_classes_are_those_of_the_result() -> None:
    both = tables(1, grouped=True)
    found, result = statistics.resampled(*both, resamples=50), scored(both).metrics
    for name in ("action_cmap", "object_cmap", "scene_cmap"):
        assert found.value[name] == pytest.approx(result[name], abs=1e-9)
        assert found.interval(name) == pytest.approx(result["ci95"][name], abs=1e-9)
    assert found.value["excess"] == pytest.approx(result["excess"]["cmap"], abs=1e-9)
    assert "cmap" not in found.value and not len(found.hit_V)


def test_a_method_does_not_differ_from_itself() -> None:
    one = statistics.resampled(*tables(1), resamples=50)
    assert statistics.paired_difference(one, one, "top1") == statistics.Difference(value=0.0, low=0.0, high=0.0, p=1.0)
    assert statistics.mcnemar(one.hit_V, one.hit_V).p == 1.0


def test_a_paired_interval_is_narrower_than_what_the_two_alone_suggest() -> None:
    """What both methods share, which videos were drawn, cancels."""
    labels, rng = tables(1)[0].labels_VK, np.random.default_rng(5)
    scores = 0.3 * labels + 0.7 * rng.random(labels.shape)
    worse = {name: np.clip(scores - 0.05 * labels, 0, 1) for name in ("video",)}
    one = statistics.resampled(*tables(1, scores={"video": scores}), resamples=200)
    other = statistics.resampled(*tables(1, scores=worse), resamples=200)
    difference = statistics.paired_difference(one, other, "cmap")
    low, high = one.interval("cmap")
    assert difference.value == pytest.approx(one.value["cmap"] - other.value["cmap"])
    assert difference.low <= difference.value <= difference.high
    assert difference.high - difference.low < 0.5 * (high - low)


def test_the_sign_of_a_difference_turns_with_its_sides() -> None:
    one, other = (statistics.resampled(*tables(seed), resamples=100) for seed in (1, 2))
    there, back = (statistics.paired_difference(*pair, "excess") for pair in ((one, other), (other, one)))
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert there.p == back.p


def test_seeds_are_averaged_resample_by_resample() -> None:
    runs = [statistics.resampled(*tables(seed), resamples=30) for seed in (1, 2, 3)]
    mean = statistics.mean_over_seeds(runs)
    assert mean.value["top1"] == pytest.approx(np.mean([run.value["top1"] for run in runs]))
    assert mean.values_R["cmap"][7] == pytest.approx(np.mean([run.values_R["cmap"][7] for run in runs]))


def test_other_videos_cannot_be_paired() -> None:
    one = statistics.resampled(*tables(1), resamples=10)
    other = statistics.resampled(*tables(1, video_ids=[f"w{i:02d}" for i in range(VIDEOS)]), resamples=10)
    with pytest.raises(UserError, match="other videos"):
        statistics.paired_difference(one, other, "top1")
    with pytest.raises(ValueError):
        statistics.mcnemar(one.hit_V, one.hit_V[1:])


def test_tables_of_two_runs_are_refused() -> None:
    with pytest.raises(UserError, match="other classes"):
        statistics.resampled(tables(1)[0], tables(1, grouped=True)[1], resamples=10)


def test_without_a_second_group_there_is_no_interval_and_no_p() -> None:
    one, other = (statistics.resampled(*tables(s, groups=["g"] * VIDEOS), resamples=50) for s in (1, 2))
    difference = statistics.paired_difference(one, other, "top1")
    assert all(math.isnan(v) for v in (*one.interval("top1"), difference.low, difference.high, difference.p))
    assert not math.isnan(difference.value)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_that_of_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    one, other = (np.array(side) for side in zip(*pairs))
    table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
    found = statistics.mcnemar(one, other)
    assert (found.only_one, found.only_other) == (table[0][1], table[1][0])
    assert found.p == pytest.approx(their_mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize("values", [[0.2], [0.01, 0.04, 0.03], [0.9, 0.0, 0.5, 0.5, 1.0], [0.02, 0.02, 0.001, 0.7]])
def test_holm_is_that_of_statsmodels(values: list[float]) -> None:
    assert statistics.holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))


def test_holm_leaves_out_what_is_undefined() -> None:
    found = statistics.holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02) and math.isnan(found[1]) and found[2] == pytest.approx(0.04)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 12), st.integers(-2, 12)), max_size=8))
def test_the_hypervolume_is_the_number_of_cells_that_some_point_beats(points: list[tuple[int, int]]) -> None:
    """Reference (10, 0), all whole numbers: a cell counts if a point lies left of it and not below."""
    cells = [
        (x, y) for x, y in itertools.product(range(-2, 10), range(13)) if any(u <= x and v >= y + 1 for u, v in points)
    ]
    assert statistics.hypervolume(points, (10, 0)) == len(cells)


def test_what_another_point_beats_has_no_share_of_the_hypervolume() -> None:
    points = [(50.0, 60.0), (60.0, 50.0), (70.0, 80.0)]
    shares = statistics.own_share(points, (100, 0))
    assert shares[1] == 0
    # Without the first: 10 wide and 60 high, and 10 wide where the second is 10 lower.
    assert shares[0] == 10 * 60 + 10 * 10 and shares[2] == 30 * 20
    assert statistics.hypervolume([], (100, 0)) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=10))
def test_kendall_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    one, other = (list(side) for side in zip(*pairs))
    assert statistics.kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other).statistic, nan_ok=True)


def test_a_ranking_that_all_seeds_share_is_stable() -> None:
    assert statistics.rank_stability([[1, 2, 3], [10, 20, 30], [0.1, 0.2, 0.3]]) == 1.0
    # Of the three pairs of seeds one agrees wholly (1) and two are opposite (-1).
    assert statistics.rank_stability([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == pytest.approx(-1 / 3)
    assert math.isnan(statistics.rank_stability([[1, 2, 3]]))
    assert statistics.kendall_tau([1, 2, math.nan], [1, 2, 0]) == 1.0


def test_the_worst_of_several_attackers_is_the_worst_seed_of_any_kind() -> None:
    result = scored(tables(1)).metrics
    found = statistics.attackers(result)
    assert found is not None and found.count == 3
    blocks = result["attackers"]
    mean = (2 * blocks["video"]["excess"]["cmap"] + blocks["frame"]["excess"]["cmap"]) / 3
    assert found.mean == pytest.approx(mean)
    largest = {"video": blocks["video"]["spread"]["excess"]["max"], "frame": blocks["frame"]["excess"]["cmap"]}
    assert found.worst == max(largest.values()) and largest[found.worst_kind] == found.worst
