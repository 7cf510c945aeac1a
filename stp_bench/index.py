"""The index of a prepared benchmark: which videos there are, their labels, splits and decoded facts.

A prepared benchmark is a folder::

    index.json       manifest: the `Benchmark`, data preset and seed, label release, digests, notes
    index.parquet    one row per video: video_id, relpath, group, frames, height, width, fps, bytes, sha256,
                     label_<target> (list of ints; null where nobody labelled), split<N> (train, test or null)
    boxes.parquet    optional: video_id, frame, x1, y1, x2, y2 (decoded pixels), score, kind (person | head), width,
                     height
    videos/ splits/  the files themselves, in the data set's own layout (``relpath`` is relative to the folder)

Its digest covers what moves results (ids, labels, splits, video contents), not where the files lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path, fingerprint, read_json, safe_join, sha256_file, write_json
from stp_bench.schema import Benchmark, Part, SplitRef, Target, Video

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A prepared benchmark, open for reading."""

    benchmark: Benchmark
    root: Path
    videos: tuple[Video, ...]
    """All videos, sorted by id."""
    parts: Mapping[int, Mapping[str, Part]]
    """Per official split: video id to its side; an unused video is absent."""
    facts: Mapping[str, tuple[int, str]]
    """Video id to (bytes, sha256) of its file."""
    manifest: Mapping[str, Any]

    def split(self, ref: SplitRef) -> tuple[Video, ...]:
        """The videos of one side of a split, sorted by id.

        Raises:
            UserError: no such split, or an empty side.
        """
        if ref.split not in self.parts:
            raise UserError(
                f"{self.benchmark.name} has no split {ref.split}",
                f"its official splits are {', '.join(map(str, self.parts))}",
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
        return safe_join(self.root, video.relpath)

    def digest(self, videos: Sequence[Video]) -> str:
        """Fingerprint of some videos: ids, labels, groups and contents; not paths."""
        rows = [
            [v.video_id, v.group, {t: list(x) if x else None for t, x in v.labels.items()}, self.facts[v.video_id][1]]
            for v in videos
        ]
        return fingerprint(rows)

    @cached_property
    def boxes_digest(self) -> str | None:
        """SHA-256 of ``boxes.parquet``, or None where there is none."""
        path = self.root / "boxes.parquet"
        return sha256_file(path) if path.exists() else None

    @cached_property
    def boxes(self) -> pd.DataFrame | None:
        """Person boxes of all videos (columns of ``boxes.parquet``), or None."""
        path = self.root / "boxes.parquet"
        return pd.read_parquet(path) if path.exists() else None


def write_index(
    root: Path,
    benchmark: Benchmark,
    videos: Sequence[Video],
    parts: Mapping[int, Mapping[str, Part]],
    facts: Mapping[str, tuple[int, str]],
    **manifest: Any,
) -> None:
    """Write ``index.parquet`` and, last, ``index.json``: a folder without the latter is not prepared."""
    rows = []
    for video in sorted(videos, key=lambda v: v.video_id):
        size, digest = facts[video.video_id]
        row: dict[str, Any] = {
            "video_id": video.video_id, "relpath": video.relpath, "group": video.group, "frames": video.frames,
            "height": video.height, "width": video.width, "fps": video.fps, "bytes": size, "sha256": digest,
        }  # fmt: skip
        for target in benchmark.targets:
            labels = video.labels.get(target.name)
            row[f"label_{target.name}"] = None if labels is None else list(labels)
        for split, side in parts.items():
            row[f"split{split}"] = side.get(video.video_id)
        rows.append(row)
    with atomic_path(root / "index.parquet") as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    write_json(
        root / "index.json",
        {
            "schema": SCHEMA,
            "benchmark": dataclasses.asdict(benchmark),
            "videos": len(rows),
            "index_sha256": sha256_file(root / "index.parquet"),
            **manifest,
        },
    )


def read_index(root: Path) -> Dataset:
    """Open a prepared benchmark.

    Raises:
        UserError: the folder is not prepared.
        WorkError: the index does not match its manifest.
    """
    manifest = read_json(root / "index.json")
    path = root / "index.parquet"
    if not path.exists() or sha256_file(path) != manifest.get("index_sha256"):
        raise WorkError(f"the index in {root} is damaged", "its digest is not the manifest's", "make the data again")
    try:
        targets = tuple(Target(**{**t, "classes": tuple(t["classes"])}) for t in manifest["benchmark"]["targets"])
        benchmark = Benchmark(**{**manifest["benchmark"], "targets": targets})
    except (KeyError, TypeError) as error:
        reason = f"its manifest has a field missing or unknown ({error})"
        raise WorkError(f"the index in {root} cannot be read", reason, "make the data again") from error
    frame = pd.read_parquet(path)
    columns = {name: frame[name].tolist() for name in frame.columns}
    videos = tuple(
        Video(
            video_id=columns["video_id"][i],
            relpath=columns["relpath"][i],
            group=columns["group"][i] if isinstance(columns["group"][i], str) else None,
            frames=int(columns["frames"][i]),
            height=int(columns["height"][i]),
            width=int(columns["width"][i]),
            fps=float(columns["fps"][i]),
            labels={t.name: _labels(columns[f"label_{t.name}"][i]) for t in benchmark.targets},
        )
        for i in range(len(frame))
    )
    sides: dict[str, Part] = {"train": "train", "test": "test"}
    parts = {
        int(name.removeprefix("split")): {
            video.video_id: sides[side] for video, side in zip(videos, columns[name], strict=True) if side in sides
        }
        for name in columns
        if name.startswith("split")
    }
    facts = {i: (int(b), d) for i, b, d in zip(frame["video_id"], frame["bytes"], frame["sha256"], strict=True)}
    return Dataset(benchmark=benchmark, root=root, videos=videos, parts=parts, facts=facts, manifest=manifest)


def _labels(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(v) for v in values)
