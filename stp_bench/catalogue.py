"""Which benchmarks there are, and opening one by name: the embedded ones are made on first use, the real ones prepared.

Real are the published data sets, and those that somebody has prepared of own videos in this data home. A name may say
other split lists than the official ones, as ``vp-hmdb51@title-disjoint``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from filelock import FileLock

from stp_bench import data, labels, matching, prepare, real, splits, synth
from stp_bench.errors import UserError, nearest, unknown_name
from stp_bench.files import read_json
from stp_bench.index import OFFICIAL, Dataset, read_benchmark
from stp_bench.progress import Reporter
from stp_bench.real import RealSet
from stp_bench.schema import Benchmark

TWIN_OF = {"synth-pa": "pa-hmdb51", "synth-faces": "celebv-hq", "synth-scenes": "p-hvu"}
"""Embedded benchmarks that are drawn as the files of a real data set, and read as that is."""


def names(home: Path | None = None) -> tuple[str, ...]:
    """The known benchmarks: the embedded ones, then the real ones, and the own ones in a data home."""
    return (*embedded(), *real.NAMES, *(own(home) if home is not None else ()))


def embedded() -> tuple[str, ...]:
    """The benchmarks that are made, not downloaded."""
    return (*synth.NAMES, *synth.TWINS)


def own(home: Path) -> tuple[str, ...]:
    """The data sets that were prepared of somebody's own videos in this data home."""
    return tuple(name for name in data.prepared_names(home) if real.OWN_NAME.fullmatch(name) and name not in names())


def is_real(name: str, home: Path) -> bool:
    """Whether this is a real data set, whatever lists the name says."""
    return _base(name) in (*real.NAMES, *own(home))


def find(name: str, home: Path) -> RealSet:
    """The real data set of this name: what is known of a published one, what the index of an own one says.

    Raises:
        UserError: unknown name.
        WorkError: the index of an own set is damaged.
    """
    if name not in own(home):
        return real.find(name)
    folder = data.prepared_folder(home, name)
    described, manifest = read_benchmark(folder), read_json(folder / "index.json")
    return real.own(
        name, source=str(manifest.get("videos_root")), stride=described.stride, splits=described.splits,
        actions=len(described.action.classes), attributes=described.privacy.classes, videos=int(manifest["videos"]),
    )  # fmt: skip


def to_prepare(name: str, home: Path) -> RealSet:
    """The published data set of this name.

    Raises:
        UserError: unknown name, or one of somebody's own set, of which nothing is known but what is given again.
    """
    if name in own(home):
        why = "nothing is known of it but what it is made of"
        raise UserError(f"{name} is a data set of your own", why, "add --own, and its --labels")
    if name not in real.NAMES and not nearest(name, real.NAMES):
        why = f"the known ones are {', '.join(real.NAMES)}"
        raise UserError(f"unknown data set {name!r}", why, "choose one of them, or add --own for videos of your own")
    return real.find(name)


def own_set(name: str, *, videos: Path, groups: Path | None = None, stride: int | None = None) -> RealSet:
    """A data set of somebody's own, to be prepared under this name.

    Args:
        videos: their folder.
        groups: table of what ties videos together (`stp_bench.splits.read_groups`); None for ``groups.csv`` beside the
            videos, if there is one.
        stride: sampling rate r; None for 2, the paper's for short clips.

    Raises:
        UserError: the name cannot be used, or the table of groups cannot be read.
    """
    if name in embedded():
        raise UserError(f"{name!r} cannot name your own data set", "that is an embedded one", "choose another name")
    root = videos.expanduser().absolute()
    beside = root / "groups.csv"
    table = groups.expanduser() if groups is not None else beside if beside.is_file() else None
    tied = splits.read_groups(table) if table is not None else {}
    return real.own(name, source=str(root), stride=2 if stride is None else stride, groups=tied)


def benchmark(name: str, preset: str, *, home: Path | None = None) -> Benchmark:
    """A benchmark's description, without its videos.

    Args:
        name: a name of `names`, with or without ``@LISTS``.
        preset: of embedded data.
        home: where real data were prepared: what describes them is their index.

    Raises:
        UserError: unknown name, or real data that are not prepared.
        WorkError: the index of real data is damaged.
    """
    base, _, lists = name.partition("@")
    if base not in names(home):
        raise unknown_name("benchmark", base, names(home))
    if base in embedded():
        return dataclasses.replace(synth.benchmark(base, preset), name=name)
    if home is None:
        raise UserError(f"{base} is not described", "that takes its prepared index", "say in which data home it is")
    return read_benchmark(_prepared(home, base), lists or OFFICIAL)


def count(name: str, preset: str) -> int:
    """How many videos an embedded or a published benchmark has, or should have."""
    return real.find(name).videos if name in real.NAMES else synth.counts(name, preset)


def dataset(name: str, *, preset: str, seed: int, home: Path, reporter: Reporter) -> Dataset:
    """A prepared benchmark, open for reading; an embedded one is made first where it is missing.

    ``preset`` and ``seed`` are those of embedded data; real data have none.

    Raises:
        UserError: unknown name or lists, or real data that are not prepared.
        WorkError: the disk refused, or the index is damaged.
    """
    base, _, lists = name.partition("@")
    if is_real(base, home):
        return prepared(name, preset=preset, seed=seed, home=home)
    described = benchmark(base, preset)
    folder = data.folder(home, base, preset, seed)
    if not (folder / "index.json").exists():
        reporter.say(f"making the embedded benchmark {base} ({preset}, seed {seed}) in {folder}")
        made = make(base, preset=preset, seed=seed, folder=folder, reporter=reporter)
        if not lists:
            return made
    elif (found := read_benchmark(folder)) != described:
        raise UserError(
            f"{folder} holds another {base}",
            f"it is of version {found.version}, this is version {described.version}",
            "remove that folder; it is made anew",
        )
    return prepared(name, preset=preset, seed=seed, home=home)


def prepared(name: str, *, preset: str, seed: int, home: Path) -> Dataset:
    """A benchmark that is there already: nothing is made.

    Raises:
        UserError: unknown name or lists, or data that are not prepared.
        WorkError: the index is damaged.
    """
    base, _, lists = name.partition("@")
    if base not in names(home):
        raise unknown_name("benchmark", base, names(home))
    folder = _prepared(home, base) if is_real(base, home) else data.folder(home, base, preset, seed)
    return data.open_dataset(folder, lists or OFFICIAL)


def steps(name: str, home: Path) -> tuple[str, ...]:
    """What is left to do until a real data set is ready, in order; nothing where it is."""
    kind = find(_base(name), home)
    if (data.prepared_folder(home, kind.name) / "index.json").exists():
        return ()
    labelled = any(labels.stored(home, release).exists() for release in kind.releases)
    return (
        f"get {kind.videos_from}",
        *((f"get {kind.lists_from}",) if kind.lists_from else ()),
        *(() if labelled else (f"stp-bench labels fetch {kind.releases[0]}",)),
        f"stp-bench data prepare {kind.name} --videos DIR",
    )


def neighbors(name: str, *, preset: str, seed: int, home: Path) -> tuple[Dataset, ...]:
    """The other benchmarks in the data home that may hold the same videos: real ones of the same source, embedded ones
    of the same preset and seed.

    Raises:
        WorkError: the index of one of them is damaged.
    """
    base = _base(name)
    if is_real(base, home):
        source, kinds = find(base, home).source, (*real.SETS, *(find(one, home) for one in own(home)))
        folders = [data.prepared_folder(home, k.name) for k in kinds if k.source == source and k.name != base]
    else:
        folders = [data.folder(home, other, preset, seed) for other in embedded() if other != base]
    return tuple(data.open_dataset(folder) for folder in folders if (folder / "index.json").exists())


def make(name: str, *, preset: str, seed: int, folder: Path, reporter: Reporter) -> Dataset:
    """Make an embedded benchmark in ``folder``, or finish or open what is there of it.

    Raises:
        UserError: unknown name, or the folder holds something else.
        WorkError: the disk refused.
    """
    with reporter.stage(f"make {name}", synth.counts(name, preset), "videos") as task:
        if name not in TWIN_OF:
            return synth.make(name, preset=preset, seed=seed, folder=folder, progress=task.update)
        synth.draw(name, preset=preset, seed=seed, folder=folder, progress=task.update)
    if not (folder / "index.json").exists():
        _index_twin(name, preset=preset, seed=seed, folder=folder, reporter=reporter)
    return data.open_dataset(folder)


def _index_twin(name: str, *, preset: str, seed: int, folder: Path, reporter: Reporter) -> None:
    """Read the drawn files as those of the real data set are read, and index them where they lie."""
    described = synth.benchmark(name, preset)
    like = real.find(TWIN_OF[name])
    kind: RealSet = dataclasses.replace(
        like, name=name, title=described.title, splits=described.splits, videos=synth.counts(name, preset), sides={},
        figures={}, subset=False, partial=False,
    )  # fmt: skip
    table = labels.open_labels(folder, expected=like.releases, accept_unknown=True)
    with FileLock(folder / ".lock"):
        prepare.index_videos(
            kind, matching.scan(folder, folder / "videos"), table, None, folder, workspace=folder,
            benchmark=described, reporter=reporter, data={"preset": preset, "seed": seed},
            label_release=f"synthetic-v{described.version}", notes=[],
        )  # fmt: skip


def _base(name: str) -> str:
    return name.partition("@")[0]


def _prepared(home: Path, name: str) -> Path:
    folder = data.prepared_folder(home, name)
    if not (folder / "index.json").exists():
        raise UserError(
            f"{name} is not prepared",
            f"there is no index of it in {folder}",
            f"point to its videos by 'stp-bench data prepare {name} --videos DIR'",
        )
    return folder
