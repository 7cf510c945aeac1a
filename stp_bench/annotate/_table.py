"""The table of votes, and files of it.

One row per annotator, video and attribute. The columns (`COLUMNS`)::

    video_id           the video's key, as in the benchmark's labels
    annotator          a pseudonym: a keyed hash of the e-mail address, never the address
    attribute          what was asked
    vote               "1" identifiable, "0" not, "abstain" not sure
    seconds            how long the whole form of this video was open; empty where unknown
    annotation_id      the server's number of that form; empty where unknown
    created_at         first submission, UTC (``2026-01-31T09:30:00.000000Z``); empty where unknown
    updated_at         last change, the same
    round              ``independent`` or ``adjudication``
    guideline_version  of the wording that was answered to; empty where unknown

Rows are sorted by video, round, annotator and attribute, so that equal votes are equal bytes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stp_annotations import attributes as all_attributes
from stp_bench.annotate._project import ADJUDICATION, ROUND
from stp_bench.errors import UserError
from stp_bench.files import atomic_path
from stp_bench.labels._official import name_of, unreadable

COLUMNS = (
    "video_id", "annotator", "attribute", "vote", "seconds", "annotation_id", "created_at", "updated_at", "round",
    "guideline_version",
)  # fmt: skip
KEY = ["video_id", "annotator", "attribute", "round"]
"""Of which no two rows may agree in all: a person has one vote."""
YES, NO, ABSTAIN = "1", "0", "abstain"
MAX_BYTES, MAX_ROWS = 2**29, 2**25
"""A file of votes beyond either is refused before it is read."""

_NUMERIC = {"seconds": pa.float64(), "annotation_id": pa.int64()}
SCHEMA = pa.schema([(name, _NUMERIC.get(name, pa.string())) for name in COLUMNS])
_RANK = {a.name: i for i, a in enumerate(all_attributes())}
_PSEUDONYM = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_ATTRIBUTE = r"[a-z][a-z0-9_]{0,63}"
_MEND = "mend that row, or export the votes again by 'stp-bench annotate votes-export'"


def attribute_order(names: Iterable[str]) -> list[str]:
    """Attributes in the order of every table; those that are not ours come last, by name."""
    return sorted(set(names), key=lambda name: (_RANK.get(name, len(_RANK)), name))


def votes_table(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A table of these rows, in order."""
    return in_order(pd.DataFrame(rows, columns=list(COLUMNS)))


def in_order(votes: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of every table, under the types of every table."""
    votes = _typed(votes).reset_index(drop=True)
    place = {name: i for i, name in enumerate(attribute_order(votes["attribute"]))}
    keys = votes.assign(
        round=votes["round"] == ADJUDICATION, attribute=votes["attribute"].map(place).astype("int64")
    ).sort_values(["video_id", "round", "annotator", "attribute"], kind="stable")
    return votes.loc[keys.index].reset_index(drop=True)


def _typed(votes: pd.DataFrame) -> pd.DataFrame:
    texts = {name: object for name in COLUMNS if name not in _NUMERIC}
    return votes[list(COLUMNS)].astype(texts | {"seconds": "float64", "annotation_id": "Int64"})


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Write any table as CSV, whole or not at all.

    Raises:
        WorkError: the disk refused.
    """
    with atomic_path(path, fsync=True) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(votes: pd.DataFrame, path: Path) -> None:
    """Write a table of votes, whole or not at all; equal votes give equal bytes.

    Raises:
        WorkError: the disk refused.
    """
    with atomic_path(path, fsync=True) as temporary:
        # Without the metadata that names the versions of libraries.
        table = pa.Table.from_pandas(votes, schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, temporary)


def write_votes(votes: pd.DataFrame, path: Path) -> None:
    """Write votes for others, as the name ends: ``.csv`` or ``.parquet``.

    Raises:
        UserError: it ends in neither.
        WorkError: the disk refused.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"cannot write votes to {path}", "its name says no format", "end it in .csv or .parquet")
    (write_csv if path.suffix.lower() == ".csv" else write_parquet)(votes, path)


def read_votes(path: Path) -> pd.DataFrame:
    """A file of votes from outside, CSV or parquet, in the order of its rows. Of the columns, ``seconds``,
    ``annotation_id``, the times and the guideline's version may be empty.

    Raises:
        UserError: no such file, or a fault in it: names row and column.
        WorkError: the system refused.
    """
    try:
        if not path.is_file():
            raise UserError(f"cannot read {path}", "there is no such file", "check the path")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"cannot read {path}", f"it has more than {MAX_BYTES:,} bytes", "give the file of votes")
        with path.open("rb") as handle:
            parquet = handle.read(4) == b"PAR1"
        votes = _from_parquet(path) if parquet else _from_csv(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return _checked(path, votes)


def _from_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(handle, strict=True)
            header = next(rows, [])
            _check_columns(path, header)
            return pd.DataFrame(_full_rows(path, rows, len(header)), columns=header, dtype=object)
    except (csv.Error, UnicodeDecodeError) as error:
        why = f"it is neither parquet nor CSV in UTF-8 ({error})"
        raise UserError(
            f"cannot read the votes {path}", why, "give a file of 'stp-bench annotate votes-export'"
        ) from error


def _full_rows(path: Path, rows: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    for number, row in enumerate(rows, 2):
        if len(row) != width:
            raise UserError(
                f"cannot read the votes {path}, row {number}", f"it has {len(row)} cells, not {width}", _MEND
            )
        if number > MAX_ROWS:
            raise UserError(f"cannot read the votes {path}", f"it has more than {MAX_ROWS:,} rows", "split it")
        yield row


def _from_parquet(path: Path) -> pd.DataFrame:
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            if file.metadata.num_rows > MAX_ROWS:
                raise UserError(f"cannot read the votes {path}", f"it has more than {MAX_ROWS:,} rows", "split it")
            table = file.read(columns=list(COLUMNS))
        return pd.DataFrame(
            {name: ["" if v is None else v for v in table[name].to_pylist()] for name in COLUMNS}, dtype=object
        )
    except pa.ArrowException as error:
        why = f"it is damaged ({str(error).splitlines()[0]:.120})"
        raise UserError(f"cannot read the votes {path}", why, "export the votes again") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    strange = [name for name in names if name not in COLUMNS]
    if missing or strange or len(names) != len(COLUMNS):
        why = (
            f"it has no column {missing[0]}" if missing else f"it has the column {strange[0]!r:.60}" if strange else ""
        )
        raise UserError(
            f"cannot read the votes {path}", why or "a column occurs twice", f"its columns are {', '.join(COLUMNS)}"
        )


def _checked(path: Path, votes: pd.DataFrame) -> pd.DataFrame:
    """Types and values of every column, then duplicates."""
    for column in COLUMNS:
        if column not in ("seconds", "annotation_id"):
            check_column(
                path, votes, ~votes[column].map(lambda v: isinstance(v, str)).astype(bool), column, "is no text"
            )
    strange = {v for v in votes["video_id"].unique() if not _is_name(v)}
    check_column(path, votes, votes["video_id"].isin(strange), "video_id", "is no name of a video")
    for column, pattern, why in (
        ("annotator", _PSEUDONYM, "is no pseudonym (letters, digits, '.', '_' and '-')"),
        ("attribute", _ATTRIBUTE, "is no name of an attribute"),
        ("guideline_version", rf"(?:{_PSEUDONYM})?", "is no version"),
    ):
        check_column(path, votes, ~votes[column].str.fullmatch(pattern).astype(bool), column, why)
    check_column(path, votes, ~votes["vote"].isin((YES, NO, ABSTAIN)), "vote", "is not 1, 0 or abstain")
    check_column(path, votes, ~votes["round"].isin((ROUND, ADJUDICATION)), "round", f"is not {ROUND} or {ADJUDICATION}")
    made = votes.copy()
    for column in ("created_at", "updated_at"):
        times = {v: utc_text(v) if v else "" for v in votes[column].unique()}
        made[column] = votes[column].map(times)
        check_column(path, votes, made[column].isna(), column, "is no time such as 2026-01-31T09:30:00Z")
    for column, reader in (("seconds", _read_seconds), ("annotation_id", _read_number)):
        values = {v: reader(v) for v in votes[column].unique()}
        made[column] = votes[column].map(values).astype("float64" if column == "seconds" else object)
        bad = {v for v, found in values.items() if found is None and v != ""}
        check_column(path, votes, votes[column].isin(bad), column, "is no such number")
    check_column(
        path, votes, votes.duplicated(KEY), "video_id", "has a second vote of this annotator on this attribute"
    )
    return _typed(made)


def _is_name(text: str) -> bool:
    try:
        return bool(name_of(text))
    except ValueError:
        return False


def utc_text(value: Any) -> str | None:
    """A time as tables keep it: UTC to the microsecond, so that text sorts like time."""
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def seconds_of(value: Any) -> float | None:
    """A length of time, if ``value`` is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return round(float(value), 3) if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None


def is_number(value: Any) -> bool:
    """Whether a value can be the server's number of something."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _read_seconds(value: Any) -> float | None:
    try:
        return seconds_of(float(value) if isinstance(value, str) else value)
    except ValueError:
        return None


def _read_number(value: Any) -> int | None:
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    return value if is_number(value) else None


def check_column(path: Path, votes: pd.DataFrame, wrong: pd.Series[bool], column: str, why: str) -> None:
    """Refuse a file of votes for its first row that is ``wrong`` in a column."""
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        raise bad_vote(path, place, column, f"{votes[column].iloc[place]!r:.60} {why}")


def bad_vote(path: Path, place: int, column: str, why: str) -> UserError:
    """The error for a vote; rows are counted as a spreadsheet shows them: the header is the first."""
    return UserError(f"cannot take the votes {path}, row {place + 2}, column {column}", why, _MEND)
