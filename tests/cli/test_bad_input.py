"""Every mistake ends in one line that says what, why and how to mend it, and in the right exit code."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stp_bench import video_io
from stp_bench.cli._errors import guarded

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evalute", "unknown command 'evalute', .*did you mean evaluate"),
        ("data lisst", "unknown command 'lisst', .*did you mean list"),
        ("evaluate --metod raw", "unknown option '--metod', .*did you mean --method"),
        ("evaluate", "missing option '--method', .*see stp-bench evaluate --help"),
        ("evaluate --method", "'--method' requires an argument, none is given"),
        ("evaluate --method raw --seeds two", "'--seeds', .*; see stp-bench evaluate --help"),
        ("evaluate --method raw --seeds 0", "'--seeds', .*; see stp-bench evaluate --help"),
        ("evaluate --method raw extra", "extra.*see stp-bench evaluate --help"),
        ("evaluate --method stprivcy", "unknown method 'stprivcy', .*did you mean stprivacy"),
        ("evaluate --method raw --method raw", "'raw' is asked for twice"),
        ("evaluate --method no_such_package:SPEC", "no_such_package"),
        ("evaluate --method raw --protocol unsen", "unknown protocol 'unsen', .*did you mean unseen"),
        ("evaluate --method raw --preset tinny", "unknown preset 'tinny', .*did you mean tiny"),
        ("evaluate --method raw --device gpu", "unknown device 'gpu'"),
        (
            "evaluate --method raw --preset tiny --on synth-hmbd",
            "unknown benchmark 'synth-hmbd', .*did you mean synth-hmdb",
        ),
        ("evaluate --method raw --preset tiny --split 7", "split 7"),
        ("evaluate --method raw --preset tiny --set run.epoch=3", "'epoch', .*did you mean epochs"),
        ("evaluate --method raw --preset tiny --set epochs", "no '='"),
        ("evaluate --method raw --preset tiny --set run.epochs=many", "'many' for run.epochs"),
        ("evaluate --method raw --preset tiny --keep 0.5", "--keep does not fit raw"),
        ("evaluate --method stprivacy --method raw --preset tiny --keep 0.5", "--keep does not fit raw"),
        ("evaluate --method stprivacy --preset tiny --keep 2", "--keep 2.0 is out of range"),
        ("evaluate --method raw --preset paper", "--weights"),
        ("evaluate --method raw --preset tiny --weights none.pth", "no weights in none.pth"),
        ("evaluate --method stprivacy --preset tiny --checkpoint nowhere", "no fitted method in nowhere"),
        ("evaluate --method raw --method stprivacy --checkpoint x", "--checkpoint fits one method"),
        ("train --method raw --fit-on synth-hmdb", "raw cannot be trained"),
        ("train --method stprivacy --fit-on synth-hmd --preset tiny", "unknown benchmark 'synth-hmd'"),
        ("data synth synth-ufc", "unknown benchmark 'synth-ufc', .*did you mean synth-ucf"),
        ("data synth synth-ucf --preset huge", "unknown preset 'huge'"),
        ("data check synth-ucf --preset full", "no prepared benchmark"),
        ("anonymize none.mp4 out --method raw", "cannot read none.mp4, there is no such file"),
        ("anonymize . out --method stprivacy", "stprivacy needs --checkpoint"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(run: Run, words: str, says: str) -> None:
    done = run(*words.split())
    assert done.code == 2
    assert re.search(says, done.error), done.error
    assert re.fullmatch(r"error: .+, .+; .+", done.error)


def test_a_dial_that_one_of_several_methods_lacks_is_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("--method", "stprivacy", "--method", "blur-weak", "--preset", "tiny", "--keep", "0.5", "--data-home", home)
    done = run("evaluate", *words)
    assert done.code == 2
    assert "--keep does not fit blur-weak" in done.error
    assert not home.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 8 GB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.\nmore"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_memory_that_runs_out_is_said_to_be_so(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert guarded(command, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"error: out of memory, .+; lower run\.batch.*", line)


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_gpu_that_is_not_there_is_a_wrong_request(run: Run) -> None:
    done = run("evaluate", "--method", "raw", "--preset", "tiny", "--device", "cuda")
    assert done.code == 2
    assert "device cuda cannot be used" in done.error


def test_debug_shows_the_traceback_above_the_same_line(run: Run) -> None:
    words = ("evaluate", "--method", "stprivcy")
    plain, debug = run(*words), run(*words, "--debug")
    assert "Traceback" in debug.err
    assert debug.err.splitlines()[-1] == plain.error
    assert debug.code == plain.code == 2


@pytest.mark.parametrize("words", [["methods", "--json"], ["evaluate", "--method", "nope", "--json"]])
def test_a_failed_command_leaves_standard_output_empty_and_a_good_one_does_not(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert (done.out == "") == (done.code != 0)


def test_a_folder_without_videos_is_a_wrong_request(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("no video")
    done = run("anonymize", tmp_path / "in", tmp_path / "out", "--method", "raw")
    assert done.code == 2
    assert "no videos in" in done.error


@pytest.mark.parametrize("kind", ["empty", "truncated", "text"])
def test_an_unreadable_video_is_named_and_fails_the_work(run: Run, tiny: Path, tmp_path: Path, kind: str) -> None:
    good = next(tiny.rglob("*.avi")).read_bytes()
    content = {"empty": b"", "truncated": good[: len(good) // 2], "text": b"this is not a video\n" * 100}[kind]
    (tmp_path / "bad.avi").write_bytes(content)
    done = run("anonymize", tmp_path / "bad.avi", tmp_path / "out", "--method", "raw")
    assert done.code == 1
    assert "bad.avi" in done.error
    assert not (tmp_path / "out").exists()


def test_a_video_of_one_frame_is_a_video(run: Run, tmp_path: Path) -> None:
    frames = list(video_io.read_frames(_one_frame(tmp_path / "one.mp4")))
    report = run("anonymize", tmp_path / "one.mp4", tmp_path / "out", "--method", "downsample-4x", "--json").json()
    assert report["videos"][0]["source"]["frames"] == len(frames) == 1


def _one_frame(path: Path) -> Path:
    import numpy as np

    video_io.write_video(path, [np.full((48, 64, 3), 90, np.uint8)], 25)
    return path


@pytest.fixture
def home(tiny: Path, tmp_path: Path) -> Path:
    """A data home of one's own with the tiny benchmark in it, to be damaged."""
    shutil.copytree(tiny, tmp_path / "home" / "data" / "synth-hmdb" / "tiny-seed0")
    return tmp_path / "home"


def test_a_bad_video_among_good_ones_stops_the_run_or_is_counted(run: Run, home: Path) -> None:
    victim = sorted(home.rglob("*.avi"))[3]
    victim.write_bytes(victim.read_bytes()[:900])
    words = ("evaluate", "--method", "raw", "--preset", "tiny", "--data-home", home)
    done = run(*words)
    assert done.code == 1
    assert victim.stem in done.error
    result = run(*words, "--skip-unreadable", "--json").json()
    assert result["skipped"]["unreadable"] == 1
    report = run("data", "check", "synth-hmdb", "--preset", "tiny", "--data-home", home)
    assert report.code == 1
    assert victim.stem in report.out


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows write where they like")
def test_a_folder_that_cannot_be_written_fails_the_work(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = run("anonymize", next(tiny.rglob("*.avi")), tmp_path / "locked" / "out", "--method", "raw")
    assert done.code == 1
    assert "cannot write" in done.error


def test_a_file_in_the_way_of_a_folder_fails_the_work(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run("anonymize", next(tiny.rglob("*.avi")), tmp_path / "file" / "out", "--method", "raw")
    assert done.code == 1
    assert "cannot write" in done.error
    done = run("evaluate", "--method", "raw", "--preset", "tiny", "--out", tmp_path / "file" / "out")
    assert done.code == 1
    assert "cannot write" in done.error


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_named_as_such(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from stp_bench import methods

    def spill() -> None:
        with FULL.open("w") as disk:
            disk.write("x" * 100_000)

    monkeypatch.setattr("stp_bench.cli.methods.specs", spill)
    done = run("methods")
    assert done.code == 1
    assert re.search("cannot write .*no space left.*free some space", done.error)
    assert methods.specs()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.slow
def test_ctrl_c_ends_in_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "stp-bench"
    words = [program, "data", "synth", "synth-hmdb", "--preset", "small", "--out", tmp_path / "out"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").rglob("[!.]*.avi")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert out == ""
    assert err.rstrip().splitlines()[-1].startswith("stopped: ")
    assert "Traceback" not in err
    assert list((tmp_path / "out").rglob("[!.]*.avi"))  # what was done is kept
    assert not list((tmp_path / "out").rglob("*.partial*"))


@pytest.mark.slow
def test_offline_a_download_fails_at_once_and_names_the_way_round(start: Run, tiny: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--method", "raw", "--preset", "tiny", "--weights", "pretrained", "--out", tmp_path / "out")
    done = start(*words, env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")})
    assert done.code == 1
    assert "--weights FILE" in done.error
    assert "huggingface.co" in done.err.split("error: ")[0]
