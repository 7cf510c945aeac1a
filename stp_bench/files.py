"""All file manners in one place: the data home, whole-or-nothing writes, digests, and paths that cannot escape.

Writes go to a temporary name beside the target and are renamed, so that a killed command never leaves half a file
under a final name (rename is atomic within one folder; durability across a power cut is asked for by ``fsync``).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stp_bench.errors import UserError, WorkError

HOME_VARIABLE = "STP_BENCH_HOME"
NEARLY_FULL = 2**16
"""Bytes: a disk with less room than this is full for a library that writes in blocks."""


def data_home(chosen: Path | None = None) -> Path:
    """The folder for everything the toolkit keeps: ``chosen``, else ``$STP_BENCH_HOME``, else the platform's own."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("stp-bench", appauthor=False))


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents.

    Raises:
        WorkError: the folder cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(errno.EACCES, "permission denied"))
    return path


def unwritable(path: Path, error: BaseException) -> WorkError:
    """The error for a failed write: a full disk and a forbidden folder need different mends."""
    reason = getattr(error, "strerror", None) or str(error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    mend = "free some space and run the same command again" if full else "choose another folder or mend its permissions"
    return WorkError(f"cannot write {path}", str(reason).lower(), mend)


@contextmanager
def atomic_path(target: Path, *, fsync: bool = False) -> Iterator[Path]:
    """A temporary path beside ``target`` that becomes ``target`` if the block ends well and vanishes if it does not.

    The temporary name keeps the suffix, since encoders choose a container by it.

    Raises:
        WorkError: the folder or disk refused the write.
    """
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(3)}.partial{target.suffix}")
    try:
        yield temporary
        if fsync:
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    except RuntimeError as error:  # torch, for one, reports a write that a full disk cut short as an inner defect
        if free_bytes(target.parent) < NEARLY_FULL:
            raise unwritable(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target``, whole or not at all."""
    with atomic_path(target, fsync=True) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all. NaN and infinity are refused."""
    write_bytes(target, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON document in ``path``.

    Raises:
        UserError: the file is missing.
        WorkError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"cannot read {path}", "there is no such file", "check the path") from error
    except (OSError, ValueError) as error:
        raise WorkError(
            f"cannot read {path}", f"it is not a JSON document ({error})", "restore or remove it"
        ) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def fingerprint(value: Mapping[str, Any] | list[Any] | str) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hex: the key of everything that is cached."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def safe_join(root: Path, relative: str, *, follow_links: bool = False) -> Path:
    """``root / relative``, refused if it could point outside ``root`` (absolute, ``..``, or through a link).

    Args:
        follow_links: whether links in ``root`` may lead anywhere: only where its owner made them.

    Raises:
        UserError: the path would leave ``root``.
    """
    parts = PurePosixPath(relative)
    escapes = parts.is_absolute() or ".." in parts.parts or "\\" in relative or "\0" in relative
    path = root / parts
    if escapes or not (follow_links or path.resolve().is_relative_to(root.resolve())):
        raise UserError(f"path {relative!r} is refused", f"it leaves {root}", "use names inside that folder only")
    return path


def free_bytes(folder: Path) -> int:
    """Free space on the disk that holds ``folder`` or its nearest existing parent."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    """``count`` bytes for people: ``1.5 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
