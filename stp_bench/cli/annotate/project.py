"""``stp-bench annotate init``, ``status``, ``pull``, ``adjudicate`` and ``purge``: a round on the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from stp_bench.cli._io import seconds_text, show, table, working
from stp_bench.cli._options import DATA, DataHome, Debug, Json, SkipUnreadable, home_of, option
from stp_bench.cli.annotate._options import SERVER, DryRun, Name, Url, Workers, connect
from stp_bench.cli.data import DATA_PRESETS, SMALL

if TYPE_CHECKING:
    from stp_bench.annotate.rounds import Plan, Pulled, SetUp
    from stp_bench.annotate.standing import Standing
    from stp_bench.progress import Reporter

_SERVER_FIRST = "First: stp-bench annotate serve --install\n\n"
INIT_EXAMPLE = _SERVER_FIRST + "Example: stp-bench annotate init synth-hmdb --preset tiny --name trial"
_INIT_FIRST = "First: stp-bench annotate init synth-hmdb --preset tiny --name trial\n\n"
STATUS_EXAMPLE = _INIT_FIRST + "Example: stp-bench annotate status trial"
PULL_EXAMPLE = _INIT_FIRST + "Example: stp-bench annotate pull trial"
ADJUDICATE_EXAMPLE = "First: stp-bench annotate vote trial\n\nExample: stp-bench annotate adjudicate trial"
PURGE_EXAMPLE = _INIT_FIRST + "Example: stp-bench annotate purge trial --dry-run"
PEOPLE = "People"
ASSIST = "Help by a model"
PAPER_ANNOTATORS = 4
"""The paper's "more than three"."""


def init(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A benchmark of 'stp-bench data list', or a folder of videos.")
    ],
    name: Annotated[str, option(DATA, "Name of the labelling round.", "--name", metavar="NAME")],
    title: Annotated[
        str | None, option(SERVER, "What annotators see. \\[default: the round's name]", "--title", metavar="T")
    ] = None,
    annotators: Annotated[
        int | None,
        option(
            PEOPLE, "How many people answer for each video; an odd number has fewer ties. \\[default: 5]", min=1, max=99
        ),
    ] = None,
    preset: Annotated[
        str | None,
        option(DATA, "Sizes of embedded data. \\[default: small]", "--preset", choices=DATA_PRESETS),
    ] = None,
    data_seed: Annotated[int, option(DATA, "Seed that embedded data are drawn from.", "--data-seed", min=0)] = 0,
    skip_unreadable: SkipUnreadable = False,
    upload: Annotated[
        bool, option(SERVER, "Send the videos to the server, which cannot see this disk.", "--upload")
    ] = False,
    predictions: Annotated[
        Path | None,
        option(ASSIST, "Predictions of a run: videos that it is unsure of come first.", metavar="PARQUET"),
    ] = None,
    prefill: Annotated[
        bool, option(ASSIST, "Open the forms with its answers: this biases people, and is recorded.", "--prefill")
    ] = False,
    workers: Workers = None,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Set up a labelling round: browser-playable copies of the videos, a project, a task per video."""
    home = home_of(data_home)
    from stp_bench.annotate import rounds
    from stp_bench.annotate._project import check_name

    with working(as_json=as_json) as reporter:
        check_name(name)
        studio = connect(home, url)
        about, videos = _videos(source, preset, data_seed, home, reporter, make=not dry_run)
        plan = rounds.Plan(
            name=name, title=_title(title, name), source=about, videos=videos, annotators=annotators, upload=upload,
            predictions=predictions, prefill=prefill,
        )  # fmt: skip
        _warn(plan, reporter)
        done = rounds.set_up(
            home, plan, studio, workers=workers, skip_unreadable=skip_unreadable, dry_run=dry_run, reporter=reporter
        )
    project = done.project
    label_at = f"{studio.url}/projects/{project.project_id}/data?labeling=1" if project else None

    def tables() -> Iterator[RenderableType]:
        yield from _init_lines(done, plan, label_at)

    document = {
        "schema": 1, "name": name, "source": about, "url": studio.url, "dry_run": dry_run,
        "annotators": project.annotators if project else annotators,
        "project_id": project.project_id if project else None, "label_at": label_at,
        "folder": str(project.folder) if project else None, "prefilled": project.prefilled if project else prefill,
        **{f: getattr(done, f) for f in ("videos", "copied", "created", "imported", "changed", "extra", "twice")},
        "unreadable": dict(done.unreadable),
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def _title(title: str | None, name: str) -> str:
    """The server wants at least three letters."""
    return title if title and len(title) >= 3 else f"Labels: {title or name}"


def _videos(
    source: str, preset: str | None, seed: int, home: Path, reporter: Reporter, *, make: bool
) -> tuple[str, dict[str, Path]]:
    """What the source is called, and its videos; ``make`` embedded data where they are missing."""
    from stp_bench import catalogue
    from stp_bench.annotate import media

    if source.partition("@")[0] not in catalogue.names(home):
        folder = Path(source).expanduser().absolute()
        return str(folder), media.find_videos(folder)
    preset = preset or SMALL
    if make:
        dataset = catalogue.dataset(source, preset=preset, seed=seed, home=home, reporter=reporter)
    else:
        dataset = catalogue.prepared(source, preset=preset, seed=seed, home=home)
    about = source if catalogue.is_real(source, home) else f"{source} ({preset}, seed {seed})"
    return about, {video.video_id: dataset.path(video) for video in dataset.videos}


def _warn(plan: Plan, reporter: Reporter) -> None:
    if plan.annotators is not None and plan.annotators < PAPER_ANNOTATORS:
        reporter.say(
            f"warning: {plan.annotators} annotators are fewer than the paper's more than three: "
            f"'annotate vote' will need --min-votes {plan.annotators}, and the release says so"
        )
    elif plan.annotators is not None and plan.annotators % 2 == 0:
        reporter.say(f"warning: {plan.annotators} is even: more votes will be tied and need an expert")
    if plan.prefill:
        reporter.say(
            "warning: forms that open with a model's answers are not independent; 'pull' leaves such votes out"
        )


def _init_lines(done: SetUp, plan: Plan, label_at: str | None) -> Iterator[RenderableType]:
    if done.project is None:
        made = "would be created" if done.created else "is there"
        yield (
            f"{plan.name}: {done.videos:,} videos, about {done.copied:,} to be copied; the project {made}, "
            f"{done.imported:,} tasks would be imported"
        )
    else:
        made = "created" if done.created else "found again"
        yield (
            f"[bold]{plan.name}[/]: {done.videos:,} videos ({done.copied:,} newly copied), project {made}, "
            f"{done.imported:,} tasks imported, {done.project.annotators} annotators each"
        )
    if done.unreadable:
        yield f"left out, unreadable: {_some(done.unreadable)}"
    if done.changed:
        yield f"brought up to date: {_some(done.changed)}"
    if done.extra:
        yield f"[yellow]on the server, but not among the videos: {_some(done.extra)}[/]"
    if done.twice:
        yield f"[yellow]with several tasks on the server: {_some(done.twice)}[/]"
    if label_at:
        yield f"people label at {label_at}"
        yield f"next: stp-bench annotate people {plan.name} --create people.csv --out accounts.csv"


def status(
    name: Name = None,
    repair: Annotated[
        bool, option(SERVER, "Put back the interface, and make the server count anew.", "--repair")
    ] = False,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Show how far a round is: per person and attribute, by our own count."""
    home = home_of(data_home)
    from stp_bench.annotate import rounds
    from stp_bench.annotate._project import open_project

    with working(as_json=as_json) as reporter:
        project = open_project(home, name)
        studio = connect(home, url, round_url=project.url)
        found = rounds.status(home, project, studio, repair=repair, dry_run=dry_run, reporter=reporter)
    document = {"schema": 1, "name": project.name, "url": project.url, **dataclasses.asdict(found)}
    show(document, lambda: _status_tables(project.name, found), as_json=as_json)


def _status_tables(name: str, found: Standing) -> Iterator[RenderableType]:
    people = table("People", "annotator", "videos", "of", "set aside", "skipped", "not sure", "median time")
    for one in found.people:
        time = "–" if one.seconds is None else seconds_text(one.seconds)
        people.add_row(
            one.name, f"{one.videos:,}", f"{found.videos:,}", f"{one.set_aside:,}", f"{one.skipped:,}",
            f"{one.unsure:.1%}", time,
        )  # fmt: skip
    yield people
    attributes = table(
        "Attributes", "attribute", "complete", "yes", "no", "not sure", "disputed",
        caption="complete: videos with all answers asked for; disputed: with a yes and a no, of those with two answers",
    )  # fmt: skip
    for progress in found.attributes:
        attributes.add_row(
            progress.attribute, f"{progress.complete:,} of {found.videos:,}", f"{progress.yes:,}",
            f"{progress.no:,}", f"{progress.unsure:,}", f"{progress.disputed:,} of {progress.compared:,}",
        )  # fmt: skip
    yield attributes
    left = "" if found.remaining is None else f", about {seconds_text(found.remaining)} of work left in all"
    yield f"[bold]{name}[/]: {found.answered:,} of {found.wanted:,} forms, {found.complete:,} videos complete{left}"
    if found.rejected:
        yield "set aside: " + ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in found.rejected.items())
    if found.drafts:
        yield f"begun and not submitted: {found.drafts:,}"
    if found.missing:
        yield f"[yellow]without a task on the server: {_some(found.missing)}; run 'annotate init' again[/]"
    if found.extra:
        yield f"[yellow]on the server, but not among the videos: {_some(found.extra)}[/]"
    if found.twice:
        yield f"[yellow]with several tasks on the server: {_some(found.twice)}[/]"
    if found.wrong_counters:
        yield f"the server counts {found.wrong_counters:,} videos wrong; no count of ours uses its counters"
    if found.wrong_states and not found.repaired:
        yield f"[yellow]the server is wrong on whether {found.wrong_states:,} videos are complete: --repair mends it[/]"
    for fault in found.faults:
        yield f"[yellow]{fault}[/]"
    if found.repaired:
        yield "repaired: the interface is as it should be, and the server knows again which videos are complete"


def pull(
    name: Name = None,
    accept_prefilled: Annotated[
        bool, option(ASSIST, "Count answers that started from a model's.", "--accept-prefilled")
    ] = False,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Bring the annotations of a round into its folder, and make the table of votes."""
    home = home_of(data_home)
    from stp_bench.annotate import rounds
    from stp_bench.annotate._project import open_project

    with working(as_json=as_json) as reporter:
        project = open_project(home, name)
        studio = connect(home, url, round_url=project.url)
        found = rounds.pull(home, project, studio, allow_prefilled=accept_prefilled, dry_run=dry_run, reporter=reporter)
    _show_pulled(project.name, project.folder, found, as_json=as_json)


def _show_pulled(name: str, folder: Path, found: Pulled, *, as_json: bool) -> None:
    votes, rejects = found.extracted
    merged = found.merged
    rejected = {str(why): int(count) for why, count in rejects["reason"].value_counts().sort_index().items()}
    changes = {f: getattr(merged, f) if merged else None for f in ("new", "changed", "gone")}

    def tables() -> Iterator[RenderableType]:
        people = votes["annotator"].nunique()
        yield f"[bold]{name}[/]: {len(votes):,} votes of {people} people on {votes['video_id'].nunique():,} videos"
        if merged:
            yield f"{merged.new:,} new, {merged.changed:,} changed, {merged.gone:,} gone since the last time"
        if rejected:
            yield "set aside: " + ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in rejected.items())
        if found.prefilled:
            yield "[yellow]some answers started from a model's: they are not independent[/]"
        yield f"written to {folder / 'votes.parquet'}" if merged else "nothing was written"

    document = {
        "schema": 1, "name": name, "tasks": found.tasks, "votes": len(votes),
        "annotators": int(votes["annotator"].nunique()), "rejected": rejected, **changes, "prefilled": found.prefilled,
        "export": str(found.export) if found.export else None, "folder": str(folder), "dry_run": merged is None,
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def adjudicate(
    name: Name = None,
    collect: Annotated[bool, option(SERVER, "Bring the expert's answers back instead.", "--collect")] = False,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Send what no majority decided to an expert, who did not vote; or bring the answers back."""
    home = home_of(data_home)
    from stp_bench.annotate import disputes
    from stp_bench.annotate._project import open_project

    with working(as_json=as_json) as reporter:
        project = open_project(home, name)
        studio = connect(home, url, round_url=project.url)
        if collect:
            pulled = disputes.collect(home, project, studio, dry_run=dry_run, reporter=reporter)
            sent = None
        else:
            sent = disputes.dispatch(project, studio, dry_run=dry_run, reporter=reporter)
    if sent is None:
        _show_pulled(project.name, project.folder, pulled, as_json=as_json)
        return
    label_at = f"{studio.url}/projects/{sent.project_id}/data?labeling=1" if sent.project_id else None

    def tables() -> Iterator[RenderableType]:
        would = "would be " if dry_run else ""
        yield (
            f"[bold]{project.name}[/]: {sent.disputes:,} disputes on {sent.videos:,} videos; {sent.imported:,} videos "
            f"{would}sent, {len(sent.changed):,} {would}brought up to date"
        )
        if label_at:
            yield f"an expert who did not vote answers at {label_at}"
            yield f"then: stp-bench annotate adjudicate {project.name} --collect"

    document = {"schema": 1, "name": project.name, **dataclasses.asdict(sent), "label_at": label_at, "dry_run": dry_run}
    show(document, tables, as_json=as_json)


def purge(
    name: Name = None,
    yes: Annotated[bool, option(DATA, "Really delete.", "--yes")] = False,
    server: Annotated[
        bool, option(SERVER, "Delete the round's projects on the server too, with every annotation.", "--server")
    ] = False,
    url: Url = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Delete what a round holds of persons (copies of videos, raw exports, names); pseudonymous votes stay."""
    home = home_of(data_home)
    from stp_bench.annotate import rounds
    from stp_bench.annotate._project import open_project

    with working(as_json=as_json):
        project = open_project(home, name)
        studio = connect(home, url, round_url=project.url) if server else None
        found = rounds.purge(home, project, studio, really=yes and not dry_run)

    def tables() -> Iterator[RenderableType]:
        what = "deleted" if found.done else "would be deleted"
        yield (
            f"[bold]{project.name}[/]: {found.media:,} copies of videos, {found.exports:,} exports, names of "
            f"{found.people:,} people, {len(found.projects)} projects on the server {what}"
        )
        if found.server_exports:
            yield f"{found.server_exports:,} copies of exports that the server kept {what}"
        if not found.done:
            yield "nothing was deleted: --yes does it"
        yield f"the votes under pseudonyms stay in {project.folder}"

    show({"schema": 1, "name": project.name, **dataclasses.asdict(found)}, tables, as_json=as_json)


def _some(names: Any) -> str:
    """``3 (a, b, c)``, with at most the first five."""
    listed = list(names)
    return f"{len(listed):,} ({', '.join(listed[:5])}{', ...' if len(listed) > 5 else ''})"
