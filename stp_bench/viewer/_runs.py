"""The runs to look at: their folders opened, checked to be of the same videos, and given short names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stp_bench import methods
from stp_bench.errors import UserError, WorkError, unknown_name
from stp_bench.files import fingerprint, read_json, safe_join
from stp_bench.methods import MethodSpec
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import RESULT, RUN, Result
from stp_bench.rundir import PREDICTIONS, REFERENCE

EVALUATE = "name a run folder of 'stp-bench evaluate'"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run."""

    label: str
    """What slices, fields and rows call it: its method, with the seed where several runs have that method."""
    folder: Path
    key: str
    """Tells runs apart: the fingerprint of everything that moved its numbers."""
    result: Result
    predictions: Predictions
    reference: Reference
    identity: bool
    """Whether its method changes nothing: what it found is then about the raw videos."""

    @property
    def attacker(self) -> str:
        """The kind of the stronger attacker, ``video`` or ``frame``, whose scores are shown."""
        return str(self.result.metrics["worst"]["attacker"])

    @property
    def suffix(self) -> str:
        """The label as part of a field's name."""
        return re.sub(r"[^0-9a-zA-Z]+", "_", self.label).strip("_")

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the run: ``run``, ``method``, ``keep``, ``encoding``, ``decoder``."""
        return dict(self.result.provenance["config"])


def open_runs(paths: Sequence[Path], only: Sequence[str] = ()) -> list[Run]:
    """The runs in some folders, in that order. The folder of a comparison stands for all its methods, each with its
    lowest seed.

    Args:
        only: methods to look at; all if empty.

    Raises:
        UserError: no run there, one without predictions, or runs of different videos.
        WorkError: a file of a run is damaged.
    """
    folders = list(dict.fromkeys(folder for path in paths for folder in _folders(path)))
    runs = [_open(folder) for folder in folders]
    known = list(dict.fromkeys(run.result.method for run in runs))
    for name in only:
        if name not in known:
            raise unknown_name("method of these runs", name, known)
    runs = [run for run in runs if not only or run.result.method in only]
    for other in runs[1:]:
        _check_alike(runs[0], other)
    return _labelled(runs)


def run_id(runs: Sequence[Run]) -> str:
    """Eight hex digits that name a run, or a set of runs whatever their order."""
    return runs[0].key[:8] if len(runs) == 1 else fingerprint(sorted(run.key for run in runs))[:8]


def _folders(path: Path) -> list[Path]:
    path = path.expanduser().absolute()
    if path.is_file() and path.name == RESULT:
        path = path.parent
    if not path.is_dir():
        raise UserError(f"there is no run folder {path}", "it does not exist or is no folder", EVALUATE)
    if not (path / RESULT).exists():
        why = "it was not finished, or only fits a method" if (path / RUN).exists() else f"it has no {RESULT}"
        raise UserError(f"{path} has no predictions to look at", why, EVALUATE)
    document = read_json(path / RESULT)
    if not isinstance(document, dict) or document.get("kind") != "aggregate":
        return [path]
    lowest: dict[str, int] = {}
    try:
        for result in document["results"]:
            method, seed = str(result["method"]), int(result["seed"])
            lowest[method] = min(seed, lowest.get(method, seed))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"cannot read {path / RESULT}", f"a field is missing ({error})", "evaluate again") from error
    return [safe_join(path, f"{method}/seed-{seed}") for method, seed in lowest.items()]


def _open(folder: Path) -> Run:
    if not (folder / RESULT).exists():
        raise UserError(f"there is no run folder {folder}", "its comparison names it", "evaluate again")
    result = Result.read(folder / RESULT)
    for name in (PREDICTIONS, REFERENCE):
        if not (folder / name).exists():
            raise UserError(f"{folder} has no predictions to look at", f"{name} is missing", "evaluate again")
    predictions = Predictions.read(folder / PREDICTIONS)
    try:
        provenance = result.provenance
        if provenance["predictions_sha256"] != predictions.digest:
            why = f"{PREDICTIONS} is not the one that {RESULT} was made from"
            raise UserError(f"{folder} cannot be shown", why, "evaluate again")
        config = provenance["config"]
        sizes = [config["run"][name] for name in ("frames", "size")] + [config["encoding"], config["decoder"]]
        key = fingerprint([provenance["stages"], provenance["videos_sha256"], result.on, result.split, *sizes])
    except (KeyError, TypeError) as error:
        why = f"its provenance lacks {error}"
        raise UserError(f"{folder} cannot be shown", why, "evaluate again with this version") from error
    return Run(
        label=result.method, folder=folder, key=key, result=result, predictions=predictions,
        reference=Reference.read(folder / REFERENCE), identity=find_method(result.method, folder).identity,
    )  # fmt: skip


def find_method(name: str, folder: Path) -> MethodSpec:
    """The installed method that a run names. Only a name is looked up: a run folder from elsewhere must not be able to
    have code imported.

    Raises:
        UserError: it is not installed, or its videos were made outside.
    """
    if name in ("files", "exec"):
        raise UserError(
            f"{folder} cannot be shown", "its videos were anonymized elsewhere and lie there", "watch those files"
        )
    if ":" in name:
        raise UserError(f"{folder} cannot be shown", f"{name!r} names no installed method", "install its package")
    return methods.find(name)


def _check_alike(first: Run, other: Run) -> None:
    """Runs can be compared video by video if they were asked about the same videos, seen alike."""

    def seen(run: Run) -> tuple[Any, ...]:
        config = run.config
        sizes = (config["run"]["frames"], config["run"]["size"], config["encoding"], config["decoder"])
        return (run.result.on, run.result.split, run.predictions.videos_digest, *sizes)

    if seen(first) != seen(other):
        raise UserError(
            f"{other.folder} is of other videos than {first.folder}",
            f"one judged {_described(other.result)}, the other {_described(first.result)}",
            "look at them one by one",
        )


def _described(result: Result) -> str:
    data = f", data seed {result.data['seed']}" if result.data.get("preset") else ""
    return f"{result.protocol} actions of {result.on} (preset {result.preset}, split {result.split}{data})"


def _labelled(runs: Sequence[Run]) -> list[Run]:
    methods_of = Counter(run.result.method for run in runs)
    labels = [
        run.result.method if methods_of[run.result.method] == 1 else f"{run.result.method} seed {run.result.seed}"
        for run in runs
    ]
    twice = Counter(labels)
    return [
        Run(**{**vars(run), "label": label if twice[label] == 1 else f"{label} {run.key[:4]}"})
        for run, label in zip(runs, labels, strict=True)
    ]
