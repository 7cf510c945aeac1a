"""The main job: fit, freeze, judge with fresh recognizers, score (paper section 3.4).

`plan` is pure: it turns a resolved job into stages. `evaluate` runs those that are not in the store yet and writes the
run folder. Nothing here asks for the name of a method, a benchmark or a protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stp_bench import checkpoints, methods, metrics, rundir, store
from stp_bench.clipstore import Augment, center_batches, train_loader, view_batches
from stp_bench.display import display, sparsified, to_uint8
from stp_bench.files import read_json, write_json
from stp_bench.jobs import Job, Request, Side, resolve
from stp_bench.methods import FitTask, HasKeep, Loader, Method
from stp_bench.metrics import UNLABELLED, Floats, Ints, best_f1_threshold
from stp_bench.predictions import Predictions, Reference
from stp_bench.progress import Reporter
from stp_bench.recognizers import ProbePhase, Recognizer, Setting, anonymize, predict
from stp_bench.results import Result
from stp_bench.schema import Stage, Target, Video
from stp_bench.scoring import score
from stp_bench.store import StageStore
from stp_bench.training import CHECKPOINT, autocast, deterministic, load_checkpoint, restore, run_phase, seed_everything

FIT_VERSION, PROBES_VERSION = 1, 1
"""Raised by hand whenever a kind of stage would give other numbers for the same inputs."""

FIT_FIELDS = ("batch", "sampling", "crop_scale", "color_jitter")
"""Fields of the run that move a fit, beside the sizes of the ViT; all but ``bootstrap`` move the probes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a run, in order."""

    fit: tuple[Stage, ...]
    probes: Stage
    score: Stage

    @property
    def all(self) -> tuple[Stage, ...]:
        """Every stage, in order."""
        return (*self.fit, self.probes, self.score)


def plan(job: Job) -> Plan:
    """The stages of a job. Pure: nothing is read, run or written."""
    run = dataclasses.asdict(job.run)
    setting = {
        "vit": dataclasses.asdict(job.vit),
        "weights": job.weights_digest,
        "precision": job.precision,
        "seed": job.request.seed,
    }
    method = {
        "method": job.spec.name,
        "build": job.spec.build,
        "version": job.spec.version,
        "config": dataclasses.asdict(job.config),
    }
    boxes = "boxes" in job.spec.needs
    fit: list[Stage] = []
    for phase in job.spec.phases if job.checkpoint is None else ():
        inputs = {
            **method,
            **setting,
            "phase": phase,
            "train": job.fit.digest,
            "boxes": job.fit.dataset.boxes_digest if boxes else None,
            "clip": dataclasses.asdict(job.clip(job.fit)),
            "recipe": {name: run[name] for name in FIT_FIELDS},
        }
        fit.append(store.stage("fit", f"{job.spec.name} {phase}", FIT_VERSION, inputs, tuple(s.key for s in fit[-1:])))
    inputs = {
        **method,
        **setting,
        "checkpoint": job.checkpoint_digest,
        "variant": job.variant,
        "keep": job.request.keep,
        "probes": [[p.name, p.target, p.unit] for p in job.protocol.probes],
        "train": job.train.digest,
        "test": job.test.digest,
        "boxes": job.test.dataset.boxes_digest if boxes else None,
        "clip": dataclasses.asdict(job.clip(job.test)),
        "recipe": {name: value for name, value in run.items() if name != "bootstrap"},
    }
    probes = store.stage("probes", job.spec.name, PROBES_VERSION, inputs, tuple(s.key for s in fit[-1:]))
    scoring = {"bootstrap": job.run.bootstrap, "seed": job.request.seed}
    scored = store.stage("score", job.spec.name, metrics.VERSION, scoring, (probes.key,))
    return Plan(tuple(fit), probes, scored)


def evaluate(request: Request, out: Path | None, reporter: Reporter) -> tuple[Result, Path]:
    """One method, one seed: fit (if learned), freeze, train and test the probes, score; the result and its folder.

    Stages found in the store are not done again; after a crash the same call continues where it stopped.

    Args:
        out: the run folder; None names one in the data home.

    Raises:
        UserError: the request is wrong.
        WorkError: reading, writing or training failed; what was finished is kept.
    """
    job = resolve(request, reporter)
    deterministic(job.device)
    stages = plan(job)
    out = rundir.claim(out or rundir.default(job, stages.score.key), job, stages.score.key)
    stage_store = StageStore(request.home, job.device)
    method, fitted = fit_method(job, stages.fit, stage_store, reporter)
    judge = partial(_judge, job, method, fitted, stages.probes, reporter=reporter)
    judged = stage_store.run(stages.probes, judge, reporter=reporter, scratch=[CHECKPOINT])
    scored = stage_store.run(stages.score, lambda f: _score(job, judged, f), reporter=reporter)
    folders = [stage_store.folder(s) for s in stages.fit]
    raw = _identity_scores(job, stage_store)
    result = rundir.write(out, job, stages.all, fit=folders, probes=judged, scored=scored, fitted=fitted, raw=raw)
    return result, out


def train(request: Request, out: Path | None, reporter: Reporter) -> Path:
    """Fit a learned method and write its checkpoint and curves to a folder, which is returned."""
    job = resolve(request, reporter)
    deterministic(job.device)
    stages = plan(job)
    out = rundir.claim(out or rundir.default(job, stages.fit[-1].key), job, stages.fit[-1].key)
    stage_store = StageStore(request.home, job.device)
    _, fitted = fit_method(job, stages.fit, stage_store, reporter)
    rundir.write_fit(out, curves=[stage_store.folder(s) for s in stages.fit], fitted=fitted)
    return out


def fit_method(
    job: Job, stages: tuple[Stage, ...], stage_store: StageStore, reporter: Reporter
) -> tuple[Method, Path | None]:
    """The method, fitted and frozen, and the folder of its checkpoint (None for a fixed transform)."""
    method = job.spec.make(job.config, job.vit)
    if job.checkpoint is not None:
        checkpoints.load_weights(method, job.checkpoint)
    fitted = job.checkpoint
    if stages:
        task = _fit_task(job)
        seed_everything(f"{stages[0].key}/{job.request.seed}")
        phases = {phase.name: phase for phase in method.phases(task)}
        for stage in stages:
            phase = phases[stage.inputs["phase"]]
            work = partial(_fit_phase, job, method, phase, stage, reporter=reporter)
            fitted = stage_store.run(stage, work, reporter=reporter)
            # Also when it was just trained here: whoever did the work, the method goes on from what is stored.
            restore(phase.parts(), load_checkpoint(fitted / CHECKPOINT)["parts"], fitted)
    checkpoints.to_device(method, job.device)
    if job.request.keep is not None:
        assert isinstance(method, HasKeep)  # `resolve` refuses the option otherwise
        method = method.with_keep(job.request.keep)
    return method, fitted


def _fit_task(job: Job) -> FitTask:
    benchmark, needs = job.fit.dataset.benchmark, job.spec.needs
    privacy = benchmark.privacy if "privacy" in needs else None
    labels = np.array([v.labels[privacy.name] for v in job.fit.videos]) if privacy else np.zeros((1, 0))
    return FitTask(
        action=benchmark.action,
        privacy=privacy,
        prevalence=tuple(float(p) for p in labels.mean(0)),
        clip=job.clip(job.fit),
        batch=job.run.batch,
        seed=job.request.seed,
        device=job.device,
        weights=job.weights,
    )


def _fit_phase(
    job: Job, method: Method, phase: methods.Phase, stage: Stage, folder: Path, *, reporter: Reporter
) -> None:
    benchmark, needs = job.fit.dataset.benchmark, job.spec.needs
    loader = _loader(
        job, job.fit, stage,
        action=benchmark.action if "action" in needs else None,
        privacy=benchmark.privacy if "privacy" in needs else None,
    )  # fmt: skip
    run_phase(
        phase, loader, folder, stream=f"{stage.key}/{job.request.seed}", device=job.device, precision=job.precision,
        reporter=reporter,
    )  # fmt: skip
    if phase.name == job.spec.phases[-1]:
        card = checkpoints.card_of(
            job.spec, job.config, job.vit, job.clip(job.fit), fit_on=job.fit.ref.benchmark, fit_digest=job.fit.digest,
            preset=job.preset, seed=job.request.seed, split=job.request.split,
            data=job.fit.dataset.manifest.get("data"), range=_output_range(job, method),
        )  # fmt: skip
        checkpoints.save_method(folder, method, card)


def _loader(job: Job, side: Side, stage: Stage, *, action: Target | None, privacy: Target | None) -> Loader:
    augment = Augment(crop_scale=job.run.crop_scale, color_jitter=job.run.color_jitter)
    return train_loader(
        side.store, side.videos, job.clip(side), augment, batch=job.run.batch,
        seed=int(stage.key[:12], 16) + job.request.seed, device=job.device, action=action, privacy=privacy,
        boxes="boxes" in job.spec.needs,
    )  # fmt: skip


def _output_range(job: Job, method: Method) -> list[list[float]] | None:
    """Per channel the 0.1 and 99.9 percentiles of an unbounded output over training clips; None for [0, 1] output."""
    samples: list[NDArray[np.float32]] = []
    for _, clips in center_batches(
        job.fit.store, job.fit.videos[:: max(1, len(job.fit.videos) // 256)], job.clip(job.fit), batch=job.run.batch,
        device=job.device, boxes="boxes" in job.spec.needs,
    ):  # fmt: skip
        out = anonymize(method, job.spec.name, clips)
        if out.space == "rgb01":
            return None
        x_CM = out.x_BCTHW.float().transpose(0, 1).flatten(1)
        shown = (x_CM != 0).any(0)  # a dropped tubelet is exactly 0
        x_CM = x_CM[:, shown]
        samples.append(x_CM[:, :: max(1, x_CM.shape[1] // 20_000)].cpu().numpy())
    low, high = np.percentile(np.concatenate(samples, axis=1), [0.1, 99.9], axis=1)
    return [[float(v) for v in low], [float(v) for v in high]]


def _judge(job: Job, method: Method, fitted: Path | None, stage: Stage, folder: Path, *, reporter: Reporter) -> None:
    """Train fresh recognizers on anonymized training videos; leave their predictions for the test videos."""
    benchmark = job.test.dataset.benchmark
    targets = {t.name: t for t in benchmark.targets}
    setting = Setting(job.vit, job.run, job.weights, job.device, job.request.seed)
    recognizers = [Recognizer(probe, targets[probe.target], setting) for probe in job.protocol.probes]
    phase = ProbePhase(method, job.spec.name, recognizers, job.run.epochs)
    loader = _loader(job, job.train, stage, action=benchmark.action, privacy=benchmark.privacy)
    run_phase(
        phase, loader, folder, stream=f"{stage.key}/{job.request.seed}", device=job.device, precision=job.precision,
        reporter=reporter,
    )  # fmt: skip
    boxes, batch = "boxes" in job.spec.needs, 2 * job.run.batch
    views = view_batches(
        job.test.store, job.test.videos, job.clip(job.test), clips=job.run.clips, crops=job.run.crops, batch=batch,
        device=job.device, boxes=boxes,
    )  # fmt: skip
    center = center_batches(
        job.train.store, job.train.videos, job.clip(job.train), batch=batch, device=job.device, boxes=boxes
    )
    with (
        reporter.stage("test on all views", len(views) + len(center), "batches") as task,
        autocast(job.device, job.precision),
    ):
        tested = predict(method, job.spec.name, recognizers, views, len(job.test.videos), task)
        trained = predict(method, job.spec.name, recognizers, center, len(job.train.videos), task)
    attackers = [p.name for p in job.protocol.probes if targets[p.target].private]
    _write_tables(job, {name: tested[name] for name in attackers}, tested["action"], trained, folder)
    strips: dict[str, Any] = {**_strips(job, method, fitted)}
    np.savez_compressed(folder / "strips.npz", **strips)


def _write_tables(
    job: Job,
    scores: Mapping[str, Floats],
    posterior_VC: Floats,
    trained: Mapping[str, Floats],
    folder: Path,
) -> None:
    action, privacy = job.test.dataset.benchmark.action, job.test.dataset.benchmark.privacy
    true_V, labels_VK = _label_arrays(job.test.videos, action, privacy)
    Predictions.of(
        action=action, privacy=privacy, video_ids=[v.video_id for v in job.test.videos],
        groups=[v.group for v in job.test.videos], action_V=true_V, posterior_VC=posterior_VC, labels_VK=labels_VK,
        scores=scores,
    ).write(folder / "predictions.parquet")  # fmt: skip
    true_V, labels_VK = _label_arrays(job.train.videos, action, privacy)
    thresholds = {name: best_f1_threshold(labels_VK, trained[name]) for name in scores}
    Reference.of(action=action, privacy=privacy, action_V=true_V, labels_VK=labels_VK, thresholds=thresholds).write(
        folder / "reference.parquet"
    )


def _label_arrays(videos: Sequence[Video], action: Target, privacy: Target) -> tuple[Ints, Ints]:
    """True actions (V) and privacy labels (V, K) of videos."""
    unlabelled = (UNLABELLED,) * len(privacy.classes)
    actions = [(v.labels[action.name] or (UNLABELLED,))[0] for v in videos]
    return np.array(actions), np.array([v.labels[privacy.name] or unlabelled for v in videos])


def _score(job: Job, judged: Path, folder: Path) -> None:
    predictions = Predictions.read(judged / "predictions.parquet")
    reference = Reference.read(judged / "reference.parquet")
    scores = score(predictions, reference, bootstrap=job.run.bootstrap, seed=job.request.seed)
    write_json(folder / "scores.json", dataclasses.asdict(scores))


def _strips(job: Job, method: Method, fitted: Path | None) -> dict[str, NDArray[np.uint8]]:
    """A few test clips as people see them, uint8 (clips, T, H, W, 3): raw, sparsified (where tubelets are dropped),
    anonymized."""
    chosen = job.test.videos[:: max(1, len(job.test.videos) // 4)][:4]
    boxes = "boxes" in job.spec.needs
    views = center_batches(job.test.store, chosen, job.clip(job.test), batch=4, device=job.device, boxes=boxes)
    card = read_json(fitted / checkpoints.CARD) if fitted else {}
    _, clips = next(iter(views))
    out = anonymize(method, job.spec.name, clips)
    strips = {"raw": clips.x_BCTHW, "anonymized": display(out, card.get("range"))}
    if out.keep_BLN is not None:
        strips["sparsified"] = sparsified(clips, out)
    return {name: to_uint8(x).permute(0, 2, 3, 4, 1).cpu().numpy() for name, x in strips.items()}


def _identity_scores(job: Job, stage_store: StageStore) -> dict[str, Any]:
    """The scores of the method that changes nothing, in the same setting; empty if it was never run."""
    for spec in methods.specs().values():
        if isinstance(spec, methods.MethodSpec) and spec.identity:
            request = dataclasses.replace(job.request, method=spec.name, keep=None, checkpoint=None)
            same = dataclasses.replace(
                job, request=request, spec=spec, config=spec.configure(job.preset), checkpoint=None, variant=None
            )
            if folder := stage_store.find(plan(same).score):
                return dict(read_json(folder / "scores.json"))
    return {}
