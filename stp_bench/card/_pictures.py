"""The pictures of a card: how common each class is, and a sample of the videos with their labels."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stp_bench.card._describe import ALL, Card, ClassCount
from stp_bench.errors import WorkError
from stp_bench.files import atomic_path, fingerprint
from stp_bench.index import Dataset
from stp_bench.metrics import UNLABELLED
from stp_bench.pictures import ACTION, FLOOR, PRIVACY
from stp_bench.schema import Labels, Target, Video
from stp_bench.video_io import Image, read_frames, resize_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
FEW_BARS = 24
"""Private classes that are drawn as bars; more are drawn by rank."""
MANY_ACTIONS = 110
BARS_PER_COLUMN = 52
ROWS, FRAMES, TILE = 8, 6, 120
"""Of the contact sheet: videos, frames of each, and their height in pixels."""
UNUSED = "#bdbdbd"
INKS = (FLOOR, ACTION, PRIVACY)  # all, train, test
_WIDEST = 16 / 9
_POOL = 5000
"""Of so many videos, drawn by their names, the sample is chosen: patterns of thousands of tags take memory."""
_STATED = "stated by the release"
_LOOKS: dict[int, dict[str, Any]] = {
    1: {"marker": "o", "facecolors": PRIVACY, "edgecolors": PRIVACY},
    0: {"marker": "o", "facecolors": "none", "edgecolors": PRIVACY},
    UNLABELLED: {"marker": "_", "color": FLOOR},
}


def prevalence_picture(card: Card, *outs: Path) -> None:
    """How common each private class is: among all videos, in training and test, and as the release states it.

    A panel each for labels of frames and of videos. Groups of many tags are drawn by rank, a panel per group.

    Args:
        outs: ``.png``, ``.svg`` or ``.pdf`` files of the one figure, replaced if they exist.

    Raises:
        WorkError: a file cannot be written.
    """
    panels = [(name, of.unit, classes) for of in card.privacy for name, classes in of.by_group().items()]
    ranked = any(len(classes) > FEW_BARS for *_, classes in panels)
    height = 2.9 if ranked else 1.0 + 0.42 * max(len(classes) for *_, classes in panels)
    figure = _figure(max(5.4, 0.8 + 3.5 * len(panels)), height + 0.35)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, unit, classes) in zip(axes, panels, strict=True):
        title = f"{name.replace('_', ' ')}, by {unit}"
        if ranked:
            _ranks(axis, {side: [c.share[side] for c in classes] for side in card.first_sides}, "tag, by rank")
            axis.set_ylabel(f"share of labelled {unit}s", fontsize=8)
            present = sum(c.positives[ALL] > 0 for c in classes)
            title += f": {present:,} of {len(classes):,} occur"
        else:
            _shares(axis, classes, card.first_sides)
            axis.set_xlabel(f"share of labelled {unit}s that show it", fontsize=8)
        if len(panels) > 1:
            axis.set_title(title, fontsize=9, parse_math=False)
    figure.suptitle(f"{card.title}: what is private", fontsize=10)
    _legend(figure, axes)
    _save(figure, *outs)


def classes_picture(card: Card, out: Path) -> None:
    """Videos per action, the most frequent first: by side of the first split, or by rank where actions are many.

    Raises:
        WorkError: the file cannot be written.
    """
    classes = sorted(card.action.classes, key=lambda c: -c.positives[ALL])
    if len(classes) > MANY_ACTIONS:
        figure = _figure(4.6, 3.2)
        axis = figure.subplots()
        _ranks(axis, {side: [c.positives[side] for c in classes] for side in card.first_sides}, "class, by rank")
        axis.set_ylabel("videos", fontsize=8)
        axes = [axis]
    else:
        columns = math.ceil(len(classes) / BARS_PER_COLUMN)
        rows = math.ceil(len(classes) / columns)
        figure = _figure(1.2 + 3.6 * columns, 1.1 + 0.16 * max(rows, 6))
        axes = list(figure.subplots(1, columns, sharex=True, squeeze=False)[0])
        for column, axis in enumerate(axes):
            _stacked(axis, classes[column * rows : (column + 1) * rows], card.first_sides)
            axis.set_ylim(rows - 0.4, -0.6)
            axis.set_xlabel("videos", fontsize=8)
    figure.suptitle(f"{card.title}: videos per {card.action.target} class", fontsize=10)
    _legend(figure, axes)
    _save(figure, out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a contact sheet shows: its videos, and those that could not be read, with the reason."""

    shown: tuple[str, ...]
    unreadable: Mapping[str, str]


def contact_sheet(dataset: Dataset, out: Path, *, seed: int = 0) -> Sheet:
    """A few videos, a few frames of each, and beside them their labels; dots say what each frame shows.

    The sample depends on the videos' names, their labels and the seed only: each row brings the action, then the
    pattern of labels, that was shown least so far. A video that cannot be read makes way for the next one; where none
    can be read, nothing is written.

    Raises:
        WorkError: the file cannot be written.
    """
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    rows: list[tuple[Video, list[int], list[Image]]] = []
    unreadable: dict[str, str] = {}
    for video in sample(dataset.videos, action, privacy, count=3 * ROWS, seed=seed):
        moments = [(2 * i + 1) * video.frames // (2 * FRAMES) for i in range(FRAMES)]
        try:
            found = _tiles(dataset.path(video), moments)
        except WorkError as error:
            unreadable[video.video_id] = error.why
            continue
        if len(found) == len(set(moments)):
            rows.append((video, moments, [found[at] for at in moments]))
        else:
            unreadable[video.video_id] = "it has fewer frames than its index says"
        if len(rows) == ROWS:
            break
    if rows:
        _draw_sheet(dataset, rows, out)
    return Sheet(shown=tuple(video.video_id for video, *_ in rows), unreadable=unreadable)


def sample(videos: Sequence[Video], action: Target, privacy: Target, *, count: int, seed: int) -> list[Video]:
    """``count`` videos (or all, if there are fewer) that differ in action, then in their private labels."""
    left = heapq.nsmallest(_POOL, videos, key=lambda v: fingerprint(f"card:{seed}:{v.video_id}"))
    kinds = {v.video_id: (_shown(v.labels.get(action.name), action), _pattern(v, privacy)) for v in left}
    actions, patterns, chosen = Counter[str](), Counter[bytes](), list[Video]()
    while left and len(chosen) < count:
        best = min(range(len(left)), key=lambda i: _seen(kinds[left[i].video_id], actions, patterns))
        video = left.pop(best)
        chosen.append(video)
        first, pattern = kinds[video.video_id]
        actions[first[0] if first else ""] += 1
        patterns[pattern] += 1
    return chosen


def _seen(kind: tuple[list[str], bytes], actions: Counter[str], patterns: Counter[bytes]) -> tuple[int, int]:
    first, pattern = kind
    return actions[first[0] if first else ""], patterns[pattern]


def _pattern(video: Video, target: Target) -> bytes:
    found = video.labels.get(target.name)
    return b"" if found is None else np.asarray(found, dtype=np.int8).tobytes()


def _shown(found: Labels | None, target: Target) -> list[str]:
    """The classes that labels name."""
    if found is None:
        return []
    if target.kind == "multiclass":
        return [target.classes[found[0]]]
    return [target.classes[k] for k in np.flatnonzero(np.asarray(found) == 1)]


def _tiles(path: Path, moments: Sequence[int]) -> dict[int, Image]:
    """These frames by number, at the size of the sheet; all are decoded, in order."""
    wanted = set(moments)
    return dict(zip(sorted(wanted), map(_tile, read_frames(path, chosen=wanted)), strict=False))


def _tile(frame: Image) -> Image:
    """A frame at the height of the sheet, or lower where it is very wide."""
    height, width = frame.shape[:2]
    scale = min(TILE / height, TILE * _WIDEST / width)
    return resize_frame(frame, (max(1, round(height * scale)), max(1, round(width * scale))))


def _draw_sheet(dataset: Dataset, rows: Sequence[tuple[Video, list[int], list[Image]]], out: Path) -> None:
    tile = max(image.shape[1] for *_, images in rows for image in images)
    gap = 4
    strip = FRAMES * tile + (FRAMES - 1) * gap
    scale = 1.0 / TILE  # inches per pixel: a row is one inch high
    labels, left, top = 2.7, 0.15, 0.45
    height = top + len(rows) * 1.12
    width = left + strip * scale + labels
    figure = _figure(width, height, layout=None)
    figure.suptitle(f"{dataset.benchmark.title}: a sample of its videos", fontsize=10, y=1 - 0.16 / height)
    for number, (video, moments, images) in enumerate(rows):
        bottom = (height - top - (number + 1) * 1.12 + 0.12) / height
        axis = figure.add_axes((left / width, bottom, strip * scale / width, 1.0 / height))
        axis.imshow(_strip(images, tile, gap), interpolation="nearest", aspect="auto")
        axis.axis("off")
        beside = figure.add_axes(((left + strip * scale + 0.1) / width, bottom, (labels - 0.2) / width, 1.0 / height))
        _captions(beside, dataset, video, moments)
    _save(figure, out)


def _strip(images: Sequence[Image], tile: int, gap: int) -> Image:
    canvas = np.full((TILE, len(images) * (tile + gap) - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        y, x = (TILE - height) // 2, number * (tile + gap) + (tile - width) // 2
        canvas[y : y + height, x : x + width] = image
    return canvas


def _captions(axis: Axes, dataset: Dataset, video: Video, moments: Sequence[int]) -> None:
    """The action, the name, and the private labels: a line of dots per class, or the tags of each group."""
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.axis("off")
    shown = ", ".join(_shown(video.labels.get(action.name), action)) or "no action"
    _text(axis, 0, 0.97, _short(shown, 34), weight="bold")
    _text(axis, 0, 0.81, _short(video.video_id.rpartition("/")[2], 46), size=6, color=FLOOR)
    if len(privacy.classes) > 8 or privacy.groups:
        names = _tags(video, privacy)
        pitch = 0.6 / max(len(names), 2)
        for line, (group, tags) in enumerate(names.items()):
            _text(axis, 0, 0.62 - pitch * line, f"{group}: {len(tags)}", size=7, color=PRIVACY)
            _text(axis, 0, 0.62 - pitch * (line + 0.47), _short(", ".join(tags) or "none", 42), size=6.5)
        return
    columns = _by_moment(video, privacy, moments)
    dots: dict[int, list[tuple[float, float]]] = {value: [] for value in _LOOKS}
    for k, name in enumerate(privacy.classes):
        y = 0.63 - 0.56 * k / max(len(privacy.classes) - 1, 1)
        for x, row in enumerate(columns):
            dots[UNLABELLED if row is None else row[k]].append((0.02 + 0.045 * x, y))
        _text(axis, 0.06 + 0.045 * len(columns), y, name.replace("_", " "), size=7, va="center")
    for value, look in _LOOKS.items():
        if dots[value]:
            at, heights = zip(*dots[value], strict=True)
            axis.scatter(at, heights, s=14, linewidths=0.7, **look)


def _by_moment(video: Video, target: Target, moments: Sequence[int]) -> list[Labels | None]:
    """Labels of each frame that is shown where frames are labelled, else those of the video, once."""
    spans = video.spans.get(target.name)
    if not spans:
        return [video.labels.get(target.name)]
    return [next((s.labels for s in spans if s.start <= at <= s.end), None) for at in moments]


def _tags(video: Video, target: Target) -> dict[str, list[str]]:
    names = _shown(video.labels.get(target.name), target)
    if not target.groups:
        return {target.name: names}
    groups: dict[str, list[str]] = {}
    start, here = 0, set(names)
    for group, size in target.groups:
        groups[group] = [name for name in target.classes[start : start + size] if name in here]
        start += size
    return groups


def _shares(axis: Axes, classes: Sequence[ClassCount], sides: Sequence[str]) -> None:
    """Bars per class, one for each side, and the stated share as a mark."""
    bar = 0.26
    for number, (side, ink) in enumerate(zip(sides, INKS, strict=True)):
        at = [k + (number - 1) * bar for k in range(len(classes))]
        axis.barh(at, [c.share[side] or 0.0 for c in classes], height=bar, color=ink, label=side)
    stated = [(c.stated, k) for k, c in enumerate(classes) if c.stated is not None]
    if stated:
        shares, rows = zip(*stated, strict=True)
        axis.scatter(
            shares, rows, marker="D", s=26, facecolor="white", edgecolor="black", zorder=3, label=_STATED, clip_on=False
        )
    axis.set_yticks(range(len(classes)), [c.name.replace("_", " ") for c in classes], fontsize=8, parse_math=False)
    axis.set_ylim(len(classes) - 0.5, -0.5)
    axis.set_xlim(0, 1)
    _plain(axis)


def _stacked(axis: Axes, classes: Sequence[ClassCount], sides: Sequence[str]) -> None:
    """Bars of training, test and unused videos per class."""
    everything, *parts = (np.array([c.positives[side] for c in classes]) for side in sides)
    start = np.zeros(len(classes))
    pieces = [*zip(sides[1:], parts, INKS[1:], strict=True)]
    pieces.append(("unused", everything - sum(parts), UNUSED))
    for label, length, ink in pieces:
        if length.any():
            axis.barh(range(len(classes)), length, left=start, height=0.8, color=ink, label=label)
        start += length
    axis.set_yticks(range(len(classes)), [_short(c.name, 24) for c in classes], parse_math=False)
    _plain(axis)
    axis.tick_params(axis="y", labelsize=7, length=0)


def _ranks(axis: Axes, sides: Mapping[str, Sequence[float | None]], what: str) -> None:
    """Values of each side from the largest down, on logarithmic axes; those of nothing can't be drawn there."""
    for (side, values), ink in zip(sides.items(), INKS, strict=True):
        drawn = sorted((v for v in values if v), reverse=True)
        marker = "o" if len(drawn) <= FEW_BARS else ""
        axis.plot(range(1, len(drawn) + 1), drawn, color=ink, label=side, linewidth=1.4, marker=marker, ms=3.5)
    axis.set_yscale("log")
    axis.set_xscale("log")
    axis.set_xlabel(what, fontsize=8)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.xaxis.set_minor_formatter("")
    _plain(axis)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(axis: Axes, x: float, y: float, text: str, *, size: float = 8, va: str = "top", **more: Any) -> None:
    axis.text(x, y, text, fontsize=size, va=va, parse_math=False, **more)  # a name may hold a dollar sign


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels; matplotlib would put marks before bars."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    labels = sorted(entries, key=lambda label: label == _STATED)
    figure.legend(
        [entries[label] for label in labels], labels, loc="outside lower center", ncols=len(labels), fontsize=8,
        frameon=False, columnspacing=1.5,
    )  # fmt: skip


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    # The object interface: no global state, no window system, safe in any thread.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _plain(axis: Axes) -> None:
    axis.tick_params(which="both", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, *outs: Path) -> None:
    for out in outs:
        with atomic_path(out) as temporary:
            # Without its date a PDF of the same numbers is the same file.
            figure.savefig(temporary, dpi=DPI, metadata={"CreationDate": None} if out.suffix == ".pdf" else None)
