"""Write aggregates of `stp-bench evaluate` as tables into README.md, between its two result marks.

stp-bench evaluate --method raw --method stprivacy --seeds 3 --on synth-hmdb --out runs/hmdb
python tools/results_table.py runs/hmdb/result.json [more files]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COLUMNS = (
    ("Top-1 ↑", "top1", "{:.1f}"),
    ("F1 ↓", "f1", "{:.3f}"),
    ("cMAP ↓", "cmap", "{:.1f}"),
    ("excess cMAP ↓", "excess_cmap", "{:+.1f}"),
    ("worst excess ↓", "worst_excess", "{:+.1f}"),
    ("worst skill ↓", "worst_skill", "{:.3f}"),
    ("Top-1 left ↑", "left_top1", "{:.2f}"),
    ("cMAP left ↓", "left_cmap", "{:.2f}"),
)


def markdown(document: Mapping[str, Any]) -> str:
    """The table of one aggregate document."""
    first = document["aggregates"][0]
    fit = "" if first["fit_on"] == first["on"] else f", learned methods fitted on `{first['fit_on']}`"
    seeds = ", ".join(str(seed) for seed in first["seeds"])
    lines = [
        f"`{first['on']}`, {first['protocol']} actions{fit}, preset {first['preset']}, split {first['split']}, "
        f"seeds {seeds}:",
        "",
        f"| method | {' | '.join(title for title, *_ in COLUMNS)} |",
        f"| --- | {' | '.join('---:' for _ in COLUMNS)} |",
    ]
    for row in document["aggregates"]:
        name = row["method"] + (f" ({row['variant']})" if row["variant"] else "")
        cells = [cell(row["metrics"][key], form) for _, key, form in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(figure: Mapping[str, float | None], form: str) -> str:
    """Mean, and standard deviation where there is one."""
    if figure["mean"] is None:
        return "–"
    mean = form.format(figure["mean"])
    return mean if figure["sd"] is None else f"{mean} ± {form.replace('+', '').format(figure['sd'])}"


def main(paths: list[str]) -> None:
    """Replace what stands between the marks."""
    tables = [markdown(json.loads(Path(path).read_text(encoding="utf-8"))) for path in paths]
    note = (
        "Mean ± standard deviation over seeds. Worst: the stronger of a video and a single-frame attacker. Left: the\n"
        "share of raw's value above its floor that remains."
    )
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n\n".join([BEGIN, *tables, note, END])
    README.write_text(f"{before}{body}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
