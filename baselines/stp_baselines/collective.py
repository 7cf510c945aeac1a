"""Collective (Zhang et al., "Collective Protection: Preventing Sensitive Inferences via Integrative Transformation",
ICDM 2019), brought from sensor signals to video: style becomes noise, content and its use stay. No privacy labels.

A recognizer phi of the action is trained on raw clips and frozen. TransNet f then minimizes, on clips S and noise N,

    0.55 l_s + 0.35 l_c + 0.10 l_u,    l_s = sum over both taps of |G(f(S)) - G(N)|^2,
                                       l_c = |phi(f(S)) - phi(S)|^2 at the last tap,
                                       l_u = loss of phi's answer to f(S),

with Gram matrices G of phi's features. How the STPrivacy paper moved it to video is not described; here f works frame
by frame with 3 x 3 kernels and, in recipe ``protocol``, phi is the shared recognizer, tapped after half of its blocks
and after all. The sizes of l_s and l_c depend on the features, so each is divided by its mean between raw clips and
noise, and l_u by the loss of knowing nothing.

Axes in tensor names: B clips, C channels, T frames, H, W pixels, M positions of a feature map, K classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from stp_baselines import CollectiveConfig
from stp_baselines._fit import (
    Averages,
    FrameMethod,
    action_recognizer,
    adam,
    check_side,
    given,
    judging,
    pieces,
    seeded,
    update,
)
from stp_baselines.nets import Looked, LossNet, TransNet, each_frame, look
from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.losses import hit_rate, recognition_loss
from stp_bench.methods import Batches, EpochReport, FitTask, Phase, Stateful
from stp_bench.schema import Target, VitSpec
from stp_bench.vit import VideoVit, lr_at, normalize, parameter_groups, set_lr

SCALE_CLIPS = 64
"""Training clips on which the sizes of l_s and l_c are measured."""


class Collective(FrameMethod):
    """Collective behind the interface of `stp_bench.methods.Method`."""

    def __init__(self, config: CollectiveConfig, vit: VitSpec) -> None:
        check_side("collective", vit, 4)
        self.config, self.vit = config.settled(), vit
        super().__init__(self._transnet())

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """The recognizer, then TransNet, from weights that depend on ``task`` alone."""
        with seeded(task.seed):
            self.network = self._transnet().to(task.device)
            phi = self._recognizer(task)
            return RecognizerPhase(phi, self.config, task), TransNetPhase(self, phi, task)

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clips, frame by frame; unbounded ones as recognizers take them, in ImageNet's normalization."""
        out = super().anonymize(clips)
        return out if self.config.output == "sigmoid" else Anonymized(normalize(out.x_BCTHW), space="free")

    def _transnet(self) -> TransNet:
        return TransNet(self.config.width, bounded=self.config.output == "sigmoid")

    def _recognizer(self, task: FitTask) -> VideoVit | LossNet:
        if self.config.recipe == "protocol":
            return action_recognizer(task, self.vit)
        return LossNet(len(task.action.classes), self.vit.size).to(task.device)


def gram(features_BMC: Tensor) -> Tensor:
    """G = Psi Psi^T / (C M), (B, C, C), of features Psi (C x M); float32, also under autocast."""
    features = features_BMC.float()
    with torch.autocast(features.device.type, enabled=False):
        return features.transpose(1, 2) @ features / features[0].numel()


def style_loss(made: Looked, noise: Looked) -> Tensor:
    """l_s: squared distance of the Gram matrices of both taps, mean over clips. One noise clip may serve them all."""
    pairs = ((made.middle_BMC, noise.middle_BMC), (made.last_BMC, noise.last_BMC))
    return torch.stack([(gram(a) - gram(b)).square().sum((1, 2)).mean() for a, b in pairs]).sum()


def content_loss(made: Looked, raw: Looked) -> Tensor:
    """l_c: mean squared distance of the features of the last tap."""
    return (made.last_BMC.float() - raw.last_BMC.float()).square().mean()


def ignorance(action: Target) -> float:
    """The loss of an answer that knows nothing of the action."""
    return math.log(len(action.classes)) if action.kind == "multiclass" else math.log(2)


def see(phi: VideoVit | LossNet, x_BCTHW: Tensor) -> Looked:
    """Taps and answer of either recognizer."""
    return phi.look(x_BCTHW) if isinstance(phi, LossNet) else look(phi, x_BCTHW)


class RecognizerPhase:
    """phi learns the action on raw clips, as evaluation's recognizers do."""

    name = "lossnet"

    def __init__(self, phi: VideoVit | LossNet, config: CollectiveConfig, task: FitTask) -> None:
        self.phi, self.config, self.action, self.epochs = phi, config, task.action, config.lossnet_epochs
        decay = 1.0 if task.weights == "none" else config.layer_decay
        groups = parameter_groups(phi, config.lossnet_lr, config.weight_decay, decay)
        betas = (0.9, config.lossnet_beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lossnet_lr, betas=betas, fused=True)

    def parts(self) -> Mapping[str, Stateful]:
        return {"phi": self.phi, "optimizer": self.optimizer}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        self.phi.train()
        averages = Averages()
        for step, batch in enumerate(batches):
            progress = (epoch + step / len(batches)) / self.epochs
            set_lr(self.optimizer, lr_at(progress, self.config.lossnet_warmup))
            logits, labels = see(self.phi, batch.clips.x_BCTHW).logits_BK, given(batch.action_B)
            loss = recognition_loss(logits, labels, self.action, label_smoothing=self.config.label_smoothing)
            update(loss, [self.optimizer], self.config.lossnet_clip)
            averages.add(action=loss, action_accuracy=hit_rate(logits, labels, self.action))
        return averages.report()


class Scales(nn.Module):
    """The sizes of l_s and l_c between raw clips and noise; 0 until they are measured."""

    style: Tensor
    content: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("style", torch.zeros(()))
        self.register_buffer("content", torch.zeros(()))


class TransNetPhase:
    """f learns what phi, frozen, judges. There is no adversary."""

    name = "transnet"

    def __init__(self, method: Collective, phi: VideoVit | LossNet, task: FitTask) -> None:
        self.network, self.phi, self.config = method.network, phi, method.config
        self.epochs, self.action = self.config.epochs, task.action
        self.optimizer = adam(self.network, self.config.lr)
        self.scales = Scales().to(task.device)
        clip = task.clip
        self.noise_1CTHW = torch.rand(1, 3, clip.frames, clip.size, clip.size).to(task.device)

    def parts(self) -> Mapping[str, Stateful]:
        return {"network": self.network, "optimizer": self.optimizer, "scales": self.scales}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        self.network.train()
        averages = Averages()
        stream: Iterator[Labelled] = iter(batches)
        with judging(self.phi):
            if not self.scales.style:
                first = _enough(stream, SCALE_CLIPS)
                self._measure(first)
                stream = itertools.chain(first, stream)
            for piece in pieces(stream, self.config.batch):
                self._update(piece, averages)
        return averages.report()

    def _update(self, batch: Labelled, averages: Averages) -> None:
        config, x, labels = self.config, batch.clips.x_BCTHW, given(batch.action_B)
        with torch.no_grad():
            raw, noise = see(self.phi, x), see(self.phi, self._noise(x))
        made = see(self.phi, each_frame(self.network, x))
        style = style_loss(made, noise) / self.scales.style
        content = content_loss(made, raw) / self.scales.content
        usability = recognition_loss(made.logits_BK, labels, self.action) / ignorance(self.action)
        loss = config.weight_style * style + config.weight_content * content + config.weight_usability * usability
        update(loss, [self.optimizer])
        accuracy = hit_rate(made.logits_BK, labels, self.action)
        averages.add(loss=loss, style=style, content=content, usability=usability, action_accuracy=accuracy)

    @torch.no_grad()
    def _measure(self, batches: Sequence[Labelled]) -> None:
        """Fill in the scales: means over the clips of the batches."""
        clips = sum(len(batch.clips.x_BCTHW) for batch in batches)
        for batch in batches:
            x = batch.clips.x_BCTHW
            raw, noise = see(self.phi, x), see(self.phi, self._noise(x))
            self.scales.style += style_loss(raw, noise) * len(x) / clips
            self.scales.content += content_loss(raw, noise) * len(x) / clips

    def _noise(self, x_BCTHW: Tensor) -> Tensor:
        """Clips uniform on [0, 1]; the fixed one alone."""
        return self.noise_1CTHW if self.config.noise == "fixed" else torch.rand_like(x_BCTHW)


def _enough(stream: Iterator[Labelled], clips: int) -> list[Labelled]:
    """The next batches that together have at least so many clips, or all that are left."""
    taken: list[Labelled] = []
    while sum(len(batch.clips.x_BCTHW) for batch in taken) < clips and (batch := next(stream, None)) is not None:
        taken.append(batch)
    return taken
