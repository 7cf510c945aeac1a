"""Label tables out of decisions, and the release of a labelling round: a folder that others can use and question.

``labels.csv``     the label table, with its votes beside the labels; what nobody decided is blank
``labels.json``    its manifest: how it was made, how far the annotators agree, what constant answers reach
``votes.csv``      every vote, under pseudonyms, with the day it was given and nothing finer
``datasheet.md``   the datasheet (after Gebru et al., "Datasheets for Datasets"), with this round's figures

All four are functions of the votes: the same votes give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import string
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stp_annotations import datasheet
from stp_bench.annotate._project import ADJUDICATION, ROUND, Project
from stp_bench.annotate.agreement import COEFFICIENTS, Agreement, Coefficients, agreement
from stp_bench.annotate.majority import MIN_VOTES, Decision, decide
from stp_bench.annotate.votes import ABSTAIN, KEY, REASONS, read_round, write_csv
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file, write_bytes
from stp_bench.labels import LabelTable, read_table, releases, statistics, write_table
from stp_bench.progress import Reporter
from stp_bench.schema import Target

FILES = ("labels.csv", "labels.json", "votes.csv", "datasheet.md")
LABELS = "labels.csv"


def label_table(decision: Decision, release: str, about: Mapping[str, Any]) -> LabelTable:
    """The decided labels; a video of which nothing is decided is unlabelled, never 0."""
    target = Target(name="privacy", kind="multilabel", classes=decision.attributes, private=True)
    rows = {
        video_id: {target.name: tuple(labels) if max(labels) >= 0 else None}
        for video_id, labels in zip(decision.videos, decision.label_VK.tolist(), strict=True)
    }
    return LabelTable(release=release, targets=(target,), rows=rows, manifest=about)


def write_labels(decision: Decision, path: Path, release: str, about: Mapping[str, Any]) -> LabelTable:
    """Write the label table with its votes, and its manifest beside it.

    Raises:
        UserError: `write_table`.
        WorkError: the disk refused.
    """
    made = label_table(decision, release, about)
    write_table(made, path, votes=decision.vote_columns())
    return made


def provenance(votes: pd.DataFrame, decision: Decision, project: Project | None = None) -> dict[str, Any]:
    """How the labels came about: what their manifest says, JSON-able."""
    people = {round: votes.loc[votes["round"] == round, "annotator"].nunique() for round in (ROUND, ADJUDICATION)}
    reasons = decision.queue()["reason"]
    return {
        "rule": "strict majority of independent votes",
        "columns": list(decision.attributes),
        "videos": len(decision.videos),
        "min_votes": decision.min_votes,
        "annotators": people[ROUND],
        "adjudicators": people[ADJUDICATION],
        "votes": int((votes["round"] == ROUND).sum()),
        "adjudications": int((votes["round"] == ADJUDICATION).sum()),
        "not_counted": {
            "of what the majority decided": decision.needless,
            "by adjudicators who voted": decision.by_voters,
            "of other videos or attributes": decision.strange,
        },
        "sources": decision.sources(),
        "open": dict(sorted(Counter(reasons).items())),
        "guideline_versions": sorted(set(votes["guideline_version"]) - {""}),
        "interface_sha256": project.interface_sha256 if project else None,
        "prefilled": project.prefilled if project else None,
        "ordered_by": (project.ordered_by or None) if project else None,
        "votes_sha256": votes_digest(votes),
    }


def votes_digest(votes: pd.DataFrame) -> str:
    """SHA-256 over what decides in a table of votes, whatever the file it lies in."""
    digest = hashlib.sha256()
    for column in (*KEY, "vote"):
        digest.update("\n".join([column, *votes[column], ""]).encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What `make_release` wrote."""

    name: str
    folder: Path
    videos: int
    labels: int
    """Decided, of all attributes."""
    unresolved: int
    min_votes: int
    files: Mapping[str, str]
    """File to SHA-256."""


def make_release(
    project: Project, folder: Path, *, name: str | None = None, write: bool = True, reporter: Reporter
) -> Release:
    """Write the release of a round, as ``annotate vote`` decided it.

    Args:
        name: of the release; ``<round>-v1`` by default.
        write: False only says what would be written.

    Raises:
        UserError: the votes were not counted yet, or have changed since; or the name is another release's.
        WorkError: the disk refused, or a file of the round is damaged.
    """
    name = name or f"{project.name}-v1"
    if name in releases():
        raise UserError(f"the release cannot be named {name}", "that is a published one", "choose another --release")
    votes, rejects = read_round(project.folder)
    decision = decide(
        votes, videos=tuple(project.videos), attributes=project.attributes, min_votes=_counted(project, votes)
    )
    with reporter.stage("agreement"):
        agreed = agreement(votes, decision, skipped=skips(rejects), durations=project.durations)
    about = provenance(votes, decision, project) | {
        "agreement": {attribute: dataclasses.asdict(of.agreement) for attribute, of in agreed.attributes.items()},
        "rejected": dict(sorted(Counter(rejects["reason"]).items())),
    }
    floors = statistics(label_table(decision, name, about)).targets[0].floors
    text = _datasheet(project, name, votes, about, agreed, floors)
    if write:
        write_csv(_by_day(votes), folder / "votes.csv")
        write_bytes(folder / "datasheet.md", text.encode())
        beside = {file: sha256_file(folder / file) for file in ("votes.csv", "datasheet.md")}
        write_labels(decision, folder / LABELS, name, about | {"floors": floors, "files": beside})
    decided = int((decision.label_VK >= 0).sum())
    return Release(
        name=name,
        folder=folder,
        videos=len(decision.videos),
        labels=decided,
        unresolved=decision.label_VK.size - decided,
        min_votes=decision.min_votes,
        files={file: sha256_file(folder / file) for file in FILES} if write else {},
    )


def skips(rejects: pd.DataFrame) -> dict[str, int]:
    """Annotator to number of videos skipped in the independent round."""
    found = rejects[(rejects["reason"] == "cancelled") & (rejects["round"] == ROUND)]
    return dict(Counter(found.drop_duplicates(["video_id", "annotator"])["annotator"]))


def _counted(project: Project, votes: pd.DataFrame) -> int:
    """The ``min_votes`` under which the votes were counted last."""
    path = project.path(LABELS)
    mend = f"run 'stp-bench annotate vote {project.name}'"
    if not path.exists():
        raise UserError(f"{project.name} has no labels yet", "its votes were not counted", mend)
    about = read_table(path).manifest
    if about.get("votes_sha256") != votes_digest(votes):
        raise UserError(f"the labels of {project.name} are out of date", "votes came or went since", f"{mend} again")
    min_votes = about.get("min_votes")
    if not isinstance(min_votes, int) or min_votes < 1:
        raise WorkError(f"cannot use {path.with_suffix('.json')}", "it names no number of votes", f"{mend} again")
    return min_votes


def _by_day(votes: pd.DataFrame) -> pd.DataFrame:
    """Votes as others get them: who worked at what hour is nobody's business."""
    return votes.assign(created_at=votes["created_at"].str[:10], updated_at=votes["updated_at"].str[:10])


def _datasheet(
    project: Project,
    name: str,
    votes: pd.DataFrame,
    about: Mapping[str, Any],
    agreed: Agreement,
    floors: Mapping[str, float | None],
) -> str:
    days = sorted(day for day in votes["created_at"].str[:10].unique() if day)
    seconds = [one.seconds_median for one in agreed.annotators if one.seconds_median is not None]
    unsure = (votes["vote"] == ABSTAIN).mean() if len(votes) else 0.0
    sources = about["sources"]
    figures = {
        "release": name,
        "title": project.title,
        "videos": f"{about['videos']:,}",
        "attributes": ", ".join(project.attributes),
        "annotators": str(about["annotators"]),
        "adjudicators": str(about["adjudicators"]),
        "asked": str(project.annotators),
        "votes": f"{about['votes']:,}",
        "adjudications": f"{about['adjudications']:,}",
        "unsure": f"{100 * unsure:.1f} %",
        "min_votes": str(about["min_votes"]),
        "fewer": ""
        if about["min_votes"] >= MIN_VOTES
        else f" That is fewer than the {MIN_VOTES} that this benchmark asks for.",
        "guideline": ", ".join(about["guideline_versions"]) or "unknown",
        "interface": project.interface_sha256,
        "period": f"between {days[0]} and {days[-1]}" if days else "at a time that is not known",
        "seconds": f"{sorted(seconds)[len(seconds) // 2]:.0f}" if seconds else "unknown",
        "independence": "Forms opened with the answers of a model: **the votes are not independent of it.**"
        if project.prefilled
        else "Forms opened empty, and annotators saw nobody else's answers.",
        "order": f"The queue was ordered by how unsure a model was (predictions {project.ordered_by})."
        if project.ordered_by
        else "No model ordered the queue.",
        "labels_table": _labels_lines(sources, agreed),
        "agreement_table": _agreement_lines(agreed),
        "rejects_table": "\n".join(
            ["| set aside | annotations |", "| --- | ---: |"]
            + [f"| {REASONS.get(why, why)} | {count:,} |" for why, count in about["rejected"].items()]
        )
        if about["rejected"]
        else "No annotation was set aside.",
        "floors": ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in floors.items()),
    }
    return string.Template(datasheet()).substitute(figures)


def _labels_lines(sources: Mapping[str, Mapping[str, int]], agreed: Agreement) -> str:
    lines = [
        "| attribute | by majority | adjudicated | unresolved (blank) | yes votes | not sure |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, of in sources.items():
        found = agreed.attributes[name]
        lines.append(
            f"| {name} | {of['majority']:,} | {of['adjudicated']:,} | {of['unresolved']:,} | "
            f"{_figure(found.agreement.prevalence)} | {_figure(found.abstained)} |"
        )
    return "\n".join(lines)


def _agreement_lines(agreed: Agreement) -> str:
    lines = [
        "| attribute | videos | prevalence | percent agreement | Krippendorff's alpha | Gwet's AC1 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in agreed.attributes.items():
        cells = [interval_text(found.agreement, c) for c in COEFFICIENTS]
        videos, prevalence = found.agreement.videos, found.agreement.prevalence
        lines.append(f"| {name} | {videos:,} | {_figure(prevalence)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval_text(of: Coefficients, name: str, digits: int = 3) -> str:
    """A coefficient with its interval, for people."""
    value, bounds = getattr(of, name), of.ci95[name]
    if value is None:
        return "undefined"
    low, high = bounds or (math.nan, math.nan)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
