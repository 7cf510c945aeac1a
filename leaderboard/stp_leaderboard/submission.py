"""Submissions: a record and its two tables, packed from a run and opened again without trusting anything in them.

A submission is a folder, or a zip archive of one, laid out as ``leaderboard/records`` is: ``NAME.json``, the record,
and ``NAME/predictions.parquet`` and ``NAME/reference.parquet`` beside it. To submit is to add its files there.
"""

from __future__ import annotations

import dataclasses
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as Date
from pathlib import Path
from typing import Any

from stp_bench import methods
from stp_bench.errors import BenchError, UserError, WorkError, out_of_memory
from stp_bench.files import atomic_path, make_folder, read_json, safe_join, write_bytes
from stp_bench.results import RESULT, Result
from stp_leaderboard.records import Record, read_record, record_of

PREDICTIONS, REFERENCE = "predictions.parquet", "reference.parquet"
MOST_MEMBERS = 10_000
MOST_UNPACKED = 2**30
"""Limits of an archive: files, and their bytes together."""
MOST_TABLE = 256 * 2**20
"""Bytes of a table's file."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression that is unpacked piece by piece: others may turn a few bytes into gigabytes in one read."""
_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}(\.json|/predictions\.parquet|/reference\.parquet)")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A record that can be read, and the folder of its tables; None where they lie elsewhere."""

    record: Record
    source: str
    tables: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A submission that cannot be read: a field (or nothing), and a sentence."""

    source: str
    problem: tuple[str, str]


def runs_in(folder: Path) -> tuple[Path, ...]:
    """The runs of a folder: itself, or those of several methods and seeds that it compares.

    Raises:
        UserError: there is none.
        WorkError: its result is not JSON.
    """
    document = read_json(folder / RESULT)
    if not (isinstance(document, Mapping) and document.get("kind") == "aggregate"):
        return (folder,)
    found = tuple(sorted(path.parent for path in folder.glob(f"*/seed-*/{RESULT}")))
    if not found:
        why = f"it is a comparison, but there is no METHOD/seed-N/{RESULT} in it"
        raise UserError(f"no runs in {folder}", why, "name the folder that 'stp-bench evaluate' wrote")
    return found


def pack(run: Path, into: Path, *, submitter: str, date: Date, tables: str | None = None) -> Record:
    """Pack a run folder: its record and tables are written into a folder, where nothing is replaced. The tables are
    copied and not looked into: a run folder may be a stranger's, too (`stp_leaderboard.proof`).

    Args:
        tables: address at which the tables can be had, if they shall not lie beside the record for good.

    Raises:
        UserError: the folder holds no finished run, a table is too large, or the record is there already with another
            content.
        WorkError: a file cannot be read or written.
    """
    result = Result.read(run / RESULT)
    card = card_of(result.method)
    named = record_of(result, submitter=submitter, date=date, tables=tables or "beside", card=card)
    stem = Path(named.file_name).stem
    record = named if tables else dataclasses.replace(named, tables=stem)
    path = into / record.file_name
    if path.exists() and read_record(path) != record:
        why = "records are added and never edited"
        raise UserError(f"{path} is there already with another content", why, "remove it if it was never published")
    for name in (PREDICTIONS, REFERENCE):
        _copy(run / name, into / stem / name)
    record.write(into)  # last: where the record is, its tables are
    return record


def _copy(table: Path, target: Path) -> None:
    if not table.is_file():
        raise UserError(f"cannot read {table}", "there is no such file", "name the folder of a finished run")
    try:
        with table.open("rb") as file:
            content = file.read(MOST_TABLE + 1)
    except OSError as error:
        raise WorkError(f"cannot read {table}", str(error.strerror).lower(), "mend its permissions") from error
    if len(content) > MOST_TABLE:
        why = f"it is larger than {MOST_TABLE // 2**20} MB"
        raise UserError(f"{table} cannot be submitted", why, "name the folder that 'stp-bench evaluate' wrote")
    write_bytes(target, content)


def card_of(method: str) -> dict[str, Any] | None:
    """What an installed method says of itself; None for one that is not installed under this name. Only a name is
    looked up: a record or a run folder from elsewhere must not be able to have code imported."""
    if ":" in method:
        return None
    try:
        spec = methods.find(method)
    except BenchError:
        return None
    return {
        "title": spec.title, "version": spec.version, "learned": spec.learned, "identity": spec.identity,
        "needs": sorted(spec.needs), "reference": spec.reference, "source": spec.source,
    }  # fmt: skip


def add(packed: Path, out: Path) -> None:
    """Bring packed submissions to their place: into a folder of records, or into one archive (``.zip``).

    Raises:
        UserError: a record of the same name and another content is there.
        WorkError: the disk refused.
    """
    members = sorted(path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file())
    if out.suffix.lower() == ".zip":
        with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in members:
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), (packed / name).read_bytes(), zipfile.ZIP_DEFLATED)
        return
    for name in members:
        target = out / name
        if target.suffix == ".json" and target.exists() and target.read_bytes() != (packed / name).read_bytes():
            why = "records are added and never edited"
            raise UserError(f"{target} is there already with another content", why, "submit under another date")
    make_folder(out)
    for name in sorted(members, key=lambda name: name.endswith(".json")):  # a record is there only with its tables
        write_bytes(out / name, (packed / name).read_bytes())


def open_submissions(path: Path, scratch: Path) -> list[Submission | Refused]:
    """The submissions in a record file, a folder of records, or an archive, sorted by name. A bad one is among them as
    `Refused`.

    Args:
        scratch: an empty folder, for the files of an archive.

    Raises:
        UserError: there is nothing at the path, or an archive holds what no submission has.
        WorkError: an archive is damaged.
    """
    if path.is_dir():
        return [_open(file) for file in sorted(path.glob("*.json"))]
    if path.suffix.lower() == ".zip" and path.is_file():
        unpack(path, scratch)
        found = [_open(file) for file in sorted(scratch.glob("*.json"))]
        if not found:
            raise UserError(f"{path} is no submission", "it holds no record", "pack it with 'leaderboard submit'")
        return found
    if not path.is_file():
        raise UserError(f"cannot read {path}", "there is no such file or folder", "check the path")
    return [_open(path)]


def _open(path: Path) -> Submission | Refused:
    try:
        record = read_record(path)
        beside = path.with_suffix("") if "://" in record.tables else safe_join(path.parent, record.tables)
        there = beside.is_dir() or "://" not in record.tables
    except BenchError as error:
        found = re.search(r"field '([^']+)'", error.why)
        field = found[1] if found else "tables" if "path" in error.what else ""
        return Refused(source=str(path), problem=(field, f"{error.what}, {error.why}"))
    except Exception as error:  # a stranger's file may be wrong in any way, and must not stop the others
        if out_of_memory(error):
            raise
        return Refused(source=str(path), problem=("", f"cannot be read ({type(error).__name__}: {str(error)[:200]})"))
    return Submission(record=record, source=str(path), tables=beside if there else None)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a submission's archive: known names only, and no more bytes than `MOST_UNPACKED` whatever it declares.

    Raises:
        UserError: it holds another name, one twice, a link, an encrypted file, one of unusual compression, or too much.
        WorkError: it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > MOST_MEMBERS:
                raise _unfit(archive, f"it holds more than {MOST_MEMBERS:,} files")
            left, seen = MOST_UNPACKED, set()
            for member in members:
                if member.is_dir():
                    continue
                name = member.filename
                kind = member.external_attr >> 28  # of the file mode that Unix archives keep; 8: a plain file
                if not _MEMBER.fullmatch(name) or kind not in (0, 8) or name in seen or member.flag_bits & 1:
                    raise _unfit(archive, f"it holds {name!r:.80}, which no submission has")
                if member.compress_type not in _METHODS:
                    raise _unfit(archive, f"{name!r:.80} is compressed by another method than deflate")
                seen.add(name)
                left -= _extract(opened, member, safe_join(folder, name), left, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError, OSError) as error:
        raise WorkError(f"cannot read {archive}", f"it is damaged ({error})", "pack the run again") from error


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most: int, archive: Path) -> int:
    make_folder(target.parent)
    written = 0
    with opened.open(member) as source, target.open("wb") as file:
        while part := source.read(2**20):
            written += len(part)
            if written > most:
                raise _unfit(archive, f"it unpacks to more than {MOST_UNPACKED // 2**20} MB")
            file.write(part)
    return written


def _unfit(archive: Path, why: str) -> UserError:
    return UserError(f"{archive} is refused", why, "pack the run again with 'stp-bench leaderboard submit'")
