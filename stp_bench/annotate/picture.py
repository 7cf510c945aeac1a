"""The agreement of a labelling round on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stp_bench.annotate.agreement import COEFFICIENTS, Agreement
from stp_bench.annotate.majority import Decision
from stp_bench.files import atomic_path
from stp_bench.pictures import ACTION, DPI, FLOOR, FRONT, PRIVACY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 24
"""Annotators that a panel has room for: who is far from the rest, and those with the most videos."""

MOST_NUMBERS = 12

_TITLES = {"percent": "percent agreement", "alpha": "Krippendorff's alpha", "ac1": "Gwet's AC1"}
_SHADES = ("#08519c", "#4292c6", "#9ecae1", "#e08214", "#bdbdbd")
_MARKS = {"percent": ("o", ACTION), "alpha": ("s", PRIVACY), "ac1": ("D", FRONT)}


def agreement_picture(found: Agreement, decision: Decision, title: str, out: Path) -> None:
    """Four panels: coefficients beside the prevalence, how votes split, each annotator against the others' majority,
    and pairs of annotators.

    Args:
        out: a ``.png`` (or ``.svg``, ``.pdf``) file, replaced if it exists.

    Raises:
        WorkError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    names = sorted(one.annotator for one in sorted(found.annotators, key=lambda one: (not one.far, -one.videos))[:MOST])
    size = 2.2 + 0.28 * max(len(names), 5)
    figure = Figure(figsize=(11, 3.6 + size), layout="constrained", dpi=DPI)
    axes = figure.subplots(2, 2, height_ratios=(3.4, size))
    _coefficients(axes[0, 0], found)
    _splits(axes[0, 1], decision)
    _annotators(axes[1, 0], found, names)
    _pairs(axes[1, 1], found, names)
    rest = len(found.annotators) - len(names)
    figure.suptitle(f"{title}{f' ({rest} more annotators not shown)' if rest else ''}", fontsize=11)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=DPI)


def _coefficients(axis: Axes, found: Agreement) -> None:
    for number, name in enumerate(COEFFICIENTS):
        mark, color = _MARKS[name]
        for k, of in enumerate(found.attributes.values()):
            value, bounds = getattr(of.agreement, name), of.agreement.ci95[name]
            x = k + 0.2 * (number - 1)
            if value is not None:
                axis.plot(x, value, mark, color=color, markersize=5, label=_TITLES[name] if not k else None)
            if bounds is not None:
                axis.vlines(x, *bounds, color=color, linewidth=1.5)
    prevalence = [math.nan if (p := of.agreement.prevalence) is None else p for of in found.attributes.values()]
    at = np.arange(len(prevalence))
    axis.hlines(prevalence, at - 0.38, at + 0.38, color=FLOOR, linewidth=1.5, linestyle=":", label="share of yes votes")
    axis.axhline(0, color=FLOOR, linewidth=0.6)
    axis.set_xticks(at, [name.replace("_", " ") for name in found.attributes], fontsize=8)
    axis.set_ylim(top=1.05)
    axis.set_title("agreement, with 95 % intervals over videos", fontsize=9)
    axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4)
    _plain(axis)


def _splits(axis: Axes, decision: Decision) -> None:
    """Shares of videos by how clearly the votes decided."""
    margin_VK, valid_VK = decision.margin_VK, decision.count_VK3[..., :2].sum(axis=-1)
    enough_VK = valid_VK >= decision.min_votes
    kinds = {
        "unanimous": enough_VK & (margin_VK == valid_VK),
        "by two or more": enough_VK & (margin_VK < valid_VK) & (margin_VK > 1),
        "by one vote": enough_VK & (margin_VK == 1) & (valid_VK > 1),
        "tied": enough_VK & (margin_VK == 0),
        "too few votes": ~enough_VK,
    }
    left = np.zeros(len(decision.attributes))
    for shade, (name, chosen_VK) in zip(_SHADES, kinds.items(), strict=True):
        share_K = 100 * chosen_VK.mean(axis=0)
        axis.barh(range(len(share_K)), share_K, left=left, color=shade, height=0.6, label=name)
        left += share_K
    axis.set_yticks(range(len(left)), [name.replace("_", " ") for name in decision.attributes], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_title("how the independent votes split, % of videos", fontsize=9)
    axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5)
    _plain(axis)


def _annotators(axis: Axes, found: Agreement, names: Sequence[str]) -> None:
    reports = {one.annotator: one for one in found.annotators}
    attributes = list(found.attributes)
    share_AK = np.array([[_number(reports[n].agreement[k].share) for k in attributes] for n in names], dtype=np.float64)
    far = {(a, k) for a, n in enumerate(names) for k, name in enumerate(attributes) if name in reports[n].far}
    marked = " (!: far from the rest)" if far else ""
    _grid(axis, share_AK.reshape(len(names), len(attributes)), far)
    axis.set_xticks(range(len(attributes)), [name.replace("_", " ") for name in attributes], fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_title(f"agreement with the others' majority{marked}", fontsize=9)


def _pairs(axis: Axes, found: Agreement, names: Sequence[str]) -> None:
    place = {name: i for i, name in enumerate(names)}
    values: dict[tuple[int, int], list[float]] = {}
    for pair in found.pairs:
        if pair.first in place and pair.second in place and pair.agreement.ac1 is not None:
            values.setdefault((place[pair.first], place[pair.second]), []).append(pair.agreement.ac1)
    mean_AA = np.full((len(names), len(names)), np.nan)
    for (a, b), of in values.items():
        mean_AA[a, b] = mean_AA[b, a] = np.mean(of)
    _grid(axis, mean_AA, set())
    axis.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_title("Gwet's AC1 of pairs, mean over attributes", fontsize=9)


def _grid(axis: Axes, values: Any, marked: set[tuple[int, int]]) -> None:
    """A table of numbers from 0 to 1, shaded; of many columns the shades alone."""
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value) and values.shape[1] <= MOST_NUMBERS:
            far = (row, column) in marked
            ink, weight = "white" if value > 0.55 else "black", "bold" if far else "normal"
            text = f"{value:.2f}{' !' if far else ''}"
            axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink, weight=weight)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
