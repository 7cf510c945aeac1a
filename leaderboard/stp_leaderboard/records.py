"""Records: a result, who submitted it and when. One JSON file each, added once and never edited.

A record is worth what its predictions prove: `check` computes its figures again from the two tables behind it. Records
with the same `Key` measured the same thing, and are ranked only among those of equal protocol, benchmarks, preset and
split.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, write_json
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.scoring import score

TOLERANCE = 1e-9
"""Figures agree if they differ by less, absolutely or relatively: the last bit of a sum may depend on the machine."""

MOST_RESAMPLES = 10_000
"""A record may not make its checker work for longer."""

MOST_BYTES = 2_000_000
"""Of a record's file: hundreds of times what a result takes."""

MOST_NUMBER = 2**31
"""Seeds and splits are below it."""

_NAME = re.compile(r"[^<>\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]{1,200}")
"""Names that a page can show: no markup, and no characters that hide or turn around what stands beside them."""

_CARD: Mapping[str, type] = {
    "title": str, "version": int, "learned": bool, "identity": bool, "needs": list, "reference": str, "source": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What was measured. Seeds and dates are not in it: records of one key are repetitions."""

    method: str
    variant: str | None
    protocol: str
    fit_on: str | None
    on: str
    preset: str
    split: int
    config_sha256: str
    videos_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One submitted result."""

    result: Result
    submitter: str
    date: datetime.date
    tables: str
    """Where ``predictions.parquet`` and ``reference.parquet`` can be had: a folder beside the record, or an address."""
    card: Mapping[str, Any] | None = None
    """What the method says of itself: title, version, whether it is learned, whether it leaves videos as they are
    (``identity``), what it needs, where it was published, which package it came from. None if that is not known."""

    @property
    def key(self) -> Key:
        """What was measured."""
        result = self.result
        return Key(
            method=result.method,
            variant=result.variant,
            protocol=result.protocol,
            fit_on=result.fit_on,
            on=result.on,
            preset=result.preset,
            split=result.split,
            config_sha256=fingerprint(result.provenance["config"]),
            videos_sha256=result.provenance["videos_sha256"],
        )

    @property
    def file_name(self) -> str:
        """The name of the record's file: readable, and different for every (key, seed, date)."""
        what = "_".join([self.result.method, self.result.protocol, self.result.on])
        digest = fingerprint(asdict(self.key))[:12]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", what).strip(".-")
        return f"{plain[:100]}_{digest}_seed-{self.result.seed}_{self.date.isoformat()}.json"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        head = {"submitter": self.submitter, "date": self.date.isoformat(), "tables": self.tables}
        card = {} if self.card is None else {"card": dict(self.card)}
        return head | card | {"result": self.result.to_dict()}

    def write(self, folder: Path) -> Path:
        """Write the record into ``folder`` under its `file_name`; returns the path."""
        path = folder / self.file_name
        write_json(path, self.to_dict())
        return path


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of a record that its predictions do not give."""

    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.field} is {self.recorded!r} in the record but {self.recomputed!r} by its predictions"


def record_of(
    result: Result, *, submitter: str, date: datetime.date, tables: str, card: Mapping[str, Any] | None = None
) -> Record:
    """The record of a result.

    Raises:
        UserError: a field is empty, or not one that a record may hold.
    """
    head = {"submitter": submitter, "date": date.isoformat(), "tables": tables, "card": card}
    return _record(head, result, "the new record")


def record_from(document: Any, source: str) -> Record:
    """The record in a JSON document.

    Raises:
        UserError: it is not a record; the message names the field.
    """
    if not isinstance(document, Mapping) or "result" not in document:
        raise _refused(source, "field 'result' is missing")
    return _record(document, Result.from_dict(document["result"], source), source)


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        UserError: there is none, it is not a record, or not the one that its name says.
        WorkError: the file is not JSON.
    """
    record = record_from(_read(path), str(path))
    if record.file_name != path.name:
        raise UserError(f"{path} is refused", f"its content belongs to {record.file_name}", "write the record again")
    return record


def read_records(folder: Path) -> tuple[Record, ...]:
    """All records of a folder (``*.json``), sorted by file name.

    Raises:
        UserError: a file is not a record, or not the one that its name says (two records can't share a name).
        WorkError: a file is not JSON.
    """
    return tuple(read_record(path) for path in sorted(folder.glob("*.json")))


def check(record: Record, predictions: Predictions, reference: Reference) -> tuple[Difference, ...]:
    """The figures of a record that do not follow from its two tables; none if it is in order.

    Every metric, floor and interval is computed anew. ``left`` is not: it also needs the raw run.

    Raises:
        UserError: the tables do not belong together, or the record asks for an absurd bootstrap.
    """
    result = record.result
    plan = result.metrics["bootstrap"]
    if not (0 <= plan["resamples"] <= MOST_RESAMPLES and plan["seed"] >= 0):
        raise _refused("the record", f"field 'metrics.bootstrap' is not of 0 to {MOST_RESAMPLES} resamples and a seed")
    scores = score(predictions, reference, bootstrap=plan["resamples"], seed=plan["seed"])
    pairs = (
        ("metrics", result.metrics, scores.metrics),
        ("floors", result.floors, scores.floors),
        ("undefined", sorted(result.undefined), sorted(scores.undefined)),
        ("provenance.videos_sha256", result.provenance["videos_sha256"], predictions.videos_digest),
        ("provenance.predictions_sha256", result.provenance["predictions_sha256"], predictions.digest),
    )
    return tuple(difference for pair in pairs for difference in _differences(*pair))


def _differences(field: str, recorded: Any, recomputed: Any) -> Iterator[Difference]:
    if isinstance(recorded, Mapping) and isinstance(recomputed, Mapping):
        for name in dict.fromkeys([*recomputed, *recorded]):
            yield from _differences(f"{field}.{name}", recorded.get(name), recomputed.get(name))
    elif isinstance(recorded, list) and isinstance(recomputed, list) and len(recorded) == len(recomputed):
        for i, (old, new) in enumerate(zip(recorded, recomputed)):
            yield from _differences(f"{field}[{i}]", old, new)
    elif not _agree(recorded, recomputed):
        yield Difference(field, recorded, recomputed)


def _agree(recorded: Any, recomputed: Any) -> bool:
    if isinstance(recorded, (int, float)) and isinstance(recomputed, (int, float)):
        try:
            return math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        except OverflowError:  # a whole number that no float can hold
            return False
    return bool(recorded == recomputed)


def _read(path: Path) -> Any:
    """The JSON document in a file of bounded size."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"cannot read {path}", "there is no such file", "check the path") from error
    if len(content) > MOST_BYTES:
        raise _refused(str(path), f"it is larger than {MOST_BYTES // 1_000_000} MB")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = f"it is not a JSON document ({str(error)[:100]})"
        raise WorkError(f"cannot read {path}", reason, "restore or remove it") from error


def _record(head: Mapping[str, Any], result: Result, source: str) -> Record:
    for field in ("submitter", "date", "tables"):
        if not isinstance(head.get(field), str) or not head[field].strip():
            raise _refused(source, f"field {field!r} is {'empty' if field in head else 'missing'}")
    try:
        date = datetime.date.fromisoformat(head["date"])
    except ValueError as error:
        raise _refused(source, f"field 'date' is {head['date']!r:.40} instead of YYYY-MM-DD") from error
    if "://" in head["tables"] and not head["tables"].startswith("https://"):
        raise _refused(source, "field 'tables' is an address but does not start with https://")
    card = _card(head.get("card"), source)
    record = Record(result=result, submitter=head["submitter"], date=date, tables=head["tables"], card=card)
    for field, value in _names(record):
        if not _NAME.fullmatch(value):
            raise _refused(source, f"field {field!r} holds markup or control characters, is empty or too long")
    for field, number in (("result.seed", result.seed), ("result.split", result.split)):
        if not 0 <= number < MOST_NUMBER:
            raise _refused(source, f"field {field!r} is out of range")
    return record


def _card(card: Any, source: str) -> Mapping[str, Any] | None:
    if card is None:
        return None
    if not isinstance(card, Mapping):
        raise _refused(source, "field 'card' is not an object")
    for name, kind in _CARD.items():
        if type(card.get(name)) is not kind:
            raise _refused(source, f"field 'card.{name}' is missing or of another type")
    if not all(isinstance(need, str) for need in card["needs"]):
        raise _refused(source, "field 'card.needs' is not a list of names")
    if not 0 <= card["version"] < MOST_NUMBER:
        raise _refused(source, "field 'card.version' is out of range")
    return {name: card[name] for name in _CARD}


def _names(record: Record) -> Iterator[tuple[str, str]]:
    """What a page shows as a name or a heading: field and text."""
    yield "submitter", record.submitter
    yield "tables", record.tables
    result = record.result
    for field in ("method", "protocol", "on", "preset", "weights", "precision"):
        yield f"result.{field}", getattr(result, field)
    for field, value in (("variant", result.variant), ("fit_on", result.fit_on), ("data", result.data["preset"])):
        if value is not None:
            yield f"result.{field}", value
    for kind, block in {"": result.metrics, **result.metrics["attackers"]}.items():
        for name in (block or {}).get("per_attribute", ()):
            yield f"result.metrics.{f'attackers.{kind}.' if kind else ''}per_attribute", name
    if record.card is not None:
        for field in ("title", "reference", "source"):
            if record.card[field]:
                yield f"card.{field}", record.card[field]
        for need in record.card["needs"]:
            yield "card.needs", need


def _refused(source: str, why: str) -> UserError:
    return UserError(f"{source} is not a leaderboard record", why, "write the record again")
