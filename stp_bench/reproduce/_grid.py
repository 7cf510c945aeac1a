"""What a table of the paper asks for, as values: its lines, in the paper's order."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from stp_bench import catalogue, paper
from stp_bench.errors import unknown_name

FIGURE4 = "figure4"
TABLES = ("table1", "table2", "table3", "table4", "table5", FIGURE4)
TWINS = {
    "vp-hmdb51": "synth-hmdb",
    "vp-ucf101": "synth-ucf",
    **{real: twin for twin, real in catalogue.TWIN_OF.items()},
}
"""The embedded benchmark that stands in for a real one."""

RAW = "raw"
"""The paper's first line: the videos as they are."""

DEFAULT = ("mechanisms", "both")
"""The setting of the paper, from which each chart of figure 4 moves one factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a method is fitted on and judged on, by the names of the paper's benchmarks."""

    protocol: str
    fit_on: str
    on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a table, or a point of a chart."""

    pair: Pair
    method: str
    factor: str = ""
    """Of figure 4: what is varied."""
    value: str = ""
    settings: tuple[str, ...] = ()
    """Fields of the method's configuration, ``KEY=VALUE``."""
    keep: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of the paper."""

    name: str
    metrics: tuple[str, ...]
    """Its columns: how well the action is recognized, which should stay high, then what attackers find."""
    lines: tuple[Line, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Its parts, in the paper's order."""
        return tuple(dict.fromkeys(line.pair for line in self.lines))


def grid(table: str, methods: Sequence[str] | None = None) -> Grid:
    """The lines of a table, in the paper's order.

    Args:
        methods: those to be run, by default the paper's. One that the paper does not have comes after its own.

    Raises:
        UserError: unknown table.
    """
    if table not in TABLES:
        raise unknown_name("table", table, TABLES)
    figures = _figures("table1" if table == FIGURE4 else table)
    pairs = dict.fromkeys(Pair(protocol=f.protocol, fit_on=f.fit_on, on=f.on) for f in figures)
    metrics = tuple(dict.fromkeys(f.metric for f in figures))
    if table == FIGURE4:
        points = _figure4()
        chosen = [p for p in points if methods is None or p[2] in methods]
        lines = [
            Line(pair=pair, method=method, factor=factor, value=value, settings=settings, keep=keep)
            for pair in pairs
            for factor, value, method, settings, keep in chosen
        ]
        return Grid(name=table, metrics=metrics, lines=tuple(lines))
    lines = []
    for pair in pairs:
        own = dict.fromkeys(f.method for f in figures if Pair(protocol=f.protocol, fit_on=f.fit_on, on=f.on) == pair)
        wanted = [m for m in own if methods is None or m in methods] + [m for m in methods or () if m not in own]
        lines += [Line(pair=pair, method=method) for method in wanted]
    return Grid(name=table, metrics=metrics, lines=tuple(lines))


def published(table: str, line: Line) -> dict[str, float]:
    """The paper's figures of a line by metric; empty where it has none, as for all of figure 4."""
    return {
        f.metric: f.value
        for f in _figures(table)
        if (f.protocol, f.fit_on, f.on, f.method) == (line.pair.protocol, line.pair.fit_on, line.pair.on, line.method)
    }


@cache
def _figures(table: str) -> tuple[paper.Published, ...]:
    return paper.published([table])


def _figure4() -> list[tuple[str, str, str, tuple[str, ...], float | None]]:
    """Factor, value, method, settings and keep ratio of every point, from the file beside the published figures."""
    text = files(paper).joinpath("figure4.csv").read_text(encoding="utf-8")
    return [
        (
            row["factor"], row["value"], row["method"], (row["setting"],) if row["setting"] else (),
            float(row["keep"]) if row["keep"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip
