"""The index of a prepared benchmark: which videos there are, their labels, splits and decoded facts.

A prepared benchmark is a folder::

    index.json       manifest: the `Benchmark`, data preset and seed, label release, digests, notes
    index.parquet    one row per video: video_id, relpath, group, frames, height, width, fps, bytes, sha256,
                     label_<target> (list of ints; null where nobody labelled), spans_<target> (of frame-level
                     benchmarks: list of start, end, labels), split<N> (train, test or null), split<N>@<lists> (the
                     same of further lists beside the official ones)
    boxes.parquet    optional: person boxes (`stp_bench.boxes`), and boxes.json, what made them
    videos/ splits/  the files themselves, in the data set's own layout. Those of a real data set lie where its user
                     has them: the manifest's ``videos_root``. ``relpath`` is relative to it, else to the folder.

Its digest covers what moves results (ids, labels, splits, video contents), not where the files lie.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stp_bench import boxes
from stp_bench.boxes import BoxTable
from stp_bench.errors import UserError, WorkError, unknown_name
from stp_bench.files import atomic_path, canonical_json, read_json, safe_join, sha256_file, write_json
from stp_bench.schema import COMPACT, Benchmark, Labels, Part, Span, SplitRef, Target, Video

SCHEMA = 1
OFFICIAL = "official"
"""Name of the split lists that a data set was published with; of others, a benchmark's name says ``NAME@LISTS``."""

Parts = Mapping[int, Mapping[str, Part]]
"""Per split: video id to its side; an unused video is absent."""

_TABLE, _NEXT = "index.parquet", "index.next.parquet"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A prepared benchmark, open for reading."""

    benchmark: Benchmark
    root: Path
    videos_root: Path
    """What ``relpath`` is relative to."""
    videos: tuple[Video, ...]
    """All videos, sorted by id."""
    parts: Parts
    """The splits of these lists."""
    facts: Mapping[str, tuple[int, str]]
    """Video id to (bytes, sha256) of its file."""
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The benchmark's name without its lists: whatever the lists, the videos are the same."""
        return self.benchmark.name.partition("@")[0]

    def split(self, ref: SplitRef) -> tuple[Video, ...]:
        """The videos of one side of a split, sorted by id.

        Raises:
            UserError: no such split, or an empty side.
        """
        if ref.split not in self.parts:
            raise UserError(
                f"{self.benchmark.name} has no split {ref.split}",
                f"its splits are {', '.join(map(str, self.parts))}",
                "choose one of them",
            )
        side = self.parts[ref.split]
        chosen = tuple(v for v in self.videos if side.get(v.video_id) == ref.part)
        if not chosen:
            raise UserError(
                f"{self.benchmark.name} split {ref.split} has no {ref.part} videos",
                "its list is empty",
                "make it again",
            )
        return chosen

    def path(self, video: Video) -> Path:
        """Where a video's file lies."""
        # Links inside a folder that the user pointed to are the user's own; inside a made data set there are none.
        return safe_join(self.videos_root, video.relpath, follow_links=self.videos_root != self.root)

    def digest(self, videos: Sequence[Video]) -> str:
        """Fingerprint of some videos: ids, labels, groups and contents; not paths."""
        # The fingerprint of a list of rows, made row by row: all at once, thousands of tags a video fill the memory.
        digest = hashlib.sha256(b"[")
        for number, v in enumerate(videos):
            labels: dict[str, Any] = {t: list(x) if x else None for t, x in v.labels.items()}
            labels |= {f"{t} spans": [[s.start, s.end, *s.labels] for s in spans] for t, spans in v.spans.items()}
            row = canonical_json([v.video_id, v.group, labels, self.facts[v.video_id][1]])
            digest.update(f"{',' if number else ''}{row}".encode())
        digest.update(b"]")
        return digest.hexdigest()

    @cached_property
    def boxes_digest(self) -> str | None:
        """SHA-256 of ``boxes.parquet``, or None where there is none."""
        path = self.root / boxes.TABLE
        return sha256_file(path) if path.exists() else None

    @cached_property
    def boxes(self) -> BoxTable | None:
        """Person boxes of all videos, or None where there is no ``boxes.parquet``.

        Raises:
            UserError: the table holds what cannot be true of these videos.
            WorkError: it is damaged.
        """
        path = self.root / boxes.TABLE
        return BoxTable.read(path, self.videos) if path.exists() else None


def same_content(facts: Mapping[str, tuple[int, str]]) -> tuple[tuple[str, ...], ...]:
    """Videos whose files are equal, byte for byte, by what is known of each (`Dataset.facts`)."""
    by_digest: dict[str, list[str]] = {}
    for video_id, (_, digest) in sorted(facts.items()):
        by_digest.setdefault(digest, []).append(video_id)
    return tuple(tuple(ids) for ids in by_digest.values() if len(ids) > 1)


def write_index(
    root: Path,
    benchmark: Benchmark,
    videos: Sequence[Video],
    parts: Parts,
    facts: Mapping[str, tuple[int, str]],
    more_lists: Mapping[str, Parts] | None = None,
    **manifest: Any,
) -> None:
    """Write ``index.parquet`` and ``index.json``: a folder without the latter is not prepared.

    An index that is there is replaced as a whole: whenever the writing stops, either the old or the new one is read.

    Args:
        parts: the official splits.
        more_lists: name to splits of further lists (``NAME@LISTS``).
        manifest: what else ``index.json`` shall say.
    """
    videos = sorted(videos, key=lambda v: v.video_id)
    columns: dict[str, Any] = {
        "video_id": pa.array([v.video_id for v in videos], pa.string()),
        "relpath": pa.array([v.relpath for v in videos], pa.string()),
        "group": pa.array([v.group for v in videos], pa.string()),
        "frames": [v.frames for v in videos],
        "height": [v.height for v in videos],
        "width": [v.width for v in videos],
        "fps": [float(v.fps) for v in videos],
        "bytes": [facts[v.video_id][0] for v in videos],
        "sha256": [facts[v.video_id][1] for v in videos],
    }
    for target in benchmark.targets:
        labels = [v.labels.get(target.name) for v in videos]
        columns[f"label_{target.name}"] = _label_column(labels)
        if any(target.name in v.spans for v in videos):
            spans = [[dataclasses.asdict(s) for s in v.spans.get(target.name, ())] for v in videos]
            columns[f"spans_{target.name}"] = pa.array(spans, _SPANS)
    for lists, splits in {OFFICIAL: parts, **(more_lists or {})}.items():
        for split, side in splits.items():
            name = f"split{split}" + ("" if lists == OFFICIAL else f"@{lists}")
            columns[name] = pa.array([side.get(v.video_id) for v in videos], pa.string())
    replaced = (root / "index.json").exists()
    if replaced and _table_of(root, read_json(root / "index.json")) == root / _NEXT:
        (root / _NEXT).replace(root / _TABLE)  # what a killed writer left to do: its table must not be overwritten
    table = root / (_NEXT if replaced else _TABLE)
    with atomic_path(table, fsync=True) as temporary:
        pq.write_table(pa.table(columns), temporary)
    document = {
        "schema": SCHEMA,
        "benchmark": dataclasses.asdict(benchmark),
        "videos": len(videos),
        "index_sha256": sha256_file(table),
        **manifest,
    }
    write_json(root / "index.json", document)
    if replaced:
        table.replace(root / _TABLE)


def _label_column(labels: Sequence[Labels | None]) -> pa.Array:
    """Labels as a column of lists, through compact arrays: a Python number per tag and video would fill the memory."""
    flat = array("h")
    ends = [0]
    for found in labels:
        flat.extend(iter(found or ()))  # an array of another type would be refused, its values are not
        ends.append(len(flat))
    values = pa.array(np.frombuffer(flat, np.int16) if flat else np.empty(0, np.int16))
    starts = pa.array([None if f is None else e for f, e in zip((*labels, ()), ends, strict=True)], pa.int64())
    return pa.LargeListArray.from_arrays(starts, values)


_SPANS = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "labels": pa.list_(pa.int8())}))


def _table_of(root: Path, manifest: Mapping[str, Any]) -> Path | None:
    """The table that a manifest is of: a writer killed between its two renames leaves it under the other name."""
    for path in (root / _TABLE, root / _NEXT):
        try:
            if sha256_file(path) == manifest.get("index_sha256"):
                return path
        except FileNotFoundError:
            continue
    return None


def read_index(root: Path, lists: str = OFFICIAL) -> Dataset:
    """Open a prepared benchmark with the splits of some lists.

    Raises:
        UserError: the folder is not prepared, or has no such lists.
        WorkError: the index does not match its manifest.
    """
    manifest = read_json(root / "index.json")
    if (path := _table_of(root, manifest)) is None:  # or is it being replaced at this moment?
        manifest = read_json(root / "index.json")
        path = _table_of(root, manifest)
    if path is None:
        raise WorkError(f"the index in {root} is damaged", "its digest is not the manifest's", "make the data again")
    try:
        benchmark = _benchmark(manifest["benchmark"])
    except (KeyError, TypeError) as error:
        reason = f"its manifest has a field missing or unknown ({error})"
        raise WorkError(f"the index in {root} cannot be read", reason, "make the data again") from error
    table = pq.ParquetFile(path).read()
    labelled = {f"label_{t.name}" for t in benchmark.targets}
    columns = {name: table[name].to_pylist() for name in table.column_names if name not in labelled}
    labels = {t.name: _read_labels(table[f"label_{t.name}"]) for t in benchmark.targets}
    spanned = [t.name for t in benchmark.targets if f"spans_{t.name}" in columns]
    videos = tuple(
        Video(
            video_id=columns["video_id"][i],
            relpath=columns["relpath"][i],
            group=columns["group"][i],
            frames=int(columns["frames"][i]),
            height=int(columns["height"][i]),
            width=int(columns["width"][i]),
            fps=float(columns["fps"][i]),
            labels={name: found[i] for name, found in labels.items()},
            spans={name: _spans(columns[f"spans_{name}"][i]) for name in spanned},
        )
        for i in range(table.num_rows)
    )
    parts = _parts(columns, lists)
    if lists != OFFICIAL:
        if not parts:
            known = sorted({name.partition("@")[2] for name in columns if name.startswith("split")} - {""})
            raise unknown_name(f"split lists of {benchmark.name}", lists, [OFFICIAL, *known])
        benchmark = dataclasses.replace(benchmark, name=f"{benchmark.name}@{lists}", splits=len(parts))
    facts = {i: (b, d) for i, b, d in zip(columns["video_id"], columns["bytes"], columns["sha256"], strict=True)}
    videos_root = Path(manifest["videos_root"]) if manifest.get("videos_root") else root
    return Dataset(
        benchmark=benchmark, root=root, videos_root=videos_root, videos=videos, parts=parts, facts=facts,
        manifest=manifest,
    )  # fmt: skip


def read_benchmark(root: Path, lists: str = OFFICIAL) -> Benchmark:
    """What a prepared benchmark is described as, with the splits of some lists; its videos are not read.

    Raises:
        UserError: the folder is not prepared, or has no such lists.
        WorkError: the manifest or the table cannot be understood.
    """
    try:
        benchmark = _benchmark(read_json(root / "index.json")["benchmark"])
        if lists == OFFICIAL:
            return benchmark
        # The names of the columns say it, whichever of the two tables is the manifest's.
        table = next(path for path in (root / _TABLE, root / _NEXT) if path.exists())
        of = [name.partition("@")[2] for name in pq.read_schema(table).names if name.startswith("split")]
    except (KeyError, TypeError, AttributeError, StopIteration, OSError, pa.ArrowException) as error:
        reason = f"it cannot be understood ({type(error).__name__})"
        raise WorkError(f"the index in {root} is damaged", reason, "make the data again") from error
    if lists not in of:
        raise unknown_name(f"split lists of {benchmark.name}", lists, [OFFICIAL, *sorted({*of} - {""})])
    return dataclasses.replace(benchmark, name=f"{benchmark.name}@{lists}", splits=of.count(lists))


def _benchmark(stored: Mapping[str, Any]) -> Benchmark:
    targets = tuple(
        Target(
            **{**t, "classes": tuple(t["classes"]), "groups": tuple((name, size) for name, size in t.get("groups", ()))}
        )
        for t in stored["targets"]
    )
    return Benchmark(**{**stored, "targets": targets})


def _parts(columns: Mapping[str, Sequence[Any]], lists: str) -> dict[int, dict[str, Part]]:
    """The splits that belong to some lists."""
    sides: dict[str, Part] = {"train": "train", "test": "test"}
    parts: dict[int, dict[str, Part]] = {}
    for name, column in columns.items():
        number, _, of = name.removeprefix("split").partition("@")
        if name.startswith("split") and (of or OFFICIAL) == lists:
            ids = columns["video_id"]
            parts[int(number)] = {i: sides[side] for i, side in zip(ids, column, strict=True) if side in sides}
    return parts


def _read_labels(column: pa.ChunkedArray) -> list[Labels | None]:
    """A column of lists as `_label_column` writes it; a list of many classes becomes a compact array."""
    if pa.types.is_null(column.type):  # nobody labelled anything
        return [None] * len(column)
    found: list[Labels | None] = []
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum(pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False))
        for i, known in enumerate(chunk.is_valid().to_pylist()):
            row = values[ends[i - 1] if i else 0 : ends[i]]
            wide = len(row) >= COMPACT
            found.append(None if not known else array("b", row.astype(np.int8)) if wide else tuple(row.tolist()))
    return found


def _spans(values: Sequence[Mapping[str, Any]]) -> tuple[Span, ...]:
    return tuple(
        Span(start=int(s["start"]), end=int(s["end"]), labels=tuple(int(v) for v in s["labels"])) for s in values
    )
