"""Processes that work beside this one: how many are worth starting, and how one is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(module: str, *, quiet: bool = False) -> subprocess.Popen[str]:
    """A process that runs a module of ours on one thread, with text pipes for its input and output.

    It sees the modules that this process sees, and none of the folder that it is started in (``-P``, and no empty
    entry): that may be a stranger's.

    Args:
        quiet: whether its standard error goes nowhere.
    """
    path = os.pathsep.join(str(Path(p).absolute()) for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None,
        text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
