"""The leaderboard's page: a folder of static files made from records, and from nothing else.

``index.html`` has the standings, ``methods/NAME.html`` is a page per method, ``plotly.min.js`` the plotting library of
the package ``plotly``; by ``leaderboard.json`` the folder is known as ours. The pages ask for nothing outside the
folder; tables need no JavaScript. Whatever a record holds is text: it is escaped where it is shown, and the pages'
policy lets no script run but their own. The same verdicts give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from stp_bench.errors import UserError
from stp_bench.files import fingerprint, make_folder, read_json, write_bytes, write_json
from stp_bench.paper import SOURCE, published
from stp_leaderboard.proof import Verdict
from stp_leaderboard.records import Record
from stp_leaderboard.standings import Contest, Row, Spread, changes_of_preset, contests

NONE = "–"
INDEX, METHODS, PLOTLY = "index.html", "methods", "plotly.min.js"
MARK = "leaderboard.json"
"""By it a folder is known as a page of ours; names the pages of methods in it."""
_PAGE = re.compile(r"methods/[a-z0-9-]+\.html")
_FILTERS = {"protocol": "protocol", "on": "judged on", "preset": "preset"}
"""Filters of the page, and what of a contest they look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure as a column of a table of standings."""

    figure: str
    """Of a row's figures, or ``left.NAME``."""
    head: str
    """Short, with an arrow to the better side."""
    full: str
    """In full, for the tooltip and for screen readers."""
    digits: int
    sign: str = ""
    floors: Sequence[str] = ("", "")
    """Names of the floors shown below: without looking, and knowing the true action."""


def build(verdicts: Sequence[Verdict], out: Path) -> list[Path]:
    """Write the page of the records that hold into a folder; those that do not are listed on it with the reason.

    Files of an earlier page are replaced, and its pages of methods that are gone removed.

    Returns:
        The files, index first, without the mark.

    Raises:
        UserError: the extra ``report`` is not installed, or the folder holds something else than an earlier page.
        WorkError: the folder cannot be written.
    """
    render, library = _templates(), _plotly()
    found = contests(v.record for v in verdicts if v.holds and v.record is not None)
    slugs = _slugs(row.key.method for contest in found for row in contest.rows)
    shared = {"plotly": PLOTLY}
    pages = {
        INDEX: render(
            "index.html.j2", root="", title="Leaderboard", contests=[_contest(c, slugs) for c in found],
            choices=_choices(found), refused=[_refused(v) for v in verdicts if not v.holds], records=len(verdicts),
            papers=_papers(), source=SOURCE, data={"plots": [_plot(c, slugs) for c in found], "bars": []}, **shared,
        )
    }  # fmt: skip
    for method, slug in slugs.items():
        own = [(c, row) for c in found for row in c.rows if row.key.method == method]
        newest = max((row.newest for _, row in own), key=lambda record: record.date)
        pages[f"{METHODS}/{slug}.html"] = render(
            "method.html.j2", root="../", title=method, card=newest.card, rows=[_method_row(c, row) for c, row in own],
            data={"plots": [], "bars": [_bars(row) for _, row in own]}, **shared,
        )  # fmt: skip
    before, made = claim(out), {name for name in pages if name != INDEX}
    _mark(out, before | made)  # before they are written: what an ended command leaves is known as ours
    write_bytes(out / PLOTLY, library)
    for name, text in reversed(pages.items()):  # the index last: what it leads to is there
        write_bytes(out / name, text.encode())
    for name in before - made:
        (out / name).unlink(missing_ok=True)
    _mark(out, made)
    return [out / name for name in (*pages, PLOTLY)]


def claim(out: Path) -> set[str]:
    """The pages of methods that an earlier page of ours left in a folder.

    Raises:
        UserError: the folder holds something that is no page of ours.
    """
    foreign = UserError(f"{out} is left alone", "it holds something that is no leaderboard page", "name a new folder")
    if not (out / MARK).is_file():
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise foreign
        return set()
    document = read_json(out / MARK)
    names = document.get("files") if isinstance(document, dict) and document.get("created_by") == "stp-bench" else None
    if not isinstance(names, list):
        raise foreign
    # Only what has a place on a page of ours is ever removed, whatever the list says.
    return {name for name in names if isinstance(name, str) and _PAGE.fullmatch(name)}


def _mark(out: Path, names: set[str]) -> None:
    make_folder(out / METHODS)
    write_json(out / MARK, {"created_by": "stp-bench", "files": sorted(names)})


def columns(contest: Contest) -> list[Column]:
    """The figures of a table of standings, left to right."""
    if contest.groups or contest.action != "top1":
        chosen = [Column(figure="action_cmap", head="Action cMAP ↑", full="cMAP of the actions, percent", digits=1,
                         floors=("action_cmap_prevalence", ""))]  # fmt: skip
        if contest.action == "top1":
            chosen = [_top1()]
        chosen += [
            Column(figure=f"{g}_cmap", head=f"{g} cMAP ↓", full=f"cMAP of {g}, video attacker, percent", digits=1,
                   floors=(f"{g}_cmap_prevalence", f"{g}_cmap_action_only"))
            for g in contest.groups
        ]  # fmt: skip
        return chosen + _excess()
    headline = "video" if any(row.figures["video_cmap"].mean is not None for row in contest.rows) else "frame"
    return [
        _top1(),
        Column(figure="f1", head="F1 ↓", full=f"F1 of the {headline} attacker, mean over attributes", digits=3,
               floors=("f1_all_positive", "f1_action_only")),
        Column(figure="cmap", head="cMAP ↓", full=f"cMAP of the {headline} attacker, percent", digits=1,
               floors=("cmap_prevalence", "cmap_action_only")),
        *_excess(),
        Column(figure="left.top1", head="Left: Top-1 ↑", full="share of raw's Top-1 above chance that is left",
               digits=2),
        Column(figure="left.cmap", head="Left: cMAP ↓", full="share of raw's cMAP above prevalence that is left",
               digits=2),
    ]  # fmt: skip


def _top1() -> Column:
    return Column(
        figure="top1", head="Top-1 ↑", full="Top-1 of the action, percent", digits=1, floors=("top1_chance", "")
    )


def _excess() -> list[Column]:
    what = "cMAP above that of an attacker who only reads the recognized action, percentage points"
    attackers = {"video": "video attacker", "frame": "single-frame attacker", "worst": "stronger attacker"}
    return [
        Column(figure=f"{kind}_excess", head=f"Excess, {kind} ↓", full=f"{who}: {what}", digits=1, sign="+")
        for kind, who in attackers.items()
    ]


def _contest(contest: Contest, slugs: Mapping[str, str]) -> dict[str, Any]:
    shown = columns(contest)
    return {
        "id": contest.id,
        "title": contest.title,
        "about": contest.about,
        "filters": {name: contest.about[key] for name, key in _FILTERS.items()},
        "columns": [{"head": _unbroken(c.head), "full": c.full} for c in shown],
        "shares": any(c.figure.startswith("left.") for c in shown),
        "rows": [
            {
                "rank": NONE if row.rank is None else row.rank,
                "name": row.name,
                "note": ", ".join(filter(None, ["reference" if row.identity else "", _changed(contest, row)])),
                "href": f"{METHODS}/{slugs[row.key.method]}.html#{_anchor(row)}",
                "id": _anchor(row),
                "cells": [_cell(_figure(row, c), c) for c in shown],
                "seeds": len(row.records),
                "submitter": row.newest.submitter,
                "date": row.newest.date.isoformat(),
            }
            for row in contest.rows
        ],
        "floors": [
            {"name": name, "cells": [_number(contest.floors.get(c.floors[i]), c.digits, "") for c in shown]}
            for i, name in enumerate(("floor: no look at a video", "floor: the true action alone"))
        ],
    }


def _changed(contest: Contest, row: Row) -> str:
    """What tells rows of one name apart: the configuration, by its digest."""
    twins = [other for other in contest.rows if other.name == row.name]
    return f"configuration {row.key.config_sha256[:8]}" if len(twins) > 1 else ""


def _figure(row: Row, column: Column) -> Spread:
    if column.figure.startswith("left."):
        value = row.left[column.figure.removeprefix("left.")]
        return Spread(mean=value, sd=None, values=(value,))
    return row.figures[column.figure]


def _cell(figure: Spread, column: Column) -> dict[str, Any]:
    text = _number(figure.mean, column.digits, column.sign)
    if figure.mean is not None and figure.sd is not None:
        text += f" ± {figure.sd:.{column.digits}f}"
    return {"text": text, "value": "" if figure.mean is None else repr(figure.mean)}


def _plot(contest: Contest, slugs: Mapping[str, str]) -> dict[str, Any]:
    """The trade-off plot of a contest, as its script reads it."""
    across: list[dict[str, Any]] = [
        {"name": "worst_excess", "title": "excess cMAP of the stronger attacker ↓", "floors": [0.0]}
    ]
    if not contest.groups:
        floors = [contest.floors.get("cmap_prevalence"), contest.floors.get("cmap_action_only")]
        across.append({"name": "worst_cmap", "title": "cMAP of the stronger attacker ↓", "floors": floors})
    upwards = "Top-1 of the action ↑" if contest.action == "top1" else "cMAP of the actions ↑"
    floor = contest.floors.get("top1_chance" if contest.action == "top1" else "action_cmap_prevalence")
    front = set(contest.front)
    points = [
        {
            "id": _anchor(row), "name": row.name, "href": f"{METHODS}/{slugs[row.key.method]}.html#{_anchor(row)}",
            "front": i in front, "y": row.figures[contest.action].mean, "sdy": row.figures[contest.action].sd,
            **{of["name"]: row.figures[of["name"]].mean for of in across},
            **{f"sd_{of['name']}": row.figures[of["name"]].sd for of in across},
        }
        for i, row in enumerate(contest.rows)
    ]  # fmt: skip
    return {"id": contest.id, "across": across, "upwards": upwards, "floor": floor, "points": points}


def _method_row(contest: Contest, row: Row) -> dict[str, Any]:
    shown = [c for c in columns(contest) if not c.figure.startswith("left.")]
    return {
        "id": _anchor(row),
        "title": contest.title,
        "contest": contest.id,
        "name": row.name,
        "rank": row.rank,
        "of": len(contest.rows),
        "columns": [{"head": _unbroken(c.head), "full": c.full} for c in shown],
        "seeds": [
            {
                "seed": record.result.seed,
                "cells": [_number(row.figures[c.figure].values[i], c.digits, c.sign) for c in shown],
                "interval": _intervals(record, shown),
                "date": record.date.isoformat(), "submitter": record.submitter, "file": record.file_name,
            }
            for i, record in enumerate(row.records)
        ],
        "mean": [_cell(row.figures[c.figure], c)["text"] for c in shown],
        "attributes": _attributes(row),
        "worst": row.newest.result.metrics["worst"]["attacker"],
        "provenance": _provenance(row),
        "config": _settings(row.newest),
        "changes": changes_of_preset(row.newest.result),
        "earlier": [{"file": r.file_name, "date": r.date.isoformat()} for r in row.earlier],
        "tables": [(record.file_name, record.tables) for record in row.records],
    }  # fmt: skip


def _intervals(record: Record, shown: Sequence[Column]) -> list[str]:
    """95 % intervals where a result has them."""
    known = record.result.metrics["ci95"]
    names = {"video_excess": "excess_cmap"}
    cells = []
    for column in shown:
        ends = known.get(names.get(column.figure, column.figure))
        ends = None if column.figure == "frame_excess" else ends
        cells.append("" if ends is None else f"{ends[0]:.{column.digits}f} to {ends[1]:.{column.digits}f}")
    return cells


def _attributes(row: Row) -> list[dict[str, Any]]:
    """Per attribute (or group) the means over seeds of each attacker, beside prevalence and action-informed AP."""
    found = []
    for name, plain in row.newest.result.metrics["per_attribute"].items():
        entry: dict[str, Any] = {"name": name, "prevalence": _times(plain["prevalence"], 100)}
        for kind in ("video", "frame"):
            blocks = [record.result.metrics["attackers"][kind] for record in row.records]
            for figure in ("ap", "excess", "f1", "auroc"):
                values = [b["per_attribute"].get(name, {}).get(figure) for b in blocks if b is not None]
                entry[f"{kind}_{figure}"] = _mean(values)
            ap, excess = entry[f"{kind}_ap"], entry[f"{kind}_excess"]
            if entry.get("informed") is None:
                entry["informed"] = None if ap is None or excess is None else ap - excess
        found.append(entry)
    return found


def _bars(row: Row) -> dict[str, Any]:
    return {"id": _anchor(row), "attributes": _attributes(row)}


def _provenance(row: Row) -> list[tuple[str, str]]:
    result = row.newest.result
    about = result.provenance
    skipped = ", ".join(f"{name} {count}" for name, count in result.skipped.items() if count) or "none"
    seconds = [sum(v for v in r.result.provenance["seconds"].values() if _is_number(v)) for r in row.records]
    return [
        ("stp-bench", f"{about['version']} ({about['git'] or 'no commit known'})"),
        ("torch, device", f"{about['torch']}, {about['device']}"),
        ("precision, starting weights", f"{result.precision}, {result.weights}"),
        ("label release", str(about["label_release"] or "not named")),
        ("videos left out", skipped),
        ("time", ", ".join(f"{value:.0f} s" for value in seconds)),
        ("configuration (SHA-256)", row.key.config_sha256),
        ("test videos (SHA-256)", row.key.videos_sha256),
        ("index (SHA-256)", str(about["index_sha256"])),
        ("predictions (SHA-256)", ", ".join(r.result.provenance["predictions_sha256"] for r in row.records)),
    ]


def _settings(record: Record) -> list[tuple[str, str]]:
    own = record.result.provenance["config"].get("method")
    return [(str(name), str(value)[:200]) for name, value in own.items()] if isinstance(own, Mapping) else []


def _choices(found: Sequence[Contest]) -> dict[str, list[str]]:
    return {name: sorted({contest.about[key] for contest in found}) for name, key in _FILTERS.items()}


def _refused(verdict: Verdict) -> dict[str, Any]:
    return {"source": Path(verdict.source).name, "problems": [text[:300] for _, text in verdict.problems[:3]]}


def _papers() -> list[dict[str, Any]]:
    """The paper's tables: one per (table, fitted on, judged on)."""
    tables: dict[tuple[str, str, str, str], dict[str, dict[str, float]]] = {}
    for one in published():
        of = tables.setdefault((one.table, one.protocol, one.fit_on, one.on), {})
        of.setdefault(one.method, {})[one.metric] = one.value
    heads = {"top1": "Top-1 ↑", "f1": "F1 ↓", "cmap": "cMAP ↓", "action_cmap": "Action cMAP ↑",
             "object_cmap": "Object cMAP ↓", "scene_cmap": "Scene cMAP ↓"}  # fmt: skip
    made = []
    for (table, protocol, fit_on, on), methods in tables.items():
        metrics = list(dict.fromkeys(metric for of in methods.values() for metric in of))
        fit = "" if fit_on == on else f", fitted on {fit_on}"
        made.append(
            {
                "caption": f"Table {table.removeprefix('table')}: protocol {protocol}, {on}{fit}",
                "columns": [heads[metric] for metric in metrics],
                "rows": [
                    {"name": name, "cells": [_published(of.get(metric), metric) for metric in metrics]}
                    for name, of in methods.items()
                ],
            }
        )
    return made


def _published(value: float | None, metric: str) -> str:
    return _number(value, 3 if metric == "f1" else 2, "")


def _slugs(methods: Iterable[str]) -> dict[str, str]:
    """Names of the methods' pages: plain, and different whatever a file system takes for equal."""
    made = {}
    for method in sorted(set(methods)):
        plain = re.sub(r"[^a-z0-9-]+", "-", method.lower()).strip("-")[:60]
        made[method] = plain if plain == method else f"{plain}-{fingerprint(method)[:8]}".strip("-")
    return made


def _anchor(row: Row) -> str:
    return f"row-{fingerprint(asdict(row.key))[:12]}"


def _number(value: float | None, digits: int, sign: str) -> str:
    return NONE if value is None else f"{value:{sign}.{digits}f}"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _unbroken(head: str) -> str:
    """A head whose arrow stays with its word, and Top-1 on one line."""
    return (
        head.replace("-", "\N{NON-BREAKING HYPHEN}")
        .replace(" ↑", "\N{NO-BREAK SPACE}↑")
        .replace(" ↓", "\N{NO-BREAK SPACE}↓")
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if defined and len(defined) == len(values) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _templates() -> Callable[..., str]:
    """A function from a template's name and what it shows to a page; escaping is on for all of them."""
    try:
        import jinja2
    except ImportError as error:
        raise _missing("jinja2") from error
    folder = files(__package__) / "templates"
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["figure"] = lambda value, digits=1, sign="": _number(value, digits, sign)
    script, style = sources["page.js"], sources["page.css"]

    def render(name: str, **context: Any) -> str:
        return environment.get_template(name).render(
            script=script, style=style, script_sha256=_sha256(script.encode()), **context
        )

    return render


def _plotly() -> bytes:
    try:
        import plotly
    except ImportError as error:
        raise _missing("plotly") from error
    return (files(plotly) / "package_data" / PLOTLY).read_bytes()


def _sha256(content: bytes) -> str:
    """As content security policies and ``integrity`` name it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def _missing(package: str) -> UserError:
    return UserError("the page cannot be made", f"{package} is not installed", "pip install 'stp-bench[report]'")
