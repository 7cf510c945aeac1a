"""A folder to look at with nothing but a browser: side-by-side videos, contact sheets, one page, one table.

``DIR/index.html, records.csv, videos/*.mp4, sheets/*.png`` and ``inspect.json``, by which the folder is known as ours
and what is no longer shown is removed.
"""

from __future__ import annotations

import csv
import html
import io
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from stp_bench import video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path, make_folder, read_json, write_bytes, write_json
from stp_bench.progress import Reporter
from stp_bench.viewer import _records
from stp_bench.viewer._gather import Gathered
from stp_bench.viewer._plan import slug
from stp_bench.viewer._records import Guess, Record
from stp_bench.viewer._render import TRIPTYCH, Media
from stp_bench.viewer._runs import Run

MARK = "inspect.json"
NOTICE = "These are pictures of people: personal data. Pass them on only as their benchmark's terms allow."
_SHEET_VIDEOS, _SHEET_FRAMES = 12, 3
_LINE = 22


def write_site(of: Gathered, out: Path, reporter: Reporter) -> list[str]:
    """Write the folder; one of ours that is there is brought up to date.

    Returns:
        The files, relative to ``out``.

    Raises:
        UserError: the folder holds something else.
        WorkError: the disk refused.
    """
    before = _claim(out)
    written: list[str] = []
    with reporter.stage("write the page", len(of.records), "videos") as task:
        for record in of.records:
            source = of.media[record.video_id].files[TRIPTYCH]
            name = f"videos/{source.name}"
            if not (out / name).exists():
                with atomic_path(out / name) as temporary:
                    shutil.copyfile(source, temporary)
            written.append(name)
            task.advance()
    sheets = {}
    counted = {name: count for name, count in of.counts.items() if count}
    with reporter.stage("contact sheets", len(counted), "sheets") as task:
        for name in counted:
            sheets[name] = f"sheets/{slug(name)}.png"
            shown = [record for record in of.records if name in record.verdicts][:_SHEET_VIDEOS]
            write_bytes(out / sheets[name], _sheet(shown, of))
            task.advance()
    written = [*dict.fromkeys(written), *sheets.values(), "records.csv", "index.html"]
    write_bytes(out / "records.csv", _table(of).encode())
    write_bytes(out / "index.html", _page(of, counted, sheets).encode())
    for name in set(before) - set(written):
        (out / name).unlink(missing_ok=True)
    write_json(out / MARK, {"created_by": "stp-bench", "notice": NOTICE, "files": written})
    return written


def _claim(out: Path) -> list[str]:
    """The files that an earlier page of ours left in a folder; refuses a folder with anything of others."""
    foreign = UserError(f"{out} is left alone", "it holds something that is no page of stp-bench", "name a new folder")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        raise foreign
    make_folder(out)
    if not (out / MARK).is_file():
        write_json(out / MARK, {"created_by": "stp-bench", "files": []})
        return []
    document = read_json(out / MARK)
    names = document.get("files") if isinstance(document, dict) and document.get("created_by") == "stp-bench" else None
    if not isinstance(names, list):
        raise foreign
    # Only what has a place on a page of ours is ever removed, whatever the list says.
    return [n for n in names if Path(str(n)).parent.as_posix() in ("videos", "sheets") and ".." not in str(n)]


def _sheet(records: Sequence[Record], of: Gathered) -> bytes:
    """A few moments of a few videos, as PNG."""
    rows = []
    for record in records:
        media = of.media[record.video_id]
        moments = sorted({(2 * i + 1) * media.frames // (2 * _SHEET_FRAMES) for i in range(_SHEET_FRAMES)})
        frames = list(video_io.read_frames(media.files[TRIPTYCH], chosen=set(moments)))
        strip = np.concatenate(frames, axis=1)
        strip = video_io.resize_frame(strip, (strip.shape[0] // 2, strip.shape[1] // 2))
        bar = np.full((_LINE, strip.shape[1], 3), 255, np.uint8)
        text = f"{record.video_id}   {_summary(record, of.runs)}"
        ascii_text = text.encode("ascii", "replace").decode()
        cv2.putText(bar, ascii_text, (4, _LINE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.concatenate([bar, strip]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    done, png = cv2.imencode(".png", cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    if not done:
        raise WorkError("cannot draw a contact sheet", "PNG encoding failed", "check the OpenCV installation")
    return bytes(png.tobytes())


def _summary(record: Record, runs: Sequence[Run]) -> str:
    """``clap -> punch; leaked: face, gender`` per method."""
    parts = []
    for run in _records.judged(runs):
        finding = record.findings[run.label]
        leaked = ", ".join(g.name for g in finding.leaked) or "nothing"
        who = f"{run.label}: " if len(_records.judged(runs)) > 1 else ""
        parts.append(f"{who}{', '.join(record.actions)} -> {finding.actions[0].name}; leaked: {leaked}")
    return " | ".join(parts)


def _table(of: Gathered) -> str:
    """One row per video and run."""
    few = _records.few_attributes(of.runs)
    names = ["video_id", "run", "attacker", "action", "action_pred", "confidence", "action_correct", "identifiable"]
    names += ["leaked", *(f"score_{name}" for name in few), "kept", "pruned", "edge_similarity", "ssim", "verdicts"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for record in of.records:
        for run in of.runs:
            finding, facts = record.findings[run.label], of.media[record.video_id].facts.get(run.label)
            kept = facts.keep_LNN.mean() if facts is not None and facts.keep_LNN is not None else None
            measured = (facts.pruned, facts.edge_similarity, facts.ssim) if facts is not None else (None,) * 3
            row: list[Any] = [
                record.video_id, run.label, run.attacker, "|".join(record.actions),
                "|".join(g.name for g in finding.actions), finding.actions[0].confidence, int(finding.correct),
                "|".join(record.identifiable), "|".join(g.name for g in finding.leaked),
                *(finding.scores[name] for name in few), kept, *measured, "|".join(record.verdicts),
            ]  # fmt: skip
            writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in row])
    return text.getvalue()


def _page(of: Gathered, counted: dict[str, int], sheets: dict[str, str]) -> str:
    template = Template((files("stp_bench.viewer") / "page.html").read_text(encoding="utf-8"))
    first = of.runs[0].result
    options = "".join(
        f'<option value="{html.escape(slug(name))}">{html.escape(name)} ({count})</option>'
        for name, count in counted.items()
    )
    explained = "".join(
        f'<li><a href="{html.escape(sheets[name])}">{html.escape(name)}</a> ({count}): '
        f"{html.escape(_records.explained(name))}</li>"
        for name, count in counted.items()
    )
    methods = ", ".join(f"{run.label} ({run.attacker} attacker)" for run in of.runs)
    return template.substitute(
        title=html.escape(f"{', '.join(r.label for r in _records.judged(of.runs))} on {first.on}"),
        about=html.escape(f"{len(of.records)} of {of.total} test videos of {first.on}: {methods}"),
        notice=html.escape(NOTICE), options=options, verdicts=explained,
        cards="\n".join(_card(record, of.media[record.video_id], of.runs) for record in of.records),
    )  # fmt: skip


def _card(record: Record, media: Media, runs: Sequence[Run]) -> str:
    slugs = " ".join(slug(name) for name in record.verdicts)
    rows = []
    for run in runs:
        finding = record.findings[run.label]
        right = "right" if finding.correct else "wrong"
        leaked = {g.name for g in finding.leaked}
        found = [
            f'<span class="{"leaked" if name in leaked else "hidden"}">{html.escape(name)} {score:.2f}</span>'
            for name, score in finding.scores.items()
        ]
        rows.append(
            f"<tr><th>{html.escape(run.label)}</th>"
            f'<td class="{right}">{_named(finding.actions)}</td><td>{" ".join(found)}</td></tr>'
        )
    name = html.escape(f"videos/{media.files[TRIPTYCH].name}")
    there = html.escape(", ".join(record.identifiable) or "nothing")
    return (
        f'<figure data-verdicts="{html.escape(slugs)}"><video src="{name}" controls loop muted preload="metadata">'
        f"</video><figcaption><b>{html.escape(record.video_id)}</b><br>"
        f"action {html.escape(', '.join(record.actions))}; identifiable: {there}"
        f"<table>{''.join(rows)}</table></figcaption></figure>"
    )


def _named(guesses: Sequence[Guess]) -> str:
    return html.escape(", ".join(f"{g.name} {g.confidence:.2f}" for g in guesses))
