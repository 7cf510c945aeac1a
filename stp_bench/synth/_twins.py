"""The twins of benchmarks with other tasks, and what is known of any embedded data set by its name.

A twin is only drawn here: videos, label files in the form of the real data set, boxes. Whatever prepares the real data
set from its files then prepares the twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stp_bench.errors import unknown_name
from stp_bench.schema import Benchmark, Target
from stp_bench.synth import _faces, _plan, _tagged, _turning
from stp_bench.synth._drawing import Content
from stp_bench.synth._write import Progress, check_seed, write_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """What a twin is made of; each function takes a preset."""

    title: str
    targets: Callable[[str], tuple[Target, ...]]
    count: Callable[[str], int]
    content: Callable[[str, int], Content]
    """Of a preset and a seed."""


_TWINS: Mapping[str, Twin] = {
    _turning.NAME: Twin(
        title="Synthetic PA-HMDB51", targets=_turning.targets, count=_turning.count, content=_turning.content
    ),
    _faces.NAME: Twin(title="Synthetic CelebV-HQ", targets=_faces.targets, count=_faces.count, content=_faces.content),
    _tagged.NAME: Twin(title="Synthetic P-HVU", targets=_tagged.targets, count=_tagged.count, content=_tagged.content),
}
TWINS: tuple[str, ...] = tuple(_TWINS)


def benchmark(name: str, preset: str = "small") -> Benchmark:
    """An embedded data set as the protocol sees it.

    Raises:
        UserError: no such data set or preset.
    """
    _check_request(name, preset)
    if name not in _TWINS:
        return _plan.benchmark(name, preset)
    twin = _TWINS[name]
    return Benchmark(
        name=name,
        title=twin.title,
        version=_plan.VERSION,
        targets=twin.targets(preset),
        stride=2,
        splits=1,
        embedded=True,
    )


def counts(name: str, preset: str) -> int:
    """How many videos a preset has.

    Raises:
        UserError: no such data set or preset.
    """
    _check_request(name, preset)
    return _TWINS[name].count(preset) if name in _TWINS else _plan.counts(name, preset)


def draw(
    name: str,
    *,
    preset: str,
    seed: int,
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the files of a twin into ``folder``: videos, label files, ``boxes.parquet``; no index and no splits.

    What is already there is not made twice. The same arguments give the same bytes, under the conditions of `make`.

    Args:
        name: one of `TWINS`.
        preset: ``tiny``, ``small`` or ``full``.
        seed: data seed, at least 0. Of ``synth-pa`` also that of ``synth-hmdb``, whose videos it has.
        folder: where to; made if missing.
        workers: processes; None for one per available core.
        progress: called as ``progress(done, total)`` with numbers of videos.

    Raises:
        UserError: unknown name or preset, bad seed, or the folder holds something else.
        WorkError: the disk is full or cannot be written, or a worker process was killed.
    """
    if name not in _TWINS:
        raise unknown_name("twin", name, TWINS)
    _check_request(name, preset)
    check_seed(seed)
    content = _TWINS[name].content(preset, seed)
    write_files(name, content, preset=preset, seed=seed, folder=folder, workers=workers, progress=progress)


def _check_request(name: str, preset: str) -> None:
    if name not in (known := (*_plan.NAMES, *TWINS)):
        raise unknown_name("embedded benchmark", name, known)
    if preset not in _plan.PRESETS:
        raise unknown_name("data preset", preset, _plan.PRESETS)
