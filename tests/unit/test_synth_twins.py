"""The embedded twins: files in foreign forms that say what is drawn, equal bytes always, and interruption."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.schema import Target
from stp_bench.synth import NAMES, TWINS, VERSION, _faces, _tagged, _turning, benchmark, counts, draw, make
from stp_bench.synth import _write as writing
from stp_bench.synth._drawing import Content
from stp_bench.synth._plan import FPS, PRESETS, plan
from stp_bench.synth._portrait import EXPRESSIONS
from stp_bench.synth._props import PROPS
from stp_bench.video_io import probe, read_frames

ATTRIBUTES = ("face", "skin_color", "gender", "nudity", "relationship")
CONTENTS: dict[str, Callable[[str, int], Content]] = {
    "synth-pa": _turning.content, "synth-faces": _faces.content, "synth-scenes": _tagged.content,
}  # fmt: skip
twins = pytest.mark.parametrize("name", TWINS)
presets = pytest.mark.parametrize("preset", sorted(PRESETS))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of every twin in its tiny preset."""
    root = tmp_path_factory.mktemp("twins")
    for name in TWINS:
        draw(name, preset="tiny", seed=3, folder=root / name)
    return {name: root / name for name in TWINS}


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a data set, bookkeeping left out."""
    return {
        p.relative_to(folder).as_posix(): sha256_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def sides(units: list[str], name: str) -> dict[str, str]:
    """The 60/40 rule: units ranked by a digest of their names, the first 60 % train."""
    ranked = sorted(units, key=lambda u: hashlib.sha256(f"stp:{name}:0:{u}".encode()).hexdigest())
    return {u: "train" if i < round(0.6 * len(ranked)) else "test" for i, u in enumerate(ranked)}


# --- any twin ---


@twins
@presets
def test_a_twin_has_as_many_videos_as_it_says_each_with_a_name_of_its_own(name: str, preset: str) -> None:
    ids = [d.video_id for d in CONTENTS[name](preset, 0).drawings]
    assert counts(name, preset) == len(ids) == len(set(ids)) and ids == sorted(ids)
    assert len({i.lower() for i in ids}) == len(ids)  # also on disks that fold cases


@twins
def test_a_twin_is_described_like_its_model(name: str) -> None:
    described = benchmark(name, "small")
    assert (described.stride, described.splits, described.embedded, described.version) == (2, 1, True, VERSION)
    assert described.privacy.private and not described.action.private


def test_the_pair_is_still_described_beside_the_twins() -> None:
    assert [benchmark(n).name for n in (*NAMES, *TWINS)] == [*NAMES, *TWINS]
    assert benchmark("synth-faces").targets == (
        Target(
            name="expression",
            kind="multiclass",
            classes=("neutral", "happy", "sadness", "anger", "fear", "surprise", "contempt", "disgust"),
        ),
        Target(
            name="privacy",
            kind="multilabel",
            classes=("young", "pointy_nose", "male", "rosy_cheeks", "brown_hair"),
            private=True,
        ),
    )
    for preset in PRESETS:
        assert benchmark("synth-pa", preset).targets == benchmark("synth-hmdb", preset).targets


@twins
def test_unknown_names_presets_and_seeds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"did you mean .*{name}"):
        draw(name + "s", preset="tiny", seed=0, folder=tmp_path)
    with pytest.raises(UserError, match="did you mean small"):
        draw(name, preset="smal", seed=0, folder=tmp_path)
    with pytest.raises(UserError, match="did you mean small"):
        benchmark(name, "smal")
    with pytest.raises(UserError, match="negative"):
        draw(name, preset="tiny", seed=-1, folder=tmp_path)
    with pytest.raises(UserError, match="unknown"):
        make(name, preset="tiny", seed=0, folder=tmp_path)
    assert not any(tmp_path.iterdir())


@twins
def test_a_folder_holds_the_videos_the_label_files_and_the_boxes(name: str, drawn: dict[str, Path]) -> None:
    content = CONTENTS[name]("tiny", 3)
    videos = {f"videos/{d.video_id}.avi" for d in content.drawings}
    assert set(contents(drawn[name])) == videos | set(content.label_files) | {"boxes.parquet", "plan.json"}
    for drawing in content.drawings[::5]:
        facts = probe(drawn[name] / drawing.relpath)
        found = (facts.width, facts.height, facts.frames)
        assert found == (drawing.sizes.width, drawing.sizes.height, drawing.sizes.frames)


@twins
def test_files_show_what_was_drawn_but_for_coding_noise(name: str, drawn: dict[str, Path]) -> None:
    chosen = CONTENTS[name]("tiny", 3).drawings[5]
    pictures = np.stack(list(chosen.frames())).astype(float)
    read = np.stack(list(read_frames(drawn[name] / chosen.relpath))).astype(float)
    assert np.abs(pictures - read).mean() < 8


@twins
def test_boxes_lie_in_the_picture_and_every_frame_has_a_person(name: str, drawn: dict[str, Path]) -> None:
    table = pq.read_table(drawn[name] / "boxes.parquet").to_pandas()
    columns = ["video_id", "frame", "x1", "y1", "x2", "y2", "score", "kind", "width", "height"]
    assert list(table.columns) == columns and set(table["score"]) == {1.0}
    assert (table["x1"] < table["x2"]).all() and (table["y1"] < table["y2"]).all()
    assert table[["x1", "y1"]].to_numpy().min() >= 0
    assert (table["x2"] <= table["width"]).all() and (table["y2"] <= table["height"]).all()
    for kind in ("person", "head"):
        seen = table[table["kind"] == kind].groupby("video_id")["frame"].nunique()
        assert len(seen) == counts(name, "tiny") and (seen == 16).all()


@twins
def test_worker_count_changes_no_byte(
    name: str, drawn: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FEW", 0)
    draw(name, preset="tiny", seed=3, folder=tmp_path, workers=2)
    assert contents(tmp_path) == contents(drawn[name])


@twins
def test_other_seeds_give_other_pictures_and_labels(name: str) -> None:
    one, other = (CONTENTS[name]("tiny", seed) for seed in (3, 4))
    assert one.label_files != other.label_files
    assert (next(one.drawings[0].frames()) != next(other.drawings[0].frames())).any()


@twins
def test_a_killed_run_is_taken_up_where_it_stopped(name: str, drawn: dict[str, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(name, preset="tiny", seed=3, folder=tmp_path, progress=stop)
    made = sorted((tmp_path / "videos").rglob("*.avi"))
    assert len(made) == 8 and not (tmp_path / "boxes.parquet").exists()
    made[0].write_bytes(b"damaged")
    made[1].unlink()
    kept = {p: p.stat().st_mtime_ns for p in made[2:]}
    seen: list[tuple[int, int]] = []
    draw(name, preset="tiny", seed=3, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, counts(name, "tiny")) for i in range(6, counts(name, "tiny") + 1)]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert contents(tmp_path) == contents(drawn[name])


def test_a_folder_with_other_content_is_left_alone(drawn: dict[str, Path], tmp_path: Path) -> None:
    before = contents(drawn["synth-pa"])
    with pytest.raises(UserError, match="it holds name synth-pa version 1 preset tiny seed 3"):
        draw("synth-faces", preset="tiny", seed=3, folder=drawn["synth-pa"])
    with pytest.raises(UserError, match="seed 3"):
        draw("synth-pa", preset="tiny", seed=4, folder=drawn["synth-pa"])
    assert contents(drawn["synth-pa"]) == before
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="other files"):
        draw("synth-pa", preset="tiny", seed=0, folder=tmp_path)


def test_a_disk_without_room_is_noticed_before_the_first_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "free_bytes", lambda folder: 1000)
    with pytest.raises(WorkError, match="free some space"):
        draw("synth-faces", preset="small", seed=0, folder=tmp_path)
    assert not (tmp_path / "videos").exists()


# --- synth-pa ---


def annotated(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Video id to its record, of all classes."""
    found: dict[str, dict[str, Any]] = {}
    for path, text in files.items():
        action = re.fullmatch(r"PrivacyAttributes/(\w+)\.json", path)
        assert action
        found |= {f"{action[1]}/{file.removesuffix('.avi')}": record for file, record in json.loads(text).items()}
    return found


def level(value: int | list[int]) -> int:
    return max(value) if isinstance(value, list) else value


def test_three_quarters_are_files_of_synth_hmdb_from_both_sides(drawn: dict[str, Path], tmp_path: Path) -> None:
    source = make("synth-hmdb", preset="tiny", seed=3, folder=tmp_path)
    files, theirs = contents(drawn["synth-pa"]), contents(tmp_path)
    shared = [p for p in files if p.startswith("videos/") and p in theirs]
    assert len(shared) == 0.75 * counts("synth-pa", "tiny")
    assert all(files[p] == theirs[p] for p in shared)
    found = {source.parts[1][p.removeprefix("videos/").removesuffix(".avi")] for p in shared}
    assert found == {"train", "test"}


@presets
def test_every_action_has_alike_many_videos_and_some_of_synth_hmdb_are_left_to_train_on(preset: str) -> None:
    ids = [d.video_id for d in _turning.content(preset, 0).drawings]
    actions = benchmark("synth-pa", preset).action.classes
    per_action = {a: sum(i.startswith(f"{a}/") for i in ids) for a in actions}
    assert len(set(per_action.values())) == 1
    source = plan("synth-hmdb", preset, 0)
    for action in actions:
        for part in ("train", "test"):
            able = {p.video_id for p in source if p.action == action and p.part(1) == part}
            assert able & set(ids)
        assert {p.video_id for p in source if p.action == action and p.part(1) == "train"} - set(ids)


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_levels_of_shared_videos_agree_with_their_binary_labels(preset: str) -> None:
    records = annotated(dict(_turning.content(preset, 0).label_files))
    known = {p.video_id: dict(zip(ATTRIBUTES, p.labels, strict=True)) for p in plan("synth-hmdb", preset, 0)}
    for video_id in records.keys() & known.keys():
        top = {a: max(level(value) for _, _, value in records[video_id][a]) for a in ATTRIBUTES}
        binary = known[video_id]
        assert top["face"] == 2 * binary["face"] and top["relationship"] == binary["relationship"]
        assert (top["skin_color"] > 0, top["gender"] > 0) == (binary["skin_color"] == 1, binary["gender"] == 1)
        assert top["nudity"] == binary["skin_color"] + binary["nudity"]  # bare limbs, then the torso too


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_files_have_the_form_and_the_irregularities_of_the_model(preset: str) -> None:
    frames = PRESETS[preset].frames
    content = _turning.content(preset, 0)
    records = annotated(dict(content.label_files))
    assert records.keys() == {d.video_id for d in content.drawings}
    late, short, holes, values = 0, 0, 0, {a: set() for a in ATTRIBUTES}  # type: ignore[var-annotated]
    for record in records.values():
        assert record.keys() - {"note"} == {*ATTRIBUTES, "review"} and isinstance(record["review"], bool)
        spans = {a: record[a] for a in ATTRIBUTES}
        for attribute, ranges in spans.items():
            covered = [t for start, end, _ in ranges for t in range(start, end + 1)]
            assert covered == sorted(set(covered)) and covered[0] >= 0 and covered[-1] < frames
            assert all(start <= end for start, end, _ in ranges)
            holes += len(covered) != covered[-1] - covered[0] + 1
            values[attribute] |= {tuple(v) if isinstance(v, list) else v for _, _, v in ranges}
        late += {ranges[0][0] for ranges in spans.values()} == {2}
        short += {ranges[-1][1] for ranges in spans.values()} == {frames - 2}
    assert 0 < late < short < len(records) / 2 and holes == 1
    assert 0 < sum("note" in r for r in records.values()) < len(records)
    assert {r["review"] for r in records.values()} == {True, False}
    assert values["face"] == {0, 1, 2} and values["nudity"] == {0, 1, 2} and values["relationship"] == {0, 1}
    if preset != "tiny":
        assert values["gender"] == {0, 1, 2, (1, 2)} and {0, 1, 2, 3, (1, 3)} <= values["skin_color"]


@pytest.mark.parametrize("seed", range(5))
def test_every_attribute_has_both_values_under_every_rule_even_in_the_tiny_preset(seed: int) -> None:
    records = annotated(dict(_turning.content("tiny", seed).label_files)).values()
    for attribute in ATTRIBUTES:
        levels = {level(value) for r in records for _, _, value in r[attribute]}
        assert 0 in levels and max(levels) > 0
    assert {level(value) for r in records for _, _, value in r["nudity"]} == {0, 1, 2}


def test_a_face_turns_at_the_stated_frames_and_at_no_others() -> None:
    content = _turning.content("small", 0)
    drawings = {d.video_id: d for d in content.drawings}
    records = annotated(dict(content.label_files))
    alone = [v for v in _turning.turning("small", 0) if v.plan.people == 1 and v.plan.quality == 2]
    at_turns, elsewhere = [], []
    for viewed in alone[:8]:
        drawing = drawings[viewed.plan.video_id]
        pictures = np.stack(list(drawing.frames())).astype(float)
        x1, y1, x2, y2 = (drawing.boxes()[0, :, 1].T + 0.5).astype(int)
        # The upper half of the head, where no arm is often, moved along with it.
        side = int((x2 - x1).min()), int((y2 - y1).min() * 2 // 3)
        heads = np.stack([p[b : b + side[1], a : a + side[0]] for p, a, b in zip(pictures, x1, y1, strict=True)])
        change = np.abs(np.diff(heads, axis=0)).mean(axis=(1, 2, 3))
        ranges = records[viewed.plan.video_id]["face"]
        turns = [after[0] - 1 for before, after in pairwise(ranges) if before[2] != after[2]]
        assert len(turns) in (2, 4)
        at_turns += change[turns].tolist()
        elsewhere += np.delete(change, turns).tolist()
    assert min(at_turns) > np.median(elsewhere) and np.median(at_turns) > 3 * np.median(elsewhere)


# --- synth-faces ---


def clips(preset: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The mappings and the clips of the label file."""
    document = json.loads(_faces.content(preset, seed).label_files["celebvhq_info.json"])
    return document["meta_info"], document["clips"]


@presets
def test_the_face_file_has_the_form_of_the_model_and_says_what_the_plan_says(preset: str) -> None:
    meta, found = clips(preset, 0)
    names = meta["appearance_mapping"]
    assert len(names) == 40 and [names.index(n) for n in ("male", "young", "rosy_cheeks")] == [1, 2, 5]
    assert [names.index(n) for n in ("brown_hair", "pointy_nose")] == [13, 24]
    planned = {c.video_id: c for c in _faces.plan(preset, 0)}
    assert list(found) == list(planned)
    for clip_id, clip in found.items():
        assert re.fullmatch(r"[\w-]{11}_\d", clip_id) and clip["ytb_id"] == clip_id[:11]
        assert all(0 <= edge <= 1 for edge in clip["bbox"].values())
        appearance = dict(zip(names, clip["attributes"]["appearance"], strict=True))
        assert tuple(appearance[n] for n in _faces.ATTRIBUTES) == planned[clip_id].attributes
        assert len(clip["attributes"]["action"]) == len(meta["action_mapping"])
        length = clip["duration"]["end_sec"] - clip["duration"]["start_sec"]
        assert length == pytest.approx(planned[clip_id].sizes.frames / FPS, abs=0.01)
        emotion = clip["attributes"]["emotion"]
        if not emotion["sep_flag"]:
            assert (emotion["labels"],) == planned[clip_id].expressions
            continue
        first, second = emotion["labels"]
        assert (first["emotion"], second["emotion"]) == planned[clip_id].expressions
        times = [first["start_sec"], first["end_sec"], second["start_sec"], second["end_sec"]]
        assert times == sorted(set(times)) and times[0] >= 0 and times[-1] <= length + 0.01
    assert sum(c["attributes"]["emotion"]["sep_flag"] for c in found.values()) == _faces.PRESETS[preset].mixed


@presets
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_side_has_every_expression_and_every_attribute_on_and_off(preset: str, seed: int) -> None:
    planned = [c for c in _faces.plan(preset, seed) if len(c.expressions) == 1]
    side = sides(sorted({c.source for c in planned}), "synth-faces")
    for part in ("train", "test"):
        chosen = [c for c in planned if side[c.source] == part]
        expressions = [c.expressions[0] for c in chosen]
        assert set(expressions) == set(EXPRESSIONS)
        assert max(set(expressions), key=expressions.count) == "neutral"
        shown = np.array([c.attributes for c in chosen])
        assert (shown.min(axis=0) == 0).all() and (shown.max(axis=0) == 1).all()


def test_one_face_per_source_whose_looks_tell_nothing_about_the_expression() -> None:
    planned = [c for c in _faces.plan("small", 0) if len(c.expressions) == 1]
    for source in {c.source for c in planned}:
        own = [c for c in planned if c.source == source]
        assert len({c.looks for c in own}) == 1 and len({c.expressions for c in own}) > 1
    table = pd.DataFrame([c.attributes for c in planned], columns=list(_faces.ATTRIBUTES))
    rates = table.groupby([c.expressions[0] for c in planned]).mean()
    # The rarest expression has 57 clips: one standard deviation of independent draws is 0.066.
    assert float((rates - table.mean()).abs().to_numpy().max()) < 0.13


def test_an_expression_comes_from_neutral_and_goes_back_to_it() -> None:
    for clip in [c for c in _faces.plan("small", 0) if len(c.expressions) == 1][:60]:
        strength = np.array(
            [sum(abs(v) for n, v in dataclasses.asdict(m).items() if n != "lids") for m in _faces.play(clip).mimics]
        )
        calm = 0.75  # idle movements of brows and mouth, and of one that talks
        assert strength[0] < calm and strength[-1] < calm
        assert (strength.max() < calm) == (clip.expressions == ("neutral",))


def test_an_attribute_is_to_be_seen_and_changes_nothing_else() -> None:
    for clip in _faces.plan("small", 0)[:3]:
        picture = next(_faces.frames(clip)).astype(int)
        for i in range(len(_faces.ATTRIBUTES)):
            flipped = tuple(1 - v if i == j else v for j, v in enumerate(clip.attributes))
            other = next(_faces.frames(dataclasses.replace(clip, attributes=flipped))).astype(int)
            x1, y1, x2, y2 = _faces.boxes(clip)[0, 0, 1].astype(int)
            seen = (np.abs(picture - other).max(axis=2) > 40)[y1:y2, x1:x2].mean()
            assert seen > 0.005, list(_faces.ATTRIBUTES)[i]


# --- synth-scenes ---


def rows(content: Content, side: str) -> Iterator[tuple[str, set[str]]]:
    """Clip name and tags of every row of a list."""
    text = content.label_files[f"HVU_{side}_V1.0.csv"].decode()
    for row in csv.DictReader(io.StringIO(text)):
        assert list(row) == ["Tags", "youtube_id", "time_start", "time_end"]
        start, end = (round(10 * float(row[f"time_{edge}"])) for edge in ("start", "end"))
        yield f"{row['youtube_id']}_{start:06d}_{end:06d}", set(row["Tags"].split("|"))


def categories(content: Content) -> dict[str, str]:
    table = csv.DictReader(io.StringIO(content.label_files["HVU_Tags_Categories_V1.0.csv"].decode()))
    return {row["Tag"]: row["Category"] for row in table}


@presets
def test_the_filter_of_p_hvu_leaves_exactly_the_rows_with_a_video(preset: str) -> None:
    content = _tagged.content(preset, 0)
    known = categories(content)
    assert set(known.values()) == {"object", "action", "concept", "scene", "attribute", "event"}
    left, missing = set(), set()
    for side in ("Train", "Val"):
        for clip, tags in rows(content, side):
            assert tags <= known.keys()
            absent = {"action", "object", "scene"} - {known[t] for t in tags}
            missing |= absent
            if not absent:
                assert clip not in left
                left.add(clip)
    assert left == {d.video_id for d in content.drawings}
    assert missing == {"action", "object", "scene"}


@presets
@pytest.mark.parametrize("seed", [0, 1])
def test_each_side_has_every_tag_on_and_off_but_for_those_in_no_video(preset: str, seed: int) -> None:
    content = _tagged.content(preset, seed)
    described = benchmark("synth-scenes", preset)
    known, present = categories(content), {d.video_id for d in content.drawings}
    assert described.action.classes == tuple(t for t, c in known.items() if c == "action")
    objects, scenes = (tuple(t for t, c in known.items() if c == g) for g in ("object", "scene"))
    assert described.privacy.classes == objects + scenes
    assert described.privacy.groups == (("object", len(objects)), ("scene", len(scenes)))
    for side in ("Train", "Val"):
        shown = [tags for clip, tags in rows(content, side) if clip in present]
        for tag in described.action.classes + described.privacy.classes:
            share = np.mean([tag in tags for tags in shown])
            assert share == 0 if tag in _tagged.UNSEEN else 0 < share < 1, tag


def test_a_row_names_what_is_drawn_and_no_source_is_in_both_lists() -> None:
    content = _tagged.content("small", 0)
    found = {side: dict(rows(content, side)) for side in ("Train", "Val")}
    for clip in _tagged.plan("small", 0):
        drawn_tags = {t for t in found[clip.side][clip.video_id] if t not in _tagged.FURTHER}
        assert drawn_tags == clip.tags
        assert len(_tagged.cast(clip)[0]) == len(clip.actions) in (1, 2)
        assert len(clip.objects) in (1, 2, 3)
    sources = [{name[:11] for name in found[side]} for side in found]
    assert not sources[0] & sources[1]
    assert len(set.union(*sources)) < sum(map(len, found.values()))  # some sources have several clips


def test_an_object_is_to_be_seen_where_it_stands_and_nothing_else_moves() -> None:
    planned = [c for c in _tagged.plan("small", 0) if not c.camera_moves]
    for name in PROPS:
        clip = next(c for c in planned if c.objects == (name,))
        picture = next(_tagged.frames(clip)).astype(int)
        without = next(_tagged.frames(dataclasses.replace(clip, objects=()))).astype(int)
        changed = np.abs(picture - without).max(axis=2) > 0
        (pose,) = _tagged.standing(clip)
        ys, xs = np.nonzero(changed)
        assert changed.sum() > 60, name
        assert np.abs(xs - pose.x).max() < 0.8 * pose.scale and (ys < pose.y + 0.1 * pose.scale).all()
