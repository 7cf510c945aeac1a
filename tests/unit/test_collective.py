"""Collective: its losses, its two phases, and how it behaves as a method."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from stp_baselines import COLLECTIVE, CollectiveConfig
from stp_baselines._fit import pieces
from stp_baselines.collective import (
    Collective,
    RecognizerPhase,
    TransNetPhase,
    content_loss,
    gram,
    ignorance,
    see,
    style_loss,
)
from stp_baselines.nets import Looked, LossNet, look
from stp_bench.clips import Clips, Labelled
from stp_bench.config import preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.losses import recognition_loss
from stp_bench.methods import FitTask
from stp_bench.schema import ClipSpec, Target
from stp_bench.vit import VideoVit

TINY = vit_spec(preset("tiny"), image_weights=False)
ACTION = Target(name="action", kind="multiclass", classes=("run", "sit", "wave"))
TASK = FitTask(
    action=ACTION, privacy=None, prevalence=(), batch=2, seed=3, device="cpu", weights="none",
    clip=ClipSpec(frames=4, stride=2, size=32, sampling="exact"),
)  # fmt: skip


class Two:
    """Two batches of two clips without privacy labels."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            yield Labelled(Clips(torch.rand(2, 3, 4, 32, 32, generator=generator)), torch.tensor([0, 2]), None)


def make(**options: Any) -> Collective:
    method = COLLECTIVE.make(dataclasses.replace(COLLECTIVE.configure("tiny"), **options), TINY)
    assert isinstance(method, Collective)
    return method


def phases(method: Collective, task: FitTask = TASK) -> tuple[RecognizerPhase, TransNetPhase]:
    first, second = method.phases(task)
    assert isinstance(first, RecognizerPhase) and isinstance(second, TransNetPhase)
    return first, second


def looked(seed: int) -> Looked:
    generator = torch.Generator().manual_seed(seed)
    return Looked(*(torch.randn(2, 6, 4, generator=generator) for _ in range(2)), torch.zeros(2, 3))


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_gram_matrix_is_symmetric_positive_and_blind_to_the_order_of_tokens() -> None:
    features = looked(0).last_BMC
    matrix = gram(features)
    assert matrix.shape == (2, 4, 4)
    torch.testing.assert_close(matrix, matrix.transpose(1, 2))
    assert torch.linalg.eigvalsh(matrix).min() > -1e-6
    torch.testing.assert_close(gram(features[:, torch.randperm(6)]), matrix)
    # Psi Psi^T / (C M) by hand, entry (0, 1) of the first clip
    by_hand = sum(features[0, m, 0] * features[0, m, 1] for m in range(6)) / 24
    torch.testing.assert_close(matrix[0, 0, 1], torch.as_tensor(by_hand))


def test_the_style_of_noise_is_its_own_and_contents_of_equals_agree() -> None:
    assert style_loss(looked(0), looked(0)) == 0
    assert content_loss(looked(0), looked(0)) == 0
    assert style_loss(looked(0), looked(1)) > 0 and content_loss(looked(0), looked(1)) > 0


def test_an_identical_transform_costs_no_content_and_the_recognizers_own_loss() -> None:
    torch.manual_seed(0)
    phi = VideoVit(TINY, 3).eval()
    batch = next(iter(Two()))
    raw = look(phi, batch.clips.x_BCTHW)
    made = look(phi, torch.nn.Identity()(batch.clips.x_BCTHW))
    assert content_loss(made, raw) == 0
    labels = batch.action_B
    assert labels is not None
    torch.testing.assert_close(
        recognition_loss(made.logits_BK, labels, ACTION), recognition_loss(phi(batch.clips.x_BCTHW), labels, ACTION)
    )


def test_published_weights_sum_to_one() -> None:
    config = CollectiveConfig()
    total = config.weight_style + config.weight_content + config.weight_usability
    assert total == pytest.approx(1)


def test_knowing_nothing_costs_the_logarithm_of_the_classes() -> None:
    assert ignorance(ACTION) == pytest.approx(math.log(3))
    several = dataclasses.replace(ACTION, kind="multilabel")
    assert recognition_loss(torch.zeros(2, 3), torch.ones(2, 3), several).item() == pytest.approx(ignorance(several))


@pytest.mark.parametrize("recipe", ["protocol", "original"])
def test_the_recognizer_stays_as_it_is_while_transnet_learns(recipe: Any) -> None:
    method = make(recipe=recipe)
    first, second = phases(method)
    first.run_epoch(Two(), 0)
    phi, network = state(first.phi), state(method.network)
    first.phi.zero_grad()
    torch.manual_seed(0)
    report = second.run_epoch(Two(), 0)
    assert same(phi, first.phi.state_dict()) and all(p.grad is None for p in first.phi.parameters())
    assert not same(network, method.network.state_dict())
    assert {"loss", "style", "content", "usability"} <= set(report.scalars)


def test_scales_are_the_losses_between_raw_clips_and_noise_measured_once() -> None:
    first, second = phases(make(noise="fixed"))
    torch.manual_seed(0)
    second.run_epoch(Two(), 0)
    with torch.no_grad():
        pairs = [(see(first.phi, b.clips.x_BCTHW), see(first.phi, second.noise_1CTHW)) for b in Two()]
        style = torch.stack([style_loss(*pair) for pair in pairs]).mean()
        content = torch.stack([content_loss(*pair) for pair in pairs]).mean()
    torch.testing.assert_close(second.scales.style, style)
    torch.testing.assert_close(second.scales.content, content)
    second.run_epoch(Two(), 1)
    torch.testing.assert_close(second.scales.style, style)


def test_a_fresh_style_is_drawn_at_every_step_and_a_fixed_one_once() -> None:
    x = torch.zeros(2, 3, 4, 32, 32)
    _, fresh = phases(make(noise="fresh"))
    assert not torch.equal(fresh._noise(x), fresh._noise(x))
    _, fixed = phases(make(noise="fixed"))
    _, again = phases(make(noise="fixed"))
    assert torch.equal(fixed._noise(x), again._noise(x)) and len(fixed._noise(x)) == 1


@pytest.mark.parametrize(
    "options", [{}, {"output": "linear"}, {"noise": "fixed"}, {"batch": 1}, {"recipe": "original"}], ids=str
)
def test_every_option_trains_and_anonymizes(options: dict[str, Any]) -> None:
    method = make(**options)
    for phase in method.phases(TASK):
        phase.run_epoch(Two(), 0)
    made = method.anonymize(next(iter(Two())).clips)
    linear = "linear" in (options.get("output"), method.config.output)
    assert made.space == ("free" if linear else "rgb01")
    assert made.x_BCTHW.shape == (2, 3, 4, 32, 32) and not made.x_BCTHW.requires_grad


def test_training_works_under_bf16_autocast() -> None:
    method = make()
    for phase in method.phases(TASK):
        with torch.autocast("cpu", torch.bfloat16):
            phase.run_epoch(Two(), 0)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.network.parameters())


def test_several_actions_at_once_are_learned_too() -> None:
    several = Target(name="action", kind="multilabel", classes=("run", "sit", "wave"))
    batch = next(iter(Two()))
    batches = [Labelled(batch.clips, torch.tensor([[1.0, 0, 1], [0, 0, 1]]), None)]
    for phase in make().phases(dataclasses.replace(TASK, action=several)):
        assert all(math.isfinite(v) for v in phase.run_epoch(batches, 0).scalars.values())


def test_recipes_fill_only_what_is_left_open() -> None:
    original = CollectiveConfig(recipe="original", epochs=3).settled()
    assert (original.width, original.output, original.noise, original.batch) == (16, "linear", "fixed", 1)
    assert original.epochs == 3
    protocol = CollectiveConfig().settled()
    assert (protocol.width, protocol.lossnet_epochs, protocol.epochs, protocol.output) == (32, 80, 40, "sigmoid")
    assert isinstance(phases(make(recipe="original"))[0].phi, LossNet)


def test_batches_fall_into_equal_pieces_of_at_most_the_wanted_size() -> None:
    batch = Labelled(Clips(torch.arange(64.0).view(64, 1, 1, 1, 1)), torch.arange(64), None)
    cut = list(pieces([batch], 24))
    assert [len(p.clips.x_BCTHW) for p in cut] == [21, 21, 22]
    assert torch.cat([p.clips.x_BCTHW for p in cut]).flatten().tolist() == list(range(64))
    assert [len(p.clips.x_BCTHW) for p in pieces([batch], 0)] == [64]


@pytest.mark.parametrize("options", [{"width": -2}, {"lr": -1.0}, {"weight_style": -0.1}, {"batch": -7}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        CollectiveConfig(**options)


def test_frames_that_cannot_be_halved_twice_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        COLLECTIVE.make(COLLECTIVE.configure("tiny"), dataclasses.replace(TINY, size=30, patch=6))
