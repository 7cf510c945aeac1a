"""``stp-bench data boxes``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._io import seconds_text, show, table, working
from stp_bench.cli._options import (
    COMPUTE,
    DATA,
    METHOD,
    OUTPUT,
    DataHome,
    Debug,
    Decoder,
    Device,
    Json,
    SkipUnreadable,
    home_of,
    option,
)
from stp_bench.cli.data import SMALL, Name, Preset, Seed, drawn_of
from stp_bench.errors import UserError

EXAMPLE = (
    "First: stp-bench data synth synth-pa --preset tiny --out d\n\n"
    "Example: stp-bench data boxes synth-pa --preset tiny --from d --out b"
)


def boxes(
    name: Name,
    preset: Preset = None,
    seed: Seed = None,
    source: Annotated[
        Path | None,
        option(DATA, "Take this table, or the one in this folder, instead of detecting.", "--from", metavar="PATH"),
    ] = None,
    decoder: Decoder = "pyav",
    skip_unreadable: SkipUnreadable = False,
    detector: Annotated[
        str | None,
        option(
            METHOD, "fasterrcnn, ssdlite, or package.module:NAME of a function of frames. \\[default: fasterrcnn]",
            "--detector", metavar="NAME",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        option(METHOD, "Of fasterrcnn and ssdlite: their COCO weights; pretrained downloads them.",
               "--weights", metavar="pretrained|FILE"),
    ] = None,
    min_score: Annotated[
        float, option(METHOD, "Lowest score of a box; methods use those from 0.5 on.", min=0, max=1, metavar="S")
    ] = 0.5,
    every: Annotated[
        int, option(METHOD, "Look at every N-th frame; those between keep its boxes.", min=1, max=9, metavar="N")
    ] = 1,
    skip_failed: Annotated[
        bool,
        option(METHOD, "Leave frames on which the detector fails without boxes and count them; else the first stops "
               "the work.", "--skip-failed"),
    ] = False,
    batch: Annotated[int, option(COMPUTE, "Frames that the detector gets at once.", min=1, metavar="N")] = 8,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        option(OUTPUT, "Folder for boxes.parquet and boxes.json. \\[default: beside the index, for methods to read]",
               metavar="DIR"),
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Find the people in a benchmark's videos, for methods that treat persons: a table of boxes beside its index.

    Embedded benchmarks are drawn with theirs, which are never replaced. The same command takes a stopped run up again.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import catalogue, detection
        from stp_bench.detectors import find_detector

        drawn = drawn_of(name, preset, seed, home)
        if source is not None and (detector, weights) != (None, None):
            why = "a table that is taken over was found by something else"
            raise UserError("--detector and --weights do not fit --from", why, "leave them out")
        embedded = name.partition("@")[0] in catalogue.embedded()
        if embedded and out is None:
            mend = "write others elsewhere with --out DIR"
            raise UserError(f"{name} was drawn with its boxes", "they are exact and stay", mend)
        dataset = catalogue.dataset(
            name, preset=drawn.preset or SMALL, seed=drawn.seed or 0, home=home, reporter=reporter
        )
        folder = out.expanduser().absolute() if out else dataset.root
        if embedded and folder.resolve() == dataset.root.resolve():
            why = "they are exact and stay"
            raise UserError(f"{folder} has the boxes that {name} was drawn with", why, "choose another --out")
        if source is None:
            find, origin = find_detector(
                detector or "fasterrcnn", weights, device=device, min_score=min_score, folder=home / "weights",
                reporter=reporter,
            )  # fmt: skip
            options = detection.Options(
                min_score=min_score, every=every, batch=batch, decoder=decoder, skip_unreadable=skip_unreadable,
                skip_failed=skip_failed,
            )  # fmt: skip
        began = time.monotonic()
        if source is None:
            card = detection.detect(dataset, find, origin, options, folder, reporter)
        else:
            card = detection.import_boxes(dataset, source, folder, reporter)
        seconds = time.monotonic() - began

    def tables() -> Iterator[RenderableType]:
        count = f"{card['boxes']} person boxes in {card['videos']} videos"
        yield f"{name}: {count}, {escape(str(folder / 'boxes.parquet'))} ({seconds_text(seconds)})"
        without = table("frames without a person", "split", "train", "test")
        for split, shares in card["frames_without"].items():
            without.add_row(split, *(f"{100 * shares[part]:.1f} %" for part in ("train", "test")))
        yield without
        yield from (f"left out: {escape(i)}, {escape(why)}" for i, why in card.get("unreadable", {}).items())
        for video_id, frames in card.get("failed", {}).items():
            yield f"the detector failed on {len(frames)} frames of {escape(video_id)}, from frame {frames[0]} on"

    show({"folder": str(folder), **card, "seconds": round(seconds, 3)}, tables, as_json=as_json)
