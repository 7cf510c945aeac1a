"""``stp-bench doctor``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import typer
from rich.table import Table

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import DataHome, Debug, Json, home_of


def doctor(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """Show what works on this machine, what is missing and how to get it."""
    home = home_of(data_home)
    from stp_bench import doctor as work

    with working(as_json=as_json):
        checks = work.examine(home)
    healthy = work.healthy(checks)

    def tables() -> Iterator[Table | str]:
        found = table("What works here", "", "", "", "how to get or mend it")
        for column in found.columns:
            column.justify = "left"
        for check in checks:
            mark = {"ok": "[green]ok[/]", "absent": "[yellow]absent[/]", "broken": "[red]broken[/]"}[check.state]
            found.add_row(f"{check.area}: {check.name}", mark, check.detail, "" if check.state == "ok" else check.mend)
        yield found
        yield "Everything needed works." if healthy else "Something needed is broken: see the lines marked so."

    value = {"schema": 1, "healthy": healthy, "checks": [dataclasses.asdict(check) for check in checks]}
    show(value, tables, as_json=as_json)
    if not healthy:
        raise typer.Exit(1)
