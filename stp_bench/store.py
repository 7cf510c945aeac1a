"""The stage store: finished work is kept under a key made of its inputs and found again by any command.

A stage works in ``<key>.partial/`` and is renamed to ``<key>/`` when it is whole; readers trust only the final name,
and only after its files' digests match. A lock file keeps two processes off one stage. What a killed process left in
the partial folder (one checkpoint per epoch) is taken up by the next.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import stp_bench
from stp_bench.errors import WorkError
from stp_bench.files import fingerprint, make_folder, read_json, sha256_file, unwritable, write_json
from stp_bench.progress import Reporter
from stp_bench.schema import Stage

RECORD = "stage.json"
LAYOUT = 2
"""Raised whenever a kind of stage leaves other files for the same numbers: what an older version left is made anew."""


def stage(kind: str, name: str, version: int, inputs: Mapping[str, Any], needs: tuple[str, ...] = ()) -> Stage:
    """A stage with its key: the fingerprint of kind, version, inputs and the keys it stands on."""
    key = fingerprint({"kind": kind, "version": version, "inputs": inputs, "needs": list(needs)})
    return Stage(kind=kind, name=name, key=key, inputs=inputs, needs=needs)


@dataclass(frozen=True, slots=True)
class StageStore:
    """Stages under ``<home>/stages/<kind>/<key>/``."""

    home: Path
    device: str
    """Where the work runs; goes into the provenance."""

    def folder(self, stage: Stage) -> Path:
        """Where the stage lies once it is finished."""
        return self.home / "stages" / stage.kind / stage.key

    def find(self, stage: Stage) -> Path | None:
        """The folder of a finished stage, or None.

        Raises:
            WorkError: the folder is there but a file in it is missing or not what was written.
        """
        folder = self.folder(stage)
        if not (folder / RECORD).exists():
            return None
        record = read_json(folder / RECORD)
        if record.get("layout") != LAYOUT:
            return None
        for name, digest in record["files"].items():
            if not (folder / name).exists() or sha256_file(folder / name) != digest:
                raise WorkError(
                    f"the stored stage {folder} is damaged",
                    f"{name} is not what was written",
                    "remove that folder and run the same command again",
                )
        return folder

    def run(
        self, stage: Stage, work: Callable[[Path], None], *, reporter: Reporter, scratch: Collection[str] = ()
    ) -> Path:
        """The stage's folder; does ``work(partial folder)`` first if it is not finished yet.

        Args:
            scratch: files that only an interrupted ``work`` needs; they are removed once the stage is whole.
        """
        if found := self.find(stage):
            reporter.say(f"{stage.kind} {stage.name}: found ({stage.key[:12]})")
            return found
        final = self.folder(stage)
        partial = final.with_name(f"{stage.key}.partial")
        make_folder(final.parent)
        lock = FileLock(final.with_name(f"{stage.key}.lock"))
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                reporter.say(f"{stage.kind} {stage.name}: another process is working on it; waiting for it")
                lock.acquire()
        except OSError as error:
            raise unwritable(final.parent, error) from error
        try:
            if found := self.find(stage):
                return found
            make_folder(partial)
            started = time.monotonic()
            work(partial)
            try:
                for rest in partial.glob(".*.partial*"):  # half files of a process that was killed
                    rest.unlink()
                kept = sorted(p for p in partial.iterdir() if p.name not in scratch)
                record = {
                    "layout": LAYOUT,
                    "kind": stage.kind,
                    "name": stage.name,
                    "key": stage.key,
                    "needs": list(stage.needs),
                    "inputs": stage.inputs,
                    "files": {p.name: sha256_file(p) for p in kept},
                    "provenance": provenance(self.device) | {"seconds": round(time.monotonic() - started, 3)},
                }
                write_json(partial / RECORD, record)
                if final.exists():  # left by hand or by an older version, without a record: never trusted
                    shutil.rmtree(final)
                partial.replace(final)
                for name in scratch:
                    (final / name).unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(partial, error) from error
        finally:
            lock.release()
        return final


def provenance(device: str) -> dict[str, Any]:
    """What surrounded a computation: versions, source revision, device, peak memory. Shown, never compared."""
    commit, dirty = _revision()
    return {
        "version": stp_bench.__version__,
        "git": commit + ("+dirty" if dirty else ""),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in ("torch", "timm", "numpy", "av", "opencv-python-headless")},
        "torch": _version("torch"),
        "device": _device_name(device),
        "peak_memory_bytes": _peak_memory(device),
    }


def _peak_memory(device: str) -> dict[str, int]:
    """Peak memory of this process so far, in bytes: on the host, and on the device if it is another."""
    peak = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.startswith("cuda"):
        import torch

        peak["device"] = torch.cuda.max_memory_allocated(device)
    return peak


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{device} ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"


def _revision() -> tuple[str, bool]:
    """Commit of the source tree this package runs from, if it runs from one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return "", False
    try:
        ask = ["git", "-C", str(here.parent)]
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        state = subprocess.run([*ask, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "", False
    return commit.stdout.strip(), bool(state.stdout.strip())
