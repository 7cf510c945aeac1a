"""VITA (Wu et al., "Towards Privacy-Preserving Visual Recognition via Adversarial Training", ECCV 2018, and
"Privacy-Preserving Deep Action Recognition", TPAMI 2020): an anonymizer f_A against privacy models f_b, beside an
action model f_T.

After pre-training (f_A copies; f_A and f_T learn the action; f_b attacks), training goes in *rounds* of turns, each a
number of updates, each update on a batch of its own. By variant:

``entropy``
    f_A minimizes L_T + gamma max_i D_i, where D_i pulls attacker i to an answer that tells nothing; while the held-out
    accuracy is below a bar, f_A and f_T minimize L_T; the attackers learn.
``kbeam``
    f_A raises the loss of the strongest attacker; the attackers learn until they are right on what they are shown; f_A
    and f_T minimize L_T until the held-out accuracy passes the bar or stops rising.
``grl``
    f_A minimizes L_T - gamma mean_i L_b,i while f_T and the attackers learn, all on every batch.

What is subtracted or raised is capped where an attacker knows nothing but prevalences: pushing on would teach it to be
confidently wrong, which a fresh attacker inverts. From time to time the attackers are replaced (*restarts*).

The published code accumulates 80 small batches per update; here an update takes one batch of the loader. torchvision
has neither ResNet-v2-50 nor MobileNet-v1: ResNeXt-50 and MobileNet-v2 stand in for them in recipe ``original``, and
R3D-18 for the action model. The code's perceptual loss for the start needs VGG weights and is left out (L1, as the
recipe ``protocol``).

Axes in tensor names: B clips, C channels, T frames, H, W pixels, F frames of a clip that attackers see, M attackers,
K attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stp_baselines import VitaConfig
from stp_baselines._fit import (
    Averages,
    FrameMethod,
    Identity,
    action_recognizer,
    adam,
    check_side,
    frame_recognizer,
    given,
    judging,
    random_frames,
    seeded,
    update,
)
from stp_baselines.nets import ActionCnn, FrameCnn, FrameCnnName, ITNet, each_frame
from stp_bench.clips import Labelled
from stp_bench.errors import UserError
from stp_bench.losses import group_mean, hit_rate, recognition_loss
from stp_bench.methods import Batches, EpochReport, FitTask, Phase, Stateful
from stp_bench.schema import Target, VitSpec

PUBLISHED: tuple[FrameCnnName, ...] = ("resnet50", "resnext50", "mobilenet", "mobilenet-0.75")
"""Attackers of recipe ``original``; a larger ensemble begins again."""
PATIENCE = 10
"""Checks without a better held-out accuracy after which ``kbeam`` ends a turn."""
MASTERED = 0.99
"""Accuracy on what it is shown at which ``kbeam``'s attackers have learned enough."""

Kind = Literal["hide", "action", "attack", "all"]


class Vita(FrameMethod):
    """VITA behind the interface of `stp_bench.methods.Method`."""

    def __init__(self, config: VitaConfig, vit: VitSpec) -> None:
        check_side("vita", vit, 4)
        self.config, self.vit = config.settled(), vit
        super().__init__(self._itnet())

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """Copying, the action, the attackers, the rounds, from weights that depend on ``task`` alone.

        Raises:
            UserError: no privacy labels to learn from.
        """
        if task.privacy is None or not task.prevalence:
            raise UserError(
                "vita cannot be fitted here", "the videos have no privacy labels", "fit it on videos that have them"
            )
        if task.holdout is None:
            raise ValueError("vita needs held-out videos")
        config = self.config
        with seeded(task.seed):
            self.network = self._itnet().to(task.device)
            players = Players(self.network, self.action_model(task), self.attackers(task), config, task)
            identity = Identity(
                self.network, epochs=config.identity_epochs, until=config.identity_until, lr=config.lr_identity
            )
            return identity, Joint(players), Budget(players), Rounds(self, players)

    def action_model(self, task: FitTask) -> nn.Module:
        """f_T, not yet trained."""
        if self.config.recipe == "protocol":
            return action_recognizer(task, self.vit)
        return ActionCnn(len(task.action.classes)).to(task.device)

    def attackers(self, task: FitTask) -> nn.ModuleList:
        """f_b, not yet trained: single-frame ViTs, every other one of half the depth, or the published networks."""
        outputs = len(_privacy(task).classes)
        numbers = range(self.config.attackers)
        if self.config.recipe == "protocol":
            return nn.ModuleList(frame_recognizer(task, self.vit, outputs, half=m % 2 == 1) for m in numbers)
        names = (PUBLISHED[m % len(PUBLISHED)] for m in numbers)
        return nn.ModuleList(FrameCnn(name, outputs).to(task.device) for name in names)

    def _itnet(self) -> ITNet:
        return ITNet(self.config.width, gray=self.config.gray)


# Losses


def pull(
    logits_MBK: Tensor, target: Literal["half", "ones", "prior", "entropy"], privacy: Target, prevalence_K: Tensor
) -> Tensor:
    """D_i of every attacker and frame, (M, B): how far its answer is from telling nothing, mean over attributes.

    ``half``, ``prior``, ``ones``: cross-entropy to 1/2, to the prevalence, or to 1 for every attribute (the released
    code's target, which rewards the answer "present"). ``entropy``: minus the entropy of the answer.
    """
    logits = logits_MBK.float()
    match target:
        case "half":
            wanted = torch.full_like(logits, 0.5)
        case "ones":
            wanted = torch.ones_like(logits)
        case "prior":
            wanted = prevalence_K.expand_as(logits)
        case "entropy":
            entropy = F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")
            return -(entropy * _shares(privacy, logits)).sum(-1)
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (loss * _shares(privacy, logits)).sum(-1)


def _shares(privacy: Target, like: Tensor) -> Tensor:
    """The weight of each class in `stp_bench.losses.group_mean`, (K,)."""
    sizes = [size for _, size in privacy.groups] or [len(privacy.classes)]
    return torch.cat([like.new_full((size,), 1 / (size * len(sizes))) for size in sizes])


def capped_loss(logits_BK: Tensor, labels_BK: Tensor, privacy: Target, prevalence_K: Tensor) -> Tensor:
    """An attacker's loss, for raising: that of an attribute has no gradient once it reaches its entropy."""
    loss_K = F.binary_cross_entropy_with_logits(logits_BK.float(), labels_BK, reduction="none").mean(0)
    entropy_K = -(torch.xlogy(prevalence_K, prevalence_K) + torch.xlogy(1 - prevalence_K, 1 - prevalence_K))
    return group_mean(torch.where(loss_K < entropy_K, loss_K, entropy_K), privacy.groups)


# Who plays


class Players:
    """f_A, f_T and the attackers, and what each update of some of them does."""

    def __init__(
        self, anonymizer: nn.Module, action: nn.Module, attackers: nn.ModuleList, config: VitaConfig, task: FitTask
    ) -> None:
        self.anonymizer, self.action, self.attackers = anonymizer, action, attackers
        self.config, self.task, self.privacy = config, task, _privacy(task)
        self.prevalence_K = torch.tensor(task.prevalence, device=task.device)

    def action_optimizer(self) -> torch.optim.Adam:
        """f_T's: the head learns faster than a body that was trained before."""
        config, weights = self.config, self.task.weights
        body = config.lr_action if config.lr_action >= 0 else 1e-4 if weights == "none" else 1e-5
        heads = [p for n, p in self.action.named_parameters() if n.startswith(("head.", "network.fc."))]
        chosen = {id(p) for p in heads}
        rest = [p for p in self.action.parameters() if id(p) not in chosen]
        return torch.optim.Adam([{"params": rest, "lr": body}, {"params": heads, "lr": config.lr_head}], fused=True)

    def action_loss(self, video_BCTHW: Tensor, batch: Labelled, averages: Averages) -> Tensor:
        """L_T."""
        logits, labels, action = self.action(video_BCTHW), given(batch.action_B), self.task.action
        loss = recognition_loss(logits, labels, action)
        averages.add(action=loss, action_accuracy=hit_rate(logits, labels, action))
        return loss

    def guesses(self, video_BCTHW: Tensor, batch: Labelled) -> tuple[Tensor, Tensor]:
        """The attackers' logits on some frames, (M, B F, K), and the labels, which are the clip's, (B F, K).

        Recipe ``original`` averages the logits over a clip's frames: F is 1.
        """
        frames = random_frames(video_BCTHW, self.config.frames)
        labels, count = given(batch.privacy_BK), len(frames) // len(video_BCTHW)
        logits = torch.stack([attacker(frames).float() for attacker in self.attackers])
        if self.config.recipe == "original":
            return logits.unflatten(1, (-1, count)).mean(2), labels
        return logits, labels.repeat_interleave(count, 0)

    def attack(self, batch: Labelled, optimizer: torch.optim.Optimizer, averages: Averages) -> Tensor:
        """One update of the attackers on L_b, their mean loss, with f_A fixed; the weakest one's accuracy before it."""
        with torch.no_grad():
            video = each_frame(self.anonymizer.eval(), batch.clips.x_BCTHW)
        self.attackers.train()
        logits, labels = self.guesses(video, batch)
        loss = torch.stack([recognition_loss(guess, labels, self.privacy) for guess in logits]).mean()
        update(loss, [optimizer], self.config.grad_clip)
        accuracy = torch.stack([hit_rate(guess, labels, self.privacy) for guess in logits]).min()
        averages.add(privacy=loss, privacy_accuracy=accuracy)
        return accuracy

    def improve_action(self, batch: Labelled, optimizers: Sequence[torch.optim.Optimizer], averages: Averages) -> None:
        """One update of f_A and f_T on L_T."""
        self.anonymizer.train()
        self.action.train()
        video = each_frame(self.anonymizer, batch.clips.x_BCTHW)
        update(self.action_loss(video, batch, averages), optimizers, self.config.grad_clip)

    def learn_action(self, batch: Labelled, optimizer: torch.optim.Optimizer, averages: Averages) -> None:
        """One update of f_T on L_T, with f_A fixed."""
        with torch.no_grad():
            video = each_frame(self.anonymizer.eval(), batch.clips.x_BCTHW)
        self.action.train()
        update(self.action_loss(video, batch, averages), [optimizer], self.config.grad_clip)

    def hide(self, batch: Labelled, optimizer: torch.optim.Optimizer, averages: Averages) -> None:
        """One update of f_A against the attackers, which judge with f_T and do not learn."""
        config = self.config
        self.anonymizer.train()
        with judging(self.action, self.attackers):
            video = each_frame(self.anonymizer, batch.clips.x_BCTHW)
            logits, labels = self.guesses(video, batch)
            if config.variant == "entropy":
                assert config.target != "recipe"
                hidden = pull(logits, config.target, self.privacy, self.prevalence_K).amax(0).mean()
            else:
                losses = torch.stack([capped_loss(g, labels, self.privacy, self.prevalence_K) for g in logits])
                hidden = -(losses.min() if config.variant == "kbeam" else losses.mean())
            loss = hidden
            if config.variant != "kbeam":
                loss = self.action_loss(video, batch, averages) + config.gamma * hidden
            update(loss, [optimizer], config.grad_clip)
        averages.add(hidden=hidden)

    @torch.no_grad()
    def held_out_accuracy(self) -> float:
        """f_T's accuracy on the held-out clips."""
        assert self.task.holdout is not None
        self.anonymizer.eval()
        self.action.eval()
        right, count = 0.0, 0
        for batch in self.task.holdout(0):
            logits = self.action(each_frame(self.anonymizer, batch.clips.x_BCTHW))
            right += float(hit_rate(logits, given(batch.action_B), self.task.action)) * len(logits)
            count += len(logits)
        return right / count


# Phases


class Joint:
    """f_A and f_T learn the action."""

    name = "joint"

    def __init__(self, players: Players) -> None:
        self.players, self.epochs = players, players.config.joint_epochs
        self.optimizers = {
            "anonymizer": adam(players.anonymizer, players.config.lr),
            "action": players.action_optimizer(),
        }

    def parts(self) -> Mapping[str, Stateful]:
        named = {f"{name}.optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {"network": self.players.anonymizer, "action": self.players.action, **named}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        averages = Averages()
        for batch in batches:
            self.players.improve_action(batch, list(self.optimizers.values()), averages)
        return averages.report()


class Budget:
    """The attackers learn what f_A still shows."""

    name = "budget"

    def __init__(self, players: Players) -> None:
        self.players, self.epochs = players, players.config.budget_epochs
        self.optimizer = adam(players.attackers, players.config.lr_budget)

    def parts(self) -> Mapping[str, Stateful]:
        return {"attackers": self.players.attackers, "optimizer": self.optimizer}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        averages = Averages()
        for batch in batches:
            self.players.attack(batch, self.optimizer, averages)
        return averages.report()


class Clock(nn.Module):
    """Where the rounds stand: everything that decides what the next batch is used for."""

    round: Tensor
    """Rounds that are over."""
    turn: Tensor
    """Turn of this round."""
    done: Tensor
    """Updates of this turn."""
    stale: Tensor
    """Checks of this turn without a better held-out accuracy."""
    best: Tensor
    """Best held-out accuracy of this turn."""
    seen: Tensor
    """The weakest attacker's accuracy at its last update."""
    bar: Tensor
    """Held-out accuracy that the action should have; below 0 until the first round."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("round", "turn", "done", "stale"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        for name, value in (("best", -1.0), ("seen", 0.0), ("bar", -1.0)):
            self.register_buffer(name, torch.tensor(value))

    def next_turn(self, turns: int) -> None:
        """End this turn, and with the last one the round."""
        self.turn += 1
        if self.turn == turns:
            self.turn.zero_()
            self.round += 1
        self.done.zero_()
        self.stale.zero_()
        self.best.fill_(-1)
        self.seen.zero_()


class Rounds:
    """The adversarial phase."""

    name = "adversarial"

    def __init__(self, method: Vita, players: Players) -> None:
        self.method, self.players, self.config = method, players, method.config
        self.epochs = self.config.adversarial_epochs
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "anonymizer": adam(players.anonymizer, self.config.lr),
            "action": players.action_optimizer(),
            "attackers": adam(players.attackers, self.config.lr_attack),
        }
        self.clock = Clock()  # asked on every batch, and therefore on the CPU
        config = self.config
        self.first = method.attackers(players.task) if config.restarts and config.restart_from == "pretrained" else None
        self.restarts = {self.epochs * k // (config.restarts + 1) for k in range(1, config.restarts + 1)} - {0}
        """Epochs that begin with new attackers."""
        orders: dict[str, tuple[Kind, ...]] = {
            "entropy": ("hide", "action", "attack"), "kbeam": ("hide", "attack", "action"), "grl": ("all",),
        }  # fmt: skip
        self.turns = orders[config.variant]
        """The turns of a round: what batches are used for."""
        self.most: Mapping[Kind, int] = {
            "hide": config.hide_updates, "action": config.action_updates, "attack": config.attack_updates, "all": 1,
        }  # fmt: skip
        """Most updates of a turn."""

    def parts(self) -> Mapping[str, Stateful]:
        players = self.players
        networks: dict[str, Stateful] = {
            "network": players.anonymizer, "action": players.action, "attackers": players.attackers,
        }  # fmt: skip
        if self.first is not None:
            networks["first"] = self.first
        return {**networks, **{f"{n}.optimizer": o for n, o in self.optimizers.items()}, "clock": self.clock}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        averages = Averages()
        if self.clock.bar < 0:
            self.begin()
        alone = 0
        if epoch in self.restarts:
            self.restart()
            alone = round(self.config.restart_alone * len(batches))
        for number, batch in enumerate(batches):
            if number < alone:
                self.players.attack(batch, self.optimizers["attackers"], averages)
                continue
            kind = self._turn()
            if self._over():
                break
            self._use(kind, batch, averages)
        averages.add(rounds=self.clock.round, bar=self.clock.bar)
        return dataclasses.replace(averages.report(), done=self._over())

    def begin(self) -> None:
        """Before the first round: set the bar, and remember the attackers if restarts go back to them."""
        relative = self.config.recipe == "protocol"
        self.clock.bar.fill_(self.config.bar * (self.players.held_out_accuracy() if relative else 1.0))
        if self.first is not None:
            self.first.load_state_dict(self.players.attackers.state_dict())

    def restart(self) -> None:
        """Replace the attackers, and begin a round with them."""
        fresh = self.first if self.first is not None else self.method.attackers(self.players.task)
        self.players.attackers.load_state_dict(fresh.state_dict())
        self.optimizers["attackers"].state.clear()
        self.clock.next_turn(int(self.clock.turn) + 1)

    def _over(self) -> bool:
        return 0 < self.config.rounds <= int(self.clock.round)

    def _turn(self) -> Kind:
        """What the next batch is used for; turns that are over end."""
        while True:
            kind = self.turns[int(self.clock.turn)]
            if self.clock.done < self.most[kind] and not self._enough(kind):
                return kind
            self.clock.next_turn(len(self.turns))

    def _enough(self, kind: Kind) -> bool:
        """Whether a turn has reached its aim before its updates are used up."""
        clock, patient = self.clock, self.config.variant != "kbeam"
        if kind == "action":
            accuracy = self.players.held_out_accuracy()
            clock.stale.add_(1).mul_(accuracy <= clock.best)
            clock.best.clamp_(min=accuracy)
            return bool(accuracy >= clock.bar) or (not patient and bool(clock.stale >= PATIENCE))
        return kind == "attack" and not patient and bool(clock.seen >= MASTERED)

    def _use(self, kind: Kind, batch: Labelled, averages: Averages) -> None:
        players, optimizers = self.players, self.optimizers
        if kind in ("hide", "all"):
            players.hide(batch, optimizers["anonymizer"], averages)
        if kind == "action":
            players.improve_action(batch, [optimizers["anonymizer"], optimizers["action"]], averages)
        if kind == "all":
            players.learn_action(batch, optimizers["action"], averages)
        if kind in ("attack", "all"):
            self.clock.seen.copy_(players.attack(batch, optimizers["attackers"], averages))
        self.clock.done += 1


def _privacy(task: FitTask) -> Target:
    if task.privacy is None:
        raise ValueError("VITA needs privacy labels")
    return task.privacy
