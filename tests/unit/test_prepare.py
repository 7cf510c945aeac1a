"""Preparing real data sets: trees of small real videos under official-looking names, with lists and labels."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import labels, real, splits
from stp_bench.data import open_dataset, prepared_folder
from stp_bench.errors import UserError, WorkError
from stp_bench.files import read_json
from stp_bench.index import Dataset
from stp_bench.labels import LabelTable
from stp_bench.matching import scan
from stp_bench.prepare import Report, prepare
from stp_bench.probing import probe_files
from stp_bench.progress import Silent
from stp_bench.schema import SplitRef, Target
from stp_bench.video_io import write_video

RELEASE = Path(__file__).parents[3] / "shared/data"
FIVE = Target(
    name="privacy",
    kind="multilabel",
    classes=("face", "skin_color", "gender", "nudity", "relationship"),
    private=True,
)
ODD = {  # names as HMDB51 has them, and their code in split 1
    "climb/#1_Fan_climb_f_cm_np1_ba_med_0": 1,
    "climb/-Free_Solo-_climb_f_nm_np1_ba_med_1": 2,
    "climb/[REC]_2_climb_u_cm_np1_fr_bad_2": 1,
    "climb/Rock_&_Roll;_Part(1)_climb_l_cm_np2_le_goo_3": 0,
    "climb_stairs/#1_Fan_climb_stairs_f_cm_np1_ba_med_0": 2,
    "climb_stairs/=Hello+World!_climb_climb_stairs_f_cm_np1_ba_med_7": 1,
}


@cache
def clip(frames: int = 4) -> bytes:
    """A small real AVI."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.avi"
        pictures = [np.full((16, 24, 3), 10 * t % 255, np.uint8) for t in range(frames)]
        write_video(path, pictures, 25, codec="mpeg4")
        return path.read_bytes()


def place(root: Path, video_ids: Iterable[str], suffix: str = ".avi", frames: int = 4) -> Path:
    """Videos under these names, no two of equal bytes: what follows the last chunk of an AVI is not read."""
    for video_id in video_ids:
        path = root / f"{video_id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(frames) + video_id.encode())
    return root


def hmdb_lists(folder: Path, codes: Mapping[str, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for action in {i.partition("/")[0] for i in codes}:
        lines = [f"{i.partition('/')[2]}.avi {c} \n" for i, c in sorted(codes.items()) if i.startswith(f"{action}/")]
        (folder / f"{action}_test_split1.txt").write_text("".join(lines))
    return folder


def table(path: Path, video_ids: Iterable[str], release: str = "mine") -> Path:
    """A label table of ours: the labels are the bits of a video's number."""
    rows = {i: {"privacy": tuple(n >> k & 1 for k in range(5))} for n, i in enumerate(sorted(video_ids))}
    labels.write_table(LabelTable(release=release, targets=(FIVE,), rows=rows), path)
    return path


class Set:
    """A small set of the shape of VP-HMDB51 on the disk, and a data home."""

    def __init__(self, tmp_path: Path, codes: Mapping[str, int] = ODD) -> None:
        self.home = tmp_path / "home"
        self.videos = place(tmp_path / "videos", codes)
        self.lists = hmdb_lists(tmp_path / "lists", codes)
        self.labels = table(tmp_path / "labels.csv", codes)

    def prepare(self, name: str = "vp-hmdb51", **options: Any) -> Report:
        given = {"videos": self.videos, "splits": self.lists, "label_file": self.labels, "accept_unknown": True}
        return prepare(real.find(name), home=self.home, reporter=Silent(), **{**given, **options})

    def open(self, name: str = "vp-hmdb51", **more: Any) -> Dataset:
        return open_dataset(prepared_folder(self.home, name), **more)

    @property
    def report(self) -> Any:
        return read_json(self.home / "data/vp-hmdb51/report.json")


@pytest.fixture
def hmdb(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_videos_lists_and_labels_are_joined_by_name_whatever_the_name(hmdb: Set) -> None:
    report = hmdb.prepare()
    assert (report.known, report.found, report.matched, report.indexed) == (6, 6, 6, 6)
    assert report.missing == report.extra == report.unlabelled == () and report.unreadable == {}
    dataset = hmdb.open()
    assert [v.video_id for v in dataset.videos] == sorted(ODD)
    assert all(dataset.path(v).read_bytes().endswith(v.video_id.encode()) for v in dataset.videos)
    assert dataset.parts == {1: {i: ("", "train", "test")[code] for i, code in ODD.items() if code}}
    assert dataset.benchmark.action.classes == ("climb", "climb_stairs")
    third = dataset.videos[2]
    assert third.labels == {"action": (0,), "privacy": (0, 1, 0, 0, 0)}  # third in order: bits of 2
    assert (third.group, third.frames, third.height, third.width) == ("Rock_&_Roll;_Part(1)", 4, 16, 24)
    assert dataset.manifest["counts"]["matched"] == 6 and dataset.manifest["labels_verified"] is False


def test_further_lists_are_opened_by_name(hmdb: Set) -> None:
    hmdb.prepare()
    disjoint = hmdb.open(lists="title-disjoint")
    # Title #1_Fan is tested in climb_stairs: its clip of climb leaves the training side.
    assert {i for i, part in disjoint.parts[1].items() if part == "train"} == {
        i for i, code in ODD.items() if code == 1 and "#1" not in i
    }
    assert disjoint.benchmark.name == "vp-hmdb51@title-disjoint"
    assert set(hmdb.open(lists="validation").parts[1]) == {i for i, code in ODD.items() if code == 1}
    with pytest.raises(UserError, match="official, title-disjoint, validation"):
        hmdb.open(lists="others")


def test_a_count_that_is_not_the_known_one_is_explained(hmdb: Set) -> None:
    notes = " ".join(hmdb.prepare().notes)
    assert "the lists hold 6 videos, VP-HMDB51 has 6,766" in notes
    kind = replace(real.find("vp-hmdb51"), figures={6: "six is a joke"})
    report = prepare(
        kind, videos=hmdb.videos, splits=hmdb.lists, label_file=hmdb.labels, home=hmdb.home, accept_unknown=True,
        reporter=Silent(),
    )  # fmt: skip
    assert any("(six is a joke)" in note for note in report.notes)
    assert "6,849" in real.find("vp-hmdb51").figures[6849]


def test_missing_videos_stop_a_set_that_should_be_complete(hmdb: Set) -> None:
    gone = sorted(ODD)[:2]
    for video_id in gone:
        (hmdb.videos / f"{video_id}.avi").unlink()
    with pytest.raises(UserError, match=r"2 of 6 videos of VP-HMDB51 are missing.*such as climb/#1.*--allow-missing"):
        hmdb.prepare()
    assert hmdb.report["missing"] == gone and hmdb.report["per_class"]["climb"]["missing"] == 2
    assert not (hmdb.home / "data/vp-hmdb51/prepared").exists()
    report = hmdb.prepare(allow_missing=True)
    assert report.indexed == 4 and any("coverage 66.7 %" in note for note in report.notes)
    assert set(hmdb.open().parts[1]) == {i for i, code in ODD.items() if code and i not in gone}


def test_a_half_unpacked_archive_is_recognized_by_what_it_left(hmdb: Set) -> None:
    for path in (hmdb.videos / "climb_stairs").iterdir():
        path.unlink()
    (hmdb.videos / "climb_stairs" / "climb_stairs.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"whole classes are: climb_stairs, and 1 rar archives.*unpack each"):
        hmdb.prepare()
    for path in (hmdb.videos / "climb").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no videos.*1 rar archives lie there \(climb_stairs.rar\); unpack each"):
        hmdb.prepare()


def test_other_files_stay_out_and_are_named(hmdb: Set) -> None:
    place(hmdb.videos, ["climb/._#1_Fan_climb_f_cm_np1_ba_med_0", "climb/strange", ".trash/climb/x", "dance/a_dance"])
    (hmdb.videos / "climb" / "notes.txt").write_text("")
    (hmdb.videos / os.fsdecode(b"climb/caf\xe9.avi")).write_bytes(b"")
    report = hmdb.prepare()
    assert report.extra == ("climb/caf\ufffd.avi", "climb/strange.avi", "dance/a_dance.avi")
    assert report.per_class["climb"]["extra"] == 2 and report.indexed == 6
    assert any("3 other videos are not in VP-HMDB51" in note for note in report.notes)


def test_one_video_in_two_files_is_refused(hmdb: Set) -> None:
    place(hmdb.videos / "mp4", [sorted(ODD)[0]], suffix=".MP4")
    with pytest.raises(UserError, match=r"1 of the videos.*there twice.*climb/#1.*mp4/climb/#1.*one copy only"):
        hmdb.prepare()


def test_a_folder_of_another_data_set_is_refused(hmdb: Set, tmp_path: Path) -> None:
    other = place(tmp_path / "other", ["Archery/v_Archery_g01_c01"])
    with pytest.raises(UserError, match=r"no videos of VP-HMDB51.*Archery/v_Archery_g01_c01"):
        hmdb.prepare(videos=other)
    with pytest.raises(UserError, match="nothing there ends in"):
        hmdb.prepare(videos=hmdb.lists)
    with pytest.raises(UserError, match=r"there is no folder.*hmdb51_org\.rar"):
        hmdb.prepare(videos=tmp_path / "nowhere")


def test_labels_of_another_data_set_are_refused(hmdb: Set, tmp_path: Path) -> None:
    other = table(tmp_path / "other.csv", ["Archery/v_Archery_g01_c01"])
    with pytest.raises(UserError, match=r"labels of mine are of another data set.*Archery"):
        hmdb.prepare(label_file=other)
    table(tmp_path / "ucf.csv", ODD, release="vp-ucf101")
    with pytest.raises(UserError, match="other labels"):
        hmdb.prepare(label_file=tmp_path / "ucf.csv")


def test_unlabelled_videos_are_refused_or_left_out_and_named(hmdb: Set, tmp_path: Path) -> None:
    some = table(tmp_path / "some.csv", [*sorted(ODD)[:4], "climb/elsewhere"])
    with pytest.raises(UserError, match=r"2 of 6 videos .* have no labels.*--allow-missing"):
        hmdb.prepare(label_file=some)
    report = hmdb.prepare(label_file=some, allow_missing=True)
    assert report.unlabelled == tuple(sorted(ODD)[4:]) and report.strange_labels == ("climb/elsewhere",)
    assert [v.video_id for v in hmdb.open().videos] == sorted(ODD)[:4]


def test_labels_of_a_class_in_another_spelling_are_those_of_the_listed_class(hmdb: Set, tmp_path: Path) -> None:
    shouted = table(tmp_path / "shouted.csv", [f"{i.partition('/')[0].upper()}/{i.partition('/')[2]}" for i in ODD])
    report = hmdb.prepare(label_file=shouted)
    assert (report.unlabelled, report.strange_labels, report.indexed) == ((), (), 6)


def test_a_table_of_a_release_that_is_not_the_published_one_is_refused_unless_accepted(
    hmdb: Set, tmp_path: Path
) -> None:
    own = table(tmp_path / "vp-hmdb51.csv", ODD, release="vp-hmdb51")
    refused = r"not hold the labels of vp-hmdb51 as published, {}.*--accept-unknown"
    with pytest.raises(UserError, match=refused.format("nothing beside it says")):
        hmdb.prepare(label_file=own, accept_unknown=False)
    own.write_text(own.read_text().replace(",1", ",0"))
    with pytest.raises(UserError, match=refused.format("it was changed by hand")):
        hmdb.prepare(label_file=own, accept_unknown=False)
    own.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=refused.format("nothing beside it says")):
        hmdb.prepare(label_file=own, accept_unknown=False)
    assert "the labels are not vp-hmdb51 as published" in hmdb.prepare(label_file=own).notes


def test_labels_and_lists_that_are_nowhere_are_asked_for(hmdb: Set, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labels fetch vp-hmdb51"):
        hmdb.prepare(label_file=None)
    with pytest.raises(UserError, match=r"no split lists of HMDB51.*test_train_splits\.rar"):
        hmdb.prepare(splits=None)
    (tmp_path / "testTrainMulti_7030_splits").symlink_to(hmdb.lists)
    table(labels.stored(hmdb.home, "vp-hmdb51"), ODD, release="vp-hmdb51")
    assert hmdb.prepare(splits=None, label_file=None).indexed == 6
    with pytest.raises(UserError, match="made by rule"):
        hmdb.prepare("pa-hmdb51", label_file=table(tmp_path / "p.csv", ODD))


def test_unknown_lists_and_labels_are_refused_unless_accepted(hmdb: Set) -> None:
    with pytest.raises(UserError, match=r"not those of HMDB51 as published.*--accept-unknown"):
        hmdb.prepare(accept_unknown=False)


def test_an_unreadable_video_fails_by_name_or_is_left_out_and_counted(hmdb: Set) -> None:
    bad = sorted(ODD)[1]
    path = hmdb.videos / f"{bad}.avi"
    path.write_bytes(clip(18)[:-2000])
    with pytest.raises(WorkError, match=r"1 of 6 videos.*cannot be read.*-Free_Solo-.*--skip-unreadable"):
        hmdb.prepare()
    report = hmdb.prepare(skip_unreadable=True)
    assert set(report.unreadable) == {bad} and report.indexed == 5
    assert bad not in {v.video_id for v in hmdb.open().videos} and bad not in hmdb.open().parts[1]
    assert hmdb.open().manifest["counts"]["unreadable"] == 1
    place(hmdb.videos, [bad])
    assert hmdb.prepare().indexed == 6


def test_a_failed_preparation_leaves_the_index_and_another_one_replaces_it(hmdb: Set, tmp_path: Path) -> None:
    hmdb.prepare()
    before = hmdb.open()
    (hmdb.videos / f"{sorted(ODD)[0]}.avi").write_bytes(b"")
    with pytest.raises(WorkError):
        hmdb.prepare()
    assert hmdb.open() == before
    other = place(tmp_path / "mp4", ODD, suffix=".mkv", frames=18)
    hmdb.prepare(videos=other)
    assert {v.frames for v in hmdb.open().videos} == {18} and hmdb.open().videos_root == other


def test_equal_files_under_two_names_are_reported(hmdb: Set) -> None:
    a, b = sorted(ODD)[0], sorted(ODD)[4]
    (hmdb.videos / f"{b}.avi").write_bytes((hmdb.videos / f"{a}.avi").read_bytes())
    assert hmdb.prepare().same_content == ((a, b),)


def test_links_in_a_circle_end(hmdb: Set, tmp_path: Path) -> None:
    (hmdb.videos / "climb" / "again").symlink_to(hmdb.videos)
    (tmp_path / "linked").symlink_to(hmdb.videos)
    assert len(scan(tmp_path / "linked").videos) == len(ODD)
    assert hmdb.prepare(videos=tmp_path / "linked").indexed == 6
    assert all(hmdb.open().path(v).exists() for v in hmdb.open().videos)


def ucf(folder: Path, classes: Mapping[str, int]) -> dict[str, str]:
    """Videos of UCF101's naming (25 groups of so many clips) and their folder; writes lists of three splits."""
    names = {}
    for action, clips in classes.items():
        stem = action.replace("HandstandPushups", "HandStandPushups")
        for group in range(1, 26):
            for number in range(1, clips + 1):
                names[f"{action}/v_{stem}_g{group:02d}_c{number:02d}"] = action
    folder.mkdir()
    order = list(classes)
    (folder / "classInd.txt").write_bytes("".join(f"{n} {c}\r\n" for n, c in enumerate(order, start=1)).encode())
    for split in (1, 2, 3):
        test = {f"_g{group:02d}_" for group in range(7 * split - 6, 7 * split + 1)}
        tested = [i for i in names if any(part in i for part in test)]
        train = [f"{i}.avi {order.index(names[i]) + 1}\r\n" for i in names if i not in set(tested)]
        (folder / f"trainlist0{split}.txt").write_bytes("".join(train).encode())
        (folder / f"testlist0{split}.txt").write_bytes("".join(f"{i}.avi\r\n" for i in tested).encode())
    return names


def test_ucf101_s_misspelt_class_keeps_its_official_key_in_any_folder(tmp_path: Path) -> None:
    names = ucf(tmp_path / "ucfTrainTestlist", {"Archery": 1, "HandstandPushups": 1})
    for video_id in names:
        place(tmp_path / "UCF-101", [video_id.replace("HandstandPushups/", "HandStandPushups/")], suffix=".AVI")
    table(tmp_path / "labels.csv", names)
    report = prepare(
        real.find("vp-ucf101"), videos=tmp_path / "UCF-101", label_file=tmp_path / "labels.csv", home=tmp_path / "home",
        accept_unknown=True, reporter=Silent(),
    )  # fmt: skip
    assert report.matched == report.indexed == 50 and report.per_class["HandstandPushups"]["matched"] == 25
    dataset = open_dataset(prepared_folder(tmp_path / "home", "vp-ucf101"))
    video = next(v for v in dataset.videos if v.video_id == "HandstandPushups/v_HandStandPushups_g03_c01")
    assert video.group == "HandstandPushups/g03" and dataset.path(video).exists()
    assert dataset.benchmark.stride == 4
    assert report.splits["official"]["1"] == {"train": 36, "test": 14, "unused": 0}
    # Of 18 training groups, 22 to 25 are the test side; the seven official test groups are in neither.
    assert report.splits["validation"]["1"] == {"train": 28, "test": 8, "unused": 14}


PA = {"face": [[0, 9, 2], [10, 17, 0]], "skin_color": [[0, 17, [1, 3]]], "gender": [[0, 17, [1, 2]]],
      "nudity": [[2, 30, 1]], "relationship": [[40, 50, 1]], "review": True}  # fmt: skip


def test_frame_ranges_are_cut_to_the_decoded_length_and_never_filled(tmp_path: Path) -> None:
    ids = [f"{action}/T{n}_{action}_f_cm_np1_ba_med_0" for action in ("wave", "hug") for n in range(5)]
    folder = tmp_path / "PrivacyAttributes"
    folder.mkdir()
    for action in ("wave", "hug"):
        videos = {f"{i.partition('/')[2]}.avi": PA for i in ids if i.startswith(action)}
        (folder / f"{action}.json").write_text(json.dumps(videos))
    videos = place(tmp_path / "hmdb51", [*ids, "hug/other_hug_f_cm_np1_ba_med_0"], frames=18)
    report = prepare(
        real.find("pa-hmdb51"), videos=videos, label_file=folder, home=tmp_path / "home", accept_unknown=True,
        reporter=Silent(),
    )  # fmt: skip
    assert report.indexed == 10 and report.label_release == "pa-hmdb51 (nonzero)"
    assert any("1 other videos of HMDB51" in note for note in report.notes)
    dataset = open_dataset(prepared_folder(tmp_path / "home", "pa-hmdb51"))
    video = dataset.videos[0]
    spans = [(s.start, s.end, s.labels) for s in video.spans["privacy"]]
    assert spans == [
        (0, 1, (1, 1, 1, -1, -1)), (2, 9, (1, 1, 1, 1, -1)), (10, 17, (0, 1, 1, 1, -1)),
    ]  # fmt: skip
    assert video.labels["privacy"] == (1, 1, 1, 1, -1)  # frames 40 to 50 do not exist
    assert dataset.benchmark.splits == 5 == len(dataset.parts)
    for split in range(1, 6):  # three of five titles of each class train
        counts = Counter((i.partition("/")[0], part) for i, part in dataset.parts[split].items())
        assert counts == {(a, p): n for a in ("wave", "hug") for p, n in (("train", 3), ("test", 2))}
    units = {i: f"{i.partition('/')[0]}/{splits.hmdb51_title(i)}" for i in ids}
    assert dataset.parts[2] == splits.ranked_split("pa-hmdb51", units, 1, lambda unit: unit.partition("/")[0])
    assert report.splits["paper-random"]["1"] == {"train": 6, "test": 4, "unused": 0}


def celebv(path: Path, clips: int) -> list[str]:
    """Three clips per source; the last clip has several emotions."""
    mapping = ["young", "pointy_nose", "male", "rosy_cheeks", "brown_hair"]
    found = {}
    for n in range(clips):
        several = {"sep_flag": True, "labels": [{"emotion": "happy", "start_sec": 0, "end_sec": 1}]}
        emotion = several if n == clips - 1 else {"sep_flag": False, "labels": "happy"}
        appearance = [n >> k & 1 for k in range(5)]
        found[f"-src{n // 3:07d}_{n % 3}"] = {
            "ytb_id": f"-src{n // 3:07d}",
            "duration": {"start_sec": 0, "end_sec": 2},
            "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1},
            "attributes": {"appearance": appearance, "action": [], "emotion": emotion},
        }
    path.write_text(json.dumps({"meta_info": {"appearance_mapping": mapping, "action_mapping": []}, "clips": found}))
    return list(found)


def test_a_set_whose_sources_disappear_reports_coverage_and_its_lists_do_not_depend_on_it(tmp_path: Path) -> None:
    ids = celebv(tmp_path / "celebvhq_info.json", 31)

    def prepared(some: list[str]) -> tuple[Report, Dataset]:
        videos = place(tmp_path / f"videos{len(some)}", some, suffix=".mp4")
        report = prepare(
            real.find("celebv-hq"), videos=videos, label_file=tmp_path / "celebvhq_info.json", home=tmp_path / "home",
            accept_unknown=True, reporter=Silent(),
        )  # fmt: skip
        return report, open_dataset(prepared_folder(tmp_path / "home", "celebv-hq"))

    whole, dataset = prepared(ids)
    assert whole.indexed == 30 and whole.extra == (f"{ids[-1]}.mp4",)  # the clip of several emotions
    assert any("labels hold 31 videos" in note for note in whole.notes)
    assert any("several emotions 1" in note for note in whole.notes)
    for side in dataset.parts.values():
        groups = {part: {i[:-2] for i, p in side.items() if p == part} for part in ("train", "test")}
        assert not groups["train"] & groups["test"] and len(groups["train"]) == 6
    some, partial = prepared(ids[:20])
    assert len(some.missing) == 10 and any("coverage 66.7 %" in note for note in some.notes)
    assert partial.parts[3] == {i: part for i, part in dataset.parts[3].items() if i in ids[:20]}
    assert partial.benchmark.action.name == "expression" and partial.videos[0].labels["expression"] == (1,)
    assert partial.manifest["split_lists"] == dataset.manifest["split_lists"]


def test_sides_of_p_hvu_come_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "hvu"
    folder.mkdir()
    tags = "Tag,Category\nrun,action\njump,action\nball,object\ntree,object\npark,scene\nred,attribute\n"
    (folder / "HVU_Tags_Categories_V1.0.csv").write_text(tags)
    header = "Tags,youtube_id,time_start,time_end\n"
    (folder / "HVU_Train_V1.0.csv").write_text(header + "run|ball|park,-aaaaaaaaaa,0,10\nrun|ball,bbbbbbbbbbb,0,10\n")
    (folder / "HVU_Val_V1.0.csv").write_text(header + "run|jump|tree|park|red,ccccccccccc,2.5,12.5\n")
    videos = place(tmp_path / "clips", ["-aaaaaaaaaa_000000_000100", "deep/ccccccccccc_000025_000125"], suffix=".mp4")
    report = prepare(
        real.find("p-hvu"), videos=videos, label_file=folder, home=tmp_path / "home", accept_unknown=True,
        reporter=Silent(),
    )  # fmt: skip
    assert report.indexed == 2 and any("1 train videos, P-HVU has 245,212" in note for note in report.notes)
    dataset = open_dataset(prepared_folder(tmp_path / "home", "p-hvu"))
    (test,) = dataset.split(SplitRef(benchmark="p-hvu", part="test", split=1))
    assert test.group == "ccccccccccc"
    assert test.labels == {"action": (1, 1), "privacy": (0, 1, 1)}


def test_known_files_are_not_decoded_again_but_touched_ones_are(tmp_path: Path) -> None:
    root = place(tmp_path / "v", [f"{n:03d}" for n in range(40)])
    files = {path.stem: path for path in root.iterdir()}
    journal = tmp_path / "home" / "journal"

    def run(**more: Any) -> tuple[list[tuple[int, int]], Any]:
        calls: list[tuple[int, int]] = []
        return calls, probe_files(files, journal, progress=lambda *c: calls.append(c), **more)

    calls, (facts, unreadable) = run(workers=3)
    assert calls == [(n, 40) for n in range(41)] and not unreadable
    assert {f.frames for f in facts.values()} == {4} and len({f.sha256 for f in facts.values()}) == 40
    journal.write_text(journal.read_text() + '["half a li')
    assert run()[1] == (facts, {}) and run()[0] == [(40, 40)]
    files["007"].write_bytes(clip(18) + b"other")
    calls, (again, _) = run()
    assert calls == [(39, 40), (40, 40)]
    assert again["007"].frames == 18 and again["007"].sha256 != facts["007"].sha256


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found through /proc")
def test_a_decoder_that_dies_of_a_video_costs_that_video_only(tmp_path: Path) -> None:
    root = place(tmp_path / "v", [f"{n:02d}" for n in range(8)], frames=400)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done == 2 and not killed:
            children = " ".join(p.read_text() for p in Path("/proc/self/task").glob("*/children")).split()
            ours = [int(c) for c in children if b"stp_bench.probing" in Path(f"/proc/{c}/cmdline").read_bytes()]
            killed.extend(ours)
            for child in ours:
                os.kill(child, signal.SIGKILL)

    files = {path.stem: path for path in sorted(root.iterdir())}
    facts, unreadable = probe_files(files, tmp_path / "journal", workers=1, progress=kill)
    assert len(killed) == 1 and len(facts) == 7
    assert list(unreadable.values()) == ["the decoder crashed on it (SIGKILL)"]
    facts, unreadable = probe_files(files, tmp_path / "journal", workers=1)
    assert len(facts) == 8 and not unreadable


def test_an_error_of_the_caller_ends_the_workers(tmp_path: Path) -> None:
    files = {path.stem: path for path in place(tmp_path / "v", [f"{n:02d}" for n in range(40)]).iterdir()}

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_files(files, tmp_path / "journal", workers=2, progress=stop)
    calls: list[int] = []
    probe_files(files, tmp_path / "journal", progress=lambda done, total: calls.append(done))
    assert calls[0] >= 5


@pytest.mark.slow
@pytest.mark.skipif(not (RELEASE / "splits/hmdb51_splits.tar.gz").exists(), reason="the releases are not at hand")
def test_the_whole_of_vp_hmdb51_is_prepared_from_the_real_lists_and_labels(tmp_path: Path) -> None:
    lists = splits.read_lists(RELEASE / "splits/hmdb51_splits.tar.gz")
    report = prepare(
        real.find("vp-hmdb51"), videos=place(tmp_path / "videos", lists.ids), home=tmp_path / "home",
        splits=RELEASE / "splits/hmdb51_splits.tar.gz",
        label_file=RELEASE / "labels/hmdb51_privacy_attribute_label.pickle", reporter=Silent(),
    )  # fmt: skip
    assert report.matched == report.indexed == 6766 and report.notes == ()
    assert report.labels_verified and report.lists_verified
    assert report.splits["official"]["1"] == {"train": 3570, "test": 1530, "unused": 1666}
    dataset = open_dataset(prepared_folder(tmp_path / "home", "vp-hmdb51"))
    positives = np.sum([v.labels["privacy"] for v in dataset.videos], axis=0)
    assert dict(zip(FIVE.classes, positives.tolist(), strict=True)) == {
        "skin_color": 6109, "face": 4194, "gender": 6195, "nudity": 1815, "relationship": 1431,
    }  # fmt: skip


@pytest.mark.slow
def test_13320_videos_of_ucf101_s_naming_are_prepared(tmp_path: Path) -> None:
    # 101 classes x 25 groups x 5 clips = 12,625; a sixth clip in 27 classes: 675 more; 20 more in one group: 13,320.
    classes = {c: 6 if n < 27 else 5 for n, c in enumerate(splits.UCF101_CLASSES)}
    names = ucf(tmp_path / "lists", classes)
    for n in range(1, 21):
        names[f"YoYo/v_YoYo_g25_c{n + 10:02d}"] = "YoYo"
    more = "".join(f"{i}.avi 101\r\n" for i in names if "YoYo_g25" in i and int(i[-2:]) > 10)
    for split in (1, 2, 3):
        path = tmp_path / "lists" / f"trainlist0{split}.txt"
        path.write_bytes(path.read_bytes() + more.encode())
    table(tmp_path / "labels.csv", names)
    report = prepare(
        real.find("vp-ucf101"), videos=place(tmp_path / "UCF-101", names), splits=tmp_path / "lists",
        label_file=tmp_path / "labels.csv", home=tmp_path / "home", accept_unknown=True, reporter=Silent(),
    )  # fmt: skip
    assert report.matched == report.indexed == 13320
    assert not any("13,320" in note for note in report.notes)
    assert {sum(side.values()) for side in report.splits["official"].values()} == {13320}
    assert len(open_dataset(prepared_folder(tmp_path / "home", "vp-ucf101")).benchmark.action.classes) == 101
