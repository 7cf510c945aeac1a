"""``stp-bench annotate vote``, ``agreement``, ``export``, ``votes-export``, ``votes-import``: none needs a server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType
from rich.markup import escape

from stp_bench.cli._io import show, table, working
from stp_bench.cli._options import DATA, OUTPUT, DataHome, Debug, Json, home_of, option
from stp_bench.cli.annotate._options import DryRun, Name
from stp_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from stp_bench.annotate import Project
    from stp_bench.annotate.agreement import Agreement, Share
    from stp_bench.annotate.majority import Decision

VOTE_EXAMPLE = "First: stp-bench annotate pull trial\n\nExample: stp-bench annotate vote trial"
AGREEMENT_EXAMPLE = "First: stp-bench annotate pull trial\n\nExample: stp-bench annotate agreement trial"
EXPORT_EXAMPLE = "First: stp-bench annotate vote trial\n\nExample: stp-bench annotate export trial --out release"
VOTES_EXPORT_EXAMPLE = (
    "First: stp-bench annotate pull trial\n\nExample: stp-bench annotate votes-export trial votes.csv"
)
VOTES_IMPORT_EXAMPLE = (
    "First: stp-bench annotate votes-export trial votes.csv\n\nExample: stp-bench annotate votes-import votes.csv trial"
)

_MIN_VOTES = 4
"""`stp_bench.annotate.majority.MIN_VOTES`, whose module is too slow to import for a page of help."""

Votes = Annotated[Path | None, option(DATA, "Votes in a file, instead of those of a round.", "--votes", metavar="FILE")]
MinVotes = Annotated[
    int,
    option(DATA, "Valid votes that a majority needs; fewer than 4 are recorded in the release.", "--min-votes", min=1),
]


class _Source(NamedTuple):
    """Votes and what they are about."""

    project: Project | None
    votes: pd.DataFrame
    rejects: pd.DataFrame | None
    videos: Sequence[str]
    attributes: Sequence[str]

    @property
    def title(self) -> str:
        return self.project.name if self.project else "votes"


def _project(home: Path, name: str | None, file: Path | None) -> Project | None:
    """The round that is meant; None where a file of votes is named and no round."""
    from stp_bench.annotate import open_project

    return open_project(home, name) if name or file is None else None


def _source(project: Project | None, file: Path | None) -> _Source:
    """The votes in a file, else of the round, on the round's videos, else on those that the file holds."""
    from stp_bench.annotate.votes import attribute_order, in_order, read_round, read_votes

    if file is not None:
        votes, rejects = in_order(read_votes(file.expanduser())), None
    else:
        assert project is not None
        votes, rejects = read_round(project.folder)
    if not len(votes):
        where = str(file) if file else f"the round {project.name if project else ''}"
        raise UserError(f"there are no votes in {where}", "nobody has answered", "see 'stp-bench annotate pull --help'")
    if project is not None:
        return _Source(project, votes, rejects, tuple(project.videos), project.attributes)
    return _Source(None, votes, rejects, tuple(votes["video_id"].unique()), attribute_order(votes["attribute"]))


def _locked(project: Project | None, write: bool) -> contextlib.AbstractContextManager[None]:
    from stp_bench.annotate._project import round_lock

    return round_lock(project.folder) if project and write else contextlib.nullcontext()


def vote(
    name: Name = None,
    votes: Votes = None,
    min_votes: MinVotes = _MIN_VOTES,
    close: Annotated[
        bool, option(OUTPUT, "Also list what a single vote decided, in close.csv, to look at again.", "--close")
    ] = False,
    out: Annotated[
        Path | None,
        option(OUTPUT, "Label table to write. \\[default: labels.csv of the round]", "--out", metavar="CSV"),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Decide labels by strict majority, and queue what is tied, unsure or short of votes for an expert.

    Adjudications that were pulled settle what the majority left open, unless their author had voted on that video.
    Without a round, name the table with --out.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        project = _project(home, name, votes)
        path = _labels_path(project, out, dry_run)
        with _locked(project, not dry_run), reporter.stage("count votes"):
            source = _source(project, votes)
            decision, written = _decide_and_write(source, min_votes, path, close, dry_run)
    queue = decision.queue()
    reasons = queue["reason"].value_counts().to_dict()
    sources = decision.sources()

    def tables() -> Iterator[RenderableType]:
        from stp_bench.annotate.majority import REASONS

        made = table(
            f"{source.title}: {len(decision.videos):,} videos, {len(source.votes):,} votes, majority of at least "
            f"{min_votes}",
            "attribute", "yes", "no", "majority", "adjudicated", "unresolved", "by one vote",
        )  # fmt: skip
        close = decision.close()["attribute"].value_counts()
        for k, attribute in enumerate(decision.attributes):
            labels, of = decision.label_VK[:, k], sources[attribute]
            counts = (labels == 1).sum(), (labels == 0).sum(), *of.values(), close.get(attribute, 0)
            made.add_row(attribute, *(f"{count:,}" for count in counts))
        yield made
        if min_votes < _MIN_VOTES:
            yield f"[yellow]fewer than {_MIN_VOTES} votes are enough here: the release will say so[/]"
        for reason, why in REASONS.items():
            if reasons.get(reason):
                yield f"open: {reasons[reason]:,} {reason} ({why})"
        if len(queue):
            yield "unresolved labels stay blank; an expert settles them: stp-bench annotate adjudicate"
        if decision.needless:
            yield f"not counted: {decision.needless:,} adjudications of what the majority had decided"
        if decision.by_voters:
            yield f"[yellow]not counted: {decision.by_voters:,} adjudications by people who had voted on the video[/]"
        if decision.strange:
            yield f"[yellow]not counted: {decision.strange:,} votes on videos or attributes of no interest here[/]"
        yield from (f"{'would write' if dry_run else 'written to'} {escape(str(file))}" for file in written)

    document = {
        "schema": 1, "round": source.project and source.project.name, "videos": len(decision.videos),
        "votes": len(source.votes), "min_votes": min_votes, "sources": sources, "open": reasons,
        "close": len(decision.close()), "not_counted": {
            "needless": decision.needless, "by_voters": decision.by_voters, "strange": decision.strange,
        },
        "files": list(map(str, written)), "dry_run": dry_run,
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def _labels_path(project: Project | None, out: Path | None, dry_run: bool) -> Path:
    if out is not None:
        return out.expanduser().absolute()
    if project is not None:
        return project.path("labels.csv")
    if dry_run:
        return Path("labels.csv")
    raise UserError("it is not clear where the labels should go", "the votes belong to no round", "name it with --out")


def _decide_and_write(
    source: _Source, min_votes: int, path: Path, close: bool, dry_run: bool
) -> tuple[Decision, list[Path]]:
    from stp_bench.annotate import majority, release
    from stp_bench.annotate.votes import write_csv

    decision = majority.decide(source.votes, videos=source.videos, attributes=source.attributes, min_votes=min_votes)
    stem = "" if path.name == release.LABELS else f"{path.stem}."
    tables = {path.with_name(f"{stem}queue.csv"): decision.queue()}
    if close:
        tables[path.with_name(f"{stem}close.csv")] = decision.close()
    if not dry_run:
        about = release.provenance(source.votes, decision, source.project)
        for file, rows in tables.items():
            write_csv(rows, file)
        release.write_labels(decision, path, f"{source.title}-draft", about)
    return decision, [path, path.with_suffix(".json"), *tables]


def agreement(
    name: Name = None,
    votes: Votes = None,
    gold: Annotated[
        Path | None,
        option(DATA, "Questions whose answers are known: a label table (video_id and attributes).", metavar="CSV"),
    ] = None,
    min_votes: MinVotes = _MIN_VOTES,
    out: Annotated[
        Path | None,
        option(OUTPUT, "Folder for tables and picture. \\[default: agreement/ of the round]", "--out", metavar="DIR"),
    ] = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Measure how far the annotators agree, per attribute, pair and person, and who is far from the rest.

    Without a round, nothing is written unless --out names a folder.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench.annotate import agreement as measure
        from stp_bench.annotate import majority, release

        source = _source(_project(home, name, votes), votes)
        right = _gold(gold) if gold else None
        with reporter.stage("agreement"):
            decision = majority.decide(
                source.votes, videos=source.videos, attributes=source.attributes, min_votes=min_votes
            )
            found = measure.agreement(
                source.votes, decision, gold=right,
                skipped=release.skips(source.rejects) if source.rejects is not None else None,
                durations=source.project.durations if source.project else None,
            )  # fmt: skip
        folder = out.expanduser().absolute() if out else source.project.path("agreement") if source.project else None
        document = {
            "schema": 1, "round": source.project and source.project.name, "min_votes": min_votes,
            "far_rule": measure.FAR, **dataclasses.asdict(found),
        }  # fmt: skip
        written = _write_agreement(found, decision, document, source.title, folder) if folder else []

    def tables() -> Iterator[RenderableType]:
        yield _attributes_table(source.title, found)
        yield _annotators_table(found)
        if len(found.annotators) <= 12:
            yield _pairs_table(found)
        for one in found.annotators:
            if one.far:
                yield f"[yellow]{one.annotator} is far from the rest on {', '.join(one.far)}[/]"
        if any(one.far for one in found.annotators):
            yield f"far: {measure.FAR}"
        if gold:
            yield f"labels against the gold questions: {_share(found.gold['all'])} of {found.gold['all'].of:,}"
        yield from (f"written to {escape(str(file))}" for file in written)

    show(document | {"files": list(map(str, written))}, tables, as_json=as_json)


def _gold(path: Path) -> dict[str, dict[str, int]]:
    from stp_bench.labels import read_table

    found = read_table(path.expanduser())
    answers: dict[str, dict[str, int]] = {}
    for video_id, row in found.rows.items():
        for target in found.targets:
            labels = row.get(target.name)
            if target.kind == "multilabel" and labels is not None:
                known = zip(target.classes, labels, strict=True)
                answers.setdefault(video_id, {}).update({name: label for name, label in known if label >= 0})
    return answers


def _write_agreement(
    found: Agreement, decision: Decision, document: Mapping[str, Any], title: str, folder: Path
) -> list[Path]:
    import pandas as pd

    from stp_bench.annotate.picture import agreement_picture
    from stp_bench.annotate.votes import write_csv
    from stp_bench.files import make_folder, write_json

    make_folder(folder)
    attributes = [
        {"attribute": name, **_flat(of.agreement), "abstained": of.abstained, "model_differs": of.model_differs}
        for name, of in found.attributes.items()
    ]
    pairs = [
        {"first": p.first, "second": p.second, "attribute": p.attribute, **_flat(p.agreement)} for p in found.pairs
    ]
    annotators = []
    for one in found.annotators:
        row: dict[str, Any] = {"annotator": one.annotator, "videos": one.videos, "votes": one.votes}
        row |= {"abstained": one.abstained, "skipped": one.skipped, "seconds_median": one.seconds_median}
        row |= {"faster_than_clip": one.faster_than_clip.share, "longest_run": one.longest_run}
        row |= {f"agreement_{name}": share.share for name, share in one.agreement.items()}
        row |= {f"sensitivity_{name}": rate for name, rate in one.sensitivity.items()}
        row |= {f"specificity_{name}": rate for name, rate in one.specificity.items()}
        row |= {f"gold_{name}": share.share for name, share in one.gold.items()}
        annotators.append(row | {"far": " ".join(one.far)})
    files = {"attributes.csv": attributes, "pairs.csv": pairs, "annotators.csv": annotators}
    for file, rows in files.items():
        write_csv(pd.DataFrame(rows), folder / file)
    agreement_picture(found, decision, f"{title}: agreement of {len(annotators)} annotators", folder / "agreement.png")
    write_json(folder / "agreement.json", document)
    return [folder / file for file in ("agreement.json", *files, "agreement.png")]


def _flat(of: Any) -> dict[str, Any]:
    """A row of a table: each coefficient with the ends of its interval."""
    row: dict[str, Any] = {"videos": of.videos, "prevalence": of.prevalence}
    for name, bounds in of.ci95.items():
        low, high = bounds or (None, None)
        row |= {name: getattr(of, name), f"{name}_low": low, f"{name}_high": high}
    return row


def _attributes_table(title: str, found: Agreement) -> RenderableType:
    from stp_bench.annotate.agreement import COEFFICIENTS
    from stp_bench.annotate.release import interval_text

    made = table(
        f"{title}: agreement, with 95 % intervals over videos",
        "attribute", "videos", "yes votes", "not sure", "percent ↑", "alpha ↑", "AC1 ↑", "model",
        caption="alpha falls with the share of yes votes where agreement stays the same; model: labels on which "
        "that of Dawid and Skene takes the other side",
    )  # fmt: skip
    for name, of in found.attributes.items():
        made.add_row(
            name, f"{of.agreement.videos:,}", _number(of.agreement.prevalence), _number(of.abstained),
            *(interval_text(of.agreement, c, 2).replace("undefined", "–") for c in COEFFICIENTS),
            f"{of.model_differs:,}",
        )  # fmt: skip
    return made


def _annotators_table(found: Agreement) -> RenderableType:
    gold = any(one.gold for one in found.annotators)
    made = table(
        "annotators",
        "annotator", "videos", "not sure", "skipped", "as the others", *(["gold"] if gold else []), "median s",
        "faster than clip", "longest run",
        caption="as the others: agrees with the majority of the others; longest run: videos in a row, answered alike",
    )  # fmt: skip
    for one in found.annotators:
        made.add_row(
            one.annotator, f"{one.videos:,}", _number(one.abstained), _number(one.skipped),
            _share(one.agreement["all"]), *([_share(one.gold["all"]) if one.gold else "–"] if gold else []),
            "–" if one.seconds_median is None else f"{one.seconds_median:.0f}", _share(one.faster_than_clip),
            f"{one.longest_run:,}",
        )  # fmt: skip
    return made


def _pairs_table(found: Agreement) -> RenderableType:
    made = table("pairs of annotators: AC1, mean over attributes", "annotators", "videos", "percent ↑", "AC1 ↑")
    pairs: dict[tuple[str, str], list[Any]] = {}
    for pair in found.pairs:
        pairs.setdefault((pair.first, pair.second), []).append(pair.agreement)
    for (first, second), of in sorted(pairs.items()):
        cells = [sum(getattr(one, name) for one in of) / len(of) for name in ("percent", "ac1")]
        made.add_row(f"{first}, {second}", f"{max(one.videos for one in of):,}", *map(_number, cells))
    return made


def export(
    out: Annotated[Path, option(OUTPUT, "Folder of the release.", "--out", metavar="DIR")],
    name: Name = None,
    release: Annotated[
        str | None, option(OUTPUT, "Name of the release. \\[default: the round's, and -v1]", "--release", metavar="R")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Write the label release of a round: labels with their votes, manifest, votes under pseudonyms, datasheet.

    'stp-bench data prepare --labels' and 'stp-bench labels stats' read it.
    """
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench.annotate import open_project
        from stp_bench.annotate.release import make_release

        project = open_project(home, name)
        folder = out.expanduser().absolute()
        with _locked(project, True):
            made = make_release(project, folder, name=release, write=not dry_run, reporter=reporter)

    def tables() -> Iterator[RenderableType]:
        found = table(f"{made.name}: {made.videos:,} videos, {made.labels:,} labels", "file", "SHA-256")
        for file, digest in made.files.items():
            found.add_row(file, digest[:16])
        yield found
        if made.unresolved:
            yield f"[yellow]{made.unresolved:,} labels are unresolved, and blank[/]"
        if made.min_votes < _MIN_VOTES:
            yield f"[yellow]majorities of {made.min_votes} votes or more, not of {_MIN_VOTES}: the release says so[/]"
        yield r"fill in what is in \[brackets] in datasheet.md before others get it"
        yield f"{'would write' if dry_run else 'written to'} {escape(str(folder))}"

    document = {"schema": 1, **dataclasses.asdict(made), "folder": str(folder), "dry_run": dry_run}
    show(document, tables, as_json=as_json)


def votes_export(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NAME] FILE", help="The labelling round, if there are several; a .csv or .parquet."),
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Write the votes of a round into one file, for a team without a common server."""
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench.annotate.votes import write_votes

        if len(words) > 2:
            raise UserError("it is not clear what to write", f"{len(words)} words are given", "give NAME and FILE")
        path = Path(words[-1]).expanduser().absolute()
        source = _source(_project(home, words[0] if len(words) == 2 else None, None), None)
        if not dry_run:
            with reporter.stage("write votes"):
                write_votes(source.votes, path)
    count, people = len(source.votes), source.votes["annotator"].nunique()

    def tables() -> Iterator[RenderableType]:
        yield f"{source.title}: {count:,} votes of {people} annotators"
        yield f"{'would write' if dry_run else 'written to'} {escape(str(path))}"

    document = {"schema": 1, "round": source.title, "votes": count, "annotators": people, "file": str(path)}
    show(document | {"dry_run": dry_run}, tables, as_json=as_json)


def votes_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Votes, CSV or parquet, as votes-export writes them.")],
    name: Name = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Take another team's votes into a round. What is there already is passed over; a contradiction is refused."""
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench.annotate import open_project
        from stp_bench.annotate.votes import import_votes

        project = open_project(home, name)
        with _locked(project, True), reporter.stage("read votes"):
            made = import_votes(
                project.folder, file.expanduser(), videos=project.videos, attributes=project.attributes,
                write=not dry_run,
            )  # fmt: skip

    def tables() -> Iterator[RenderableType]:
        told = "would be taken" if dry_run else "taken"
        yield f"{project.name}: {made.new:,} votes {told}, {made.known:,} were there, of {made.annotators} annotators"
        if other := [v for v in made.guideline_versions if v != project.guideline_version]:
            yield f"[yellow]they answer to guideline {', '.join(other)}, the round to {project.guideline_version}[/]"
        if made.new and not dry_run:
            yield f"count them: stp-bench annotate vote {project.name}"

    show({"schema": 1, "round": project.name, **made._asdict(), "dry_run": dry_run}, tables, as_json=as_json)


def _share(of: Share) -> str:
    return _number(of.share)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
