"""Official label files: read without executing anything, checked against what was published, refused by name."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stp_annotations import attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.labels import IMPORTABLE, LabelTable, Release, import_labels, open_labels, releases, write_table
from stp_bench.labels._hvu import clip_name
from stp_bench.schema import Span

OURS = tuple(a.name for a in attributes())
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
# What the file holds is in the file's order: skin_color, face, gender, nudity, relationship.
ODD = {
    "kick/#1_kick_f_cm_np1_fr_med_0.mp4": [1, 0, 0, 0, 0],
    "kick/-go[2]&more;_kick_f_cm_np1_fr_med_1.mp4": [0, 1, 0, 0, 0],
    "HandstandPushups/v_HandStandPushups_g01_c01.mp4": [0, 0, 1, 1, 0],
}


def pickled(path: Path, entries: dict[str, Any], **array: Any) -> Path:
    """A file as the authors made theirs: each row an array of shape (1, 5)."""
    arrays = {key: np.array([row], **({"dtype": np.int64} | array)) for key, row in entries.items()}
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    return path


def published(path: Path, entries: dict[str, list[int]]) -> Release:
    """What would be known of a made file if it were published."""
    lines = sorted(f"{key.removesuffix('.mp4')},{','.join(map(str, row))}\n" for key, row in entries.items())
    return dataclasses.replace(
        releases()["vp-hmdb51"],
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        canonical_sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
        bytes=path.stat().st_size,
        videos=len(entries),
    )


def labels_of(table: LabelTable, video_id: str, target: str = "privacy") -> dict[str, int]:
    classes = next(t.classes for t in table.targets if t.name == target)
    labels = table.rows[video_id][target]
    assert labels is not None
    return dict(zip(classes, labels, strict=True))


# -- VP-HMDB51 and VP-UCF101 ---------------------------------------------------------------------------------------


def test_columns_are_put_in_our_order_by_the_names_that_the_release_states(tmp_path: Path) -> None:
    path = pickled(tmp_path / "labels.pickle", ODD)
    table = import_labels(path, published(path, ODD))
    assert [t.classes for t in table.targets] == [OURS]
    assert list(table.rows) == sorted(key.removesuffix(".mp4") for key in ODD)
    skin_only = labels_of(table, "kick/#1_kick_f_cm_np1_fr_med_0")
    assert [name for name, label in skin_only.items() if label] == ["skin_color"]
    assert labels_of(table, "kick/-go[2]&more;_kick_f_cm_np1_fr_med_1")["face"] == 1
    assert table.manifest["verified"] is True
    assert table.manifest["columns"] == ["skin_color", "face", "gender", "nudity", "relationship"]
    assert table.manifest["columns_known"] == "inferred"
    assert tuple(table.manifest["prevalence"]) == OURS


def test_a_file_that_is_not_the_published_one_is_taken_only_if_accepted_and_then_not_called_verified(
    tmp_path: Path,
) -> None:
    path = pickled(tmp_path / "labels.pickle", ODD)
    with pytest.raises(UserError, match=r"not vp-hmdb51 as published.*--accept-unknown"):
        import_labels(path, "vp-hmdb51")
    assert import_labels(path, "vp-hmdb51", accept_unknown=True).manifest["verified"] is False


def test_content_that_differs_from_the_published_text_is_refused_even_with_the_right_checksum(tmp_path: Path) -> None:
    path = pickled(tmp_path / "labels.pickle", ODD)
    known = dataclasses.replace(published(path, ODD), canonical_sha256="0" * 64)
    with pytest.raises(UserError, match="its content has the digest"):
        import_labels(path, known)


class _Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_executes_nothing(tmp_path: Path, protocol: int, accept: bool) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "labels.pickle"
    path.write_bytes(pickle.dumps({"a/b.mp4": _Evil(os.mkdir, str(mark))}, protocol=protocol))
    with pytest.raises(UserError):
        import_labels(path, "vp-hmdb51", accept_unknown=accept)
    with pytest.raises(UserError):
        open_labels(path, expected=["vp-hmdb51"], accept_unknown=accept)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("function", "arguments"), [(os.system, ("true",)), (eval, ("1",)), (np.load, ("x",)), (np.zeros, (10**12,))]
)
def test_a_pickle_that_names_any_other_function_is_refused_by_its_name(
    tmp_path: Path, function: Any, arguments: tuple[Any, ...]
) -> None:
    path = tmp_path / "labels.pickle"
    path.write_bytes(pickle.dumps({"a/b.mp4": _Evil(function, *arguments)}, protocol=4))
    with pytest.raises(UserError, match=rf"it names \S+\.{function.__name__}"):
        import_labels(path, "vp-hmdb51", accept_unknown=True)


def bombs() -> dict[str, bytes]:
    """Small files that make an ordinary unpickler allocate terabytes, or compute for ages."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    key = b"X\x05\x00\x00\x00a/b.m"
    nest = b"K\x01" + b"q\x00h\x00\x86" * 200  # a pair of twice the last one, two hundred times
    array = key + reconstruct + b"K\x00\x85C\x01b\x87R(K\x01"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00i8\x85R(K\x03X\x01\x00\x00\x00<tb"
    huge_shape = b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
    return {
        "an array of a huge shape": b"\x80\x04}" + key + reconstruct + huge_shape + b"C\x01b\x87Rs.",
        "a call of the array type": b"\x80\x04}" + key + b"cnumpy\nndarray\n" + huge_shape + b"\x85Rs.",
        "a memo of a huge index": b"\x80\x04}r\xff\xff\xff\x7f" + key + b"K\x01s.",
        "bytes of a huge length": b"\x80\x04}" + key + b"\x8e" + (2**40).to_bytes(8, "little") + b"s.",
        "a nest of pairs as a key": b"\x80\x04}" + nest + b"K\x01s.",
        "a nest of pairs as a shape": b"\x80\x04}" + array + nest + dtype + b"\x89C\x00tbs.",
        "a nest of pairs as a name": b"\x80\x04}" + nest + nest + b"\x93s.",
        "a number of a million digits": b"\x80\x04}" + key + b"I" + b"9" * 10**6 + b"\ns.",
        "no end": b"\x80\x04}",
        "marks without a group": b"\x80\x04" + b"(" * 10**5 + b"t" * 10**5 + b"t.",
    }  # fmt: skip


@pytest.mark.parametrize("bomb", list(bombs()))
def test_a_small_file_can_neither_fill_the_memory_nor_keep_the_reader_busy(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "labels.pickle"
    path.write_bytes(bombs()[bomb])
    with pytest.raises(UserError):
        import_labels(path, "vp-hmdb51", accept_unknown=True)


@pytest.mark.parametrize(
    ("entries", "array", "why"),
    [
        ({"a/b.mp4": [0, 1, 2, 0, 0]}, {}, "a value outside 0 and 1"),
        ({"a/b.mp4": [0, 1, -1, 0, 0]}, {}, "a value outside 0 and 1"),
        ({"a/b.mp4": [0, 1, 0, 0]}, {}, "has 4 values"),
        ({"a/b.mp4": [[0, 1, 0, 0, 0]]}, {}, "the shape"),
        ({"a/b.mp4": [0, 1, 0, 0, 0]}, {"dtype": np.float64}, "whole numbers"),
        ({"a/b.mp4": [0, 1, 0, 0, 0]}, {"dtype": object}, "the instruction EMPTY_LIST"),
        ({"a/b.mp4": [0, 1, 0, 0, 0], "a/b.avi": [0, 1, 0, 0, 0]}, {}, "occurs twice"),
        ({"b.mp4": [0, 1, 0, 0, 0]}, {}, "is not <class>/<video>"),
        ({"a/b/c.mp4": [0, 1, 0, 0, 0]}, {}, "is not <class>/<video>"),
        ({"../b.mp4": [0, 1, 0, 0, 0]}, {}, "no name of a video"),
        ({"/b.mp4": [0, 1, 0, 0, 0]}, {}, "no name of a video"),
        ({"a\\c/b.mp4": [0, 1, 0, 0, 0]}, {}, "no name of a video"),
        ({"a/b\n.mp4": [0, 1, 0, 0, 0]}, {}, "no name of a video"),
        ({}, {}, "labels no video"),
    ],
)
def test_what_such_a_file_should_not_hold_is_refused_and_said(
    tmp_path: Path, entries: dict[str, Any], array: dict[str, Any], why: str
) -> None:
    path = pickled(tmp_path / "labels.pickle", entries, **array)
    with pytest.raises(UserError, match=why):
        import_labels(path, "vp-hmdb51", accept_unknown=True)


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<i2", "|i1", "|u1", ">u8"])
def test_whole_numbers_of_any_size_and_byte_order_are_read(tmp_path: Path, dtype: str) -> None:
    path = pickled(tmp_path / "labels.pickle", ODD, dtype=dtype)
    same = pickled(tmp_path / "same.pickle", ODD)
    first, second = (import_labels(p, "vp-hmdb51", accept_unknown=True) for p in (path, same))
    assert dict(first.rows) == dict(second.rows)


@QUICK
@given(data=st.data())
def test_a_damaged_pickle_is_an_error_of_ours_or_still_a_table(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(pickled(tmp_path / "labels.pickle", ODD).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "labels.pickle").write_bytes(content)
    expect_no_other_error(tmp_path / "labels.pickle", "vp-hmdb51")


# The instructions that releases use, drawn at random: deeper than random bytes get.
_OPCODES = [
    op.code.encode("latin-1") + argument
    for op in pickletools.opcodes
    for argument in (b"", b"\x00", b"\x01a", b"\x02\x00\x00\x00", b"\x02\x00\x00\x00a/", b"numpy\nndarray\n")
]


@QUICK
@given(program=st.lists(st.sampled_from(_OPCODES), max_size=40))
def test_any_program_of_pickle_instructions_is_an_error_of_ours(tmp_path: Path, program: list[bytes]) -> None:
    (tmp_path / "labels.pickle").write_bytes(b"\x80\x04}" + b"".join(program) + b".")
    expect_no_other_error(tmp_path / "labels.pickle", "vp-hmdb51")


def expect_no_other_error(path: Path, release: str) -> None:
    with contextlib.suppress(UserError, WorkError):
        assert len(import_labels(path, release, accept_unknown=True).rows) > 0


# -- PA-HMDB51 -----------------------------------------------------------------------------------------------------


def pa_entry(**ranges: Any) -> dict[str, Any]:
    """A video's entry: by default nothing can be told in frames 0 to 9."""
    return {name: [[0, 9, 0]] for name in OURS} | ranges


def pa_folder(folder: Path, files: dict[str, Any]) -> Path:
    inner = folder / "PrivacyAttributes"
    inner.mkdir(parents=True, exist_ok=True)
    for name, videos in files.items():
        (inner / f"{name}.json").write_text(json.dumps(videos))
    return folder


def read_pa(folder: Path, rule: str | None = None) -> LabelTable:
    return import_labels(folder, "pa-hmdb51", rule=rule, accept_unknown=True)


def test_frame_ranges_become_spans_of_constant_labels(tmp_path: Path) -> None:
    entry = pa_entry(face=[[0, 3, 0], [4, 9, 2]], gender=[[0, 6, [1, 2]]], nudity=[[0, 9, 1]])
    table = read_pa(pa_folder(tmp_path, {"wave": {"#x_wave.avi": entry | {"review": True, "note": "x"}}}))
    # face, skin_color, gender, nudity, relationship; gender is not labelled from frame 7 on.
    assert table.spans["wave/#x_wave"] == (
        Span(start=0, end=3, labels=(0, 0, 1, 1, 0)),
        Span(start=4, end=6, labels=(1, 0, 1, 1, 0)),
        Span(start=7, end=9, labels=(1, 0, -1, 1, 0)),
    )
    assert table.rows["wave/#x_wave"] == {"privacy": (1, 0, 1, 1, 0)}


@pytest.mark.parametrize(
    ("rule", "faces", "nudities"),
    # Levels 0, 1, 2 in frames 0, 1, 2 of both attributes.
    [("nonzero", (0, 1, 1), (0, 1, 1)), ("semi_nudity", (0, 1, 1), (0, 0, 1)), ("strict", (0, 0, 1), (0, 0, 1))],
)
def test_a_rule_says_from_which_level_on_an_attribute_is_present(
    tmp_path: Path, rule: str, faces: tuple[int, ...], nudities: tuple[int, ...]
) -> None:
    levels = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    folder = pa_folder(tmp_path, {"wave": {"a.avi": pa_entry(face=levels, nudity=levels)}})
    table = read_pa(folder, rule)
    by_frame = {n: span.labels for span in table.spans["wave/a"] for n in range(span.start, span.end + 1)}
    assert tuple(by_frame[n][0] for n in range(3)) == faces
    assert tuple(by_frame[n][3] for n in range(3)) == nudities
    assert table.manifest["rule"] == rule


def test_frames_that_nobody_labelled_stay_out_and_overlaps_go_to_the_later_range(tmp_path: Path) -> None:
    gap = {name: [[2, 3, 1], [6, 7, 1]] for name in OURS}
    overlap = pa_entry(face=[[0, 5, 0], [5, 9, 1]], nudity=[[5, 9, 1], [0, 5, 0]])
    none = {name: [] for name in OURS}
    table = read_pa(pa_folder(tmp_path, {"hug": {"gap.avi": gap, "overlap.avi": overlap, "none.avi": none}}))
    ones = (1, 1, 1, 1, 1)
    assert table.spans["hug/gap"] == (Span(start=2, end=3, labels=ones), Span(start=6, end=7, labels=ones))
    frames = {n: s.labels for s in table.spans["hug/overlap"] for n in range(s.start, s.end + 1)}
    assert (frames[5][0], frames[5][3]) == (1, 0)
    assert table.spans["hug/none"] == () and table.rows["hug/none"] == {"privacy": None}
    assert table.manifest["irregular"] == {"overlaps": 2, "holes": 5, "late_starts": 1}


# Ranges of two attributes, each a list of (start, length, level).
RANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(0, 1)), max_size=5)


@QUICK
@given(face=RANGES, relationship=RANGES)
def test_spans_say_of_every_frame_what_painting_it_range_by_range_says(
    tmp_path: Path, face: list[tuple[int, int, int]], relationship: list[tuple[int, int, int]]
) -> None:
    entry: dict[str, Any] = {name: [] for name in OURS}
    for name, ranges in (("face", face), ("relationship", relationship)):
        entry[name] = [[start, start + length - 1, value] for start, length, value in ranges]
    spans = read_pa(pa_folder(tmp_path, {"wave": {"a.avi": entry}})).spans["wave/a"]
    painted = np.full((40, 2), -1)
    for k, ranges in enumerate((face, relationship)):
        for start, length, value in ranges:
            painted[start : start + length, k] = value
    found = np.full((40, 2), -1)
    for span in spans:
        assert (found[span.start : span.end + 1] == -1).all()
        found[span.start : span.end + 1] = span.labels[0], span.labels[4]
    assert (found == painted).all()
    assert all(a.end + 1 < b.start or a.labels != b.labels for a, b in itertools.pairwise(spans))


def test_the_digest_over_all_files_decides_what_is_published(tmp_path: Path) -> None:
    folder = pa_folder(tmp_path, {"hug": {"a.avi": pa_entry()}, "wave": {"b.avi": pa_entry()}})
    lines = "".join(
        f"{p.name}\0{hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in sorted(tmp_path.glob("*/*.json"))
    )
    known = dataclasses.replace(releases()["pa-hmdb51"], sha256=hashlib.sha256(lines.encode()).hexdigest())
    assert import_labels(folder, known).manifest["verified"] is True
    with pytest.raises(UserError, match="not pa-hmdb51 as published"):
        import_labels(folder, "pa-hmdb51")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (pa_entry(face=[[0, 9, 3]]), "level 3, outside 0 to 2"),
        (pa_entry(face=[[0, 9, -1]]), "level -1"),
        (pa_entry(face=[[0, 9, []]]), "whole numbers"),
        (pa_entry(face=[[0, 9, True]]), "whole numbers"),
        (pa_entry(face=[[0, 9.5, 1]]), "whole numbers"),
        (pa_entry(face=[[5, 4, 1]]), "range 5 to 4"),
        (pa_entry(face=[[-1, 4, 1]]), "range -1 to 4"),
        (pa_entry(face=[[0, 10**12, 1]]), "range 0 to"),
        (pa_entry(face=[[0, 1]]), "not \\[start, end, level\\]"),
        (pa_entry(face={}), "face is no list"),
        ({"face": []}, "skin_color is no list"),
        ([], "does not map videos"),
    ],
)
def test_a_fault_in_a_class_file_is_named_with_the_file(tmp_path: Path, entry: Any, why: str) -> None:
    with pytest.raises(UserError, match=rf"wave\.json.*{why}"):
        read_pa(pa_folder(tmp_path, {"hug": {"a.avi": pa_entry()}, "wave": {"b.avi": entry}}))


def test_a_range_of_a_billion_frames_costs_no_memory(tmp_path: Path) -> None:
    table = read_pa(pa_folder(tmp_path, {"wave": {"a.avi": {name: [[0, 10**9, 1]] for name in OURS}}}))
    assert table.spans["wave/a"] == (Span(start=0, end=10**9, labels=(1, 1, 1, 1, 1)),)


# -- CelebV-HQ -----------------------------------------------------------------------------------------------------

APPEARANCE = ["Blurry", "male", "Young", "rosy_cheeks", "Brown_Hair", "pointy_nose"]


def clip(emotion: Any = "happy", appearance: Any = (0, 1, 0, 0, 0, 0), source: Any = "-yt_1") -> dict[str, Any]:
    flat = isinstance(emotion, str)
    return {
        "ytb_id": source,
        "attributes": {"appearance": list(appearance), "emotion": {"sep_flag": not flat, "labels": emotion}},
    }


def piece(emotion: str, start: float, end: float) -> dict[str, Any]:
    return {"emotion": emotion, "start_sec": start, "end_sec": end}


def celebv(folder: Path, clips: Any, names: Any = APPEARANCE) -> Path:
    path = folder / "celebvhq_info.json"
    path.write_text(json.dumps({"meta_info": {"appearance_mapping": names}, "clips": clips}))
    return path


def read_celebv(path: Path, rule: str | None = None) -> LabelTable:
    return import_labels(path, "celebv-hq", rule=rule, accept_unknown=True)


def test_attributes_are_found_by_name_and_clips_grouped_by_their_source(tmp_path: Path) -> None:
    table = read_celebv(celebv(tmp_path, {"-a_0": clip(), "b_1": clip("Neutral", (1, 0, 1, 1, 1, 1), "x")}))
    assert labels_of(table, "-a_0") == {"young": 0, "pointy_nose": 0, "male": 1, "rosy_cheeks": 0, "brown_hair": 0}
    assert labels_of(table, "b_1") == {"young": 1, "pointy_nose": 1, "male": 0, "rosy_cheeks": 1, "brown_hair": 1}
    expression = table.targets[0]
    assert expression.classes == ("neutral", "happy", "sadness", "anger", "fear", "surprise", "contempt", "disgust")
    assert (expression.kind, expression.private) == ("multiclass", False)
    assert table.rows["-a_0"]["expression"] == (1,) and table.rows["b_1"]["expression"] == (0,)
    assert table.groups == {"-a_0": "-yt_1", "b_1": "x"}


def test_clips_of_several_emotions_are_left_out_or_take_the_longest(tmp_path: Path) -> None:
    several = [piece("neutral", 0, 1), piece("anger", 2, 4), piece("fear", 5, 7)]
    path = celebv(tmp_path, {"a": clip(), "b": clip(several), "c": clip([])})
    table = read_celebv(path)
    assert list(table.rows) == ["a"]
    assert table.manifest["left_out"] == {"several emotions": 2}
    assert table.manifest["videos"]["read"] == 3
    longest = read_celebv(path, "longest")
    assert longest.rows["b"]["expression"] == (longest.targets[0].classes.index("anger"),)
    assert "c" not in longest.rows and sum(longest.manifest["left_out"].values()) == 1


def test_the_published_file_is_known_by_the_digest_that_git_gives_it(tmp_path: Path) -> None:
    path = celebv(tmp_path, {"a": clip()})
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    known = dataclasses.replace(releases()["celebv-hq"], git_blob=blob)
    assert import_labels(path, known).manifest["verified"] is True


@pytest.mark.parametrize(
    ("clips", "names", "why"),
    [
        ({"a": clip()}, [n for n in APPEARANCE if n != "Young"], "names young 0 times"),
        ({"a": clip()}, [*APPEARANCE, "YOUNG"], "names young 2 times"),
        ({"a": clip(appearance=(0, 1))}, APPEARANCE, "has not 6 values"),
        ({"a": clip(appearance=(0, 2, 0, 0, 0, 0))}, APPEARANCE, "outside 0 and 1"),
        ({"a": clip("bored")}, APPEARANCE, "none of neutral"),
        ({"a": clip(source=7)}, APPEARANCE, "no name"),
        ({"../a": clip()}, APPEARANCE, "no name"),
        ({"a": {}}, APPEARANCE, "values of appearance"),
        ([], APPEARANCE, "no clips"),
        ({}, APPEARANCE, "labels no clip"),
    ],
)
def test_a_fault_in_the_file_of_clips_is_named(tmp_path: Path, clips: Any, names: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_celebv(celebv(tmp_path, clips, names), "longest")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(value=JSON, place=st.integers(0, 6))
def test_any_json_in_any_place_is_an_error_of_ours_or_still_a_table(tmp_path: Path, value: Any, place: int) -> None:
    one: Any = clip([piece("anger", 0, 1)])
    clips: Any = {"a": one, "b": clip()}
    if place == 0:
        clips = value
    elif place == 1:
        clips["a"] = value
    elif place == 2:
        one["ytb_id"] = value
    elif place == 3:
        one["attributes"]["emotion"] = value
    elif place == 4:
        one["attributes"]["emotion"]["labels"] = value
    elif place == 5:
        one["attributes"]["emotion"]["labels"][0]["end_sec"] = value
    for rule in ("exclude", "longest"):
        path = celebv(tmp_path, clips, value if place == 6 else APPEARANCE)
        with contextlib.suppress(UserError, WorkError):
            read_celebv(path, rule)
    face = pa_entry()
    if place % 2:
        face["face"] = value
    with contextlib.suppress(UserError, WorkError):
        read_pa(pa_folder(tmp_path / "pa", {"wave": {"a.avi": face if place < 4 else value}}))


# -- P-HVU ---------------------------------------------------------------------------------------------------------

TAGS = [
    ("walking", "action"), ("cool", "attribute"), ("ax", "object"), ("run", "action"), ("tea", "object"),
    ("beach", "scene"), ("idea", "concept"), ("party", "event"),
]  # fmt: skip
TRAIN = [
    ("walking|ax|beach|cool", "-abc_1", "0", "10"),
    ("walking|tea", "b", "0.0", "10.0"),
    ("run|tea|ax|beach", "c", "12.3", "14.3"),
]
VAL = [("run|ax|beach", "d", "1.0", "11.0"), ("beach", "e", "0", "2")]


def rows_csv(rows: list[tuple[str, ...]], header: str = "Tags,youtube_id,time_start,time_end") -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header.split(","), *rows])
    return out.getvalue().encode()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def hvu(folder: Path, train: list[tuple[str, ...]] = TRAIN, val: list[tuple[str, ...]] = VAL) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "HVU_Tags_Categories_V1.0.csv").write_bytes(rows_csv(TAGS, "Tag,Category"))
    (folder / "HVU_Train_V1.0.csv").write_bytes(rows_csv(train))
    zipped(folder / "HVU_Val_V1.0.zip", {"../HVU_Val_V1.0.csv": rows_csv(val)})
    return folder


def read_hvu(path: Path) -> LabelTable:
    return import_labels(path, "p-hvu", accept_unknown=True)


def test_rows_with_an_action_an_object_and_a_scene_are_kept_on_the_side_of_their_file(tmp_path: Path) -> None:
    table = read_hvu(hvu(tmp_path))
    assert table.parts == {
        "-abc_1_000000_000100": "train",
        "c_000123_000143": "train",
        "d_000010_000110": "test",
    }
    action, privacy = table.targets
    assert (action.kind, action.private, action.classes) == ("multilabel", False, ("walking", "run"))
    assert (privacy.kind, privacy.private) == ("multilabel", True)
    assert privacy.classes == ("ax", "tea", "beach") and privacy.groups == (("object", 2), ("scene", 1))
    assert labels_of(table, "c_000123_000143", "action") == {"walking": 0, "run": 1}
    assert labels_of(table, "-abc_1_000000_000100") == {"ax": 1, "tea": 0, "beach": 1}
    assert table.manifest["rows"] == {"read": 5, "without an action, an object or a scene": 2}


def test_no_path_of_an_archive_is_used(tmp_path: Path) -> None:
    folder = hvu(tmp_path / "in" / "ner")
    read_hvu(folder)
    assert sorted(p.name for p in tmp_path.rglob("*.csv")) == ["HVU_Tags_Categories_V1.0.csv", "HVU_Train_V1.0.csv"]


def test_a_clip_on_both_sides_stays_in_the_test_set_only(tmp_path: Path) -> None:
    both = ("run|ax|beach", "d", "1.0", "11.0")
    table = read_hvu(hvu(tmp_path, [*TRAIN, TRAIN[0], both], [*VAL, both]))
    assert table.parts["d_000010_000110"] == "test"
    assert table.manifest["left_out"] == {"listed twice": 2, "on both sides, kept in test": 1}


def test_one_list_beside_the_tags_gives_one_side(tmp_path: Path) -> None:
    folder = hvu(tmp_path)
    assert set(read_hvu(folder / "HVU_Val_V1.0.zip").parts.values()) == {"test"}
    assert set(read_hvu(folder / "HVU_Train_V1.0.csv").parts.values()) == {"train"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("run|ax|beach", "../d", "1", "2"), "row 2 is not tags, an id"),
        (("run|ax|beach", "d", "2", "1"), "row 2: the times"),
        (("run|ax|beach", "d", "nan", "inf"), "row 2: the times"),
        (("run|ax|beach", "d", "x", "1"), "row 2: "),
        (("run|ax|beach", "d", "1"), "row 2 is not tags"),
    ],
)
def test_a_fault_in_a_list_of_clips_is_named_with_its_row(tmp_path: Path, row: tuple[str, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_hvu(hvu(tmp_path, val=[row]))


def test_an_archive_that_unpacks_to_more_than_a_label_file_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    from stp_bench.labels import _hvu

    monkeypatch.setattr(_hvu, "_UNPACKED_BYTES", 10**6)
    many = [("run|ax|beach", f"id{n}", "1", "2") for n in range(10**5)]
    with pytest.raises(UserError, match="more than 1,000,000 bytes"):
        read_hvu(hvu(tmp_path, val=many))


@pytest.mark.parametrize("files", [{}, {"a.csv": b"", "b.csv": b""}, {"a.txt": b"x"}, {"a.csv": b"x,y\n"}])
def test_an_archive_of_something_else_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = hvu(tmp_path)
    zipped(folder / "HVU_Val_V1.0.zip", {"none.md": b"", **files})
    with pytest.raises(UserError, match="HVU_Val"):
        read_hvu(folder)


def test_the_tags_are_needed(tmp_path: Path) -> None:
    folder = hvu(tmp_path)
    (folder / "HVU_Tags_Categories_V1.0.csv").unlink()
    with pytest.raises(UserError, match="begin with 'Tag,Category'"):
        read_hvu(folder)


def test_clips_are_named_in_tenths_of_a_second() -> None:
    assert clip_name("-x", "9.96", "19.96") == "-x_000100_000200"


def test_rows_of_many_tags_are_compact_and_still_rows(tmp_path: Path) -> None:
    table = read_hvu(hvu(tmp_path))
    assert len(table.rows) == len(dict(table.rows)) == 3
    with pytest.raises(KeyError):
        table.rows["absent"]


@QUICK
@given(content=st.binary(max_size=300), zip_it=st.booleans(), place=st.integers(0, 300))
def test_a_damaged_archive_or_list_is_an_error_of_ours(
    tmp_path: Path, content: bytes, zip_it: bool, place: int
) -> None:
    folder = hvu(tmp_path)
    victim = folder / "HVU_Val_V1.0.zip"
    if zip_it:
        zipped(victim, {"val.csv": b"Tags,youtube_id,time_start,time_end\n" + content})
    else:
        whole = victim.read_bytes()
        place = min(place, len(whole))
        victim.write_bytes(whole[:place] + content[:3] + whole[place + 3 :])
    expect_no_other_error(folder, "p-hvu")


# -- any path ------------------------------------------------------------------------------------------------------


@QUICK
@given(content=st.binary(max_size=200), name=st.sampled_from(["x", "x.csv", "x.zip", "x.json", "wave.json", "val.csv"]))
def test_any_bytes_under_any_release_are_an_error_of_ours(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for release in IMPORTABLE:
        expect_no_other_error(path, release)
        for accept in (False, True):
            with contextlib.suppress(UserError, WorkError):
                open_labels(path, expected=[release], accept_unknown=accept)
    path.unlink()


def test_each_kind_is_known_by_its_content(tmp_path: Path) -> None:
    made = {
        "vp-hmdb51": pickled(tmp_path / "anything", ODD),
        "pa-hmdb51": pa_folder(tmp_path / "pa", {"wave": {"a.avi": pa_entry()}}),
        "celebv-hq": celebv(tmp_path, {"a": clip()}),
        "p-hvu": hvu(tmp_path / "hvu"),
    }
    for release, path in made.items():
        table = open_labels(path, expected=[release], accept_unknown=True)
        assert table.release == release
        write_table(table, tmp_path / f"{release}.csv")
        assert open_labels(tmp_path / f"{release}.csv", expected=[release]).release == release
        others = [name for name in IMPORTABLE if name != release and not (release + name).startswith("vp-hmdb51vp")]
        for wanted in (path, tmp_path / f"{release}.csv"):
            with pytest.raises(UserError, match="other labels"):
                open_labels(wanted, expected=others, accept_unknown=True)


def test_a_single_class_file_of_pa_hmdb51_stands_for_its_folder(tmp_path: Path) -> None:
    folder = pa_folder(tmp_path, {"wave": {"a.avi": pa_entry()}, "hug": {"b.avi": pa_entry()}})
    table = open_labels(folder / "PrivacyAttributes" / "wave.json", expected=["pa-hmdb51"], accept_unknown=True)
    assert list(table.rows) == ["hug/b", "wave/a"]


def test_a_table_of_one_s_own_is_taken_whatever_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("video_id,face,skin_color,gender,nudity,relationship\nkick/a,1,0,1,0,1\n")
    assert open_labels(path, expected=["vp-hmdb51"]).release == "mine"


@pytest.mark.parametrize(
    ("release", "rule", "why"),
    [
        ("vp-hmdb", None, "did you mean vp-hmdb51"),
        ("hvu-val", None, "label release"),
        ("vp-hmdb51", "strict", "published as yes and no"),
        ("pa-hmdb51", "stict", "did you mean strict"),
    ],
)
def test_unknown_releases_and_rules_are_refused(tmp_path: Path, release: str, rule: str | None, why: str) -> None:
    with pytest.raises(UserError, match=why):
        import_labels(tmp_path, release, rule=rule)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for act in (lambda p: import_labels(p, "vp-hmdb51"), open_labels):
        with pytest.raises(UserError, match="there is no such file"):
            act(tmp_path / "none")
    with pytest.raises(UserError, match="no published label file"):
        open_labels(tmp_path)


def test_facts_of_the_releases_are_complete_enough_to_check_a_file() -> None:
    for release in releases().values():
        assert release.of or release.sha256 or release.git_blob
        assert all(part in releases() for part in release.of)
        assert set(release.positives) <= {*release.rules, "as published"}
    assert set(IMPORTABLE) <= set(releases())
