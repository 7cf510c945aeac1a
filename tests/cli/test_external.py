"""Methods that stp-bench does not run itself, or that do not work: videos made elsewhere, programs, broken plug-ins."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stp_bench import video_io
from stp_bench.data import open_dataset
from stp_bench.index import Dataset
from stp_bench.video_io import Image

Run = Callable[..., Any]
PYTHON = f"{shlex.quote(sys.executable)} -I -S"
COPY = f"exec:{PYTHON} -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' {{input}} {{output}}"

BLUR = """
import sys
from pathlib import Path
import cv2
from stp_bench.video_io import probe, read_frames, write_video
source, target = map(Path, sys.argv[1:])
write_video(target, (cv2.GaussianBlur(frame, (0, 0), 4) for frame in read_frames(source)), probe(source).fps)
"""

PLUGINS = """
import torch
from stp_bench.clips import Anonymized
from stp_bench.methods import MethodSpec


class Fixed:
    def __init__(self, config, vit):
        pass

    def phases(self, task):
        return ()

    def parts(self):
        return {}


class Shape(Fixed):
    def anonymize(self, clips):
        return Anonymized(clips.x_BCTHW[:, :, :, 1:])


class Range(Fixed):
    def anonymize(self, clips):
        return Anonymized(clips.x_BCTHW + 1)


class Device(Fixed):
    def anonymize(self, clips):
        return Anonymized(clips.x_BCTHW.to("meta"))


class NotANumber(Fixed):
    def anonymize(self, clips):
        return Anonymized(clips.x_BCTHW / 0)


class Random(Fixed):
    def anonymize(self, clips):
        return Anonymized(torch.rand_like(clips.x_BCTHW))


class Raises(Fixed):
    def anonymize(self, clips):
        raise IndexError("frame 16 of 16")


class Unbuilt(Fixed):
    def __init__(self, config, vit):
        raise KeyError("model.pt")


SHAPE, RANGE, DEVICE, NAN, RANDOM, RAISES, UNBUILT = (
    MethodSpec(name=kind.__name__.lower(), version=1, title="", build=f"odd_plugins:{kind.__name__}")
    for kind in (Shape, Range, Device, NotANumber, Random, Raises, Unbuilt)
)
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Methods of all sorts in a module, and a package that cannot be imported."""
    (tmp_path / "odd_plugins.py").write_text(PLUGINS)
    (tmp_path / "odd_import.py").write_text("raise RuntimeError('this plug-in needs a moon phase')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("odd_plugins", None)


def remake(dataset: Dataset, folder: Path, change: Callable[[Image], Image]) -> Path:
    """All videos of a data set, changed frame by frame."""
    for video in dataset.videos:
        frames = map(change, video_io.read_frames(dataset.path(video)))
        video_io.write_video(folder / f"{video.video_id}.mp4", frames, video.fps)
    return folder


@pytest.fixture(scope="module")
def blurred(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``synth-hmdb`` as something else has anonymized it: blurred, and of another size."""
    folder = tmp_path_factory.mktemp("blurred")
    return remake(open_dataset(tiny), folder, lambda f: cv2.resize(cv2.GaussianBlur(f, (0, 0), 3), (60, 44)))


def test_a_folder_of_anonymized_videos_is_judged_beside_a_method(run: Run, blurred: Path, tmp_path: Path) -> None:
    words = ("--method", "raw", "--preset", "tiny", "--set", "run.bootstrap=10", "--json")
    done = run("evaluate", "--method", f"files:{blurred}", *words, "--out", tmp_path / "out")
    document = done.json()
    assert document["failed"] == []
    files, raw = document["results"]
    assert (files["method"], files["variant"], files["fit_on"], files["on"]) == (
        "files", "videos", "synth-hmdb", "synth-hmdb",
    )  # fmt: skip
    assert files["left"]["cmap"] is not None  # the raw run of the same setting is found
    assert files["floors"]["cmap_prevalence"] == raw["floors"]["cmap_prevalence"]
    assert files["provenance"]["videos_sha256"] == raw["provenance"]["videos_sha256"]
    assert len(files["provenance"]["config"]["method"]["sha256"]) == 64
    assert str(blurred) not in json.dumps(files)

    # The videos count, not where they lie.
    moved = blurred.with_name("moved")
    moved.symlink_to(blurred)
    again = run("evaluate", "--method", f"files:{moved}", *words, "--out", tmp_path / "again")
    assert again.json()["results"][0]["metrics"] == files["metrics"]
    assert again.err.count("probes files: found") == 1


def test_videos_that_became_alike_are_still_different_videos(run: Run, tiny: Path, tmp_path: Path) -> None:
    """All black: training and test files of one length are equal byte for byte."""
    folder = remake(open_dataset(tiny), tmp_path / "black", lambda f: np.zeros_like(f))
    words = ("--preset", "tiny", "--set", "run.epochs=1", "--set", "run.bootstrap=0", "--json", "--out", tmp_path / "o")
    document = run("evaluate", "--method", f"files:{folder}", *words).json()
    assert document["skipped"] == {**document["skipped"], "unreadable": 0, "overlap": 0}
    assert document["metrics"]["auroc"] == pytest.approx(50)  # nothing can be told apart


def test_single_frames_of_videos_made_elsewhere_are_judged(run: Run, tmp_path: Path) -> None:
    words = ("--protocol", "frame", "--preset", "tiny", "--set", "run.epochs=1", "--set", "run.bootstrap=0", "--json")
    document = run("evaluate", "--method", COPY, *words, "--out", tmp_path / "out").json()
    assert (document["method"], document["variant"], document["on"]) == ("exec", "videos", "synth-pa")
    assert document["metrics"]["attackers"]["frame"] is not None
    assert document["skipped"]["overlap"] > 0  # videos of synth-pa's test are videos of synth-hmdb


def test_a_program_is_judged_and_not_run_again(run: Run, tiny: Path, tmp_path: Path) -> None:
    script = tmp_path / "blur.py"
    script.write_text(BLUR)
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} {{input}} {{output}}"
    words = ["evaluate", "--method", f"exec:{command}", "--preset", "tiny", "--set", "exec.timeout=100", "--json"]
    document = run(*words, "--out", tmp_path / "out").json()
    recorded = document["provenance"]["config"]["method"]
    assert (recorded["command"], recorded["timeout"]) == (command, 100.0)
    again = run(*words, "--set", "exec.processes=1", "--out", tmp_path / "again")
    assert again.json()["metrics"] == document["metrics"]
    assert again.err.count("found") == 2  # probes and score


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--keep", "0.5"], "--keep does not fit exec"),
        (["--checkpoint", "x"], "--checkpoint does not fit exec"),
        (["--skip-unreadable"], "--skip-unreadable does not fit exec"),
        (["--set", "exec.timout=3"], "'timout', .*did you mean timeout"),
        (["--set", "exec.processes=0"], "exec.processes"),
        (["--method", "files:nowhere"], "no folder 'nowhere'"),
        (["--method", "exec:cp {input}"], r"no \{output\}"),
    ],
)
def test_what_makes_no_sense_for_videos_made_elsewhere_is_refused(run: Run, words: list[str], says: str) -> None:
    done = run("evaluate", "--method", COPY, "--preset", "tiny", *words)
    assert done.code == 2
    assert re.search(says, done.error), done.error


def test_videos_made_elsewhere_are_not_trained_nor_made_by_us(run: Run, blurred: Path, tmp_path: Path) -> None:
    assert "files cannot be trained" in run("train", "--method", f"files:{blurred}", "--fit-on", "synth-hmdb").error
    done = run("anonymize", blurred, tmp_path / "out", "--method", f"files:{blurred}")
    assert (done.code, "made elsewhere" in done.error) == (2, True)


def test_missing_videos_stop_a_comparison_before_anybody_works(run: Run, blurred: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for folder in sorted(blurred.iterdir())[1:]:
        (half / folder.name).symlink_to(folder)
    out = tmp_path / "out"
    done = run("evaluate", "--method", "raw", "--method", f"files:{half}", "--preset", "tiny", "--out", out)
    assert done.code == 2
    assert "lacks" in done.error and "videos of synth-hmdb" in done.error
    assert not (out / "raw" / "seed-0" / "result.json").exists()


def test_a_program_that_fails_stops_only_itself(run: Run, tmp_path: Path) -> None:
    bad = f"exec:{PYTHON} -c 'import sys; sys.exit(\"no model\")' {{input}} {{output}}"
    words = ("--preset", "tiny", "--set", "run.bootstrap=10", "--json", "--out", tmp_path)
    done = run("evaluate", "--method", bad, "--method", "raw", *words)
    assert done.code == 1
    assert [r["method"] for r in json.loads(done.out)["results"]] == ["raw"]
    assert "a method could not be judged (exec), the program failed on" in done.err.splitlines()[-1]
    assert "no model" in done.err.splitlines()[-1]


def test_broken_plug_ins_are_named_with_what_is_asked_and_the_others_go_on(
    run: Run, tiny: Path, plugins: None, tmp_path: Path
) -> None:
    says = {
        "odd_import:SPEC": "moon phase",
        "odd_plugins:SHAPE": "method 'shape' breaks the contract, clips of shape",
        "odd_plugins:RANGE": "method 'range' breaks the contract, its output spans [1",
        "odd_plugins:DEVICE": "method 'device' breaks the contract, clips of torch.float32 on cpu became",
        "odd_plugins:NAN": "method 'notanumber' breaks the contract, its output has values that are not finite",
        "odd_plugins:RANDOM": "method 'random' breaks the contract, two calls with the same clips differ",
        "odd_plugins:RAISES": "method 'raises' failed, anonymize raised IndexError: frame 16 of 16",
        "odd_plugins:UNBUILT": "method 'unbuilt' failed, its constructor raised KeyError: 'model.pt'",
    }
    methods = [word for name in says for word in ("--method", name)]
    words = ("--preset", "tiny", "--set", "run.bootstrap=10", "--device", "cpu", "--json", "--out", tmp_path / "out")
    done = run("evaluate", *methods, "--method", "raw", *words)
    assert done.code == 1
    document = json.loads(done.out)
    assert [r["method"] for r in document["results"]] == ["raw"]
    assert len(document["failed"]) == len(says)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == document
    assert (tmp_path / "out" / "raw" / "seed-0" / "result.json").exists()
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert errors == [done.err.splitlines()[-1]]
    for text in says.values():
        assert text in errors[0]
        assert any(text in line and " is left out: " in line and "; " in line for line in done.err.splitlines())
    table = run("evaluate", *methods, "--method", "raw", *(w for w in words if w != "--json"))
    assert table.code == 1 and "Top-1" in table.out


def test_a_broken_plug_in_alone_is_a_wrong_request_or_failed_work(run: Run, plugins: None, tmp_path: Path) -> None:
    words = ("--preset", "tiny", "--out", tmp_path / "out")
    for name, code, says in (
        ("odd_import:SPEC", 2, "moon phase"),
        ("odd_plugins:RANDOM", 2, "draw no random numbers"),
        ("odd_plugins:UNBUILT", 1, "check_method"),
    ):
        done = run("evaluate", "--method", name, *words)
        assert (done.code, says in done.error) == (code, True), done.error


def test_an_unknown_name_among_several_stops_at_once(run: Run, tmp_path: Path) -> None:
    for name in ("stprivcy", "no_such_package:SPEC"):
        done = run("evaluate", "--method", "raw", "--method", name, "--preset", "tiny", "--out", tmp_path / "out")
        assert done.code == 2 and name in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_the_programs_and_keeps_what_they_finished(program: Path, tiny: Path, tmp_path: Path) -> None:
    code = (
        "import os, shutil, sys, time\n"
        f"folder = {str(tmp_path)!r}\n"
        "if os.path.exists(folder + '/first'):\n    open(folder + '/pid', 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "shutil.copyfile(*sys.argv[1:])\nopen(folder + '/first', 'w').close()\n"
    )
    command = f"exec:{PYTHON} -c {shlex.quote(code)} {{input}} {{output}}"
    words = [program, "evaluate", "--method", command, "--preset", "tiny", "--set", "exec.processes=1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (pid := tmp_path / "pid").exists() or not pid.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: what was finished is kept" in err
    kept = Path(err.partition("is kept in ")[2].splitlines()[0])
    assert len(list(kept.glob("*.mp4"))) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
