"""Label tables on disk: a CSV that people and programs read alike, and a manifest beside it.

The columns follow from what the table holds::

    video_id,face,skin_color,...                  a yes-or-no target: 1, 0, or blank where nobody labelled
    video_id,start,end,face,skin_color,...        the same per range of frames, both ends included
    video_id,group,expression,young,...           sources of videos; a target of one class: its name
    video_id,part,action,object,scene             targets of many tags: those present, joined by |

A target's cells all blank mean that nobody labelled it; a lone ``|`` that nobody found any tag. ``NAME.json`` beside
``NAME.csv`` holds the targets with all their classes and says where the labels come from. Without it a table must be of
the five attributes, as other programs write it. The columns of votes (``n_yes_face``, ...) and a column ``action`` are
passed over.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from stp_bench.errors import UserError
from stp_bench.files import atomic_path, sha256_file, write_json
from stp_bench.labels._official import content_of, five_attributes, name_of, parse_json, some_frame, unreadable
from stp_bench.labels._table import LabelTable
from stp_bench.labels._tags import TagRows, spread
from stp_bench.schema import Labels, Part, Span, Target

SCHEMA = 1

_WIDE = 64
"""A target of more classes is written as a list of its tags."""
_FRAMES = 2**31
_MANIFEST_BYTES = 2**24
_LINE = 2**20
_VOTES = re.compile(r"(n_yes|n_no|n_abstain|margin|source)_\w+")
_PARTS: Mapping[str, Part] = {"train": "train", "test": "test"}


def write_table(table: LabelTable, path: Path, *, votes: Mapping[str, Sequence[Any]] | None = None) -> None:
    """Write a table to ``path`` (CSV) and its manifest to ``<stem>.json`` beside it, whole or not at all.

    Args:
        votes: columns of votes to stand behind the labels, such as ``n_yes_face``, one value per video of the table.

    Raises:
        UserError: the table can't be told in columns (two columns of one name, or frame ranges of several targets);
            ``path`` does not end in .csv; or the file beside it is not a manifest of ours and would be lost.
        WorkError: the disk refused.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"cannot write the label table {path}", "its manifest needs the name", "end it in .csv")
    if _manifest_of(path).exists() and not _is_manifest(_manifest_of(path)):
        beside = _manifest_of(path).name
        raise UserError(f"cannot write the label table {path}", f"{beside} is its manifest's name", "choose another")
    layout = _Layout(table.targets, frames=bool(table.spans), groups=bool(table.groups), parts=bool(table.parts))
    layout.check(path)
    with atomic_path(path, fsync=True) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*layout.header, *(votes or {})])
            writer.writerows(_beside(_lines(table, layout), votes) if votes else _lines(table, layout))
        document = {
            "schema": SCHEMA,
            "release": table.release,
            "rows": len(table.rows),
            "sha256": sha256_file(temporary),
            "targets": [dataclasses.asdict(target) for target in table.targets],
            "about": table.manifest,
        }
        # Before the table gets its name: a manifest that is ahead of its table is noticed by the digest.
        write_json(_manifest_of(path), document)


def read_table(path: Path) -> LabelTable:
    """The table in a CSV of ours.

    A table that was changed since it was written says so in its manifest: ``edited`` is true and ``verified`` false.

    Raises:
        UserError: no such file, or a fault in it: names row and column.
        WorkError: the system refused, or the manifest is damaged.
    """
    records = _records(path)
    header = next(records)[1]
    manifest = _read_manifest(path)
    release, about, targets = manifest or (path.stem, {}, (_unnamed_target(path, header),))
    layout = _Layout(targets, frames="start" in header, groups="group" in header, parts="part" in header)
    places = _places(path, header, layout)
    reader = _Reader(path, layout, places)
    for number, cells in records:
        reader.add(number, cells)
    return reader.table(release, about)


@dataclass(frozen=True)
class _Layout:
    """Which columns a table has."""

    targets: tuple[Target, ...]
    frames: bool
    groups: bool
    parts: bool

    @property
    def header(self) -> list[str]:
        lead = ["video_id"] + ["part"] * self.parts + ["group"] * self.groups + ["start", "end"] * self.frames
        return lead + [name for target in self.targets for name in columns_of(target)]

    def check(self, path: Path) -> None:
        why = None
        if len(set(self.header)) < len(self.header):
            why = "two of its columns would have one name"
        elif self.frames and [t.private for t in self.targets] != [True]:
            why = "it has frame ranges and more than the private target"
        elif any("|" in name or not name for t in self.targets if is_wide(t) for name in t.classes):
            why = "a tag is empty or holds '|'"
        if why:
            raise UserError(f"cannot write the label table {path}", why, "rename or split what it holds")


def is_wide(target: Target) -> bool:
    """Whether a target is written as lists of the tags present: one whose classes are too many for columns."""
    several = target.kind == "multilabel"
    return several and bool(target.groups or not target.private or len(target.classes) > _WIDE)


def columns_of(target: Target) -> list[str]:
    """The columns of a target: its groups or itself where it is told in tags, itself if it is one class, else its
    classes."""
    if is_wide(target):
        return [name for name, _ in target.groups] or [target.name]
    return list(target.classes) if target.kind == "multilabel" else [target.name]


def _lines(table: LabelTable, layout: _Layout) -> Iterator[list[Any]]:
    for video_id, labels in table.rows.items():
        lead = [video_id]
        if layout.parts:
            lead.append(table.parts.get(video_id, ""))
        if layout.groups:
            lead.append(table.groups.get(video_id, ""))
        if not layout.frames:
            yield lead + [cell for target in table.targets for cell in _cells(target, labels.get(target.name))]
            continue
        target = table.targets[0]
        for span in table.spans.get(video_id, ()):
            yield [*lead, span.start, span.end, *_cells(target, span.labels)]
        if not table.spans.get(video_id):
            yield [*lead, "", "", *_cells(target, None)]


def _beside(lines: Iterator[list[Any]], votes: Mapping[str, Sequence[Any]]) -> Iterator[list[Any]]:
    return ([*line, *of] for line, of in zip(lines, zip(*votes.values(), strict=True), strict=True))


def _cells(target: Target, labels: Labels | None) -> list[str]:
    """What the columns of a target hold."""
    if labels is None:
        return [""] * len(columns_of(target))
    if target.kind == "multiclass":
        return [target.classes[labels[0]]]
    if not is_wide(target):
        return ["" if label < 0 else str(label) for label in labels]
    present = np.flatnonzero(np.asarray(labels) == 1).tolist()
    ends = np.cumsum([size for _, size in target.groups] or [len(target.classes)]).tolist()
    cells = [
        "|".join(target.classes[n] for n in present if start <= n < end)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    return cells if present else ["|", *cells[1:]]


def _manifest_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_manifest(path: Path) -> bool:
    try:
        document = parse_json(content_of(path, limit=_MANIFEST_BYTES))
    except (UserError, ValueError):
        return False
    return isinstance(document, Mapping) and {"schema", "release", "targets", "about"} <= document.keys()


def _read_manifest(path: Path) -> tuple[str, dict[str, Any], tuple[Target, ...]] | None:
    """Release, what is known about the labels, and targets; None where no manifest lies beside the table."""
    beside = _manifest_of(path)
    if not beside.exists():
        return None
    content = content_of(beside, limit=_MANIFEST_BYTES)
    try:
        document = parse_json(content)
        targets = tuple(_target(one) for one in document["targets"])
        release, about, digest = str(document["release"]), dict(document["about"]), document["sha256"]
        if document["schema"] != SCHEMA or not targets:
            raise ValueError(f"schema {document['schema']}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it is not the manifest of a label table ({type(error).__name__}: {error})"
        raise UserError(f"cannot read {beside}", why, "remove it or import the labels again") from error
    if sha256_file(path) != digest:
        about |= {"edited": True, "verified": False}
    return release, about, targets


def _target(stored: Mapping[str, Any]) -> Target:
    made = Target(
        name=str(stored["name"]),
        kind=stored["kind"],
        classes=tuple(map(str, stored["classes"])),
        private=bool(stored["private"]),
        groups=tuple((str(name), int(size)) for name, size in stored["groups"]),
    )
    sizes = sum(size for _, size in made.groups) if made.groups else len(made.classes)
    if made.kind not in ("multiclass", "multilabel") or sizes != len(made.classes) or not 0 < sizes < 2**16:
        raise ValueError(f"the target {made.name}")
    return made


def _unnamed_target(path: Path, header: Sequence[str]) -> Target:
    """The target of a table without a manifest."""
    target = five_attributes()
    missing = [name for name in target.classes if name not in header]
    if missing:
        raise UserError(
            f"cannot read {path} as a label table",
            f"it has no column {missing[0]}, and no {_manifest_of(path).name} beside it says what it has instead",
            "keep the two files together, or import the labels again",
        )
    return target


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with their numbers, the header first; blank rows are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(_bounded_lines(path, handle), strict=True)
            found = False
            for row in rows:
                if row:
                    found = True
                    yield rows.line_num, row
            if not found:
                raise _fault(path, None, "it is empty")
    except (csv.Error, UnicodeDecodeError) as error:
        raise _fault(path, None, f"it is no CSV file in UTF-8 ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _bounded_lines(path: Path, handle: TextIO) -> Iterator[str]:
    while line := handle.readline(_LINE):
        if len(line) == _LINE:
            raise _fault(path, None, f"a line is longer than {_LINE:,} characters")
        yield line


def _fault(path: Path, row: int | None, why: str) -> UserError:
    where = f"{path}, row {row}" if row else f"{path}"
    return UserError(f"cannot read the label table {where}", why, "mend it or import the labels again")


def _places(path: Path, header: Sequence[str], layout: _Layout) -> dict[str, int]:
    """Column to its place. The first may be called ``video``; columns of votes and ``action`` beside ours are left."""
    names = ["video_id" if name == "video" and not i else name for i, name in enumerate(header)]
    if len(set(names)) < len(names):
        raise _fault(path, 1, f"the column {next(n for n in names if names.count(n) > 1)!r:.60} occurs twice")
    for name in layout.header:
        if name not in names:
            raise _fault(path, 1, f"it has no column {name}")
    for name in names:
        if name not in layout.header and name != "action" and not _VOTES.fullmatch(name):
            raise _fault(path, 1, f"it has an unknown column {name!r:.60}")
    return {name: i for i, name in enumerate(names)}


class _Reader:
    """Collects checked rows."""

    def __init__(self, path: Path, layout: _Layout, places: Mapping[str, int]) -> None:
        self._path, self._layout, self._places = path, layout, places
        self._wide = {t.name: {c: i for i, c in enumerate(t.classes)} for t in layout.targets if is_wide(t)}
        self._compact = len(self._wide) == len(layout.targets)
        self._rows: dict[str, dict[str, Any]] = {}
        self._spans: dict[str, list[Span]] = {}
        self._groups: dict[str, str] = {}
        self._parts: dict[str, Part] = {}

    def add(self, number: int, cells: Sequence[str]) -> None:
        """Take one row."""
        if len(cells) != len(self._places):
            raise _fault(self._path, number, f"it has {len(cells)} cells, not {len(self._places)}")
        by_name = {name: cells[i] for name, i in self._places.items()}
        try:
            video_id = name_of(by_name["video_id"])
            if video_id in self._rows and not self._layout.frames:
                raise ValueError(f"{video_id!r:.80} occurs twice")
            self._lead(video_id, by_name)
            labels = {target.name: self._labels(target, by_name) for target in self._layout.targets}
            if self._layout.frames:
                self._span(video_id, by_name, labels[self._layout.targets[0].name])
            else:
                self._rows[video_id] = labels
        except ValueError as error:
            raise _fault(self._path, number, str(error)) from error

    def table(self, release: str, about: Mapping[str, Any]) -> LabelTable:
        """The table of all rows."""
        targets = self._layout.targets
        rows: Mapping[str, Mapping[str, Labels | None]]
        if self._layout.frames:
            classes = len(targets[0].classes)
            rows = {key: {targets[0].name: some_frame(of, classes)} for key, of in sorted(self._spans.items())}
        elif self._compact:
            rows = TagRows(targets, self._rows)
        else:
            rows = {key: self._rows[key] for key in sorted(self._rows)}
        return LabelTable(
            release=release,
            targets=targets,
            rows=rows,
            spans={key: tuple(of) for key, of in sorted(self._spans.items())},
            groups=dict(sorted(self._groups.items())),
            parts=dict(sorted(self._parts.items())),
            manifest=about,
        )

    def _lead(self, video_id: str, cells: Mapping[str, str]) -> None:
        if self._layout.parts and cells["part"]:
            if cells["part"] not in _PARTS:
                raise ValueError(f"part {cells['part']!r:.40} is not train or test")
            self._parts[video_id] = _PARTS[cells["part"]]
        if self._layout.groups and cells["group"]:
            self._groups[video_id] = name_of(cells["group"])

    def _labels(self, target: Target, cells: Mapping[str, str]) -> Any:
        """Labels of a target (where all are told in tags: the numbers of those present); None where nobody labelled."""
        names = columns_of(target)
        found = [cells[name] for name in names]
        if not any(found):
            return None
        if target.name in self._wide:
            numbers = self._numbers(target, found)
            return numbers if self._compact else spread(numbers, len(target.classes))
        if target.kind == "multiclass":
            if found[0] not in target.classes:
                raise ValueError(f"{target.name} {found[0]!r:.40} is none of {', '.join(target.classes)}")
            return (target.classes.index(found[0]),)
        for name, cell in zip(names, found, strict=True):
            if cell not in ("0", "1", ""):
                raise ValueError(f"{name} is {cell!r:.40}, not 0, 1 or blank")
        return tuple(int(cell) if cell else -1 for cell in found)

    def _numbers(self, target: Target, cells: Sequence[str]) -> Sequence[int]:
        numbers = self._wide[target.name]
        tags = [tag for cell in cells for tag in cell.split("|") if tag]
        unknown = [tag for tag in tags if tag not in numbers]
        if unknown:
            raise ValueError(f"{unknown[0]!r:.60} is no {target.name} tag")
        return sorted({numbers[tag] for tag in tags})

    def _span(self, video_id: str, cells: Mapping[str, str], labels: Labels | None) -> None:
        before = self._spans.setdefault(video_id, [])
        if not cells["start"] and not cells["end"] and labels is None:
            return
        start, end = (_frame(cells[name], name) for name in ("start", "end"))
        if labels is None:
            raise ValueError("it labels nothing")
        if start > end or (before and start <= before[-1].end):
            raise ValueError(f"the frames {start} to {end} are out of order")
        before.append(Span(start=start, end=end, labels=tuple(labels)))


def _frame(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < _FRAMES):
        raise ValueError(f"{name} {text!r:.40} is no number of a frame")
    return int(text)
