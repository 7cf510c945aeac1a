"""From predictions to what a person asks of a video: what was found, what leaked, whether the action survived. Pure.

A *verdict* is one such answer, in words that are also the name of a saved view. Of several runs each has its own:
``action lost (blur-strong)``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stp_bench.metrics import UNLABELLED
from stp_bench.predictions import Predictions
from stp_bench.viewer._runs import Run

THRESHOLD = 0.5
"""Scores from here on count as found, as in the benchmark's F1."""
FEW = 24
"""Of more private classes only those count that are there or are found, and none has a view of its own."""
LEAKED, LOST, SUCCESS = "privacy leaked", "action lost", "success"
DISAGREE, ATTACK_FAILED, MOST_PRUNED = "methods disagree", "attack failed on raw", "most pruned"
AMBIGUOUS = "ambiguous label"
MOST = 0.1
"""Share of the videos that are the most pruned ones."""

EXPLAINED = {
    LEAKED: "some attribute that is there was found by the attacker",
    LOST: "the action was not recognized after anonymization",
    SUCCESS: "the action was recognized and nothing leaked",
    DISAGREE: "methods differ in what leaked or in whether the action survived",
    ATTACK_FAILED: "an attribute was missed even on raw videos: a doubtful label, or a weak attacker",
    MOST_PRUNED: "the tenth of the videos that lost most of their edges with the dropped tubelets",
    AMBIGUOUS: "a vote on some attribute was as close as can be",
}


@dataclass(frozen=True, slots=True)
class Guess:
    """A class and the probability that was given to it; none where it is known."""

    name: str
    confidence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the recognizers of one run said of one video."""

    actions: tuple[Guess, ...]
    """The most probable action; of a video that may show several, all that were found."""
    correct: bool
    scores: Mapping[str, float]
    """The stronger attacker's probability per attribute, mean over its seeds; of many attributes those below."""
    found: tuple[Guess, ...]
    """Attributes that the attacker calls identifiable."""
    leaked: tuple[Guess, ...]
    """Those of them that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One test video."""

    video_id: str
    group: str | None
    actions: tuple[str, ...]
    identifiable: tuple[str, ...]
    """Attributes that are there, by the labels."""
    findings: Mapping[str, Finding]
    """By label of the run."""
    verdicts: tuple[str, ...] = ()


def records(runs: Sequence[Run]) -> list[Record]:
    """One record per test video, sorted by id, from runs of the same videos."""
    found = {run.label: _findings(run) for run in runs}
    first = found[runs[0].label]
    made = [
        replace(base, findings={label: of[base.video_id][1] for label, of in found.items()})
        for base, _ in first.values()
    ]
    return [replace(record, verdicts=_verdicts(record, runs)) for record in made]


def judged(runs: Sequence[Run]) -> list[Run]:
    """The runs whose methods are looked at: a run on raw videos is only what they are compared with."""
    return [run for run in runs if not run.identity] or list(runs[:1])


def baseline(runs: Sequence[Run]) -> Run | None:
    """The run on raw videos beside others, if there is one."""
    shown = judged(runs)
    return next((run for run in runs if run.identity and run not in shown), None)


def few_attributes(runs: Sequence[Run]) -> tuple[str, ...]:
    """The private classes, where they are so few that each has fields of its own."""
    names = _attributes(runs[0])
    return names if len(names) <= FEW else ()


def verdict(name: str, run: Run, runs: Sequence[Run]) -> str:
    """A run's verdict by its name among those of several."""
    return name if len(judged(runs)) == 1 else f"{name} ({run.label})"


def view_names(runs: Sequence[Run]) -> list[str]:
    """The verdicts that there can be, in the order of the saved views."""
    names = []
    for run in judged(runs):
        own = [LEAKED, *(f"leaked: {name}" for name in few_attributes(runs)), LOST, SUCCESS, MOST_PRUNED]
        names += [verdict(name, run, runs) for name in own]
    names += [DISAGREE] if len(judged(runs)) > 1 else []
    return names + ([ATTACK_FAILED] if baseline(runs) else []) + [AMBIGUOUS]


def explained(name: str) -> str:
    """What a verdict means, in one sentence."""
    plain = name.partition(" (")[0]
    if plain.startswith("leaked: "):
        return f"{plain.removeprefix('leaked: ')} is there and was found by the attacker"
    return EXPLAINED[plain]


def failed(record: Record) -> bool:
    """Whether some method lost the action or leaked an attribute."""
    return any(v.startswith((LEAKED, LOST)) for v in record.verdicts)


def choose(of: Sequence[Record], limit: int) -> list[Record]:
    """At most ``limit`` records, sorted by id: failures first, then others; which ones depends on their ids alone."""
    ranked = sorted(of, key=lambda r: (not failed(r), hashlib.sha256(r.video_id.encode()).digest()))
    return sorted(ranked[:limit], key=lambda r: r.video_id)


def with_most_pruned(
    of: Sequence[Record], pruned: Mapping[str, Mapping[str, float]], runs: Sequence[Run]
) -> list[Record]:
    """Records that also say which videos were pruned most.

    Args:
        pruned: label of a run to video id to the share that went; runs that drop nothing are absent.
    """
    most: dict[str, list[str]] = {}
    for run in judged(runs):
        of_run = pruned.get(run.label, {})
        ranked = sorted((v for v in of_run if of_run[v] > 0), key=lambda v: (-of_run[v], v))
        for video_id in ranked[: max(1, round(MOST * len(ranked)))]:
            most.setdefault(video_id, []).append(verdict(MOST_PRUNED, run, runs))
    return [replace(r, verdicts=(*r.verdicts, *most.get(r.video_id, ()))) for r in of]


def with_votes(of: Sequence[Record], margins: Mapping[str, Mapping[str, int]]) -> list[Record]:
    """Records that also say whose labels were decided by a single vote, or by none.

    Args:
        margins: video id to attribute to votes for minus votes against.
    """
    close = {video_id for video_id, row in margins.items() if any(abs(margin) <= 1 for margin in row.values())}
    return [replace(r, verdicts=(*r.verdicts, AMBIGUOUS)) if r.video_id in close else r for r in of]


def counts(of: Iterable[Record], names: Sequence[str]) -> dict[str, int]:
    """How many records each verdict has."""
    found = Counter(v for record in of for v in record.verdicts)
    return {name: found[name] for name in names}


def _verdicts(record: Record, runs: Sequence[Run]) -> tuple[str, ...]:
    names = []
    few = set(few_attributes(runs))
    for run in judged(runs):
        finding = record.findings[run.label]
        leaked = [guess.name for guess in finding.leaked]
        own = [LEAKED, *(f"leaked: {name}" for name in leaked if name in few)] if leaked else []
        own += [LOST] if not finding.correct else []
        names += [verdict(name, run, runs) for name in own or [SUCCESS]]
    outcomes = {
        (frozenset(g.name for g in record.findings[run.label].leaked), record.findings[run.label].correct)
        for run in judged(runs)
    }
    names += [DISAGREE] if len(outcomes) > 1 else []
    raw = baseline(runs)
    if raw and {g.name for g in record.findings[raw.label].leaked} < set(record.identifiable):
        names.append(ATTACK_FAILED)
    return tuple(names)


def _attributes(run: Run) -> tuple[str, ...]:
    """Names of the private classes; where they come in groups, two groups may have the same."""
    reference = run.reference
    if not reference.groups:
        return run.predictions.attributes
    groups = [name for name, size in reference.groups for _ in range(size)]
    return tuple(f"{group}: {name}" for group, name in zip(groups, reference.attributes, strict=True))


def _findings(run: Run) -> dict[str, tuple[Record, Finding]]:
    """Per video a record of its labels, and what this run found. Where frames are judged, an attribute counts as there
    if some frame shows it, and its score is the mean over frames."""
    predictions, names = run.predictions, _attributes(run)
    kinds = [a for a in predictions.attackers if a.partition("-")[0] == run.attacker]
    scores_VK = np.mean([predictions.scores_VK(attacker) for attacker in kinds], axis=0)
    labels_VK = predictions.labels_VK
    units = predictions.units.select(["video_id", "group"]).to_pydict()
    true, guessed, right = _actions(predictions, run.reference.actions)
    few = len(names) <= FEW
    found: dict[str, tuple[Record, Finding]] = {}
    starts = [i for i, v in enumerate(units["video_id"]) if not i or v != units["video_id"][i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(units["video_id"])], strict=True):
        score_K, label_K = scores_VK[start:stop].mean(axis=0), labels_VK[start:stop].max(axis=0)
        guesses = {int(k): Guess(names[k], float(score_K[k])) for k in np.flatnonzero(score_K >= THRESHOLD)}
        shown = range(len(names)) if few else np.flatnonzero((label_K == 1) | (score_K >= THRESHOLD))
        finding = Finding(
            actions=guessed[start],
            correct=right[start],
            scores={names[k]: float(score_K[k]) for k in shown},
            found=tuple(guess for k, guess in guesses.items() if label_K[k] != UNLABELLED),
            leaked=tuple(guess for k, guess in guesses.items() if label_K[k] == 1),
        )
        there = tuple(names[k] for k in np.flatnonzero(label_K == 1))
        video_id = units["video_id"][start]
        base = Record(
            video_id=video_id, group=units["group"][start], actions=true[start], identifiable=there, findings={}
        )
        found[video_id] = base, finding
    return found


def _actions(
    predictions: Predictions, names: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[tuple[Guess, ...]], list[bool]]:
    """Per unit the true actions, the recognized ones, and whether the most probable one is true."""
    posterior_VC = predictions.posterior_VC
    if predictions.several_actions:
        true = [tuple(names[c] for c in np.flatnonzero(row == 1)) for row in predictions.actions_VC]
        guessed = []
        for row in posterior_VC:
            chosen = {int(row.argmax()), *np.flatnonzero(row >= THRESHOLD).tolist()}
            guessed.append(tuple(Guess(names[c], float(row[c])) for c in sorted(chosen, key=lambda c: (-row[c], c))))
        return true, guessed, [g[0].name in t for g, t in zip(guessed, true, strict=True)]
    units = predictions.units.select(["action", "action_pred"]).to_pydict()
    confidence = posterior_VC.max(axis=1)
    return (
        [(name,) for name in units["action"]],
        [(Guess(name, float(c)),) for name, c in zip(units["action_pred"], confidence, strict=True)],
        [a == b for a, b in zip(units["action"], units["action_pred"], strict=True)],
    )
