"""Training batches and test views, read from the store ahead of need and finished on the device.

A background thread gathers the stored frames of a batch into one uint8 array (several threads where frames must be
decoded first); the consumer's thread moves it to the device and cuts all clips in one operation. What a batch holds
depends on seed, epoch and the list of videos alone, never on threads or timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stp_bench.clips import Clips, Labelled, test_windows, tile_windows, train_window
from stp_bench.clipstore._store import Store
from stp_bench.clipstore._views import Augment, Rects, cut, follow, random_rects, random_tint, test_rects
from stp_bench.errors import UserError
from stp_bench.metrics import UNLABELLED
from stp_bench.schema import ClipSpec, Target, Video
from stp_bench.workers import cores

J = TypeVar("J")
R = TypeVar("R")

_AHEAD = 2
_MOST_DECODERS = 8


def train_loader(
    store: Store,
    videos: Sequence[Video],
    clip: ClipSpec,
    augment: Augment,
    *,
    batch: int,
    seed: int,
    device: torch.device | str,
    action: Target | None,
    privacy: Target | None,
    boxes: bool,
    frame_labels: Target | None = None,
    partial: bool = False,
) -> Callable[[int], TrainBatches]:
    """A loader: epoch number to that epoch's batches, one random clip of every video.

    Order, windows, crops, flips and colors of epoch e come from ``numpy.random.default_rng([seed, e])``, so the same
    number gives the same batches, whatever was loaded before. The last batch may be smaller.

    Args:
        store: where the frames are.
        videos: what to train on; all must be in the store.
        clip: length, stride and size of clips, and how windows are drawn.
        augment: spatial and color augmentation.
        batch: clips per batch.
        seed: of everything random.
        device: where batches end up.
        action: target of ``action_B``; None to withhold these labels.
        privacy: target of ``privacy_BK``; None to withhold these labels.
        boxes: whether clips carry person boxes.
        frame_labels: target of ``privacy_BTK``, whose labels of single frames batches shall carry; None for none.
        partial: whether ``privacy_BK`` may hold -1, of videos of which only some classes are labelled.

    Raises:
        UserError: a video is not in the store, or has no label for a target.
    """
    source = _Source(store, videos, clip, device, boxes)
    frames = FrameLabels(videos, frame_labels) if frame_labels else None
    labels = _Known(_labels(videos, action), _labels(videos, privacy, partial=partial), frames)
    return lambda epoch: TrainBatches(source, augment, batch, (seed, epoch), labels)


def view_batches(
    store: Store,
    videos: Sequence[Video],
    clip: ClipSpec,
    *,
    clips: int = 5,
    crops: int = 3,
    batch: int,
    device: torch.device | str,
    boxes: bool,
) -> ViewBatches:
    """Every test view (``clips`` windows x ``crops`` crops) of every video exactly once, video after video.

    Yields pairs: int64 indices into ``videos`` (B,), on the CPU, and the `Clips`.

    Raises:
        UserError: a video is not in the store.
    """
    return ViewBatches(
        _Source(store, videos, clip, device, boxes), lambda frames: test_windows(frames, clip, clips), crops, batch
    )


def tile_batches(
    store: Store,
    videos: Sequence[Video],
    clip: ClipSpec,
    *,
    crops: int,
    batch: int,
    device: torch.device | str,
    boxes: bool,
) -> ViewBatches:
    """Views that together hold every ``stride``-th frame of every video, for whoever scores frames.

    Walk through `ViewBatches.with_frames`, which also tells the frame numbers.
    """
    return ViewBatches(
        _Source(store, videos, clip, device, boxes), lambda frames: tile_windows(frames, clip), crops, batch
    )


def center_batches(
    store: Store,
    videos: Sequence[Video],
    clip: ClipSpec,
    *,
    batch: int,
    device: torch.device | str,
    boxes: bool,
) -> ViewBatches:
    """The central crop of the central window of every video; otherwise like `view_batches`."""
    return view_batches(store, videos, clip, clips=1, crops=1, batch=batch, device=device, boxes=boxes)


def center_loader(
    store: Store,
    videos: Sequence[Video],
    clip: ClipSpec,
    *,
    batch: int,
    device: torch.device | str,
    action: Target | None,
    privacy: Target | None,
    boxes: bool,
) -> Callable[[int], CenterBatches]:
    """A loader of the clips of `center_batches` with the labels of `train_loader`, the same for every epoch.

    Raises:
        UserError: a video is not in the store, or has no label for a target.
    """
    views = center_batches(store, videos, clip, batch=batch, device=device, boxes=boxes)
    labels = _Known(_labels(videos, action), _labels(videos, privacy), None)
    return lambda epoch: CenterBatches(views, labels, torch.device(device))


@dataclass(frozen=True, slots=True)
class _Job:
    """A batch before it is read: U windows of videos, and the B views cut from them."""

    videos_U: list[int]
    windows_UT: NDArray[np.int64]
    rows_B: NDArray[np.int64]
    rects: Rects


@dataclass(frozen=True, slots=True)
class _Gathered:
    """A batch in host memory. ``sides_U2`` is None where the frames are the finished views already."""

    job: _Job
    frames_UTHWC: Tensor
    sides_U2: NDArray[np.int64] | None
    boxes_BTM4: Tensor | None


class _Source:
    """Reads batches of some videos."""

    def __init__(
        self, store: Store, videos: Sequence[Video], clip: ClipSpec, device: torch.device | str, boxes: bool
    ) -> None:
        self.store, self.clip, self.device = store, clip, torch.device(device)
        self.entries = [store.entry(v.video_id) for v in videos]
        self._boxes = store.dataset.boxes if boxes else None
        self._pinned = self.device.type == "cuda"
        self._threads = 1 if store.recipe.encoding == "raw" else min(cores(), _MOST_DECODERS)

    def clips(self, jobs: Iterable[_Job]) -> Iterator[tuple[_Job, Clips]]:
        """Read, move and cut the batches, in order."""
        for gathered in _ahead(jobs, self._gather, self._threads):
            yield gathered.job, self._finish(gathered)

    def _gather(self, job: _Job) -> _Gathered:
        size = self.clip.size
        plain = job.rects.plain(size)
        videos = [job.videos_U[row] for row in job.rows_B] if plain else job.videos_U
        sides = np.array([(self.entries[v].height, self.entries[v].width) for v in videos])
        height, width = (size, size) if plain else sides.max(axis=0).tolist()
        shape = (len(videos), job.windows_UT.shape[1], height, width, 3)
        # Sampling weighs the padding of smaller videos by a rounding error: it must at least be the same each time.
        make = torch.empty if plain or (sides == sides[0]).all() else torch.zeros
        frames = make(shape, dtype=torch.uint8, pin_memory=self._pinned)
        out = frames.numpy()
        for slot, video in enumerate(videos):
            window = job.windows_UT[job.rows_B[slot] if plain else slot]
            target, top, left = out[slot], 0, 0
            if plain:
                top, left = job.rects.corners_B4[slot, :2].astype(int).tolist()
                if job.rects.flip_B[slot]:
                    target = target[:, :, ::-1]
            else:
                target = target[:, : sides[slot, 0], : sides[slot, 1]]
            self.store.read_into(self.entries[video].video_id, window, target, top, left)
        return _Gathered(job, frames, None if plain else sides, self._follow(job))

    def _follow(self, job: _Job) -> Tensor | None:
        if self._boxes is None:
            return None
        found = [self._boxes.at(self.entries[v].video_id, w) for v, w in zip(job.videos_U, job.windows_UT, strict=True)]
        most = max(f.shape[1] for f in found)
        padded = np.stack([np.pad(f, ((0, 0), (0, most - f.shape[1]), (0, 0))) for f in found])[job.rows_B]
        entries = [self.entries[job.videos_U[row]] for row in job.rows_B]
        scale = np.array([(e.height / e.source_height, e.width / e.source_width) for e in entries])
        return torch.from_numpy(follow(padded, scale, job.rects, self.clip.size))

    def _finish(self, batch: _Gathered) -> Clips:
        frames = batch.frames_UTHWC.to(self.device, non_blocking=True)
        if batch.sides_U2 is None:
            x = frames.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        else:
            x = cut(frames, batch.sides_U2, batch.job.rows_B, batch.job.rects, self.clip.size)
        boxes = batch.boxes_BTM4
        return Clips(x, None if boxes is None else boxes.to(self.device, non_blocking=True))


class TrainBatches:
    """One epoch of training batches."""

    def __init__(
        self,
        source: _Source,
        augment: Augment,
        batch: int,
        seed: tuple[int, int],
        labels: _Known,
    ) -> None:
        self._source, self._batch, self._labels = source, batch, labels
        rng = np.random.default_rng(seed)
        entries, count = source.entries, len(source.entries)
        self._order = rng.permutation(count)
        self._windows = [train_window(entries[i].frames, source.clip, rng) for i in self._order]
        self._rects = random_rects([entries[i] for i in self._order], source.clip.size, augment, rng)
        self._tint = random_tint(count, augment.color_jitter, rng)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch)

    def __iter__(self) -> Iterator[Labelled]:
        starts = range(0, len(self._order), self._batch)
        rows = [slice(a, a + self._batch) for a in starts]
        jobs = (
            _Job(self._order[r].tolist(), np.stack(self._windows[r]), np.arange(len(self._order[r])), self._rects[r])
            for r in rows
        )
        for r, (job, clips) in zip(rows, self._source.clips(jobs), strict=True):
            if self._tint is not None:
                self._tint[r].apply_(clips.x_BCTHW)
            yield self._labels.of(job.videos_U, job.windows_UT, clips, self._source.device)


class ViewBatches:
    """Test views in batches: see `view_batches` and `tile_batches`."""

    def __init__(self, source: _Source, windows: Callable[[int], NDArray[np.int64]], crops: int, batch: int) -> None:
        self._source, self._windows, self._crops, self._batch = source, windows, crops, batch
        counts = {frames: len(windows(frames)) for frames in {e.frames for e in source.entries}}
        self._ends = np.cumsum([counts[e.frames] for e in source.entries])
        self._views = int(self._ends[-1]) * crops if len(self._ends) else 0

    def __len__(self) -> int:
        return -(-self._views // self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Clips]]:
        for videos_B, _, clips in self.with_frames():
            yield videos_B, clips

    def with_frames(self) -> Iterator[tuple[Tensor, Tensor, Clips]]:
        """Triples: indices into the videos (B,) and frame numbers (B, T), both int64 on the CPU, and the clips."""
        jobs = (self._job(a, min(a + self._batch, self._views)) for a in range(0, self._views, self._batch))
        for job, clips in self._source.clips(jobs):
            videos_B = torch.tensor([job.videos_U[row] for row in job.rows_B])
            yield videos_B, torch.from_numpy(job.windows_UT[job.rows_B]), clips

    def _job(self, first: int, stop: int) -> _Job:
        """Views ``first`` to ``stop``; those that share a window share its frames."""
        clip, entries = self._source.clip, self._source.entries
        windows, views = np.divmod(np.arange(first, stop), self._crops)
        chosen, rows = np.unique(windows, return_inverse=True)
        videos: NDArray[np.int64] = np.searchsorted(self._ends, chosen, side="right").reshape(-1)
        plans = {v: self._windows(entries[v].frames) for v in set(videos.tolist())}
        numbers = [
            w - int(self._ends[v]) + len(plans[v]) for w, v in zip(chosen.tolist(), videos.tolist(), strict=True)
        ]
        corners = {v: test_rects(entries[v], clip.size, self._crops) for v in plans}
        return _Job(
            videos.tolist(),
            np.stack([plans[v][n] for v, n in zip(videos.tolist(), numbers, strict=True)]),
            rows,
            Rects(
                np.stack([corners[int(videos[row])][view] for row, view in zip(rows, views, strict=True)]),
                np.zeros(len(rows), np.bool_),
            ),
        )


class CenterBatches:
    """Central clips with labels: see `center_loader`."""

    def __init__(self, views: ViewBatches, labels: _Known, device: torch.device) -> None:
        self._views, self._labels, self._device = views, labels, device

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[Labelled]:
        for videos_B, frames_BT, clips in self._views.with_frames():
            yield self._labels.of(videos_B.tolist(), frames_BT.numpy(), clips, self._device)


def _ahead(jobs: Iterable[J], work: Callable[[J], R], threads: int) -> Iterator[R]:
    """``map(work, jobs)``, in order, with up to two results per thread ready before they are asked for."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="clipstore")
    waiting: deque[Future[R]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Known:
    """What batches tell of their videos; None is withheld."""

    actions: Tensor | None
    privates: Tensor | None
    frames: FrameLabels | None

    def of(self, videos_B: list[int], windows_BT: NDArray[np.int64], clips: Clips, device: torch.device) -> Labelled:
        """Clips of the videos with these numbers, labelled."""
        actions, privates = (
            None if labels is None else labels[videos_B].to(device, non_blocking=True)
            for labels in (self.actions, self.privates)
        )
        if actions is not None and actions.ndim == 2:
            actions = actions.float()
        frames = None
        if self.frames is not None:
            frames = torch.from_numpy(self.frames.at(videos_B, windows_BT)).to(device).float()
        return Labelled(clips, actions, None if privates is None else privates.float(), frames)


class FrameLabels:
    """The labels of single frames of some videos, ready to be looked up batch by batch.

    Raises:
        UserError: a video has none.
    """

    def __init__(self, videos: Sequence[Video], target: Target) -> None:
        missing = [v.video_id for v in videos if not v.spans.get(target.name)]
        if missing:
            raise UserError(
                f"{len(missing)} videos have no {target.name} labels of frames", f"among them {missing[0]}",
                "use a benchmark with labelled frames, such as synth-pa, or another protocol",
            )  # fmt: skip
        self._starts = np.concatenate([[0], np.cumsum([v.frames for v in videos])])
        self._labels = np.full((int(self._starts[-1]), len(target.classes)), UNLABELLED, np.int8)
        for start, video in zip(self._starts.tolist(), videos, strict=False):
            for span in video.spans[target.name]:
                # What a release says of frames beyond the decoded length is about nothing.
                stop = min(span.end + 1, video.frames)
                self._labels[start + span.start : start + stop] = span.labels

    def at(self, videos_U: Sequence[int], frames_UT: NDArray[np.int64]) -> NDArray[np.int8]:
        """Labels (U, T, K) of frames of the videos with these numbers: 1, 0, or -1 where nobody labelled."""
        rows_UT = self._starts[np.asarray(videos_U)][:, None] + frames_UT
        ends_U1 = self._starts[np.asarray(videos_U) + 1][:, None]
        labels = self._labels[np.minimum(rows_UT, ends_U1 - 1)]
        labels[rows_UT >= ends_U1] = UNLABELLED  # another decoder may find a frame more
        return np.asarray(labels)


def _labels(videos: Sequence[Video], target: Target | None, *, partial: bool = False) -> Tensor | None:
    """Labels of a target: int64 class indices (V,), or int8 in {0, 1} (V, K); also -1 where that is ``partial``."""
    if target is None:
        return None
    labels = [v.labels.get(target.name) for v in videos]
    missing = [v.video_id for v, found in zip(videos, labels, strict=True) if found is None]
    if missing:
        raise UserError(
            f"{len(missing)} training videos have no {target.name} label",
            f"among them {missing[0]}",
            "leave them out of the split or label them",
        )
    some = [v.video_id for v, found in zip(videos, labels, strict=True) if found and UNLABELLED in found]
    if some and not partial:
        raise UserError(
            f"{len(some)} training videos have a {target.name} label for some classes only",
            f"among them {some[0]}, and what learns from these labels needs all of them",
            "label them, or leave them out of the label table",
        )
    if target.kind == "multiclass":
        return torch.from_numpy(np.array(labels, np.int64).reshape(len(videos)))
    return torch.from_numpy(np.array(labels, np.int8).reshape(len(videos), len(target.classes)))
