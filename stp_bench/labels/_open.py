"""From a path to a label table: which release it holds, and whose reader understands it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stp_annotations import Release, releases
from stp_bench.errors import UserError, unknown_name
from stp_bench.labels import _celebv, _hvu, _pa, _vp
from stp_bench.labels._csv import read_table
from stp_bench.labels._official import accepted, content_start, digests
from stp_bench.labels._table import LabelTable

IMPORTABLE = ("vp-hmdb51", "vp-ucf101", "pa-hmdb51", "celebv-hq", "p-hvu")
"""Releases that become a table."""

_PICKLES = ("vp-hmdb51", "vp-ucf101")
TABLE = "labels.csv"


def release_named(release: str | Release) -> Release:
    """What is known of a release that can be imported; one that is given as a value is what its value says.

    Raises:
        UserError: unknown name.
    """
    name = release if isinstance(release, str) else release.name
    if name not in IMPORTABLE:
        raise unknown_name("label release", name, IMPORTABLE)
    return releases()[name] if isinstance(release, str) else release


def stored(home: Path, release: str) -> Path:
    """Where the data home keeps the table of an imported release."""
    return home / "labels" / release / TABLE


def import_labels(
    path: Path, release: str | Release, *, rule: str | None = None, accept_unknown: bool = False
) -> LabelTable:
    """Read the official file, or folder of files, of a release. Nothing in it is executed.

    Args:
        rule: how to read it as yes or no, where there is a choice (``Release.rules``; its first by default).
        accept_unknown: take a file whose digest is not the published one; the manifest then says ``verified: false``.

    Raises:
        UserError: unknown release or rule; no such file; not the published file; or not what such a file holds.
        WorkError: the system refused to read it.
    """
    known = release_named(release)
    release = known.name
    if rule is not None and not known.rules:
        raise UserError(f"rule {rule!r} has no use", f"{release} is published as yes and no", "leave the rule out")
    if rule is not None and rule not in known.rules:
        raise unknown_name(f"rule of {release}", rule, known.rules)
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"cannot read {path}", "there is no such file", f"see 'stp-bench labels fetch {release}'")
    chosen = rule or (known.rules[0] if known.rules else "")
    if release == "pa-hmdb51":
        folder = path if path.is_dir() else path.parent
        return _pa.read_pa(folder, known, rule=chosen, accept_unknown=accept_unknown)
    if release == "p-hvu":
        return _hvu.read_hvu(path, known, accept_unknown=accept_unknown)
    file = path / Path(known.files[0]).name if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"cannot read {path}", f"it is a folder without {file.name}", "give the file itself")
    if release == "celebv-hq":
        return _celebv.read_celebv(file, known, rule=chosen, accept_unknown=accept_unknown)
    return _vp.read_vp(file, known, accept_unknown=accept_unknown)


def open_labels(path: Path, *, expected: Sequence[str] = IMPORTABLE, accept_unknown: bool = False) -> LabelTable:
    """The labels in a table of ours, or in an official file or folder, known by its content.

    A table of labels that somebody made of their own, under a name that no release has, is taken whatever is expected.

    Args:
        expected: names of the releases that the caller can use.

    Raises:
        UserError: no such file; labels of another data set; or what `import_labels` and `read_table` refuse.
        WorkError: the system refused to read it.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"cannot read {path}", "there is no such file", "check the path")
    found = _recognized(path)
    if found is None:
        table = read_table(path / TABLE if path.is_dir() else path)
        if table.release in releases() and table.release not in expected:
            raise _another(path, table.release, expected)
        return table
    candidates = [name for name in expected if name in found]
    if not candidates:
        raise _another(path, found[0], expected)
    if len(found) > 1:
        candidates = _by_digest(path, found, candidates, accept_unknown=accept_unknown)
        if candidates[0] not in expected:
            raise _another(path, candidates[0], expected)
    return import_labels(path, candidates[0], accept_unknown=accept_unknown)


def _another(path: Path, found: str, expected: Sequence[str]) -> UserError:
    return UserError(
        f"{path} holds other labels",
        f"they are of {found}, not of {' or '.join(expected)}",
        "give the labels of the videos",
    )


def _by_digest(path: Path, found: Sequence[str], wanted: Sequence[str], *, accept_unknown: bool) -> list[str]:
    """The release among ``found`` whose file this is; else, if unknown files are accepted, the one that is wanted."""
    digest = digests(path)
    for name in found:
        if digest.match(releases()[name]):
            return [name]
    accepted(path, wanted[0], False, digest.sha256, accept_unknown=accept_unknown)
    if len(wanted) > 1:
        raise UserError(
            f"cannot tell what {path} labels",
            f"it could be {' or '.join(wanted)}",
            "say which by 'stp-bench labels import FILE --release NAME --accept-unknown'",
        )
    return list(wanted)


def _recognized(path: Path) -> Sequence[str] | None:
    """The releases that a path may hold; None for a table of ours."""
    if path.is_dir():
        return _recognized_folder(path)
    start = content_start(path)
    if start.startswith(b"\x80"):
        return _PICKLES
    if _hvu.is_row_list(path) or _hvu.is_tag_list(path):
        return ("p-hvu",)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        classes = {Path(file).name for file in releases()["pa-hmdb51"].files}
        return ("pa-hmdb51",) if path.name in classes else ("celebv-hq",)
    return None


def _recognized_folder(path: Path) -> Sequence[str] | None:
    if (path / TABLE).is_file():
        return None
    if (path / _celebv.FILE).is_file():
        return ("celebv-hq",)
    if any(_hvu.is_tag_list(p) for p in sorted(path.glob("*.csv"))):
        return ("p-hvu",)
    if _pa.json_files(path):
        return ("pa-hmdb51",)
    pickles = [name for name in _PICKLES if (path / Path(releases()[name].files[0]).name).is_file()]
    if len(pickles) == 1:
        return pickles
    raise UserError(
        f"cannot tell what labels {path} holds", "no published label file lies in it", "give the label file itself"
    )
