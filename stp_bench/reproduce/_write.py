"""The document of a table as files that people and other programs read: Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stp_bench.files import write_bytes
from stp_bench.reproduce._grid import FIGURE4
from stp_bench.reproduce._report import label

NONE = "–"


class Column(NamedTuple):
    """A figure in tables."""

    name: str
    title: str
    digits: int
    sign: str = ""


COLUMNS = {
    column.name: column
    for column in (
        Column("top1", "Top-1 ↑", 2),
        Column("f1", "F1 ↓", 3),
        Column("cmap", "cMAP ↓", 2),
        Column("action_cmap", "Action ↑", 2),
        Column("object_cmap", "Object ↓", 2),
        Column("scene_cmap", "Scene ↓", 2),
        Column("excess", "excess cMAP ↓", 2, "+"),
        Column("worst_excess", "worst excess ↓", 2, "+"),
    )
}


def write(document: Mapping[str, Any], out: Path) -> list[Path]:
    """Write ``<table>.md``, ``.tex`` and ``.csv`` into a folder; returns their paths.

    Raises:
        WorkError: a file cannot be written.
    """
    paths = []
    for suffix, text in (("md", markdown(document)), ("tex", latex(document)), ("csv", comma_separated(document))):
        paths.append(out / f"{document['table']}.{suffix}")
        write_bytes(paths[-1], text.encode())
    return paths


def title(pair: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What a part of a table is about, in words, with the data that it was run on."""
    where = pair["on"] if pair["fit_on"] == pair["on"] else f"{pair['on']}, learned methods fitted on {pair['fit_on']}"
    kind = {"known": "known actions", "unseen": "unseen actions", "frame": "single frames"}[pair["protocol"]]
    done = next((row for row in rows if row["on"]), None)
    if done is None:
        return f"{kind} of {where}"
    if done["on"] == pair["on"]:
        return f"{kind} of {where}, {done['preset']}"
    stand_in = done["on"] if done["fit_on"] == done["on"] else f"{done['on']}, fitted on {done['fit_on']}"
    return f"{kind} of {where} – here embedded data in its place: {stand_in}, {done['preset']}"


def parts(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """The statistics and the rows of each pair."""
    for statistics in document["statistics"]:
        yield statistics, [row for row in document["rows"] if row["paper"] == statistics["pair"]]


def header(document: Mapping[str, Any], *, brief: bool = False) -> list[str]:
    """Titles of the columns of `cells`."""
    titles = ["setting" if document["table"] == FIGURE4 else "method"]
    for name in document["metrics"]:
        share = [] if brief else ["of raw"]
        titles += [COLUMNS[name].title, *share, *(["paper", *share] if document["table"] != FIGURE4 else [])]
    titles += [COLUMNS["excess"].title, COLUMNS["worst_excess"].title]
    if "top1" in document["metrics"]:
        titles += ["Top-1 left", "cMAP left"]
    return [*titles, "data", *([] if brief else ["preset", "seeds"])]


def cells(document: Mapping[str, Any], row: Mapping[str, Any], *, brief: bool = False) -> list[str]:
    """A row as texts: mean ± standard deviation over seeds, as a share of raw's (unless ``brief``), and the same of
    the paper; what is left of raw; the data."""
    texts = [label(row)]
    for name in document["metrics"]:
        shares = row["of_raw"]
        texts += [spread(row["ours"].get(name), COLUMNS[name]), *([] if brief else [percent(shares["ours"][name])])]
        if document["table"] != FIGURE4:
            texts.append(number(row["published"][name], COLUMNS[name]))
            texts += [] if brief else [percent(shares["published"][name])]
    texts += [spread(row["ours"].get(name), COLUMNS[name]) for name in ("excess", "worst_excess")]
    if "top1" in document["metrics"]:
        texts += [percent(row["left"].get("top1")), percent(row["left"].get("cmap"))]
    if not row["seeds"]:
        return [*texts, "failed", *([] if brief else [NONE, NONE])]
    return [*texts, row["data"], *([] if brief else [row["preset"], str(len(row["seeds"]))])]


def markdown(document: Mapping[str, Any]) -> str:
    """The whole report as one page."""
    lines = [f"# {_name(document)}, ours beside the paper's", "", *_legend(document), ""]
    for statistics, rows in parts(document):
        lines += [f"## {title(statistics['pair'], rows)}", ""]
        lines += _markdown_table(header(document), [cells(document, row) for row in rows])
        lines += ["", *_differences(rows), "", *_tests(statistics), *_front(statistics), ""]
    if document["trends"]:
        lines += ["## What the paper says of it", ""]
        titles = ["on", "chart", "claim", "holds", "figures"]
        lines += _markdown_table(titles, [_trend(trend) for trend in document["trends"]])
        lines += ["", "open: a run is missing. Figures are means over seeds, in percent, F1 x 100.", ""]
    if document["failed"]:
        lines += ["## Not judged", "", *(f"- {entry['cell']}: {entry['error']}" for entry in document["failed"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def latex(document: Mapping[str, Any]) -> str:
    """One ``tabular`` per part, for booktabs; ours over the published figures in parentheses."""
    names = document["metrics"]
    lines = ["% \\usepackage{booktabs}", f"% {_name(document)}, mean +- standard deviation over seeds (the paper's)"]
    for statistics, rows in parts(document):
        titles = [*(COLUMNS[name].title for name in names), COLUMNS["excess"].title]
        lines += [
            "",
            f"% {title(statistics['pair'], rows)}",
            f"\\begin{{tabular}}{{l{'r' * len(titles)}}}",
            "\\toprule",
            " & ".join(["", *map(_tex, titles)]) + r" \\",
            "\\midrule",
        ]
        for row in rows:
            texts = [label(row)]
            for name in names:
                theirs = row["published"][name]
                ours = spread(row["ours"].get(name), COLUMNS[name])
                texts.append(ours + (f" ({number(theirs, COLUMNS[name])})" if theirs is not None else ""))
            texts.append(spread(row["ours"].get("excess"), COLUMNS["excess"]))
            lines.append(" & ".join(map(_tex, texts)) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join(lines) + "\n"


def comma_separated(document: Mapping[str, Any]) -> str:
    """One row per line of the table and figure, beside the columns of the published file."""
    handle = io.StringIO()
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(
        ["table", "protocol", "fit_on", "on", "method", "variant", "factor", "value", "data", "preset", "split",
         "seeds", "metric", "mean", "sd", "low", "high", "of_raw", "left", "published", "published_of_raw", "error"]
    )  # fmt: skip
    for row in document["rows"]:
        head = [document["table"], *(row["paper"][name] for name in ("protocol", "fit_on", "on")), row["method"]]
        head += [_blank(row[name]) for name in ("variant", "factor", "value", "data", "preset", "split")]
        head.append(" ".join(map(str, row["seeds"])))
        for name in (*document["metrics"], "excess", "worst_excess"):
            found = row["ours"].get(name) or {"mean": None, "sd": None}
            low, high = row["ci95"].get(name) or (None, None)
            figures = [found["mean"], found["sd"], low, high, row["of_raw"]["ours"].get(name), row["left"].get(name)]
            figures += [row["published"].get(name), row["of_raw"]["published"].get(name)]
            writer.writerow([*head, name, *map(_blank, figures), _blank(row["error"])])
    return handle.getvalue()


def spread(figure: Mapping[str, float | None] | None, column: Column) -> str:
    """Mean ± standard deviation."""
    if figure is None or figure["mean"] is None:
        return NONE
    mean = number(figure["mean"], column)
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:.{column.digits}f}"


def number(value: float | None, column: Column) -> str:
    """A figure in its column's digits."""
    return NONE if value is None else f"{value:{column.sign}.{column.digits}f}"


def percent(value: float | None) -> str:
    """A share as a whole percentage."""
    return NONE if value is None else f"{100 * value:.0f} %"


def verdict(trend: Mapping[str, Any]) -> str:
    """Whether a trend holds."""
    return "open" if trend["passed"] is None else "yes" if trend["passed"] else "no"


def _name(document: Mapping[str, Any]) -> str:
    return str(document["table"]).replace("table", "Table ").replace("figure", "Figure ")


def _legend(document: Mapping[str, Any]) -> list[str]:
    text = [
        "Mean ± standard deviation over seeds. *of raw*: as a share of the figure on raw videos. *left*: the share",
        "of raw's value above its floor (chance, prevalence) that remains. *excess*: cMAP of the attacker less that",
        "of one who only knows what the run's own action scores say. *worst*: the stronger of the video and the",
        "single-frame attacker.",
    ]
    if any(row["embedded"] for row in document["rows"]):
        text += [
            "",
            "Rows on embedded data are of made videos that stand in for the real ones: compare their figures with each",
            "other, not with the paper's.",
        ]
    return text


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What of the setting differs from the paper's: once for what all rows share, then for single ones."""
    by_row = [
        {f"{d['what']} {_plain(d['ours'])} (paper: {_plain(d['paper'])})": None for d in row["differs"]}
        for row in rows
        if row["ours"]
    ]
    shared = [text for text in (by_row[0] if by_row else {}) if all(text in found for found in by_row)]
    lines = [f"Other than in the paper: {', '.join(shared)}."] if shared else []
    judged = [row for row in rows if row["ours"]]
    for row, found in zip(judged, by_row, strict=True):
        if rest := [text for text in found if text not in shared]:
            lines += ["", f"{label(row)} besides: {', '.join(rest)}."]
    return lines


def _tests(statistics: Mapping[str, Any]) -> list[str]:
    tests = statistics["tests"]
    if not tests:
        return []
    names = [name for name in ("top1", "action_cmap", "cmap", "excess") if name in tests["against"][0]]
    mcnemar = "mcnemar" in tests["against"][0]
    titles = [f"{tests['one']} less ..."]
    titles += [text for name in names for text in (COLUMNS[name].title.rstrip(" ↑↓"), "95 %", "p")]
    rows = []
    for entry in tests["against"]:
        texts = [entry["other"]]
        for name in names:
            found = entry[name]
            ends = NONE if found["low"] is None else f"{found['low']:+.1f} to {found['high']:+.1f}"
            texts += [number(found["value"], Column(name, "", 1, "+")), ends, _p(found["p_holm"])]
        if mcnemar:
            test = entry["mcnemar"]
            texts.append(f"{test['only_one']} : {test['only_other']}, p {_p(test['p_holm'])}")
        rows.append(texts)
    return [
        "Paired over the same test videos: bootstrap by group of the difference of means over seeds, and McNemar's",
        "exact test of the first seed's actions (videos that only one of the two recognizes); p after Holm over the",
        "rows of a column. No interval: all test videos are of one group.",
        "",
        *_markdown_table([*titles, *(["McNemar"] if mcnemar else [])], rows),
        "",
    ]


def _front(statistics: Mapping[str, Any]) -> list[str]:
    front, ranking = statistics["front"], statistics["ranking"]
    if not front["ours"]["methods"]:
        return []
    lines = [
        f"Pareto front ({COLUMNS[front['leakage']].title}, {COLUMNS[front['utility']].title}): "
        f"{', '.join(front['ours']['methods'])}; hypervolume {front['ours']['hypervolume']:.0f}, counted from "
        f"({front['reference'][0]:g}, {front['reference'][1]:g})."
    ]
    if front["published"]["methods"]:
        lines[0] += (
            f" The paper's: {', '.join(front['published']['methods'])}; {front['published']['hypervolume']:.0f}."
        )
    for key, text in (("over_seeds", "between seeds"), ("with_the_paper", "with the paper")):
        taus = [f"{name} {tau:.2f}" for name, tau in ranking[key].items() if tau is not None]
        if taus:
            lines += ["", f"Kendall's tau of the ranking {text}: {', '.join(taus)}."]
    return lines


def _trend(trend: Mapping[str, Any]) -> list[str]:
    figures = ", ".join(f"{name} {value:.2f}" for name, value in trend["figures"].items())
    return [trend["pair"]["on"], trend["chart"], trend["claim"], verdict(trend), figures or NONE]


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return [f"| {' | '.join(_escaped(text) for text in row)} |" for row in (titles, rule, *rows)]


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _tex(text: str) -> str:
    for sign, written in (
        ("\\", r"\textbackslash "), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#"), ("$", r"\$"), ("{", r"\{"),
        ("}", r"\}"), ("~", r"\textasciitilde "), ("^", r"\textasciicircum "), ("±", r"$\pm$"), ("↑", r"$\uparrow$"),
        ("↓", r"$\downarrow$"), ("–", "--"),
    ):  # fmt: skip
        text = text.replace(sign, written)
    return text


def _p(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _blank(value: Any) -> Any:
    return "" if value is None else value
