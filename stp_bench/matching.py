"""Which files below a folder are which videos: videos are found by their suffix and known by their name.

A video's id is ``<class>/<stem>`` where videos lie in a folder per class, else ``<stem>``. Names are compared, never
counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stp_bench.errors import WorkError

SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".webm"})
"""Of the videos of data sets, as split lists and label releases name them too."""
CONTAINERS = SUFFIXES | {".flv", ".m4v", ".mov", ".mpeg", ".mpg", ".ts", ".wmv"}
"""Of videos that anybody has made."""
_NAMED = 3


class VideoFile(NamedTuple):
    """A video on the disk."""

    relpath: str
    folder: str
    stem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What lies below a folder of videos."""

    root: Path
    videos: tuple[VideoFile, ...]
    archives: tuple[str, ...]
    """Rar archives: an archive of archives that was unpacked in part leaves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Videos on the disk against the names that lists and labels know."""

    matched: Mapping[str, str]
    """Video id to relative path."""
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    """Relative paths of videos that nobody lists."""
    twice: Mapping[str, tuple[str, ...]]
    """Video id to the several files that could be it."""
    unlabelled: tuple[str, ...]
    """Known videos without private labels."""
    strange_labels: tuple[str, ...]
    """Labelled videos that no list knows."""


def class_of(video_id: str) -> str:
    """The class in ``<class>/<stem>``."""
    return video_id.partition("/")[0]


def without_suffix(name: str, suffixes: Set[str] = SUFFIXES) -> str:
    """A video's name without its container's suffix: releases and archives differ in that only."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in suffixes else name


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def scan(root: Path, start: Path | None = None, suffixes: Set[str] = SUFFIXES) -> Tree:
    """All videos below ``start`` (``root`` by default), with paths relative to ``root``, sorted.

    Hidden files and folders are passed over (macOS puts a ``._name`` beside every file of a foreign disk). Links are
    followed: people keep data sets on other disks.

    Raises:
        WorkError: a folder cannot be read.
    """
    videos: list[VideoFile] = []
    archives: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [start or root]
    while waiting:
        folder = waiting.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:  # a link back to a folder above
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    name, dot, suffix = entry.name.rpartition(".")
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif dot and suffix.lower() == "rar":
                        archives.append(entry.name)
                    elif dot and dot + suffix.lower() in suffixes:
                        relpath = _text(PurePosixPath(os.path.relpath(entry.path, root).replace(os.sep, "/")))
                        videos.append(VideoFile(relpath, _text(folder.name), _text(name)))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise WorkError(f"cannot read the folder {folder}", why, "mend its permissions") from error
    return Tree(root=root, videos=tuple(sorted(videos)), archives=tuple(sorted(map(_text, archives))))


def _text(name: object) -> str:
    """A name in valid Unicode: no published video needs the replacement, a stray file may."""
    return os.fsencode(str(name)).decode("utf-8", "replace")


def join(tree: Tree, known: Set[str], labelled: Set[str], *, class_folders: bool) -> Joined:
    """Match files with known names: by folder (whatever its case) and stem, or by stem alone."""
    keys = {key_of(video_id, class_folders=class_folders): video_id for video_id in known}
    files: dict[str, list[str]] = {}
    extra: list[str] = []
    for video in tree.videos:
        key = f"{video.folder.lower()}/{video.stem}" if class_folders else video.stem
        if key in keys:
            files.setdefault(keys[key], []).append(video.relpath)
        else:
            extra.append(video.relpath)
    return Joined(
        matched={i: found[0] for i, found in sorted(files.items())},
        missing=tuple(sorted(known - files.keys())),
        extra=tuple(extra),
        twice={i: tuple(found) for i, found in sorted(files.items()) if len(found) > 1},
        unlabelled=tuple(sorted(known - labelled)),
        strange_labels=tuple(sorted(labelled - known)),
    )


def key_of(video_id: str, *, class_folders: bool) -> str:
    """What two spellings of one video's id have in common: the case of a class folder tells nothing."""
    folder, slash, stem = video_id.partition("/")
    return f"{folder.lower()}/{stem}" if class_folders and slash else video_id
