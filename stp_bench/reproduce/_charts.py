"""The trade-offs of a table as pictures: what attackers find from left to right, what remains of the action upwards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stp_bench.files import atomic_path
from stp_bench.pictures import pareto_front
from stp_bench.reproduce._grid import FIGURE4
from stp_bench.reproduce._report import label
from stp_bench.reproduce._write import COLUMNS, parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = ("#000000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#f0c000", "#cc79a7", "#7f3c8d", "#8c564b", "#d55e00")
"""Colors of methods in order, the last for the paper's own (Okabe and Ito, with two more)."""
MARKERS = "os^vD<>pP*"
FRONT = "#009e73"
CHARTS = {
    "mechanisms": "mechanisms", "alpha": "keep ratio α", "tubelet": "frames of a tubelet",
    "lambda_action": "λ of the action", "lambda_privacy": "λ of privacy", "keep": "deployment: one model, other α",
}  # fmt: skip
DPI = 120

Point = tuple[str, float, float, float | None, float | None]
"""Name, leakage, utility, and the standard deviation of each over seeds."""


def draw(document: Mapping[str, Any], out: Path) -> None:
    """The trade-offs of a table: a row of panels per pair.

    Args:
        document: what `stp_bench.reproduce.report` makes.
        out: a ``.png`` or ``.svg`` file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    all_parts = list(parts(document))
    panels = [_figure4(rows) if document["table"] == FIGURE4 else _table(document, s, rows) for s, rows in all_parts]
    width = max(map(len, panels))
    figure = Figure(figsize=(3.4 * width + 0.4, 3.3 * len(panels) + 0.9), layout="constrained", dpi=DPI)
    axes = figure.subplots(len(panels), width, squeeze=False)
    shown: dict[str, Any] = {}
    for line, ((statistics, rows), of) in enumerate(zip(all_parts, panels, strict=True)):
        names = list(dict.fromkeys(label(row) for row in rows))
        for axis, (heading, xlabel, points) in zip(axes[line], of, strict=False):
            if document["table"] == FIGURE4:
                own = _panel(axis, points, [name for name, *_ in points])
                axis.legend(
                    own.values(), own.keys(), loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=6,
                    frameon=False, columnspacing=1.0, handletextpad=0.2,
                )  # fmt: skip
            else:
                shown |= _panel(axis, points, names)
            axis.set_title(heading, fontsize=8)
            axis.set_xlabel(xlabel, fontsize=8)
        for axis in axes[line][len(of) :]:
            axis.set_visible(False)
        data = next((row["on"] for row in rows if row["on"]), statistics["pair"]["on"])
        axes[line][0].set_ylabel(f"{data}\n{COLUMNS[statistics['front']['utility']].title}", fontsize=8)
    if shown and document["table"] != FIGURE4:
        figure.legend(
            shown.values(), shown.keys(), loc="outside lower center", ncols=min(5, len(shown)), fontsize=7,
            frameon=False,
        )  # fmt: skip
    embedded = any(row["embedded"] for row in document["rows"])
    name = document["table"].replace("table", "Table ").replace("figure", "Figure ")
    figure.suptitle(f"{name}{' – embedded data stand in for the real ones' if embedded else ''}", fontsize=10)
    with atomic_path(out) as temporary:
        # Without a date, and with ids from a fixed salt, the same figures give the same file.
        from matplotlib import rc_context

        with rc_context({"svg.hashsalt": "stp-bench"}):
            figure.savefig(temporary, dpi=DPI, metadata={"Date": None} if out.suffix == ".svg" else None)


def _table(
    document: Mapping[str, Any], statistics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, list[Point]]]:
    """The paper's figures, ours, and ours in excess over what the action tells."""
    up = statistics["front"]["utility"]
    leaks = [name for name in document["metrics"] if name.endswith("cmap") and name != up]
    panels: list[tuple[str, str, list[Point]]] = []
    for leak in leaks:
        theirs: list[Point] = [
            (label(row), row["published"][leak], row["published"][up], None, None)
            for row in rows
            if None not in (row["published"][leak], row["published"][up])
        ]
        panels.append((f"the paper on {statistics['pair']['on']}", COLUMNS[leak].title, theirs))
    on = next((row["on"] for row in rows if row["on"]), statistics["pair"]["on"])
    for leak in (*leaks, "worst_excess"):
        panels.append((f"ours on {on}", COLUMNS[leak].title, _ours(rows, leak, up)))
    return panels


def _figure4(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Point]]]:
    """The paper's five charts, and the dial at deployment."""
    panels = []
    for factor, heading in CHARTS.items():
        own = [row for row in rows if row["factor"] == factor]
        points = [(row["value"], *point[1:]) for row in own for point in _ours([row], "cmap", "top1")]
        panels.append((heading, COLUMNS["cmap"].title, points))
    return panels


def _ours(rows: Sequence[Mapping[str, Any]], leak: str, up: str) -> list[Point]:
    found = []
    for row in rows:
        x, y = row["ours"].get(leak), row["ours"].get(up)
        if x and y and None not in (x["mean"], y["mean"]):
            found.append((label(row), x["mean"], y["mean"], x["sd"], y["sd"]))
    return found


def _panel(axis: Axes, points: Sequence[Point], names: Sequence[str]) -> dict[str, Any]:
    """Draw points with their front, each in the style of its name; returns what a legend shows."""
    handles = {}
    front = pareto_front([(x, y) for _, x, y, *_ in points])
    for number, (name, x, y, dx, dy) in enumerate(points):
        place = names.index(name)
        ink = INK[-1] if place == len(names) - 1 else INK[place % (len(INK) - 1)]
        bars = axis.errorbar(
            x, y, xerr=dx, yerr=dy, color=ink, marker=MARKERS[place % len(MARKERS)], markersize=6, linestyle="",
            elinewidth=1, capsize=2, markerfacecolor=ink if number in front else "white",
        )  # fmt: skip
        handles[name] = bars
    steps = [(points[i][1], points[i][2]) for i in front]
    for (x, y), (u, v) in itertools.pairwise(steps):
        axis.plot([x, u, u], [y, y, v], color=FRONT, linewidth=1, zorder=1)
    if not points:
        axis.text(0.5, 0.5, "nothing to show", ha="center", transform=axis.transAxes, fontsize=8)
    axis.margins(0.15)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    return handles
