"""``stp-bench methods``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from stp_bench.cli._errors import Group
from stp_bench.cli._io import show, table
from stp_bench.cli._options import METHOD, OUTPUT, DataHome, Debug, Json, option
from stp_bench.methods import Broken, MethodSpec, specs

app = typer.Typer(cls=Group, invoke_without_command=True, epilog="Example: stp-bench methods")


@app.callback()
def methods(context: typer.Context, as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List the installed methods: fixed or learned, what they need, where they come from."""
    if context.invoked_subcommand is not None:
        return
    found = specs()

    def tables() -> Iterator[Table]:
        listed = table("Installed methods", "name", "kind", "needs", "what it does", "from")
        for column in listed.columns:
            column.justify = "left"
        for name, spec in found.items():
            if isinstance(spec, Broken):
                listed.add_row(name, "[red]broken[/]", "", spec.error, spec.source)
            else:
                title = spec.title + (f" ({spec.reference})" if spec.reference else "")
                listed.add_row(name, _kind(spec), ", ".join(sorted(spec.needs)) or "nothing", title, spec.source)
        yield listed

    show({"schema": 1, "methods": [_record(name, spec) for name, spec in found.items()]}, tables, as_json=as_json)


@app.command(epilog="Example: stp-bench methods new my-blur")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the method: lower-case words joined by hyphens.")],
    learned: Annotated[bool, option(METHOD, "A method that is fitted; else a fixed transform.", "--learned")] = False,
    out: Annotated[
        Path | None, option(OUTPUT, "The new folder. \\[default: stp-NAME, here]", "--out", metavar="DIR")
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Write a package with a method of your own that works at once: card, entry point, code and test."""
    from stp_bench.scaffold import new_method

    folder = new_method(name, learned=learned, out=out)
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def lines() -> Iterator[RenderableType]:
        quoted = shlex.quote(str(folder))
        yield escape(f"written: {folder} ({', '.join(written)})")
        yield escape(f"install it:  pip install -e {quoted}")
        yield escape(f"test it:     pytest {quoted}")
        yield escape(f"judge it:    stp-bench evaluate --method {name} --preset tiny")

    document = {"schema": 1, "method": name, "kind": "learned" if learned else "fixed", "folder": str(folder),
                "files": written}  # fmt: skip
    show(document, lines, as_json=as_json)


def _kind(spec: MethodSpec) -> str:
    return "learned" if spec.learned else "fixed"


def _record(name: str, spec: MethodSpec | Broken) -> dict[str, Any]:
    if isinstance(spec, Broken):
        return {"name": name, "kind": "broken", "source": spec.source, "error": spec.error}
    return {
        "name": name,
        "kind": _kind(spec),
        "title": spec.title,
        "version": spec.version,
        "phases": list(spec.phases),
        "needs": sorted(spec.needs),
        "space": spec.space,
        "reference": spec.reference,
        "source": spec.source,
    }
