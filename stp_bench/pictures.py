"""The pictures of a run: what it scored beside its floors, what its videos look like, how its training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stp_bench.files import atomic_path
from stp_bench.results import described

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.text import Annotation

ACTION, PRIVACY, FLOOR = "#0072b2", "#d55e00", "#4d4d4d"  # distinguishable without color vision (Okabe and Ito)
FRONT = "#009e73"
ROWS = ("raw", "sparsified", "anonymized")
FRAMES_PER_CLIP = 2
DPI = 120
GAP = 2
"""Pixels around the name of a method."""

Floats = NDArray[np.float64]


def result_picture(result: Mapping[str, Any], strips: Mapping[str, NDArray[np.uint8]] | None, out: Path) -> None:
    """One run at a glance: the headline and every attribute beside their floors, and frames of a few test videos.

    Args:
        result: a result record as a mapping.
        strips: ``raw``, ``anonymized`` and perhaps ``sparsified``: uint8 (clips, T, H, W, 3), the same clips in each.
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    rows = [name for name in ROWS if name in (strips or {})]
    heights = [3.2] + ([1.15 * len(rows) + 0.3] if rows else [])
    figure = _figure(10, sum(heights) + 0.4)
    parts = np.ravel(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False))
    left, right = parts[0].subplots(1, 2, width_ratios=(2, 3))
    _headline(left, result)
    _attributes(right, result)
    if strips and rows:
        _frames(parts[1], {name: strips[name] for name in rows})
    fit = "" if result["fit_on"] == result["on"] else f", fitted on {result['fit_on']}"
    figure.suptitle(
        f"{result['method']}, {described(result)}{fit} "
        f"({result['preset']}, split {result['split']}, seed {result['seed']})",
        fontsize=11,
    )
    _save(figure, out)


def tradeoff_picture(aggregate: Mapping[str, Any], out: Path) -> None:
    """Several methods as points: what remains of the action over what an attacker finds, in cMAP and in its excess.

    Best is top left. Methods that no other one beats are filled, and joined by the steps of their Pareto front.

    Args:
        aggregate: an aggregate record as a mapping; bars are standard deviations over seeds.
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    first, rows = aggregate["results"][0], aggregate["aggregates"]
    panels, height = _panels(first)
    figure = _figure(5.4 * len(panels) + 0.6, 5.6)
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True, squeeze=False))
    names: dict[Axes, list[Annotation]] = {}
    for axis, panel in zip(axes, panels, strict=True):
        names[axis] = _methods(axis, rows, panel.figure, height.figure)
        for at, style in ((panel.nothing, "-"), (panel.action, ":")):
            if at is not None:
                axis.axvline(at, color=FLOOR, linewidth=1, linestyle=style)
        if height.nothing is not None:
            axis.axhline(height.nothing, color=FLOOR, linewidth=1)
        axis.set_xlabel(panel.title, fontsize=9)
        axis.margins(0.12)
        _plain(axis)
    axes[0].set_ylabel(height.title, fontsize=9)
    handles = [
        axes[0].plot([], [], color=color, linestyle=style, linewidth=1, label=label)[0]
        for color, style, label in (
            (FLOOR, "-", "floor without looking"),
            (FLOOR, ":", "floor that knows the action"),
            (FRONT, "-", "Pareto front (its methods are filled)"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{described(first)} ({first['preset']}, split {first['split']})", fontsize=10)
    _spread(figure, names)
    _save(figure, out)


def methods_picture(strips: Mapping[str, Mapping[str, NDArray[np.uint8]]], out: Path) -> None:
    """What several methods make of the same frames: a column per method, a row per test video.

    Args:
        strips: method to its strips, as `result_picture` takes them. The middle frame of each clip is shown.
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    columns = {
        name: clips["anonymized"][:, clips["anonymized"].shape[1] // 2].reshape(-1, *clips["anonymized"].shape[3:])
        for name, clips in strips.items()
    }
    clips = max(len(next(iter(clips.values()))) for clips in strips.values())
    figure = _figure(1.15 * len(columns) + 0.2, 1.1 * clips + 0.35)
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for axis, (name, column_YXC) in zip(axes, columns.items(), strict=True):
        axis.imshow(column_YXC, interpolation="nearest")
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    _save(figure, out)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of some points (leakage, utility) no other one beats: less or equal leakage and more or equal utility, and
    better in one of the two. Their numbers by rising leakage; of equal points all or none are on the front.

    >>> pareto_front([(60, 70), (50, 70), (55, 65), (40, 30)])
    [3, 1]
    """

    def beaten(x: float, y: float) -> bool:
        return any(u <= x and v >= y and (u, v) != (x, y) for u, v in points)

    return sorted((i for i, point in enumerate(points) if not beaten(*point)), key=lambda i: points[i])


def place_labels(points_P2: Floats, sizes_P2: Floats, bounds_4: Floats, lines_N4: Floats | None = None) -> Floats:
    """Where the labels of some points go so that they cover neither each other nor a point.

    One after the other takes the place that is near its point, free, and off the lines; one that finds none free takes
    the place where it covers least.

    Args:
        points_P2: x, y of each point, in pixels.
        sizes_P2: width and height of its label.
        bounds_4: x1, y1, x2, y2 of the area that labels should not leave.
        lines_N4: boxes around what labels should rather not cover.

    Returns:
        Lower left corners of the labels, (P, 2).
    """
    radius = 0.35 * float(sizes_P2[:, 1].max(initial=0.0))
    taken = [np.hstack([point - radius, point + radius]) for point in points_P2]
    corners_P2 = np.empty_like(points_P2)
    for number, (point, size) in enumerate(zip(points_P2, sizes_P2, strict=True)):
        ways_N2, distances_N = _ways()
        places_N2 = point + radius * ways_N2 * distances_N[:, None] + size * (np.sign(ways_N2) - 1) / 2
        boxes_N4 = np.hstack([places_N2, places_N2 + size])
        covered_N = size.prod() - _shared(boxes_N4, bounds_4) + sum(_shared(boxes_N4, box) for box in taken)
        crossed_N = sum((_shared(boxes_N4, box) for box in (lines_N4 if lines_N4 is not None else ())), np.zeros(1))
        chosen = int(np.argmin(1000 * covered_N + crossed_N + radius * distances_N))
        corners_P2[number] = places_N2[chosen]
        taken.append(boxes_N4[chosen])
    return corners_P2


def _ways() -> tuple[Floats, Floats]:
    """Directions from a point, (N, 2), and how far to go: nearer places first, and of these the upper right one."""
    ways, distances = [], []
    for distance in (1.5, 2, 3, 4.5, 6, 8, 10, 13, 16, 20, 25, 30):
        for turn in (1, 3, -1, -3, 0, 4, 2, -2):  # eighths of a circle
            ways.append(np.round([math.cos(turn * math.pi / 4), math.sin(turn * math.pi / 4)], 9))
            distances.append(distance)
    return np.array(ways), np.array(distances)


def _shared(boxes_N4: Floats, box_4: Floats) -> Floats:
    """The area that each box shares with one."""
    low, high = np.maximum(boxes_N4[:, :2], box_4[:2]), np.minimum(boxes_N4[:, 2:], box_4[2:])
    area: Floats = np.clip(high - low, 0, None).prod(axis=1)
    return area


class _Panel(NamedTuple):
    """An axis of the trade-off: a figure of aggregates, and the floors of its scale."""

    figure: str
    title: str
    nothing: float | None = None
    """What is reached without looking at a video."""
    action: float | None = None
    """What is reached by knowing its action."""


def _panels(result: Mapping[str, Any]) -> tuple[list[_Panel], _Panel]:
    """What is drawn from left to right, and what upwards: where classes come in groups there is no overall cMAP."""
    floors = result["floors"]
    excess = _Panel("worst_excess", "excess cMAP of the stronger attacker ↓", action=0.0)
    if "action_cmap" not in result["metrics"]:
        floor = floors["cmap_prevalence"], floors["cmap_action_only"]
        upwards = _Panel("top1", "Top-1 of the action ↑", floors["top1_chance"])
        return [_Panel("worst_cmap", "cMAP of the stronger attacker ↓", *floor), excess], upwards
    groups = [name for name in result["metrics"]["per_attribute"] if f"{name}_cmap" in result["metrics"]]
    panels = [
        _Panel(f"{g}_cmap", f"cMAP of {g}s ↓", floors[f"{g}_cmap_prevalence"], floors[f"{g}_cmap_action_only"])
        for g in groups
    ]
    return [*panels, excess], _Panel("action_cmap", "cMAP of the actions ↑", floors["action_cmap_prevalence"])


def _methods(axis: Axes, rows: Sequence[Mapping[str, Any]], across: str, upwards: str) -> list[Annotation]:
    """Draw the methods that have both figures, and their front; their names are yet to be placed."""
    drawn = [row for row in rows if None not in (row["metrics"][across]["mean"], row["metrics"][upwards]["mean"])]
    points = [(row["metrics"][across]["mean"], row["metrics"][upwards]["mean"]) for row in drawn]
    front = pareto_front(points)
    if front:
        x, y = np.array([points[i] for i in front]).T
        axis.plot(np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1], color=FRONT, linewidth=1, zorder=1)
    names = []
    for number, (row, point) in enumerate(zip(drawn, points, strict=True)):
        bars = axis.errorbar(
            *point, xerr=row["metrics"][across]["sd"], yerr=row["metrics"][upwards]["sd"], marker="o", markersize=5,
            linestyle="", elinewidth=1, capsize=2, markerfacecolor=None if number in front else "white",
        )  # fmt: skip
        ink = bars.lines[0].get_color()
        name = row["method"] + (f" ({row['variant']})" if row["variant"] else "")
        leader = {"arrowstyle": "-", "color": ink, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        names.append(axis.annotate(name, point, point, fontsize=8, color=ink, arrowprops=leader, in_layout=False))
    return names


def _spread(figure: Figure, names: Mapping[Axes, Sequence[Annotation]]) -> None:
    """Move the names of methods apart; those that end up away from their points are tied to them by a line."""
    figure.draw_without_rendering()  # only now is it known how large everything is
    figure.set_layout_engine("none")
    for axis, of in names.items():
        if of:
            points = axis.transData.transform([name.xy for name in of])
            sizes = np.array([name.get_window_extent().size for name in of]) + 2 * GAP
            corners = place_labels(points, sizes, np.array(axis.get_window_extent().extents), _lines(axis))
            for name, point, corner, size in zip(of, points, corners, sizes, strict=True):
                x, y = axis.transData.inverted().transform(corner + GAP)
                name.set_position((float(x), float(y)))
                far = np.hypot(*(np.clip(point, corner, corner + size) - point)) > sizes[:, 1].max()
                if name.arrow_patch is not None:
                    name.arrow_patch.set_visible(bool(far))


def _lines(axis: Axes) -> Floats:
    """Boxes around the straight pieces of all lines and error bars, in pixels, (N, 4)."""
    paths = [line.get_transform().transform(line.get_xydata()) for line in axis.lines]
    for bars in axis.collections:
        paths += [bars.get_transform().transform(path.vertices) for path in bars.get_paths()]
    ends = np.concatenate([np.stack([path[:-1], path[1:]], axis=1) for path in paths if len(path) > 1])
    return np.hstack([ends.min(axis=1) - 1, ends.max(axis=1) + 1])


def curves_picture(curves: pd.DataFrame, out: Path) -> None:
    """Training curves: one panel per scalar, one line per phase.

    Args:
        curves: columns ``phase, epoch, name, value``; one row per scalar of an epoch.
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    names = list(dict.fromkeys(curves["name"]))
    columns = min(3, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    width, height = 3.6 * columns, 2.4 * rows
    figure = _figure(
        width, height, layout=None
    )  # equal panels: nothing for a layout engine to find out, at a high price
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.45 / height, top=1 - 0.3 / height, wspace=0.25, hspace=0.45
    )
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axis, name in zip(axes, names, strict=False):
        for phase, line in curves[curves["name"] == name].groupby("phase", sort=False):
            axis.plot(
                line["epoch"], line["value"], label=str(phase), linewidth=1.4, marker="." if len(line) < 8 else ""
            )
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.yaxis.get_offset_text().set_fontsize(7)
        axis.legend(fontsize=7, frameon=False, loc="upper right")
        _plain(axis)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    _save(figure, out)


def _headline(axis: Axes, result: Mapping[str, Any]) -> None:
    """Top-1, cMAP and F1 (or a cMAP per group of classes) as bars over one percent scale, floors as marks."""
    metrics, floors = result["metrics"], result["floors"]
    if "action_cmap" in metrics:
        groups = [name for name in metrics["per_attribute"] if f"{name}_cmap" in metrics]
        bars = [("action cMAP ↑", metrics["action_cmap"], ACTION, [floors["action_cmap_prevalence"]])]
        for name in groups:
            marks = [floors[f"{name}_cmap_prevalence"], floors[f"{name}_cmap_action_informed"]]
            bars.append((f"{name} cMAP ↓", metrics[f"{name}_cmap"], PRIVACY, marks))
    else:
        f1_marks = [_percent(floors[name], 100) for name in ("f1_all_positive", "f1_action_informed")]
        bars = [
            ("Top-1 ↑", metrics["top1"], ACTION, [floors["top1_chance"]]),
            ("cMAP ↓", metrics["cmap"], PRIVACY, [floors["cmap_prevalence"], floors["cmap_action_informed"]]),
            ("F1 ↓ (x 100)", _percent(metrics["f1"], 100), PRIVACY, f1_marks),
        ]
    bars = [(name, _percent(value, 1), color, [_percent(m, 1) for m in marks]) for name, value, color, marks in bars]
    for row, (_, value, color, marks) in enumerate(bars):
        axis.barh(row, value, color=color, height=0.55)
        text, ink = (f"{value:.1f}", "white") if math.isfinite(value) else ("undefined", FLOOR)
        axis.text(1.5, row, text, va="center", color=ink, fontsize=9)
        for number, at in enumerate(marks):
            style = "-" if number == 0 else ":"
            axis.plot([at, at], [row - 0.4, row + 0.4], color=FLOOR, linestyle=style, linewidth=1.8)
    axis.plot([], [], color=FLOOR, linestyle="-", label="floor without looking")
    axis.plot([], [], color=FLOOR, linestyle=":", label="floor that knows the action")
    axis.set_yticks(range(len(bars)), [name for name, *_ in bars], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    _plain(axis)


def _attributes(axis: Axes, result: Mapping[str, Any]) -> None:
    """Average precision of the video attacker per attribute, above the share of positives: what chance would reach."""
    table = result["metrics"]["per_attribute"]
    at = [float(i) for i in range(len(table))]
    values = [_percent(row.get("ap"), 1) for row in table.values()]
    chance = [_percent(row.get("prevalence"), 100) for row in table.values()]
    axis.bar(at, values, color=PRIVACY, width=0.55)
    axis.hlines(chance, [x - 0.4 for x in at], [x + 0.4 for x in at], color=FLOOR, linewidth=1.8)
    for x, value in zip(at, values, strict=True):
        if math.isfinite(value):
            axis.text(x, value + 1.5, f"{value:.0f}", ha="center", fontsize=8)
    axis.set_xticks(at, [name.replace("_", " ") for name in table], fontsize=9)
    axis.set_ylim(0, 110)
    axis.set_title("Average precision of the attacker per attribute ↓ (line: prevalence)", fontsize=9)
    _plain(axis)


def _frames(part: SubFigure, strips: Mapping[str, NDArray[np.uint8]]) -> None:
    """Rows raw, sparsified, anonymized; two frames of each clip side by side."""
    axes = part.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, (name, clips_ATHWC) in zip(axes, strips.items(), strict=True):
        length = clips_ATHWC.shape[1]
        moments = [(2 * i + 1) * length // (2 * FRAMES_PER_CLIP) for i in range(FRAMES_PER_CLIP)]
        axis.imshow(_row(clips_ATHWC[:, moments]), interpolation="nearest")
        axis.set_ylabel(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)


def _row(clips_AFHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames in one row: those of a clip touch, clips are a white gap apart."""
    gap = max(2, clips_AFHWC.shape[3] // 10)
    pieces = []
    for frames in clips_AFHWC:
        pieces += [*frames, np.full((frames.shape[1], gap, 3), 255, np.uint8)]
    return np.concatenate(pieces[:-1], axis=1)


def _percent(value: float | None, scale: float) -> float:
    return math.nan if value is None else scale * value


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    # The object interface: no global state, no window system, safe in any thread.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, dpi=DPI)


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, out: Path) -> None:
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=DPI)
