"""The card of a data set: a page with counts, splits, prevalence, floors, terms and limits; figures for a paper; a
sample of the videos; and Croissant metadata.

`describe` counts, `write_card` writes the folder. Nothing in here asks for a benchmark's name: what differs between
them are targets, units and groups.
"""

from stp_bench.card._croissant import croissant, validate
from stp_bench.card._describe import Card, ClassCount, Split, TargetCount, describe, side_name
from stp_bench.card._page import class_table, page
from stp_bench.card._pictures import Sheet, classes_picture, contact_sheet, prevalence_picture, sample
from stp_bench.card._sources import Source, Work
from stp_bench.card._write import Written, write_card

__all__ = [
    "Card",
    "ClassCount",
    "Sheet",
    "Source",
    "Split",
    "TargetCount",
    "Work",
    "Written",
    "class_table",
    "classes_picture",
    "contact_sheet",
    "croissant",
    "describe",
    "page",
    "prevalence_picture",
    "sample",
    "side_name",
    "validate",
    "write_card",
]
