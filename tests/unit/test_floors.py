"""Floors: hand-worked attackers, and the published figures of the real VP-HMDB51 labels where they lie at hand."""

from __future__ import annotations

import pickle
import re
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import floors, metrics

RELEASE = Path(__file__).parents[3] / "shared/data"
LABELS = RELEASE / "labels/hmdb51_privacy_attribute_label.pickle"
SPLITS = RELEASE / "splits/hmdb51_splits.tar.gz"

# Three actions: 0 has 3 of 4 positive, 1 has 1 of 2, 2 was never labelled.
ACTION = np.array([0, 0, 0, 0, 1, 1, 2])
LABEL = np.array([[1], [1], [1], [0], [1], [0], [metrics.UNLABELLED]])


def test_training_counts_leave_unlabelled_videos_out() -> None:
    labelled, positives = floors.training_counts(ACTION, LABEL, 3)
    assert labelled.tolist() == [[4], [2], [0]]
    assert positives.tolist() == [[3], [1], [0]]


def test_the_action_only_attacker_scores_the_training_rate_of_the_true_action() -> None:
    counts = floors.training_counts(ACTION, LABEL, 3)
    scores = floors.action_only(np.array([1, 0, 2]), *counts)
    assert scores[:, 0].tolist() == [1 / 2, 3 / 4, 4 / 6]  # an unlabelled action: all labelled videos, 4 of 6
    # Exactly one half says yes: test labels 1, 1, 0 -> TP 2, FP 1, FN 0.
    assert metrics.f1(np.array([[1], [1], [0]]), scores)[0] == pytest.approx(4 / 5)


def test_the_action_informed_attacker_mixes_smoothed_rates_by_the_posterior() -> None:
    counts = floors.training_counts(ACTION, LABEL, 3)
    # Smoothed rates: (3+1)/(4+2), (1+1)/(2+2), (0+1)/(0+2).
    scores = floors.action_informed(np.array([[0.5, 0.25, 0.25], [0, 1, 0]]), *counts)
    assert scores[:, 0] == pytest.approx([0.5 * 2 / 3 + 0.25 * 1 / 2 + 0.25 * 1 / 2, 1 / 2])


def test_a_certain_and_correct_posterior_ranks_as_the_true_action_does_with_equal_class_sizes() -> None:
    rng = np.random.default_rng(0)
    action = np.repeat(np.arange(6), 20)
    labels = (rng.random((120, 2)) < np.linspace(0.1, 0.9, 6)[action, None]).astype(int)
    counts = floors.training_counts(action, labels, 6)
    informed = floors.action_informed(np.eye(6)[action], *counts)
    only = floors.action_only(action, *counts)
    np.testing.assert_array_equal(metrics.average_precision(labels, informed), metrics.average_precision(labels, only))


def test_an_uninformative_posterior_gives_every_video_one_score() -> None:
    counts = floors.training_counts(ACTION, LABEL, 3)
    scores = floors.action_informed(np.full((5, 3), 1 / 3), *counts)
    assert len(np.unique(scores)) == 1


def test_priors_of_a_class_follow_from_its_prevalence() -> None:
    share = np.array([0.25, 0.5, 1.0, 0.0])
    np.testing.assert_allclose(floors.f1_all_positive(share), [0.4, 2 / 3, 1, np.nan])
    np.testing.assert_allclose(floors.f1_majority(share), [0, 2 / 3, 1, np.nan])


def test_priors_agree_with_the_predictors_they_stand_for() -> None:
    labels = (np.arange(30)[:, None] < [3, 15, 28]).astype(int)
    share = metrics.prevalence(labels)
    majority = np.broadcast_to(share >= 0.5, labels.shape).astype(float)
    np.testing.assert_allclose(floors.f1_all_positive(share), metrics.f1(labels, np.ones(labels.shape)))
    np.testing.assert_allclose(floors.f1_majority(share), metrics.f1(labels, majority))


def test_top1_floors() -> None:
    assert floors.top1_chance(51) == pytest.approx(1.9608, abs=1e-4)
    assert floors.top1_majority(np.array([0, 3, 3, 1])) == 50


class LabelReader(pickle.Unpickler):
    """Reads the published pickle as data: three globals are known, and anything else is refused."""

    KNOWN = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a label file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


@lru_cache
def vp_hmdb51(split: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Actions and labels (skin color, face, gender, nudity, relationship) of both sides of an official split."""
    with LABELS.open("rb") as file:
        labels = {name.removesuffix(".mp4"): row.reshape(5) for name, row in LabelReader(file).load().items()}
    rows: dict[str, list[tuple[str, np.ndarray]]] = {"1": [], "2": [], "0": []}
    with tarfile.open(SPLITS) as archive:
        for member in archive.getmembers():
            if found := re.search(rf"([^/]+)_test_split{split}\.txt$", member.name):
                lines = archive.extractfile(member).read().decode().splitlines()  # type: ignore[union-attr]
                for name, code in (line.split() for line in lines):
                    rows[code].append((found[1], labels[f"{found[1]}/{name.removesuffix('.avi')}"]))
    number = {name: i for i, name in enumerate(sorted({action for action, _ in rows["1"]}))}
    return {
        part: (np.array([number[a] for a, _ in rows[code]]), np.stack([row for _, row in rows[code]]))
        for part, code in (("train", "1"), ("test", "2"))
    }


real = pytest.mark.skipif(not (LABELS.exists() and SPLITS.exists()), reason="the VP-HMDB51 release is not at hand")


@real
def test_floors_of_vp_hmdb51_split_1() -> None:
    parts = vp_hmdb51(1)
    (action, labels), counts = parts["test"], floors.training_counts(*parts["train"], 51)
    assert len(parts["train"][0]) == 3570
    assert labels.sum(axis=0).tolist() == [1391, 911, 1389, 474, 333]
    share = metrics.prevalence(labels)
    train_share = counts[1].sum(axis=0) / counts[0].sum(axis=0)
    assert train_share.round(3).tolist() == [0.908, 0.615, 0.914, 0.272, 0.203]
    assert share.round(3).tolist() == [0.909, 0.595, 0.908, 0.310, 0.218]
    # 2p/(1+p) with p = 333/1530 is 666/1863 = .35749.
    assert floors.f1_all_positive(share).round(4).tolist() == [0.9524, 0.7464, 0.9517, 0.4731, 0.3575]
    assert floors.f1_majority(share).mean().round(3) == 0.530
    scores = floors.action_only(action, *counts)
    assert metrics.average_precision(labels, scores).round(2).tolist() == [95.49, 81.25, 94.88, 51.29, 45.61]
    assert metrics.f1(labels, scores).round(3).tolist() == [0.952, 0.740, 0.952, 0.398, 0.285]
    assert metrics.auroc(labels, scores).round(1).tolist() == [71.9, 75.0, 69.4, 72.3, 67.3]
    assert metrics.auroc(labels, scores).mean().round(1) == 71.2


@real
@pytest.mark.parametrize(
    ("split", "chance", "all_positive", "cmap", "f1", "tuned"),
    [
        (1, 58.80, 0.696, 73.71, 0.665, 0.721),
        (2, 58.89, 0.695, 73.75, 0.680, 0.734),
        (3, 58.65, 0.689, 73.06, 0.690, 0.731),
    ],
)
def test_floors_of_every_vp_hmdb51_split(
    split: int, chance: float, all_positive: float, cmap: float, f1: float, tuned: float
) -> None:
    parts = vp_hmdb51(split)
    (train_action, train_labels), (action, labels) = parts["train"], parts["test"]
    counts = floors.training_counts(train_action, train_labels, 51)
    scores = floors.action_only(action, *counts)
    share = metrics.prevalence(labels)
    thresholds = metrics.best_f1_threshold(train_labels, floors.action_only(train_action, *counts))
    assert round(100 * share.mean(), 2) == chance
    assert round(floors.f1_all_positive(share).mean(), 3) == all_positive
    assert round(metrics.cmap(labels, scores)[0], 2) == cmap
    assert round(metrics.f1(labels, scores).mean(), 3) == f1
    assert round(metrics.f1(labels, scores, thresholds=thresholds).mean(), 3) == tuned
