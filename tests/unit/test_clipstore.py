"""The clip store and its loaders, on small videos of several sizes and lengths."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_bench.boxes import BoxTable
from stp_bench.clips import crop_offsets
from stp_bench.clips import test_windows as windows_of_test
from stp_bench.clipstore import (
    Augment,
    Store,
    StoreRecipe,
    _store,
    center_batches,
    open_store,
    train_loader,
    view_batches,
)
from stp_bench.clipstore._shard import Entry, Shard
from stp_bench.clipstore._views import Rects, cut, random_rects
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.schema import Benchmark, ClipSpec, Target, Video
from stp_bench.video_io import probe, read_frames, resize_frame, write_video

ACTION = Target(name="action", kind="multiclass", classes=("run", "jump", "sit"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
RECIPE = StoreRecipe.for_crop(16, "raw")
CLIP = ClipSpec(frames=4, stride=2, size=16, sampling="exact")
SIZES = [(24, 32), (24, 32), (32, 24), (20, 20), (18, 40), (36, 48), (24, 32), (24, 32), (24, 32), (16, 22)]
LENGTHS = [20, 5, 9, 1, 12, 30, 8, 7, 16, 11]


def picture(seed: int, frame: int, height: int, width: int) -> np.ndarray:
    """Smooth color that moves."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + seed % 3) + y / (7 + c) + frame / 3 + seed + c) for c in range(3)]
    return (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def index(root: Path, boxes: pd.DataFrame | None = None, unlabelled: str | None = None) -> Dataset:
    """Index what lies in ``root/videos``."""
    videos, facts, parts = [], {}, {}
    for number, path in enumerate(sorted((root / "videos").iterdir())):
        found = probe(path)
        privacy = None if path.stem == unlabelled else (number % 2, number // 2 % 2)
        videos.append(
            Video(
                video_id=path.stem, relpath=f"videos/{path.name}", group=None, frames=found.frames,
                height=found.height, width=found.width, fps=found.fps,
                labels={"action": (number % 3,), "privacy": privacy},
            )
        )  # fmt: skip
        facts[path.stem] = (path.stat().st_size, sha256_file(path))
        parts[path.stem] = "test" if number % 3 == 0 else "train"
    benchmark = Benchmark(name="toy", title="Toy", version=1, targets=(ACTION, PRIVACY), stride=2, splits=1)
    write_index(root, benchmark, videos, {1: parts}, facts)
    if boxes is not None:
        boxes.to_parquet(root / "boxes.parquet", index=False)
    return read_index(root)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    for number, ((height, width), length) in enumerate(zip(SIZES, LENGTHS, strict=True)):
        frames = (picture(number, t, height, width) for t in range(length))
        write_video(root / "videos" / f"v{number}.avi", frames, 25, codec="mpeg4")
    index(root)
    return root


@pytest.fixture
def dataset(made, tmp_path) -> Dataset:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "toy")
    return read_index(tmp_path / "toy")


@pytest.fixture(scope="session")
def store(made, tmp_path_factory) -> Store:
    return open_store(read_index(made), RECIPE, tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(_store, "_SHARD_VIDEOS", 3)


def shards(home: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in home.rglob("*.bin")}


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)
    path.write_bytes(content)


# The store


def test_a_store_holds_every_frame_resized_and_nothing_else(store, made):
    for video in read_index(made).videos:
        entry = store.entry(video.video_id)
        size = RECIPE.stored_size(video.height, video.width)
        expected = [resize_frame(f, size) for f in read_frames(made / video.relpath)]
        assert (entry.frames, entry.height, entry.width) == (video.frames, *size)
        assert np.array_equal(store.read(video.video_id, np.arange(video.frames)), expected)
    assert len(store) == len(SIZES) and "v0" in store and "other" not in store


def test_the_short_side_is_eight_sevenths_of_the_crop_and_small_videos_keep_their_size():
    assert StoreRecipe.for_crop(112, "jpeg").side == 128
    assert StoreRecipe.for_crop(32, "raw").side == 36
    assert StoreRecipe.for_crop(112, "jpeg").stored_size(240, 320) == (128, 171)
    assert StoreRecipe.for_crop(112, "jpeg").stored_size(96, 100) == (96, 100)


def test_jpeg_frames_are_close_to_raw_ones(store, dataset, tmp_path):
    jpeg = open_store(dataset, StoreRecipe.for_crop(16, "jpeg"), tmp_path)
    for video in dataset.videos:
        numbers = np.arange(video.frames)
        gap = np.abs(jpeg.read(video.video_id, numbers).astype(int) - store.read(video.video_id, numbers))
        assert gap.mean() < 2
    assert jpeg.digest != store.digest


def test_repeated_frames_and_any_order_are_read_as_asked(store, dataset, tmp_path):
    jpeg = open_store(dataset, StoreRecipe.for_crop(16, "jpeg"), tmp_path)
    numbers = np.array([3, 3, 0, 19, 19, 7])
    for opened in (store, jpeg):
        each = [opened.read("v0", np.array([n]))[0] for n in numbers]
        assert np.array_equal(opened.read("v0", numbers), each)


def test_a_store_of_every_third_frame_rounds_down(store, dataset, tmp_path):
    sparse = open_store(dataset, StoreRecipe(side=18, encoding="raw", every=3), tmp_path)
    assert sparse.entry("v0").frames == 20 and sparse.entry("v0").kept == 7
    asked = np.array([0, 2, 3, 10, 19])
    assert np.array_equal(sparse.read("v0", asked), store.read("v0", asked // 3 * 3))
    assert sparse.bytes < store.bytes / 2


def test_the_number_of_workers_does_not_change_a_bit(dataset, tmp_path):
    alone = open_store(dataset, RECIPE, tmp_path / "a", workers=1)
    many = open_store(dataset, RECIPE, tmp_path / "b", workers=3)
    contents = [{n: c for n, (_, c) in shards(tmp_path / h).items()} for h in "ab"]
    assert contents[0] == contents[1] and len(contents[0]) == 4
    assert alone.digest == many.digest


@pytest.mark.skipif(not find_spec("decord"), reason="decord is not installed")
def test_another_decoder_makes_another_store_of_the_same_frames(store, dataset, tmp_path):
    other = open_store(dataset, StoreRecipe(side=18, encoding="raw", decoder="decord"), tmp_path)
    assert np.array_equal(other.read("v5", np.arange(30)), store.read("v5", np.arange(30)))
    assert other.digest != store.digest


def test_a_finished_store_is_opened_without_any_work(dataset, tmp_path):
    calls: list[tuple[int, int]] = []
    open_store(dataset, RECIPE, tmp_path, progress=lambda *c: calls.append(c))
    assert calls == [(n, 10) for n in range(1, 11)]
    before = shards(tmp_path)
    open_store(dataset, RECIPE, tmp_path, progress=lambda *c: calls.append(c))
    assert shards(tmp_path) == before and len(calls) == 10


def test_the_size_is_announced_before_anything_is_written(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "stp_bench"):
        store = open_store(dataset, RECIPE, tmp_path)
    (message,) = [r.getMessage() for r in caplog.records]
    assert "10 videos" in message and str(store.folder) in message
    estimate = _store._estimate(dataset.videos, RECIPE)
    assert estimate == pytest.approx(store.bytes, rel=0.1)


def test_a_disk_without_room_is_refused_and_nothing_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "free_bytes", lambda folder: 10_000)
    with pytest.raises(WorkError, match="no room") as caught:
        open_store(dataset, RECIPE, tmp_path)
    assert "10.0 kB are free" in str(caught.value)
    assert shards(tmp_path) == {}


def test_a_disk_that_fills_up_halfway_is_a_work_error_that_keeps_finished_shards(dataset, tmp_path):
    pytest.importorskip("resource")
    script = (
        "import resource; from pathlib import Path; from stp_bench.clipstore import StoreRecipe, open_store, _store\n"
        "from stp_bench.index import read_index; from stp_bench.errors import WorkError; _store._SHARD_VIDEOS = 3\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"dataset, home = read_index(Path({str(dataset.root)!r})), Path({str(tmp_path)!r})\n"
        "try: open_store(dataset, StoreRecipe.for_crop(16, 'raw'), home)\n"
        "except WorkError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot write") and "too large" in done.stdout
    kept = shards(tmp_path)
    assert len(open_store(dataset, RECIPE, tmp_path)) == 10
    assert kept.items() <= shards(tmp_path).items()


KILLED = """
import os, signal
from pathlib import Path
from stp_bench.clipstore import StoreRecipe, _store, open_store
from stp_bench.index import read_index
_store._SHARD_VIDEOS = 3
def stop(done, total):
    if done == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
dataset, recipe = read_index(Path({root!r})), StoreRecipe.for_crop(16, "raw")
open_store(dataset, recipe, Path({home!r}), workers={workers}, progress=stop)
"""


@pytest.mark.parametrize(("workers", "after"), [(1, 5), (2, 8)])
def test_a_killed_build_is_taken_up_again_and_ends_with_the_same_store(dataset, tmp_path, workers, after):
    script = KILLED.format(root=str(dataset.root), home=str(tmp_path / "a"), workers=workers, after=after)
    killed = subprocess.run([sys.executable, "-c", script])
    assert killed.returncode == -signal.SIGKILL
    whole = {n: s for n, s in shards(tmp_path / "a").items() if not n.startswith(".")}
    done = sum(len(Shard(path, "raw").entries) for path in tmp_path.rglob("[!.]*.bin"))
    calls: list[tuple[int, int]] = []
    resumed = open_store(dataset, RECIPE, tmp_path / "a", progress=lambda *c: calls.append(c))
    assert len(calls) == 10 - done, "only unfinished shards are made"
    assert done >= 3, "what was finished before the kill is kept"
    assert whole.items() <= shards(tmp_path / "a").items()
    fresh = open_store(dataset, RECIPE, tmp_path / "b")
    assert {n: c for n, (_, c) in shards(tmp_path / "a").items()} == {
        n: c for n, (_, c) in shards(tmp_path / "b").items()
    }
    assert resumed.digest == fresh.digest


def test_two_processes_that_want_one_store_make_it_once(dataset, tmp_path):
    script = (
        "import sys; from pathlib import Path; from stp_bench.clipstore import StoreRecipe, open_store, _store\n"
        "from stp_bench.index import read_index; _store._SHARD_VIDEOS = 3; calls = []\n"
        f"open_store(read_index(Path({str(dataset.root)!r})), StoreRecipe.for_crop(16, 'raw'), Path({str(tmp_path)!r}),"
        " progress=lambda *c: calls.append(c)); print(len(calls))"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(int(p.communicate()[0]) for p in both) == [0, 10]


def test_a_worker_that_dies_is_reported(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(WorkError, match="died"):
        open_store(dataset, RECIPE, tmp_path, workers=2)


def test_unreadable_videos_are_named_or_left_out_on_request(dataset, tmp_path):
    garble(dataset.root / "videos/v5.avi")
    (dataset.root / "videos/v6.avi").write_bytes(b"")
    (dataset.root / "videos/v8.avi").unlink()
    with pytest.raises(WorkError, match="cannot read 3 videos of toy") as caught:
        open_store(dataset, RECIPE, tmp_path)
    for fact in ("v5 (", "v6 (the file is empty)", "v8 (there is no such file)", "--skip-unreadable"):
        assert fact in str(caught.value)
    calls: list[tuple[int, int]] = []
    store = open_store(dataset, RECIPE, tmp_path, skip_unreadable=True, progress=lambda *c: calls.append(c))
    assert not calls, "what was decoded before the error is not decoded again"
    assert set(store.unreadable) == {"v5", "v6", "v8"}
    assert len(store) == 7 and "v5" not in store
    with pytest.raises(UserError, match="the file is empty"):
        store.entry("v6")


def test_a_restored_video_is_taken_in(dataset, made, tmp_path):
    (dataset.root / "videos/v8.avi").unlink()
    assert "v8" not in open_store(dataset, RECIPE, tmp_path, skip_unreadable=True)
    shutil.copy(made / "videos/v8.avi", dataset.root / "videos/v8.avi")
    assert "v8" in open_store(dataset, RECIPE, tmp_path)


@pytest.mark.parametrize("built_before", [True, False])
def test_a_replaced_video_is_noticed_until_the_data_are_prepared_again(dataset, tmp_path, built_before):
    if built_before:
        open_store(dataset, RECIPE, tmp_path)
    before = shards(tmp_path)
    write_video(dataset.root / "videos/v4.avi", [picture(9, t, 20, 30) for t in range(6)], 25, codec="mpeg4")
    with pytest.raises(WorkError, match=r"1 video of toy changed .*: v4.*make the data again"):
        open_store(dataset, RECIPE, tmp_path, skip_unreadable=True)
    again = open_store(index(dataset.root), RECIPE, tmp_path)
    assert again.entry("v4").frames == 6
    if built_before:
        assert len(shards(tmp_path)) == len(before) + 1, "only the shard with that video is made anew"


@pytest.mark.parametrize("built_before", [True, False])
def test_a_video_that_got_damaged_counts_as_unreadable_whenever_the_store_was_made(dataset, tmp_path, built_before):
    if built_before:
        open_store(dataset, RECIPE, tmp_path)
    garble(dataset.root / "videos/v5.avi")
    with pytest.raises(WorkError, match="cannot read 1 video of toy, v5"):
        open_store(dataset, RECIPE, tmp_path)
    assert list(open_store(dataset, RECIPE, tmp_path, skip_unreadable=True).unreadable) == ["v5"]


def test_a_touched_file_is_hashed_once_and_accepted(dataset, tmp_path, monkeypatch):
    open_store(dataset, RECIPE, tmp_path)
    os.utime(dataset.root / "videos/v4.avi", (1, 1))
    hashed = []
    monkeypatch.setattr(_store, "sha256_file", lambda path: hashed.append(path.stem) or sha256_file(path))
    for _ in range(2):
        assert len(open_store(dataset, RECIPE, tmp_path)) == 10
    assert hashed == ["v4"]


def test_stored_frames_that_rot_are_noticed_when_they_are_read(dataset, tmp_path):
    store = open_store(dataset, RECIPE, tmp_path)
    shard, entry = store._where["v5"]
    with shard.path.open("r+b") as handle:
        handle.seek(entry.start + 100)
        byte = handle.read(1)[0]
        handle.seek(entry.start + 100)
        handle.write(bytes([byte ^ 1]))
    store = open_store(dataset, RECIPE, tmp_path)
    store.read("v0", np.array([0]))
    with pytest.raises(WorkError, match="is damaged"):
        store.read("v5", np.array([0]))


def test_half_a_shard_is_made_anew(dataset, tmp_path, caplog):
    open_store(dataset, RECIPE, tmp_path)
    before = shards(tmp_path)
    spoiled = sorted(tmp_path.rglob("*.bin"))[0]
    spoiled.write_bytes(spoiled.read_bytes()[:1000])
    assert len(open_store(dataset, RECIPE, tmp_path)) == 10
    assert "is damaged; making it anew" in caplog.text
    assert {n: c for n, (_, c) in shards(tmp_path).items()} == {n: c for n, (_, c) in before.items()}


def test_building_does_not_load_torch():
    script = "import sys, stp_bench.clipstore, stp_bench.clipstore._worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


# Test views


def test_every_view_of_every_video_comes_once_and_is_the_interpolated_crop(store, made):
    videos = read_index(made).videos
    seen: list[int] = []
    views: dict[int, list[torch.Tensor]] = {}
    batches = view_batches(store, videos, CLIP, clips=5, crops=3, batch=8, device="cpu", boxes=False)
    sizes = []
    for numbers, clips in batches:
        assert clips.boxes_BTM4 is None and clips.x_BCTHW.dtype == torch.float32
        sizes.append(len(numbers))
        seen += numbers.tolist()
        for number, x in zip(numbers.tolist(), clips.x_BCTHW, strict=True):
            views.setdefault(number, []).append(x)
    assert seen == [v for v in range(len(videos)) for _ in range(15)]
    assert len(sizes) == len(batches) and sizes == [8] * 18 + [6]
    for number, video in enumerate(videos):
        plane, offsets = crop_offsets(video.height, video.width, 16)
        windows = windows_of_test(video.frames, CLIP)
        expected = []
        for window in windows:
            frames = torch.from_numpy(store.read(video.video_id, window)).permute(0, 3, 1, 2) / 255
            resized = torch.nn.functional.interpolate(frames, size=plane, mode="bilinear", align_corners=False)
            expected += [resized[:, :, top : top + 16, left : left + 16].transpose(0, 1) for top, left in offsets]
        assert torch.stack(views[number]).sub(torch.stack(expected)).abs().max() < 1e-5


def test_a_square_video_that_just_fills_a_window_gives_equal_views(store, made):
    videos = [v for v in read_index(made).videos if v.video_id == "v3"]
    ((_, clips),) = view_batches(store, videos, CLIP, batch=99, device="cpu", boxes=False)
    assert (clips.x_BCTHW == clips.x_BCTHW[:1]).all()


def test_the_central_view_is_the_middle_crop_of_the_middle_window(store, made):
    videos = read_index(made).videos
    found = list(center_batches(store, videos, CLIP, batch=4, device="cpu", boxes=False))
    assert torch.cat([n for n, _ in found]).tolist() == list(range(len(videos)))
    x = torch.cat([c.x_BCTHW for _, c in found])[0]
    frames = torch.from_numpy(store.read("v0", windows_of_test(20, CLIP, clips=1)[0])).permute(0, 3, 1, 2) / 255
    plane, ((top, left),) = crop_offsets(24, 32, 16, crops=1)
    resized = torch.nn.functional.interpolate(frames, size=plane, mode="bilinear", align_corners=False)
    assert (x - resized[:, :, top : top + 16, left : left + 16].transpose(0, 1)).abs().max() < 1e-5


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_cutting_is_bilinear_sampling_of_each_frame_alone(seed):
    rng = np.random.default_rng(seed)
    sides = rng.integers(3, 12, (2, 2))
    frames = rng.integers(0, 256, (2, 2, *sides.max(axis=0), 3), dtype=np.uint8)
    low = rng.random((3, 2)) * 2
    rects = Rects(np.hstack([low, 1 + rng.random((3, 2)) * 6]), rng.random(3) < 0.5)
    rows, size = np.array([1, 0, 1]), 5
    out = cut(torch.from_numpy(frames), sides, rows, rects, size).numpy()
    for b, row in enumerate(rows):
        top, left, height, width = rects.corners_B4[b]
        y = np.clip(top + (np.arange(size) + 0.5) * height / size - 0.5, 0, sides[row, 0] - 1)
        x = np.clip(left + (np.arange(size) + 0.5) * width / size - 0.5, 0, sides[row, 1] - 1)
        x = x[::-1] if rects.flip_B[b] else x
        picture = frames[row] / 255.0
        weigh = [
            np.maximum(0, 1 - np.abs(v[:, None] - np.arange(n)))
            for v, n in zip((y, x), picture.shape[1:3], strict=True)
        ]
        expected = np.einsum("ih,jw,thwc->ctij", *weigh, picture)
        assert np.abs(out[b] - expected).max() < 1e-5


# Training batches


def loader(
    store: Store, augment: Augment, clip: ClipSpec = CLIP, batch: int = 4, boxes: bool = False, seed: int = 0, **targets
):
    targets = {"action": ACTION, "privacy": PRIVACY} | targets
    return train_loader(
        store, store.dataset.videos, clip, augment, batch=batch, seed=seed, device="cpu", boxes=boxes, **targets
    )


def collect(batches) -> torch.Tensor:
    return torch.cat([b.clips.x_BCTHW for b in batches])


ALL_ON = Augment(crop_scale=0.5, color_jitter=0.1)


@pytest.mark.parametrize("augment", [Augment(), Augment(color_jitter=0.2), ALL_ON])
def test_an_epoch_number_gives_the_same_batches_whatever_was_loaded_before(store, augment):
    first, later = loader(store, augment), loader(store, augment)
    epochs = [collect(first(epoch)) for epoch in range(3)]
    assert torch.equal(collect(later(2)), epochs[2])
    assert torch.equal(collect(first(0)), epochs[0])
    again = first(1)
    assert torch.equal(collect(again), collect(again))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(collect(loader(store, augment, seed=1)(0)), epochs[0])


def test_threads_do_not_change_a_bit(dataset, tmp_path, monkeypatch):
    jpeg = open_store(dataset, StoreRecipe.for_crop(16, "jpeg"), tmp_path)
    results = []
    for cores in (1, 5):
        monkeypatch.setattr("stp_bench.clipstore._loader.cores", lambda n=cores: n)
        results.append(collect(loader(jpeg, ALL_ON, batch=2)(0)))
    assert torch.equal(*results)


def test_an_epoch_shows_every_video_once_with_its_own_labels(store):
    batches = loader(store, Augment(flip=False))(3)
    assert len(batches) == 3
    labelled = list(batches)
    assert [len(b.clips.x_BCTHW) for b in labelled] == [4, 4, 2], "no clip is dropped"
    videos = store.dataset.videos
    left = set(range(len(videos)))
    for batch in labelled:
        for x, action, privacy in zip(batch.clips.x_BCTHW, batch.action_B, batch.privacy_BK, strict=True):
            (match,) = [v for v in left if appears(x, store, v)]
            left.remove(match)
            assert action.item() == videos[match].labels["action"][0]
            assert tuple(privacy.int().tolist()) == videos[match].labels["privacy"]
    assert not left
    assert labelled[0].action_B.dtype == torch.int64 and labelled[0].privacy_BK.dtype == torch.float32


def appears(x_CTHW: torch.Tensor, store: Store, number: int) -> bool:
    """Whether a clip is an exact crop of a video: its first frame is somewhere in it, unscaled."""
    entry = store.entry(store.dataset.videos[number].video_id)
    wanted = (x_CTHW[:, 0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    frames = store.read(entry.video_id, np.arange(entry.frames))
    windows = np.lib.stride_tricks.sliding_window_view(frames, (16, 16, 3), axis=(1, 2, 3))
    return bool((windows == wanted).all(axis=(-1, -2, -3)).any())


def test_a_plain_crop_is_cut_without_resampling_and_mirrored_half_the_time(store):
    video = [v for v in store.dataset.videos if v.video_id == "v0"]
    frames = store.read("v0", np.arange(20))
    load = train_loader(
        store, video, CLIP, Augment(), batch=1, seed=0, device="cpu", action=None, privacy=None, boxes=False
    )
    mirrored, corners = 0, set()
    windows = np.lib.stride_tricks.sliding_window_view(frames, (16, 16, 3), axis=(1, 2, 3))
    for epoch in range(60):
        (batch,) = load(epoch)
        clip = (batch.clips.x_BCTHW[0].permute(1, 2, 3, 0) * 255).numpy().round().astype(np.uint8)
        spots = [np.argwhere((windows == c).all(axis=(-1, -2, -3))) for c in (clip[0], clip[0][:, ::-1])]
        assert sum(map(len, spots)) == 1
        flipped = bool(len(spots[1]))
        start, top, left, _ = spots[flipped][0]
        expected = frames[start : start + 8 : 2, top : top + 16, left : left + 16]
        assert np.array_equal(clip[:, :, ::-1] if flipped else clip, expected)
        mirrored += flipped
        corners.add((top, left))
    assert 15 < mirrored < 45 and len(corners) > 8


def test_random_resized_crops_keep_to_area_and_aspect():
    entries = [Entry(video_id="v", source=None, height=128, width=171)] * 500
    rects = random_rects(entries, 112, Augment(crop_scale=0.3), np.random.default_rng(0)).corners_B4
    area, aspect = rects[:, 2] * rects[:, 3] / (128 * 171), rects[:, 3] / rects[:, 2]
    assert 0.29 < area.min() < 0.35 and 0.95 < area.max() <= 1
    assert aspect.min() > 0.73 and aspect.max() < 1.36
    assert (rects[:, :2] >= 0).all() and (rects[:, :2] + rects[:, 2:] <= [128, 171]).all()
    thin = [Entry(video_id="v", source=None, height=10, width=400)] * 5
    corners = random_rects(thin, 8, Augment(crop_scale=0.9), np.random.default_rng(0)).corners_B4
    assert (corners == [0, 195, 10, 10]).all(), "where nothing fits, the central square"


def test_color_jitter_is_one_affine_map_per_clip_and_channel(store):
    plain, tinted = (collect(loader(store, Augment(color_jitter=j))(0)) for j in (0.0, 0.1))
    assert tinted.min() >= 0 and tinted.max() <= 1
    assert not torch.equal(plain, tinted)
    for x, y in zip(plain, tinted, strict=True):
        inside = (y > 0.001) & (y < 0.999)
        slopes = []
        for c in range(3):
            design = torch.stack([x[c][inside[c]], torch.ones_like(x[c][inside[c]])], dim=1)
            solution = torch.linalg.lstsq(design, y[c][inside[c]][:, None]).solution
            assert (design @ solution - y[c][inside[c]][:, None]).abs().max() < 1e-4
            slopes.append(solution[0].item())
            assert abs(solution[1].item()) <= 0.1 + 1e-4
        assert max(slopes) - min(slopes) < 1e-3 and 0.8 - 1e-3 < slopes[0] < 1.2 + 1e-3


def test_labels_that_a_method_may_not_see_are_withheld(store):
    batch = next(iter(loader(store, Augment(), privacy=None)(0)))
    assert batch.privacy_BK is None and batch.action_B is not None
    batch = next(iter(loader(store, Augment(), action=None)(0)))
    assert batch.action_B is None and batch.privacy_BK is not None


def test_a_training_video_without_a_label_is_refused(dataset, tmp_path):
    store = open_store(index(dataset.root, unlabelled="v2"), RECIPE, tmp_path)
    with pytest.raises(UserError, match=r"1 training videos have no privacy label.*v2"):
        loader(store, Augment())
    loader(store, Augment(), privacy=None)


def test_a_video_that_is_not_in_the_store_is_refused(dataset, tmp_path):
    (dataset.root / "videos/v8.avi").unlink()
    store = open_store(dataset, RECIPE, tmp_path, skip_unreadable=True)
    with pytest.raises(UserError, match="v8"):
        loader(store, Augment())


def test_an_error_while_reading_ahead_reaches_the_consumer(dataset, tmp_path):
    store = open_store(dataset, RECIPE, tmp_path)
    shard, entry = store._where["v5"]
    with shard.path.open("r+b") as handle:
        handle.seek(entry.start)
        handle.write(bytes(500))
    with pytest.raises(WorkError, match="is damaged"):
        list(loader(store, Augment())(0))


def test_leaving_an_epoch_early_ends_its_threads(store):
    import threading

    before = threading.active_count()
    for _ in loader(store, Augment())(0):
        break
    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_on_a_gpu_are_those_of_the_cpu(store):
    for augment in (Augment(color_jitter=0.1), ALL_ON):
        load = train_loader(
            store, store.dataset.videos, CLIP, augment, batch=4, seed=0, device="cuda", action=ACTION, privacy=PRIVACY,
            boxes=False,
        )  # fmt: skip
        for found, expected in zip(load(1), loader(store, augment)(1), strict=True):
            assert found.clips.x_BCTHW.is_cuda and found.action_B.is_cuda and found.privacy_BK.is_cuda
            assert (found.clips.x_BCTHW.cpu() - expected.clips.x_BCTHW).abs().max() < 1e-5
            assert torch.equal(found.action_B.cpu(), expected.action_B)


# Boxes

BOX = {"score": 0.9, "kind": "person", "height": 36, "width": 48}


@pytest.fixture
def boxed(tmp_path) -> Store:
    """Black videos with a white rectangle that moves, and boxes that say where."""
    rows = []
    for number in range(4):
        frames = []
        for t in range(20):
            x1, y1 = 3 + (t + 5 * number) % 24, 2 + t % 12
            frame = np.zeros((36, 48, 3), np.uint8)
            frame[y1 : y1 + 16, x1 : x1 + 14] = 255
            frames.append(frame)
            corners = {"x1": x1, "y1": y1, "x2": x1 + 14, "y2": y1 + 16}
            rows.append({"video_id": f"v{number}", "frame": t, **corners, **BOX})
        write_video(tmp_path / "boxed/videos" / f"v{number}.avi", frames, 25, codec="mpeg4")
    dataset = index(tmp_path / "boxed", boxes=pd.DataFrame(rows))
    return open_store(dataset, StoreRecipe(side=24, encoding="raw"), tmp_path)


def assert_boxes_frame_the_white(clips) -> None:
    """Inside a box it is bright, outside dark, but for a pixel at its border."""
    b, _, t, h, w = clips.x_BCTHW.shape
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    assert clips.boxes_BTM4.shape == (b, t, 1, 4)
    for i in range(b):
        for j in range(t):
            x1, y1, x2, y2 = clips.boxes_BTM4[i, j, 0]
            bright = clips.x_BCTHW[i, :, j].mean(0)
            near = (x > x1 - 1.5) & (x < x2 + 1.5) & (y > y1 - 1.5) & (y < y2 + 1.5)
            deep = (x > x1 + 1.5) & (x < x2 - 1.5) & (y > y1 + 1.5) & (y < y2 - 1.5)
            assert (bright[~near] < 0.3).all() and (bright[deep] > 0.7).all()


@pytest.mark.parametrize("augment", [Augment(), Augment(crop_scale=0.4)])
def test_boxes_follow_the_training_crop_and_mirror(boxed, augment):
    clip = ClipSpec(frames=3, stride=2, size=20, sampling="exact")
    for epoch in range(6):
        for batch in loader(boxed, augment, clip=clip, boxes=True)(epoch):
            assert_boxes_frame_the_white(batch.clips)


def test_boxes_follow_the_test_views(boxed):
    clip = ClipSpec(frames=3, stride=2, size=20, sampling="exact")
    for _, clips in view_batches(boxed, boxed.dataset.videos, clip, batch=7, device="cpu", boxes=True):
        assert_boxes_frame_the_white(clips)


def test_clips_have_no_boxes_unless_asked_for_and_present(boxed, store):
    assert next(iter(loader(boxed, Augment())(0))).clips.boxes_BTM4 is None
    assert next(iter(loader(store, Augment(), boxes=True)(0))).clips.boxes_BTM4 is None


def rows_of(*rows: tuple[int, float, str, float]) -> pd.DataFrame:
    fields = [
        {"video_id": "v", "frame": f, "x1": x, "y1": 0, "x2": x + 1, "y2": 1, "score": s, "kind": k}
        for f, s, k, x in rows
    ]
    return pd.DataFrame(fields)


def test_a_frame_without_boxes_holds_the_last_ones_for_eight_frames():
    table = BoxTable(rows_of((3, 0.9, "person", 10), (3, 0.9, "person", 20), (15, 0.9, "person", 30)))
    found = table.at("v", np.array([0, 3, 11, 12, 15, 23, 24]))
    lefts = [[b[0] for b in boxes if b.any()] for boxes in found]
    assert lefts == [[], [10, 20], [10, 20], [], [30], [30], []]
    assert not table.at("unknown", np.array([0, 1])).any()


def test_heads_and_unsure_detections_are_no_person_boxes():
    table = BoxTable(rows_of((0, 0.49, "person", 1), (0, 0.5, "person", 2), (0, 0.9, "head", 3)))
    assert table.at("v", np.array([0]))[0, :, 0].tolist() == [2]
