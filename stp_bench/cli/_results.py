"""Results as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from stp_bench.cli._io import table

NONE = "–"


def result_tables(result: Mapping[str, Any]) -> Iterator[Table | str]:
    """One run: the headline with its floors below, then one row per attribute."""
    metrics, floors, left = result["metrics"], result["floors"], result["left"]
    yield f"[bold]{_setting(result)}[/]"
    head = table(None, "", "Top-1 ↑", "F1 ↓", "cMAP ↓")
    head.add_row("this run", *(f"[bold]{text}[/]" for text in _triple(metrics["top1"], metrics["f1"], metrics["cmap"])))
    intervals = metrics["ci95"]
    head.add_row(
        "95 % interval", _range(intervals["top1"], 1), _range(intervals["f1"], 3), _range(intervals["cmap"], 1)
    )
    head.add_section()
    head.add_row(
        "floor: chance | all-positive | prevalence",
        *_triple(floors["top1_chance"], floors["f1_all_positive"], floors["cmap_prevalence"]),
    )
    head.add_row("floor: majority", *_triple(floors["top1_majority"], floors["f1_majority"], None))
    head.add_row(
        "floor: action-only (the true action)", *_triple(None, floors["f1_action_only"], floors["cmap_action_only"])
    )
    head.add_row(
        "floor: action-informed (this run's action scores)",
        *_triple(None, floors["f1_action_informed"], floors["cmap_action_informed"]),
    )
    head.add_section()
    excess = metrics["excess"]
    head.add_row("[bold]excess over action-informed[/]", NONE, _signed(excess["f1"], 3), _signed(excess["cmap"], 1))
    worst = metrics["worst"]
    head.add_row(f"the stronger attacker: {worst['attacker']}", *_triple(None, worst["f1"], worst["cmap"]))
    head.add_row("its excess", NONE, NONE, _signed(worst["excess"], 1))
    if any(value is not None for value in left.values()):
        head.add_row("left of raw above the floor", *(_share(left[name]) for name in ("top1", "f1", "cmap")))
    else:
        head.caption = "left of raw: evaluate --method raw in the same setting to see it"
    yield head

    each = table("Per attribute (video attacker)", "attribute", "AP ↓", "prevalence", "excess", "F1 ↓", "AUROC ↓")
    for name, row in metrics["per_attribute"].items():
        prevalence = None if row["prevalence"] is None else 100 * row["prevalence"]
        each.add_row(
            name, _number(row["ap"], 1), _number(prevalence, 1), _signed(row.get("excess"), 1), _number(row["f1"], 3),
            _number(row["auroc"], 1),
        )  # fmt: skip
    yield each


def aggregate_tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Several methods or seeds: one row per method, mean and standard deviation over its seeds."""
    first = document["results"][0]
    seeds = ", ".join(str(seed) for seed in document["aggregates"][0]["seeds"])
    fit = "" if first["fit_on"] in (None, first["on"]) else f", learned methods fitted on {first['fit_on']}"
    yield f"[bold]{first['protocol']} actions of {first['on']}{fit}, {first['preset']}, split {first['split']}, " + (
        f"seeds {seeds}[/]" if "," in seeds else f"seed {seeds}[/]"
    )
    listed = table(
        None,
        "method", "Top-1 ↑", "F1 ↓", "cMAP ↓", "excess cMAP ↓", "worst excess ↓", "Top-1 left ↑", "cMAP left ↓",
        caption="mean ± standard deviation over seeds; worst: the stronger of a video and a single-frame attacker;\n"
        "left: share of raw's value above its floor that remains",
    )  # fmt: skip
    for row in document["aggregates"]:
        figures = row["metrics"]
        listed.add_row(
            row["method"] + (f" ({row['variant']})" if row["variant"] else ""),
            _spread(figures["top1"], 1), _spread(figures["f1"], 3), _spread(figures["cmap"], 1),
            _spread(figures["excess_cmap"], 1, "+"), _spread(figures["worst_excess"], 1, "+"),
            _share(figures["left_top1"]["mean"]), _share(figures["left_cmap"]["mean"]),
        )  # fmt: skip
    yield listed


def _setting(result: Mapping[str, Any]) -> str:
    fit = "" if result["fit_on"] in (None, result["on"]) else f", fitted on {result['fit_on']}"
    variant = f" ({result['variant']})" if result["variant"] else ""
    return (
        f"{result['method']}{variant}: {result['protocol']} actions of {result['on']}{fit}, {result['preset']}, "
        f"split {result['split']}, seed {result['seed']}"
    )


def _triple(top1: float | None, f1: float | None, cmap: float | None) -> tuple[str, str, str]:
    return _number(top1, 1), _number(f1, 3), _number(cmap, 1)


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return NONE if value is None else f"{value:{sign}.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return _number(value, digits, "+")


def _range(ends: list[float] | None, digits: int) -> str:
    return NONE if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def _spread(figure: Mapping[str, float | None], digits: int, sign: str = "") -> str:
    mean = _number(figure["mean"], digits, sign)
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:.{digits}f}"
