"""Records: a result, who submitted it and when. One JSON file each, added once and never edited.

A record is worth what its predictions prove: `check` computes its figures again from the two tables behind it. Records
with the same `Key` measured the same thing, and are ranked only among those of equal protocol, benchmarks, preset and
split.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stp_bench.errors import UserError
from stp_bench.files import fingerprint, read_json, write_json
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.scoring import score

TOLERANCE = 1e-9
"""Figures agree if they differ by less, absolutely or relatively: the last bit of a sum may depend on the machine."""

MOST_RESAMPLES = 10_000
"""A record may not make its checker work for longer."""


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
    """Where ``predictions.parquet`` and ``reference.parquet`` can be had: an address or a folder."""

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
        return f"{plain}_{digest}_seed-{self.result.seed}_{self.date.isoformat()}.json"

    def write(self, folder: Path) -> Path:
        """Write the record into ``folder`` under its `file_name`; returns the path."""
        path = folder / self.file_name
        head = {"submitter": self.submitter, "date": self.date.isoformat(), "tables": self.tables}
        write_json(path, head | {"result": self.result.to_dict()})
        return path


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of a record that its predictions do not give."""

    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.field} is {self.recorded!r} in the record but {self.recomputed!r} by its predictions"


def record_of(result: Result, *, submitter: str, date: datetime.date, tables: str) -> Record:
    """The record of a result.

    Raises:
        UserError: nobody is named as its submitter, or no place of its tables.
    """
    return _record({"submitter": submitter, "date": date.isoformat(), "tables": tables}, result, "the new record")


def read_records(folder: Path) -> tuple[Record, ...]:
    """All records of a folder (``*.json``), sorted by file name.

    Raises:
        UserError: a file is not a record, or not the one that its name says (two records can't share a name).
        WorkError: a file is not JSON.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        document = read_json(path)
        if not isinstance(document, Mapping) or "result" not in document:
            raise _refused(str(path), "field 'result' is missing")
        record = _record(document, Result.from_dict(document["result"], str(path)), str(path))
        if record.file_name != path.name:
            raise UserError(
                f"{path} is refused", f"its content belongs to {record.file_name}", "write the record again"
            )
        records.append(record)
    return tuple(records)


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
        return math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(recorded == recomputed)


def _record(head: Mapping[str, Any], result: Result, source: str) -> Record:
    for field in ("submitter", "date", "tables"):
        if not isinstance(head.get(field), str) or not head[field].strip():
            raise _refused(source, f"field {field!r} is {'empty' if field in head else 'missing'}")
    try:
        date = datetime.date.fromisoformat(head["date"])
    except ValueError as error:
        raise _refused(source, f"field 'date' is {head['date']!r} instead of YYYY-MM-DD") from error
    return Record(result=result, submitter=head["submitter"], date=date, tables=head["tables"])


def _refused(source: str, why: str) -> UserError:
    return UserError(f"{source} is not a leaderboard record", why, "write the record again")
