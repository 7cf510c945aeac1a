"""Options that several commands share, so that they mean and read the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stp_bench.config import PRESETS
from stp_bench.errors import unknown_name
from stp_bench.files import data_home

METHOD, DATA, COMPUTE, OUTPUT, GENERAL = "Method", "Protocol and data", "Compute", "Output", "General"


def option(panel: str, text: str, *names: str, choices: Iterable[str] = (), **more: Any) -> Any:
    """An option in a panel of the help. A value outside ``choices`` is refused with the nearest of them named."""
    known = tuple(choices)
    if known:
        kind = names[0].lstrip("-")
        more |= {"metavar": "|".join(known), "callback": _one_of(kind, known)}
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _one_of(kind: str, known: tuple[str, ...]) -> Callable[[Any], Any]:
    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise unknown_name(kind, value, known)
        return value

    return check


def home_of(chosen: Path | None) -> Path:
    """The data home of a command, which also becomes matplotlib's: it would keep a font cache in the user's home.

    To be called before anything imports matplotlib, since it reads its folder then.
    """
    home = data_home(chosen)
    os.environ.setdefault("MPLCONFIGDIR", str(home / "cache" / "matplotlib"))
    return home


DataHome = Annotated[
    Path | None,
    option(
        GENERAL,
        "Folder for all that is kept. \\[default: $STP_BENCH_HOME, else the platform's folder for user data]",
        metavar="DIR",
    ),
]
Debug = Annotated[bool, option(GENERAL, "Show the traceback of an error.", "--debug")]
Json = Annotated[bool, option(GENERAL, "Print one JSON document instead of tables.", "--json")]

Preset = Annotated[
    str | None,
    option(
        DATA,
        "Sizes and recipe: for tests, for a CPU, the paper's on embedded data, the paper's. \\[default: small, on real "
        "data paper]",
        "--preset",
        choices=PRESETS,
    ),
]
Split = Annotated[int, option(DATA, "Official split.", min=1)]
Decoder = Annotated[str, option(DATA, "Library that reads videos.", "--decoder", choices=("pyav", "decord"))]
Encoding = Annotated[
    str | None,
    option(
        DATA,
        "Decoded clips as raw pixels, or as JPEG. \\[default: raw for embedded data, jpeg for real]",
        "--encoding",
        choices=("raw", "jpeg"),
    ),
]
SkipUnreadable = Annotated[
    bool, option(DATA, "Leave unreadable videos out and count them; else the first stops the run.", "--skip-unreadable")
]
Weights = Annotated[
    str | None,
    option(
        METHOD,
        "Image weights that networks start from; pretrained downloads them. \\[default: none; preset paper asks]",
        metavar="pretrained|none|FILE",
    ),
]
Settings = Annotated[
    list[str] | None,
    option(METHOD, "Override one field, as run.KEY or METHOD.KEY; repeatable.", "--set", metavar="KEY=VALUE"),
]
Keep = Annotated[
    float | None, option(METHOD, "Keep ratio per sparsification block at inference, in (0, 1].", metavar="A")
]
Device = Annotated[
    str,
    option(COMPUTE, "Where to compute; auto takes a GPU if there is one.", "--device", choices=("auto", "cpu", "cuda")),
]
Precision = Annotated[
    str,
    option(
        COMPUTE, "Arithmetic; auto is bf16 on a GPU that has it, else fp32.", "--precision",
        choices=("auto", "fp32", "bf16"),
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    option(
        OUTPUT,
        "Run folder; the same folder again resumes. \\[default: in the data home, named after the run]",
        metavar="DIR",
    ),
]
