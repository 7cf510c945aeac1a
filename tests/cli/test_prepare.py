"""``stp-bench data prepare``, and what the other data commands say of real data sets."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import labels
from stp_bench.labels import LabelTable
from stp_bench.schema import Target
from stp_bench.video_io import write_video

Run = Callable[..., Any]
CODES = {f"{action}/T{n}_{action}_f_cm_np1_ba_med_0": 1 + n % 2 for action in ("#hug", "wave") for n in range(4)}


def tree(root: Path, video_ids: list[str], frames: int = 4) -> Path:
    root.mkdir(parents=True)
    write_video(root / "one.avi", [np.full((16, 16, 3), t, np.uint8) for t in range(frames)], 25, codec="mpeg4")
    content = (root / "one.avi").read_bytes()
    (root / "one.avi").unlink()
    for video_id in video_ids:
        path = root / f"{video_id}.avi"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content + video_id.encode())
    return root


def words_of(tmp_path: Path, codes: dict[str, int], frames: int = 4) -> list[str | Path]:
    """A small VP-HMDB51 on the disk, and the command that prepares it."""
    videos = tree(tmp_path / "videos", list(codes), frames)
    lists = tmp_path / "splits"
    lists.mkdir()
    for action in {i.partition("/")[0] for i in codes}:
        lines = [f"{i.partition('/')[2]}.avi {c} \n" for i, c in codes.items() if i.startswith(action)]
        (lists / f"{action}_test_split1.txt").write_text("".join(lines))
    five = ("face", "skin_color", "gender", "nudity", "relationship")
    target = Target(name="privacy", kind="multilabel", classes=five, private=True)
    rows = {i: {"privacy": tuple(n >> k & 1 for k in range(5))} for n, i in enumerate(sorted(codes))}
    labels.write_table(LabelTable(release="mine", targets=(target,), rows=rows), tmp_path / "labels.csv")
    return [
        "data", "prepare", "vp-hmdb51", "--videos", videos, "--labels", tmp_path / "labels.csv", "--accept-unknown",
        "--data-home", tmp_path / "home",
    ]  # fmt: skip


def test_a_real_set_is_prepared_listed_checked_and_stored(run: Run, tmp_path: Path) -> None:
    words, home = words_of(tmp_path, CODES), ("--data-home", tmp_path / "home")
    report = run(*words, "--json").json()  # the lists lie beside the videos
    assert (report["schema"], report["matched"], report["indexed"]) == (1, 8, 8)
    assert report["splits"]["official"]["1"] == {"train": 4, "test": 4, "unused": 0}
    shown = run(*words)
    assert shown.code == 0 and "all classes as listed" in shown.out and "(not as published)" in shown.out
    assert "VP-HMDB51 has 6,766" in " ".join(shown.out.split())
    listed = {row["name"]: row for row in run("data", "list", *home, "--json").json()["benchmarks"]}
    assert listed["vp-hmdb51"]["ready"] and listed["vp-hmdb51"]["missing"] is None
    assert "labels fetch vp-ucf101" in listed["vp-ucf101"]["missing"]
    assert listed["p-hvu"]["preset"] is None and not listed["p-hvu"]["embedded"]
    checked = run("data", "check", "vp-hmdb51", *home, "--json").json()
    assert checked["problems"] == [] and checked["label_release"] == "mine"
    floors = checked["splits"]["1"]["floors"]["values"]
    assert floors["ap_chance"]["face"] == 100 * floors["test_prevalence"]["face"]
    assert checked["labels"]["targets"][0]["together"]
    other = run("data", "check", "vp-hmdb51@title-disjoint", *home)
    assert "0 groups on both sides" in other.out
    stored = run("data", "store", "vp-hmdb51", *home, "--json").json()
    assert stored["videos"] == 8 and stored["preset"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("data prepare vp-hmdb52 --videos .", "unknown data set 'vp-hmdb52'.*did you mean vp-hmdb51"),
        ("data prepare synth-hmdb --videos .", "unknown data set 'synth-hmdb'"),
        ("data prepare vp-hmdb51", "--videos"),
        ("data prepare vp-hmdb51 --videos nowhere", "there is no folder nowhere"),
        ("data synth vp-hmdb51", "cannot be made, it is a real data set; .*data prepare vp-hmdb51"),
        ("data check vp-hmdb51", "vp-hmdb51 is not prepared.*data prepare vp-hmdb51 --videos DIR"),
        ("data check vp-hmdb51 --preset tiny", "--preset and --seed do not fit vp-hmdb51"),
        ("data store pa-hmdb51", "pa-hmdb51 is not prepared"),
        ("data store synth-hmbd", "did you mean synth-hmdb"),
    ],
)
def test_wrong_requests_are_one_line_with_a_mend(run: Run, tmp_path: Path, words: str, says: str) -> None:
    done = run(*words.split(), "--data-home", tmp_path)
    assert done.code == 2
    assert re.search(says, done.error), done.error


def test_what_does_not_fit_is_said_in_one_line_and_the_index_stays(run: Run, tmp_path: Path) -> None:
    words = words_of(tmp_path, CODES)
    assert run(*words).code == 0
    index = tmp_path / "home/data/vp-hmdb51/prepared/index.json"
    before = index.read_bytes()
    victim = tmp_path / "videos/#hug/T0_#hug_f_cm_np1_ba_med_0.avi"
    content = victim.read_bytes()
    victim.write_bytes(b"")
    done = run(*words)
    assert done.code == 1 and "T0_#hug" in done.error and "--skip-unreadable" in done.error
    victim.unlink()
    done = run(*words)
    assert done.code == 2 and "1 of 8 videos" in done.error and "--allow-missing" in done.error
    assert index.read_bytes() == before
    victim.write_bytes(content)
    assert run(*words, "--json").json()["indexed"] == 8


def test_a_killed_preparation_is_taken_up_where_it_stopped(program: Path, run: Run, tmp_path: Path) -> None:
    codes = {f"wave/T{n}_wave_f_cm_np1_ba_med_0": 1 + n % 2 for n in range(300)}
    words = words_of(tmp_path, codes, frames=60)
    process = subprocess.Popen([program, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal = tmp_path / "home/data/vp-hmdb51/.probed.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    while lines() < 20 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = lines()
    assert kept >= 20
    assert not (tmp_path / "home/data/vp-hmdb51/prepared/index.json").exists() or kept == 300
    first = journal.read_text().splitlines()[:20]
    assert run(*words, "--json").json()["indexed"] == 300
    assert set(first) <= set(journal.read_text().splitlines())
