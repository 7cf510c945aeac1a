"""The paper's tables, and the figure of its ablations, by one call: ours beside the published figures.

A table is a `Grid` of lines (`grid`, a pure function). `run` does the runs behind them, each an ordinary run of
`stp_bench.evaluate` whose finished stages are found again; `report` makes one document of what came of them, and
`write` puts it into files. On data that are not prepared the embedded twins stand in, and every row says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stp_bench.files import write_json
from stp_bench.progress import Reporter
from stp_bench.reproduce import _charts, _write
from stp_bench.reproduce._grid import FIGURE4, TABLES, Grid, Line, Pair, grid, published
from stp_bench.reproduce._report import label, report
from stp_bench.reproduce._run import Cell, Done, Options, bound, cells, run
from stp_bench.reproduce._trends import trends
from stp_bench.reproduce._write import cells as row_texts
from stp_bench.reproduce._write import header as row_titles
from stp_bench.reproduce._write import parts, title, verdict

__all__ = [
    "FIGURE4", "TABLES", "Cell", "Done", "Grid", "Line", "Options", "Pair", "bound", "cells", "grid", "label", "parts",
    "published", "report", "reproduce", "row_texts", "row_titles", "run", "title", "trends", "verdict", "write",
]  # fmt: skip


def reproduce(grid: Grid, options: Options, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Run what is missing of a table, and write it to a folder in every form; returns its document.

    Stopped at any moment, the same call goes on where it was. Runs that fail are named in the document's ``failed``.

    Raises:
        UserError: the request is wrong.
        WorkError: the folder cannot be written.
    """
    document = report(grid, run(grid, options, out, reporter), reporter)
    write(document, out)
    return document


def write(document: dict[str, Any], out: Path) -> list[Path]:
    """A table's document as JSON, Markdown, LaTeX, CSV, PNG and SVG; returns their paths."""
    paths = _write.write(document, out)
    for suffix in ("png", "svg"):
        paths.append(out / f"{document['table']}.{suffix}")
        _charts.draw(document, paths[-1])
    paths.append(out / f"{document['table']}.json")
    write_json(paths[-1], document)
    return paths
