"""``stp-bench annotate serve`` and ``stp-bench annotate people``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import OUTPUT, DataHome, Debug, Json, home_of, option
from stp_bench.cli.annotate._options import SERVER, DryRun, Name, Url, connect
from stp_bench.errors import UserError, WorkError

SERVE_EXAMPLE = "Example: stp-bench annotate serve --install"
PEOPLE_EXAMPLE = "First: stp-bench annotate serve --install\n\nExample: stp-bench annotate people"
PEOPLE = "People"


def serve(
    port: Annotated[int, option(SERVER, "Port on this machine.", "--port", min=1, max=65535)] = 8080,
    install: Annotated[
        bool, option(SERVER, "First download Label Studio into an environment of its own.", "--install")
    ] = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Run a Label Studio on this machine, for this machine only, until Ctrl-C."""
    home = home_of(data_home)
    from stp_bench.annotate import server

    with working(as_json=as_json) as reporter, _stops_on_term():
        if install:
            server.install(home, reporter)
        with server.running(home, port=port, reporter=reporter) as running:
            said = {
                "schema": 1, "url": running.url, "email": running.email, "password_file": str(running.password_file),
                "pid": running.process.pid,
            }  # fmt: skip
            if as_json:
                _print_now(said)
            else:
                reporter.say(f"Label Studio is at {running.url}; Ctrl-C stops it")
                reporter.say(f"to sign in yourself: {running.email}, with the password in {running.password_file}")
                reporter.say("other 'stp-bench annotate' commands find it, and sign in, by themselves")
            code = running.process.wait()
            why = f"its process ended with code {code}"
            raise WorkError("Label Studio stopped by itself", why, f"see {server.folder(home) / 'server.log'}")


def _print_now(value: Any) -> None:
    """The one document, before the command ends: whoever started it waits for the address."""
    import json
    import sys

    print(json.dumps(value, indent=2), file=sys.__stdout__, flush=True)


@contextmanager
def _stops_on_term() -> Iterator[None]:
    """A polite kill ends the command as Ctrl-C does, lest the server outlive it."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def people(
    name: Name = None,
    create: Annotated[
        Path | None, option(PEOPLE, "Make accounts for the column 'email' of a CSV file.", "--create", metavar="FILE")
    ] = None,
    create_count: Annotated[
        int | None,
        option(PEOPLE, "Make accounts of numbered people without a mailbox.", "--create-count", min=1, max=100),
    ] = None,
    out: Annotated[
        Path | None, option(OUTPUT, "File for the new accounts' passwords, for your eyes alone.", metavar="CSV")
    ] = None,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Show the link by which annotators sign up, or make their accounts and invite them to a round."""
    home = home_of(data_home)
    from stp_bench.annotate import people as work
    from stp_bench.annotate._project import open_project, round_lock

    if create is not None and create_count is not None:
        raise UserError("two kinds of accounts are asked for", "--create and --create-count are given", "give one")
    if create is None and create_count is None:
        with working(as_json=as_json):
            studio = connect(home, url)
            invite, emails = studio.invite(), sorted(studio.users().values())
        _show_people(studio.url, invite, emails, as_json=as_json)
        return
    if out is None:
        why = "the passwords of new accounts go to a file, never to the screen"
        raise UserError("there is no place for the passwords", why, "name a file with --out")
    with working(as_json=as_json) as reporter:
        project = open_project(home, name)
        wanted = work.addresses(create) if create else work.numbered(project.name, create_count or 0)
        studio = connect(home, url, round_url=project.url)
        known = set(studio.users().values())
        made: list[str] = []
        there = [email for email in wanted if email in known]
        if not dry_run:
            with round_lock(project.folder):
                made, there = work.create(
                    studio.url, wanted, known=known, link=studio.invite, out=out.expanduser().absolute(),
                    reporter=reporter,
                )  # fmt: skip
                work.invite(project.folder, wanted, studio.users(), studio.url)
    new = [email for email in wanted if email not in there]

    def tables() -> Iterator[Any]:
        what = "would be made" if dry_run else "made"
        yield f"{len(new)} accounts {what}, {len(there)} were there; all are invited to {project.name}"
        if made:
            yield f"their passwords are in {out}: give each person theirs, then delete the file"
            yield f"they label at {studio.url}/projects/{project.project_id}/data?labeling=1"

    document = {
        "schema": 1, "name": project.name, "url": studio.url, "made": new, "there": there, "invited": wanted,
        "out": str(out) if made else None, "dry_run": dry_run,
        "label_at": f"{studio.url}/projects/{project.project_id}/data?labeling=1",
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def _show_people(url: str, invite: str, emails: list[str], *, as_json: bool) -> None:
    link = f"{url}/user/signup/?token={invite}"

    def tables() -> Iterator[Any]:
        listed = table("Accounts", "e-mail")
        for email in emails:
            listed.add_row(email)
        yield listed
        yield f"annotators sign up at {link}"
        yield "whoever has this link can sign up: give it to nobody else"

    show({"schema": 1, "url": url, "invite": link, "accounts": emails}, tables, as_json=as_json)
