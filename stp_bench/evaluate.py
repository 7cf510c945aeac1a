"""The main job: fit, freeze, judge with fresh recognizers, score (paper section 3.4).

`plan` is pure: it turns a resolved job into stages. `evaluate` runs those that are not in the store yet and writes the
run folder. Nothing here asks for the name of a method, a benchmark or a protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stp_bench import checkpoints, contract, methods, metrics, protocols, rundir, store
from stp_bench.clips import Clips
from stp_bench.clipstore import (
    Augment,
    FrameLabels,
    center_batches,
    center_loader,
    open_store,
    tile_batches,
    train_loader,
    view_batches,
)
from stp_bench.display import display, sparsified, to_uint8
from stp_bench.errors import WorkError
from stp_bench.files import read_json, write_json
from stp_bench.jobs import NO_DATA_PRESET, Job, Request, Side, resolve
from stp_bench.methods import FitTask, HasKeep, Loader, Method
from stp_bench.metrics import UNLABELLED, Floats, Ints, best_f1_threshold
from stp_bench.predictions import Predictions, Reference
from stp_bench.progress import Reporter
from stp_bench.recognizers import (
    ProbePhase,
    Recognizer,
    Setting,
    anonymize,
    check_repeats,
    predict,
    predict_frames,
)
from stp_bench.results import Result
from stp_bench.rundir import PREDICTIONS, REFERENCE
from stp_bench.schema import Probe, Protocol, SplitRef, Stage, Target, Video
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
    probes: tuple[Stage, ...]
    """One stage for the probes of each training split."""
    score: Stage

    @property
    def all(self) -> tuple[Stage, ...]:
        """Every stage, in order."""
        return (*self.fit, *self.probes, self.score)


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
        "config": methods.inputs_of(job.config),
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
        if "holdout" in job.spec.needs:  # which videos these are follows from the training videos
            inputs["holdout"] = protocols.HOLDOUT
        fit.append(store.stage("fit", f"{job.spec.name} {phase}", FIT_VERSION, inputs, tuple(s.key for s in fit[-1:])))
    probes: list[Stage] = []
    for train, group in probe_groups(job.protocol).items():
        inputs = {
            **method,
            **setting,
            "checkpoint": job.checkpoint_digest,
            "variant": job.variant,
            "keep": job.request.keep,
            "probes": [[p.name, p.target, p.unit] + ["frames"] * (p.judged == "frame") for p in group],
            "train": job.sides[train].digest,
            "test": job.test.digest,
            "boxes": job.test.dataset.boxes_digest if boxes else None,
            "clip": dataclasses.asdict(job.clip(job.test)),
            "recipe": {name: value for name, value in run.items() if name != "bootstrap"},
        }
        if train.benchmark != job.test.ref.benchmark:  # clips and boxes of training come from elsewhere
            inputs["train_clip"] = dataclasses.asdict(job.clip(job.sides[train]))
            inputs["train_boxes"] = job.sides[train].dataset.boxes_digest if boxes else None
        name = job.spec.name + (f" trained on {train.benchmark}" if train.benchmark != job.test.ref.benchmark else "")
        probes.append(store.stage("probes", name, PROBES_VERSION, inputs, tuple(s.key for s in fit[-1:])))
    scoring = {"bootstrap": job.run.bootstrap, "seed": job.request.seed}
    scored = store.stage("score", job.spec.name, metrics.VERSION, scoring, tuple(s.key for s in probes))
    return Plan(tuple(fit), tuple(probes), scored)


def probe_groups(protocol: Protocol) -> dict[SplitRef, list[Probe]]:
    """The probes by what they are trained on: those that share it learn from the same anonymized batches."""
    groups: dict[SplitRef, list[Probe]] = {}
    for probe in protocol.probes:
        groups.setdefault(probe.train, []).append(probe)
    return groups


def prepare(request: Request, out: Path | None, reporter: Reporter) -> tuple[Job, Plan, Path]:
    """All that `evaluate` can refuse before work is done that would be lost: the job, its stages, its run folder.

    Raises:
        UserError: the request is wrong; as `MethodError`, its method is.
        WorkError: data could not be read or written.
    """
    job = resolve(request, reporter)
    stages = plan(job)
    return job, stages, rundir.claim(out or rundir.default(job, stages.score.key), job, stages.score.key)


def evaluate(request: Request, out: Path | None, reporter: Reporter) -> tuple[Result, Path]:
    """One method, one seed: fit (if learned), freeze, train and test the probes, score; the result and its folder.

    Stages found in the store are not done again; after a crash the same call continues where it stopped.

    Args:
        out: the run folder; None names one in the data home.

    Raises:
        UserError: the request is wrong; as `MethodError`, its method is.
        WorkError: reading, writing or training failed; what was finished is kept.
    """
    job, stages, out = prepare(request, out, reporter)
    deterministic(job.device)
    stage_store = StageStore(request.home, job.device)
    method, fitted = fit_method(job, stages.fit, stage_store, reporter)
    judged = []
    for stage, probes in zip(stages.probes, probe_groups(job.protocol).values(), strict=True):
        judge = partial(_judge, job, method, fitted, stage, probes, reporter=reporter)
        judged.append(stage_store.run(stage, judge, reporter=reporter, scratch=[CHECKPOINT]))
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
        with methods.naming(job.spec.name, "phases"):
            phases = {phase.name: phase for phase in method.phases(task)}
        if (found := tuple(phases)) != job.spec.phases:
            why = f"phases are {found} but the spec says {job.spec.phases}"
            raise contract.violation(job.spec.name, why, "name them alike")
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
    labels: NDArray[np.int8] = np.zeros((1, 0), np.int8)
    if privacy:
        labels = np.array([v.labels[privacy.name] or (0,) * len(privacy.classes) for v in job.shown.videos], np.int8)
    return FitTask(
        action=benchmark.action,
        privacy=privacy,
        prevalence=tuple(float(p) for p in labels.mean(0)),
        clip=job.clip(job.fit),
        batch=job.run.batch,
        seed=job.request.seed,
        device=job.device,
        weights=job.weights,
        holdout=_holdout(job) if job.held_out else None,
    )


def _holdout(job: Job) -> Loader:
    benchmark, needs = job.fit.dataset.benchmark, job.spec.needs
    return center_loader(
        job.fit.store, job.held_out, job.clip(job.fit), batch=2 * job.run.batch, device=job.device,
        action=benchmark.action if "action" in needs else None,
        privacy=benchmark.privacy if "privacy" in needs else None, boxes="boxes" in needs,
    )  # fmt: skip


def _fit_phase(
    job: Job, method: Method, phase: methods.Phase, stage: Stage, folder: Path, *, reporter: Reporter
) -> None:
    benchmark, needs = job.fit.dataset.benchmark, job.spec.needs
    loader = _loader(
        job, job.shown, stage,
        action=benchmark.action if "action" in needs else None,
        privacy=benchmark.privacy if "privacy" in needs else None,
    )  # fmt: skip
    with methods.naming(job.spec.name, f"phase {phase.name!r}"):
        run_phase(
            phase, loader, folder, stream=f"{stage.key}/{job.request.seed}", device=job.device,
            precision=job.precision, reporter=reporter,
        )  # fmt: skip
    if phase.name == job.spec.phases[-1]:
        card = checkpoints.card_of(
            job.spec, job.config, job.vit, job.clip(job.fit), fit_on=job.fit.ref.benchmark, fit_digest=job.fit.digest,
            preset=job.preset, seed=job.request.seed, split=job.protocol.fit.split,
            data=job.fit.dataset.manifest.get("data", NO_DATA_PRESET), range=_output_range(job, method),
        )  # fmt: skip
        checkpoints.save_method(folder, method, card)


def _loader(
    job: Job,
    side: Side,
    stage: Stage,
    *,
    action: Target | None,
    privacy: Target | None,
    frame_labels: Target | None = None,
    partly: bool = False,
) -> Loader:
    augment = Augment(crop_scale=job.run.crop_scale, color_jitter=job.run.color_jitter)
    return train_loader(
        side.store, side.videos, job.clip(side), augment, batch=job.run.batch,
        seed=int(stage.key[:12], 16) + job.request.seed, device=job.device, action=action, privacy=privacy,
        boxes="boxes" in job.spec.needs, frame_labels=frame_labels, partial=partly,
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


def _judge(
    job: Job,
    method: Method,
    fitted: Path | None,
    stage: Stage,
    probes: Sequence[Probe],
    folder: Path,
    *,
    reporter: Reporter,
) -> None:
    """Train fresh recognizers on anonymized training videos of one split; leave what they say of the test videos.

    ``scores.npz`` has, by probe name, scores of test units (``test/``) and, of attackers, of training units
    (``train/``); units are videos, or those (video, frame) pairs that ``test_units`` and ``train_units`` name.
    """
    side, benchmark = job.sides[probes[0].train], job.test.dataset.benchmark
    targets = {t.name: t for t in benchmark.targets}
    private = [p for p in probes if targets[p.target].private]
    partly = any(UNLABELLED in (v.labels[benchmark.privacy.name] or ()) for v in side.videos)
    setting = Setting(job.vit, job.run, job.weights, job.device, job.request.seed, partial=partly)
    recognizers = [Recognizer(probe, targets[probe.target], setting) for probe in probes]
    views = center_batches(
        job.test.store, job.test.videos[: job.run.batch], job.clip(job.test), batch=job.run.batch, device=job.device,
        boxes="boxes" in job.spec.needs,
    )  # fmt: skip
    check_repeats(method, job.spec.name, next(iter(views))[1])
    phase = ProbePhase(method, job.spec.name, recognizers, job.run.epochs)
    loader = _loader(
        job, side, stage,
        action=benchmark.action if len(private) < len(probes) else None,
        privacy=benchmark.privacy if any(p.judged == "video" for p in private) else None,
        frame_labels=benchmark.privacy if any(p.judged == "frame" for p in private) else None,
        partly=partly,
    )  # fmt: skip
    run_phase(
        phase, loader, folder, stream=f"{stage.key}/{job.request.seed}", device=job.device, precision=job.precision,
        reporter=reporter,
    )  # fmt: skip
    whole = [r for r in recognizers if r.probe.judged == "video"]
    single = [r for r in recognizers if r.probe.judged == "frame"]
    scores: dict[str, Any] = {}
    with autocast(job.device, job.precision):
        if whole:
            scores |= _score_videos(job, side, method, whole, reporter)
        if single:
            scores |= _score_frames(job, side, method, single, reporter)
    np.savez_compressed(folder / "scores.npz", **scores)
    strips: dict[str, Any] = {**_strips(job, method, fitted)}
    np.savez_compressed(folder / rundir.STRIPS, **strips)


def _score_videos(
    job: Job, side: Side, method: Method, recognizers: Sequence[Recognizer], reporter: Reporter
) -> dict[str, Floats]:
    """Scores of test videos, from all views, and by attackers of training videos, from the central one."""
    boxes, batch, name = "boxes" in job.spec.needs, 2 * job.run.batch, job.spec.name
    views = view_batches(
        job.test.store, job.test.videos, job.clip(job.test), clips=job.run.clips, crops=job.run.crops, batch=batch,
        device=job.device, boxes=boxes,
    )  # fmt: skip
    attackers = [r for r in recognizers if r.target.private]
    center = center_batches(side.store, side.videos, job.clip(side), batch=batch, device=job.device, boxes=boxes)
    with reporter.stage("test on all views", len(views) + len(center) * bool(attackers), "batches") as task:
        tested = predict(method, name, recognizers, views, len(job.test.videos), task)
        trained = predict(method, name, attackers, center, len(side.videos), task) if attackers else {}
    return {f"test/{n}": s for n, s in tested.items()} | {f"train/{n}": s for n, s in trained.items()}


def _score_frames(
    job: Job, side: Side, method: Method, recognizers: Sequence[Recognizer], reporter: Reporter
) -> dict[str, Any]:
    """Scores of every ``stride``-th frame of test videos, from all crops, and of training videos, from one."""
    found: dict[str, Any] = {}
    for part, of, crops in (("test", job.test, job.run.crops), ("train", side, 1)):
        views = tile_batches(
            of.store, of.videos, job.clip(of), crops=crops, batch=2 * job.run.batch, device=job.device,
            boxes="boxes" in job.spec.needs,
        )  # fmt: skip
        frames = [of.store.entry(v.video_id).frames for v in of.videos]
        with reporter.stage(f"score frames of {part} videos", len(views), "batches") as task:
            scores, units = predict_frames(method, job.spec.name, recognizers, views.with_frames(), frames, task)
        found |= {f"{part}/{name}": values for name, values in scores.items()} | {f"{part}_units": units}
    return found


def _tables(job: Job, judged: Sequence[Path]) -> tuple[Predictions, Reference]:
    """The two tables of a run, from what its probes left behind."""
    scores: dict[str, NDArray[Any]] = {}
    for folder in judged:
        with np.load(folder / "scores.npz") as stored:
            scores |= dict(stored)
    attackers = [p for p in job.protocol.probes if p.target == job.test.dataset.benchmark.privacy.name]
    side = job.sides[attackers[0].train]
    action, privacy = job.test.dataset.benchmark.action, job.test.dataset.benchmark.privacy
    frames: list[int | None] | None = None
    if attackers[0].judged == "frame":
        tested = _Units.of_frames(job.test.videos, privacy, scores["test_units"])
        trained = _Units.of_frames(side.videos, privacy, scores["train_units"])
        frames = scores["test_units"][tested.rows, 1].tolist()
    else:
        tested, trained = _Units.of_videos(job.test.videos, privacy), _Units.of_videos(side.videos, privacy)
    given = {p.name: scores[f"test/{p.name}"][tested.rows] for p in attackers}
    tuned = {p.name: best_f1_threshold(trained.labels_UK, scores[f"train/{p.name}"][trained.rows]) for p in attackers}
    videos = [job.test.videos[v] for v in tested.videos_U]
    predictions = Predictions.of(
        action=action, privacy=privacy, video_ids=[v.video_id for v in videos], groups=[v.group for v in videos],
        action_V=_action_labels(videos, action), posterior_VC=scores["test/action"][tested.videos_U],
        labels_VK=tested.labels_UK, scores=given, frames=frames,
    )  # fmt: skip
    reference = Reference.of(
        action=action, privacy=privacy, labels_VK=trained.labels_UK, thresholds=tuned,
        action_V=_action_labels([side.videos[v] for v in trained.videos_U], action),
    )  # fmt: skip
    return predictions, reference


@dataclass(frozen=True, slots=True)
class _Units:
    """What is scored: videos, or labelled frames of them."""

    rows: Ints
    """Which of the scored rows count, (U,): not a frame that nobody labelled."""
    videos_U: Ints
    labels_UK: Ints

    @classmethod
    def of_videos(cls, videos: Sequence[Video], privacy: Target) -> _Units:
        unlabelled = (UNLABELLED,) * len(privacy.classes)
        labels = np.array([v.labels[privacy.name] or unlabelled for v in videos], dtype=np.int8)
        return cls(np.arange(len(videos)), np.arange(len(videos)), labels)

    @classmethod
    def of_frames(cls, videos: Sequence[Video], privacy: Target, units_U2: Ints) -> _Units:
        frames_U1 = units_U2[:, 1:].astype(np.int64)
        known = FrameLabels(videos, privacy).at(units_U2[:, 0].tolist(), frames_U1)[:, 0]
        rows = np.flatnonzero((known != UNLABELLED).any(axis=1))
        return cls(rows, units_U2[rows, 0], known[rows])


def _action_labels(videos: Sequence[Video], action: Target) -> Ints:
    """True actions: numbers (V,), or labels (V, C) of a multilabel action."""
    if action.kind == "multiclass":
        return np.array([(v.labels[action.name] or (UNLABELLED,))[0] for v in videos])
    return np.array([v.labels[action.name] for v in videos], dtype=np.int8)


def _score(job: Job, judged: Sequence[Path], folder: Path) -> None:
    predictions, reference = _tables(job, judged)
    predictions.write(folder / PREDICTIONS)
    reference.write(folder / REFERENCE)
    scores = score(predictions, reference, bootstrap=job.run.bootstrap, seed=job.request.seed)
    write_json(folder / "scores.json", dataclasses.asdict(scores))


def _strips(job: Job, method: Method, fitted: Path | None) -> dict[str, NDArray[np.uint8]]:
    """A few test clips as people see them, uint8 (clips, T, H, W, 3): raw, sparsified (where tubelets are dropped),
    anonymized. The first is missing where the raw videos are."""
    chosen = job.test.videos[:: max(1, len(job.test.videos) // 4)][:4]
    boxes = "boxes" in job.spec.needs
    views = center_batches(job.test.store, chosen, job.clip(job.test), batch=4, device=job.device, boxes=boxes)
    card = read_json(fitted / checkpoints.CARD) if fitted else {}
    _, clips = next(iter(views))
    out = anonymize(method, job.spec.name, clips)
    strips = {"anonymized": display(out, card.get("range"))}
    if (raw := _raw_clips(job, chosen, clips)) is not None:
        strips["raw"] = raw.x_BCTHW
    if out.keep_BLN is not None:
        strips["sparsified"] = sparsified(clips, out)
    return {name: to_uint8(x).permute(0, 2, 3, 4, 1).cpu().numpy() for name, x in strips.items()}


def _raw_clips(job: Job, videos: Sequence[Video], clips: Clips) -> Clips | None:
    """Clips of test videos before anything was done to them: the stored ``clips``, unless they were made elsewhere.
    None where the videos themselves are gone, which whoever judges files made elsewhere does not need."""
    if job.test.store.dataset is job.test.dataset:
        return clips
    own = dataclasses.replace(job.test.dataset, videos=tuple(videos))
    try:
        store = open_store(own, job.test.store.recipe, job.request.home)
    except WorkError:
        return None
    views = center_batches(store, videos, job.clip(job.test), batch=len(videos), device=job.device, boxes=False)
    return next(iter(views))[1]


def _identity_scores(job: Job, stage_store: StageStore) -> dict[str, Any]:
    """The scores of the method that changes nothing, in the same setting; empty if it was never run."""
    for spec in methods.specs().values():
        if isinstance(spec, methods.MethodSpec) and spec.identity:
            request = dataclasses.replace(job.request, method=spec.name, keep=None, checkpoint=None)
            sides = {ref: dataclasses.replace(side, digest=side.raw_digest) for ref, side in job.sides.items()}
            same = dataclasses.replace(
                job, request=request, spec=spec, config=spec.configure(job.preset), checkpoint=None, variant=None,
                sides=sides,
            )  # fmt: skip
            if folder := stage_store.find(plan(same).score):
                return dict(read_json(folder / "scores.json"))
    return {}
