"""The video ViT: sizes, masked attention, the two forward paths, image weights, learning rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stp_bench import vit as vit_module
from stp_bench.errors import UserError, WorkError
from stp_bench.schema import VitSpec
from stp_bench.vit import (
    Block,
    VideoVit,
    drop_tokens,
    frame_spec,
    load_image_weights,
    lr_at,
    masked_attention,
    masked_mean,
    normalize,
    parameter_groups,
    set_lr,
)

TINY = VitSpec(frames=4, size=32, tubelet=2, patch=8, dim=24, depth=4, heads=3, drop_path=0.0)
S = TINY.slots * TINY.tubelets


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def random_keep(batch: int = 2, share: float = 0.5) -> Tensor:
    return (torch.rand(batch, TINY.slots, TINY.tubelets) < share).float()


def scrambled(network: VideoVit) -> VideoVit:
    """With random weights everywhere: new heads are nearly zero and would hide differences."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


# Sizes


@pytest.mark.parametrize(
    ("classes", "parameters"), [(51, 22_054_707), (101, 22_073_957), (5, 22_036_997), (8, 22_038_152)]
)
def test_a_recognizer_has_the_published_number_of_parameters(classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(VideoVit(VitSpec(), classes)) == parameters
        assert count(VideoVit(VitSpec(temporal_gain=8.0), classes)) == parameters


def test_a_single_frame_recognizer_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert count(VideoVit(frame_spec(VitSpec(temporal_gain=8.0)), 5)) == 21_610_373


@pytest.mark.parametrize("change", [{"frames": 5}, {"size": 30}, {"heads": 5}, {"patch": 0}])
def test_sizes_that_do_not_divide_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"does not fit"):
        VideoVit(dataclasses.replace(TINY, **change), 3)


# Embedding


def test_the_embedding_is_the_three_dimensional_convolution() -> None:
    embed = VideoVit(TINY, 3).patch_embed
    clip = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(embed(clip), embed.proj(clip).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_the_temporal_basis_leaves_the_function_class_as_it_is() -> None:
    """w0 x0 + w1 x1 = wm (x0 + x1)/2 + g wd (x1 - x0) for wm = w0 + w1, wd = (w1 - w0)/(2 g)."""
    plain, haar = (VideoVit(dataclasses.replace(TINY, temporal_gain=g), 3).patch_embed for g in (0.0, 8.0))
    with torch.no_grad():
        first, second = plain.proj.weight.unbind(2)
        haar.proj.weight.copy_(torch.stack([first + second, (second - first) / 16], 2))
        haar.proj.bias.copy_(plain.proj.bias)
    clip = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(plain(clip), haar(clip), atol=1e-5, rtol=1e-5)


def test_pixels_are_normalized_and_free_values_are_taken_as_they_are() -> None:
    network = scrambled(VideoVit(TINY, 3))
    clip = torch.rand(2, 3, 4, 32, 32)
    assert torch.equal(network(clip), network(normalize(clip), space="free"))
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1, 1)
    assert normalize(grey).abs().max() == 0


# Masked attention


def dense_masked_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, eps: float = 0.0) -> Tensor:
    """Eq. 8-10 step by step, for autograd. The maximum is a constant: softmax does not depend on it."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    eye = torch.eye(keep.shape[1], dtype=scores.dtype)
    mask = keep[:, None, None, :] * (1 - eye) + eye
    top = (scores if eps else scores - 1e9 * (mask == 0)).detach().amax(-1, keepdim=True)
    shifted = scores - top
    weights = torch.where(shifted > 0, torch.zeros_like(shifted), shifted).exp() * mask
    weights = (weights + eps / weights.shape[-1]) / (weights.sum(-1, keepdim=True) + eps)
    return weights @ v


def attention_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = (torch.randn(2, 3, 10, 4, dtype=dtype, requires_grad=True) for _ in range(3))
    keep = (torch.rand(2, 10) > 0.5).to(dtype).requires_grad_()
    return q, k, v, keep


@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_masked_attention_and_its_gradients_are_those_of_the_equations(eps: float) -> None:
    inputs = attention_inputs()
    ours, plain = masked_attention(*inputs, eps), dense_masked_attention(*inputs, eps)
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(plain, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_gradients_of_masked_attention_are_its_finite_differences() -> None:
    q, k, v, keep = attention_inputs()
    assert torch.autograd.gradcheck(lambda *x: masked_attention(*x, keep.detach()), (q, k, v))


def test_with_all_tokens_kept_masked_attention_is_plain_attention() -> None:
    q, k, v, keep = attention_inputs(torch.float32)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(masked_attention(q, k, v, torch.ones_like(keep)), plain, atol=1e-6, rtol=0)


def test_an_abandoned_token_reaches_no_kept_one() -> None:
    block, x, keep = Block(TINY, 0.0, 0.0), torch.randn(1, S, 24), random_keep(1).flatten(1)
    torch.nn.init.normal_(block.attn.qkv.weight)
    gone = int((keep[0] == 0).nonzero()[0])
    changed = x.clone()
    changed[0, gone] = 1e3 * torch.randn(24)
    kept = keep[0] == 1
    assert (block(x, keep) - block(changed, keep))[0, kept].abs().max() <= 1e-7


def test_in_the_released_variant_an_abandoned_token_leaks() -> None:
    q, k, v, keep = attention_inputs(torch.float32)
    gone, kept = int((keep[0] == 0).nonzero()[0]), keep[0] == 1
    with torch.no_grad():
        before = masked_attention(q, k, v, keep, 1e-6)
        k[:, :, gone] *= 1e3
        v[:, :, gone] *= 1e3
        assert (masked_attention(q, k, v, keep, 1e-6) - before)[0, :, kept].abs().max() > 1


def test_a_token_abandoned_by_all_sees_itself_only() -> None:
    q, k, v, keep = attention_inputs(torch.float32)
    torch.testing.assert_close(masked_attention(q, k, v, torch.zeros_like(keep)), v)


def test_the_gradient_reaches_the_decision_of_abandoned_tokens_too() -> None:
    q, k, v, keep = attention_inputs()
    (gradient,) = torch.autograd.grad(masked_attention(q, k, v, keep).square().sum(), keep)
    assert gradient.isfinite().all()
    assert (gradient[keep == 0] != 0).all()


def test_masked_attention_works_under_autocast() -> None:
    network = scrambled(VideoVit(TINY, 3))
    clip, keep = torch.rand(2, 3, 4, 32, 32), random_keep().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(clip, keep)
    logits.float().sum().backward()
    assert keep.grad is not None
    assert keep.grad.isfinite().all()
    reference = network(clip, keep)
    assert (logits - reference).abs().max() < 0.1 * reference.abs().max()


# The recognizer's two paths


@pytest.mark.parametrize("counts", [(9, 9), (12, 3), (5, 0)])
def test_dropping_tokens_and_masking_them_agree(counts: tuple[int, int]) -> None:
    network = scrambled(VideoVit(dataclasses.replace(TINY, temporal_gain=8.0), 3))
    keep = torch.zeros(2, S)
    for row, kept in zip(keep, counts, strict=True):
        row[torch.randperm(S)[:kept]] = 1
    keep = keep.view(2, TINY.slots, TINY.tubelets)
    clip = torch.rand(2, 3, 4, 32, 32)
    torch.testing.assert_close(network(clip, keep), network(clip, keep, aligned=True), atol=1e-5, rtol=1e-4)


def test_keeping_all_is_the_same_as_no_decision() -> None:
    network = scrambled(VideoVit(TINY, 3))
    clip = torch.rand(2, 3, 4, 32, 32)
    torch.testing.assert_close(network(clip, torch.ones(2, 2, 16)), network(clip), atol=1e-5, rtol=1e-4)


def test_pixels_of_abandoned_tubelets_do_not_move_the_logits() -> None:
    network, keep = scrambled(VideoVit(TINY, 3)), random_keep()
    clip, other = torch.rand(2, 3, 4, 32, 32), torch.rand(2, 3, 4, 32, 32)
    from stp_bench.tubelets import keep_to_mask

    mask = keep_to_mask(keep, 4, 32)
    torch.testing.assert_close(network(clip, keep), network(clip * mask + other * (1 - mask), keep))


def test_a_clip_that_keeps_nothing_still_gives_finite_logits_and_gradients() -> None:
    network = scrambled(VideoVit(TINY, 3))
    keep = torch.zeros(2, 2, 16, requires_grad=True)
    logits = network(torch.rand(2, 3, 4, 32, 32), keep)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert keep.grad is not None
    assert keep.grad.isfinite().all()


def test_kept_tokens_stay_in_order_and_shorter_clips_are_padded() -> None:
    x = torch.arange(8.0).view(2, 4, 1)
    dropped, real = drop_tokens(x, torch.tensor([[0.0, 1, 0, 1], [1, 1, 0, 0]]))
    assert (dropped[..., 0].tolist(), real) == ([[1, 3], [4, 5]], None)
    dropped, real = drop_tokens(x, torch.tensor([[0.0, 1, 0, 1], [0, 0, 1, 0]]))
    assert dropped[0, :, 0].tolist() == [1, 3] and dropped[1, 0] == 6
    assert real is not None and real.tolist() == [[1, 1], [1, 0]]


def test_the_masked_mean_runs_over_kept_tokens() -> None:
    x = torch.tensor([[[1.0], [2.0], [9.0]], [[1.0], [2.0], [9.0]]])
    assert masked_mean(x, torch.tensor([[1.0, 1, 0], [0, 0, 0]])).tolist() == [[1.5], [0]]


def test_a_new_head_starts_as_near_to_zero_as_it_is_told() -> None:
    scales = [VideoVit(TINY, 3, head_scale=s).head.weight.abs().max().item() for s in (1.0, 1e-3, 0.0)]
    assert scales[0] > 0.05
    assert 0 < scales[1] < 1e-3
    assert scales[2] == 0


# Image weights


def image_vit(side: int = 4, dim: int = 24, depth: int = 4) -> dict[str, Tensor]:
    """Parameters of an image ViT by timm's names, with a class token and a classifier."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim), "pos_embed": (1, 1 + side**2, dim), "head.weight": (10, dim), "head.bias": (10,),
        "patch_embed.proj.weight": (dim, 3, 8, 8), "patch_embed.proj.bias": (dim,), "norm.weight": (dim,),
        "norm.bias": (dim,),
    }  # fmt: skip
    maps = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    for i in range(depth):
        for name, shape in (maps | {"norm1": (dim,), "norm2": (dim,)}).items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("inflation", ["average", "central"])
@pytest.mark.parametrize("tubelet", [1, 2, 4])
def test_inflated_weights_embed_a_static_clip_as_the_image(tmp_path: Path, inflation: str, tubelet: int) -> None:
    image = image_vit()
    torch.save({"model": image}, tmp_path / "vit.pth")
    network = VideoVit(dataclasses.replace(TINY, tubelet=tubelet), 3)
    load_image_weights(network, str(tmp_path / "vit.pth"), inflation=inflation)  # type: ignore[arg-type]
    frame = torch.randn(2, 3, 32, 32)
    kernel, bias = image["patch_embed.proj.weight"], image["patch_embed.proj.bias"]
    tokens = torch.nn.functional.conv2d(frame, kernel, bias, stride=8).flatten(2).transpose(1, 2)
    expected = (tokens + image["pos_embed"][:, 1:]).repeat(1, 4 // tubelet, 1)
    embedded = network.embed(frame.unsqueeze(2).expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(embedded, expected, atol=1e-4, rtol=1e-4)


def test_central_inflation_sees_the_middle_frame_only(tmp_path: Path) -> None:
    save_file(image_vit(), tmp_path / "vit.safetensors")
    network = VideoVit(TINY, 3)
    load_image_weights(network, str(tmp_path / "vit.safetensors"), inflation="central")
    clip = torch.randn(1, 3, 4, 32, 32)
    changed = clip.clone()
    changed[:, :, ::2] = 0
    torch.testing.assert_close(network.embed(clip), network.embed(changed))


def test_image_weights_fill_blocks_and_last_norm_and_leave_the_head(tmp_path: Path) -> None:
    image = image_vit()
    save_file(image, tmp_path / "vit.safetensors")
    network = VideoVit(TINY, 3)
    head = network.head.weight.clone()
    load_image_weights(network, str(tmp_path / "vit.safetensors"))
    assert torch.equal(network.blocks[3].mlp.fc2.weight, image["blocks.3.mlp.fc2.weight"])
    assert torch.equal(network.fc_norm.weight, image["norm.weight"])
    assert torch.equal(network.head.weight, head)


def test_positions_of_another_grid_are_resized_and_repeated_for_every_slot(tmp_path: Path) -> None:
    image = image_vit(side=8)
    save_file(image, tmp_path / "vit.safetensors")
    network = VideoVit(TINY, 3)
    load_image_weights(network, str(tmp_path / "vit.safetensors"))
    grid = image["pos_embed"][:, 1:].reshape(1, 8, 8, 24).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(grid, (4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(network.pos_embed, resized.repeat(1, 2, 1))


def test_weights_of_another_width_or_depth_are_refused(tmp_path: Path) -> None:
    for number, image in enumerate((image_vit(dim=48), image_vit(depth=3), image_vit(depth=5))):
        path = tmp_path / f"{number}.safetensors"
        save_file(image, path)
        with pytest.raises(UserError, match="do not fit this network"):
            load_image_weights(VideoVit(TINY, 3), str(path))


def test_none_leaves_the_random_start() -> None:
    network = VideoVit(TINY, 3)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    load_image_weights(network, "none")
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_missing_damaged_and_foreign_weight_files_are_named(tmp_path: Path) -> None:
    network = VideoVit(TINY, 3)
    with pytest.raises(UserError, match="there is no such file"):
        load_image_weights(network, str(tmp_path / "missing.pth"))
    (tmp_path / "damaged.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WorkError, match="cannot read"):
        load_image_weights(network, str(tmp_path / "damaged.safetensors"))
    torch.save([1, 2], tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="holds no weights"):
        load_image_weights(network, str(tmp_path / "foreign.pth"))


def test_a_weight_file_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"patch_embed.proj.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WorkError):
        load_image_weights(VideoVit(TINY, 3), str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_image_weights_refuse_the_temporal_basis() -> None:
    with pytest.raises(UserError, match="temporal_gain"):
        load_image_weights(VideoVit(dataclasses.replace(TINY, temporal_gain=8.0), 3), "pretrained")


def test_a_failed_download_names_the_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WorkError, match=r"network is unreachable; .*--weights FILE"):
        load_image_weights(VideoVit(TINY, 3), "pretrained")


# Learning rates


def test_vectors_and_positions_are_not_decayed_and_every_parameter_has_one_group() -> None:
    network = VideoVit(TINY, 3)
    groups = parameter_groups(network, 1e-3, 0.05)
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    for group in groups:
        matrices = [p for p in group["params"] if p.ndim > 1 and p is not network.pos_embed]
        assert len(matrices) == (len(group["params"]) if group["weight_decay"] else 0)


def test_layers_further_from_the_head_learn_more_slowly() -> None:
    network = VideoVit(TINY, 3)
    rates = {id(p): group["lr"] for group in parameter_groups(network, 1.0, 0.05, 0.5) for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in network.named_parameters()}
    assert by_name["head.weight"] == by_name["fc_norm.bias"] == 1
    assert by_name["blocks.3.attn.qkv.weight"] == 0.5
    assert by_name["blocks.0.norm1.weight"] == 0.5**4
    assert by_name["pos_embed"] == by_name["patch_embed.proj.weight"] == 0.5**5


def test_frozen_and_unselected_parameters_get_no_group() -> None:
    network = VideoVit(TINY, 3)
    network.patch_embed.requires_grad_(False)
    groups = parameter_groups(network, 1e-3, 0.05, select=lambda name: not name.startswith("blocks."))
    assert sum(len(g["params"]) for g in groups) == 5  # positions, fc_norm and head


def test_rates_rise_in_a_line_and_fall_in_a_cosine_and_keep_their_ratios() -> None:
    assert lr_at(0.0, 0.1) == 0
    assert lr_at(0.05, 0.1) == pytest.approx(0.5)
    assert lr_at(0.1, 0.1) == 1
    assert lr_at(0.0, 0.0) == 1
    assert lr_at(1.0, 0.1) == pytest.approx(0)
    optimizer = torch.optim.AdamW(parameter_groups(VideoVit(TINY, 3), 1e-2, 0.05, 0.5))
    for factor in (0.3, 0.8):
        set_lr(optimizer, factor)
        assert all(g["lr"] == pytest.approx(factor * g["peak_lr"]) for g in optimizer.param_groups)


def test_only_the_vit_module_imports_timm() -> None:
    root = Path(vit_module.__file__).parents[1]
    sources = [p for d in ("stp_bench", "model", "baselines", "leaderboard") for p in (root / d).rglob("*.py")]
    assert [p.name for p in sources if "import timm" in (t := p.read_text()) or "from timm" in t] == ["vit.py"]
