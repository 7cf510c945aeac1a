"""``stp-bench inspect``."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import DATA, OUTPUT, DataHome, Debug, Device, Json, home_of, option
from stp_bench.config import PRESETS
from stp_bench.errors import UserError, unknown_name
from stp_bench.progress import Reporter

if TYPE_CHECKING:
    from stp_bench.viewer import Gathered, Plan

EXAMPLE = (
    "First: stp-bench evaluate --method stprivacy --preset tiny --out r\n\nExample: stp-bench inspect r --static page"
)
APP, FILES = "The App", "Pages and figures"
PORT, LIMIT = 5151, 500


def inspect(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Run folders of 'stp-bench evaluate', of the same videos; a comparison stands for its methods.",
            metavar="[RUN]...",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None, option(DATA, "Of several methods only these; repeatable.", "--method", metavar="NAME")
    ] = None,
    limit: Annotated[int, option(DATA, "Most videos to show: failures first.", min=1, metavar="N")] = LIMIT,
    frames: Annotated[
        str,
        option(
            DATA, "Videos whose frames show which tubelets were kept.", "--frames", choices=("failures", "all", "none")
        ),
    ] = "failures",
    annotations: Annotated[
        Path | None,
        option(DATA, "Look at votes (CSV or parquet); with RUN, mark its doubtful labels.", metavar="VOTES"),
    ] = None,
    on: Annotated[
        str | None,
        option(
            DATA, "Benchmark of the voted videos. \\[default: those of the labelling round]", "--on", metavar="BENCH"
        ),
    ] = None,
    preset: Annotated[
        str, option(DATA, "Sizes of that benchmark, if it is embedded.", "--preset", choices=PRESETS)
    ] = "small",
    view: Annotated[
        str | None, option(APP, "Saved view that the link opens, such as 'action lost'.", "--view", metavar="VIEW")
    ] = None,
    port: Annotated[int, option(APP, "Port of the App, on this machine only.", min=1, max=65535, metavar="N")] = PORT,
    build_only: Annotated[bool, option(APP, "Build the data set and do not start the App.", "--build-only")] = False,
    list_: Annotated[bool, option(APP, "List the data sets made by this command.", "--list")] = False,
    delete: Annotated[
        str | None, option(APP, "Delete one of them, with its rendered clips.", "--delete", metavar="NAME")
    ] = None,
    static: Annotated[
        Path | None,
        option(FILES, "Write a page with videos and contact sheets instead: needs no FiftyOne.", metavar="DIR"),
    ] = None,
    figure3: Annotated[
        list[str] | None,
        option(FILES, "Draw the paper's Figure 3 of these test videos.", "--figure3", metavar="VIDEO..."),
    ] = None,
    out: Annotated[
        Path | None, option(OUTPUT, "The figure's file; PDF and PNG are both written.", metavar="F.pdf")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """See raw, sparsified and anonymized videos side by side, with what leaked, in the FiftyOne App."""
    home = home_of(data_home)
    words = list(runs or [])
    if list_ or delete is not None:
        if words or annotations or static or figure3 or (list_ and delete is not None):
            raise UserError("--list and --delete stand alone", "they are about what is there", "leave the rest out")
        _list(home, as_json) if list_ else _delete(str(delete), home, as_json)
        return
    if (out is not None) != bool(figure3):
        missing = "--out" if figure3 else "--figure3"
        mend = "inspect RUN --figure3 VIDEO --out F.pdf"
        raise UserError(f"{missing} is missing", "a figure takes test videos and the name of a file", mend)
    if not words and annotations is None:
        raise UserError(
            "there is nothing to look at",
            "neither a run nor votes are given",
            "name a run folder, or see --list",
        )
    if figure3 and out is not None:
        # As the command is written: what follows --figure3 and is no folder is a further video.
        paths = [word for word in words if Path(word).expanduser().exists()]
        videos = [*figure3, *(word for word in words if word not in paths)]
        _figure(_Choice(paths, method or [], None, limit, device, home), videos, out, as_json)
        return
    if not words and static is not None:
        raise UserError("--static shows runs", "votes are looked at in the App", "leave --static out, or name a run")
    if annotations is None and on is not None:
        raise UserError("--on belongs to --annotations", "a run knows its benchmark", "leave it out")
    choice = _Choice(words, method or [], annotations, limit, device, home)
    if static is not None:
        _page(choice, static.expanduser().absolute(), as_json)
        return
    from stp_bench import viewer

    if not build_only:
        viewer.check_port(port)
    with working(as_json=as_json) as reporter:
        viewer.prepare(home)
        total = None
        if words:
            gathered, margins = _gather(choice, reporter)
            total = gathered.total
            plan = viewer.plan_of(gathered.runs, gathered.records, gathered.media, frames=frames, margins=margins)
        else:
            assert annotations is not None  # refused above
            voted = viewer.open_votes(annotations, home, on=on, preset=preset)
            plan = viewer.plan_of_votes(voted, home, reporter, limit=limit)
        if view is not None and view not in plan.views:
            raise unknown_name("saved view", view, plan.views)
        built = viewer.build(plan, reporter)
    _app(plan, total, built=built, view=view, port=None if build_only else port, as_json=as_json)


class _Choice(NamedTuple):
    """What is to be looked at."""

    runs: list[str]
    methods: list[str]
    votes: Path | None
    limit: int
    device: str
    home: Path


def _gather(choice: _Choice, reporter: Reporter) -> tuple[Gathered, Mapping[str, Mapping[str, int]]]:
    """The runs' videos, and the margins of the votes on them where there are any."""
    from stp_bench import viewer

    opened = viewer.open_runs([Path(word) for word in choice.runs], choice.methods)
    margins = viewer.read_margins(choice.votes) if choice.votes else {}
    gathered = viewer.gather(opened, choice.home, reporter, limit=choice.limit, device=choice.device, margins=margins)
    return gathered, margins


def _app(plan: Plan, total: int | None, *, built: bool, view: str | None, port: int | None, as_json: bool) -> None:
    """Say what was built and, with a port, show it until Ctrl-C."""
    from stp_bench import viewer

    url = None
    if port is not None:
        url = viewer.link(plan.name, port) + (f"?view={viewer.slug(view)}" if view else "")
    document = {
        "schema": 1, "dataset": plan.name, "videos": len(plan.groups),
        "judged": len(plan.groups) if total is None else total, "built": built, "slices": list(plan.slices),
        "views": dict(plan.views), "url": url,
    }  # fmt: skip

    def tables() -> Iterator[RenderableType]:
        yield _counts(f"{plan.name}: {len(plan.groups)} videos", plan.views, plan.explained)
        if total is not None and total > len(plan.groups):
            yield f"{total} videos were judged; --limit shows more of them"
        if not built:
            yield "it was there already, and is unchanged"
        if url is not None:
            yield f"open {url}"
            yield "stop with Ctrl-C; the App shows any of your files to who can reach it: only this machine can"

    if port is None:
        show(document, tables, as_json=as_json)
        return
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:  # Ctrl-C is the way to end it
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the App's server would outlive us for a while
        with working(as_json=as_json) as reporter:
            reporter.say("starting the App")
            stack.enter_context(viewer.opened(plan.name, port))
        show(document, tables, as_json=as_json)
        sys.stdout.flush()
        with working(as_json=True):  # from now on only the library would print
            while True:
                time.sleep(3600)


def _counts(title: str, views: Mapping[str, int], explained: Mapping[str, str]) -> RenderableType:
    found = table(title, "view", "videos", "what it means")
    found.columns[2].justify = "left"
    for name, count in views.items():
        found.add_row(escape(name), str(count), escape(explained[name]))
    return found


def _page(choice: _Choice, out: Path, as_json: bool) -> None:
    with working(as_json=as_json) as reporter:
        from stp_bench import viewer

        gathered, _ = _gather(choice, reporter)
        files = viewer.write_site(gathered, out, reporter)
    counts = {name: count for name, count in gathered.counts.items() if count}
    document = {
        "schema": 1, "folder": str(out), "videos": len(gathered.records),
        "judged": gathered.total, "views": counts, "files": files,
    }  # fmt: skip

    def tables() -> Iterator[RenderableType]:
        meanings = {name: viewer.explained(name) for name in counts}
        yield _counts(f"{len(gathered.records)} of {gathered.total} videos", counts, meanings)
        yield f"page: {escape(str(out / 'index.html'))}"

    show(document, tables, as_json=as_json)


def _figure(choice: _Choice, videos: list[str], out: Path, as_json: bool) -> None:
    paths = choice.runs
    if not paths:
        raise UserError("no run is named", f"none of {', '.join(videos)} is a folder", "name the folder of a run first")
    with working(as_json=as_json) as reporter:
        from stp_bench import viewer

        opened = viewer.open_runs([Path(path) for path in paths], choice.methods)
        out = out.expanduser().absolute()
        found = viewer.figure3(opened, videos, out, choice.home, reporter, limit=choice.limit, device=choice.device)

    def tables() -> Iterator[RenderableType]:
        made = table(
            f"Similarity to raw, mean over {found['videos']} test videos (1: the same, 0: unrelated)",
            "method", "edges", "SSIM", "edges, only sparsified", "SSIM, only sparsified", "tubelets kept",
        )  # fmt: skip
        for label, of in found["methods"].items():
            black = of["sparsified"] or {"edge_similarity": None, "ssim": None}
            values = (of["edge_similarity"], of["ssim"], black["edge_similarity"], black["ssim"], of["kept"])
            made.add_row(escape(label), *("–" if value is None else f"{value:.3f}" for value in values))
        yield made
        yield from (escape(path) for path in found["files"])

    show({"schema": 1, **found}, tables, as_json=as_json)


def _list(home: Path, as_json: bool) -> None:
    with working(as_json=as_json):
        from stp_bench import viewer

        viewer.prepare(home)
        found = viewer.listed()

    def tables() -> Iterator[RenderableType]:
        made = table(None, "data set", "videos", "of", "methods", "built (UTC)")
        for row in found:
            made.add_row(
                row["name"], str(row["videos"]), escape(str(row["of"])), ", ".join(row["methods"]), row["created"]
            )
        yield made if found else "there are no data sets yet; make one: stp-bench inspect RUN"

    show({"schema": 1, "datasets": found}, tables, as_json=as_json)


def _delete(name: str, home: Path, as_json: bool) -> None:
    with working(as_json=as_json):
        from stp_bench import viewer
        from stp_bench.files import human_bytes

        viewer.prepare(home)
        viewer.delete(name)
        freed = viewer.remove_unused(home, {place for row in viewer.listed() for place in row["media"]})
    document: dict[str, Any] = {"schema": 1, "deleted": name, "freed_bytes": freed}
    show(document, lambda: [f"deleted {name}, and {human_bytes(freed)} of rendered clips"], as_json=as_json)
