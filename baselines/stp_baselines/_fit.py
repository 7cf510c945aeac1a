"""What the fits of the learned baselines share: their method, auxiliary recognizers, updates and averages.

Axes in tensor names: B clips, C channels, T frames, H, W pixels, V views (frames of any clips), K classes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stp_baselines.nets import Embedder, each_frame
from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.errors import UserError
from stp_bench.methods import Batches, EpochReport, FitTask, Stateful
from stp_bench.schema import VitSpec
from stp_bench.vit import VideoVit, frame_spec, load_image_weights


class FrameMethod:
    """A method whose network transforms every frame on its own; `phases` are its subclasses' business."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def parts(self) -> Mapping[str, Stateful]:
        """The network."""
        return {"network": self.network}

    @torch.no_grad()
    def anonymize(self, clips: Clips) -> Anonymized:
        """The clips, frame by frame."""
        return Anonymized(each_frame(self.network.to(clips.x_BCTHW.device).eval(), clips.x_BCTHW))


def check_side(name: str, vit: VitSpec, multiple: int) -> None:
    """Refuse clips that an encoder cannot halve as often as it must.

    Raises:
        UserError: their side is no multiple of ``multiple``.
    """
    if vit.size % multiple:
        raise UserError(
            f"{name} cannot transform frames of {vit.size} x {vit.size} pixels",
            f"its network needs a multiple of {multiple}",
            f"choose such a size, e.g. --set run.size={-(-vit.size // multiple) * multiple}",
        )


# Auxiliary recognizers


def action_recognizer(task: FitTask, vit: VitSpec) -> VideoVit:
    """The shared video ViT for the task's actions."""
    return _recognizer(task, vit, len(task.action.classes))


def embedder(task: FitTask, vit: VitSpec) -> Embedder:
    """The shared ViT for single frames with a projection to unit vectors."""
    return Embedder(_recognizer(task, frame_spec(vit), vit.dim, head_scale=1.0), vit.dim).to(task.device)


def frame_recognizer(task: FitTask, vit: VitSpec, outputs: int, *, half: bool = False) -> VideoVit:
    """The shared ViT for single frames; ``half`` keeps the first half of its blocks."""
    network = _recognizer(task, frame_spec(vit), outputs)
    if half:
        network.blocks = network.blocks[: max(1, len(network.blocks) // 2)]
        network.vit = dataclasses.replace(network.vit, depth=len(network.blocks))
    return network


def _recognizer(task: FitTask, vit: VitSpec, outputs: int, *, head_scale: float = 0.001) -> VideoVit:
    # Learned features are worth protecting from the first gradients of a random head.
    network = VideoVit(vit, outputs, head_scale=1.0 if task.weights == "none" else head_scale)
    load_image_weights(network, task.weights)
    return network.to(task.device)


# Steps of a fit


class Identity:
    """A first phase in which a network learns to copy its input: L1, until it is below ``until`` or epochs end."""

    name = "identity"

    def __init__(
        self, network: nn.Module, *, epochs: int, until: float, lr: float, warmup: int = 0, batch: int = 0
    ) -> None:
        """``warmup`` is epochs of a linear warm-up; ``batch`` as in `pieces`."""
        self.network, self.epochs, self.until, self.lr = network, epochs, until, lr
        self.warmup, self.batch = warmup, batch
        self.optimizer = adam(network, lr)

    def parts(self) -> Mapping[str, Stateful]:
        return {"network": self.network, "optimizer": self.optimizer}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        self.network.train()
        averages = Averages()
        for step, batch in enumerate(batches):
            done = epoch + (step + 1) / len(batches)
            set_rate(self.optimizer, self.lr * min(1.0, done / self.warmup if self.warmup else 1.0))
            for piece in pieces([batch], self.batch):
                x = piece.clips.x_BCTHW
                loss = F.l1_loss(each_frame(self.network, x), x)
                update(loss, [self.optimizer])
                averages.add(copy_l1=loss)
        report = averages.report()
        return dataclasses.replace(report, done=report.scalars["copy_l1"] <= self.until)


def pieces(batches: Iterable[Labelled], size: int) -> Iterator[Labelled]:
    """The batches, each in equal pieces of at most ``size`` clips; as they are if ``size`` is 0."""
    for batch in batches:
        count = len(batch.clips.x_BCTHW)
        parts = -(-count // size) if size else 1
        ends = [count * k // parts for k in range(parts + 1)]
        for a, b in itertools.pairwise(ends):
            action, privacy = (None if y is None else y[a:b] for y in (batch.action_B, batch.privacy_BK))
            yield Labelled(Clips(batch.clips.x_BCTHW[a:b]), action, privacy)


def random_frames(x_BCTHW: Tensor, count: int) -> Tensor:
    """``count`` distinct random frames of every clip, clip after clip, as clips of one frame (B count, C, 1, H, W).

    A clip of fewer frames gives all it has, in random order.
    """
    B, _, T = x_BCTHW.shape[:3]
    order = torch.rand(B, T, device=x_BCTHW.device).argsort(1)[:, : min(count, T)]
    rows = torch.arange(B, device=x_BCTHW.device)[:, None]
    return x_BCTHW.transpose(1, 2)[rows, order].flatten(0, 1).unsqueeze(2)


def adam(network: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam at a constant rate, as all three papers have it."""
    return torch.optim.Adam(network.parameters(), lr=lr, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let every group learn at ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def update(loss: Tensor, optimizers: Sequence[torch.optim.Optimizer], clip: float = 0.0) -> None:
    """One step down ``loss`` for each optimizer's parameters; ``clip`` > 0 limits the gradient norm of each."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    for optimizer in optimizers:
        if clip:
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
        optimizer.step()


@contextmanager
def judging(*networks: nn.Module) -> Iterator[None]:
    """Networks that judge and do not learn: evaluation mode, no gradient for their parameters."""
    for network in networks:
        network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from ``seed`` inside, the caller's untouched outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def given(labels: Tensor | None) -> Tensor:
    """Labels that a method's card names in its needs, and which therefore are there."""
    if labels is None:
        raise ValueError("a batch lacks labels that the method learns from")
    return labels


class Averages:
    """Means of named scalars over an epoch, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        """Count one value of each name."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def report(self) -> EpochReport:
        """The means; what is not finite stops the training loop."""
        return EpochReport({name: float(total) / self._counts[name] for name, total in self._sums.items()})
