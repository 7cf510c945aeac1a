"""The probes: fresh recognizers trained and tested on anonymized videos (paper section 3.4, "Evaluation").

All recognizers of a stage learn from the same anonymized batches, so that nothing is transformed twice; each has an
optimizer, schedule and starting point of its own. The last epoch counts: no epoch is ever selected.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stp_bench import contract, methods, vit
from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.config import RunConfig
from stp_bench.losses import recognition_loss
from stp_bench.methods import Batches, EpochReport, Method, Stateful
from stp_bench.metrics import Floats
from stp_bench.progress import Task
from stp_bench.schema import Probe, Target, VitSpec
from stp_bench.training import seed_everything
from stp_bench.tubelets import resample_keep

Views = Iterable[tuple[Tensor, Clips]]
"""Batches of test views: the videos (B indices) they belong to, and the clips."""
FrameViews = Iterable[tuple[Tensor, Tensor, Clips]]
"""The same with the frame numbers (B, T) of the clips."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all recognizers of a stage share."""

    vit: VitSpec
    run: RunConfig
    weights: str
    device: str
    seed: int
    partial: bool = False
    """Whether private labels of videos may be -1."""


class Recognizer:
    """One probe's network with its optimizer: learns from, and scores, anonymized clips."""

    def __init__(self, probe: Probe, target: Target, setting: Setting) -> None:
        run = setting.run
        self.probe, self.target, self._run = probe, target, run
        self._partial = probe.judged == "frame" or (setting.partial and target.private)
        spec = setting.vit if probe.unit == "video" else vit.frame_spec(setting.vit)
        seed_everything(f"recognizer/{probe.name}/{setting.seed}")
        head_scale = 1.0 if setting.weights == "none" else 0.001  # learned features are worth protecting at first
        self.network = vit.VideoVit(spec, len(target.classes), head_scale=head_scale)
        vit.load_image_weights(self.network, setting.weights)
        self.network.to(setting.device)
        self.peak = run.lr_privacy if target.private else run.lr
        decay = run.layer_decay if setting.weights != "none" else 1.0
        groups = vit.parameter_groups(self.network, self.peak, run.weight_decay, decay)
        self.optimizer = torch.optim.AdamW(groups, lr=self.peak, betas=(0.9, run.beta2))

    def learn(self, out: Anonymized, batch: Labelled, progress: float) -> Tensor:
        """One update; ``progress`` in [0, 1) is how far training is. Returns the loss.

        A frame recognizer learns from one random frame per clip; if frames are judged, by that frame's own labels.
        """
        vit.set_lr(self.optimizer, vit.lr_at(progress, self._run.warmup))
        self.network.train()
        chosen_B = torch.zeros(0)
        if self.probe.unit == "frame":
            clips, _, frames = out.x_BCTHW.shape[:3]
            chosen_B = torch.randint(frames, (clips,), device=out.x_BCTHW.device)
            out = frames_of(out, chosen_B[:, None])
        if self.probe.judged == "frame":
            if batch.privacy_BTK is None:
                raise RuntimeError(f"a probe of frames got batches without their labels of {self.target.name}")
            labels = batch.privacy_BTK[torch.arange(len(chosen_B), device=chosen_B.device), chosen_B]
        else:
            labels = _labels(batch, self.target)
        logits, smoothing = self._logits(out), self._run.label_smoothing
        loss = recognition_loss(logits, labels, self.target, label_smoothing=smoothing, partial=self._partial)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._run.grad_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._run.grad_clip)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def scores(self, out: Anonymized) -> Tensor:
        """Probabilities (B, K) of each clip; a frame recognizer averages over all frames of the clip."""
        scores = self.frame_scores(out) if self.probe.unit == "frame" else self._probabilities(out).unsqueeze(1)
        return scores.mean(1)

    @torch.no_grad()
    def frame_scores(self, out: Anonymized) -> Tensor:
        """Probabilities (B, T, K) that a frame recognizer gives to each frame of each clip."""
        batch, _, frames = out.x_BCTHW.shape[:3]
        singles = frames_of(out, torch.arange(frames, device=out.x_BCTHW.device).expand(batch, -1))
        return self._probabilities(singles).view(batch, frames, -1)

    def _probabilities(self, out: Anonymized) -> Tensor:
        self.network.eval()
        logits = self._logits(out)
        return logits.softmax(-1) if self.target.kind == "multiclass" else logits.sigmoid()

    def _logits(self, out: Anonymized) -> Tensor:
        """Logits (B, K) in float32; a decision on another grid than the network's makes every touched token visible."""
        own, keep = self.network.vit, out.keep_BLN
        if keep is not None and keep.shape[1:] != (own.slots, own.tubelets):
            side = math.isqrt(keep.shape[2])
            grid = dataclasses.replace(own, tubelet=own.frames // keep.shape[1], patch=own.size // side)
            keep = resample_keep(keep, grid, own)
        logits: Tensor = self.network(out.x_BCTHW, keep, space=out.space, aligned=True)
        return logits.float()


def frames_of(out: Anonymized, frames_BF: Tensor) -> Anonymized:
    """Single frames of anonymized clips as a batch of (B F) one-frame clips; a frame takes the ``keep`` of its slot."""
    x = out.x_BCTHW
    rows = torch.arange(len(x), device=x.device)[:, None]
    frames = x.transpose(1, 2)[rows, frames_BF].flatten(0, 1).unsqueeze(2)
    keep = out.keep_BLN
    if keep is not None:
        slot_BF = frames_BF * keep.shape[1] // x.shape[2]
        keep = keep[rows, slot_BF].flatten(0, 1).unsqueeze(1)
    return Anonymized(frames, keep, out.space)


class ProbePhase:
    """The evaluation phase: every recognizer takes one step on each anonymized batch."""

    name = "probes"

    def __init__(self, method: Method, method_name: str, recognizers: Sequence[Recognizer], epochs: int) -> None:
        self._method, self._method_name, self._recognizers, self.epochs = method, method_name, recognizers, epochs

    def parts(self) -> Mapping[str, Stateful]:
        """Networks and optimizers, by probe."""
        named: dict[str, Stateful] = {}
        for r in self._recognizers:
            named[r.probe.name] = r.network
            named[f"{r.probe.name}.optimizer"] = r.optimizer
        return named

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        """Train all recognizers on one epoch of batches; reports their mean losses."""
        total = {r.probe.name: torch.zeros(()) for r in self._recognizers}
        for step, batch in enumerate(batches):
            out = anonymize(self._method, self._method_name, batch.clips)
            progress = (epoch + step / len(batches)) / self.epochs
            for r in self._recognizers:
                loss = r.learn(out, batch, progress)
                total[r.probe.name] = total[r.probe.name].to(loss.device) + loss
        return EpochReport({f"loss_{name}": float(loss) / len(batches) for name, loss in total.items()})


@torch.no_grad()
def anonymize(method: Method, name: str, clips: Clips) -> Anonymized:
    """Anonymized clips, checked.

    Raises:
        MethodError: the method broke its contract.
        WorkError: its code raised an error.
    """
    with methods.naming(name, "anonymize"):
        out = method.anonymize(clips)
    contract.validate_output(name, clips, out)
    return out


def check_repeats(method: Method, name: str, clips: Clips) -> None:
    """Refuse a method that draws random numbers: two calls with the same clips must agree, up to rounding.

    The global random state is left alone.

    Raises:
        MethodError: they differ.
    """
    outputs = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            outputs.append(anonymize(method, name, clips))
    first, second = outputs
    kept = [out.keep_BLN for out in outputs if out.keep_BLN is not None]
    same = len(kept) == 0 or (len(kept) == 2 and torch.equal(*kept))
    if not same or not torch.allclose(first.x_BCTHW, second.x_BCTHW, rtol=1e-4, atol=1e-5):
        mend = "draw no random numbers in anonymize"
        raise contract.violation(name, "two calls with the same clips differ", mend)


def predict(
    method: Method, name: str, recognizers: Sequence[Recognizer], views: Views, videos: int, task: Task
) -> dict[str, Floats]:
    """Scores (V, K) of every recognizer: probabilities, averaged over each video's views (float64)."""
    device = next(recognizers[0].network.parameters()).device
    sums = {r.probe.name: torch.zeros(videos, len(r.target.classes), device=device).double() for r in recognizers}
    count = torch.zeros(videos, device=device).double()
    for index_B, clips in views:
        index_B = index_B.to(device)
        out = anonymize(method, name, clips)
        count.index_add_(0, index_B, torch.ones_like(index_B, dtype=count.dtype))
        for r in recognizers:
            sums[r.probe.name].index_add_(0, index_B, r.scores(out).double())
        task.advance()
    return {name: (total / count[:, None]).cpu().numpy() for name, total in sums.items()}


def predict_frames(
    method: Method, name: str, recognizers: Sequence[Recognizer], views: FrameViews, frames: Sequence[int], task: Task
) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Scores of single frames by frame recognizers: probabilities, averaged over all views that hold a frame (float64).

    Args:
        views: batches that together hold the frames which shall be scored.
        frames: length of each video.

    Returns:
        Scores (U, K) of every recognizer, and (video, frame) of each scored frame, (U, 2), in ascending order.
    """
    device = next(recognizers[0].network.parameters()).device
    starts = torch.from_numpy(np.concatenate([[0], np.cumsum(frames)])).to(device)
    total = int(starts[-1])
    sums = {r.probe.name: torch.zeros(total, len(r.target.classes), device=device).double() for r in recognizers}
    count = torch.zeros(total, device=device).double()
    for index_B, frames_BT, clips in views:
        cells = (starts[index_B.to(device)][:, None] + frames_BT.to(device)).flatten()
        out = anonymize(method, name, clips)
        count.index_add_(0, cells, torch.ones_like(cells, dtype=count.dtype))
        for r in recognizers:
            sums[r.probe.name].index_add_(0, cells, r.frame_scores(out).flatten(0, 1).double())
        task.advance()
    scored = count.nonzero().squeeze(1)
    video = torch.searchsorted(starts, scored, right=True) - 1
    units = torch.stack([video, scored - starts[video]], dim=1).cpu().numpy()
    means = {name: (found[scored] / count[scored, None]).cpu().numpy() for name, found in sums.items()}
    return means, units


def _labels(batch: Labelled, target: Target) -> Tensor:
    labels = batch.privacy_BK if target.private else batch.action_B
    if labels is None:
        raise RuntimeError(f"a probe of {target.name} got batches without its labels")
    return labels
