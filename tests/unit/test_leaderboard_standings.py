"""Standings: what may be compared is compared, repetitions become one row, and who is beaten ranks behind."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from stp_bench.errors import UserError
from stp_bench.paper import published
from stp_bench.results import Result, share_left
from stp_leaderboard import page
from stp_leaderboard.proof import Verdict
from stp_leaderboard.records import Record, record_of
from stp_leaderboard.standings import contests, contradictions

GOLDEN = Result.read(Path(__file__).parents[1] / "golden/result-schema1.json")


def record(
    method: str, top1: float = 50.0, excess: float = 5.0, *, day: int = 1, identity: bool = False, **changes: Any
) -> Record:
    """A record with an action figure and a worst excess; ``provenance`` and ``metrics`` are updated, not replaced."""
    metrics = copy.deepcopy(dict(GOLDEN.metrics)) | {"top1": top1} | changes.pop("metrics", {})
    metrics["worst"] = metrics["worst"] | {"excess": excess}
    digest = {"predictions_sha256": f"{method} {top1} {excess} {changes.get('seed', 0)}"}
    provenance = {**GOLDEN.provenance, **digest, **changes.pop("provenance", {})}
    result = dataclasses.replace(GOLDEN, method=method, metrics=metrics, provenance=provenance, **changes)
    card = {"title": method, "version": 1, "learned": False, "identity": identity, "needs": [], "reference": "",
            "source": "a package"}  # fmt: skip
    date = datetime.date(2026, 3, day)
    return record_of(result, submitter="A. Person", date=date, tables="tables", card=card)


def verdict(of: Record) -> Verdict:
    return Verdict(source=of.file_name, record=of, problems=(), unchecked=())


def test_a_method_ranks_behind_those_that_beat_it_in_both_figures() -> None:
    # best and quiet beat nobody's both figures of each other; middle is beaten by best alone, worst by all three.
    (contest,) = contests(
        [record("worst", 20, 30), record("middle", 60, 9), record("quiet", 30, 1), record("best", 70, 8)]
    )
    assert [(row.rank, row.key.method) for row in contest.rows] == [
        (1, "best"), (1, "quiet"), (2, "middle"), (3, "worst"),
    ]  # fmt: skip
    assert [contest.rows[i].key.method for i in contest.front] == ["quiet", "best"]


def test_seeds_are_one_row_with_mean_and_deviation_and_newer_dates_replace_older_ones() -> None:
    (contest,) = contests(
        [
            record("one", 40, day=1, seed=0), record("one", 46, day=2, seed=0), record("one", 50, seed=1),
            record("one", 57, seed=2),
        ]
    )  # fmt: skip
    (row,) = contest.rows
    assert row.figures["top1"].values == (46, 50, 57)
    assert row.figures["top1"].mean == 51
    assert row.figures["top1"].sd == pytest.approx(statistics.stdev([46, 50, 57]))
    assert [r.result.metrics["top1"] for r in row.earlier] == [40]
    assert row.figures["top1"].sd is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "small"}, {"split": 2}, {"protocol": "known"}, {"on": "synth-ucf"}, {"fit_on": "synth-hmdb"},
        {"data": {"preset": "tiny", "seed": 1}}, {"provenance": {"videos_sha256": "f" * 64}},
        {"provenance": {"config": {"run": {"epochs": 1}}}},
    ],
)  # fmt: skip
def test_another_setting_is_another_contest(changes: dict[str, Any]) -> None:
    assert len(contests([record("one"), record("two", **changes)])) == 2


def test_resamples_of_the_intervals_make_no_other_contest() -> None:
    run = dict(GOLDEN.provenance["config"].get("run", {}))
    more = {"config": {**GOLDEN.provenance["config"], "run": {**run, "bootstrap": 7}}}
    assert len(contests([record("one"), record("two", provenance=more)])) == 1


def test_the_share_left_is_counted_from_the_raw_row_of_the_same_contest() -> None:
    raw, one = record("raw", 80, identity=True), record("one", 50, metrics={"cmap": 90.0})
    (contest,) = contests([raw, one])
    row = next(row for row in contest.rows if row.key.method == "one")
    wanted = share_left(one.result.metrics, one.result.floors, raw.result.metrics, raw.result.floors)
    assert row.left == pytest.approx(wanted)
    (alone,) = contests([one])
    assert alone.rows[0].left == {"top1": None, "f1": None, "cmap": None}


def test_a_share_left_that_the_raw_record_does_not_give_is_refused() -> None:
    raw = record("raw", 80, identity=True)
    known = share_left(record("one").result.metrics, GOLDEN.floors, raw.result.metrics, raw.result.floors)
    honest, boaster = record("one", left=known), record("two", left={**known, "top1": 1.5})
    first, second, third = contradictions([verdict(raw), verdict(honest), verdict(boaster)])
    assert first.holds
    assert second.holds
    assert [field for field, _ in third.problems] == ["left.top1"]
    (unproved,) = contradictions([verdict(honest)])
    assert unproved.holds
    assert unproved.unchecked


def test_one_result_under_two_seeds_is_refused() -> None:
    same = {"predictions_sha256": "a" * 64}
    first, second = contradictions(
        [verdict(record("one", provenance=same)), verdict(record("one", provenance=same, seed=1))]
    )
    assert first.holds
    assert [field for field, _ in second.problems] == ["provenance.predictions_sha256"]


def test_a_share_left_may_be_that_of_any_raw_record_of_the_seed() -> None:
    raws = [record("raw", 80, identity=True), record("raw", 80 + 1e-6, day=2, identity=True)]
    own = record("one").result
    shares = [share_left(own.metrics, own.floors, raw.result.metrics, raw.result.floors) for raw in raws]
    ones = [record(f"by-{number}", left=share) for number, share in enumerate(shares)]
    assert all(one.holds for one in contradictions([verdict(of) for of in (*raws, *ones)]))


@pytest.mark.parametrize("found", ["before", "by its share left"])
def test_a_tampered_copy_does_not_refuse_what_it_was_copied_from(found: str) -> None:
    raw = record("raw", 80, identity=True)
    known = share_left(record("one").result.metrics, GOLDEN.floors, raw.result.metrics, raw.result.floors)
    genuine = record("one", day=2, left=known)
    tampered = verdict(record("one", day=1, left=known if found == "before" else {**known, "top1": 2.0}))
    if found == "before":
        tampered = dataclasses.replace(tampered, problems=(("metrics.cmap", "is another"),))
    _, first, second = contradictions([verdict(raw), tampered, verdict(genuine)])
    assert not first.holds
    assert second.holds, second.problems


def test_a_changed_recipe_is_told_in_the_title() -> None:
    run = {"run": {"epochs": 99}}
    (contest,) = contests([record("one", provenance={"config": run})])
    assert "tiny, but epochs 99" in contest.title


def test_the_page_is_the_same_bytes_whatever_the_order_of_records(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    records = [verdict(record("one")), verdict(record("two", 60)), verdict(record("one", 52, seed=1))]
    first, second = (page.build(order, tmp_path / str(i)) for i, order in enumerate((records, records[::-1])))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_whatever_a_record_holds_is_shown_as_text(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    evil = '</script><img src=x onerror="alert(1)">'
    held = record("one", provenance={"device": evil, "git": evil, "config": {"method": {evil: evil}}})
    bad = Verdict(source=evil, record=None, problems=((evil, evil),), unchecked=())
    for path in page.build([verdict(held), bad], tmp_path):
        if path.suffix == ".html":
            assert "<img" not in path.read_text()


def test_pages_of_methods_that_are_gone_are_removed_and_odd_names_get_pages_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    page.build([verdict(record("one"))], tmp_path)
    page.build([verdict(record("Two")), verdict(record("two", 55)), verdict(record("../two", 56))], tmp_path)
    names = {path.name for path in (tmp_path / "methods").iterdir()}
    assert len(names) == 3
    assert "two.html" in names
    assert "one.html" not in names
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "methods", "plotly.min.js", page.MARK}


def test_a_folder_of_something_else_is_left_alone_and_so_is_what_was_put_beside_the_pages(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    site, out = tmp_path / "site", tmp_path / "out"
    (site / "methods").mkdir(parents=True)
    (site / "index.html").write_text("another site")
    (site / "methods" / "ours.html").write_text("another page")
    with pytest.raises(UserError, match="left alone"):
        page.build([verdict(record("one"))], site)
    assert (site / "index.html").read_text() == "another site"
    assert [path.name for path in (site / "methods").iterdir()] == ["ours.html"]
    page.build([verdict(record("one"))], out)
    (out / "methods" / "mine.html").write_text("put here by hand")
    (tmp_path / "outside.html").touch()
    mark = json.loads((out / page.MARK).read_text())
    names = [*mark["files"], "methods/../../outside.html", "index.html", 5]
    (out / page.MARK).write_text(json.dumps({**mark, "files": names}))
    page.build([verdict(record("two"))], out)
    assert {path.name for path in (out / "methods").iterdir()} == {"mine.html", "two.html"}
    assert (tmp_path / "outside.html").exists()


def test_published_figures_are_on_the_page_but_in_no_ranking(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    index, *_ = page.build([verdict(record("one"))], tmp_path)
    standings, _, apart = index.read_text().partition('id="published"')
    assert "51.44" in apart  # Table 1, raw on VP-HMDB51
    assert "51.44" not in standings


def test_the_paper_has_177_figures_in_five_tables_and_none_twice() -> None:
    figures = published()
    assert len(figures) == 177
    assert {one.table for one in figures} == {f"table{i}" for i in range(1, 6)}
    cells = {(one.table, one.protocol, one.fit_on, one.on, one.method, one.metric) for one in figures}
    assert len(cells) == len(figures)
    assert all(0 <= one.value <= (1 if one.metric == "f1" else 100) for one in figures)
    assert {one.table for one in published(["table2"])} == {"table2"}
