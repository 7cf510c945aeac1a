"""``stp-bench data card``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import OUTPUT, DataHome, Debug, Json, home_of, option
from stp_bench.cli.data import SMALL, NameOrLists, Preset, Seed, drawn_of

EXAMPLE = "Example: stp-bench data card synth-hmdb --preset tiny"


def card(
    name: NameOrLists,
    preset: Preset = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, option(OUTPUT, "Folder of the card. \\[default: cards/NAME in the data home]", metavar="DIR")
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Write a benchmark's card: counts, floors and terms on a page, figures, a sample of videos, Croissant metadata."""
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import card as cards
        from stp_bench import catalogue

        drawn = drawn_of(name, preset, seed, home)
        sizes, number = drawn.preset or SMALL, drawn.seed or 0
        dataset = catalogue.dataset(name, preset=sizes, seed=number, home=home, reporter=reporter)
        others = catalogue.neighbors(name, preset=sizes, seed=number, home=home)
        folder = out.expanduser().absolute() if out else home / "cards" / name
        with reporter.stage(f"card of {name}"):
            made = cards.write_card(dataset, folder, others=others)
    described = made.card

    def tables() -> Iterator[RenderableType]:
        sides = table(f"{described.title}: {described.videos:,} videos", "split", "train", "test", "unused")
        for number, split in described.splits.items():
            sides.add_row(str(number), *(f"{count:,}" for count in (split.train, split.test, split.unused)))
        yield sides
        yield from (f"limit: {escape(limit)}" for limit in described.limits)
        yield from (f"left out of the sample: {escape(i)}, {escape(why)}" for i, why in made.sheet.unreadable.items())
        yield f"croissant.json: {'valid' if made.validated else _UNCHECKED}"
        yield f"card: {folder / 'card.md'}"

    document = {
        "schema": 1, "name": name, "preset": drawn.preset, "seed": drawn.seed, "folder": str(folder),
        "files": list(made.files), "videos": described.videos, "limits": list(described.limits),
        "shown": list(made.sheet.shown), "unreadable": dict(made.sheet.unreadable), "croissant_checked": made.validated,
    }  # fmt: skip
    show(document, tables, as_json=as_json)


_UNCHECKED = escape("not checked, since mlcroissant is not installed; get it by: pip install 'stp-bench[cards]'")
