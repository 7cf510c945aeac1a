"""The command line. Commands parse, call one function of the library and print; importing this imports no torch."""

from __future__ import annotations

from typing import Annotated

import typer

import stp_bench
from stp_bench.cli import (
    annotate,
    anonymize,
    boxes,
    card,
    data,
    doctor,
    inspect,
    labels,
    leaderboard,
    methods,
    reproduce,
    run,
    stored,
)
from stp_bench.cli._errors import PROGRAM, Group

app = typer.Typer(
    name=PROGRAM,
    cls=Group,
    help="Measure how well videos can be anonymized while their actions stay recognizable.",
    epilog="Example: stp-bench evaluate --method stprivacy --protocol unseen",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {stp_bench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


RUN, RESULTS, DATA, HELP = "The main job", "Results", "Data and methods", "This machine"
app.command(rich_help_panel=RUN, epilog=run.EVALUATE_EXAMPLE)(run.evaluate)
app.command(rich_help_panel=RUN, epilog=run.TRAIN_EXAMPLE)(run.train)
app.command(rich_help_panel=RUN, epilog=reproduce.EXAMPLE)(reproduce.reproduce)
app.command(rich_help_panel=RUN, epilog=anonymize.EXAMPLE)(anonymize.anonymize)
app.command(rich_help_panel=RUN, epilog=inspect.EXAMPLE)(inspect.inspect)
data.app.command("boxes", epilog=boxes.EXAMPLE)(boxes.boxes)
data.app.command("card", epilog=card.EXAMPLE)(card.card)
app.add_typer(stored.runs, name="runs", rich_help_panel=RUN)
app.add_typer(leaderboard.app, name="leaderboard", rich_help_panel=RESULTS)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(labels.app, name="labels", rich_help_panel=DATA)
app.add_typer(annotate.app, name="annotate", rich_help_panel=DATA)
app.add_typer(methods.app, name="methods", rich_help_panel=DATA)
app.add_typer(stored.cache, name="cache", rich_help_panel=HELP)
app.command(rich_help_panel=HELP, epilog="Example: stp-bench doctor")(doctor.doctor)


def main() -> None:
    """The console entry point."""
    app()
