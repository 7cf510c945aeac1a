"""Writes data sets: videos in parallel, label files and boxes; of the pair also split lists and the index.

The folder's ``plan.json`` says from the start what it is going to hold, and a journal names every finished video with
its digest. So a killed run is taken up where it stopped, and a file that was damaged meanwhile is made again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from stp_annotations import attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.files import (
    atomic_path,
    free_bytes,
    human_bytes,
    make_folder,
    read_json,
    sha256_file,
    unwritable,
    write_bytes,
    write_json,
)  # fmt: skip
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.schema import Part, Video
from stp_bench.synth._drawing import Content, Drawing
from stp_bench.synth._plan import FPS, PRESETS, VERSION, Plan, actions, benchmark, check_request, plan
from stp_bench.synth._render import drawing
from stp_bench.video_io import write_video
from stp_bench.workers import cores

Progress = Callable[[int, int], None]
Facts = tuple[int, str]

FEW = 32
"""Up to this many videos are made in this process: starting others would take longer."""
BITS_PER_PIXEL = 1.75


def make(
    name: str,
    *,
    preset: str,
    seed: int,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Write an embedded data set into ``folder`` and open it; what is already there is not made twice.

    The same arguments give the same bytes, whatever the number of worker processes (with equal versions of NumPy,
    OpenCV and FFmpeg on one kind of processor; labels and splits everywhere).

    Args:
        name: ``synth-hmdb`` or ``synth-ucf``.
        preset: ``tiny``, ``small`` or ``full``.
        seed: data seed, at least 0.
        folder: where to; made if missing.
        workers: processes; None for one per available core.
        progress: called as ``progress(done, total)`` with numbers of videos.

    Raises:
        UserError: unknown name or preset, bad seed, or the folder holds something else.
        WorkError: the disk is full or cannot be written, or a worker process was killed.
    """
    check_request(name, preset)
    check_seed(seed)
    plans = plan(name, preset, seed)
    drawings = [drawing(p) for p in plans]
    label_table = _label_table(plans).encode()
    promise = _promise(name, preset, seed, [label_table])
    with _claimed(folder, promise):
        if (finished := _finished(folder, drawings)) is not None:
            return finished
        facts = _make_videos(drawings, folder, workers, progress)
        _write_splits(folder, name, preset, plans)
        write_bytes(folder / "privacy_labels.csv", label_table)
        _write_boxes(folder / "boxes.parquet", drawings)
        _write_manifest(folder, name, preset, seed, plans, facts, promise["labels_sha256"])
        (folder / _JOURNAL).unlink(missing_ok=True)
        return read_index(folder)


def write_files(
    name: str,
    content: Content,
    *,
    preset: str,
    seed: int,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the videos, label files and boxes of ``content`` into ``folder``, and no index; what is there stays.

    The journal stays too: it tells the next run which videos are whole.

    Raises:
        UserError: the folder holds something else.
        WorkError: the disk is full or cannot be written, or a worker process was killed.
    """
    with _claimed(folder, _promise(name, preset, seed, list(content.label_files.values()))):
        _make_videos(content.drawings, folder, workers, progress)
        for relative, text in content.label_files.items():
            write_bytes(folder / relative, text)
        _write_boxes(folder / "boxes.parquet", content.drawings)


def check_seed(seed: int) -> None:
    """Raise a `UserError` for a negative data seed."""
    if seed < 0:
        raise UserError(f"bad data seed {seed}", "it is negative", "use 0 or more")


_JOURNAL = ".finished.jsonl"


def _promise(name: str, preset: str, seed: int, label_files: Sequence[bytes]) -> dict[str, Any]:
    """What the folder will hold, as written before the first pixel."""
    digest = hashlib.sha256(b"".join(label_files)).hexdigest()
    return {"name": name, "version": VERSION, "preset": preset, "seed": seed, "labels_sha256": digest}


@contextmanager
def _claimed(folder: Path, promise: Mapping[str, Any]) -> Iterator[None]:
    """The folder, made if missing, for this very data set and this process alone."""
    make_folder(folder)
    with FileLock(folder / ".lock"):
        _claim(folder, promise)
        yield


def _claim(folder: Path, promise: Mapping[str, Any]) -> None:
    """Make sure that the folder is empty or holds this very data set."""
    note = folder / "plan.json"
    if note.exists():
        found = read_json(note)
        if found != promise:
            held = " ".join(f"{k} {found.get(k)}" for k in ("name", "version", "preset", "seed"))
            raise UserError(f"cannot write into {folder}", f"it holds {held}", "choose another folder or remove it")
        return
    if any(entry.name != ".lock" for entry in folder.iterdir()):
        raise UserError(f"cannot write into {folder}", "it holds other files", "choose an empty or new folder")
    write_json(note, promise)


def _finished(folder: Path, drawings: Sequence[Drawing]) -> Dataset | None:
    """The data set if it is whole, contents included."""
    if not (folder / "index.json").exists():
        return None
    dataset = read_index(folder)
    for one in drawings:
        path = folder / one.relpath
        if not path.exists() or sha256_file(path) != dataset.facts[one.video_id][1]:
            _reopen(folder, dataset)
            return None
    return dataset


def _reopen(folder: Path, dataset: Dataset) -> None:
    """Turn a finished folder that lost files back into an unfinished one."""
    lines = [json.dumps([video_id, *facts]) + "\n" for video_id, facts in dataset.facts.items()]
    write_bytes(folder / _JOURNAL, "".join(lines).encode())
    (folder / "index.json").unlink()


def _make_videos(
    drawings: Sequence[Drawing], folder: Path, workers: int | None, progress: Progress | None
) -> dict[str, Facts]:
    """Make what the journal does not vouch for; returns size and digest of every file."""
    report = progress or (lambda done, total: None)
    for leftover in (folder / "videos").rglob(".*.partial.avi"):
        leftover.unlink(missing_ok=True)
    facts = _vouched(drawings, folder)
    missing = [d for d in drawings if d.video_id not in facts]
    _check_room(missing, folder)
    report(len(facts), len(drawings))
    try:
        with (folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            for video_id, fact in _render_all(missing, folder, workers or cores()):
                facts[video_id] = fact
                journal.write(json.dumps([video_id, *fact]) + "\n")
                journal.flush()
                report(len(facts), len(drawings))
    except OSError as error:
        raise unwritable(folder, error) from error
    return facts


def _vouched(drawings: Sequence[Drawing], folder: Path) -> dict[str, Facts]:
    """Finished videos whose files are still as the journal says. A line that was cut by a kill is ignored."""
    journal = folder / _JOURNAL
    noted: dict[str, Facts] = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            video_id, size, digest = json.loads(line)
        except ValueError:
            continue
        noted[video_id] = (size, digest)
    good = {}
    for one in drawings:
        path = folder / one.relpath
        if (fact := noted.get(one.video_id)) and path.exists() and sha256_file(path) == fact[1]:
            good[one.video_id] = fact
    return good


def _check_room(missing: Sequence[Drawing], folder: Path) -> None:
    need = int(sum(_bits(d) for d in missing) / 8 * 1.3)
    if (free := free_bytes(folder)) < need:
        raise WorkError(
            f"cannot make {len(missing)} videos in {folder}",
            f"they need about {human_bytes(need)} and {human_bytes(free)} are free",
            "free some space or choose another folder",
        )


def _bits(one: Drawing) -> float:
    sizes = one.sizes
    return sizes.width * sizes.height * sizes.frames * BITS_PER_PIXEL


def _render_all(drawings: Sequence[Drawing], folder: Path, workers: int) -> Iterator[tuple[str, Facts]]:
    """Make videos and yield each as it is finished."""
    workers = min(workers, len(drawings))
    if workers <= 1 or len(drawings) <= FEW:
        for one in drawings:
            yield _make_video(one, folder)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    # Not `as_completed`: it takes the locks of all futures one by one, and a Ctrl-C that comes while it holds some
    # leaves the pool waiting for them forever.
    finished: queue.SimpleQueue[Future[tuple[str, Facts]]] = queue.SimpleQueue()
    try:
        for one in drawings:
            pool.submit(_make_video, one, folder).add_done_callback(finished.put)
        for _ in drawings:
            yield finished.get().result()
    except BrokenProcessPool as error:
        raise WorkError(
            f"making videos in {folder} stopped",
            "a worker process was killed, perhaps for want of memory",
            "run the same command again",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is for the main process, and a worker whose main process was killed has nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=leave, daemon=True).start()


def _make_video(one: Drawing, folder: Path) -> tuple[str, Facts]:
    path = folder / one.relpath
    sizes = one.sizes
    bitrate = int(sizes.width * sizes.height * FPS * BITS_PER_PIXEL)
    write_video(path, one.frames(), FPS, codec="mpeg4", bitrate=bitrate)
    content = path.read_bytes()
    return one.video_id, (len(content), hashlib.sha256(content).hexdigest())


def _label_table(plans: Sequence[Plan]) -> str:
    header = ",".join(("video", "action", *(a.name for a in attributes())))
    rows = [",".join((p.video_id, p.action, *map(str, p.labels))) for p in plans]
    return "\n".join([header, *rows]) + "\n"


def _write_splits(folder: Path, name: str, preset: str, plans: Sequence[Plan]) -> None:
    """Official list formats: HMDB51 has one file per action with codes, UCF101 train and test lists with CRLF."""
    classes = actions(name, preset)
    for split in range(1, PRESETS[preset].splits + 1):
        if name == "synth-hmdb":
            for action in classes:
                lines = [
                    f"{p.video_id.partition('/')[2]}.avi {1 if p.part(split) == 'train' else 2} \n"
                    for p in plans
                    if p.action == action
                ]
                write_bytes(folder / "splits" / f"{action}_test_split{split}.txt", "".join(lines).encode())
        else:
            train = [f"{p.video_id}.avi {classes.index(p.action) + 1}\r\n" for p in plans if p.part(split) == "train"]
            test = [f"{p.video_id}.avi\r\n" for p in plans if p.part(split) == "test"]
            write_bytes(folder / "splits" / f"trainlist{split:02d}.txt", "".join(train).encode())
            write_bytes(folder / "splits" / f"testlist{split:02d}.txt", "".join(test).encode())
    if name == "synth-ucf":
        numbered = [f"{i} {action}\r\n" for i, action in enumerate(classes, start=1)]
        write_bytes(folder / "splits" / "classInd.txt", "".join(numbered).encode())


def _write_boxes(path: Path, drawings: Sequence[Drawing]) -> None:
    """One row per visible person or head and frame; the drawing knows them exactly, so every score is 1."""
    tables = []
    for one in drawings:
        found = one.boxes()  # P T 2 4
        people, count = found.shape[:2]
        corners = found.transpose(1, 0, 2, 3).reshape(-1, 4)
        seen = (corners[:, 2] - corners[:, 0] >= 1) & (corners[:, 3] - corners[:, 1] >= 1)
        tables.append(
            pd.DataFrame(
                {
                    "video_id": one.video_id,
                    "frame": np.repeat(np.arange(count, dtype=np.int32), 2 * people)[seen],
                    **{c: corners[seen, i].astype(np.float32) for i, c in enumerate(("x1", "y1", "x2", "y2"))},
                    "score": np.float32(1.0),
                    "kind": np.tile(["person", "head"], people * count)[seen],
                    "width": np.int32(one.sizes.width),
                    "height": np.int32(one.sizes.height),
                }
            )
        )
    with atomic_path(path) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def _write_manifest(
    folder: Path, name: str, preset: str, seed: int, plans: Sequence[Plan], facts: Mapping[str, Facts], labels: str
) -> None:
    sizes, described = PRESETS[preset], benchmark(name, preset)
    videos = [
        Video(
            video_id=p.video_id, relpath=p.relpath, group=p.group, frames=sizes.frames, height=sizes.height,
            width=sizes.width, fps=float(FPS),
            labels={"action": (described.action.classes.index(p.action),), "privacy": p.labels},
        )
        for p in plans
    ]  # fmt: skip
    splits = range(1, sizes.splits + 1)
    parts: dict[int, dict[str, Part]] = {s: {p.video_id: p.part(s) for p in plans} for s in splits}
    rates = np.mean([p.labels for p in plans], axis=0)
    test = np.mean([p.labels for p in plans if p.part(1) == "test"], axis=0)
    write_index(
        folder, described, videos, parts, facts,
        data={"preset": preset, "seed": seed},
        label_release=f"synthetic-v{VERSION}",
        labels_sha256=labels,
        prevalence={a.name: round(float(r), 6) for a, r in zip(attributes(), rates, strict=True)},
        rho=0.0,
        cmap_floor=round(100 * float(test.mean()), 6),
        versions={module: version(module) for module in ("numpy", "opencv-python-headless", "av")},
    )  # fmt: skip
