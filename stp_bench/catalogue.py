"""Which benchmarks there are, and opening one by name: the embedded pair is made on first use."""

from __future__ import annotations

from pathlib import Path

from stp_bench import data, synth
from stp_bench.errors import UserError, unknown_name
from stp_bench.index import Dataset
from stp_bench.progress import Reporter
from stp_bench.schema import Benchmark


def names() -> tuple[str, ...]:
    """The known benchmarks."""
    return synth.NAMES


def benchmark(name: str, preset: str) -> Benchmark:
    """A benchmark's description, without its videos.

    Raises:
        UserError: unknown name.
    """
    if name not in names():
        raise unknown_name("benchmark", name, names())
    return synth.benchmark(name, preset)


def count(name: str, preset: str) -> int:
    """How many videos a benchmark has."""
    return synth.counts(name, preset)


def dataset(name: str, *, preset: str, seed: int, home: Path, reporter: Reporter) -> Dataset:
    """A prepared benchmark, open for reading; an embedded one is made first where it is missing.

    Raises:
        UserError: unknown name.
        WorkError: the disk refused.
    """
    described = benchmark(name, preset)
    folder = data.folder(home, name, preset, seed)
    if (folder / "index.json").exists():
        found = data.open_dataset(folder)
        if found.benchmark != described:
            raise UserError(
                f"{folder} holds another {name}",
                f"it is of version {found.benchmark.version}, this is version {described.version}",
                "remove that folder; it is made anew",
            )
        return found
    reporter.say(f"making the embedded benchmark {name} ({preset}, seed {seed}) in {folder}")
    return make(name, preset=preset, seed=seed, folder=folder, reporter=reporter)


def make(name: str, *, preset: str, seed: int, folder: Path, reporter: Reporter) -> Dataset:
    """Make an embedded benchmark in ``folder``, or finish or open what is there of it.

    Raises:
        UserError: unknown name, or the folder holds something else.
        WorkError: the disk refused.
    """
    with reporter.stage(f"make {name}", synth.counts(name, preset), "videos") as task:
        return synth.make(name, preset=preset, seed=seed, folder=folder, progress=task.update)
