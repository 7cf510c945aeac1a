"""Downloading a label release from where its authors publish it: only when asked, and kept only if it is theirs."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath

from stp_annotations import Release, releases
from stp_bench.errors import WorkError
from stp_bench.files import atomic_path, human_bytes, make_folder
from stp_bench.labels._official import MAX_BYTES, combined_sha256, digests
from stp_bench.labels._open import release_named
from stp_bench.progress import Reporter, Task

BASE = "https://raw.githubusercontent.com"

_TIMEOUT = 30.0
"""Seconds of silence after which a download is given up."""
_PIECE = 2**16


def fetch(release: str | Release, folder: Path, *, base: str = BASE, reporter: Reporter) -> Path:
    """Download the official files of a release into ``folder``; those that are there already are not asked for again.

    A file gets its name only after its digest was found to be the published one.

    Returns:
        What `import_labels` takes: the file, or the folder of several.

    Raises:
        UserError: unknown release.
        WorkError: no network, another answer than the published file, or a disk that refuses.
    """
    release = release_named(release)
    parts = [releases()[part] for part in release.of] or [release]
    found = [_fetch_one(part, folder, release, base, reporter) for part in parts]
    return found[0] if len(found) == 1 else folder


def _fetch_one(part: Release, folder: Path, release: Release, base: str, reporter: Reporter) -> Path:
    """One file, or the files of one folder of the repository."""
    names = [PurePosixPath(file) for file in part.files]
    single = len(names) == 1
    target = folder / names[0].name if single else folder / names[0].parent.name
    if _is(part, target, names):
        reporter.say(f"{part.name} is there already: {target}")
        return target
    size = f"{human_bytes(part.bytes)}, " if part.bytes else ""
    what = f"{len(names)} file{'s' if len(names) > 1 else ''}, {size}license: {part.license}"
    reporter.say(f"downloading {part.name} ({what}) from {_url(base, part, '')} to {target}")
    make_folder(folder)
    with reporter.stage(f"download {part.name}", part.bytes, "bytes") as task:
        if single:
            with atomic_path(target, fsync=True) as temporary:
                _download(_url(base, part, part.files[0]), temporary, part, release, task)
                _verify(part, temporary, names, release)
        else:
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
            try:
                for file, path in zip(part.files, names, strict=True):
                    _download(_url(base, part, file), partial / path.name, part, release, task)
                _verify(part, partial, names, release)
                if target.exists():
                    raise WorkError(
                        f"cannot write {target}", "it holds other files", "remove it or choose another folder"
                    )
                partial.replace(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def _url(base: str, part: Release, file: str) -> str:
    return f"{base}/{part.repository}/{part.commit}/{urllib.parse.quote(file)}"


def _is(part: Release, target: Path, names: list[PurePosixPath]) -> bool:
    """Whether ``target`` is what the release published."""
    if len(names) == 1:
        return target.is_file() and digests(target).match(part)
    files = [target / name.name for name in names]
    if not all(file.is_file() for file in files):
        return False
    return combined_sha256({file.name: digests(file).sha256 for file in files}) == part.sha256


def _verify(part: Release, target: Path, names: list[PurePosixPath], release: Release) -> None:
    if not _is(part, target, names):
        raise WorkError(f"cannot fetch {part.name}", "what came is not the published file", _way_round(part, release))


def _download(url: str, target: Path, part: Release, release: Release, task: Task) -> None:
    """Write what ``url`` answers, of at most the published size."""
    left = part.bytes or MAX_BYTES
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, target.open("wb") as handle:
            while piece := answer.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise WorkError(f"cannot fetch {url}", "it is larger than published", _way_round(part, release))
                handle.write(piece)
                task.advance(len(piece))
    except urllib.error.HTTPError as error:
        why = f"the server answers {error.code} {error.reason}"
        raise WorkError(f"cannot fetch {url}", why, _way_round(part, release)) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise WorkError(f"cannot fetch {url}", f"no answer ({reason})", _way_round(part, release)) from error


def _way_round(part: Release, release: Release) -> str:
    """How to get the same files without us."""
    where = f"https://github.com/{part.repository}"
    files = part.files[0] if len(part.files) == 1 else str(PurePosixPath(part.files[0]).parent)
    return (
        f"get {files} of {where} with a browser or 'git clone' wherever there is a network, then "
        f"'stp-bench labels import PATH --release {release.name}'"
    )
