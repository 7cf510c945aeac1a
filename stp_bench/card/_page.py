"""The card's page, as Markdown, and its table of all classes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from stp_bench.card._describe import ALL, Card, ClassCount, TargetCount
from stp_bench.card._pictures import Sheet
from stp_bench.files import human_bytes

ENDS = 15
"""Of a list of more than twice as many classes, the page shows so many from each end."""

_FLOORS = {
    "top1_chance": ("Top-1, guessing", 2),
    "top1_majority": ("Top-1, always the most frequent", 2),
    "cmap_prevalence": ("cMAP, prevalence", 2),
    "cmap_action_only": ("cMAP, true action", 2),
    "cmap_class_oracle": ("cMAP, true action and test rates", 2),
    "f1_all_positive": ("F1, always yes", 3),
    "f1_majority": ("F1, more frequent answer", 3),
    "f1_action_only": ("F1, true action", 3),
    "f1_action_only_tuned": ("F1, true action, tuned threshold", 3),
}


def page(card: Card, sheet: Sheet) -> str:
    """The card as one page of Markdown; pictures and files are named relative to it."""
    parts = [
        f"# {_plain(card.title)}",
        f"{len(card.action.classes):,} classes of {_plain(card.action.target)} to recognize, {_what(card)} to protect. "
        f"Written by stp-bench from the index of `{card.name}`.",
        *_facts(card),
        "## Splits",
        *_splits(card),
        "## What is recognized",
        f"![Videos per {card.action.target} class](classes.png)",
        *_classes(card, card.action),
        "## What should stay private",
        "![Share of positives per class](prevalence.png)",
        *(part for of in card.privacy for part in _classes(card, of)),
        "## What is reached without a pixel",
        *_floors(card),
        *_sheet(sheet),
        "## Labels",
        _bullets(_labels(card)),
        "## Source and terms",
        _bullets(
            [
                f"Videos: {_plain(card.source.videos)}",
                f"Labels: {_plain(card.source.labels)}",
                f"License: {_plain(card.source.terms)}",
                *(f"To cite: {_plain(work.text)}" for work in card.source.cite),
            ]
        ),
        "## Limits",
        _bullets(map(_plain, card.limits)),
        "## Files",
        "`card.json` has all numbers, [classes.csv](classes.csv) all classes, `croissant.json` the metadata for "
        "catalogues (Croissant 1.0), `prevalence.pdf` the figure for print.",
    ]
    return "\n\n".join(parts) + "\n"


def class_table(card: Card) -> str:
    """All classes of all targets as CSV: target, unit, group, number, name and stated share, then labelled, positives
    and share of each side."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sides = list(card.targets[0].units)
    numbers = [f"{what} {side}" for side in sides for what in ("labelled", "positives", "share")]
    writer.writerow(["target", "unit", "group", "number", "class", "stated", *numbers])
    for of in card.targets:
        for number, one in enumerate(of.classes):
            row = [x for side in sides for x in (one.labelled[side], one.positives[side], _exact(one.share[side]))]
            writer.writerow([of.target, of.unit, one.group or "", number, one.name, _exact(one.stated), *row])
    return out.getvalue()


def _what(card: Card) -> str:
    last = card.privacy[-1]
    groups = last.by_group()
    if len(groups) > 1:
        return " and ".join(f"{len(of):,} {_plain(name)} tags" for name, of in groups.items())
    return f"{len(last.classes):,} attributes"


def _facts(card: Card) -> Iterator[str]:
    sizes = [f"{width} x {height}" for height, width in dict.fromkeys((card.smallest, card.largest))]
    rates = [f"{rate:g}" for rate in dict.fromkeys(card.fps)]
    least, median, most = card.length
    spread = f"{least:,} to {most:,}, median {median:,}," if least != most else f"{most:,}"
    drawn = ", ".join(f"{name} {value}" for name, value in card.drawn_from.items())
    yield _table(
        ["", ""],
        [
            ["videos", f"{card.videos:,}" + (f" of {card.known:,}" if card.known not in (None, card.videos) else "")],
            ["length", f"{card.seconds / 3600:,.1f} h" if card.seconds >= 3600 else f"{card.seconds / 60:.1f} min"],
            ["frames", f"{card.frames:,} ({spread} a video)"],
            ["picture", f"{' to '.join(sizes)} pixels, {' to '.join(rates)} frames per second"],
            ["size", human_bytes(card.bytes)],
            ["sampling rate", f"every {_ordinal(card.stride)} frame"],
            ["version", str(card.version) + (f" (drawn: {_plain(drawn)})" if card.embedded and drawn else "")],
            ["index", f"SHA-256 `{card.index_sha256}`"],
        ],
    )


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _splits(card: Card) -> Iterator[str]:
    rows = [
        [str(number), *(f"{n:,}" for n in (of.train, of.test, of.unused, of.shared_groups, of.test_in_shared_groups,
         of.same_content))]
        for number, of in card.splits.items()
    ]  # fmt: skip
    header = ["split", "train", "test", "unused", "groups on both sides", "test videos of these", "test files in train"]
    yield _table(header, rows)
    found = [
        f"Split {number}: {count:,} training videos are test videos of {_plain(other)}."
        for number, of in card.splits.items()
        for other, count in of.tested_elsewhere.items()
    ]
    if found:
        yield "\n".join(found)


def _classes(card: Card, of: TargetCount) -> Iterator[str]:
    """A table of shares (of counts, for what every unit has one of), of the ends where the list is long."""
    for name, classes in of.by_group().items():
        ordered: Sequence[ClassCount] = classes
        cut = len(classes) > 2 * ENDS
        if cut:
            ranked = sorted(classes, key=lambda c: -c.positives[ALL])
            ordered = [*ranked[:ENDS], *ranked[-ENDS:]]
        sides = card.first_sides
        counted = of.kind == "multiclass"
        stated = any(c.stated is not None for c in classes)
        rows = [
            [
                _plain(c.name),
                *([_number(c.stated, 3)] if stated else []),
                *(f"{c.positives[side]:,}" if counted else _number(c.share[side], 4 if cut else 3) for side in sides),
            ]
            for c in ordered
        ]
        total = [f"({of.unit}s)", *([""] if stated else []), *(f"{of.units[side]:,}" for side in sides)]
        title = "videos" if counted else f"share of labelled {of.unit}s"
        yield f"**{_plain(name)}**, {title}" + (
            f"; the {ENDS} most and the {ENDS} least frequent of {len(classes):,}, all are in `classes.csv`"
            if cut
            else ""
        )
        yield _table([_plain(name), *(["stated"] if stated else []), *sides], [total, *rows])


def _floors(card: Card) -> Iterator[str]:
    numbers = list(card.splits)
    first = card.splits[numbers[0]].floors
    rows = [
        [f"{_plain(what)}: {label}", *(_number(card.splits[n].floors.get(what, {}).get(name), digits) for n in numbers)]
        for what in first
        for name, (label, digits) in _FLOORS.items()
        if name in first[what]
    ]
    yield _table(["", *(f"split {n}" for n in numbers)], rows)
    yield (
        'Top-1 and cMAP in percent, means over classes with a positive test unit. "True action": an attacker who is '
        "told the action, and how common each attribute is among training videos of it."
    )


def _sheet(sheet: Sheet) -> Iterator[str]:
    yield "## Sample"
    if sheet.shown:
        yield "![Frames of a few videos, with their labels](contact_sheet.png)"
        yield "A filled dot: the class is there; a ring: it is not; a dash: not labelled."
    else:
        yield "No video of the sample could be read: there is no contact sheet."
    if sheet.unreadable:
        yield _bullets(f"Not readable: {_plain(name)} ({_plain(why)})" for name, why in sheet.unreadable.items())


def _labels(card: Card) -> Iterator[str]:
    of = card.labels
    state = {None: "made with the videos", True: "as published (digest checked)", False: "not as published"}
    yield f"Release: {_plain(of.release) or 'not named'}, {state[of.verified]}"
    if of.sha256:
        yield f"SHA-256 of their content: `{of.sha256}`"
    if of.columns and not card.embedded:
        yield f"Columns of the file: {_plain(', '.join(of.columns))} ({_plain(of.columns_known)})"
    for why, count in of.left_out.items():
        yield f"Left out: {count:,} ({_plain(why)})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    lines.insert(1, "| " + " | ".join("---:" if column else "---" for column in range(len(header))) + " |")
    return "\n".join(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Text of others without what Markdown would read in it."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("<", "&lt;")
    for mark in "|*[]`":
        text = text.replace(mark, f"\\{mark}")
    return text


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)
