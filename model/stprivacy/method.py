"""STPrivacy as a method of the benchmark: how it is trained (paper section 3.4) and how it anonymizes.

Phase ``init`` teaches the transformer which tubelets carry the action (Eq. 12); phase ``adversarial`` plays it against
auxiliary recognizers (Eq. 13). Learning rates and keep ratios are functions of a phase's progress, so that its `parts`
are all it takes to resume one.

Axes in tensor names: B clips, C channels, T frames, H, W pixels; L time slots, N tubelets of a slot, K attributes.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.errors import UserError
from stp_bench.losses import group_mean, hit_rate, recognition_loss
from stp_bench.methods import Batches, EpochReport, FitTask, Phase, Stateful
from stp_bench.schema import Target, VitSpec
from stp_bench.tubelets import resample_keep
from stp_bench.vit import VideoVit, frame_spec, load_image_weights, normalize, parameter_groups
from stprivacy import Config, check_alpha
from stprivacy.losses import attribute_losses, copy_loss, entropies, motion_loss, privacy_term, reverse_gradient
from stprivacy.network import M, STPrivacy, Transformed
from stprivacy.schedule import alpha_at, lr_factors
from stprivacy.sparsify import keep_rates, sparsity_loss

log = logging.getLogger(__name__)


def build(config: Config, vit: VitSpec) -> Anonymizer:
    """The method for recognizers of the sizes ``vit``.

    Raises:
        UserError: the transformer cannot have these sizes.
    """
    return Anonymizer(config, vit)


class Anonymizer:
    """STPrivacy behind the interface of `stp_bench.methods.Method`."""

    def __init__(self, config: Config, vit: VitSpec) -> None:
        self.config, self.vit = config, vit
        self.own = dataclasses.replace(vit, depth=config.depth or vit.depth, tubelet=config.tubelet or vit.tubelet)
        self.network = STPrivacy(self.own, config)
        self.alpha: float | tuple[float, ...] = config.alpha

    def with_keep(self, alpha: float | Sequence[float]) -> Anonymizer:
        """The same network with another keep ratio per sparsification block, or one for each of the three.

        Raises:
            UserError: a ratio outside (0, 1], not three of them, or a network that never sparsifies.
        """
        ratios = (float(alpha),) * M if isinstance(alpha, (int, float)) else tuple(map(float, alpha))
        for ratio in ratios:
            check_alpha(ratio)
        if len(ratios) != M or not self.network.has_psb:
            raise UserError(
                f"cannot keep {alpha} of the tubelets",
                f"this STPrivacy has {M if self.network.has_psb else 'no'} sparsification blocks",
                "give one ratio for all blocks" if self.network.has_psb else "leave the keep ratio out",
            )
        other = copy.copy(self)
        other.alpha = ratios
        return other

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """Initialization and adversarial learning, from weights that depend on ``task`` alone.

        Raises:
            UserError: no privacy labels to learn from, or image weights that do not fit.
        """
        if task.privacy is None or not task.prevalence:
            raise UserError(
                "stprivacy cannot be fitted here",
                "the videos have no privacy labels",
                "fit it on videos that have them",
            )
        with _seeded(task.seed):
            self.network.load_state_dict(STPrivacy(self.own, self.config).state_dict())
            load_image_weights(self.network, task.weights, inflation=self.config.inflation)
            self.network.to(task.device)
            return Initialization(self, task), Adversarial(self, task)

    def parts(self) -> Mapping[str, Stateful]:
        """The transformer."""
        return {"network": self.network}

    def anonymize(self, clips: Clips) -> Anonymized:
        """Transform clips of this network's size, keeping equally many tubelets of each."""
        network = self.network.to(clips.x_BCTHW.device).eval()
        with torch.no_grad():
            out = network(clips.x_BCTHW, self.alpha)
        told = network.has_psb and not self.config.mask_blind
        if not told:
            return Anonymized(out.x_BCTHW.float(), space=network.space)
        return Anonymized(out.x_BCTHW.float(), out.keep_BLN.float(), network.space, out.keep_MBLN.float())


class Initialization:
    """Phase 1, Eq. 12: L_Spars + L'_Action, the latter by a temporary head on the mean of the kept tokens."""

    name = "init"

    def __init__(self, method: Anonymizer, task: FitTask) -> None:
        self.config = config = method.config
        self.epochs = config.init_epochs
        self.network, self.action = method.network, task.action
        self.head = nn.Linear(self.network.vit.dim, len(task.action.classes))
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.head.to(task.device)
        head = [{**g, "new": True} for g in parameter_groups(self.head, config.lr, config.weight_decay)]
        self.optimizer = _adamw(config, head + _transformer_groups(self.network, config, task))

    def parts(self) -> Mapping[str, Stateful]:
        return {"network": self.network, "head": self.head, "optimizer": self.optimizer}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        config = self.config
        self.network.train().requires_grad_(True)
        averages = _Averages()
        for step, batch in enumerate(batches):
            progress = (epoch + step / len(batches)) / self.epochs
            _set_lr(self.optimizer, config, epoch, progress, as_released=config.lr_policy != "single")
            out: Transformed = self.network(batch.clips.x_BCTHW)
            logits = self.head(out.action_BD)
            sparsity = _sparsity(self.network, out, alpha_at(config, progress))
            action = _action_loss(logits, batch, self.action, config)
            loss = config.lambda_spars * sparsity + action
            if config.lambda_motion and self.network.has_pab:
                motion = motion_loss(out.x_BCTHW, _as_rendered(self.network, batch.clips.x_BCTHW), out.keep_BLN)
                loss = loss + config.lambda_motion * motion
                averages.add(motion=motion)
            _update(loss, [self.optimizer], config)
            accuracy = hit_rate(logits, _given(batch.action_B), self.action)
            averages.add(
                loss=loss, sparsity=sparsity, action=action, action_accuracy=accuracy, kept=out.keep_BLN.mean()
            )
        report = averages.report()
        kept, target = report.scalars["kept"], config.alpha**M
        if self.network.has_psb and epoch == self.epochs - 1 and abs(kept - target) > 0.05:
            log.warning(
                "stprivacy keeps %.2f, not %.2f, of the tubelets; train longer or raise lambda_spars", kept, target
            )
        return report


class Adversarial:
    """Phase 2, Eq. 13: the transformer against fresh recognizers; on every batch first it learns, then they do.

    The auxiliary recognizers are part of the training only: evaluation trains new ones.
    """

    name = "adversarial"

    def __init__(self, method: Anonymizer, task: FitTask) -> None:
        if task.privacy is None:
            raise ValueError("adversarial learning needs privacy labels")
        self.config = config = method.config
        self.epochs = config.adversarial_epochs
        self.network, self.vit = method.network, method.vit
        self.action, self.privacy = task.action, task.privacy
        self.attributes = task.privacy.classes
        self.prevalence_K = torch.tensor(task.prevalence, device=task.device)
        self.recognizers = {
            "action": VideoVit(self.vit, len(task.action.classes), head_scale=config.head_scale),
            "video": VideoVit(self.vit, len(self.attributes), head_scale=config.head_scale),
        }
        if config.frame_adversary:
            one_frame = frame_spec(self.vit)
            self.recognizers["frame"] = VideoVit(one_frame, len(self.attributes), head_scale=config.head_scale)
        self.adversaries = [name for name in self.recognizers if name != "action"]
        self.optimizers = {"transformer": _adamw(config, _transformer_groups(self.network, config, task, self._learns))}
        for name, recognizer in self.recognizers.items():
            load_image_weights(recognizer, task.weights, inflation=config.inflation)
            lr = config.lr_action if name == "action" else config.lr_privacy
            groups = parameter_groups(recognizer.to(task.device), lr, config.weight_decay, _layer_decay(config, task))
            self.optimizers[name] = _adamw(config, groups)

    def parts(self) -> Mapping[str, Stateful]:
        optimizers = {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {"network": self.network, **self.recognizers, **optimizers}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        self.network.train()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(self._learns(name))
        averages = _Averages()
        for step, batch in enumerate(batches):
            progress = (epoch + step / len(batches)) / self.epochs
            for name, optimizer in self.optimizers.items():
                as_released = name == "transformer" and self.config.lr_policy == "release"
                _set_lr(optimizer, self.config, epoch, progress, as_released=as_released)
            if self.config.privacy_term == "grl":
                self._update_together(batch, averages)
                continue
            out = self._update_transformer(batch, averages, copying=epoch < self.config.recon_warmup)
            for _ in range(self.config.adversary_updates):
                self._update_recognizers(batch, out, averages)
        return averages.report()

    def _update_transformer(self, batch: Labelled, averages: _Averages, *, copying: bool) -> Transformed:
        """Step A: the recognizers judge and do not learn; decisions learn through their masked attention."""
        config = self.config
        out: Transformed = self.network(batch.clips.x_BCTHW)
        with _frozen(self.recognizers.values()):
            sparsity = _sparsity(self.network, out, config.alpha)
            action = _action_loss(self._look("action", out.x_BCTHW, out.keep_BLN), batch, self.action, config)
            loss = config.lambda_spars * sparsity + config.lambda_action * action
            if copying:
                target = _as_rendered(self.network, batch.clips.x_BCTHW)
                loss = loss + copy_loss(out.x_BCTHW, target, out.keep_BLN)
            else:
                guesses = [self._guess(name, out.x_BCTHW, out.keep_BLN, batch) for name in self.adversaries]
                terms = [
                    privacy_term(*guess, self.prevalence_K, config.privacy_term, self.privacy.groups)
                    for guess in guesses
                ]
                loss = loss + config.lambda_privacy * torch.stack(terms).mean()
            _update(loss, [self.optimizers["transformer"]], config)
        averages.add(loss=loss, sparsity=sparsity, kept=out.keep_BLN.mean())
        return out

    def _update_recognizers(self, batch: Labelled, out: Transformed, averages: _Averages) -> None:
        """Step B: every recognizer learns from what the transformer made."""
        video, keep = out.x_BCTHW.detach(), out.keep_BLN.detach()
        logits = self._look("action", video, keep)
        action = _action_loss(logits, batch, self.action, self.config)
        averages.add(action=action, action_accuracy=hit_rate(logits, _given(batch.action_B), self.action))
        _update(action, [self.optimizers["action"]], self.config)
        for name in self.adversaries:
            guess, labels = self._guess(name, video, keep, batch)
            loss_K = attribute_losses(guess, labels)
            self._note(name, guess, labels, loss_K, averages)
            _update(group_mean(loss_K, self.privacy.groups), [self.optimizers[name]], self.config)

    def _update_together(self, batch: Labelled, averages: _Averages) -> None:
        """Both steps in one, for ``grl``: the adversaries' gradient turns around where it enters the transformer."""
        config = self.config
        out: Transformed = self.network(batch.clips.x_BCTHW)
        logits = self._look("action", out.x_BCTHW, out.keep_BLN)
        sparsity, action = _sparsity(self.network, out, config.alpha), _action_loss(logits, batch, self.action, config)
        video, keep = (reverse_gradient(x, config.lambda_privacy) for x in (out.x_BCTHW, out.keep_BLN))
        privacy = []
        for name in self.adversaries:
            guess, labels = self._guess(name, video, keep, batch)
            privacy.append(privacy_term(guess, labels, self.prevalence_K, "grl", self.privacy.groups))
            self._note(name, guess, labels, attribute_losses(guess, labels), averages)
        loss = config.lambda_spars * sparsity + config.lambda_action * action + torch.stack(privacy).mean()
        _update(loss, list(self.optimizers.values()), config)
        averages.add(sparsity=sparsity, kept=out.keep_BLN.mean())
        averages.add(action=action, action_accuracy=hit_rate(logits, _given(batch.action_B), self.action))

    def _learns(self, name: str) -> bool:
        return self.network.in_pab(name) or not self.config.freeze_sparsifier

    def _look(self, name: str, x_BCTHW: Tensor, keep_BLN: Tensor) -> Tensor:
        """A recognizer's logits; it is told which tokens to see, unless there are no decisions or it must not be."""
        told = self.network.has_psb and not self.config.mask_blind
        recognizer = self.recognizers[name]
        keep = resample_keep(keep_BLN, self.network.vit, recognizer.vit) if told else None
        if name == "frame":
            x_BCTHW, keep = _some_frames(x_BCTHW, keep, self.network.vit.tubelet)
        aligned = not keep_BLN.requires_grad  # nothing to tell the decisions: abandoned tokens need no computing
        logits: Tensor = recognizer(x_BCTHW, keep, space=self.network.space, aligned=aligned)
        return logits

    def _guess(self, name: str, x_BCTHW: Tensor, keep_BLN: Tensor, batch: Labelled) -> tuple[Tensor, Tensor]:
        """An adversary's logits and the labels they should match: a row per clip, or per frame."""
        logits = self._look(name, x_BCTHW, keep_BLN)
        labels = _given(batch.privacy_BK)
        return logits, labels.repeat_interleave(len(logits) // len(labels), 0)

    def _note(self, name: str, logits: Tensor, labels: Tensor, loss_K: Tensor, averages: _Averages) -> None:
        """Log how far each attribute's loss exceeds its entropy: 0 is ignorance, lasting excess is inversion.

        Of groups of classes, which may be thousands, only the mean.
        """
        excess_K = loss_K.detach() - entropies(self.prevalence_K)
        if not self.privacy.groups:
            averages.add(**{f"{name}_excess_{a}": e for a, e in zip(self.attributes, excess_K, strict=True)})
        averages.add(
            **{
                f"{name}_excess": group_mean(excess_K, self.privacy.groups),
                f"{name}_accuracy": hit_rate(logits, labels, self.privacy),
            }
        )


def _sparsity(network: STPrivacy, out: Transformed, alpha: float) -> Tensor:
    if not network.has_psb:
        return out.keep_MBLN.new_zeros(())
    return sparsity_loss(out.keep_MBLN, keep_rates(alpha, M))


def _as_rendered(network: STPrivacy, x_BCTHW: Tensor) -> Tensor:
    """A clip in [0, 1] as the network would render it unchanged: normalized, if its output is unbounded."""
    return x_BCTHW if network.space == "rgb01" else normalize(x_BCTHW)


def _action_loss(logits_BK: Tensor, batch: Labelled, action: Target, config: Config) -> Tensor:
    return recognition_loss(logits_BK, _given(batch.action_B), action, label_smoothing=config.label_smoothing)


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("a batch lacks labels that stprivacy learns from")
    return labels


def _some_frames(x_BCTHW: Tensor, keep_BTN: Tensor | None, tubelet: int) -> tuple[Tensor, Tensor | None]:
    """One random frame of every slot, as clips (B L, C, 1, H, W) of one frame, each with its decision (B L, 1, N)."""
    slots = x_BCTHW.shape[2] // tubelet
    starts = tubelet * torch.arange(slots, device=x_BCTHW.device)
    frame_BL = starts + torch.randint(tubelet, (len(x_BCTHW), slots), device=x_BCTHW.device)
    clip_B1 = torch.arange(len(x_BCTHW), device=x_BCTHW.device).unsqueeze(1)
    frames = x_BCTHW.transpose(1, 2)[clip_B1, frame_BL].flatten(0, 1).unsqueeze(2)
    return frames, None if keep_BTN is None else keep_BTN[clip_B1, frame_BL].flatten(0, 1).unsqueeze(1)


def _transformer_groups(
    network: STPrivacy, config: Config, task: FitTask, learns: Callable[[str], bool] = lambda name: True
) -> list[dict[str, Any]]:
    """Optimizer groups of the transformer, marked by whether they hold predictors, which follow the full rate."""

    def groups(new: bool) -> list[dict[str, Any]]:
        def select(name: str) -> bool:
            return learns(name) and name.startswith("score_predictor.") == new

        decay = _layer_decay(config, task)
        return parameter_groups(network, config.lr, config.weight_decay, decay, select=select)

    return [{**group, "new": new} for new in (True, False) for group in groups(new)]


def _layer_decay(config: Config, task: FitTask) -> float:
    return 1.0 if task.weights == "none" else config.layer_decay


def _adamw(config: Config, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)


def _set_lr(
    optimizer: torch.optim.Optimizer, config: Config, epoch: int, progress: float, *, as_released: bool
) -> None:
    new, rest = lr_factors(config, epoch, progress, as_released=as_released)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * (new if group.get("new") else rest)


def _update(loss: Tensor, optimizers: Iterable[torch.optim.Optimizer], config: Config) -> None:
    """One step down ``loss`` for each optimizer's parameters, their gradient norm clipped one optimizer at a time."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    for optimizer in optimizers:
        if config.grad_clip:
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], config.grad_clip)
        optimizer.step()


@contextmanager
def _frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Networks that judge and do not learn: evaluation mode, no gradient for their parameters."""
    networks = list(networks)
    for network in networks:
        network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.train().requires_grad_(True)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from ``seed`` inside, the caller's untouched outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class _Averages:
    """Means of named scalars over an epoch, kept on the device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def report(self) -> EpochReport:
        """The means; what is not finite stops the training loop."""
        return EpochReport({name: float(total) / self.counts[name] for name, total in self.sums.items()})
