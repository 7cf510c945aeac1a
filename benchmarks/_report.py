"""A benchmark's table: printed, and kept as ``results/<name>.json`` and ``.md`` with where and when it was measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import stp_bench

RESULTS = Path(__file__).parent / "results"


class Report:
    """Rows of measurements under one title.

    ``name`` is the stem of the files. All rows of a report have the same columns, in the order of the first row.
    """

    def __init__(self, name: str, title: str, *, device: str = "cpu") -> None:
        self.name, self.title = name, title
        self.rows: list[dict[str, Any]] = []
        self.where = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": _machine(device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "stp-bench": stp_bench.__version__,
        }

    def row(self, **values: Any) -> None:
        """Add a row and print it."""
        self.rows.append(values)
        print("  ".join(f"{key} {_text(value)}" for key, value in values.items()), flush=True)

    def write(self) -> None:
        """Write both files."""
        RESULTS.mkdir(exist_ok=True)
        document = {"title": self.title, **self.where, "rows": self.rows}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")
        columns = list(self.rows[0])
        where = ", ".join(f"{key} {value}" for key, value in self.where.items())
        lines = [
            f"# {self.title}",
            "",
            where,
            "",
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(_text(row[c]) for c in columns) + " |" for row in self.rows),
        ]
        (RESULTS / f"{self.name}.md").write_text("\n".join(lines) + "\n")


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.0f}"


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return f"{cpu} x {os.cpu_count()}"
