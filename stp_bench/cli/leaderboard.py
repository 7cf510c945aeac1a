"""``stp-bench leaderboard``."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._errors import Group
from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import OUTPUT, DataHome, Debug, Json, home_of, option
from stp_bench.errors import WorkError

if TYPE_CHECKING:
    from stp_bench.progress import Reporter
    from stp_leaderboard.proof import Verdict

SUBMISSION = "Submission"

app = typer.Typer(
    cls=Group,
    help="Submit results, check them by their predictions, and show them on a page.",
    epilog="Example: stp-bench leaderboard build",
    no_args_is_help=True,
)

Records = Annotated[
    Path | None,
    option(SUBMISSION, "Folder of records. \\[default: leaderboard/records in the data home]", metavar="DIR"),
]
PageFolder = Annotated[
    Path | None, option(OUTPUT, "Folder of the page. \\[default: leaderboard/page in the data home]", metavar="DIR")
]


@app.command(
    epilog="First: stp-bench evaluate --method raw --preset tiny --out first\n\n"
    "Example: stp-bench leaderboard submit first --submitter me"
)
def submit(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, or a comparison, of 'stp-bench runs list' or a folder.")
    ],
    submitter: Annotated[str, option(SUBMISSION, "Who answers for it; will be public.", metavar="NAME")],
    tables: Annotated[
        str | None,
        option(
            SUBMISSION,
            "Where everyone can get the predictions, if they shall not stay beside the record.",
            metavar="URL",
        ),
    ] = None,
    date: Annotated[
        datetime.datetime | None,
        option(SUBMISSION, "Day of submission. \\[default: today]", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD"),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Folder of records to add to, or a .zip to write. \\[default: leaderboard/records in the data home]",
            metavar="PATH",
        ),
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Pack a run as a submission: a record, and the predictions from which everyone can recompute it.

    Every figure is recomputed before anything is written. For the public leaderboard, add to leaderboard/records of a
    clone and open a pull request.
    """
    home = home_of(data_home)
    where = out.expanduser().absolute() if out else home / "leaderboard" / "records"
    day = date.date() if date else datetime.date.today()
    with working(as_json=as_json) as reporter, tempfile.TemporaryDirectory() as name:
        from stp_bench.stored import find_run
        from stp_leaderboard import proof, submission

        packed = Path(name)
        runs = submission.runs_in(find_run(home, run).path)
        records = [submission.pack(r, packed, submitter=submitter, date=day, tables=tables) for r in runs]
        verdicts = proof.prove(submission.open_submissions(packed, packed), home, reporter)
        _stop_at(verdicts)
        submission.add(packed, where)

    def result() -> Iterator[RenderableType]:
        for record, verdict in zip(sorted(r.file_name for r in records), verdicts, strict=True):
            yield f"recomputed and packed: {escape(record)}"
            for note in verdict.unchecked:
                yield escape(f"  not checked: {note}")
        yield f"written to {escape(str(where))}"

    document = {"schema": 1, "out": str(where), "records": sorted(r.file_name for r in records)}
    show(document, result, as_json=as_json)


@app.command(
    epilog="First: stp-bench evaluate --method raw --preset tiny --out first\n\n"
    "Example: stp-bench leaderboard check first"
)
def check(
    submissions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Records, folders of them, submissions (.zip), or run folders. \\[default: leaderboard/records in the "
            "data home]",
        ),
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Recompute every figure of submissions from their predictions, and name what differs.

    Videos, labels, splits and training counts are compared with the benchmark's index where the data home has it.
    """
    home = home_of(data_home)
    paths = [path.expanduser() for path in submissions or [home / "leaderboard" / "records"]]
    with working(as_json=as_json) as reporter:
        verdicts = _verdicts(paths, home, reporter)

    def result() -> Iterator[RenderableType]:
        listed = table(None, "submission", "outcome", "why")
        for verdict in verdicts:
            lines = [text for _, text in verdict.problems] + [f"not checked: {note}" for note in verdict.unchecked]
            outcome = "[green]holds[/]" if verdict.holds else "[red]refused[/]"
            listed.add_row(escape(Path(verdict.source).name), outcome, escape("\n".join(lines)) or "–")
        listed.columns[2].justify = "left"
        if verdicts:
            yield listed
        yield f"{sum(v.holds for v in verdicts)} of {len(verdicts)} hold"

    show({"schema": 1, "submissions": [_document(v) for v in verdicts]}, result, as_json=as_json)
    _stop_at(verdicts)


@app.command(epilog="Example: stp-bench leaderboard build")
def build(
    records: Records = None,
    out: PageFolder = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Make the page: standings of all records that hold, a page per method, and the published figures apart.

    Records are checked first. One that does not hold is listed with the reason, and the command ends with code 1.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        index, verdicts = _build(records, out, home, reporter)

    def result() -> Iterator[RenderableType]:
        yield f"{sum(v.holds for v in verdicts)} of {len(verdicts)} records hold"
        yield f"page: {escape(str(index))}"

    show({"schema": 1, "page": str(index), "records": [_document(v) for v in verdicts]}, result, as_json=as_json)
    _stop_at(verdicts)


@app.command(epilog="Example: stp-bench leaderboard serve")
def serve(
    records: Records = None,
    out: PageFolder = None,
    port: Annotated[int, option(OUTPUT, "Port on this machine; 0 for any free one.", min=0, max=65535)] = 8010,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Make the page and show it in a browser on this machine only, until Ctrl-C."""
    from stp_leaderboard.serve import open_server

    home = home_of(data_home)
    where = _page_folder(out, home)
    with open_server(where, port) as server:  # before the work: a taken port is told at once
        with working(as_json=as_json) as reporter:
            _, verdicts = _build(records, out, home, reporter)
            for verdict in verdicts:
                if not verdict.holds:
                    reporter.say(f"refused: {Path(verdict.source).name}: {_first(verdict)}")
        url = f"http://{server.server_address[0]!s}:{server.server_address[1]}/"
        document = {"schema": 1, "url": url, "page": str(where)}
        show(document, lambda: [f"{url} (stop with Ctrl-C)"], as_json=as_json)
        sys.stdout.flush()  # whoever waits for the address must not wait for the end
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _build(records: Path | None, out: Path | None, home: Path, reporter: Reporter) -> tuple[Path, Sequence[Verdict]]:
    """Check the records and write the page; its index."""
    from stp_leaderboard import page

    folder, where = records.expanduser() if records else home / "leaderboard" / "records", _page_folder(out, home)
    page.claim(where)  # before the work: a folder of something else is told at once
    if records is None and not folder.exists():
        reporter.say(f"there are no records in {folder} yet: the page has the published figures only")
        verdicts: Sequence[Verdict] = ()
    else:
        verdicts = _verdicts([folder], home, reporter)
    return page.build(verdicts, where)[0], verdicts


def _page_folder(out: Path | None, home: Path) -> Path:
    return out.expanduser().absolute() if out else home / "leaderboard" / "page"


def _verdicts(paths: Sequence[Path], home: Path, reporter: Reporter) -> list[Verdict]:
    """What comes of the submissions at some paths; a run folder is packed first."""
    from stp_bench.results import RESULT
    from stp_leaderboard import proof, submission

    found = []
    with tempfile.TemporaryDirectory() as name:
        for number, path in enumerate(paths):
            scratch = Path(name) / str(number)
            scratch.mkdir()
            if (path / RESULT).is_file():
                for run in submission.runs_in(path):
                    submission.pack(run, scratch, submitter="not submitted", date=datetime.date.today())
                found += submission.open_submissions(scratch, scratch)
            else:
                found += submission.open_submissions(path, scratch)
        return proof.prove(found, home, reporter)


def _document(verdict: Verdict) -> dict[str, Any]:
    result = verdict.record.result if verdict.record else None
    return {
        "source": verdict.source, "holds": verdict.holds, "method": result.method if result else None,
        "problems": [{"field": field, "message": text} for field, text in verdict.problems],
        "unchecked": list(verdict.unchecked),
    }  # fmt: skip


def _first(verdict: Verdict) -> str:
    """The first problem of a verdict, and how many more there are."""
    more = f" (and {len(verdict.problems) - 1} more)" if len(verdict.problems) > 1 else ""
    return verdict.problems[0][1] + more


def _stop_at(verdicts: Sequence[Verdict]) -> None:
    """End the command with code 1 where a submission does not hold."""
    if bad := [verdict for verdict in verdicts if not verdict.holds]:
        count = "a submission is" if len(bad) == 1 else f"{len(bad)} submissions are"
        raise WorkError(
            f"{count} refused", f"{Path(bad[0].source).name}: {_first(bad[0])}", "submit the run's own files, unchanged"
        )
