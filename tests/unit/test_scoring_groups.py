"""Results of many classes at once (OSPAR) and of single frames: figures, tables, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from stp_bench import floors, metrics
from stp_bench.errors import UserError
from stp_bench.metrics import Ints
from stp_bench.predictions import Predictions, Reference
from stp_bench.schema import Target
from stp_bench.scoring import score

ACTION = Target(name="action", kind="multilabel", classes=("run", "sing", "swim", "unseen"))
TAGS = Target(
    name="privacy",
    kind="multilabel",
    classes=("ball", "car", "dog", "city", "park"),
    private=True,
    groups=(("object", 3), ("scene", 2)),
)
VIDEOS = 60


def arrays(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    actions = (rng.random((VIDEOS, 4)) < 0.4).astype(np.int8)
    actions[:, 3] = 0  # a class that no video has
    labels = (rng.random((VIDEOS, 5)) < (0.5, 0.1, 0.3, 0.4, 0.6)).astype(np.int8)
    return {
        "video_ids": [f"v{i:02d}" for i in range(VIDEOS)],
        "groups": [f"g{i // 3}" for i in range(VIDEOS)],
        "action_V": actions,
        "posterior_VC": rng.random((VIDEOS, 4)),
        "labels_VK": labels,
        "scores": {"video": rng.random((VIDEOS, 5)), "frame": 0.5 * labels + 0.5 * rng.random((VIDEOS, 5))},
    }


def tables(**changes: Any) -> tuple[Predictions, Reference]:
    run = arrays() | changes
    reference = Reference.of(
        action=ACTION, privacy=TAGS, action_V=arrays(1)["action_V"], labels_VK=arrays(1)["labels_VK"],
        thresholds={name: np.full(5, 0.5) for name in run["scores"]},
    )  # fmt: skip
    return Predictions.of(action=ACTION, privacy=TAGS, **run), reference


def mean_ap(labels: Ints, scores: Any) -> float:
    """Mean over classes with a positive, by scikit-learn, in percent."""
    shown = [k for k in range(labels.shape[1]) if labels[:, k].any()]
    return 100 * float(np.mean([average_precision_score(labels[:, k], scores[:, k]) for k in shown]))


def test_every_group_has_a_cmap_of_its_own_and_the_overall_figures_are_undefined() -> None:
    run = arrays()
    found = score(*tables(), bootstrap=0, seed=0)
    video = run["scores"]["video"].astype(np.float32)
    assert found.metrics["object_cmap"] == pytest.approx(mean_ap(run["labels_VK"][:, :3], video[:, :3]))
    assert found.metrics["scene_cmap"] == pytest.approx(mean_ap(run["labels_VK"][:, 3:], video[:, 3:]))
    assert found.metrics["action_cmap"] == pytest.approx(
        mean_ap(run["action_V"], run["posterior_VC"].astype(np.float32))
    )
    for name in ("top1", "f1", "cmap"):
        assert found.metrics[name] is None and f"metrics.{name}" in found.undefined
    assert found.metrics["scored_classes"] == {"action": 3, "object": 3, "scene": 2}
    assert list(found.metrics["per_attribute"]) == ["object", "scene"]


def test_the_worst_attacker_is_found_by_the_mean_excess_of_the_groups() -> None:
    found = score(*tables(), bootstrap=20, seed=0)
    assert found.metrics["worst"]["attacker"] == "frame"  # its scores hold half of the truth
    frame = found.metrics["attackers"]["frame"]
    rows = frame["per_attribute"]
    assert found.metrics["worst"]["excess"] == pytest.approx((rows["object"]["excess"] + rows["scene"]["excess"]) / 2)
    low, high = found.metrics["ci95"]["object_cmap"]
    assert low < found.metrics["object_cmap"] < high


def test_floors_of_groups_come_from_training_counts_of_every_action_that_a_video_shows() -> None:
    predictions, reference = tables()
    train = arrays(1)
    # By hand for one pair: training videos that show the action, and those of them that show the tag.
    shown = train["action_V"][:, 1] == 1
    assert reference.labelled_CK[1, 2] == shown.sum()
    assert reference.positives_CK[1, 2] == (train["labels_VK"][shown, 2] == 1).sum()
    found = score(predictions, reference, bootstrap=0, seed=0)
    labels = arrays()["labels_VK"]
    only = floors.action_only(arrays()["action_V"], reference.labelled_CK, reference.positives_CK)
    assert found.floors["scene_cmap_action_only"] == pytest.approx(mean_ap(labels[:, 3:], only[:, 3:]))
    assert found.floors["object_cmap_prevalence"] == pytest.approx(100 * labels[:, :3].mean())
    assert found.floors["top1_chance"] is None and "floors.top1_chance" in found.undefined


def test_a_video_of_several_actions_gets_the_mean_of_their_rates_and_one_of_none_the_overall_rate() -> None:
    labelled, positives = np.array([[10], [10]]), np.array([[5], [1]])
    both, none = floors.action_only(np.array([[1, 1], [0, 0]]), labelled, positives)[:, 0]
    assert both == pytest.approx((0.5 + 0.1) / 2)
    assert none == pytest.approx(6 / 20)


def test_tables_of_many_classes_come_back_from_their_files(tmp_path: Path) -> None:
    predictions, reference = tables()
    predictions.write(tmp_path / "p.parquet")
    reference.write(tmp_path / "r.parquet")
    again = Predictions.read(tmp_path / "p.parquet"), Reference.read(tmp_path / "r.parquet")
    assert again[0].table == predictions.table and again[0].digest == predictions.digest
    assert again[1].groups == TAGS.groups and again[1].attributes == TAGS.classes
    assert score(*again, bootstrap=20, seed=0) == score(predictions, reference, bootstrap=20, seed=0)
    assert predictions.table.column_names == [
        "video_id", "group", "frame", "attacker", "label_action", "score_action", "label_privacy", "score_privacy",
    ]  # fmt: skip


def test_tables_that_do_not_belong_together_are_refused() -> None:
    predictions, reference = tables()
    few = Target(name="privacy", kind="multilabel", classes=("ball", "city"), private=True,
                 groups=(("object", 1), ("scene", 1)))  # fmt: skip
    other = Reference.of(
        action=ACTION, privacy=few, action_V=arrays()["action_V"], labels_VK=arrays()["labels_VK"][:, :2],
        thresholds=reference.thresholds,
    )  # fmt: skip
    with pytest.raises(UserError, match="label_privacy"):
        score(predictions, other, bootstrap=0, seed=0)


# Frames

FRAME_ACTION = Target(name="action", kind="multiclass", classes=("run", "walk", "swim"))
FACE = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)


def frame_tables() -> tuple[Predictions, Reference, dict[str, Any]]:
    rng = np.random.default_rng(3)
    lengths = [3, 1, 4, 2, 5, 3]
    video = np.repeat(np.arange(6), lengths)
    posterior = rng.dirichlet(np.ones(3), 6)
    labels = (rng.random((len(video), 2)) < 0.5).astype(np.int8)
    labels[0], labels[1, 0] = 1, metrics.UNLABELLED
    run = {
        "video_ids": [f"v{v}" for v in video], "groups": [None] * len(video), "action_V": (video % 3),
        "posterior_VC": posterior[video], "labels_VK": labels, "scores": {"frame": rng.random((len(video), 2))},
        "frames": [2 * f for n in lengths for f in range(n)],
    }  # fmt: skip
    reference = Reference.of(
        action=FRAME_ACTION, privacy=FACE, action_V=run["action_V"], labels_VK=labels,
        thresholds={"frame": np.full(2, 0.5)},
    )  # fmt: skip
    return Predictions.of(action=FRAME_ACTION, privacy=FACE, **run), reference, run | {"video": video}


def test_frames_are_scored_one_by_one_and_videos_by_their_mean() -> None:
    predictions, reference, run = frame_tables()
    found = score(predictions, reference, bootstrap=20, seed=0).metrics
    labels, scores, video = run["labels_VK"], run["scores"]["frame"], run["video"]
    known = labels[:, 0] >= 0
    face = 100 * average_precision_score(labels[known, 0], scores[known, 0])
    gender = 100 * average_precision_score(labels[:, 1], scores[:, 1])
    assert found["cmap"] == pytest.approx((face + gender) / 2)
    assert found["attackers"]["video"] is None and found["worst"]["attacker"] == "frame"
    means = np.stack([scores[video == v].mean(axis=0) for v in range(6)])
    some = np.stack([labels[video == v].max(axis=0) for v in range(6)])
    expected = [100 * average_precision_score(some[:, k], means[:, k]) for k in range(2)]
    assert found["video_averaged"]["cmap"] == pytest.approx(np.mean(expected))


def test_actions_of_frames_are_counted_once_per_video() -> None:
    predictions, reference, run = frame_tables()
    found = score(predictions, reference, bootstrap=0, seed=0).metrics
    _, first = np.unique(run["video"], return_index=True)
    true, guess = run["action_V"][first], run["posterior_VC"][first].argmax(axis=1)
    assert found["top1"] == pytest.approx(100 * (true == guess).mean())
    assert found["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(true, guess))


def test_videos_need_the_video_attacker_and_frames_do_not() -> None:
    _, reference, run = frame_tables()
    videos = {name: value for name, value in run.items() if name not in ("frames", "video")}
    videos["video_ids"] = [f"v{i:02d}" for i in range(len(run["video"]))]
    with pytest.raises(UserError, match="headline"):
        score(Predictions.of(action=FRAME_ACTION, privacy=FACE, **videos), reference, bootstrap=0, seed=0)


def test_a_constant_answer_has_the_balanced_accuracy_of_chance() -> None:
    assert metrics.balanced_accuracy(np.array([0, 0, 0, 1, 2]), np.zeros(5, int)) == pytest.approx(100 / 3)
