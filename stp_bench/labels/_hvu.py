"""P-HVU: the clips of HVU that have at least one action, one object and one scene tag.

HVU is a list of tags with their categories, and a training and a validation list (the test side here), each a csv, as
published inside a zip archive: ``Tags,youtube_id,time_start,time_end`` with the tags joined by ``|``. Rows are read one
by one, so that what is held grows with the tags that are kept only.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stp_annotations import Release, releases
from stp_bench.labels._official import about, accepted, broken, content_of, content_start, digests, name_of, unreadable
from stp_bench.labels._table import LabelTable
from stp_bench.labels._tags import TagRows
from stp_bench.schema import Part, Target

TAGS_HEADER = ["Tag", "Category"]
ROWS_HEADER = ["Tags", "youtube_id", "time_start", "time_end"]

_SIDES: Mapping[Part, tuple[str, str]] = {"train": ("train", "hvu-train"), "test": ("val", "hvu-val")}
"""Our side to the word in its file's name and the release that the file belongs to."""
_TWICE, _BOTH = "listed twice", "on both sides, kept in test"
_UNPACKED_BYTES = 2**30
_TAGS_BYTES, _TAGS = 2**20, 2**15
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USED = ("action", "object", "scene")
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, csv.Error)
"""What reading a damaged archive may raise, beside ValueError and OSError."""


def is_zip(path: Path) -> bool:
    """Whether a file begins as zip archives do."""
    return content_start(path).startswith(b"PK\x03\x04")


def is_tag_list(path: Path) -> bool:
    """Whether a file begins as HVU's list of tags."""
    return _header(path) == TAGS_HEADER


def is_row_list(path: Path) -> bool:
    """Whether a file begins as HVU's lists of clips, or is an archive that may hold one."""
    return is_zip(path) or _header(path) == ROWS_HEADER


def _header(path: Path) -> list[str]:
    return content_start(path).decode("utf-8-sig", "replace").partition("\n")[0].strip().split(",")


def read_hvu(path: Path, release: Release, *, accept_unknown: bool) -> LabelTable:
    """The table of a folder with HVU's files, or of one list of clips beside the list of tags.

    Raises:
        UserError: a file is missing, not the published one (unless accepted), or does not hold what it should.
    """
    tags_file, lists = _files(path, release)
    found_digests: dict[str, str] = {}
    verified = True
    for name, file in {"hvu-tags": tags_file, **{_SIDES[side][1]: file for side, file in lists.items()}}.items():
        of = releases()[name]
        found = digests(file)
        matches = found.match(of) or found.sha256 == of.inner_sha256
        verified &= accepted(file, release.name, matches, found.sha256, accept_unknown=accept_unknown)
        found_digests[file.name] = found.sha256
    try:
        categories = _categories(content_of(tags_file, limit=_TAGS_BYTES))
    except (ValueError, csv.Error) as error:
        raise broken(tags_file, release.name, str(error)) from error
    action, objects, scenes = categories["action"], categories["object"], categories["scene"]
    targets = (
        Target(name="action", kind="multilabel", classes=tuple(action)),
        Target(
            name="privacy",
            kind="multilabel",
            classes=(*objects, *scenes),
            private=True,
            groups=(("object", len(objects)), ("scene", len(scenes))),
        ),
    )
    known = set[str]().union(*categories.values())
    present: dict[str, Mapping[str, Sequence[int]]] = {}
    parts: dict[str, Part] = {}
    counts: Counter[str] = Counter()
    # The test side first: a clip that both lists hold stays there, and is left out of training.
    for side, file in sorted(lists.items()):
        with _reading(file, release.name) as rows:
            for video_id, joined in rows:
                counts["rows"] += 1
                tags = set(joined.split("|")) - {""}
                counts["unknown"] += len(tags - known)
                kept = _numbers(tags, categories)
                if not all(kept.values()):
                    counts["filtered"] += 1
                elif video_id in present:
                    counts[_TWICE if parts[video_id] == side else _BOTH] += 1
                else:
                    shifted = (len(objects) + n for n in kept["scene"])
                    present[video_id] = {"action": kept["action"], "privacy": array("H", [*kept["object"], *shifted])}
                    parts[video_id] = side
    if not present:
        raise broken(path, release.name, "no clip has an action, an object and a scene")
    sides = Counter(parts.values())
    left_out = {why: counts[why] for why in (_TWICE, _BOTH) if counts[why]}
    return LabelTable(
        release=release.name,
        targets=targets,
        rows=TagRows(targets, present),
        parts=dict(sorted(parts.items())),
        manifest=about(release, found_digests, verified=verified)
        | {
            "videos": {"published": release.videos, "read": len(present) + sum(left_out.values())},
            "sides": {side: {"published": release.kept[side], "read": sides[side]} for side in sorted(lists)},
            "rows": {"read": counts["rows"], "without an action, an object or a scene": counts["filtered"]},
            "left_out": left_out,
            "irregular": {"unknown_tags": counts["unknown"]},
        },
    )


def _files(path: Path, release: Release) -> tuple[Path, dict[Part, Path]]:
    """The list of tags, and the list of clips of each side that is there."""
    folder = path if path.is_dir() else path.parent
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".zip") and p.is_file())
    except OSError as error:
        raise unreadable(folder, error) from error
    tag_lists = [p for p in files if is_tag_list(p)]
    if len(tag_lists) != 1:
        why = f"{len(tag_lists) or 'no'} files in {folder} begin with '{','.join(TAGS_HEADER)}'"
        raise broken(path, release.name, why)
    wanted = files if path.is_dir() or path in tag_lists else [path]
    # Of a list that lies there packed and unpacked, the archive counts: its digest is published.
    row_lists = sorted((p for p in wanted if p not in tag_lists and is_row_list(p)), key=lambda p: not is_zip(p))
    lists: dict[Part, Path] = {}
    for side, (word, _) in _SIDES.items():
        named = [p for p in row_lists if word in p.name.lower()]
        if named:
            lists[side] = named[0]
    if not lists:
        raise broken(path, release.name, "no csv or zip of clips has 'train' or 'val' in its name")
    return tag_lists[0], lists


def _categories(content: bytes) -> dict[str, dict[str, int]]:
    """Category to its tags, numbered in the order of the file."""
    text = content.decode("utf-8-sig", "strict")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    found: dict[str, dict[str, int]] = {name: {} for name in _USED}
    if not rows or rows[0] != TAGS_HEADER or len(rows) > _TAGS:
        raise ValueError(f"it does not begin with '{','.join(TAGS_HEADER)}', or is too long")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[0].strip() or "|" in row[0] or not row[0].isprintable():
            raise ValueError(f"row {number} is not a tag and a category")
        tags = found.setdefault(row[1].strip().lower(), {})
        if row[0] in tags:
            raise ValueError(f"row {number} lists {row[0]!r:.60} again")
        tags[row[0]] = len(tags)
    if not all(found[name] for name in _USED):
        raise ValueError("it lists no action, no object or no scene")
    return found


def _numbers(tags: set[str], categories: Mapping[str, Mapping[str, int]]) -> dict[str, array[int]]:
    """Numbers of the actions, objects and scenes among some tags, ascending."""
    return {
        name: array("H", sorted(of[tag] for tag in tags & of.keys()))
        for name, of in categories.items()
        if name in _USED
    }


@contextmanager
def _reading(path: Path, release: str) -> Iterator[Iterator[tuple[str, str]]]:
    """The clips of a list as (id, tags), from a csv or the one csv inside an archive, of which no path is used."""
    try:
        with path.open("rb") as outer:
            if not is_zip(path):
                yield _rows(_Bounded(outer))
                return
            with zipfile.ZipFile(outer) as archive:
                lists = [i for i in archive.infolist() if i.filename.lower().endswith(".csv")]
                inside = [i for i in lists if not i.filename.startswith("__MACOSX/")]
                if len(inside) != 1 or inside[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"the archive holds {len(inside) or 'no'} csv files, or one packed unusually")
                with archive.open(inside[0]) as inner:
                    yield _rows(_Bounded(inner))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, *_DAMAGED) as error:
        raise broken(path, release, str(error) or type(error).__name__) from error


class _Bounded(io.RawIOBase):
    """A stream that ends with an error once it has given more than a label file can hold: an archive of a few
    kilobytes may unpack to more than any memory."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner, self._left = inner, _UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._inner.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError(f"it has more than {_UNPACKED_BYTES:,} bytes")
        buffer[: len(piece)] = piece
        return len(piece)


def _rows(stream: io.RawIOBase) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", newline=""), strict=True)
    if next(rows, None) != ROWS_HEADER:
        raise ValueError(f"it does not begin with '{','.join(ROWS_HEADER)}'")
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(ROWS_HEADER) or not _ID.fullmatch(row[1]):
            raise ValueError(f"row {number} is not tags, an id and two times")
        try:
            yield clip_name(row[1], row[2], row[3]), row[0]
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error


def clip_name(video: str, start: str, end: str) -> str:
    """The usual file name of a clip: its video's id and its tenths of a second, six digits each.

    >>> clip_name("-abc_DEF123", "12.5", "22.5")
    '-abc_DEF123_000125_000225'
    """
    begins, ends = (float(time) * 10 for time in (start, end))
    if not (math.isfinite(begins) and math.isfinite(ends) and 0 <= round(begins) < round(ends) < 10**6):
        raise ValueError(f"the times {start!r:.20} to {end!r:.20} are no clip")
    return name_of(f"{video}_{round(begins):06d}_{round(ends):06d}")
