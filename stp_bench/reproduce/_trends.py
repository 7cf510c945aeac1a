"""What the paper says of figure 4 in words (section 4.6), checked: it publishes no numbers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stp_bench.statistics import kendall_tau

STEADY = 0.6
"""Kendall's tau from which a rise over five values counts as one: at most two of their ten pairs out of order."""

Row = Mapping[str, Any]


def trends(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The stated trends on the rows of one pair.

    Each is ``{pair, chart, claim, passed, figures}``: what the paper says and how we read it, whether it holds (null
    where a run is missing), and the figures that decide it. They are means over seeds, in percent, F1 times 100.
    """
    if not rows:
        return []
    points = {(row["factor"], row["value"]): _figures(row) for row in rows}
    found = []
    for chart, claim, check in _CLAIMS:
        try:
            passed, figures = check(points)
        except KeyError:
            passed, figures = None, {}
        found.append({"pair": rows[0]["paper"], "chart": chart, "claim": claim, "passed": passed, "figures": figures})
    return found


Points = Mapping[tuple[str, str], Mapping[str, float]]
Verdict = tuple[bool, dict[str, Any]]


def _figures(row: Row) -> dict[str, float]:
    """Those that are there: a claim that needs another one is left open."""
    scale = {"top1": 1.0, "f1": 100.0, "cmap": 1.0}
    means = {name: row["ours"][name]["mean"] for name in scale if name in row["ours"]}
    return {name: scale[name] * mean for name, mean in means.items() if mean is not None}


def _sparsification(points: Points) -> Verdict:
    raw, alone = points["mechanisms", "raw data"], points["mechanisms", "sparsification only"]
    lost = {name: 1 - alone[name] / raw[name] for name in ("top1", "f1", "cmap")}
    return lost["top1"] < min(lost["f1"], lost["cmap"]), {
        f"share of {name} lost": value for name, value in lost.items()
    }


def _anonymization(points: Points) -> Verdict:
    alone, other = points["mechanisms", "anonymization only"], points["mechanisms", "sparsification only"]
    less = {name: other[name] - alone[name] for name in ("f1", "cmap")}
    more = alone["top1"] - other["top1"]
    return min(less.values()) > 0 and more > 0, {"less f1": less["f1"], "less cmap": less["cmap"], "more top1": more}


def _rising(factor: str, name: str) -> Callable[[Points], Verdict]:
    def check(points: Points) -> Verdict:
        values = sorted((float(value), at[name]) for (of, value), at in _numbered(points) if of == factor)
        if len(values) < 3:
            raise KeyError(factor)
        tau = kendall_tau([v for v, _ in values], [y for _, y in values])
        return tau >= STEADY, {"tau": tau}

    return check


def _tubelet(name: str, *, other: str, sign: int) -> Callable[[Points], Verdict]:
    def check(points: Points) -> Verdict:
        gap = points["tubelet", other][name] - points["tubelet", "2"][name]
        return sign * gap > 0, {f"{name} at {other} less that at 2": gap}

    return check


def _robust(factor: str) -> Callable[[Points], Verdict]:
    def check(points: Points) -> Verdict:
        figures = {}
        for name in ("top1", "cmap"):
            figures[f"{name} over {factor}"] = _range(points, factor, name)
            figures[f"{name} over alpha"] = _range(points, "alpha", name)
        holds = all(figures[f"{n} over {factor}"] <= figures[f"{n} over alpha"] for n in ("top1", "cmap"))
        return holds, figures

    return check


def _range(points: Points, factor: str, name: str) -> float:
    values = [at[name] for (of, _), at in points.items() if of == factor]
    if len(values) < 2:
        raise KeyError(factor)
    return max(values) - min(values)


def _numbered(points: Points) -> Iterator[tuple[tuple[str, str], Mapping[str, float]]]:
    """Points whose value is a number."""
    return (item for item in points.items() if item[0][1].replace(".", "", 1).isdigit())


_CLAIMS: tuple[tuple[str, str, Callable[[Points], Verdict]], ...] = (
    (
        "mechanisms",
        "sparsification alone loses a smaller share of raw's top-1 than of its F1 and cMAP",
        _sparsification,
    ),
    (
        "mechanisms",
        "anonymization alone has lower F1 and cMAP and a higher top-1 than sparsification alone",
        _anonymization,
    ),
    ("alpha", f"top-1 rises with alpha (tau at least {STEADY})", _rising("alpha", "top1")),
    ("alpha", f"cMAP rises with alpha (tau at least {STEADY})", _rising("alpha", "cmap")),
    ("tubelet", "tubelets of one frame harm the action", _tubelet("top1", other="1", sign=-1)),
    ("tubelet", "tubelets of one frame make removing privacy easier (cMAP)", _tubelet("cmap", other="1", sign=-1)),
    ("tubelet", "tubelets of four frames harm the action", _tubelet("top1", other="4", sign=-1)),
    ("tubelet", "tubelets of four frames make removing privacy harder (cMAP)", _tubelet("cmap", other="4", sign=1)),
    (
        "lambda_action",
        "fluctuations over lambda_action are small: top-1 and cMAP vary no more than over alpha",
        _robust("lambda_action"),
    ),
    (
        "lambda_privacy",
        "fluctuations over lambda_privacy are small: top-1 and cMAP vary no more than over alpha",
        _robust("lambda_privacy"),
    ),
    ("keep", f"deployment: top-1 rises with the keep ratio (tau at least {STEADY})", _rising("keep", "top1")),
    ("keep", f"deployment: cMAP rises with the keep ratio (tau at least {STEADY})", _rising("keep", "cmap")),
)
