"""``stp-bench labels``: official files in, tables out, and what they hold."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_annotations import attributes

OURS = [a.name for a in attributes()]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file as the authors made theirs, of 40 videos, in the file's order: skin_color, face, gender, nudity, rel."""
    rng = np.random.default_rng(0)
    rows = {f"{a}/{a}_{i}.mp4": rng.integers(0, 2, (1, 5)) for a in ("#kick", "-hug") for i in range(20)}
    path = tmp_path / "hmdb51_privacy_attribute_label.pickle"
    path.write_bytes(pickle.dumps(rows, protocol=4))
    return path


def pa_folder(folder: Path, official: Path, *, columns: list[str]) -> Path:
    """Frame labels of the same videos that say what the columns of the official file would mean."""
    (folder / "PrivacyAttributes").mkdir(parents=True)
    rows = pickle.loads(official.read_bytes())  # noqa: S301, made above
    for action in ("#kick", "-hug"):
        videos = {
            key.partition("/")[2].replace(".mp4", ".avi"): {
                name: [[0, 9, int(row[0, columns.index(name)])]] for name in OURS
            }
            for key, row in rows.items()
            if key.startswith(action)
        }
        (folder / "PrivacyAttributes" / f"{action}.json").write_text(json.dumps(videos))
    return folder


def test_import_writes_a_table_into_the_data_home_and_says_what_it_is(
    run: Callable[..., Any], official: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    words = ["labels", "import", official, "--release", "vp-hmdb51", "--accept-unknown", "--data-home", home]
    done = run(*words)
    assert done.code == 0, done.err
    table = home / "labels" / "vp-hmdb51" / "labels.csv"
    for told in ("40 videos", "not as published", "skin_color, face, gender, nudity, relationship (inferred)", "MIT"):
        assert told in done.out
    assert "the file has 40 videos, vp-hmdb51 has 6,766" in done.out
    assert str(table) in done.out.replace("\n", "")
    assert table.read_text().startswith("video_id,face,skin_color,gender,nudity,relationship\n#kick/#kick_0,")
    document = run(*words, "--json").json()
    assert document["table"] == str(table) and document["videos"] == 40 and document["about"]["verified"] is False
    assert document["order_test"] is None


def test_without_consent_an_unknown_file_is_refused_and_nothing_written(
    run: Callable[..., Any], official: Path, tmp_path: Path
) -> None:
    done = run("labels", "import", official, "--release", "vp-hmdb51", "--data-home", tmp_path / "home")
    assert done.code == 2 and "--accept-unknown" in done.error
    assert not (tmp_path / "home").exists()


class _Evil:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("more", [[], ["--accept-unknown"]])
def test_a_hostile_pickle_executes_nothing_and_exits_with_2(
    run: Callable[..., Any], tmp_path: Path, more: list[str]
) -> None:
    mark, path = tmp_path / "executed", tmp_path / "labels.pickle"
    path.write_bytes(pickle.dumps({"a/b.mp4": _Evil(str(mark))}, protocol=4))
    assert run("labels", "import", path, "--release", "vp-hmdb51", *more, "--data-home", tmp_path / "home").code == 2
    assert run("labels", "stats", path).code == 2
    assert not mark.exists()


@pytest.mark.parametrize("swapped", [False, True])
def test_importing_both_labellings_of_hmdb51_tests_the_order_of_columns(
    run: Callable[..., Any], official: Path, tmp_path: Path, swapped: bool
) -> None:
    columns = ["skin_color", "face", "gender", "nudity", "relationship"]
    if swapped:
        columns[0], columns[1] = columns[1], columns[0]
    folder = pa_folder(tmp_path / "pa", official, columns=columns)
    home = ["--accept-unknown", "--data-home", tmp_path / "home"]
    assert run("labels", "import", official, "--release", "vp-hmdb51", *home).code == 0
    done = run("labels", "import", folder, "--release", "pa-hmdb51", "--json", *home)
    order = done.json()["order_test"]
    assert order["videos"] == 40 and order["best"] == columns
    assert order["agrees"] is not swapped
    assert ("warning: the columns of vp-hmdb51" in done.err) is swapped
    told = run("labels", "import", official, "--release", "vp-hmdb51", *home).out
    assert ("no other order fits it better" in told) is not swapped


def test_the_rule_is_chosen_and_recorded(run: Callable[..., Any], official: Path, tmp_path: Path) -> None:
    folder = pa_folder(tmp_path / "pa", official, columns=OURS)
    out = tmp_path / "strict.csv"
    words = ["labels", "import", folder, "--release", "pa-hmdb51", "--accept-unknown", "--out", out]
    document = run(*words, "--rule", "strict", "--json", "--data-home", tmp_path / "home").json()
    assert document["about"]["rule"] == "strict" and document["table"] == str(out)
    assert [one["unit"] for one in document["statistics"]["targets"]] == ["video", "frame"]
    assert "did you mean strict" in run(*words, "--rule", "strikt").error
    told = run("labels", "stats", out).out
    assert "rule strict" in told and "40 labelled videos" in told and "400 labelled frames" in told


def test_stats_counts_a_table_and_its_floors(run: Callable[..., Any], official: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    run("labels", "import", official, "--release", "vp-hmdb51", "--accept-unknown", "--out", out)
    document = run("labels", "stats", out, "--json").json()
    (target,) = document["targets"]
    rows = [line.split(",")[1:] for line in out.read_text().splitlines()[1:]]
    assert [c["positives"] for c in target["classes"]] == [sum(r[k] == "1" for r in rows) for k in range(5)]
    assert document["splits"] == {} and document["verified"] is False
    told = run("labels", "stats", out)
    assert told.code == 0 and "constant answers: cmap prevalence" in told.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["import", "none", "--release", "vp-hmdb51"], "there is no such file"),
        (["import", ".", "--release", "vp-hmbd51"], "did you mean vp-hmdb51"),
        (["import", "."], "--release"),
        (["fetch", "hvu-tgs"], "unknown label release"),
        (["stats", "none"], "there is no such file"),
        (["stats", "."], "no published label file"),
        (["statz"], "did you mean stats"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("labels", *words)
    assert done.code == 2 and why in done.error


def test_fetch_without_a_network_fails_with_the_way_round(run: Callable[..., Any], tmp_path: Path) -> None:
    # A proxy that nobody runs: whatever the machine of this test can reach, this command can't.
    environment = os.environ | {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    words = ["labels", "fetch", "vp-hmdb51", "--data-home", str(tmp_path / "home")]
    code = "import sys; from stp_bench.cli import app; app(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    first, last = done.stderr.splitlines()[0], done.stderr.splitlines()[-1]
    assert "downloading vp-hmdb51" in first and "https://raw.githubusercontent.com/ming1993li/stprivacy" in first
    assert last.startswith("error: cannot fetch") and "git clone" in last
    assert not list((tmp_path / "home").rglob("*.*"))


def test_labels_are_read_without_torch(official: Path) -> None:
    code = (
        "import sys\nfrom stp_bench.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'timm', 'torchvision', 'matplotlib', 'av'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    words = [
        "labels",
        "import",
        str(official),
        "--release",
        "vp-hmdb51",
        "--accept-unknown",
        "--out",
        f"{official}.csv",
    ]
    for command in (words, ["labels", "stats", f"{official}.csv"]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
