"""Preparing a real data set: its videos on the disk, published split lists and labels, joined by name into one index.

A data team's own videos are prepared alike, with its own labels and lists (`stp_bench.real.own`). What is compared are
names, never counts: every video is matched, missing, extra (in no list), unlabelled, unreadable or
there twice, and the report names it. Each matched video is decoded and hashed once (`stp_bench.probing`); the index is
written last, as a whole, so that a preparation that fails or is killed leaves the one before it as it was.

In the data home a set has a folder ``data/<name>/`` with ``prepared/`` (the index), ``report.json`` (what the last
attempt found, with all names) and ``.probed.jsonl`` (the journal of decoded files).
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stp_bench import labels, video_io
from stp_bench.errors import UserError, WorkError
from stp_bench.files import make_folder, safe_join, write_json
from stp_bench.index import OFFICIAL, Parts, same_content, write_index
from stp_bench.labels import LabelTable, some_frame
from stp_bench.matching import CONTAINERS, SUFFIXES, Joined, Tree, class_of, join, key_of, scan, some
from stp_bench.metrics import UNLABELLED
from stp_bench.probing import FileFacts, probe_files
from stp_bench.progress import Reporter
from stp_bench.real import RealSet
from stp_bench.schema import Benchmark, Labels, Span, Target, Video
from stp_bench.splits import TITLES, SplitLists, list_digest, read_lists


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
    labels_verified: bool | None
    """None where no labels were published: those are somebody's own."""
    lists_verified: bool | None
    """None where there are no published lists."""
    notes: tuple[str, ...] = ()
    """A sentence per deviation from the known figures, with its usual cause, or per limit of somebody's own set."""


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
        splits: folder or archive of the published split lists; None to look beside the videos. Of somebody's own set
            lists of either kind; None to make some by rule.
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
            kind, scan(root, suffixes=_suffixes(kind)), table, lists, workspace / "prepared", workspace=workspace,
            skip_unreadable=skip_unreadable, allow_missing=allow_missing, reporter=reporter, videos_root=str(root),
        )  # fmt: skip
    finally:
        lock.release()


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
    table, known = _named(kind, tree, table, lists)
    labelled = {i for i, row in table.rows.items() if any(found is not None for found in row.values())}
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
    contents = {i: (fact.bytes, fact.sha256) for i, fact in facts.items()}
    report = dataclasses.replace(
        report,
        unreadable=dict(sorted(unreadable.items())),
        per_class=_per_class(kind, tree, joined, known, unreadable),
        same_content=same_content(contents),
    )
    if unreadable and not skip_unreadable:
        write_json(workspace / "report.json", dataclasses.asdict(report))
        first, why = min(unreadable.items())
        what = f"{len(unreadable)} of {len(paths)} videos of {kind.title} cannot be read"
        mend = "replace them, or leave them out with --skip-unreadable"
        raise WorkError(what, f"such as {joined.matched[first]} ({why}); {where}", mend)
    if not facts:
        raise WorkError(f"no video of {kind.title} can be read", f"all {len(paths)} are damaged", "replace them")
    groups = {i: table.groups.get(i) or kind.group(i) for i in sorted(known)}
    official: Parts = lists.parts if lists is not None else {1: table.parts}
    every = kind.make_splits(kind, groups, official)
    if kind.own:
        kind = dataclasses.replace(kind, splits=len(every[OFFICIAL]))
    described, rows = _videos(kind, table, lists, benchmark, joined.matched, facts, known)
    report = dataclasses.replace(
        report, indexed=len(rows), splits={name: _sides(parts, facts) for name, parts in every.items()}
    )
    empty = [f"{name} split {n}" for name, splits in report.splits.items() for n, c in splits.items()
             if not (c["train"] and c["test"])]  # fmt: skip
    if empty:
        report = dataclasses.replace(report, notes=(*report.notes, f"lists with an empty side: {some(empty)}"))
    write_index(
        target, described, rows, every[OFFICIAL], contents,
        {name: parts for name, parts in every.items() if name != OFFICIAL},
        **{**_manifest(table, lists, every, report), **manifest},
    )  # fmt: skip
    write_json(workspace / "report.json", dataclasses.asdict(report))
    return report


def _named(kind: RealSet, tree: Tree, table: LabelTable, lists: SplitLists | None) -> tuple[LabelTable, set[str]]:
    """The labels under the names of the videos that make up the set, and these names: those that the lists have, else
    the labels. Of somebody's own set without lists nothing is known but what is there: its videos and labels."""
    if lists is not None:
        return _spelled_as(table, lists.ids), set(lists.ids)
    if not kind.own:
        return table, set(table.rows)
    spelling: dict[str, str] = {}
    found = {f"{spelling.setdefault(v.folder.lower(), v.folder)}/{v.stem}" for v in tree.videos}
    table = _spelled_as(table, found)
    return table, found | set(table.rows)


def _spelled_as(table: LabelTable, names: Iterable[str]) -> LabelTable:
    """The labels under these names: classes are compared whatever their case, like folders."""
    official = {key_of(i, class_folders=True): i for i in names}
    return _renamed(table, {i: official.get(key_of(i, class_folders=True), i) for i in table.rows})


def _renamed(table: LabelTable, name: Mapping[str, str]) -> LabelTable:
    """The labels under other names; as they are where two videos would get one name."""
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
    if kind.own:
        return _own_labels(kind, path)
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


def _suffixes(kind: RealSet) -> Set[str]:
    return CONTAINERS if kind.own else SUFFIXES


def _own_labels(kind: RealSet, path: Path | None) -> LabelTable:
    if path is None:
        mend = "name a table with --labels, such as 'stp-bench annotate export' writes"
        raise UserError(f"there are no labels of {kind.title}", "nobody else has labelled your videos", mend)
    table = labels.read_table(path.expanduser())
    if [(target.private, target.kind) for target in table.targets] != [(True, "multilabel")]:
        why = f"it tells {', '.join(target.name for target in table.targets)}"
        mend = "give yes-or-no columns of private attributes only: the action is the name of a video's folder"
        raise UserError(f"{path} does not fit a data set of your own", why, mend)
    # They may be of a folder further up: class and stem are what names a video here.
    return _renamed(table, {i: "/".join(i.split("/")[-2:]) for i in table.rows})


def _lists(kind: RealSet, path: Path | None, root: Path, accept_unknown: bool) -> SplitLists | None:
    if kind.own:
        return _own_lists(path.expanduser()) if path is not None else None
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


def _own_lists(path: Path) -> SplitLists:
    lists = read_lists(path, accept_unknown=True)
    if sorted(lists.parts) != list(range(1, len(lists.parts) + 1)):
        why = f"they are of splits {', '.join(map(str, sorted(lists.parts)))}"
        raise UserError(f"the split lists in {path} cannot be used", why, "number the splits from 1 without a gap")
    return lists


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
        labels_verified=None if kind.own else bool(table.manifest.get("verified")),
        lists_verified=None if kind.own or lists is None else lists.verified,
        notes=tuple((_own_notes if kind.own else _notes)(kind, tree, table, lists, joined, known)),
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
    return notes + _gaps(kind, joined, known)


def _own_notes(
    kind: RealSet, tree: Tree, table: LabelTable, lists: SplitLists | None, joined: Joined, known: set[str]
) -> list[str]:
    """What limits a data set of which nothing was published."""
    notes = []
    if table.manifest.get("edited"):
        notes.append("the label table was changed by hand since it was written")
    private = table.targets[0].name
    partly = [i for i in known if UNLABELLED in (table.rows.get(i, {}).get(private) or ())]
    if partly:
        notes.append(f"{len(partly):,} videos have attributes without a label ({some(sorted(partly))}): these are "
                     "judged by the others")  # fmt: skip
    strangers = sorted(kind.tied - {key_of(i, class_folders=True) for i in known})
    if strangers and len(strangers) == len(kind.tied):
        what, why = (
            "the table of groups is of other videos",
            f"none of its names, such as {some(strangers)}, is known here",
        )
        raise UserError(what, why, "name them as the videos are, e.g. run/clip_1.mp4")
    if strangers:
        notes.append(f"{len(strangers):,} rows of the table of groups name no video ({some(strangers)})")
    groups = {i: group for i in known if (group := table.groups.get(i) or kind.group(i))}
    if not groups:
        notes.append("nothing says which videos belong together, so that one person may be on both sides of a split: "
                     "groups.csv beside the videos, or --groups, would tell")  # fmt: skip
    elif len(groups) < len(known):
        notes.append(f"{len(known) - len(groups):,} of {len(known):,} videos are in no group: each is its own")
    return notes + _gaps(kind, joined, known)


def _gaps(kind: RealSet, joined: Joined, known: set[str]) -> list[str]:
    """What only some of videos, lists and labels have."""
    notes = []
    if joined.strange_labels:
        count = len(joined.strange_labels)
        notes.append(f"{count:,} labelled videos are in no list ({some(joined.strange_labels)})")
    if joined.unlabelled:
        notes.append(f"{len(joined.unlabelled):,} listed videos have no labels ({some(joined.unlabelled)}), left out")
    if joined.extra:
        others = f"other videos{f' of {kind.source}' if kind.subset else ''}"
        notes.append(f"{len(joined.extra):,} {others} are not in {kind.title} and stay out ({some(joined.extra)})")
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
    classes = {class_of(i).lower(): class_of(i) for i in known}
    extra = set(joined.extra)
    folders = (video.folder.lower() for video in tree.videos if video.relpath in extra)
    counts = {
        "known": Counter(map(class_of, known)),
        "matched": Counter(map(class_of, joined.matched)),
        "missing": Counter(map(class_of, joined.missing)),
        "extra": Counter(classes[folder] for folder in folders if folder in classes),
        "unlabelled": Counter(map(class_of, joined.unlabelled)),
        "unreadable": Counter(map(class_of, unreadable)),
    }
    return {c: {what: count[c] for what, count in counts.items()} for c in sorted(classes.values())}


def _refuse(kind: RealSet, tree: Tree, joined: Joined, report: Report, where: str, *, allow_missing: bool) -> None:
    """Stop before anything is decoded if the names do not fit together."""
    root = tree.root
    packed = f"{len(tree.archives)} rar archives lie there ({some(tree.archives)})"
    if not tree.videos:
        why = packed if tree.archives else f"nothing there ends in {', '.join(sorted(_suffixes(kind)))}"
        mend = "unpack each of them" if tree.archives else f"get {kind.videos_from}"
        raise UserError(f"there are no videos in {root}", why, mend)
    if kind.own:
        _refuse_layout(kind, tree)
    if not joined.matched:
        layout = "<class>/<name>" if kind.class_folders else "<name>"
        why = f"none of its {len(tree.videos):,} files is named as one, {layout}: {some(joined.extra)}"
        raise UserError(f"there are no videos of {kind.title} in {root}", why, f"name the folder of {kind.title}")
    if joined.twice:
        video_id, files = next(iter(joined.twice.items()))
        why = f"{video_id} could be {' or '.join(files[:2])}; {where}"
        mend = "name a folder with one copy only"
        raise UserError(f"{len(joined.twice):,} of the videos of {kind.title} are there twice", why, mend)
    if len(joined.unlabelled) == report.known:
        why = f"none of its videos is among the {report.known:,} of {kind.title}"
        if joined.strange_labels:
            why += f", but {some(joined.strange_labels)}"
        raise UserError(f"the labels of {report.label_release} are of another data set", why, "choose other --labels")
    if kind.own and joined.matched.keys() <= set(joined.unlabelled):
        why = f"they label {some(joined.missing)}, and such videos are not in {root}"
        raise UserError(f"the labels of {report.label_release} are of other videos", why, "choose other --labels")
    if joined.unlabelled and not allow_missing:
        what = f"{len(joined.unlabelled):,} of {report.known:,} videos of {kind.title} have no labels"
        mend = "complete the labels, or leave these videos out with --allow-missing"
        raise UserError(what, f"such as {some(joined.unlabelled)}; {where}", mend)
    if joined.missing and not allow_missing:
        count = Counter(map(class_of, joined.missing)) if kind.class_folders else Counter[str]()
        gone = [c for c, n in count.items() if n == report.per_class[c]["known"]]
        what = f"{len(joined.missing):,} of {report.known:,} videos of {kind.title} are missing in {root}"
        why = f"such as {some(joined.missing)}"
        mend = "complete the folder, or index what is there with --allow-missing"
        if gone:
            why = f"whole classes are: {some(gone)}"
        if tree.archives:
            why += f", and {packed}: the archive was unpacked in part"
            mend = "unpack each of them, or index what is there with --allow-missing"
        raise UserError(what, f"{why}{_known_figure(kind, len(tree.videos))}; {where}", mend)


def _refuse_layout(kind: RealSet, tree: Tree) -> None:
    """Stop if folders do not tell the actions."""
    mend = "put each video into a folder that is named after its action"
    if outside := [video.relpath for video in tree.videos if "/" not in video.relpath]:
        raise UserError(f"{len(outside):,} videos in {tree.root} are of no action", f"such as {some(outside)}", mend)
    if len({video.folder.lower() for video in tree.videos}) < 2:
        raise UserError(f"{kind.title} has a single action", f"all videos lie in {tree.videos[0].folder}", mend)


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
        # Of somebody's own set, an action of which no video is labelled is none: it would lower the chance level.
        found = lists.classes if lists is not None else tuple(sorted({*map(class_of, facts if kind.own else known)}))
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
            of[kind.action] = (number[class_of(video_id)],)
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
        else {"family": lists.family, "verified": report.lists_verified, "sha256": dict(lists.digests)},
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
