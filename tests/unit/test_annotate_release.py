"""The release of a labelling round: what it holds, and that others can read it."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from stp_annotations import attributes, consent, datasheet, guidelines
from stp_bench.annotate import Project
from stp_bench.annotate._project import ROUND
from stp_bench.annotate.majority import decide
from stp_bench.annotate.release import make_release, provenance, write_labels
from stp_bench.annotate.votes import Extracted, extract, merge_votes, read_round, read_votes
from stp_bench.errors import UserError
from stp_bench.files import sha256_file
from stp_bench.labels import read_table, statistics
from stp_bench.progress import Silent

OURS = tuple(a.name for a in attributes())
VIDEOS = ("kick/#1", "kick/-2", "run/3", "run/4")
SAID = {"y": "identifiable", "n": "not_identifiable", "?": "unsure"}
VOTES = {"kick/#1": "yyyyy", "kick/-2": "yynn?", "run/3": "nnnny", "run/4": "?????"}
"""Of each video, of annotators 1 to 5; the same on all attributes but face, where everybody says yes."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "home" / "annotations" / "trial"
    folder.mkdir(parents=True)
    made = Project(
        folder=folder, title="A trial", source="clips", videos={v: f"{v}.mp4" for v in VIDEOS}, attributes=OURS,
        annotators=5, guideline_version="1", interface_sha256="ab" * 32, url="http://127.0.0.1:8080", project_id=1,
    )  # fmt: skip
    made.save()
    merge_votes(folder, pulled(), ROUND)
    return made


def pulled(votes: Mapping[str, str] = VOTES) -> Extracted:
    tasks = []
    for i, (video_id, of) in enumerate(votes.items()):
        forms = [
            {
                "id": 10 * i + who, "completed_by": who, "updated_by": who, "was_cancelled": False, "lead_time": 6.0,
                "created_at": f"2026-01-{1 + i:02d}T09:30:0{who}Z", "updated_at": f"2026-01-{1 + i:02d}T09:30:0{who}Z",
                "result": [
                    {"from_name": n, "type": "choices", "value": {"choices": [SAID["y" if n == "face" else vote]]}}
                    for n in OURS
                ],
            }
            for who, vote in enumerate(of, 1)
        ]  # fmt: skip
        skipped = {**forms[0], "id": 900 + i, "was_cancelled": True}
        tasks.append({"data": {"video_id": video_id}, "annotations": [*forms, skipped]})
    people = {who: f"a-{who}" for who in range(1, 6)}
    return extract(
        tasks, people=people, videos=VIDEOS, attributes=OURS, invited=None, round=ROUND, guideline_version="1"
    )


def count(project: Project, min_votes: int = 4) -> None:
    """What ``annotate vote`` does."""
    votes, _ = read_round(project.folder)
    decision = decide(votes, videos=tuple(project.videos), attributes=project.attributes, min_votes=min_votes)
    write_labels(decision, project.path("labels.csv"), "draft", provenance(votes, decision, project))


def released(project: Project, folder: Path, **more: Any) -> Any:
    return make_release(project, folder, reporter=Silent(), **more)


def test_the_release_is_a_label_table_whose_open_labels_are_blank(project: Project, tmp_path: Path) -> None:
    count(project)
    made = released(project, tmp_path / "out")
    assert (made.name, made.videos, made.unresolved) == ("trial-v1", 4, 8)
    table = read_table(tmp_path / "out" / "labels.csv")
    assert table.release == "trial-v1" and "edited" not in table.manifest
    rows = {video_id: row["privacy"] for video_id, row in table.rows.items()}
    # face is always yes; run/4 has five "not sure", kick/-2 a tie on the others.
    assert rows == {
        "kick/#1": (1, 1, 1, 1, 1), "kick/-2": (1, -1, -1, -1, -1), "run/3": (1, 0, 0, 0, 0),
        "run/4": (1, -1, -1, -1, -1),
    }  # fmt: skip
    assert statistics(table).targets[0].classes[1].labelled == 2
    line = (tmp_path / "out" / "labels.csv").read_text().splitlines()[2]
    assert line.startswith("kick/-2,1,,,,,5,0,0,5,majority,2,2,1,0,unresolved,")


def test_the_manifest_says_how_the_labels_came_about_and_names_its_files_by_digest(
    project: Project, tmp_path: Path
) -> None:
    count(project)
    made = released(project, tmp_path)
    document = json.loads((tmp_path / "labels.json").read_text())
    about = document["about"]
    assert document["release"] == "trial-v1" and document["sha256"] == made.files["labels.csv"]
    assert about["files"] == {f: sha256_file(tmp_path / f) for f in ("votes.csv", "datasheet.md")}
    assert (about["annotators"], about["min_votes"], about["guideline_versions"]) == (5, 4, ["1"])
    assert about["sources"]["gender"] == {"majority": 2, "adjudicated": 0, "unresolved": 2}
    assert about["open"] == {"abstained": 4, "tied": 4} and about["rejected"] == {"cancelled": 4}
    assert about["interface_sha256"] == "ab" * 32 and about["prefilled"] is False
    assert about["agreement"]["face"]["percent"] == 1.0 and about["agreement"]["face"]["alpha"] is None
    assert set(about["floors"]) == {"cmap_prevalence", "f1_all_positive", "f1_majority"}


def test_votes_are_released_under_pseudonyms_by_the_day_and_can_be_imported(project: Project, tmp_path: Path) -> None:
    count(project)
    released(project, tmp_path)
    text = (tmp_path / "votes.csv").read_text()
    assert "09:30" not in text and "2026-01-01" in text
    found = read_votes(tmp_path / "votes.csv")
    assert len(found) == 100 and set(found["annotator"]) == {f"a-{i}" for i in range(1, 6)}


def test_the_datasheet_holds_the_figures_and_no_open_place_but_those_for_the_team(
    project: Project, tmp_path: Path
) -> None:
    count(project)
    released(project, tmp_path)
    text = (tmp_path / "datasheet.md").read_text()
    assert "${" not in text and "$" not in text
    for told in (
        "100 votes",
        "| gender | 2 | 0 | 2 |",
        "between 2026-01-01 and 2026-01-04",
        "| skipped | 4 |",
        "at least 4",
    ):
        assert told in text, told
    assert "fewer than the 4" not in text and "not legal advice" in text


def test_fewer_votes_than_four_are_said_in_manifest_and_datasheet(project: Project, tmp_path: Path) -> None:
    count(project, min_votes=3)
    assert released(project, tmp_path).min_votes == 3
    assert "fewer than the 4" in (tmp_path / "datasheet.md").read_text()
    assert read_table(tmp_path / "labels.csv").manifest["min_votes"] == 3


def test_a_round_in_which_everybody_is_unsure_of_an_attribute_is_released(project: Project, tmp_path: Path) -> None:
    merge_votes(project.folder, pulled(dict.fromkeys(VIDEOS, "?????")), ROUND)  # of all attributes but face
    count(project)
    released(project, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "labels.json").read_text())["about"]["agreement"]["nudity"]
    assert found["alpha"] is None
    assert "nudity" in (tmp_path / "out" / "datasheet.md").read_text()


def test_the_same_votes_give_the_same_bytes(project: Project, tmp_path: Path) -> None:
    count(project)
    first, second = (released(project, tmp_path / name) for name in ("one", "two"))
    assert first.files == second.files


def test_nothing_is_released_before_the_votes_that_are_there_were_counted(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no labels yet, .*annotate vote trial"):
        released(project, tmp_path / "out")
    count(project)
    merge_votes(project.folder, pulled({"kick/#1": "nnnnn"}), ROUND)
    with pytest.raises(UserError, match="out of date"):
        released(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_release_does_not_take_the_name_of_a_published_one(project: Project, tmp_path: Path) -> None:
    count(project)
    with pytest.raises(UserError, match="vp-hmdb51"):
        released(project, tmp_path / "out", name="vp-hmdb51")


def test_a_dry_run_writes_nothing(project: Project, tmp_path: Path) -> None:
    count(project)
    assert released(project, tmp_path / "out", write=False).files == {}
    assert not (tmp_path / "out").exists()


def test_the_published_schema_names_the_columns_that_are_written(project: Project, tmp_path: Path) -> None:
    count(project)
    schema = json.loads(resources.files("stp_annotations").joinpath("labels.schema.json").read_text())
    header = project.path("labels.csv").read_text().splitlines()[0].split(",")
    assert header == list(schema["properties"])


def test_every_attribute_has_a_guideline_and_keys_of_its_own() -> None:
    text = guidelines()
    assert all(f"<h3>{a.title}</h3>" in text for a in attributes())
    keys = [key for a in attributes() for key in a.keys]
    assert len(set(keys)) == 15 and all(len(a.keys) == 3 for a in attributes())
    for row, answer in enumerate(("Yes", "No", "Not sure")):
        shown = " ".join(a.keys[row].upper() for a in attributes())
        assert f"{answer}: <b>{shown}</b>" in " ".join(text.split()), answer
    assert "at least one moment" in text and "may skip" in datasheet() and "skip any clip" in consent()
    assert string.Template(datasheet()).get_identifiers()
