"""SPAct: its contrast and views, who learns on which batch, and how it behaves as a method."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stp_baselines import SPACT, SpactConfig
from stp_baselines._fit import Averages, Identity
from stp_baselines.nets import ActionCnn, FrameCnn, UNet, each_frame
from stp_baselines.spact import Alternation, Spact, augmented, nt_xent, two_views
from stp_bench.clips import Clips, Labelled
from stp_bench.config import preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.methods import FitTask
from stp_bench.schema import ClipSpec, Target

TINY = vit_spec(preset("tiny"), image_weights=False)
ACTION = Target(name="action", kind="multiclass", classes=("run", "sit", "wave"))
TASK = FitTask(
    action=ACTION, privacy=None, prevalence=(), batch=2, seed=3, device="cpu", weights="none",
    clip=ClipSpec(frames=4, stride=2, size=32, sampling="exact"),
)  # fmt: skip


class Some:
    """Batches of two clips without privacy labels."""

    def __init__(self, count: int = 2, seed: int = 0) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            yield Labelled(Clips(torch.rand(2, 3, 4, 32, 32, generator=generator)), torch.tensor([0, 2]), None)


def make(**options: Any) -> Spact:
    method = SPACT.make(dataclasses.replace(SPACT.configure("tiny"), **options), TINY)
    assert isinstance(method, Spact)
    return method


def alternation(method: Spact) -> Alternation:
    last = method.phases(TASK)[-1]
    assert isinstance(last, Alternation)
    return last


def states(phase: Alternation) -> dict[str, dict[str, Tensor]]:
    players = phase.players
    networks = {"f_A": players.anonymizer, "f_T": players.action, "f_B": players.contrast}
    return {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}


def differing(before: dict[str, dict[str, Tensor]], after: dict[str, dict[str, Tensor]]) -> set[str]:
    return {n for n, old in before.items() if any(not torch.equal(after[n][k], old[k]) for k in old)}


BATCH = next(iter(Some()))

# The contrast


def test_agreeing_views_of_orthogonal_samples_cost_next_to_nothing() -> None:
    views = torch.eye(8, 16)
    expected = math.log(1 + 14 * math.exp(-1 / 0.1))
    assert expected == pytest.approx(6.35e-4, abs=1e-6)
    assert nt_xent(views, views, 0.1).item() == pytest.approx(expected, rel=1e-3)


def test_collapsed_embeddings_cost_the_logarithm_of_the_candidates() -> None:
    views = torch.eye(1, 16).expand(8, -1)
    assert nt_xent(views, views, 0.1).item() == pytest.approx(math.log(15), rel=1e-5)


def test_the_contrast_is_symmetric_and_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (nn.functional.normalize(torch.randn(8, 16, generator=generator), dim=1) for _ in range(2))
    torch.testing.assert_close(nt_xent(first, second, 0.1), nt_xent(second, first, 0.1))
    # The worst case: every view is the opposite of its partner and equals all others'.
    assert nt_xent(first, second, 0.1) < math.log(1 + 14 * math.exp(2 / 0.1))
    assert nt_xent(first[:1], second[:1], 0.1) == 0  # nothing to be told from


# Views


def test_two_views_are_of_two_frames_of_the_same_clip() -> None:
    x = (
        torch.arange(1.0, 9).view(2, 1, 4, 1, 1).expand(2, 3, 4, 32, 32) / 10
    )  # gray frames of a brightness of their own
    torch.manual_seed(0)
    first, second = two_views(x, 1.0)
    assert first.shape == second.shape == (2, 3, 1, 32, 32)
    for views in (first, second):  # brightness is changed by at most a fifth
        assert views[0].mean() < 0.4 * 1.2 + 1e-6 and views[1].mean() > 0.5 * 0.8 - 1e-6
    assert (first.mean((1, 2, 3, 4)) != second.mean((1, 2, 3, 4))).all()
    single, again = two_views(x[:, :, :1], 0.6)
    assert single.shape == again.shape == (2, 3, 1, 32, 32)


def test_views_stay_in_range_and_crops_inside_the_frame() -> None:
    torch.manual_seed(0)
    views = augmented(torch.rand(64, 3, 32, 32), 0.6)
    assert views.min() >= 0 and views.max() <= 1
    # A frame whose columns count up: a crop of side s spans s of the range, never less than the smallest.
    ramp = torch.linspace(0.2, 0.8, 32).expand(64, 3, 32, 32)
    views = augmented(ramp, 0.6)
    middle = views[:, 0, 16]
    span = (middle[:, -1] - middle[:, 0]).abs() / 0.6
    assert span.min() > 0.6 * 0.8 * 0.8 * 0.9 and span.max() < 1.2 * 1.2
    assert (middle[:, -1] < middle[:, 0]).float().mean() == pytest.approx(0.5, abs=0.25)  # half are mirrored


def test_some_views_are_gray() -> None:
    torch.manual_seed(0)
    views = augmented(torch.rand(400, 3, 8, 8), 0.6)
    gray = (views.amax(1) - views.amin(1)).flatten(1).amax(1) < 1e-6
    assert 0.03 < gray.float().mean() < 0.2


# Who learns when


def test_odd_batches_teach_the_anonymizer_and_even_ones_its_judges_buffers_included() -> None:
    phase = alternation(make())
    start = states(phase)
    phase.run_epoch(Some(1), 0)
    odd = states(phase)
    assert differing(start, odd) == {"f_A"}
    assert "down.0.1.running_mean" in start["f_A"]
    assert not torch.equal(start["f_A"]["down.0.1.running_mean"], odd["f_A"]["down.0.1.running_mean"])
    phase.run_epoch(Some(1), 1)
    assert differing(odd, states(phase)) == {"f_T", "f_B"}


def test_buffers_of_published_judges_move_only_when_they_learn() -> None:
    phase = alternation(make(recipe="original"))
    start = states(phase)
    phase.players.hide(BATCH, phase.optimizer, Averages())
    assert differing(start, states(phase)) == {"f_A"}
    assert any("running_mean" in name for name in start["f_B"])


def test_whose_turn_it_is_survives_the_end_of_an_epoch_and_of_the_process() -> None:
    def run(phase: Alternation, epochs: range) -> Alternation:
        for epoch in epochs:
            torch.manual_seed(epoch)
            phase.run_epoch(Some(3, seed=epoch), epoch)
        return phase

    straight = run(alternation(make()), range(2))
    half = run(alternation(make()), range(1))
    saved = copy.deepcopy({name: part.state_dict() for name, part in half.parts().items()})
    resumed = alternation(make())
    for name, part in resumed.parts().items():
        part.load_state_dict(saved[name])
    run(resumed, range(1, 2))
    assert differing(states(straight), states(resumed)) == set()
    assert straight.clock.updates == 6


def test_large_batches_are_taken_in_pieces() -> None:
    phase = alternation(make(batch=1))
    phase.run_epoch(Some(2), 0)
    assert phase.clock.updates == 4


# As a method


def test_copying_stops_at_the_wanted_error() -> None:
    torch.manual_seed(0)
    phase = Identity(UNet(8), epochs=200, until=0.12, lr=1e-2, warmup=2, batch=32)
    batch = Labelled(Clips(torch.rand(2, 3, 2, 32, 32)), None, None)
    reports = [phase.run_epoch([batch] * 4, 0)]
    while not reports[-1].done and len(reports) < 60:
        reports.append(phase.run_epoch([batch] * 4, len(reports)))
    errors = [r.scalars["copy_l1"] for r in reports]
    assert errors[-1] <= 0.12 < errors[0]
    assert [r.done for r in reports] == [e <= 0.12 for e in errors]


@pytest.mark.parametrize("warmup", [0, 5])
def test_the_warm_up_is_a_line_over_its_epochs(warmup: int) -> None:
    phase = Identity(UNet(8), epochs=10, until=0.0, lr=1e-3, warmup=warmup)
    phase.run_epoch(Some(2), 1)
    rate = phase.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-3 * (2 / 5 if warmup else 1))


@pytest.mark.parametrize("options", [{}, {"recipe": "original"}, {"omega": 0.5}, {"tau": 0.5}, {"batch": 1}], ids=str)
def test_every_option_trains_without_privacy_labels_and_anonymizes(options: dict[str, Any]) -> None:
    assert SPACT.needs == {"action"}
    method = make(**options)
    for phase in method.phases(TASK):
        torch.manual_seed(0)
        assert all(math.isfinite(v) for v in phase.run_epoch(Some(), 0).scalars.values())
    made = method.anonymize(BATCH.clips)
    assert made.space == "rgb01" and made.x_BCTHW.shape == (2, 3, 4, 32, 32) and not made.x_BCTHW.requires_grad


def test_training_works_under_bf16_autocast() -> None:
    method = make()
    for phase in method.phases(TASK):
        with torch.autocast("cpu", torch.bfloat16):
            phase.run_epoch(Some(), 0)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.network.parameters())


def test_several_actions_at_once_are_learned_too() -> None:
    several = dataclasses.replace(ACTION, kind="multilabel")
    batch = Labelled(BATCH.clips, torch.tensor([[1.0, 0, 1], [0, 0, 1]]), None)
    for phase in make().phases(dataclasses.replace(TASK, action=several)):
        assert all(math.isfinite(v) for v in phase.run_epoch([batch, batch], 0).scalars.values())


def test_the_published_judges_come_with_the_original_recipe() -> None:
    players = alternation(make(recipe="original")).players
    assert isinstance(players.action, ActionCnn) and isinstance(players.contrast.trunk, FrameCnn)
    assert SpactConfig(recipe="original").settled().adversarial_epochs == 300
    assert SpactConfig().settled().adversarial_epochs == 40


def test_evaluation_uses_running_statistics() -> None:
    torch.manual_seed(0)
    method = make()
    each_frame(method.network.train(), torch.rand(2, 3, 4, 32, 32))  # as training left it
    x = torch.rand(2, 3, 4, 32, 32)
    together, alone = method.anonymize(Clips(x)).x_BCTHW, method.anonymize(Clips(x[:1, :, :1])).x_BCTHW
    torch.testing.assert_close(alone, together[:1, :, :1])


@pytest.mark.parametrize("options", [{"crop": 0.0}, {"tau": 0.0}, {"batch": 0}, {"adversarial_epochs": -3}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SpactConfig(**options)


def test_frames_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 16"):
        SPACT.make(SPACT.configure("tiny"), dataclasses.replace(TINY, size=40))
