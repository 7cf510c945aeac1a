"""The index gives back what was written, and notices damage."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import pytest

from stp_bench.errors import UserError, WorkError
from stp_bench.files import write_bytes
from stp_bench.index import read_index, write_index
from stp_bench.schema import Benchmark, SplitRef, Target, Video

BENCHMARK = Benchmark(
    name="toy",
    title="Toy",
    version=1,
    targets=(
        Target(name="action", kind="multiclass", classes=("run", "walk")),
        Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True),
    ),
    stride=2,
    splits=1,
)


def video(stem: str, action: int, privacy: tuple[int, ...] | None) -> Video:
    labels = {"action": (action,), "privacy": privacy}
    return Video(
        video_id=f"walk/{stem}", relpath=f"videos/walk/{stem}.avi", labels=labels, group="g1" if privacy else None,
        frames=20, height=72, width=96, fps=12.0,
    )  # fmt: skip


VIDEOS = (video("#a;[b]&", 0, (1, 0)), video("-c", 1, None))
FACTS = {v.video_id: (10, f"sha{i}") for i, v in enumerate(VIDEOS)}
PARTS = {1: {VIDEOS[0].video_id: "train"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_index(tmp_path, BENCHMARK, VIDEOS, PARTS, FACTS, label_release="made")  # type: ignore[arg-type]
    return tmp_path


def test_what_is_written_is_read_back(root: Path) -> None:
    dataset = read_index(root)
    assert dataset.benchmark == BENCHMARK
    assert dataset.videos == VIDEOS
    assert dataset.facts == FACTS
    assert dataset.parts == PARTS
    assert dataset.manifest["label_release"] == "made"
    assert dataset.boxes is None


def test_a_split_holds_its_videos_and_a_missing_one_is_refused(root: Path) -> None:
    dataset = read_index(root)
    assert dataset.split(SplitRef(benchmark="toy", part="train", split=1)) == VIDEOS[:1]
    with pytest.raises(UserError, match="no test videos"):
        dataset.split(SplitRef(benchmark="toy", part="test", split=1))
    with pytest.raises(UserError, match="no split 2"):
        dataset.split(SplitRef(benchmark="toy", part="train", split=2))


def test_the_digest_moves_with_content_and_labels_but_not_with_the_folder(root: Path, tmp_path: Path) -> None:
    first = read_index(root)
    again = tmp_path / "again"
    write_index(again, BENCHMARK, VIDEOS, PARTS, FACTS)  # type: ignore[arg-type]
    assert read_index(again).digest(VIDEOS) == first.digest(VIDEOS)
    write_index(again, BENCHMARK, VIDEOS, PARTS, {**FACTS, VIDEOS[0].video_id: (10, "new")})  # type: ignore[arg-type]
    assert read_index(again).digest(VIDEOS) != first.digest(VIDEOS)
    assert first.digest([video("#a;[b]&", 1, (1, 0))]) != first.digest(VIDEOS[:1])


def test_a_damaged_or_missing_index_is_named(root: Path, tmp_path: Path) -> None:
    write_bytes(root / "index.parquet", b"PAR1")
    with pytest.raises(WorkError, match="damaged"):
        read_index(root)
    with pytest.raises(UserError, match="no such file"):
        read_index(tmp_path / "nowhere")


def test_whenever_a_writer_is_stopped_the_old_or_the_new_index_is_read(root: Path, tmp_path: Path) -> None:
    old = {name: (root / name).read_bytes() for name in ("index.json", "index.parquet")}
    other = tmp_path / "other"
    moved = {**FACTS, VIDEOS[0].video_id: (10, "new")}
    write_index(other, BENCHMARK, VIDEOS, PARTS, moved)  # type: ignore[arg-type]
    new = {name: (other / name).read_bytes() for name in old}
    # Stopped between the renames: the new manifest's table still has its other name.
    write_bytes(root / "index.next.parquet", new["index.parquet"])
    assert read_index(root).facts == FACTS
    write_bytes(root / "index.json", new["index.json"])
    assert read_index(root).facts == moved
    # The next writer is stopped before its manifest: what the first left to do was done, nothing of it is lost.
    write_index(root, BENCHMARK, VIDEOS, PARTS, FACTS)  # type: ignore[arg-type]
    write_bytes(root / "index.next.parquet", b"PAR1 half")
    assert read_index(root).facts == FACTS
    assert old["index.parquet"] == (root / "index.parquet").read_bytes()


def test_targets_of_hundreds_of_classes_are_held_compactly(tmp_path: Path) -> None:
    tags = Target(name="tags", kind="multilabel", classes=tuple(f"t{i}" for i in range(300)), private=True,
                  groups=(("object", 200), ("scene", 100)))  # fmt: skip
    wide = Benchmark(name="wide", title="Wide", version=1, targets=(BENCHMARK.targets[0], tags), stride=2, splits=1)
    shown = tuple(int(i % 7 == 0) for i in range(300))
    videos = [
        Video(video_id=f"v{i}", relpath=f"v{i}.avi", labels={"action": (i % 2,), "tags": labels}, group=None, frames=4,
              height=16, width=16, fps=1.0)
        for i, labels in enumerate((shown, None, array("b", shown)))
    ]  # fmt: skip
    write_index(tmp_path, wide, videos, {1: {}}, {v.video_id: (1, "x") for v in videos})
    dataset = read_index(tmp_path)
    assert dataset.benchmark == wide
    found = [v.labels["tags"] for v in dataset.videos]
    assert [None if f is None else tuple(f) for f in found] == [shown, None, shown]
    assert found[0] is not None and sys.getsizeof(found[0]) < 600  # a byte a class
