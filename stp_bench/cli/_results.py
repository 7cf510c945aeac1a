"""Results as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from stp_bench.cli._io import table
from stp_bench.results import described

NONE = "–"


def result_tables(result: Mapping[str, Any]) -> Iterator[Table | str]:
    """One run: the headline with its floors below, then one row per attribute (or group of classes)."""
    metrics, left = result["metrics"], result["left"]
    yield f"[bold]{_setting(result)}[/]"
    columns = _columns(result)
    head = table(None, "", *(c.title for c in columns))
    head.add_row("this run", *(f"[bold]{_number(c.value, c.digits)}[/]" for c in columns))
    head.add_row("95 % interval", *(_range(c.interval, c.digits) for c in columns))
    head.add_section()
    grouped = "action_cmap" in metrics
    head.add_row(
        "floor: prevalence" if grouped else "floor: chance | all-positive | prevalence",
        *(_number(c.chance, c.digits) for c in columns),
    )
    if any(c.majority is not None for c in columns):
        head.add_row("floor: majority", *(_number(c.majority, c.digits) for c in columns))
    head.add_row("floor: action-only (the true action)", *(_number(c.action_only, c.digits) for c in columns))
    head.add_row("floor: action-informed (this run's action scores)", *(_number(c.informed, c.digits) for c in columns))
    head.add_section()
    head.add_row("[bold]excess over action-informed[/]", *(_signed(c.excess, c.digits) for c in columns))
    worst, blank = metrics["worst"], [NONE] * (len(columns) - 2)
    if metrics["attackers"].get("video") and metrics["attackers"].get("frame"):
        if not grouped:
            head.add_row(f"the stronger attacker: {worst['attacker']}", *_triple(None, worst["f1"], worst["cmap"]))
        name = f"excess of the stronger attacker: {worst['attacker']}" if grouped else "its excess"
        head.add_row(name, *blank, NONE, _signed(worst["excess"], 1))
    if averaged := metrics.get("video_averaged"):
        head.add_row("scores averaged over each video", *_triple(None, averaged["f1"], averaged["cmap"]))
    if metrics.get("balanced_accuracy") is not None:
        rest = [NONE] * (len(columns) - 1)
        head.add_row("balanced accuracy (mean over classes)", _number(metrics["balanced_accuracy"], 1), *rest)
    if any(value is not None for value in left.values()):
        head.add_row("left of raw above the floor", *(_share(left[name]) for name in ("top1", "f1", "cmap")))
    elif not grouped:
        head.caption = "left of raw: evaluate --method raw in the same setting to see it"
    yield head
    found = result["provenance"].get("boxes")
    if found is not None and result["variant"] != "full_frame":
        shares = (f"{_share(found['frames_without'][part], 1)} of the {part} frames" for part in ("train", "test"))
        yield f"without a person box: {', '.join(shares)}"

    kind = next(kind for kind, block in metrics["attackers"].items() if block)
    per = "group of classes" if grouped else "attribute"
    each = table(f"Per {per} ({kind} attacker)", per, "AP ↓", "prevalence", "excess", "F1 ↓", "AUROC ↓")
    for name, row in metrics["per_attribute"].items():
        prevalence = None if row["prevalence"] is None else 100 * row["prevalence"]
        each.add_row(
            name, _number(row["ap"], 1), _number(prevalence, 1), _signed(row.get("excess"), 1), _number(row["f1"], 3),
            _number(row["auroc"], 1),
        )  # fmt: skip
    yield each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One headline figure with what it is to be read against."""

    title: str
    digits: int
    value: float | None
    interval: list[float] | None
    chance: float | None = None
    majority: float | None = None
    action_only: float | None = None
    informed: float | None = None
    excess: float | None = None


def _columns(result: Mapping[str, Any]) -> list[_Column]:
    """Top-1, F1 and cMAP; or a cMAP of the actions and of each group, where videos show many classes at once."""
    metrics, floors, intervals = result["metrics"], result["floors"], result["metrics"]["ci95"]
    columns = []
    if "action_cmap" in metrics:
        columns.append(
            _Column(
                title="action cMAP ↑", digits=1, value=metrics["action_cmap"], interval=intervals["action_cmap"],
                chance=floors["action_cmap_prevalence"],
            )
        )  # fmt: skip
    else:
        columns.append(
            _Column(
                title="Top-1 ↑", digits=1, value=metrics["top1"], interval=intervals["top1"],
                chance=floors["top1_chance"], majority=floors["top1_majority"],
            )
        )  # fmt: skip
    groups = [name for name in metrics["per_attribute"] if f"{name}_cmap" in metrics]
    for name in groups:
        columns.append(
            _Column(
                title=f"{name} cMAP ↓", digits=1, value=metrics[f"{name}_cmap"], interval=intervals[f"{name}_cmap"],
                chance=floors[f"{name}_cmap_prevalence"], action_only=floors[f"{name}_cmap_action_only"],
                informed=floors[f"{name}_cmap_action_informed"], excess=metrics["per_attribute"][name]["excess"],
            )
        )  # fmt: skip
    for name, title, digits, chance, majority in (
        ("f1", "F1 ↓", 3, "f1_all_positive", floors["f1_majority"]),
        ("cmap", "cMAP ↓", 1, "cmap_prevalence", None),
    ):
        if not groups:
            columns.append(
                _Column(
                    title=title, digits=digits, value=metrics[name], interval=intervals[name], chance=floors[chance],
                    majority=majority, action_only=floors[f"{name}_action_only"],
                    informed=floors[f"{name}_action_informed"], excess=metrics["excess"][name],
                )
            )  # fmt: skip
    return columns


def aggregate_tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Several methods or seeds: one row per method, mean and standard deviation over its seeds."""
    first = document["results"][0]
    seeds = ", ".join(str(seed) for seed in document["aggregates"][0]["seeds"])
    fit = "" if first["fit_on"] in (None, first["on"]) else f", learned methods fitted on {first['fit_on']}"
    yield f"[bold]{described(first)}{fit}, {first['preset']}, split {first['split']}, " + (
        f"seeds {seeds}[/]" if "," in seeds else f"seed {seeds}[/]"
    )
    grouped = "action_cmap" in first["metrics"]
    if grouped:
        groups = [name for name in first["metrics"]["per_attribute"] if f"{name}_cmap" in first["metrics"]]
        figures = [("action_cmap", "action cMAP ↑", 1, "")]
        figures += [(f"{name}_cmap", f"{name} cMAP ↓", 1, "") for name in groups]
    else:
        figures = [("top1", "Top-1 ↑", 1, ""), ("f1", "F1 ↓", 3, ""), ("cmap", "cMAP ↓", 1, "")]
    figures += [("excess_cmap", "excess cMAP ↓", 1, "+"), ("worst_excess", "worst excess ↓", 1, "+")]
    shares = [] if grouped else [("left_top1", "Top-1 left ↑"), ("left_cmap", "cMAP left ↓")]
    caption = "mean ± standard deviation over seeds; worst: the stronger attacker of those that a run has"
    if shares:
        caption += ";\nleft: share of raw's value above its floor that remains"
    listed = table(
        None, "method", *(title for _, title, *_ in figures), *(title for _, title in shares), caption=caption
    )
    for row in document["aggregates"]:
        found = row["metrics"]
        listed.add_row(
            row["method"] + (f" ({row['variant']})" if row["variant"] else ""),
            *(_spread(found[name], digits, sign) for name, _, digits, sign in figures),
            *(_share(found[name]["mean"]) for name, _ in shares),
        )
    yield listed


def _setting(result: Mapping[str, Any]) -> str:
    fit = "" if result["fit_on"] in (None, result["on"]) else f", fitted on {result['fit_on']}"
    variant = f" ({result['variant']})" if result["variant"] else ""
    return (
        f"{result['method']}{variant}: {described(result)}{fit}, {result['preset']}, "
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


def _share(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def _spread(figure: Mapping[str, float | None], digits: int, sign: str = "") -> str:
    mean = _number(figure["mean"], digits, sign)
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:.{digits}f}"
