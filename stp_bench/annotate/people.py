"""Annotators: their accounts, who is invited to a round, and the pseudonyms that stand for them in every table.

A person's address is in ``people.json`` of a round and on the server, and nowhere else.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stp_bench.annotate import _project
from stp_bench.annotate.interface import PLAY_KEY
from stp_bench.annotate.session import Session, SignUpRefused
from stp_bench.errors import UserError, WorkError
from stp_bench.files import make_folder, read_json
from stp_bench.progress import Reporter

SCHEMA = 1
_KEY_BYTES = 32
_MOST = 1000
"""People that one file may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who takes part in a round."""

    invited: tuple[str, ...] = ()
    """E-mail addresses; none: everybody on the server."""
    names: Mapping[str, str]
    """Pseudonym to e-mail address."""
    accounts: Mapping[str, str] = field(default_factory=dict)
    """`account` to e-mail address: the server forgets the address of whoever leaves it."""

    def numbers(self, url: str) -> dict[int, str]:
        """Number to e-mail address, of the accounts of the server at ``url``."""
        split = ((key.partition("@"), email) for key, email in self.accounts.items())
        return {int(number): email for (number, _, where), email in split if where == url}


def account(number: int, url: str) -> str:
    """An account of a server: servers number theirs alike."""
    return f"{number}@{url}"


def with_authors(tasks: Iterable[Mapping[str, Any]], authors: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    """The tasks of an export; the server forgets who gave an annotation when it deletes that account.

    Args:
        authors: annotation to the number of the account that it was of.
    """
    for task in tasks:
        annotations = [
            {**a, "completed_by": authors.get(a["id"])} if a["completed_by"] is None else a for a in task["annotations"]
        ]
        yield {**task, "annotations": annotations}


def key(home: Path) -> bytes:
    """The secret that pseudonyms are made of, made once: who has it can tell whether a pseudonym is a given address's.

    Raises:
        WorkError: it is damaged, or cannot be written.
    """
    path = make_folder(_project.root(home)) / "key"
    if not path.exists():
        _project.write_private(path, secrets.token_hex(_KEY_BYTES) + "\n")
    try:
        found = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        found = b""
    if len(found) != _KEY_BYTES:
        why = "it does not hold 64 hexadecimal digits"
        raise WorkError(f"cannot read {path}", why, "restore it: with another key everybody gets another pseudonym")
    return found


def read(folder: Path) -> People:
    """The people of a round; nobody where none is known."""
    path = folder / "people.json"
    if not path.exists():
        return People(names={})
    values = read_json(path)
    try:
        return People(
            invited=tuple(values["invited"]), names=dict(values["people"]), accounts=dict(values.get("accounts", {}))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"cannot read {path}", f"it is no list of people ({error})", "restore or remove it") from error


def write(folder: Path, people: People) -> None:
    """Keep the people of a round, for its owner's eyes alone."""
    values = {
        "schema": SCHEMA, "invited": sorted(people.invited), "people": dict(sorted(people.names.items())),
        "accounts": dict(sorted(people.accounts.items())),
    }  # fmt: skip
    _project.write_private(folder / "people.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def addresses(file: Path) -> list[str]:
    """The column ``email`` of a CSV file.

    Raises:
        UserError: no such file or column, or an entry that is no address.
    """
    what, mend = f"cannot read {file}", "give a CSV file with a column 'email'"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(what, getattr(error, "strerror", None) or "it is no text", mend) from error
    rows = csv.DictReader(io.StringIO(text))
    if "email" not in (rows.fieldnames or ()):
        raise UserError(what, "it has no column 'email'", mend)
    found = [(row["email"] or "").strip().lower() for row in rows]
    found = list(dict.fromkeys(address for address in found if address))
    bad = next((a for a in found if not _is_address(a)), None)
    if bad is not None:
        raise UserError(what, f"{bad!r} is not an e-mail address", mend)
    if not 0 < len(found) <= _MOST:
        raise UserError(what, f"it names {len(found)} people", f"name 1 to {_MOST}")
    return found


def numbered(name: str, count: int) -> list[str]:
    """Addresses of ``count`` people of whom nothing is known: no mail can reach them."""
    return [f"annotator-{number}@{name.replace('_', '-').replace('.', '-')}.example" for number in range(1, count + 1)]


def _is_address(text: str) -> bool:
    name, at, host = text.partition("@")
    return bool(name and at and "." in host) and text.isprintable() and not set(text) & set(' ,;<>"')


def create(
    url: str,
    emails: Sequence[str],
    *,
    known: Iterable[str],
    link: Callable[[], str],
    out: Path,
    reporter: Reporter,
) -> tuple[list[str], list[str]]:
    """Make accounts, and hand their passwords over in a file that its owner alone may read.

    The file is written before the first account, so that no account has a password that nobody knows; a run that was
    stopped goes on with the passwords of the file that is there.

    Args:
        known: addresses that have an account already: they keep it as it is.
        link: asks the server for the token of its invite link.
        out: the CSV file of addresses and passwords.

    Returns:
        Addresses of the accounts that were made, and of those that were there.

    Raises:
        UserError: the file is something else.
        WorkError: the server went away or refused.
    """
    there = [email for email in emails if email in set(known)]
    missing = [email for email in emails if email not in set(there)]
    if not missing:
        return [], there
    passwords = _read_passwords(out)
    for email in missing:
        passwords.setdefault(email, secrets.token_urlsafe(12))
    _write_passwords(out, url, passwords)
    token = link()
    made = []
    with reporter.stage("make accounts", len(missing), "accounts") as task:
        for email in missing:
            session = Session(url)
            try:
                session.sign_up(token, email, passwords[email])
            except SignUpRefused:
                # A stopped run may have made it without learning so; nobody else can have this password.
                session.sign_in(email, passwords[email])
            session.patch("/api/current-user/hotkeys/", {"custom_hotkeys": PLAY_KEY})
            made.append(email)
            task.advance()
    return made, there


def _read_passwords(out: Path) -> dict[str, str]:
    if not out.exists():
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
        return {row["email"]: row["password"] for row in rows}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{out} is in the way", "it is not a file of accounts", "name another with --out") from error


def _write_passwords(out: Path, url: str, passwords: Mapping[str, str]) -> None:
    if out.is_dir():
        raise UserError(f"cannot write {out}", "it is a folder", "name a file with --out")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["server", "email", "password"])
    writer.writerows([url, email, password] for email, password in passwords.items())
    _project.write_private(out, text.getvalue())


def invite(folder: Path, emails: Collection[str], users: Mapping[int, str], url: str) -> None:
    """Note that these people take part in a round: from the first one on, nobody else's answers count.

    Args:
        users: everybody on the server at ``url``: number to e-mail address.
    """
    before = read(folder)
    accounts = {account(number, url): email for number, email in users.items() if email in set(emails)}
    invited = tuple(sorted({*before.invited, *emails}))
    write(folder, People(invited=invited, names=before.names, accounts={**before.accounts, **accounts}))
