"""What the benchmark asks of every method, as checks that anyone's test suite can run.

`validate_output` is cheap enough for the first batch of a real run. `check_method` tries a whole method on made-up
clips and labels at the sizes of a preset, one tiny fit included::

    from stp_bench.contract import check_method

    def test_my_method_keeps_the_contract():
        assert check_method(SPEC) == []

The single checks are in `CHECKS`; each takes a `Trial` and raises the `UserError` that says what is asked.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.config import clip_spec, vit_spec
from stp_bench.config import preset as run_preset
from stp_bench.errors import BenchError, UserError
from stp_bench.methods import EpochReport, FitTask, Method, MethodSpec, Phase
from stp_bench.schema import Target, VitSpec

RANGE_TOLERANCE = 1e-5
"""How far rounding may carry a value out of [0, 1]."""

ACTIONS, ATTRIBUTES = 3, 2
CLIPS, FIT_BATCH, FIT_STEPS, FIT_EPOCHS = 3, 2, 2, 2


def validate_output(name: str, clips: Clips, out: Anonymized) -> None:
    """Refuse an output that no recognizer could use, or that claims what it does not do.

    Raises:
        UserError: another shape, dtype or device than the clips; a gradient graph; values that are not finite, or
            outside [0, 1] in space ``rgb01``; a ``keep`` that is not a grid of zeros and ones; pixels other than 0 in
            a tubelet that is not kept.
    """
    if not isinstance(out, Anonymized):
        raise _violation(name, f"anonymize returned {type(out).__name__}", "return an Anonymized")
    x, given = out.x_BCTHW, clips.x_BCTHW
    if x.shape != given.shape:
        shapes = f"clips of shape {tuple(given.shape)} became {tuple(x.shape)}"
        raise _violation(name, shapes, "return clips of the same shape")
    if x.dtype != torch.float32 or x.device != given.device:
        made = f"clips of torch.float32 on {given.device} became {x.dtype} on {x.device}"
        raise _violation(name, made, "return float32 on the device of the clips")
    if x.requires_grad or (out.keep_BLN is not None and out.keep_BLN.requires_grad):
        raise _violation(name, "its output carries a gradient graph", "decorate anonymize with torch.no_grad()")
    if not torch.isfinite(x).all():
        raise _violation(name, "its output has values that are not finite", "mend the computation that made them")
    if out.space not in ("rgb01", "free"):
        raise _violation(name, f"its output is in space {out.space!r}", "say rgb01 or free")
    if out.space == "rgb01" and x.numel():
        low, high = (float(v) for v in torch.aminmax(x))
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            mend = "stay within [0, 1] or return space free"
            raise _violation(name, f"its output spans [{low:.3g}, {high:.3g}] in space rgb01", mend)
    if out.keep_BLN is not None:
        _validate_keep(name, x, out.keep_BLN)


def _validate_keep(name: str, x_BCTHW: Tensor, keep_BLN: Tensor) -> None:
    clips, channels, frames, height, width = x_BCTHW.shape
    if keep_BLN.ndim != 3 or len(keep_BLN) != clips or 0 in keep_BLN.shape:
        shapes = f"keep has shape {tuple(keep_BLN.shape)} for clips of shape {tuple(x_BCTHW.shape)}"
        raise _violation(name, shapes, "return keep as (clips, slots, tubelets of a slot)")
    if keep_BLN.dtype != torch.float32 or keep_BLN.device != x_BCTHW.device:
        made = f"keep is {keep_BLN.dtype} on {keep_BLN.device}"
        raise _violation(name, made, "return keep as float32 on the device of the clips")
    slots, tubelets = keep_BLN.shape[1:]
    side = math.isqrt(tubelets)
    if side * side != tubelets or frames % slots or height % side or width % side:
        grid = f"keep of {slots} slots x {tubelets} tubelets does not tile {frames} frames of {height} x {width} pixels"
        raise _violation(name, grid, "return one value per tubelet of a square grid")
    if not ((keep_BLN == 0) | (keep_BLN == 1)).all():
        raise _violation(name, "keep has values other than 0 and 1", "return the hard decision")
    blocks = x_BCTHW.reshape(clips, channels, slots, frames // slots, side, height // side, side, width // side)
    colored_BLN = (blocks != 0).any(7).any(5).any(3).any(1).reshape(clips, slots, tubelets)
    if (colored_BLN & (keep_BLN == 0)).any():
        raise _violation(name, "a tubelet that keep drops still has pixels", "set the pixels of dropped tubelets to 0")


def check_method(spec: MethodSpec, preset: str = "tiny", *, device: str = "cpu") -> list[str]:
    """What a method does against the contract, one line each; an empty list is a pass.

    Takes seconds at preset ``tiny``; needs no data, no weights and no network. The global random state is left alone.
    """
    trial = Trial(spec, preset, device)
    violations = []
    for name, check in CHECKS.items():
        try:
            check(trial)
        except BenchError as error:
            violations.append(str(error))
        except Exception as error:  # a stranger's method may raise anything; the caller gets a list
            violations.append(f"method {spec.name!r} fails '{name}' with {type(error).__name__}: {error}")
    return list(dict.fromkeys(violations))


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
        with _seeded(seed):
            return self.spec.make(self.spec.configure(self.preset), self.vit)

    @cached_property
    def fitted(self) -> Method:
        """The method after every phase has run for some epochs; simply the method if there is nothing to learn."""
        method = self.make(seed=1)
        for phase in method.phases(self.task()):
            for epoch in range(min(FIT_EPOCHS, phase.epochs)):
                if self.run_epoch(phase, epoch).done:
                    break
        return method

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
            sample=self.batches,
            holdout=(lambda epoch: self.batches(1000 + epoch)) if "holdout" in needs else None,
        )

    def run_epoch(self, phase: Phase, epoch: int) -> EpochReport:
        """One epoch as the harness runs it: all randomness derives from the epoch's number."""
        with _seeded(epoch):
            report = phase.run_epoch(self.batches(epoch), epoch)
        if not isinstance(report, EpochReport) or not all(math.isfinite(v) for v in report.scalars.values()):
            what = f"epoch {epoch} of phase {phase.name!r} reported {report}"
            raise self.violation(what, "return an EpochReport of finite scalars")
        return report

    def anonymize(self, method: Method, clips: Clips, seed: int = 0) -> Anonymized:
        """A validated output, with gradients enabled around the call as a careless caller would have them."""
        with _seeded(seed), torch.enable_grad():
            out = method.anonymize(clips)
        validate_output(self.spec.name, clips, out)
        return out

    def violation(self, why: str, mend: str) -> UserError:
        """The error for something that the method does against the contract."""
        return _violation(self.spec.name, why, mend)


def _output_is_valid(trial: Trial) -> None:
    for method in trial.methods:
        trial.anonymize(method, trial.clips())


def _two_calls_agree(trial: Trial) -> None:
    clips = trial.clips()
    for method in trial.methods:
        first, second = (trial.anonymize(method, clips, seed) for seed in (1, 2))
        if not _same(_state(first), _state(second)):
            raise trial.violation("two calls with the same clips differ", "draw no random numbers in anonymize")


def _batch_mates_do_not_matter(trial: Trial) -> None:
    clips = trial.clips()
    for method in trial.methods:
        together = trial.anonymize(method, clips)
        for b in range(CLIPS):
            boxes = clips.boxes_BTM4
            alone = trial.anonymize(
                method, Clips(clips.x_BCTHW[b : b + 1], None if boxes is None else boxes[b : b + 1])
            )
            same_keep = together.keep_BLN is None or _same(together.keep_BLN[b : b + 1], alone.keep_BLN)
            if not same_keep or not torch.allclose(together.x_BCTHW[b : b + 1], alone.x_BCTHW, rtol=1e-4, atol=1e-5):
                mend = "use no statistics of the batch in anonymize (put batch norms into eval mode)"
                raise trial.violation("a clip's output depends on the other clips of its batch", mend)


def _inputs_and_weights_are_left_alone(trial: Trial) -> None:
    for method in trial.methods:
        clips, untouched = trial.clips(), trial.clips()
        before = _states(method.parts())
        trial.anonymize(method, clips)
        if not _same(_state(clips), _state(untouched)):
            raise trial.violation("anonymize changed its input", "work on a copy")
        if not _same(before, _states(method.parts())):
            mend = "let only phases change weights and buffers (put batch norms into eval mode)"
            raise trial.violation("anonymize changed the method's weights or buffers", mend)


def _parts_restore_the_method(trial: Trial) -> None:
    clips = trial.clips()
    for method in trial.methods:
        states = _states(method.parts())
        if not all(isinstance(v, Tensor) for state in states.values() for v in state.values()):
            mend = "return modules, or objects whose state_dict is flat and holds tensors only"
            raise trial.violation("parts() holds something else than tensors", mend)
        restored = trial.make(seed=2)
        _load(restored.parts(), states)
        if not _same(_state(trial.anonymize(method, clips)), _state(trial.anonymize(restored, clips))):
            mend = "name everything that anonymize depends on in parts()"
            raise trial.violation("a method restored from parts() anonymizes differently", mend)


def _boxes_may_be_missing(trial: Trial) -> None:
    clips = trial.clips()
    without = Clips(clips.x_BCTHW)
    for method in trial.methods:
        try:
            trial.anonymize(method, without)
        except UserError:
            if "boxes" not in trial.spec.needs:
                raise


def _fixed_transforms_take_any_size(trial: Trial) -> None:
    if not trial.spec.learned:  # a learned method is bound to the size of its networks
        for size in ((3, 20, 27), (1, 45, 33)):
            trial.anonymize(trial.make(seed=1), trial.clips(size=size))


def _phases_are_those_of_the_spec(trial: Trial) -> None:
    phases = trial.make(seed=1).phases(trial.task())
    if (names := tuple(phase.name for phase in phases)) != trial.spec.phases:
        raise trial.violation(f"phases are {names} but the spec says {trial.spec.phases}", "name them alike")
    if any(phase.epochs < 0 for phase in phases):
        raise trial.violation("a phase has a negative number of epochs", "use 0 to leave a phase out")


def _the_fit_changes_the_method(trial: Trial) -> None:
    if trial.spec.learned and _same(_states(trial.make(seed=1).parts()), _states(trial.fitted.parts())):
        raise trial.violation("fitting changed nothing in parts()", "name what the phases train in parts()")


def _a_resumed_phase_ends_with_the_same_bits(trial: Trial) -> None:
    """Runs each phase for two epochs, and again in a new method that starts from what was stored after the first."""
    whole, task = trial.make(seed=1), trial.task()
    finished: list[dict[str, Any]] = []
    for k, phase in enumerate(whole.phases(task)):
        if phase.epochs < 1:
            finished.append(_states(phase.parts()))
            continue
        before = _states(whole.parts())
        stopped = trial.run_epoch(phase, 0).done
        stored = _states(phase.parts())
        resumed = trial.make(seed=2)
        phases = resumed.phases(task)
        for earlier, state in zip(phases, finished, strict=False):
            _load(earlier.parts(), state)
        _load(resumed.parts(), before)
        _load(phases[k].parts(), stored)
        if not stopped and phase.epochs > 1:
            trial.run_epoch(phase, 1)
            trial.run_epoch(phases[k], 1)
        finished.append(_states(phase.parts()))
        if not _same(finished[k], _states(phases[k].parts())) or not _same(
            _states(whole.parts()), _states(resumed.parts())
        ):
            mend = "name networks, optimizers and counters in the phase's parts(), and derive learning rates from the epoch"
            raise trial.violation(f"phase {phase.name!r} resumed from its parts() ends with other weights", mend)


CHECKS: Mapping[str, Callable[[Trial], None]] = {
    "the output is valid": _output_is_valid,
    "two calls agree bit for bit": _two_calls_agree,
    "batch mates do not matter": _batch_mates_do_not_matter,
    "inputs and weights are left alone": _inputs_and_weights_are_left_alone,
    "parts restore the method": _parts_restore_the_method,
    "boxes may be missing": _boxes_may_be_missing,
    "fixed transforms take any size": _fixed_transforms_take_any_size,
    "phases are those of the spec": _phases_are_those_of_the_spec,
    "the fit changes the method": _the_fit_changes_the_method,
    "a resumed phase ends with the same bits": _a_resumed_phase_ends_with_the_same_bits,
}
"""The checks of `check_method` by name."""


def _violation(name: str, why: str, mend: str) -> UserError:
    return UserError(f"method {name!r} breaks the contract", why, mend)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A block with its own random state; the caller's is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _state(record: Clips | Anonymized) -> list[Any]:
    return [copy.deepcopy(getattr(record, name)) for name in record.__dataclass_fields__]


def _states(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}


def _load(parts: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        part.load_state_dict(copy.deepcopy(states[name]))


def _same(a: Any, b: Any) -> bool:
    """Equality to the bit of nested states."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
