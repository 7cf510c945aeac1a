"""How far a round is, counted from an export: pure functions of tasks, votes and what was set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stp_bench.annotate._project import Project

if TYPE_CHECKING:
    from stp_bench.annotate.votes import Extracted


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """How far one person is."""

    name: str
    videos: int
    """With valid answers."""
    set_aside: int
    """Annotations that do not count, skipped ones among them."""
    skipped: int
    unsure: float
    """Share of answers."""
    seconds: float | None
    """Median time per video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one attribute is."""

    attribute: str
    complete: int
    """Videos with all the answers that were asked for."""
    yes: int
    no: int
    unsure: int
    disputed: int
    """Videos with a yes and a no."""
    compared: int
    """Videos with two or more such answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a round is, by our own count."""

    videos: int
    annotators: int
    answered: int
    """Valid forms, of ``wanted`` many."""
    wanted: int
    complete: int
    seconds: float | None
    """Median time per video and person."""
    remaining: float | None
    """Seconds of work that are left, of all people together."""
    people: tuple[Annotator, ...]
    attributes: tuple[Progress, ...]
    rejected: Mapping[str, int]
    drafts: int
    wrong_counters: int
    """Tasks of which the server's own number of annotations is wrong: it is shown, and steers nothing."""
    wrong_states: int
    """Tasks that the server holds for complete and are not, or the other way round: that steers who gets them."""
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    twice: tuple[str, ...]
    faults: tuple[str, ...]
    """What was changed on the server by hand."""
    repaired: bool = False


def standing(
    project: Project, tasks: Iterable[Mapping[str, Any]], extracted: Extracted, *, faults: Sequence[str] = ()
) -> Standing:
    """Count how far a round is.

    Args:
        tasks: an export.
        extracted: its votes and what was set aside.
        faults: what was changed on the server by hand.
    """
    votes, rejects = extracted
    forms = votes.drop_duplicates(["video_id", "annotator"])
    per_video = Counter(forms["video_id"])
    names, counters, states, drafts = Counter[str](), 0, 0, 0
    for task in tasks:
        name = str(task["data"].get("video_id"))
        names[name] += 1
        drafts += int(task["drafts"])
        valid = [a for a in task["annotations"] if not a["was_cancelled"]]
        counters += task["total_annotations"] != len(valid)
        states += task["is_labeled"] != (len({a["completed_by"] for a in valid}) >= project.annotators)
    twice = sorted(name for name, count in names.items() if count > 1)
    done = sum(min(count, project.annotators) for count in per_video.values())
    wanted = len(project.videos) * project.annotators
    seconds = _median(forms["seconds"])
    aside = Counter(rejects["annotator"])
    skipped = Counter(rejects.loc[rejects["reason"] == "cancelled", "annotator"])
    everybody = sorted(set(forms["annotator"]) | {name for name in aside if name})
    return Standing(
        videos=len(project.videos),
        annotators=project.annotators,
        answered=done,
        wanted=wanted,
        complete=sum(count >= project.annotators for count in per_video.values()),
        seconds=seconds,
        remaining=None if seconds is None else seconds * (wanted - done),
        people=tuple(_annotator(name, votes, forms, aside[name], skipped[name]) for name in everybody),
        attributes=tuple(_progress(name, votes, project.annotators) for name in project.attributes),
        rejected=dict(sorted(Counter(rejects["reason"]).items())),
        drafts=drafts,
        wrong_counters=counters,
        wrong_states=states,
        missing=tuple(sorted(set(project.videos) - names.keys())),
        extra=tuple(sorted(names.keys() - set(project.videos))),
        twice=tuple(twice),
        faults=tuple(faults),
    )


def _annotator(name: str, votes: Any, forms: Any, aside: int, skipped: int) -> Annotator:
    own = votes.loc[votes["annotator"] == name]
    form = forms.loc[forms["annotator"] == name]
    unsure = float((own["vote"] == "abstain").mean()) if len(own) else 0.0
    return Annotator(
        name=name, videos=len(form), set_aside=aside, skipped=skipped, unsure=unsure, seconds=_median(form["seconds"])
    )


def _progress(attribute: str, votes: Any, annotators: int) -> Progress:
    own = votes.loc[votes["attribute"] == attribute]
    answers = {vote: Counter(own.loc[own["vote"] == vote, "video_id"]) for vote in ("1", "0", "abstain")}
    decided = answers["1"] + answers["0"]
    return Progress(
        attribute=attribute,
        complete=sum(count >= annotators for count in Counter(own["video_id"]).values()),
        yes=answers["1"].total(), no=answers["0"].total(), unsure=answers["abstain"].total(),
        disputed=len(answers["1"].keys() & answers["0"].keys()),
        compared=sum(count > 1 for count in decided.values()),
    )  # fmt: skip


def _median(values: Any) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None
