"""From what a user asks for to everything a run needs: data opened, names and numbers checked, defaults resolved.

Every mistake of a request surfaces here, before any work is done that would be lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from stp_bench import catalogue, checkpoints, external, protocols
from stp_bench import config as configs
from stp_bench.checkpoints import WEIGHTS, Fitted
from stp_bench.clipstore import Store, StoreRecipe, open_store
from stp_bench.config import RunConfig
from stp_bench.errors import UserError, unknown_name
from stp_bench.files import fingerprint, sha256_file
from stp_bench.index import Dataset
from stp_bench.methods import HasKeep, HasVariant, MethodSpec
from stp_bench.progress import Reporter
from stp_bench.schema import Benchmark, ClipSpec, Probe, Protocol, SplitRef, Video, VitSpec
from stp_bench.vit import check_sizes

PROTOCOLS = ("known", "unseen", "frame")
DEFAULT_PAIR = ("synth-ucf", "synth-hmdb")
"""Fitted on, judged on: the embedded benchmarks of a request that names none."""
FRAME_PAIRS = {"synth-pa": "synth-hmdb", "pa-hmdb51": "vp-hmdb51"}
"""Benchmark with labelled frames: benchmark of the same actions with labels of whole videos, to fit on. The first is
the default of protocol frame."""


NO_DATA_PRESET = {"preset": None, "seed": None}
"""What a result of real data says where embedded data have a preset and a seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for; None means the default."""

    method: str
    protocol: str = "known"
    fit_on: str | None = None
    on: str | None = None
    preset: str | None = None
    weights: str | None = None
    settings: tuple[str, ...] = ()
    """Texts ``run.KEY=VALUE`` or ``METHOD.KEY=VALUE``."""
    checkpoint: Path | None = None
    keep: float | None = None
    split: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    decoder: str = "pyav"
    encoding: Literal["raw", "jpeg"] | None = None
    skip_unreadable: bool = False
    data_seed: int = 0
    workers: int | None = None
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The videos of one side of a split, ready to be read."""

    ref: SplitRef
    dataset: Dataset
    store: Store
    videos: tuple[Video, ...]
    digest: str
    """Covers ids, labels, contents and the decoding recipe."""
    raw_digest: str
    """The same of the benchmark's own files: another one where what is read was made of them elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A resolved request."""

    request: Request
    preset: str
    spec: MethodSpec
    config: Any
    run: RunConfig
    vit: VitSpec
    protocol: Protocol
    weights: str
    weights_digest: str
    device: str
    precision: str
    sides: Mapping[SplitRef, Side]
    overlap: int
    """Training videos left out because the test split holds them."""
    checkpoint: Path | None
    checkpoint_digest: str | None
    """SHA-256 of the checkpoint's weights."""
    variant: str | None
    held_out: tuple[Video, ...] = ()
    """Training videos that the fit is not shown, of a method that needs a holdout."""

    @property
    def test(self) -> Side:
        """The side on which everything is judged."""
        return self.sides[self.protocol.probes[0].test]

    @property
    def fit(self) -> Side:
        """The side on which the method is fitted."""
        return self.sides[self.protocol.fit]

    @property
    def shown(self) -> Side:
        """The same without the videos that are held out: what the fit is shown."""
        held = {v.video_id for v in self.held_out}
        return dataclasses.replace(self.fit, videos=tuple(v for v in self.fit.videos if v.video_id not in held))

    def clip(self, side: Side) -> ClipSpec:
        """How clips are cut from a side's videos: every benchmark has its own frame rate."""
        return configs.clip_spec(self.run, side.dataset.benchmark.stride)


def resolve(request: Request, reporter: Reporter) -> Job:
    """Check a request and open everything it needs; embedded data, clip stores and what a program makes of the videos
    are made where they are missing.

    Raises:
        UserError: any part of the request is unknown, contradictory or impossible on this machine.
        WorkError: data could not be read or written.
    """
    spec = external.find(request.method)
    if request.skip_unreadable and external.is_external(request.method):
        why = "every video needs its anonymized file"
        raise UserError(f"--skip-unreadable does not fit {spec.name}", why, "leave the option out")
    fit_on, on = _benchmarks(request)
    real = [name for name in (fit_on, on) if catalogue.is_real(name, request.home)]
    preset = preset_of(request)
    run = configs.preset(preset)
    weights, weights_digest = _weights(request.weights, preset)
    data_preset = "full" if preset == "paper" else preset
    data_of = {"preset": data_preset, "seed": request.data_seed} if fit_on not in real else NO_DATA_PRESET
    settings = configs.split_overrides(request.settings, {"run": RunConfig, spec.name: spec.config})
    run = configs.override(run, settings["run"], owner="run")
    config = spec.configure(preset, settings[spec.name])
    vit = configs.vit_spec(run, image_weights=weights != "none")
    check_sizes(vit)
    device = pick_device(request.device)
    precision = _precision(request.precision, device)
    described = {name: catalogue.benchmark(name, data_preset, home=request.home) for name in (fit_on, on)}
    for b in described.values():
        # Only where both have it is a split one of both; else the fit takes the first of its own.
        if b.name == on and not 1 <= request.split <= b.splits:
            raise UserError(f"there is no split {request.split}", f"{b.name} has {b.splits}", "choose one from 1 up")
    fit_split = request.split if request.split <= described[fit_on].splits else 1
    protocol = _protocol(request, described[fit_on], described[on], fit_split)
    protocol = dataclasses.replace(protocol, probes=_repeat_attackers(protocol, described[on], run.attacker_seeds))
    _check_actions(protocol, described)
    check_keep(request.keep, spec, config, vit)
    checkpoint = None
    if request.checkpoint is not None:
        if settings[spec.name]:
            raise UserError("--set does not fit a checkpoint", "it brings its own settings", "leave the option out")
        fitted = _fitted(request, spec, vit, {"fit_on": fit_on, "split": fit_split, "data": data_of})
        checkpoint, config = checkpoints.find_checkpoint(request.checkpoint), fitted.config
    encoding = request.encoding or ("jpeg" if real else "raw")
    recipe = StoreRecipe.for_crop(run.size, encoding=encoding, decoder=request.decoder)
    trained = [fit_on] if spec.learned and checkpoint is None else []
    datasets = {
        name: catalogue.dataset(name, preset=data_preset, seed=request.data_seed, home=request.home, reporter=reporter)
        for name in dict.fromkeys((*trained, *(p.train.benchmark for p in protocol.probes), on))
    }
    _check_frames(protocol, datasets)
    # Those of all of them: a bad table is refused before anything is decoded.
    boxed = {name for name, dataset in datasets.items() if "boxes" in spec.needs and dataset.boxes is not None}
    read = datasets
    if external.is_external(request.method):
        judged = {name: _judged(protocol, dataset) for name, dataset in datasets.items()}
        read, config = external.transformed(request.method, config, datasets, judged, request.home, reporter)
    opened = {name: (datasets[name], _store(read[name], recipe, request, reporter)) for name in datasets}
    sides, overlap = _sides(protocol, opened, recipe)
    held_out: tuple[Video, ...] = ()
    if "holdout" in spec.needs and checkpoint is None:
        _, held_out = protocols.hold_out(sides[protocol.fit].videos)
    built = spec.make(config, vit)
    return Job(
        request=request, preset=preset, spec=spec, config=config, run=run, vit=vit, protocol=protocol, weights=weights,
        weights_digest=weights_digest, device=device, precision=precision, sides=sides, overlap=overlap,
        checkpoint=checkpoint, checkpoint_digest=sha256_file(checkpoint / WEIGHTS) if checkpoint else None,
        variant=built.variant(on in boxed) if isinstance(built, HasVariant) else None, held_out=held_out,
    )  # fmt: skip


def preset_of(request: Request) -> str:
    """The run preset of a request: where it names none, paper on real data and small on embedded data.

    Raises:
        UserError: unknown protocol, or benchmarks that do not fit it.
    """
    real = any(catalogue.is_real(name, request.home) for name in _benchmarks(request))
    return request.preset or ("paper" if real else "small")


def _benchmarks(request: Request) -> tuple[str, str]:
    """The benchmarks of a request: fitted on, judged on."""
    if request.protocol not in PROTOCOLS:
        raise unknown_name("protocol", request.protocol, PROTOCOLS)
    fit_on, on = request.fit_on, request.on
    if request.protocol == "known":
        chosen = on or fit_on or DEFAULT_PAIR[1]
        if fit_on not in (None, chosen):
            raise UserError(
                f"protocol known cannot fit on {fit_on} and judge on {on}",
                "known actions means one benchmark for both",
                "use --protocol unseen",
            )
        return chosen, chosen
    if request.protocol == "frame":
        on = on or next(iter(FRAME_PAIRS))
        return fit_on or FRAME_PAIRS.get(on.partition("@")[0], on), on
    on = on or (DEFAULT_PAIR[0] if fit_on == DEFAULT_PAIR[1] else DEFAULT_PAIR[1])
    fit_on = fit_on or (DEFAULT_PAIR[1] if on == DEFAULT_PAIR[0] else DEFAULT_PAIR[0])
    if fit_on == on:
        raise UserError(
            f"protocol unseen cannot fit and judge on {on}", "its actions would be known", "use --protocol known"
        )
    return fit_on, on


def _protocol(request: Request, fit_on: Benchmark, on: Benchmark, fit_split: int) -> Protocol:
    match request.protocol:
        case "known":
            return protocols.known(on, request.split)
        case "unseen":
            return protocols.unseen(fit_on, on, request.split, fit_split)
        case _:
            return protocols.frame(fit_on, on, request.split, fit_split)


def _check_actions(protocol: Protocol, described: Mapping[str, Benchmark]) -> None:
    """A recognizer can be tested only on the classes that it has learned."""
    for probe in protocol.probes:
        taught, asked = (
            next((t for t in described[ref.benchmark].targets if t.name == probe.target), None)
            for ref in (probe.train, probe.test)
        )
        if taught != asked:
            raise UserError(
                f"protocol {protocol.name} cannot train on {probe.train.benchmark} and judge on {probe.test.benchmark}",
                f"they differ in their classes of {probe.target}",
                "choose two benchmarks of the same actions, such as synth-hmdb and synth-pa",
            )


def _check_frames(protocol: Protocol, opened: Mapping[str, Dataset]) -> None:
    """Whoever judges frames needs labels of frames, to learn from and to be tested by."""
    for probe in protocol.probes:
        for ref in (probe.train, probe.test) if probe.judged == "frame" else ():
            if not any(probe.target in v.spans for v in opened[ref.benchmark].videos):
                raise UserError(
                    f"protocol {protocol.name} cannot judge on {ref.benchmark}",
                    f"it has no {probe.target} labels of frames",
                    f"use one that has, such as {' or '.join(FRAME_PAIRS)}, or another protocol",
                )


def _repeat_attackers(protocol: Protocol, on: Benchmark, count: int) -> tuple[Probe, ...]:
    """Each privacy attacker ``count`` times, under names of its own: video, video-1, ..."""
    probes = []
    for probe in protocol.probes:
        copies = count if probe.target == on.privacy.name else 1
        probes += [dataclasses.replace(probe, name=f"{probe.name}-{i}" if i else probe.name) for i in range(copies)]
    return tuple(probes)


def _weights(asked: str | None, preset: str) -> tuple[str, str]:
    """What networks start from, and a digest of it for the keys."""
    if asked is None:
        if preset == "paper":
            raise UserError(
                "preset paper needs to know its image weights",
                "the paper starts from ImageNet weights and they move every figure",
                "add --weights pretrained (a download), --weights FILE or --weights none",
            )
        asked = "none"
    if asked in ("none", "pretrained"):
        return asked, asked
    path = Path(asked).expanduser()
    if not path.is_file():
        raise UserError(f"no weights in {asked}", "there is no such file", "name a file, 'pretrained' or 'none'")
    return str(path), sha256_file(path)


def pick_device(asked: str) -> str:
    """``auto``, ``cpu`` or ``cuda`` as the device it means on this machine.

    Raises:
        UserError: unknown, or no GPU for ``cuda``.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", asked, ("auto", "cpu", "cuda"))
    if asked == "cuda" and not torch.cuda.is_available():
        mend = "use --device cpu, or see 'stp-bench doctor'"
        raise UserError("device cuda cannot be used", "torch finds no GPU here", mend)
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def _precision(asked: str, device: str) -> str:
    if asked not in ("auto", "fp32", "bf16"):
        raise unknown_name("precision", asked, ("auto", "fp32", "bf16"))
    if asked != "auto":
        return asked
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def check_keep(keep: float | None, spec: MethodSpec, config: Any, vit: VitSpec) -> None:
    """Refuse a keep ratio that is out of range, or that the method has no use for."""
    if keep is None:
        return
    if not 0 < keep <= 1:
        raise UserError(f"--keep {keep} is out of range", "it is a share of tubelets", "use a value in (0, 1]")
    made = spec.make(config, vit)
    if not isinstance(made, HasKeep):
        raise UserError(f"--keep does not fit {spec.name}", "it drops no tubelets", "leave the option out")
    made.with_keep(keep)


def _fitted(request: Request, spec: MethodSpec, vit: VitSpec, wanted: Mapping[str, Any]) -> Fitted:
    """The request's checkpoint, fitted on exactly the videos that this run would fit on: else they may be its test."""
    if not spec.learned or request.checkpoint is None:
        raise UserError(f"--checkpoint does not fit {spec.name}", "it is a fixed transform", "leave the option out")
    fitted = checkpoints.load_method(request.checkpoint, spec.name, "cpu")
    for name, value in wanted.items():
        if (found := fitted.card.get(name)) != value:
            raise UserError(
                f"the checkpoint was fitted with {name} {found}",
                f"this run asks for {value}",
                f"use --fit-on {fitted.card.get('fit_on')} and its split and data, or leave --checkpoint out",
            )
    if fitted.vit != vit:
        raise UserError(
            "the checkpoint has other sizes than this run",
            f"it was fitted with preset {fitted.card.get('preset')}",
            "use that preset and its settings",
        )
    return fitted


def _judged(protocol: Protocol, dataset: Dataset) -> tuple[Video, ...]:
    """The videos of a benchmark that some probe is trained or tested on, sorted by id."""
    refs = {ref for p in protocol.probes for ref in (p.train, p.test) if ref.benchmark == dataset.benchmark.name}
    ids = {v.video_id for ref in refs for v in dataset.split(ref)}
    return tuple(v for v in dataset.videos if v.video_id in ids)


def _store(dataset: Dataset, recipe: StoreRecipe, request: Request, reporter: Reporter) -> Store:
    with reporter.stage(f"clip store of {dataset.benchmark.name}", len(dataset.videos), "videos") as task:
        return open_store(
            dataset, recipe, request.home, workers=request.workers, skip_unreadable=request.skip_unreadable,
            progress=task.update,
        )  # fmt: skip


def _sides(
    protocol: Protocol, opened: Mapping[str, tuple[Dataset, Store]], recipe: StoreRecipe
) -> tuple[dict[SplitRef, Side], int]:
    """The sides a protocol names, and how many training videos were left out because the test split holds them.

    A video of the test split never trains anything: neither its file, whatever it is called and whichever list names
    it, nor another file of its name (PA-HMDB51's videos are HMDB51's, perhaps encoded anew). Contents are those of the
    benchmark's own files: two videos that something else has made equally black are still two.
    """
    test = protocol.probes[0].test
    dataset, _ = opened[test.benchmark]
    tested = dataset.split(test)
    ids, contents = {v.video_id for v in tested}, {dataset.facts[v.video_id][1] for v in tested}
    sides, overlap = {}, 0
    for ref in dict.fromkeys((protocol.fit, *(r for p in protocol.probes for r in (p.train, p.test)))):
        if ref.benchmark not in opened:
            continue
        dataset, clip_store = opened[ref.benchmark]
        readable = [v for v in dataset.split(ref) if v.video_id not in clip_store.unreadable]
        kept = [
            v for v in readable
            if ref == test or (v.video_id not in ids and dataset.facts[v.video_id][1] not in contents)
        ]  # fmt: skip
        overlap += len(readable) - len(kept)
        if not kept:
            raise UserError(
                f"{ref.benchmark} split {ref.split} has no {ref.part} videos to use",
                "all are unreadable or test videos elsewhere", "choose another benchmark or split",
            )  # fmt: skip
        digest, raw_digest = (
            fingerprint({"videos": of.digest(kept), "store": dataclasses.asdict(recipe)})
            for of in (clip_store.dataset, dataset)
        )
        sides[ref] = Side(
            ref=ref, dataset=dataset, store=clip_store, videos=tuple(kept), digest=digest, raw_digest=raw_digest
        )
    return sides, overlap
