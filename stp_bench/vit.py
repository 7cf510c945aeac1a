"""The video ViT that recognizers and STPrivacy share: attention that obeys a keep decision, image weights, rates.

Axes in tensor names: B clips, C channels, T frames, H, W pixels; L time slots, N tubelets of a slot, S = L x N tokens
(slot, row, column: column fastest), P values of a tubelet, D features, h heads, K classes.

A *keep decision* is 1 for a visible token and 0 for an abandoned one (paper section 3.2). Where it is soft only in its
gradient (straight-through), attention passes that gradient on. This module is the only importer of timm.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stp_bench.errors import UserError, WorkError
from stp_bench.schema import Space, VitSpec
from stp_bench.tubelets import temporal_gain, to_temporal_basis, tokenize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PRETRAINED = "deit_small_patch16_224.fb_in1k"
"""The image ViT behind ``--weights pretrained``: ViT-S/16, 384 features, 12 blocks, 6 heads."""


def normalize(x_BCTHW: Tensor) -> Tensor:
    """[0, 1] pixels in ImageNet's normalization."""
    mean, std = (x_BCTHW.new_tensor(v).view(3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (x_BCTHW - mean) / std


def masked_attention(q_BhSD: Tensor, k_BhSD: Tensor, v_BhSD: Tensor, keep_BS: Tensor, eps: float = 0.0) -> Tensor:
    """Softmax attention in which a token sees the kept tokens and itself (paper Eq. 8-10); weights are float32.

    The decision multiplies the exponentials, so that its straight-through gradient survives, while the row maximum is
    taken over visible tokens only, so that nothing of an abandoned token reaches a kept one.

    ``eps`` > 0 gives the released code's variant instead (maximum over all tokens, smoothed by ``eps``), in which
    abandoned tokens do leak.
    """
    out: Tensor = _MaskedAttention.apply(q_BhSD, k_BhSD, v_BhSD, keep_BS, eps)
    return out


class _MaskedAttention(torch.autograd.Function):
    """With E = exp(S - max) / total and the mask M, the weights are A = E M and the output is O = A V. Hence

        dL/dM = E * (dO V^T - <dO, O>),    dL/dS = M * dL/dM,

    half the work and memory of differentiating step by step. M is 1 on the diagonal and the decision elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, keep_BS: Tensor, eps: float) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).to(torch.promote_types(q.dtype, torch.float32))
        own = torch.eye(keep_BS.shape[1], dtype=torch.bool, device=keep_BS.device)
        mask = keep_BS.to(scores.dtype)[:, None, None, :].masked_fill(own, 1.0)
        top = scores if eps else scores.masked_fill(mask == 0, -torch.inf)
        open_weights = scores.sub_(top.amax(-1, keepdim=True)).clamp_(max=0).exp_()
        weights = open_weights * mask
        total = weights.sum(-1, keepdim=True) + eps
        open_weights.div_(total)
        if eps:
            weights += eps / weights.shape[-1]
        weights = weights.div_(total).to(v.dtype)
        out: Tensor = weights @ v
        ctx.save_for_backward(q, k, v, keep_BS, mask, open_weights, weights, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None]:
        q, k, v, keep_BS, mask, open_weights, weights, out = ctx.saved_tensors
        grad_mask = grad @ v.transpose(-2, -1) - (grad * out).sum(-1, keepdim=True)
        grad_mask = grad_mask.to(open_weights.dtype).mul_(open_weights)
        grad_keep = None
        if ctx.needs_input_grad[3]:
            per_column = grad_mask.sum((1, 2)) - grad_mask.sum(1).diagonal(dim1=-2, dim2=-1)
            grad_keep = per_column.to(keep_BS.dtype)
        grad_scores = grad_mask.mul_(mask * q.shape[-1] ** -0.5).to(q.dtype)
        return grad_scores @ k, grad_scores.transpose(-2, -1) @ q, weights.transpose(-2, -1) @ grad, grad_keep, None


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, or over those a decision keeps."""

    def __init__(self, vit: VitSpec, eps: float) -> None:
        super().__init__()
        self.heads, self.eps = vit.heads, eps
        self.qkv = nn.Linear(vit.dim, 3 * vit.dim)
        self.proj = nn.Linear(vit.dim, vit.dim)

    def forward(self, x_BSD: Tensor, keep_BS: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x_BSD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if keep_BS is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = masked_attention(q, k, v, keep_BS, self.eps)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """Pre-norm transformer block; ``keep_BS`` None lets every token see every other."""

    def __init__(self, vit: VitSpec, drop_path: float, attn_eps: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(vit.dim)
        self.attn = Attention(vit, attn_eps)
        self.norm2 = LayerNorm(vit.dim)
        self.mlp = Mlp(vit.dim, int(vit.dim * vit.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BSD: Tensor, keep_BS: Tensor | None = None) -> Tensor:
        x_BSD = x_BSD + self.drop_path(self.attn(self.norm1(x_BSD), keep_BS))
        mixed: Tensor = self.drop_path(self.mlp(self.norm2(x_BSD)))
        return x_BSD + mixed


class TubeletEmbedding(nn.Module):
    """One token per tubelet. ``proj`` is the 3-D convolution of the paper, applied as the matrix product that it is."""

    def __init__(self, vit: VitSpec) -> None:
        super().__init__()
        self.vit = vit
        kernel = (vit.tubelet, vit.patch, vit.patch)
        self.proj = nn.Conv3d(3, vit.dim, kernel, stride=kernel)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if gain := temporal_gain(self.vit):
            x_BCTHW = to_temporal_basis(x_BCTHW, gain)
        weight_DP = self.proj.weight.permute(0, 2, 3, 4, 1).flatten(1)
        return F.linear(tokenize(x_BCTHW, self.vit), weight_DP, self.proj.bias)


class TubeletTransformer(nn.Module):
    """What recognizers and STPrivacy have in common: tubelet embedding, positions, blocks."""

    def __init__(self, vit: VitSpec, *, attn_eps: float = 0.0) -> None:
        super().__init__()
        check_sizes(vit)
        self.vit = vit
        self.patch_embed = TubeletEmbedding(vit)
        self.pos_embed = nn.Parameter(torch.empty(1, vit.slots * vit.tubelets, vit.dim))
        rates = torch.linspace(0, vit.drop_path, vit.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(vit, rate, attn_eps) for rate in rates)

    def init_weights(self) -> None:
        """Linear maps Xavier uniform, which suits every width; positions normal of deviation 0.02; biases zero."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.get_parameter("proj.bias"))

    def embed(self, x_BCTHW: Tensor) -> Tensor:
        """Tokens (B, S, D) of a normalized clip."""
        tokens: Tensor = self.patch_embed(x_BCTHW) + self.pos_embed
        return tokens

    def layer_of(self, name: str) -> int:
        """Depth of a parameter, for layer-wise learning rates: embedding 0, block i at i + 1, heads last."""
        if name.startswith(("patch_embed.", "pos_embed")):
            return 0
        return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else self.vit.depth + 1


class VideoVit(TubeletTransformer):
    """The recognizer of actions and of privacy attributes alike (paper section 4.3): mean over visible tokens, head."""

    def __init__(self, vit: VitSpec, classes: int, *, head_scale: float = 1.0) -> None:
        super().__init__(vit)
        self.fc_norm = LayerNorm(vit.dim)
        self.head = nn.Linear(vit.dim, classes)
        self.init_weights()
        with torch.no_grad():
            self.head.weight.mul_(head_scale)

    def forward(
        self, x_BCTHW: Tensor, keep_BLN: Tensor | None = None, *, space: Space = "rgb01", aligned: bool = False
    ) -> Tensor:
        """Logits (B, K).

        Args:
            x_BCTHW: a clip of this network's size; ``rgb01`` is normalized here, ``free`` is taken as it is.
            keep_BLN: visible tokens, None for all.
            space: range of the clip.
            aligned: drop abandoned tokens (fast) instead of masking them in place (their decision gets a gradient).
                But for rounding the logits are the same.
        """
        x = self.embed(normalize(x_BCTHW) if space == "rgb01" else x_BCTHW)
        keep_BS = None if keep_BLN is None else keep_BLN.flatten(1)
        if keep_BS is not None and aligned:
            x, keep_BS = drop_tokens(x, keep_BS)
        for block in self.blocks:
            x = block(x, keep_BS)
        logits: Tensor = self.head(self.fc_norm(masked_mean(x, keep_BS)))
        return logits


def masked_mean(x_BSD: Tensor, keep_BS: Tensor | None) -> Tensor:
    """Mean over the kept tokens, (B, D); zero where none is kept."""
    if keep_BS is None:
        return x_BSD.mean(1)
    keep_BS1 = keep_BS.float().unsqueeze(-1)
    mean: Tensor = (x_BSD.float() * keep_BS1).sum(1) / keep_BS1.sum(1).clamp(min=1)
    return mean


def drop_tokens(x_BSD: Tensor, keep_BS: Tensor) -> tuple[Tensor, Tensor | None]:
    """The kept tokens in order, padded to those of the fullest clip; and which are no padding, None if all are."""
    counts_B = (keep_BS > 0).sum(1)
    most = max(int(counts_B.max()), 1)
    order = keep_BS.argsort(dim=1, descending=True, stable=True)[:, :most]
    x_BSD = x_BSD.take_along_dim(order.unsqueeze(-1), 1)
    return x_BSD, None if bool((counts_B == most).all()) else keep_BS.gather(1, order)


def check_sizes(vit: VitSpec) -> None:
    """Refuse sizes that do not divide.

    Raises:
        UserError: frames by tubelet length, frame size by patch size, or features by heads.
    """
    for whole, part in (("frames", "tubelet"), ("size", "patch"), ("dim", "heads")):
        if getattr(vit, part) < 1 or getattr(vit, whole) < 1 or getattr(vit, whole) % getattr(vit, part):
            raise UserError(
                f"{whole} {getattr(vit, whole)} does not fit {part} {getattr(vit, part)}",
                f"a network needs {whole} to be a multiple of {part}",
                f"choose another {whole} or {part}",
            )


def frame_spec(vit: VitSpec) -> VitSpec:
    """The single-frame variant: one frame, tubelets of length one."""
    return dataclasses.replace(vit, frames=1, tubelet=1, temporal_gain=0.0)


# Image weights


def load_image_weights(
    network: TubeletTransformer, source: str, *, inflation: Literal["average", "central"] = "average"
) -> None:
    """Start a video network from an image ViT: on a static clip it then embeds what the image ViT embeds.

    The 2-D patch kernel is spread over time (``average``: divided equally; ``central``: at the middle frame), positions
    are resized and repeated for every slot; class token and classifier are dropped; ``norm`` becomes the last norm.

    Args:
        network: what to fill, in place.
        source: ``none`` (leaves it as it is), ``pretrained`` (timm's DeiT-S, downloaded on first use) or the path of a
            ``.safetensors`` or ``.pth`` file in timm's names.
        inflation: how the kernel is spread.

    Raises:
        UserError: no such file, or a ViT of another size.
        WorkError: the file cannot be read, or the download failed.
    """
    if source == "none":
        return
    if temporal_gain(network.vit):
        raise UserError(
            "image weights do not fit a network with temporal_gain", "they hold kernels of plain frames", "set it to 0"
        )
    own = network.state_dict()
    last_norm = "fc_norm" if "fc_norm.weight" in own else "norm_recon"
    inflated = {name.replace("norm.", f"{last_norm}.") if name.startswith("norm.") else name: value
                for name, value in _inflate(_read_image_weights(source), network.vit, inflation).items()}  # fmt: skip
    wanted = {name for name in own if name.startswith(("patch_embed.", "pos_embed", "blocks.", f"{last_norm}."))}
    unfit = [n for n in sorted(wanted) if n not in inflated or inflated[n].shape != own[n].shape]
    unfit += [n for n in sorted(inflated) if n.startswith("blocks.") and n not in wanted]
    if unfit:
        raise UserError(
            f"image weights {source!r} do not fit this network", f"they differ in {', '.join(unfit[:3])}",
            "use a ViT of the preset's width, depth and patch size",
        )  # fmt: skip
    network.load_state_dict({name: inflated[name] for name in wanted}, strict=False)


def _inflate(image: Mapping[str, Tensor], vit: VitSpec, inflation: str) -> dict[str, Tensor]:
    """An image ViT's parameters in the shapes of a video ViT."""
    video = dict(image)
    if (kernel := image.get("patch_embed.proj.weight")) is not None and kernel.ndim == 4:
        spread = torch.zeros(vit.tubelet)
        if inflation == "average":
            spread += 1 / vit.tubelet
        else:
            spread[vit.tubelet // 2] = 1
        video["patch_embed.proj.weight"] = kernel.unsqueeze(2) * spread.view(1, 1, -1, 1, 1)
    if (positions := image.get("pos_embed")) is not None:
        side = math.isqrt(positions.shape[1])
        grid = positions[:, positions.shape[1] - side**2 :].unflatten(1, (side, side))  # class tokens come first
        if side != vit.side:
            grid = F.interpolate(grid.permute(0, 3, 1, 2), (vit.side, vit.side), mode="bicubic").permute(0, 2, 3, 1)
        video["pos_embed"] = grid.flatten(1, 2).repeat(1, vit.slots, 1)
    return video


def _read_image_weights(source: str) -> Mapping[str, Tensor]:
    if source == "pretrained":
        import timm

        try:
            pretrained: Mapping[str, Tensor] = timm.create_model(PRETRAINED, pretrained=True).state_dict()
        except Exception as error:  # the hub client raises many kinds; each means that nothing was fetched
            raise WorkError(
                f"cannot fetch the image weights {PRETRAINED}",
                f"{type(error).__name__}: {error}",
                "fetch the file elsewhere and pass its path with --weights FILE, or use --weights none",
            ) from error
        return pretrained
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(
            f"no image weights at {source!r}", "there is no such file", "give pretrained, none or the path of a file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own errors for a damaged file
        raise WorkError(
            f"cannot read the weights in {path}", str(error).splitlines()[0], "fetch the file again"
        ) from error
    state = state.get("model", state.get("state_dict", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no weights", "it is not a table of named tensors", "give a ViT's state_dict")
    return state


# Learning rates


def parameter_groups(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    *,
    select: Callable[[str], bool] = lambda name: True,
) -> list[dict[str, Any]]:
    """Optimizer groups of the trainable parameters whose names ``select`` accepts.

    Vectors, biases and positions are not decayed. A parameter k layers below the head (``network.layer_of``) learns at
    ``lr x layer_decay^k``, kept as ``peak_lr`` for `set_lr`.
    """
    layer_of: Callable[[str], int] = getattr(network, "layer_of", lambda name: 0)
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    last = max((layer_of(n) for n, _ in named), default=0)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        if not select(name):
            continue
        peak = lr * layer_decay ** (last - layer_of(name))
        decays = parameter.ndim > 1 and name != "pos_embed"
        new = {"params": [], "weight_decay": weight_decay if decays else 0.0, "lr": peak, "peak_lr": peak}
        groups.setdefault((peak, decays), new)["params"].append(parameter)
    return list(groups.values())


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Let every group learn at ``factor`` x its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]


def lr_at(progress: float, warmup: float) -> float:
    """Factor of the peak learning rate at ``progress`` in [0, 1]: up a line for ``warmup``, then down a cosine to 0.

    >>> [round(lr_at(p, 0.2), 2) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
