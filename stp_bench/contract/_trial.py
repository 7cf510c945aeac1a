"""A method at small sizes with made-up clips and labels: what the checks try things on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch

from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.config import clip_spec, vit_spec
from stp_bench.config import preset as run_preset
from stp_bench.contract._output import validate_output, violation
from stp_bench.errors import MethodError
from stp_bench.methods import EpochReport, FitTask, Method, MethodSpec, Phase
from stp_bench.schema import Target, VitSpec

ACTIONS, ATTRIBUTES = 3, 2
CLIPS, FIT_BATCH, FIT_STEPS, FIT_EPOCHS = 3, 2, 2, 2


@dataclass
class Trial:
    """A method with its published options at the sizes of a preset, and made-up clips to try it on."""

    spec: MethodSpec
    preset: str = "tiny"
    device: str = "cpu"

    @cached_property
    def vit(self) -> VitSpec:
        """Sizes of the preset's video ViT."""
        return vit_spec(run_preset(self.preset), image_weights=False)

    def make(self, seed: int) -> Method:
        """A new method whose random weights, if it has any, come from ``seed``."""
        with seeded(seed):
            return self.spec.make(self.spec.configure(self.preset), self.vit)

    @cached_property
    def fitted(self) -> Method:
        """The method after every phase has run for some epochs; simply the method if there is nothing to learn."""
        method = self.make(seed=1)
        for phase in self.phases(method):
            for epoch in range(min(FIT_EPOCHS, phase.epochs)):
                if self.run_epoch(phase, epoch).done:
                    break
        return method

    def phases(self, method: Method, seed: int = 0) -> Sequence[Phase]:
        """The phases of a fit, prepared in a process whose random state is ``seed``."""
        with seeded(seed):
            return method.phases(self.task())

    @property
    def methods(self) -> list[Method]:
        """The states in which ``anonymize`` must keep the contract: as built, and fitted."""
        return [self.make(seed=1), self.fitted] if self.spec.learned else [self.make(seed=1)]

    def clips(self, count: int = CLIPS, seed: int = 0, size: tuple[int, int, int] | None = None) -> Clips:
        """Noise, a black clip and a white clip, repeated, with boxes if the method asks for them.

        ``size`` is (T, H, W); by default the preset's.
        """
        frames, height, width = size or (self.vit.frames, self.vit.size, self.vit.size)
        draw = torch.Generator().manual_seed(seed)
        x = torch.rand(count, 3, frames, height, width, generator=draw)
        x[1::3], x[2::3] = 0, 1
        corners = torch.rand(count, frames, 2, 2, 2, generator=draw).sort(dim=3).values
        boxes = (corners * torch.tensor([width, height])).flatten(-2)
        boxes[:, ::2, 1] = 0  # padding: every other frame has one box only
        return Clips(x.to(self.device), boxes.to(self.device) if "boxes" in self.spec.needs else None)

    def batches(self, epoch: int) -> list[Labelled]:
        """An epoch of training batches, without the labels that the method does not name in its needs."""
        needs = self.spec.needs
        batches = []
        for step in range(FIT_STEPS):
            seed = epoch * FIT_STEPS + step
            draw = torch.Generator().manual_seed(seed)
            action = torch.randint(ACTIONS, (FIT_BATCH,), generator=draw).to(self.device)
            privacy = torch.randint(2, (FIT_BATCH, ATTRIBUTES), generator=draw).float().to(self.device)
            noise = self.clips(3 * FIT_BATCH, seed)
            boxes = noise.boxes_BTM4
            clips = Clips(noise.x_BCTHW[::3], None if boxes is None else boxes[::3])
            batches.append(
                Labelled(clips, action if "action" in needs else None, privacy if "privacy" in needs else None)
            )
        return batches

    def task(self) -> FitTask:
        """A fit on made-up batches."""
        needs = self.spec.needs
        attributes = tuple(f"attribute-{k}" for k in range(ATTRIBUTES))
        return FitTask(
            action=Target(name="action", kind="multiclass", classes=tuple(f"action-{c}" for c in range(ACTIONS))),
            privacy=Target(name="privacy", kind="multilabel", classes=attributes, private=True)
            if "privacy" in needs
            else None,
            prevalence=(0.5,) * ATTRIBUTES if "privacy" in needs else (),
            clip=clip_spec(run_preset(self.preset), stride=2),
            batch=FIT_BATCH,
            seed=0,
            device=self.device,
            weights="none",
            holdout=self.batches if "holdout" in needs else None,
        )

    def run_epoch(self, phase: Phase, epoch: int) -> EpochReport:
        """One epoch as the harness runs it: all randomness derives from the epoch's number."""
        with seeded(epoch):
            report = phase.run_epoch(self.batches(epoch), epoch)
        if not isinstance(report, EpochReport) or not all(math.isfinite(v) for v in report.scalars.values()):
            what = f"epoch {epoch} of phase {phase.name!r} reported {report}"
            raise self.violation(what, "return an EpochReport of finite scalars")
        return report

    def anonymize(self, method: Method, clips: Clips, seed: int = 0) -> Anonymized:
        """A validated output, with gradients enabled around the call as a careless caller would have them."""
        with seeded(seed), torch.enable_grad():
            out = method.anonymize(clips)
        validate_output(self.spec.name, clips, out)
        return out

    def violation(self, why: str, mend: str) -> MethodError:
        """The error for something that the method does against the contract."""
        return violation(self.spec.name, why, mend)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block with its own random state; the caller's is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
