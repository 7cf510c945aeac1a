"""What the ``annotate`` commands share: their options, and how they get to the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stp_bench.cli._options import GENERAL, OUTPUT, option
from stp_bench.errors import UserError

if TYPE_CHECKING:
    from stp_bench.annotate.studio import Studio

SERVER = "Label Studio"

Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", show_default=False, help="The labelling round. [default: the only one there is]"),
]
Url = Annotated[
    str | None,
    option(
        SERVER,
        "Address of the server. \\[default: $LABEL_STUDIO_URL, else the round's, else that of 'annotate serve']",
        "--url",
        metavar="URL",
    ),
]
DryRun = Annotated[bool, option(OUTPUT, "Say what would be done, and do nothing.", "--dry-run")]
Workers = Annotated[
    int | None, option(GENERAL, "Processes. \\[default: one per core]", "--workers", min=1, max=256, metavar="N")
]


def connect(home: Path, url: str | None, *, round_url: str | None = None) -> Studio:
    """The server, and the account of whoever runs the command.

    The token is that of the environment; else, of the server that ``annotate serve`` runs, the one that signing in
    gives; else it is asked for, where there is somebody to ask.

    Args:
        url: as given on the command line.
        round_url: where the round was set up, if it was.
    """
    from stp_bench.annotate import server
    from stp_bench.annotate.session import server_address
    from stp_bench.annotate.studio import Studio

    named = url or os.environ.get(server.URL_VARIABLE) or round_url or server.local_url(home)
    address = server_address(named or server.DEFAULT_URL)
    token = os.environ.get(server.TOKEN_VARIABLE, "").strip() or server.local_token(home, address)
    if not token and sys.stdin.isatty():
        token = typer.prompt(f"token of your account at {address}", hide_input=True, err=True).strip()
    if not token:
        raise UserError(
            f"there is no token for {address}",
            f"{server.TOKEN_VARIABLE} is not set, and no 'stp-bench annotate serve' runs there",
            "set that variable to a token from the account page of that server, or start 'stp-bench annotate serve'",
        )
    return Studio(address, token)
