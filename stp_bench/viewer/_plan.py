"""What a viewer's data set holds, before any viewer sees it: samples with their fields, views, the sidebar.

Plain values throughout, so that the mapping can be read and tested without FiftyOne.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stp_bench.files import fingerprint
from stp_bench.viewer import _records
from stp_bench.viewer._records import Finding, Guess, Record
from stp_bench.viewer._render import ANONYMIZED, RAW, SPARSIFIED, TRIPTYCH, Facts, Media
from stp_bench.viewer._runs import Run, run_id

FORMAT = 1
"""Raised by hand whenever the same runs would give another data set: one that is there is then built anew."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A label with or without a probability."""

    name: str
    confidence: float | None = None


Value = str | int | float | bool | list[str] | Tag | tuple[Tag, ...] | None
"""A tuple of tags is a multi-label field, a list a list of strings; None leaves the field empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One playable file and what is known of it."""

    slice: str
    """Its place in the group; empty where there are no groups."""
    file: Path
    fps: float
    frames: int
    fields: Mapping[str, Value]
    tags: tuple[str, ...] = ()
    keep_LNN: NDArray[np.bool_] | None = None
    """Kept tubelets per time slot, to be drawn over its frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A group of fields in the sidebar."""

    title: str
    fields: tuple[str, ...]
    expanded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole data set."""

    name: str
    groups: Sequence[Sequence[Sample]]
    slices: tuple[str, ...]
    """Empty where every sample stands alone."""
    default_slice: str = ""
    views: Mapping[str, int]
    """Verdict, which is the name of a saved view, to the number of groups that have it."""
    explained: Mapping[str, str]
    """View to one sentence."""
    sections: Sequence[Section]
    described: Mapping[str, str]
    """Field to one sentence."""
    active: tuple[str, ...]
    """Fields that are painted at the start."""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Fingerprint of the content: a data set of the same key need not be built again."""
        samples = [
            [s.slice, str(s.file), s.tags, {n: _plain(v) for n, v in s.fields.items()}, s.keep_LNN is not None]
            for group in self.groups
            for s in group
        ]
        return fingerprint([FORMAT, self.name, samples, [*self.views], dict(self.info)])


def slug(view: str) -> str:
    """A view's name in a link: lower case, with hyphens.

    >>> slug("leaked: face (blur-strong)")
    'leaked-face-blur-strong'
    """
    return re.sub(r"-+", "-", re.sub(r"[^0-9a-z_]+", "-", view.lower())).strip("-")


def dataset_name(runs: Sequence[Run]) -> str:
    """``stp-<benchmark>-<run id>``."""
    return f"stp-{slug(runs[0].result.on)}-{run_id(runs)}"


def plan_of(
    runs: Sequence[Run],
    records: Sequence[Record],
    media: Mapping[str, Media],
    *,
    frames: str,
    margins: Mapping[str, Mapping[str, int]] | None = None,
) -> Plan:
    """The grouped data set of some runs: per video raw, sparsified, anonymized, and all side by side.

    Args:
        records: the videos to show, with all their verdicts.
        media: video id to its files.
        frames: which videos get retention heatmaps: ``all``, ``failures`` or ``none``.
        margins: votes for minus votes against, by video id and attribute, where there were votes.
    """
    shown = _records.judged(runs)
    labels = [run.label for run in shown]
    groups = []
    for record in records:
        heat = frames == "all" or (frames == "failures" and _records.failed(record))
        groups.append(_group(record, runs, media[record.video_id], heat, (margins or {}).get(record.video_id, {})))
    slices = tuple(dict.fromkeys(sample.slice for group in groups for sample in group))
    attributes = _records.few_attributes(runs)
    used = {name for group in groups for sample in group for name in sample.fields}
    sections, described = _sections(runs, attributes, used)
    names = _records.view_names(runs)
    counted = _records.counts(records, names)
    return Plan(
        name=dataset_name(runs), groups=groups, slices=slices, default_slice=TRIPTYCH,
        views={name: counted[name] for name in names if counted[name]},
        explained={name: _records.explained(name) for name in names},
        sections=sections, described=described,
        active=("action_pred", "leaked") if len(labels) == 1 else ("action", "leaked_in_output"),
        info={
            "kind": "runs", "runs": [str(run.folder) for run in runs], "benchmark": runs[0].result.on,
            "methods": labels, "attackers": {run.label: run.attacker for run in runs}, "frames": frames,
            "media": sorted({path.parent.name for of in media.values() for path in of.files.values()}),
        },
    )  # fmt: skip


def _group(record: Record, runs: Sequence[Run], media: Media, heat: bool, margins: Mapping[str, int]) -> list[Sample]:
    shown, raw = _records.judged(runs), _records.baseline(runs)
    labels = [run.label for run in shown]
    several = len(labels) > 1
    few = _records.few_attributes(runs)
    common: dict[str, Value] = {
        "video_id": record.video_id,
        "source": record.group,
        "split": f"{runs[0].result.split} test",
        "run_id": run_id(runs),
        "action": _tags([Guess(name, None) for name in record.actions], runs),
        "privacy_gt": tuple(Tag(name) for name in record.identifiable),
        "verdict": list(record.verdicts),
        "leaked_in_output": list(
            dict.fromkeys(guess.name for run in shown for guess in record.findings[run.label].leaked)
        ),
        **{f"vote_margin_{name}": margin for name, margin in margins.items()},
    }
    for run in shown if several else ():
        common |= {f"{name}__{run.suffix}": value for name, value in _own(record, run, media.facts, few, runs).items()}
    samples = []
    for name, path in media.files.items():
        kind, _, label = name.partition(":")
        own: dict[str, Value] = {"method": None}
        keep = None
        if kind == RAW and raw is not None:
            own = {"method": raw.label, **_found(record.findings[raw.label], few, runs)}
        elif kind in (ANONYMIZED, SPARSIFIED) or (kind == TRIPTYCH and not several):
            run = next(run for run in shown if run.label == (label or labels[0]))
            facts = media.facts[run.label]
            own = {"method": run.label, **_measured(facts, kind)}
            if kind != SPARSIFIED:
                own |= _found(record.findings[run.label], few, runs)
            elif heat:
                keep = facts.keep_LNN
        if kind == RAW and heat and not several:
            keep = media.facts[labels[0]].keep_LNN
        samples.append(
            Sample(
                slice=name, file=path, fps=media.fps, frames=media.frames, fields=common | own, keep_LNN=keep,
                tags=("test",),
            )
        )  # fmt: skip
    return samples


def _found(finding: Finding, few: Sequence[str], runs: Sequence[Run]) -> dict[str, Value]:
    """What recognizers found, as fields."""
    return {
        "action_pred": _tags(finding.actions, runs),
        "action_correct": finding.correct,
        "privacy_pred": tuple(Tag(g.name, g.confidence) for g in finding.found),
        "leaked": tuple(Tag(g.name, g.confidence) for g in finding.leaked),
        "n_leaked": len(finding.leaked),
        **{f"score_{name}": finding.scores[name] for name in few},
    }


def _measured(facts: Facts, kind: str) -> dict[str, Value]:
    """What was measured on a clip, as fields; of the sparsified one what was measured on that."""
    if kind == SPARSIFIED:
        likeness = facts.sparsified_edge_similarity, facts.sparsified_ssim
    else:
        likeness = facts.edge_similarity, facts.ssim
    kept = float(facts.keep_LNN.mean()) if facts.keep_LNN is not None else None
    return {"edge_similarity": likeness[0], "ssim": likeness[1], "kept": kept, "pruned": facts.pruned}


def _own(
    record: Record, run: Run, facts: Mapping[str, Facts], few: Sequence[str], runs: Sequence[Run]
) -> dict[str, Value]:
    """Everything about one of several methods, for fields that every slice has."""
    mark = f" ({run.label})"
    own = [v.removesuffix(mark) for v in record.verdicts if v.endswith(mark)]
    return {"verdict": own, **_found(record.findings[run.label], few, runs), **_measured(facts[run.label], ANONYMIZED)}


def _tags(guesses: Sequence[Guess], runs: Sequence[Run]) -> Value:
    """Actions as a field: one label, or a list where a video of this benchmark may show several."""
    tags = tuple(Tag(g.name, g.confidence) for g in guesses)
    return tags if runs[0].predictions.several_actions else tags[0]


_DESCRIBED = {
    "verdict": "what happened to this video; each has a saved view",
    "leaked_in_output": "attributes that are there and that the attacker finds after anonymization",
    "action": "the action by the labels",
    "action_pred": "the action that a recognizer, trained on videos anonymized like this one, sees here",
    "action_correct": "whether that is the right one",
    "privacy_gt": "attributes that are identifiable by the labels",
    "privacy_pred": "attributes that the attacker calls identifiable (score 0.5 and more)",
    "leaked": "those of them that are: what leaked",
    "n_leaked": "how many leaked",
    "kept": "share of tubelets that the method kept",
    "pruned": "share of the raw clip's edges that lay in dropped tubelets",
    "edge_similarity": "correlation of the edges with those of the raw clip: 1 the same silhouettes, 0 unrelated",
    "ssim": "structural similarity to the raw clip: 1 the same",
    "frames.retention": "tubelets kept at the time of this frame",
    "frames.kept": "share of tubelets kept at the time of this frame",
    "video_id": "the video's name in its benchmark",
    "source": "videos of one source are parts of one recording",
    "method": "what made this slice; none for the raw clip",
    "split": "which split's test side the video belongs to",
    "run_id": "the run, or runs, that this was built from",
}


def _sections(runs: Sequence[Run], attributes: Sequence[str], used: set[str]) -> tuple[list[Section], dict[str, str]]:
    """The sidebar, and what its fields mean."""
    shown = _records.judged(runs)
    scores = [f"score_{name}" for name in attributes]
    privacy = ("privacy_gt", "privacy_pred", "leaked", "n_leaked")
    described = dict(_DESCRIBED)
    described |= {f"score_{name}": f"the attacker's probability that {name} is identifiable" for name in attributes}
    votes = sorted(name for name in used if name.startswith("vote_margin_"))
    described |= dict.fromkeys(votes, "votes for minus votes against: near 0 the label is doubtful")
    sections = [
        Section(title="what happened: verdicts", fields=("verdict", "leaked_in_output")),
        Section(title="action: does it survive?", fields=("action", "action_pred", "action_correct")),
        Section(title="privacy: what does the attacker find?", fields=(*privacy, *scores)),
        Section(title="pruning: which tubelets went?", fields=("frames.retention", "frames.kept", "kept", "pruned")),
        Section(title="likeness to raw", fields=("edge_similarity", "ssim")),
    ]  # fmt: skip
    if votes:
        sections.append(Section(title="votes: which labels are doubtful?", fields=tuple(votes)))
    for run in shown if len(shown) > 1 else ():
        own = [name for name in sorted(used) if name.endswith(f"__{run.suffix}")]
        described |= {
            name: f"{run.label}: {described.get(name.partition('__')[0], name.partition('__')[0])}" for name in own
        }
        sections.append(Section(title=f"method {run.label}", fields=tuple(own), expanded=False))
    origin = ("video_id", "source", "method", "split", "run_id")
    sections.append(Section(title="where it comes from", fields=origin, expanded=False))
    return sections, described


def _plain(value: Value) -> Any:
    if isinstance(value, Tag):
        return [value.name, value.confidence]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
