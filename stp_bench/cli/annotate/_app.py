"""The group that all ``annotate`` commands belong to."""

from __future__ import annotations

import typer

from stp_bench.cli._errors import Group

app = typer.Typer(
    cls=Group,
    help="Label videos with several annotators on Label Studio, and let the majority decide.",
    epilog="Example: stp-bench annotate init synth-hmdb --preset tiny --name trial",
    no_args_is_help=True,
)
