"""Metrics: parity with scikit-learn, hand-worked values, and the properties that every score of a report relies on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from stp_bench import metrics


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels (V, 1) with both values, and scores from a few levels, so that most of them are tied."""
    size = draw(st.integers(2, 25))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size).filter(lambda x: 0 < sum(x) < len(x)))
    levels = draw(st.sampled_from([2, 4, 1000]))
    scores = draw(st.lists(st.integers(0, levels), min_size=size, max_size=size))
    return np.array(labels)[:, None], np.array(scores)[:, None] / levels


@st.composite
def weighted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, scores = draw(labelled())
    counts = draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    return labels, scores, np.array(counts)


@given(labelled())
def test_average_precision_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    expected = 100 * average_precision_score(labels[:, 0], scores[:, 0])
    assert metrics.average_precision(labels, scores)[0] == pytest.approx(expected, abs=1e-10)


@given(labelled())
def test_auroc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    assert metrics.auroc(labels, scores)[0] == pytest.approx(100 * roc_auc_score(labels[:, 0], scores[:, 0]))


@given(labelled(), st.sampled_from([0.25, 0.5, 0.75]))
def test_f1_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    labels, scores = case
    expected = f1_score(labels[:, 0], scores[:, 0] >= threshold, zero_division=0)
    assert metrics.f1(labels, scores, thresholds=threshold)[0] == pytest.approx(expected)


@given(labelled())
def test_the_tuned_threshold_reaches_the_best_f1_of_the_whole_curve(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    precision, recall, _ = precision_recall_curve(labels[:, 0], scores[:, 0])
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    tuned = metrics.f1(labels, scores, thresholds=metrics.best_f1_threshold(labels, scores))
    assert tuned[0] == pytest.approx(best)


@given(weighted())
def test_a_weight_counts_a_unit_that_many_times(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, counts = case
    repeated = np.repeat(labels, counts, axis=0), np.repeat(scores, counts, axis=0)
    weights = counts[None].astype(float)
    for measure in (metrics.average_precision, metrics.f1):
        got = measure(labels, scores, weights)[0]
        if len(repeated[0]):
            np.testing.assert_allclose(got, measure(*repeated), rtol=1e-12)
        else:
            assert np.isnan(got).all()


@given(labelled(), st.randoms(use_true_random=False))
def test_the_order_of_units_moves_no_digit(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    labels, scores = case
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    for measure in (metrics.average_precision, metrics.auroc, metrics.f1, metrics.best_f1_threshold):
        np.testing.assert_array_equal(measure(labels, scores), measure(labels[order], scores[order]))


def test_a_worked_example() -> None:
    labels = np.array([[1], [0], [1], [1], [0]])
    scores = np.array([[0.9], [0.8], [0.8], [0.4], [0.1]])
    # thresholds .9: recall 1/3, precision 1; .8: 2/3, 2/3; .4: 1, 3/4 -> (1 + 2/3 + 3/4) / 3
    assert metrics.average_precision(labels, scores)[0] == pytest.approx(100 * (1 + 2 / 3 + 3 / 4) / 3)
    # pairs won: .9 beats both, .8 ties one and beats one, .4 beats one -> (2 + 1.5 + 1) / 6
    assert metrics.auroc(labels, scores)[0] == pytest.approx(100 * 4.5 / 6)
    # at .5: TP 2, FP 1, FN 1
    assert metrics.f1(labels, scores)[0] == pytest.approx(4 / 6)
    # at .4: TP 3, FP 1, FN 0 -> 6/7, better than 4/6 at .8 and 2/4 at .9
    assert metrics.best_f1_threshold(labels, scores)[0] == 0.4
    assert metrics.top1(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2])) == 75.0


@pytest.mark.parametrize("prevalence", [0.01, 0.218, 0.5, 0.909])
def test_a_constant_score_has_exactly_the_prevalence_as_average_precision(prevalence: float) -> None:
    labels = (np.arange(1530) < round(1530 * prevalence)).astype(int)[:, None]
    share = metrics.prevalence(labels)
    constant = metrics.average_precision(labels, np.full(labels.shape, 0.3))
    assert constant[0] == share[0] * 100
    assert metrics.skill(constant, share)[0] == pytest.approx(0, abs=1e-15)
    assert metrics.auroc(labels, np.full(labels.shape, 0.3))[0] == 50
    all_positive = metrics.f1(labels, np.ones(labels.shape))
    assert all_positive[0] == pytest.approx(2 * share[0] / (1 + share[0]), rel=1e-15)


def test_random_scores_have_nearly_the_prevalence_as_average_precision() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.22, 0.31, 0.595, 0.909, 0.909])
    labels = (np.arange(1530)[:, None] < 1530 * shares).astype(int)
    mean = np.mean([metrics.average_precision(labels, rng.random(labels.shape)) for _ in range(200)], axis=0)
    # A random ranking puts a positive at rank i with precision (1 + (i - 1) r) / i on average, r = (P - 1) / (n - 1).
    # Hence the expected AP, r + (1 - r) H_n / n, is a little above the prevalence, and more so in small test sets.
    rest = (labels.sum(axis=0) - 1) / 1529
    expected = rest + (1 - rest) * np.mean(1 / np.arange(1, 1531))
    np.testing.assert_allclose(mean, 100 * expected, atol=0.3)
    assert abs(mean.mean() / 100 - metrics.prevalence(labels).mean()) < 0.003


def test_perfect_scores_have_skill_one_and_reversed_ones_an_auroc_of_zero() -> None:
    labels = (np.arange(40)[:, None] < [5, 20, 39]).astype(int)
    perfect = metrics.average_precision(labels, labels.astype(float))
    np.testing.assert_array_equal(perfect, 100)
    np.testing.assert_array_equal(metrics.skill(perfect, metrics.prevalence(labels)), 1)
    np.testing.assert_array_equal(metrics.auroc(labels, 1.0 - labels), 0)


def test_a_score_of_exactly_one_half_says_yes() -> None:
    assert metrics.f1(np.array([[1], [0]]), np.array([[0.5], [0.499]]))[0] == 1


def test_a_class_without_a_positive_is_skipped_and_named() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.9], [0.2, 0.2], [0.1, 0.7]])
    value, skipped = metrics.cmap(labels, scores)
    assert skipped == (1,)
    assert value == metrics.average_precision(labels, scores)[0]
    for measure in (metrics.average_precision, metrics.auroc, metrics.f1, metrics.best_f1_threshold):
        assert np.isnan(measure(labels, scores)[1])
    assert metrics.cmap(labels[:, 1:], scores[:, 1:])[1] == (0,)
    assert np.isnan(metrics.cmap(labels[:, 1:], scores[:, 1:])[0])


def test_skill_is_undefined_where_every_unit_is_positive() -> None:
    labels = np.ones((4, 1), dtype=int)
    assert np.isnan(metrics.skill(metrics.average_precision(labels, labels * 0.5), metrics.prevalence(labels)))[0]
    assert np.isnan(metrics.auroc(labels, labels * 0.5))[0]


@given(labelled(), st.integers(1, 5))
def test_an_unlabelled_unit_counts_nowhere(case: tuple[np.ndarray, np.ndarray], extra: int) -> None:
    labels, scores = case
    more = np.vstack([labels, np.full((extra, 1), metrics.UNLABELLED)])
    more_scores = np.vstack([scores, np.linspace(0, 1, extra)[:, None]])
    for measure in (metrics.average_precision, metrics.auroc, metrics.f1, metrics.best_f1_threshold):
        np.testing.assert_array_equal(measure(labels, scores), measure(more, more_scores))
    np.testing.assert_array_equal(metrics.prevalence(labels), metrics.prevalence(more))


def test_the_bootstrap_draws_whole_groups_and_as_many_as_there_are() -> None:
    group_V = metrics.group_index(["b", "a", "b", "c", "a", "b"])
    weights = metrics.resample(group_V, 500, seed=3)
    for group in range(3):
        members = weights[:, group_V == group]
        assert (members == members[:, :1]).all()
    drawn = np.stack([weights[:, group_V == g][:, 0] for g in range(3)], axis=1)
    np.testing.assert_array_equal(drawn.sum(axis=1), 3)
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.1)
    np.testing.assert_array_equal(weights, metrics.resample(group_V, 500, seed=3))
    assert (weights != metrics.resample(group_V, 500, seed=4)).any()


def test_the_bootstrap_stream_is_pinned() -> None:
    # The first words of PCG64(0) are 11749869230777074271 and 4976686463289251617: remainders by 3 are 1 and 1.
    words = np.random.PCG64(0).random_raw(3)
    assert words[:2].tolist() == [11749869230777074271, 4976686463289251617]
    expected = np.bincount((words % np.uint64(3)).astype(int), minlength=3)
    np.testing.assert_array_equal(metrics.resample(np.arange(3), 1, seed=0)[0], expected)


def test_grouped_units_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    correct = np.repeat(rng.random(60) < 0.5, 10)
    truth, answer = np.ones(600, dtype=int), correct.astype(int)

    def width(group_V: np.ndarray) -> float:
        low, high = metrics.interval(metrics.top1(truth, answer, metrics.resample(group_V, 400, seed=0)))
        assert low <= metrics.top1(truth, answer) <= high
        return high - low

    # Clips of one source answer alike here: 60 independent answers, an interval about sqrt(10) times as wide.
    assert 2 < width(np.repeat(np.arange(60), 10)) / width(np.arange(600)) < 4.5


def test_the_interval_is_the_central_95_percent_of_what_is_defined() -> None:
    values = np.append(np.arange(0, 101, dtype=float), np.nan)
    assert metrics.interval(values) == pytest.approx((2.5, 97.5))
    assert np.isnan(metrics.interval(np.array([np.nan]))).all()
