"""``stp-bench evaluate`` and ``stp-bench train``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from stp_bench import config, methods
from stp_bench.cli._io import show, working
from stp_bench.cli._options import DataHome, Debug, Decoder, Device, Json, Precision, SkipUnreadable, one_of
from stp_bench.cli._results import aggregate_tables, result_tables
from stp_bench.errors import UserError
from stp_bench.files import data_home as home_of
from stp_bench.files import fingerprint, write_json
from stp_bench.methods import MethodSpec

if TYPE_CHECKING:
    from stp_bench.jobs import Request

EVALUATE_EXAMPLE = "Example: stp-bench evaluate --method stprivacy --protocol unseen"
TRAIN_EXAMPLE = "Example: stp-bench train --method stprivacy --fit-on synth-ucf"
METHOD, PROTOCOL = "Method", "Protocol and data"
PROTOCOLS = ("known", "unseen")

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(config.PRESETS),
        callback=one_of("preset", config.PRESETS),
        help="Sizes and recipe: for tests, for a CPU, the paper's on embedded data, the paper's. \\[default: small]",
        rich_help_panel=PROTOCOL,
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="pretrained|none|FILE",
        help="ImageNet weights that networks start from; pretrained downloads them. \\[default: none; paper asks]",
        rich_help_panel=METHOD,
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one field, as run.KEY or METHOD.KEY; repeatable.",
        rich_help_panel=METHOD,
        show_default=False,
    ),
]
FitOn = Annotated[
    str | None,
    typer.Option(
        metavar="BENCH", help="Benchmark the method is fitted on.", rich_help_panel=PROTOCOL, show_default=False
    ),
]
Split = Annotated[int, typer.Option(min=1, help="Official split.", rich_help_panel=PROTOCOL)]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Run folder; the same folder again resumes. \\[default: in the data home, named after the run]",
        rich_help_panel="Output",
        show_default=False,
    ),
]
DataSeed = Annotated[int, typer.Option(min=0, help="Seed of the embedded data.", rich_help_panel=PROTOCOL)]


def evaluate(
    method: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="A name from 'stp-bench methods', or package.module:NAME; repeatable.", rich_help_panel=METHOD
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            metavar="|".join(PROTOCOLS),
            callback=one_of("protocol", PROTOCOLS),
            help="Fit and judge on one benchmark, or judge on actions that the fit never saw.",
            rich_help_panel=PROTOCOL,
        ),
    ] = "known",
    fit_on: FitOn = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="BENCH", help="Benchmark the method is judged on.", rich_help_panel=PROTOCOL, show_default=False),
    ] = None,
    preset: Preset = None,
    split: Split = 1,
    data_seed: DataSeed = 0,
    decoder: Decoder = "pyav",
    skip_unreadable: SkipUnreadable = False,
    weights: Weights = None,
    settings: Settings = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Use this fitted method (file or run folder) instead of fitting.", rich_help_panel=METHOD,
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            metavar="A", help="Keep ratio per sparsification block at inference, in (0, 1].", rich_help_panel=METHOD,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Repeat with seeds 0 to N-1 and show mean and spread.", rich_help_panel="Compute")
    ] = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Judge a method: fit it, freeze it, train fresh recognizers on its videos, test them, print one result.

    Without data of your own it uses the embedded pair synth-ucf and synth-hmdb, which is made on first use.
    """
    chosen = _distinct([methods.find(name) for name in method])
    if checkpoint is not None and len(chosen) > 1:
        raise UserError("--checkpoint fits one method", f"{len(chosen)} are asked for", "evaluate them one by one")
    settings_of = _settings_of(settings or [], chosen)
    home = home_of(data_home)
    with working(as_json=as_json) as reporter:
        from stp_bench import evaluate as work
        from stp_bench.jobs import Request
        from stp_bench.results import aggregate

        requests = [
            Request(
                method=name, protocol=protocol, fit_on=fit_on, on=on, preset=preset, weights=weights,
                settings=settings_of[spec.name], checkpoint=checkpoint, keep=keep, split=split, seed=seed,
                device=device, precision=precision, decoder=decoder, skip_unreadable=skip_unreadable,
                data_seed=data_seed, home=home,
            )
            for name, spec in zip(method, chosen, strict=True)
            for seed in range(seeds)
        ]  # fmt: skip
        if len(requests) == 1:
            result, folder = work.evaluate(requests[0], out, reporter)
            document = result.to_dict()
        else:
            folder = out or home / "runs" / _name(requests)
            results = []
            for request in requests:
                spec = methods.find(request.method)
                reporter.say(f"{spec.name}, seed {request.seed} ({len(results) + 1} of {len(requests)})")
                results.append(work.evaluate(request, folder / spec.name / f"seed-{request.seed}", reporter)[0])
            document = aggregate(results)
            write_json(folder / "result.json", document)

    def tables() -> Iterator[RenderableType]:
        yield from aggregate_tables(document) if len(requests) > 1 else result_tables(document)
        if len(requests) == 1:
            yield f"picture: {folder / 'result.png'}"
        yield f"run folder: {folder}"

    show(document, tables, as_json=as_json)


def train(
    method: Annotated[
        str, typer.Option(metavar="NAME", help="A learned method from 'stp-bench methods'.", rich_help_panel=METHOD)
    ],
    fit_on: Annotated[str, typer.Option(metavar="BENCH", help="Benchmark to fit on.", rich_help_panel=PROTOCOL)],
    preset: Preset = None,
    split: Split = 1,
    data_seed: DataSeed = 0,
    decoder: Decoder = "pyav",
    skip_unreadable: SkipUnreadable = False,
    weights: Weights = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit.", rich_help_panel="Compute")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    as_json: Json = False,
    data_home: DataHome = None,
    debug: Debug = False,
) -> None:
    """Fit a learned method, phase by phase, and save it as a checkpoint for anonymize and evaluate."""
    spec = methods.find(method)
    if not spec.learned:
        raise UserError(
            f"{spec.name} cannot be trained", "it is a fixed transform", "evaluate it, or anonymize with it"
        )
    settings_of = _settings_of(settings or [], [spec])
    with working(as_json=as_json) as reporter:
        from stp_bench import evaluate as work
        from stp_bench.checkpoints import CARD, WEIGHTS
        from stp_bench.jobs import Request

        request = Request(
            method=method, protocol="known", fit_on=fit_on, on=fit_on, preset=preset, weights=weights,
            settings=settings_of[spec.name], split=split, seed=seed, device=device, precision=precision,
            decoder=decoder, skip_unreadable=skip_unreadable, data_seed=data_seed, home=home_of(data_home),
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


def _distinct(specs: list[MethodSpec]) -> list[MethodSpec]:
    """Methods of different names, since names make the folders of a comparison."""
    names = [spec.name for spec in specs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"method {twice!r} is asked for twice", "results are told apart by method names", "name it once"
        )
    return specs


def _settings_of(settings: list[str], specs: list[MethodSpec]) -> dict[str, tuple[str, ...]]:
    """The overrides of each method's run: those of ``run`` and its own, not those meant for the others."""
    owners = {"run": config.RunConfig, **{spec.name: spec.config for spec in specs}}
    sorted_ = config.split_overrides(settings, owners)
    written = {owner: [f"{owner}.{key}={value}" for key, value in values.items()] for owner, values in sorted_.items()}
    return {spec.name: (*written["run"], *written[spec.name]) for spec in specs}


def _name(requests: list[Request]) -> str:
    """The folder of a comparison that names none; the same command finds it again."""
    first = requests[0]
    asked = [[r.method, r.seed, *r.settings] for r in requests]
    asked.append([str(v) for v in (first.fit_on, first.on, first.weights, first.checkpoint, first.keep, first.split)])
    asked.append([str(v) for v in (first.device, first.precision, first.decoder, first.data_seed)])
    return f"compare-{first.protocol}-{first.on or 'embedded'}-{first.preset or 'small'}-{fingerprint(asked)[:8]}"
