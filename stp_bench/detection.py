"""Making the table of person boxes of a benchmark, by a detector or from a table that was made elsewhere.

`detect` decodes each video once, in order, a batch of frames in memory at a time, and notes every finished video in a
journal, so that a stopped run goes on where it was. The table (``boxes.parquet``, `stp_bench.boxes`) appears as a whole
at the end, and then its card, ``boxes.json``: which detector, weights and threshold, when, and what is left without.
Axes: B frames, M boxes of a frame.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from stp_bench import boxes, video_io
from stp_bench.boxes import BoxTable
from stp_bench.detectors import Detector, Origin
from stp_bench.errors import BenchError, WorkError, out_of_memory
from stp_bench.files import atomic_path, fingerprint, make_folder, read_json, sha256_file, write_json
from stp_bench.index import Dataset
from stp_bench.progress import Reporter, Task
from stp_bench.schema import Video

SCHEMA = 1
CARD = "boxes.json"
_LOCK = ".boxes.lock"
Rows = NDArray[np.float64]
"""Rows x1, y1, x2, y2, score of one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How videos are looked at. All but ``batch`` and the skipping decide which boxes there are."""

    min_score: float = boxes.SURE
    every: int = 1
    """Look at every ``every``-th frame only: those between keep its boxes, as many as `boxes.HOLD` of them."""
    batch: int = 8
    decoder: str = "pyav"
    skip_unreadable: bool = False
    """Leave unreadable videos without boxes, and name them in the card; else the first is an error."""
    skip_failed: bool = False
    """Leave frames without boxes on which the detector fails, and name them in the card."""


class DetectorError(WorkError):
    """A detector failed on a frame, or returned what its contract does not allow."""


def detect(
    dataset: Dataset, detector: Detector, origin: Origin, options: Options, folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Look at every video of a benchmark, and write the table of its boxes and its card into a folder.

    Returns:
        The card. Boxes that are there of the same videos by the same detector are not found again.

    Raises:
        WorkError: a video cannot be read, or the disk refused; as `DetectorError`, the detector failed.
    """
    found_by = dataclasses.asdict(origin) | {
        "min_score": options.min_score, "every": options.every, "decoder": options.decoder
    }  # fmt: skip
    make_folder(folder)
    with FileLock(folder / _LOCK):
        if (card := _finished(dataset, found_by, options, folder)) is not None:
            reporter.say(f"these boxes are there already: {folder / boxes.TABLE}")
            return card
        _tell_replaced(folder, reporter)
        journal = _Journal(folder / f".boxes-{fingerprint(found_by)[:12]}.jsonl", dataset, options.skip_failed)
        unreadable = _look_at_all(dataset, detector, origin.detector, options, journal, reporter)
        boxes.write_rows(folder / boxes.TABLE, journal.tables())
        card = _write_card(dataset, folder, {**found_by, "unreadable": unreadable, "failed": journal.failed})
        journal.path.unlink()
    return card


def import_boxes(dataset: Dataset, source: Path, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Take over boxes that were made elsewhere: checked against the videos, clipped to them, and written anew.

    Args:
        source: the table, or a folder with ``boxes.parquet``.

    Returns:
        The card.

    Raises:
        UserError: no such table, or it holds what cannot be true of the benchmark's videos.
        WorkError: it is damaged, or the disk refused.
    """
    path = source / boxes.TABLE if source.is_dir() else source
    make_folder(folder)
    with FileLock(folder / _LOCK), reporter.stage(f"check {path.name}", unit="boxes") as task:

        def counted() -> Iterator[pd.DataFrame]:
            for rows in boxes.checked_rows(path, dataset.videos):
                yield rows
                task.advance(len(rows))

        digest = sha256_file(path) if path.is_file() else None
        _tell_replaced(folder, reporter)
        boxes.write_rows(folder / boxes.TABLE, counted())
        return _write_card(dataset, folder, {"imported": path.name, "imported_sha256": digest})


def _tell_replaced(folder: Path, reporter: Reporter) -> None:
    if (folder / boxes.TABLE).exists():
        reporter.say(f"the boxes that are in {folder} will be replaced")


def _finished(dataset: Dataset, found_by: Mapping[str, Any], options: Options, folder: Path) -> dict[str, Any] | None:
    """The card of boxes that the same detector has found in the same videos; None where there are none."""
    if not (folder / boxes.TABLE).exists() or not (folder / CARD).exists():
        return None
    with suppress(WorkError, AttributeError):
        card: dict[str, Any] = read_json(folder / CARD)
        left_out = (card.get("unreadable") and not options.skip_unreadable) or (
            card.get("failed") and not options.skip_failed
        )
        same = {
            **found_by,
            "boxes_sha256": sha256_file(folder / boxes.TABLE),
            "videos_sha256": dataset.digest(dataset.videos),
        }
        if not left_out and all(card.get(name) == value for name, value in same.items()):
            return card
    return None


def _write_card(dataset: Dataset, folder: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """What ``boxes.json`` says of the table beside it."""
    path = folder / boxes.TABLE
    table = BoxTable.read(path, dataset.videos)

    def without(number: int, part: str) -> float:
        side = dataset.parts[number]
        return boxes.share_without([(table, [v for v in dataset.videos if side.get(v.video_id) == part])])

    card = {
        "schema": SCHEMA,
        "name": dataset.name,
        **said,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "boxes_sha256": sha256_file(path),
        "videos_sha256": dataset.digest(dataset.videos),
        "videos": len(dataset.videos),
        "boxes": len(table),
        "frames_without": {str(n): {part: without(n, part) for part in ("train", "test")} for n in dataset.parts},
    }
    write_json(folder / CARD, card)
    return card


# Looking at videos


def _look_at_all(
    dataset: Dataset, detector: Detector, name: str, options: Options, journal: _Journal, reporter: Reporter
) -> dict[str, str]:
    """Look at the videos that are not in the journal; why some cannot be read, by id."""
    frames = {v.video_id: len(range(0, v.frames, options.every)) for v in dataset.videos}
    done, unreadable = sum(frames[i] for i in journal.done), {}
    with reporter.stage(f"people in {dataset.name}", sum(frames.values()), "frames") as task, journal.appending():
        task.update(done, sum(frames.values()))
        for video in dataset.videos:
            if video.video_id in journal.done:
                continue
            task.note(video.video_id)
            try:
                journal.add(video, *_look(dataset, video, detector, name, options, task))
            except DetectorError:
                raise
            except WorkError as error:
                if not options.skip_unreadable:
                    raise
                unreadable[video.video_id] = error.why
            done += frames[video.video_id]
            task.update(done, sum(frames.values()))
    return unreadable


def _look(
    dataset: Dataset, video: Video, detector: Detector, name: str, options: Options, task: Task
) -> tuple[list[list[float]], list[int]]:
    """Rows ``frame, x1, y1, x2, y2, score`` of a video, and the frames on which the detector failed."""
    rows: list[list[float]] = []
    failed: list[int] = []
    for numbers, frames_BHWC in _batches(dataset, video, options):
        for number, found in zip(numbers, _asked(detector, name, video, numbers, frames_BHWC, options), strict=True):
            if found is None:
                failed.append(number)
            else:
                rows += [[number, *row] for row in found.tolist()]
        task.advance(len(numbers))
    return rows, failed


def _batches(dataset: Dataset, video: Video, options: Options) -> Iterator[tuple[range, NDArray[np.uint8]]]:
    """The chosen frames in order: their numbers, and uint8 RGB (B, H, W, 3).

    Raises:
        WorkError: the video cannot be read, or is not the indexed one.
    """
    path, chosen = dataset.path(video), range(0, video.frames, options.every)
    held: list[video_io.Image] = []
    count = 0
    for frame in video_io.read_frames(path, decoder=options.decoder, chosen=chosen):
        if frame.shape[:2] != (video.height, video.width):
            break
        held.append(frame)
        count += 1
        if len(held) == options.batch or count == len(chosen):
            yield chosen[count - len(held) : count], np.stack(held)
            held = []
    if count < len(chosen):
        why = f"it has not the {video.frames} frames of {video.width} x {video.height} pixels that the index says"
        raise WorkError(f"cannot use {path}", why, "restore the file, or prepare the data again")


def _asked(
    detector: Detector, name: str, video: Video, numbers: range, frames_BHWC: NDArray[np.uint8], options: Options
) -> list[Rows | None]:
    """What a detector finds in some frames of a video, clipped and sure enough; None for a frame on which it fails."""
    try:
        return [_sure(rows, options.min_score) for rows in _answer(detector, frames_BHWC)]
    except Exception as error:  # a stranger's code may raise anything
        cause = error
        together = _failure(name, f"frames {numbers[0]} to {numbers[-1]} of video {video.video_id} at once", error)
    found: list[Rows | None] = []
    for number, frame in zip(numbers, frames_BHWC, strict=True):  # one by one, to tell which it is
        try:
            found.append(_sure(_answer(detector, frame[None])[0], options.min_score))
        except Exception as error:
            failure = _failure(name, f"frame {number} of video {video.video_id}", error)
            if not options.skip_failed:
                raise failure from error
            found.append(None)
    if all(rows is not None for rows in found):
        raise together from cause
    return found


def _failure(name: str, where: str, error: Exception) -> DetectorError:
    """The error for a detector that failed; errors that are not about frames are raised as they are.

    Raises:
        WorkError: memory ran out.
        BenchError: the error is one of ours.
    """
    if out_of_memory(error):
        why = (str(error).splitlines() or ["the machine has no more"])[0]
        raise WorkError("out of memory", why, "lower --batch, or close other programs") from error
    if isinstance(error, BenchError):
        raise error
    why = str(error) if isinstance(error, _ContractError) else f"it raised {type(error).__name__}: {error}"
    mend = "repair it, or leave such frames without boxes with --skip-failed"
    return DetectorError(f"detector {name} failed on {where}", why, mend)


class _ContractError(ValueError):
    """A detector's answer is not what `Detector` asks for."""


def _answer(detector: Detector, frames_BHWC: NDArray[np.uint8]) -> list[Rows]:
    """What a detector says of each frame, checked, and clipped to the frame."""
    tables = detector(frames_BHWC)
    count, height, width = frames_BHWC.shape[:3]
    if len(tables) != count:
        raise _ContractError(f"it returned {len(tables)} tables for {count} frames")
    return [_checked(np.asarray(table, np.float64), width, height) for table in tables]


def _checked(rows: Rows, width: int, height: int) -> Rows:
    if rows.size == 0:
        return np.empty((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise _ContractError(f"it returned a table of shape {rows.shape} instead of rows x1, y1, x2, y2, score")
    if wrong := boxes.fault(rows[:, :4], rows[:, 4], width, height):
        raise _ContractError(wrong)
    return np.hstack([boxes.clip_corners(rows[:, :4], width, height), rows[:, 4:]])


def _sure(rows: Rows, min_score: float) -> Rows:
    x1, y1, x2, y2, score = rows.T
    sure: Rows = rows[(score >= min_score) & (x2 > x1) & (y2 > y1)]  # clipping may leave nothing of a box
    return sure


# What is finished


class _Journal:
    """One line per finished video. What no longer counts, or was cut short by a kill, goes when it is opened."""

    def __init__(self, path: Path, dataset: Dataset, take_failed: bool) -> None:
        """
        Args:
            take_failed: whether videos count with frames on which the detector failed.
        """
        self.path = path
        self.done: set[str] = set()
        self.failed: dict[str, list[int]] = {}
        """Video id to the frames on which the detector failed, if there are any."""
        self._videos = {v.video_id: v for v in dataset.videos}
        self._contents = {i: dataset.facts[i][1] for i in self._videos}
        with atomic_path(path) as temporary, temporary.open("wb") as kept:
            for entry in self._lines():
                if self._contents.get(entry["video_id"]) == entry["sha256"] and (take_failed or not entry["failed"]):
                    kept.write(_line(entry))
                    self._note(entry)

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Open for `add`, for the length of a block."""
        with self.path.open("ab") as self._file:
            yield

    def add(self, video: Video, rows: list[list[float]], failed: list[int]) -> None:
        """Note a finished video."""
        sha256 = self._contents[video.video_id]
        entry = {"video_id": video.video_id, "sha256": sha256, "rows": rows, "failed": failed}
        self._file.write(_line(entry))
        self._file.flush()
        self._note(entry)

    def tables(self) -> Iterator[pd.DataFrame]:
        """The boxes of each finished video."""
        for entry in self._lines():
            yield _table(self._videos[entry["video_id"]], entry["rows"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError), self.path.open("rb") as lines:
            for line in lines:
                with suppress(ValueError):
                    yield json.loads(line)

    def _note(self, entry: Mapping[str, Any]) -> None:
        self.done.add(entry["video_id"])
        if entry["failed"]:
            self.failed[entry["video_id"]] = entry["failed"]


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _table(video: Video, rows: list[list[float]]) -> pd.DataFrame:
    values = np.array(rows, np.float64).reshape(-1, 6)
    named: Sequence[str] = ("x1", "y1", "x2", "y2", "score")
    return pd.DataFrame(
        {
            "video_id": video.video_id,
            "frame": values[:, 0].astype(np.int32),
            **{name: values[:, 1 + i].astype(np.float32) for i, name in enumerate(named)},
            "kind": boxes.PERSON,
            "width": np.int32(video.width),
            "height": np.int32(video.height),
        }
    )
