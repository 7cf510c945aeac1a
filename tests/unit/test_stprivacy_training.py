"""STPrivacy's two phases, its privacy terms, and how it behaves as a method."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from stp_bench.clips import Clips, Labelled
from stp_bench.config import preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.methods import FitTask, Method
from stp_bench.schema import ClipSpec, Target
from stprivacy import SPEC, Config
from stprivacy.losses import attribute_losses, copy_loss, entropies, motion_loss, privacy_term, reverse_gradient
from stprivacy.method import Adversarial, Anonymizer, Initialization
from stprivacy.schedule import alpha_at, lr_factors

TINY = vit_spec(preset("tiny"), image_weights=False)
ACTION = Target(name="action", kind="multiclass", classes=("run", "sit", "wave"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
TASK = FitTask(
    action=ACTION, privacy=PRIVACY, prevalence=(0.5, 0.25), batch=2, seed=3, device="cpu", weights="none",
    clip=ClipSpec(frames=4, stride=2, size=32, sampling="exact"),
)  # fmt: skip


class Two:
    """Two batches of two clips."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            clips = Clips(torch.rand(2, 3, 4, 32, 32, generator=generator))
            yield Labelled(clips, torch.tensor([0, 2]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def make(**options: Any) -> Anonymizer:
    config = dataclasses.replace(SPEC.configure("tiny"), **options)
    method = SPEC.make(config, TINY)
    assert isinstance(method, Anonymizer)
    return method


def phases(method: Anonymizer, task: FitTask = TASK) -> tuple[Initialization, Adversarial]:
    init, adversarial = method.phases(task)
    assert isinstance(init, Initialization) and isinstance(adversarial, Adversarial)
    return init, adversarial


def fit(method: Anonymizer, task: FitTask = TASK) -> Anonymizer:
    for number, phase in enumerate(method.phases(task)):
        for epoch in range(phase.epochs):
            torch.manual_seed(100 * number + epoch)
            phase.run_epoch(Two(), epoch)
    return method


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


# Privacy terms


def test_an_attributes_entropy_is_the_loss_of_answering_with_its_prevalence() -> None:
    prevalence = torch.tensor([0.5, 0.25, 1.0])
    labels = torch.tensor([[1.0, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]])
    answers = torch.logit(prevalence.clamp(max=1 - 1e-7)).expand(4, 3)
    torch.testing.assert_close(attribute_losses(answers, labels), entropies(prevalence), atol=1e-5, rtol=0)
    assert entropies(torch.tensor([0.0, 1.0])).tolist() == [0, 0]


def test_the_capped_term_has_the_literal_gradient_below_chance_and_none_above() -> None:
    prevalence = torch.tensor([0.5, 0.5])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    logits = torch.tensor([[2.0, -2.0], [-2.0, 2.0]], requires_grad=True)  # knows the first, inverts the second
    (capped,) = torch.autograd.grad(privacy_term(logits, labels, prevalence, "neg_bce_capped"), logits)
    (literal,) = torch.autograd.grad(privacy_term(logits, labels, prevalence, "neg_bce"), logits)
    assert torch.equal(capped[:, 0], literal[:, 0]) and literal[:, 0].abs().min() > 0
    assert capped[:, 1].abs().max() == 0 and literal[:, 1].abs().min() > 0


def test_a_constant_attribute_is_ignored_by_the_capped_term() -> None:
    logits = torch.randn(4, 1, requires_grad=True)
    privacy_term(logits, torch.ones(4, 1), torch.ones(1), "neg_bce_capped").backward()
    assert logits.grad is not None and logits.grad.abs().max() == 0


@pytest.mark.parametrize(("form", "answer"), [("half", 0.5), ("prior", 0.25)])
def test_the_entropy_terms_are_smallest_at_their_answer_whatever_the_label(form: Any, answer: float) -> None:
    labels, prevalence = torch.tensor([[1.0], [0.0]]), torch.tensor([0.25])
    logits = torch.logit(torch.full((2, 1), answer)).requires_grad_()
    loss = privacy_term(logits, labels, prevalence, form)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-6
    assert privacy_term(logits + 1, labels, prevalence, form) > loss
    assert privacy_term(logits - 1, labels, prevalence, form) > loss


def test_a_reversed_gradient_is_turned_around_and_scaled() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = reverse_gradient(x, 0.5)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-0.5, -0.5]


def test_the_copy_loss_sees_kept_tubelets_only() -> None:
    keep = torch.zeros(1, 2, 16)
    keep[0, 0, 0] = 1
    target = torch.rand(1, 3, 4, 32, 32)
    x = target.clone()
    x[:, :, 2:] += 5
    assert copy_loss(x, target, keep) == 0
    x[0, :, 0, 0, 0] += 1  # 3 of the tubelet's 2 x 8 x 8 x 3 = 384 values
    assert copy_loss(x, target, keep).item() == pytest.approx(3 / 384)


# Schedules


def test_the_motion_loss_compares_changes_on_kept_tubelets_whatever_the_appearance() -> None:
    x = torch.rand(2, 3, 4, 32, 32)
    keep = torch.ones(2, 2, 16)
    keep[:, :, 0] = 0
    assert motion_loss(x + torch.rand(2, 3, 1, 1, 1), x, keep) < 1e-6  # equal motion, another appearance
    still = x[:, :, :1].expand_as(x)
    torch.testing.assert_close(motion_loss(still, x, keep), torch.tensor(1.0))
    elsewhere = x.clone()
    elsewhere[..., :8, :8] = torch.rand(2, 3, 4, 8, 8)  # the abandoned tubelet
    assert motion_loss(elsewhere, x, keep) == 0
    assert motion_loss(x, still, keep).isfinite()


def test_alpha_anneals_from_one_in_the_middle_of_phase_one() -> None:
    config = Config(alpha_anneal=True)
    assert [round(alpha_at(config, p), 3) for p in (0.0, 0.3, 0.5, 0.7, 1.0)] == [1, 1, 0.85, 0.7, 0.7]
    assert alpha_at(Config(), 0.0) == 0.7


def test_the_released_policy_holds_the_rest_back() -> None:
    config = Config()
    assert lr_factors(config, 0, 0.0, as_released=True) == (1.0, 0.0)
    assert lr_factors(config, 2, 2 / 80, as_released=True)[1] == 0.1
    new, rest = lr_factors(config, 79, 79 / 80, as_released=True)
    assert new == rest < 0.1
    assert lr_factors(config, 0, 0.0, as_released=False) == (0.0, 0.0)


# Phases


def test_the_method_and_its_phases_are_what_the_card_says() -> None:
    method = make()
    assert isinstance(method, Method)
    assert tuple(phase.name for phase in method.phases(TASK)) == SPEC.phases
    assert method.anonymize(next(iter(Two())).clips).space == SPEC.space


def test_initialization_teaches_the_transformer_all_but_the_output() -> None:
    method = make()
    init, _ = phases(method)
    before = snapshot(method.network)
    report = init.run_epoch(Two(), 0)
    assert {"loss", "sparsity", "action", "action_accuracy", "kept"} <= set(report.scalars)
    unmoved = set(before) - moved(method.network, before)
    assert unmoved == {"head_recon.weight", "head_recon.bias"}


def test_step_a_changes_the_transformer_only_and_step_b_the_recognizers_only() -> None:
    from stprivacy.method import _Averages

    method = make(frame_adversary=True)
    _, phase = phases(method)
    for group in (g for o in phase.optimizers.values() for g in o.param_groups):
        group["lr"] = 1e-2
    batch, averages = next(iter(Two())), _Averages()
    recognizers = {name: snapshot(network) for name, network in phase.recognizers.items()}
    transformer = snapshot(method.network)
    method.network.train()
    out = phase._update_transformer(batch, averages, copying=False)
    assert moved(method.network, transformer)
    assert not any(moved(phase.recognizers[name], before) for name, before in recognizers.items())
    transformer = snapshot(method.network)
    phase._update_recognizers(batch, out, averages)
    assert not moved(method.network, transformer)
    assert all(moved(phase.recognizers[name], before) for name, before in recognizers.items())
    assert {"video_excess_face", "frame_excess_gender", "action_accuracy"} <= set(averages.sums)


def test_a_frozen_sparsifier_stays_bit_identical() -> None:
    method = make(freeze_sparsifier=True, lambda_privacy=1.0)
    _, adversarial = phases(method)
    before = snapshot(method.network)
    adversarial.run_epoch(Two(), 0)
    changed = moved(method.network, before)
    assert changed
    assert all(method.network.in_pab(name) for name in changed)


@pytest.mark.parametrize(
    "options",
    [
        {"privacy_term": "neg_bce"}, {"privacy_term": "half"}, {"privacy_term": "prior"}, {"privacy_term": "grl"},
        {"mechanisms": "sparsification_only"}, {"mechanisms": "anonymization_only"}, {"tubelet": 1}, {"tubelet": 4},
        {"output": "sigmoid"}, {"mask_blind": True}, {"recon_warmup": 1}, {"adversary_updates": 2}, {"depth": 5},
        {"attn_eps": 1e-6}, {"separate_mlps": True}, {"lr_policy": "release"}, {"frame_adversary": True},
        {"selection": "global"}, {"head_scale": 0.0}, {"tau": 0.5}, {"alpha": 1.0}, {"grad_clip": 0.0},
        {"lambda_motion": 1.0}, {"lambda_motion": 1.0, "output": "sigmoid"},
        {"frame_adversary": True, "privacy_term": "grl"}, {"frame_adversary": True, "tubelet": 4},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_trains_and_anonymizes(options: dict[str, Any]) -> None:
    method = fit(make(**options))
    made = method.anonymize(next(iter(Two())).clips)
    assert made.x_BCTHW.shape == (2, 3, 4, 32, 32)
    assert made.x_BCTHW.isfinite().all()
    assert not made.x_BCTHW.requires_grad
    told = not options.get("mask_blind") and options.get("mechanisms") != "anonymization_only"
    assert (made.keep_BLN is not None) == told


def test_training_works_under_bf16_autocast() -> None:
    method = make(frame_adversary=True)
    for phase in method.phases(TASK):
        with torch.autocast("cpu", torch.bfloat16):
            phase.run_epoch(Two(), 0)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.network.parameters())


def test_a_fit_depends_on_its_task_alone() -> None:
    torch.manual_seed(1)
    first = fit(make())
    torch.manual_seed(2)
    second = fit(make())
    assert not moved(first.network, second.network.state_dict())
    other = fit(make(), dataclasses.replace(TASK, seed=4))
    assert moved(first.network, other.network.state_dict())


def test_the_callers_random_numbers_are_left_alone() -> None:
    method = make()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    method.phases(TASK)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("number", [0, 1])
def test_an_interrupted_phase_resumes_to_the_same_weights(number: int) -> None:
    def run(phase: Any, epochs: range) -> Any:
        for epoch in epochs:
            torch.manual_seed(epoch)
            phase.run_epoch(Two(), epoch)
        return phase

    options = {"init_epochs": 3, "adversarial_epochs": 3, "frame_adversary": True}
    straight = run(phases(make(**options))[number], range(3))
    half = run(phases(make(**options))[number], range(2))
    saved = copy.deepcopy({name: part.state_dict() for name, part in half.parts().items()})
    resumed = phases(make(**options))[number]
    for name, part in resumed.parts().items():
        part.load_state_dict(saved[name])
    run(resumed, range(2, 3))
    for name, part in straight.parts().items():
        if isinstance(part, torch.nn.Module):
            assert not moved(part, resumed.parts()[name].state_dict()), name


def test_a_phase_that_diverges_says_so() -> None:
    init, _ = phases(make())
    with torch.no_grad():
        init.network.pos_embed.fill_(torch.nan)
    assert math.isnan(init.run_epoch(Two(), 0).scalars["loss"])


def test_a_kept_rate_off_target_is_reported_at_the_end_of_phase_one(caplog: pytest.LogCaptureFixture) -> None:
    init, _ = phases(make(init_epochs=2))
    with caplog.at_level(logging.WARNING, "stprivacy"):
        init.run_epoch(Two(), 0)
        assert not caplog.records
        init.run_epoch(Two(), 1)
    assert "of the tubelets" in caplog.text


def test_initialization_learns_an_easy_action_and_the_wanted_rate() -> None:
    """Three flat colors: not more than a check that losses are wired the right way round."""

    class Colors(Two):
        def __len__(self) -> int:
            return 8

        def __iter__(self) -> Iterator[Labelled]:
            for _ in range(8):
                x = torch.eye(3).view(3, 3, 1, 1, 1).expand(3, 3, 4, 32, 32)
                yield Labelled(Clips((x + 0.1 * torch.rand_like(x)).clamp(0, 1)), torch.arange(3), torch.zeros(3, 2))

    torch.manual_seed(0)
    init, _ = phases(make(init_epochs=12, lambda_spars=4.0, keep_bias=0.0, alpha_anneal=False))
    reports = [init.run_epoch(Colors(), epoch).scalars for epoch in range(12)]
    assert reports[-1]["action"] < 0.3 < reports[0]["action"]
    assert abs(reports[-1]["kept"] - 0.343) < abs(reports[0]["kept"] - 0.343)


# As a method


def test_fitting_without_privacy_labels_is_refused() -> None:
    with pytest.raises(UserError, match="no privacy labels"):
        make().phases(dataclasses.replace(TASK, privacy=None))
    with pytest.raises(UserError, match="no privacy labels"):
        make().phases(dataclasses.replace(TASK, prevalence=()))


def test_another_keep_ratio_shares_the_weights_and_leaves_the_first_alone() -> None:
    method = make()
    clips = next(iter(Two())).clips
    halved, all_ = method.with_keep(0.5), method.with_keep([1.0, 1.0, 1.0])
    assert halved.network is method.network
    shares = [m.anonymize(clips).keep_BLN for m in (method, halved, all_)]
    assert [k is not None and int(k[0, 0].sum()) for k in shares] == [5, 2, 16]


@pytest.mark.parametrize("alpha", [0.0, 1.5, -1.0, [0.5, 0.5]])
def test_impossible_keep_ratios_are_refused(alpha: Any) -> None:
    with pytest.raises(UserError):
        make().with_keep(alpha)


def test_a_method_that_never_sparsifies_has_no_keep_ratio() -> None:
    with pytest.raises(UserError, match="no sparsification blocks"):
        make(mechanisms="anonymization_only").with_keep(0.5)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.1}, {"init_epochs": -1}, {"adversary_updates": 0}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Config(**options)


def test_presets_start_from_random_weights_with_help_and_the_paper_without() -> None:
    paper, small = SPEC.configure("paper"), SPEC.configure("small")
    assert paper == Config()
    assert (paper.keep_bias, paper.alpha_anneal, paper.lambda_spars) == (0.0, False, 1.0)
    assert small.keep_bias > 0 and small.alpha_anneal and small.depth == 5
