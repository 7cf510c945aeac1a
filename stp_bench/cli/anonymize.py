"""``stp-bench anonymize``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import (
    METHOD,
    DataHome,
    Debug,
    Decoder,
    Device,
    Json,
    Keep,
    Settings,
    SkipUnreadable,
    home_of,
    option,
)

EXAMPLE = (
    "First: stp-bench data synth synth-hmdb --preset tiny --out demo\n\n"
    "Example: stp-bench anonymize demo/videos/clap out --method blur-strong"
)


def anonymize(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A video file, or a folder of videos.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A folder; for one video also a .mp4 name.")],
    method: Annotated[str, option(METHOD, "A name from 'stp-bench methods', or package.module:NAME.", metavar="NAME")],
    checkpoint: Annotated[
        Path | None,
        option(METHOD, "The fitted method, which a learned one needs: a file or a run folder.", metavar="PATH"),
    ] = None,
    keep: Keep = None,
    settings: Settings = None,
    decoder: Decoder = "pyav",
    skip_unreadable: SkipUnreadable = False,
    device: Device = "auto",
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Anonymize a video, or a folder of videos, and write playable H.264 files of the same length and size.

    Beside each output stand its raw-beside-anonymized view and, for a method that drops parts of the picture, a view of
    what it kept. Finished outputs are not made twice.
    """
    home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import anonymize as work

        tool = work.prepare(method, checkpoint=checkpoint, keep=keep, settings=settings or (), device=device)
        report = work.anonymize(
            source, output, tool, decoder=decoder, skip_unreadable=skip_unreadable, reporter=reporter
        )

    def tables() -> Iterator[RenderableType]:
        listed = table(f"Anonymized with {report['method']}", "video", "frames", "size", "fps", "kept", "files")
        for video in report["videos"]:
            facts, kept = video["source"], video["kept_tubelets"]
            listed.add_row(
                video["input"], str(facts["frames"]), f"{facts['width']} x {facts['height']}", f"{facts['fps']:.5g}",
                "all" if kept is None else f"{100 * kept:.0f} %", "\n".join(video["output"]),
            )  # fmt: skip
        yield listed
        for left_out in report["unreadable"]:
            yield f"left out: {left_out['source']}, {left_out['reason']}"

    show(report, tables, as_json=as_json)
