"""How long work tells its caller where it stands: two small interfaces and a silent default.

Work that takes a while receives a `Reporter`. It opens one `Task` per stage and advances it; whether that becomes a
bar, a log line or nothing is the caller's business (the command line's is in ``cli/_io.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One stage of work in progress, counted in its unit."""

    def advance(self, n: int = 1) -> None:
        """``n`` more units are done."""
        ...

    def update(self, done: int, total: int) -> None:
        """``done`` of ``total`` units are done, absolutely: fits functions that take ``progress(done, total)``."""
        ...

    def note(self, text: str) -> None:
        """A few words on the current state, shown beside the count, e.g. ``loss 0.53``; replaces the last note."""
        ...


class Reporter(Protocol):
    """Where a piece of work reports its stages and its notices."""

    def stage(self, title: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A stage of ``total`` units (None where that is not known beforehand), open for the length of a block.

        Stages may nest. ``unit`` is a plural noun, e.g. ``videos``.
        """
        ...

    def say(self, text: str) -> None:
        """A notice of one line that stays on the screen."""
        ...


class Silent:
    """A reporter, and the task of each of its stages, that shows nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield self

    def say(self, text: str) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def update(self, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass
