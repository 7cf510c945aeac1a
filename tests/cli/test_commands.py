"""The commands on tiny real videos: what they print for programs, what they leave behind, what they do not do twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import rundir, video_io
from stp_bench.results import Result

Run = Callable[..., Any]
ATTRIBUTES = ["face", "skin_color", "gender", "nudity", "relationship"]

# What the documentation of result.json promises, key by key; more may be there.
PROMISED = {
    "": "schema method variant protocol fit_on on preset data seed split weights precision metrics floors left "
    "undefined skipped provenance",
    "data": "preset seed",
    "metrics": "top1 f1 cmap excess skill auroc f1_tuned per_attribute attackers worst ci95",
    "metrics.excess": "cmap f1",
    "metrics.per_attribute": " ".join(ATTRIBUTES),
    **{f"metrics.per_attribute.{name}": "ap f1 auroc prevalence" for name in ATTRIBUTES},
    "metrics.attackers": "video frame",
    "metrics.worst": "attacker cmap f1 excess",
    "metrics.ci95": "top1 f1 cmap excess_cmap",
    "floors": "top1_chance top1_majority cmap_prevalence f1_all_positive f1_majority cmap_action_only f1_action_only "
    "cmap_action_informed f1_action_informed",
    "left": "top1 f1 cmap",
    "skipped": "unreadable overlap",
    "provenance": "version git torch device label_release index_sha256 stages seconds config",
}


def at(document: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        document = document[name]
    return document


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def evaluated(start: Run, tiny: Path, shared: Path) -> Any:
    """A run of STPrivacy on unseen actions."""
    words = ("--method", "stprivacy", "--protocol", "unseen", "--preset", "tiny", "--out", shared / "one", "--json")
    return start("evaluate", *words)


def test_a_result_has_every_key_that_is_promised(evaluated: Any, shared: Path) -> None:
    document = evaluated.json()
    for path, names in PROMISED.items():
        missing = set(names.split()) - set(at(document, path))
        assert not missing, (path, missing)
    assert (document["method"], document["protocol"]) == ("stprivacy", "unseen")
    assert (document["fit_on"], document["on"]) == ("synth-ucf", "synth-hmdb")
    assert list(document["metrics"]["per_attribute"]) == ATTRIBUTES
    assert document["data"] == {"preset": "tiny", "seed": 0}


def test_the_run_folder_holds_what_was_printed_and_all_that_it_came_from(evaluated: Any, shared: Path) -> None:
    folder = shared / "one"
    assert json.loads((folder / "result.json").read_text()) == evaluated.json()
    assert Result.read(folder / "result.json").method == "stprivacy"
    made = {path.name for path in folder.iterdir()}
    assert made >= {
        "result.json", "result.png", "predictions.parquet", "reference.parquet", "method.safetensors", "method.json",
        "curves.csv", "curves.png", "strips.npz",
    }  # fmt: skip


def test_the_same_command_again_redoes_nothing_and_says_the_same(run: Run, evaluated: Any, shared: Path) -> None:
    words = ("--protocol", "unseen", "--preset", "tiny", "--out", shared / "one", "--json")
    again = run("evaluate", "--method", "stprivacy", *words)
    assert again.json() == evaluated.json()
    assert again.err.count("found") == 4  # two phases, probes, score
    assert "train" not in again.err


def test_another_run_does_not_take_over_a_run_folder(run: Run, evaluated: Any, shared: Path) -> None:
    evaluated.json()
    done = run("evaluate", "--method", "raw", "--preset", "tiny", "--out", shared / "one")
    assert done.code == 2
    assert "holds another run" in done.error


def test_people_get_tables_with_floors_excess_and_the_path_of_the_picture(run: Run, shared: Path, tiny: Path) -> None:
    done = run("evaluate", "--method", "raw", "--preset", "tiny", "--out", shared / "raw")
    assert done.code == 0, done.err
    for words in ("Top-1 ↑", "F1 ↓", "cMAP ↓", "floor", "excess", "left of raw", *ATTRIBUTES):
        assert words in done.out
    assert f"picture: {shared / 'raw' / 'result.png'}" in done.out
    assert (shared / "raw" / "result.png").stat().st_size > 10_000


def test_several_methods_and_seeds_share_a_table_and_keep_a_folder_each(run: Run, tiny: Path, shared: Path) -> None:
    words = ["evaluate", "--method", "raw", "--method", "downsample-4x", "--seeds", "2", "--preset", "tiny"]
    words += ["--set", "downsample-4x.factor=3", "--set", "run.bootstrap=20", "--out", str(shared / "several")]
    document = run(*words, "--json").json()
    assert document["kind"] == "aggregate"
    assert [(r["method"], r["seed"]) for r in document["results"]] == [
        ("raw", 0), ("raw", 1), ("downsample-4x", 0), ("downsample-4x", 1),
    ]  # fmt: skip
    assert [(a["method"], a["seeds"], a["runs"]) for a in document["aggregates"]] == [
        ("raw", [0, 1], 2), ("downsample-4x", [0, 1], 2),
    ]  # fmt: skip
    top1 = [r["metrics"]["top1"] for r in document["results"][:2]]
    spread = document["aggregates"][0]["metrics"]["top1"]
    assert spread["mean"] == pytest.approx(sum(top1) / 2)
    assert spread["sd"] == pytest.approx(abs(top1[0] - top1[1]) / 2**0.5)
    assert document["results"][2]["provenance"]["config"]["method"]["factor"] == 3
    for method in ("raw", "downsample-4x"):
        for seed in (0, 1):
            assert (shared / "several" / method / f"seed-{seed}" / "result.json").exists()
    assert json.loads((shared / "several" / "result.json").read_text()) == document
    assert (shared / "several" / "result.png").stat().st_size > 5_000
    strips = {m: rundir.read_strips(shared / "several" / m / "seed-0") for m in ("raw", "downsample-4x")}
    assert np.array_equal(strips["raw"]["anonymized"], strips["downsample-4x"]["raw"])
    assert (shared / "several" / "methods.png").stat().st_size > 2_000
    table = run(*words)
    assert "±" in table.out
    assert "methods.png" in table.out
    assert "downsample-4x" in table.out


@pytest.fixture(scope="module")
def fitted(start: Run, tiny: Path, shared: Path) -> Path:
    words = ("--method", "stprivacy", "--fit-on", "synth-hmdb", "--preset", "tiny", "--out", shared / "fit", "--json")
    document = start("train", *words).json()
    assert Path(document["checkpoint"]).exists()
    return Path(document["folder"])


def test_a_trained_checkpoint_is_judged_without_fitting(run: Run, fitted: Path, tiny: Path, tmp_path: Path) -> None:
    home, weights = tmp_path / "home", fitted / "method.safetensors"
    shutil.copytree(tiny, home / "data" / "synth-hmdb" / "tiny-seed0")
    words = ("--method", "stprivacy", "--preset", "tiny", "--out", tmp_path / "out", "--data-home", home, "--json")
    document = run("evaluate", *words, "--checkpoint", weights).json()
    assert not (home / "stages" / "fit").exists()
    assert document["method"] == document["provenance"]["stages"][0]["name"] == "stprivacy"
    assert [stage["kind"] for stage in document["provenance"]["stages"]] == ["probes", "score"]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert document["provenance"]["config"]["checkpoint"] == digest
    assert (tmp_path / "out" / "method.safetensors").read_bytes() == weights.read_bytes()


def test_a_checkpoint_brings_its_own_settings(run: Run, fitted: Path, tiny: Path) -> None:
    words = ("--method", "stprivacy", "--preset", "tiny", "--checkpoint", fitted, "--set", "stprivacy.alpha=0.8")
    done = run("evaluate", *words)
    assert done.code == 2
    assert "--set does not fit a checkpoint" in done.error


def test_a_run_reads_the_clip_store_that_was_made_ahead_in_jpeg(run: Run, tiny: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny, home / "data" / "synth-hmdb" / "tiny-seed0")
    words = ("--preset", "tiny", "--encoding", "jpeg", "--data-home", home, "--json")
    stored = run("data", "store", "synth-hmdb", *words).json()
    before = sorted((home / "clips").rglob("*"))
    document = run("evaluate", "--method", "raw", *words).json()
    assert 0 <= document["metrics"]["top1"] <= 100
    assert sorted((home / "clips").rglob("*")) == before
    assert "jpeg" in Path(stored["folder"]).name


def test_a_checkpoint_of_another_benchmark_or_method_is_refused(run: Run, fitted: Path) -> None:
    words = ("evaluate", "--preset", "tiny", "--checkpoint", fitted)
    done = run(*words, "--method", "stprivacy", "--protocol", "unseen")
    assert done.code == 2
    assert "--fit-on synth-hmdb" in done.error
    card = json.loads((fitted / "method.json").read_text())
    stranger = fitted.parent / "stranger"
    stranger.mkdir(exist_ok=True)
    (stranger / "method.safetensors").write_bytes((fitted / "method.safetensors").read_bytes())
    (stranger / "method.json").write_text(json.dumps(card | {"method": "somebody-else"}))
    done = run("anonymize", "in.mp4", "out", "--method", "stprivacy", "--checkpoint", stranger)
    assert done.code == 2
    assert "somebody-else" in done.error


def test_a_fitted_method_anonymizes_files_and_the_dial_decides_how_much_is_kept(
    run: Run, fitted: Path, tiny: Path, tmp_path: Path
) -> None:
    source = next(tiny.rglob("*.avi"))
    words = ("--method", "stprivacy", "--checkpoint", fitted, "--json")
    kept = {}
    for dial in ("0.5", "0.8", "1.0"):
        report = run("anonymize", source, tmp_path / dial, *words, "--keep", dial).json()
        (record,) = report["videos"]
        kept[dial] = record["kept_tubelets"]
        before, after = video_io.probe(source), video_io.probe(tmp_path / dial / f"{source.stem}.mp4")
        assert (after.frames, after.height, after.width) == (before.frames, before.height, before.width)
    assert kept["0.5"] < kept["0.8"] < kept["1.0"] == 1.0
    # 16 tubelets per slot at this size, three blocks: floor(16 x 0.5^3) = 2 of them stay.
    assert kept["0.5"] == 2 / 16
    sparsified = list(video_io.read_frames(tmp_path / "0.5" / f"{source.stem}.sparsified.mp4"))
    assert (sparsified[0].max(2) <= 12).mean() > 0.8


def test_data_are_listed_made_stored_and_checked(run: Run, tmp_path: Path) -> None:
    home = ("--preset", "tiny", "--data-home", tmp_path / "home", "--json")
    made = run("data", "synth", "synth-ucf", *home).json()
    assert made["videos"] == len(list(Path(made["folder"]).rglob("*.avi"))) == 24
    stored = run("data", "store", "synth-ucf", *home).json()
    assert stored["videos"] == 24
    assert Path(stored["folder"]).is_relative_to(tmp_path / "home")
    checked = run("data", "check", "synth-ucf", *home).json()
    assert checked["problems"] == []
    assert set(checked["stated_prevalence"]) == set(ATTRIBUTES)
    listed = run("data", "list", "--data-home", tmp_path / "home", "--json").json()["benchmarks"]
    ready = {(row["name"], row["preset"]) for row in listed if row["ready"]}
    assert ready == {("synth-ucf", "tiny")}
    assert all(row["missing"] for row in listed if not row["ready"])


def test_data_can_be_made_in_a_folder_of_one_s_own(run: Run, tmp_path: Path) -> None:
    made = run(
        "data", "synth", "synth-hmdb", "--preset", "tiny", "--seed", "3", "--out", tmp_path / "mine", "--json"
    ).json()
    assert Path(made["folder"]) == tmp_path / "mine"
    assert (tmp_path / "mine" / "privacy_labels.csv").exists()
    other = run("data", "synth", "synth-hmdb", "--preset", "tiny", "--seed", "4", "--out", tmp_path / "mine")
    assert other.code == 2


def test_methods_are_listed_with_kind_needs_and_origin(run: Run) -> None:
    listed = {row["name"]: row for row in run("methods", "--json").json()["methods"]}
    assert listed["stprivacy"]["kind"] == "learned"
    assert listed["stprivacy"]["needs"] == ["action", "privacy"]
    assert listed["raw"]["kind"] == "fixed"
    assert all(row["source"] for row in listed.values())
    table = run("methods").out
    assert all(name in table for name in listed)


def test_the_doctor_finds_this_machine_healthy(run: Run) -> None:
    report = run("doctor", "--json").json()
    assert report["healthy"]
    assert {check["area"] for check in report["checks"]} >= {"software", "devices", "video", "methods", "data home"}


def test_nothing_is_written_outside_the_data_home_and_the_named_folder(start: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "user").mkdir()
    words = ("--method", "raw", "--preset", "tiny", "--data-home", tmp_path / "home", "--out", tmp_path / "out")
    ours = ("XDG_", "MPL", "STP_BENCH_", "HF_", "TORCH_")
    bare = {name: None for name in os.environ if name.startswith(ours)}
    user = {"HOME": str(tmp_path / "user"), "USERPROFILE": str(tmp_path / "user")}
    document = start("evaluate", *words, "--json", cwd=tmp_path / "here", env=bare | user).json()
    assert document["method"] == "raw"
    assert (tmp_path / "out" / "result.png").exists()
    assert list((tmp_path / "here").iterdir()) == []
    assert list((tmp_path / "user").rglob("*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"here", "user", "home", "out"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
@pytest.mark.parametrize("words", [["methods"], ["methods", "--json"]])
def test_a_reader_that_goes_away_is_no_failure_to_speak_of(program: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([program, *words], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert done.stderr == ""
