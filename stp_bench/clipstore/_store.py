"""Opening the store: which shards a dataset needs, which are there, and whether its files are still the indexed ones.

Shards are named by content (recipe, ids and SHA-256 of their videos), so a store can never serve frames of another
recipe or of another version of a video: after the index has taken note of a replaced video, only its shard is
made anew. Between two runs a file may still be replaced behind the index's back; `open_store` compares sizes and
modification times, and contents where these differ.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from stp_bench import video_io
from stp_bench.clipstore import _build
from stp_bench.clipstore._build import StoreRecipe, Task, source_state
from stp_bench.clipstore._shard import Encoding, Entry, Frames, Shard
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, free_bytes, human_bytes, make_folder, read_json, sha256_file, write_json
from stp_bench.index import Dataset
from stp_bench.schema import Video
from stp_bench.workers import cores

FORMAT = 1
"""Raised by hand whenever stored frames can change; part of every shard's name."""
_SHARD_VIDEOS = 64
_BYTES_PER_PIXEL = {"raw": 3.0, "jpeg": 0.45}
_BYTES_PER_FRAME = {"raw": 0, "jpeg": 640}
"""For JPEG the tables of a file, and pixels as measured on a 128 x 171 clip at quality 95, 4:4:4."""
_PIXELS_WORTH_A_WORKER = 5e8
"""Fewer source pixels than this are decoded in a few seconds; starting processes would not pay."""
_NAMED = 5

log = logging.getLogger("stp_bench")


class Store:
    """The stored frames of a dataset's videos, read by memory map."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: StoreRecipe,
        folder: Path,
        shards: Sequence[Shard],
        unreadable: Mapping[str, str],
    ) -> None:
        self.dataset, self.recipe, self.folder = dataset, recipe, folder
        self.unreadable = unreadable
        """Video id to reason, for videos that are left out."""
        self.digest = fingerprint([s.path.stem for s in shards])
        """Fingerprint of recipe and video contents."""
        self.bytes = sum(s.bytes for s in shards)
        """Size of the store on disk."""
        self._where = {e.video_id: (s, e) for s in shards for e in s.entries if e.video_id not in unreadable}

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    def entry(self, video_id: str) -> Entry:
        """Sizes of a video: decoded (``frames``, ``source_height``, ``source_width``), stored (``height``, ``width``).

        Raises:
            UserError: the store does not have this video.
        """
        if video_id not in self._where:
            why = self.unreadable.get(video_id, f"it is no video of {self.dataset.benchmark.name}")
            raise UserError(f"the clip store has no {video_id!r}", why, "leave it out or restore it")
        return self._where[video_id][1]

    def read(self, video_id: str, frames: NDArray[np.int64]) -> Frames:
        """The given frames of a video at stored size, (n, H, W, 3) uint8 RGB.

        Raises:
            UserError: the store does not have this video.
            WorkError: the stored frames are damaged.
        """
        entry = self.entry(video_id)
        out = np.empty((len(frames), entry.height, entry.width, 3), np.uint8)
        self.read_into(video_id, frames, out, 0, 0)
        return out

    def read_into(self, video_id: str, frames: NDArray[np.int64], out: Frames, top: int, left: int) -> None:
        """Fill ``out`` (n, h, w, 3) with the part of the given frames whose corner is (top, left)."""
        shard, entry = self._where[video_id]
        rows, columns = slice(top, top + out.shape[1]), slice(left, left + out.shape[2])
        numbers = frames if self.recipe.every == 1 else frames // self.recipe.every
        if self.recipe.encoding == "raw":
            out[...] = shard.view(entry)[numbers, rows, columns]
            return
        for slot, number in enumerate(numbers):
            repeated = slot and number == numbers[slot - 1]
            out[slot] = out[slot - 1] if repeated else shard.decode(entry, int(number))[rows, columns]


def open_store(
    dataset: Dataset,
    recipe: StoreRecipe,
    home: Path,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """The clip store of a dataset, made on first use.

    Building announces its size first (logger ``stp_bench``), holds a lock, runs in several processes and may be killed
    at any moment: finished shards are kept, and the next call goes on from there. The frames do not depend on the
    number of workers.

    Args:
        dataset: a prepared benchmark.
        recipe: how frames are stored.
        home: the data home; the store lies in ``<home>/clips/``.
        workers: processes to build with; None for one per core, or none where the work is small.
        skip_unreadable: leave unreadable and missing videos out (``Store.unreadable``) instead of raising.
        progress: called as ``progress(done, total)`` with numbers of videos while the store is built.

    Raises:
        WorkError: no room on the disk; unreadable videos; or a video that is not the one that was indexed.
    """
    folder = home / "clips" / dataset.name / _folder_name(recipe)
    plan = _plan(dataset, recipe, folder)
    shards = _finished(plan, dataset, recipe.encoding)
    if len(shards) < len(plan):
        make_folder(folder)
        with _locked(folder):
            shards = _finished(plan, dataset, recipe.encoding)
            if todo := {path: videos for path, videos in plan.items() if path not in shards}:
                _make(dataset, recipe, folder, todo, workers, progress)
            shards |= {path: Shard(path, recipe.encoding) for path in todo}
    unreadable, changed = _problems(dataset, recipe, folder, shards.values())
    if changed:
        raise WorkError(
            f"{_count(changed)} of {dataset.benchmark.name} changed since the data were prepared: {_some(changed)}",
            "the content is not the indexed one",
            "restore the files or make the data again",
        )
    if unreadable and not skip_unreadable:
        raise WorkError(
            f"cannot read {_count(unreadable)} of {dataset.benchmark.name}",
            _some(f"{video_id} ({why})" for video_id, why in unreadable.items()),
            "replace them, or leave them out with --skip-unreadable",
        )
    store = Store(dataset, recipe, folder, [shards[path] for path in plan], unreadable)
    _write_summary(store, plan)
    return store


def _folder_name(recipe: StoreRecipe) -> str:
    """A readable name: ``128-jpeg``, or ``128-raw-every2-decord`` where fields differ from their defaults."""
    every = f"-every{recipe.every}" if recipe.every != 1 else ""
    decoder = f"-{recipe.decoder}" if recipe.decoder != "pyav" else ""
    return f"{recipe.side}-{recipe.encoding}{every}{decoder}"


def _plan(dataset: Dataset, recipe: StoreRecipe, folder: Path) -> dict[Path, tuple[Video, ...]]:
    """Path of every shard that the dataset needs, with its videos."""
    plan = {}
    for at in range(0, len(dataset.videos), _SHARD_VIDEOS):
        videos = dataset.videos[at : at + _SHARD_VIDEOS]
        key = fingerprint([FORMAT, asdict(recipe), [[v.video_id, dataset.facts[v.video_id][1]] for v in videos]])
        plan[folder / f"{key[:32]}.bin"] = videos
    return plan


def _finished(plan: Mapping[Path, Sequence[Video]], dataset: Dataset, encoding: Encoding) -> dict[Path, Shard]:
    """The shards that are there and whole. One with problems counts only while the files behind them stay the same."""
    shards = {}
    for path, videos in plan.items():
        try:
            shard = Shard(path, encoding)
        except FileNotFoundError:
            continue
        except WorkError as error:
            log.warning("%s; making it anew", error.what)
            continue
        bad = {e.video_id: e.source for e in shard.entries if e.problem}
        if all(source_state(dataset.path(v)) == bad[v.video_id] for v in videos if v.video_id in bad):
            shards[path] = shard
    return shards


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, and say so if another process makes us wait for it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is making the clip store in %s; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(
    dataset: Dataset,
    recipe: StoreRecipe,
    folder: Path,
    todo: Mapping[Path, Sequence[Video]],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    _sweep(folder)
    videos = [v for shard in todo.values() for v in shard]
    need, free = _estimate(videos, recipe), free_bytes(folder)
    name = dataset.benchmark.name
    log.info(
        "making the clip store of %s: %d videos, about %s (%s, short side %d) in %s, where %s are free",
        name, len(videos), human_bytes(need), recipe.encoding, recipe.side, folder, human_bytes(free),
    )  # fmt: skip
    if need > free:
        raise WorkError(
            f"no room for the clip store of {name}",
            f"it needs about {human_bytes(need)} in {folder} and {human_bytes(free)} are free",
            "free some space or choose another data home",
        )
    tasks = [
        Task(
            target=str(path),
            recipe=recipe,
            videos=tuple((v.video_id, str(dataset.path(v)), dataset.facts[v.video_id][1]) for v in shard),
        )
        for path, shard in todo.items()
    ]
    if workers is None:
        pixels = sum(v.frames * v.height * v.width for v in videos)
        workers = min(cores(), int(pixels // _PIXELS_WORTH_A_WORKER) + 1)
    done = 0

    def on_video() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(videos))

    try:
        _build.run(tasks, workers, on_video)
    finally:
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove what killed builders and workers left behind; we hold the lock, so nobody is writing it."""
    for leftover in folder.glob(".*.partial.bin"):
        leftover.unlink(missing_ok=True)


def _estimate(videos: Sequence[Video], recipe: StoreRecipe) -> int:
    """Bytes that the frames of ``videos`` will take."""
    per_pixel, per_frame = _BYTES_PER_PIXEL[recipe.encoding], _BYTES_PER_FRAME[recipe.encoding]
    total = 0.0
    for video in videos:
        height, width = recipe.stored_size(max(1, video.height), max(1, video.width))
        total += -(-video.frames // recipe.every) * (height * width * per_pixel + per_frame)
    return int(total)


def _problems(
    dataset: Dataset, recipe: StoreRecipe, folder: Path, shards: Iterable[Shard]
) -> tuple[dict[str, str], list[str]]:
    """Unreadable videos with reasons, and videos whose files are not the indexed ones."""
    unreadable, changed = {}, []
    known = _Known(folder / "sources.json")
    videos = {v.video_id: v for v in dataset.videos}
    for entry in (e for shard in shards for e in shard.entries):
        path, digest = dataset.path(videos[entry.video_id]), dataset.facts[entry.video_id][1]
        state = source_state(path)
        if entry.changed:
            changed.append(entry.video_id)
        elif entry.problem is not None:
            unreadable[entry.video_id] = entry.problem
        elif state != entry.source and not known.unchanged(path, digest, state):
            try:
                video_io.probe(path, recipe.decoder)
                changed.append(entry.video_id)
            except WorkError as error:
                unreadable[entry.video_id] = error.why
    known.save()
    return unreadable, changed


class _Known:
    """Files that were touched but hold what was indexed, so that a copied data set is hashed only once."""

    def __init__(self, path: Path) -> None:
        self._path, self._new = path, False
        self._states: dict[str, list[Any]] = read_json(path) if path.exists() else {}

    def unchanged(self, path: Path, digest: str, state: tuple[int, int] | None) -> bool:
        """Whether the file at ``path``, now of this state, has this SHA-256."""
        if state is None:
            return False
        if self._states.get(str(path)) != [digest, *state]:
            if sha256_file(path) != digest:
                return False
            self._states[str(path)], self._new = [digest, *state], True
        return True

    def save(self) -> None:
        if self._new:
            write_json(self._path, self._states)


def _write_summary(store: Store, shards: Iterable[Path]) -> None:
    """Which shards a dataset uses, for people and for whoever wants to remove the others."""
    path = store.folder / f"store-{store.digest[:16]}.json"
    if not path.exists():
        summary = {
            "benchmark": store.dataset.name, "recipe": asdict(store.recipe), "digest": store.digest,
            "videos": len(store), "bytes": store.bytes, "shards": [s.name for s in shards],
        }  # fmt: skip
        write_json(path, summary)


def _count(videos: Sequence[str] | Mapping[str, str]) -> str:
    return f"{len(videos)} video{'s' if len(videos) > 1 else ''}"


def _some(names: Iterable[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
