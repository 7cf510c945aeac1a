"""PA-HMDB51: levels of each attribute in ranges of frames, one JSON file per action class.

Each file maps ``<video>.avi`` to, per attribute, a list of ``[start, end, level]``: frames from 0, both ends included.
A level may be a list (two people), of which the largest counts. Where two ranges of one attribute overlap, the later in
the file counts, as if it corrected the earlier; the table's manifest says how often that happened. Frames without a
range are not labelled, and stay so.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stp_annotations import Release
from stp_bench.errors import UserError
from stp_bench.labels._official import (
    about,
    accepted,
    broken,
    combined_sha256,
    content_of,
    five_attributes,
    name_of,
    parse_json,
    some_frame,
    unreadable,
)
from stp_bench.labels._table import LabelTable
from stp_bench.matching import without_suffix
from stp_bench.schema import Span

FOLDER = "PrivacyAttributes"

_LEVELS = {"face": 2, "skin_color": 3, "gender": 2, "nudity": 2, "relationship": 1}
"""Attribute to its highest level; 0 is "cannot be told"."""
_FROM: Mapping[str, Mapping[str, int]] = {
    "nonzero": {},
    "semi_nudity": {"nudity": 2},
    "strict": {"nudity": 2, "face": 2},
}
"""Rule to the levels from which on an attribute counts as present, where that is not 1."""
_FILE_BYTES, _FILES, _RANGES, _FRAMES = 2**22, 1000, 200, 2**31

Ranges = list[tuple[int, int, int]]
"""Start, end, level."""


def json_files(path: Path) -> list[Path]:
    """The class files in a folder or in its ``PrivacyAttributes``, sorted by name."""
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    try:
        return sorted((p for p in folder.iterdir() if p.suffix == ".json"), key=lambda p: p.name)
    except OSError as error:
        raise unreadable(folder, error) from error


def read_pa(path: Path, release: Release, *, rule: str, accept_unknown: bool) -> LabelTable:
    """The table of a folder of class files, with ``Span``s of constant labels.

    Args:
        rule: from which level on an attribute is present: ``nonzero`` 1; ``semi_nudity`` as that, but nudity 2;
            ``strict`` as that, but face 2 (a complete one).

    Raises:
        UserError: not the published files (unless accepted), or not what such files hold.
    """
    files = json_files(path)
    if not files or len(files) > _FILES:
        why = f"it holds {len(files) or 'no'} JSON files"
        raise UserError(f"cannot read {path} as labels of {release.name}", why, "give the folder with one per class")
    folder = files[0].parent
    contents = {file.name: content_of(file, limit=_FILE_BYTES) for file in files}
    each = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    digest = combined_sha256(each)
    verified = accepted(path, release.name, digest == release.sha256, digest, accept_unknown=accept_unknown)
    target = five_attributes()
    spans: dict[str, tuple[Span, ...]] = {}
    found: Counter[str] = Counter({"overlaps": 0, "holes": 0, "late_starts": 0})
    for name, content in contents.items():
        try:
            for video, entry in _videos(content):
                video_id = name_of(f"{Path(name).stem}/{without_suffix(video)}")
                if video_id.count("/") != 1:
                    raise ValueError(f"{video!r:.80} is no name of a file")
                if video_id in spans:
                    raise ValueError(f"{video_id!r:.80} occurs twice")
                ranges = [_ranges(entry, attribute) for attribute in target.classes]
                spans[video_id] = _spans(ranges, [_FROM[rule].get(a, 1) for a in target.classes])
                found.update(_irregular(ranges))
        except ValueError as error:
            raise broken(folder / name, release.name, str(error)) from error
    if not spans:
        raise broken(path, release.name, "it labels no video")
    spans = dict(sorted(spans.items()))
    return LabelTable(
        release=release.name,
        targets=(target,),
        rows={key: {target.name: some_frame(of, len(target.classes))} for key, of in spans.items()},
        spans=spans,
        manifest=about(release, each, verified=verified, rule=rule)
        | {"videos": {"published": release.videos, "read": len(spans)}, "irregular": dict(found)},
    )


def _videos(content: bytes) -> list[tuple[str, Mapping[str, Any]]]:
    document = parse_json(content)
    if not isinstance(document, dict) or not all(isinstance(entry, dict) for entry in document.values()):
        raise ValueError("it does not map videos to attributes")
    return list(document.items())


def _ranges(entry: Mapping[str, Any], attribute: str) -> Ranges:
    """The ranges of one attribute, in the file's order, with one level each."""
    listed = entry.get(attribute)
    if not isinstance(listed, list) or len(listed) > _RANGES:
        raise ValueError(f"{attribute} is no list of ranges")
    found = []
    for one in listed:
        if not isinstance(one, list) or len(one) != 3:
            raise ValueError(f"{attribute} has a range that is not [start, end, level]")
        start, end, level = one
        levels = level if isinstance(level, list) else [level]
        if not all(type(n) is int for n in (start, end, *levels)) or not levels:
            raise ValueError(f"{attribute} has a range that is not made of whole numbers")
        if not 0 <= start <= end < _FRAMES:
            raise ValueError(f"{attribute} has the range {start} to {end}")
        if not all(0 <= n <= _LEVELS[attribute] for n in levels):
            raise ValueError(f"{attribute} has the level {level}, outside 0 to {_LEVELS[attribute]}")
        found.append((start, end, max(levels)))
    return found


def _spans(ranges: list[Ranges], present_from: list[int]) -> tuple[Span, ...]:
    """Runs of frames whose labels are equal, over all attributes; frames that none of them labels are left out."""
    edges = sorted({edge for of in ranges for start, end, _ in of for edge in (start, end + 1)})
    place = {edge: i for i, edge in enumerate(edges)}
    labels = [[-1] * len(ranges) for _ in edges]
    for k, of in enumerate(ranges):
        for start, end, level in of:
            for i in range(place[start], place[end + 1]):
                labels[i][k] = int(level >= present_from[k])
    spans: list[Span] = []
    for i, row in enumerate(labels[:-1]):
        start, end = edges[i], edges[i + 1] - 1
        if max(row) < 0:
            continue
        if spans and spans[-1].end == start - 1 and spans[-1].labels == tuple(row):
            start = spans.pop().start
        spans.append(Span(start=start, end=end, labels=tuple(row)))
    return tuple(spans)


def _irregular(ranges: list[Ranges]) -> Counter[str]:
    """Lists whose ranges overlap, or leave frames between them out; videos whose first frame nobody labelled."""
    found: Counter[str] = Counter()
    for of in map(sorted, ranges):
        reached = [max(end for _, end, _ in of[: i + 1]) for i in range(len(of))]
        steps = [start - end for (start, _, _), end in zip(of[1:], reached[:-1], strict=True)] if of else []
        found["overlaps"] += any(step < 1 for step in steps)
        found["holes"] += any(step > 1 for step in steps)
    found["late_starts"] += any(of and min(of)[0] > 0 for of in ranges)
    return found
