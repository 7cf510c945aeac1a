"""``stp-bench data``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType
from rich.markup import escape

from stp_bench import config
from stp_bench.cli._errors import Group
from stp_bench.cli._io import seconds_text, show, table, working
from stp_bench.cli._options import (
    DATA,
    OUTPUT,
    DataHome,
    Debug,
    Decoder,
    Encoding,
    Json,
    SkipUnreadable,
    home_of,
    option,
)
from stp_bench.errors import UserError
from stp_bench.files import human_bytes

if TYPE_CHECKING:
    from stp_bench.data import Report

app = typer.Typer(
    cls=Group,
    help="Make, prepare, list, store and check benchmark data.",
    epilog="Example: stp-bench data list",
    no_args_is_help=True,
)

SMALL = "small"
MANY = 40
"""More attributes than these are not printed one by one."""
DATA_PRESETS = tuple(preset for preset in config.PRESETS if preset != "paper")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A benchmark of 'stp-bench data list'.")]
NameOrLists = Annotated[
    str, typer.Argument(metavar="NAME", help="A benchmark of 'stp-bench data list', or NAME@LISTS for other splits.")
]
Preset = Annotated[
    str | None,
    option(
        DATA, "Sizes of embedded data: for tests, for a CPU, the paper's. \\[default: small]", "--preset",
        choices=DATA_PRESETS,
    ),
]  # fmt: skip
Seed = Annotated[int | None, option(DATA, "Seed that embedded data are drawn from. \\[default: 0]", min=0)]


@app.command("list", epilog="Example: stp-bench data list")
def list_(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List the known benchmarks: what they hold, and whether they are ready."""
    from stp_bench import catalogue, data, real

    home = home_of(data_home)
    rows: list[dict[str, Any]] = []
    for name in catalogue.embedded():
        for preset in DATA_PRESETS:
            described = catalogue.benchmark(name, preset)
            folder = data.folder(home, name, preset, 0)
            ready = (folder / "index.json").exists()
            rows.append(
                {
                    "name": name,
                    "title": described.title,
                    "task": described.action.name,
                    "preset": preset,
                    "actions": len(described.action.classes),
                    "videos": catalogue.count(name, preset),
                    "attributes": list(described.privacy.classes),
                    "sampling_rate": described.stride,
                    "splits": described.splits,
                    "embedded": True,
                    "ready": ready,
                    "folder": str(folder) if ready else None,
                    "missing": None
                    if ready
                    else f"made on first use, or by: stp-bench data synth {name} --preset {preset}",
                }
            )
    for kind in (*real.SETS, *(catalogue.find(name, home) for name in catalogue.own(home))):
        steps = catalogue.steps(kind.name, home)
        rows.append(
            {
                "name": kind.name,
                "title": kind.title,
                "task": kind.action,
                "preset": None,
                "actions": kind.actions,
                "videos": kind.videos,
                "attributes": list(kind.attributes),
                "sampling_rate": kind.stride,
                "splits": kind.splits,
                "embedded": False,
                "ready": not steps,
                "folder": None if steps else str(data.prepared_folder(home, kind.name)),
                "missing": "; ".join(steps) or None,
                "license": kind.license,
            }
        )

    def tables() -> Iterator[RenderableType]:
        listed = table(
            "Benchmarks", "name", "task", "preset", "actions", "videos", "attributes", "splits", "rate", "ready"
        )
        for column in (1, 2, -1):
            listed.columns[column].justify = "left"
        for row in rows:
            lacking = "made on first use" if row["embedded"] else "to be prepared"
            state = "[green]yes[/]" if row["ready"] else lacking
            numbers = (row["actions"], row["videos"], len(row["attributes"]), row["splits"], row["sampling_rate"])
            listed.add_row(row["name"], row["task"], row["preset"], *map(str, numbers), state)
        yield listed
        named: dict[str, list[str]] = {}
        for row in rows:
            if row["name"] not in (of := named.setdefault(", ".join(row["attributes"]), [])):
                of.append(row["name"])
        yield from (f"attributes of {', '.join(of)}: {attributes}" for attributes, of in named.items())
        for row in rows:
            if not row["embedded"] and not row["ready"]:
                yield f"[bold]{row['name']}[/]: {escape(row['missing'])}"

    show({"schema": 1, "benchmarks": rows}, tables, as_json=as_json)


@app.command(epilog="Example: stp-bench data synth synth-hmdb --preset tiny")
def synth(
    name: Name,
    preset: Preset = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        option(OUTPUT, "Folder to write it to. \\[default: in the data home]", metavar="DIR"),
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Make an embedded benchmark as real video files with split lists, labels and person boxes."""
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue, data

        home = home_of(data_home)
        if catalogue.is_real(name, home):
            mend = f"get its videos, and point to them by 'stp-bench data prepare {name} --videos DIR'"
            raise UserError(f"{name} cannot be made", "it is a real data set", mend)
        preset, seed = preset or SMALL, seed or 0
        catalogue.benchmark(name, preset)
        folder = out.expanduser().absolute() if out else data.folder(home, name, preset, seed)
        dataset = catalogue.make(name, preset=preset, seed=seed, folder=folder, reporter=reporter)
    size = sum(count for count, _ in dataset.facts.values())

    def tables() -> Iterator[RenderableType]:
        yield f"{name} ({preset}, seed {seed}): {len(dataset.videos)} videos, {human_bytes(size)} in {folder}"

    document = {
        "schema": 1, "name": name, "preset": preset, "seed": seed, "folder": str(folder), "videos": len(dataset.videos),
        "bytes": size, "index_sha256": dataset.manifest["index_sha256"],
        "label_release": dataset.manifest["label_release"],
    }  # fmt: skip
    show(document, tables, as_json=as_json)


@app.command(
    epilog="First: stp-bench data synth synth-scenes --preset tiny --out sc\n\n"
    "Example: stp-bench data prepare p-hvu --videos sc --labels sc --accept-unknown"
)
def prepare(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A real data set of 'stp-bench data list', or a new name with --own."),
    ],
    videos: Annotated[Path, option(DATA, "Folder with the videos, at any depth.", "--videos", metavar="DIR")],
    splits: Annotated[
        Path | None,
        option(
            DATA,
            "Folder, zip or tar of the official split lists; with --own of lists in the manner of HMDB51 or UCF101. "
            "\\[default: looked for beside the videos; with --own made by rule]",
            "--splits",
            metavar="PATH",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        option(
            DATA,
            "Label table, or file or folder of an official release. \\[default: the release that was imported]",
            "--labels",
            metavar="FILE",
        ),
    ] = None,
    own: Annotated[
        bool,
        option(
            DATA,
            "These are your own videos, in a folder per action, and --labels your own labels of them.",
            "--own",
        ),
    ] = False,
    groups: Annotated[
        Path | None,
        option(
            DATA,
            "With --own, table video_id,group of what must stay on one side of a split, such as people. \\[default: "
            "groups.csv in the folder of the videos, if there is one]",
            metavar="FILE",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        option(
            DATA, "With --own, sampling rate: frames from one of a clip to the next. \\[default: 2]", min=1, metavar="N"
        ),
    ] = None,
    accept_unknown: Annotated[
        bool, option(DATA, "Take lists and labels that are not the published ones.", "--accept-unknown")
    ] = False,
    allow_missing: Annotated[
        bool, option(DATA, "Index what is there of a set that should be complete.", "--allow-missing")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Index a real data set: join its videos, official split lists and labels by name, and say what does not fit.

    With --own, a data set of your own videos and labels: other commands then know it by NAME.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue
        from stp_bench import prepare as preparing

        if own:
            kind = catalogue.own_set(name, videos=videos, groups=groups, stride=stride)
        else:
            kind = catalogue.to_prepare(name, home)
            if (groups, stride) != (None, None):
                mend = "leave them out, or add --own for videos of your own"
                raise UserError(f"--groups and --stride do not fit {name}", "both are known of it", mend)
        report = preparing.prepare(
            kind, videos=videos, home=home, splits=splits, label_file=labels, accept_unknown=accept_unknown,
            allow_missing=allow_missing, skip_unreadable=skip_unreadable, reporter=reporter,
        )  # fmt: skip

    def tables() -> Iterator[RenderableType]:
        counts = table(f"{name}: {report.indexed} videos in {report.folder}", "class", *_COUNTS)
        odd = {
            c: n for c, n in report.per_class.items() if n["matched"] != n["known"] or any(n[k] for k in _COUNTS[2:])
        }
        for action, found in odd.items():
            counts.add_row(escape(action), *(str(found[key]) for key in _COUNTS))
        if len(odd) < len(report.per_class):
            counts.add_section()
        numbers = (
            report.known, report.matched, len(report.missing), len(report.extra), len(report.unlabelled),
            len(report.unreadable),
        )  # fmt: skip
        counts.add_row("all" if odd or not report.per_class else "all classes as listed", *map(str, numbers))
        yield counts
        sides = table("videos per split", "lists", "split", "train", "test", "unused")
        for lists, splits in report.splits.items():
            for number, side in splits.items():
                sides.add_row(lists, number, *(str(side[key]) for key in ("train", "test", "unused")))
        yield sides
        yield f"labels: {report.label_release}{' (not as published)' if report.labels_verified is False else ''}"
        yield from (f"note: {escape(note)}" for note in report.notes)
        yield from (f"equal files: {escape(', '.join(ids))}" for ids in report.same_content)
        yield from (f"left out: {escape(i)}, {escape(why)}" for i, why in report.unreadable.items())

    show({"schema": 1, **dataclasses.asdict(report)}, tables, as_json=as_json)


_COUNTS = ("known", "matched", "missing", "extra", "unlabelled", "unreadable")


@app.command(epilog="Example: stp-bench data store synth-hmdb --preset tiny")
def store(
    name: Name,
    preset: Preset = None,
    seed: Seed = None,
    encoding: Encoding = None,
    decoder: Decoder = "pyav",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Decode a benchmark once into its clip store, ahead of the first training.

    Runs with the same --encoding and --decoder read it.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue
        from stp_bench.clipstore import StoreRecipe, open_store

        drawn = drawn_of(name, preset, seed, home)
        dataset = catalogue.dataset(
            name, preset=drawn.preset or SMALL, seed=drawn.seed or 0, home=home, reporter=reporter
        )
        size = config.preset(drawn.preset or "paper").size
        encoding = encoding or ("raw" if drawn.preset else "jpeg")
        recipe = StoreRecipe.for_crop(size, encoding, decoder=decoder)  # type: ignore[arg-type]
        began = time.monotonic()
        with reporter.stage(f"clip store of {name}", len(dataset.videos), "videos") as task:
            made = open_store(dataset, recipe, home, skip_unreadable=skip_unreadable, progress=task.update)
        seconds = time.monotonic() - began

    def tables() -> Iterator[RenderableType]:
        pace = f"{seconds_text(seconds)}, {len(made) / max(seconds, 1e-9):.0f} videos/s"
        yield f"clip store of {name}: {len(made)} videos, {human_bytes(made.bytes)} in {made.folder} ({pace})"
        for video_id, why in made.unreadable.items():
            yield f"left out: {escape(video_id)}, {escape(why)}"

    document = {
        "schema": 1, "name": name, "preset": drawn.preset, "seed": drawn.seed, "folder": str(made.folder),
        "digest": made.digest, "videos": len(made), "bytes": made.bytes, "seconds": round(seconds, 3),
        "unreadable": dict(made.unreadable),
    }  # fmt: skip
    show(document, tables, as_json=as_json)


@app.command(
    epilog="First: stp-bench data synth synth-hmdb --preset tiny\n\n"
    "Example: stp-bench data check synth-hmdb --preset tiny"
)
def check(
    name: NameOrLists,
    preset: Preset = None,
    seed: Seed = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Check a prepared benchmark: files, splits, leakage between their sides, labels; exits with 1 on a problem."""
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue, data

        drawn = drawn_of(name, preset, seed, home)
        dataset = catalogue.prepared(name, preset=drawn.preset or SMALL, seed=drawn.seed or 0, home=home)
        others = catalogue.neighbors(name, preset=drawn.preset or SMALL, seed=drawn.seed or 0, home=home)
        with reporter.stage(f"check {name}", len(dataset.videos), "videos") as task:
            report = data.check(dataset, others=others, progress=task.update)
    show({"schema": 1, **dataclasses.asdict(report)}, lambda: _check_tables(report), as_json=as_json)
    if report.problems:
        raise typer.Exit(1)


def _check_tables(report: Report) -> Iterator[RenderableType]:
    title = f"{report.name}: {report.videos} videos, {report.frames} frames, {human_bytes(report.bytes)}"
    few = list(report.all.prevalence)[:MANY]
    release = report.label_release + (", not as published" if report.as_published is False else "")
    rates = table(f"{title}\nshare of positives ({release})", "attribute", "stated", "all")
    sides = [report.all]
    for number, split in report.splits.items():
        rates.add_column(f"split {number} train", justify="right")
        rates.add_column("test", justify="right")
        sides += [split.train, split.test]
    rates.add_row("(videos)", "", *(str(side.videos) for side in sides))
    for attribute in few:
        stated = report.stated_prevalence.get(attribute)
        rates.add_row(attribute, *(_rate(x) for x in (stated, *(side.prevalence[attribute] for side in sides))))
    yield rates
    if len(few) < len(report.all.prevalence):
        yield f"and {len(report.all.prevalence) - len(few)} more, see --json"
    for counted in report.labels.targets:
        if counted.together and len(few) == len(report.all.prevalence):
            both = table(f"{counted.unit}s that show both", "attribute", *few)
            for attribute, row in zip(few, counted.together, strict=True):
                both.add_row(attribute, *map(str, row))
            yield both
    floors = {number: split.floors for number, split in report.splits.items() if split.floors is not None}
    if floors:
        reached = table(
            "what attackers reach who see no pixel (mean over attributes)", "", *(f"split {n}" for n in floors)
        )
        for key, label in _FLOORS.items():
            reached.add_row(label, *(_number(key, of.values[key]["macro"]) for of in floors.values()))
        yield reached
    for number, split in report.splits.items():
        shared = f"{len(split.shared_groups)} groups on both sides ({split.test_in_shared_groups} test videos)"
        yield f"split {number}: {len(split.same_content)} videos on both sides, {shared}, {split.unused} unused"
        for other, ids in split.tested_elsewhere.items():
            yield f"split {number}: {len(ids)} training videos are test videos of {other}; judging that leaves them out"
    yield from (f"equal files: {escape(', '.join(ids))}" for ids in report.same_content)
    yield from (f"[red]problem:[/] {escape(problem)}" for problem in report.problems)
    if not report.problems:
        yield "No problems."


_FLOORS = {
    "ap_chance": "cMAP, chance",
    "ap_action_only": "cMAP, true action",
    "ap_class_oracle": "cMAP, true action and test rates",
    "f1_all_positive": "F1, always yes",
    "f1_majority": "F1, more frequent answer",
    "f1_action_only": "F1, true action",
    "f1_action_only_tuned": "F1, true action, tuned",
}


def _number(key: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if key.startswith("ap") else f"{value:.3f}"


def _rate(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


class Drawn(NamedTuple):
    """Preset and seed of embedded data; real data have neither."""

    preset: str | None
    seed: int | None


def drawn_of(name: str, preset: str | None, seed: int | None, home: Path) -> Drawn:
    """The preset and seed that a command asks for, or their defaults.

    Raises:
        UserError: real data are asked for with either.
    """
    from stp_bench import catalogue

    if not catalogue.is_real(name, home):
        return Drawn(preset or SMALL, seed or 0)
    if preset is not None or seed is not None:
        raise UserError(f"--preset and --seed do not fit {name}", "its videos are not drawn", "leave them out")
    return Drawn(None, None)
