"""Commands as users start them, and the same in this process where starting Python and torch again proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stp_bench.cli import app

PROGRAM = Path(sys.executable).parent / "stp-bench"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that a failed command says, after its progress lines."""
        assert self.code in (1, 2), (self.out, self.err)
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.rstrip().splitlines()[-1] == lines[0]
        assert "Traceback" not in self.err
        return lines[0]


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def command(*words: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app([str(word) for word in words])
        code = stop.value.code
        return Done(code if isinstance(code, int) else int(code is not None), *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program."""
    return PROGRAM


@pytest.fixture(scope="session")
def start() -> Run:
    """Run the installed program in a process of its own; a variable that ``env`` gives as None is unset."""

    def command(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str | None] | None = None) -> Done:
        environment = {name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None}
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=300, cwd=cwd, env=environment)
        return Done(done.returncode, done.stdout, done.stderr)

    return command
