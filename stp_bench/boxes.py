"""Person boxes of a benchmark: one table beside its index, checked row by row before anything is done with it.

``boxes.parquet`` has one row per person or head and frame: ``video_id``, ``frame`` (from 0), ``x1, y1, x2, y2`` (pixels
of the decoded frame, edges between pixels), ``score`` (0 to 1), ``kind`` (person | head), ``width, height`` (of the
frame). A frame without rows was not looked at, or shows nobody. Axes: T frames, M boxes of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path
from stp_bench.schema import Video

TABLE = "boxes.parquet"
PERSON = "person"
KINDS = (PERSON, "head")
SURE = 0.5
"""Detections with a lower score are ignored."""
HOLD = 8
"""A frame without boxes takes those of the nearest earlier frame that has some, at most this many frames back."""

_SCHEMA = pa.schema(
    [("video_id", pa.string()), ("frame", pa.int32())]
    + [(name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")]
    + [("kind", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
)
_SLACK = 1.0
"""Pixels by which a box may leave its frame; it is clipped then."""
_PIECE = 2**18
"""Rows in memory at once while a table is checked."""

Corners = NDArray[np.float32]
"""Rows x1, y1, x2, y2."""
Sizes = NDArray[np.int64] | int
"""A side of the frame of each box, or of all."""


class BoxTable:
    """Person boxes by video and frame, in pixels of the decoded frames. Heads and unsure detections are left out."""

    def __init__(self, table: pd.DataFrame) -> None:
        """
        Args:
            table: checked rows, in any order.
        """
        sure = _persons(table)
        codes, ids = pd.factorize(sure["video_id"])  # sorting names by the million takes seconds
        frames = sure["frame"].to_numpy(np.int64)
        order = np.lexsort((frames, codes))
        self._boxes = sure[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)[order]
        self._frames = frames[order]
        ends = np.searchsorted(codes[order], np.arange(len(ids) + 1)).tolist()
        self._rows = {str(name): (ends[i], ends[i + 1]) for i, name in enumerate(ids)}

    @classmethod
    def read(cls, path: Path, videos: Sequence[Video]) -> BoxTable:
        """The boxes in a file, which must be boxes of these videos. Raises like `checked_rows`."""
        return cls(pd.concat([_persons(rows) for rows in checked_rows(path, videos)], ignore_index=True))

    def __len__(self) -> int:
        return len(self._boxes)

    def at(self, video_id: str, frames_T: NDArray[np.int64]) -> Corners:
        """(T, M, 4): the boxes of each frame, padded with zeros."""
        first, last = self._rows.get(video_id, (0, 0))
        numbers = self._frames[first:last]
        stop = np.searchsorted(numbers, frames_T, "right")
        latest = numbers[stop - 1] if len(numbers) else np.zeros_like(frames_T)
        start = np.where((stop > 0) & (frames_T - latest <= HOLD), np.searchsorted(numbers, latest, "left"), stop)
        count = stop - start
        slots = np.arange(max(1, count.max()))
        filled = slots < count[:, None]
        rows = np.where(filled, first + start[:, None] + slots, 0)
        boxes = self._boxes[rows] if len(self._boxes) else np.zeros((*rows.shape, 4), np.float32)
        return np.where(filled[:, :, None], boxes, np.float32(0))

    def frames_without(self, videos: Iterable[Video]) -> int:
        """How many frames of these videos `at` has no box for."""
        return sum(video.frames - self._covered(video) for video in videos)

    def _covered(self, video: Video) -> int:
        first, last = self._rows.get(video.video_id, (0, 0))
        numbers = np.unique(self._frames[first:last])
        following = np.append(numbers[1:], video.frames)[: len(numbers)]
        return int((np.minimum(numbers + HOLD + 1, following) - numbers).sum())


def share_without(sides: Iterable[tuple[BoxTable | None, Sequence[Video]]]) -> float:
    """The share of frames without a box, over videos with the table of their benchmark, or None if it has none."""
    without = total = 0
    for table, videos in sides:
        frames = sum(video.frames for video in videos)
        without += frames if table is None else table.frames_without(videos)
        total += frames
    return without / max(1, total)


def checked_rows(path: Path, videos: Sequence[Video]) -> Iterator[pd.DataFrame]:
    """The rows of a table of boxes, piece by piece: checked, clipped to their frames, with the columns of the module.

    Args:
        path: a parquet file; further columns are ignored.
        videos: all videos of the benchmark. A video without rows is one without boxes.

    Raises:
        UserError: no such file, columns that do not fit, or a row that cannot be true of these videos; it is named by
            its video and its number, from 0.
        WorkError: the file is damaged.
    """
    if not path.is_file():
        raise UserError(f"cannot read {path}", "there is no such file", "check the path")
    known = {video.video_id: video for video in videos}
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            first = 0
            for batch in file.iter_batches(_PIECE, columns=_SCHEMA.names):
                rows = _typed(path, batch)
                _check(path, rows, first, known)
                first += len(rows)
                yield _clipped(rows)
            if first == 0:
                yield _SCHEMA.empty_table().to_pandas()
    except (pa.ArrowException, OSError) as error:
        why = f"it is no parquet file, or damaged ({str(error).splitlines()[0]})"
        raise WorkError(f"cannot read {path}", why, "restore it or make it again") from error


def write_rows(path: Path, pieces: Iterable[pd.DataFrame]) -> None:
    """Write a table of boxes from its pieces, whole or not at all."""
    with atomic_path(path, fsync=True) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
        held: list[pa.Table] = []
        for rows in pieces:
            held.append(pa.Table.from_pandas(rows, _SCHEMA, preserve_index=False))
            if sum(map(len, held)) >= _PIECE:  # a row group per video would be mostly headers
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))


def fault(corners_M4: NDArray[np.float64], score_M: NDArray[np.float64], width: int, height: int) -> str | None:
    """What is wrong with the boxes that a detector found in a frame; None if nothing."""
    for name, wrong_M in _box_faults(corners_M4, score_M, width, height):
        if wrong_M.any():
            row = int(wrong_M.argmax())
            return f"box {row} {name}: {_box_text(corners_M4[row], score_M[row])} in {width} x {height} pixels"
    return None


def clip_corners(corners_M4: NDArray[np.float64], width: Sizes, height: Sizes) -> Corners:
    """Boxes clipped to their frames."""
    limits = np.stack([width, height, width, height], axis=-1)
    return np.clip(corners_M4, 0, limits).astype(np.float32)


def _persons(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["kind"] == PERSON) & (rows["score"] >= SURE)]


def _check_columns(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in _SCHEMA.names if name not in names]
    if missing:
        raise UserError(
            f"{path} is no table of boxes",
            f"it has no column {', '.join(missing)}",
            f"give it the columns {', '.join(_SCHEMA.names)}",
        )
    if twice := next((name for name in _SCHEMA.names if list(names).count(name) > 1), None):
        raise UserError(f"{path} is no table of boxes", f"column {twice} is there twice", "leave one of them out")


def _typed(path: Path, batch: pa.RecordBatch) -> pd.DataFrame:
    """The columns as `_SCHEMA` says; a missing number becomes NaN, a missing text None, a missing whole number -1."""
    columns = {}
    for field in _SCHEMA:
        column = batch.column(batch.schema.get_field_index(field.name))
        try:
            # Not float32 yet: an absurd value must be seen as it is.
            typed = column.cast(pa.float64() if pa.types.is_floating(field.type) else field.type)
        except pa.ArrowException as error:
            raise UserError(
                f"{path} is no table of boxes",
                f"column {field.name} holds {column.type}, of which some are not {field.type}",
                "convert it",
            ) from error
        if pa.types.is_integer(field.type):
            typed = typed.fill_null(-1)
        columns[field.name] = typed.to_pandas()
    return pd.DataFrame(columns)


def _check(path: Path, rows: pd.DataFrame, first: int, known: dict[str, Video]) -> None:
    """Refuse rows that cannot be true of the known videos."""
    codes, ids = pd.factorize(rows["video_id"], use_na_sentinel=False)
    videos = [known.get(video_id) for video_id in ids]
    frames, width, height = (
        np.array([-1 if v is None else getattr(v, name) for v in videos], np.int64)[codes]
        for name in ("frames", "width", "height")
    )
    frame = rows["frame"].to_numpy(np.int64)
    resized = (rows["width"].to_numpy() != width) | (rows["height"].to_numpy() != height)
    corners, score = rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float64), rows["score"].to_numpy(np.float64)
    faults: list[tuple[str, NDArray[np.bool_], str]] = [
        ("is of a video that the index does not have", frames < 0, "leave its rows out"),
        ("is of another frame size than the indexed one", resized, "scale the boxes to the decoded frames"),
        ("is of a frame that the video does not have", (frame < 0) | (frame >= frames), "count frames from 0"),
        (f"is of no kind of {', '.join(KINDS)}", ~rows["kind"].isin(KINDS).to_numpy(bool), "name it person or head"),
        *((name, wrong, _MENDS[name]) for name, wrong in _box_faults(corners, score, width, height)),
    ]
    for name, wrong, mend in faults:
        if wrong.any():
            at = int(wrong.argmax())
            row = rows.iloc[at]
            video = f"video {row['video_id']}, frame {row['frame']}"
            size = f"{row['kind']} of {row['width']} x {row['height']} pixels"
            raise UserError(
                f"{path} holds no boxes of these videos",
                f"row {first + at} ({video}: {_box_text(corners[at], score[at])}, {size}) {name}",
                f"{mend}, or make the table anew by 'stp-bench data boxes'",
            )


_MISSING, _UNLIKELY, _INVERTED, _OUTSIDE = (
    "has a corner or score that is no finite number",
    "has a score outside 0 to 1",
    "is inverted or empty",
    "leaves its frame by more than a pixel",
)
_MENDS = {
    _MISSING: "leave such rows out",
    _UNLIKELY: "scale the scores",
    _INVERTED: "put the corners in the order x1 < x2, y1 < y2",
    _OUTSIDE: "give pixels of the decoded frames, clipped to them",
}


def _box_faults(
    corners_M4: NDArray[np.float64], score_M: NDArray[np.float64], width: Sizes, height: Sizes
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each way in which a box can be wrong, and which of them are."""
    x1, y1, x2, y2 = corners_M4.T
    yield _MISSING, ~(np.isfinite(corners_M4).all(axis=1) & np.isfinite(score_M))
    yield _UNLIKELY, (score_M < 0) | (score_M > 1)
    yield _INVERTED, (x2 <= x1) | (y2 <= y1)
    yield _OUTSIDE, (np.minimum(x1, y1) < -_SLACK) | (x2 > width + _SLACK) | (y2 > height + _SLACK)


def _box_text(corners_4: NDArray[np.float64], score: float) -> str:
    return f"({', '.join(f'{value:g}' for value in corners_4)}), score {score:g}"


def _clipped(rows: pd.DataFrame) -> pd.DataFrame:
    """Boxes cut at the borders of their frames; what lay outside altogether, by less than a pixel, is gone."""
    whole = rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    corners = clip_corners(whole, rows["width"].to_numpy(np.int64), rows["height"].to_numpy(np.int64))
    filled = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    rows[["x1", "y1", "x2", "y2"]] = corners
    return rows[filled].astype({"score": np.float32})
