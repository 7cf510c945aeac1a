"""A labelling round on the server: set up, looked at, pulled, purged. What an expert settles is in `disputes`.

All counts are our own, made of the annotations themselves: the server's counters are wrong where people submit at the
same time. Videos are known by ``data.video_id``, never by the server's task number, which it may use again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stp_annotations
from stp_bench.annotate import _project, interface, people, server
from stp_bench.annotate._project import ADJUDICATION, ANNOTATORS, ROUND, Project, round_lock
from stp_bench.annotate.media import Clip, Copies, make_copies
from stp_bench.annotate.standing import Standing, standing
from stp_bench.annotate.studio import EXPORT_PAGE, IMPORT_BATCH, Remote, Studio, quoted
from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path, make_folder, sha256_file
from stp_bench.progress import Reporter

if TYPE_CHECKING:
    from stp_bench.annotate.votes import Extracted, Merged

Tasks = Mapping[str, tuple[int, Mapping[str, Any]]]
"""Video to its task on the server: number and data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a round is set up with."""

    name: str
    title: str
    source: str
    videos: Mapping[str, Path]
    annotators: int | None = None
    """None for what the round has, else `ANNOTATORS`."""
    upload: bool = False
    """Send the copies to the server instead of letting it read them from this disk."""
    predictions: Path | None = None
    """Of a run: its unsure videos come first."""
    prefill: bool = False
    """Open the forms with that run's answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What setting up has done, or would do."""

    project: Project | None
    """None where nothing was written."""
    videos: int
    copied: int
    unreadable: Mapping[str, str]
    created: bool
    imported: int
    changed: tuple[str, ...]
    """Videos whose tasks were brought up to date."""
    extra: tuple[str, ...]
    """Tasks of the server that are of no video of the round."""
    twice: tuple[str, ...]
    """Videos with several tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull brought."""

    export: Path | None
    """None where nothing was written."""
    tasks: int
    extracted: Extracted
    merged: Merged | None
    prefilled: bool


def set_up(
    home: Path,
    plan: Plan,
    studio: Studio,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    dry_run: bool = False,
    reporter: Reporter,
) -> SetUp:
    """Create a round on the server, or bring up to date what is there of it. Stopped, the same call goes on.

    Raises:
        UserError: the round is of something else, or its questions are of another version.
        WorkError: videos cannot be read, the server or the disk refused.
    """
    folder = _project.root(home) / _project.check_name(plan.name)
    scores = _scores(plan)
    media = _project.media_root(home) / plan.name
    with contextlib.nullcontext() if dry_run else round_lock(folder):
        before = _project.read_project(folder) if (folder / "project.json").exists() else None
        _check_same(before, plan)
        annotators = plan.annotators or (before.annotators if before else ANNOTATORS)
        if dry_run:
            return _rehearse(media, before, plan, studio)
        copies = make_copies(plan.videos, media, journal=folder / "probed.jsonl", workers=workers, reporter=reporter)
        if copies.unreadable and not skip_unreadable:
            name, why = next(iter(sorted(copies.unreadable.items())))
            more = f" and {len(copies.unreadable) - 1} more" if len(copies.unreadable) > 1 else ""
            mend = "replace them, or leave them out with --skip-unreadable"
            raise WorkError(f"cannot read video {name}{more}", why, mend)
        if not copies.clips:
            raise WorkError(f"no video of {plan.source} can be read", "all were left out", "see the lines above")
        _check_clips(before, copies.clips)
        remote, created = _find_or_create(studio, before, plan, annotators)
        project = _record(folder, before, plan, annotators, copies, studio.url, remote)
        project.save()
        if remote.annotators != project.annotators:
            studio.configure(remote.id, annotators=project.annotators)
        addresses = _hand_over(studio, project, media, upload=plan.upload, reporter=reporter)
        wanted = {
            name: {"video_id": name, "video": addresses[clip.file], "fps": clip.fps}
            for name, clip in copies.clips.items()
        }
        there, extra, twice = tasks_of(studio, remote.id, wanted)
        changed = _update(studio, there, wanted)
        filled = scores if plan.prefill else {}
        missing = _queue([name for name in wanted if name not in there], scores)
        with reporter.stage("import tasks", len(missing), "tasks") as task:
            for start in range(0, len(missing), IMPORT_BATCH):
                batch = missing[start : start + IMPORT_BATCH]
                studio.add(remote.id, [_task(wanted[name], filled.get(name)) for name in batch])
                task.advance(len(batch))
        _check_playable(studio, project, addresses)
        if missing and len(tasks_of(studio, remote.id, wanted)[0]) != len(wanted):
            raise WorkError("not every video has its task", "the server lost some", "run the same command again")
    return SetUp(
        project=project, videos=len(wanted), copied=copies.made, unreadable=copies.unreadable, created=created,
        imported=len(missing), changed=changed, extra=extra, twice=twice,
    )  # fmt: skip


def _check_same(before: Project | None, plan: Plan) -> None:
    if before is None:
        return
    what, mend = f"the round {plan.name} cannot go on with this", "give this one another --name"
    if before.source != plan.source:
        raise UserError(what, f"it labels {before.source}, not {plan.source}", mend)
    if before.interface_sha256 != digest():
        raise UserError(what, "its questions or guidelines are of another version than those installed", mend)
    if plan.prefill and not before.prefilled:
        raise UserError(what, "its forms opened empty so far", mend)


def _check_clips(before: Project | None, clips: Mapping[str, Clip]) -> None:
    """Refuse other content under the name of a video that people may have answered for.

    Raises:
        UserError: there is some.
    """
    if before is None:
        return
    other = sorted(name for name, clip in clips.items() if before.videos.get(name, clip.file) != clip.file)
    if other:
        more = f", and so are {len(other) - 1} more" if len(other) > 1 else ""
        raise UserError(
            f"the round {before.name} cannot go on with this",
            f"the file of video {other[0]} is another than the one that people were shown{more}",
            "put the old file back, or give this one another --name",
        )


def _rehearse(media: Path, before: Project | None, plan: Plan, studio: Studio) -> SetUp:
    """What `set_up` would do, as far as it can be told without decoding the videos."""
    remote = _existing(studio, before, plan.name)
    there, extra, twice = tasks_of(studio, remote.id, plan.videos) if remote else ({}, (), ())
    copies = list(media.glob("*.mp4"))
    return SetUp(
        project=None, videos=len(plan.videos), copied=max(0, len(plan.videos) - len(copies)), unreadable={},
        created=remote is None, imported=len(plan.videos) - len(there), changed=(), extra=extra, twice=twice,
    )  # fmt: skip


def _find_or_create(studio: Studio, before: Project | None, plan: Plan, annotators: int) -> tuple[Remote, bool]:
    remote = _existing(studio, before, plan.name)
    if remote is not None:
        if before is not None and (before.url, before.project_id) == (studio.url, remote.id):
            check_config(before, remote, before.config_sha256)
        elif remote.config != interface.config(stp_annotations.attributes()):
            why = "its interface is not the one that such a round is set up with"
            raise UserError(f"project {remote.id} cannot be taken over", why, "delete it, or choose another --name")
        return remote, False
    made = studio.create(
        title=plan.title, marker=marker(plan.name), config=interface.config(stp_annotations.attributes()),
        annotators=annotators, guidelines=stp_annotations.guidelines(), show_predictions=plan.prefill,
    )  # fmt: skip
    return made, True


def _existing(studio: Studio, before: Project | None, name: str) -> Remote | None:
    """The round's project, if there is one. What a killed run has made is found again by its description."""
    if before is not None and before.url == studio.url:
        remote = studio.project(before.project_id)
        if remote is not None and belongs(remote, name):
            return remote
    found = studio.find(marker(name))
    return None if found is None else studio.project(found)


def _record(
    folder: Path, before: Project | None, plan: Plan, annotators: int, copies: Copies, url: str, remote: Remote
) -> Project:
    same = before is not None and before.project_id == remote.id and before.url == url
    return Project(
        folder=folder,
        title=plan.title,
        source=plan.source,
        videos={name: clip.file for name, clip in sorted(copies.clips.items())},
        attributes=tuple(a.name for a in stp_annotations.attributes()),
        annotators=annotators,
        guideline_version=stp_annotations.GUIDELINE_VERSION,
        interface_sha256=digest(),
        url=url,
        project_id=remote.id,
        config_sha256=sha256(remote.config),
        adjudication_id=before.adjudication_id if before is not None and same else None,
        adjudication_sha256=before.adjudication_sha256 if before is not None and same else "",
        durations={name: round(clip.seconds, 3) for name, clip in sorted(copies.clips.items())},
        prefilled=plan.prefill or remote.shows_predictions or bool(before and before.prefilled),
        ordered_by=sha256_file(plan.predictions) if plan.predictions else before.ordered_by if before else "",
    )


def _hand_over(studio: Studio, project: Project, media: Path, *, upload: bool, reporter: Reporter) -> Mapping[str, str]:
    """Let the server have the copies; file to address on the server."""
    files = set(project.videos.values())
    if not upload:
        studio.serve(project.project_id, media)
        return {file: quoted(project.name, file) for file in files}
    missing = sorted(files - studio.uploaded(project.project_id).keys())
    with reporter.stage("upload", len(missing), "videos") as task:
        for file in missing:
            studio.upload(project.project_id, media / file)
            task.advance()
    return studio.uploaded(project.project_id)


def _check_playable(studio: Studio, project: Project, addresses: Mapping[str, str]) -> None:
    file = next(iter(project.videos.values()))
    if not studio.plays(addresses[file]):
        raise WorkError(
            "the server does not hand out the videos",
            f"it cannot show {project.media / file}",
            f"let it serve local files with {project.media.parent} as its document root, or use --upload",
        )


def tasks_of(
    studio: Studio, number: int, wanted: Iterable[str]
) -> tuple[dict[str, tuple[int, Mapping[str, Any]]], tuple[str, ...], tuple[str, ...]]:
    """The server's tasks of these videos, those of none of them, and videos with several tasks."""
    known = set(wanted)
    there: dict[str, tuple[int, Mapping[str, Any]]] = {}
    extra: list[str] = []
    twice: set[str] = set()
    for page in studio.tasks(number):
        for task in page:
            name = str(task["data"].get("video_id"))
            if name not in known:
                extra.append(name)
            elif name in there:
                twice.add(name)
            else:
                there[name] = int(task["id"]), task["data"]
    return there, tuple(sorted(extra)), tuple(sorted(twice))


def _update(studio: Studio, there: Tasks, wanted: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    changed = [name for name, (_, data) in there.items() if data != wanted[name]]
    for name in changed:
        studio.change(there[name][0], wanted[name])
    return tuple(sorted(changed))


def _task(data: Mapping[str, Any], scores: Mapping[str, float] | None) -> dict[str, Any]:
    made: dict[str, Any] = {"data": dict(data)}
    if scores:
        made["predictions"] = [interface.prefilled(scores, "stp-bench")]
    return made


def _queue(names: Iterable[str], scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The order in which people get the videos: the unsure first, videos without scores last.

    Without scores the order is a fixed shuffle: a folder's order would show one action after another, and people
    compare a clip with the one before.
    """

    def key(name: str) -> tuple[float, str]:
        sure = -interface.uncertainty(scores[name]) if name in scores else 1.0
        return sure, hashlib.sha256(name.encode()).hexdigest()

    return sorted(names, key=key)


def _scores(plan: Plan) -> dict[str, dict[str, float]]:
    """Video to attribute to a run's score, averaged over its attackers and frames.

    Raises:
        UserError: the file is no table of predictions, or of none of these videos or attributes.
    """
    if plan.predictions is None:
        if plan.prefill:
            raise UserError("--prefill has nothing to fill in", "no predictions are given", "add --predictions FILE")
        return {}
    from stp_bench.predictions import Predictions

    table = Predictions.read(plan.predictions).table
    names = [a.name for a in stp_annotations.attributes() if f"score_{a.name}" in table.column_names]
    if not names or (plan.prefill and len(names) < len(stp_annotations.attributes())):
        why = "it does not score all of the attributes that are asked" if names else "it scores none of the attributes"
        raise UserError(f"cannot use {plan.predictions}", why, "give the predictions of a run on these attributes")
    columns = {name: table[f"score_{name}"].to_pylist() for name in names}
    rows: dict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(table["video_id"].to_pylist()):
        if video in plan.videos:
            rows[video].append(row)
    if not rows:
        why = "it scores none of the videos of this round"
        raise UserError(f"cannot use {plan.predictions}", why, "give the predictions of a run on these videos")
    return {
        video: {name: sum(columns[name][i] for i in found) / len(found) for name in names}
        for video, found in rows.items()
    }


def pull(
    home: Path,
    project: Project,
    studio: Studio,
    *,
    allow_prefilled: bool = False,
    dry_run: bool = False,
    page_size: int = EXPORT_PAGE,
    reporter: Reporter,
) -> Pulled:
    """Bring a round's annotations into its folder: the raw export, then votes and what was set aside.

    The export is the whole state of the project, so that pulling again counts nothing twice, and what was changed or
    withdrawn meanwhile is changed or gone. Nothing is touched before the last page has come.

    Raises:
        UserError: the round is another server's, or its interface was changed by hand.
        WorkError: the server went away, the disk refused, or another command is writing the round.
    """
    check_config(project, remote_of(studio, project), project.config_sha256)
    return pull_round(
        home, project, studio, ROUND, allow_prefilled=allow_prefilled, dry_run=dry_run, page_size=page_size,
        reporter=reporter,
    )  # fmt: skip


def pull_round(
    home: Path, project: Project, studio: Studio, round: str, *, allow_prefilled: bool = False, dry_run: bool = False,
    page_size: int = EXPORT_PAGE, reporter: Reporter,
) -> Pulled:  # fmt: skip
    """`pull` of either round, of whose project nothing is checked."""
    from stp_bench.annotate import votes

    with contextlib.ExitStack() as stack:
        if dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stp-bench-")))
        else:
            stack.enter_context(round_lock(project.folder))
            place = project.path("exports")
        export, tasks = _fetch(studio, project, round, place, page_size, reporter)
        extracted = _extract(home, project, studio, export, round, allow_prefilled, write=not dry_run)
        merged = None if dry_run else votes.merge_votes(project.folder, extracted, round)
    return Pulled(
        export=None if dry_run else export, tasks=tasks, extracted=extracted, merged=merged,
        prefilled=project.prefilled and allow_prefilled,
    )  # fmt: skip


def _fetch(
    studio: Studio, project: Project, round: str, place: Path, page_size: int, reporter: Reporter
) -> tuple[Path, int]:
    """Write the export of a project, a task per line; an export like the last one is not kept twice."""
    number = _number(project, round)
    assert number is not None
    total = studio.count(number)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = make_folder(place) / f"{stamp}-{round}.jsonl.gz"
    before = exports(place, round)
    count = 0
    with reporter.stage("pull", total, "videos") as task, atomic_path(path, fsync=True) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            for page in studio.export(number, page_size):
                for entry in page:
                    out.write(json.dumps(entry, ensure_ascii=False, sort_keys=True).encode() + b"\n")
                count += len(page)
                task.advance(len(page))
    if before and sha256_file(before[-1]) == sha256_file(path):
        path.unlink()
        path = before[-1]
    return path, count


def exports(folder: Path, round: str = "*") -> list[Path]:
    """The exports in a folder, oldest first."""
    return sorted(folder.glob(f"*-{round}.jsonl.gz"))


def read_export(path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of an export, one by one.

    Raises:
        WorkError: it is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise WorkError(f"cannot read {path}", f"it is damaged ({error})", "remove it and pull again") from error


def _extract(
    home: Path, project: Project, studio: Studio, export: Path, round: str, allow_prefilled: bool, *, write: bool
) -> Extracted:
    """The votes of an export; who is behind the pseudonyms is kept in the round's folder.

    Who has left the server has voted all the same: known by the account's number, or by the votes pulled before.
    """
    from stp_bench.annotate.votes import extract, pseudonym

    known = people.read(project.folder)
    key = people.key(home)
    users = studio.users()
    emails = {**known.numbers(project.url), **users}
    number_of = {pseudonym(key, email): number for number, email in emails.items()}
    authors = _authors(project, round, number_of)
    by = {a["completed_by"] for task in people.with_authors(read_export(export), authors) for a in task["annotations"]}
    by.discard(None)
    emails |= {number: people.account(number, project.url) for number in by - emails.keys()}
    names = {number: pseudonym(key, email) for number, email in emails.items()}
    if write:
        met = sorted(by & users.keys())
        people.write(
            project.folder,
            dataclasses.replace(
                known,
                names={**known.names, **{names[number]: users[number] for number in met}},
                accounts={**known.accounts, **{people.account(number, project.url): users[number] for number in met}},
            ),
        )
    invited = None
    if round == ROUND and known.invited:
        invited = {number for number, email in emails.items() if email in known.invited}
    disputed = asked_of(read_export(export)) if round == ADJUDICATION else None
    return extract(
        people.with_authors(read_export(export), authors), people=names, videos=project.videos,
        attributes=project.attributes, invited=invited, round=round, guideline_version=project.guideline_version,
        asked=disputed, allow_prefilled=allow_prefilled,
    )  # fmt: skip


def _authors(project: Project, round: str, number_of: Mapping[str, int]) -> dict[int, int]:
    """Annotation to account, of the votes that were pulled from this round before."""
    from stp_bench.annotate.votes import read_round

    votes, _ = read_round(project.folder)
    votes = votes[(votes["round"] == round) & votes["annotator"].isin(number_of) & votes["annotation_id"].notna()]
    pairs = votes[["annotation_id", "annotator"]].drop_duplicates()
    return {int(number): number_of[who] for number, who in pairs.itertuples(index=False)}


def status(
    home: Path, project: Project, studio: Studio, *, repair: bool = False, dry_run: bool = False, reporter: Reporter
) -> Standing:
    """Count how far a round is on the server.

    Args:
        repair: put the interface back, and have the server count anew.
        dry_run: only look, even if a repair is asked for.

    Raises:
        UserError: the round is another server's.
        WorkError: its project is gone, or the server went away.
    """
    remote = remote_of(studio, project)
    with tempfile.TemporaryDirectory(prefix="stp-bench-") as place:
        export, _ = _fetch(studio, project, ROUND, Path(place), EXPORT_PAGE, reporter)
        extracted = _extract(home, project, studio, export, ROUND, project.prefilled, write=False)
        found = standing(project, read_export(export), extracted, faults=faults_of(project, remote))
    if not repair or dry_run:
        return found
    if sha256(remote.config) != project.config_sha256:
        if project.interface_sha256 != digest():
            check_config(project, remote, project.config_sha256)
        with round_lock(project.folder):
            config = interface.config(stp_annotations.attributes())
            studio.configure(project.project_id, config=config)
            dataclasses.replace(_project.read_project(project.folder), config_sha256=sha256(config)).save()
    # The server sees anew which videos are complete when the wanted number changes.
    studio.configure(project.project_id, annotators=project.annotators + 1)
    studio.configure(project.project_id, annotators=project.annotators)
    return dataclasses.replace(found, repaired=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge deletes, or would delete."""

    media: int
    """Copies of videos."""
    exports: int
    people: int
    """Names behind pseudonyms."""
    projects: tuple[int, ...]
    """On the server."""
    server_exports: int
    """Copies of exports that this data home's server kept."""
    done: bool


def purge(home: Path, project: Project, studio: Studio | None, *, really: bool) -> Purged:
    """Delete what a round holds of persons: copies of videos, raw exports, names; votes under pseudonyms stay.

    Args:
        studio: where to delete the round's projects too; None to leave the server alone.
        really: delete; else only say what would go.

    Raises:
        WorkError: the disk or the server refused, or another command is writing the round.
    """
    there = _projects(studio, project) if studio is not None and studio.url == project.url else ()
    # Another server's numbers say nothing about the files of this data home's own.
    local = server.exported_copies(home) if there and server.local_url(home) == project.url else []
    copies = [path for n in there for path in local if path.name.startswith(f"project-{n}-")]
    kept = exports(project.path("exports"))
    found = Purged(
        media=len(list(project.media.glob("*.mp4"))), exports=len(kept), people=len(people.read(project.folder).names),
        projects=there, server_exports=len(copies), done=really,
    )  # fmt: skip
    if not really:
        return found
    with round_lock(project.folder):
        for number in there:
            assert studio is not None
            studio.delete(number)
        for path in (*copies, *kept, project.path("people.json"), project.path("probed.jsonl")):
            path.unlink(missing_ok=True)
        shutil.rmtree(project.media, ignore_errors=True)
        if project.media.exists():
            raise WorkError(f"cannot delete {project.media}", "the system refused", "mend its permissions")
    return found


def _projects(studio: Studio, project: Project) -> tuple[int, ...]:
    """The projects that a round has on its server."""
    found = []
    for round in (ROUND, ADJUDICATION):
        number = _number(project, round)
        remote = studio.project(number) if number is not None else None
        if remote is not None and belongs(remote, project.name, round):
            found.append(remote.id)
    return tuple(found)


def _number(project: Project, round: str) -> int | None:
    return project.project_id if round == ROUND else project.adjudication_id


def marker(name: str, round: str = ROUND) -> str:
    """The description by which a round's project is known on a server."""
    return f"{_mark(name, round)} {digest()}"


def _mark(name: str, round: str) -> str:
    """What `marker` begins with, whatever the version of the questions."""
    return f"stp-bench round {name} ({round}), interface"


def belongs(remote: Remote, name: str, round: str = ROUND) -> bool:
    """Whether a project is that of a round. Its number does not tell: a server that was made anew counts from 1."""
    return remote.description.strip().startswith(_mark(name, round))


def digest() -> str:
    """Of everything that an answer's meaning depends on, as installed."""
    return interface.digest(stp_annotations.attributes(), stp_annotations.GUIDELINE_VERSION)


def remote_of(studio: Studio, project: Project, round: str = ROUND) -> Remote:
    """The project of a round; of the expert's round, one must have been made.

    Raises:
        UserError: the round is on another server.
        WorkError: the project is gone, or another's now has its number.
    """
    number = _number(project, round)
    assert number is not None
    if studio.url != project.url:
        mend = f"give --url {project.url}, or set up the round there by 'stp-bench annotate init'"
        raise UserError(f"the round {project.name} is not on {studio.url}", f"it is on {project.url}", mend)
    remote = studio.project(number)
    if remote is None:
        raise WorkError(
            f"the server has no project {number} any more",
            f"somebody deleted what belongs to the round {project.name}",
            "what was pulled is kept; 'stp-bench annotate init' makes it anew",
        )
    if not belongs(remote, project.name, round):
        raise WorkError(
            f"project {number} of the server is not that of the round {project.name}",
            f"its description does not begin with '{_mark(project.name, round)}', as where the server was made anew",
            "'stp-bench annotate init' finds or makes the round's own; if somebody edited the description, restore it",
        )
    return remote


def check_config(project: Project, remote: Remote, sha256_then: str) -> None:
    """Refuse a project whose interface is not the one that was set up: its answers may mean something else.

    Raises:
        UserError: it was changed by hand.
    """
    if project.interface_sha256 != digest():
        raise UserError(
            f"the round {project.name} asks other questions than those installed",
            "its attributes or guidelines are of another version",
            "install the version of stp-bench that it was made with, or start a new round",
        )
    if sha256(remote.config) != sha256_then:
        raise UserError(
            f"the labelling interface of {project.name} was edited on the server",
            "answers given since then may mean something else",
            f"put it back by 'stp-bench annotate status {project.name} --repair', and look at the answers since",
        )


def faults_of(project: Project, remote: Remote) -> list[str]:
    """What was changed on the server by hand."""
    found = []
    if sha256(remote.config) != project.config_sha256:
        found.append("the labelling interface was edited on the server")
    if remote.annotators != project.annotators:
        found.append(f"the server wants {remote.annotators} annotations of each video, not {project.annotators}")
    if remote.shows_predictions != project.prefilled:
        found.append("the server " + ("shows" if remote.shows_predictions else "does not show") + " predictions")
    if project.interface_sha256 != digest():
        found.append("the questions or guidelines installed are of another version than the round's")
    return found


def asked(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task of the expert's project asks about."""
    found = data.get("attributes")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def asked_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Video to what the expert's project asks of it, in any of its tasks; what is no task of ours asks nothing."""
    found: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        data = task.get("data")
        if isinstance(data, Mapping) and isinstance(name := data.get("video_id"), str):
            found[name].update(asked(data))
    return dict(found)


def sha256(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
