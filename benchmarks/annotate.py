"""A labelling round at the size of VP-UCF101: `init` with 13,320 tasks and `pull` of 40,000 annotations.

Both on a Label Studio that `annotate serve` would start (Community, SQLite, one machine). Making the copies for the
browser is measured apart, on few videos of natural size; the 13,320 are one tiny clip, each with a few bytes of its own
behind its end, and their copies lie there beforehand. Annotations come by bulk import, three to a task, as in a
migration. Peak memory is that of a fresh process which does nothing else.

    STP_BENCH_LABEL_STUDIO=.../label-studio python benchmarks/annotate.py [--videos 13320] [--annotations 40000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import stp_annotations
from stp_bench.annotate import interface, media, people, rounds, server
from stp_bench.annotate._project import media_root, open_project
from stp_bench.annotate.studio import Studio
from stp_bench.files import make_folder, sha256_file
from stp_bench.progress import Silent
from stp_bench.video_io import write_video

if TYPE_CHECKING:
    from _report import Report

NAME, PORT, PEOPLE = "bench", 18188, 5
COPIED = 40
"""Videos whose browser-playable copies are really made."""


def videos(folder: Path, count: int, size: int, frames: int) -> dict[str, Path]:
    """So many files, no two alike: a texture that moves, 3 x 4 tiles of ``size`` pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((size, size, 1), np.uint8))
    first = folder / "first.avi"
    write_video(first, [np.roll(texture, 2 * t, axis=1) for t in range(frames)], 25, codec="mpeg4")
    content = first.read_bytes()
    first.unlink()
    for number in range(count):
        (folder / f"v{number:05d}.avi").write_bytes(content + number.to_bytes(8, "big"))
    return media.find_videos(folder)


def child(words: list[str]) -> None:
    """One piece of work, in a process of its own; prints seconds and peak memory."""
    what, home, url = words[0], Path(words[1]), words[2]
    token = server.local_token(home, url)
    assert token is not None
    studio = Studio(url, token)
    began = time.perf_counter()
    if what == "init":
        plan = rounds.Plan(
            name=NAME, title="Benchmark", source="made up", videos=media.find_videos(Path(words[3])), annotators=PEOPLE
        )
        rounds.set_up(home, plan, studio, reporter=Silent())
    elif what == "pull":
        rounds.pull(home, open_project(home, NAME), studio, reporter=Silent())
    else:
        rounds.status(home, open_project(home, NAME), studio, reporter=Silent())
    seconds = time.perf_counter() - began
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    kilobytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    print(json.dumps({"seconds": seconds, "megabytes": kilobytes * 1.024 / 1000}))


def measured(report: Report, title: str, size: str, what: str, home: Path, url: str, *more: str) -> None:
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, str(home), url, *more], stdout=subprocess.PIPE, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    report.row(work=title, size=size, seconds=found["seconds"], **{"peak MB": found["megabytes"]})


def annotate(home: Path, url: str, count: int) -> None:
    """Bulk-import annotations of made-up people: task by task, in the order of the videos."""
    from label_studio_sdk.client import LabelStudio

    token = server.local_token(home, url)
    assert token is not None
    studio = Studio(url, token)
    project = open_project(home, NAME)
    emails = people.numbered(NAME, PEOPLE)
    accounts = home / "accounts.csv"
    people.create(url, emails, known=(), link=studio.invite, out=accounts, reporter=Silent())
    users = {email: number for number, email in studio.users().items()}
    rng = np.random.default_rng(0)
    names = [a.name for a in stp_annotations.attributes()]
    wanted = [(i % len(project.videos), i // len(project.videos)) for i in range(count)]
    forms: dict[int, list[int]] = {}
    for video, person in wanted:
        forms.setdefault(video, []).append(person)
    data = {task["data"]["video_id"]: task for page in studio.tasks(project.project_id) for task in page}
    ids = sorted(data)
    LabelStudio(base_url=url, api_key=token, timeout=600).tasks.delete_all_tasks(id=project.project_id)
    tasks = []
    for video, given in forms.items():
        yes = rng.random((len(given), len(names))) < 0.4
        tasks.append(
            {
                "data": data[ids[video]]["data"],
                "annotations": [
                    {
                        "result": interface.answers(
                            {n: interface.YES if y else interface.NO for n, y in zip(names, row, strict=True)}
                        ),
                        "completed_by": users[emails[person]],
                        "lead_time": float(rng.gamma(4, 3)),
                    }
                    for person, row in zip(given, yes, strict=True)
                ],
            }
        )
    for start in range(0, len(tasks), 1000):
        studio.add(project.project_id, tasks[start : start + 1000])


def main() -> None:
    from _report import Report  # imports torch: the memory of a child's work must not hold it

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--videos", type=int, default=13_320)
    options.add_argument("--annotations", type=int, default=40_000)
    chosen = options.parse_args()
    report = Report("annotate", "A labelling round at the size of VP-UCF101, on Label Studio Community with SQLite")
    with tempfile.TemporaryDirectory() as place:
        home, folder = Path(place) / "home", Path(place) / "videos"
        natural = videos(Path(place) / "natural", COPIED, 80, 180)
        began = time.perf_counter()
        copies = media.make_copies(
            natural, Path(place) / "copies", journal=Path(place) / "probed.jsonl", reporter=Silent()
        )
        report.row(
            work="copies for the browser, 180 frames of 240x320", size=f"{copies.made} videos",
            seconds=time.perf_counter() - began, **{"peak MB": "–"},
        )  # fmt: skip
        one = Path(place) / "copies" / next(iter(copies.clips.values())).file
        target = make_folder(media_root(home) / NAME)
        for path in videos(folder, chosen.videos, 8, 4).values():
            (target / f"{sha256_file(path)}.mp4").hardlink_to(one)
        with server.running(home, port=PORT, reporter=Silent()) as running:
            size = f"{chosen.videos:,} videos"
            measured(report, "init, copies there", size, "init", home, running.url, str(folder))
            measured(report, "init again", size, "init", home, running.url, str(folder))
            annotate(home, running.url, chosen.annotations)
            size = f"{chosen.annotations:,} annotations"
            measured(report, "pull", size, "pull", home, running.url)
            measured(report, "pull again", size, "pull", home, running.url)
            measured(report, "status", size, "status", home, running.url)
    report.write()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
