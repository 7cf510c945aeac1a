"""What no majority decided, on its way to an expert and back: a second, small project, in which each video says what
is disputed of it.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stp_annotations
from stp_bench.annotate import interface
from stp_bench.annotate._project import ADJUDICATION, Project, read_project, round_lock
from stp_bench.annotate.rounds import (
    Pulled,
    asked,
    belongs,
    check_config,
    marker,
    pull_round,
    remote_of,
    sha256,
    tasks_of,
)
from stp_bench.annotate.studio import IMPORT_BATCH, Remote, Studio
from stp_bench.errors import UserError, WorkError
from stp_bench.progress import Reporter

_COLUMNS = ("video_id", "attribute", "reason", "n_yes", "n_no", "n_abstain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What was sent to an expert, or would be."""

    disputes: int
    """Pairs of video and attribute in the queue."""
    videos: int
    created: bool
    imported: int
    changed: tuple[str, ...]
    """Videos of which more is asked than before, or whose votes are others now."""
    project_id: int | None


def dispatch(project: Project, studio: Studio, *, dry_run: bool = False, reporter: Reporter) -> Dispatched:
    """Send the queue that ``annotate vote`` wrote to the expert's project.

    Sent again, only what is new goes: a video's task goes on asking what it asked before, so that answers stay valid.

    Raises:
        UserError: nothing was voted on yet, or the round is another server's.
        WorkError: the server went away, or another command is writing the round.
    """
    with contextlib.nullcontext() if dry_run else round_lock(project.folder):
        return _dispatch(read_project(project.folder), studio, dry_run, reporter)


def _dispatch(project: Project, studio: Studio, dry_run: bool, reporter: Reporter) -> Dispatched:
    queue = read_queue(project.path("queue.csv"), project)
    remote_of(studio, project)
    remote = _existing(studio, project)
    there = tasks_of(studio, remote.id, queue)[0] if remote else {}
    wanted: dict[str, dict[str, Any]] = {}
    for name, entries in queue.items():
        before = asked(there[name][1]) if name in there else ()
        names = {entry["attribute"] for entry in entries} | set(before)
        # The list asks; the text is for the expert's eyes.
        wanted[name] = {
            "attributes": [a for a in project.attributes if a in names],
            "dispute": "Disputed: " + ", ".join(map(_told, entries)),
        }
    missing = sorted(name for name in wanted if name not in there)
    changed = sorted(name for name, (_, data) in there.items() if {**data, **wanted[name]} != data)
    found = Dispatched(
        disputes=sum(map(len, queue.values())), videos=len(queue), created=remote is None and bool(queue),
        imported=len(missing), changed=tuple(changed), project_id=remote.id if remote else None,
    )  # fmt: skip
    if dry_run or not queue:
        return found
    if remote is None:
        remote = studio.create(
            title=f"{project.title[:32]} (disputed)", marker=marker(project.name, ADJUDICATION), annotators=1,
            config=interface.config(stp_annotations.attributes(), disputed=True),
            guidelines=stp_annotations.guidelines(),
        )  # fmt: skip
    dataclasses.replace(project, adjudication_id=remote.id, adjudication_sha256=sha256(remote.config)).save()
    shown = tasks_of(studio, project.project_id, missing)[0]
    if lost := set(missing) - shown.keys():
        why = f"the server has no task of {min(lost)}"
        raise WorkError("not every disputed video can be sent", why, "run 'stp-bench annotate init' again")
    if any(str(data["video"]).startswith("/data/local-files/") for _, data in shown.values()):
        studio.serve(remote.id, project.media)
    for name in changed:
        studio.change(there[name][0], {**there[name][1], **wanted[name]})
    with reporter.stage("send disputes", len(missing), "videos") as task:
        for start in range(0, len(missing), IMPORT_BATCH):
            batch = missing[start : start + IMPORT_BATCH]
            studio.add(remote.id, [{"data": {**shown[name][1], **wanted[name]}} for name in batch])
            task.advance(len(batch))
    return dataclasses.replace(found, project_id=remote.id)


def collect(home: Path, project: Project, studio: Studio, *, dry_run: bool = False, reporter: Reporter) -> Pulled:
    """Bring the expert's answers into a round's folder, of what was disputed only. Raises like `rounds.pull`."""
    if project.adjudication_id is None:
        mend = f"send it by 'stp-bench annotate adjudicate {project.name}'"
        raise UserError("there is nothing to collect", "no dispute of this round was sent to an expert", mend)
    remote = remote_of(studio, project, ADJUDICATION)
    check_config(project, remote, project.adjudication_sha256)
    return pull_round(home, project, studio, ADJUDICATION, dry_run=dry_run, reporter=reporter)


def read_queue(path: Path, project: Project) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """Video to its undecided attributes, each with its counts of votes.

    Raises:
        UserError: there is no queue, or it is not one of this round.
    """
    what, mend = f"cannot read {path}", f"write it by 'stp-bench annotate vote {project.name}'"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError("there are no disputes yet", "nothing was voted on", mend) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(what, "it is no table", mend) from error
    found: dict[str, list[Mapping[str, str]]] = {}
    for number, row in enumerate(rows, 2):
        if not set(_COLUMNS) <= {key for key, value in row.items() if value is not None}:
            raise UserError(what, f"line {number} lacks a column", mend)
        if row["video_id"] not in project.videos or row["attribute"] not in project.attributes:
            why = f"line {number} is of no video or attribute of this round"
            raise UserError(what, why, mend)
        found.setdefault(row["video_id"], []).append(row)
    return found


def _existing(studio: Studio, project: Project) -> Remote | None:
    """The expert's project; what a killed run has made is found again by its description."""
    if project.adjudication_id is not None:
        found = studio.project(project.adjudication_id)
        if found is not None and belongs(found, project.name, ADJUDICATION):
            check_config(project, found, project.adjudication_sha256)
            return found
    number = studio.find(marker(project.name, ADJUDICATION))
    return None if number is None else studio.project(number)


def _told(entry: Mapping[str, str]) -> str:
    """A dispute for the expert's eyes: ``face (2:2, 1 not sure)``."""
    unsure = f", {entry['n_abstain']} not sure" if entry["n_abstain"] not in ("0", "") else ""
    return f"{entry['attribute'].replace('_', ' ')} ({entry['n_yes']}:{entry['n_no']}{unsure})"
