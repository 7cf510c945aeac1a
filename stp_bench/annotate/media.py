"""Copies of videos that every browser plays: H.264 in mp4, without sound, under names that tell nothing.

A copy is named after the SHA-256 of its video: the video's own name often says the action, and equal files need one
copy only. It appears when it was decoded whole and has as many frames as the video, so that a stopped run goes on from
what is there. Copies are made in worker processes, ``python -m stp_bench.annotate.media``: they need no importable
``__main__``, and end by themselves when this process dies, however it dies.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stp_bench.errors import BenchError, UserError, WorkError
from stp_bench.files import make_folder
from stp_bench.progress import Reporter
from stp_bench.workers import cores, start_worker

SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
FPS = 25.0
"""Of a copy whose video states no frame rate."""
_VIDEOS_WORTH_A_WORKER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A browser-playable copy."""

    file: str
    """Its name in the folder of copies."""
    frames: int
    fps: float

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What a folder of copies holds of some videos."""

    clips: Mapping[str, Clip]
    unreadable: Mapping[str, str]
    """Video to reason."""
    made: int
    """How many were not there before."""


def find_videos(folder: Path) -> dict[str, Path]:
    """The videos of a folder at any depth: path without suffix, relative to the folder, to file.

    Raises:
        UserError: no such folder, none in it, or two that differ in their suffix only.
    """
    root = folder.expanduser().absolute()
    if not root.is_dir():
        why = "it is neither a benchmark nor a folder"
        raise UserError(f"there are no videos {folder}", why, "name a benchmark of 'stp-bench data list', or a folder")
    found: dict[str, Path] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in found:
            why = f"{found[name].name} and {path.name} differ in their suffix only"
            raise UserError(f"two videos would both be {name!r}", why, "rename or remove one of them")
        found[name] = path
    if not found:
        known = " ".join(sorted(SUFFIXES))
        raise UserError(f"there are no videos in {folder}", f"no file there ends in {known}", "name another folder")
    return found


def make_copies(
    videos: Mapping[str, Path], folder: Path, *, journal: Path, workers: int | None = None, reporter: Reporter
) -> Copies:
    """Make the copies that are missing.

    Args:
        videos: video to file.
        folder: where the copies go.
        journal: remembers what decoding the videos showed, see `stp_bench.probing`.
        workers: processes; None for one per core, or fewer where there is little to do.

    The caller sees to it that no other process makes copies in that folder.

    Raises:
        WorkError: the disk refused, or no worker can be started.
    """
    from stp_bench.probing import probe_files

    with reporter.stage("read the videos", len(videos), "videos") as task:
        facts, unreadable = probe_files(videos, journal, workers=workers, progress=task.update)
    clips = {
        name: Clip(file=f"{found.sha256}.mp4", frames=found.frames, fps=found.fps if found.fps > 0 else FPS)
        for name, found in facts.items()
    }
    missing = {clip.file: (name, clip) for name, clip in clips.items() if not (folder / clip.file).exists()}
    for unfinished in make_folder(folder).glob(".*.partial.*"):  # of a worker that was killed
        unfinished.unlink(missing_ok=True)
    refused: dict[str, str] = {}
    if missing:
        crew = min(workers or cores(), max(1, len(missing) // _VIDEOS_WORTH_A_WORKER))
        with reporter.stage("copy for the browser", len(missing), "videos") as task, _crew(crew) as transcode:
            jobs = {file: (videos[name], folder / file, clip) for file, (name, clip) in missing.items()}
            for file, why in transcode(jobs):
                if why is not None:
                    refused[file] = why
                task.advance()
    failed = {name: refused[clip.file] for name, clip in clips.items() if clip.file in refused}
    return Copies(
        clips={name: clip for name, clip in clips.items() if name not in failed},
        unreadable={**unreadable, **failed},
        made=len(missing) - len(refused),
    )


Job = tuple[Path, Path, Clip]
"""A video, its copy, and what the copy must be."""


@contextmanager
def _crew(workers: int) -> Iterator[_Transcode]:
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    crew = [_Worker() for _ in range(workers)]
    for worker in crew:
        idle.put(worker)
    pool = ThreadPoolExecutor(workers)
    try:
        yield _Transcode(pool, idle)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in crew:
            worker.stop()
        pool.shutdown()


class _Transcode:
    """Spreads jobs over the workers."""

    def __init__(self, pool: ThreadPoolExecutor, idle: queue.SimpleQueue[_Worker]) -> None:
        self._pool, self._idle = pool, idle

    def __call__(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, str | None]]:
        """Name of each job and why it failed, None where it did not, as they end."""
        futures = {self._pool.submit(self._do, job): name for name, job in jobs.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _do(self, job: Job) -> str | None:
        worker = self._idle.get()
        try:
            return worker.do(job)
        finally:
            self._idle.put(worker)


class _Worker:
    """A process that makes one copy at a time; a video that kills it counts as unreadable, and the next starts anew."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def do(self, job: Job) -> str | None:
        if self._stopped:
            return "it was stopped"
        process = self._process = self._process or start_worker("stp_bench.annotate.media")
        assert process.stdin is not None and process.stdout is not None
        video, target, clip = job
        try:
            process.stdin.write(json.dumps([str(video), str(target), clip.frames, clip.fps]) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._process = None
            process.kill()
            return f"the coder crashed on it (exit code {process.wait()})"
        if answer.get("disk"):
            raise WorkError(*answer["disk"])
        return None if answer["why"] is None else str(answer["why"])

    def stop(self) -> None:
        """End the process, from any thread."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _copy(video: Path, target: Path, frames: int, fps: float) -> dict[str, object]:
    """Make a copy and verify it; a worker's answer."""
    from stp_bench import video_io
    from stp_bench.files import atomic_path

    try:
        with atomic_path(target) as temporary:
            video_io.write_video(temporary, video_io.read_frames(video), fps)
            found = video_io.probe(temporary).frames
            if found != frames:
                return {"why": f"its copy has {found} frames instead of {frames}"}
    except BenchError as error:
        return {"why": error.why} if str(video) in error.what else {"disk": [error.what, error.why, error.mend]}
    return {"why": None}


def _serve() -> None:
    """A worker's life: a job per line in, an answer per line out, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent alone acts on it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    try:
        for line in iter(sys.stdin.readline, ""):
            video, target, frames, fps = json.loads(line)
            print(json.dumps(_copy(Path(video), Path(target), frames, fps)), file=answers, flush=True)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone


if __name__ == "__main__":
    _serve()
