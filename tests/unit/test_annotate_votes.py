"""Votes out of an export: what counts, what is set aside and why, and files of votes between teams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_annotations import attributes
from stp_bench.annotate import votes
from stp_bench.annotate._project import ADJUDICATION, ROUND
from stp_bench.errors import UserError, WorkError

OURS = [a.name for a in attributes()]
YES, NO, UNSURE = "identifiable", "not_identifiable", "unsure"
PEOPLE = {1: "a-one", 2: "a-two", 3: "a-three"}
VIDEOS = ["kick/#1", "kick/-2"]


def answer(name: str, *choices: Any, type: str = "choices") -> dict[str, Any]:
    return {"from_name": name, "to_name": "video", "type": type, "value": {type: list(choices)}}


def form(number: int, by: int, *said: str, **other: Any) -> dict[str, Any]:
    """An annotation as the server exports it; ``said``: choices in the order of attributes, the last for the rest."""
    said = said or (YES,)
    choices = [*said, *[said[-1]] * 5][:5]
    made = {
        "id": number, "completed_by": by, "updated_by": by, "was_cancelled": False, "lead_time": 7.25,
        "created_at": "2026-01-31T09:30:00.123456Z", "updated_at": "2026-01-31T09:30:00.123456Z",
        "parent_prediction": None, "result": [answer(n, c) for n, c in zip(OURS, choices, strict=True)],
    }  # fmt: skip
    return made | other


def task(video_id: Any, *annotations: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"video_id": video_id, "video": "/data/x.mp4"}, "annotations": list(annotations)}


def extract(tasks: Iterable[Any], **more: Any) -> votes.Extracted:
    known: dict[str, Any] = {"people": PEOPLE, "videos": VIDEOS, "attributes": OURS, "invited": None, "round": ROUND}
    return votes.extract(tasks, **(known | {"guideline_version": "1"} | more))


def reasons(found: votes.Extracted) -> list[str]:
    return list(found.rejects["reason"])


def test_a_form_becomes_a_vote_per_attribute_with_who_when_and_how_long() -> None:
    found = extract([task(VIDEOS[0], form(7, 2, YES, NO, UNSURE, NO, YES))])
    assert list(found.votes.columns) == list(votes.COLUMNS) and not len(found.rejects)
    assert list(found.votes["attribute"]) == OURS
    assert list(found.votes["vote"]) == ["1", "0", "abstain", "0", "1"]
    row = found.votes.iloc[0].to_dict()
    assert row == {
        "video_id": "kick/#1", "annotator": "a-two", "attribute": "face", "vote": "1", "seconds": 7.25,
        "annotation_id": 7, "created_at": "2026-01-31T09:30:00.123456Z", "updated_at": "2026-01-31T09:30:00.123456Z",
        "round": ROUND, "guideline_version": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("cancelled", form(1, 1, was_cancelled=True)),
        ("incomplete", form(1, 1, result=[answer(n, YES) for n in OURS[:3]])),
        ("incomplete", form(1, 1, result=[])),
        ("unknown_value", form(1, 1, result=[answer(n, "maybe") for n in OURS])),
        ("unknown_value", form(1, 1, result=[answer(n) for n in OURS])),
        ("unknown_value", form(1, 1, result=[answer("face", 3, type="rating")])),
        ("unknown_control", form(1, 1, result=[answer(n, YES) for n in [*OURS, "age"]])),
        ("conflicting", form(1, 1, result=[answer(n, YES, NO) for n in OURS])),
        ("conflicting", form(1, 1, result=[answer(n, YES) for n in [*OURS, "face"]])),
        ("edited_by_other", form(1, 1, updated_by=2)),
        ("edited_by_other", form(1, 1, updated_by={"id": 2})),
        ("not_invited", form(1, 9)),
        ("not_invited", form(1, 3)),
        ("prefilled", form(1, 1, parent_prediction=5)),
        ("malformed", form(1, 1, updated_at="yesterday")),
        ("malformed", form(1, 1, result="yes")),
        ("malformed", form(1, 1, id="1")),
        ("malformed", "an annotation"),
    ],
)
def test_what_cannot_be_counted_is_set_aside_with_its_reason_and_the_rest_counts(reason: str, made: Any) -> None:
    found = extract([task(VIDEOS[0], made, form(2, 2))], invited=[1, 2])
    assert reasons(found) == [reason]
    assert list(found.votes["annotator"].unique()) == ["a-two"] and len(found.votes) == 5


def test_videos_that_are_not_of_the_round_are_set_aside() -> None:
    found = extract([task("run/other", form(1, 1)), task(None, form(2, 1)), {"annotations": [form(3, 1)]}])
    assert reasons(found) == ["unknown_video"] * 3 and not len(found.votes)


def test_every_reason_is_explained() -> None:
    assert set(votes.REASONS) >= {
        "cancelled", "incomplete", "unknown_value", "unknown_control", "conflicting", "edited_by_other", "superseded",
        "not_invited", "unknown_video", "prefilled", "malformed",
    }  # fmt: skip


def test_remarks_are_no_votes_and_stay_in_the_export() -> None:
    note = answer("note", "my neighbor Ann is in it", type="text")
    made = form(1, 1, result=[*form(1, 1)["result"], note])
    found = extract([task(VIDEOS[0], made)])
    assert len(found.votes) == 5
    assert "Ann" not in found.votes.to_csv() + found.rejects.to_csv()


def test_of_several_forms_by_one_person_the_one_changed_last_counts_wherever_it_lies() -> None:
    late = form(3, 1, NO, updated_at="2026-02-01T00:30:00+01:00")  # half an hour before midnight, UTC
    later = form(2, 1, YES, updated_at="2026-01-31T23:45:00Z")
    for tasks in ([task(VIDEOS[0], late, later)], [task(VIDEOS[0], later), task(VIDEOS[0], late)]):
        found = extract(tasks)
        assert set(found.votes["vote"]) == {"1"} and reasons(found) == ["superseded"]
        assert found.rejects["annotation_id"].tolist() == [3] and "2" in found.rejects["detail"][0]


def test_a_later_form_that_cannot_be_counted_leaves_the_earlier_one() -> None:
    skipped = form(2, 1, was_cancelled=True, updated_at="2026-03-01T00:00:00Z")
    found = extract([task(VIDEOS[0], form(1, 1), skipped)])
    assert len(found.votes) == 5 and reasons(found) == ["cancelled"]


def test_prefilled_forms_count_where_that_was_allowed() -> None:
    assert len(extract([task(VIDEOS[0], form(1, 1, parent_prediction=5))], allow_prefilled=True).votes) == 5


def test_an_expert_is_held_to_the_disputed_attributes_only() -> None:
    asked = {VIDEOS[0]: ["face", "nudity"]}
    two = form(1, 1, result=[answer("face", NO), answer("nudity", YES)])
    found = extract([task(VIDEOS[0], two), task(VIDEOS[1], form(2, 1))], asked=asked, round=ADJUDICATION)
    assert list(found.votes["attribute"]) == ["face", "nudity"] and reasons(found) == ["unknown_video"]
    assert reasons(extract([task(VIDEOS[0], form(1, 1, result=[answer("face", NO)]))], asked=asked)) == ["incomplete"]
    assert list(extract([task(VIDEOS[0], form(1, 1))], asked=asked).votes["attribute"]) == ["face", "nudity"]


def test_the_order_of_an_export_does_not_matter() -> None:
    tasks = [task(v, form(10 * i + p, p, NO if p == 2 else YES)) for i, v in enumerate(VIDEOS) for p in PEOPLE]
    pd.testing.assert_frame_equal(extract(tasks).votes, extract(tasks[::-1]).votes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([YES, *OURS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from([*form(1, 1), "whole"]), value=JSON, inner=st.sampled_from(["", "from_name", "value", "type"])
)
def test_no_field_of_an_export_can_stop_the_others_from_being_read(key: str, value: Any, inner: str) -> None:
    broken: Any = form(1, 1) | {key: value}
    if inner:
        broken = form(1, 1, result=[*form(1, 1)["result"], {**answer("face", YES), inner: value}])
    if key == "whole":
        broken = value
    found = extract([task(VIDEOS[0], broken, form(2, 2)), {"data": value, "annotations": [form(3, 3)]}])
    assert (found.votes["annotator"] == "a-two").sum() == 5
    assert len(found.votes) + 5 * len(found.rejects) >= 15
    found.rejects.to_csv()


@pytest.mark.parametrize("tasks", [[3], ["task"], [None], [[form(1, 1)]]])
def test_what_is_no_export_is_refused_as_a_whole(tasks: list[Any]) -> None:
    with pytest.raises(UserError, match="entry 1 is no task"):
        extract(tasks)


def test_pseudonyms_are_stable_depend_on_the_key_and_tell_no_address() -> None:
    made = votes.pseudonym(b"key", "ann@example.com")
    assert made == votes.pseudonym(b"key", " Ann@Example.com")
    assert made != votes.pseudonym(b"other", "ann@example.com") != votes.pseudonym(b"other", "bob@example.com")
    assert "ann" not in made and made.startswith("a-") and len(made) == 10


# A round's folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def test_pulling_the_same_export_again_changes_no_byte(tmp_path: Path) -> None:
    found = extract([task(VIDEOS[0], form(1, 1), form(2, 2, was_cancelled=True)), task(VIDEOS[1], form(3, 1, NO))])
    first = votes.merge_votes(tmp_path, found, ROUND)
    assert (first.votes, first.annotations, first.new, first.changed, first.gone) == (10, 2, 10, 0, 0)
    assert first.rejected == {"cancelled": 1}
    before = files(tmp_path)
    again = votes.merge_votes(tmp_path, found, ROUND)
    assert (again.new, again.changed, again.gone) == (0, 0, 0) and files(tmp_path) == before
    read, rejects = votes.read_round(tmp_path)
    pd.testing.assert_frame_equal(read, found.votes)
    pd.testing.assert_frame_equal(rejects, found.rejects)


def test_a_pull_takes_over_what_was_changed_and_withdrawn_and_leaves_the_other_round(tmp_path: Path) -> None:
    votes.merge_votes(tmp_path, extract([task(VIDEOS[0], form(1, 1), form(2, 2))]), ROUND)
    votes.merge_votes(tmp_path, extract([task(VIDEOS[0], form(9, 3))], round=ADJUDICATION), ADJUDICATION)
    merged = votes.merge_votes(tmp_path, extract([task(VIDEOS[0], form(1, 1, NO, YES)), task(VIDEOS[1])]), ROUND)
    assert (merged.new, merged.changed, merged.gone) == (0, 1, 5)
    read, _ = votes.read_round(tmp_path)
    assert read["round"].value_counts().to_dict() == {ROUND: 5, ADJUDICATION: 5}


def test_a_damaged_table_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "votes.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(WorkError, match=r"votes\.parquet"):
        votes.merge_votes(tmp_path, extract([]), ROUND)
    assert (tmp_path / "votes.parquet").read_bytes() == b"PAR1 and nothing more"


def imported(folder: Path, path: Path) -> votes.Imported:
    return votes.import_votes(folder, path, videos=VIDEOS, attributes=OURS)


@pytest.mark.parametrize("name", ["votes.csv", "votes.parquet"])
def test_votes_travel_as_a_file_and_importing_again_adds_nothing(tmp_path: Path, name: str) -> None:
    theirs = extract([task(VIDEOS[0], form(1, 1, YES, UNSURE, lead_time=None)), task(VIDEOS[1], form(2, 1))]).votes
    votes.write_votes(theirs, tmp_path / name)
    ours = tmp_path / "ours"
    votes.merge_votes(ours, extract([task(VIDEOS[0], form(5, 2, NO))]), ROUND)
    assert imported(ours, tmp_path / name)[:3] == (10, 0, 1)
    before = files(ours)
    assert imported(ours, tmp_path / name)[:3] == (0, 10, 1) and files(ours) == before
    # A pull of our own server knows nothing of them, and must not take them away.
    votes.merge_votes(ours, extract([task(VIDEOS[0], form(5, 2, NO))]), ROUND)
    assert files(ours) == before
    pd.testing.assert_frame_equal(votes.read_votes(tmp_path / name), theirs)


def test_a_vote_that_contradicts_one_that_is_there_is_refused_with_its_row(tmp_path: Path) -> None:
    votes.merge_votes(tmp_path, extract([task(VIDEOS[0], form(1, 1))]), ROUND)
    other = extract([task(VIDEOS[0], form(1, 1, YES, YES, NO, YES))]).votes
    votes.write_votes(other, tmp_path / "other.csv")
    before = files(tmp_path)
    # Row 1 is the header and rows 2 to 6 are the attributes, of which gender is the third.
    with pytest.raises(
        UserError, match=r"row 4, column vote, '0' contradicts another: a-one voted 1 on gender of kick/#1"
    ):
        imported(tmp_path, tmp_path / "other.csv")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("vote", "2", "row 3, column vote, '2' is not 1, 0 or abstain"),
        ("vote", "", "column vote"),
        ("annotator", "ann@example.com", "is no pseudonym"),
        ("video_id", "../secret", "is no name of a video"),
        ("video_id", "swim/1", "is not part of this labelling round"),
        ("attribute", "Face", "is no name of an attribute"),
        ("attribute", "age", "is not part of this labelling round"),
        ("round", "third", "is not independent or adjudication"),
        ("seconds", "-1", "column seconds"),
        ("seconds", "nan", "column seconds"),
        ("annotation_id", "1e3", "column annotation_id"),
        ("updated_at", "now", "column updated_at"),
        ("guideline_version", "1\t2", "is no version"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(tmp_path: Path, column: str, value: str, says: str) -> None:
    rows = extract([task(VIDEOS[0], form(1, 1))]).votes.astype(object)
    rows.loc[1, column] = value
    rows.to_csv(tmp_path / "votes.csv", index=False)
    with pytest.raises(UserError, match=says):
        imported(tmp_path / "round", tmp_path / "votes.csv")
    assert not (tmp_path / "round").exists()


def change(text: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(text(path.read_text()), encoding="utf-8") and None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change(lambda t: ""), "no column video_id"),
        (change(lambda t: t.replace("seconds", "lead_time")), "no column seconds"),
        (change(lambda t: t.replace("round,", "round,email,")), "the column 'email'"),
        (change(lambda t: t + t.splitlines()[1] + "\n"), "row 7, column video_id, .* second vote"),
        (change(lambda t: t + "kick/#1,a-one\n"), "row 7, it has 2 cells, not 10"),
        (change(lambda t: t + '"'), "neither parquet nor CSV"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "neither parquet nor CSV"),
        (lambda p: p.write_bytes(b"PAR1" + bytes(40)), "damaged"),
        (lambda p: p.unlink(), "no such file"),
        (lambda p: (p.unlink(), p.mkdir()), "no such file"),
    ],
)
def test_a_file_that_is_no_table_of_votes_is_refused(tmp_path: Path, spoil: Callable[[Path], Any], says: str) -> None:
    path = tmp_path / "votes.csv"
    votes.write_votes(extract([task(VIDEOS[0], form(1, 1))]).votes, path)
    spoil(path)
    with pytest.raises(UserError, match=says):
        votes.read_votes(path)


def test_parquet_of_other_types_is_refused_not_guessed(tmp_path: Path) -> None:
    rows = extract([task(VIDEOS[0], form(1, 1))]).votes
    rows.assign(vote=1).to_parquet(tmp_path / "votes.parquet", index=False)
    with pytest.raises(UserError, match="column vote, 1 is no text"):
        votes.read_votes(tmp_path / "votes.parquet")


def test_the_published_schema_names_the_columns_and_values_that_are_written() -> None:
    schema: Mapping[str, Any] = json.loads(resources.files("stp_annotations").joinpath("votes.schema.json").read_text())
    assert tuple(schema["properties"]) == votes.COLUMNS == tuple(schema["required"])
    assert schema["properties"]["vote"]["enum"] == list(votes.VOTES.values())
    assert schema["properties"]["round"]["enum"] == [ROUND, ADJUDICATION]
