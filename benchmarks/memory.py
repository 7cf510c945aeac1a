"""Whether memory grows with the number of videos: `data prepare` and an evaluation at 1,000, 4,000 and 13,320 of them.

Tiny videos with UCF101's names, split lists and made-up labels go through the same commands as the real archive. What
counts is anonymous memory of the command and its workers together, polled while they run: pages of the clip store are
mapped from files, and the system takes them back when it needs the room.

    python benchmarks/memory.py [--videos 1000 4000 13320]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _report import Report

from stp_bench.splits import UCF101_CLASSES
from stp_bench.video_io import write_video

GROUPS, CLIPS = 25, 7
TEST_GROUPS = 7
FRAMES, HEIGHT, WIDTH = 18, 36, 48
POLL = 0.05  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 4000, 13_320])
    counts = parser.parse_args().videos
    report = Report("memory", "Peak anonymous memory of the commands, by number of videos")
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            root = Path(folder) / str(count)
            make(root, count)
            for work, words in commands(root).items():
                peak, processes, seconds = watched(words, root)
                report.row(videos=count, work=work, peak_MB=peak / 1e6, processes=processes, wall_s=seconds)
    report.write()


def commands(root: Path) -> dict[str, list[str]]:
    """The commands whose memory is measured, in the order in which they need each other."""
    base = [sys.executable, "-c", "from stp_bench.cli import main; main()"]
    prepare = ["data", "prepare", "vp-ucf101", "--videos", root / "videos", "--splits", root / "lists", "--labels"]
    evaluate = ["evaluate", "--method", "raw", "--on", "vp-ucf101", "--preset", "tiny", "--set", "run.clips=1"]
    return {
        "data prepare": [*base, *map(str, prepare), str(root / "labels.csv"), "--accept-unknown", "--allow-missing"],
        "evaluate": [*base, *evaluate, "--set", "run.crops=1", "--set", "run.bootstrap=0"],
    }


def make(root: Path, count: int) -> None:
    """``count`` videos over all classes, and lists and labels of exactly these."""
    names = [
        f"{name}/v_{name}_g{g:02d}_c{k:02d}"
        for k in range(1, CLIPS + 1)
        for g in range(1, GROUPS + 1)
        for name in UCF101_CLASSES
    ][:count]
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, [str(root / "videos" / f"{name}.avi") for name in names], range(count), chunksize=64))
    lists = root / "lists"
    lists.mkdir()
    train = [n for n in names if group(n) > TEST_GROUPS]
    test = [n for n in names if group(n) <= TEST_GROUPS]
    (lists / "classInd.txt").write_text("".join(f"{c} {name}\r\n" for c, name in enumerate(UCF101_CLASSES, 1)))
    for split in (1, 2, 3):
        numbered = [f"{n}.avi {UCF101_CLASSES.index(n.partition('/')[0]) + 1}\r\n" for n in train]
        (lists / f"trainlist{split:02d}.txt").write_text("".join(numbered))
        (lists / f"testlist{split:02d}.txt").write_text("".join(f"{n}.avi\r\n" for n in test))
    labels = (np.random.default_rng(0).random((count, 5)) < 0.5).astype(int)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(names, labels.tolist(), strict=True)]
    head = "video_id,face,skin_color,gender,nudity,relationship"
    (root / "labels.csv").write_text("\n".join([head, *rows]) + "\n")


def group(name: str) -> int:
    """The number after ``_g``."""
    return int(name.rpartition("_g")[2][:2])


def draw(path: str, seed: int) -> None:
    """One small video of its own."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    still = np.kron(noise, np.ones((6, 6, 1), np.uint8))
    write_video(Path(path), (np.roll(still, t, axis=1) for t in range(FRAMES)), 25, codec="mpeg4", bitrate=60_000)


def watched(words: Sequence[str], root: Path) -> tuple[int, int, float]:
    """Run a command; its peak anonymous memory in bytes, how many processes held it, and its wall time."""
    environment = {**os.environ, "STP_BENCH_HOME": str(root / "home"), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    peak, processes = 0, 1
    while process.poll() is None:
        held = [anonymous(pid) for pid in family(process.pid)]
        if sum(held) > peak:
            peak, processes = sum(held), len(held)
        time.sleep(POLL)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return peak, processes, time.monotonic() - began


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [member for child in tasks.read_text().split() for member in family(int(child))]
        except OSError:
            continue  # it ended meanwhile
    return found


def anonymous(pid: int) -> int:
    """Bytes of memory that belong to no file."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("RssAnon")), "RssAnon: 0 kB")
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
