"""A real Label Studio for the tests that need one: started once, from a database that is made once and kept."""

from __future__ import annotations

import csv
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from stp_bench.annotate import server
from stp_bench.annotate.session import Session
from stp_bench.errors import UserError
from stp_bench.progress import Silent
from stp_bench.video_io import write_video


class LabelStudio:
    """A server that can be stopped and started again, and its data home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._stack = ExitStack()
        self.running: server.Running | None = None
        self._token: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.running = self._stack.enter_context(server.running(self.home, port=self.port, reporter=Silent()))

    def kill(self) -> None:
        """End its process at once, as a crash would."""
        assert self.running is not None
        self.running.process.kill()
        self.running.process.wait()

    def stop(self) -> None:
        self._stack.close()

    def admin_token(self) -> str:
        if self._token is None:  # asked once: signing in is slow, as it should be
            self._token = server.local_token(self.home, self.url)
        assert self._token is not None
        return self._token


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LabelStudio]:
    """The server of the whole test run. The first run ever takes half a minute for the database."""
    pytest.importorskip("label_studio_sdk", reason="the SDK of Label Studio is not installed")
    home = tmp_path_factory.mktemp("annotate")
    try:
        program = server.executable(home)
    except UserError as error:
        pytest.skip(str(error))
    cache = Path(request.config.cache.mkdir(f"label-studio-{server.VERSION}"))  # type: ignore[union-attr]
    template = cache / program.parent.parent.name
    with FileLock(cache / ".lock"):
        if not template.exists():
            first = LabelStudio(tmp_path_factory.mktemp("first-start"))
            try:
                first.start()
            finally:
                first.stop()
            shutil.copytree(server.folder(first.home), template.with_suffix(".partial"), dirs_exist_ok=True)
            template.with_suffix(".partial").rename(template)
    shutil.copytree(template, server.folder(home))
    made = LabelStudio(home)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def studio(label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> LabelStudio:
    """The same, with nothing in the environment that says of another server."""
    monkeypatch.delenv(server.TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(server.URL_VARIABLE, raising=False)
    return label_studio


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A folder of so many small videos, no two alike, in a folder per action as data sets have them."""

    def make(count: int) -> Path:
        folder = tmp_path_factory.mktemp("clips")
        for number in range(count):
            rng = np.random.default_rng(number)
            frames = np.repeat(rng.integers(0, 256, (8, 4, 6, 3), dtype=np.uint8), 16, axis=1).repeat(16, axis=2)
            name = f"action {number % 2}/#{number:02d}[a]&b;.avi"  # names as HMDB51 has them
            write_video(folder / name, list(frames), 25, codec="mpeg4")
        return folder

    return make


def accounts(file: Path, url: str) -> dict[str, str]:
    """E-mail address to API token, of a file of accounts."""
    tokens = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            session = Session(url)
            session.sign_in(row["email"], row["password"])
            tokens[row["email"]] = session.token()
    return tokens


@pytest.fixture
def tokens_of() -> Callable[[Path, str], dict[str, str]]:
    return accounts


@pytest.fixture
def client() -> Callable[[str, str], Any]:
    """The public API, as a person's account sees it."""

    def connect(url: str, token: str) -> Any:
        from label_studio_sdk.client import LabelStudio as Client

        return Client(base_url=url, api_key=token, timeout=120)

    return connect
