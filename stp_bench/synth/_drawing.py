"""A video that can be drawn, and a data set of them: what the writer knows, whatever the pictures show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from stp_bench.synth._figure import Frame
from stp_bench.synth._motions import Array
from stp_bench.synth._plan import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One video to be made. Its functions can be sent to another process."""

    video_id: str
    sizes: Sizes
    frames: Callable[[], Iterator[Frame]]
    """The pictures (H x W x 3 RGB), in order."""
    boxes: Callable[[], Array]
    """P x T x 2 x 4: person and head box (x1, y1, x2, y2) of each person; clipped to the picture, so perhaps empty."""

    @property
    def relpath(self) -> str:
        """Where the file goes, relative to the data set's folder."""
        return f"videos/{self.video_id}.avi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a data set's folder will hold, before any pixel."""

    drawings: tuple[Drawing, ...]
    """Sorted by id."""
    label_files: Mapping[str, bytes]
    """Path relative to the folder to content."""
