"""Showing a folder of static files on this machine, and to nobody else."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stp_bench.errors import UserError

HOST = "127.0.0.1"
"""Loopback, without an option to change it."""


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, to GET and HEAD. No listings, no links out of it, and no answer under another name."""

    def send_head(self) -> Any:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost"):  # a page elsewhere whose name was made to lead here
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        path = Path(self.translate_path(self.path))
        if not path.resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder's files on loopback, listening, to be run by ``serve_forever``.

    Args:
        port: 0 for any that is free.

    Raises:
        UserError: the port is taken, or not this user's to take.
    """
    handler: Callable[..., Any] = partial(_Handler, directory=str(folder))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
        raise UserError(f"cannot use port {port}", reason, "choose another --port, 0 for any free one") from error
