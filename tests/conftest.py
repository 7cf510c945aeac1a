"""What all tests share: a data home of their own, so that none touches the user's, and a tiny benchmark in it."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny tensors: threads cost more than they bring; read before torch loads

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stp_bench.files import HOME_VARIABLE

# A shell that runs the tests in the background has them, and every program that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data home of the whole test run: what one test makes (data, clip stores, stages), the next finds."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = str(home)
    yield home
    if before is None:
        del os.environ[HOME_VARIABLE]
    else:
        os.environ[HOME_VARIABLE] = before


@pytest.fixture(scope="session")
def tiny(data_home: Path) -> Path:
    """The folder of ``synth-hmdb`` at preset tiny: 24 real videos, made once."""
    from stp_bench import synth

    folder = data_home / "data" / "synth-hmdb" / "tiny-seed0"
    synth.make("synth-hmdb", preset="tiny", seed=0, folder=folder)
    return folder
