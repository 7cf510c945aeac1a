"""Making shards: one task per shard, in this process or in worker processes.

Workers are plain ``python -m stp_bench.clipstore._worker`` processes that take tasks on standard input. Unlike a
`multiprocessing` pool they need no importable ``__main__`` (so building also works from ``python -c``, a notebook or an
unguarded script), start without torch, and end by themselves when this process dies, however it dies.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stp_bench import video_io
from stp_bench.clipstore._shard import Encoding, Entry, ShardWriter
from stp_bench.errors import BenchError, WorkError
from stp_bench.files import atomic_path, sha256_file
from stp_bench.workers import start_worker


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecipe:
    """How frames are stored. Two stores of equal recipes and videos are the same store."""

    side: int
    """Short side of a stored frame; a smaller video keeps its size."""
    encoding: Encoding
    """``raw`` uint8, or ``jpeg`` (4:4:4, quality 95): a seventh of the space, decoded at every read."""
    every: int = 1
    """Keep only every n-th frame; other frame numbers are then rounded down to a kept one."""
    decoder: str = "pyav"

    @classmethod
    def for_crop(cls, size: int, encoding: Encoding, *, every: int = 1, decoder: str = "pyav") -> StoreRecipe:
        """The recipe for crops of ``size`` pixels: a short side of 8/7 of it, so that training crops have room."""
        return cls(side=size * 8 // 7, encoding=encoding, every=every, decoder=decoder)

    def stored_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a stored frame of a video of this size."""
        scale = min(1.0, self.side / min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One shard to make."""

    target: str
    recipe: StoreRecipe
    videos: tuple[tuple[str, str, str], ...]
    """(video_id, path, SHA-256 of the indexed file)."""


def build_shard(task: Task, on_video: Callable[[], None]) -> None:
    """Decode, resize and write the videos of a shard, whole or not at all.

    A video that cannot be read is recorded in the shard with the reason, so that the work on its neighbors is kept.

    Raises:
        WorkError: the shard cannot be written.
    """
    target = Path(task.target)
    with atomic_path(target, fsync=True) as temporary, temporary.open("wb") as handle:
        writer = ShardWriter(handle, task.recipe.encoding)
        for video_id, path, digest in task.videos:
            _add_video(writer, task.recipe, video_id, Path(path), digest)
            on_video()
        writer.finish(video_io.decoder_version(task.recipe.decoder))
        handle.flush()


def source_state(path: Path) -> tuple[int, int] | None:
    """Bytes and modification time of a file: what tells cheaply that it was touched. None where it is missing."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def run(tasks: Sequence[Task], workers: int, on_video: Callable[[], None]) -> None:
    """Make all shards; ``on_video`` is called in this thread after each video.

    Raises:
        WorkError: a shard could not be written, or a worker was killed. Finished shards stay.
    """
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            build_shard(task, on_video)
        return
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    crew = [start_worker("stp_bench.clipstore._worker") for _ in range(min(workers, len(tasks)))]
    threads = [threading.Thread(target=_feed, args=(p, waiting, events), daemon=True) for p in crew]
    try:
        for thread in threads:
            thread.start()
        for kind, content in _until(len(crew), events):
            if kind == "failed":
                raise content
            on_video()
    finally:
        for process in crew:
            process.kill()
        for process, thread in zip(crew, threads, strict=True):
            process.wait()
            thread.join()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # a task that was never read may still be buffered
                        pipe.close()


def serve(tasks: Iterator[str], answer: Callable[[str], None]) -> None:
    """A worker's life: a task per line in, ``video``, ``done`` and ``failed`` lines out, until the input ends."""
    for line in tasks:
        content = json.loads(line)
        task = Task(
            target=content["target"],
            recipe=StoreRecipe(**content["recipe"]),
            videos=tuple((v, p, d) for v, p, d in content["videos"]),
        )
        try:
            build_shard(task, lambda: answer(json.dumps(["video", None])))
        except BenchError as error:
            answer(json.dumps(["failed", [error.what, error.why, error.mend]]))
        else:
            answer(json.dumps(["done", None]))


def _add_video(writer: ShardWriter, recipe: StoreRecipe, video_id: str, path: Path, digest: str) -> None:
    state = source_state(path)
    seen = _Every(recipe.every)
    height = width = 0

    def resized() -> Iterator[video_io.Image]:
        nonlocal height, width
        for frame in video_io.read_frames(path, decoder=recipe.decoder, chosen=seen):
            height, width = frame.shape[:2]
            yield video_io.resize_frame(frame, recipe.stored_size(height, width))

    def entry() -> Entry:
        return Entry(
            video_id=video_id, source=state, frames=seen.count, source_height=height, source_width=width
        )  # fmt: skip

    try:
        if state is None or sha256_file(path) != digest:
            video_io.probe(path, recipe.decoder)  # not the indexed file: damaged if this raises, else replaced
            why = "it is not the file that was indexed"
            writer.add_problem(Entry(video_id=video_id, source=state, problem=why, changed=True))
        else:
            writer.add(entry, resized())
    except WorkError as error:
        writer.add_problem(Entry(video_id=video_id, source=state, problem=error.why))


class _Every:
    """Contains every n-th frame number, and remembers how many numbers it was asked for: the decoded length."""

    def __init__(self, every: int) -> None:
        self.every, self.count = every, 0

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        self.count = number + 1
        return number % self.every == 0


def _feed(process: subprocess.Popen[str], waiting: queue.SimpleQueue[Task], events: queue.SimpleQueue[Any]) -> None:
    """Give a worker one task after another and pass on what it says."""
    assert process.stdin is not None and process.stdout is not None
    try:
        while True:
            task = waiting.get_nowait()
            process.stdin.write(json.dumps(asdict(task)) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                kind, content = json.loads(line)
                if kind == "failed":
                    events.put(("failed", WorkError(*content)))
                    return
                if kind == "done":
                    break
                events.put((kind, content))
            else:
                raise EOFError
    except queue.Empty:
        events.put(("ended", None))
    except (EOFError, OSError, ValueError):
        why = f"the worker that made {Path(task.target).name} died (exit code {process.wait()})"
        mend = "run the same command again (fewer workers need less memory)"
        events.put(("failed", WorkError("the clip store is not finished", why, mend)))


def _until(ended: int, events: queue.SimpleQueue[tuple[str, Any]]) -> Iterator[tuple[Literal["video", "failed"], Any]]:
    """What the workers say, until that many have said that nothing is left."""
    while ended:
        kind, content = events.get()
        if kind == "ended":
            ended -= 1
        else:
            yield ("failed" if kind == "failed" else "video"), content
