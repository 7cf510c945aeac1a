"""A Label Studio of one's own: own environment, loopback only, without telemetry, all data in the data home.

``<home>/label-studio/``::

    env/          what ``serve --install`` installs
    data/         the server's database
    admin.json    e-mail and password of its first account, readable by its owner alone
    server.log    what it prints

No token is kept. A command that talks to this server signs in with that password, and asks for the token each time.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from stp_bench.annotate import _project
from stp_bench.annotate.session import Session, server_address
from stp_bench.errors import UserError, WorkError
from stp_bench.files import make_folder, read_json
from stp_bench.progress import Reporter

VERSION = "1.23.2"
"""Of Label Studio, as installed by ``--install``."""
VARIABLE = "STP_BENCH_LABEL_STUDIO"
TOKEN_VARIABLE, URL_VARIABLE = "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_URL"
DEFAULT_URL = "http://127.0.0.1:8080"
_HOST = "127.0.0.1"
_ADMIN = "admin@example.com"
_PATIENCE = 300
"""Seconds for a start: the first one makes the database, which takes half a minute on two idle cores."""
_STOP = 15
"""Seconds until a server that was asked to stop is killed."""
_LOCK_SECONDS = "3600"
"""How long a task that somebody opened and left counts as taken; the server's own value is a day."""


_TOKEN = re.compile(rb"(token=)[\w-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that was started here."""

    url: str
    email: str
    password_file: Path
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.poll() is None


def folder(home: Path) -> Path:
    """Where the data home keeps the server."""
    return home / "label-studio"


def executable(home: Path) -> Path:
    """The ``label-studio`` program: that of the environment variable, else the data home's own, else the path's.

    Raises:
        UserError: there is none.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise UserError(f"there is no program {named}", f"{VARIABLE} names it", "mend or unset that variable")
        return Path(named).absolute()
    own = _own(home)
    if own.exists():
        return own
    if found := shutil.which("label-studio"):
        return Path(found)
    raise UserError(
        "Label Studio is not installed",
        f"there is no label-studio in {own.parent} nor on the path",
        "install it by 'stp-bench annotate serve --install', or set " + VARIABLE,
    )


def install(home: Path, reporter: Reporter) -> Path:
    """Install Label Studio from the package index into an environment of its own, where it is not there yet.

    Raises:
        WorkError: the installation failed, for example without a network.
    """
    program = _own(home)
    if program.exists():
        return program
    place = folder(home) / "env"
    reporter.say(f"downloading label-studio {VERSION} and what it needs (about 250 MB) from the Python package index")
    reporter.say(f"installing them into {place}")
    with reporter.stage("install Label Studio"):
        # A half installation must not pass for a whole one: the program gets its name only when all is there.
        shutil.rmtree(place, ignore_errors=True)
        venv.create(make_folder(place), with_pip=True)
        done = subprocess.run(
            [program.parent / "python", "-m", "pip", "install", "--quiet", f"label-studio=={VERSION}"],
            stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    if done.returncode or not program.exists():
        shutil.rmtree(place, ignore_errors=True)
        why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise WorkError(
            "Label Studio cannot be installed", why, "mend that, or install it yourself and set " + VARIABLE
        )
    return program


def _own(home: Path) -> Path:
    scripts, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    return folder(home) / "env" / scripts / f"label-studio{suffix}"


@contextmanager
def running(home: Path, *, port: int, reporter: Reporter) -> Iterator[Running]:
    """A server for the length of a block.

    Raises:
        UserError: the program is missing, the port is taken, or this data home's server already runs.
        WorkError: it did not come up.
    """
    program, place = executable(home), make_folder(folder(home))
    place.chmod(0o700)  # the database holds everybody's address
    lock = FileLock(_lock_file(home))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        url = _admin(home).get("url", "another port")
        raise UserError("this data home's Label Studio already runs", f"it is at {url}", "use that one") from None
    try:
        _check_free(port)
        url = f"http://{_HOST}:{port}"
        admin = _known_admin(home, url)
        log = place / "server.log"
        process = subprocess.Popen(
            [program, "start", "--no-browser", "--internal-host", _HOST, "--port", str(port), "--host", url],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=place,
            env=_environment(home, admin),
        )  # fmt: skip
        writer = threading.Thread(target=_write_log, args=(process, log), daemon=True)
        writer.start()
        try:
            with reporter.stage("start Label Studio"):
                _wait(process, url, log)
                # Whoever took the port in the meantime does not know the password, and must not be taken for ours.
                Session(url).sign_in(admin["email"], admin["password"])
            yield Running(url=url, email=admin["email"], password_file=_admin_file(home), process=process)
        finally:
            _stop(process)
            writer.join()
    finally:
        lock.release()


def local_url(home: Path) -> str | None:
    """Where this data home's own server runs; None where it does not."""
    return _admin(home).get("url") if _is_held(_lock_file(home)) else None


def local_token(home: Path, url: str) -> str | None:
    """A token of this data home's own server, while it runs at ``url``; None for any other server.

    Raises:
        UserError: the server does not take the password that is kept.
        WorkError: it does not answer.
    """
    if local_url(home) != url:
        return None
    admin = _admin(home)
    session = Session(url)
    session.sign_in(admin["email"], admin["password"])
    return session.token()


def exported_copies(home: Path) -> list[Path]:
    """Copies of exports that this data home's server has kept by itself."""
    place = folder(home) / "data" / "export"
    return sorted(p for p in place.glob("*") if p.is_file())


def _environment(home: Path, admin: dict[str, str]) -> dict[str, str]:
    """Settings of the server. Its first account comes by the environment: a command line is for all to see."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LABEL_STUDIO_", "HEARTEX_"))}
    return kept | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(make_folder(folder(home) / "data")),
        "LABEL_STUDIO_USERNAME": admin["email"],
        "LABEL_STUDIO_PASSWORD": admin["password"],
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(make_folder(_project.media_root(home))),
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "TASK_LOCK_TTL": _LOCK_SECONDS,
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _write_log(process: subprocess.Popen[bytes], log: Path) -> None:
    """Keep what the server prints, without the token of the invite link, which its lines of requests hold."""
    assert process.stdout is not None
    with process.stdout as lines, log.open("wb") as out:
        for line in lines:
            out.write(_TOKEN.sub(rb"\1(a token)", line))
            out.flush()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            why = f"its process ended with code {process.returncode}"
            raise WorkError("Label Studio did not start", why, f"see {log}")
        with suppress(OSError, ValueError), opener.open(f"{url}/health", timeout=5) as answer:
            if json.loads(answer.read(4096)).get("status") == "UP":
                return
        time.sleep(0.2)
    raise WorkError("Label Studio did not start", f"it does not answer after {_PATIENCE} s", f"see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check_free(port: int) -> None:
    """Refuse a port that is taken: the server itself would silently go to the next one."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UserError(f"port {port} cannot be used", why, "choose another with --port") from error


def _known_admin(home: Path, url: str) -> dict[str, str]:
    """The first account of this data home's server, made up at its first start."""
    admin = _admin(home)
    if not admin:
        if (folder(home) / "data" / "label_studio.sqlite3").exists():
            raise UserError(
                "the password of this data home's Label Studio is lost",
                f"there is a database but no {_admin_file(home)}",
                "restore that file, or move the folder 'data' beside it away",
            )
        admin = {"email": _ADMIN, "password": secrets.token_urlsafe(18)}
    if admin.get("url") != url:
        admin["url"] = server_address(url)
        _project.write_private(_admin_file(home), json.dumps(admin, indent=2) + "\n")
    return admin


def _admin(home: Path) -> dict[str, str]:
    path = _admin_file(home)
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not {"email", "password"} <= found.keys():
        raise WorkError(f"cannot read {path}", "it is not the record of an account", "restore it")
    return {str(key): str(value) for key, value in found.items()}


def _admin_file(home: Path) -> Path:
    return folder(home) / "admin.json"


def _lock_file(home: Path) -> Path:
    return folder(home) / ".lock"


def _is_held(path: Path) -> bool:
    if not path.parent.is_dir():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
