"""From records to standings: which are comparable, what repetitions say together, and who is beaten by whom.

Pure functions. A *contest* holds what may be compared: same protocol, benchmarks, preset, data, split, starting weights
and recipe of the recognizers, same videos. A *row* of it is one method (variant, configuration) over its seeds.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stp_bench import config
from stp_bench.errors import UserError
from stp_bench.files import fingerprint
from stp_bench.pictures import pareto_front
from stp_bench.results import Result, described, share_left
from stp_leaderboard.records import TOLERANCE, Key, Record

if TYPE_CHECKING:
    from stp_leaderboard.proof import Verdict

_NO_RECIPE = frozenset({"bootstrap"})
"""Fields of a run's configuration that leave its figures as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over seeds; ``sd`` (n - 1) is None for one seed, all is None where a seed leaves it undefined."""

    mean: float | None
    sd: float | None
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method in a contest."""

    key: Key
    records: tuple[Record, ...]
    """The newest of each seed, by seed."""
    earlier: tuple[Record, ...]
    """Those that a newer one of the same seed replaced, newest first."""
    rank: int | None
    """1: no other row has both a better action figure and a smaller worst excess; 2: only rows of rank 1 have; ...
    None where one of the two is undefined."""
    figures: Mapping[str, Spread]
    left: Mapping[str, float | None]
    """Share of the raw videos' mean above its floor that remains; None without a raw row."""

    @property
    def newest(self) -> Record:
        """The record that speaks for the row where one must."""
        return max(self.records, key=lambda record: (record.date, -record.result.seed))

    @property
    def name(self) -> str:
        """The method and its variant."""
        return self.key.method + (f" ({self.key.variant})" if self.key.variant else "")

    @property
    def identity(self) -> bool:
        """Whether the method leaves videos as they are."""
        return bool((self.newest.card or {}).get("identity"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Rows that may be compared, best first: by rank, then by the action figure."""

    id: str
    title: str
    about: Mapping[str, str]
    """What its records share: names and values for people."""
    action: str
    """Name of the figure that should stay high: ``top1`` or ``action_cmap``."""
    groups: tuple[str, ...]
    """Groups of private classes that have a cMAP each; empty where there is one cMAP and one F1."""
    floors: Mapping[str, float | None]
    """Floors that no method moves."""
    rows: tuple[Row, ...]

    @property
    def front(self) -> tuple[int, ...]:
        """Which rows are on the Pareto front, by rising worst excess."""
        points = [(i, _point(row.figures, self.action)) for i, row in enumerate(self.rows)]
        known = [(i, point) for i, point in points if point is not None]
        return tuple(known[i][0] for i in pareto_front([point for _, point in known]))


def contests(records: Iterable[Record]) -> tuple[Contest, ...]:
    """Group and rank records: contests of larger presets first. The order depends on the records alone."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.file_name):
        found.setdefault(fingerprint(_shared(record.result)), []).append(record)
    made = [_contest(digest[:12], group) for digest, group in found.items()]
    largest: dict[str, int] = {name: number for number, name in enumerate(reversed(config.PRESETS))}
    return tuple(sorted(made, key=lambda c: (largest.get(c.rows[0].key.preset, len(largest)), c.title, c.id)))


def contradictions(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts, with what only several records together show: one result told twice, and a share ``left`` that is not
    that of a raw run of the same contest and seed."""
    judged = []
    seen: dict[tuple[Key, str], str] = {}
    raw: dict[tuple[str, int], list[Result]] = {}
    for verdict in verdicts:
        if verdict.record is not None and verdict.holds and (verdict.record.card or {}).get("identity"):
            raw.setdefault(_repetition(verdict.record.result), []).append(verdict.record.result)
    for verdict in verdicts:
        record, problems, unchecked = verdict.record, list(verdict.problems), list(verdict.unchecked)
        if record is not None:
            # Several raw runs of one seed may differ in the last digits: each record was counted from one of them.
            if of := raw.get(_repetition(record.result)):
                differing = [_left_differs(record.result, one) for one in of]
                problems += differing[0] if all(differing) else []
            elif any(value is not None for value in record.result.left.values()):
                unchecked.append("left: the raw run of the same seed is not among these records")
            field = "provenance.predictions_sha256"
            told = record.key, record.result.provenance[field.removeprefix("provenance.")]
            # Only what holds was told before: a tampered copy must not be able to refuse what it was copied from.
            if not problems and (first := seen.setdefault(told, verdict.source)) != verdict.source:
                problems.append((field, f"{field} repeats the predictions of {first}"))
        judged.append(dataclasses.replace(verdict, problems=tuple(problems), unchecked=tuple(unchecked)))
    return judged


def changes_of_preset(result: Result) -> dict[str, Any]:
    """Fields of a run's recipe that are not those of its preset in this version; empty for a preset unknown here."""
    own = result.provenance["config"].get("run")
    try:
        known = dataclasses.asdict(config.preset(result.preset))
    except UserError:
        return {}
    if not isinstance(own, Mapping):
        return {}
    return {name: value for name, value in own.items() if name not in _NO_RECIPE and known.get(name) != value}


def _left_differs(result: Result, raw: Result) -> list[tuple[str, str]]:
    known = share_left(result.metrics, result.floors, raw.metrics, raw.floors)
    return [
        (f"left.{name}", f"left.{name} is {value!r} in the record but {known[name]!r} by the raw run beside it")
        for name, value in result.left.items()
        if value is not None and (name not in known or known[name] is None or abs(value - known[name]) > TOLERANCE)
    ]


def _shared(result: Result) -> dict[str, Any]:
    """What records must have in common to be compared."""
    settings = result.provenance["config"]
    run = settings.get("run")
    recipe = {name: v for name, v in run.items() if name not in _NO_RECIPE} if isinstance(run, Mapping) else run
    return {
        **{name: getattr(result, name) for name in ("protocol", "fit_on", "on", "preset", "split")},
        "data": dict(result.data),
        "recipe": recipe,
        "weights": settings.get("weights"),
        "videos": result.provenance["videos_sha256"],
        "floors": {name: None if v is None else round(v, 9) for name, v in _fixed_floors(result).items()},
    }


def _repetition(result: Result) -> tuple[str, int]:
    """Contest and seed."""
    return fingerprint(_shared(result)), result.seed


def _fixed_floors(result: Result) -> dict[str, float | None]:
    """Floors that follow from videos and labels alone: the action-informed one reads the run's own action scores."""
    return {name: value for name, value in sorted(result.floors.items()) if "informed" not in name}


def _contest(name: str, records: Sequence[Record]) -> Contest:
    first = records[0].result
    by_key: dict[Key, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    action = "action_cmap" if "action_cmap" in first.metrics else "top1"
    rows = [_row(key, of) for key, of in by_key.items()]
    raw = next((row for row in rows if row.identity), None)
    rows = [dataclasses.replace(row, left=_left(row, raw), rank=rank) for row, rank in zip(rows, _ranks(rows, action))]
    rows.sort(key=lambda row: _order(row, action))
    changes = ", ".join(f"{field} {value}" for field, value in sorted(changes_of_preset(first).items()))
    data = first.data["preset"]
    about = {
        "protocol": first.protocol,
        "fitted on": first.fit_on or first.on,
        "judged on": first.on,
        "preset": first.preset + (f", but {changes}" if changes else ""),
        "split": str(first.split),
        "data": "real" if data is None else f"embedded, {data}, seed {first.data['seed']}",
        "starting weights": first.weights,
        "label release": str(first.provenance["label_release"] or "not named"),
        "test videos (SHA-256)": first.provenance["videos_sha256"],
    }
    what = described(first.to_dict())
    fit = "" if first.fit_on in (None, first.on) else f", fitted on {first.fit_on}"
    title = f"{what[:1].upper()}{what[1:]}{fit}, {about['preset']}, split {first.split}"
    groups = tuple(group for group in first.metrics["per_attribute"] if f"{group}_cmap" in first.metrics)
    return Contest(
        id=name, title=title, about=about, action=action, groups=groups, floors=_fixed_floors(first), rows=tuple(rows)
    )


def _row(key: Key, records: Sequence[Record]) -> Row:
    newest_first = sorted(records, key=lambda r: (r.result.schema, r.date, r.file_name), reverse=True)
    newest: dict[int, Record] = {}
    for record in newest_first:
        newest.setdefault(record.result.seed, record)
    chosen = tuple(newest[seed] for seed in sorted(newest))
    earlier = tuple(record for record in newest_first if newest[record.result.seed] is not record)
    paths = _paths(chosen[0].result)
    figures = {name: _spread([_at(record.result, path) for record in chosen]) for name, path in paths.items()}
    return Row(key=key, records=chosen, earlier=earlier, rank=None, figures=figures, left={})


def _paths(result: Result) -> dict[str, tuple[str, ...]]:
    """The figures of a row, and where a result has them."""
    metrics: dict[str, tuple[str, ...]] = {
        name: (name,) for name in ("top1", "f1", "cmap", "auroc", "skill", "f1_tuned")
    }
    metrics |= {name: (name,) for name in result.metrics if name.endswith("_cmap") or name == "balanced_accuracy"}
    for kind in ("video", "frame"):
        metrics |= {f"{kind}_{name}": ("attackers", kind, name) for name in ("cmap", "f1")}
        metrics[f"{kind}_excess"] = ("attackers", kind, "excess", "cmap")
    metrics |= {f"worst_{name}": ("worst", name) for name in ("cmap", "f1", "excess")}
    floors = {f"floor_{name}": ("floors", name) for name in result.floors}
    return {name: ("metrics", *path) for name, path in metrics.items()} | floors


def _at(result: Result, path: Sequence[str]) -> float | None:
    value: Any = result.to_dict()
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> Spread:
    defined = [value for value in values if value is not None]
    whole = len(defined) == len(values)
    return Spread(
        mean=statistics.fmean(defined) if whole else None,
        sd=statistics.stdev(defined) if whole and len(defined) > 1 else None,
        values=tuple(values),
    )


def _left(row: Row, raw: Row | None) -> dict[str, float | None]:
    def means(of: Row, prefix: str = "") -> dict[str, float | None]:
        return {name.removeprefix(prefix): s.mean for name, s in of.figures.items() if name.startswith(prefix)}

    if raw is None:
        return share_left({}, {})
    return share_left(means(row), means(row, "floor_"), means(raw), means(raw, "floor_"))


def _point(figures: Mapping[str, Spread], action: str) -> tuple[float, float] | None:
    """Worst excess and action figure, both in percent."""
    across, upwards = figures["worst_excess"].mean, figures[action].mean
    return None if across is None or upwards is None else (across, upwards)


def _ranks(rows: Sequence[Row], action: str) -> list[int | None]:
    """Non-dominated sorting: the front, then the front of those that it leaves, and so on."""
    ranks: list[int | None] = [None] * len(rows)
    points = {i: point for i, row in enumerate(rows) if (point := _point(row.figures, action)) is not None}
    rank = 0
    while points:
        rank += 1
        numbers = list(points)
        for i in pareto_front([points[number] for number in numbers]):
            ranks[numbers[i]] = rank
            del points[numbers[i]]
    return ranks


def _order(row: Row, action: str) -> tuple[Any, ...]:
    value = row.figures[action].mean
    return row.rank or 10**6, 0.0 if value is None else -value, row.name, row.key.config_sha256
