"""``stp-bench cache`` and ``stp-bench runs``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._errors import Group
from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import DATA, GENERAL, DataHome, Debug, Json, home_of, option
from stp_bench.cli._results import aggregate_tables, result_tables
from stp_bench.errors import UserError, unknown_name
from stp_bench.files import human_bytes

if TYPE_CHECKING:
    from stp_bench.stored import Item, Run

cache = typer.Typer(
    cls=Group,
    help="See what is stored, how large it is, and remove what can be made again.",
    epilog="Example: stp-bench cache list",
    no_args_is_help=True,
)
runs = typer.Typer(
    cls=Group,
    help="Past runs and their results.",
    epilog="Example: stp-bench runs list",
    no_args_is_help=True,
)

_KINDS = ("unfinished", "stages", "clips", "data")
_MEANT = {
    "unfinished": "stages that were interrupted",
    "stages": "finished fits, recognizers and scores",
    "clips": "decoded videos",
    "data": "embedded benchmarks",
}


@cache.command("list", epilog="Example: stp-bench cache list")
def list_(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List what is stored and could be made again."""
    home = home_of(data_home)
    with working(as_json=as_json):
        from stp_bench import stored

        found = stored.items(home)

    def tables() -> Iterator[RenderableType]:
        sums = table(f"What could be made again in {home}", "kind", "folders", "size", "in use by runs")
        for kind in _KINDS:
            of = [item for item in found if item.kind == kind]
            used = sum(bool(item.used_by) for item in of)
            size = human_bytes(sum(item.bytes for item in of))
            sums.add_row(f"{kind}: {_MEANT[kind]}", str(len(of)), size, str(used) if kind == "stages" else "")
        sums.add_section()
        sums.add_row("all", str(len(found)), human_bytes(sum(item.bytes for item in found)), "")
        yield sums
        yield "remove what no run needs: stp-bench cache prune"

    show({"schema": 1, "data_home": str(home), "items": [_item(i) for i in found]}, tables, as_json=as_json)


@cache.command(epilog="Example: stp-bench cache prune --older-than 7")
def prune(
    what: Annotated[
        list[str] | None,
        option(
            DATA,
            "unfinished, stages (those that no run of the data home stands on), clips or data; repeatable. "
            "\\[default: unfinished and stages]",
            "--what",
            metavar="KIND",
        ),
    ] = None,
    older_than: Annotated[float, option(DATA, "Only what was written so many days ago.", metavar="DAYS", min=0)] = 30,
    yes: Annotated[bool, option(GENERAL, "Remove it; else it is only listed.", "--yes")] = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Remove what can be made again and no run needs. Runs, labels and indexes of real data stay."""
    home = home_of(data_home)
    for kind in what or ():
        if kind not in _KINDS:
            raise unknown_name("kind", kind, _KINDS)
    with working(as_json=as_json) as reporter:
        from stp_bench import stored

        kinds = [kind for kind in stored.KINDS if kind in (what or ("unfinished", "stages"))]
        chosen = stored.removable(stored.items(home), kinds, older_than=older_than)
        gone: list[Item] = []
        if yes:
            with reporter.stage("remove", len(chosen), "folders") as task:
                for item in chosen:
                    if stored.remove(item):
                        gone.append(item)
                    else:
                        reporter.say(f"{item.kind} {item.name} stays: a process is working on it")
                    task.advance()

    def tables() -> Iterator[RenderableType]:
        of = gone if yes else chosen
        size = human_bytes(sum(item.bytes for item in of))
        if not yes and of:
            listed = table("To be removed", "what", "written", "size")
            for item in of:
                listed.add_row(escape(f"{item.kind}: {item.name}"), _date(item.modified), human_bytes(item.bytes))
            yield listed
        yield f"removed {len(of)} folders, {size}" if yes else f"{len(of)} folders, {size}"
        if not yes and of:
            yield "nothing is removed yet: the same command with --yes does it"

    document = {"schema": 1, "removed": yes, "items": [_item(item) for item in (gone if yes else chosen)]}
    show(document, tables, as_json=as_json)


@runs.command("list", epilog="Example: stp-bench runs list")
def list_runs(as_json: Json = False, data_home: DataHome = None, debug: Debug = False) -> None:
    """List the runs of the data home, the newest first."""
    home = home_of(data_home)
    with working(as_json=as_json):
        from stp_bench import stored

        rows = [row for run in stored.runs(home) for row in _rows(run)]

    def tables() -> Iterator[RenderableType]:
        if not rows:
            yield f"{home / 'runs'} has no runs yet: make one with 'stp-bench evaluate'"
            return
        listed = table(
            f"Runs in {home / 'runs'}", "run", "method", "on", "seeds", "Top-1 ↑", "cMAP ↓", "excess ↓", "date"
        )
        for row in rows:
            figures = ("–" if row[key] is None else f"{row[key]:.1f}" for key in ("top1", "cmap", "worst_excess"))
            on = f"{row['protocol']}, {row['on']}" if row["on"] else str(row["protocol"])
            state = "" if row["finished"] else " (unfinished)"
            words = (escape(word) for word in (row["run"] + state, row["method"], on))
            listed.add_row(*words, ", ".join(map(str, row["seeds"])), *figures, row["date"])
        yield listed
        yield "one of them in full: stp-bench runs show RUN"

    show({"schema": 1, "data_home": str(home), "runs": rows}, tables, as_json=as_json)


@runs.command(
    "show",
    epilog="First: stp-bench evaluate --method raw --preset tiny --out first\n\nExample: stp-bench runs show first",
)
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A name of 'stp-bench runs list', or a run folder.")],
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Show a run's result again."""
    home = home_of(data_home)
    with working(as_json=as_json):
        from stp_bench import stored

        found = stored.find_run(home, run)
        document = found.document
        if document is None:
            why = "the run is unfinished, or its result damaged"
            raise UserError(f"{found.path} has no result", why, "run its command again: what was finished is kept")

    def tables() -> Iterator[RenderableType]:
        yield from aggregate_tables(document) if document.get("kind") == "aggregate" else result_tables(document)
        yield f"run folder: {escape(str(found.path))}"

    show(document, tables, as_json=as_json)


def _item(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind, "name": item.name, "path": str(item.path), "bytes": item.bytes,
        "written": _date(item.modified), "used_by": list(item.used_by),
    }  # fmt: skip


def _rows(run: Run) -> list[dict[str, Any]]:
    """A row per method of a run."""
    document, made = run.document, run.made
    head = {"run": run.name, "path": str(run.path), "date": _date(run.modified)}
    if document is None:
        fields = {key: str(made.get(key, "")) for key in ("method", "protocol", "fit_on")}
        seeds: Sequence[Any] = [made["seed"]] if "seed" in made else []
        lacking = dict.fromkeys(("top1", "cmap", "worst_excess"))
        return [{**head, **fields, "on": "", "seeds": seeds, **lacking, "finished": False}]
    if document.get("kind") == "aggregate":
        return [
            {
                **head,
                **{key: one[key] for key in ("method", "protocol", "fit_on", "on", "seeds")},
                **{key: one["metrics"][key]["mean"] for key in ("top1", "cmap", "worst_excess")},
                "finished": True,
            }
            for one in document["aggregates"]
        ]
    metrics = document["metrics"]
    figures = {"top1": metrics["top1"], "cmap": metrics["cmap"], "worst_excess": metrics["worst"]["excess"]}
    fields = {key: document[key] for key in ("method", "protocol", "fit_on", "on")}
    return [{**head, **fields, "seeds": [document["seed"]], **figures, "finished": True}]


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
