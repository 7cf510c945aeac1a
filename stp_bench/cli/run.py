"""``stp-bench evaluate`` and ``stp-bench train``."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from rich.console import RenderableType

from stp_bench import config
from stp_bench.cli._errors import explained
from stp_bench.cli._io import announce_download, show, working
from stp_bench.cli._options import (
    COMPUTE,
    DATA,
    METHOD,
    DataHome,
    Debug,
    Decoder,
    Device,
    Encoding,
    Json,
    Keep,
    Out,
    Precision,
    Preset,
    Settings,
    SkipUnreadable,
    Split,
    Weights,
    home_of,
    option,
)
from stp_bench.cli._results import aggregate_tables, result_tables
from stp_bench.errors import BenchError, MethodError, UserError, WorkError
from stp_bench.files import fingerprint, write_json
from stp_bench.methods import MethodSpec
from stp_bench.progress import Reporter

if TYPE_CHECKING:
    from stp_bench.jobs import Request

EVALUATE_EXAMPLE = "Example: stp-bench evaluate --method stprivacy --protocol unseen"
TRAIN_EXAMPLE = "Example: stp-bench train --method stprivacy --fit-on synth-ucf"

DataSeed = Annotated[int, option(DATA, "Seed of the embedded data.", min=0)]


def evaluate(
    method: Annotated[
        list[str],
        option(
            METHOD,
            "A name from 'stp-bench methods', or package.module:NAME; files:DIR for videos that are anonymized "
            "already; exec:'CMD {input} {output}' for a program that does it. Repeatable.",
            metavar="NAME",
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        option(METHOD, "Use this fitted method (a file or run folder) instead of fitting.", metavar="PATH"),
    ] = None,
    keep: Keep = None,
    weights: Weights = None,
    settings: Settings = None,
    protocol: Annotated[
        str,
        option(
            DATA,
            "Fit and judge on one benchmark; judge on actions that the fit never saw; or judge single frames.",
            "--protocol",
            choices=("known", "unseen", "frame"),
        ),
    ] = "known",
    fit_on: Annotated[str | None, option(DATA, "Benchmark that the method is fitted on.", metavar="BENCH")] = None,
    on: Annotated[str | None, option(DATA, "Benchmark that the method is judged on.", metavar="BENCH")] = None,
    preset: Preset = None,
    split: Split = 1,
    data_seed: DataSeed = 0,
    decoder: Decoder = "pyav",
    encoding: Encoding = None,
    skip_unreadable: SkipUnreadable = False,
    seeds: Annotated[
        int, option(COMPUTE, "Repeat with seeds 0 to N-1 and show mean and spread.", min=1, metavar="N")
    ] = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Judge a method: fit it, freeze it, train fresh recognizers on its videos, test them, print one result.

    Without data of your own it uses the embedded pair synth-ucf and synth-hmdb (for frames synth-hmdb and synth-pa),
    which is made on first use.
    """
    if checkpoint is not None and len(method) > 1:
        raise UserError("--checkpoint fits one method", f"{len(method)} are asked for", "evaluate them one by one")
    found, failures = _find(method)
    chosen = _distinct([spec for _, spec in found])
    settings_of = _settings_of(settings or [], chosen)
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        announce_download(weights, home, reporter)
        from stp_bench import evaluate as work
        from stp_bench.jobs import Request, preset_of

        requests = [
            Request(
                method=name, protocol=protocol, fit_on=fit_on, on=on, preset=preset, weights=weights,
                settings=settings_of[spec.name], checkpoint=checkpoint, keep=keep, split=split, seed=seed,
                device=device, precision=precision, decoder=decoder, encoding=_encoding(encoding),
                skip_unreadable=skip_unreadable, data_seed=data_seed, home=home,
            )
            for name, spec in found
            for seed in range(seeds)
        ]  # fmt: skip
        chosen_preset = preset_of(requests[0])
        _check_keep(keep, chosen, chosen_preset, settings_of)
        single = len(method) * seeds == 1
        if single:
            result, folder = work.evaluate(requests[0], out, reporter)
            document = result.to_dict()
        else:
            folder = out or home / "runs" / _name(requests, chosen_preset)
            repeated = [spec for spec in chosen for _ in range(seeds)]
            document = _compare(list(zip(repeated, requests, strict=True)), failures, folder, reporter, debug=debug)

    def tables() -> Iterator[RenderableType]:
        yield from result_tables(document) if single else aggregate_tables(document)
        yield f"picture: {folder / 'result.png'}"
        if not single:
            yield f"frames of every method: {folder / 'methods.png'}"
        yield f"run folder: {folder}"

    show(document, tables, as_json=as_json)
    if failures:
        raise _failed(failures)


def _find(names: list[str]) -> tuple[list[tuple[str, MethodSpec]], dict[str, BenchError]]:
    """The methods with the names they were asked for by; and what is wrong with those that are broken beside others."""
    from stp_bench import external

    found: list[tuple[str, MethodSpec]] = []
    failures: dict[str, BenchError] = {}
    for name in names:
        try:
            found.append((name, external.find(name)))
        except MethodError as error:
            failures[name] = error
    if not found:
        raise next(iter(failures.values()))
    return found, failures


def _compare(
    runs: list[tuple[MethodSpec, Request]],
    failures: dict[str, BenchError],
    folder: Path,
    reporter: Reporter,
    *,
    debug: bool,
) -> dict[str, Any]:
    """Judge several methods and seeds, and write the aggregate. A method that fails is added to ``failures`` and the
    others go on; a mistake in the request, which shows before they have worked, stops everything."""
    from stp_bench import evaluate as work
    from stp_bench import rundir
    from stp_bench.pictures import methods_picture, tradeoff_picture
    from stp_bench.results import Result, aggregate

    def fails(name: str, error: Exception) -> None:
        if debug:
            reporter.say("".join(traceback.format_exception(error)))
        said = explained(error)
        # A new error, since the one that was raised holds on to the networks of its method.
        failures[name] = type(said)(said.what, said.why, said.mend)
        reporter.say(f"{name} is left out: {said}")

    for name, found in failures.items():
        fails(name, found)
    outs = [folder / spec.name / f"seed-{request.seed}" for spec, request in runs]
    for (spec, request), out in zip(runs, outs, strict=True):
        if request.seed == 0:
            try:
                work.prepare(request, out, reporter)
            except Exception as error:
                if isinstance(error, UserError) and not isinstance(error, MethodError):
                    raise
                fails(spec.name, error)
    done: dict[int, Result] = {}
    # The method that changes nothing goes first: what is left of its scores is a column of all the others.
    order = sorted(range(len(runs)), key=lambda i: not runs[i][0].identity)
    for count, i in enumerate(order, start=1):
        spec, request = runs[i]
        if spec.name in failures:
            continue
        reporter.say(f"{spec.name}, seed {request.seed} ({count} of {len(runs)})")
        try:
            done[i], _ = work.evaluate(request, outs[i], reporter)
        except Exception as error:
            fails(spec.name, error)
    if not done:
        raise next(iter(failures.values())) if len(failures) == 1 else _failed(failures)
    document = aggregate([done[i] for i in sorted(done)])
    document["failed"] = [{"method": name, "error": str(error)} for name, error in failures.items()]
    tradeoff_picture(document, folder / "result.png")
    frames: dict[str, Any] = {}
    for i in sorted(done):
        if runs[i][0].name not in frames:
            frames[runs[i][0].name] = rundir.read_strips(outs[i])
    methods_picture(frames, folder / "methods.png")
    write_json(folder / "result.json", document)
    return document


def _failed(failures: Mapping[str, BenchError]) -> WorkError:
    """What a command says at its end that could not judge every method."""
    whys = "; ".join(f"{error.what}, {error.why}" for error in failures.values())
    count = "a method" if len(failures) == 1 else f"{len(failures)} methods"
    return WorkError(
        f"{count} could not be judged ({', '.join(failures)})", whys,
        "mend that and run the same command again, what is finished is kept",
    )  # fmt: skip


def train(
    method: Annotated[str, option(METHOD, "A learned method from 'stp-bench methods'.", metavar="NAME")],
    fit_on: Annotated[str, option(DATA, "Benchmark to fit on.", metavar="BENCH")],
    weights: Weights = None,
    settings: Settings = None,
    preset: Preset = None,
    split: Split = 1,
    data_seed: DataSeed = 0,
    decoder: Decoder = "pyav",
    encoding: Encoding = None,
    skip_unreadable: SkipUnreadable = False,
    seed: Annotated[int, option(COMPUTE, "Seed of the fit.", min=0)] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Fit a learned method, phase by phase, and save it as a checkpoint for anonymize and evaluate."""
    from stp_bench import external

    spec = external.find(method)
    if not spec.learned:
        raise UserError(
            f"{spec.name} cannot be trained", "it is a fixed transform", "evaluate it, or anonymize with it"
        )
    settings_of = _settings_of(settings or [], [spec])
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        announce_download(weights, home, reporter)
        from stp_bench import evaluate as work
        from stp_bench.checkpoints import CARD, WEIGHTS
        from stp_bench.jobs import Request

        request = Request(
            method=method, protocol="known", fit_on=fit_on, on=fit_on, preset=preset, weights=weights,
            settings=settings_of[spec.name], split=split, seed=seed, device=device, precision=precision,
            decoder=decoder, encoding=_encoding(encoding), skip_unreadable=skip_unreadable, data_seed=data_seed,
            home=home,
        )  # fmt: skip
        folder = work.train(request, out, reporter)

    def tables() -> Iterator[RenderableType]:
        yield f"fitted {spec.name} on {fit_on}: {folder / WEIGHTS}"
        yield f"use it: stp-bench anonymize INPUT OUTPUT --method {method} --checkpoint {folder}"

    document = {
        "schema": 1, "method": spec.name, "fit_on": fit_on, "folder": str(folder), "checkpoint": str(folder / WEIGHTS),
        "card": str(folder / CARD), "curves": str(folder / "curves.csv"),
    }  # fmt: skip
    show(document, tables, as_json=as_json)


def _encoding(name: str | None) -> Literal["raw", "jpeg"] | None:
    return cast(Literal["raw", "jpeg"] | None, name)  # the option lets nothing else through


def _check_keep(
    keep: float | None, specs: list[MethodSpec], preset: str, settings_of: dict[str, tuple[str, ...]]
) -> None:
    """Refuse a dial that one of the methods does not have, before the others have worked for hours."""
    if keep is None:
        return
    from stp_bench.jobs import check_keep

    vit = config.vit_spec(config.preset(preset), image_weights=False)
    for spec in specs:
        owners = {"run": config.RunConfig, spec.name: spec.config}
        own = config.split_overrides(settings_of[spec.name], owners)[spec.name]
        check_keep(keep, spec, spec.configure(preset, own), vit)


def _distinct(specs: list[MethodSpec]) -> list[MethodSpec]:
    """Methods of different names, since names make the folders of a comparison."""
    names = [spec.name for spec in specs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"method {twice!r} is asked for twice", "their names tell results apart", "name it once")
    return specs


def _settings_of(settings: list[str], specs: list[MethodSpec]) -> dict[str, tuple[str, ...]]:
    """The overrides of each method's run: those of ``run`` and its own, not those meant for the others."""
    owners = {"run": config.RunConfig, **{spec.name: spec.config for spec in specs}}
    sorted_ = config.split_overrides(settings, owners)
    written = {owner: [f"{owner}.{key}={value}" for key, value in values.items()] for owner, values in sorted_.items()}
    return {spec.name: (*written["run"], *written[spec.name]) for spec in specs}


def _name(requests: list[Request], preset: str) -> str:
    """The folder of a comparison that names none; the same command finds it again."""
    first = requests[0]
    asked = [[r.method, r.seed, *r.settings] for r in requests]
    asked.append([str(v) for v in (first.fit_on, first.on, first.weights, first.checkpoint, first.keep, first.split)])
    asked.append([str(v) for v in (first.device, first.precision, first.decoder, first.encoding, first.data_seed)])
    return f"compare-{first.protocol}-{first.on or 'embedded'}-{preset}-{fingerprint(asked)[:8]}"
