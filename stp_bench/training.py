"""The one training loop: it owns epochs, seeds, precision, checkpoints, curves and progress; a phase owns its updates.

The randomness of epoch *e* derives from (seed, stage key, *e*) alone, and a checkpoint is written after every epoch, so
a run killed at any moment ends, when repeated, with the same bits on the same device.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path
from stp_bench.methods import Batches, Loader, Phase, Stateful
from stp_bench.progress import Reporter, Task

if TYPE_CHECKING:
    from stp_bench.clips import Labelled

CHECKPOINT = "checkpoint.pt"
CURVES = "curves.csv"


def run_phase(
    phase: Phase, loader: Loader, folder: Path, *, stream: str, device: str, precision: str, reporter: Reporter
) -> None:
    """Run ``phase`` to its end in ``folder``, from its checkpoint if there is one.

    Leaves ``checkpoint.pt`` (all of ``phase.parts()``) and ``curves.csv`` (one row per epoch).

    Args:
        stream: names the stream of randomness, e.g. the stage's key and seed.
        precision: ``fp32`` or ``bf16`` (autocast).

    Raises:
        WorkError: a scalar of the phase became NaN or infinite, or the disk refused the checkpoint.
    """
    rows: list[dict[str, float]] = []
    if (folder / CHECKPOINT).exists():
        saved = load_checkpoint(folder / CHECKPOINT)
        restore(phase.parts(), saved["parts"], folder)
        rows = saved["curves"]
    started, done = len(rows), bool(rows and rows[-1].get("done"))
    title = f"train {phase.name}" + (f" (taken up after epoch {started})" if started else "")
    with reporter.stage(title, None, "batches") as task:
        for epoch in range(started, 0 if done else phase.epochs):
            seed_everything(f"{stream}/{phase.name}/{epoch}")
            with autocast(device, precision):
                report = phase.run_epoch(_Counted(loader(epoch), task, epoch, phase.epochs), epoch)
            if bad := [name for name, value in report.scalars.items() if not math.isfinite(value)]:
                raise WorkError(
                    f"{phase.name} diverged in epoch {epoch + 1}",
                    f"{', '.join(bad)} is not finite",
                    "lower its learning rate or use --precision fp32",
                )
            rows.append({"epoch": float(epoch + 1), **report.scalars, "done": float(report.done)})
            _save(phase, rows, folder)
            parts = [f"epoch {epoch + 1}/{phase.epochs}", *(f"{k} {v:.3f}" for k, v in report.scalars.items())]
            task.note(", ".join(parts[:4]))
            if report.done:
                break
    if not rows:  # a phase of no epochs leaves its parts as they began
        _save(phase, rows, folder)
    _write_curves(folder / CURVES, rows)


def deterministic(device: str) -> None:
    """Ask for algorithms on a GPU that give the same bits each time; where there is none, torch warns."""
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def autocast(device: str, precision: str) -> torch.autocast:
    """The context of a precision: ``bf16`` runs matrix products in bfloat16, ``fp32`` changes nothing.

    Without a cache of converted weights: a phase updates them inside the context, and would go on with the old ones.
    """
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, read without executing anything it holds.

    Raises:
        WorkError: the file is damaged.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged archive
        reason = f"it is damaged ({type(error).__name__})"
        raise WorkError(f"cannot read {path}", reason, "remove it and run the same command again") from error
    return saved


def restore(parts: Mapping[str, Stateful], states: Mapping[str, Any], source: Path) -> None:
    """Load saved states into parts of the same names.

    Raises:
        UserError: names or shapes differ.
    """
    if set(parts) != set(states):
        raise UserError(
            f"{source} does not fit",
            f"it holds {', '.join(sorted(states))} where {', '.join(sorted(parts))} is expected",
            "use a checkpoint of the same method and version",
        )
    for name, part in parts.items():
        try:
            part.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{source} does not fit", f"{name}: {reason}", "use the preset it was made with") from error


def seed_everything(stream: str) -> None:
    """Seed torch's generators from a stream's name; NumPy randomness in loaders has generators of its own."""
    torch.manual_seed(seed_of(stream))


def seed_of(stream: str) -> int:
    """A 63-bit seed from a name, the same in every process."""
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little") >> 1


class _Counted:
    """Batches that tell the progress bar how far the epoch is."""

    def __init__(self, batches: Batches, task: Task, epoch: int, epochs: int) -> None:
        self._batches, self._task = batches, task
        self._before, self._total = epoch * len(batches), epochs * len(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Labelled]:
        for done, batch in enumerate(self._batches, self._before + 1):
            yield batch
            self._task.update(done, self._total)


def _save(phase: Phase, rows: list[dict[str, float]], folder: Path) -> None:
    parts = {name: part.state_dict() for name, part in phase.parts().items()}
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save({"parts": parts, "curves": rows}, temporary)


def _write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    columns = list(dict.fromkeys(["epoch", *(k for row in rows for k in row if k != "done")]))
    lines = [",".join(columns), *(",".join(f"{row.get(c, float('nan')):.6g}" for c in columns) for row in rows)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
