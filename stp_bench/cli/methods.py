"""``stp-bench methods``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from stp_bench.cli._io import show, table
from stp_bench.cli._options import DataHome, Debug, Json
from stp_bench.methods import Broken, MethodSpec, specs

EXAMPLE = "Example: stp-bench methods"


def methods(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List the installed methods: fixed or learned, what they need, where they come from."""
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
