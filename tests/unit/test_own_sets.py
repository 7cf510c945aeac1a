"""A data team's own videos and labels: prepared, split and found by name as the published data sets are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench import catalogue, data, labels, metrics, splits
from stp_bench.errors import UserError
from stp_bench.index import Dataset
from stp_bench.labels import LabelTable
from stp_bench.prepare import Report, prepare
from stp_bench.progress import Silent
from stp_bench.schema import Target
from stp_bench.video_io import write_video

FIVE = ("face", "skin_color", "gender", "nudity", "relationship")
PRIVACY = Target(name="privacy", kind="multilabel", classes=FIVE, private=True)
IDS = tuple(
    f"{action}/{who}_{n}" for action in ("run", "sit") for who in ("ann", "bob", "cy", "di", "ed") for n in (0, 1)
)


@cache
def clip() -> bytes:
    """A small real AVI."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.avi"
        write_video(path, [np.full((16, 24, 3), 10 * t, np.uint8) for t in range(4)], 25, codec="mpeg4")
        return path.read_bytes()


def place(root: Path, video_ids: Iterable[str], suffix: str = ".avi") -> Path:
    """Videos under these names, no two of equal bytes: what follows the last chunk of an AVI is not read."""
    for video_id in video_ids:
        path = root / f"{video_id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip() + video_id.encode())
    return root


def bits(number: int) -> tuple[int, ...]:
    return tuple(number >> k & 1 for k in range(5))


def table(path: Path, rows: Mapping[str, tuple[int, ...] | None]) -> Path:
    made = {i: {"privacy": row} for i, row in sorted(rows.items())}
    labels.write_table(LabelTable(release="ours-v1", targets=(PRIVACY,), rows=made), path)
    return path


class Own:
    """Twenty videos of two actions by five people, with labels, and a data home."""

    def __init__(self, tmp_path: Path) -> None:
        self.home, self.root = tmp_path / "home", tmp_path
        self.videos = place(tmp_path / "videos", IDS)
        self.labels = table(tmp_path / "labels.csv", {i: bits(n) for n, i in enumerate(IDS)})

    def prepare(self, name: str = "ours", **options: Any) -> Report:
        own = {key: options.pop(key) for key in ("groups", "stride") if key in options}
        given = {"videos": self.videos, "label_file": self.labels, **options}
        kind = catalogue.own_set(name, videos=given["videos"], **own)
        return prepare(kind, home=self.home, reporter=Silent(), **given)

    def open(self, name: str = "ours") -> Dataset:
        return catalogue.dataset(name, preset="small", seed=0, home=self.home, reporter=Silent())


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_folders_are_the_actions_and_the_table_tells_the_rest(own: Own) -> None:
    report = own.prepare(stride=3)
    assert (report.known, report.found, report.matched, report.indexed) == (20, 20, 20, 20)
    assert report.labels_verified is None and report.lists_verified is None
    dataset = own.open()
    assert [v.video_id for v in dataset.videos] == sorted(IDS)
    assert all(dataset.path(v).read_bytes().endswith(v.video_id.encode()) for v in dataset.videos)
    assert dataset.benchmark.action.classes == ("run", "sit") and dataset.benchmark.privacy.classes == FIVE
    assert (dataset.benchmark.stride, dataset.benchmark.splits, dataset.benchmark.title) == (3, 5, "ours")
    of = {v.video_id: v.labels for v in dataset.videos}
    assert of["sit/ann_1"] == {"action": (1,), "privacy": bits(IDS.index("sit/ann_1"))}


def test_without_lists_three_fifths_of_each_action_train_by_a_rule_that_anybody_can_repeat(own: Own) -> None:
    report = own.prepare()
    assert any("one person may be on both sides" in note for note in report.notes)
    parts = own.open().parts
    assert list(parts) == [1, 2, 3, 4, 5]
    for split, side in parts.items():
        for action in ("run", "sit"):
            ranked = sorted((i for i in IDS if i.startswith(action)), key=lambda i: sha(f"stp:ours:{split - 1}:{i}"))
            assert [i for i in ranked if side[i] == "train"] == ranked[:6]
    assert parts[1] != parts[2]


def test_people_who_act_in_several_actions_stay_on_one_side(own: Own) -> None:
    (own.videos / "groups.csv").write_text(
        "video_id,group\n" + "".join(f"{i},{i.split('/')[1].split('_')[0]}\n" for i in IDS)
    )
    report = own.prepare()
    assert not any("both sides" in note for note in report.notes)
    dataset = own.open()
    assert {v.group for v in dataset.videos} == {"ann", "bob", "cy", "di", "ed"}
    for split, side in dataset.parts.items():
        people = sorted({v.group or "" for v in dataset.videos}, key=lambda who: sha(f"stp:ours:{split - 1}:{who}"))
        trained = {v.group for v in dataset.videos if side[v.video_id] == "train"}
        assert trained == set(people[:3])
        assert {v.group for v in dataset.videos if side[v.video_id] == "test"} == set(people[3:])
    assert all(not split.shared_groups for split in data.check(dataset).splits.values())


def test_groups_of_one_action_each_are_divided_within_it(own: Own, tmp_path: Path) -> None:
    file = tmp_path / "tied.csv"
    some = [i for i in IDS if not i.endswith("ed_1")]
    file.write_text(
        "video_id,group\n" + "".join(f"{i.upper()[:3]}{i[3:]}.avi,{i[:-2]}\n" for i in some) + "sit/ed_1,\n"
    )
    report = own.prepare(groups=file)
    assert "2 of 20 videos are in no group: each is its own" in report.notes
    dataset = own.open()
    for side in dataset.parts.values():
        trained = {v.group or v.video_id for v in dataset.videos if side[v.video_id] == "train"}
        # Six units of each action: four people, and the two videos of ed of which one is tied to nothing.
        assert Counter(unit[:3] for unit in trained) == {"run": 4, "sit": 4}
        tested = {v.group or v.video_id for v in dataset.videos if side[v.video_id] == "test"}
        assert not trained & tested


def test_groups_may_be_told_from_a_folder_further_up_and_must_be_of_these_videos(own: Own, tmp_path: Path) -> None:
    file = tmp_path / "tied.csv"
    rows = "".join(f"day1/{i}.avi,{i.split('/')[1].split('_')[0]}\n" for i in IDS)
    file.write_text("video_id,group\n" + rows + "day1/run/nobody_7.avi,zed\n")
    report = own.prepare(groups=file)
    assert any("1 rows of the table of groups name no video (run/nobody_7)" in note for note in report.notes)
    assert {v.group for v in own.open().videos} == {"ann", "bob", "cy", "di", "ed"}
    file.write_text("video_id,group\nrun/nobody_7.avi,zed\n")
    with pytest.raises(UserError, match="the table of groups is of other videos"):
        own.prepare(groups=file)
    file.write_text("video_id,group\nday1/run/ann_0.avi,ann\nday2/run/ann_0.avi,bob\n")
    with pytest.raises(UserError, match="one video is in two groups"):
        own.prepare(groups=file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("video,who\n", "its columns are not video_id, group"),
        ("video_id,group\nrun/ann_0\n", "row 2 has 1 cells, not 2"),
        ("video_id,group\nrun/ann_0,a\nrun/ann_0,b\n", "row 3 puts 'run/ann_0' into a second group"),
        ("video_id,group\nrun/ann_0,a\x1b[2J\n", "row 2 has an unusable name"),
        ("video_id,group\nrun/ann_0,\xff\n", "no CSV file in UTF-8"),
    ],
)
def test_a_table_of_groups_that_cannot_be_read_says_where(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "groups.csv"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=says):
        splits.read_groups(file)
    with pytest.raises(UserError, match="cannot read groups"):
        splits.read_groups(tmp_path / "nowhere.csv")


def test_own_lists_are_read_in_the_manner_of_hmdb51_or_of_ucf101(own: Own, tmp_path: Path) -> None:
    hmdb, ucf = tmp_path / "hmdb", tmp_path / "ucf"
    for folder in (hmdb, ucf):
        folder.mkdir()
    for action in ("run", "sit"):
        codes = {i: 1 + (i[-1] == "1") for i in IDS if i.startswith(action) and "ed" not in i}
        lines = [f"{i[4:]}.avi {code} \n" for i, code in codes.items()]
        (hmdb / f"{action}_test_split1.txt").write_text("".join(lines))
    (ucf / "classInd.txt").write_text("1 run\n2 sit\n")
    (ucf / "trainlist01.txt").write_text("".join(f"{i}.avi {1 + (i[0] == 's')}\n" for i in IDS if i.endswith("0")))
    (ucf / "testlist01.txt").write_text("".join(f"{i}.avi\n" for i in IDS if i.endswith("1")))
    report = own.prepare(splits=hmdb)
    assert report.extra == tuple(f"{i}.avi" for i in IDS if "ed" in i) and report.indexed == 16
    assert own.open().benchmark.splits == 1
    assert own.open().parts[1] == {i: "test" if i[-1] == "1" else "train" for i in IDS if "ed" not in i}
    assert own.open().manifest["list_files"]["family"] == "hmdb51"
    assert own.open().manifest["list_files"]["verified"] is None
    own.prepare(splits=ucf)
    assert own.open().parts[1] == {i: "test" if i[-1] == "1" else "train" for i in IDS}
    for file in list(hmdb.iterdir()):
        file.rename(hmdb / file.name.replace("split1", "split2"))
    with pytest.raises(UserError, match="of splits 2; number the splits from 1"):
        own.prepare(splits=hmdb)
    with pytest.raises(UserError, match=r"\(HMDB51\).*\(UCF101\)"):
        own.prepare(splits=own.videos)


def test_what_nobody_labelled_is_refused_or_left_out_and_counted(own: Own, tmp_path: Path) -> None:
    rows = {i: bits(n) for n, i in enumerate(IDS) if n not in (0, 1)}
    some = table(tmp_path / "some.csv", {**rows, IDS[1]: None})
    with pytest.raises(UserError, match=r"2 of 20 videos of ours have no labels.*run/ann_0.*--allow-missing"):
        own.prepare(label_file=some)
    before = own.prepare() and own.open().parts
    report = own.prepare(label_file=some, allow_missing=True)
    assert report.unlabelled == IDS[:2] and report.indexed == 18
    # Sides are those of the whole set: a label that comes later moves no other video.
    assert own.open().parts == {n: {i: part for i, part in side.items() if i in rows} for n, side in before.items()}
    (own.videos / "sit/ed_1.avi").unlink()
    with pytest.raises(UserError, match=r"1 of 20 videos of ours are missing.*sit/ed_1"):
        own.prepare()


def test_an_action_without_labelled_videos_is_no_class(own: Own) -> None:
    place(own.videos, ["misc/odd"])
    assert own.prepare(allow_missing=True).indexed == 20
    assert own.open().benchmark.action.classes == ("run", "sit")


def test_a_video_keeps_the_labels_that_were_decided_and_no_other_counts(own: Own, tmp_path: Path) -> None:
    rows = {i: bits(n) for n, i in enumerate(IDS)}
    rows["run/ann_0"] = (1, -1, 0, -1, 1)
    rows["sit/bob_1"] = (-1, 1, 1, 1, 1)
    report = own.prepare(label_file=table(tmp_path / "open.csv", rows))
    assert any("2 videos have attributes without a label (run/ann_0, sit/bob_1)" in note for note in report.notes)
    dataset = own.open()
    assert {v.video_id: v.labels["privacy"] for v in dataset.videos} == rows
    known = {k: [row[k] for row in rows.values() if row[k] >= 0] for k in range(5)}
    shares = [sum(of) / len(of) for of in known.values()]
    checked = data.check(dataset)
    assert list(checked.all.prevalence.values()) == pytest.approx(shares) and checked.problems == ()
    assert [count.labelled for count in checked.labels.targets[0].classes] == [len(of) for of in known.values()]
    values = np.array([v.labels["privacy"] for v in dataset.videos])
    np.testing.assert_allclose(metrics.prevalence(values), shares)
    # Whatever is said of an unlabelled unit, the score is that of the others.
    scores = np.random.default_rng(0).random(values.shape)
    other = np.where(values < 0, 1 - scores, scores)
    for score in (metrics.average_precision, metrics.f1, metrics.auroc):
        np.testing.assert_array_equal(score(values, scores), score(values, other))
        column = values[:, 0] >= 0
        np.testing.assert_array_equal(score(values, scores)[0], score(values[column, :1], scores[column, :1])[0])


def test_a_table_that_was_changed_by_hand_is_taken_and_the_report_says_so(own: Own) -> None:
    own.labels.write_text(own.labels.read_text().replace("run/ann_0,0,", "run/ann_0,1,"))
    assert "the label table was changed by hand since it was written" in own.prepare().notes
    own.labels.with_suffix(".json").unlink()
    assert own.prepare().label_release == "labels"


def test_labels_of_a_folder_further_up_and_folders_in_another_case_fit(own: Own, tmp_path: Path) -> None:
    above = table(tmp_path / "above.csv", {f"videos/{i.replace('run', 'Run')}": bits(n) for n, i in enumerate(IDS)})
    assert own.prepare(label_file=above).indexed == 20
    (own.videos / "RUN").mkdir(exist_ok=True)
    (own.videos / "run/ann_0.avi").rename(own.videos / "RUN/ann_0.MOV")
    report = own.prepare()
    assert report.indexed == 20 and own.open().benchmark.action.classes == ("RUN", "sit")
    place(own.videos, ["run/ann_0"])
    with pytest.raises(UserError, match=r"there twice.*RUN/ann_0\.MOV or run/ann_0\.avi"):
        own.prepare()


def test_folders_that_do_not_tell_the_action_are_refused(own: Own, tmp_path: Path) -> None:
    place(own.videos, ["loose"])
    with pytest.raises(UserError, match=r"1 videos in .* are of no action, such as loose\.avi"):
        own.prepare()
    with pytest.raises(UserError, match="ours has a single action, all videos lie in run"):
        own.prepare(videos=place(tmp_path / "one", IDS[:3]))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"nothing there ends in .*\.mov"):
        own.prepare(videos=tmp_path / "none")


def test_labels_that_are_no_private_attributes_of_videos_are_refused(own: Own, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no labels of ours.*--labels"):
        own.prepare(label_file=None)
    action = Target(name="mood", kind="multiclass", classes=("glad", "sad"))
    rows = {i: {"mood": (0,), "privacy": bits(3)} for i in IDS}
    labels.write_table(LabelTable(release="x", targets=(action, PRIVACY), rows=rows), tmp_path / "both.csv")
    with pytest.raises(UserError, match="it tells mood, privacy; give yes-or-no columns"):
        own.prepare(label_file=tmp_path / "both.csv")
    with pytest.raises(UserError, match="labels of ours-v1 are of other videos, they label a/b"):
        own.prepare(label_file=table(tmp_path / "other.csv", {"a/b": bits(1)}), allow_missing=True)


@pytest.mark.parametrize(
    "name", ["vp-hmdb51", "synth-hmdb", "Ours", "our set", "ours@x", "../ours", "-ours", "", "x" * 65]
)
def test_a_name_that_is_taken_or_fits_no_folder_is_refused(own: Own, name: str) -> None:
    with pytest.raises(UserError, match="cannot name your own data set"):
        own.prepare(name)
    assert not (own.home / "data").exists()


def test_an_own_set_is_found_by_its_name_like_a_published_one(own: Own) -> None:
    assert catalogue.own(own.home) == () and not catalogue.is_real("ours", own.home)
    with pytest.raises(UserError, match="unknown benchmark 'ours'"):
        catalogue.benchmark("ours", "", home=own.home)
    own.prepare(stride=4)
    own.prepare("ours-too")
    assert catalogue.own(own.home) == ("ours", "ours-too")
    assert catalogue.is_real("ours@official", own.home) and "ours" in catalogue.names(own.home)
    kind = catalogue.find("ours", own.home)
    assert (kind.own, kind.stride, kind.actions, kind.attributes, kind.videos) == (True, 4, 2, FIVE, 20)
    assert kind.splits == 5 and kind.source == str(own.videos)
    assert catalogue.steps("ours", own.home) == ()
    assert catalogue.benchmark("ours", "", home=own.home) == own.open().benchmark
    assert [other.name for other in catalogue.neighbors("ours", preset="", seed=0, home=own.home)] == ["ours-too"]
    with pytest.raises(UserError, match=r"unknown benchmark 'our', .*did you mean ours"):
        catalogue.benchmark("our", "", home=own.home)
    with pytest.raises(UserError, match="add --own, and its --labels"):
        catalogue.to_prepare("ours", own.home)
    own.videos.rename(own.root / "moved")
    with pytest.raises(UserError, match="data prepare ours --videos DIR --own --labels FILE"):
        own.open()


def test_a_known_name_misspelt_is_still_answered_with_the_right_one(tmp_path: Path) -> None:
    assert catalogue.to_prepare("vp-hmdb51", tmp_path).name == "vp-hmdb51"
    with pytest.raises(UserError, match="did you mean vp-hmdb51"):
        catalogue.to_prepare("vp-hmdb15", tmp_path)
    with pytest.raises(UserError, match="add --own for videos of your own"):
        catalogue.to_prepare("zzz", tmp_path)
