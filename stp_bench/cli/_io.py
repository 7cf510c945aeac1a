"""What a command shows: tables or one JSON document on standard output; notices and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.table import Column, Table
from rich.text import Text

from stp_bench.progress import Reporter, Task

PAPER_WIDTH = 120  # of tables that go to a file or a pipe
PACE = 10.0  # seconds between two progress lines where there is no terminal
LOGGERS = ("stp_bench", "stprivacy", "stp_baselines")


def show(value: Any, tables: Callable[[], Iterable[RenderableType]], *, as_json: bool) -> None:
    """Print a command's outcome: ``value`` as the one JSON document, or the tables made from it."""
    if as_json:
        print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PAPER_WIDTH, highlight=False)
    for table in tables():
        console.print(table)


def table(title: str | None, *columns: str, caption: str | None = None) -> Table:
    """An empty table in the manner of all our tables: first column left, the others right, arrows in the headers."""
    made = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position else "left", overflow="fold")
    return made


@contextmanager
def working(*, as_json: bool = False) -> Iterator[Reporter]:
    """Surround the work of a command: yields its reporter, sends logs to it, keeps standard output clean for JSON."""
    reporter = Bars() if sys.stderr.isatty() else Lines()
    handler = _ToReporter(reporter)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        # A library that prints must not spoil the one document.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            yield reporter
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)


def announce_download(weights: str | None, home: Path, reporter: Reporter) -> None:
    """Say what ``--weights pretrained`` may fetch, and keep it in the data home.

    To be called before the library that fetches is imported, since it reads its folder then.
    """
    if weights == "pretrained":
        folder = os.environ.setdefault("HF_HOME", str(home / "weights"))
        reporter.say(
            "--weights pretrained: ViT-S/16 weights (DeiT-S, ImageNet, 88 MB) come from huggingface.co "
            f"unless they are in {folder} already"
        )


class _ToReporter(logging.Handler):
    """Log records as notices, so that they do not tear a progress bar."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._reporter.say(prefix + record.getMessage())


class Bars:
    """A reporter for a terminal: a bar with rate and remaining time per open stage, a line for each finished one."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            # What does not fit of the note is cut; everything before it stays.
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._open = 0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        if not self._open:
            self._progress.start()
        self._open += 1
        bar = self._progress.add_task(title, total=total, unit=unit, note="")
        began = time.monotonic()
        try:
            yield _Bar(self._progress, bar)
            done = int(self._progress.tasks[self._progress.task_ids.index(bar)].completed)
            self.say(_finished(title, done, unit, time.monotonic() - began))
        finally:
            self._progress.remove_task(bar)
            self._open -= 1
            if not self._open:
                self._progress.stop()


class _Bar:
    """One stage's bar."""

    def __init__(self, progress: Progress, bar: Any) -> None:
        self._progress, self._bar = progress, bar

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self._bar, n)

    def update(self, done: int, total: int) -> None:
        self._progress.update(self._bar, completed=done, total=total)

    def note(self, text: str) -> None:
        self._progress.update(self._bar, note=text)


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: RichTask) -> Text:
        return Text(_rate(task.speed, task.fields["unit"]) if task.speed else "", style="progress.data.speed")


class Lines:
    """A reporter without a terminal: the state of the innermost open stage as a line at a steady pace.

    The pace is kept by a thread of its own, so that a single long step does not look like a hang.
    """

    def __init__(self, pace: float = PACE) -> None:
        self._pace = pace
        self._stages: list[_Line] = []
        self._idle = threading.Event()

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        line = _Line(title, total, unit)
        self._stages.append(line)
        if len(self._stages) == 1:
            self._idle = threading.Event()
            threading.Thread(target=self._tell, args=(self._idle,), daemon=True).start()
        try:
            yield line
            self.say(_finished(title, line.done, unit, time.monotonic() - line.began))
        finally:
            self._stages.remove(line)
            if not self._stages:
                self._idle.set()

    def _tell(self, idle: threading.Event) -> None:
        while not idle.wait(self._pace):
            with contextlib.suppress(IndexError):
                self.say(self._stages[-1].text())


class _Line:
    """One stage's state. The rate is that of the last minute, so that work found done does not flatter it."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.began = time.monotonic()
        self.done = 0
        self._title, self._total, self._unit, self._note = title, total, unit, ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=4096)

    def advance(self, n: int = 1) -> None:
        self._set(self.done + n)

    def update(self, done: int, total: int) -> None:
        self._total = total
        self._set(done)

    def note(self, text: str) -> None:
        self._note = text

    def _set(self, done: int) -> None:
        now = time.monotonic()
        self.done = done
        self._samples.append((now, done))
        while now - self._samples[0][0] > 60 and len(self._samples) > 2:
            self._samples.popleft()

    def text(self) -> str:
        count = f"{self.done} of {self._total} {self._unit}" if self._total else f"{self.done} {self._unit}"
        parts = [count] if self._total or self._unit else []  # a stage may be one thing, with nothing to count
        samples = list(self._samples)
        if len(samples) > 1 and samples[-1][1] > samples[0][1]:
            speed = (samples[-1][1] - samples[0][1]) / (time.monotonic() - samples[0][0])
            parts.append(_rate(speed, self._unit))
            if self._total:
                parts.append(f"about {seconds_text((self._total - self.done) / speed)} left")
        else:
            parts.append(f"{seconds_text(time.monotonic() - self.began)} so far")
        if self._note:
            parts.append(self._note)
        return f"{self._title}: {', '.join(p.strip() for p in parts)}"


def _rate(speed: float, unit: str) -> str:
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{speed * 60:.1f} {unit}/min"


def _finished(title: str, done: int, unit: str, seconds: float) -> str:
    count = f"{done} {unit} in " if done and unit else ""
    return f"{title}: {count}{seconds_text(seconds)}"


def seconds_text(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
