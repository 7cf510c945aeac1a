"""The image networks of the learned baselines, which transform every frame on its own, and their auxiliaries.

Axes in tensor names: B clips, C channels, T frames, H, W pixels, N frames of any clips, M positions of a feature map,
K outputs. Frames and clips are RGB in [0, 1]; networks that expect another range convert inside.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from stp_bench.vit import VideoVit, normalize

AT_ONCE = 32
"""Frames that pass a network together where no gradient is wanted: bounds memory whatever the batch."""


def each_frame(network: nn.Module, x_BCTHW: Tensor) -> Tensor:
    """An image network applied to every frame; values float32, also under autocast."""
    frames_NCHW = x_BCTHW.transpose(1, 2).flatten(0, 1)
    pieces = (frames_NCHW,) if torch.is_grad_enabled() else frames_NCHW.split(AT_ONCE)
    out_BTCHW: Tensor = torch.cat([network(piece).float() for piece in pieces]).unflatten(0, (len(x_BCTHW), -1))
    return out_BTCHW.transpose(1, 2)


# Transforms: frames (N, 3, H, W) in [0, 1] to frames of the same size


class TransNet(nn.Sequential):
    """Collective's transformation network: down to a quarter and up again (Zhang et al., ICDM 2019, Table 1, in 2-D).

    168,835 parameters at width 32; 42,947 at the published width 16. H and W must be multiples of 4. The output is
    in (0, 1), or unbounded without ``bounded``.
    """

    def __init__(self, width: int = 32, *, bounded: bool = True) -> None:
        w = width

        def conv(a: int, b: int) -> nn.Module:
            return nn.Conv2d(a, b, 3, padding=1)

        def up(a: int, b: int) -> nn.Module:
            return nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1)

        super().__init__(
            conv(3, w), nn.ReLU(), nn.MaxPool2d(2),
            conv(w, 2 * w), nn.ReLU(), nn.MaxPool2d(2),
            conv(2 * w, 2 * w), nn.ReLU(),
            up(2 * w, 2 * w), nn.ReLU(), conv(2 * w, 2 * w), nn.ReLU(),
            up(2 * w, 2 * w), nn.ReLU(), conv(2 * w, 3),
            nn.Sigmoid() if bounded else nn.Identity(),
        )  # fmt: skip


class ITNet(nn.Module):
    """VITA's anonymizer: the image transformation network of Johnson et al. (ECCV 2016) as in VITA's `degradNet.py`.

    Convolutions have no bias; each is followed by an instance norm. 1,677,638 parameters at width 32. H and W must be
    multiples of 4. The last norm stands before the tanh: a frame's mean color and contrast do not pass.
    """

    def __init__(self, width: int = 32, *, gray: bool = False) -> None:
        """``gray`` averages the output's channels, as in VITA's experiments on SBU."""
        super().__init__()
        w = width
        self.gray = gray
        self.body = nn.Sequential(
            *_normed(nn.Conv2d(3, w, 9, padding=4, bias=False)), nn.ReLU(),
            *_normed(nn.Conv2d(w, 2 * w, 3, stride=2, padding=1, bias=False)), nn.ReLU(),
            *_normed(nn.Conv2d(2 * w, 4 * w, 3, stride=2, padding=1, bias=False)), nn.ReLU(),
            *(_Residual(4 * w) for _ in range(5)),
            *_normed(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, padding=1, output_padding=1, bias=False)), nn.ReLU(),
            *_normed(nn.ConvTranspose2d(2 * w, w, 3, 2, padding=1, output_padding=1, bias=False)), nn.ReLU(),
            *_normed(nn.Conv2d(w, 3, 9, padding=4, bias=False)),
        )  # fmt: skip
        for parameter in self.parameters():
            if parameter.ndim == 4:
                nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out: Tensor = (self.body(x_NCHW).tanh() + 1) / 2
        return out.mean(1, keepdim=True).expand_as(x_NCHW) if self.gray else out


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.body = nn.Sequential(*_normed(first), nn.ReLU(), *_normed(second))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, nn.Module]:
    return conv, nn.InstanceNorm2d(conv.out_channels, eps=1e-3, affine=True)


class UNet(nn.Module):
    """SPAct's anonymizer: U-Net with bilinear upsampling and a sigmoid at the end (Dave et al., CVPR 2022, and code).

    17,267,523 parameters at width 64. H and W must be multiples of 16.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        encoder = [(3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w)]
        decoder = [(16 * w, 4 * w), (8 * w, 2 * w), (4 * w, w), (2 * w, w)]
        self.down = nn.ModuleList(_double_conv(a, b, b) for a, b in encoder)
        self.up = nn.ModuleList(_double_conv(a, a // 2, b) for a, b in decoder)
        self.last = nn.Conv2d(w, 3, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        skips = [self.down[0](x_NCHW)]
        for down in self.down[1:]:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in self.up:
            grown = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = up(torch.cat([skips.pop(), grown], 1))
        out: Tensor = self.last(x).sigmoid()
        return out


def _double_conv(channels: int, middle: int, out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
        nn.Conv2d(middle, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
    )  # fmt: skip


# Auxiliaries: what the transforms are trained with


class Looked(NamedTuple):
    """What a network made of a clip at two depths, and its answer."""

    middle_BMC: Tensor
    last_BMC: Tensor
    logits_BK: Tensor


def look(network: VideoVit, x_BCTHW: Tensor) -> Looked:
    """The tokens of a video ViT after half of its blocks and after all, each normalized, and the logits."""
    x = network.embed(normalize(x_BCTHW))
    taps = []
    for number, block in enumerate(network.blocks, 1):
        x = block(x)
        if number in (max(1, len(network.blocks) // 2), len(network.blocks)):
            taps.append(F.layer_norm(x, x.shape[-1:]))
    logits: Tensor = network.head(network.fc_norm(x.mean(1)))
    return Looked(taps[0], taps[-1], logits)


class LossNet(nn.Module):
    """Collective's published recognizer, in 2-D, on single frames whose answers are averaged: it sees no motion.

    Two stages of two convolutions (16 and 32 channels) and a dense layer of 400, with the code's dropout.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()

        def stage(a: int, b: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU(),
            )  # fmt: skip

        self.first, self.second = stage(3, 16), stage(16, 32)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 400), nn.ReLU(), nn.Dropout(0.5), nn.Linear(400, classes)
        )

    def look(self, x_BCTHW: Tensor) -> Looked:
        """Feature maps at the end of both stages, and the logits."""
        B = len(x_BCTHW)
        middle = self.first(normalize(x_BCTHW).transpose(1, 2).flatten(0, 1))
        last = self.second(F.max_pool2d(middle, 2))
        logits = self.head(F.max_pool2d(last, 2)).unflatten(0, (B, -1)).mean(1)
        middle, last = (x.unflatten(0, (B, -1)).permute(0, 1, 3, 4, 2).flatten(1, 3) for x in (middle, last))
        return Looked(middle, last, logits)


class ActionCnn(nn.Module):
    """R3D-18, from random weights, as VITA's and SPAct's recipe ``original`` have it: logits (B, K) of clips.

    ``dilated`` is SPAct's: its last stage keeps the temporal resolution and dilates instead.
    """

    def __init__(self, classes: int, *, dilated: bool = False) -> None:
        super().__init__()
        self.network = torchvision.models.video.r3d_18(weights=None, num_classes=classes)
        if dilated:
            block = self.network.layer4[0]
            block.conv1[0] = nn.Conv3d(256, 512, 3, (1, 2, 2), (2, 1, 1), dilation=(2, 1, 1), bias=False)
            block.downsample[0] = nn.Conv3d(256, 512, 1, (1, 2, 2), bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        logits: Tensor = self.network(normalize(x_BCTHW))
        return logits


FrameCnnName = Literal["resnet50", "resnext50", "mobilenet", "mobilenet-0.75"]


class FrameCnn(nn.Module):
    """A published image network, from random weights, on one-frame clips (B, 3, 1, H, W): outputs (B, K)."""

    def __init__(self, name: FrameCnnName, outputs: int) -> None:
        super().__init__()
        models = torchvision.models
        match name:
            case "resnet50":
                self.network = models.resnet50(weights=None, num_classes=outputs)
            case "resnext50":
                self.network = models.resnext50_32x4d(weights=None, num_classes=outputs)
            case "mobilenet":
                self.network = models.mobilenet_v2(weights=None, num_classes=outputs)
            case "mobilenet-0.75":
                self.network = models.mobilenet_v2(weights=None, num_classes=outputs, width_mult=0.75)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        out: Tensor = self.network(normalize(x_BCTHW).squeeze(2))
        return out


class Embedder(nn.Module):
    """SPAct's f_B: a trunk on one-frame clips and a projection to unit vectors (B, 128).

    The trunk's last layer is the projection's first: 2048 -> 2048 -> 128 behind ResNet-50 (27,966,656 parameters).
    """

    def __init__(self, trunk: nn.Module, width: int, features: int = 128) -> None:
        super().__init__()
        self.trunk, self.project = trunk, nn.Linear(width, features)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return F.normalize(self.project(F.relu(self.trunk(x_BCTHW))).float(), dim=1)
