"""The two kinds of failure a user can meet, and the "did you mean" that comes with an unknown name.

A message has three parts, so that no error leaves its reader without a next step: WHAT went wrong, WHY, and HOW TO
MEND it. The command line prints them as one line and exits with the class's code; Python callers catch the classes.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar


class BenchError(Exception):
    """Base of both kinds: ``what, why; mend`` on one line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, why: str, mend: str) -> None:
        self.what, self.why, self.mend = what, why, mend
        super().__init__(" ".join(f"{what}, {why}; {mend}".split()))


class UserError(BenchError):
    """The request was wrong: unknown name, bad value, missing file (exit code 2)."""

    exit_code: ClassVar[int] = 2


class MethodError(UserError):
    """A method cannot be used, or breaks its contract: other methods of the same request are not concerned."""


class WorkError(BenchError):
    """The request was right but the work failed: unreadable file, full disk, refused connection (exit code 1)."""

    exit_code: ClassVar[int] = 1


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, which Python, the system, torch on a GPU and torch on a CPU each say in their own way."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's own class is known by name only: importing torch to report an error would take seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names of ``known`` most like ``name``, best first; case is ignored."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.5)
    return [by_lower[k] for k in close]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among ``known``: suggests the nearest, or lists them all.

    >>> str(unknown_name("method", "stprivcy", ["raw", "stprivacy"]))
    "unknown method 'stprivcy', it is not among the 2 known ones; did you mean stprivacy?"
    """
    known = sorted(known)
    close = nearest(name, known)
    mend = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(known) or 'none'}"
    return UserError(f"unknown {kind} {name!r}", f"it is not among the {len(known)} known ones", mend)
