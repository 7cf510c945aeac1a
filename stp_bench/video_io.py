"""Reading and writing video files. The only module that knows PyAV and decord.

Every read decodes the whole clip in order and picks frames afterwards. Seeking is faster and wrong: on MPEG-4 files
with B-frames, the codec family of HMDB51 and UCF101, decoders that jump to a frame return a neighbor without an error.
Both decoders run on one thread, since the callers work on many videos at once.

What counts as unreadable: a container that cannot be opened, a packet that is cut short, a packet or frame that the
decoder could not decode cleanly (it would conceal the damage by repeating old pixels), a file without frames, and a
picture size that changes. Fewer frames than the header announces is no error by itself: header counts are hints.
decord conceals damage inside a packet without a word; with it only the container and the packets are checked.
Rotation flags are ignored: frames come as they are stored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stp_bench.errors import UserError, WorkError, unknown_name
from stp_bench.files import atomic_path

Decoder = Literal["pyav", "decord"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)
Codec = Literal["libx264", "mpeg4"]
Image = NDArray[np.uint8]
"""One RGB frame, HWC."""

# From PyAV 17 on color conversion starts a thread per core unless told otherwise; before, it had no such argument.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
# A playlist that poses as a video must not make the demuxer open network addresses.
_LOCAL_ONLY = {"protocol_whitelist": "file"}
_CRF = "18"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What decoding a whole file shows."""

    frames: int
    """Decoded frames; the container's own count is only a hint."""
    height: int
    width: int
    fps: float
    """Average frame rate that the container states; 0 where it states none."""
    decoder: str
    """Name and version of what decoded it."""


def read_frames(
    path: Path,
    *,
    decoder: str = "pyav",
    size: tuple[int, int] | None = None,
    chosen: Container[int] | None = None,
) -> Iterator[Image]:
    """The frames of a video in order, as RGB uint8 HWC arrays.

    Args:
        path: a video file with one or more video streams; the best one (as FFmpeg ranks them) is read.
        decoder: ``pyav`` or ``decord``.
        size: (height, width) to resize to with `resize_frame`.
        chosen: yield only frames whose number is in it. All are decoded, but only these are converted.

    Raises:
        UserError: unknown decoder, or one that is not installed.
        WorkError: the file is missing, empty, truncated or corrupt, or holds no frames. Damage at the end shows only
            after the frames before it were yielded.
    """
    frames = _reader(decoder)(path, range(2**62) if chosen is None else chosen)
    return frames if size is None else (resize_frame(frame, size) for frame in frames)


def resize_frame(frame: Image, size: tuple[int, int]) -> Image:
    """``frame`` at (height, width): averaged over areas where it shrinks, bilinear where it grows."""
    import cv2

    if frame.shape[:2] == size:
        return frame
    height, width = size
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=way), dtype=np.uint8)


def probe(path: Path, decoder: str = "pyav") -> VideoFacts:
    """Decode a whole file without converting its pixels, and say what it holds. Raises like `read_frames`."""
    named = decoder_version(decoder)
    if decoder == "decord":
        shapes = [frame.shape for frame in _read_decord(path, range(2**62))]
        with _opened(path) as (_, stream):
            height, width = shapes[0][:2]
            return VideoFacts(frames=len(shapes), height=height, width=width, fps=_rate(stream), decoder=named)
    with _opened(path) as (container, stream):
        size, count = (0, 0), 0
        for picture in _decoded(path, container, stream):
            size, count = (picture.height, picture.width), count + 1
        return VideoFacts(frames=count, height=size[0], width=size[1], fps=_rate(stream), decoder=named)


def decoder_version(decoder: str) -> str:
    """``pyav 18.1.0 (libavcodec 62.28.102)`` or ``decord 0.6.0``. Raises UserError for an unknown or missing one."""
    if decoder == "decord":
        _import_decord()
        return f"decord {version('decord')}"
    _reader(decoder)
    return f"pyav {av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"


def write_video(
    path: Path,
    frames: Iterable[Image],
    fps: Fraction | float,
    *,
    codec: Codec = "libx264",
    bitrate: int | None = None,
    quick: bool = False,
) -> None:
    """Encode ``frames``, consumed one by one, with `video_writer`."""
    with video_writer(path, fps, codec=codec, bitrate=bitrate, quick=quick) as write:
        for frame in frames:
            write(frame)


@contextmanager
def video_writer(
    path: Path, fps: Fraction | float, *, codec: Codec = "libx264", bitrate: int | None = None, quick: bool = False
) -> Iterator[Callable[[Image], None]]:
    """A function that appends RGB uint8 HWC frames of one size to a video, which appears whole or not at all.

    There is no audio. The suffix chooses the container; mp4 files start to play before they are loaded. The pixel
    format is yuv420p (BT.601, limited range), which every player shows. With H.264 it needs even sizes: an odd one is
    padded by repeating the last row or column. One encoding thread, so that equal frames give equal bytes with one
    build of FFmpeg.

    Args:
        path: target, replaced if it exists.
        fps: frame rate.
        codec: ``libx264`` (H.264) or ``mpeg4`` (MPEG-4 part 2, the family of DivX and Xvid).
        bitrate: bits per second; None for a constant quality without visible loss.
        quick: with H.264, a fifth of the time for larger files: for clips that are only looked at.

    Raises:
        WorkError: no frames were given, or the file cannot be written.
        ValueError: a frame is not uint8 RGB or not as large as the first one.
    """
    rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
    muxer = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov", ".m4v") else {}
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary.absolute()), "w", options=muxer) as container:
                stream = container.add_stream(codec, rate=rate, options=_quality(codec, bitrate, quick))
                stream.pix_fmt = "yuv420p"
                stream.codec_context.colorspace = 6  # SMPTE 170M: the matrix of the conversion
                stream.codec_context.color_range = 1  # limited
                stream.thread_count = 1
                if bitrate is not None:
                    stream.bit_rate = bitrate
                shape: tuple[int, ...] = ()
                count = 0

                def write(rgb: Image) -> None:
                    nonlocal shape, count
                    pad = [(0, side % 2 if codec == "libx264" else 0) for side in rgb.shape[:2]]
                    if not shape:
                        shape = (*rgb.shape[:2], 3)
                        stream.height, stream.width = (n + p[1] for n, p in zip(rgb.shape[:2], pad, strict=True))
                    if rgb.shape != shape or rgb.dtype != np.uint8:
                        raise ValueError(f"frame {count} is {rgb.dtype} {rgb.shape}, not uint8 {shape}")
                    full = np.ascontiguousarray(np.pad(rgb, [*pad, (0, 0)], "edge"))
                    frame = av.VideoFrame.from_ndarray(full, format="rgb24")
                    frame.pts, frame.time_base = count, 1 / rate
                    container.mux(stream.encode(frame))
                    count += 1

                yield write
                if not count:
                    raise WorkError(f"cannot write {path}", "there are no frames", "give at least one frame")
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise  # atomic_path explains failed writes
            raise WorkError(f"cannot write {path}", f"encoding failed ({error})", "check size and suffix") from error


def _quality(codec: str, bitrate: int | None, quick: bool) -> dict[str, str]:
    """Encoder options. x264's fastest rate control reads beyond its tables: without the switch, bytes vary by run."""
    steady = {"x264-params": "cpu-independent=1"} if codec == "libx264" else {}
    if quick and codec == "libx264":
        steady["preset"] = "ultrafast"
    if bitrate is not None:
        return steady
    return steady | ({"crf": _CRF} if codec == "libx264" else {"qmin": "2", "qmax": "2"})


def _reader(decoder: str) -> Callable[[Path, Container[int]], Iterator[Image]]:
    if decoder not in DECODERS:
        raise unknown_name("decoder", decoder, DECODERS)
    return _read_decord if decoder == "decord" else _read_pyav


def _read_pyav(path: Path, chosen: Container[int]) -> Iterator[Image]:
    # One converter per video keeps its scaling tables; a fresh one for each frame costs ten times as much.
    convert = VideoReformatter()
    with _opened(path) as (container, stream):
        for number, frame in enumerate(_decoded(path, container, stream)):
            if number in chosen:
                yield np.asarray(convert.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray(), dtype=np.uint8)


def _read_decord(path: Path, chosen: Container[int]) -> Iterator[Image]:
    decord = _import_decord()
    _check_packets(path)
    try:
        reader = decord.VideoReader(str(path.absolute()), num_threads=1)
        for number in range(len(reader)):  # reading one after another never seeks
            frame = reader.next()
            if number in chosen:
                yield _without_padding(frame.asnumpy())
    except StopIteration:
        return
    except (RuntimeError, decord.DECORDError) as error:  # their texts are stack traces of C++
        raise _unreadable(path, "decord cannot decode it") from error


def _without_padding(frame: Image) -> Image:
    """Undo decord's idea that padded rows of a narrow picture (48 pixels in 192 bytes) are further color channels."""
    height, width, channels = frame.shape
    if channels == 3:
        return frame
    return np.ascontiguousarray(frame.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)


def _import_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise UserError("decoder 'decord' is not installed", str(error), "use --decoder pyav") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its best video stream, ready to be decoded; FFmpeg's errors become WorkErrors that name it."""
    try:
        if path.stat().st_size == 0:
            raise _unreadable(path, "the file is empty")
        # An absolute path, lest a name with a colon be taken for a protocol; odd metadata is not our business.
        with av.open(str(path.absolute()), options=_LOCAL_ONLY, metadata_errors="ignore") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise _unreadable(path, "it has no video stream")
            stream.thread_count = 1
            yield container, stream
    except FileNotFoundError as error:
        raise WorkError(f"cannot read {path}", "there is no such file", "restore it or make the data again") from error
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(path, reason[:1].lower() + reason[1:]) from error


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """All frames in order; damage is an error at the frame where the decoder meets it."""
    count, size = 0, (0, 0)
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _unreadable(path, "it is truncated")
        for frame in packet.decode():
            if not isinstance(frame, av.VideoFrame):
                continue
            if frame.is_corrupt:
                raise _unreadable(path, f"frame {count} is damaged")
            if count and (frame.height, frame.width) != size:
                raise _unreadable(path, f"its picture size changes at frame {count}")
            size = frame.height, frame.width
            count += 1
            yield frame
    _check_end(path, count, stream.frames)


def _check_packets(path: Path) -> None:
    """Refuse a file whose packets are cut short, without decoding them."""
    with _opened(path) as (container, stream):
        count = 0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise _unreadable(path, "it is truncated")
            count += packet.size > 0
        _check_end(path, count, stream.frames)


def _check_end(path: Path, count: int, announced: int) -> None:
    if count == 0:
        raise _unreadable(path, "it holds no frames")
    if count < announced and _cut_short(path):
        raise _unreadable(path, f"it is truncated: {count} of {announced} frames are there")


def _cut_short(path: Path) -> bool:
    """Whether an AVI ends before its outer chunk does: a cut between two packets leaves no other trace."""
    with path.open("rb") as handle:
        head = handle.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return False
    return bool(struct.unpack("<I", head[4:])[0] + 8 > path.stat().st_size)


def _rate(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def _unreadable(path: Path, why: str) -> WorkError:
    return WorkError(f"cannot read {path}", why, "replace the file, or leave it out with --skip-unreadable")
