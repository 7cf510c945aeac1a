"""The pictures of a run: what it scored beside its floors, what its videos look like, how its training went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stp_bench.files import atomic_path
from stp_bench.results import described

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ACTION, PRIVACY, FLOOR = "#0072b2", "#d55e00", "#4d4d4d"  # distinguishable without color vision (Okabe and Ito)
ROWS = ("raw", "sparsified", "anonymized")
FRAMES_PER_CLIP = 2
DPI = 120


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
    """Several methods as points: what remains of the action over what the stronger attacker finds; best: top left.

    Args:
        aggregate: an aggregate record as a mapping; bars are standard deviations over seeds.
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    figure = _figure(6.4, 4.6)
    axis = figure.subplots()
    grouped = "action_cmap" in aggregate["results"][0]["metrics"]  # many classes at once: no overall cMAP, no top-1
    for row in aggregate["aggregates"]:
        found = row["metrics"]["worst_excess" if grouped else "worst_cmap"]
        action = row["metrics"]["action_cmap" if grouped else "top1"]
        if found["mean"] is None or action["mean"] is None:
            continue
        label = row["method"] + (f" ({row['variant']})" if row["variant"] else "")
        bars = axis.errorbar(
            found["mean"], action["mean"], xerr=found["sd"], yerr=action["sd"], marker="o", linestyle="", capsize=2
        )
        ink = bars.lines[0].get_color()
        axis.annotate(label, (found["mean"], action["mean"]), (5, 5), textcoords="offset points", fontsize=8, color=ink)
    floors = aggregate["results"][0]["floors"]
    if floors["cmap_prevalence"] is not None:
        axis.axvline(floors["cmap_prevalence"], color=FLOOR, linewidth=1, linestyle=":")
    chance = floors["action_cmap_prevalence" if grouped else "top1_chance"]
    if chance is not None:
        axis.axhline(chance, color=FLOOR, linewidth=1, linestyle=":")
    first = aggregate["results"][0]
    axis.set_title(f"{described(first)} ({first['preset']}); dotted: chance", fontsize=10)
    axis.set_xlabel(
        "excess cMAP of the stronger attacker ↓" if grouped else "cMAP of the stronger attacker ↓", fontsize=9
    )
    axis.set_ylabel("cMAP of the actions ↑" if grouped else "Top-1 of the action ↑", fontsize=9)
    axis.margins(0.12)
    _plain(axis)
    _save(figure, out)


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

    return Figure(figsize=(width, height), layout=layout)


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, out: Path) -> None:
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=DPI)
