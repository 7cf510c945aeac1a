"""``stp-bench data``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

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
from stp_bench.files import human_bytes

app = typer.Typer(
    cls=Group,
    help="Make, list, store and check benchmark data.",
    epilog="Example: stp-bench data list",
    no_args_is_help=True,
)

DATA_PRESETS = tuple(preset for preset in config.PRESETS if preset != "paper")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A benchmark of 'stp-bench data list'.")]
Preset = Annotated[str, option(DATA, "Sizes: for tests, for a CPU, the paper's.", "--preset", choices=DATA_PRESETS)]
Seed = Annotated[int, option(DATA, "Seed the data are drawn from.", min=0)]


@app.command("list", epilog="Example: stp-bench data list")
def list_(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List the known benchmarks: what they hold, and whether they are ready."""
    from stp_bench import catalogue, data

    home = home_of(data_home)
    rows: list[dict[str, Any]] = []
    for name in catalogue.names():
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
                    "embedded": described.embedded,
                    "ready": ready,
                    "folder": str(folder) if ready else None,
                    "missing": None
                    if ready
                    else f"made on first use, or by: stp-bench data synth {name} --preset {preset}",
                }
            )

    def tables() -> Iterator[RenderableType]:
        listed = table(
            "Benchmarks", "name", "task", "preset", "actions", "videos", "attributes", "splits", "rate", "ready"
        )
        for column in (1, 2, -1):
            listed.columns[column].justify = "left"
        for row in rows:
            state = "[green]yes[/]" if row["ready"] else "made on first use"
            numbers = (row["actions"], row["videos"], len(row["attributes"]), row["splits"], row["sampling_rate"])
            listed.add_row(row["name"], row["task"], row["preset"], *map(str, numbers), state)
        yield listed
        yield f"attributes: {', '.join(rows[0]['attributes'])}"

    show({"schema": 1, "benchmarks": rows}, tables, as_json=as_json)


@app.command(epilog="Example: stp-bench data synth synth-hmdb --preset tiny")
def synth(
    name: Name,
    preset: Preset = "small",
    seed: Seed = 0,
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

        catalogue.benchmark(name, preset)
        folder = out.expanduser().absolute() if out else data.folder(home_of(data_home), name, preset, seed)
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


@app.command(epilog="Example: stp-bench data store synth-hmdb --preset tiny")
def store(
    name: Name,
    preset: Preset = "small",
    seed: Seed = 0,
    encoding: Encoding = "raw",
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

        dataset = catalogue.dataset(name, preset=preset, seed=seed, home=home, reporter=reporter)
        recipe = StoreRecipe.for_crop(config.preset(preset).size, encoding, decoder=decoder)  # type: ignore[arg-type]
        began = time.monotonic()
        with reporter.stage(f"clip store of {name}", len(dataset.videos), "videos") as task:
            made = open_store(dataset, recipe, home, skip_unreadable=skip_unreadable, progress=task.update)
        seconds = time.monotonic() - began

    def tables() -> Iterator[RenderableType]:
        pace = f"{seconds_text(seconds)}, {len(made) / max(seconds, 1e-9):.0f} videos/s"
        yield f"clip store of {name}: {len(made)} videos, {human_bytes(made.bytes)} in {made.folder} ({pace})"
        for video_id, why in made.unreadable.items():
            yield f"left out: {video_id}, {why}"

    document = {
        "schema": 1, "name": name, "preset": preset, "seed": seed, "folder": str(made.folder), "digest": made.digest,
        "videos": len(made), "bytes": made.bytes, "seconds": round(seconds, 3), "unreadable": dict(made.unreadable),
    }  # fmt: skip
    show(document, tables, as_json=as_json)


@app.command(
    epilog="First: stp-bench data synth synth-hmdb --preset tiny\n\n"
    "Example: stp-bench data check synth-hmdb --preset tiny"
)
def check(
    name: Name,
    preset: Preset = "small",
    seed: Seed = 0,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Check a prepared benchmark: files, splits, leakage between their sides, labels; exits with 1 on a problem."""
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue, data

        catalogue.benchmark(name, preset)
        dataset = data.open_dataset(data.folder(home_of(data_home), name, preset, seed))
        with reporter.stage(f"check {name}", len(dataset.videos), "videos") as task:
            report = data.check(dataset, progress=task.update)

    def tables() -> Iterator[RenderableType]:
        title = f"{name}: {report.videos} videos, {report.frames} frames, {human_bytes(report.bytes)}"
        rates = table(f"{title}\nshare of positives", "attribute", "stated", "all")
        sides = [report.all]
        for number, split in report.splits.items():
            rates.add_column(f"split {number} train", justify="right")
            rates.add_column("test", justify="right")
            sides += [split.train, split.test]
        rates.add_row("(videos)", "", *(str(side.videos) for side in sides))
        for attribute in report.all.prevalence:
            stated = report.stated_prevalence.get(attribute)
            rates.add_row(attribute, *(_rate(x) for x in (stated, *(side.prevalence[attribute] for side in sides))))
        yield rates
        for number, split in report.splits.items():
            shared = f"{len(split.shared_groups)} groups on both sides ({split.test_in_shared_groups} test videos)"
            yield f"split {number}: {len(split.same_content)} videos on both sides, {shared}, {split.unused} unused"
        yield from (f"[red]problem:[/] {problem}" for problem in report.problems)
        if not report.problems:
            yield "No problems."

    show({"schema": 1, **dataclasses.asdict(report)}, tables, as_json=as_json)
    if report.problems:
        raise typer.Exit(1)


def _rate(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"
