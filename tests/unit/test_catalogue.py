"""Which benchmarks there are, and opening embedded, twin and real ones by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stp_bench import catalogue, data, real, splits, synth
from stp_bench.errors import UserError
from stp_bench.files import read_json, write_json
from stp_bench.index import read_benchmark, read_index, write_index
from stp_bench.progress import Silent
from stp_bench.schema import Benchmark, Target, Video

TINY = {"preset": "tiny", "seed": 0}


def prepared(home: Path, name: str, tested: str = "b") -> Path:
    """An index of a real name with two videos, of which the second is tested, and lists of which the first is."""
    folder = data.prepared_folder(home, name)
    targets = (
        Target(name="action", kind="multiclass", classes=("run", "sit")),
        Target(name="privacy", kind="multilabel", classes=("face",), private=True),
    )
    benchmark = Benchmark(name=name, title=name, version=1, targets=targets, stride=2, splits=1)
    videos = [
        Video(
            video_id=i, relpath=f"{i}.avi", labels={"action": (n,), "privacy": (n,)}, group=None, frames=1, height=1,
            width=1, fps=1.0,
        )
        for n, i in enumerate("ab")
    ]  # fmt: skip
    other = "a" if tested == "b" else "b"
    parts = {1: {tested: "test", other: "train"}}
    turned = {1: {tested: "train", other: "test"}, 2: {tested: "train", other: "test"}}
    facts = {i: (1, f"{name} {i}") for i in "ab"}
    folder.mkdir(parents=True)
    write_index(folder, benchmark, videos, parts, facts, {"turned": turned}, videos_root=str(home))  # type: ignore[arg-type]
    return folder


def test_names_are_unique_and_each_is_embedded_or_real(tmp_path: Path) -> None:
    names = catalogue.names()
    assert len(set(names)) == len(names)
    assert {"synth-hmdb", "synth-ucf", "synth-pa", "synth-faces", "synth-scenes"} == set(catalogue.embedded())
    published = {n for n in names if catalogue.is_real(n, tmp_path)}
    assert published == set(real.NAMES) == set(names) - set(catalogue.embedded())
    assert catalogue.is_real("vp-hmdb51@validation", tmp_path)
    assert catalogue.count("vp-hmdb51", "small") == 6766 and catalogue.count("p-hvu", "") == 261224


def test_figures_of_the_real_sets_agree_with_their_lists() -> None:
    for kind in real.SETS:
        assert kind.lists is None or kind.actions == {"hmdb51": len(splits.HMDB51_VIDEOS), "ucf101": 101}[kind.lists]
        assert kind.videos_from and kind.license and kind.releases
    assert real.find("vp-hmdb51").videos == sum(splits.HMDB51_VIDEOS.values())
    with pytest.raises(UserError, match="did you mean vp-hmdb51"):
        real.find("vp-hmdb")


def test_real_data_that_are_not_prepared_name_the_command(tmp_path: Path) -> None:
    for ask in (
        lambda: catalogue.dataset("vp-ucf101", home=tmp_path, reporter=Silent(), **TINY),  # type: ignore[arg-type]
        lambda: catalogue.benchmark("vp-ucf101", "tiny", home=tmp_path),
    ):
        with pytest.raises(UserError, match="stp-bench data prepare vp-ucf101 --videos DIR"):
            ask()
    steps = catalogue.steps("vp-ucf101", tmp_path)
    assert steps[0].startswith("get UCF101.rar") and "stp-bench labels fetch vp-ucf101" in steps
    with pytest.raises(UserError, match=r"unknown benchmark 'vp-ucf', .*did you mean vp-ucf101"):
        catalogue.benchmark("vp-ucf", "tiny", home=tmp_path)


def test_real_data_are_described_and_opened_with_any_of_their_lists(tmp_path: Path) -> None:
    prepared(tmp_path, "vp-hmdb51")
    described = catalogue.benchmark("vp-hmdb51", "", home=tmp_path)
    dataset = catalogue.dataset("vp-hmdb51", preset="", seed=0, home=tmp_path, reporter=Silent())
    assert described == dataset.benchmark and dataset.videos_root == tmp_path
    turned = catalogue.dataset("vp-hmdb51@turned", preset="", seed=0, home=tmp_path, reporter=Silent())
    assert catalogue.benchmark("vp-hmdb51@turned", "", home=tmp_path) == turned.benchmark
    assert (turned.benchmark.name, turned.name, turned.benchmark.splits) == ("vp-hmdb51@turned", "vp-hmdb51", 2)
    assert turned.parts[1] == {"a": "test", "b": "train"}
    with pytest.raises(UserError, match=r"split lists of vp-hmdb51 'turnt'.*turned"):
        catalogue.benchmark("vp-hmdb51@turnt", "", home=tmp_path)
    assert catalogue.steps("vp-hmdb51", tmp_path) == ()


def test_test_videos_of_one_set_in_the_training_of_another_are_found_by_name(tmp_path: Path) -> None:
    prepared(tmp_path, "vp-hmdb51", tested="b")
    prepared(tmp_path, "pa-hmdb51", tested="a")
    prepared(tmp_path, "vp-ucf101", tested="a")
    others = catalogue.neighbors("vp-hmdb51", home=tmp_path, **TINY)  # type: ignore[arg-type]
    assert [o.name for o in others] == ["pa-hmdb51"]
    report = data.check(catalogue.prepared("vp-hmdb51", home=tmp_path, **TINY), others=others)  # type: ignore[arg-type]
    assert report.splits[1].tested_elsewhere == {"pa-hmdb51": ("a",)}


@pytest.mark.parametrize("name", synth.TWINS)
def test_twins_are_read_from_their_drawn_files_and_then_opened(data_home: Path, name: str) -> None:
    folder = data.folder(data_home, name, "tiny", 0)
    dataset = catalogue.dataset(name, home=data_home, reporter=Silent(), **TINY)  # type: ignore[arg-type]
    assert dataset.benchmark == catalogue.benchmark(name, "tiny") == read_benchmark(folder)
    assert dataset.root == dataset.videos_root == folder
    assert all(dataset.path(v).is_file() and v.frames > 1 for v in dataset.videos)
    assert dataset.manifest["data"] == {"preset": "tiny", "seed": 0}
    assert dataset.manifest["label_release"] == "synthetic-v1" and dataset.manifest["prevalence"] is None
    for side in ("train", "test"):
        assert side in dataset.parts[1].values()
    before = (folder / "index.json").stat().st_mtime_ns
    assert catalogue.dataset(name, home=data_home, reporter=Silent(), **TINY) == dataset  # type: ignore[arg-type]
    assert (folder / "index.json").stat().st_mtime_ns == before
    assert data.check(dataset).problems == ()


def test_a_twin_whose_index_was_lost_is_indexed_again_to_the_same(data_home: Path) -> None:
    dataset = catalogue.dataset("synth-pa", home=data_home, reporter=Silent(), **TINY)  # type: ignore[arg-type]
    (dataset.root / "index.json").unlink()
    again = catalogue.dataset("synth-pa", home=data_home, reporter=Silent(), **TINY)  # type: ignore[arg-type]
    assert again == dataset
    assert any(v.spans["privacy"] for v in again.videos)


def test_embedded_data_with_other_lists_are_made_too(data_home: Path) -> None:
    name = "synth-faces@paper-random"
    dataset = catalogue.dataset(name, home=data_home, reporter=Silent(), **TINY)  # type: ignore[arg-type]
    assert dataset.benchmark == catalogue.benchmark(name, "tiny")
    assert dataset.parts != read_index(dataset.root).parts


def test_an_embedded_set_of_another_version_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = data.folder(tmp_path, "synth-hmdb", "tiny", 0)
    shutil.copytree(tiny, folder)
    manifest = read_json(folder / "index.json")
    manifest["benchmark"]["version"] = 0
    write_json(folder / "index.json", manifest)
    with pytest.raises(UserError, match="holds another synth-hmdb, it is of version 0, this is version 1"):
        catalogue.dataset("synth-hmdb", home=tmp_path, reporter=Silent(), **TINY)  # type: ignore[arg-type]
