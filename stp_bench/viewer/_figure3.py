"""Figure 3 of the paper, and its claim as numbers: raw, sparsified and anonymized frames, and how alike they are.

The figure shows that no silhouettes are left. Edge similarity and structural similarity to the raw clips say how true
that is, as means over test videos. A second picture shows which tubelets went at each step of the pruning.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stp_bench.errors import UserError, nearest
from stp_bench.files import atomic_path, write_json
from stp_bench.progress import Reporter
from stp_bench.viewer import _clips, _measures, _records
from stp_bench.viewer._clips import Frames, Panels
from stp_bench.viewer._render import RAW, SPARSIFIED, Facts, facts_of, panel_names
from stp_bench.viewer._runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: across both columns of a conference paper
DPI = 300
FRAMES = 8
_GONE = np.array([213, 94, 0], np.float64)  # tubelets that went at this step
_LABEL, _NOTE, _TALLEST = 0.85, 5.2, 0.9  # inches: names of rows, a note below, a row


def figure3(
    runs: Sequence[Run],
    video_ids: Sequence[str],
    out: Path,
    home: Path,
    reporter: Reporter,
    *,
    limit: int,
    device: str = "auto",
) -> dict[str, Any]:
    """Draw the figure as PDF and PNG, and write its numbers as JSON.

    Args:
        video_ids: test videos, from top to bottom.
        out: ``F.pdf``; beside it are written ``F.png``, ``F.json`` and, of methods that drop tubelets in steps,
            ``F-pruning.pdf`` and ``.png``.
        limit: over how many test videos the numbers are means; which ones depends on their names alone.

    Returns:
        The numbers: ``{"videos", "frames", "methods": {label: {"edge_similarity", "ssim", "sparsified": {...} or null,
        "kept"}}, "files"}``.

    Raises:
        UserError: a video that the runs did not judge, or a file name that is no picture's.
        WorkError: a method failed, or the disk refused.
    """
    if out.suffix not in (".pdf", ".png"):
        raise UserError(f"cannot draw {out}", "the figure is a PDF and a PNG", f"name it {out.with_suffix('.pdf')}")
    known = [record.video_id for record in _records.records(runs)]
    _check_known(video_ids, known)
    chosen = list(dict.fromkeys(video_ids))
    # Not failures first, as elsewhere: that would be a biased mean.
    others = sorted((i for i in known if i not in chosen), key=lambda i: hashlib.sha256(i.encode()).digest())
    ids = [*chosen, *others][: max(limit, len(chosen))]
    source = _clips.open_source(_records.judged(runs), ids, home, device, reporter)
    videos = {video.video_id: video for video in source.dataset.videos}
    facts: dict[str, list[Facts]] = {label: [] for label in source.frozen}
    panels: dict[str, Panels] = {}
    with reporter.stage("measure", len(ids), "videos") as task:
        for found in source.panels([videos[i] for i in ids]):
            for label, shown in found.shown.items():
                facts[label].append(facts_of(found.raw, shown))
            if found.video.video_id in chosen:
                panels[found.video.video_id] = found
            task.advance()
    numbers = {label: _means(of) for label, of in facts.items()}
    rows = [panels[i] for i in chosen]
    files = _write(_comparison(rows, numbers, len(ids)), out.with_suffix(""))
    if (steps := _pruning(rows)) is not None:
        files += _write(steps, out.with_name(f"{out.stem}-pruning"))
    document = {"videos": len(ids), "shown": chosen, "benchmark": runs[0].result.on, "methods": numbers}
    write_json(out.with_suffix(".json"), document)
    return {**document, "files": [*files, str(out.with_suffix(".json"))]}


def _check_known(video_ids: Sequence[str], known: Sequence[str]) -> None:
    for video_id in video_ids:
        if video_id not in known:
            near = nearest(video_id, known) or sorted(known)[:3]
            raise UserError(
                f"unknown test video {video_id!r}", f"it is not among the {len(known)} that were judged",
                f"name one of them, such as {' or '.join(near)}",
            )  # fmt: skip


def _means(of: Sequence[Facts]) -> dict[str, Any]:
    """Means over videos."""

    def mean(values: Sequence[float | None]) -> float | None:
        found = [v for v in values if v is not None]
        return math.fsum(found) / len(found) if found else None

    kept = [float(f.keep_LNN.mean()) if f.keep_LNN is not None else None for f in of]
    black = {
        "edge_similarity": mean([f.sparsified_edge_similarity for f in of]),
        "ssim": mean([f.sparsified_ssim for f in of]),
    }
    return {
        "edge_similarity": mean([f.edge_similarity for f in of]),
        "ssim": mean([f.ssim for f in of]),
        "sparsified": black if mean(kept) is not None else None,
        "kept": mean(kept),
    }


def _comparison(rows: Sequence[Panels], numbers: Mapping[str, Mapping[str, Any]], count: int) -> Figure:
    """Blocks of rows, one block per video."""
    several = len(numbers) > 1
    blocks = []
    for panels in rows:
        block = [(RAW, _strip(panels.raw))]
        for kind, label in panel_names(panels.shown):
            shown = panels.shown[label]
            frames = shown.sparsified if kind == SPARSIFIED else shown.anonymized
            assert frames is not None  # `panel_names` names what is there
            block.append((f"{kind}\n{label}" if several else kind, _strip(frames)))
        blocks.append(block)
    notes = [_note(label, of) for label, of in numbers.items()]
    notes.append(f"Similarity to raw, mean over {count} test videos; 1: the same, 0: unrelated.")
    return _stack(blocks, notes)


def _note(label: str, of: Mapping[str, Any]) -> str:
    """``stprivacy: edge similarity 0.12, SSIM 0.05 (only sparsified 0.40, 0.35; keeps 33 % of the tubelets)``."""
    text = f"{label}: edge similarity {of['edge_similarity']:.2f}, SSIM {of['ssim']:.2f}"
    if of["sparsified"] is None:
        return text
    black = of["sparsified"]
    pruned = f"only sparsified {black['edge_similarity']:.2f}, {black['ssim']:.2f}"
    return f"{text} ({pruned}; keeps {of['kept']:.0%} of the tubelets)".replace("%", " %")


def _pruning(rows: Sequence[Panels]) -> Figure | None:
    """Which tubelets went at each step: colored where they go, then black. None if no method tells its steps."""
    blocks = []
    for panels in rows:
        for label, shown in panels.shown.items():
            steps = shown.keep_MLNN
            if steps is None:
                continue
            block = [(RAW, _strip(panels.raw))]
            before = np.ones_like(steps[0])
            for number, keep in enumerate(steps, start=1):
                name = f"after block {number}" + (f"\n{label}" if len(panels.shown) > 1 else "")
                block.append((name, _strip(_tinted(panels.raw, before, keep))))
                before = keep
            blocks.append(block)
    notes = ["Orange: tubelets that go at this block; black: gone before."]
    return _stack(blocks, notes) if blocks else None


def _tinted(raw_THWC: Frames, before_LNN: NDArray[np.bool_], keep_LNN: NDArray[np.bool_]) -> Frames:
    frames = raw_THWC.astype(np.float64)
    for number, frame in enumerate(frames):
        slot = number * len(keep_LNN) // len(frames)
        kept, had = (_measures.enlarge(grid[slot], *frame.shape[:2]) for grid in (keep_LNN, before_LNN))
        frame[had & ~kept] = 0.35 * frame[had & ~kept] + 0.65 * _GONE
        frame[~had] = 0
    return frames.round().astype(np.uint8)


def _strip(frames_THWC: Frames) -> Frames:
    """Up to `FRAMES` moments side by side, a thin white gap between them."""
    count = min(FRAMES, len(frames_THWC))
    moments = [(2 * i + 1) * len(frames_THWC) // (2 * count) for i in range(count)]
    gap = np.full((frames_THWC.shape[1], max(1, frames_THWC.shape[2] // 32), 3), 255, np.uint8)
    pieces = [piece for moment in moments for piece in (frames_THWC[moment], gap)]
    return np.concatenate(pieces[:-1], axis=1)


def _stack(blocks: Sequence[Sequence[tuple[str, Frames]]], notes: Sequence[str]) -> Figure:
    """Rows of frames under one another, named on the left, a gap between blocks, notes below."""
    from matplotlib.figure import Figure

    strip = blocks[0][0][1]
    height = min(_TALLEST, (WIDTH - _LABEL) * strip.shape[0] / strip.shape[1])
    width = _LABEL + height * strip.shape[1] / strip.shape[0]
    gap, line = 0.1, 0.15
    total = sum(len(block) for block in blocks) * (height + 0.03) + gap * len(blocks) + line * len(notes) + 0.05
    figure = Figure(figsize=(max(width, _LABEL + _NOTE), total), dpi=DPI)
    wide, top = figure.get_figwidth(), total
    for block in blocks:
        for name, frames in block:
            top -= height + 0.03
            axis = figure.add_axes((_LABEL / wide, top / total, (width - _LABEL) / wide, height / total))
            axis.imshow(frames, interpolation="nearest", aspect="auto")
            axis.set_axis_off()
            figure.text((_LABEL - 0.06) / wide, (top + height / 2) / total, name, fontsize=7, ha="right", va="center")
        top -= gap
    for note in notes:
        top -= line
        figure.text(_LABEL / wide, top / total, note, fontsize=7, va="bottom", parse_math=False)
    return figure


def _write(figure: Figure, stem: Path) -> list[str]:
    """The figure as PDF and PNG; without a date, so that equal figures are equal files."""
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {})):
        path = stem.with_name(stem.name + suffix)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=metadata)
        written.append(str(path))
    return written
