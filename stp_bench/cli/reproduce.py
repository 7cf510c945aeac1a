"""``stp-bench reproduce``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from stp_bench.cli._io import announce_download, show, table, working
from stp_bench.cli._options import (
    COMPUTE,
    METHOD,
    DataHome,
    Debug,
    Device,
    Json,
    Out,
    Precision,
    Preset,
    Settings,
    SkipUnreadable,
    Split,
    Weights,
    home_of,
    option,
)
from stp_bench.errors import WorkError
from stp_bench.files import fingerprint

if TYPE_CHECKING:
    from stp_bench.reproduce import Options

EXAMPLE = "Example: stp-bench reproduce table1 --method raw --method blur-strong"
NAMES = ("table1", "table2", "table3", "table4", "table5", "figure4")


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="|".join(NAMES), help="The table of the paper, or the figure of its ablations.", show_default=False
        ),
    ],
    method: Annotated[
        list[str] | None,
        option(
            METHOD,
            "A name from 'stp-bench methods', or package.module:NAME; repeatable. One that the paper does not have is "
            "set beside its own. \\[default: the table's methods]",
            metavar="NAME",
        ),
    ] = None,
    weights: Weights = None,
    settings: Settings = None,
    preset: Preset = None,
    split: Split = 1,
    skip_unreadable: SkipUnreadable = False,
    seeds: Annotated[
        int, option(COMPUTE, "Repeat with seeds 0 to N-1 and show mean and spread.", min=1, metavar="N")
    ] = 1,
    launcher: Annotated[
        str,
        option(
            COMPUTE,
            "One cell after the other here, or as tasks of Ray, on this machine or where RAY_ADDRESS says.",
            "--launcher",
            choices=("local", "ray"),
        ),
    ] = "local",
    cpus_per_cell: Annotated[
        int, option(COMPUTE, "Processors, and threads, of a cell that Ray runs.", min=1, metavar="N")
    ] = 1,
    gpus_per_cell: Annotated[
        float | None,
        option(
            COMPUTE,
            "Share of a GPU of a cell that Ray runs, such as 0.5. \\[default: 1 where there is one]",
            metavar="SHARE",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Run the cells of one of the paper's tables, and set ours beside the published figures.

    Real data are used where they are prepared, else the embedded twins, and every row says which. What is finished is
    found again, also by evaluate.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        announce_download(weights, home, reporter)
        from stp_bench import reproduce as work
        from stp_bench.jobs import pick_device
        from stp_bench.launch import Resources

        if gpus_per_cell is None:
            gpus_per_cell = float(launcher == "ray" and pick_device(device) == "cuda")
        options = work.Options(
            preset=preset, seeds=seeds, settings=tuple(settings or ()), weights=weights, split=split, device=device,
            precision=precision, skip_unreadable=skip_unreadable, launcher=launcher,
            resources=Resources(cpus=cpus_per_cell, gpus=gpus_per_cell), home=home,
        )  # fmt: skip
        grid = work.grid(name, method)
        folder = out or home / "runs" / _folder(name, options)
        document = work.reproduce(grid, options, folder, reporter)
    show(document, lambda: _tables(document, folder), as_json=as_json)
    if failed := document["failed"]:
        count = "a cell" if len(failed) == 1 else f"{len(failed)} cells"
        raise WorkError(
            f"{count} of {name} could not be judged ({', '.join(entry['cell'] for entry in failed)})",
            "; ".join(dict.fromkeys(entry["error"].partition(";")[0] for entry in failed)),
            "mend that and run the same command again, what is finished is kept",
        )


def _tables(document: Mapping[str, Any], folder: Path) -> Iterator[RenderableType]:
    """Each part as a table; for figure 4 the trends that the paper states."""
    from stp_bench.reproduce import FIGURE4, parts, row_texts, row_titles, title, verdict

    for statistics, rows in parts(document):
        listed = table(title(statistics["pair"], rows), *row_titles(document, brief=True))
        listed.columns[0].no_wrap = True
        for row in rows:
            listed.add_row(*row_texts(document, row, brief=True))
        yield listed
    if document["table"] == FIGURE4:
        listed = table("What the paper says of it", "chart", "claim", "holds", "on")
        for trend in document["trends"]:
            listed.add_row(trend["chart"], trend["claim"], verdict(trend), trend["pair"]["on"])
        yield listed
    yield f"tables, tests and pictures: {folder / document['table']}.md, .tex, .csv, .png, .svg, .json"


def _folder(name: str, options: Options) -> str:
    """The folder of a table that names none; the same command finds it again, with more methods or seeds too."""
    asked = [options.preset, options.weights, options.split, options.device, options.precision, *options.settings]
    return f"{name}-{options.preset or 'default'}-{fingerprint([str(v) for v in asked])[:8]}"
