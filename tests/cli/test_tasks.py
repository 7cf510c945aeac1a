"""The paper's other tables on their embedded twins: single frames, faces, and scenes full of objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.scoring import score

Run = Callable[..., Any]
FACE_ATTRIBUTES = ["young", "pointy_nose", "male", "rosy_cheeks", "brown_hair"]


def recomputed(folder: Path, document: Any) -> None:
    """What is printed follows from the two tables to the last digit."""
    assert json.loads((folder / "result.json").read_text()) == document
    assert Result.read(folder / "result.json").to_dict() == document
    plan = document["metrics"]["bootstrap"]
    found = score(
        Predictions.read(folder / "predictions.parquet"), Reference.read(folder / "reference.parquet"),
        bootstrap=plan["resamples"], seed=plan["seed"],
    )  # fmt: skip
    assert (found.metrics, found.floors) == (document["metrics"], document["floors"])
    assert sorted(found.undefined) == sorted(document["undefined"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["blackening", "stprivacy"])
def test_frames_are_judged_by_labels_of_their_own(run: Run, tmp_path: Path, method: str) -> None:
    out = tmp_path / "run"
    words = ("--method", method, "--protocol", "frame", "--preset", "tiny", "--out", out, "--json")
    document = run("evaluate", *words).json()
    assert (document["protocol"], document["fit_on"], document["on"]) == ("frame", "synth-hmdb", "synth-pa")
    recomputed(out, document)
    # Videos of synth-pa are videos of synth-hmdb: those to be tested do not teach the action, nor the method.
    assert document["skipped"]["overlap"] > 0
    rows = pd.read_parquet(out / "predictions.parquet")
    assert rows["frame"].notna().all() and set(rows["attacker"]) == {"frame"}
    assert (rows["frame"] % 2 == 0).all()  # the sampling rate of the data
    assert (rows.groupby("video_id")["label_face"].nunique() > 1).any()  # a face that turns away
    assert document["metrics"]["attackers"]["video"] is None
    assert document["metrics"]["video_averaged"]["cmap"] is not None
    kinds = [stage["kind"] for stage in document["provenance"]["stages"]]
    assert kinds.count("probes") == 2  # what the action and the attacker learn from differs
    again = run("evaluate", *words)
    assert again.json() == document and "found" in again.err


@pytest.mark.slow
def test_an_expression_is_the_action_and_five_facial_attributes_are_private(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--method", "stprivacy", "--on", "synth-faces", "--preset", "tiny", "--out", out, "--json")
    document = run("evaluate", *words).json()
    recomputed(out, document)
    assert list(document["metrics"]["per_attribute"]) == FACE_ATTRIBUTES
    assert document["floors"]["top1_chance"] == 100 / 8
    assert document["metrics"]["balanced_accuracy"] is not None


@pytest.mark.slow
def test_actions_objects_and_scenes_are_many_at_once(run: Run, tmp_path: Path) -> None:
    words = ("--on", "synth-scenes", "--preset", "tiny", "--out", tmp_path, "--json")
    document = run("evaluate", "--method", "raw", "--method", "stprivacy", *words).json()
    assert document["kind"] == "aggregate"
    for name, result in zip(("raw", "stprivacy"), document["results"], strict=True):
        recomputed(tmp_path / name / "seed-0", result)
        metrics = result["metrics"]
        assert [metrics[figure] for figure in ("top1", "f1", "cmap")] == [None] * 3
        assert all(0 <= metrics[figure] <= 100 for figure in ("action_cmap", "object_cmap", "scene_cmap"))
        assert list(metrics["per_attribute"]) == ["object", "scene"]
    spread = document["aggregates"][0]["metrics"]
    assert spread["object_cmap"]["mean"] == document["results"][0]["metrics"]["object_cmap"]
    rows = pd.read_parquet(tmp_path / "raw" / "seed-0" / "predictions.parquet")
    assert {"label_action", "score_action", "label_privacy", "score_privacy"} <= set(rows)


def test_frames_need_a_benchmark_that_labels_them(run: Run) -> None:
    words = ("--method", "raw", "--protocol", "frame", "--on", "synth-hmdb", "--preset", "tiny")
    assert "no privacy labels of frames" in run("evaluate", *words).error


def test_frames_need_two_benchmarks_of_the_same_actions(run: Run) -> None:
    words = ("--method", "raw", "--protocol", "frame", "--fit-on", "synth-ucf", "--preset", "tiny")
    assert "differ in their classes of action" in run("evaluate", *words).error


@pytest.mark.parametrize("name", ["vp-hmdb51", "vp-ucf101", "pa-hmdb51", "celebv-hq", "p-hvu"])
def test_real_data_that_are_not_prepared_say_how_to_prepare_them(run: Run, name: str) -> None:
    error = run("evaluate", "--method", "raw", "--on", name, "--weights", "none").error
    assert f"stp-bench data prepare {name}" in error
