"""What the data home holds: what could be made again and so may go, and the runs that were made.

Everything below ``data`` (embedded benchmarks), ``clips`` and ``stages`` follows from what made it, and is made anew
when it is asked for again. Indexes of real data sets, labels, runs and labelling rounds do not, and are never touched.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from stp_bench.errors import BenchError, UserError, unknown_name
from stp_bench.files import read_json
from stp_bench.results import RESULT, RUN, Result, aggregate

Kind = Literal["unfinished", "stages", "clips", "data"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A folder that may go."""

    kind: Kind
    name: str
    path: Path
    bytes: int
    modified: float
    """Seconds since the epoch at which its newest file was written."""
    used_by: tuple[str, ...] = ()
    """Runs of the data home that stand on it."""
    lock: Path | None = None
    """Held by whoever works on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder of the data home."""

    name: str
    path: Path
    made: dict[str, Any]
    """What it runs: method, protocol, fit_on, seed."""
    document: dict[str, Any] | None
    """Its result or aggregate; None while it is unfinished or where its record is damaged."""
    modified: float


def items(home: Path) -> list[Item]:
    """Everything that may go, sorted by kind, then by name."""
    users: dict[str, list[str]] = {}
    for run in runs(home):
        for result in (run.document or {}).get("results", [run.document or {}]):
            for stage in result.get("provenance", {}).get("stages", ()):
                users.setdefault(stage["key"], []).append(run.name)
    found = [*_stages(home, users), *_clips(home), *_embedded(home)]
    return sorted(found, key=lambda item: (KINDS.index(item.kind), item.name))


def removable(
    found: Sequence[Item], kinds: Collection[Kind], *, older_than: float, now: float | None = None
) -> list[Item]:
    """Those of some kinds that are older than so many days and that no run stands on."""
    latest = (time.time() if now is None else now) - older_than * DAY
    return [item for item in found if item.kind in kinds and item.modified <= latest and not item.used_by]


def remove(item: Item) -> bool:
    """Delete a folder; false if somebody is working on it.

    Raises:
        OSError: the system refused.
    """
    if item.lock is None:
        shutil.rmtree(item.path)
        return True
    try:
        with FileLock(item.lock, timeout=0):
            shutil.rmtree(item.path)
    except Timeout:
        return False
    return True


def runs(home: Path) -> list[Run]:
    """The run folders of the data home, newest first."""
    found = [_run(folder) for folder in sorted((home / "runs").glob("*")) if folder.is_dir()]
    return sorted((run for run in found if run is not None), key=lambda run: -run.modified)


def find_run(home: Path, name: str) -> Run:
    """The run of a name in the data home, or in a folder.

    Raises:
        UserError: there is none.
    """
    known = {run.name: run for run in runs(home)}
    if name in known:
        return known[name]
    if (run := _run(Path(name).expanduser())) is not None:
        return run
    if not known:
        raise UserError(f"there is no run {name!r}", "the data home has none yet", "make one: 'stp-bench evaluate'")
    raise unknown_name("run", name, known)


def _run(folder: Path) -> Run | None:
    names = [name for name in (RUN, RESULT) if (folder / name).exists()]
    if not names:
        return None
    made = _read(folder / RUN)
    modified = max((folder / name).stat().st_mtime for name in names)
    return Run(name=folder.name, path=folder, made=made, document=_result(folder / RESULT), modified=modified)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except BenchError:
        return {}
    return content if isinstance(content, dict) else {}


def _result(path: Path) -> dict[str, Any] | None:
    """The checked result, or the checked results and what follows from them."""
    document = _read(path)
    try:
        if document.get("kind") != "aggregate":
            return Result.from_dict(document, str(path)).to_dict()
        return aggregate([Result.from_dict(one, str(path)) for one in document["results"]])
    except (BenchError, LookupError, TypeError, ValueError):
        return None


def _stages(home: Path, users: dict[str, list[str]]) -> Iterator[Item]:
    for folder in _folders(home / "stages", 2):
        key, _, partial = folder.name.partition(".")
        yield _item(
            "unfinished" if partial else "stages",
            f"{folder.parent.name} {key[:12]}",
            folder,
            used_by=() if partial else tuple(dict.fromkeys(users.get(key, ()))),
            lock=folder.with_name(f"{key}.lock"),
        )


def _clips(home: Path) -> Iterator[Item]:
    for folder in _folders(home / "clips", 2):
        yield _item("clips", f"{folder.parent.name} {folder.name}", folder, lock=folder / ".lock")


def _embedded(home: Path) -> Iterator[Item]:
    for folder in _folders(home / "data", 2):
        if "-seed" in folder.name:  # the index of a real data set lies in `prepared`
            yield _item("data", f"{folder.parent.name} {folder.name}", folder, lock=folder / ".lock")


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """Folders at some depth. A link is somebody else's folder."""
    for path in sorted(root.glob("/".join("*" * depth))):
        if path.is_dir() and not path.is_symlink():
            yield path


def _item(kind: Kind, name: str, folder: Path, *, lock: Path, used_by: tuple[str, ...] = ()) -> Item:
    files = [p.lstat() for p in folder.rglob("*") if p.is_symlink() or p.is_file()]
    return Item(
        kind=kind, name=name, path=folder, bytes=sum(s.st_size for s in files), used_by=used_by, lock=lock,
        modified=max((s.st_mtime for s in files), default=folder.stat().st_mtime),
    )  # fmt: skip
