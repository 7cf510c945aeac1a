"""``data boxes`` as users meet it, and what ``evaluate`` makes of its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stp_bench.files import sha256_file

Run = Callable[..., Any]

DETECTOR = """
def find(frames):
    height, width = frames.shape[1:3]
    return [[(0, 0, width / 2, height, 0.8)] for _ in frames]

def fail(frames):
    raise RuntimeError("no light")
"""


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with detectors."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "left_half.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return "left_half"


@pytest.fixture
def real(run: Run, tmp_path: Path) -> Path:
    """A data home with p-hvu, prepared from its embedded twin's files."""
    home, made = tmp_path / "home", tmp_path / "made"
    run("data", "synth", "synth-scenes", "--preset", "tiny", "--out", made, "--data-home", home)
    words = ("--videos", made, "--labels", made, "--accept-unknown", "--data-home", home)
    assert run("data", "prepare", "p-hvu", *words).code == 0
    return home


def test_the_boxes_that_embedded_videos_were_drawn_with_are_never_replaced(run: Run, tiny: Path, detector: str) -> None:
    before = sha256_file(tiny / "boxes.parquet")
    words = ["data", "boxes", "synth-hmdb", "--preset", "tiny", "--detector", f"{detector}:find"]
    assert "synth-hmdb was drawn with its boxes" in run(*words).error
    assert "choose another --out" in run(*words, "--out", tiny).error
    assert sha256_file(tiny / "boxes.parquet") == before and not (tiny / "boxes.json").exists()


def test_boxes_are_found_and_taken_over(run: Run, tiny: Path, detector: str, tmp_path: Path) -> None:
    words = ["data", "boxes", "synth-hmdb", "--preset", "tiny", "--json"]
    found = run(*words, "--detector", f"{detector}:find", "--every", "4", "--out", tmp_path / "found").json()
    rows = pd.read_parquet(tmp_path / "found" / "boxes.parquet")
    assert found["boxes"] == len(rows) and set(rows["frame"] % 4) == {0} and found["videos"] == 24
    taken = run(*words, "--from", tmp_path / "found", "--out", tmp_path / "taken").json()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "taken" / "boxes.parquet"), rows)
    assert taken["frames_without"] == found["frames_without"]
    assert json.loads((tmp_path / "taken" / "boxes.json").read_text())["imported"] == "boxes.parquet"


def test_a_request_that_cannot_be_met_is_refused_in_one_line(
    run: Run, tiny: Path, detector: str, tmp_path: Path
) -> None:
    words = ["data", "boxes", "synth-hmdb", "--preset", "tiny", "--out", tmp_path / "out"]
    refused = {
        "did you mean ssdlite": ["--detector", "ssdlit"],
        "none are shipped": [],
        "do not fit --from": ["--from", tiny, "--weights", "pretrained"],
        "no such file": ["--from", tmp_path / "nowhere.parquet"],
        "failed on frame 0 of video": ["--detector", f"{detector}:fail"],
        "--every": ["--detector", f"{detector}:find", "--every", "10"],
        "--min-score": ["--detector", f"{detector}:find", "--min-score", "1.5"],
    }
    for why, options in refused.items():
        assert why in run(*words, *options).error
    assert "unknown benchmark" in run("data", "boxes", "synth-hmdv").error
    assert "is not prepared" in run("data", "boxes", "vp-hmdb51", "--data-home", tmp_path).error
    assert not list(tmp_path.glob("out/boxes.*"))


@pytest.mark.slow
def test_a_result_says_which_frames_had_no_box_and_a_bad_table_is_refused(
    run: Run, real: Path, detector: str, tmp_path: Path
) -> None:
    evaluate = [
        "evaluate", "--method", "blackening", "--on", "p-hvu", "--preset", "tiny", "--weights", "none", "--set",
        "run.epochs=1", "--set", "run.bootstrap=0", "--data-home", real,
    ]  # fmt: skip
    bare = run(*evaluate, "--json").json()
    assert bare["variant"] == "full_frame" and bare["provenance"]["boxes"] is None
    run("data", "boxes", "p-hvu", "--detector", f"{detector}:find", "--data-home", real)
    table = real / "data" / "p-hvu" / "prepared" / "boxes.parquet"
    rows = pd.read_parquet(table)
    tested = sorted(set(rows["video_id"]))[0]
    rows[(rows["video_id"] != tested)].to_parquet(tmp_path / "fewer.parquet")
    card = run("data", "boxes", "p-hvu", "--from", tmp_path / "fewer.parquet", "--data-home", real, "--json").json()
    shares = card["frames_without"]["1"]
    assert sorted(shares.values())[0] == 0 < sorted(shares.values())[1]
    result = run(*evaluate, "--json").json()
    assert result["variant"] == "boxes"
    assert result["provenance"]["boxes"] == {"sha256": sha256_file(table), "frames_without": shares}
    lines = run(*evaluate).out
    assert f"without a person box: {100 * shares['train']:.1f} % of the train frames, " in lines
    pd.read_parquet(table).assign(width=320, height=240).to_parquet(table)
    error = run(*evaluate).error
    assert "another frame size than the indexed one" in error and "row 0" in error
    assert run(*evaluate[:2], "raw", *evaluate[3:], "--json").json()["provenance"]["boxes"] is None
