"""Videos that were anonymized elsewhere: which file belongs to which video, and programs that are run on each."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import external, programs, video_io
from stp_bench.data import open_dataset
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset
from stp_bench.methods import inputs_of
from stp_bench.programs import Input, Limits
from stp_bench.progress import Silent
from stp_bench.schema import Video

LIMITS = Limits(seconds=60, memory=8 * 10**9, processes=2)
PYTHON = f"{shlex.quote(sys.executable)} -I -S"  # starts in a few milliseconds
COPY = f"{PYTHON} -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' {{input}} {{output}}"

NEGATIVE = """
import sys
from pathlib import Path
from stp_bench.video_io import probe, read_frames, write_video
source, target = map(Path, sys.argv[1:])
write_video(target, (255 - frame for frame in read_frames(source)), probe(source).fps)
"""


def program(code: str) -> str:
    """A command that runs ``code`` in Python; its arguments are the two paths."""
    return f"{PYTHON} -c {shlex.quote(code)} {{input}} {{output}}"


@pytest.fixture(scope="module")
def dataset(tiny: Path) -> Dataset:
    return open_dataset(tiny)


@pytest.fixture
def judged(dataset: Dataset) -> tuple[Video, ...]:
    return dataset.videos[:3]


@pytest.fixture
def inputs(dataset: Dataset, judged: tuple[Video, ...]) -> list[Input]:
    return [
        Input(name=v.video_id, path=dataset.path(v), sha256=dataset.facts[v.video_id][1], frames=v.frames)
        for v in judged
    ]


def copies(dataset: Dataset, videos: tuple[Video, ...], folder: Path, name: Callable[[Video], str]) -> Path:
    for video in videos:
        path = folder / name(video)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset.path(video), path)
    return folder


def by_class(video: Video) -> str:
    return f"{video.video_id}.avi"


def read(folder: Path, dataset: Dataset, videos: tuple[Video, ...], home: Path) -> tuple[Dataset, Any]:
    method = f"files:{folder}"
    config = external.find(method).configure("tiny")
    name = dataset.benchmark.name
    found, config = external.transformed(method, config, {name: dataset}, {name: videos}, home, Silent())
    return found[name], config


def shrink(path: Path, frames: int, size: tuple[int, int]) -> None:
    images = list(video_io.read_frames(path, size=size))[:frames]
    path.unlink()
    video_io.write_video(path.with_suffix(".mp4"), images, 25)


# A folder of videos


def test_files_are_found_by_class_and_name_and_others_are_passed_over(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    (folder / "notes.txt").write_text("not a video")
    shutil.copyfile(dataset.path(dataset.videos[5]), folder / "extra.mp4")
    found, _ = read(folder, dataset, judged, tmp_path / "home")
    assert [v.video_id for v in found.videos] == [v.video_id for v in judged]
    assert [found.path(v) for v in found.videos] == [folder / by_class(v) for v in judged]


def test_files_without_class_folders_are_found_by_name(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", lambda v: by_class(v).rpartition("/")[2])
    found, _ = read(folder, dataset, judged, tmp_path / "home")
    assert [found.path(v).parent for v in found.videos] == [folder] * len(judged)


def test_other_sizes_are_taken_with_the_labels_groups_and_splits_of_the_videos(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    first = judged[0]
    shrink(folder / by_class(first), first.frames, (20, 24))
    found, _ = read(folder, dataset, judged, tmp_path / "home")
    assert (found.videos[0].height, found.videos[0].width, found.videos[0].frames) == (20, 24, first.frames)
    assert [(v.labels, v.group) for v in found.videos] == [(v.labels, v.group) for v in judged]
    assert found.parts == dataset.parts
    assert found.name != dataset.name  # clip stores lie apart


def test_the_fingerprint_is_of_contents_and_not_of_places(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    one = copies(dataset, judged, tmp_path / "one", by_class)
    two = copies(dataset, judged, tmp_path / "two" / "deeper", by_class)
    (first, config), (second, same) = (read(folder, dataset, judged, tmp_path / "home") for folder in (one, two))
    assert inputs_of(config) == inputs_of(same)
    assert first.digest(first.videos) == second.digest(second.videos) == dataset.digest(judged)
    shrink(two / by_class(judged[1]), judged[1].frames, (20, 24))
    third, other = read(two, dataset, judged, tmp_path / "home")
    assert third.digest(third.videos) != first.digest(first.videos)
    assert inputs_of(other) != inputs_of(config)


def test_a_fingerprint_that_is_asked_for_is_met_or_refused(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    _, config = read(folder, dataset, judged, tmp_path / "home")
    name = dataset.benchmark.name
    for asked, good in ((config, True), (external.FilesConfig(sha256="0" * 64), False)):
        arguments = (f"files:{folder}", asked, {name: dataset}, {name: judged}, tmp_path / "home", Silent())
        if good:
            assert external.transformed(*arguments)[1] == config
        else:
            with pytest.raises(UserError, match=config.sha256):
                external.transformed(*arguments)


def test_missing_videos_are_named(dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path) -> None:
    folder = copies(dataset, judged[1:], tmp_path / "made", by_class)
    with pytest.raises(UserError, match=f"lacks 1 of 3 videos of synth-hmdb, {judged[0].video_id};"):
        read(folder, dataset, judged, tmp_path / "home")


def test_a_video_that_two_files_could_be_is_refused(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    twin = (folder / by_class(judged[0])).with_suffix(".mp4")
    shutil.copyfile(dataset.path(judged[0]), twin)
    with pytest.raises(UserError, match=f"twice, {judged[0].video_id} could be"):
        read(folder, dataset, judged, tmp_path / "home")


def test_an_unreadable_video_is_named(dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    (folder / by_class(judged[1])).write_bytes(b"no video")
    with pytest.raises(WorkError, match=f"1 of 3 videos .* cannot be read, {judged[1].video_id}"):
        read(folder, dataset, judged, tmp_path / "home")


def test_a_video_of_another_length_is_named_with_both(
    dataset: Dataset, judged: tuple[Video, ...], tmp_path: Path
) -> None:
    folder = copies(dataset, judged, tmp_path / "made", by_class)
    video = judged[2]
    shrink(folder / by_class(video), video.frames - 1, (video.height, video.width))
    expected = rf"{video.video_id} \({video.frames - 1} instead of {video.frames}\)"
    with pytest.raises(UserError, match=expected):
        read(folder, dataset, judged, tmp_path / "home")


def test_a_folder_that_is_not_there_is_a_wrong_request() -> None:
    with pytest.raises(UserError, match="there is no folder 'nowhere'"):
        external.find("files:nowhere")


# A program


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cp {input}", r"no \{output\}"),
        ("cp", r"no \{input\} and no \{output\}"),
        ("", r"no \{input\} and no \{output\}"),
        ("cp '{input} {output}", "no closing quotation"),
        ("no-such-program {input} {output}", "no program 'no-such-program'"),
    ],
)
def test_a_command_that_cannot_be_run_is_a_wrong_request(command: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        external.find(f"exec:{command}")


@pytest.mark.parametrize("setting", [{"timeout": "0"}, {"memory_gb": "-1"}, {"processes": "0"}, {"timeout": "nan"}])
def test_limits_that_make_no_sense_are_refused(setting: Mapping[str, str]) -> None:
    with pytest.raises(UserError, match=f"exec.{next(iter(setting))}"):
        external.find(f"exec:{COPY}").configure("tiny", setting)


def test_how_a_program_is_run_is_recorded_and_moves_no_key() -> None:
    spec = external.find(f"exec:{COPY}")
    config = spec.configure("tiny", {"timeout": "5", "memory_gb": "0"})
    assert (config.command, config.timeout, config.memory_gb) == (COPY, 5.0, 0.0)
    assert inputs_of(config) == inputs_of(spec.configure("small"))


def test_a_program_makes_each_video_once_and_is_not_asked_again(inputs: list[Input], tmp_path: Path) -> None:
    script, log = tmp_path / "negative.py", tmp_path / "log"
    script.write_text(NEGATIVE + f"open({str(log)!r}, 'a').write('run\\n')\n")
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} {{input}} {{output}}"
    folder = tmp_path / "kept"
    made = programs.transform(command, inputs, folder, LIMITS)
    assert log.read_text().count("run") == len(inputs)
    for video in inputs:
        path, facts = made[video.sha256]
        assert path.parent == folder and facts.frames == video.frames and sha256_file(path) == facts.sha256
        before, after = (next(iter(video_io.read_frames(p))).astype(float) for p in (video.path, path))
        assert np.abs(255 - before - after).mean() < 8 < np.abs(before - after).mean()  # up to the codec's loss
    assert programs.transform(command, inputs, folder, LIMITS) == made
    assert log.read_text().count("run") == len(inputs)
    assert {p.suffix for p in folder.iterdir()} <= {".mp4", ".lock", ".jsonl", ""}
    assert not (folder / "scratch").exists()


def test_a_program_sees_neutral_names_and_a_copy_and_no_shell(inputs: list[Input], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"""
import pathlib, shutil, sys
source, target = sys.argv[1].removeprefix("--in="), sys.argv[2]
shutil.copyfile(source, target)
with open({str(seen)!r}, "a") as log:
    print(source, target, *sys.argv[3:], file=log)
pathlib.Path(source).write_bytes(b"spoiled")
"""
    command = f"{PYTHON} -c {shlex.quote(code)} --in={{input}} {{output}} '$HOME; * | x'"
    programs.transform(command, inputs[:1], tmp_path / "kept", LIMITS)
    line = seen.read_text()
    video = inputs[0]
    assert "$HOME; * | x" in line
    assert all(part not in line for part in video.name.split("/")) and video.path.stem not in line
    assert sha256_file(video.path) == video.sha256


def test_a_half_output_is_made_anew(inputs: list[Input], tmp_path: Path) -> None:
    made = programs.transform(COPY, inputs, tmp_path, LIMITS)
    victim, other = (made[v.sha256][0] for v in inputs[:2])
    victim.write_bytes(victim.read_bytes()[:100])
    kept = other.stat().st_mtime_ns
    again = programs.transform(COPY, inputs, tmp_path, LIMITS)
    assert again == made
    assert other.stat().st_mtime_ns == kept


def test_what_was_finished_before_a_failure_is_kept(inputs: list[Input], tmp_path: Path) -> None:
    picky = f"""
import hashlib, shutil, sys
content = open(sys.argv[1], "rb").read()
assert hashlib.sha256(content).hexdigest() != {inputs[-1].sha256!r}, "not this one"
shutil.copyfile(*sys.argv[1:])
"""
    one_by_one = Limits(seconds=60, memory=0, processes=1)
    with pytest.raises(WorkError, match=f"failed on {inputs[-1].name}, it ended with exit code 1: .*not this one"):
        programs.transform(program(picky), inputs, tmp_path, one_by_one)
    assert {p.stem for p in tmp_path.glob("*.mp4")} == {v.sha256 for v in inputs[:-1]}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('cannot find the model')", "exit code 1: cannot find the model"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("pass", "wrote no file to {output}"),
        ("import sys; open(sys.argv[2], 'w').close()", "wrote no file to {output}"),
        ("import os, sys; os.symlink(sys.argv[1], sys.argv[2])", "wrote no file to {output}"),
        ("import sys; open(sys.argv[2], 'w').write('text')", "wrote no video that can be read"),
    ],
)
def test_a_program_that_fails_is_named_with_the_video_and_its_last_words(
    inputs: list[Input], tmp_path: Path, code: str, says: str
) -> None:
    with pytest.raises(WorkError) as caught:
        programs.transform(program(code), inputs[:1], tmp_path, LIMITS)
    assert f"the program failed on {inputs[0].name}" in str(caught.value)
    assert says in str(caught.value)
    assert not list(tmp_path.glob("*.mp4")) and not (tmp_path / "scratch").exists()


def test_another_number_of_frames_is_refused(inputs: list[Input], tmp_path: Path) -> None:
    video = Input(name="x", path=inputs[0].path, sha256=inputs[0].sha256, frames=inputs[0].frames + 1)
    with pytest.raises(WorkError, match=f"wrote {inputs[0].frames} frames for a video of {video.frames}"):
        programs.transform(COPY, [video], tmp_path, LIMITS)
    assert not list(tmp_path.glob("*.mp4"))


def test_a_video_that_is_not_the_indexed_one_is_not_given_away(inputs: list[Input], tmp_path: Path) -> None:
    video = Input(name="x", path=inputs[0].path, sha256="0" * 64, frames=inputs[0].frames)
    with pytest.raises(WorkError, match="x changed since the data were prepared"):
        programs.transform(COPY, [video], tmp_path, LIMITS)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_program_that_hangs_is_ended_with_all_that_it_started(inputs: list[Input], tmp_path: Path) -> None:
    note = tmp_path / "child"
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
open({str(note)!r}, "w").write(str(child.pid))
print("still loading", file=sys.stderr, flush=True)
time.sleep(600)
"""
    with pytest.raises(WorkError, match="did not end within 3 seconds: still loading"):
        programs.transform(program(code), inputs[:1], tmp_path / "kept", Limits(seconds=3, memory=0, processes=1))
    assert ended(int(note.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="address space limits")
def test_a_program_that_takes_too_much_memory_fails_alone(inputs: list[Input], tmp_path: Path) -> None:
    greedy = Limits(seconds=60, memory=10**9, processes=1)
    with pytest.raises(WorkError, match=r"MemoryError; .*it may use 1 GB: --set exec\.memory_gb=N"):
        programs.transform(program("x = bytearray(2 * 10**9)"), inputs[:1], tmp_path, greedy)
    assert programs.transform(COPY, inputs[:1], tmp_path, greedy)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_the_first_failure_ends_the_other_programs(inputs: list[Input], tmp_path: Path) -> None:
    code = f"""
import hashlib, sys, time
if hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest() == {inputs[0].sha256!r}:
    time.sleep(1)
    sys.exit("broken")
open({str(tmp_path / "pid")!r}, "w").write(str(__import__("os").getpid()))
time.sleep(600)
"""
    with pytest.raises(WorkError, match="broken"):
        programs.transform(program(code), inputs[:2], tmp_path / "kept", LIMITS)
    assert ended(int((tmp_path / "pid").read_text()))


def test_a_flood_of_words_is_cut_to_its_end(inputs: list[Input], tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write('x' * 10**7 + ' \\x1b[31mthe end\\x07'); sys.exit(2)"
    with pytest.raises(WorkError) as caught:
        programs.transform(program(code), inputs[:1], tmp_path, LIMITS)
    assert "the end;" in str(caught.value) and len(str(caught.value)) < 800 and str(caught.value).isprintable()


def test_the_identity_of_a_command_covers_the_files_among_its_words(tmp_path: Path) -> None:
    script, weights = tmp_path / "a.py", tmp_path / "w.pt"
    script.write_text("1")
    weights.write_text("2")
    command = f"{sys.executable} {script} --weights={weights} {{input}} {{output}}"
    first = programs.identity(command)
    assert programs.identity(command) == first
    for path in (script, weights):
        path.write_text("3")
        before, first = first, programs.identity(command)
        assert first != before
    assert programs.identity(command + " --fast") != first


def test_two_callers_of_one_program_do_the_work_once(inputs: list[Input], tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = program(f"import shutil, sys; shutil.copyfile(*sys.argv[1:]); open({str(log)!r}, 'a').write('run\\n')")
    folder = tmp_path / "kept"
    callers = [threading.Thread(target=programs.transform, args=(command, inputs, folder, LIMITS)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert log.read_text().count("run") == len(inputs)


def ended(process: int) -> bool:
    """Whether a process has ended; a killed one may take a moment."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").exists() and " Z " in Path(f"/proc/{process}/stat").read_text():
            return True  # it only waits to be collected by whoever adopted it
        time.sleep(0.05)
    return False
