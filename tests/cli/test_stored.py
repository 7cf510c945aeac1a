"""`stp-bench cache` and `runs`: what is stored is told as it is, and only what may go goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

Run = Callable[..., Any]
COMMAND = ("evaluate", "--method", "raw", "--preset", "tiny", "--set", "run.bootstrap=20")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home for all tests here."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def made(run: Run, home: Path) -> dict[str, Any]:
    """The run's result, by its own command: the second time it is only found."""
    result: dict[str, Any] = run(*COMMAND, "--data-home", home, "--json").json()
    return result


def test_a_run_is_listed_with_its_figures_and_shown_as_it_was(run: Run, home: Path, made: dict[str, Any]) -> None:
    (row,) = run("runs", "list", "--data-home", home, "--json").json()["runs"]
    assert (row["method"], row["on"], row["seeds"], row["finished"]) == ("raw", "synth-hmdb", [0], True)
    assert row["top1"] == made["metrics"]["top1"]
    assert run("runs", "show", row["run"], "--data-home", home, "--json").json() == made
    assert run("runs", "show", row["path"], "--data-home", home, "--json").json() == made
    assert "Top-1" in run("runs", "show", row["run"], "--data-home", home).out
    assert row["run"][:20] in run("runs", "list", "--data-home", home).out


def test_an_unknown_run_and_a_damaged_one_are_told_in_one_line(run: Run, home: Path, made: dict[str, Any]) -> None:
    name = run("runs", "list", "--data-home", home, "--json").json()["runs"][0]["run"]
    assert f"did you mean {name}" in run("runs", "show", name[:-1] + "x", "--data-home", home).error
    broken = home / "runs" / "broken"
    broken.mkdir()
    (broken / "result.json").write_text(json.dumps(made | {"metrics": {"top1": 1}}))
    listed = run("runs", "list", "--data-home", home, "--json").json()["runs"]
    assert {row["run"]: row["finished"] for row in listed} == {name: True, "broken": False}
    assert "damaged" in run("runs", "show", "broken", "--data-home", home).error
    (broken / "result.json").unlink()
    broken.rmdir()


def test_sizes_are_those_of_the_files(run: Run, home: Path, made: dict[str, Any]) -> None:
    items = run("cache", "list", "--data-home", home, "--json").json()["items"]
    assert {item["kind"] for item in items} == {"stages", "clips", "data"}
    for item in items:
        files = [p for p in Path(item["path"]).rglob("*") if p.is_file()]
        assert item["bytes"] == sum(p.stat().st_size for p in files)
    assert all(item["used_by"] for item in items if item["kind"] == "stages")


def test_pruning_spares_runs_what_they_stand_on_and_whatever_is_in_work(
    run: Run, home: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    orphan, busy = (home / "stages" / "fit" / f"{letter * 64}.partial" for letter in "ab")
    real = home / "data" / "vp-hmdb51" / "prepared"
    elsewhere = tmp_path / "elsewhere"
    for folder in (orphan, busy, real, elsewhere):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"1234")
    (home / "stages" / "fit" / ("c" * 64)).symlink_to(elsewhere)
    words = ("cache", "prune", "--data-home", home)
    assert run(*words, "--yes", "--json").json()["items"] == []  # younger than 30 days
    listed = run(*words, "--older-than", "0", "--json").json()
    assert not listed["removed"]
    assert {item["path"] for item in listed["items"]} == {str(orphan), str(busy)}
    assert orphan.exists()
    assert "nothing is removed yet" in run(*words, "--older-than", "0").out
    with FileLock(busy.with_name("b" * 64 + ".lock")):
        removed = run(*words, "--older-than", "0", "--yes", "--json").json()
    assert [item["path"] for item in removed["items"]] == [str(orphan)]
    assert not orphan.exists() and busy.exists()
    for kind in ("clips", "data", "unfinished"):
        assert run(*words, "--older-than", "0", "--what", kind, "--yes").code == 0
    assert (elsewhere / "file").exists() and (real / "file").exists()
    again = run("runs", "list", "--data-home", home, "--json").json()["runs"]
    assert [row["method"] for row in again] == ["raw"]
    assert run("cache", "list", "--data-home", home, "--json").json()["items"]  # the run's stages


def test_what_was_pruned_is_made_again_with_the_same_numbers(run: Run, home: Path, made: dict[str, Any]) -> None:
    shutil.rmtree(home / "runs")
    words = ("cache", "prune", "--data-home", home, "--older-than", "0", "--yes", "--json")
    gone = run(*words, "--what", "stages", "--what", "clips", "--what", "data").json()["items"]
    assert {item["kind"] for item in gone} == {"stages", "clips", "data"}
    again = run(*COMMAND, "--data-home", home, "--json").json()
    for key in ("metrics", "floors"):
        assert again[key] == made[key]


def test_an_unknown_kind_is_refused_with_the_known_ones(run: Run, home: Path) -> None:
    assert "did you mean clips" in run("cache", "prune", "--what", "clip", "--data-home", home).error
