"""Predictions, reference, scores and results: what is written is what is scored, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stp_bench import floors, metrics
from stp_bench.errors import BenchError, UserError
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result, aggregate, share_left
from stp_bench.schema import Target
from stp_bench.scoring import score

GOLDEN = Path(__file__).parents[1] / "golden/result-schema1.json"
ACTION = Target(name="action", kind="multiclass", classes=("jump", "run", "wave"))
PRIVACY = Target(
    name="privacy", kind="multilabel", classes=("face", "skin_color", "gender", "nudity", "relationship"), private=True
)
RATES = np.array([0.6, 0.8, 0.7, 0.4, 0.3])


def arrays(videos: int = 60, attackers: tuple[str, ...] = ("video", "frame"), seed: int = 0) -> dict[str, Any]:
    """A run whose attackers see something, ``frame`` more than ``video``."""
    rng = np.random.default_rng(seed)
    action = np.arange(videos) % 3
    posterior = rng.dirichlet(np.ones(3), videos) * 0.6
    posterior[np.arange(videos), action] += 0.4
    labels = (rng.random((videos, 5)) < RATES).astype(int)
    signal = {"video": 0.2, "frame": 0.5}
    scores = {
        name: np.clip(0.5 + signal[name.split("-")[0]] * (labels - 0.5) + rng.normal(0, 0.2, labels.shape), 0, 1)
        for name in attackers
    }
    return {
        "video_ids": [f"{ACTION.classes[a]}/clip {i:03d}" for i, a in enumerate(action)],
        "groups": [f"title {i // 4}" for i in range(videos)],
        "action_V": action,
        "posterior_VC": posterior,
        "labels_VK": labels,
        "scores": scores,
    }


def tables(**changes: Any) -> tuple[Predictions, Reference]:
    run = arrays(**{k: changes.pop(k) for k in ("videos", "attackers", "seed") if k in changes}) | changes
    train = arrays(videos=90, attackers=tuple(run["scores"]), seed=7)
    thresholds = {name: metrics.best_f1_threshold(train["labels_VK"], s) for name, s in train["scores"].items()}
    reference = Reference.of(
        action=ACTION,
        privacy=PRIVACY,
        action_V=train["action_V"],
        labels_VK=train["labels_VK"],
        thresholds=thresholds,
    )
    return Predictions.of(action=ACTION, privacy=PRIVACY, **run), reference


def result(**changes: Any) -> Result:
    return dataclasses.replace(Result.read(GOLDEN), **changes)


# Scores


def test_scores_are_the_metrics_of_the_arrays() -> None:
    run = arrays()
    predictions, reference = tables()
    found = score(predictions, reference, bootstrap=0, seed=0)
    labels, video, frame = run["labels_VK"], run["scores"]["video"], run["scores"]["frame"]
    assert found.metrics["cmap"] == metrics.cmap(labels, video)[0]
    assert found.metrics["f1"] == metrics.macro(metrics.f1(labels, video))
    assert found.metrics["auroc"] == metrics.macro(metrics.auroc(labels, video))
    assert found.metrics["attackers"]["frame"]["cmap"] == metrics.cmap(labels, frame)[0]
    assert found.metrics["top1"] == 100 * np.mean(run["posterior_VC"].argmax(axis=1) == run["action_V"])
    assert list(found.metrics["per_attribute"]) == list(PRIVACY.classes)
    assert found.metrics["per_attribute"]["face"]["ap"] == metrics.average_precision(labels, video)[0]
    counts = reference.labelled_CK, reference.positives_CK
    only = floors.action_only(run["action_V"], *counts)
    informed = floors.action_informed(run["posterior_VC"].astype(np.float32), *counts)
    assert found.floors["cmap_action_only"] == metrics.cmap(labels, only)[0]
    assert found.floors["f1_action_informed"] == metrics.macro(metrics.f1(labels, informed))
    assert found.floors["top1_chance"] == 100 / 3


def test_excess_is_the_attacker_minus_the_action_informed_floor_of_the_same_run() -> None:
    found = score(*tables(), bootstrap=0, seed=0)
    assert found.metrics["excess"] == {
        "cmap": found.metrics["cmap"] - found.floors["cmap_action_informed"],
        "f1": found.metrics["f1"] - found.floors["f1_action_informed"],
    }


def test_worst_is_the_attacker_with_the_larger_excess_and_the_headline_stays_the_video_attacker() -> None:
    found = score(*tables(), bootstrap=0, seed=0).metrics
    frame = found["attackers"]["frame"]
    assert found["worst"]["attacker"] == "frame"
    assert found["worst"]["cmap"] == frame["cmap"] > found["cmap"] == found["attackers"]["video"]["cmap"]
    assert found["worst"]["excess"] == frame["excess"]["cmap"]


def test_an_attacker_that_reads_only_the_action_posteriors_has_no_excess() -> None:
    run = arrays()
    _, reference = tables()
    informed = floors.action_informed(
        run["posterior_VC"].astype(np.float32), reference.labelled_CK, reference.positives_CK
    )
    predictions, _ = tables(scores={"video": informed, "frame": informed})
    found = score(predictions, reference, bootstrap=30, seed=0).metrics
    assert found["excess"] == {"cmap": 0, "f1": 0}
    # Paired resampling: the same videos for both, so the difference has no spread at all.
    assert found["ci95"]["excess_cmap"] == [0, 0]
    assert found["worst"]["attacker"] == "video"


def test_intervals_hold_the_value_and_narrow_with_more_groups() -> None:
    few, many = (score(*tables(videos=n), bootstrap=200, seed=0).metrics for n in (60, 600))
    for name in ("top1", "f1", "cmap"):
        assert few["ci95"][name][0] <= few[name] <= few["ci95"][name][1]
        assert np.ptp(many["ci95"][name]) < np.ptp(few["ci95"][name])
    assert few["ci95"]["excess_cmap"][0] <= few["excess"]["cmap"] <= few["ci95"]["excess_cmap"][1]
    assert few["bootstrap"] == {"resamples": 200, "seed": 0, "groups": 15}


def test_videos_without_a_group_are_resampled_one_by_one() -> None:
    predictions, reference = tables(groups=[None] * 60)
    assert score(predictions, reference, bootstrap=10, seed=0).metrics["bootstrap"]["groups"] == 60


def test_one_group_has_no_interval() -> None:
    predictions, reference = tables(groups=["only"] * 60)
    found = score(predictions, reference, bootstrap=10, seed=0)
    assert found.metrics["ci95"]["cmap"] is None
    assert "metrics.ci95.cmap" in found.undefined


def test_several_seeds_of_an_attacker_give_mean_spread_and_maximum() -> None:
    predictions, reference = tables(attackers=("video", "video-1", "video-2", "frame"))
    found = score(predictions, reference, bootstrap=20, seed=0).metrics
    labels = predictions.labels_VK
    each = [metrics.cmap(labels, predictions.scores_VK(name))[0] for name in ("video", "video-1", "video-2")]
    assert found["cmap"] == pytest.approx(np.mean(each))
    block = found["attackers"]["video"]
    assert block["seeds"] == 3
    assert block["spread"]["cmap"] == pytest.approx(
        {"mean": np.mean(each), "sd": np.std(each, ddof=1), "max": max(each)}
    )
    assert found["per_attribute"]["face"]["ap"] == pytest.approx(
        np.mean([metrics.average_precision(labels, predictions.scores_VK(n))[0] for n in predictions.attackers[1:]])
    )
    assert "spread" not in found["attackers"]["frame"]


def test_what_is_undefined_is_null_and_named() -> None:
    labels = arrays()["labels_VK"].copy()
    labels[:, 4] = 0
    labels[:, 1] = 1
    predictions, reference = tables(labels_VK=labels, attackers=("video",))
    found = score(predictions, reference, bootstrap=5, seed=0)
    assert found.metrics["per_attribute"]["relationship"] == {
        "ap": None, "f1": None, "auroc": None, "prevalence": 0, "excess": None,
    }  # fmt: skip
    assert found.metrics["per_attribute"]["skin_color"]["auroc"] is None
    assert found.metrics["attackers"]["frame"] is None
    assert {"metrics.per_attribute.relationship.ap", "metrics.attackers.frame"} <= set(found.undefined)
    each = metrics.average_precision(predictions.labels_VK, predictions.scores_VK("video"))
    assert found.metrics["cmap"] == metrics.macro(each[:4])
    assert "NaN" not in json.dumps([found.metrics, found.floors])


def test_nothing_defined_at_all_is_still_a_result() -> None:
    labels = np.full((60, 5), metrics.UNLABELLED)
    found = score(*tables(labels_VK=labels), bootstrap=5, seed=0)
    assert found.metrics["cmap"] is None
    assert found.metrics["worst"]["attacker"] == "video"
    assert found.metrics["top1"] > 0
    result(metrics=found.metrics, floors=found.floors, undefined=found.undefined).to_dict()


def test_actions_of_a_video_count_once_however_many_of_its_frames_are_scored() -> None:
    run = arrays(videos=4)
    wrong = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=float)
    rows = [0, 0, 0, 1, 2, 3]
    predictions, reference = tables(
        video_ids=[run["video_ids"][i] for i in rows],
        groups=[None] * 6,
        frames=[0, 2, 4, 0, 0, 0],
        action_V=run["action_V"][rows],
        posterior_VC=wrong[rows],
        labels_VK=run["labels_VK"][rows],
        scores={name: values[rows] for name, values in run["scores"].items()},
    )
    # Videos 1, 2 and 3 (actions 1, 2, 0) are right, video 0 with its three frames is wrong.
    assert score(predictions, reference, bootstrap=0, seed=0).metrics["top1"] == 75


# Tables


def test_scores_computed_from_the_files_equal_those_from_memory_to_the_last_digit(tmp_path: Path) -> None:
    predictions, reference = tables(attackers=("video", "video-1", "frame"))
    predictions.write(tmp_path / "predictions.parquet")
    reference.write(tmp_path / "reference.parquet")
    again = Predictions.read(tmp_path / "predictions.parquet"), Reference.read(tmp_path / "reference.parquet")
    assert score(*again, bootstrap=50, seed=1) == score(predictions, reference, bootstrap=50, seed=1)
    assert again[0].table == predictions.table
    assert again[0].digest == predictions.digest


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    predictions, reference = tables()
    order = np.random.default_rng(0).permutation(predictions.table.num_rows)
    pq.write_table(predictions.table.take(order), tmp_path / "p.parquet")
    shuffled = Predictions.read(tmp_path / "p.parquet")
    assert shuffled.table == predictions.table
    assert score(shuffled, reference, bootstrap=20, seed=0) == score(predictions, reference, bootstrap=20, seed=0)


def test_columns_are_the_documented_ones_in_order() -> None:
    predictions, _ = tables()
    assert predictions.table.column_names == [
        "video_id", "group", "frame", "attacker", "action", "action_pred", "action_scores",
        *(f"label_{name}" for name in PRIVACY.classes), *(f"score_{name}" for name in PRIVACY.classes),
    ]  # fmt: skip
    keys = [*zip(predictions.table["video_id"].to_pylist(), predictions.table["attacker"].to_pylist())]
    assert keys == sorted(keys)


def test_unlabelled_attributes_are_null_in_the_file_and_come_back(tmp_path: Path) -> None:
    labels = arrays()["labels_VK"].copy()
    labels[3, 2] = metrics.UNLABELLED
    predictions, _ = tables(labels_VK=labels)
    predictions.write(tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet")["label_gender"].null_count == 2  # one per attacker
    np.testing.assert_array_equal(np.sort(Predictions.read(tmp_path / "p.parquet").labels_VK[:, 2])[:2], [-1, 0])


def test_wider_types_of_the_same_kind_are_read(tmp_path: Path) -> None:
    predictions, _ = tables()
    wide = predictions.table.cast(
        pa.schema(
            [
                pa.field(f.name, {pa.string(): pa.large_string(), pa.int8(): pa.int64()}.get(f.type, f.type))
                for f in predictions.table.schema
            ]
        )
    )
    pq.write_table(wide, tmp_path / "p.parquet")
    assert Predictions.read(tmp_path / "p.parquet").table == predictions.table


def replaced(field: str, change: Callable[[list[Any]], list[Any]], kind: pa.DataType | None = None) -> Any:
    def damage(table: pa.Table) -> pa.Table:
        at = table.column_names.index(field)
        return table.set_column(at, field, pa.array(change(table[field].to_pylist()), kind or table[field].type))

    return damage


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda t: t.drop_columns(["score_face"]), "'score_face' is missing"),
        (lambda t: t.append_column("score_age", t["score_face"]), "'score_age' is not expected"),
        (lambda t: t.append_column("video_id", t["video_id"]), "'video_id' is there twice"),
        (lambda t: t.slice(0, 0), "'video_id' has no rows"),
        (lambda t: pa.concat_tables([t, t.slice(0, 2)]), "'video_id' repeats|'attacker' does not name each"),
        (lambda t: t.slice(1), "'attacker' does not name each"),
        (replaced("score_face", lambda x: [str(v) for v in x], pa.string()), "'score_face' is of type string"),
        (replaced("score_face", lambda x: [math.nan, *x[1:]]), "'score_face' has a value that is not finite"),
        (replaced("score_face", lambda x: [1.5, *x[1:]]), "'score_face' has a value outside"),
        (replaced("score_face", lambda x: [None, *x[1:]]), "'score_face' has null"),
        (replaced("label_face", lambda x: [2, *x[1:]]), "'label_face' has a value other than"),
        (replaced("label_face", lambda x: [None, *x[1:]]), "'label_face' differs between rows"),
        (replaced("label_face", lambda x: [300, *x[1:]], pa.int64()), "'label_face' does not fit"),
        (replaced("action_scores", lambda x: [[0.5, 0.5, 0.5], *x[1:]]), "'action_scores' does not sum to 1"),
        (replaced("action_scores", lambda x: [[0.5, 0.5], *x[1:]]), "'action_scores' has lists of different"),
        (replaced("action_scores", lambda x: [[None, 0.5, 0.5], *x[1:]]), "'action_scores' has a value that is not"),
        (replaced("action_scores", lambda x: [[] for _ in x]), "'action_scores' does not sum to 1"),
        (replaced("action", lambda x: ["run", *x[1:]]), "'action' differs between rows"),
        (replaced("group", lambda x: [None, *x[1:]]), "'group' differs between rows"),
        (replaced("attacker", lambda x: ["guess" if v == "frame" else v for v in x]), "'attacker' is 'guess'"),
        (replaced("frame", lambda x: [-1] * len(x)), "'frame' has a negative"),
    ],
)
def test_a_damaged_table_is_refused_and_the_field_is_named(
    damage: Callable[[pa.Table], pa.Table], complaint: str, tmp_path: Path
) -> None:
    pq.write_table(damage(tables()[0].table), tmp_path / "p.parquet")
    with pytest.raises(UserError, match=complaint):
        Predictions.read(tmp_path / "p.parquet")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="not a parquet file"):
        Predictions.read(tmp_path / "p.parquet")
    with pytest.raises(UserError, match="no such file"):
        Reference.read(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda t: t.drop_columns(["n"]), "'n' is missing"),
        (lambda t: t.slice(1), "'attribute' is not listed once"),
        (lambda t: t.slice(0, 0), "'attribute' is not listed once"),
        (replaced("positives", lambda x: [x[0] + 99, *x[1:]]), "'positives' is not between"),
        (replaced("threshold_video", lambda x: [0.123, *x[1:]]), "'threshold_video' differs between actions"),
        (lambda t: t.append_column("threshold_x", t["threshold_video"]), "'attacker' is 'x'"),
    ],
)
def test_a_damaged_reference_is_refused_and_the_field_is_named(
    damage: Callable[[pa.Table], pa.Table], complaint: str, tmp_path: Path
) -> None:
    tables()[1].write(tmp_path / "r.parquet")
    pq.write_table(damage(pq.read_table(tmp_path / "r.parquet")), tmp_path / "r.parquet")
    with pytest.raises(UserError, match=complaint):
        Reference.read(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"actions": ("jump", "run", "sit")}, "'action' has 'wave'"),
        ({"actions": ("jump", "run")}, "'action_scores' has 3 values"),
        ({"attributes": ("face", "skin_color", "gender", "nudity", "age")}, r"'label_\*' names"),
        ({"thresholds": {}}, "'attacker' names"),
    ],
)
def test_tables_of_two_runs_are_not_scored_together(change: dict[str, Any], complaint: str) -> None:
    predictions, reference = tables()
    with pytest.raises(UserError, match=complaint):
        score(predictions, dataclasses.replace(reference, **change), bootstrap=0, seed=0)


def test_an_answer_that_is_not_the_most_probable_one_is_refused(tmp_path: Path) -> None:
    predictions, reference = tables()
    other = {"jump": "run", "run": "wave", "wave": "jump"}
    damage = replaced("action_pred", lambda x: [other[v] for v in x])
    pq.write_table(damage(predictions.table), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="action_pred"):
        score(Predictions.read(tmp_path / "p.parquet"), reference, bootstrap=0, seed=0)


def test_predictions_without_a_video_attacker_have_no_headline() -> None:
    with pytest.raises(UserError, match="headline"):
        score(*tables(attackers=("frame",)), bootstrap=0, seed=0)


def test_digests_tell_what_was_predicted_from_how() -> None:
    plain, other_scores, other_videos = tables()[0], tables(seed=0, attackers=("video",))[0], tables(videos=57)[0]
    assert plain.videos_digest == other_scores.videos_digest != other_videos.videos_digest
    assert plain.digest != other_scores.digest


def test_an_attribute_without_training_positives_has_no_tuned_threshold(tmp_path: Path) -> None:
    predictions, reference = tables()
    thresholds = {name: np.array([0.5, 0.5, 0.5, 0.5, np.nan]) for name in reference.thresholds}
    dataclasses.replace(reference, thresholds=thresholds).write(tmp_path / "r.parquet")
    again = Reference.read(tmp_path / "r.parquet")
    found = score(predictions, again, bootstrap=0, seed=0).metrics
    expected = metrics.f1(predictions.labels_VK, predictions.scores_VK("video"))[:4].mean()
    assert found["f1_tuned"] == pytest.approx(expected)


# Results


def test_the_oldest_record_still_reads_and_writes_back_the_same_bytes(tmp_path: Path) -> None:
    golden = Result.read(GOLDEN)
    assert (golden.schema, golden.method, golden.metrics["top1"]) == (1, "stprivacy", 100.0)
    golden.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == GOLDEN.read_bytes()


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def damage(document: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            document = document[parent]
        del document[name]

    return damage


def having(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def damage(document: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            document = document[parent]
        document[name] = value

    return damage


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 0


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without("schema"), "no field 'schema'"),
        (having("schema", 2), "reads up to 1"),
        (having("schema", "1"), "reads up to 1"),
        (having("schema", True), "reads up to 1"),
        (having("kind", "aggregate"), "aggregate of several"),
        (without("method"), "'method' is missing"),
        (without("metrics.excess.cmap"), r"'metrics\.excess\.cmap' is missing"),
        (without("metrics.per_attribute.face.auroc"), r"'metrics\.per_attribute\.face\.auroc' is missing"),
        (without("metrics.attackers.frame.skill"), r"'metrics\.attackers\.frame\.skill' is missing"),
        (without("floors.cmap_action_informed"), r"'floors\.cmap_action_informed' is missing"),
        (without("provenance.stages"), r"'provenance\.stages' is missing"),
        (having("metrics.cmap", "63"), r"'metrics\.cmap' is '63' instead of a number or null"),
        (having("metrics.cmap", math.nan), r"'metrics\.cmap' is not a finite number"),
        (having("provenance.seconds", {"fit": math.inf}), r"'provenance\.seconds\.fit' is not a finite number"),
        (having("metrics.cmap", None), r"'metrics\.cmap' is null but not named"),
        (having("metrics.ci95.cmap", [1.0]), r"'metrics\.ci95\.cmap' is not a pair"),
        (having("metrics.ci95.zz", 5), r"'metrics\.ci95\.zz' is not a pair"),
        (having("metrics.attackers.zz", 5), r"'metrics\.attackers\.zz' is 5 instead of an object"),
        (having("floors.zz", "1"), r"'floors\.zz' is '1' instead of a number or null"),
        (having("undefined", [[]]), "'undefined' is not a list of paths"),
        (having("provenance.seconds.fit", 10**400), r"'provenance\.seconds\.fit' is a whole number of more than"),
        (having("provenance.config.of", "\udc80"), r"'provenance\.config\.of' holds characters that no text has"),
        (having("metrics.ci95.\udc80", None), r"a name in field 'metrics\.ci95' is no text"),
        (having("provenance.config.of", nested(60)), "nested more than"),
        (having("seed", None), "'seed' is None instead of a whole number"),
        (having("seed", True), "'seed' is True instead of a whole number"),
        (having("data", []), "'data' is .* instead of an object"),
    ],
)
def test_a_damaged_result_is_refused_and_the_field_is_named(
    damage: Callable[[dict[str, Any]], None], complaint: str, tmp_path: Path
) -> None:
    document = json.loads(GOLDEN.read_text())
    damage(document)
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=complaint):
        Result.read(tmp_path / "result.json")


def test_a_document_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(UserError, match="schema"):
        Result.read(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(BenchError):
        Result.read(tmp_path / "result.json")


def test_a_wrong_result_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="left"):
        result(left={}).write(tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


def test_fields_that_a_newer_writer_added_inside_a_block_are_kept() -> None:
    document = json.loads(GOLDEN.read_text())
    document["provenance"]["driver"] = "1.2"
    assert Result.from_dict(document).to_dict() == document


FLOORS = {"top1_chance": 10.0, "f1_all_positive": 0.6, "cmap_prevalence": 50.0}


def test_left_is_the_share_of_raw_above_its_floor() -> None:
    raw, ours = {"top1": 90.0, "f1": 0.8, "cmap": 75.0}, {"top1": 50.0, "f1": 0.55, "cmap": 60.0}
    left = share_left(ours, FLOORS, raw, FLOORS)
    assert left == pytest.approx({"top1": 40 / 80, "f1": -0.05 / 0.2, "cmap": 10 / 25})
    assert share_left(raw, FLOORS, raw, FLOORS) == {"top1": 1, "f1": 1, "cmap": 1}


def test_left_is_null_without_raw_or_where_raw_is_not_above_its_floor() -> None:
    ours = {"top1": 50.0, "f1": 0.55, "cmap": 60.0}
    assert share_left(ours, FLOORS) == {"top1": None, "f1": None, "cmap": None}
    raw = {"top1": 90.0, "f1": 0.6, "cmap": None}
    assert share_left(ours, FLOORS, raw, FLOORS) == {"top1": 0.5, "f1": None, "cmap": None}


def with_top1(value: float, **changes: Any) -> Result:
    return result(metrics={**Result.read(GOLDEN).metrics, "top1": value}, **changes)


def test_an_aggregate_tells_mean_and_spread_of_each_setting() -> None:
    runs = [with_top1(70.0, seed=0), with_top1(74.0, seed=1), with_top1(60.0, method="raw")]
    document = aggregate(runs)
    assert (document["schema"], document["kind"]) == (1, "aggregate")
    assert document["results"] == [run.to_dict() for run in runs]
    ours, raw = document["aggregates"]
    assert (ours["method"], ours["seeds"], ours["runs"]) == ("stprivacy", [0, 1], 2)
    assert ours["metrics"]["top1"] == {"mean": 72.0, "sd": pytest.approx(8**0.5), "min": 70.0, "max": 74.0}
    assert raw["metrics"]["top1"] == {"mean": 60.0, "sd": None, "min": 60.0, "max": 60.0}
    assert ours["metrics"]["worst_excess"]["sd"] == 0
    json.dumps(document, allow_nan=False)


def test_a_figure_that_a_run_lacks_is_null_in_the_aggregate() -> None:
    without_left = result(left={"top1": None, "f1": None, "cmap": None}, seed=1)
    ours = aggregate([result(), without_left])["aggregates"][0]
    assert ours["metrics"]["left_top1"] == {"mean": None, "sd": None, "min": None, "max": None}
