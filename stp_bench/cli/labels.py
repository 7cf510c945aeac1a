"""``stp-bench labels``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType

from stp_bench.cli._errors import Group
from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import DATA, OUTPUT, DataHome, Debug, Json, home_of, option

if TYPE_CHECKING:
    from stp_bench.labels import LabelTable, OrderTest, SplitFloors, Statistics, TargetStatistics
    from stp_bench.progress import Reporter

app = typer.Typer(
    cls=Group,
    help="Bring in published privacy labels, and see what they hold.",
    epilog="Example: stp-bench labels fetch vp-hmdb51",
    no_args_is_help=True,
)

_OFFICIAL = "official"
_ORDER = ("vp-hmdb51", "pa-hmdb51")
"""Two labellings of the same videos, of which the second names its columns."""


AcceptUnknown = Annotated[bool, option(DATA, "Take files whose checksum is not the published one.", "--accept-unknown")]


@app.command(epilog="Example: stp-bench labels fetch vp-hmdb51")
def fetch(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="vp-hmdb51, vp-ucf101, pa-hmdb51, celebv-hq or p-hvu.")
    ],
    out: Annotated[
        Path | None, option(OUTPUT, "Folder for the official files. \\[default: in the data home]", metavar="DIR")
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Download a label release from its authors' repository, check it, and import it."""
    from stp_bench import labels

    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        known = labels.release_named(release)
        where = labels.stored(home, release)
        folder = out.expanduser().absolute() if out else where.parent / _OFFICIAL
        official = labels.fetch(known, folder, reporter=reporter)
        made = _import(official, release, None, False, where, home, reporter)
    _show_import(made, where, {"official": str(official)}, as_json=as_json)


@app.command(
    "import",
    epilog="First: stp-bench data synth synth-pa --preset tiny --out pa\n\n"
    "Example: stp-bench labels import pa --release pa-hmdb51 --accept-unknown",
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The official file, or the folder of several.")],
    release: Annotated[
        str,
        option(DATA, "What it is: vp-hmdb51, vp-ucf101, pa-hmdb51, celebv-hq or p-hvu.", "--release", metavar="NAME"),
    ],
    out: Annotated[Path | None, option(OUTPUT, "Table to write. \\[default: in the data home]", metavar="CSV")] = None,
    rule: Annotated[
        str | None,
        option(
            DATA,
            "How to read it as yes or no. pa-hmdb51: nonzero, semi_nudity (from half-naked on), strict (a complete "
            "face too). celebv-hq, clips of several emotions: exclude, longest. \\[default: the first]",
            metavar="R",
        ),
    ] = None,
    accept_unknown: AcceptUnknown = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Read a published label release into a table, without ever executing what the file holds."""
    from stp_bench import labels

    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        labels.release_named(release)
        where = out.expanduser().absolute() if out else labels.stored(home, release)
        made = _import(file, release, rule, accept_unknown, where, home, reporter)
    _show_import(made, where, {}, as_json=as_json)


@app.command(
    epilog="First: stp-bench data synth synth-hmdb --preset tiny --out made\n\n"
    "Example: stp-bench labels stats made/privacy_labels.csv"
)
def stats(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A label table, or an official file or folder.")],
    splits: Annotated[
        Path | None,
        option(
            DATA, "Split lists, folder or archive: adds what can be reached on them without a pixel.", metavar="PATH"
        ),
    ] = None,
    accept_unknown: AcceptUnknown = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Count a label table: prevalence, what occurs together, and what constant answers reach."""
    from stp_bench import labels

    with working(as_json=as_json) as reporter, reporter.stage(f"count {file.name}"):
        found = labels.open_labels(file, accept_unknown=accept_unknown)
        counted = labels.statistics(found)
        floors: Mapping[int, SplitFloors] = {}
        if splits is not None:
            from stp_bench.splits import read_lists

            actions = {key: key.partition("/")[0] for key in found.rows}
            floors = labels.split_floors(found, read_lists(splits, accept_unknown=accept_unknown).parts, actions)

    def tables() -> Iterator[RenderableType]:
        yield from _statistics_tables(found, counted)
        for number, split in floors.items():
            yield _floors_table(number, split)

    document = {
        "schema": 1, "file": str(file), "verified": found.manifest.get("verified"), "rule": found.manifest.get("rule"),
        **dataclasses.asdict(counted), "splits": {n: dataclasses.asdict(split) for n, split in floors.items()},
    }  # fmt: skip
    show(document, tables, as_json=as_json)


class _Imported(NamedTuple):
    """What an import made."""

    table: LabelTable
    counted: Statistics
    order: OrderTest | None
    """How the columns of VP-HMDB51 compare with PA-HMDB51, where both are there."""


def _import(
    path: Path, release: str, rule: str | None, accept_unknown: bool, where: Path, home: Path, reporter: Reporter
) -> _Imported:
    """Read, write, and compare with the other labelling of the same videos where it was imported before."""
    from stp_bench import labels

    with reporter.stage(f"import {release}"):
        found = labels.import_labels(path, release, rule=rule, accept_unknown=accept_unknown)
        labels.write_table(found, where)
        counted = labels.statistics(found)
    if release not in _ORDER:
        return _Imported(found, counted, None)
    other = labels.stored(home, next(name for name in _ORDER if name != release))
    if not other.exists():
        return _Imported(found, counted, None)
    pair = {table.release: table for table in (found, labels.read_table(other))}
    order = labels.order_test(*(pair[name] for name in _ORDER))
    if not order.agrees:
        reporter.say(
            f"warning: the columns of {_ORDER[0]} would fit {_ORDER[1]} better as {', '.join(order.best)} "
            f"(sum of correlations {order.best_sum:.2f}) than as {', '.join(order.stated)} ({order.stated_sum:.2f})"
        )
    return _Imported(found, counted, order)


def _show_import(made: _Imported, where: Path, more: Mapping[str, Any], *, as_json: bool) -> None:
    found, counted, order = made
    about = found.manifest

    def tables() -> Iterator[RenderableType]:
        yield from _statistics_tables(found, counted, short=True)
        read, published = about["videos"]["read"], about["videos"]["published"]
        if read != published:
            yield f"[yellow]the file has {read:,} videos, {found.release} has {published:,}[/]"
        for why, count in about.get("left_out", {}).items():
            yield f"left out: {count:,} ({why})"
        for what, count in about.get("irregular", {}).items():
            if count:
                yield f"irregular: {count:,} {what.replace('_', ' ')}"
        yield f"columns of the file: {', '.join(about['columns'])} ({about['columns_known']})"
        if order is not None:
            best = "no other order fits it better" if order.agrees else f"{', '.join(order.best)} fits it better"
            yield f"compared with {_ORDER[1]} on {order.videos:,} videos: {best}"
        yield f"license: {about['license']}"
        yield f"written to {where}"

    document = {
        "schema": 1, "release": found.release, "table": str(where), **more, "videos": len(found.rows), "about": about,
        "statistics": dataclasses.asdict(counted),
        "order_test": None if order is None else dataclasses.asdict(order) | {"agrees": order.agrees},
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def _statistics_tables(found: LabelTable, counted: Statistics, *, short: bool = False) -> Iterator[RenderableType]:
    about = found.manifest
    rule = f", rule {about['rule']}" if about.get("rule") else ""
    yield f"[bold]{found.release}[/]: {counted.videos:,} videos{rule}, {_verified(about)}"
    if counted.sides:
        yield "sides: " + ", ".join(f"{count:,} {side}" for side, count in sorted(counted.sides.items()))
    if counted.sources is not None:
        yield f"sources: {counted.sources:,}"
    for target in counted.targets:
        if target.kind == "tags":
            yield _groups_table(target)
            continue
        yield _classes_table(target)
        if target.kind == "multilabel" and not short:
            yield _pairs_table(target)
            common = ", ".join(f"{word} {count:,}" for word, count in list(target.patterns.items())[:5])
            yield f"{len(target.patterns)} of {2 ** len(target.classes)} patterns occur, most often {common or 'none'}"
        if not short:
            reached = ((k, _share(v) if k.startswith("f1") else _number(v)) for k, v in target.floors.items())
            yield "constant answers: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in reached)


def _verified(about: Mapping[str, Any]) -> str:
    if about.get("edited"):
        return "[yellow]changed since it was imported[/]"
    if "verified" not in about:
        return "no published release"
    return "[green]as published[/]" if about["verified"] else "[yellow]not as published[/]"


def _classes_table(target: TargetStatistics) -> RenderableType:
    made = table(
        f"{target.target}: {target.units:,} labelled {target.unit}s",
        "class", "labelled", "positive", "share", "published",
    )  # fmt: skip
    for one in target.classes:
        made.add_row(one.name, f"{one.labelled:,}", f"{one.positives:,}", _share(one.share), _share(one.published))
    return made


def _pairs_table(target: TargetStatistics) -> RenderableType:
    names = [one.name for one in target.classes]
    title = f"{target.target}: {target.unit}s that show both (above the diagonal), and phi (below)"
    made = table(title, "", *names)
    for i, name in enumerate(names):
        cells = [
            f"{target.together[i][j]:,}" if j > i else _number(target.phi[i][j]) if j < i else ""
            for j in range(len(names))
        ]
        made.add_row(name, *cells)
    return made


def _groups_table(target: TargetStatistics) -> RenderableType:
    made = table(
        f"{target.target}: {target.units:,} labelled videos",
        "tags", "side", "videos", "known", "present", "often", "per video", "cMAP chance", "F1 all positive",
        caption="present: with a positive video; often: with five or more",
    )  # fmt: skip
    for one in target.groups:
        made.add_row(
            one.name, one.side or "both", f"{one.videos:,}", f"{one.tags:,}", f"{one.present:,}", f"{one.usable:,}",
            f"{one.per_video:.2f}", _number(one.cmap_chance), _share(one.f1_all_positive),
        )  # fmt: skip
    return made


def _floors_table(number: int, split: SplitFloors) -> RenderableType:
    names = list(next(iter(split.values.values())))
    made = table(f"split {number}: {split.train:,} training and {split.test:,} test videos", "without a pixel", *names)
    for key, of in split.values.items():
        percent = key.startswith(("ap_", "auroc_"))
        made.add_row(key.replace("_", " "), *(_number(of[name]) if percent else _share(of[name]) for name in names))
    return made


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
