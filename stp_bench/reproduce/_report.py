"""What came of a table as one document: ours beside the published, and what a difference is worth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stp_bench import statistics
from stp_bench.config import RunConfig
from stp_bench.pictures import pareto_front
from stp_bench.predictions import Predictions, Reference
from stp_bench.progress import Reporter
from stp_bench.reproduce._grid import DEFAULT, FIGURE4, RAW, Grid, Line, Pair, published
from stp_bench.reproduce._run import Done, data_of, results_of
from stp_bench.reproduce._trends import trends
from stp_bench.results import Result, aggregate
from stp_bench.rundir import PREDICTIONS, REFERENCE
from stp_bench.statistics import Resampled

SCHEMA = 1
REFERENCE_POINT = (100.0, 0.0)
"""Leakage and utility, in percent, from which hypervolumes are counted: the worst there are, whatever was run."""

_NOT_THE_PAPERS = ("attacker_seeds", "bootstrap")
"""Fields of a run that the paper has no counterpart of."""
_TESTED = ("top1", "action_cmap", "cmap", "excess")


def report(grid: Grid, done: Done, reporter: Reporter) -> dict[str, Any]:
    """The document of a table: a row per line, statistics per pair, and for figure 4 the trends that the paper states.

    ``{schema, kind: "reproduction", table, metrics, rows, statistics, trends, failed}``. Undefined values are null.
    """
    rows, measured = [], {}
    with reporter.stage("compare methods", len(grid.lines), "lines") as task:
        for line in grid.lines:
            found = results_of(done.folders[line])
            rows.append(_row(grid, line, found, done))
            # Lines of equal runs are one run.
            key = tuple(done.folders[line])
            if found and key not in measured and (runs := _resampled(found, key)):
                measured[key] = runs
            task.advance()
    _relative(grid, rows)
    return {
        "schema": SCHEMA,
        "kind": "reproduction",
        "table": grid.name,
        "metrics": list(grid.metrics),
        "rows": rows,
        "statistics": [_statistics(grid, pair, rows, done, measured) for pair in grid.pairs],
        "trends": [trend for pair in grid.pairs for trend in trends(_of(rows, pair))] if grid.name == FIGURE4 else [],
        "failed": [{"cell": name, "error": str(error)} for name, error in done.failed],
    }


def label(row: Mapping[str, Any]) -> str:
    """What a row is called: its method, or the value of what is varied."""
    name = row["method"] + (f" ({row['variant']})" if row["variant"] else "")
    return f"{row['factor']} {row['value']}" if row["factor"] else name


def _row(grid: Grid, line: Line, found: Sequence[Result], done: Done) -> dict[str, Any]:
    row: dict[str, Any] = {
        "paper": dataclasses.asdict(line.pair),
        "method": line.method,
        "factor": line.factor,
        "value": line.value,
        "settings": list(line.settings),
        "keep": line.keep,
        "published": {name: published(grid.name, line).get(name) for name in grid.metrics},
        "error": done.errors.get(line),
        "folders": [str(folder) for folder in done.folders[line]],
        "seeds": [result.seed for result in found],
    }
    empty = dict.fromkeys(
        ("variant", "fit_on", "on", "data", "embedded", "preset", "split", "weights", "precision", "attackers")
    )
    nothing: dict[str, Any] = {"ours": {}, "left": {}, "ci95": {}, "differs": []}
    if not found:
        return {**row, **empty, **nothing}
    first, figures = found[0], aggregate(found)["aggregates"][0]["metrics"]
    names = {**{name: name for name in grid.metrics}, "excess": "excess_cmap", "worst_excess": "worst_excess"}
    attackers = [a for result in found if (a := statistics.attackers(result.metrics))]
    return {
        **row,
        "variant": first.variant,
        "fit_on": first.fit_on,
        "on": first.on,
        "data": data_of(first),
        "embedded": first.data["preset"] is not None,
        "preset": first.preset,
        "split": first.split,
        "weights": first.weights,
        "precision": first.precision,
        "ours": {name: figures[of] for name, of in names.items()},
        "left": {name: figures[f"left_{name}"]["mean"] for name in ("top1", "f1", "cmap")},
        "ci95": {},
        "attackers": {
            "count": sum(a.count for a in attackers),
            "mean_excess": sum(a.mean for a in attackers) / len(attackers),
            "worst_excess": max(a.worst for a in attackers),
            "worst_kind": max(attackers, key=lambda a: a.worst).worst_kind,
        }
        if attackers
        else None,
        "differs": _differs(first),
    }


def _differs(result: Result) -> list[dict[str, Any]]:
    """What of a run's setting is not the paper's: data, weights, and every field of the run that has another value."""
    ours, paper = result.provenance["config"]["run"], dataclasses.asdict(RunConfig())
    found: list[dict[str, Any]] = []
    if result.data["preset"] is not None:
        found.append({"what": "data", "ours": data_of(result), "paper": "real videos"})
    if result.weights != "pretrained":
        found.append({"what": "weights", "ours": result.weights, "paper": "ImageNet"})
    for name, verified in (result.provenance.get("as_published") or {}).items():
        for part, good in verified.items():
            if good is False:
                found.append({"what": f"{part} of {name}", "ours": "changed", "paper": "as published"})
    return found + [
        {"what": f"run.{name}", "ours": ours[name], "paper": value}
        for name, value in paper.items()
        if name not in _NOT_THE_PAPERS and name in ours and ours[name] != value
    ]


def _relative(grid: Grid, rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row its figures as shares of raw's, ours and the paper's alike: the paper argues with these."""
    for line, row in zip(grid.lines, rows, strict=True):
        raw = next((r for r in _of(rows, line.pair) if r["method"] == RAW), None)
        ours = {n: _share(_mean(row, n), _mean(raw, n) if raw else None) for n in grid.metrics}
        theirs = published(grid.name, dataclasses.replace(line, method=RAW))
        row["of_raw"] = {
            "ours": ours, "published": {n: _share(row["published"][n], theirs.get(n)) for n in grid.metrics}
        }  # fmt: skip


def _resampled(found: Sequence[Result], folders: Sequence[Path]) -> Resampled | None:
    """The runs of one line as one, on resamples of their test videos; None where a run was to draw none."""
    resamples = min(result.metrics["bootstrap"]["resamples"] for result in found)
    if not resamples:
        return None
    tables = [(Predictions.read(f / PREDICTIONS), Reference.read(f / REFERENCE)) for f in folders]
    return statistics.mean_over_seeds([statistics.resampled(*both, resamples=resamples) for both in tables])


def _statistics(
    grid: Grid, pair: Pair, rows: Sequence[dict[str, Any]], done: Done, measured: Mapping[tuple[Path, ...], Resampled]
) -> dict[str, Any]:
    """Paired tests, front, hypervolume and stability of the ranking of one part of a table."""
    lines = [line for line in grid.lines if line.pair == pair]
    own = list(zip(lines, _of(rows, pair), strict=True))
    judged = [(line, row) for line, row in own if row["ours"]]
    for line, row in judged:
        if runs := measured.get(tuple(done.folders[line])):
            row["ci95"] = {name: _ends(runs.interval(name)) for name in runs.value}
    # Rows that share their runs are one point.
    distinct = list({tuple(done.folders[line]): (line, row) for line, row in reversed(judged)}.values())[::-1]
    up, leak = grid.metrics[0], "cmap" if "cmap" in grid.metrics else grid.metrics[1]
    return {
        "pair": dataclasses.asdict(pair),
        "tests": _tests(distinct, done, measured),
        "front": {
            "utility": up,
            "leakage": leak,
            "reference": list(REFERENCE_POINT),
            "ours": _front(distinct, lambda row: (_mean(row, leak), _mean(row, up))),
            "published": _front(own, lambda row: (row["published"][leak], row["published"][up])),
        },
        "ranking": {
            "over_seeds": {name: _number(_stability(grid, name, distinct)) for name in (*grid.metrics, "excess")},
            "with_the_paper": {
                name: _number(
                    statistics.kendall_tau(
                        [_nan(_mean(row, name)) for _, row in distinct],
                        [_nan(row["published"][name]) for _, row in distinct],
                    )
                )
                for name in grid.metrics
            },
        },
    }


def _tests(
    judged: Sequence[tuple[Line, dict[str, Any]]], done: Done, measured: Mapping[tuple[Path, ...], Resampled]
) -> dict[str, Any] | None:
    """One line against each other, over the same videos: the last of a table, the paper's own setting of figure 4."""
    known = [(row, measured[key]) for line, row in judged if (key := tuple(done.folders[line])) in measured]
    if len(known) < 2:
        return None
    chosen = next((k for k in known if (k[0]["factor"], k[0]["value"]) == DEFAULT), known[-1])
    found = []
    for row, runs in known:
        if row is chosen[0] or runs.videos_digest != chosen[1].videos_digest:
            continue
        entry: dict[str, Any] = {"other": label(row)}
        for name in _TESTED:
            if name in runs.value:
                difference = statistics.paired_difference(chosen[1], runs, name)
                entry[name] = {key: _number(value) for key, value in dataclasses.asdict(difference).items()}
        if len(runs.hit_V):
            test = statistics.mcnemar(chosen[1].hit_V, runs.hit_V)
            entry["mcnemar"] = {"only_one": test.only_one, "only_other": test.only_other, "p": test.p}
        found.append(entry)
    for name in (*_TESTED, "mcnemar"):
        tested = [entry[name] for entry in found if name in entry]
        for entry, p in zip(tested, statistics.holm([_nan(entry["p"]) for entry in tested]), strict=True):
            entry["p_holm"] = _number(p)
    return {"one": label(chosen[0]), "against": found}


def _front(own: Sequence[tuple[Line, dict[str, Any]]], at: Any) -> dict[str, Any]:
    """Which rows no other one beats, and the area that they reach."""
    placed = [(label(row), at(row)) for _, row in own if None not in at(row)]
    points = [point for _, point in placed]
    return {
        "methods": [placed[i][0] for i in pareto_front(points)],
        "hypervolume": statistics.hypervolume(points, REFERENCE_POINT) if points else None,
        "own_share": {
            name: share for (name, _), share in zip(placed, statistics.own_share(points, REFERENCE_POINT), strict=True)
        },
    }


def _stability(grid: Grid, name: str, judged: Sequence[tuple[Line, dict[str, Any]]]) -> float:
    """Kendall's tau between the rankings of seeds that all of the judged rows have."""
    values: dict[int, list[float]] = {}
    for _, row in judged:
        for result in results_of([Path(folder) for folder in row["folders"]]):
            found = result.metrics["excess"]["cmap"] if name == "excess" else result.metrics.get(name)
            values.setdefault(result.seed, []).append(_nan(found))
    return statistics.rank_stability([v for v in values.values() if len(v) == len(judged)])


def _of(rows: Sequence[dict[str, Any]], pair: Pair | Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = dataclasses.asdict(pair) if isinstance(pair, Pair) else pair
    return [row for row in rows if row["paper"] == wanted]


def _mean(row: Mapping[str, Any], name: str) -> float | None:
    found = row["ours"].get(name)
    return None if found is None else found["mean"]


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _ends(bounds: tuple[float, float]) -> list[float] | None:
    return None if math.isnan(bounds[0]) else list(bounds)
