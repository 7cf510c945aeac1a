"""From videos to a result by own labels: votes are counted, released, prepared as an own data set, and judged on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stp_annotations import attributes
from stp_bench.annotate import Project
from stp_bench.index import read_index

Run = Callable[..., Any]
FIVE = tuple(attribute.name for attribute in attributes())
PEOPLE = ("p1", "p2", "p3", "p4", "p5")


def truth(folder: Path) -> dict[str, dict[str, int]]:
    dataset = read_index(folder)
    name = dataset.benchmark.privacy.name
    return {v.video_id: dict(zip(FIVE, v.labels[name] or (), strict=True)) for v in dataset.videos}


def write_votes(path: Path, known: dict[str, dict[str, int]], tied: tuple[str, str]) -> None:
    """Five votes on everything, of which the first person always errs; on one attribute of one video two yes, two no
    and one who is not sure."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            ["video_id", "annotator", "attribute", "vote", "seconds", "annotation_id", "created_at", "updated_at",
             "round", "guideline_version"]
        )  # fmt: skip
        for video_id, row in known.items():
            for attribute, label in row.items():
                right = str(label)
                said = [str(1 - label), right, right, right, right]
                if (video_id, attribute) == tied:
                    said = ["1", "1", "0", "0", "abstain"]
                for who, vote in zip(PEOPLE, said, strict=True):
                    writer.writerow([video_id, who, attribute, vote, "", "", "", "", "independent", ""])


@pytest.mark.slow
def test_votes_on_own_videos_become_a_result_that_counts_only_what_was_decided(run: Run, tmp_path: Path) -> None:
    home = ("--data-home", tmp_path / "home")
    run("data", "synth", "synth-hmdb", "--preset", "tiny", "--out", tmp_path / "made", *home, "--json").json()
    known = truth(tmp_path / "made")
    video_id = sorted(known)[3]
    write_votes(tmp_path / "votes.csv", known, tied=(video_id, "gender"))
    # What `annotate init` leaves behind; no server is asked for anything here.
    Project(
        folder=tmp_path / "home/annotations/trial", title="Trial", source=str(tmp_path / "made/videos"),
        videos={i: f"{i}.mp4" for i in known}, attributes=FIVE, annotators=5, guideline_version="1",
        interface_sha256="0" * 64, url="http://127.0.0.1:1", project_id=1,
    ).save()  # fmt: skip
    taken = run("annotate", "votes-import", tmp_path / "votes.csv", "trial", *home, "--json").json()
    assert taken["new"] == len(known) * 5 * 5
    run("annotate", "vote", "trial", *home, "--json").json()
    released = run("annotate", "export", "trial", "--out", tmp_path / "release", *home, "--json").json()
    assert (released["labels"], released["unresolved"]) == (len(known) * 5 - 1, 1)

    words = ("--own", "--videos", tmp_path / "made/videos", "--labels", tmp_path / "release/labels.csv", *home)
    report = run("data", "prepare", "my-set", *words, "--json").json()
    assert report["indexed"] == len(known) and report["label_release"].startswith("trial-v1")
    assert any(f"1 videos have attributes without a label ({video_id})" in note for note in report["notes"])
    prepared = truth(tmp_path / "home/data/my-set/prepared")
    assert prepared == {**known, video_id: {**known[video_id], "gender": -1}}
    assert run("data", "check", "my-set", *home, "--json").json()["problems"] == []
    result = run(
        "evaluate", "--method", "raw", "--preset", "tiny", "--on", "my-set", "--set", "run.bootstrap=10", *home,
        "--json",
    ).json()  # fmt: skip
    assert result["metrics"]["top1"] is not None and set(result["metrics"]["per_attribute"]) == set(FIVE)
    assert result["provenance"]["label_release"] == report["label_release"]
