"""Reading and writing video files.

Frames carry their number as eight black or white squares, so that a wrong frame shows whatever a lossy codec does.
"""

import os
import random
import re
import subprocess
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from stp_bench import video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.video_io import probe, read_frames, resize_frame, video_writer, write_video

HEIGHT, WIDTH = 48, 96
DECODERS = [
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not find_spec("decord"), reason="decord is not installed")),
]
SHARED = Path(os.environ.get("STP_BENCH_SHARED", Path(__file__).parents[3] / "shared"))


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame that moves and carries its number."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([(x * 2 + number) % 200, (y * 3) % 200, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    for bit in range(8):
        frame[4:16, 4 + 11 * bit : 13 + 11 * bit] = 255 if number >> bit & 1 else 0
    return frame


def number_of(frame: np.ndarray) -> int:
    return sum(1 << bit for bit in range(8) if frame[8:12, 7 + 11 * bit : 10 + 11 * bit].mean() > 127)


def encode(path: Path, count: int, codec: str = "mpeg4", b_frames: int = 0) -> Path:
    """A video as other tools write it, B-frames included."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 400_000
        stream.codec_context.max_b_frames = b_frames
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def b_frames(tmp_path_factory) -> Path:
    path = encode(tmp_path_factory.mktemp("video") / "b.avi", 93, b_frames=2)
    with av.open(str(path)) as container:
        assert 3 in {int(frame.pict_type) for frame in container.decode(video=0)}, "3 is FFmpeg's B"
    return path


@pytest.mark.parametrize("decoder", DECODERS)
def test_all_frames_of_a_file_with_b_frames_come_in_order(b_frames, decoder):
    assert [number_of(f) for f in read_frames(b_frames, decoder=decoder)] == list(range(93))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("stride", [2, 4, 7])
def test_strided_reads_of_a_file_with_b_frames_give_the_frames_asked_for(b_frames, decoder, start, stride):
    chosen = range(start, 93, stride)
    assert [number_of(f) for f in read_frames(b_frames, decoder=decoder, chosen=chosen)] == list(chosen)


@pytest.mark.parametrize("decoder", DECODERS)
def test_random_reads_of_a_file_with_b_frames_give_the_frames_asked_for(b_frames, decoder):
    for seed in range(5):
        chosen = set(random.Random(seed).sample(range(93), 8))
        assert [number_of(f) for f in read_frames(b_frames, decoder=decoder, chosen=chosen)] == sorted(chosen)


@pytest.mark.skipif(not find_spec("decord"), reason="decord is not installed")
@pytest.mark.parametrize("width", [16, 17, 47, 48, 50, 80, 96, 171])
def test_the_two_decoders_agree_to_the_pixel(tmp_path, width):
    write_video(tmp_path / "v.avi", [numbered(n, 36, width) for n in range(5)], 25, codec="mpeg4")
    pairs = zip(read_frames(tmp_path / "v.avi"), read_frames(tmp_path / "v.avi", decoder="decord"), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_probe_says_what_decoding_shows(b_frames, decoder):
    facts = probe(b_frames, decoder)
    assert (facts.frames, facts.height, facts.width, facts.fps) == (93, HEIGHT, WIDTH, 30)
    assert facts.decoder.startswith(decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_video_of_one_frame_is_a_video(tmp_path, decoder):
    write_video(tmp_path / "one.avi", [numbered(7)], 25, codec="mpeg4")
    assert probe(tmp_path / "one.avi", decoder).frames == 1
    assert [number_of(f) for f in read_frames(tmp_path / "one.avi", decoder=decoder)] == [7]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("share", [0.03, 0.33, 0.5, 0.8, 0.9])
@pytest.mark.parametrize(("suffix", "codec", "b"), [("avi", "mpeg4", 0), ("avi", "mpeg4", 2), ("mp4", "libx264", 2)])
def test_a_truncated_file_is_reported_wherever_it_is_cut(tmp_path, decoder, share, suffix, codec, b):
    whole = encode(tmp_path / f"whole.{suffix}", 60, codec, b).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WorkError, match=re.escape(str(cut))):
        probe(cut, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_cut_between_two_packets_is_truncated_too(b_frames, tmp_path, decoder):
    with av.open(str(b_frames)) as container:
        starts = [p.pos for p in container.demux(video=0) if p.size]
    for start in (starts[40], starts[60] + 2):
        cut = tmp_path / "cut.avi"
        cut.write_bytes(b_frames.read_bytes()[:start])
        with pytest.raises(WorkError, match="truncated"):
            probe(cut, decoder)


def test_an_avi_that_lost_only_its_index_is_whole(b_frames, tmp_path):
    content = b_frames.read_bytes()
    (tmp_path / "v.avi").write_bytes(content[: content.rindex(b"idx1")])
    assert probe(tmp_path / "v.avi").frames == 93


def test_frames_before_the_damage_are_delivered_before_it_is_reported(b_frames, tmp_path):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(b_frames.read_bytes()[: b_frames.stat().st_size // 2])
    frames = read_frames(cut)
    assert number_of(next(frames)) == 0
    with pytest.raises(WorkError):
        list(frames)


def test_damage_inside_a_file_is_reported(b_frames, tmp_path):
    content = bytearray(b_frames.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = random.Random(0).randbytes(300)
    (tmp_path / "damaged.avi").write_bytes(content)
    with pytest.raises(WorkError, match=r"damaged|invalid"):
        probe(tmp_path / "damaged.avi")


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_real_corrupt_clip_is_reported(decoder):
    clip = SHARED / "data/clips/corrupted.mp4"
    if not clip.exists():
        pytest.skip("the real clips are not here")
    with pytest.raises(WorkError, match="cannot read"):
        probe(clip, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_no_video_is_named_with_a_reason_and_without_noise(tmp_path, decoder, capfd):
    (tmp_path / "empty.avi").touch()
    (tmp_path / "text.avi").write_text("not a video\n" * 100)
    (tmp_path / "folder.avi").mkdir()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    reasons = {
        "empty.avi": "the file is empty",
        "text.avi": "invalid data",
        "folder.avi": "is a directory",
        "sound.wav": "no video stream",
        "missing.avi": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(WorkError, match=reason) as caught:
            probe(tmp_path / name, decoder)
        assert name in caught.value.what
        with pytest.raises(WorkError, match=reason):
            list(read_frames(tmp_path / name, decoder=decoder))
    assert capfd.readouterr() == ("", "")


def test_a_playlist_that_poses_as_a_video_opens_no_network_address(tmp_path):
    playlist = tmp_path / "video.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(WorkError, match="cannot read"):
        probe(playlist)


@pytest.mark.parametrize("name", ["#1.avi", "a[b]&c;d.avi", "-x.avi", "http:x.avi", "%03d.avi", "a b~é.avi"])
def test_names_are_taken_as_they_are(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), [numbered(3)] * 2, 25, codec="mpeg4")
    assert probe(Path(name)).frames == 2


@pytest.mark.skipif(not hasattr(av.stream, "Disposition"), reason="this PyAV cannot write such a file")
def test_the_default_of_several_video_streams_is_read(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream, scale in zip(streams, (1, 2), strict=True):
            stream.width, stream.height, stream.pix_fmt = WIDTH * scale, HEIGHT * scale, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default
        for number in range(5):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(numbered(number, stream.height, stream.width), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert probe(path).height == 2 * HEIGHT
    assert next(read_frames(path)).shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_frames_are_resized_on_request(b_frames):
    frames = list(read_frames(b_frames, size=(24, 48), chosen={0, 92}))
    assert [f.shape for f in frames] == [(24, 48, 3)] * 2


def test_shrinking_averages_areas_and_equal_sizes_change_nothing():
    frame = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    means = frame.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize_frame(frame, (4, 6)) - means).max() <= 0.5
    assert resize_frame(frame, (8, 12)) is frame


def test_an_unknown_decoder_is_a_user_error_that_names_the_near_one(b_frames):
    with pytest.raises(UserError, match="did you mean pyav"):
        probe(b_frames, "pyavv")
    with pytest.raises(UserError, match="did you mean decord"):
        read_frames(b_frames, decoder="decrod")


def test_a_decoder_that_is_not_installed_is_a_user_error(b_frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UserError, match="not installed"):
        probe(b_frames, "decord")


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.avi", "mpeg4")])
def test_written_frames_come_back(tmp_path, name, codec):
    frames = [numbered(n) for n in range(40)]
    write_video(tmp_path / name, iter(frames), Fraction(30000, 1001), codec=codec)
    facts = probe(tmp_path / name)
    assert (facts.frames, facts.height, facts.width) == (40, HEIGHT, WIDTH)
    assert facts.fps == pytest.approx(29.97, abs=0.01)
    read = list(read_frames(tmp_path / name))
    assert [number_of(f) for f in read] == list(range(40))
    shift = np.mean(read, axis=(0, 1, 2)) - np.mean(frames, axis=(0, 1, 2))
    assert np.abs(shift).max() < 4, "colors must not shift"


@pytest.mark.parametrize(("height", "width"), [(47, 95), (47, 96), (48, 95)])
def test_h264_pads_an_odd_side_with_its_last_pixels_and_mpeg4_keeps_it(tmp_path, height, width):
    frames = [numbered(n)[:height, :width] for n in range(3)]
    write_video(tmp_path / "odd.mp4", frames, 25)
    write_video(tmp_path / "odd.avi", frames, 25, codec="mpeg4")
    padded = probe(tmp_path / "odd.mp4")
    assert (padded.height, padded.width) == (height + height % 2, width + width % 2)
    assert (probe(tmp_path / "odd.avi").height, probe(tmp_path / "odd.avi").width) == (height, width)
    assert [number_of(f) for f in read_frames(tmp_path / "odd.mp4")] == [0, 1, 2]


def test_an_mp4_is_what_players_expect(tmp_path):
    write_video(tmp_path / "v.mp4", [numbered(n) for n in range(10)], 25)
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "playback must start before the file is loaded"
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert [s.type for s in container.streams] == ["video"]
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize(
    ("name", "codec", "bitrate"), [("v.avi", "mpeg4", 80_000), ("v.avi", "mpeg4", None), ("v.mp4", "libx264", None)]
)
def test_equal_frames_give_equal_bytes(tmp_path, name, codec, bitrate):
    frames, contents, ballast = [numbered(n, 36, 48) for n in range(40)], set(), []
    for round_ in range(8):
        ballast.append(np.full(30_011 * (round_ + 1), round_, np.uint8))  # other memory, other leftovers in it
        write_video(tmp_path / name, frames, 25, codec=codec, bitrate=bitrate)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


def test_a_lower_bitrate_makes_a_smaller_file(tmp_path):
    frames = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), dtype=np.uint8) for n in range(30)]
    for bitrate in (100_000, 2_000_000):
        write_video(tmp_path / f"{bitrate}.avi", frames, 25, codec="mpeg4", bitrate=bitrate)
    assert (tmp_path / "100000.avi").stat().st_size < (tmp_path / "2000000.avi").stat().st_size / 2


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "v.mp4"
    write_video(target, [numbered(1)], 25)
    before = target.read_bytes()
    with pytest.raises(ValueError, match="frame 1"):
        write_video(target, [numbered(0), numbered(1)[:20]], 25)
    with pytest.raises(WorkError, match="no frames"):
        write_video(target, [], 25)
    with pytest.raises(RuntimeError, match="stopped"), video_writer(target, 25) as write:
        write(numbered(0))
        raise RuntimeError("stopped")
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_the_disk_refuses_is_a_work_error(tmp_path):
    pytest.importorskip("resource")
    script = (
        "import resource, numpy as np; from pathlib import Path; from stp_bench.video_io import write_video\n"
        "from stp_bench.errors import WorkError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); noise = np.random.default_rng(0)\n"
        "frames = (noise.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(30))\n"
        f"try: write_video(Path({str(tmp_path / 'v.avi')!r}), frames, 25, codec='mpeg4')\n"
        "except WorkError as error: print(error.what)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"cannot write {tmp_path / 'v.avi'}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_work_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="cannot write"):
        write_video(tmp_path / "file" / "v.mp4", [numbered(0)], 25)


def test_the_decoder_version_is_named():
    assert video_io.decoder_version("pyav").startswith(f"pyav {av.__version__}")
