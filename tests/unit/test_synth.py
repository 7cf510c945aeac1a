"""The embedded pair: layouts, labels by quota, equal bytes in any order, and files that survive interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_annotations import attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index
from stp_bench.schema import SplitRef
from stp_bench.synth import NAMES, VERSION, benchmark, counts, make
from stp_bench.synth import _write as writing
from stp_bench.synth._motions import ACTIONS, held, perform
from stp_bench.synth._plan import PRESETS, PREVALENCE, Plan, generator, plan
from stp_bench.synth._render import boxes, frames
from stp_bench.video_io import probe, read_frames

ATTRIBUTES = ("face", "skin_color", "gender", "nudity", "relationship")
names = pytest.mark.parametrize("name", NAMES)
presets = pytest.mark.parametrize("preset", sorted(PRESETS))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Both data sets in their tiny preset."""
    root = tmp_path_factory.mktemp("synth")
    return {name: make(name, preset="tiny", seed=3, folder=root / name) for name in NAMES}


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a data set, bookkeeping left out."""
    return {
        str(p.relative_to(folder)): sha256_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def test_the_attributes_come_in_their_fixed_order_with_a_question_each() -> None:
    assert tuple(a.name for a in attributes()) == ATTRIBUTES
    assert all(a.question.endswith("?") and a.yes and a.no for a in attributes())


# --- names, splits and labels: no pixel needed ---


@names
@presets
def test_a_benchmark_says_what_its_plan_holds(name: str, preset: str) -> None:
    described, plans = benchmark(name, preset), plan(name, preset, 0)
    assert described.embedded and described.version == VERSION and described.stride == 2
    assert described.privacy.classes == ATTRIBUTES and described.privacy.private and not described.action.private
    assert set(described.action.classes) == {p.action for p in plans}
    assert counts(name, preset) == len(plans) == len({p.video_id for p in plans}) == len({p.relpath for p in plans})


def test_the_two_data_sets_share_no_action() -> None:
    first, second = (set(benchmark(name).action.classes) for name in NAMES)
    assert not {a.lower() for a in first} & {a.lower() for a in second}


@names
@presets
def test_every_action_is_split_alike_and_no_place_is_on_both_sides(name: str, preset: str) -> None:
    sizes, plans = PRESETS[preset], plan(name, preset, 1)
    for split in range(1, sizes.splits + 1):
        sides = Counter((p.action, p.part(split)) for p in plans)
        per_action = sizes.groups * sizes.clips
        test = sizes.test_groups * sizes.clips
        assert all(n == (test if side == "test" else per_action - test) for (_, side), n in sides.items())
        places = {side: {p.group for p in plans if p.part(split) == side} for side in ("train", "test")}
        assert not places["train"] & places["test"]
    tested = [p.video_id for s in range(1, sizes.splits + 1) for p in plans if p.part(s) == "test"]
    assert len(tested) == len(set(tested))


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(NAMES), preset=st.sampled_from(["tiny", "small"]), seed=st.integers(0, 2**40))
def test_prevalences_are_exact_on_each_side_and_a_bare_torso_shows_skin(name: str, preset: str, seed: int) -> None:
    plans = plan(name, preset, seed)
    for side in ("train", "test"):
        labels = np.array([p.labels for p in plans if p.part(1) == side])
        assert labels.sum(axis=0).tolist() == [round(PREVALENCE[a] * len(labels)) for a in ATTRIBUTES]
        assert (labels[:, 3] <= labels[:, 1]).all()


@names
def test_the_action_tells_nothing_about_the_attributes(name: str) -> None:
    plans = plan(name, "small", 0)
    table = pd.DataFrame([p.labels for p in plans], columns=list(ATTRIBUTES))
    rates = table.groupby([p.action for p in plans]).mean()
    independent = rates.drop(columns="nudity")  # drawn among skin_color, so a little less even
    assert float((independent - independent.mean()).abs().to_numpy().max()) <= 0.02
    assert float((rates["nudity"] - rates["nudity"].mean()).abs().max()) <= 0.05


@names
def test_labels_depend_on_the_seed_and_on_nothing_else(name: str) -> None:
    assert plan(name, "small", 5) == plan(name, "small", 5)
    assert [p.labels for p in plan(name, "small", 5)] != [p.labels for p in plan(name, "small", 6)]


def test_hmdb_names_follow_the_tag_grammar_and_ucf_names_theirs() -> None:
    hmdb = re.compile(r"(?P<title>\w+)_(?P<action>[a-z]+)_f_(cm|nm)_np[12]_(fr|ba)_(bad|med|goo)_\d+")
    for p in plan("synth-hmdb", "full", 0):
        folder, _, stem = p.video_id.partition("/")
        found = hmdb.fullmatch(stem)
        assert found and found["title"] == p.group and found["action"] == folder == p.action
    for p in plan("synth-ucf", "full", 0):
        assert re.fullmatch(rf"{p.action}/v_{p.action}_{p.group}_c\d\d", p.video_id)
        assert re.fullmatch(r"g\d\d", p.group)


@names
def test_unknown_names_presets_and_seeds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean synth-"):
        benchmark(name + "s")
    with pytest.raises(UserError, match="did you mean small"):
        counts(name, "smal")
    with pytest.raises(UserError, match="negative"):
        make(name, preset="tiny", seed=-1, folder=tmp_path)


# --- movement ---


@names
def test_only_what_an_action_animates_differs_from_a_held_pose(name: str) -> None:
    for label, action in ACTIONS[name].items():
        still, moved = held(64, generator(0, label)), perform(action, 64, generator(0, label), 0)
        travel = {
            f.name: float(np.ptp(getattr(moved, f.name), axis=0).max() - np.ptp(getattr(still, f.name), axis=0).max())
            for f in dataclasses.fields(still)
        }
        assert max(travel.values()) > 0.15, label


# --- the folder ---


@names
def test_videos_decode_to_the_frames_that_the_index_states(name: str, made: dict[str, Dataset]) -> None:
    dataset, sizes = made[name], PRESETS["tiny"]
    assert len(dataset.videos) == counts(name, "tiny")
    for video in dataset.videos[::5]:
        facts = probe(dataset.path(video))
        assert (facts.frames, facts.height, facts.width) == (video.frames, video.height, video.width)
        assert facts.fps == video.fps
        assert (video.frames, video.height, video.width) == (sizes.frames, sizes.height, sizes.width)


@names
def test_files_show_what_was_drawn_but_for_coding_noise(name: str, made: dict[str, Dataset]) -> None:
    chosen = plan(name, "tiny", 3)[7]
    video = next(v for v in made[name].videos if v.video_id == chosen.video_id)
    drawn = np.stack(list(frames(chosen))).astype(float)
    read = np.stack(list(read_frames(made[name].path(video)))).astype(float)
    assert np.abs(drawn - read).mean() < 8


def test_hmdb_split_lists_have_the_official_form(made: dict[str, Dataset]) -> None:
    dataset = made["synth-hmdb"]
    listed = {}
    for action in dataset.benchmark.action.classes:
        text = (dataset.root / "splits" / f"{action}_test_split1.txt").read_bytes().decode()
        assert "\r" not in text
        for line in text.splitlines():
            found = re.fullmatch(r"(\S+)\.avi ([12]) ", line)
            assert found is not None
            listed[f"{action}/{found[1]}"] = {"1": "train", "2": "test"}[found[2]]
    assert listed == dataset.parts[1]


def test_ucf_split_lists_have_the_official_form(made: dict[str, Dataset]) -> None:
    dataset = made["synth-ucf"]
    splits = dataset.root / "splits"
    texts = {n: (splits / f"{n}.txt").read_bytes().decode() for n in ("classInd", "trainlist01", "testlist01")}
    assert all(t.count("\r\n") == t.count("\n") == len(t.splitlines()) for t in texts.values())
    number = {action: int(i) for i, action in (line.split() for line in texts["classInd"].splitlines())}
    assert list(number) == list(dataset.benchmark.action.classes) and min(number.values()) == 1
    train = dict(line.split(" ") for line in texts["trainlist01"].splitlines())
    assert all(number[path.partition("/")[0]] == int(i) for path, i in train.items())
    test = texts["testlist01"].splitlines()
    listed = {p.removesuffix(".avi"): "train" for p in train} | {p.removesuffix(".avi"): "test" for p in test}
    assert listed == dataset.parts[1]


@names
def test_label_table_index_and_manifest_agree(name: str, made: dict[str, Dataset]) -> None:
    dataset = made[name]
    path = dataset.root / "privacy_labels.csv"
    table = pd.read_csv(path).set_index("video")
    assert list(table.columns) == ["action", *ATTRIBUTES]
    for video in dataset.videos:
        assert tuple(table.loc[video.video_id, list(ATTRIBUTES)]) == video.labels["privacy"]
        action = dataset.benchmark.action.classes[video.labels["action"][0]]  # type: ignore[index]
        assert table.loc[video.video_id, "action"] == action == video.video_id.partition("/")[0]
    manifest = dataset.manifest
    assert manifest["data"] == {"preset": "tiny", "seed": 3} and manifest["label_release"] == f"synthetic-v{VERSION}"
    assert manifest["labels_sha256"] == sha256_file(path)
    assert manifest["prevalence"] == pytest.approx(table[list(ATTRIBUTES)].mean().to_dict(), abs=1e-5)
    test = [v.labels["privacy"] for v in dataset.split(SplitRef(benchmark=name, part="test", split=1))]
    assert manifest["cmap_floor"] == pytest.approx(100 * np.mean(test), abs=1e-5)


@names
def test_boxes_lie_in_the_picture_and_heads_in_their_persons(name: str, made: dict[str, Dataset]) -> None:
    table = pd.read_parquet(made[name].root / "boxes.parquet")
    columns = ["video_id", "frame", "x1", "y1", "x2", "y2", "score", "kind", "width", "height"]
    assert list(table.columns) == columns
    assert set(table["kind"]) == {"person", "head"} and set(table["score"]) == {1.0}
    assert (table["x1"] < table["x2"]).all() and (table["y1"] < table["y2"]).all()
    assert table[["x1", "y1"]].to_numpy().min() >= 0
    assert (table["x2"] <= table["width"]).all() and (table["y2"] <= table["height"]).all()
    people = table[table["kind"] == "person"].groupby("video_id")["frame"].nunique()
    assert (people == PRESETS["tiny"].frames).all() and len(people) == len(made[name].videos)
    for one in plan(name, "tiny", 3)[::6]:
        person, head = boxes(one)[:, :, 0], boxes(one)[:, :, 1]
        assert (person[..., :2] <= head[..., :2] + 1e-9).all() and (head[..., 2:] <= person[..., 2:] + 1e-9).all()


@names
def test_a_box_covers_what_moves(name: str) -> None:
    steady = [p for p in plan(name, "small", 0) if not p.camera_moves and p.people == 1 and p.quality == 2]
    inside = []
    for one in steady[:: len(steady) // 3]:
        pictures = np.stack(list(frames(one))).astype(int)
        still = np.median(pictures, axis=0)
        for picture, (x1, y1, x2, y2) in zip(pictures, boxes(one)[0, :, 0], strict=True):
            moved = np.abs(picture - still).max(axis=2) > 60
            ys, xs = np.nonzero(moved)
            inside += ((xs >= x1 - 1) & (xs <= x2 + 1) & (ys >= y1 - 1) & (ys <= y2 + 1)).tolist()
    assert np.mean(inside) > 0.75  # the rest: where a body was at other times, and passers


# --- the same bytes, always ---


def test_worker_count_and_order_change_no_byte(
    made: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FEW", 0)
    backwards = writing._render_all
    monkeypatch.setattr(writing, "_render_all", lambda plans, folder, workers: backwards(plans[::-1], folder, workers))
    make("synth-hmdb", preset="tiny", seed=3, folder=tmp_path, workers=2)
    assert contents(tmp_path) == contents(made["synth-hmdb"].root)


FROZEN = {
    # Version 1, preset small, seed 0: digest of the label table; one video and the green channel of its frames
    # 0, 15 and 31, averaged over a grid of 4 x 3 cells. Written down when the data were frozen.
    "synth-hmdb": (
        "b80ab3510502c6103119289ea9cde351c8176369fe2b0d067f82333f782155eb",
        "punch/Synthetic_gym_18_punch_f_cm_np1_fr_med_1",
        [73, 84, 84, 83, 75, 109, 104, 78, 74, 83, 88, 82],
        [71, 85, 77, 80, 74, 107, 92, 75, 71, 81, 86, 79],
        [73, 87, 80, 83, 77, 112, 96, 78, 74, 84, 88, 81],
    ),
    "synth-ucf": (
        "5633e27cbec37b8a4c5182f9ef9e056e4790ff02586fd3e928b356657a1639cc",
        "JumpingJack/v_JumpingJack_g17_c02",
        [145, 154, 160, 161, 110, 103, 123, 133, 90, 110, 109, 107],
        [144, 154, 160, 161, 110, 101, 130, 133, 90, 110, 110, 107],
        [148, 158, 164, 165, 112, 104, 136, 136, 93, 113, 112, 110],
    ),
}


@names
def test_the_data_of_a_version_are_frozen(name: str) -> None:
    digest, video_id, *grids = FROZEN[name]
    plans = plan(name, "small", 0)
    assert hashlib.sha256(writing._label_table(plans).encode()).hexdigest() == digest
    pictures = list(frames(next(p for p in plans if p.video_id == video_id)))
    for t, grid in zip((0, 15, 31), grids, strict=True):
        cells = pictures[t][:, :, 1].reshape(3, 40, 4, 40).mean(axis=(1, 3)).ravel()
        assert np.abs(cells - np.array(grid)).max() < 3  # another OpenCV may round strokes differently


def test_other_seeds_give_other_pictures(made: dict[str, Dataset], tmp_path: Path) -> None:
    other = make("synth-ucf", preset="tiny", seed=4, folder=tmp_path)
    digests = [{digest for _, digest in d.facts.values()} for d in (other, made["synth-ucf"])]
    assert not digests[0] & digests[1]


# --- interruption, damage and wrong folders ---


def fail_after(count: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """Let the making of videos break down after ``count`` of them; returns the ids of those made."""
    real, done = writing._make_video, []

    def failing(one: Plan, folder: Path) -> tuple[str, tuple[int, str]]:
        if len(done) == count:
            raise error
        done.append(one.video_id)
        return real(one, folder)

    monkeypatch.setattr(writing, "_make_video", failing)
    return done


def test_a_killed_run_is_taken_up_where_it_stopped(
    made: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        first = fail_after(10, broken, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make("synth-hmdb", preset="tiny", seed=3, folder=tmp_path)
    with pytest.raises(UserError):
        read_index(tmp_path)
    damaged, lost = (tmp_path / "videos" / f"{video_id}.avi" for video_id in first[:2])
    damaged.write_bytes(b"damaged")
    lost.unlink()
    leftover = damaged.with_name(".x.1-abc.partial.avi")
    leftover.write_bytes(b"half")
    with (tmp_path / ".finished.jsonl").open("a") as journal:
        journal.write('["torn')
    second = fail_after(10**6, monkeypatch, RuntimeError())
    make("synth-hmdb", preset="tiny", seed=3, folder=tmp_path)
    assert set(first) & set(second) == set(first[:2]) and not leftover.exists()
    assert contents(tmp_path) == contents(made["synth-hmdb"].root)


def test_a_finished_folder_returns_at_once_and_a_lost_file_is_made_again(
    made: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("synth-ucf", preset="tiny", seed=3, folder=tmp_path)
    redone = fail_after(10**6, monkeypatch, RuntimeError())
    again = make("synth-ucf", preset="tiny", seed=3, folder=tmp_path)
    assert not redone and again.facts == made["synth-ucf"].facts
    again.path(again.videos[3]).unlink()
    make("synth-ucf", preset="tiny", seed=3, folder=tmp_path)
    assert redone == [again.videos[3].video_id]
    assert contents(tmp_path) == contents(made["synth-ucf"].root)


def test_progress_counts_up_to_all_videos(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make("synth-ucf", preset="tiny", seed=0, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 24) for i in range(25)]


def test_a_folder_with_other_content_is_left_alone(made: dict[str, Dataset], tmp_path: Path) -> None:
    before = contents(made["synth-hmdb"].root)
    with pytest.raises(UserError, match="it holds name synth-hmdb version 1 preset tiny seed 3"):
        make("synth-hmdb", preset="tiny", seed=9, folder=made["synth-hmdb"].root)
    assert contents(made["synth-hmdb"].root) == before
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="other files"):
        make("synth-hmdb", preset="tiny", seed=0, folder=tmp_path)


def test_a_disk_without_room_is_noticed_before_the_first_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "free_bytes", lambda folder: 1000)
    with pytest.raises(WorkError, match="free some space"):
        make("synth-hmdb", preset="small", seed=0, folder=tmp_path)
    assert not (tmp_path / "videos").exists()


def test_a_folder_that_cannot_be_made_is_a_work_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot write"):
        make("synth-hmdb", preset="tiny", seed=0, folder=tmp_path / "file" / "data")


def test_a_killed_worker_is_a_work_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ProcessPoolExecutor):
        """A pool whose processes die at once, as if the system had killed them."""

        def __init__(self, workers: int, **options: object) -> None:
            super().__init__(workers, mp_context=options["mp_context"], initializer=exit)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "FEW", 0)
    monkeypatch.setattr(writing, "ProcessPoolExecutor", Broken)
    with pytest.raises(WorkError, match="run the same command again"):
        make("synth-hmdb", preset="tiny", seed=0, folder=tmp_path, workers=2)


def test_the_plan_note_says_what_a_folder_will_hold(made: dict[str, Dataset]) -> None:
    note = json.loads((made["synth-ucf"].root / "plan.json").read_text())
    digest = note.pop("labels_sha256")
    assert note == {"name": "synth-ucf", "version": VERSION, "preset": "tiny", "seed": 3}
    assert digest == made["synth-ucf"].manifest["labels_sha256"]
