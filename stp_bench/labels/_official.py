"""What the readers of official files share: bounded reading, digests, names of videos, and how they refuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stp_annotations import Release, attributes
from stp_bench.errors import UserError, WorkError
from stp_bench.schema import Labels, Span, Target

MAX_BYTES = 2**28
"""No published label file comes near this size; what is larger is refused before it is read."""


def five_attributes() -> Target:
    """The private target of the action data sets, whose action is the class folder."""
    return Target(name="privacy", kind="multilabel", classes=tuple(a.name for a in attributes()), private=True)


def broken(path: Path, release: str, why: str) -> UserError:
    """The error for a file that does not hold what its release should."""
    return UserError(
        f"cannot read {path} as labels of {release}",
        why,
        f"get the official file by 'stp-bench labels fetch {release}'",
    )


def unreadable(path: Path, error: OSError) -> UserError | WorkError:
    """The error for a path that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"cannot read {path}", "there is no such file", "check the path")
    return WorkError(f"cannot read {path}", (error.strerror or str(error)).lower(), "mend that and try again")


def content_of(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file of at most ``limit``.

    Raises:
        UserError: no such file, or a larger one.
        WorkError: the system refused.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) > limit:
        raise UserError(f"cannot read {path}", f"it has more than {limit:,} bytes", "choose the label file itself")
    return content


def content_start(path: Path) -> bytes:
    """The first bytes of a file, by which formats are told apart."""
    try:
        with path.open("rb") as handle:
            return handle.read(256)
    except OSError as error:
        raise unreadable(path, error) from error


class Digests(NamedTuple):
    """What identifies a file: SHA-256, and the SHA-1 by which git names its content."""

    sha256: str
    git_blob: str

    def match(self, release: Release) -> bool:
        """Whether this is the release's file, by the digest that is published of it."""
        if release.sha256 is not None:
            return self.sha256 == release.sha256
        return self.git_blob == release.git_blob


def digests(path: Path) -> Digests:
    """Both digests of a file, read piece by piece."""
    try:
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as handle:
            while piece := handle.read(2**20):
                sha256.update(piece)
                git.update(piece)
    except OSError as error:
        raise unreadable(path, error) from error
    return Digests(sha256.hexdigest(), git.hexdigest())


def combined_sha256(files: Mapping[str, str]) -> str:
    """SHA-256 over several files: of the lines ``<name> NUL <SHA-256> LF``, sorted by name."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def accepted(path: Path, release: str, matches: bool, found: str, *, accept_unknown: bool) -> bool:
    """Whether a file is the published one; another is refused unless the caller accepts it.

    Raises:
        UserError: it is another, and not accepted.
    """
    if not matches and not accept_unknown:
        raise UserError(
            f"{path} is not {release} as published",
            f"its digest {found[:12]}… is another",
            f"get the official file by 'stp-bench labels fetch {release}', or take this one with --accept-unknown",
        )
    return matches


def parse_json(content: bytes) -> Any:
    """A JSON document in which no key of an object occurs twice.

    Raises:
        ValueError: it is not one.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not text") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def name_of(text: Any) -> str:
    """``text`` if it can name a video on every disk and in every table: printable, relative, no ``..``.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.60} is no name of a video")
    parts = text.split("/")
    if not text.isprintable() or "\\" in text or len(text) > 512 or any(p.strip() in ("", ".", "..") for p in parts):
        raise ValueError(f"{text!r:.60} is no name of a video")
    return text


def some_frame(spans: Iterable[Span], classes: int) -> Labels | None:
    """Labels of a video by those of its frames: 1 if some frame shows it, 0 if labelled frames do not, else -1.

    None if no frame is labelled.
    """
    rows = [span.labels for span in spans]
    return tuple(max(row[k] for row in rows) for k in range(classes)) if rows else None


def about(release: Release, files: Mapping[str, str], *, verified: bool, rule: str | None = None) -> dict[str, Any]:
    """The part of a table's manifest that all releases have. ``files``: name to SHA-256."""
    return {
        "dataset": release.dataset,
        "source": f"https://github.com/{release.repository}",
        "commit": release.commit,
        "license": release.license,
        "files": dict(sorted(files.items())),
        "sha256": combined_sha256(files) if len(files) > 1 else next(iter(files.values())),
        "verified": verified,
        "columns": list(release.columns),
        "columns_known": release.columns_known,
        "rule": rule,
        "prevalence": release.prevalence(rule),
        "note": release.note,
    }
