"""Writing a card: a folder with the page, the pictures, the numbers and the metadata."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stp_bench.card._croissant import CLASSES, croissant, validate
from stp_bench.card._describe import Card, describe
from stp_bench.card._page import class_table, page
from stp_bench.card._pictures import Sheet, classes_picture, contact_sheet, prevalence_picture
from stp_bench.files import make_folder, write_bytes, write_json
from stp_bench.index import Dataset

SCHEMA = 1
SHEET = "contact_sheet.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A card on the disk."""

    folder: Path
    files: tuple[str, ...]
    card: Card
    sheet: Sheet
    validated: bool
    """Whether `mlcroissant` is installed and found the metadata valid."""


def write_card(dataset: Dataset, folder: Path, *, others: Sequence[Dataset] = ()) -> Written:
    """Describe a prepared benchmark in a folder; files of these names are replaced, each as a whole.

    Args:
        others: benchmarks whose test videos may be among its training videos.

    Raises:
        WorkError: the disk refused.
    """
    card = describe(dataset, others=others)
    table = class_table(card).encode()
    document = croissant(card, dataset, classes_sha256=hashlib.sha256(table).hexdigest(), classes_bytes=len(table))
    validated = validate(document)
    make_folder(folder)
    (folder / SHEET).unlink(missing_ok=True)  # one of other videos must not stay where none of these can be read
    sheet = contact_sheet(dataset, folder / SHEET)
    prevalence_picture(card, folder / "prevalence.png", folder / "prevalence.pdf")
    classes_picture(card, folder / "classes.png")
    write_bytes(folder / CLASSES, table)
    write_json(folder / "croissant.json", document)
    write_json(folder / "card.json", {"schema": SCHEMA, **dataclasses.asdict(card), "sheet": dataclasses.asdict(sheet)})
    write_bytes(folder / "card.md", page(card, sheet).encode())
    files = ["card.md", "card.json", "prevalence.png", "prevalence.pdf", "classes.png", CLASSES, "croissant.json"]
    return Written(
        folder=folder,
        files=(*files, *([SHEET] if sheet.shown else [])),
        card=card,
        sheet=sheet,
        validated=validated,
    )
