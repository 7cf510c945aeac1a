"""Label tables on disk: what is written is read back, and a fault is named with its row and column."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stp_annotations import attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.labels import LabelTable, read_table, stored, write_table
from stp_bench.labels._tags import TagRows
from stp_bench.schema import Labels, Span, Target

OURS = tuple(a.name for a in attributes())
PRIVACY = Target(name="privacy", kind="multilabel", classes=OURS, private=True)
EXPRESSION = Target(name="expression", kind="multiclass", classes=("neutral", "happy"))
FACES = Target(name="privacy", kind="multilabel", classes=("young", "male"), private=True)
ACTION = Target(name="action", kind="multilabel", classes=("run", "walk"))
SCENES = Target(
    name="privacy",
    kind="multilabel",
    classes=("ax", "tea", "beach"),
    private=True,
    groups=(("object", 2), ("scene", 1)),
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
HEADER = "video_id,face,skin_color,gender,nudity,relationship"

# Names as HMDB51 has them, and worse: what a spreadsheet or a CSV reader would take for a comment or a formula.
CHARACTERS = st.sampled_from("#;&-=+@[](), !~'\"_aZ09é")
IDS = st.lists(st.text(CHARACTERS, min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=2).map("/".join)
LABELS = st.none() | st.tuples(*[st.integers(-1, 1)] * 5).filter(lambda row: max(row) >= 0)


def table(rows: Mapping[str, Mapping[str, Labels | None]], *targets: Target, **more: Any) -> LabelTable:
    return LabelTable(release="vp-hmdb51", targets=targets or (PRIVACY,), rows=dict(sorted(rows.items())), **more)


def assert_same(found: LabelTable, made: LabelTable) -> None:
    assert list(found.rows) == list(made.rows)
    assert dict(found.rows) == dict(made.rows)
    for field in ("release", "targets", "spans", "groups", "parts", "manifest"):
        assert getattr(found, field) == getattr(made, field), field


@QUICK
@given(rows=st.dictionaries(IDS, LABELS, min_size=1, max_size=6))
def test_a_table_of_videos_is_read_back_as_it_was_written(tmp_path: Path, rows: dict[str, Any]) -> None:
    made = table(
        {key: {"privacy": row} for key, row in rows.items()}, manifest={"verified": True, "note": "ä", "n": [1]}
    )
    write_table(made, tmp_path / "labels.csv")
    assert_same(read_table(tmp_path / "labels.csv"), made)


def test_names_keep_what_other_readers_take_for_comments_and_formulas(tmp_path: Path) -> None:
    names = ["#1/a", "-x/b;c&d", "=SUM(A1)", "@x", "+1", '"q"/[z]', "a,b", "1e5", "NA", "null", "True", "007"]
    made = table({name: {"privacy": (0, 1, 0, 1, 0)} for name in names})
    write_table(made, tmp_path / "labels.csv")
    assert sorted(read_table(tmp_path / "labels.csv").rows) == sorted(names)


# Spans of one video: gaps and lengths.
SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.tuples(*[st.integers(-1, 1)] * 5)), max_size=4)


@QUICK
@given(videos=st.dictionaries(IDS, SPANS, min_size=1, max_size=4))
def test_a_table_of_frame_ranges_is_read_back_with_what_some_frame_shows(
    tmp_path: Path, videos: dict[str, Any]
) -> None:
    spans: dict[str, tuple[Span, ...]] = {}
    for key, listed in videos.items():
        at, made_spans = 0, []
        for gap, length, labels in listed:
            if max(labels) >= 0:
                made_spans.append(Span(start=at + gap, end=at + gap + length - 1, labels=labels))
            at += gap + length
        spans[key] = tuple(made_spans)
    if not any(spans.values()):
        return
    rows = {
        key: {"privacy": tuple(max(s.labels[k] for s in of) for k in range(5)) if of else None}
        for key, of in spans.items()
    }
    made = table(rows, spans=dict(sorted(spans.items())), manifest={"rule": "strict"})
    write_table(made, tmp_path / "frames.csv")
    assert_same(read_table(tmp_path / "frames.csv"), made)


def test_one_class_of_several_and_sources_are_read_back(tmp_path: Path) -> None:
    rows: dict[str, Any] = {
        "-a_0": {"expression": (1,), "privacy": (1, 0)},
        "b": {"expression": None, "privacy": None},
    }
    made = table(rows, EXPRESSION, FACES, groups={"-a_0": "=yt"})
    write_table(made, tmp_path / "faces.csv")
    assert (tmp_path / "faces.csv").read_text() == "video_id,group,expression,young,male\n-a_0,=yt,happy,1,0\nb,,,,\n"
    assert_same(read_table(tmp_path / "faces.csv"), made)


def test_tags_are_read_back_absent_ones_and_unlabelled_videos_apart(tmp_path: Path) -> None:
    rows: dict[str, Any] = {
        "a": {"action": (1, 1), "privacy": (1, 0, 1)},
        "b": {"action": (0, 1), "privacy": (0, 0, 0)},
        "c": {"action": None, "privacy": (0, 0, 1)},
    }
    made = table(rows, ACTION, SCENES, parts={"a": "train", "b": "test"})
    write_table(made, tmp_path / "tags.csv")
    assert (tmp_path / "tags.csv").read_text().splitlines() == [
        "video_id,part,action,object,scene",
        "a,train,run|walk,ax,beach",
        "b,test,walk,|,",
        "c,,,,beach",
    ]
    assert_same(read_table(tmp_path / "tags.csv"), made)


def test_many_tags_are_held_as_compact_arrays_made_row_by_row(tmp_path: Path) -> None:
    many = Target(name="privacy", kind="multilabel", classes=tuple(f"t{n}" for n in range(1900)), private=True)
    rows = TagRows((many,), {"b": {"privacy": [3, 1899]}, "a": {"privacy": None}})
    made = LabelTable(release="p-hvu", targets=(many,), rows=rows)
    write_table(made, tmp_path / "many.csv")
    found = read_table(tmp_path / "many.csv")
    labels = found.rows["b"]["privacy"]
    assert isinstance(labels, array) and labels.itemsize == 1 and [i for i, x in enumerate(labels) if x] == [3, 1899]
    assert dict(found.rows) == dict(rows) and list(found.rows) == ["a", "b"]


def test_a_mixture_of_tags_and_columns_is_read_back(tmp_path: Path) -> None:
    made = table({"a": {"action": (0, 1), "privacy": (1, 0, -1, 0, 1)}}, ACTION, PRIVACY)
    write_table(made, tmp_path / "mixed.csv")
    assert_same(read_table(tmp_path / "mixed.csv"), made)


def test_a_table_that_was_edited_is_no_longer_called_verified(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_table(table({"a/b": {"privacy": (1, 0, 0, 0, 0)}}, manifest={"verified": True}), path)
    path.write_text(path.read_text().replace("1,0", "0,1"))
    assert read_table(path).manifest == {"verified": False, "edited": True}


def test_a_table_of_votes_without_a_manifest_is_read_and_its_votes_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    votes = ",n_yes_face,n_no_face,n_abstain_face,margin_face,source_face"
    path.write_text(f"{HEADER}{votes}\nkick/a,1,0,,1,0,3,0,0,1,majority\nkick/b,,,,,,0,0,3,,unresolved\n")
    found = read_table(path)
    assert found.release == "mine" and found.targets == (PRIVACY,) and found.manifest == {}
    assert dict(found.rows) == {"kick/a": {"privacy": (1, 0, -1, 1, 0)}, "kick/b": {"privacy": None}}


@pytest.mark.parametrize("name", ["synth-hmdb"])
def test_the_labels_of_embedded_data_are_such_a_table(tiny: Path, name: str) -> None:
    from stp_bench import data

    found = read_table(tiny / "privacy_labels.csv")
    assert {v.video_id: v.labels["privacy"] for v in data.open_dataset(tiny).videos} == {
        key: row["privacy"] for key, row in found.rows.items()
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{HEADER}\na/b,1,0,0,0,2\n", "row 2, relationship is '2', not 0, 1 or blank"),
        (f"{HEADER}\na/b,1,0,0,0,1\na/c,1,0,0, 1,0\n", "row 3, nudity is ' 1'"),
        (f"{HEADER}\na/b,1,0,0,0\n", "row 2, it has 5 cells, not 6"),
        (f"{HEADER}\na/b,1,0,0,0,1\na/b,1,0,0,0,1\n", "row 3, 'a/b' occurs twice"),
        (f"{HEADER}\n../b,1,0,0,0,1\n", "row 2, '../b' is no name"),
        (f"{HEADER}\n,1,0,0,0,1\n", "row 2, '' is no name"),
        (f"{HEADER},face\n", "column 'face' occurs twice"),
        (f"{HEADER},mood\n", "unknown column 'mood'"),
        ("video_id,face\na,1\n", "no column skin_color"),
        ("", "it is empty"),
        (f'{HEADER}\n"a/b,1,0,0,0,1\n', "no CSV file"),
        (f"{HEADER}\na/\xff,1,0,0,0,1\n", "no CSV file in UTF-8"),
    ],
)
def test_a_fault_is_named_with_its_row_and_column(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=why):
        read_table(path)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a,5,4,1,0,0,0,0", "the frames 5 to 4"),
        ("a,x,4,1,0,0,0,0", "start 'x' is no number"),
        ("a,-1,4,1,0,0,0,0", "start '-1' is no number"),
        ("a,0,99999999999,1,0,0,0,0", "end '99999999999' is no number"),
        ("a,0,4,,,,,", "it labels nothing"),
        ("a,,,1,0,0,0,0", "start '' is no number"),
        ("a,3,9,1,0,0,0,0", "the frames 3 to 9 are out of order"),
    ],
)
def test_a_fault_in_a_frame_range_is_named_with_its_row(tmp_path: Path, row: str, why: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"video_id,start,end,{HEADER.removeprefix('video_id,')}\na,2,4,1,0,0,0,0\n{row}\n")
    with pytest.raises(UserError, match=f"row 3, {why}"):
        read_table(path)


def test_tags_and_classes_that_the_manifest_does_not_know_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_table(table({"a": {"action": (1, 1), "privacy": (1, 0, 1)}}, ACTION, SCENES), path)
    path.write_text(path.read_text().replace("run|walk", "run|fly"))
    with pytest.raises(UserError, match="row 2, 'fly' is no action tag"):
        read_table(path)
    write_table(table({"a": {"expression": (1,), "privacy": (1, 0)}}, EXPRESSION, FACES), path)
    path.write_text(path.read_text().replace("happy", "glad"))
    with pytest.raises(UserError, match="row 2, expression 'glad' is none of neutral, happy"):
        read_table(path)


def test_a_table_that_columns_cannot_tell_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    clash = Target(name="privacy", kind="multilabel", classes=("part", "male"), private=True)
    spans = {"a": (Span(start=0, end=1, labels=(1, 0)),)}
    bad = Target(name="action", kind="multilabel", classes=("run|walk", "x"))
    for made in (
        table({"a": {"privacy": (1, 0)}}, clash, parts={"a": "train"}),
        table({"a": {"expression": (1,), "privacy": (1, 0)}}, EXPRESSION, FACES, spans=spans),
        table({"a": {"action": (1, 0)}}, bad),
    ):
        with pytest.raises(UserError, match="cannot write the label table"):
            write_table(made, path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_table_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    good = table({"a/b": {"privacy": (1, 0, 0, 0, 0)}}, manifest={"verified": True})
    write_table(good, path)
    with pytest.raises((ValueError, IndexError, KeyError)):
        write_table(table({"a": {"expression": (7,), "privacy": (1, 0)}}, EXPRESSION, FACES), path)
    assert_same(read_table(path), good)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.csv", "labels.json"]


def test_a_folder_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot write"):
        write_table(table({"a": {"privacy": None}}), tmp_path / "file" / "labels.csv")
    with pytest.raises(UserError, match="there is no such file"):
        read_table(tmp_path / "none.csv")


@QUICK
@given(content=st.binary(max_size=120), manifest=st.binary(max_size=60) | st.none())
def test_any_bytes_are_an_error_of_ours_or_a_table(tmp_path: Path, content: bytes, manifest: bytes | None) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    (tmp_path / "x.json").unlink(missing_ok=True)
    if manifest is not None:
        (tmp_path / "x.json").write_bytes(manifest)
    with contextlib.suppress(UserError, WorkError):
        read_table(tmp_path / "x.csv")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**30) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@QUICK
@given(
    value=VALUE, key=st.sampled_from(["schema", "release", "sha256", "targets", "about", "target", "classes", "groups"])
)
def test_any_value_in_a_manifest_is_an_error_of_ours_or_a_table(tmp_path: Path, value: Any, key: str) -> None:
    (tmp_path / "x.json").unlink(missing_ok=True)  # what an earlier example left is no manifest to write over
    write_table(table({"a": {"action": (1, 1), "privacy": (1, 0, 1)}}, ACTION, SCENES), tmp_path / "x.csv")
    document = json.loads((tmp_path / "x.json").read_text())
    if key == "target":
        document["targets"][0] = value
    elif key in ("classes", "groups"):
        document["targets"][1][key] = value
    else:
        document[key] = value
    (tmp_path / "x.json").write_text(json.dumps(document))
    with contextlib.suppress(UserError, WorkError):
        read_table(tmp_path / "x.csv")


def test_imported_tables_have_a_place_of_their_own_in_the_data_home(tmp_path: Path) -> None:
    assert stored(tmp_path, "pa-hmdb51") == tmp_path / "labels" / "pa-hmdb51" / "labels.csv"
