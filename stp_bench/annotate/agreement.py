"""How far annotators agree, and who does not: what a data team needs to defend its labels.

Three coefficients, always together with the prevalence, since each alone misleads on a rare attribute: the same five
simulated annotators keep a percent agreement of 0.70 while Krippendorff's alpha falls from 0.38 to 0.09 as positives
go from 60 % to 5 %. With y_v and n_v the yes and no votes of video v and r_v = y_v + n_v ("not sure" is no vote):

- percent agreement: the mean over videos with r_v >= 2 of the share of agreeing pairs of votes,
  [y_v(y_v - 1) + n_v(n_v - 1)] / [r_v(r_v - 1)].
- Krippendorff's alpha, nominal: 1 - D_o / D_e over the videos with r_v >= 2, with D_o = sum of 2 y_v n_v / (r_v - 1)
  and D_e = 2 Y N / (Y + N - 1), where Y and N are all their votes (Krippendorff, "Content Analysis", chapter 12).
  Undefined where everybody always says the same.
- Gwet's AC1: (p_a - p_e) / (1 - p_e), where p_a is the percent agreement, p_e = 2 q (1 - q), and q is the mean over
  videos of y_v / r_v (Gwet, "Computing inter-rater reliability and its variance in the presence of high agreement",
  British Journal of Mathematical and Statistical Psychology 61, 2008).

All are functions of how many videos have which (y, n), of which there are few; so a bootstrap over videos is a draw of
these counts. Only votes of the independent round are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stp_bench.annotate import dawid_skene
from stp_bench.annotate._project import ROUND
from stp_bench.annotate.majority import Decision
from stp_bench.annotate.votes import ABSTAIN, YES
from stp_bench.metrics import interval

COEFFICIENTS = ("percent", "alpha", "ac1")
DRAWS = 1000
"""Bootstrap samples of an interval."""
FAR_VOTES, FAR_POINTS, FAR_ERRORS = 20, 0.05, 3.0
FAR = (
    f"on at least {FAR_VOTES} votes, an annotator agrees with the majority of the others at least "
    f"{100 * FAR_POINTS:.0f} points and {FAR_ERRORS:.0f} standard errors (of two pooled proportions) less often than "
    "the other annotators do"
)
"""The rule by which an annotator is far from the rest."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PAIRS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Agreement of some votes. A coefficient that is undefined is None, and so is its interval."""

    videos: int
    """With at least two valid votes."""
    prevalence: float | None
    """Mean share of yes among a video's valid votes."""
    percent: float | None
    alpha: float | None
    ac1: float | None
    ci95: Mapping[str, tuple[float, float] | None]
    """Coefficient to the central 95 % of a bootstrap over videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeAgreement:
    """One attribute."""

    agreement: Coefficients
    abstained: float | None
    """Share of votes that are "not sure"."""
    model_differs: int
    """Decided labels on which the model of Dawid and Skene takes the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Two annotators on one attribute."""

    first: str
    second: str
    attribute: str
    agreement: Coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of some cases; None of none."""

    of: int
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorReport:
    """One annotator."""

    annotator: str
    videos: int
    votes: int
    abstained: float | None
    skipped: float | None
    """Share of videos that were skipped, among those answered or skipped."""
    agreement: Mapping[str, Share]
    """Attribute (``all`` for all) to how often the others' majority says the same, where they have one."""
    sensitivity: Mapping[str, float | None]
    """Attribute to the model's estimate."""
    specificity: Mapping[str, float | None]
    seconds_median: float | None
    """Of a video's form."""
    faster_than_clip: Share
    """Videos answered in less time than they last."""
    longest_run: int
    """Most videos in a row, in the order of answering, with the same answers throughout."""
    gold: Mapping[str, Share] = field(default_factory=dict)
    """Attribute (``all`` for all) to how often the answer is that of the gold questions."""
    far: tuple[str, ...] = ()
    """Attributes on which this annotator is far from the rest: `FAR`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """All of it."""

    attributes: Mapping[str, AttributeAgreement]
    pairs: tuple[PairAgreement, ...]
    annotators: tuple[AnnotatorReport, ...]
    gold: Mapping[str, Share]
    """Attribute (``all`` for all) to how often the decided label is that of the gold questions."""
    undefined: tuple[str, ...]
    """``<attribute>.<coefficient>`` of those that are None."""


def coefficients(yes_P: Ints, no_P: Ints, count_P: Ints | Floats) -> tuple[Floats, Floats, Floats]:
    """Percent agreement, alpha and AC1, NaN where undefined.

    Args:
        yes_P: yes votes of a video of each pattern.
        no_P: its no votes.
        count_P: how many videos have the pattern, (..., P); leading axes, such as bootstrap samples, are kept.
    """
    rated_P = yes_P + no_P
    paired_P = rated_P >= 2
    with np.errstate(invalid="ignore", divide="ignore"):
        agree_P = np.where(paired_P, (yes_P * (yes_P - 1) + no_P * (no_P - 1)) / (rated_P * (rated_P - 1)), 0)
        differ_P = np.where(paired_P, 2 * yes_P * no_P / (rated_P - 1), 0)
        share_P = np.where(rated_P > 0, yes_P / rated_P, 0)
        percent = (count_P * agree_P).sum(axis=-1) / (count_P * paired_P).sum(axis=-1)
        yes, no = (count_P * paired_P * yes_P).sum(axis=-1), (count_P * paired_P * no_P).sum(axis=-1)
        alpha = 1 - (count_P * differ_P).sum(axis=-1) * (yes + no - 1) / (2.0 * yes * no)
        q = (count_P * share_P).sum(axis=-1) / (count_P * (rated_P > 0)).sum(axis=-1)
        by_chance = 2 * q * (1 - q)
        ac1 = (percent - by_chance) / (1 - by_chance)
    return percent, np.where(np.isfinite(alpha), alpha, np.nan), ac1


def agreement(
    votes: pd.DataFrame,
    decision: Decision,
    *,
    skipped: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
    gold: Mapping[str, Mapping[str, int]] | None = None,
    draws: int = DRAWS,
) -> Agreement:
    """How far the annotators of a round agree.

    Args:
        votes: as `stp_bench.annotate.votes` writes them, of any rounds.
        decision: what was decided on them.
        skipped: annotator to number of videos skipped.
        durations: video id to seconds; shares of videos of unknown duration are over the others.
        gold: video id to attribute to the right answer, 1 or 0.
        draws: bootstrap samples.
    """
    votes = votes[(votes["round"] == ROUND) & votes["video_id"].isin(set(decision.videos))]
    table = _Coded.of(votes, decision)
    generator = np.random.default_rng(0)
    per_attribute, models = {}, []
    for k, name in enumerate(decision.attributes):
        yes_V, no_V, abstain_V = decision.count_VK3[:, k].T
        found = _described(*_patterns(yes_V, no_V), generator, draws)
        model = table.model(k)
        models.append(model)
        decided_V = decision.label_VK[:, k] >= 0
        differs_V = (
            decided_V & ((model.posterior_V > 0.5) != (decision.label_VK[:, k] == 1)) & (model.posterior_V != 0.5)
        )
        total = int(decision.count_VK3[:, k].sum())
        per_attribute[name] = AttributeAgreement(
            agreement=found,
            abstained=int(abstain_V.sum()) / total if total else None,
            model_differs=int((differs_V & ~np.isnan(model.posterior_V)).sum()),
        )
    undefined = tuple(
        f"{name}.{c}" for name, of in per_attribute.items() for c in COEFFICIENTS if getattr(of.agreement, c) is None
    )
    return Agreement(
        attributes=per_attribute,
        pairs=tuple(pair for k in range(len(decision.attributes)) for pair in table.pairs(k, generator, draws)),
        annotators=table.annotators(models, skipped or {}, durations or {}, gold or {}),
        gold=_gold_of_labels(decision, gold) if gold else {},
        undefined=undefined,
    )


def _patterns(yes_V: Ints, no_V: Ints) -> tuple[Ints, Ints, Ints]:
    """Which (yes, no) occur among videos with a vote, and how often."""
    both = np.stack([yes_V, no_V], axis=1)[yes_V + no_V > 0]
    if not len(both):  # a pattern that no video has: draws need one
        none_P = np.zeros(1, dtype=np.int64)
        return none_P, none_P, none_P
    patterns, counts = np.unique(both, axis=0, return_counts=True)
    return patterns[:, 0], patterns[:, 1], counts


def _described(yes_P: Ints, no_P: Ints, count_P: Ints, generator: np.random.Generator, draws: int) -> Coefficients:
    (found,) = _all_described(yes_P, no_P, count_P[None], generator, draws)
    return found


def _all_described(
    yes_P: Ints, no_P: Ints, count_GP: Ints, generator: np.random.Generator, draws: int
) -> list[Coefficients]:
    """Coefficients and intervals of several groups of videos, G, that share their patterns."""
    total_G = count_GP.sum(axis=1)
    share_GP = count_GP / np.maximum(total_G, 1)[:, None]
    share_GP[total_G == 0, -1:] = 1  # a draw of no videos still needs probabilities
    drawn_RGP = generator.multinomial(total_G, share_GP, size=(draws, len(count_GP)))
    values = [*coefficients(yes_P, no_P, count_GP)]
    sampled = [*coefficients(yes_P, no_P, drawn_RGP)]
    rated_P = yes_P + no_P
    share_P = np.divide(yes_P, rated_P, out=np.zeros(len(yes_P)), where=rated_P > 0)
    found = []
    for g, total in enumerate(total_G.tolist()):
        known = {name: _defined(of[g]) for name, of in zip(COEFFICIENTS, values, strict=True)}
        found.append(
            Coefficients(
                videos=int(count_GP[g][rated_P >= 2].sum()),
                prevalence=float((count_GP[g] * share_P).sum() / total) if total else None,
                **known,
                ci95={
                    name: None if known[name] is None else interval(of[:, g])
                    for name, of in zip(COEFFICIENTS, sampled, strict=True)
                },
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Coded:
    """Independent votes as numbers, N of them: which annotator, video and attribute, and 1, 0 or -1 (not sure)."""

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    videos: tuple[str, ...]
    annotator_N: NDArray[np.intp]
    video_N: NDArray[np.intp]
    attribute_N: NDArray[np.intp]
    vote_N: NDArray[np.int8]
    agrees_N: NDArray[np.int8]
    """1 where the majority of the others says the same, 0 where it says the other, -1 where there is none."""
    table: pd.DataFrame

    @classmethod
    def of(cls, votes: pd.DataFrame, decision: Decision) -> _Coded:
        names = tuple(sorted(votes["annotator"].unique()))
        coded = [
            pd.Index(known).get_indexer(pd.Index(votes[column]))
            for known, column in (
                (names, "annotator"), (decision.videos, "video_id"), (decision.attributes, "attribute")
            )
        ]  # fmt: skip
        annotator_N, video_N, attribute_N = coded
        vote_N = np.select([votes["vote"] == ABSTAIN, votes["vote"] == YES], [-1, 1], 0).astype(np.int8)
        yes_N, no_N = decision.count_VK3[video_N, attribute_N, :2].T
        ahead_N = (yes_N - (vote_N == 1)) - (no_N - (vote_N == 0))
        agrees_N = np.where((vote_N < 0) | (ahead_N == 0), -1, (ahead_N > 0) == (vote_N == 1)).astype(np.int8)
        return cls(
            names, decision.attributes, decision.videos, annotator_N, video_N, attribute_N, vote_N, agrees_N, votes
        )

    def model(self, k: int) -> dawid_skene.Fit:
        chosen = (self.attribute_N == k) & (self.vote_N >= 0)
        made = dawid_skene.fit(self.video_N[chosen], self.annotator_N[chosen], self.vote_N[chosen] == 1)
        return dawid_skene.Fit(
            _filled(made.posterior_V, len(self.videos)),
            _filled(made.sensitivity_A, len(self.names)),
            _filled(made.specificity_A, len(self.names)),
            made.prevalence,
        )

    def pairs(self, k: int, generator: np.random.Generator, draws: int) -> list[PairAgreement]:
        """Every two annotators who both answered for some video."""
        chosen = (self.attribute_N == k) & (self.vote_N >= 0)
        said_AV = np.zeros((2, len(self.names), len(self.videos)), dtype=np.float32)  # no, yes
        said_AV[self.vote_N[chosen], self.annotator_N[chosen], self.video_N[chosen]] = 1
        no_AV, yes_AV = said_AV
        both_yes, both_no, split = yes_AV @ yes_AV.T, no_AV @ no_AV.T, yes_AV @ no_AV.T
        count_AA3 = np.stack([both_yes, split + split.T, both_no], axis=-1).round().astype(np.int64)
        first, second = np.nonzero(np.triu(count_AA3.sum(axis=-1), 1))
        found: list[Coefficients] = []
        for start in range(0, len(first), _PAIRS_AT_ONCE):  # bounds the memory of their samples
            some = slice(start, start + _PAIRS_AT_ONCE)
            counts = count_AA3[first[some], second[some]]
            found += _all_described(np.array([2, 1, 0]), np.array([0, 1, 2]), counts, generator, draws)
        return [
            PairAgreement(first=self.names[a], second=self.names[b], attribute=self.attributes[k], agreement=of)
            for a, b, of in zip(first, second, found, strict=True)
        ]

    def annotators(
        self,
        models: Sequence[dawid_skene.Fit],
        skipped: Mapping[str, int],
        durations: Mapping[str, float],
        gold: Mapping[str, Mapping[str, int]],
    ) -> tuple[AnnotatorReport, ...]:
        forms = self._forms(durations)
        agreed_AK, compared_AK = self._by_attribute(self.agrees_N)
        right_AK, asked_AK = self._by_attribute(self._right(gold))
        votes_A = np.bincount(self.annotator_N, minlength=len(self.names))
        unsure_A = np.bincount(self.annotator_N, weights=self.vote_N < 0, minlength=len(self.names))
        far_AK = _far(agreed_AK, compared_AK)
        reports = []
        for a, name in enumerate(self.names):
            skips = skipped.get(name, 0)
            form = forms[a]
            reports.append(
                AnnotatorReport(
                    annotator=name,
                    videos=form.videos,
                    votes=int(votes_A[a]),
                    abstained=float(unsure_A[a] / votes_A[a]),
                    skipped=skips / (skips + form.videos),
                    agreement=_shares(self.attributes, agreed_AK[a], compared_AK[a]),
                    sensitivity={k: _defined(m.sensitivity_A[a]) for k, m in zip(self.attributes, models, strict=True)},
                    specificity={k: _defined(m.specificity_A[a]) for k, m in zip(self.attributes, models, strict=True)},
                    seconds_median=form.seconds,
                    faster_than_clip=form.faster,
                    longest_run=form.longest_run,
                    gold=_shares(self.attributes, right_AK[a], asked_AK[a]) if gold else {},
                    far=tuple(k for k, far in zip(self.attributes, far_AK[a], strict=True) if far),
                )
            )
        return tuple(reports)

    def _by_attribute(self, good_N: NDArray[np.int8]) -> tuple[Floats, Floats]:
        """Good cases and cases of each annotator and attribute, (A, K); -1 is no case."""
        shape = len(self.names), len(self.attributes)
        flat = np.ravel_multi_index((self.annotator_N, self.attribute_N), shape)
        good, cases = (
            np.bincount(flat, weights=of.astype(np.float64), minlength=math.prod(shape)).astype(np.float64)
            for of in (good_N == 1, good_N >= 0)
        )
        return good.reshape(shape), cases.reshape(shape)

    def _right(self, gold: Mapping[str, Mapping[str, int]]) -> NDArray[np.int8]:
        answer_VK = np.full((len(self.videos), len(self.attributes)), -1, dtype=np.int8)
        for v, video_id in enumerate(self.videos):
            for k, name in enumerate(self.attributes):
                answer_VK[v, k] = gold.get(video_id, {}).get(name, -1)
        answer_N = answer_VK[self.video_N, self.attribute_N]
        return np.where((answer_N < 0) | (self.vote_N < 0), -1, answer_N == self.vote_N).astype(np.int8)

    def _forms(self, durations: Mapping[str, float]) -> list[_Forms]:
        """What the forms of each annotator tell: one per video, however many votes."""
        # The answers of a form as one number, in which each attribute has two bits.
        word_N = (self.vote_N.astype(np.int64) + 2) << (2 * self.attribute_N % 62)
        answers = pd.DataFrame(
            {
                "a": self.annotator_N, "v": self.video_N, "word": word_N,
                "seconds": self.table["seconds"].to_numpy(), "at": self.table["created_at"].to_numpy(),
            }
        )  # fmt: skip
        forms = answers.groupby(["a", "v"], sort=True).agg(
            word=("word", "sum"), seconds=("seconds", "first"), at=("at", "first")
        )
        forms = forms.reset_index().sort_values(["a", "at", "v"], kind="stable")
        lasts = np.array([durations.get(video_id, np.nan) for video_id in self.videos], dtype=np.float64)
        found = []
        for _, of in forms.groupby("a", sort=True):
            seconds, duration = of["seconds"].to_numpy(np.float64), lasts[of["v"].to_numpy()]
            timed = ~np.isnan(seconds) & ~np.isnan(duration)
            faster = int((seconds[timed] < duration[timed]).sum())
            known = seconds[~np.isnan(seconds)]
            found.append(
                _Forms(
                    videos=len(of),
                    seconds=float(np.median(known)) if len(known) else None,
                    faster=_share(faster, int(timed.sum())),
                    longest_run=_longest_run(of["word"].to_numpy()),
                )
            )
        return found


class _Forms(NamedTuple):
    videos: int
    seconds: float | None
    faster: Share
    longest_run: int


def _longest_run(values: NDArray[np.int64]) -> int:
    """How many equal values in a row there are at most."""
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    return int(np.diff(ends, prepend=-1).max()) if len(values) else 0


def _far(agreed_AK: Floats, compared_AK: Floats) -> NDArray[np.bool_]:
    """By the rule `FAR`."""
    others_agreed, others = agreed_AK.sum(axis=0) - agreed_AK, compared_AK.sum(axis=0) - compared_AK
    with np.errstate(invalid="ignore", divide="ignore"):
        behind = others_agreed / others - agreed_AK / compared_AK
        pooled = agreed_AK.sum(axis=0) / compared_AK.sum(axis=0)
        error = np.sqrt(pooled * (1 - pooled) * (1 / compared_AK + 1 / others))
    far: NDArray[np.bool_] = (compared_AK >= FAR_VOTES) & (behind >= FAR_POINTS) & (behind > FAR_ERRORS * error)
    return far


def _gold_of_labels(decision: Decision, gold: Mapping[str, Mapping[str, int]]) -> dict[str, Share]:
    right, asked = np.zeros(len(decision.attributes)), np.zeros(len(decision.attributes))
    for v, video_id in enumerate(decision.videos):
        for k, name in enumerate(decision.attributes):
            answer, label = gold.get(video_id, {}).get(name, -1), int(decision.label_VK[v, k])
            if answer >= 0 and label >= 0:
                asked[k] += 1
                right[k] += answer == label
    return _shares(decision.attributes, right, asked)


def _shares(attributes: Sequence[str], good_K: Floats, of_K: Floats) -> dict[str, Share]:
    found = {name: _share(int(good_K[k]), int(of_K[k])) for k, name in enumerate(attributes)}
    return {"all": _share(int(good_K.sum()), int(of_K.sum())), **found}


def _share(part: int, of: int) -> Share:
    return Share(of=of, share=part / of if of else None)


def _filled(values: Floats, size: int) -> Floats:
    return np.append(values, np.full(size - len(values), np.nan))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
