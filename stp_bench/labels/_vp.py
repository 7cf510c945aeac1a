"""VP-HMDB51 and VP-UCF101: yes or no per video and attribute, as a pickle of arrays without column names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stp_annotations import Release
from stp_bench.labels._official import (
    about,
    accepted,
    broken,
    content_of,
    five_attributes,
    name_of,
)
from stp_bench.labels._pickle import read_arrays
from stp_bench.labels._table import LabelTable
from stp_bench.matching import without_suffix

_LIMIT = 2**25
"""Bytes: twenty times the larger of the two."""


def read_vp(path: Path, release: Release, *, accept_unknown: bool) -> LabelTable:
    """The table of an official pickle; its columns are put in our order by the names that the release states.

    Raises:
        UserError: not the published file (unless accepted), or not what such a file holds.
    """
    content = content_of(path, limit=_LIMIT)
    digest = hashlib.sha256(content).hexdigest()
    matches = accepted(path, release.name, digest == release.sha256, digest, accept_unknown=accept_unknown)
    try:
        values = _by_video(read_arrays(content), len(release.columns))
    except ValueError as error:
        raise broken(path, release.name, str(error)) from error
    canonical = canonical_sha256(values)
    verified = matches and canonical == release.canonical_sha256
    if matches and not verified:
        raise broken(path, release.name, f"its content has the digest {canonical[:12]}…, not the published one")
    target = five_attributes()
    order = [release.columns.index(name) for name in target.classes]
    return LabelTable(
        release=release.name,
        targets=(target,),
        rows={key: {target.name: tuple(values[key][i] for i in order)} for key in sorted(values)},
        manifest=about(release, {path.name: digest}, verified=verified)
        | {"canonical_sha256": canonical, "videos": {"published": release.videos, "read": len(values)}},
    )


def canonical_sha256(values: Mapping[str, tuple[int, ...]]) -> str:
    """SHA-256 of labels as text, whatever they were stored in: sorted lines of name and values, in the file's order."""
    lines = sorted(f"{name},{','.join(map(str, row))}\n" for name, row in values.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _by_video(arrays: Mapping[str, tuple[int, ...]], columns: int) -> dict[str, tuple[int, ...]]:
    """Rows by ``<class>/<stem>``, checked."""
    found: dict[str, tuple[int, ...]] = {}
    for key, row in arrays.items():
        video_id = without_suffix(name_of(key))
        if video_id.count("/") != 1:
            raise ValueError(f"the key {key!r:.80} is not <class>/<video>")
        if len(row) != columns:
            raise ValueError(f"{video_id!r:.80} has {len(row)} values, not {columns}")
        if not set(row) <= {0, 1}:
            raise ValueError(f"{video_id!r:.80} has a value outside 0 and 1: {', '.join(map(str, row))}")
        if video_id in found:
            raise ValueError(f"{video_id!r:.80} occurs twice, under two suffixes")
        found[video_id] = row
    if not found:
        raise ValueError("it labels no video")
    return found
