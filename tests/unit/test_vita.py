"""VITA: what its anonymizer is pulled to, who learns when, restarts, and how it behaves as a method."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stp_baselines import VITA, VitaConfig
from stp_baselines._fit import Averages, random_frames
from stp_baselines.nets import FrameCnn, each_frame
from stp_baselines.vita import Rounds, Vita, capped_loss, pull
from stp_bench.clips import Clips, Labelled
from stp_bench.config import preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.losses import group_mean
from stp_bench.methods import Batches, FitTask
from stp_bench.schema import ClipSpec, Target
from stp_bench.vit import VideoVit

TINY = vit_spec(preset("tiny"), image_weights=False)
ACTION = Target(name="action", kind="multiclass", classes=("run", "sit", "wave"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)


class Some:
    """Batches of two clips."""

    def __init__(self, count: int = 2, seed: int = 0) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            clips = Clips(torch.rand(2, 3, 4, 32, 32, generator=generator))
            yield Labelled(clips, torch.tensor([0, 2]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def held(epoch: int) -> Batches:
    return Some(1, seed=9)


TASK = FitTask(
    action=ACTION, privacy=PRIVACY, prevalence=(0.5, 0.25), batch=2, seed=3, device="cpu", weights="none",
    clip=ClipSpec(frames=4, stride=2, size=32, sampling="exact"), holdout=held,
)  # fmt: skip


def make(**options: Any) -> Vita:
    method = VITA.make(dataclasses.replace(VITA.configure("tiny"), **options), TINY)
    assert isinstance(method, Vita)
    return method


def rounds(method: Vita, task: FitTask = TASK) -> Rounds:
    last = method.phases(task)[-1]
    assert isinstance(last, Rounds)
    return last


def networks(phase: Rounds) -> dict[str, nn.Module]:
    players = phase.players
    return {"f_A": players.anonymizer, "f_T": players.action, "f_b": players.attackers}


def states(phase: Rounds) -> dict[str, dict[str, Tensor]]:
    return {name: copy.deepcopy(network.state_dict()) for name, network in networks(phase).items()}


def moved(phase: Rounds, before: dict[str, dict[str, Tensor]]) -> set[str]:
    now = {name: network.state_dict() for name, network in networks(phase).items()}
    return {name for name, old in before.items() if any(not torch.equal(now[name][k], old[k]) for k in old)}


BATCH = next(iter(Some()))

# What attackers are pulled to


def test_the_pull_to_one_half_is_smallest_where_the_answer_tells_nothing() -> None:
    nothing, prevalence = torch.zeros(1, 1, 2, requires_grad=True), torch.tensor([0.5, 0.25])
    value = pull(nothing, "half", PRIVACY, prevalence)
    assert value.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(value.sum(), nothing)
    assert gradient.abs().max() == 0
    for seed in range(5):
        answer = torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(seed))
        assert pull(answer, "half", PRIVACY, prevalence) > math.log(2)


@pytest.mark.parametrize(("target", "answer"), [("prior", [0.5, 0.25]), ("ones", [1 - 1e-6] * 2), ("half", [0.5, 0.5])])
def test_each_target_is_where_its_pull_has_no_gradient(target: Any, answer: list[float]) -> None:
    logits = torch.logit(torch.tensor(answer)).view(1, 1, 2).requires_grad_()
    value = pull(logits, target, PRIVACY, torch.tensor([0.5, 0.25])).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-5


def test_the_entropy_pull_is_minus_the_entropy_of_the_answer() -> None:
    logits = torch.logit(torch.tensor([0.25, 0.5])).view(1, 1, 2)
    by_hand = -(math.log(4) / 4 + 3 / 4 * math.log(4 / 3) + math.log(2)) / 2
    assert pull(logits, "entropy", PRIVACY, torch.zeros(2)).item() == pytest.approx(by_hand)


def test_the_strongest_pull_is_at_least_the_mean_one() -> None:
    logits = torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0))
    pulls = pull(logits, "half", PRIVACY, torch.zeros(2))
    assert pulls.shape == (4, 6) and (pulls.amax(0) >= pulls.mean(0)).all()


def test_groups_of_classes_count_alike_however_large() -> None:
    grouped = dataclasses.replace(PRIVACY, classes=tuple("abcd"), groups=(("object", 3), ("scene", 1)))
    logits = torch.randn(1, 1, 4, generator=torch.Generator().manual_seed(0))
    each = nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.5), reduction="none")[0, 0]
    torch.testing.assert_close(pull(logits, "half", grouped, torch.zeros(4))[0, 0], group_mean(each, grouped.groups))


def test_the_capped_loss_pushes_no_attribute_beyond_ignorance() -> None:
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    logits = torch.tensor([[2.0, -2.0], [-2.0, 2.0]], requires_grad=True)  # knows the first, inverts the second
    (gradient,) = torch.autograd.grad(capped_loss(logits, labels, PRIVACY, torch.tensor([0.5, 0.5])), logits)
    assert gradient[:, 0].abs().min() > 0 and gradient[:, 1].abs().max() == 0


# Who learns when


def test_each_update_changes_its_own_networks_only() -> None:
    phase = rounds(make())
    players, optimizers = phase.players, phase.optimizers
    before = states(phase)
    players.hide(BATCH, optimizers["anonymizer"], Averages())
    assert moved(phase, before) == {"f_A"}
    before = states(phase)
    players.improve_action(BATCH, [optimizers["anonymizer"], optimizers["action"]], Averages())
    assert moved(phase, before) == {"f_A", "f_T"}
    before = states(phase)
    players.learn_action(BATCH, optimizers["action"], Averages())
    assert moved(phase, before) == {"f_T"}
    before = states(phase)
    players.attack(BATCH, optimizers["attackers"], Averages())
    assert moved(phase, before) == {"f_b"}


def used(phase: Rounds, batches: int) -> list[str]:
    """What the next batches would be used for, without learning anything."""
    kinds = []
    for _ in range(batches):
        kinds.append(phase._turn())
        phase.clock.done += 1
    return kinds


def test_a_round_of_the_entropy_variant_helps_the_action_only_below_the_bar() -> None:
    phase = rounds(make(action_updates=2))
    phase.clock.bar.fill_(2.0)  # out of reach
    assert used(phase, 9) == ["hide", "action", "action", *["attack"] * 5, "hide"]
    assert phase.clock.round == 1
    phase = rounds(make(action_updates=2))
    phase.clock.bar.fill_(0.0)  # always reached
    assert used(phase, 7) == ["hide", *["attack"] * 5, "hide"]


def test_a_round_of_kbeam_ends_turns_when_attackers_master_and_when_the_action_stalls() -> None:
    phase = rounds(make(variant="kbeam", hide_updates=2, attack_updates=4, action_updates=30))
    phase.clock.bar.fill_(2.0)
    assert used(phase, 4) == ["hide", "hide", "attack", "attack"]
    phase.clock.seen.fill_(1.0)
    # the first check is an improvement, the next ten are not
    assert used(phase, 11) == [*["action"] * 10, "hide"]
    assert phase.clock.round == 1


def test_grl_updates_all_on_every_batch() -> None:
    phase = rounds(make(variant="grl"))
    before = states(phase)
    phase.run_epoch(Some(1), 0)
    assert moved(phase, before) == {"f_A", "f_T", "f_b"}
    assert phase.clock.round == 0 and used(phase, 2) == ["all", "all"]


def test_kbeam_raises_the_loss_of_the_strongest_attacker() -> None:
    method = make(variant="kbeam", lr=1e-2)
    phase = rounds(method)
    averages = Averages()
    phase.players.hide(BATCH, phase.optimizers["anonymizer"], averages)
    assert set(averages.report().scalars) == {"hidden"}  # the action has no say in this turn


def test_the_bar_is_a_share_of_the_accuracy_before_the_first_round() -> None:
    phase = rounds(make())
    phase.begin()
    torch.testing.assert_close(phase.clock.bar, torch.tensor(0.9 * phase.players.held_out_accuracy()))
    original = rounds(make(recipe="original", attackers=1))
    original.begin()
    assert original.clock.bar.item() == pytest.approx(0.7)


def test_held_out_accuracy_counts_clips() -> None:
    phase = rounds(make())
    phase.players.task = dataclasses.replace(TASK, holdout=lambda epoch: Some(3))
    players = phase.players
    players.action.eval()
    with torch.no_grad():
        logits = torch.cat([players.action(each_frame(players.anonymizer, b.clips.x_BCTHW)) for b in Some(3)])
    right = (logits.argmax(1) == torch.tensor([0, 2] * 3)).float().mean()
    assert players.held_out_accuracy() == pytest.approx(float(right))


# Restarts


def test_a_restart_changes_the_attackers_and_nothing_else() -> None:
    phase = rounds(make(restarts=1, adversarial_epochs=2))
    phase.run_epoch(Some(), 0)
    before = states(phase)
    optimizers = {n: copy.deepcopy(phase.optimizers[n].state_dict()) for n in ("anonymizer", "action")}
    phase.restart()
    assert moved(phase, before) == {"f_b"}
    assert phase.optimizers["attackers"].state == {}
    for name, old in optimizers.items():
        assert str(phase.optimizers[name].state_dict()) == str(old)


def test_restarts_go_back_to_the_pretrained_attackers_where_asked() -> None:
    phase = rounds(make(restarts=1, adversarial_epochs=2, restart_from="pretrained"))
    pretrained = states(phase)
    phase.run_epoch(Some(7), 0)
    assert "f_b" in moved(phase, pretrained)
    phase.restart()
    assert "f_b" not in moved(phase, pretrained)


def test_new_attackers_learn_alone_for_a_share_of_an_epoch() -> None:
    phase = rounds(make(restarts=1, adversarial_epochs=2, restart_alone=1.0))
    phase.begin()
    before = states(phase)
    phase.run_epoch(Some(4), 1)
    assert moved(phase, before) == {"f_b"}


@pytest.mark.parametrize(("epochs", "restarts", "at"), [(40, 3, {10, 20, 30}), (40, 0, set()), (2, 3, {1})])
def test_restarts_are_spread_evenly(epochs: int, restarts: int, at: set[int]) -> None:
    assert rounds(make(adversarial_epochs=epochs, restarts=restarts)).restarts == at


def test_the_fit_ends_with_its_rounds() -> None:
    phase = rounds(make(rounds=1, action_updates=0, attack_updates=1, adversarial_epochs=5))
    assert not phase.run_epoch(Some(1), 0).done
    assert phase.run_epoch(Some(4), 1).done
    assert phase.clock.round == 1 and phase.clock.done == 0


# As a method


def test_attackers_alternate_between_the_whole_and_half_the_depth() -> None:
    depths = [len(a.blocks) for a in make(attackers=4).attackers(TASK) if isinstance(a, VideoVit)]
    assert depths == [4, 2, 4, 2]
    names = {type(a.network).__name__ for a in make(recipe="original").attackers(TASK) if isinstance(a, FrameCnn)}
    assert names == {"ResNet", "MobileNetV2"}


def test_attackers_see_distinct_frames_of_the_clip_with_its_labels() -> None:
    x = torch.arange(8.0).view(2, 1, 4, 1, 1)
    frames = random_frames(x, 3)
    assert frames.shape == (6, 1, 1, 1, 1)
    first, second = frames.flatten()[:3].tolist(), frames.flatten()[3:].tolist()
    assert len(set(first)) == len(set(second)) == 3
    assert set(first) <= {0, 1, 2, 3} and set(second) <= {4, 5, 6, 7}
    phase = rounds(make(frames=2))
    logits, labels = phase.players.guesses(BATCH.clips.x_BCTHW, BATCH)
    assert logits.shape == (2, 4, 2)
    assert labels.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "grl"}, {"variant": "kbeam"}, {"target": "ones"}, {"target": "prior"}, {"target": "entropy"},
        {"attackers": 1}, {"attackers": 4}, {"gray": True}, {"frames": 1}, {"grad_clip": 1.0},
        {"restart_from": "pretrained"}, {"recipe": "original", "attackers": 2}, {"action_updates": 0},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_trains_and_anonymizes(options: dict[str, Any]) -> None:
    method = make(**options)
    for phase in method.phases(TASK):
        torch.manual_seed(0)
        assert all(math.isfinite(v) for v in phase.run_epoch(Some(), 0).scalars.values())
    made = method.anonymize(BATCH.clips)
    assert made.space == "rgb01" and made.x_BCTHW.shape == (2, 3, 4, 32, 32) and not made.x_BCTHW.requires_grad
    if options.get("gray"):
        assert torch.equal(made.x_BCTHW[:, 0], made.x_BCTHW[:, 2])


def test_training_works_under_bf16_autocast() -> None:
    method = make()
    for phase in method.phases(TASK):
        with torch.autocast("cpu", torch.bfloat16):
            phase.run_epoch(Some(), 0)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.network.parameters())


def test_several_actions_and_grouped_private_classes_are_learned_too() -> None:
    several = dataclasses.replace(ACTION, kind="multilabel")
    grouped = dataclasses.replace(PRIVACY, classes=tuple("abc"), groups=(("object", 2), ("scene", 1)))
    batch = Labelled(BATCH.clips, torch.tensor([[1.0, 0, 1], [0, 0, 1]]), torch.tensor([[1.0, 0, 0], [0, 1, 1]]))
    for variant in ("entropy", "grl", "kbeam"):
        task = dataclasses.replace(
            TASK, action=several, privacy=grouped, prevalence=(0.5, 0.5, 0.5), holdout=lambda epoch: [batch]
        )
        for phase in make(variant=variant).phases(task):
            assert all(math.isfinite(v) for v in phase.run_epoch([batch, batch], 0).scalars.values())


def test_fitting_without_privacy_labels_is_refused() -> None:
    with pytest.raises(UserError, match="no privacy labels"):
        make().phases(dataclasses.replace(TASK, privacy=None, prevalence=()))


def test_an_interrupted_phase_resumes_to_the_same_weights_whatever_turn_it_was() -> None:
    def run(phase: Rounds, epochs: range) -> Rounds:
        for epoch in epochs:
            torch.manual_seed(epoch)
            phase.run_epoch(Some(3, seed=epoch), epoch)
        return phase

    options = {"adversarial_epochs": 5, "restarts": 1, "restart_from": "pretrained", "restart_alone": 0.5}
    straight = run(rounds(make(**options)), range(5))
    half = run(rounds(make(**options)), range(2))
    saved = copy.deepcopy({name: part.state_dict() for name, part in half.parts().items()})
    resumed = rounds(make(**options))
    for name, part in resumed.parts().items():
        part.load_state_dict(saved[name])
    run(resumed, range(2, 5))
    assert moved(straight, states(resumed)) == set()


def test_recipes_and_variants_fill_only_what_is_left_open() -> None:
    protocol = VitaConfig().settled()
    assert (protocol.target, protocol.gamma, protocol.attackers, protocol.bar) == ("half", 0.5, 2, 0.9)
    assert (protocol.hide_updates, protocol.action_updates, protocol.attack_updates) == (1, 1, 5)
    assert (protocol.adversarial_epochs, protocol.restarts, protocol.rounds) == (40, 3, 0)
    original = VitaConfig(recipe="original", gamma=0.3).settled()
    assert (original.target, original.gamma, original.attackers, original.bar) == ("ones", 0.3, 4, 0.7)
    assert (original.action_updates, original.rounds, original.restarts) == (5, 800, 0)
    kbeam = VitaConfig(recipe="original", variant="kbeam").settled()
    assert (kbeam.hide_updates, kbeam.action_updates, kbeam.attack_updates) == (30, 30, 200)
    assert (kbeam.lr_attack, kbeam.rounds, kbeam.bar) == (1e-2, 67, 0.85)
    assert VitaConfig(variant="grl").settled().gamma == 1.0


@pytest.mark.parametrize("options", [{"attackers": 0}, {"frames": 0}, {"restart_alone": 1.5}, {"gamma": -0.5}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        VitaConfig(**options)
