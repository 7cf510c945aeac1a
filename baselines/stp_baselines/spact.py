"""SPAct (Dave et al., "SPAct: Self-supervised Privacy Preservation for Action Recognition", CVPR 2022): an anonymizer
f_A against a self-supervised contrast f_B, beside an action model f_T. No privacy labels.

f_A first learns to copy, f_T and f_B then learn on what it makes. After that, batches alternate: on one f_A minimizes

    omega L_T - L_B

with f_T and f_B as judges, on the next these two minimize L_T, the action loss, and L_B, NT-Xent of two views of each
sample. L_B of unit vectors is bounded, and so is what f_A can gain.

The published code contrasts images of a further data set (VISPR). Here, as in the paper's own wording, views are two
frames of a training clip, each augmented before f_A sees it; every view has a crop corner of its own (the code shares
one between crops of two sizes, which can leave the image).

Axes in tensor names: B clips, C channels, T frames, H, W pixels, V views, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stp_baselines import SpactConfig
from stp_baselines._fit import (
    Averages,
    FrameMethod,
    Identity,
    action_recognizer,
    adam,
    check_side,
    embedder,
    given,
    judging,
    pieces,
    random_frames,
    seeded,
    update,
)
from stp_baselines.nets import ActionCnn, Embedder, FrameCnn, UNet, each_frame
from stp_bench.clips import Labelled
from stp_bench.losses import hit_rate, recognition_loss
from stp_bench.methods import Batches, EpochReport, FitTask, Phase, Stateful
from stp_bench.schema import VitSpec

TRUNK = 2048
"""Features of ResNet-50."""
JITTER = 0.2
"""Brightness, contrast and saturation of a view change by factors in 1 +- this."""
GRAY = 0.1
"""Share of gray views."""
LUMA = (0.299, 0.587, 0.114)


class Spact(FrameMethod):
    """SPAct behind the interface of `stp_bench.methods.Method`."""

    def __init__(self, config: SpactConfig, vit: VitSpec) -> None:
        check_side("spact", vit, 16)
        self.config, self.vit = config.settled(), vit
        super().__init__(UNet(self.config.width))

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """Copying, the auxiliaries, the alternation, from weights that depend on ``task`` alone."""
        config = self.config
        with seeded(task.seed):
            self.network = UNet(config.width).to(task.device)
            players = Players(self.network, self._action_model(task), self._contrast(task), config, task)
            identity = Identity(
                self.network, epochs=config.identity_epochs, until=config.identity_until, lr=config.lr_identity,
                warmup=config.identity_warmup, batch=config.identity_batch,
            )  # fmt: skip
            return identity, Auxiliaries(players), Alternation(players)

    def _action_model(self, task: FitTask) -> nn.Module:
        if self.config.recipe == "protocol":
            return action_recognizer(task, self.vit)
        return ActionCnn(len(task.action.classes), dilated=True).to(task.device)

    def _contrast(self, task: FitTask) -> Embedder:
        if self.config.recipe == "protocol":
            return embedder(task, self.vit)
        return Embedder(FrameCnn("resnet50", TRUNK), TRUNK).to(task.device)


# Views and their contrast


def nt_xent(first_BD: Tensor, second_BD: Tensor, tau: float) -> Tensor:
    """NT-Xent of unit vectors of two views of each sample: the other view is to be told from all other samples' views.

    log(1 + (2n - 2) e^(-1 / tau)) where views agree and samples are orthogonal, log(2n - 1) where all is one point.
    """
    views_VD = torch.cat([first_BD, second_BD])
    count = len(first_BD)
    with torch.autocast(views_VD.device.type, enabled=False):  # bfloat16 is too coarse for angles over tau
        similar_VV = views_VD @ views_VD.T / tau
    own = torch.eye(2 * count, dtype=torch.bool, device=views_VD.device)
    partner = torch.arange(2 * count, device=views_VD.device).roll(count)
    return F.cross_entropy(similar_VV.masked_fill(own, -torch.inf), partner)


def two_views(x_BCTHW: Tensor, crop: float) -> tuple[Tensor, Tensor]:
    """Two distinct random frames of every clip, each augmented on its own, as clips of one frame (B, 3, 1, H, W).

    A clip of one frame gives it twice.
    """
    if x_BCTHW.shape[2] == 1:
        x_BCTHW = x_BCTHW.expand(-1, -1, 2, -1, -1)
    views = augmented(random_frames(x_BCTHW, 2).squeeze(2), crop).unsqueeze(2).unflatten(0, (-1, 2))
    return views[:, 0], views[:, 1]


def augmented(frames_VCHW: Tensor, crop: float) -> Tensor:
    """Frames in [0, 1], each with a random crop of a side from ``crop`` to 1, enlarged again, mirrored or not, with
    other brightness, contrast and saturation, sometimes gray."""
    V, device = len(frames_VCHW), frames_VCHW.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(V, 1, 1, 1, device=device)

    side = uniform(crop, 1)[:, 0, 0]
    mirror = torch.where(torch.rand(V, 1, device=device) < 0.5, -1.0, 1.0)
    # A crop of side s lies inside the frame, which spans [-1, 1], if its center does not leave +-(1 - s).
    center = (1 - side) * (2 * torch.rand(V, 2, device=device) - 1)
    none = torch.zeros_like(side)
    rows = (torch.cat([side * mirror, none, center[:, :1]], 1), torch.cat([none, side, center[:, 1:]], 1))
    with torch.autocast(device.type, enabled=False):  # so it is for positions of pixels
        grid = F.affine_grid(torch.stack(rows, 1), list(frames_VCHW.shape), align_corners=False)
    x = F.grid_sample(frames_VCHW, grid, padding_mode="border", align_corners=False)
    luma = x.new_tensor(LUMA).view(3, 1, 1)
    x = x * uniform(1 - JITTER, 1 + JITTER)
    mean = (x * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    x = torch.lerp(mean, x, uniform(1 - JITTER, 1 + JITTER))
    gray = (x * luma).sum(1, keepdim=True)
    saturation = uniform(1 - JITTER, 1 + JITTER)
    saturation = torch.where(torch.rand_like(saturation) < GRAY, torch.zeros_like(saturation), saturation)
    return torch.lerp(gray, x, saturation).clamp(0, 1)


# Who plays


class Players:
    """f_A, f_T and f_B, and their losses."""

    def __init__(
        self, anonymizer: nn.Module, action: nn.Module, contrast: nn.Module, config: SpactConfig, task: FitTask
    ) -> None:
        self.anonymizer, self.action, self.contrast = anonymizer, action, contrast
        self.config, self.task = config, task

    def auxiliary_optimizers(self) -> dict[str, torch.optim.Adam]:
        """Those of f_T and f_B."""
        config = self.config
        return {"action": adam(self.action, config.lr_action), "contrast": adam(self.contrast, config.lr_contrast)}

    def losses(self, batch: Labelled, averages: Averages) -> tuple[Tensor, Tensor]:
        """L_T on the clips and L_B on views of them, through f_A."""
        x, labels, action = batch.clips.x_BCTHW, given(batch.action_B), self.task.action
        first, second = two_views(x, self.config.crop)
        logits = self.action(each_frame(self.anonymizer, x))
        views = each_frame(self.anonymizer, torch.cat([first, second]))
        loss, contrast = recognition_loss(logits, labels, action), self._contrast_loss(views)
        averages.add(action=loss, action_accuracy=hit_rate(logits, labels, action), contrast=contrast)
        return loss, contrast

    def _contrast_loss(self, views_VC1HW: Tensor) -> Tensor:
        first, second = self.contrast(views_VC1HW).chunk(2)
        return nt_xent(first, second, self.config.tau)

    def hide(self, batch: Labelled, optimizer: torch.optim.Optimizer, averages: Averages) -> None:
        """One update of f_A on omega L_T - L_B; f_T and f_B judge."""
        self.anonymizer.train()
        with judging(self.action, self.contrast):
            action, contrast = self.losses(batch, averages)
            update(self.config.omega * action - contrast, [optimizer], self.config.grad_clip)

    def learn(self, batch: Labelled, optimizers: Mapping[str, torch.optim.Optimizer], averages: Averages) -> None:
        """One update of f_T on L_T and of f_B on L_B; f_A makes what they see."""
        self.action.train()
        self.contrast.train()
        with judging(self.anonymizer):
            action, contrast = self.losses(batch, averages)
            # The two share no parameters, and none of f_A's learn: the sum's gradients are those of each.
            update(action + contrast, list(optimizers.values()), self.config.grad_clip)


# Phases


class Auxiliaries:
    """f_T and f_B learn on what f_A makes."""

    name = "auxiliaries"

    def __init__(self, players: Players) -> None:
        self.players, self.epochs = players, players.config.auxiliary_epochs
        self.optimizers = players.auxiliary_optimizers()

    def parts(self) -> Mapping[str, Stateful]:
        named = {f"{name}.optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {"action": self.players.action, "contrast": self.players.contrast, **named}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        averages = Averages()
        for piece in pieces(batches, self.players.config.batch):
            self.players.learn(piece, self.optimizers, averages)
        return averages.report()


class Clock(nn.Module):
    """Updates that were made: whose turn it is."""

    updates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))


class Alternation:
    """The adversarial phase: f_A on odd batches, f_T and f_B on even ones, counted from 1 over all epochs."""

    name = "adversarial"

    def __init__(self, players: Players) -> None:
        self.players, self.epochs = players, players.config.adversarial_epochs
        self.optimizer = adam(players.anonymizer, players.config.lr)
        self.optimizers = players.auxiliary_optimizers()
        self.clock = Clock()

    def parts(self) -> Mapping[str, Stateful]:
        players = self.players
        networks = {"network": players.anonymizer, "action": players.action, "contrast": players.contrast}
        named = {f"{name}.optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {**networks, "optimizer": self.optimizer, **named, "clock": self.clock}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        hiding, learning = Averages(), Averages()
        for piece in pieces(batches, self.players.config.batch):
            self.clock.updates += 1
            if self.clock.updates % 2:
                self.players.hide(piece, self.optimizer, hiding)
            else:
                self.players.learn(piece, self.optimizers, learning)
        scalars = {f"{name}_judged": value for name, value in hiding.report().scalars.items()}
        return EpochReport({**learning.report().scalars, **scalars})
