"""Running someone's program on many videos, one at a time: bounded, resumable, and without any trust in its output.

A command is split once, never given to a shell, and gets two paths: a copy of the video under a neutral name (names of
folders and files tell the action) and the file that it shall write. What it wrote counts once it was decoded whole and
has as many frames as the video; only then it gets its final name, the SHA-256 of the video, so that a killed run goes
on where it stopped.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from stp_bench import video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, make_folder, sha256_file, unwritable
from stp_bench.probing import FileFacts, probe_files

VERSION = 1
"""Raised by hand whenever the same command and video would be run in another way."""
INPUT, OUTPUT = "{input}", "{output}"
_TAIL = 2000
"""Bytes of a program's last words that are kept."""
_SHOWN = 300
"""Characters of them that are shown."""

# Limits its own address space, then becomes the program: between fork and exec of a process with threads, setting a
# limit is not safe.
_LIMITED = (
    "import os, resource, sys\n"
    "most, (_, hard) = int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_AS)\n"
    "most = most if hard == resource.RLIM_INFINITY else min(most, hard)\n"
    "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may take."""

    seconds: float
    """Per video."""
    memory: int
    """Bytes of address space per process, on systems that can limit it; 0 for no limit."""
    processes: int
    """How many videos are worked on at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A video that a program shall transform."""

    name: str
    """For messages; the program never sees it."""
    path: Path
    sha256: str
    frames: int


def split(command: str) -> tuple[str, ...]:
    """The program and its arguments, with ``{input}`` and ``{output}`` left in.

    Raises:
        UserError: quotes do not match, a placeholder is missing, or there is no such program.
    """
    what, mend = f"bad command {command!r}", "write it as exec:'PROGRAM ... {input} ... {output}'"
    try:
        arguments = tuple(shlex.split(command))
    except ValueError as error:
        raise UserError(what, str(error).lower().rstrip("."), mend) from error
    missing = [name for name in (INPUT, OUTPUT) if not any(name in argument for argument in arguments[1:])]
    if missing:
        raise UserError(what, f"it has no {' and no '.join(missing)}", mend)
    if shutil.which(arguments[0]) is None:
        raise UserError(what, f"there is no program {arguments[0]!r}", "give its path, or install it")
    return arguments


def identity(command: str) -> str:
    """What a command stands for: its words, and the contents of the files among them (a script, weights)."""
    program, *arguments = split(command)
    digests = []
    for text in (shutil.which(program) or program, *arguments, *(a.partition("=")[2] for a in arguments)):
        with suppress(OSError, ValueError):
            if text and Path(text).is_file():
                digests.append(sha256_file(Path(text)))
    return fingerprint([VERSION, [program, *arguments], digests])


def transform(
    command: str,
    videos: Sequence[Input],
    folder: Path,
    limits: Limits,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, tuple[Path, FileFacts]]:
    """Run a command on every video that has no output in ``folder`` yet.

    Stopped or failed at any moment, the next call goes on from the outputs that are there.

    Args:
        folder: where outputs of this command are kept and nothing else: see `identity`.
        progress: called as ``progress(done, total)`` with numbers of different videos.

    Returns:
        SHA-256 of a video to the path of its output and what decoding it showed.

    Raises:
        WorkError: the program failed on a video, took too long, or wrote no video of the same length.
    """
    arguments = split(command)
    inputs = {video.sha256: video for video in videos}
    targets = {digest: folder / f"{digest}.mp4" for digest in inputs}
    make_folder(folder)
    with FileLock(folder / ".lock"):
        scratch = folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed; we hold the lock
        make_folder(scratch)
        done = _whole(inputs, targets, folder)
        progress(len(done), len(inputs))
        todo = [video for digest, video in inputs.items() if digest not in done]
        crew = _Crew(arguments, limits, scratch)
        try:
            crew.run([(v, targets[v.sha256]) for v in todo], lambda n: progress(len(done) + n, len(inputs)))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        found = _whole(inputs, targets, folder) if todo else done
    if lost := [video.name for digest, video in inputs.items() if digest not in found]:
        why = "its output was there and is no longer what was written"
        raise WorkError(f"the program's output for {lost[0]} is lost", why, "run the same command again")
    return {digest: (targets[digest], facts) for digest, facts in found.items()}


def _whole(inputs: Mapping[str, Input], targets: Mapping[str, Path], folder: Path) -> dict[str, FileFacts]:
    """The outputs that are there and good; what is there and is not, is removed."""
    there = {digest: path for digest, path in targets.items() if path.is_file()}
    facts, unreadable = probe_files(there, folder / ".probed.jsonl")
    good = {digest: fact for digest, fact in facts.items() if fact.frames == inputs[digest].frames}
    for digest in [*unreadable, *facts]:
        if digest not in good:
            targets[digest].unlink(missing_ok=True)
    return good


class _Stopped(Exception):
    """The crew was told to stop."""


class _Crew:
    """Some threads that each run one program at a time."""

    def __init__(self, arguments: Sequence[str], limits: Limits, scratch: Path) -> None:
        self._arguments, self._limits, self._scratch = arguments, limits, scratch
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, work: Sequence[tuple[Input, Path]], progress: Callable[[int], None]) -> None:
        """Do all the work; the first failure, or Ctrl-C, ends every program that runs."""
        pool = ThreadPoolExecutor(self._limits.processes, thread_name_prefix="program")
        # Not `as_completed`: a Ctrl-C that comes while it holds the futures' locks leaves the pool waiting forever.
        finished: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()
        try:
            for video, target in work:
                pool.submit(self._one, video, target).add_done_callback(finished.put)
            for count in range(1, len(work) + 1):
                finished.get().result()
                progress(count)
        finally:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def _one(self, video: Input, target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as name:
            given = Path(name) / f"input{video.path.suffix.lower()}"
            made = Path(name) / "output.mp4"
            try:
                shutil.copyfile(video.path, given)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise WorkError(f"cannot read {video.path}", why, "restore it or make the data again") from error
            if sha256_file(given) != video.sha256:
                why = "it is not the file that was indexed"
                raise WorkError(f"{video.name} changed since the data were prepared", why, "make the data again")
            paths = {INPUT: str(given), OUTPUT: str(made)}
            self._run(video, [re.sub(r"\{(?:in|out)put\}", lambda m: paths[m[0]], a) for a in self._arguments])
            if made.is_symlink() or not made.is_file() or made.stat().st_size == 0:
                raise _failed(video, "it ended well but wrote no file to {output}")
            try:
                frames = video_io.probe(made).frames
            except WorkError as error:
                raise _failed(video, f"it wrote no video that can be read ({error.why})") from error
            if frames != video.frames:
                raise _failed(
                    video, f"it wrote {frames} frames for a video of {video.frames}",
                    "write one frame for each frame read, so that labels and boxes of frames stay true",
                )  # fmt: skip
            try:
                made.replace(target)
            except OSError as error:
                raise unwritable(target, error) from error

    def _run(self, video: Input, arguments: list[str]) -> None:
        """Run one program to its end."""
        memory = self._limits.memory
        if memory and os.name == "posix":
            arguments = [sys.executable, "-I", "-S", "-c", _LIMITED, str(memory), *arguments]
        with self._lock:
            if self._stopped:
                raise _Stopped
            try:
                process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    start_new_session=True,  # so that it ends with all that it started, by our hand and not by Ctrl-C
                )  # fmt: skip
            except OSError as error:
                raise _failed(video, (error.strerror or str(error)).lower()) from error
            self._running.add(process)
        assert process.stderr is not None
        words = _Tail(process.stderr)
        try:
            code = process.wait(self._limits.seconds)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            process.wait()
            why = f"it did not end within {self._limits.seconds:g} seconds{words.said()}"
            raise _failed(video, why, "make it faster, or allow more by --set exec.timeout=SECONDS") from error
        finally:
            with self._lock:
                self._running.discard(process)
        if self._stopped:
            raise _Stopped
        if code:
            ending = f"it was ended by {_signal(code)}" if code < 0 else f"it ended with exit code {code}"
            allowance = f" (it may use {memory / 1e9:g} GB: --set exec.memory_gb=N, 0 for no limit)" if memory else ""
            raise _failed(video, f"{ending}{words.said()}", f"repair the program{allowance}")


class _Tail:
    """The end of what a program says, read in a thread lest the pipe fill up."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._text = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while part := os.read(pipe.fileno(), 65536):
                self._text = (self._text + part)[-_TAIL:]

    def said(self) -> str:
        """``: LAST WORDS``, or nothing if there are none."""
        self._thread.join(timeout=1)  # something it started may hold the pipe open
        text = "".join(c if c.isprintable() else " " for c in self._text.decode("utf-8", "replace"))
        shown = " ".join(text.split())[-_SHOWN:]
        return f": {shown}" if shown else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and everything it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()


def _signal(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _failed(video: Input, why: str, mend: str = "repair the program") -> WorkError:
    return WorkError(
        f"the program failed on {video.name}", why, f"{mend}; then run the same command again, finished videos are kept"
    )
