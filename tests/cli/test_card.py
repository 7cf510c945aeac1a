"""``stp-bench data card`` on the embedded benchmarks, which have all kinds of targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stp_bench import catalogue

Run = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.embedded())
def test_every_embedded_benchmark_has_a_card(run: Run, name: str, data_home: Path) -> None:
    found = run("data", "card", name, "--preset", "tiny", "--json").json()
    folder = data_home / "cards" / name
    assert found["folder"] == str(folder) and {p.name for p in folder.iterdir()} == set(found["files"])
    assert found["shown"] and not found["unreadable"]
    numbers = json.loads((folder / "card.json").read_text())
    dataset = catalogue.prepared(name, preset="tiny", seed=0, home=data_home)
    assert found["videos"] == numbers["videos"] == len(dataset.videos)
    assert [t["target"] for t in numbers["targets"] if t["unit"] == "video"] == [
        t.name for t in dataset.benchmark.targets
    ]
    page = (folder / "card.md").read_text()
    assert dataset.benchmark.title in page and "Apache-2.0" in page


@pytest.mark.slow
def test_people_are_told_where_the_card_lies_and_what_its_limits_are(run: Run, tiny: Path, tmp_path: Path) -> None:
    done = run("data", "card", "synth-hmdb", "--preset", "tiny", "--out", tmp_path / "card")
    assert done.code == 0, done.err
    assert "limit: " in done.out and "croissant.json: " in done.out
    assert str(tmp_path / "card" / "card.md") in done.out.replace("\n", "")


@pytest.mark.slow
def test_other_lists_have_a_card_of_their_own(run: Run, data_home: Path) -> None:
    official = run("data", "card", "synth-pa", "--preset", "tiny", "--json").json()
    found = run("data", "card", "synth-pa@paper-random", "--preset", "tiny", "--json").json()
    assert found["folder"] == str(data_home / "cards" / "synth-pa@paper-random") != official["folder"]
    document = json.loads((Path(found["folder"]) / "croissant.json").read_text())
    (split,) = (f for f in document["recordSet"][0]["field"] if f["name"] == "split1")
    assert split["source"]["extract"] == {"column": "split1@paper-random"}


def test_data_that_are_not_there_are_a_mistake_with_a_way_out(run: Run) -> None:
    assert "data prepare vp-hmdb51" in run("data", "card", "vp-hmdb51").error
    assert "--preset and --seed do not fit" in run("data", "card", "vp-hmdb51", "--preset", "tiny").error
    assert "did you mean" in run("data", "card", "synth-hmbd").error
    done = run("data", "card", "synth-hmdb@nowhere", "--preset", "tiny")
    assert done.code == 2 and "nowhere" in done.error


def test_a_folder_that_cannot_be_written_is_named(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("data", "card", "synth-hmdb", "--preset", "tiny", "--out", tmp_path / "file" / "card")
    assert done.code == 1 and "cannot write" in done.error
