"""``stp-bench annotate vote``, ``agreement``, ``export``, ``votes-export`` and ``votes-import``, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from stp_annotations import attributes
from stp_bench.annotate import Project, majority
from stp_bench.annotate._project import ADJUDICATION, ROUND
from stp_bench.annotate.votes import extract, merge_votes
from stp_bench.labels import LabelTable, read_table, write_table
from stp_bench.schema import Target

Run = Callable[..., Any]
OURS = tuple(a.name for a in attributes())
CHOICES = {"y": "identifiable", "n": "not_identifiable", "?": "unsure"}
VOTES = {"kick/#1": "yyyyy", "kick/-2": "yynn?", "run/3": "nnnyy", "run/4": "yyn"}
"""Of annotators 1 to 5, the same on every attribute: clear, tied, decided by one vote, and short of votes."""


def form(number: int, who: int, vote: str) -> dict[str, Any]:
    at = "2026-01-01T09:30:00Z"
    said = [{"from_name": name, "value": {"choices": [CHOICES[vote]]}} for name in OURS]
    return {"id": number, "completed_by": who, "created_at": at, "updated_at": at, "lead_time": 5.0, "result": said}


def pull(folder: Path, votes: Mapping[str, str], round: str = ROUND, first: int = 1) -> None:
    """What ``annotate pull`` leaves of an export in which annotator ``first`` and those after it said this."""
    people = {who: f"a-{who}" for who in range(1, 10)}
    tasks = [
        {"data": {"video_id": v}, "annotations": [form(10 * i + w, w, vote) for w, vote in enumerate(of, first)]}
        for i, (v, of) in enumerate(votes.items())
    ]
    found = extract(
        tasks, people=people, videos=list(VOTES), attributes=OURS, invited=None, round=round, guideline_version="1"
    )
    merge_votes(folder, found, round)


def new_round(home: Path, name: str, votes: Mapping[str, str] = VOTES, first: int = 1) -> Path:
    folder = home / "annotations" / name
    folder.mkdir(parents=True)
    Project(
        folder=folder, title=name, source="clips", videos={v: f"{v}.mp4" for v in VOTES}, attributes=OURS, annotators=5,
        guideline_version="1", interface_sha256="ab" * 32, url="http://127.0.0.1:8080", project_id=1,
    ).save()  # fmt: skip
    pull(folder, votes, first=first)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STP_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def folder(home: Path) -> Path:
    return new_round(home, "trial")


def test_vote_writes_labels_manifest_and_queue_and_says_what_is_open(run: Run, folder: Path) -> None:
    done = run("annotate", "vote")
    assert done.code == 0, done.err
    assert "5 tied" in done.out and "5 short" in done.out and "annotate adjudicate" in done.out
    table = read_table(folder / "labels.csv")
    assert {v: row["privacy"] for v, row in table.rows.items()} == {
        "kick/#1": (1,) * 5, "kick/-2": None, "run/3": (0,) * 5, "run/4": None,
    }  # fmt: skip
    queue = pd.read_csv(folder / "queue.csv")
    assert list(queue.columns) == ["video_id", "attribute", "reason", "n_yes", "n_no", "n_abstain"]
    assert queue.groupby("reason").size().to_dict() == {"short": 5, "tied": 5} and not (folder / "close.csv").exists()
    document = run("annotate", "vote", "trial", "--close", "--json").json()
    assert document["open"] == {"tied": 5, "short": 5} and document["close"] == 5
    assert document["sources"]["face"] == {"majority": 2, "adjudicated": 0, "unresolved": 2}
    assert pd.read_csv(folder / "close.csv")["video_id"].unique().tolist() == ["run/3"]


def test_what_an_expert_said_settles_the_open_labels_only(run: Run, folder: Path) -> None:
    pull(folder, {"kick/-2": "n", "run/3": "y", "kick/#1": "n"}, ADJUDICATION, first=7)
    pull_of_voter = {"kick/-2": "n", "run/3": "y", "run/4": "?"}
    document = run("annotate", "vote", "--json").json()
    assert document["sources"]["face"] == {"majority": 2, "adjudicated": 1, "unresolved": 1}
    assert document["not_counted"] == {"needless": 10, "by_voters": 0, "strange": 0}
    pull(folder, pull_of_voter, ADJUDICATION, first=2)
    document = run("annotate", "vote", "--json").json()
    assert document["not_counted"]["by_voters"] == 15 and document["sources"]["face"]["adjudicated"] == 0


def test_fewer_votes_must_be_asked_for_and_are_warned_about(run: Run, folder: Path) -> None:
    assert run("annotate", "vote", "--json").json()["min_votes"] == majority.MIN_VOTES
    done = run("annotate", "vote", "--min-votes", "3")
    assert "fewer than 4 votes" in done.out
    assert read_table(folder / "labels.csv").manifest["min_votes"] == 3
    assert read_table(folder / "labels.csv").rows["run/4"]["privacy"] == (1,) * 5
    released = run("annotate", "export", "--out", "release")
    assert "majorities of 3 votes or more" in released.out


def test_agreement_writes_tables_one_document_and_one_picture(run: Run, folder: Path) -> None:
    done = run("annotate", "agreement")
    assert done.code == 0 and "alpha" in done.out and "a-3" in done.out
    document = run("annotate", "agreement", "--json").json()
    face = document["attributes"]["face"]["agreement"]
    # Of the pairs that agree: 20 of 20; 2+2 of 12; 6+2 of 20; 2 of 6. Their mean is (1 + 1/3 + 2/5 + 1/3) / 4 = 31/60.
    assert face["percent"] == pytest.approx(31 / 60) and face["videos"] == 4
    assert document["undefined"] == [] and len(document["pairs"]) == 50
    written = folder / "agreement"
    kept = json.loads((written / "agreement.json").read_text())
    assert kept == {key: value for key, value in document.items() if key != "files"}
    assert len(pd.read_csv(written / "attributes.csv")) == 5 and len(pd.read_csv(written / "annotators.csv")) == 5
    assert (written / "agreement.png").read_bytes().startswith(b"\x89PNG")


def test_where_everybody_is_unsure_there_is_agreement_of_nothing_and_a_release(run: Run, home: Path) -> None:
    folder = new_round(home, "unsure", dict.fromkeys(VOTES, "?????"))
    document = run("annotate", "agreement", "--json").json()
    assert set(document["undefined"]) == {f"{name}.{of}" for name in OURS for of in ("percent", "alpha", "ac1")}
    assert (folder / "agreement" / "agreement.png").read_bytes().startswith(b"\x89PNG")
    run("annotate", "vote", "--json").json()
    released = run("annotate", "export", "--out", "release", "--release", "unsure-1")
    assert released.code == 0 and "20 labels are unresolved" in released.out


def test_gold_questions_are_held_against_labels_and_people(run: Run, folder: Path, tmp_path: Path) -> None:
    target = Target(name="privacy", kind="multilabel", classes=OURS, private=True)
    rows = {"kick/#1": {"privacy": (1, -1, -1, -1, -1)}, "run/3": {"privacy": (1, 0, -1, -1, -1)}}
    write_table(LabelTable(release="gold", targets=(target,), rows=rows), tmp_path / "gold.csv")
    document = run("annotate", "agreement", "--gold", tmp_path / "gold.csv", "--json").json()
    assert document["gold"]["all"] == {"of": 3, "share": pytest.approx(2 / 3)}
    assert document["annotators"][0]["gold"]["face"] == {"of": 2, "share": 0.5}
    assert document["annotators"][4]["gold"]["all"] == {"of": 3, "share": pytest.approx(2 / 3)}


def test_a_release_is_read_by_labels_stats(run: Run, folder: Path) -> None:
    run("annotate", "vote")
    done = run("annotate", "export", "trial", "--out", "release", "--release", "trial-2026")
    assert done.code == 0 and "10 labels are unresolved" in done.out
    assert sorted(p.name for p in Path("release").iterdir()) == [
        "datasheet.md",
        "labels.csv",
        "labels.json",
        "votes.csv",
    ]
    document = run("labels", "stats", "release/labels.csv", "--json").json()
    assert document["release"] == "trial-2026"
    assert [c["labelled"] for c in document["targets"][0]["classes"]] == [2] * 5


def test_votes_of_two_teams_are_counted_together(run: Run, home: Path) -> None:
    new_round(home, "ours", {"run/4": "yyn"})
    new_round(home, "theirs", {"run/4": "yy"}, first=4)
    assert run("annotate", "votes-export", "theirs", "theirs.parquet").code == 0
    assert run("annotate", "votes-import", "theirs.parquet", "ours", "--dry-run", "--json").json()["new"] == 10
    before = run("annotate", "vote", "ours", "--json").json()
    done = run("annotate", "votes-import", "theirs.parquet", "ours")
    assert "10 votes taken, 0 were there, of 2 annotators" in done.out
    assert "0 votes taken, 10 were there" in run("annotate", "votes-import", "theirs.parquet", "ours").out
    after = run("annotate", "vote", "ours", "--json").json()
    assert (before["sources"]["face"]["majority"], after["sources"]["face"]["majority"]) == (0, 1)


def test_a_file_of_votes_is_enough(run: Run, folder: Path) -> None:
    assert run("annotate", "votes-export", "votes.csv").code == 0
    document = run(
        "annotate", "vote", "--votes", "votes.csv", "--out", "made.csv", "--json", "--data-home", "none"
    ).json()
    assert document["round"] is None and document["videos"] == 4
    assert Path("made.csv").exists() and Path("made.json").exists() and Path("made.queue.csv").exists()
    assert run("annotate", "agreement", "--votes", "votes.csv", "--data-home", "none").code == 0
    assert not Path("none").exists()


@pytest.mark.parametrize("words", [["vote"], ["export", "--out", "release"], ["votes-export", "v.csv"]])
def test_a_dry_run_says_what_would_be_written_and_writes_nothing(run: Run, folder: Path, words: list[str]) -> None:
    if words[0] == "export":
        run("annotate", "vote")
    before = sorted(folder.parent.rglob("*"))
    done = run("annotate", *words, "--dry-run")
    assert done.code == 0 and "would write" in done.out
    assert [p for p in sorted(folder.parent.rglob("*")) if p.name != ".lock"] == [
        p for p in before if p.name != ".lock"
    ]
    assert not Path("release").exists() and not Path("v.csv").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["vote", "trail"], "unknown labelling round 'trail', .*did you mean trial"),
        (["vote", "--min-votes", "0"], "min-votes"),
        (["vote", "--votes", "none.csv", "--out", "x.csv"], "no such file"),
        (["vote", "--votes", "votes.csv"], "name it with --out"),
        (["vote", "--out", "labels.txt"], "end it in .csv"),
        (["agreement", "--gold", "none.csv"], "no such file"),
        (["export", "--out", "release"], "no labels yet"),
        (["votes-export", "trial", "votes.txt"], "end it in .csv or .parquet"),
        (["votes-export", "one", "two", "three"], "give NAME and FILE"),
        (["votes-import", "votes.txt"], "no such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(run: Run, folder: Path, words: list[str], says: str) -> None:
    done = run("annotate", *words)
    assert done.code == 2
    assert pd.Series([done.error]).str.contains(says).all(), done.error


def test_a_round_without_votes_and_a_home_without_rounds_say_what_to_do(run: Run, home: Path) -> None:
    assert "annotate init" in run("annotate", "vote").error
    new_round(home, "empty", {})
    assert "annotate pull" in run("annotate", "vote", "empty").error


def test_a_round_that_another_command_writes_is_left_alone(run: Run, folder: Path) -> None:
    before = sorted(p.name for p in folder.iterdir())
    with FileLock(folder / ".lock"):
        for words in (["vote"], ["export", "--out", "release"], ["votes-import", str(folder / "votes.csv")]):
            done = run("annotate", *words)
            assert done.code == 1 and "in use" in done.error
    assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == [n for n in before if n != ".lock"]


def test_counting_votes_starts_neither_torch_nor_a_client_nor_pictures(folder: Path) -> None:
    code = (
        "import sys\nfrom stp_bench.cli import app\n"
        "try:\n    app(['annotate', 'vote'])\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'label_studio_sdk', 'fiftyone', 'matplotlib', 'krippendorff'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
