"""Votes of a labelling round: out of exports, and of files from other teams, into its folder.

The table's columns are in `_table`, how an export is read is in `_export`; both are used through this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stp_bench.annotate._export import (
    REASONS,
    REJECT_COLUMNS,
    VOTES,
    Extracted,
    extract,
    pseudonym,
    rejects_table,
)
from stp_bench.annotate._table import (
    ABSTAIN,
    COLUMNS,
    KEY,
    NO,
    SCHEMA,
    YES,
    attribute_order,
    bad_vote,
    check_column,
    in_order,
    read_votes,
    votes_table,
    write_csv,
    write_parquet,
    write_votes,
)
from stp_bench.errors import WorkError

__all__ = [
    "ABSTAIN", "COLUMNS", "KEY", "NO", "REASONS", "REJECT_COLUMNS", "VOTES", "YES", "Extracted", "Imported", "Merged",
    "attribute_order", "extract", "import_votes", "in_order", "merge_votes", "pseudonym", "read_round", "read_votes",
    "write_csv", "write_votes",
]  # fmt: skip

_IMPORTED = "imported.parquet"
"""Votes that came in files: no export of this server says anything about them."""


class Merged(NamedTuple):
    """What a pull changed, in votes unless said otherwise."""

    votes: int
    """Of the round, from this server."""
    annotations: int
    new: int
    changed: int
    gone: int
    """Were there before, and the server has them no longer."""
    rejected: dict[str, int]
    """Reason to number of annotations."""


def merge_votes(folder: Path, extracted: Extracted, round: str) -> Merged:
    """Write ``votes.parquet``, ``votes.csv`` and ``rejects.csv`` of a labelling round.

    An export is the whole truth about its project: the votes of this round become what it holds. Those of the other
    round, and those that `import_votes` brought from other teams, stay.

    Raises:
        WorkError: the disk refused, or the votes there are damaged.
    """
    before, rejects = read_round(folder)
    imported = _own(folder / _IMPORTED)
    here = before[before["round"] == round]
    here = here[~_keys(here).isin(_keys(imported))]
    found = extracted.votes
    others = before[(before["round"] != round) | _keys(before).isin(_keys(imported))]
    others = others[~_keys(others).isin(_keys(found))]
    both = here.merge(found, on=KEY, suffixes=("_before", ""))
    changed = int((both["vote_before"] != both["vote"]).sum())
    aside = rejects_table(pd.concat([rejects[rejects["round"] != round], extracted.rejects]))
    _write(in_order(pd.concat([others, found])), aside, folder)
    return Merged(
        votes=len(found),
        annotations=len(found[["video_id", "annotator"]].drop_duplicates()),
        new=len(found) - len(both),
        changed=changed,
        gone=len(here) - len(both),
        rejected=dict(sorted(Counter(extracted.rejects["reason"]).items())),
    )


class Imported(NamedTuple):
    """What a file of votes brought."""

    new: int
    known: int
    """Were there already."""
    annotators: int
    guideline_versions: tuple[str, ...]


def import_votes(
    folder: Path, path: Path, *, videos: Collection[str], attributes: Collection[str], write: bool = True
) -> Imported:
    """Take the votes of another team into a labelling round; what is there already is passed over.

    Raises:
        UserError: `read_votes`; or a vote of another round of videos, or one that contradicts a vote that is there.
        WorkError: the disk refused.
    """
    found = read_votes(path)
    for column, known in (("video_id", videos), ("attribute", attributes)):
        strange = ~found[column].isin(set(known))
        check_column(path, found, strange, column, "is not part of this labelling round")
    before, rejects = read_round(folder)
    both = found.reset_index(names="place").merge(before, on=KEY, suffixes=("", "_before"))
    other = both[both["vote"] != both["vote_before"]]
    if len(other):
        row = other.iloc[0]
        why = f"{row['annotator']} voted {row['vote_before']} on {row['attribute']} of {row['video_id']} here"
        raise bad_vote(path, int(row["place"]), "vote", f"{row['vote']!r} contradicts another: {why}")
    new = found[~_keys(found).isin(_keys(before))]
    if write and len(new):
        write_parquet(in_order(pd.concat([_own(folder / _IMPORTED), new])), folder / _IMPORTED)
        _write(in_order(pd.concat([before, new])), rejects, folder)
    return Imported(
        new=len(new),
        known=len(found) - len(new),
        annotators=found["annotator"].nunique(),
        guideline_versions=tuple(sorted(found["guideline_version"].unique())),
    )


def read_round(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Votes and rejects of a labelling round; empty tables where none were pulled yet.

    Raises:
        WorkError: a file is damaged.
    """
    return _own(folder / "votes.parquet"), _own_rejects(folder / "rejects.csv")


def _own(path: Path) -> pd.DataFrame:
    if not path.exists():
        return votes_table([])
    try:
        return in_order(pq.read_table(path, schema=SCHEMA, partitioning=None).to_pandas(integer_object_nulls=True))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _own_rejects(path: Path) -> pd.DataFrame:
    if not path.exists():
        return rejects_table([])
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False, na_values={"annotation_id": [""]})
        return rejects_table(found[list(REJECT_COLUMNS)].astype({"annotation_id": "Int64"}))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WorkError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return WorkError(f"cannot read {path}", first[:200], "remove it and run 'stp-bench annotate pull' again")


def _keys(votes: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(votes[KEY])


def _write(votes: pd.DataFrame, rejects: pd.DataFrame, folder: Path) -> None:
    write_csv(rejects, folder / "rejects.csv")
    write_csv(votes, folder / "votes.csv")
    write_parquet(votes, folder / "votes.parquet")  # the one that is read: last, when the others are whole
