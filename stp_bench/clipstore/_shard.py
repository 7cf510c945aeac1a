"""The file format of the store: one shard holds the frames of some videos.

::

    "STPCLIP1"                          8 bytes
    frames                              raw RGB or JPEG, video after video, frame after frame
    frame positions                     JPEG only: int64, one per frame and one past the last, video after video
    table                               JSON: {"decoder": ..., "videos": [Entry, ...]}
    position and CRC-32 of the table    <QI
    "STPCLIP1"                          8 bytes

A shard is written under a temporary name and renamed, so that one with a final name is whole; the CRC-32 of a video's
frames is checked when it is first read.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stp_bench.errors import WorkError

MAGIC = b"STPCLIP1"
_TAIL = struct.Struct("<QI8s")
_POSITION = np.dtype("<i8")
_JPEG_QUALITY = 95

Encoding = Literal["raw", "jpeg"]
Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One video of a shard. Where it could not be stored, ``problem`` says why and the sizes are 0."""

    video_id: str
    source: tuple[int, int] | None
    """Bytes and modification time (ns) of the file that was read; None where it was missing."""
    problem: str | None = None
    changed: bool = False
    """The file is readable, but not the one that was indexed."""
    frames: int = 0
    """Decoded frames of the source."""
    source_height: int = 0
    source_width: int = 0
    kept: int = 0
    """Stored frames."""
    height: int = 0
    width: int = 0
    start: int = 0
    """Position of the first stored frame."""
    stop: int = 0
    positions: int = 0
    """Where its frame positions begin (JPEG)."""
    crc32: int = 0


class ShardWriter:
    """Appends videos to an open file."""

    def __init__(self, handle: IO[bytes], encoding: Encoding) -> None:
        self._handle, self._encoding = handle, encoding
        self._entries: list[Entry] = []
        self._positions: list[NDArray[Any]] = []
        handle.write(MAGIC)

    def add(self, entry: Callable[[], Entry], frames: Iterable[Frames]) -> None:
        """Store the frames of a video; an error while they are read leaves the shard as it was before.

        ``entry`` is asked for what is known of the video after its last frame.
        """
        start = self._handle.tell()
        positions, crc, height, width = [start], 0, 0, 0
        try:
            for frame in frames:
                content = frame.tobytes() if self._encoding == "raw" else _jpeg(frame)
                self._handle.write(content)
                crc, height, width = zlib.crc32(content, crc), frame.shape[0], frame.shape[1]
                positions.append(positions[-1] + len(content))
        except BaseException:
            self._handle.seek(start)
            self._handle.truncate()
            raise
        self._positions.append(np.array(positions, _POSITION))
        stop = positions[-1]
        stored = replace(
            entry(), kept=len(positions) - 1, height=height, width=width, start=start, stop=stop, crc32=crc
        )
        self._entries.append(stored)

    def add_problem(self, entry: Entry) -> None:
        """Record a video that could not be stored."""
        self._entries.append(entry)
        self._positions.append(np.zeros(0, _POSITION))

    def finish(self, decoder: str) -> None:
        """Write positions and table."""
        entries = []
        if self._encoding == "jpeg":
            self._handle.write(bytes(-self._handle.tell() % 8))
        for entry, positions in zip(self._entries, self._positions, strict=True):
            at = self._handle.tell() if self._encoding == "jpeg" else 0
            if self._encoding == "jpeg":
                self._handle.write(positions.tobytes())
            entries.append({**asdict(entry), "positions": at})
        table_at = self._handle.tell()
        table = json.dumps({"decoder": decoder, "videos": entries}, ensure_ascii=False).encode()
        self._handle.write(table + _TAIL.pack(table_at, zlib.crc32(table), MAGIC))


class Shard:
    """A finished shard, open for reading. Nothing but its table is held in memory."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        """Read the table.

        Raises:
            WorkError: the file is no whole shard.
            FileNotFoundError: there is none.
        """
        self.path, self._encoding = path, encoding
        self._checked: set[str] = set()
        with path.open("rb") as handle:
            self.bytes = handle.seek(0, 2)
            handle.seek(max(0, self.bytes - _TAIL.size))
            tail = handle.read(_TAIL.size)
            if len(tail) < _TAIL.size or tail[-len(MAGIC) :] != MAGIC:
                raise self._damaged()
            at, crc, _ = _TAIL.unpack(tail)
            handle.seek(min(at, self.bytes))
            table = handle.read()[: -_TAIL.size]
        if zlib.crc32(table) != crc:
            raise self._damaged()
        content = json.loads(table)
        self.decoder: str = content["decoder"]
        self.entries = [Entry(**{**e, "source": e["source"] and tuple(e["source"])}) for e in content["videos"]]

    @cached_property
    def _map(self) -> NDArray[np.uint8]:
        # The plain array that views the map: each slice of a np.memmap object would cost ten microseconds more.
        return np.asarray(np.memmap(self.path, np.uint8, mode="r")).view(np.ndarray)

    def view(self, entry: Entry) -> Frames:
        """All stored frames of a video, (kept, H, W, 3), as a view of the file (raw shards only)."""
        self._check(entry)
        shape = (entry.kept, entry.height, entry.width, 3)
        return self._map[entry.start : entry.stop].reshape(shape)

    def decode(self, entry: Entry, number: int) -> Frames:
        """One stored frame, HWC RGB (JPEG shards only)."""
        import cv2

        self._check(entry)
        span = self._map[entry.positions + 8 * number : entry.positions + 8 * (number + 2)].view(_POSITION)
        image = cv2.imdecode(self._map[span[0] : span[1]], cv2.IMREAD_COLOR)
        if image is None:
            raise self._damaged()
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _check(self, entry: Entry) -> None:
        """Compare a video's frames with their checksum when they are read for the first time."""
        if entry.video_id in self._checked:
            return
        if zlib.crc32(self._map[entry.start : entry.stop].data) != entry.crc32:
            raise self._damaged()
        self._checked.add(entry.video_id)

    def _damaged(self) -> WorkError:
        return WorkError(
            f"{self.path} is damaged", "its checksum does not fit", "delete it and run again: it is then made anew"
        )


def _jpeg(frame: Frames) -> bytes:
    """Quality 95 without color subsampling: what attackers look at is often a matter of color."""
    import cv2

    options = [
        cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1].tobytes()
