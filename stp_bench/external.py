"""Methods that run elsewhere: a folder of videos that something else has anonymized, or a program that does it.

``files:DIR`` and ``exec:COMMAND`` stand where a method's name does. Either way the benchmark's videos are replaced, one
for one, by files that were made outside (`transformed`): same ids, labels and splits, the same number of frames, other
pixels. Everything after that is as for any fixed method, over a clip store of these files and a method that changes
nothing more. Clips are cut, cropped and flipped after the anonymization here, not before it as for a method that sees
clips: results say so by their variant ``videos``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stp_bench import matching, methods, programs
from stp_bench.config import PRESETS
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, safe_join
from stp_bench.index import Dataset
from stp_bench.methods import FitTask, MethodSpec, Phase, Stateful
from stp_bench.probing import FileFacts, probe_files
from stp_bench.progress import Reporter
from stp_bench.schema import Video, VitSpec

if TYPE_CHECKING:
    from stp_bench.clips import Anonymized, Clips

FILES, EXEC = "files", "exec"
_GIGA = 10**9
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesConfig:
    """Options of ``files:DIR``."""

    sha256: str = ""
    """Fingerprint of all judged files, filled in when they are read. One that is given must be met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """Options of ``exec:COMMAND``. All but the fingerprint only say how the files come to be."""

    command: str = field(default="", compare=False)
    """As it was given: it is never expanded, so that it holds no variable's value."""
    timeout: float = field(default=600.0, compare=False)
    """Seconds that the program may take per video."""
    memory_gb: float = field(default=16.0, compare=False)
    """GB of address space that it may take; 0 for no limit, which a program that uses CUDA needs."""
    processes: int = field(default=2, compare=False)
    """Videos that are worked on at the same time."""
    sha256: str = ""
    """Fingerprint of all judged files, filled in when they are made. One that is given must be met."""

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that nothing can be run with."""
        programs.split(self.command)
        _check("timeout", self.timeout, 0 < self.timeout < math.inf, "more than zero seconds")
        _check("memory_gb", self.memory_gb, 0 <= self.memory_gb < math.inf, "zero or more GB")
        _check("processes", self.processes, self.processes >= 1, "one or more")


def _check(name: str, value: float, good: bool, wanted: str) -> None:
    if not good:
        raise UserError(f"bad value {value} for {EXEC}.{name}", f"it must be {wanted}", "mend the value")


class Unchanged:
    """The method of videos that are anonymized already."""

    def __init__(self, config: FilesConfig | ExecConfig, vit: VitSpec) -> None:
        pass

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """Nothing to learn."""
        return ()

    def parts(self) -> Mapping[str, Stateful]:
        """Nothing to store."""
        return {}

    def variant(self, has_boxes: bool) -> str:
        """Whole videos were anonymized, before clips were cut."""
        return "videos"

    def anonymize(self, clips: Clips) -> Anonymized:
        """The clips as they are."""
        from stp_bench.clips import Anonymized

        return Anonymized(clips.x_BCTHW)


def is_external(method: str) -> bool:
    """Whether a method is named as ``files:DIR`` or ``exec:COMMAND``."""
    return method.startswith((f"{FILES}:", f"{EXEC}:"))


def find(method: str) -> MethodSpec:
    """The spec of ``files:DIR``, of ``exec:COMMAND``, or of what `stp_bench.methods.find` finds.

    Raises:
        UserError: no such folder, no usable command, or an unknown method.
    """
    if not is_external(method):
        return methods.find(method)
    kind, _, text = method.partition(":")
    if kind == FILES:
        if not _folder(method).is_dir():
            raise UserError(f"there is no folder {text!r}", "it should hold the anonymized videos", "check the path")
        return MethodSpec(
            name=FILES, version=1, title="Videos anonymized elsewhere", build=f"{__name__}:Unchanged",
            config=FilesConfig,
        )  # fmt: skip
    programs.split(text)
    return MethodSpec(
        name=EXEC, version=1, title="A program that anonymizes videos", build=f"{__name__}:Unchanged",
        config=ExecConfig, presets={preset: {"command": text} for preset in PRESETS},
    )  # fmt: skip


def transformed(
    method: str,
    config: Any,
    datasets: Mapping[str, Dataset],
    judged: Mapping[str, Sequence[Video]],
    home: Path,
    reporter: Reporter,
) -> tuple[dict[str, Dataset], Any]:
    """Prepared benchmarks with some of their videos, each replaced by the file that was made of it elsewhere.

    Args:
        method: as the user named it.
        config: its `FilesConfig` or `ExecConfig`.
        datasets: the benchmarks by name.
        judged: those of their videos that will be read.
        home: the data home; what a program writes is kept in ``<home>/external/``.

    Returns:
        The data sets, and the configuration with the fingerprint of all judged files.

    Raises:
        UserError: the folder lacks videos, has one twice, or one of another number of frames; or the configuration
            has another fingerprint.
        WorkError: a file cannot be read, or the program failed.
    """
    read = {n: _transformed(method, config, d, judged[n], home, reporter) for n, d in datasets.items()}
    found = fingerprint({name: dataset.digest(dataset.videos) for name, dataset in read.items()})
    if config.sha256 not in ("", found):
        what = "these are not the videos that --set sha256 names"
        raise UserError(what, f"their fingerprint is {found}", "leave the setting out, or judge the right ones")
    return read, replace(config, sha256=found)


def _transformed(
    method: str, config: Any, dataset: Dataset, videos: Sequence[Video], home: Path, reporter: Reporter
) -> Dataset:
    if method.startswith(f"{FILES}:"):
        root, made = _given(_folder(method), dataset, videos, home, reporter)
    else:
        root, made = _made(config, dataset, videos, home, reporter)
    replaced = tuple(
        replace(v, relpath=relpath, height=facts.height, width=facts.width)
        for v, (relpath, facts) in ((v, made[v.video_id]) for v in videos)
    )
    same = {f.name: getattr(dataset, f.name) for f in fields(dataset)}
    contents = {name: (facts.bytes, facts.sha256) for name, (_, facts) in made.items()}
    changed = {"videos_root": root, "videos": replaced, "facts": contents, "kind": method.partition(":")[0]}
    return _Transformed(**{**same, **changed})


@dataclass(frozen=True, kw_only=True)
class _Transformed(Dataset):
    """A data set whose files were made of its videos elsewhere; its clip store lies apart."""

    kind: str

    @property
    def name(self) -> str:
        return f"{super().name}-{self.kind}"


Files = Mapping[str, tuple[str, FileFacts]]
"""Video id to the path of its file, relative to a folder, and what decoding it showed."""


def _folder(method: str) -> Path:
    return Path(method.partition(":")[2]).expanduser().absolute()


def _given(
    folder: Path, dataset: Dataset, videos: Sequence[Video], home: Path, reporter: Reporter
) -> tuple[Path, Files]:
    """The files in a folder that belong to the videos."""
    name, count = dataset.benchmark.name, len(videos)
    matched = _match(folder, {v.video_id for v in videos}, name)
    paths = {i: safe_join(folder, relpath, follow_links=True) for i, relpath in matched.items()}
    journal = home / "external" / f"files-{fingerprint(str(folder))[:16]}.jsonl"
    with reporter.stage(f"read the anonymized videos of {name}", count, "videos") as task:
        facts, unreadable = probe_files(paths, journal, progress=task.update)
    if unreadable:
        first, why = min(unreadable.items())
        mend = "replace them: every video is judged"
        raise WorkError(f"{len(unreadable)} of {count} videos in {folder} cannot be read", f"{first}: {why}", mend)
    other = [v for v in videos if facts[v.video_id].frames != v.frames]
    if other:
        lengths = [f"{v.video_id} ({facts[v.video_id].frames} instead of {v.frames})" for v in other]
        raise UserError(
            f"{len(other)} of {count} videos in {folder} have another number of frames than those of {name}",
            _some(lengths),
            "write one frame for each frame read, so that labels and boxes of frames stay true",
        )
    return folder, {i: (relpath, facts[i]) for i, relpath in matched.items()}


def _match(folder: Path, ids: set[str], name: str) -> Mapping[str, str]:
    """Video id to relative path: by ``<class>/<stem>``; where no file fits that, by ``<stem>``, if that is unique."""
    tree = matching.scan(folder)
    joined = matching.join(tree, ids, ids, class_folders=True)
    id_of: Callable[[str], str] = str
    stems = {video_id.rpartition("/")[2]: video_id for video_id in ids}
    if not joined.matched and len(stems) == len(ids):
        joined, id_of = matching.join(tree, set(stems), set(stems), class_folders=False), stems.__getitem__
    if joined.twice:
        first, files = min(joined.twice.items())
        why = f"{id_of(first)} could be {' or '.join(files)}"
        raise UserError(f"{folder} has videos of {name} twice", why, "leave one file of each")
    if joined.missing:
        missing = sorted(map(id_of, joined.missing))
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(ids)} videos of {name}", _some(missing),
            "add them as CLASS/NAME.mp4 or NAME.mp4: every training and test video is needed",
        )  # fmt: skip
    return {id_of(key): relpath for key, relpath in joined.matched.items()}


def _made(
    config: ExecConfig, dataset: Dataset, videos: Sequence[Video], home: Path, reporter: Reporter
) -> tuple[Path, Files]:
    """The files that a program makes of the videos, or has made."""
    folder = home / "external" / f"{EXEC}-{programs.identity(config.command)[:32]}"
    limits = programs.Limits(seconds=config.timeout, memory=int(config.memory_gb * _GIGA), processes=config.processes)
    contents = {v.video_id: dataset.facts[v.video_id][1] for v in videos}
    inputs = [
        programs.Input(name=v.video_id, path=dataset.path(v), sha256=contents[v.video_id], frames=v.frames)
        for v in videos
    ]
    reporter.say(f"what {config.command!r} writes is kept in {folder}")
    with reporter.stage(f"run the program on {dataset.benchmark.name}", len(set(contents.values())), "videos") as task:
        made = programs.transform(config.command, inputs, folder, limits, task.update)
    return folder, {i: (made[digest][0].name, made[digest][1]) for i, digest in contents.items()}


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
