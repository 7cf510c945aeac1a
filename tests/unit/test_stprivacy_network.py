"""STPrivacy's transformer: sizes, decisions, both computation paths, the official layout."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import stprivacy
from stp_bench.errors import UserError
from stp_bench.schema import VitSpec
from stp_bench.tubelets import keep_to_mask
from stp_bench.vit import VideoVit
from stprivacy import Config
from stprivacy.network import STPrivacy, Transformed
from stprivacy.sparsify import (
    KeepPredictor,
    best_of_all,
    best_of_each_slot,
    keep_count,
    keep_rates,
    sample_decision,
    sparsity_loss,
)

TINY = VitSpec(frames=4, size=32, tubelet=2, patch=8, dim=24, depth=4, heads=3, drop_path=0.0, temporal_gain=8.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make(vit: VitSpec = TINY, **options: Any) -> STPrivacy:
    """With weights large enough that scores differ."""
    network = STPrivacy(vit, Config(**options))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def clips(batch: int = 2, vit: VitSpec = TINY) -> Tensor:
    return torch.rand(batch, 3, vit.frames, vit.size, vit.size)


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Sizes


def test_the_network_has_the_published_number_of_parameters() -> None:
    """590,208 patch + 150,528 position + 21,293,568 blocks + 768 norm + 591,360 head + 3 x 241,250 predictors."""
    with torch.device("meta"):
        for gain in (0.0, 8.0):
            network = STPrivacy(VitSpec(temporal_gain=gain), Config())
            assert count(network) == 23_350_182
    assert [count(p) for p in network.score_predictor] == [241_250] * 3
    assert sum(p.numel() for name, p in network.named_parameters() if network.in_pab(name)) == 5_915_520


@pytest.mark.parametrize(("depth", "before"), [(12, [3, 6, 9]), (4, [1, 2, 3]), (5, [1, 2, 3])])
def test_predictors_come_before_the_blocks_at_each_quarter(depth: int, before: list[int]) -> None:
    network = STPrivacy(dataclasses.replace(TINY, depth=depth), Config())
    assert [network.layer_of(f"score_predictor.{m}.in_conv.1.weight") for m in range(3)] == before
    assert sum(network.in_pab(f"blocks.{i}.norm1.weight") for i in range(depth)) == depth - before[-1]


@pytest.mark.parametrize("change", [{"depth": 3}, {"dim": 32, "heads": 4}])
def test_too_shallow_or_indivisible_networks_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match="STPrivacy cannot have"):
        STPrivacy(dataclasses.replace(TINY, **change), Config())


def test_the_card_is_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import stprivacy, sys; stprivacy.SPEC, stprivacy.Config(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Evaluation


@pytest.mark.parametrize(("alpha", "counts"), [(0.7, (11, 7, 5)), (1.0, (16, 16, 16)), (0.1, (1, 1, 1))])
def test_every_slot_keeps_the_same_number_after_each_block(alpha: float, counts: tuple[int, ...]) -> None:
    out = make()(clips(), alpha)
    assert torch.equal(out.keep_MBLN.sum(-1), torch.tensor(counts).view(3, 1, 1).expand(3, 2, 2).float())
    assert torch.equal(out.keep_BLN, out.keep_MBLN[-1])


def test_at_paper_size_34_24_and_16_of_49_remain() -> None:
    assert [keep_count(49, r) for r in keep_rates(0.7, 3)] == [34, 24, 16]
    assert keep_count(100, 0.7**2) == 49  # 48 by plain int(): 100 * 0.7 ** 2 is 48.99999999999999


def test_a_ratio_per_block_multiplies_up() -> None:
    assert keep_rates((1.0, 0.5, 0.5), 3) == (1.0, 0.5, 0.25)
    assert make()(clips(), (1.0, 0.5, 0.5)).keep_MBLN.sum(-1)[:, 0, 0].tolist() == [16, 8, 4]


def test_decisions_are_nested_in_evaluation_and_in_training() -> None:
    network = make()
    for out in (network(clips()), network.train()(clips())):
        assert set(out.keep_MBLN.unique().tolist()) <= {0.0, 1.0}
        assert (out.keep_MBLN[1:] <= out.keep_MBLN[:-1]).all()


@pytest.mark.parametrize("selection", ["per_slot", "global", "global_progressive"])
def test_the_video_is_black_exactly_where_tubelets_were_abandoned(selection: str) -> None:
    out = make(selection=selection)(clips())
    mask = keep_to_mask(out.keep_BLN, 4, 32).expand_as(out.x_BCTHW)
    assert (out.x_BCTHW[mask == 0] == 0).all()
    assert (out.x_BCTHW[mask == 1] != 0).all()


@pytest.mark.parametrize("selection", ["per_slot", "global", "global_progressive"])
def test_two_calls_agree_and_batch_mates_do_not_matter(selection: str) -> None:
    network, batch = make(selection=selection), clips(4)
    whole = network(batch)
    assert torch.equal(whole.x_BCTHW, network(batch).x_BCTHW)
    alone = network(batch[2:3])
    assert torch.equal(alone.keep_BLN, whole.keep_BLN[2:3])
    torch.testing.assert_close(alone.x_BCTHW, whole.x_BCTHW[2:3], atol=1e-5, rtol=1e-5)


def test_dropping_tokens_gives_what_masking_them_in_place_gives() -> None:
    network, batch = make(), clips()
    rates = keep_rates(0.7, 3)

    def best_in_place(m: int, log_probability: Tensor, keep: Tensor) -> Tensor:
        score = log_probability[..., 0].masked_fill(keep == 0, -torch.inf)
        return torch.zeros_like(keep).scatter(2, best_of_each_slot(score, keep_count(16, rates[m])), 1.0)

    from stp_bench.vit import normalize

    tokens = network.embed(normalize(batch))
    dropped, decisions = network.sparsify_by_dropping(tokens, rates)
    masked, same_decisions = network.sparsify_in_place(tokens, best_in_place)
    assert torch.equal(decisions, same_decisions)
    torch.testing.assert_close(dropped.flatten(0, 1), masked[decisions[-1].flatten(1) == 1], atol=1e-5, rtol=1e-4)


def test_global_selection_keeps_the_papers_share_of_the_whole_clip() -> None:
    """floor(32 x .7^m) = 22, 15, 10 of 32 tokens; by the last predictor alone: 10."""
    progressive, last = (make(selection=s)(clips()) for s in ("global_progressive", "global"))
    assert progressive.keep_MBLN.sum((2, 3)).tolist() == [[22, 22], [15, 15], [10, 10]]
    assert last.keep_MBLN.sum((2, 3)).tolist() == [[32, 32], [32, 32], [10, 10]]


def test_of_equal_scores_the_first_wins() -> None:
    assert best_of_each_slot(torch.zeros(1, 1, 5), 2).tolist() == [[[0, 1]]]
    assert best_of_all(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), 3).tolist() == [[[1, 1], [1, 0]]]


def test_what_a_block_abandoned_is_not_chosen_again() -> None:
    keep = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    assert best_of_all(torch.tensor([[[9.0, 1.0], [2.0, 0.0]]]), keep, 2).tolist() == [[[0, 1], [1, 0]]]


# Training


def test_gradients_of_a_recognizers_loss_reach_every_predictor() -> None:
    network, recognizer = make().train(), VideoVit(TINY, 3)
    torch.nn.init.normal_(recognizer.head.weight)
    out: Transformed = network(clips())
    recognizer(out.x_BCTHW, out.keep_BLN, space="free").square().sum().backward()
    for predictor in network.score_predictor:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in predictor.parameters())


def test_training_leaves_abandoned_tubelets_under_the_masks_unless_recognizers_are_blind() -> None:
    for blind in (False, True):
        out = make(mask_blind=blind).train()(clips())
        abandoned = keep_to_mask(out.keep_BLN, 4, 32).expand_as(out.x_BCTHW) == 0
        assert abandoned.any()
        assert bool((out.x_BCTHW[abandoned] == 0).all()) == blind


def test_what_an_abandoned_tubelet_would_have_shown_decides_the_gradient_of_its_decision() -> None:
    network, recognizer = make().train(), VideoVit(TINY, 3)
    torch.nn.init.normal_(recognizer.head.weight)
    out = network(clips())
    keep = out.keep_BLN.detach().requires_grad_()
    black = out.x_BCTHW * keep_to_mask(keep.detach(), 4, 32)
    seen, unseen = (recognizer(x, keep, space="free") for x in (out.x_BCTHW, black))
    torch.testing.assert_close(seen, unseen)
    gradients = [torch.autograd.grad(logits.square().sum(), keep, retain_graph=True)[0] for logits in (seen, unseen)]
    assert not torch.allclose(gradients[0][keep == 0], gradients[1][keep == 0], rtol=1e-2)
    torch.testing.assert_close(gradients[0][keep == 1], gradients[1][keep == 1], rtol=1e-3, atol=1e-5)


def test_an_empty_slot_gives_finite_outputs_and_gradients() -> None:
    predictor = KeepPredictor(24, separate_mlps=False)
    keep = torch.ones(2, 2, 16)
    keep[:, 1] = 0
    keep.requires_grad_()
    tokens = torch.randn(2, 2, 16, 24, requires_grad=True)
    scores = predictor(tokens, keep)
    scores.sum().backward()
    assert scores.isfinite().all()
    assert tokens.grad is not None and tokens.grad.isfinite().all()
    assert keep.grad is not None and keep.grad.isfinite().all()


def test_a_network_that_keeps_nothing_stays_finite() -> None:
    network = make().train()
    for predictor in network.score_predictor:
        predictor.lean_to_keeping(-100.0)
    out = network(clips())
    assert out.keep_BLN.sum() == 0
    (out.x_BCTHW.sum() + out.action_BD.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_features_of_abandoned_tokens_do_not_move_other_scores() -> None:
    predictor, keep = KeepPredictor(24, separate_mlps=False), torch.ones(1, 2, 16)
    keep[0, 0, 3] = 0
    tokens = torch.randn(1, 2, 16, 24)
    changed = tokens.clone()
    changed[0, 0, 3] = 10 * torch.randn(24)
    same = torch.isclose(predictor(tokens, keep), predictor(changed, keep)).all(-1)
    assert same.sum() == 31


def test_the_three_levels_see_the_token_its_slot_and_the_clip() -> None:
    predictor, keep = KeepPredictor(24, separate_mlps=False), torch.ones(1, 2, 16)
    tokens = torch.randn(1, 2, 16, 24, requires_grad=True)
    first = predictor.out_conv[0]
    for third, reach in ((0, 1), (1, 16), (2, 32)):  # local, spatial, spatio-temporal
        weight = torch.zeros_like(first.weight)
        weight[:, third * 8 : (third + 1) * 8] = torch.randn(12, 8)
        with torch.no_grad():
            first.weight.copy_(weight)
        (gradient,) = torch.autograd.grad(predictor(tokens, keep)[0, 0, 0, 0], tokens)
        assert (gradient.abs().sum(-1) > 0).sum() == reach


def test_separate_maps_replace_the_shared_one() -> None:
    network = make(separate_mlps=True)
    assert network(clips()).keep_BLN.sum() == 2 * 2 * 5
    assert count(network.score_predictor[0].in_conv) == 3 * (24 * 8 + 8)


def test_a_bias_towards_keeping_opens_a_new_network() -> None:
    network = STPrivacy(TINY, Config(keep_bias=4.0)).train()
    assert network(clips(8)).keep_BLN.mean() > 0.95


def test_sampled_decisions_are_hard_with_a_soft_gradient_and_follow_the_probabilities() -> None:
    logits = torch.zeros(1, 1, 4000, 2, requires_grad=True)
    with torch.no_grad():
        logits[..., 0] = torch.log(torch.tensor(0.8 / 0.2))
    decision = sample_decision(F.log_softmax(logits, -1), torch.ones(1, 1, 4000), tau=1.0)
    assert set(decision.unique().tolist()) == {0.0, 1.0}
    assert decision.mean().item() == pytest.approx(0.8, abs=0.03)
    decision.sum().backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0


# L_Spars


def test_the_sparsity_loss_is_zero_only_at_the_wanted_rate_of_every_slot() -> None:
    keep = torch.zeros(2, 1, 2, 10)
    keep[0, ..., :5], keep[1, ..., :2] = 1, 1
    assert sparsity_loss(keep, (0.5, 0.2)) == 0
    moved = keep.clone()
    moved[0, 0, 0, 5], moved[0, 0, 1, 4] = 1, 0  # the same share of the clip, not of the slots
    assert sparsity_loss(moved, (0.5, 0.2)) > 0


def test_the_sparsity_loss_of_keeping_all_is_the_mean_squared_distance_of_the_rates() -> None:
    """((1 - .7)^2 + (1 - .49)^2 + (1 - .343)^2) / 3 = (.09 + .2601 + .4316) / 3 = .2606"""
    assert sparsity_loss(torch.ones(3, 2, 4, 49), keep_rates(0.7, 3)).item() == pytest.approx(0.2606, abs=1e-4)


# Ablations and options


def test_sparsification_only_shows_raw_pixels_of_kept_tubelets() -> None:
    network, batch = make(mechanisms="sparsification_only"), clips()
    out = network(batch)
    assert network.space == "rgb01"
    assert torch.equal(out.x_BCTHW, batch * keep_to_mask(out.keep_BLN, 4, 32))
    assert not any(network.in_pab(name) and "recon" not in name for name, _ in network.named_parameters())


def test_anonymization_only_keeps_all_and_has_no_predictors() -> None:
    network = make(mechanisms="anonymization_only")
    for out in (network(clips()), network.train()(clips())):
        assert out.keep_BLN.min() == 1
    assert len(network.score_predictor) == 0


def test_a_sigmoid_output_is_a_picture() -> None:
    network = make(output="sigmoid")
    assert network.space == "rgb01"
    out = network(clips()).x_BCTHW
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("tubelet", [1, 2, 4])
def test_tubelets_of_other_lengths_work(tubelet: int) -> None:
    out = make(dataclasses.replace(TINY, tubelet=tubelet))(clips())
    assert out.x_BCTHW.shape == (2, 3, 4, 32, 32)
    assert out.keep_BLN.shape == (2, 4 // tubelet, 16)


def test_the_output_is_predicted_as_mean_and_scaled_difference_of_frame_pairs() -> None:
    haar, plain = make(), make(dataclasses.replace(TINY, temporal_gain=0.0))
    for network in (haar, plain):
        torch.nn.init.zeros_(network.head_recon.weight)
        torch.nn.init.zeros_(network.head_recon.bias)
        with torch.no_grad():
            network.head_recon.bias[192:] = 16.0  # the second frame of every pair
    assert set(plain(clips(), 1.0).x_BCTHW.unique().tolist()) == {0.0, 16.0}
    assert set(haar(clips(), 1.0).x_BCTHW.unique().tolist()) == {-1.0, 1.0}  # -+ 16 / (2 x 8)


# The official layout


def official_state(dim: int = 192, depth: int = 4, slots: int = 2, side: int = 4, patch: int = 8) -> dict[str, Tensor]:
    """Random parameters by the release's names (its default layout at other sizes)."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (dim, 3, 2, patch, patch), "patch_embed.proj.bias": (dim,),
        "pos_embed": (1, slots * side**2, dim), "norm_recon.weight": (dim,), "norm_recon.bias": (dim,),
        "head_recon.weight": (6 * patch**2, dim), "head_recon.bias": (6 * patch**2,),
    }  # fmt: skip
    linear = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    head = {
        "in_conv.1": (dim, dim),
        "out_conv.0": (dim // 2, dim),
        "out_conv.2": (dim // 4, dim // 2),
        "out_conv.4": (2, dim // 4),
    }
    for i in range(depth):
        for name, shape in (linear | {"norm1": (dim,), "norm2": (dim,)}).items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    for i in range(3):
        for name, shape in (head | {"in_conv.0": (dim,)}).items():
            shapes |= {f"score_predictor.{i}.{name}.weight": shape, f"score_predictor.{i}.{name}.bias": shape[:1]}
    return {name: torch.randn(shape) * (0.08 if len(shape) > 1 else 0.3) for name, shape in shapes.items()}


def official_forward(
    p: dict[str, Tensor], video: Tensor, ratio: float = 0.7, frames: int = 2, patch: int = 8
) -> Tensor:
    """The release's evaluation, written independently, clip by clip, from its description."""

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / (var + eps).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def block(x: Tensor, i: int) -> Tensor:
        qkv = linear(norm(x, f"blocks.{i}.norm1", 1e-6), f"blocks.{i}.attn.qkv")
        dim, heads = x.shape[1], []
        for h in range(dim // 64):
            q, k, v = (qkv[:, part * dim + 64 * h : part * dim + 64 * (h + 1)] for part in range(3))
            heads.append(torch.softmax(q @ k.T / 8, -1) @ v)
        x = x + linear(torch.cat(heads, -1), f"blocks.{i}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"blocks.{i}.norm2", 1e-6), f"blocks.{i}.mlp.fc1"))
        return x + linear(hidden, f"blocks.{i}.mlp.fc2")

    def score(x: Tensor, slot: Tensor, j: int) -> Tensor:
        name = f"score_predictor.{j}"
        local, spatial, whole = F.gelu(linear(norm(x, f"{name}.in_conv.0", 1e-5), f"{name}.in_conv.1")).chunk(3, -1)
        per_slot = torch.stack([spatial[slot == s].mean(0) for s in slot])
        x = torch.cat([local, per_slot, whole.mean(0).expand_as(local)], -1)
        for layer in ("out_conv.0", "out_conv.2"):
            x = F.gelu(linear(x, f"{name}.{layer}"))
        return torch.log_softmax(linear(x, f"{name}.out_conv.4"), -1)[:, 0]

    depth = 1 + max(int(n.split(".")[1]) for n in p if n.startswith("blocks."))
    slots = video.shape[2] // frames
    per_slot = p["pos_embed"].shape[1] // slots
    side = round(per_slot**0.5)
    outputs = []
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for clip in (video - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1):
        grid = F.conv3d(clip, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=(frames, patch, patch))
        x = grid.flatten(1).T + p["pos_embed"][0]
        place = torch.arange(len(x))
        for i in range(depth):
            if i in (depth // 4, depth // 2, 3 * depth // 4):
                j = 4 * i // depth - 1
                scores, slot = score(x, place // per_slot, j), place // per_slot
                chosen = [
                    (slot == s).nonzero()[:, 0][
                        scores[slot == s].argsort(descending=True)[: int(per_slot * ratio ** (j + 1))]
                    ]
                    for s in range(slots)
                ]
                x, place = x[torch.cat(chosen)], place[torch.cat(chosen)]
            x = block(x, i)
        values = linear(norm(x, "norm_recon", 1e-6), "head_recon")
        output = torch.zeros_like(clip)
        for value, at in zip(values.view(-1, frames, patch, patch, 3), place.tolist(), strict=True):
            t, row, column = at // per_slot * frames, at % per_slot // side * patch, at % side * patch
            output[:, t : t + frames, row : row + patch, column : column + patch] = value.permute(3, 0, 1, 2)
        outputs.append(output)
    return torch.stack(outputs)


def test_an_official_checkpoint_loads_and_computes_what_the_release_computes() -> None:
    state = official_state()
    network = stprivacy.load_official(state, size=32)
    assert not network.training
    video = torch.rand(2, 3, 4, 32, 32)
    with torch.no_grad():
        ours, reference = network(video), official_forward(state, video)
    assert torch.equal(ours.keep_BLN.sum(-1), torch.full((2, 2), 5.0))
    assert ours._fields[:2] == ("x_BCTHW", "keep_BLN")
    torch.testing.assert_close(ours.x_BCTHW, reference, atol=2e-4, rtol=1e-4)


def test_the_official_layout_round_trips_at_paper_size() -> None:
    with torch.device("meta"):
        ours = STPrivacy(VitSpec(), Config()).state_dict()
    official = official_state(dim=384, depth=12, slots=8, side=7, patch=16)
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in official.items()}
    loaded = stprivacy.load_official({f"module.{n}": v for n, v in official.items()})
    assert loaded.vit == VitSpec(drop_path=0.0)
    assert all(torch.equal(v, official[n]) for n, v in loaded.state_dict().items())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.pop("pos_embed"),
        lambda s: s.pop("norm_recon.bias"),
        lambda s: s.update({"cls_token": torch.zeros(1)}),
        lambda s: s.update({"head_recon.bias": torch.zeros(7)}),
        lambda s: s.clear(),
    ],
)
def test_a_foreign_checkpoint_is_refused(spoil: Any) -> None:
    state = official_state()
    spoil(state)
    with pytest.raises(UserError, match="no STPrivacy checkpoint"):
        stprivacy.load_official(state, size=32)
