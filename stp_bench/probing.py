"""Decoding and hashing many video files once: in worker processes, remembered in a journal.

A decoder that crashes on a file takes its worker process with it, and nothing else: the file counts as unreadable and
a fresh worker goes on. Workers are plain ``python -m stp_bench.probing`` processes, as those of the clip store: they
need no importable ``__main__`` and end by themselves when this process dies, however it dies.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from stp_bench import video_io
from stp_bench.errors import BenchError, WorkError
from stp_bench.files import make_folder, sha256_file, unwritable, write_bytes
from stp_bench.workers import cores, start_worker

_VIDEOS_WORTH_A_WORKER = 16
_READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What decoding and hashing a video file shows."""

    frames: int
    height: int
    width: int
    fps: float
    """0 where the container states none."""
    bytes: int
    sha256: str


def probe_files(
    files: Mapping[str, Path],
    journal: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, FileFacts], dict[str, str]]:
    """Decode and hash every file; what the journal knows of an untouched file is not done again.

    Args:
        files: name to path, of which each worker has one open at a time.
        journal: file of one line per finished video: path, bytes, modification time and decoder vouch for the rest.
        workers: processes; None for one per core, or fewer where there is little to do.
        progress: called as ``progress(done, total)`` with numbers of files.

    Returns:
        Facts by name, and the reason for each file that cannot be read.

    Raises:
        WorkError: the journal cannot be written, or no worker process can be started.
    """
    decoder = video_io.decoder_version("pyav")
    known = _journalled(journal, {str(path.absolute()) for path in files.values()}, decoder)
    names: dict[str, str] = {}
    facts: dict[str, FileFacts] = {}
    unreadable: dict[str, str] = {}
    lines = []
    for name, path in files.items():
        key, state = str(path.absolute()), _state(path)
        noted = known.get(key)
        if noted is not None and state is not None and noted[0] == state:
            facts[name] = noted[1]
            lines.append(_line(key, state, decoder, noted[1]))
        else:
            names[key] = name
    progress(len(facts), len(files))
    make_folder(journal.parent)
    try:
        # What no longer vouches for anything goes; so does a line that a kill has cut short.
        write_bytes(journal, "".join(lines).encode())
        crew = closing(_answers(list(names), workers or _workers(len(names))))
        with journal.open("a", encoding="utf-8") as handle, crew as answers:
            for key, answer in answers:
                if isinstance(answer, str):
                    unreadable[names[key]] = answer
                else:
                    state, facts[names[key]] = answer
                    handle.write(_line(key, state, decoder, facts[names[key]]))
                    handle.flush()
                progress(len(facts) + len(unreadable), len(files))
    except OSError as error:
        raise unwritable(journal, error) from error
    return facts, unreadable


def _state(path: Path) -> tuple[int, int] | None:
    """Bytes and modification time: what tells cheaply that a file was touched. None where it is missing."""
    with suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None


def _line(key: str, state: tuple[int, int] | None, decoder: str, facts: FileFacts) -> str:
    return json.dumps([key, state, decoder, astuple(facts)]) + "\n"


def _journalled(journal: Path, wanted: set[str], decoder: str) -> dict[str, tuple[tuple[int, int], FileFacts]]:
    """What the journal says of these paths."""
    known = {}
    with suppress(FileNotFoundError), journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                key, (size, modified), by, (frames, height, width, fps, bytes_, digest) = json.loads(line)
                if key in wanted and by == decoder:
                    fact = FileFacts(frames=frames, height=height, width=width, fps=fps, bytes=bytes_, sha256=digest)
                    known[key] = (size, modified), fact
    return known


def _workers(count: int) -> int:
    return max(1, min(cores(), count // _VIDEOS_WORTH_A_WORKER))


Answer = str | tuple[tuple[int, int], FileFacts]
"""Why a file is unreadable, or its state before it was read and its facts."""


def _answers(paths: list[str], workers: int) -> Generator[tuple[str, Answer], None, None]:
    """Path and answer, as they come."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for path in paths:
        waiting.put(path)
    crew = [_Worker(waiting) for _ in range(min(workers, len(paths)))]
    events: queue.SimpleQueue[tuple[str, Answer] | WorkError | None] = queue.SimpleQueue()
    threads = [threading.Thread(target=worker.work, args=(events.put,), daemon=True) for worker in crew]
    try:
        for thread in threads:
            thread.start()
        working = len(threads)
        while working:
            event = events.get()
            if event is None:
                working -= 1
            elif isinstance(event, WorkError):
                raise event
            else:
                yield event
    finally:
        for worker in crew:
            worker.stop()
        for thread in threads:
            thread.join()


class _Worker:
    """One process at a time that probes one file at a time, and its successor where a file killed it."""

    def __init__(self, waiting: queue.SimpleQueue[str]) -> None:
        self._waiting = waiting
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def work(self, report: Callable[[tuple[str, Answer] | WorkError | None], None]) -> None:
        """Probe files until none waits, in a thread."""
        try:
            while (process := self._running()) is not None:
                path = self._waiting.get_nowait()
                answer = _ask(process, path)
                if answer is None and not self._stopped:
                    answer = f"the decoder crashed on it ({_ending(process.wait())})"
                    self._retire()
                if answer is not None:
                    report((path, answer))
        except queue.Empty:
            pass
        except WorkError as error:
            report(error)
        finally:
            self.stop()
            self._retire()
            report(None)

    def stop(self) -> None:
        """End the process, from any thread."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _running(self) -> subprocess.Popen[str] | None:
        """The process, started where there is none; None once stopped."""
        with self._lock:
            if self._stopped:
                return None
            if self._process is None:
                self._process = _start()
            return self._process

    def _retire(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # a path that was never read may still be buffered
                        pipe.close()


def _start() -> subprocess.Popen[str]:
    process = start_worker("stp_bench.probing")
    assert process.stdout is not None
    if process.stdout.readline().strip() != _READY:
        why = f"a worker process ended at once ({_ending(process.wait())})"
        raise WorkError("the videos cannot be decoded", why, "see the lines above, and free some memory")
    return process


def _ask(process: subprocess.Popen[str], path: str) -> Answer | None:
    """What the process says of a file; None if it dies of it."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(path) + "\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else ((found[0][0], found[0][1]), FileFacts(**found[1]))


def _ending(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"signal {-code}"


def _probe(path: Path) -> Any:
    """A worker's answer about one file, as JSON."""
    state = _state(path)
    try:
        seen = video_io.probe(path)
        assert state is not None
        size = {"frames": seen.frames, "height": seen.height, "width": seen.width, "fps": seen.fps}
        digest = sha256_file(path)
        if _state(path) != state:
            return "it changed while it was read"
        return [state, {**size, "bytes": state[0], "sha256": digest}]
    except BenchError as error:
        return error.why
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _serve() -> None:
    """A worker's life: a path per line in, an answer per line out, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent alone acts on it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    try:
        print(_READY, file=answers, flush=True)
        for line in iter(sys.stdin.readline, ""):
            print(json.dumps(_probe(Path(json.loads(line)))), file=answers, flush=True)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone


if __name__ == "__main__":
    _serve()
