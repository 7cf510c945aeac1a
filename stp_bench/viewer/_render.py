"""Clips as playable files: rendered once, kept under names that follow from their content, found again.

``<home>/inspect/media/<what>-<key>/<video>.mp4``, where ``key`` is all that decides how the clips look and ``video``
the content of the video. Beside what a method made lies what was measured on it, as JSON.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stp_bench import video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, make_folder, read_json, write_json
from stp_bench.progress import Reporter
from stp_bench.schema import Video
from stp_bench.viewer import _measures
from stp_bench.viewer._clips import Frames, Panels, Shown, Source
from stp_bench.workers import cores

VERSION = 1
"""Raised by hand whenever the same clip would give other files."""
RAW, SPARSIFIED, ANONYMIZED, TRIPTYCH = "raw", "sparsified", "anonymized", "triptych"
SIDE = 224
"""Pixels that the side of a clip has at least when shown: whole multiples, so that tubelets keep sharp borders."""
_CAPTION = 18
_AHEAD = 4
CORES = cores()
"""That this process may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured on one clip of a method."""

    edge_similarity: float
    ssim: float
    sparsified_edge_similarity: float | None
    """Of the raw clip with dropped tubelets black; None of a method that drops none, like the fields below."""
    sparsified_ssim: float | None
    pruned: float | None
    keep_LNN: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """The files of one clip."""

    files: Mapping[str, Path]
    """Slice to file: ``raw``, ``triptych``, and of each method ``anonymized`` and, where it drops tubelets,
    ``sparsified``, with the run's label behind a colon where there are several."""
    facts: Mapping[str, Facts]
    """By label of the run."""
    fps: float
    frames: int


def slice_name(kind: str, label: str, labels: Sequence[str]) -> str:
    """``anonymized``, or of several runs ``anonymized:<label>``."""
    return kind if len(labels) == 1 else f"{kind}:{label}"


def folder(home: Path) -> Path:
    """Where rendered clips are kept."""
    return home / "inspect" / "media"


def render(source: Source, videos: Sequence[Video], home: Path, reporter: Reporter) -> dict[str, Media]:
    """The files of some videos' clips; those that are there are not made again.

    Raises:
        WorkError: a method failed, or the disk refused.
    """
    places = _Places(source, folder(home))
    todo = [video for video in videos if not places.finished(video)]
    with reporter.stage("render clips", len(todo), "videos") as task, ThreadPoolExecutor(CORES) as pool:
        waiting: deque[Future[None]] = deque()
        for panels in source.panels(todo):
            waiting.append(pool.submit(_write, panels, places, source.fps(panels.video)))
            if len(waiting) > _AHEAD * CORES:
                waiting.popleft().result()
                task.advance()
        while waiting:
            waiting.popleft().result()
            task.advance()
    return {video.video_id: places.media(video) for video in videos}


def remove_unused(home: Path, used: Collection[str]) -> int:
    """Remove rendered clips whose folder (its name) nothing uses any longer; returns their bytes."""
    freed = 0
    for place in folder(home).glob("*-*"):
        if place.is_dir() and not place.is_symlink() and place.name not in used:
            freed += sum(path.stat().st_size for path in place.iterdir())
            shutil.rmtree(place, ignore_errors=True)
    return freed


def facts_of(raw: Frames, shown: Shown) -> Facts:
    """Measure what a method made of a clip."""
    black, keep = shown.sparsified, shown.keep_LNN
    return Facts(
        edge_similarity=_measures.edge_similarity(raw, shown.anonymized),
        ssim=_measures.ssim(raw, shown.anonymized),
        sparsified_edge_similarity=_measures.edge_similarity(raw, black) if black is not None else None,
        sparsified_ssim=_measures.ssim(raw, black) if black is not None else None,
        pruned=_measures.pruned(raw, keep) if keep is not None else None,
        keep_LNN=keep,
    )


def panel_names(shown: Mapping[str, Shown]) -> Iterator[tuple[str, str]]:
    """(kind, label of the run) of what stands beside the raw clip, from left to right."""
    for label, of in shown.items():
        if of.sparsified is not None:
            yield SPARSIFIED, label
        yield ANONYMIZED, label


def larger(frames_THWC: Frames) -> Frames:
    """Frames enlarged by a whole factor, each pixel a square."""
    factor = max(1, -(-SIDE // max(frames_THWC.shape[1:3])))
    return np.repeat(np.repeat(frames_THWC, factor, axis=1), factor, axis=2)


class _Places:
    """Where the files of a source's clips lie."""

    def __init__(self, source: Source, root: Path) -> None:
        self._source, self.labels = source, list(source.frozen)
        raw = [VERSION, SIDE, source.raw_key]
        keys = {label: fingerprint([*raw, dict(of.identity)]) for label, of in source.frozen.items()}
        self.raw = root / f"raw-{fingerprint(raw)[:16]}"
        self.of = {label: root / f"{source.frozen[label].name}-{key[:16]}" for label, key in keys.items()}
        self.beside = root / f"beside-{fingerprint([*keys.items()])[:16]}"

    def name(self, video: Video) -> str:
        return self._source.digest(video)[:24]

    def facts(self, label: str, video: Video) -> Path:
        return self.of[label] / f"{self.name(video)}.json"

    def file(self, kind: str, label: str, video: Video) -> Path:
        if kind in (RAW, TRIPTYCH):
            return (self.raw if kind == RAW else self.beside) / f"{self.name(video)}.mp4"
        return self.of[label] / f"{self.name(video)}.{kind}.mp4"

    def finished(self, video: Video) -> bool:
        try:
            return all(path.exists() for path in self.media(video).files.values())
        except (UserError, WorkError, KeyError, TypeError, ValueError):
            return False  # measured last: without that the files were not finished

    def media(self, video: Video) -> Media:
        facts = {label: _read_facts(self.facts(label, video)) for label in self.labels}
        files = {RAW: self.file(RAW, "", video)}
        for label, of in facts.items():
            for kind in (SPARSIFIED, ANONYMIZED) if of.keep_LNN is not None else (ANONYMIZED,):
                files[slice_name(kind, label, self.labels)] = self.file(kind, label, video)
        files[TRIPTYCH] = self.file(TRIPTYCH, "", video)
        return Media(files=files, facts=facts, fps=self._source.fps(video), frames=self._source.clip.frames)


def _write(panels: Panels, places: _Places, fps: float) -> None:
    video = panels.video
    raw = larger(panels.raw)
    _write_video(places.file(RAW, "", video), raw, fps)
    row, captions = [raw], [RAW]
    several = len(panels.shown) > 1
    for kind, label in panel_names(panels.shown):
        frames = panels.shown[label].sparsified if kind == SPARSIFIED else panels.shown[label].anonymized
        assert frames is not None  # `panel_names` names what is there
        row.append(larger(frames))
        captions.append(f"{kind}: {label}" if several else kind if kind == SPARSIFIED else label)
        _write_video(places.file(kind, label, video), row[-1], fps)
    _write_video(places.file(TRIPTYCH, "", video), side_by_side(row, captions), fps)
    for label, shown in panels.shown.items():
        if not (path := places.facts(label, video)).exists():
            write_json(path, _facts_document(facts_of(panels.raw, shown)))


def side_by_side(row: Sequence[Frames], captions: Sequence[str]) -> Frames:
    """Clips of one size in a row, each under its caption, (T, H, W, 3)."""
    titles = []
    for frames, caption in zip(row, captions, strict=True):
        bar = np.full((_CAPTION, frames.shape[2], 3), 255, np.uint8)
        cv2.putText(bar, caption, (3, _CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        titles.append(np.repeat(bar[None], len(frames), axis=0))
    return np.concatenate([np.concatenate([t, f], axis=1) for t, f in zip(titles, row, strict=True)], axis=2)


def _write_video(path: Path, frames: Frames, fps: float) -> None:
    if not path.exists():
        make_folder(path.parent)
        video_io.write_video(path, frames, fps, quick=True)


def _facts_document(facts: Facts) -> dict[str, Any]:
    keep = facts.keep_LNN
    return {
        "edge_similarity": facts.edge_similarity,
        "ssim": facts.ssim,
        "sparsified_edge_similarity": facts.sparsified_edge_similarity,
        "sparsified_ssim": facts.sparsified_ssim,
        "pruned": facts.pruned,
        "keep": keep.astype(int).tolist() if keep is not None else None,
    }


def _read_facts(path: Path) -> Facts:
    document = read_json(path)
    keep = document.pop("keep")
    return Facts(**document, keep_LNN=np.array(keep, np.bool_) if keep is not None else None)
