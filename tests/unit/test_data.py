"""Opening and checking prepared benchmarks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from stp_bench.data import check, folder, open_dataset, prepared_folder, prevalence
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, write_index
from stp_bench.schema import Benchmark, Target, Video
from stp_bench.video_io import write_video

ACTION = Target(name="action", kind="multiclass", classes=("run", "jump", "sit"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
LABELS = [(1, 0), (1, 1), (0, 1), (1, 1), None, (0, 0)]
PARTS = ["train", "train", "test", "test", "train", None]
GROUPS = ["a", "b", "b", "c", "d", None]
SHARE = {"face": 0.6, "gender": 0.6}  # three of five labelled videos each


def prepare(root: Path, **manifest) -> Dataset:
    """Six videos of four frames: see the lists above. Their action is their number modulo 2."""
    videos, facts = [], {}
    for number, (labels, group) in enumerate(zip(LABELS, GROUPS, strict=True)):
        name, path = f"v{number}", root / "videos" / f"v{number}.avi"
        if not path.exists():
            write_video(path, [np.full((16, 16, 3), 40 * number + t, np.uint8) for t in range(4)], 25, codec="mpeg4")
        videos.append(
            Video(
                video_id=name, relpath=f"videos/{path.name}", labels={"action": (number % 2,), "privacy": labels},
                group=group, frames=4, height=16, width=16, fps=25.0,
            )
        )  # fmt: skip
        facts[name] = (path.stat().st_size, sha256_file(path))
    parts = {1: {f"v{n}": part for n, part in enumerate(PARTS) if part}}
    benchmark = Benchmark(name="toy", title="Toy", version=1, targets=(ACTION, PRIVACY), stride=2, splits=1)
    write_index(root, benchmark, videos, parts, facts, **manifest)  # type: ignore[arg-type]
    return open_dataset(root)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return prepare(tmp_path / "toy", prevalence=SHARE)


def test_embedded_data_lie_under_their_name_preset_and_seed():
    assert folder(Path("/home"), "synth-ucf", "tiny", 3) == Path("/home/data/synth-ucf/tiny-seed3")


def test_a_folder_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError, match=r"no such folder.*stp-bench data"):
        open_dataset(tmp_path / "missing")
    (tmp_path / "half").mkdir()
    with pytest.raises(UserError, match="not finished"):
        open_dataset(tmp_path / "half")


def test_a_benchmark_without_videos_is_refused(tmp_path):
    benchmark = Benchmark(name="toy", title="Toy", version=1, targets=(ACTION, PRIVACY), stride=2, splits=1)
    root = tmp_path / "none"
    root.mkdir()
    row = Video(
        video_id="v", relpath="v.avi", labels={"action": (0,), "privacy": None}, group=None, frames=1, height=1,
        width=1, fps=1.0,
    )  # fmt: skip
    write_index(root, benchmark, [row], {1: {}}, {"v": (0, "")})
    import pandas as pd

    from stp_bench.files import read_json, write_json

    pd.read_parquet(root / "index.parquet").iloc[:0].to_parquet(root / "index.parquet", index=False)
    manifest = read_json(root / "index.json") | {"index_sha256": sha256_file(root / "index.parquet")}
    write_json(root / "index.json", manifest)
    with pytest.raises(UserError, match="no videos"):
        open_dataset(root)


@pytest.mark.parametrize("content", ["{}", '{"benchmark": 3}', "[]", "nonsense"])
def test_a_damaged_index_is_a_work_error(dataset, content):
    (dataset.root / "index.json").write_text(content)
    with pytest.raises(WorkError, match=r"damaged|not a JSON document"):
        open_dataset(dataset.root)


def test_a_sound_benchmark_has_its_counts_and_no_problem_but_the_unlabelled_video(dataset):
    calls = []
    report = check(dataset, progress=lambda *c: calls.append(c))
    assert calls == [(n, 6) for n in range(1, 7)]
    assert (report.videos, report.frames, report.seconds) == (6, 24, pytest.approx(24 / 25))
    assert report.bytes == sum(p.stat().st_size for p in (dataset.root / "videos").iterdir())
    assert report.problems == ("1 video (v4) without private labels",)
    assert report.stated_prevalence == SHARE


def test_prevalence_is_counted_per_side_among_labelled_videos(dataset):
    report = check(dataset)
    split = report.splits[1]
    assert report.all.prevalence == {"face": 3 / 5, "gender": 3 / 5}
    assert split.train.prevalence == {"face": 1.0, "gender": 0.5}  # v0 and v1; v4 has no label
    assert split.test.prevalence == {"face": 0.5, "gender": 1.0}  # v2 and v3
    assert (split.train.videos, split.train.labelled, split.test.videos, split.unused) == (3, 2, 2, 1)
    assert report.all.per_action == {"run": 3, "jump": 3, "sit": 0}
    assert prevalence([], PRIVACY) == {"face": None, "gender": None}


def test_groups_on_both_sides_of_a_split_are_counted_but_no_problem(dataset):
    split = check(dataset).splits[1]
    assert split.shared_groups == ("b",) and split.test_in_shared_groups == 1


def test_missing_changed_and_unreadable_files_are_told_apart(dataset):
    videos = dataset.root / "videos"
    (videos / "v0.avi").unlink()
    write_video(videos / "v1.avi", [np.zeros((16, 16, 3), np.uint8)], 25, codec="mpeg4")
    (videos / "v2.avi").write_bytes(b"")
    content = (videos / "v3.avi").read_bytes()
    (videos / "v3.avi").write_bytes(content[: len(content) // 2])
    report = check(dataset)
    assert (report.missing, report.changed) == (("v0",), ("v1",))
    assert report.unreadable["v2"] == "the file is empty" and set(report.unreadable) == {"v2", "v3"}
    assert [p for p in report.problems if "v4" not in p] == [
        "1 video (v0) missing",
        "1 video (v1) changed since they were prepared",
        "2 videos (v2, v3) unreadable",
    ]


def test_one_content_on_both_sides_of_a_split_is_a_problem(dataset):
    videos = dataset.root / "videos"
    (videos / "v3.avi").write_bytes((videos / "v0.avi").read_bytes())
    report = check(prepare(dataset.root))
    assert report.splits[1].same_content == (("v0", "v3"),)
    assert any("v3" in p and "split 1" in p for p in report.problems)


def test_prevalence_that_differs_from_the_release_is_a_problem(dataset):
    report = check(prepare(dataset.root, prevalence={"face": 0.6, "gender": 0.25}))
    assert "prevalence of gender is 0.600, its release states 0.250" in report.problems
    assert not any("face" in p for p in report.problems)
    assert check(prepare(dataset.root)).stated_prevalence == {}


def test_labels_that_nobody_gave_count_neither_as_positive_nor_as_labelled():
    rows = [(1, -1), (0, 1), (-1, -1)]
    videos = [
        Video(
            video_id=str(n), relpath="", labels={"privacy": row}, group=None, frames=1, height=1, width=1, fps=1.0
        )
        for n, row in enumerate(rows)
    ]  # fmt: skip
    assert prevalence(videos, PRIVACY) == {"face": 1 / 2, "gender": 1.0}


def test_floors_and_co_occurrence_are_those_of_the_label_statistics(dataset):
    report = check(dataset)
    (counted,) = report.labels.targets
    assert counted.together == ((3, 2), (2, 3))  # rows 10, 11, 01, 11, 00
    floors = report.splits[1].floors
    assert floors is not None and (floors.train, floors.test) == (2, 2)
    assert floors.values["test_prevalence"] == {"face": 0.5, "gender": 1.0, "macro": 0.75}
    # v0 (run, 1 0) and v1 (jump, 1 1) train; v2 is run, v3 jump: every training video shows a face.
    assert floors.values["ap_action_only"]["face"] == 50.0
    assert report.same_content == ()


def test_equal_files_are_named_wherever_they_are(dataset):
    videos = dataset.root / "videos"
    (videos / "v5.avi").write_bytes((videos / "v0.avi").read_bytes())
    report = check(prepare(dataset.root))
    assert report.same_content == (("v0", "v5"),) and report.splits[1].same_content == ()


def test_training_videos_that_another_benchmark_tests_are_named(dataset, tmp_path):
    other = prepare(tmp_path / "other")  # the same ids and contents: v2 and v3 are tested there
    swapped = {1: {"v2": "train", "v0": "test"}}
    report = check(dataclasses.replace(dataset, parts=swapped), others=(other,))
    assert report.splits[1].tested_elsewhere == {"toy": ("v2",)}


def test_a_release_s_prevalence_binds_only_where_all_its_videos_are_there(dataset):
    stated = {"face": 0.1, "gender": 0.6}
    assert any("face" in p for p in check(prepare(dataset.root, prevalence=stated)).problems)
    part = check(prepare(dataset.root, prevalence=stated, counts={"missing": 3}))
    assert part.stated_prevalence == stated and not any("face" in p for p in part.problems)


def test_real_data_lie_under_their_name_and_may_have_further_lists(dataset):
    assert prepared_folder(Path("/home"), "p-hvu") == Path("/home/data/p-hvu/prepared")
    with pytest.raises(UserError, match="'mine'"):
        open_dataset(dataset.root, "mine")
