"""Options that several commands share, so that they mean and read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stp_bench.config import PRESETS
from stp_bench.errors import unknown_name

GENERAL = "General"


def one_of(kind: str, names: Iterable[str]) -> Callable[[Any], Any]:
    """A check of an option's value that suggests the nearest of ``names``."""
    known = tuple(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise unknown_name(kind, value, known)
        return value

    return check


DATA_PRESETS = tuple(p for p in PRESETS if p != "paper")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
DECODERS = ("pyav", "decord")

DataHome = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for all that is kept. \\[default: $STP_BENCH_HOME, else the platform's user data folder]",
        rich_help_panel=GENERAL,
        show_default=False,
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=GENERAL)]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.", rich_help_panel=GENERAL)
]
DataPreset = Annotated[
    str,
    typer.Option(
        metavar="|".join(DATA_PRESETS),
        callback=one_of("preset", DATA_PRESETS),
        help="Size of the data: for tests, for a CPU, or the paper's.",
        rich_help_panel="Data",
    ),
]
DataSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed the data are drawn from.", rich_help_panel="Data")]
Decoder = Annotated[
    str,
    typer.Option(
        metavar="|".join(DECODERS),
        callback=one_of("decoder", DECODERS),
        help="Library that reads videos.",
        rich_help_panel="Data",
    ),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Leave unreadable videos out and count them, instead of stopping at the first.",
        rich_help_panel="Data",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="|".join(DEVICES),
        callback=one_of("device", DEVICES),
        help="Where to compute; auto takes a CUDA GPU where there is one.",
        rich_help_panel="Compute",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="|".join(PRECISIONS),
        callback=one_of("precision", PRECISIONS),
        help="Arithmetic; auto is bf16 on a GPU that has it, else fp32.",
        rich_help_panel="Compute",
    ),
]
