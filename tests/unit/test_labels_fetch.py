"""Downloading label releases, from a real server on this machine that answers as the authors' would, or worse."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import pickle
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_annotations import attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.labels import Release, fetch, import_labels, releases
from stp_bench.progress import Silent

PICKLE = pickle.dumps({"kick/#a.mp4": np.array([[1, 0, 0, 1, 0]])}, protocol=4)
TEXT = "kick/#a,1,0,0,1,0\n"


class Notices(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Server(http.server.ThreadingHTTPServer):
    """Answers some paths and remembers what it was asked."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.asked = dict(files), list[str]()
        self.base = f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path)
        self.server.asked.append(path)
        if path not in self.server.files:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()  # no length: the client must bound what it reads itself
        self.wfile.write(self.server.files[path])

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Server]:
    server = Server(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def vp(content: bytes = PICKLE) -> Release:
    return dataclasses.replace(
        releases()["vp-hmdb51"],
        sha256=hashlib.sha256(content).hexdigest(),
        canonical_sha256=hashlib.sha256(TEXT.encode()).hexdigest(),
        bytes=len(content),
    )


def paths(release: Release, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"/{release.repository}/{release.commit}/{file}": content for file, content in contents.items()}


def pa() -> tuple[Release, dict[str, bytes]]:
    """The 51 class files, with one video each."""
    entry = {a.name: [[0, 9, 1]] for a in attributes()}
    contents = {file: json.dumps({f"{Path(file).stem}.avi": entry}).encode() for file in releases()["pa-hmdb51"].files}
    lines = sorted(f"{Path(file).name}\0{hashlib.sha256(content).hexdigest()}\n" for file, content in contents.items())
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    size = sum(map(len, contents.values()))
    return dataclasses.replace(releases()["pa-hmdb51"], sha256=digest, bytes=size), contents


def test_what_is_fetched_can_be_imported_and_is_verified(tmp_path: Path) -> None:
    notices = Notices()
    with serving(paths(vp(), {vp().files[0]: PICKLE})) as server:
        path = fetch(vp(), tmp_path / "out", base=server.base, reporter=notices)
    assert path == tmp_path / "out" / "hmdb51_privacy_attribute_label.pickle"
    assert import_labels(path, vp()).manifest["verified"] is True
    # What and from where comes first, with the license.
    assert server.base in notices.said[0] and str(path) in notices.said[0] and "MIT" in notices.said[0]


def test_what_is_there_already_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving(paths(vp(), {vp().files[0]: PICKLE})) as server:
        for _ in range(2):
            fetch(vp(), tmp_path, base=server.base, reporter=Silent())
        assert len(server.asked) == 1
        (tmp_path / "hmdb51_privacy_attribute_label.pickle").write_bytes(b"damaged")
        assert fetch(vp(), tmp_path, base=server.base, reporter=Silent()).read_bytes() == PICKLE


def test_the_class_files_come_as_one_folder(tmp_path: Path) -> None:
    release, contents = pa()
    with serving(paths(release, contents)) as server:
        path = fetch(release, tmp_path, base=server.base, reporter=Silent())
        fetch(release, tmp_path, base=server.base, reporter=Silent())
    assert path == tmp_path / "PrivacyAttributes" and len(list(path.iterdir())) == 51 == len(server.asked)
    table = import_labels(path, release)
    assert table.manifest["verified"] is True and len(table.rows) == 51
    assert import_labels(tmp_path, release).rows == table.rows


def test_a_missing_class_file_leaves_no_folder(tmp_path: Path) -> None:
    release, contents = pa()
    contents.popitem()
    with (
        serving(paths(release, contents)) as server,
        pytest.raises(WorkError, match=r"404.*labels import PATH --release pa-hmdb51"),
    ):
        fetch(release, tmp_path, base=server.base, reporter=Silent())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (PICKLE[:-1] + b"!", "what came is not the published file"),
        (PICKLE[:-1], "what came is not the published file"),
        (PICKLE + b"more", "it is larger than published"),
        (PICKLE + bytes(10**7), "it is larger than published"),
        (b"", "what came is not the published file"),
    ],
)
def test_another_answer_than_the_published_file_gets_no_name(tmp_path: Path, answer: bytes, why: str) -> None:
    with serving(paths(vp(), {vp().files[0]: answer})) as server, pytest.raises(WorkError, match=why):
        fetch(vp(), tmp_path, base=server.base, reporter=Silent())
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_fails_at_once_with_the_way_round(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(WorkError, match=r"no answer.*git clone.*labels import PATH --release vp-hmdb51"):
            fetch("vp-hmdb51", tmp_path, base=base, reporter=Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_hangs_up_is_an_error_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nabc")

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(WorkError, match="cannot fetch"):
            fetch(vp(), tmp_path, base=f"http://127.0.0.1:{listener.getsockname()[1]}", reporter=Silent())
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_unknown_releases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        fetch("vp-hmdb", tmp_path, reporter=Silent())
