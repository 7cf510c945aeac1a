"""SIGKILL in the middle of every stage, then the same command: it finishes, redoes nothing, and says the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")]

ARGUMENTS = [
    "evaluate", "--method", "stprivacy", "--protocol", "unseen", "--preset", "tiny", "--json",
    "--set", "run.epochs=12", "--set", "stprivacy.init_epochs=12", "--set", "stprivacy.adversarial_epochs=8",
]  # fmt: skip


def start(home: Path) -> subprocess.Popen[str]:
    code = "import sys; from stp_bench.cli import main; sys.exit(main())"
    environment = os.environ | {"STP_BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *ARGUMENTS], env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(home: Path) -> dict[str, Any]:
    out, err = start(home).communicate(timeout=600)
    assert out, err
    found: dict[str, Any] = json.loads(out)
    return found


def kill_when(home: Path, reached: Callable[[], bool]) -> None:
    """Start the command and kill it, workers included, as soon as ``reached`` says so."""
    process = start(home)
    try:
        deadline = time.monotonic() + 300
        while not reached():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(home: Path) -> dict[str, int]:
    """Finished stages, data sets and stores, with the time their record was written."""
    records = [
        *home.glob("stages/*/*/stage.json"),
        *home.glob("data/*/*/index.json"),
        *home.glob("clips/*/*/store-*.json"),
    ]
    return {str(p.relative_to(home)): p.stat().st_mtime_ns for p in records if ".partial" not in str(p)}


def count(home: Path, pattern: str) -> int:
    return len(list(home.glob(pattern)))


def test_a_run_killed_in_every_stage_ends_with_the_same_numbers(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    home = tmp_path / "killed"
    moments: list[Callable[[], bool]] = [
        lambda: count(home, "data/*/*/videos/*/*.avi") >= 5,
        lambda: count(home, "data/*/*/index.json") == 1,
        lambda: count(home, "data/*/*/index.json") == 2,
        lambda: count(home, "stages/fit/*.partial/checkpoint.pt") == 1,
        lambda: count(home, "stages/fit/*/stage.json") == 1 and count(home, "stages/fit/*.partial/checkpoint.pt") == 1,
        lambda: count(home, "stages/fit/*/stage.json") == 2,
        lambda: count(home, "stages/probes/*.partial/checkpoint.pt") == 1,
        lambda: count(home, "stages/probes/*.partial/scores.npz") == 1,
        lambda: count(home, "stages/probes/*/stage.json") == 1,
    ]
    for reached in moments:
        before = finished(home)
        kill_when(home, reached)
        after = finished(home)
        assert before.items() <= after.items()  # nothing finished is done again
        assert count(home, "runs/*/result.json") == 0
    resumed = finish(home)
    for block in ("metrics", "floors", "left", "undefined"):
        assert resumed[block] == whole[block]
    assert [s["key"] for s in resumed["provenance"]["stages"]] == [s["key"] for s in whole["provenance"]["stages"]]


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first = finish(tmp_path)
    before = finished(tmp_path)
    assert finish(tmp_path) == first
    assert finished(tmp_path) == before
