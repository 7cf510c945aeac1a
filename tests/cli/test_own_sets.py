"""A data team's own videos and labels through the commands: prepared once, then known by name everywhere."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stp_bench import labels
from stp_bench.index import read_index
from stp_bench.labels import LabelTable

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def table(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the tiny videos, as somebody's own; every fifth video has an attribute that nobody decided."""
    benchmark = read_index(tiny).benchmark
    rows: dict[str, dict[str, Any]] = {}
    for n, video in enumerate(read_index(tiny).videos):
        row = list(video.labels[benchmark.privacy.name] or ())
        if n % 5 == 0:
            row[n % len(row)] = -1
        rows[video.video_id] = {benchmark.privacy.name: tuple(row)}
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    labels.write_table(LabelTable(release="ours-v1", targets=(benchmark.privacy,), rows=rows), path)
    return path


@pytest.fixture
def prepare(run: Run, tiny: Path, table: Path, tmp_path: Path) -> Callable[..., Any]:
    """The command that prepares them in a data home of its own."""

    def command(name: str, *words: str | Path) -> Any:
        given = ("--videos", tiny / "videos", "--labels", table, "--data-home", tmp_path)
        return run("data", "prepare", name, *given, *words)

    return command


def test_an_own_set_is_prepared_listed_checked_described_and_judged_on(
    run: Run, prepare: Run, table: Path, tmp_path: Path
) -> None:
    home = ("--data-home", tmp_path)
    report = prepare("my-set", "--own", "--json").json()
    assert (report["indexed"], report["labels_verified"], len(report["splits"]["official"])) == (24, None, 5)
    shown = prepare("my-set", "--own")
    assert shown.code == 0 and "labels: ours-v1\n" in shown.out and "note: 5 videos have attributes" in shown.out
    listed = {row["name"]: row for row in run("data", "list", *home, "--json").json()["benchmarks"]}
    ours = listed["my-set"]
    assert ours["ready"] and ours["videos"] == 24 and ours["actions"] == 4 and ours["splits"] == 5
    assert ours["attributes"] == listed["vp-hmdb51"]["attributes"] and not ours["embedded"]
    assert "my-set" in run("data", "list", *home).out
    checked = run("data", "check", "my-set", *home, "--json").json()
    assert checked["problems"] == [] and checked["as_published"] is None
    assert run("data", "card", "my-set", *home, "--json").json()["videos"] == 24
    assert run("data", "store", "my-set", *home, "--json").json()["preset"] is None
    words = ("--method", "raw", "--on", "my-set", *home)
    assert "preset paper needs to know its image weights" in run("evaluate", *words).error
    result = run("evaluate", *words, "--preset", "tiny", "--json", "--set", "run.bootstrap=10").json()
    assert result["provenance"]["as_published"] == {"my-set": {"labels": None, "lists": None}}
    assert result["provenance"]["label_release"] == "ours-v1"
    # What nobody decided counts in no figure: prevalences are those among the decided labels of the test videos.
    with table.open(newline="") as handle:
        rows = {row["video_id"]: row for row in csv.DictReader(handle)}
    dataset = read_index(tmp_path / "data/my-set/prepared")
    tested = [i for i, part in dataset.parts[1].items() if part == "test"]
    for attribute, of in result["metrics"]["per_attribute"].items():
        decided = [int(cell) for i in tested if (cell := rows[i][attribute])]
        assert of["prevalence"] == pytest.approx(sum(decided) / len(decided))


def test_a_method_that_learns_from_private_labels_wants_all_of_them(run: Run, prepare: Run, tmp_path: Path) -> None:
    prepare("my-set", "--own")
    words = ("--method", "stprivacy", "--preset", "tiny", "--on", "my-set", "--data-home", tmp_path)
    done = run("evaluate", *words)
    assert (
        done.code == 2 and "for some classes only" in done.error and "leave them out of the label table" in done.error
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("my-set", "unknown data set 'my-set'.*add --own for videos of your own"),
        ("vp-hmdb15", "unknown data set 'vp-hmdb15'.*did you mean vp-hmdb51"),
        ("vp-hmdb51 --own", "'vp-hmdb51' cannot name your own data set, that is a known data set"),
        ("synth-ucf --own", "'synth-ucf' cannot name your own data set"),
        ("My_Set --own", "names are up to 64 lower-case letters"),
        ("vp-hmdb51 --stride 3", "--groups and --stride do not fit vp-hmdb51"),
        ("my-set --own --stride 0", "--stride"),
        ("my-set --own --groups nowhere.csv", "cannot read groups from nowhere.csv, no such file"),
        ("my-set --own --splits nowhere", "cannot read split lists from nowhere"),
    ],
)
def test_wrong_requests_are_one_line_with_a_mend(prepare: Run, tmp_path: Path, words: str, says: str) -> None:
    done = prepare(*words.split())
    assert done.code == 2
    assert re.search(says, done.error), done.error
    assert not (tmp_path / "data/my-set/prepared").exists()


def test_an_own_set_is_prepared_anew_only_from_all_that_it_is_made_of(prepare: Run, tiny: Path) -> None:
    assert prepare("my-set", "--own", "--splits", tiny / "splits", "--json").json()["splits"]["official"].keys() == {
        "1"
    }
    assert "my-set is a data set of your own" in prepare("my-set").error
    assert len(prepare("my-set", "--own", "--json").json()["splits"]["official"]) == 5
