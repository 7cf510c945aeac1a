"""The probes: what a frame attacker sees, how views are averaged, and that nothing is transformed twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from stp_bench import config
from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.progress import Silent
from stp_bench.recognizers import ProbePhase, Recognizer, Setting, anonymize, frames_of, predict
from stp_bench.schema import Probe, SplitRef, Target

ACTION = Target(name="action", kind="multiclass", classes=("a", "b", "c"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
RUN = config.preset("tiny")
VIT = config.vit_spec(RUN, image_weights=False)
REF = SplitRef(benchmark="toy", part="test", split=1)


class Halves:
    """Keeps the left or the right half of every frame, by the clip's first pixel, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def phases(self, task: object) -> tuple[()]:
        return ()

    def parts(self) -> dict[str, object]:
        return {}

    def anonymize(self, clips: Clips) -> Anonymized:
        self.calls += 1
        x = clips.x_BCTHW
        right = x[:, 0, 0, 0, 0] > 0.5
        column = torch.arange(VIT.side).repeat(VIT.side)
        keep = torch.where(right[:, None], column >= VIT.side // 2, column < VIT.side // 2).float()
        keep_BLN = keep[:, None, :].expand(-1, VIT.slots, -1).contiguous()
        pixels = keep.view(-1, 1, 1, VIT.side, 1, VIT.side, 1).expand(
            -1, 1, 1, VIT.side, VIT.patch, VIT.side, VIT.patch
        )
        return Anonymized(x * pixels.reshape(-1, 1, 1, VIT.size, VIT.size), keep_BLN)


def recognizers(seed: int = 0) -> list[Recognizer]:
    probes = [("action", ACTION, "video"), ("video", PRIVACY, "video"), ("frame", PRIVACY, "frame")]
    return [
        Recognizer(Probe(name=n, target=t.name, unit=u, train=REF, test=REF), t, Setting(VIT, RUN, "none", "cpu", seed))  # type: ignore[arg-type]
        for n, t, u in probes
    ]


def clips(count: int, seed: int = 0) -> Clips:
    shape = (count, 3, VIT.frames, VIT.size, VIT.size)
    return Clips(torch.rand(shape, generator=torch.Generator().manual_seed(seed)))


class Made(list[Labelled]):
    pass


def batches() -> Made:
    labels = torch.tensor([0, 1, 2, 0]), torch.tensor([[0.0, 1], [1, 0], [1, 1], [0, 0]])
    return Made(Labelled(clips(4, i), *labels) for i in range(3))


def test_a_frame_takes_the_keep_of_its_slot() -> None:
    x = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(2, 3, 4, 32, 32)
    keep = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, :, None].expand(2, 2, 16)
    single = frames_of(Anonymized(x, keep, "free"), torch.tensor([[0, 3], [1, 2]]))
    assert single.x_BCTHW.shape == (4, 3, 1, 32, 32)
    assert single.x_BCTHW[:, 0, 0, 0, 0].tolist() == [0, 3, 1, 2]
    assert single.keep_BLN is not None
    assert single.keep_BLN[:, 0, 0].tolist() == [0, 1, 1, 0]
    assert single.space == "free"


def test_an_epoch_transforms_every_batch_once_and_trains_every_recognizer() -> None:
    method, probes = Halves(), recognizers()
    before = [[p.clone() for p in r.network.parameters()] for r in probes]
    report = ProbePhase(method, "halves", probes, epochs=2).run_epoch(batches(), 0)
    assert method.calls == 3
    assert set(report.scalars) == {"loss_action", "loss_video", "loss_frame"}
    for r, old in zip(probes, before, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, r.network.parameters(), strict=True))


def test_recognizers_start_from_a_point_that_depends_on_probe_and_seed_alone() -> None:
    torch.manual_seed(5)
    first = recognizers()
    torch.manual_seed(6)
    again, other = recognizers(), recognizers(seed=1)
    for a, b, c in zip(first, again, other, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.network.parameters(), b.network.parameters(), strict=True))
        assert not all(torch.equal(p, q) for p, q in zip(a.network.parameters(), c.network.parameters(), strict=True))
    assert not torch.equal(first[1].network.pos_embed, recognizers()[0].network.pos_embed)


def views(order: Sequence[int], batch: int) -> Iterator[tuple[Tensor, Clips]]:
    every = [(v, clips(1, 10 * v + i).x_BCTHW) for v in range(3) for i in range(4)]
    shuffled = [every[i] for i in order]
    for start in range(0, len(shuffled), batch):
        part = shuffled[start : start + batch]
        yield torch.tensor([v for v, _ in part]), Clips(torch.cat([x for _, x in part]))


def test_scores_are_mean_probabilities_whatever_the_order_and_batching_of_views() -> None:
    probes = recognizers()
    ordered = predict(Halves(), "halves", probes, views(range(12), 5), 3, Silent())  # type: ignore[arg-type]
    shuffled = predict(Halves(), "halves", probes, views([7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6], 1), 3, Silent())  # type: ignore[arg-type]
    assert ordered["action"].shape == (3, 3)
    np.testing.assert_allclose(ordered["action"].sum(1), 1, atol=1e-6)
    for name in ordered:
        np.testing.assert_allclose(ordered[name], shuffled[name], atol=1e-6)
    # the mean of probabilities, not of logits: recomputed view by view for the first video
    out = anonymize(Halves(), "halves", Clips(torch.cat([clips(1, i).x_BCTHW for i in range(4)])))  # type: ignore[arg-type]
    np.testing.assert_allclose(probes[1].scores(out).mean(0).numpy(), ordered["video"][0], atol=1e-6)


def test_clips_that_keep_different_numbers_of_tubelets_score_as_they_do_alone() -> None:
    x = clips(2).x_BCTHW
    keep = torch.ones(2, VIT.slots, VIT.tubelets)
    keep[0, :, 3:] = 0
    for r in recognizers():
        together = r.scores(Anonymized(x, keep))
        alone = [r.scores(Anonymized(x[i : i + 1], keep[i : i + 1])) for i in range(2)]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


def test_a_decision_on_a_coarser_grid_shows_every_token_it_touches() -> None:
    r = recognizers()[1]
    x = clips(2).x_BCTHW
    coarse = torch.tensor([1.0, 0, 0, 1]).expand(
        2, 1, 4
    )  # one slot of 2 x 2 tubelets, where the network has 2 of 4 x 4
    fine = coarse.view(2, 1, 2, 1, 2, 1).expand(2, 2, 2, 2, 2, 2).reshape(2, 2, 16)
    a = r.scores(Anonymized(x, coarse))
    b = r.scores(Anonymized(x, fine))
    torch.testing.assert_close(a, b)


def test_labels_that_a_probe_needs_must_be_there() -> None:
    batch = Labelled(clips(2), torch.tensor([0, 1]), None)
    with pytest.raises(RuntimeError, match="without its labels"):
        ProbePhase(Halves(), "halves", recognizers(), 1).run_epoch(Made([batch]), 0)  # type: ignore[arg-type]
