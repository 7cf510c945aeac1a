"""The run folder: what a person keeps of a run, and the list of stages it came from.

``result.json``, ``predictions.parquet`` and ``reference.parquet`` (the metrics are a function of these two), the fitted
method with its card, training curves as table and picture, ``result.png`` with the clips it shows, and ``run.json``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stp_bench import boxes, checkpoints, pictures
from stp_bench.errors import UserError
from stp_bench.files import atomic_path, make_folder, read_json, write_json
from stp_bench.jobs import NO_DATA_PRESET, Job
from stp_bench.predictions import Predictions
from stp_bench.results import RESULT, RUN, Result, share_left
from stp_bench.schema import Stage
from stp_bench.store import RECORD
from stp_bench.training import CURVES

PREDICTIONS, REFERENCE = "predictions.parquet", "reference.parquet"
STRIPS = "strips.npz"
"""A few test clips, raw, sparsified and anonymized: what the pictures show."""


def default(job: Job, key: str) -> Path:
    """The folder of a run that names none: in the data home, named after the run."""
    request, fit = job.request, job.protocol.fit.benchmark
    on = job.protocol.probes[0].test.benchmark
    pair = on if fit == on else f"{fit}-{on}"
    name = f"{job.spec.name}-{job.protocol.name}-{pair}-{job.preset}-split{request.split}-seed{request.seed}-{key[:8]}"
    return request.home / "runs" / name


def claim(out: Path, job: Job, key: str) -> Path:
    """Make the run folder, or take up the same run in it.

    Raises:
        UserError: the folder holds another run.
        WorkError: it cannot be written.
    """
    make_folder(out)
    run = {
        "key": key,
        "method": job.spec.name,
        "protocol": job.protocol.name,
        "fit_on": job.protocol.fit.benchmark,
        "seed": job.request.seed,
    }
    if (out / RUN).exists() and (held := read_json(out / RUN)) != run:
        raise UserError(
            f"{out} holds another run",
            f"it was made by {held.get('method')} with another protocol, settings, data, seed or version",
            "choose another --out, or remove that folder",
        )
    write_json(out / RUN, run)
    return out


def write(
    out: Path,
    job: Job,
    stages: Sequence[Stage],
    *,
    fit: Sequence[Path],
    probes: Sequence[Path],
    scored: Path,
    fitted: Path | None,
    raw: Mapping[str, Any],
) -> Result:
    """Fill the run folder from finished stages; ``result.json`` comes last.

    Args:
        raw: the scores of the identity method in the same setting, for the share that is left; empty if never run.
    """
    scores = read_json(scored / "scores.json")
    for name in (PREDICTIONS, REFERENCE):
        _copy(scored / name, out / name)
    write_fit(out, curves=[*fit, *probes], fitted=fitted)
    result = _result(job, stages, [*fit, *probes, scored], scores, raw)
    _copy(probes[-1] / STRIPS, out / STRIPS)
    pictures.result_picture(result.to_dict(), read_strips(out), out / "result.png")
    result.write(out / RESULT)
    return result


def read_strips(out: Path) -> dict[str, NDArray[np.uint8]]:
    """The clips that a run's pictures show, uint8 (clips, T, H, W, 3): ``anonymized`` and, where there are any, ``raw``
    and ``sparsified``."""
    with np.load(out / STRIPS) as strips:  # refuses what would be executed
        return dict(strips)


def write_fit(out: Path, *, curves: Sequence[Path], fitted: Path | None) -> None:
    """The fitted method, and the training curves of some stages."""
    if fitted is not None:
        for name in (checkpoints.WEIGHTS, checkpoints.CARD):
            _copy(fitted / name, out / name)
    pictures.curves_picture(_curves(curves, out), out / "curves.png")


def _result(
    job: Job, stages: Sequence[Stage], folders: Sequence[Path], scores: Mapping[str, Any], raw: Mapping[str, Any]
) -> Result:
    request, benchmark = job.request, job.test.dataset
    records = [read_json(folder / RECORD) for folder in folders]
    judged = records[-2]["provenance"]
    predictions = Predictions.read(folders[-1] / PREDICTIONS)
    return Result(
        method=job.spec.name,
        variant=job.variant,
        protocol=job.protocol.name,
        fit_on=job.protocol.fit.benchmark,
        on=benchmark.benchmark.name,
        preset=job.preset,
        data=benchmark.manifest.get("data", NO_DATA_PRESET),
        seed=request.seed,
        split=request.split,
        weights=job.weights if job.weights in ("none", "pretrained") else Path(job.weights).name,
        precision=job.precision,
        metrics=scores["metrics"],
        floors=scores["floors"],
        left=share_left(scores["metrics"], scores["floors"], raw.get("metrics"), raw.get("floors")),
        undefined=scores["undefined"],
        skipped=_skipped(job),
        provenance={
            "version": judged["version"],
            "git": judged["git"],
            "torch": judged["torch"],
            "device": judged["device"],
            "label_release": benchmark.manifest.get("label_release", ""),
            "as_published": _as_published(job),
            "index_sha256": benchmark.manifest["index_sha256"],
            "boxes": _boxes(job),
            "predictions_sha256": predictions.digest,
            "videos_sha256": predictions.videos_digest,
            "stages": [{"kind": s.kind, "name": s.name, "key": s.key} for s in stages],
            "seconds": {f"{s.kind} {s.name}": r["provenance"]["seconds"] for s, r in zip(stages, records, strict=True)},
            "peak_memory_bytes": judged["peak_memory_bytes"],
            "packages": judged["packages"],
            "python": judged["python"],
            "platform": judged["platform"],
            "plugin": job.spec.source,
            "config": {
                "run": dataclasses.asdict(job.run),
                "method": dataclasses.asdict(job.config),
                "keep": request.keep,
                "weights": job.weights_digest,
                "precision": job.precision,
                "checkpoint": job.checkpoint_digest,
                "decoder": request.decoder,
                "encoding": job.test.store.recipe.encoding,
                "temporal_gain": job.vit.temporal_gain,
            },
        },
    )


def _skipped(job: Job) -> dict[str, int]:
    """Videos left out: when the data were prepared (unreadable, missing), when they were decoded, and by this run."""
    stores = {id(s.store): s for s in job.sides.values()}.values()
    prepared = [side.dataset.manifest.get("counts", {}) for side in stores]
    return {
        "unreadable": sum(len(s.store.unreadable) for s in stores) + sum(n.get("unreadable", 0) for n in prepared),
        "missing": sum(n.get("missing", 0) for n in prepared),
        "overlap": job.overlap,
        "holdout": len(job.held_out),
    }


def _as_published(job: Job) -> dict[str, Any]:
    """Per benchmark whether labels and split lists are the published ones, by their digests; null where none are."""
    manifests = {side.ref.benchmark: side.dataset.manifest for side in job.sides.values()}
    return {
        name: {"labels": m.get("labels_verified"), "lists": (m.get("list_files") or {}).get("verified")}
        for name, m in manifests.items()
    }


def _boxes(job: Job) -> dict[str, Any] | None:
    """The person boxes that the method was given, and the share of frames, of those that the recognizers learn from and
    are tested on, that have none; null for a method that needs none, or where the benchmark has none."""
    if "boxes" not in job.spec.needs or job.test.dataset.boxes is None:
        return None
    trained = {probe.train: job.sides[probe.train] for probe in job.protocol.probes}
    sides = {"train": list(trained.values()), "test": [job.test]}
    return {
        "sha256": job.test.dataset.boxes_digest,
        "frames_without": {
            part: boxes.share_without([(side.dataset.boxes, side.videos) for side in of]) for part, of in sides.items()
        },
    }


def _curves(folders: Sequence[Path], out: Path) -> pd.DataFrame:
    """The curves of all phases as one long table (phase, epoch, name, value), also written as ``curves.csv``."""
    tables = []
    for folder in folders:
        record = read_json(folder / RECORD)
        table = pd.read_csv(folder / CURVES).melt("epoch", var_name="name", value_name="value").dropna()
        tables.append(table.assign(phase=record["inputs"].get("phase", record["kind"])))
    curves = pd.concat(tables)[["phase", "epoch", "name", "value"]]
    with atomic_path(out / CURVES) as temporary:
        curves.to_csv(temporary, index=False)
    return curves


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
