"""Preparing a real data set: its videos on the disk, published split lists and labels, joined by name into one index.

What is compared are names, never counts: every video is matched, missing, extra (in no list), unlabelled, unreadable or
there twice, and the report names it. Each matched video is decoded and hashed once (`stp_bench.probing`); the index is
written last, as a whole, so that a preparation that fails or is killed leaves the one before it as it was.

In the data home a set has a folder ``data/<name>/`` with ``prepared/`` (the index), ``report.json`` (what the last
attempt found, with all names) and ``.probed.jsonl`` (the journal of decoded files).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from stp_bench import labels, video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import make_folder, safe_join, write_json
from stp_bench.index import OFFICIAL, Parts, write_index
from stp_bench.labels import LabelTable, some_frame
from stp_bench.probing import FileFacts, probe_files
from stp_bench.progress import Reporter
from stp_bench.real import RealSet
from stp_bench.schema import Benchmark, Labels, Span, Target, Video
from stp_bench.splits import TITLES, SplitLists, list_digest, read_lists

SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".webm"})
_NAMED = 3


class VideoFile(NamedTuple):
    """A video on the disk."""

    relpath: str
    folder: str
    stem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What lies below a folder of videos."""

    root: Path
    videos: tuple[VideoFile, ...]
    archives: tuple[str, ...]
    """Rar archives: an archive of archives that was unpacked in part leaves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Videos on the disk against the names that lists and labels know."""

    matched: Mapping[str, str]
    """Video id to relative path."""
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    """Relative paths of videos that nobody lists."""
    twice: Mapping[str, tuple[str, ...]]
    """Video id to the several files that could be it."""
    unlabelled: tuple[str, ...]
    """Known videos without private labels."""
    strange_labels: tuple[str, ...]
    """Labelled videos that no list knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a preparation found. Sides and counts are of the videos in the index."""

    name: str
    folder: str
    videos_root: str
    known: int
    """Videos that lists (else labels) name."""
    found: int
    """Video files on the disk."""
    matched: int
    indexed: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    twice: Mapping[str, tuple[str, ...]]
    unlabelled: tuple[str, ...]
    strange_labels: tuple[str, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    same_content: tuple[tuple[str, ...], ...] = ()
    """Videos whose files are equal, byte for byte."""
    per_class: Mapping[str, Mapping[str, int]]
    """Class folder to known, matched, missing, extra, unlabelled and unreadable videos; empty without class folders."""
    splits: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """Lists and split to videos in train, in test and unused."""
    label_release: str
    labels_verified: bool
    lists_verified: bool | None
    """None where there are no published lists."""
    notes: tuple[str, ...] = ()
    """A sentence per deviation from the known figures, with its usual cause."""


def prepare(
    kind: RealSet,
    *,
    videos: Path,
    home: Path,
    splits: Path | None = None,
    label_file: Path | None = None,
    accept_unknown: bool = False,
    skip_unreadable: bool = False,
    allow_missing: bool = False,
    reporter: Reporter,
) -> Report:
    """Index a real data set in the data home.

    Args:
        kind: which data set (`stp_bench.real`).
        videos: folder with the videos, at any depth.
        home: the data home.
        splits: folder or archive of the published split lists; None to look beside the videos.
        label_file: label table or official release; None for the release that was imported into the data home.
        accept_unknown: take lists and labels that are not the published ones.
        skip_unreadable: leave unreadable videos out instead of failing.
        allow_missing: index what is there of a set that should be complete.

    Raises:
        UserError: a folder or file is missing, or names do not fit together.
        WorkError: videos cannot be read, or the disk refused.
    """
    root = videos.expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"there is no folder {videos}", "it should hold the videos", f"get {kind.videos_from}")
    table = _labels(kind, label_file, home, accept_unknown)
    lists = _lists(kind, splits, root, accept_unknown)
    workspace = make_folder(home / "data" / kind.name)
    lock = FileLock(workspace / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.say(f"another process is preparing {kind.name}; waiting for it")
        lock.acquire()
    try:
        return index_videos(
            kind, scan(root), table, lists, workspace / "prepared", workspace=workspace,
            skip_unreadable=skip_unreadable, allow_missing=allow_missing, reporter=reporter, videos_root=str(root),
        )  # fmt: skip
    finally:
        lock.release()


def scan(root: Path, start: Path | None = None) -> Tree:
    """All videos below ``start`` (``root`` by default), with paths relative to ``root``, sorted.

    Hidden files and folders are passed over (macOS puts a ``._name`` beside every file of a foreign disk). Links are
    followed: people keep data sets on other disks.

    Raises:
        WorkError: a folder cannot be read.
    """
    videos: list[VideoFile] = []
    archives: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [start or root]
    while waiting:
        folder = waiting.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:  # a link back to a folder above
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    name, dot, suffix = entry.name.rpartition(".")
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif dot and suffix.lower() == "rar":
                        archives.append(entry.name)
                    elif dot and dot + suffix.lower() in SUFFIXES:
                        relpath = _text(PurePosixPath(os.path.relpath(entry.path, root).replace(os.sep, "/")))
                        videos.append(VideoFile(relpath, _text(folder.name), _text(name)))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise WorkError(f"cannot read the folder {folder}", why, "mend its permissions") from error
    return Tree(root=root, videos=tuple(sorted(videos)), archives=tuple(sorted(map(_text, archives))))


def _text(name: object) -> str:
    """A name in valid Unicode: no published video needs the replacement, a stray file may."""
    return os.fsencode(str(name)).decode("utf-8", "replace")


def join(tree: Tree, known: Set[str], labelled: Set[str], *, class_folders: bool) -> Joined:
    """Match files with known names: by folder (whatever its case) and stem, or by stem alone."""
    keys = {_key(video_id, class_folders): video_id for video_id in known}
    files: dict[str, list[str]] = {}
    extra: list[str] = []
    for video in tree.videos:
        key = f"{video.folder.lower()}/{video.stem}" if class_folders else video.stem
        if key in keys:
            files.setdefault(keys[key], []).append(video.relpath)
        else:
            extra.append(video.relpath)
    return Joined(
        matched={i: found[0] for i, found in sorted(files.items())},
        missing=tuple(sorted(known - files.keys())),
        extra=tuple(extra),
        twice={i: tuple(found) for i, found in sorted(files.items()) if len(found) > 1},
        unlabelled=tuple(sorted(known - labelled)),
        strange_labels=tuple(sorted(labelled - known)),
    )


def _key(video_id: str, class_folders: bool) -> str:
    folder, slash, stem = video_id.partition("/")
    return f"{folder.lower()}/{stem}" if class_folders and slash else video_id


def index_videos(
    kind: RealSet,
    tree: Tree,
    table: LabelTable,
    lists: SplitLists | None,
    target: Path,
    *,
    workspace: Path,
    benchmark: Benchmark | None = None,
    skip_unreadable: bool = False,
    allow_missing: bool = False,
    reporter: Reporter,
    **manifest: Any,
) -> Report:
    """Join, decode and index; the steps of `prepare` after everything was found and read.

    Args:
        target: the folder of the index.
        workspace: the folder of report and journal.
        benchmark: what the set is described as; None to describe it by its labels and lists.
        manifest: what else the manifest shall say.

    Raises:
        UserError: videos are missing, there twice or of another data set, or the labels are.
        WorkError: videos cannot be read, or the disk refused.
    """
    table = _spelled_as(table, lists)
    labelled = {i for i, row in table.rows.items() if any(found is not None for found in row.values())}
    known = set(lists.ids) if lists is not None else set(table.rows)
    joined = join(tree, known, labelled, class_folders=kind.class_folders)
    report = _report(kind, tree, table, lists, joined, known, target)
    write_json(workspace / "report.json", dataclasses.asdict(report))
    where = f"all names are in {workspace / 'report.json'}"
    _refuse(kind, tree, joined, report, where, allow_missing=allow_missing or kind.partial)
    unlabelled = set(joined.unlabelled)
    paths = {
        i: safe_join(tree.root, rel, follow_links=True) for i, rel in joined.matched.items() if i not in unlabelled
    }
    with reporter.stage(f"decode {kind.name}", len(paths), "videos") as task:
        facts, unreadable = probe_files(paths, workspace / ".probed.jsonl", progress=task.update)
    report = dataclasses.replace(
        report,
        unreadable=dict(sorted(unreadable.items())),
        per_class=_per_class(kind, tree, joined, known, unreadable),
        same_content=_same_content(facts),
    )
    if unreadable and not skip_unreadable:
        write_json(workspace / "report.json", dataclasses.asdict(report))
        first, why = min(unreadable.items())
        what = f"{len(unreadable)} of {len(paths)} videos of {kind.title} cannot be read"
        mend = "replace them, or leave them out with --skip-unreadable"
        raise WorkError(what, f"such as {joined.matched[first]} ({why}); {where}", mend)
    if not facts:
        raise WorkError(f"no video of {kind.title} can be read", f"all {len(paths)} are damaged", "replace them")
    described, rows = _videos(kind, table, lists, benchmark, joined.matched, facts, known)
    groups = {i: table.groups.get(i) or kind.group(i) for i in sorted(known)}
    official: Parts = lists.parts if lists is not None else {1: table.parts}
    every = kind.make_splits(kind, groups, official)
    report = dataclasses.replace(
        report, indexed=len(rows), splits={name: _sides(parts, facts) for name, parts in every.items()}
    )
    empty = [f"{name} split {n}" for name, splits in report.splits.items() for n, c in splits.items()
             if not (c["train"] and c["test"])]  # fmt: skip
    if empty:
        report = dataclasses.replace(report, notes=(*report.notes, f"lists with an empty side: {_some(empty)}"))
    write_index(
        target, described, rows, every[OFFICIAL], {i: (fact.bytes, fact.sha256) for i, fact in facts.items()},
        {name: parts for name, parts in every.items() if name != OFFICIAL},
        **{**_manifest(table, lists, every, report), **manifest},
    )  # fmt: skip
    write_json(workspace / "report.json", dataclasses.asdict(report))
    return report


def _spelled_as(table: LabelTable, lists: SplitLists | None) -> LabelTable:
    """The labels under the names of the lists: classes are compared whatever their case, like folders."""
    if lists is None:
        return table
    official = {_key(i, True): i for i in lists.ids}
    name = {i: official.get(_key(i, True), i) for i in table.rows}
    if all(i == n for i, n in name.items()) or len(set(name.values())) < len(name):
        return table
    return dataclasses.replace(
        table,
        rows={n: table.rows[i] for n, i in sorted((n, i) for i, n in name.items())},
        spans={name[i]: spans for i, spans in table.spans.items()},
        groups={name[i]: group for i, group in table.groups.items()},
        parts={name[i]: part for i, part in table.parts.items()},
    )


def _labels(kind: RealSet, path: Path | None, home: Path, accept_unknown: bool) -> LabelTable:
    stored = (labels.stored(home, release) for release in kind.releases)
    path = path or next((table for table in stored if table.exists()), None)
    if path is None:
        raise UserError(
            f"there are no labels of {kind.title}",
            f"none were imported into {home}",
            f"get them by 'stp-bench labels fetch {kind.releases[0]}', or name a file with --labels",
        )
    table = labels.open_labels(path, expected=kind.releases, accept_unknown=accept_unknown)
    if table.release in kind.releases and not (table.manifest.get("verified") or accept_unknown):
        why = "it was changed by hand" if table.manifest.get("edited") else "it was made of another file"
        raise UserError(
            f"{path} does not hold the labels of {table.release} as published",
            why if "verified" in table.manifest else "nothing beside it says where its labels come from",
            f"get them by 'stp-bench labels fetch {table.release}', or take these with --accept-unknown",
        )
    return table


def _lists(kind: RealSet, path: Path | None, root: Path, accept_unknown: bool) -> SplitLists | None:
    if kind.lists is None:
        if path is not None:
            raise UserError(f"{kind.title} has no split lists to read", "its lists are made by rule", "drop --splits")
        return None
    if path is not None:
        return read_lists(path.expanduser(), family=kind.lists, accept_unknown=accept_unknown)
    for folder in (root, root.parent):
        for name in kind.list_names:
            for candidate in (folder / name, *(folder / f"{name}{end}" for end in (".zip", ".tar.gz", ".tar", ".rar"))):
                if candidate.exists():
                    return read_lists(candidate, family=kind.lists, accept_unknown=accept_unknown)
    raise UserError(
        f"there are no split lists of {TITLES[kind.lists]} in {root} or beside it",
        f"none of {', '.join(kind.list_names)} is there, packed or unpacked",
        f"get {kind.lists_from}",
    )


def _report(
    kind: RealSet,
    tree: Tree,
    table: LabelTable,
    lists: SplitLists | None,
    joined: Joined,
    known: set[str],
    target: Path,
) -> Report:
    return Report(
        name=kind.name,
        folder=str(target),
        videos_root=str(tree.root),
        known=len(known),
        found=len(tree.videos),
        matched=len(joined.matched),
        indexed=0,
        missing=joined.missing,
        extra=joined.extra,
        twice=joined.twice,
        unlabelled=joined.unlabelled,
        strange_labels=joined.strange_labels,
        per_class=_per_class(kind, tree, joined, known, ()),
        label_release=label_release(table),
        labels_verified=bool(table.manifest.get("verified")),
        lists_verified=lists.verified if lists is not None else None,
        notes=tuple(_notes(kind, tree, table, lists, joined, known)),
    )


def label_release(table: LabelTable) -> str:
    """The release's name, and the rule that made it yes and no where there was a choice: ``pa-hmdb51 (nonzero)``."""
    rule = table.manifest.get("rule")
    return f"{table.release} ({rule})" if rule else table.release


def _notes(
    kind: RealSet, tree: Tree, table: LabelTable, lists: SplitLists | None, joined: Joined, known: set[str]
) -> list[str]:
    """Deviations from the known figures, explained."""
    notes = []
    left_out = table.manifest.get("left_out") or {}
    counts = {} if kind.sides else {"lists hold" if lists else "labels hold": len(known) + sum(left_out.values())}
    if not (kind.subset or kind.partial):
        counts["folder holds"] = len(tree.videos)
    for what, count in counts.items():
        if count != kind.videos:
            notes.append(f"the {what} {count:,} videos, {kind.title} has {kind.videos:,}" + _known_figure(kind, count))
    if lists is not None:
        notes += [f"split lists: {difference}" for difference in lists.differences]
    for side, expected in kind.sides.items():
        if (count := sum(part == side for part in table.parts.values())) != expected:
            notes.append(f"the labels have {count:,} {side} videos, {kind.title} has {expected:,}")
    if table.release not in kind.releases:
        notes.append(f"the labels are those of {table.release}, which is no published release")
    elif not table.manifest.get("verified"):
        notes.append(f"the labels are not {table.release} as published")
    if left_out:
        notes.append(f"labels left out: {', '.join(f'{why} {count:,}' for why, count in left_out.items())}")
    if joined.strange_labels:
        count = len(joined.strange_labels)
        notes.append(f"{count:,} labelled videos are in no list ({_some(joined.strange_labels)})")
    if joined.unlabelled:
        notes.append(f"{len(joined.unlabelled):,} listed videos have no labels ({_some(joined.unlabelled)}), left out")
    if joined.extra:
        others = f"other videos{f' of {kind.source}' if kind.subset else ''}"
        notes.append(f"{len(joined.extra):,} {others} are not in {kind.title} and stay out ({_some(joined.extra)})")
    if joined.missing:
        coverage = 100 * len(joined.matched) / len(known)
        notes.append(f"{len(joined.missing):,} of {len(known):,} videos are missing: coverage {coverage:.1f} %")
    return notes


def _known_figure(kind: RealSet, count: int) -> str:
    return f" ({kind.figures[count]})" if count in kind.figures else ""


def _per_class(
    kind: RealSet, tree: Tree, joined: Joined, known: set[str], unreadable: Iterable[str]
) -> dict[str, dict[str, int]]:
    if not kind.class_folders:
        return {}
    classes = {_class(i).lower(): _class(i) for i in known}
    extra = set(joined.extra)
    folders = (video.folder.lower() for video in tree.videos if video.relpath in extra)
    counts = {
        "known": Counter(map(_class, known)),
        "matched": Counter(map(_class, joined.matched)),
        "missing": Counter(map(_class, joined.missing)),
        "extra": Counter(classes[folder] for folder in folders if folder in classes),
        "unlabelled": Counter(map(_class, joined.unlabelled)),
        "unreadable": Counter(map(_class, unreadable)),
    }
    return {c: {what: count[c] for what, count in counts.items()} for c in sorted(classes.values())}


def _refuse(kind: RealSet, tree: Tree, joined: Joined, report: Report, where: str, *, allow_missing: bool) -> None:
    """Stop before anything is decoded if the names do not fit together."""
    root = tree.root
    packed = f"{len(tree.archives)} rar archives lie there ({_some(tree.archives)})"
    if not tree.videos:
        why = packed if tree.archives else f"nothing there ends in {', '.join(sorted(SUFFIXES))}"
        mend = "unpack each of them" if tree.archives else f"get {kind.videos_from}"
        raise UserError(f"there are no videos in {root}", why, mend)
    if not joined.matched:
        layout = "<class>/<name>" if kind.class_folders else "<name>"
        why = f"none of its {len(tree.videos):,} files is named as one, {layout}: {_some(joined.extra)}"
        raise UserError(f"there are no videos of {kind.title} in {root}", why, f"name the folder of {kind.title}")
    if joined.twice:
        video_id, files = next(iter(joined.twice.items()))
        why = f"{video_id} could be {' or '.join(files[:2])}; {where}"
        mend = "name a folder with one copy only"
        raise UserError(f"{len(joined.twice):,} of the videos of {kind.title} are there twice", why, mend)
    if len(joined.unlabelled) == report.known:
        why = f"none of its videos is among the {report.known:,} of {kind.title}"
        if joined.strange_labels:
            why += f", but {_some(joined.strange_labels)}"
        raise UserError(f"the labels of {report.label_release} are of another data set", why, "choose other --labels")
    if joined.unlabelled and not allow_missing:
        what = f"{len(joined.unlabelled):,} of {report.known:,} videos of {kind.title} have no labels"
        mend = "complete the labels, or leave these videos out with --allow-missing"
        raise UserError(what, f"such as {_some(joined.unlabelled)}; {where}", mend)
    if joined.missing and not allow_missing:
        count = Counter(map(_class, joined.missing)) if kind.class_folders else Counter[str]()
        gone = [c for c, n in count.items() if n == report.per_class[c]["known"]]
        what = f"{len(joined.missing):,} of {report.known:,} videos of {kind.title} are missing in {root}"
        why = f"such as {_some(joined.missing)}"
        mend = "complete the folder, or index what is there with --allow-missing"
        if gone:
            why = f"whole classes are: {_some(gone)}"
        if tree.archives:
            why += f", and {packed}: the archive was unpacked in part"
            mend = "unpack each of them, or index what is there with --allow-missing"
        raise UserError(what, f"{why}{_known_figure(kind, len(tree.videos))}; {where}", mend)


def _videos(
    kind: RealSet,
    table: LabelTable,
    lists: SplitLists | None,
    benchmark: Benchmark | None,
    paths: Mapping[str, str],
    facts: Mapping[str, FileFacts],
    known: set[str],
) -> tuple[Benchmark, list[Video]]:
    """The benchmark as its labels and lists describe it, and the rows of its index."""
    targets = table.targets
    if all(target.private for target in targets):
        found = lists.classes if lists is not None else tuple(sorted({_class(i) for i in known}))
        classes = benchmark.action.classes if benchmark is not None else found
        targets = (Target(name=kind.action, kind="multiclass", classes=classes), *targets)
    described = benchmark or Benchmark(
        name=kind.name, title=kind.title, version=1, targets=targets, stride=kind.stride, splits=kind.splits
    )
    if described.targets != targets:
        why = f"they label {', '.join(t.name for t in targets)} in other classes"
        raise UserError(f"the labels do not fit {described.name}", why, "make the data again")
    number = {c: i for i, c in enumerate(described.action.classes)} if kind.class_folders else {}
    rows = []
    for video_id, fact in sorted(facts.items()):
        of: dict[str, Labels | None] = {t.name: None for t in targets}
        of |= table.rows.get(video_id, {})
        if kind.class_folders:
            of[kind.action] = (number[_class(video_id)],)
        spans = {}
        if table.spans:
            private = described.privacy.name
            spans = {private: _within(table.spans.get(video_id, ()), fact.frames)}
            of[private] = some_frame(spans[private], len(described.privacy.classes))
        rows.append(
            Video(
                video_id=video_id, relpath=paths[video_id], labels=of, spans=spans,
                group=table.groups.get(video_id) or kind.group(video_id),
                frames=fact.frames, height=fact.height, width=fact.width, fps=fact.fps,
            )
        )  # fmt: skip
    return described, rows


def _within(spans: Sequence[Span], frames: int) -> tuple[Span, ...]:
    """Frame ranges cut to the decoded length: some published ones go beyond it."""
    return tuple(dataclasses.replace(s, end=min(s.end, frames - 1)) for s in spans if s.start < frames)


def _same_content(facts: Mapping[str, FileFacts]) -> tuple[tuple[str, ...], ...]:
    by_digest: dict[str, list[str]] = {}
    for video_id, fact in sorted(facts.items()):
        by_digest.setdefault(fact.sha256, []).append(video_id)
    return tuple(tuple(ids) for ids in by_digest.values() if len(ids) > 1)


def _sides(parts: Parts, indexed: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    counts = {split: Counter(part for i, part in side.items() if i in indexed) for split, side in parts.items()}
    return {
        str(split): {"train": c["train"], "test": c["test"], "unused": len(indexed) - c.total()}
        for split, c in counts.items()
    }


def _manifest(
    table: LabelTable, lists: SplitLists | None, every: Mapping[str, Parts], report: Report
) -> dict[str, Any]:
    verified = report.labels_verified
    return {
        "label_release": report.label_release,
        "labels_sha256": _labels_digest(table),
        "labels_verified": verified,
        "labels": {"release": table.release, **table.manifest},
        # What the release states is a fact about the published labels only.
        "prevalence": table.manifest.get("prevalence") if verified else None,
        "split_lists": {
            name: {str(split): list_digest(side) for split, side in parts.items()} for name, parts in every.items()
        },
        "list_files": None
        if lists is None
        else {"family": lists.family, "verified": lists.verified, "sha256": dict(lists.digests)},
        "counts": {
            "known": report.known, "found": report.found, "matched": report.matched, "indexed": report.indexed,
            "missing": len(report.missing), "extra": len(report.extra), "unlabelled": len(report.unlabelled),
            "unreadable": len(report.unreadable), "same_content": len(report.same_content),
        },
        "notes": list(report.notes),
        "decoder": video_io.decoder_version("pyav"),
    }  # fmt: skip


def _labels_digest(table: LabelTable) -> str:
    """SHA-256 of all labels, frame ranges included, whatever file they came in."""
    digest = hashlib.sha256()
    for video_id, row in table.rows.items():
        for name, found in row.items():
            digest.update(f"{video_id}\0{name}\0".encode())
            digest.update(b"-" if found is None else array("b", found).tobytes())
        for span in table.spans.get(video_id, ()):
            digest.update(f"\0{span.start}-{span.end}:{','.join(map(str, span.labels))}".encode())
    return digest.hexdigest()


def _class(video_id: str) -> str:
    return video_id.partition("/")[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
