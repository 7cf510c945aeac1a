"""What decoding once is worth: training clips per second from the clip store and from decoding at every epoch.

Beside it, in a second table, the decoders alone.

All ways give the same frames to the same loader, so that the batches are equal (checked, JPEG aside). Decoding reads a
whole clip in order and converts the chosen frames only: reading less would need seeks, which give wrong frames on files
with B-frames. Time is processor time of all threads, so a figure is "per core"; the best of several rounds counts.

    python benchmarks/store.py [--videos 48] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from _report import Report
from numpy.typing import NDArray

from stp_bench.clips import train_window
from stp_bench.clipstore import Augment, Store, StoreRecipe, open_store, train_loader
from stp_bench.config import clip_spec, preset
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.schema import Benchmark, ClipSpec, Target, Video
from stp_bench.video_io import DECODERS, Image, probe, read_frames, resize_frame, write_video

SETTINGS = {
    # run preset -> (height, width, frames, bits per second): the embedded small preset; the medians of HMDB51
    "small": (120, 160, 32, 400_000),
    "paper": (240, 320, 79, 600_000),
}

Encoding = Literal["raw", "jpeg"]


class Redecoded:
    """Looks like a store to the loader, and decodes each video anew whenever a clip of it is read."""

    def __init__(self, store: Store, decoder: str) -> None:
        self._store, self._decoder = store, decoder
        self.dataset, self.recipe, self.entry = store.dataset, store.recipe, store.entry
        self._paths = {v.video_id: self.dataset.path(v) for v in self.dataset.videos}

    def read_into(self, video_id: str, frames: NDArray[np.int64], out: Image, top: int, left: int) -> None:
        entry = self.entry(video_id)
        chosen = {int(n) for n in frames}
        read = read_frames(self._paths[video_id], decoder=self._decoder, chosen=chosen)
        found = dict(zip(sorted(chosen), read, strict=True))
        for slot, number in enumerate(frames):
            stored = resize_frame(found[int(number)], (entry.height, entry.width))
            out[slot] = stored[top : top + out.shape[1], left : left + out.shape[2]]


def moving_texture(seed: int, height: int, width: int, count: int) -> Iterator[Image]:
    """Smooth waves that drift, with some grain: about as hard to code as a hand-held camera."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [(rng.uniform(0.02, 0.3, 2), rng.uniform(0, 6, 3), rng.uniform(0.05, 0.4)) for _ in range(6)]
    grain = rng.normal(0, 8, (height, width, 3)).astype(np.float32)
    for t in range(count):
        frame = sum(np.sin(x * fx + y * fy + t * v)[..., None] * np.cos(c) for (fx, fy), c, v in waves)
        yield np.clip(127 + 25 * frame + np.roll(grain, t, axis=1), 0, 255).astype(np.uint8)


def made_up_dataset(root: Path, videos: int, height: int, width: int, frames: int, bitrate: int) -> Dataset:
    """Indexed MPEG-4 videos with meaningless labels."""
    rows, facts = [], {}
    for number in range(videos):
        name, path = f"v{number:03d}", root / "videos" / f"v{number:03d}.avi"
        write_video(path, moving_texture(number, height, width, frames), 30, codec="mpeg4", bitrate=bitrate)
        found = probe(path)
        rows.append(
            Video(
                video_id=name, relpath=f"videos/{path.name}", labels={"action": (0,), "privacy": (1,)}, group=None,
                frames=found.frames, height=found.height, width=found.width, fps=found.fps,
            )
        )  # fmt: skip
        facts[name] = (path.stat().st_size, sha256_file(path))
    action = Target(name="action", kind="multiclass", classes=("any",))
    privacy = Target(name="privacy", kind="multilabel", classes=("any",), private=True)
    benchmark = Benchmark(name="textures", title="Textures", version=1, targets=(action, privacy), stride=2, splits=1)
    write_index(root, benchmark, rows, {1: {v.video_id: "train" for v in rows}}, facts)
    return read_index(root)


def best(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of ``work``."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def epoch_of(store: Store | Redecoded, clip: ClipSpec, augment: Augment, batch: int) -> Callable[[], torch.Tensor]:
    """One epoch through the loader; returns all clips, so that ways can be compared."""
    load = train_loader(
        store,  # type: ignore[arg-type]
        store.dataset.videos,
        clip,
        augment,
        batch=batch,
        seed=0,
        device="cpu",
        action=None,
        privacy=None,
        boxes=False,
    )
    return lambda: torch.cat([b.clips.x_BCTHW for b in load(0)])


def reads_of(store: Store | Redecoded, clip: ClipSpec) -> Callable[[], object]:
    """Only the frames of one epoch's clips, uncut: what is left to the processor when a GPU cuts."""
    rng = np.random.default_rng(0)
    windows = {v.video_id: train_window(v.frames, clip, rng) for v in store.dataset.videos}

    def read() -> None:
        for video_id, window in windows.items():
            entry = store.entry(video_id)
            out = np.empty((clip.frames, entry.height, entry.width, 3), np.uint8)
            store.read_into(video_id, window, out, 0, 0)

    return read


def compare_loading(report: Report, name: str, dataset: Dataset, home: Path, rounds: int) -> None:
    """Rows for one preset: the two encodings of the store, and decoding at every epoch by each decoder."""
    run = preset(name)
    clip, augment = clip_spec(run, 2), Augment(crop_scale=run.crop_scale, color_jitter=run.color_jitter)
    stores: dict[str, Store] = {}
    built: dict[str, float] = {}
    for encoding in get_args(Encoding):
        way = f"store, {encoding}"
        began = time.process_time()
        stores[way] = open_store(dataset, StoreRecipe.for_crop(clip.size, encoding), home, workers=1)
        built[way] = time.process_time() - began
    raw = stores["store, raw"]
    ways: dict[str, Store | Redecoded] = {f"{d}, every epoch": Redecoded(raw, d) for d in DECODERS}
    ways |= stores
    work = {way: epoch_of(store, clip, augment, run.batch) for way, store in ways.items()}
    results = {way: epoch() for way, epoch in work.items()}  # the warm-up as well
    assert all(torch.equal(results[way], results["store, raw"]) for way in ways if way != "store, jpeg")
    results.clear()
    seconds = {way: best(epoch, rounds) for way, epoch in work.items()}
    for way, store in ways.items():
        report.row(
            preset=name,
            clip=f"{clip.frames} x {clip.size} px",
            way=way,
            clips_per_s=len(dataset.videos) / seconds[way],
            times_pyav=seconds["pyav, every epoch"] / seconds[way],
            reads_per_s=len(dataset.videos) / best(reads_of(store, clip), rounds),
            build_s=built.get(way, "-"),
            MB=stores[way].bytes / 1e6 if way in stores else "-",
        )


def compare_decoders(report: Report, dataset: Dataset, rounds: int) -> None:
    """Rows for one size of videos: frames per second of each decoder, with and without conversion to RGB."""
    paths = [dataset.path(v) for v in dataset.videos]
    frames = sum(v.frames for v in dataset.videos)
    for decoder in DECODERS:
        work: dict[str, Callable[[Path], object]] = {
            "all": lambda path, d=decoder: deque(read_frames(path, decoder=d), maxlen=0),
            "every 4th": lambda path, d=decoder: deque(
                read_frames(path, decoder=d, chosen=range(0, 9999, 4)), maxlen=0
            ),
            "none": lambda path, d=decoder: probe(path, d),
        }
        for wanted, read in work.items():
            spent = best(lambda r=read: [r(path) for path in paths], rounds)  # type: ignore[misc]
            size = f"{dataset.videos[0].width}x{dataset.videos[0].height}"
            report.row(videos=size, decoder=decoder, wanted=wanted, frames_per_s=frames / spent)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loading = Report("store", "Training clips per core-second: the clip store, and decoding at every epoch")
    decoding = Report("decoders", "Frames per core-second, whole videos decoded in order")
    with tempfile.TemporaryDirectory() as scratch:
        for name, sizes in SETTINGS.items():
            dataset = made_up_dataset(Path(scratch) / name, options.videos, *sizes)
            compare_loading(loading, name, dataset, Path(scratch) / "home", options.rounds)
            compare_decoders(decoding, dataset, options.rounds)
    loading.write()
    decoding.write()


if __name__ == "__main__":
    main()
