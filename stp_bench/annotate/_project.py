"""The folder of one labelling round: everything that belongs to it has one place here, and a name of its own.

``<home>/annotations/<name>/``::

    project.json      what is asked, of which videos, where, and of how many annotators: `Project`
    probed.jsonl      what decoding the videos showed
    exports/          raw exports of the server, dated
    votes.parquet     one row per annotator, video and attribute, of all rounds; votes.csv the same
    rejects.csv       annotations that were set aside, each with its reason
    queue.csv         what no majority decided, for an expert
    labels.csv        the label table with its votes, and labels.json, its manifest
    agreement/        tables and pictures
    people.json       names behind the pseudonyms; readable by its owner alone, never exported

Beside the rounds lie ``key``, of which the pseudonyms are made, and ``media/<name>/``, browser-playable copies of each
round's videos. Only ``media`` is open to the server: on a Label Studio without roles, every annotator can have any
folder below its document root served.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stp_bench.errors import UserError, WorkError, unknown_name
from stp_bench.files import atomic_path, make_folder, read_json, write_json

SCHEMA = 1
ANNOTATORS = 5
"""Of each video, unless asked otherwise: odd, and more than the paper's three."""
ROUND, ADJUDICATION = "independent", "adjudication"
"""Rounds of votes: those that the majority is taken of, and the expert's on what that left open."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = ("key", "media")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One labelling round, as `project.json` keeps it. No token, no name of a person."""

    folder: Path
    title: str
    source: str
    """Benchmark, or folder of videos."""
    videos: dict[str, str]
    """Video id to its file in ``media/<name>``."""
    attributes: tuple[str, ...]
    annotators: int
    """How many should answer for each video."""
    guideline_version: str
    interface_sha256: str
    """Of everything that an answer's meaning depends on."""
    url: str
    project_id: int
    config_sha256: str = ""
    """Of the labelling interface as the server keeps it: what was shown to the annotators."""
    adjudication_id: int | None = None
    adjudication_sha256: str = ""
    durations: dict[str, float] = field(default_factory=dict)
    """Seconds of each video, where they are known."""
    prefilled: bool = False
    """Whether the forms opened with a model's answers: such votes are not independent."""
    ordered_by: str = ""
    """SHA-256 of the predictions whose uncertainty ordered the queue; empty where none did."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def media(self) -> Path:
        """The folder of the browser-playable copies."""
        return self.folder.parent / "media" / self.name

    def path(self, name: str) -> Path:
        """A file or folder of the round."""
        return self.folder / name

    def save(self) -> None:
        """Write ``project.json``."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "folder"}
        write_json(self.folder / "project.json", {"schema": SCHEMA, **values})


def root(home: Path) -> Path:
    """Where the rounds lie."""
    return home / "annotations"


def media_root(home: Path) -> Path:
    """Where the copies of the videos lie, a folder per round: all that a server may serve."""
    return root(home) / "media"


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all.

    Raises:
        WorkError: the folder or disk refused.
    """
    with atomic_path(path, fsync=True) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)


def check_name(name: str) -> str:
    """``name``, fit for a folder.

    Raises:
        UserError: it is not.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UserError(
            f"{name!r} cannot name a labelling round",
            "names are up to 64 lower-case letters, digits, '.', '_' and '-', and neither 'key' nor 'media'",
            "choose such a name",
        )
    return name


@contextmanager
def round_lock(folder: Path) -> Iterator[None]:
    """Keep every other writer of a round away for the length of a block.

    Raises:
        WorkError: one is at work.
    """
    lock = FileLock(make_folder(folder) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        why = "another command is writing it at this moment"
        raise WorkError(f"the round {folder.name} is in use", why, "wait until that one is done") from None
    try:
        yield
    finally:
        lock.release()


def open_project(home: Path, name: str | None = None) -> Project:
    """The round of this name, or the only one.

    Raises:
        UserError: no such round, or several and none is named.
        WorkError: its record is damaged.
    """
    known = sorted(p.parent.name for p in root(home).glob("*/project.json"))
    if not known:
        raise UserError("there is no labelling round", f"{root(home)} has none", "start one: 'stp-bench annotate init'")
    if name is None and len(known) > 1:
        raise UserError("it is not clear which labelling round", f"there are {', '.join(known)}", "name one of them")
    if name is not None and name not in known:
        raise unknown_name("labelling round", name, known)
    return read_project(root(home) / (name or known[0]))


def read_project(folder: Path) -> Project:
    """The round of a folder.

    Raises:
        WorkError: its record is damaged.
    """
    values = read_json(folder / "project.json")
    try:
        if values.pop("schema") != SCHEMA:
            raise ValueError("it is of another version")
        values["attributes"] = tuple(values["attributes"])
        return Project(folder=folder, **values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"it is not the record of a labelling round ({error})"
        raise WorkError(
            f"cannot read {folder / 'project.json'}", why, "restore it, or run 'annotate init' again"
        ) from error
