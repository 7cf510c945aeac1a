"""Majorities, agreement and annotators: against arithmetic by hand, and against independent programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from stp_bench.annotate import dawid_skene
from stp_bench.annotate._project import ADJUDICATION, ROUND
from stp_bench.annotate.agreement import Agreement, agreement, coefficients
from stp_bench.annotate.majority import SOURCES, Decision, decide
from stp_bench.annotate.picture import agreement_picture
from stp_bench.annotate.votes import COLUMNS, in_order

Row = tuple[str, str, str, str]
NAMES = ("face", "nudity")


def table(rows: Sequence[Row], round: str = ROUND, **more: Any) -> pd.DataFrame:
    """Votes given as (video, annotator, attribute, vote)."""
    made = pd.DataFrame(rows, columns=list(COLUMNS[:4]))
    other = {"seconds": math.nan, "annotation_id": None, "created_at": "", "updated_at": "", "guideline_version": "1"}
    return in_order(made.assign(round=round, **(other | more)))


def said(video: str, attribute: str, votes: str) -> list[Row]:
    """One vote per letter, by annotators a, b, c ...: y, n, or ? for not sure; a space for none."""
    words = {"y": "1", "n": "0", "?": "abstain"}
    return [(video, who, attribute, words[v]) for who, v in zip("abcdefg", votes, strict=False) if v != " "]


def face(votes: Mapping[str, str], **more: Any) -> Decision:
    rows = [row for video, of in votes.items() for row in said(video, "face", of)]
    return decide(table(rows), videos=tuple(votes), attributes=("face",), **more)


# Majorities


@pytest.mark.parametrize(
    ("votes", "label", "reason"),
    [
        ("yyyyy", 1, None),
        ("yyynn", 1, None),
        ("nnnny", 0, None),
        ("yyyn", 1, None),
        ("yynn", -1, "tied"),
        ("yynn?", -1, "tied"),
        ("yyyn?", 1, None),
        ("yyy??", -1, "short"),
        ("yn", -1, "short"),
        ("?????", -1, "abstained"),
        ("", -1, "missing"),
    ],
)
def test_a_label_takes_a_strict_majority_of_more_than_three_valid_votes(
    votes: str, label: int, reason: str | None
) -> None:
    found = face({"v": votes})
    assert found.label_VK.tolist() == [[label]]
    assert found.queue()["reason"].tolist() == ([reason] if reason else [])
    assert SOURCES[found.source_VK[0, 0]] == ("majority" if reason is None else "unresolved")


def test_fewer_votes_are_enough_only_where_asked_for() -> None:
    assert face({"v": "yyn"}).label_VK[0, 0] == -1
    assert face({"v": "yyn"}, min_votes=3).label_VK[0, 0] == 1
    assert face({"v": "yn"}, min_votes=1).label_VK[0, 0] == -1


def test_the_queue_tells_what_is_open_and_the_close_list_what_one_vote_decided() -> None:
    found = face({"a": "yyynn", "b": "yynn?", "c": "yyyyn"})
    assert found.queue().to_dict("records") == [
        {"video_id": "b", "attribute": "face", "reason": "tied", "n_yes": 2, "n_no": 2, "n_abstain": 1}
    ]
    assert found.close()["video_id"].tolist() == ["a"] and found.close()["reason"].tolist() == ["close"]
    columns = found.vote_columns()
    assert list(columns) == ["n_yes_face", "n_no_face", "n_abstain_face", "margin_face", "source_face"]
    assert columns["margin_face"] == [1, 0, 3]
    assert columns["source_face"] == ["majority", "unresolved", "majority"]


def adjudicated(votes: str, expert: Sequence[Row]) -> Decision:
    rows = pd.concat([table(said("v", "face", votes)), table(expert, ADJUDICATION)], ignore_index=True)
    return decide(rows, videos=("v",), attributes=("face",))


def test_an_expert_settles_what_is_open_and_the_votes_stay_as_they_were() -> None:
    found = adjudicated("yynn", [("v", "x", "face", "0")])
    assert found.label_VK[0, 0] == 0 and SOURCES[found.source_VK[0, 0]] == "adjudicated"
    assert found.count_VK3[0, 0].tolist() == [2, 2, 0] and not len(found.queue())


def test_an_expert_does_not_overrule_the_majority_nor_decide_a_tie_of_experts() -> None:
    over = adjudicated("yyyyn", [("v", "x", "face", "0")])
    assert over.label_VK[0, 0] == 1 and over.needless == 1
    two = adjudicated("yynn", [("v", "x", "face", "0"), ("v", "z", "face", "1")])
    assert two.label_VK[0, 0] == -1 and two.queue()["reason"].tolist() == ["tied"]
    assert adjudicated("yynn", [("v", "x", "face", "abstain")]).label_VK[0, 0] == -1


@pytest.mark.parametrize("own", ["yynn", "yn?n", "?ynn"])
def test_nobody_adjudicates_a_video_they_voted_on(own: str) -> None:
    found = adjudicated(own, [("v", "a", "face", "1")])
    assert found.by_voters == 1 and found.label_VK[0, 0] == -1


def test_votes_on_other_videos_and_attributes_are_told_and_not_counted() -> None:
    rows = table([*said("v", "face", "yyyy"), *said("w", "face", "yyyy"), *said("v", "age", "n")])
    found = decide(rows, videos=("v",), attributes=("face",))
    assert found.strange == 5 and found.label_VK.tolist() == [[1]]


def test_majorities_equal_those_of_a_plain_count_of_many_votes() -> None:
    rng = np.random.default_rng(0)
    vote = rng.choice(["1", "0", "abstain"], (60, 5, 2), p=[0.5, 0.4, 0.1])
    rows = [(f"v{v:02d}", f"a{a}", NAMES[k], str(vote[v, a, k])) for v, a, k in np.ndindex(60, 5, 2)]
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    found = decide(table(shuffled), videos=[f"v{v:02d}" for v in range(60)], attributes=NAMES)
    for v, k in np.ndindex(60, 2):
        yes, no = list(vote[v, :, k]).count("1"), list(vote[v, :, k]).count("0")
        assert found.label_VK[v, k] == (-1 if yes + no < 4 or yes == no else int(yes > no))


# Coefficients


def votes_of(label_AV: NDArray[np.float64]) -> tuple[pd.DataFrame, Decision]:
    """Votes of one attribute from a matrix of annotators and videos; NaN is no vote."""
    rows = [(f"v{v:04d}", f"a{a}", "face", str(int(x))) for (a, v), x in np.ndenumerate(label_AV) if not np.isnan(x)]
    made = table(rows)
    return made, decide(made, videos=[f"v{v:04d}" for v in range(label_AV.shape[1])], attributes=("face",))


def test_the_coefficients_are_those_of_the_arithmetic_by_hand() -> None:
    # Four videos of four votes, (yes, no) = (3, 1), (4, 0), (0, 4), (2, 2).
    # Agreeing among the 12 ordered pairs: 3*2 = 6, 12, 12, 2+2 = 4, so p_a = (1/2 + 1 + 1 + 1/3) / 4 = 17/24.
    # AC1: q = (3/4 + 1 + 0 + 1/2) / 4 = 9/16, p_e = 2 * 9/16 * 7/16 = 63/128,
    #      (17/24 - 63/128) / (1 - 63/128) = (83/384) / (65/128) = 83/195.
    # Alpha: D_o = 2*3*1/3 + 2*2*2/3 = 14/3; 9 yes and 7 no, D_e = 2*9*7/15 = 42/5; 1 - (14/3)/(42/5) = 4/9.
    found = coefficients(np.array([3, 4, 0, 2]), np.array([1, 0, 4, 2]), np.ones(4, dtype=np.int64))
    assert [float(value) for value in found] == pytest.approx([17 / 24, 4 / 9, 83 / 195], abs=1e-12)


def test_unequal_numbers_of_votes_follow_the_same_definitions() -> None:
    # (2, 0), (1, 1), (1, 0), (0, 3): the third has no pair; p_a = (1 + 0 + 1) / 3.
    # q = (1 + 1/2 + 1 + 0) / 4 = 5/8 over all four, p_e = 15/32, AC1 = (2/3 - 15/32) / (17/32) = 19/51.
    # Alpha over three: D_o = 2*1*1/1 = 2, 3 yes and 4 no, D_e = 2*3*4/6 = 4, so 1/2.
    yes, no = np.array([2, 1, 1, 0]), np.array([0, 1, 0, 3])
    found = coefficients(yes, no, np.ones(4, dtype=np.int64))
    assert [float(value) for value in found] == pytest.approx([2 / 3, 1 / 2, 19 / 51], abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.6])
def test_alpha_is_that_of_the_krippendorff_package_with_votes_missing(prevalence: float) -> None:
    krippendorff = pytest.importorskip("krippendorff", reason="the independent program is not installed")
    rng = np.random.default_rng(3)
    truth_V = rng.random(300) < prevalence
    label_AV = np.where(rng.random((5, 300)) < 0.85, truth_V, ~truth_V).astype(np.float64)
    label_AV[rng.random((5, 300)) < 0.25] = np.nan
    votes, decision = votes_of(label_AV)
    found = agreement(votes, decision, draws=10).attributes["face"].agreement
    expected = krippendorff.alpha(reliability_data=label_AV, level_of_measurement="nominal")
    assert found.alpha == pytest.approx(expected, abs=1e-12)


def test_percent_agreement_is_the_observed_one_of_fleiss() -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed")
    rng = np.random.default_rng(4)
    yes = rng.integers(0, 6, 200)
    counts = np.stack([yes, 5 - yes], axis=1)
    percent, _, _ = coefficients(yes, 5 - yes, np.ones(200, dtype=np.int64))
    # Fleiss' kappa = (p_a - p_e) / (1 - p_e), with p_e from the shares of all votes.
    p_e = (counts.sum(axis=0) / counts.sum()) @ (counts.sum(axis=0) / counts.sum())
    assert (percent - p_e) / (1 - p_e) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)


def test_where_everybody_says_the_same_alpha_is_undefined_and_named_and_ac1_is_one() -> None:
    votes, decision = votes_of(np.ones((4, 30)))
    found = agreement(votes, decision, draws=20)
    of = found.attributes["face"].agreement
    assert (of.percent, of.alpha, of.ac1) == (1.0, None, 1.0) and of.ci95["alpha"] is None
    assert found.undefined == ("face.alpha",)


def test_an_attribute_of_which_everybody_is_unsure_has_no_coefficients(tmp_path: Path) -> None:
    votes = table([row for v in "12345" for row in said(v, "face", "yyynn") + said(v, "nudity", "?????")])
    decision = decide(votes, videos=tuple("12345"), attributes=NAMES)
    found = agreement(votes, decision, draws=20)
    of = found.attributes["nudity"].agreement
    assert (of.videos, of.prevalence, of.percent, of.alpha, of.ac1) == (0, None, None, None, None)
    assert found.attributes["nudity"].abstained == 1.0
    assert found.attributes["face"].agreement.percent == pytest.approx(0.4)  # 4 of 10 pairs of votes
    assert set(found.undefined) == {"nudity.percent", "nudity.alpha", "nudity.ac1"}


def test_one_annotator_alone_agrees_with_nobody() -> None:
    votes, decision = votes_of(np.array([[1.0, 0.0, 1.0]]))
    found = agreement(votes, decision, draws=20)
    of = found.attributes["face"].agreement
    assert (of.videos, of.percent, of.alpha, of.ac1) == (0, None, None, None)
    assert not found.pairs and found.annotators[0].agreement["all"].share is None


def test_alpha_falls_with_the_prevalence_where_the_annotators_stay_the_same() -> None:
    rng = np.random.default_rng(5)
    found = {}
    for prevalence in (0.6, 0.05):
        truth_V = rng.random(4000) < prevalence
        label_AV = np.where(rng.random((5, 4000)) < 0.82, truth_V, ~truth_V).astype(np.float64)
        found[prevalence] = agreement(*votes_of(label_AV), draws=10).attributes["face"].agreement
    common, rare = (found[p] for p in (0.6, 0.05))
    assert common.percent == pytest.approx(rare.percent, abs=0.02)
    assert common.alpha is not None and rare.alpha is not None and common.alpha > rare.alpha + 0.2


def test_intervals_hold_what_a_bootstrap_of_whole_videos_gives() -> None:
    rng = np.random.default_rng(6)
    truth_V = rng.random(150) < 0.3
    label_AV = np.where(rng.random((5, 150)) < 0.85, truth_V, ~truth_V).astype(np.float64)
    votes, decision = votes_of(label_AV)
    found = agreement(votes, decision, draws=4000).attributes["face"].agreement
    yes_V = label_AV.sum(axis=0).astype(np.int64)
    drawn = rng.integers(0, 150, (4000, 150))
    plain = [coefficients(yes_V[d], 5 - yes_V[d], np.ones(150, dtype=np.int64)) for d in drawn]
    for i, name in enumerate(("percent", "alpha", "ac1")):
        expected = np.quantile([float(one[i]) for one in plain], [0.025, 0.975])
        assert found.ci95[name] == pytest.approx(expected, abs=0.02)
    assert agreement(votes, decision, draws=50) == agreement(votes, decision, draws=50)


def test_pairs_are_the_coefficients_of_two_annotators_on_their_common_videos() -> None:
    label_AV = np.array([[1, 1, 0, 0, 1, np.nan], [1, 0, 0, np.nan, 1, 1], [np.nan] * 3 + [1, np.nan, np.nan]])
    found = agreement(*votes_of(label_AV), draws=10)
    pairs = {(pair.first, pair.second): pair.agreement for pair in found.pairs}
    assert set(pairs) == {("a0", "a1"), ("a0", "a2")}  # a1 and a2 have no video in common
    # a0 and a1 share four videos and agree on three.
    assert pairs["a0", "a1"].videos == 4 and pairs["a0", "a1"].percent == 0.75
    assert pairs["a0", "a2"].percent == 0.0


# Dawid and Skene


def test_the_model_recovers_the_rates_of_simulated_annotators() -> None:
    rng = np.random.default_rng(7)
    sensitivity, specificity = np.array([0.95, 0.9, 0.85, 0.6, 0.9]), np.array([0.9, 0.95, 0.8, 0.7, 0.6])
    truth_V = rng.random(5000) < 0.3
    right_VA = rng.random((5000, 5)) < np.where(truth_V[:, None], sensitivity, specificity)
    yes_VA = np.where(right_VA, truth_V[:, None], ~truth_V[:, None])
    v, a = (of.ravel() for of in np.indices((5000, 5)))
    shown = rng.random(v.size) < 0.8
    found = dawid_skene.fit(v[shown], a[shown], yes_VA.ravel()[shown])
    assert found.sensitivity_A == pytest.approx(sensitivity, abs=0.04)
    assert found.specificity_A == pytest.approx(specificity, abs=0.04)
    assert found.prevalence == pytest.approx(0.3, abs=0.03)
    seen_VA = shown.reshape(yes_VA.shape)
    share_V = (yes_VA & seen_VA).sum(axis=1) / np.maximum(seen_VA.sum(axis=1), 1)
    assert ((found.posterior_V > 0.5) == truth_V).mean() > ((share_V > 0.5) == truth_V).mean()


def test_the_model_of_nothing_and_of_perfect_annotators_stays_finite() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert len(dawid_skene.fit(empty, empty, empty == 1).posterior_V) == 0
    v, a = (of.ravel() for of in np.indices((50, 4)))
    found = dawid_skene.fit(v, a, v % 2 == 0)
    assert np.isfinite(found.sensitivity_A).all() and ((found.posterior_V > 0.5) == (np.arange(50) % 2 == 0)).all()


def test_the_model_stands_beside_the_majority_and_changes_no_label() -> None:
    """Three who guess outvote two who know: the model takes the side of these, the labels that of the majority."""
    rng = np.random.default_rng(8)
    truth_V = rng.random(400) < 0.5
    skill = np.array([0.98, 0.98, 0.55, 0.55, 0.55])
    label_AV = np.where(rng.random((5, 400)) < skill[:, None], truth_V, ~truth_V).astype(np.float64)
    votes, decision = votes_of(label_AV)
    before = decision.label_VK.copy()
    found = agreement(votes, decision, draws=10)
    assert found.attributes["face"].model_differs > 20
    assert (decision.label_VK == before).all() and (before[:, 0] == (label_AV.sum(axis=0) > 2)).all()


# Annotators


def report(found: Agreement, name: str) -> Any:
    return next(one for one in found.annotators if one.annotator == name)


def test_an_annotator_is_compared_with_the_majority_of_the_others() -> None:
    # Without a's own vote: v1 1:2 says no, v2 is tied and says nothing, v3 says yes; a said yes, yes, yes.
    rows = [*said("v1", "face", "yynn"), *said("v2", "face", "yyn"), *said("v3", "face", "yyy?")]
    votes = table(rows)
    found = agreement(votes, decide(votes, videos=("v1", "v2", "v3"), attributes=("face",)), draws=10)
    share = report(found, "a").agreement["face"]
    assert (share.of, share.share) == (2, 0.5)
    assert report(found, "d").abstained == 0.5


def test_whoever_is_far_from_the_rest_is_named_with_the_attribute_and_nobody_else() -> None:
    rng = np.random.default_rng(9)
    truth = rng.random((200, 2)) < 0.5
    skill = np.full((5, 2), 0.93)
    skill[4, 1] = 0.6
    right = rng.random((5, 200, 2)) < skill[:, None]
    rows = [
        (f"v{v:03d}", f"a{a}", NAMES[k], str(int(truth[v, k] == right[a, v, k]))) for a, v, k in np.ndindex(5, 200, 2)
    ]
    votes = table(rows)
    found = agreement(votes, decide(votes, videos=[f"v{v:03d}" for v in range(200)], attributes=NAMES), draws=10)
    assert {one.annotator: one.far for one in found.annotators if one.far} == {"a4": ("nudity",)}


def test_time_skips_runs_and_gold_questions_are_told_of_each_annotator() -> None:
    rows = [row for v in range(6) for row in said(f"v{v}", "face", "yyyy" if v < 4 else "nnnn")]
    votes = table(rows)
    seconds = {f"v{v}": float(2 + v) for v in range(6)}  # 2 to 7
    votes = votes.assign(seconds=votes["video_id"].map(seconds), created_at=votes["video_id"])
    decision = decide(votes, videos=tuple(seconds), attributes=("face",))
    gold = {"v0": {"face": 1}, "v5": {"face": 1}, "other": {"face": 0}}
    found = agreement(
        votes, decision, skipped={"a": 2}, durations=dict.fromkeys(["v0", "v1", "v5"], 4.0), gold=gold, draws=10
    )
    one = report(found, "a")
    assert one.videos == 6 and one.skipped == 2 / 8 and one.seconds_median == 4.5
    assert (one.faster_than_clip.of, one.faster_than_clip.share) == (3, pytest.approx(2 / 3))  # 2 s and 3 s, not 7 s
    assert one.longest_run == 4
    assert (one.gold["face"].of, one.gold["face"].share) == (2, 0.5)
    assert (found.gold["all"].of, found.gold["all"].share) == (2, 0.5)


def test_the_page_of_pictures_is_drawn_of_few_and_of_many_annotators(tmp_path: Path) -> None:
    for people in (1, 40):
        votes, decision = votes_of((np.random.default_rng(0).random((people, 12)) < 0.5).astype(np.float64))
        out = tmp_path / f"{people}.png"
        agreement_picture(agreement(votes, decision, draws=10), decision, "a round", out)
        assert out.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2
