"""A table of the paper by one command: on tiny embedded data, here and on Ray, and with a method that fails."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stp_bench.reproduce import Options, grid, reproduce
from stp_bench.reproduce._grid import Grid
from stp_bench.results import Result

Run = Callable[..., Any]


def comparable(document: Any) -> list[Any]:
    """Rows without the folders of their runs."""
    return [{name: value for name, value in row.items() if name != "folders"} for row in document["rows"]]


@pytest.fixture(scope="module")
def table1(start: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of Table 1, and what was printed."""
    out = tmp_path_factory.mktemp("table1")
    words = ("--method", "stprivacy", "--method", "raw", "--preset", "tiny", "--set", "run.epochs=1")
    return out, start("reproduce", "table1", *words, "--out", out, "--json")


@pytest.mark.slow
def test_a_table_sets_ours_beside_the_published_figures(table1: tuple[Path, Any]) -> None:
    out, done = table1
    document = done.json()
    rows = document["rows"]
    assert [(r["method"], r["paper"]["on"], r["on"]) for r in rows] == [
        ("raw", "vp-hmdb51", "synth-hmdb"), ("stprivacy", "vp-hmdb51", "synth-hmdb"),
        ("raw", "vp-ucf101", "synth-ucf"), ("stprivacy", "vp-ucf101", "synth-ucf"),
    ]  # fmt: skip
    for row in rows:
        assert row["embedded"] and row["data"] == f"{row['on']} (embedded)" and row["preset"] == "tiny"
        result = Result.read(Path(row["folders"][0]) / "result.json")
        for name in ("top1", "f1", "cmap"):
            assert row["ours"][name]["mean"] == result.metrics[name]
        assert row["ours"]["excess"]["mean"] == result.metrics["excess"]["cmap"]
        assert row["attackers"]["worst_excess"] >= row["attackers"]["mean_excess"]
        assert result.left == row["left"] and result.left["cmap"] is not None  # raw was judged first
        assert {"what": "run.epochs", "ours": 1, "paper": 80} in row["differs"]
    assert rows[3]["published"] == {"top1": 82.55, "f1": 0.634, "cmap": 73.79}
    assert rows[1]["of_raw"]["published"]["top1"] == pytest.approx(50.73 / 51.44)
    tests = document["statistics"][0]["tests"]
    assert tests["one"] == "stprivacy" and [entry["other"] for entry in tests["against"]] == ["raw"]
    assert tests["against"][0]["top1"]["value"] == rows[1]["ours"]["top1"]["mean"] - rows[0]["ours"]["top1"]["mean"]
    assert json.loads((out / "table1.json").read_text()) == document


@pytest.mark.slow
def test_a_table_is_written_in_every_form(table1: tuple[Path, Any]) -> None:
    out, done = table1
    document = done.json()
    text = (out / "table1.md").read_text()
    assert text.count("synth-hmdb (embedded)") >= 2 and "82.55" in text
    with (out / "table1.csv").open(newline="") as handle:
        figures = list(csv.DictReader(handle))
    assert len(figures) == 4 * 5
    assert float(figures[0]["mean"]) == document["rows"][0]["ours"]["top1"]["mean"]
    assert (out / "table1.tex").read_text().count(r"\begin{tabular}") == 2
    assert (out / "table1.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "table1.svg").read_text()
    assert not [path for path in out.rglob("*.partial*") if "stages" not in path.parts]


@pytest.mark.slow
def test_finished_cells_are_found_again_and_shared_with_evaluate(run: Run, table1: tuple[Path, Any]) -> None:
    out, done = table1
    words = ("--method", "stprivacy", "--preset", "tiny", "--set", "run.epochs=1")
    again = run("reproduce", "table1", *words, "--method", "raw", "--out", out, "--json")
    assert again.json() == done.json()
    assert "train" not in again.err and "found" in again.err
    alone = run("evaluate", *words, "--on", "synth-hmdb", "--out", out / "alone", "--json")
    assert alone.json() == Result.read(out / "synth-hmdb" / "stprivacy" / "seed-0" / "result.json").to_dict()
    assert "train" not in alone.err


def workers_of(ancestor: int) -> Iterator[int]:
    """Processes that do a task of Ray and descend from a process."""
    parents, busy = {}, []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::_remote"):
                busy.append(pid)
    for pid in busy:
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor:
            yield pid


def is_amid_a_stage(pid: int, stages: Path) -> bool:
    """Whether a process holds the lock of a stage."""
    with contextlib.suppress(OSError):
        return any(str(fd.readlink()).startswith(str(stages)) for fd in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for workers in /proc")
def test_ray_gives_the_same_records_also_when_a_worker_is_killed(
    program: Path, table1: tuple[Path, Any], data_home: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("ray") is None:  # not imported: that is the launcher's to do
        pytest.skip("Ray is not installed")
    home, out = tmp_path / "home", tmp_path / "out"
    for name in ("data", "clips"):  # made once, by the table before
        shutil.copytree(data_home / name, home / name)
    words = ["--method", "raw", "--preset", "tiny", "--set", "run.epochs=1", "--launcher", "ray", "--json"]
    environment = {**os.environ, "STP_BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "err"
    with log.open("w") as err:
        command = subprocess.Popen(
            [program, "reproduce", "table1", *words, "--out", out], stdout=subprocess.PIPE, stderr=err, env=environment
        )
        killed: list[int] = []
        while command.poll() is None and not killed:
            killed = [pid for pid in workers_of(command.pid) if is_amid_a_stage(pid, home / "stages")][:1]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        printed, _ = command.communicate(timeout=300)
    assert command.returncode == 0, log.read_text()
    assert killed and "its worker died" in log.read_text()
    document = json.loads(printed)
    here = [row for row in comparable(table1[1].json()) if row["method"] == "raw"]
    assert comparable(document) == here
    for row, (folder,) in zip(here, (row["folders"] for row in document["rows"])):
        mine = Result.read(Path(folder) / "result.json")
        theirs = Result.read(table1[0] / row["on"] / "raw" / "seed-0" / "result.json")
        assert (mine.metrics, mine.floors) == (theirs.metrics, theirs.floors)
        assert mine.provenance["predictions_sha256"] == theirs.provenance["predictions_sha256"]
        assert mine.provenance["stages"] == theirs.provenance["stages"]


BROKEN = """
    from stp_bench.methods import MethodSpec

    def build(config, vit):
        raise ValueError("no luck")

    METHOD = MethodSpec(name="luckless", version=1, title="Fails", build="luckless_of_the_test:build")
"""


@pytest.mark.slow
def test_a_cell_that_fails_is_named_at_the_end_and_stops_no_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "luckless_of_the_test.py").write_text(textwrap.dedent(BROKEN))
    monkeypatch.syspath_prepend(str(tmp_path))
    methods = ("--method", "raw", "--method", "luckless_of_the_test:METHOD")
    out = tmp_path / "out"
    done = run("reproduce", "table4", *methods, "--preset", "tiny", "--set", "run.epochs=1", "--out", out, "--json")
    assert done.code == 1
    document = json.loads(done.out)
    first, second = document["rows"]
    assert first["ours"]["top1"]["mean"] is not None and first["error"] is None
    assert (second["method"], second["ours"]) == ("luckless_of_the_test:METHOD", {}) and "no luck" in second["error"]
    assert [entry["cell"] for entry in document["failed"]] == ["luckless on synth-faces, seed 0"]
    last = done.err.rstrip().splitlines()[-1]
    assert last.startswith("error: a cell of table4 could not be judged (luckless on synth-faces, seed 0)")
    assert "no luck" in last and "Traceback" not in done.err
    assert "| failed |" in (out / "table4.md").read_text()


@pytest.mark.slow
def test_figure_4_turns_the_dial_of_one_trained_model(data_home: Path, tmp_path: Path) -> None:
    class Listener:
        """A reporter that remembers what is said."""

        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

        @contextlib.contextmanager
        def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
            yield self

        def advance(self, n: int = 1) -> None: ...

        def update(self, done: int, total: int) -> None: ...

        def note(self, text: str) -> None: ...

    whole = grid("figure4")
    wanted = {("keep", "as trained"), ("keep", "0.5"), ("alpha", "0.7"), ("mechanisms", "both")}
    lines = [n for n in whole.lines if (n.factor, n.value) in wanted and n.pair == whole.pairs[0]]
    options = Options(preset="tiny", settings=("run.epochs=1",), device="cpu", home=data_home)
    listener = Listener()
    part = Grid(name=whole.name, metrics=whole.metrics, lines=tuple(lines))
    document = reproduce(part, options, tmp_path, listener)
    folders = {(row["factor"], row["value"]): row["folders"] for row in document["rows"]}
    assert folders["alpha", "0.7"] == folders["mechanisms", "both"] == folders["keep", "as trained"]
    assert folders["keep", "0.5"] != folders["keep", "as trained"]
    stages = [Result.read(Path(f[0]) / "result.json").provenance["stages"] for f in folders.values()]
    fits = [[s["key"] for s in found if s["kind"] == "fit"] for found in stages]
    assert fits[0] and all(fit == fits[0] for fit in fits)  # one trained model
    assert {trend["passed"] for trend in document["trends"]} == {None}  # a claim without its runs stays open
    assert "<svg" in (tmp_path / "figure4.svg").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tabel1",), "did you mean table1"),
        (("table1", "--method", "stprivcy"), "did you mean stprivacy?"),
        (("table1", "--preset", "tiny", "--set", "run.epohcs=1"), "did you mean epochs"),
        (("table1", "--preset", "tiny", "--set", "blur-weak.sigma=1", "--method", "raw"), "unknown owner"),
        (("table1", "--launcher", "slurm"), "choose from local, ray"),
        (("figure4", "--method", "vita"), "none of its methods is asked for"),
        (("table1", "--preset", "paper", "--method", "raw"), "needs to know its image weights"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run("reproduce", *words, "--out", tmp_path / "out")
    assert done.code == 2
    assert said in done.error
