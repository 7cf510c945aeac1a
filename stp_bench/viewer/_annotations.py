"""Label work to look at: videos by how much their annotators disagree, with everybody's votes.

Disagreement on a video and an attribute is the share of pairs of its independent votes (yes or no) that differ, as in
the observed disagreement of Krippendorff's alpha; that of a video is the mean over attributes with two votes or more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stp_bench import catalogue, video_io
from stp_bench.annotate import _project as rounds
from stp_bench.annotate._project import ADJUDICATION, ROUND, Project
from stp_bench.annotate.votes import ABSTAIN, NO, YES, attribute_order, read_votes
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, make_folder, safe_join, sha256_file
from stp_bench.progress import Reporter
from stp_bench.viewer._plan import Plan, Sample, Section, Tag, Value, slug
from stp_bench.viewer._render import CORES, folder

if TYPE_CHECKING:
    import pandas as pd

DISPUTED, TIED, UNSURE, UNANIMOUS = "disputed", "tied", "somebody unsure", "unanimous"
_EXPLAINED = {
    DISPUTED: "somebody says yes and somebody no, of some attribute",
    TIED: "as many say yes as no, of some attribute",
    UNSURE: "somebody abstained, of some attribute",
    UNANIMOUS: "nobody contradicts anybody, and nobody abstained",
}
_FALLBACK_FPS = 25.0


@dataclass(frozen=True, eq=False, kw_only=True)
class VotedVideos:
    """A table of votes, and where the videos are that it is about."""

    path: Path
    votes: pd.DataFrame
    """Columns as in `stp_bench.annotate.votes`."""
    files: Mapping[str, Path]
    source: str
    """The labelling round or benchmark that the videos are of."""
    playable: bool
    """Whether every browser plays the files as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The independent votes on one attribute of one video."""

    yes: int
    no: int
    abstain: int

    @property
    def margin(self) -> int:
        """Votes for minus votes against."""
        return self.yes - self.no

    @property
    def disagreement(self) -> float | None:
        """Share of pairs of votes that differ; None of fewer than two votes."""
        count = self.yes + self.no
        return 2 * self.yes * self.no / (count * (count - 1)) if count > 1 else None


def open_votes(path: Path, home: Path, *, on: str | None = None, preset: str = "small", seed: int = 0) -> VotedVideos:
    """A table of votes with its videos: of the benchmark ``on``, else of the labelling round that the file lies in, or
    that has all of these videos.

    Raises:
        UserError: no such file, no valid votes, or nobody knows where the videos are.
        WorkError: videos were moved or removed since.
    """
    votes = read_votes(path)
    ids = sorted(set(votes["video_id"]))
    if not ids:
        raise UserError(f"there is nothing to look at in {path}", "it has no votes", "pull the votes first")
    if on is not None:
        dataset = catalogue.prepared(on, preset=preset, seed=seed, home=home)
        known = {v.video_id: dataset.path(v) for v in dataset.videos if v.video_id in set(ids)}
        source, playable = on, False
    else:
        project = _round(path, ids, home)
        known = {
            video_id: safe_join(project.media, project.videos[video_id])
            for video_id in ids
            if video_id in project.videos
        }
        source, playable = project.name, True
    if unknown := [video_id for video_id in ids if video_id not in known]:
        raise UserError(
            f"{len(unknown)} of {len(ids)} videos in {path} are not in {source}", f"such as {unknown[0]}",
            "name the benchmark that they are of by --on",
        )  # fmt: skip
    if gone := [video_id for video_id in ids if not known[video_id].is_file()]:
        raise WorkError(
            f"{len(gone)} of {len(ids)} videos of {source} are gone", f"there is no {known[gone[0]]}",
            "bring them back there, or prepare the data again from where they are now",
        )  # fmt: skip
    return VotedVideos(path=path.absolute(), votes=votes, files=known, source=source, playable=playable)


def read_margins(path: Path) -> dict[str, dict[str, int]]:
    """The margins of a table of votes. Raises like `read_votes`."""
    return margins(read_votes(path))


def margins(votes: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Votes for minus votes against, by video id and attribute."""
    return {video: {name: tally.margin for name, tally in of.items()} for video, of in tallies(votes).items()}


def tallies(votes: pd.DataFrame) -> dict[str, dict[str, Tally]]:
    """The independent votes counted, by video id and attribute."""
    independent = votes[votes["round"] == ROUND]
    counted = Counter(zip(independent["video_id"], independent["attribute"], independent["vote"]))
    order = attribute_order(votes["attribute"])
    found: dict[str, dict[str, Tally]] = {video: {} for video in sorted(set(votes["video_id"]))}
    for video, of in found.items():
        for name in order:
            yes, no, abstain = (counted[video, name, vote] for vote in (YES, NO, ABSTAIN))
            if yes + no + abstain:
                of[name] = Tally(yes=yes, no=no, abstain=abstain)
    return found


def disagreement(of: Mapping[str, Tally]) -> float:
    """That of a video: the mean over attributes."""
    known = [share for tally in of.values() if (share := tally.disagreement) is not None]
    return sum(known) / len(known) if known else 0.0


def plan_of_votes(voted: VotedVideos, home: Path, reporter: Reporter, *, limit: int) -> Plan:
    """The data set of label work: a sample per video, most disputed first. Videos that no browser plays are copied.

    Raises:
        WorkError: a video cannot be read, or the disk refused.
    """
    counted = tallies(voted.votes)
    order = sorted(counted, key=lambda video: (-disagreement(counted[video]), video))[:limit]
    played = {i: voted.files[i] for i in order} if voted.playable else _copies(voted, order, home, reporter)
    facts = {video_id: _facts(path) for video_id, path in played.items()}
    of_video = dict(tuple(voted.votes.groupby("video_id")))
    groups, verdicts = [], Counter[str]()
    for video_id in order:
        named = _verdicts(counted[video_id])
        verdicts.update(named)
        fields = {"video_id": video_id, "verdict": named, **_fields(counted[video_id], of_video[video_id])}
        frames, fps = facts[video_id]
        groups.append([Sample(slice="", file=played[video_id], fps=fps, frames=frames, fields=fields)])
    attributes = attribute_order(voted.votes["attribute"])
    people = sorted({_suffix(name) for name in voted.votes["annotator"]})
    views = [DISPUTED, *(f"{DISPUTED}: {name}" for name in attributes), TIED, UNSURE, UNANIMOUS]
    return Plan(
        name=f"stp-votes-{slug(voted.source)}-{fingerprint(str(voted.path))[:8]}", groups=groups, slices=(),
        views={name: verdicts[name] for name in views if verdicts[name]},
        explained={name: _explained(name) for name in views},
        sections=_sections(attributes, people), described=_described(attributes, people),
        active=("yes", "verdict"),
        info={
            "kind": "votes", "votes": str(voted.path), "votes_sha256": sha256_file(voted.path), "source": voted.source,
            "media": [] if voted.playable else sorted({path.parent.name for path in played.values()}),
        },
    )  # fmt: skip


def _round(path: Path, ids: Sequence[str], home: Path) -> Project:
    """The labelling round that votes belong to."""
    beside = path.absolute().parent
    if beside.parent == rounds.root(home).absolute() and (beside / "project.json").exists():
        return rounds.open_project(home, beside.name)
    for record in sorted(rounds.root(home).glob("*/project.json")):
        project = rounds.open_project(home, record.parent.name)
        if set(ids) <= set(project.videos):
            return project
    raise UserError(
        f"the videos of {path} are not known", "it lies in no labelling round, and no round here has all of its videos",
        "name the benchmark that they are of by --on",
    )  # fmt: skip


def _fields(of: Mapping[str, Tally], votes: pd.DataFrame) -> dict[str, Value]:
    fields: dict[str, Value] = {
        "disagreement": disagreement(of),
        "annotators": len(set(votes["annotator"][votes["round"] == ROUND])),
        "yes": tuple(Tag(name, tally.yes / (tally.yes + tally.no)) for name, tally in of.items() if tally.yes),
    }
    for name, tally in of.items():
        fields |= {f"n_yes_{name}": tally.yes, f"n_no_{name}": tally.no, f"n_abstain_{name}": tally.abstain}
        fields[f"vote_margin_{name}"] = tally.margin
    for row in votes.itertuples():
        for kind, vote in (("yes", YES), ("no", NO), ("unsure", ABSTAIN)):
            expert = "expert_" if row.round == ADJUDICATION else ""
            if row.vote == vote:
                name = f"{kind}_by_{expert}{_suffix(str(row.annotator))}"
                there = fields.get(name)
                fields[name] = (*(there if isinstance(there, tuple) else ()), Tag(str(row.attribute)))
    return fields


def _verdicts(of: Mapping[str, Tally]) -> list[str]:
    disputed = [name for name, tally in of.items() if tally.yes and tally.no]
    named = [DISPUTED, *(f"{DISPUTED}: {name}" for name in disputed)] if disputed else []
    named += [TIED] if any(t.yes == t.no and t.yes for t in of.values()) else []
    named += [UNSURE] if any(t.abstain for t in of.values()) else []
    return named or [UNANIMOUS]


def _explained(name: str) -> str:
    attribute = name.partition(": ")[2]
    return f"somebody says yes and somebody no, of {attribute}" if attribute else _EXPLAINED[name]


def _sections(attributes: Sequence[str], people: Sequence[str]) -> list[Section]:
    by_person = [f"{kind}_by_{who}{name}" for name in people for who in ("", "expert_") for kind in _KINDS]
    numbers = [f"{what}_{name}" for name in attributes for what in ("vote_margin", "n_yes", "n_no", "n_abstain")]
    return [
        Section(title="what happened: verdicts", fields=("verdict", "disagreement", "annotators", "yes")),
        Section(title="votes per attribute", fields=tuple(numbers)),
        Section(title="votes per annotator", fields=tuple(by_person)),
        Section(title="where it comes from", fields=("video_id",), expanded=False),
    ]


_KINDS = {"yes": "calls identifiable", "no": "calls not identifiable", "unsure": "is not sure of"}


def _described(attributes: Sequence[str], people: Sequence[str]) -> dict[str, str]:
    described = {
        "verdict": "how the votes on this video went; each has a saved view",
        "disagreement": "share of pairs of votes that differ, mean over attributes: 0 all agree",
        "annotators": "how many people voted on this video",
        "yes": "attributes with a vote of yes, and the share of yes among yes and no",
        "video_id": "the video's name",
    }
    for name in attributes:
        described[f"vote_margin_{name}"] = f"votes for {name} minus votes against: near 0 the label is doubtful"
    for name in people:
        for kind, words in _KINDS.items():
            described[f"{kind}_by_{name}"] = f"what {name} {words}"
            described[f"{kind}_by_expert_{name}"] = f"what {name} {words}, adjudicating"
    return described


def _suffix(name: str) -> str:
    """A pseudonym as part of a field's name."""
    return re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_")


def _copies(voted: VotedVideos, video_ids: Sequence[str], home: Path, reporter: Reporter) -> dict[str, Path]:
    """Browser-playable copies, named after the content of the videos."""
    place = make_folder(folder(home) / f"votes-{fingerprint([voted.source, 1])[:16]}")

    def copy(video_id: str) -> Path:
        source = voted.files[video_id]
        target = place / f"{sha256_file(source)[:24]}.mp4"
        if not target.exists():
            facts = video_io.probe(source)
            video_io.write_video(target, video_io.read_frames(source), facts.fps or _FALLBACK_FPS)
        return target

    found = {}
    with reporter.stage("copy videos", len(video_ids), "videos") as task, ThreadPoolExecutor(CORES) as pool:
        for video_id, path in zip(video_ids, pool.map(copy, video_ids), strict=True):
            found[video_id] = path
            task.advance()
    return found


def _facts(path: Path) -> tuple[int, float]:
    """Frames and frame rate of a playable copy."""
    facts = video_io.probe(path)
    return facts.frames, facts.fps or _FALLBACK_FPS
