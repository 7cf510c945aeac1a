"""Stages: found again by their inputs, trusted only when whole, never done by two processes at once."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from stp_bench import store
from stp_bench.errors import WorkError
from stp_bench.progress import Silent
from stp_bench.schema import Stage
from stp_bench.store import StageStore


def make(**inputs: object) -> Stage:
    return store.stage("fit", "toy", 1, inputs)


def run(home: Path, stage: Stage, calls: list[Path]) -> Path:
    def work(folder: Path) -> None:
        calls.append(folder)
        (folder / "weights").write_text("w")

    return StageStore(home, "cpu").run(stage, work, reporter=Silent())


def test_the_key_moves_with_every_input_version_and_ancestor() -> None:
    base = store.stage("fit", "a", 1, {"x": 1})
    same = store.stage("fit", "another title", 1, {"x": 1})
    others = [
        store.stage("fit", "a", 1, {"x": 2}),
        store.stage("fit", "a", 2, {"x": 1}),
        store.stage("probes", "a", 1, {"x": 1}),
        store.stage("fit", "a", 1, {"x": 1}, ("parent",)),
    ]
    assert base.key == same.key
    assert len({base.key, *(o.key for o in others)}) == 5


def test_finished_work_is_found_and_not_done_again(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = run(tmp_path, make(x=1), calls)
    assert run(tmp_path, make(x=1), calls) == first
    assert len(calls) == 1
    assert run(tmp_path, make(x=2), calls) != first


def test_a_failed_stage_keeps_its_partial_folder_and_is_taken_up_there(tmp_path: Path) -> None:
    stage, keeper = make(x=1), StageStore(tmp_path, "cpu")

    def fail(folder: Path) -> None:
        (folder / "progress").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        keeper.run(stage, fail, reporter=Silent())
    assert keeper.find(stage) is None

    seen: list[str] = []
    keeper.run(stage, lambda f: seen.append((f / "progress").read_text()), reporter=Silent())
    assert seen == ["half"]
    assert keeper.find(stage) is not None


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_stage_is_refused_with_its_mend(tmp_path: Path, damage: str) -> None:
    folder = run(tmp_path, make(x=1), [])
    if damage == "flip":
        (folder / "weights").write_text("v")
    else:
        (folder / "weights").unlink()
    with pytest.raises(WorkError, match=r"damaged.*remove that folder"):
        StageStore(tmp_path, "cpu").find(make(x=1))


def test_a_final_folder_without_its_record_is_not_trusted(tmp_path: Path) -> None:
    stage, calls = make(x=1), list[Path]()
    StageStore(tmp_path, "cpu").folder(stage).mkdir(parents=True)
    run(tmp_path, stage, calls)
    assert len(calls) == 1


def test_the_record_names_versions_and_device(tmp_path: Path) -> None:
    folder = run(tmp_path, make(x=1), [])
    record = store.read_json(folder / store.RECORD)
    assert record["inputs"] == {"x": 1}
    assert record["provenance"]["torch"]
    assert record["provenance"]["device"].startswith("cpu")


def _slow(home: Path, log: Path) -> None:
    def work(folder: Path) -> None:
        with log.open("a") as handle:
            handle.write("work\n")
        time.sleep(1.0)
        (folder / "weights").write_text("w")

    StageStore(home, "cpu").run(make(x=1), work, reporter=Silent())


def test_two_processes_do_a_stage_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_slow, args=(tmp_path, log)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "work\n"


def test_scratch_and_half_files_do_not_survive_the_stage(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        (folder / "weights").write_text("w")
        (folder / "checkpoint.pt").write_text("large")
        (folder / ".checkpoint.123.partial.pt").write_text("half")

    folder = StageStore(tmp_path, "cpu").run(make(x=1), work, reporter=Silent(), scratch=["checkpoint.pt"])
    assert sorted(p.name for p in folder.iterdir()) == [store.RECORD, "weights"]
    assert StageStore(tmp_path, "cpu").find(make(x=1)) == folder
