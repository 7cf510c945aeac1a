"""Where independent pieces of work run: one after the other in this process, or as tasks of Ray, which is then the
scheduler, on this machine or on the cluster that ``RAY_ADDRESS`` names.

A piece that fails does not stop the others: its outcome holds the error. A worker that dies is started again by Ray,
and what the piece had finished is found again by whatever keeps it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from stp_bench.errors import BenchError, UserError, WorkError, out_of_memory
from stp_bench.progress import Reporter, Task

LAUNCHERS = ("local", "ray")
RETRIES = 2
"""How often a task is started again whose worker died."""

_POLL = 0.5
"""Seconds between two looks at what the workers say of themselves."""
_OBJECT_STORE = 100 * 2**20
"""Bytes: outcomes are small, Ray's own default is a third of the memory."""

Work = Callable[[Any, Reporter], Any]
"""What is done with an item; a function of a module, since other processes import it by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one piece of work ended: ``value`` or ``error``."""

    name: str
    value: Any = None
    error: BenchError | None = None
    attempts: int = 1
    """More than one where its worker died."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What Ray reserves for one piece of work; how many run at once follows from it."""

    cpus: int = 1
    """Also the number of threads it computes with: results are equal bit by bit only for equal numbers of threads."""
    gpus: float = 0.0
    """A share of a GPU: 0.5 lets two pieces of work use one."""

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise UserError(f"--cpus-per-cell {self.cpus} is out of range", "work needs one", "use 1 or more")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise UserError(
                f"--gpus-per-cell {self.gpus} is out of range", "a cell takes a share of one GPU or several whole ones",
                "use a number from 0 to 1, or a whole one",
            )  # fmt: skip


class Launcher(Protocol):
    """Does work, item by item."""

    def run(self, work: Work, items: Mapping[str, Any]) -> Iterator[Outcome]:
        """The outcome of each item, in the order in which they end."""
        ...


def launcher(name: str, resources: Resources, reporter: Reporter) -> AbstractContextManager[Launcher]:
    """A launcher by name, to be used as a context: ``ray`` starts a Ray of its own and stops it at the end, unless
    ``RAY_ADDRESS`` names one that runs.

    Raises:
        UserError: Ray is not installed, or does not offer what a single item needs.
        WorkError: Ray cannot be started.
    """
    return _ray(resources, reporter) if name == "ray" else _local(reporter)


@contextmanager
def _local(reporter: Reporter) -> Iterator[Launcher]:
    yield _Local(reporter)


class _Local:
    """One after the other, here."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def run(self, work: Work, items: Mapping[str, Any]) -> Iterator[Outcome]:
        for name, item in items.items():
            self._reporter.say(name)
            began = time.monotonic()
            kind, value = _guarded(work, item, self._reporter)
            yield _outcome(name, kind, value, attempts=1, seconds=time.monotonic() - began)


def _guarded(work: Work, item: Any, reporter: Reporter) -> tuple[str, Any]:
    """What came of the work, as plain values that another process can send: ``done`` and a value, or what went wrong.

    Never the exception itself: it would hold on to the networks of its method.
    """
    try:
        return "done", work(item, reporter)
    except Exception as error:
        said = error if isinstance(error, BenchError) else _explained(error)
        return type(said).__name__, (said.what, said.why, said.mend)


def _explained(error: Exception) -> WorkError:
    first = (str(error).splitlines() or ["no reason given"])[0]
    if out_of_memory(error):
        return WorkError("out of memory", first, "lower run.batch, use a smaller --preset, or run fewer cells at once")
    return WorkError(
        f"unexpected {type(error).__name__}", first,
        "run that cell alone with 'stp-bench evaluate --debug' to see where",
    )  # fmt: skip


def _outcome(name: str, kind: str, value: Any, *, attempts: int, seconds: float) -> Outcome:
    if kind == "done":
        return Outcome(name=name, value=value, attempts=attempts, seconds=seconds)
    error = (WorkError if kind == "WorkError" else UserError)(*value)
    return Outcome(name=name, error=error, attempts=attempts, seconds=seconds)


@contextmanager
def _ray(resources: Resources, reporter: Reporter) -> Iterator[Launcher]:
    own = "RAY_ADDRESS" not in os.environ
    # Names of Ray's sockets are limited to about 100 characters: a folder in the data home could be too deep.
    folder = Path(tempfile.mkdtemp(prefix="stp-ray-"))
    try:
        with _environment({"RAY_USAGE_STATS_ENABLED": "0", **(_private() if own else {})}):
            try:
                import ray
            except ImportError as error:
                raise UserError(
                    "--launcher ray cannot be used",
                    "ray is not installed",
                    "pip install 'stp-bench[scale]', or use --launcher local",
                ) from error
            try:
                with reporter.stage("start Ray"):
                    _start(ray, {"num_cpus": os.cpu_count(), "include_dashboard": False, "_temp_dir": str(folder),
                                 "object_store_memory": _OBJECT_STORE} if own else {})  # fmt: skip
                _check_offer(ray, resources)
                with contextlib.redirect_stdout(sys.stderr):  # Ray prints what it hears of its workers
                    yield _Ray(ray, resources, reporter)
            finally:
                ray.shutdown()
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder in which processes that are about to end may still write."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(_POLL)


@cache
def _private() -> Mapping[str, str]:
    """The environment in which Ray is imported and started where it is our own: all of its servers listen on loopback
    (it calls that no cluster), and a token of this process keeps other users of the machine out; without one Ray would
    leave its own in the user's home. Nothing where whoever called us has imported Ray before: it is set up then."""
    if "ray" in sys.modules:
        return {}
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(ray: Any, more: Mapping[str, Any]) -> None:
    try:
        ray.init(**more, log_to_driver=False, logging_level=logging.ERROR, namespace="stp-bench")
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise WorkError("Ray cannot be started", reason, "see RAY_ADDRESS, or use --launcher local") from error


def _check_offer(ray: Any, resources: Resources) -> None:
    """Refuse what would wait for ever: a cell runs on one machine."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(m.get("CPU", 0) >= resources.cpus and m.get("GPU", 0) >= resources.gpus for m in machines):
        return
    offered = "; ".join(f"{m.get('CPU', 0):g} CPU and {m.get('GPU', 0):g} GPU" for m in machines) or "nothing"
    wanted = f"{resources.cpus:g} CPU and {resources.gpus:g} GPU"
    raise UserError(f"no machine of Ray can run a cell with {wanted}", f"they offer {offered}", "ask for less per cell")


class _Ray:
    """As tasks of Ray, as many at once as its resources allow."""

    def __init__(self, ray: Any, resources: Resources, reporter: Reporter) -> None:
        self._ray, self._resources, self._reporter = ray, resources, reporter
        # What keeps the news needs no processor of its own.
        self._board = ray.remote(num_cpus=0)(_Board).remote()
        self._task = ray.remote(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=RETRIES, retry_exceptions=False
        )(_remote)

    def run(self, work: Work, items: Mapping[str, Any]) -> Iterator[Outcome]:
        ray = self._ray
        pending = {
            self._task.remote(work, name, item, self._board, self._resources.cpus): name for name, item in items.items()
        }
        with _Table(self._reporter) as table:
            try:
                while pending:
                    done, _ = ray.wait(list(pending), timeout=_POLL)
                    table.show(ray.get(self._board.take.remote()))
                    for ref in done:
                        name = pending.pop(ref)
                        attempts = table.close(name)
                        try:
                            kind, value, seconds = ray.get(ref)
                        except ray.exceptions.RayError:
                            value = (
                                f"the worker of {name} died", f"also after {RETRIES} more attempts",
                                "see whether its memory suffices, and run the same command again",
                            )  # fmt: skip
                            kind, seconds = "WorkError", 0.0
                        yield _outcome(name, kind, value, attempts=attempts, seconds=seconds)
            finally:
                for ref in pending:  # Ctrl-C, or nobody waits for the rest
                    ray.cancel(ref, force=True)


def _remote(work: Work, name: str, item: Any, board: Any, threads: int) -> tuple[str, Any, float]:
    """In a worker: the work, with its news sent to the board."""
    import ray

    began = time.monotonic()
    relay = _Relay(name, board)
    ray.get(relay.send("began", "", 0, None))  # has arrived, whatever happens to this process
    import torch  # takes seconds

    torch.set_num_threads(threads)
    warnings = _Warnings(relay)
    logging.getLogger().addHandler(warnings)  # workers are used again for other items
    try:
        kind, value = _guarded(work, item, relay)
    finally:
        logging.getLogger().removeHandler(warnings)
    return kind, value, time.monotonic() - began


class _Warnings(logging.Handler):
    """Warnings of a worker as news."""

    def __init__(self, relay: _Relay) -> None:
        super().__init__(logging.WARNING)
        self._relay = relay

    def emit(self, record: logging.LogRecord) -> None:
        self._relay.say(f"warning: {record.getMessage()}")


News = tuple[str, str, str, int, int | None]
"""Of whom, ``began``, ``said`` or ``at``, text, units done, units in all."""


class _Board:
    """Where workers leave their news; an actor of Ray."""

    def __init__(self) -> None:
        self._news: list[News] = []

    def put(self, news: News) -> None:
        self._news.append(news)

    def take(self) -> list[News]:
        taken, self._news = self._news, []
        return taken


class _Relay:
    """The reporter of a worker: what it says goes to the board, at most twice a second for each stage."""

    def __init__(self, name: str, board: Any) -> None:
        self._name, self._board = name, board

    def send(self, kind: str, text: str, done: int, total: int | None) -> Any:
        return self._board.put.remote((self._name, kind, text, done, total))

    def say(self, text: str) -> None:
        self.send("said", text, 0, None)

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield _RelayTask(self, title, total)


class _RelayTask:
    def __init__(self, relay: _Relay, title: str, total: int | None) -> None:
        self._relay, self._title, self._total = relay, title, total
        self._done, self._note, self._sent = 0, "", -math.inf
        self._tell()

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._tell()

    def update(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._tell()

    def note(self, text: str) -> None:
        self._note = text
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._sent >= _POLL:
            self._sent = now
            self._relay.send("at", f"{self._title} {self._note}".strip(), self._done, self._total)


class _Table:
    """What runs just now, as one stage of the reporter each."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._open: dict[str, tuple[ExitStack, Task]] = {}
        self._attempts: dict[str, int] = {}

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *raised: object) -> None:
        for stack, _ in self._open.values():
            stack.close()
        self._open.clear()

    def show(self, news: list[News]) -> None:
        for name, kind, text, done, total in news:
            if kind == "said":
                self._reporter.say(f"{name}: {text}")
            elif kind == "began":
                self._attempts[name] = self._attempts.get(name, 0) + 1
                if self._attempts[name] > 1:
                    self._reporter.say(f"{name}: its worker died; taken up again by another one")
                elif name not in self._open:
                    stack = ExitStack()
                    self._open[name] = stack, stack.enter_context(self._reporter.stage(name))
            elif name in self._open:
                task = self._open[name][1]
                task.note(text)
                if total:
                    task.update(done, total)

    def close(self, name: str) -> int:
        """The stage of one that has ended is closed; how often it was begun."""
        if name in self._open:
            self._open.pop(name)[0].close()
        return max(1, self._attempts.get(name, 1))
