"""The checks: what a method promises, tried on made-up clips."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stp_bench.clips import Anonymized, Clips
from stp_bench.contract._trial import CLIPS, Trial
from stp_bench.errors import BenchError, UserError
from stp_bench.methods import MethodSpec, Stateful


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


def _memory_layout_does_not_matter(trial: Trial) -> None:
    clips = trial.clips()
    frames_first = clips.x_BCTHW.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)  # as frames are decoded
    for method in trial.methods:
        out, other = (trial.anonymize(method, Clips(x, clips.boxes_BTM4)) for x in (clips.x_BCTHW, frames_first))
        if not torch.allclose(out.x_BCTHW, other.x_BCTHW, rtol=1e-4, atol=1e-5):
            raise trial.violation("the output depends on the strides of the clips", "use reshape where view would do")


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


def _reduced_precision_stays_inside(trial: Trial) -> None:
    clips = trial.clips()
    with torch.autocast(trial.device.split(":")[0], torch.bfloat16):
        for method in trial.methods:
            trial.anonymize(method, clips)


def _parts_restore_the_method(trial: Trial) -> None:
    clips = trial.clips()
    for method in trial.methods:
        states = _states(method.parts())
        if not all(state and all(isinstance(v, Tensor) for v in state.values()) for state in states.values()):
            mend = "return modules with weights, or objects whose state_dict is flat and holds tensors only"
            raise trial.violation("a part of parts() holds no tensors, or something else", mend)
        restored = trial.make(seed=2)
        _load(restored.parts(), states)
        if not _same(_state(trial.anonymize(method, clips)), _state(trial.anonymize(restored, clips))):
            mend = "name everything that anonymize depends on in parts()"
            raise trial.violation("a method restored from parts() anonymizes differently", mend)


def _what_the_spec_claims_is_true(trial: Trial) -> None:
    clips = trial.clips()
    for method in trial.methods:
        if trial.spec.identity and not torch.equal(trial.anonymize(method, clips).x_BCTHW, clips.x_BCTHW):
            raise trial.violation("the spec says identity but the output is not the input", "do not claim identity")
        variant = getattr(method, "variant", None)
        names = [variant(has_boxes) for has_boxes in (True, False)] if variant else []
        if not all(name is None or isinstance(name, str) for name in names):
            raise trial.violation(f"its variants are {names}", "let variant(has_boxes) return a name or None")


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
    phases = trial.phases(trial.make(seed=1))
    if (names := tuple(phase.name for phase in phases)) != trial.spec.phases:
        raise trial.violation(f"phases are {names} but the spec says {trial.spec.phases}", "name them alike")
    if any(phase.epochs < 0 for phase in phases):
        raise trial.violation("a phase has a negative number of epochs", "use 0 to leave a phase out")


def _a_fit_starts_from_its_task_alone(trial: Trial) -> None:
    first, second = ([_states(phase.parts()) for phase in trial.phases(trial.make(seed), seed)] for seed in (1, 2))
    if not _same(first, second):
        mend = "draw all initial weights in phases(), after seeding with task.seed"
        raise trial.violation("two fits of one task start from different weights", mend)


def _the_fit_changes_the_method(trial: Trial) -> None:
    unfitted = trial.make(seed=1)
    trial.phases(unfitted)
    if trial.spec.learned and _same(_states(unfitted.parts()), _states(trial.fitted.parts())):
        raise trial.violation("fitting changed nothing in parts()", "name what the phases train in parts()")


def _a_resumed_phase_ends_with_the_same_bits(trial: Trial) -> None:
    """Runs each phase for two epochs, and again in a new method, as a resumed process does: from the parts of the
    finished phases and from what the interrupted one had stored after its first epoch."""
    whole = trial.make(seed=1)
    finished: list[dict[str, Any]] = []
    for k, phase in enumerate(trial.phases(whole)):
        resumed = trial.make(seed=2)
        phases = trial.phases(resumed)
        for earlier, state in zip(phases, finished, strict=False):
            _load(earlier.parts(), state)
        stopped = phase.epochs < 1 or trial.run_epoch(phase, 0).done
        _load(phases[k].parts(), _states(phase.parts()))
        if not stopped and phase.epochs > 1:
            trial.run_epoch(phase, 1)
            trial.run_epoch(phases[k], 1)
        finished.append(_states(phase.parts()))
        if not _same(finished[k], _states(phases[k].parts())) or not _same(
            _states(whole.parts()), _states(resumed.parts())
        ):
            mend = "name all networks, optimizers and counters in the phase's parts(); derive rates from the epoch"
            raise trial.violation(f"phase {phase.name!r} resumed from its parts() ends with other weights", mend)


CHECKS: Mapping[str, Callable[[Trial], None]] = {
    "the output is valid": _output_is_valid,
    "two calls agree bit for bit": _two_calls_agree,
    "batch mates do not matter": _batch_mates_do_not_matter,
    "memory layout does not matter": _memory_layout_does_not_matter,
    "inputs and weights are left alone": _inputs_and_weights_are_left_alone,
    "reduced precision stays inside": _reduced_precision_stays_inside,
    "parts restore the method": _parts_restore_the_method,
    "what the spec claims is true": _what_the_spec_claims_is_true,
    "boxes may be missing": _boxes_may_be_missing,
    "fixed transforms take any size": _fixed_transforms_take_any_size,
    "phases are those of the spec": _phases_are_those_of_the_spec,
    "a fit starts from its task alone": _a_fit_starts_from_its_task_alone,
    "the fit changes the method": _the_fit_changes_the_method,
    "a resumed phase ends with the same bits": _a_resumed_phase_ends_with_the_same_bits,
}
"""The checks of `check_method` by name."""


def _state(record: Clips | Anonymized) -> list[Any]:
    return [copy.deepcopy(getattr(record, name)) for name in record.__dataclass_fields__]


def _states(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The states of parts as they come back from a checkpoint: copies, by a loader that executes nothing."""
    file = io.BytesIO()
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    states: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return states


def _load(parts: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        part.load_state_dict(states[name])


def _same(a: Any, b: Any) -> bool:
    """Equality to the bit of nested states."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
