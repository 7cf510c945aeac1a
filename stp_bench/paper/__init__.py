"""The figures that the paper published, as data: what ours are set beside, and never mixed with.

``published.csv`` has one row per figure: ``table, protocol, fit_on, on, method, metric, value``, with our names of
benchmarks and methods. Top-1 and every cMAP are percentages, F1 is a decimal. Source: Tables 1 to 5 of *STPrivacy:
Spatio-Temporal Privacy-Preserving Action Recognition*, ICCV 2023.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

SOURCE = "STPrivacy: Spatio-Temporal Privacy-Preserving Action Recognition, ICCV 2023"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published figure."""

    table: str
    """``table1`` to ``table5``."""
    protocol: str
    fit_on: str
    on: str
    method: str
    metric: str
    """``top1``, ``f1``, ``cmap``, or a cMAP of one kind of class, such as ``object_cmap``."""
    value: float


def published(tables: Iterable[str] | None = None) -> tuple[Published, ...]:
    """The paper's figures in the order of its tables, of all tables or of some."""
    wanted = None if tables is None else set(tables)
    text = files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    rows = (
        Published(
            table=row["table"], protocol=row["protocol"], fit_on=row["fit_on"], on=row["on"], method=row["method"],
            metric=row["metric"], value=float(row["value"]),
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip
    return tuple(row for row in rows if wanted is None or row.table in wanted)
