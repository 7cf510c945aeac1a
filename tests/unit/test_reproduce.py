"""A table of the paper as a grid, what is written of it, and where its cells run."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import os
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import stprivacy
from stp_bench import launch, methods, paper, reproduce
from stp_bench.config import field_types
from stp_bench.data import prepared_folder
from stp_bench.errors import UserError
from stp_bench.launch import Resources
from stp_bench.progress import Silent
from stp_bench.reproduce import Options, cells, grid, trends
from stp_bench.reproduce._write import comma_separated, latex, markdown

PUBLISHED = [f"table{n}" for n in range(1, 6)]


@pytest.mark.parametrize("table", PUBLISHED)
def test_every_published_figure_has_its_place_in_the_order_of_the_paper(table: str) -> None:
    made, figures = grid(table), paper.published([table])
    found = [
        (line.pair.fit_on, line.pair.on, line.method, metric, value)
        for line in made.lines
        for metric, value in reproduce.published(table, line).items()
    ]
    assert found == [(f.fit_on, f.on, f.method, f.metric, f.value) for f in figures]
    assert all(set(reproduce.published(table, line)) == set(made.metrics) for line in made.lines)


def test_the_tables_have_the_methods_of_the_paper() -> None:
    counts = {table: Counter(line.pair.on for line in grid(table).lines) for table in PUBLISHED}
    assert counts == {
        "table1": {"vp-hmdb51": 10, "vp-ucf101": 10},
        "table2": {"vp-hmdb51": 5, "vp-ucf101": 5},
        "table3": {"pa-hmdb51": 10},
        "table4": {"celebv-hq": 9},  # no blackening: a face fills the frame
        "table5": {"p-hvu": 10},
    }
    assert grid("table5").metrics == ("action_cmap", "object_cmap", "scene_cmap")


def test_methods_are_chosen_and_a_new_one_comes_after_the_papers() -> None:
    chosen = grid("table4", ["mine:METHOD", "stprivacy", "raw"])
    assert [line.method for line in chosen.lines] == ["raw", "stprivacy", "mine:METHOD"]
    assert reproduce.published("table4", chosen.lines[-1]) == {}


def test_an_unknown_table_is_refused_with_the_nearest_named() -> None:
    with pytest.raises(UserError, match=r"did you mean .*table1"):
        grid("tabel1")


def test_figure_4_moves_one_factor_at_a_time() -> None:
    made = grid("figure4")
    values: dict[str, list[str]] = {}
    for line in made.lines:
        if line.pair.on == "vp-hmdb51":
            values.setdefault(line.factor, []).append(line.value)
    tenths = ["0.1", "0.3", "0.5", "0.7", "0.9"]
    assert values == {
        "mechanisms": ["raw data", "sparsification only", "anonymization only", "both"],
        "alpha": ["0.5", "0.6", "0.7", "0.8", "0.9"],
        "tubelet": ["1", "2", "4"],
        "lambda_action": tenths,
        "lambda_privacy": tenths,
        "keep": ["0.5", "0.6", "as trained", "0.8", "0.9", "1.0"],
    }
    assert all(len(line.settings) + (line.keep is not None) <= 1 for line in made.lines)
    assert [pair.on for pair in made.pairs] == ["vp-hmdb51", "vp-ucf101"]


def test_what_figure_4_sets_are_options_of_its_method() -> None:
    known = field_types(stprivacy.Config)
    for line in grid("figure4").lines:
        assert all(setting.partition("=")[0] in known for setting in line.settings)


def specs(*names: str) -> dict[str, methods.MethodSpec]:
    return {name: methods.find(name) for name in names}


def test_the_papers_own_setting_is_one_run_that_all_charts_share(tmp_path: Path) -> None:
    made = cells(grid("figure4"), specs("raw", "stprivacy"), Options(preset="full", home=tmp_path), tmp_path)
    assert len({cell.folder for cell in made}) == len({cell.name for cell in made}) == len(made)
    shared = [cell for cell in made if len(cell.lines) > 1]
    assert len(shared) == 2  # one per pair
    factors = {(line.factor, line.value) for line in shared[0].lines}
    assert factors == {
        ("mechanisms", "both"), ("alpha", "0.7"), ("tubelet", "2"), ("lambda_action", "0.5"), ("lambda_privacy", "0.5"),
        ("keep", "as trained"),
    }  # fmt: skip
    # A preset whose default is another weight has another point there.
    small = cells(grid("figure4"), specs("stprivacy"), Options(preset="small", home=tmp_path), tmp_path)
    assert ("lambda_privacy", "0.5") not in {(n.factor, n.value) for c in small for n in c.lines if len(c.lines) > 1}


def test_a_cell_is_an_ordinary_run_on_the_twins_where_nothing_is_prepared(tmp_path: Path) -> None:
    options = Options(preset="tiny", seeds=2, settings=("run.epochs=1", "alpha=0.6"), home=tmp_path)
    made = cells(grid("table2"), specs("raw", "stprivacy"), options, tmp_path / "out")
    assert len(made) == 2 * 2 * 2
    request = next(c.request for c in made if c.request.method == "stprivacy" and c.request.seed == 1)
    assert (request.protocol, request.fit_on, request.on) == ("unseen", "synth-ucf", "synth-hmdb")
    assert request.settings == ("run.epochs=1", "stprivacy.alpha=0.6")
    raw = next(c for c in made if c.request.method == "raw")
    assert raw.identity and raw.request.settings == ("run.epochs=1",)
    assert len({c.folder for c in made}) == len(made)
    assert all(c.folder.is_relative_to(tmp_path / "out") for c in made)


def test_real_data_are_used_only_where_both_sides_of_a_pair_are_prepared(tmp_path: Path) -> None:
    pair = grid("table2").pairs[0]
    assert reproduce.bound(pair, tmp_path) == ("synth-ucf", "synth-hmdb", False)
    for name, ready in (("vp-hmdb51", False), ("vp-ucf101", True)):
        index = prepared_folder(tmp_path, name) / "index.json"
        index.parent.mkdir(parents=True)
        index.write_text("{}")
        assert reproduce.bound(pair, tmp_path)[2] is ready
    assert reproduce.bound(pair, tmp_path) == ("vp-ucf101", "vp-hmdb51", True)


def test_a_wrong_setting_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for setting in ("stprivacy.alhpa=0.5", "run.epochs=none", "blur-weak.sigma=3"):
        with pytest.raises(UserError):
            cells(grid("table1"), specs("stprivacy"), Options(settings=(setting,), home=tmp_path), tmp_path)


def rows(**figures: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Rows of figure 4: ``factor__value`` to top-1, F1, cMAP."""
    return [
        {
            "factor": name.partition("__")[0],
            "value": name.partition("__")[2].replace("_", " ").replace("p", "."),
            "paper": {"on": "vp-hmdb51"},
            "ours": {n: {"mean": v} for n, v in zip(("top1", "f1", "cmap"), found, strict=True)},
        }
        for name, found in figures.items()
    ]  # fmt: skip


def test_trends_hold_fail_or_stay_open() -> None:
    rising = {f"alpha__0p{n}": (40.0 + n, 0.5, 60.0 + n) for n in (5, 6, 7, 8, 9)}
    made = trends(rows(**rising, tubelet__1=(45.0, 0.5, 66.0), tubelet__2=(47.0, 0.5, 67.0)))
    verdicts = {(t["chart"], t["claim"].partition(" (")[0]): t["passed"] for t in made}
    assert verdicts["alpha", "top-1 rises with alpha"] is True
    assert verdicts["alpha", "cMAP rises with alpha"] is True
    assert verdicts["tubelet", "tubelets of one frame harm the action"] is True
    assert verdicts["tubelet", "tubelets of one frame make removing privacy easier"] is True
    assert verdicts["tubelet", "tubelets of four frames harm the action"] is None
    assert verdicts["keep", "deployment: top-1 rises with the keep ratio"] is None
    falling = {name: (100 - a, b, c) for name, (a, b, c) in rising.items()}
    verdicts = {t["claim"].partition(" (")[0]: t["passed"] for t in trends(rows(**falling))}
    assert verdicts["top-1 rises with alpha"] is False and verdicts["cMAP rises with alpha"] is True


def test_shares_of_raw_decide_what_sparsification_costs() -> None:
    # 10 % of top-1 is lost, 20 % of F1, 12 % of cMAP; then 15 % of top-1.
    raw, good, bad = (50.0, 0.5, 75.0), (45.0, 0.4, 66.0), (42.5, 0.4, 66.0)
    for alone, expected in ((good, True), (bad, False)):
        dashed = [*rows(mechanisms__raw=raw, mechanisms__alone=alone)]
        dashed[0]["value"], dashed[1]["value"] = "raw data", "sparsification only"
        assert trends(dashed)[0]["passed"] is expected


def document(**changes: Any) -> dict[str, Any]:
    line = grid("table1", ["raw"]).lines[0]
    row = {
        "paper": dataclasses.asdict(line.pair), "method": "a|b<script>_&%", "variant": None, "factor": "", "value": "",
        "settings": [], "keep": None, "published": {"top1": 51.44, "f1": 0.673, "cmap": 75.58}, "error": None,
        "folders": [], "seeds": [0, 1], "fit_on": "synth-hmdb", "on": "synth-hmdb", "data": "synth-hmdb (embedded)",
        "embedded": True, "preset": "tiny", "split": 1, "weights": "none", "precision": "fp32", "attackers": None,
        "ours": {"top1": {"mean": 40.0, "sd": 1.5}, "f1": {"mean": None, "sd": None},
                 "cmap": {"mean": 60.0, "sd": None}, "excess": {"mean": -1.25, "sd": 0.5},
                 "worst_excess": {"mean": 2.0, "sd": None}},
        "left": {"top1": 0.5, "f1": None, "cmap": 1.25}, "ci95": {"top1": [35.0, 45.0]},
        "differs": [{"what": "run.epochs", "ours": 2, "paper": 80}],
        "of_raw": {side: dict.fromkeys(("top1", "f1", "cmap"), v) for side, v in (("ours", 0.8), ("published", 1.0))},
    }  # fmt: skip
    front = {"methods": [], "hypervolume": None, "own_share": {}}
    statistics = {
        "pair": row["paper"], "tests": None, "ranking": {"over_seeds": {}, "with_the_paper": {}},
        "front": {"utility": "top1", "leakage": "cmap", "reference": [100.0, 0.0], "ours": front, "published": front},
    }  # fmt: skip
    return {
        "schema": 1, "kind": "reproduction", "table": "table1", "metrics": ["top1", "f1", "cmap"],
        "rows": [row | changes], "statistics": [statistics], "trends": [], "failed": [],
    }  # fmt: skip


def test_markdown_says_what_was_measured_on_what_and_what_differs() -> None:
    text = markdown(document())
    line = next(line for line in text.splitlines() if line.startswith("| a"))
    assert "<script" not in text and "a\\|b" in line
    assert "40.00 ± 1.50 | 80 % | 51.44 | 100 % | –" in line
    assert "synth-hmdb (embedded) | tiny | 2 |" in line and "-1.25 ± 0.50" in line
    assert "run.epochs 2 (paper: 80)" in text
    assert "stand in for the real ones" in text
    assert "stand in" not in markdown(document(embedded=False, on="vp-hmdb51", fit_on="vp-hmdb51", data="vp-hmdb51"))


def test_a_row_without_a_run_says_so_and_keeps_the_published_figures() -> None:
    broken = document(ours={}, left={}, seeds=[], error="no space, the disk is full; free some", data=None, preset=None)
    broken["failed"] = [{"cell": "raw on synth-hmdb, seed 0", "error": "no space"}]
    text = markdown(broken)
    assert "51.44" in text and "| failed |" in text and "- raw on synth-hmdb, seed 0: no space" in text


def test_csv_has_a_row_per_figure_under_the_names_of_the_published_file() -> None:
    found = list(csv.DictReader(io.StringIO(comma_separated(document()))))
    assert [row["metric"] for row in found] == ["top1", "f1", "cmap", "excess", "worst_excess"]
    first = found[0]
    assert (first["mean"], first["sd"], first["low"], first["high"]) == ("40.0", "1.5", "35.0", "45.0")
    assert (first["published"], first["protocol"], first["on"], first["seeds"]) == (
        "51.44",
        "known",
        "vp-hmdb51",
        "0 1",
    )
    assert first["method"] == "a|b<script>_&%" and found[1]["mean"] == ""


def test_latex_escapes_names_and_has_as_many_cells_as_columns() -> None:
    text = latex(document())
    row = next(line for line in text.splitlines() if line.startswith("a|b"))
    assert r"\_\&\%" in row and r"40.00 $\pm$ 1.50 (51.44)" in row
    columns = next(line for line in text.splitlines() if line.startswith(r"\begin{tabular}"))
    assert row.replace(r"\&", "").count("&") + 1 == columns.count("r", columns.index("{l")) + 1


def test_work_that_fails_here_does_not_stop_the_rest() -> None:
    def work(item: int, reporter: Any) -> int:
        if item == 1:
            raise ZeroDivisionError("one is too few")
        return 10 * item

    with launch.launcher("local", Resources(), Silent()) as local:
        found = {outcome.name: outcome for outcome in local.run(work, {"a": 0, "b": 1, "c": 2})}
    assert [found[name].value for name in "abc"] == [0, None, 20]
    assert "ZeroDivisionError" in str(found["b"].error) and "one is too few" in str(found["b"].error)


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"gpus": -0.5}, {"gpus": 1.5}, {"gpus": float("nan")}])
def test_impossible_resources_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="per-cell"):
        Resources(**wrong)


WORK = """
    import os, signal
    from pathlib import Path
    from stp_bench.errors import UserError

    def work(item, reporter):
        kind, marker = item
        with reporter.stage("working", 1, "steps") as task:
            if kind == "wrong":
                raise UserError("bad item", "it is wrong", "mend it")
            if kind == "always" or (kind == "once" and not Path(marker).exists()):
                Path(marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            task.advance()
        import torch
        return os.getpid(), torch.get_num_threads(), os.environ["RAY_AUTH_TOKEN"], listeners()

    def listeners():
        # Addresses that this process listens on, in hex; found by the inodes of its sockets.
        lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
        mine = {os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)}
        return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in mine]
"""


class Listener(Silent):
    """A reporter that remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for sockets in /proc")
def test_ray_starts_work_again_whose_worker_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("ray") is None:  # not imported: that is the launcher's to do
        pytest.skip("Ray is not installed")
    (tmp_path / "work_of_the_test.py").write_text(textwrap.dedent(WORK))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    from work_of_the_test import work  # type: ignore[import-not-found]

    items = {kind: (kind, str(tmp_path / kind)) for kind in ("good", "once", "always", "wrong")}
    listener = Listener()
    with launch.launcher("ray", Resources(cpus=1), listener) as ray:
        found = {outcome.name: outcome for outcome in ray.run(work, items)}
    assert set(found) == set(items)
    pid, threads, token, listeners = found["good"].value
    assert pid != os.getpid() and threads == 1
    # 127.0.0.1, also as an address of IPv6; Ray keeps no token of its own in the user's home.
    assert listeners and all(address.split(":")[0].endswith("0100007F") for address in listeners)
    assert token and "RAY_AUTH_TOKEN" not in os.environ and not (tmp_path / ".ray").exists()
    assert found["once"].value[0] != os.getpid() and found["once"].attempts == 2
    assert any("once: its worker died" in text for text in listener.said)
    assert "the worker of always died" in str(found["always"].error)
    assert str(found["wrong"].error) == "bad item, it is wrong; mend it"
    assert isinstance(found["wrong"].error, UserError)


def test_without_ray_the_launcher_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"stp-bench\[scale\]"), launch.launcher("ray", Resources(), Silent()):
        pass
