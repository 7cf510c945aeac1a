"""The runs of a table: which there are, doing them, and what came of each line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stp_bench import catalogue, config, evaluate, external, jobs, launch
from stp_bench.errors import BenchError, MethodError, UserError, WorkError
from stp_bench.files import make_folder
from stp_bench.jobs import NO_DATA_PRESET, Request
from stp_bench.launch import Resources
from stp_bench.methods import MethodSpec
from stp_bench.progress import Reporter
from stp_bench.reproduce._grid import TWINS, Grid, Line, Pair
from stp_bench.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a table is run."""

    preset: str | None = None
    """None: paper on real data, small on embedded data."""
    seeds: int = 1
    settings: tuple[str, ...] = ()
    """Texts ``run.KEY=VALUE`` or ``METHOD.KEY=VALUE``, for every run that they concern."""
    weights: str | None = None
    split: int = 1
    device: str = "auto"
    precision: str = "auto"
    skip_unreadable: bool = False
    launcher: str = "local"
    resources: Resources = field(default_factory=Resources)
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run: a line, on the data that this machine has, with one seed."""

    name: str
    lines: tuple[Line, ...]
    """Those that it is shown in: the paper's own setting is a point of every chart."""
    request: Request
    identity: bool
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of the lines of a table."""

    folders: Mapping[Line, Sequence[Path]]
    """The run folder of each seed that was judged."""
    failed: Sequence[tuple[str, BenchError]]
    """Names of runs that were not, with the reason; lines keep their other seeds."""
    errors: Mapping[Line, str]
    """Of each line with a failed run, the first reason."""
    seconds: Mapping[str, float]
    """How long each run took here, by its name; next to nothing where all was found."""


def bound(pair: Pair, home: Path) -> tuple[str, str, bool]:
    """The benchmarks of a pair on this machine, fitted on and judged on: the real ones where both are prepared, else
    the embedded ones; and whether they are real. Never one of each: they differ in their actions."""
    if not catalogue.steps(pair.fit_on, home) and not catalogue.steps(pair.on, home):
        return pair.fit_on, pair.on, True
    return TWINS[pair.fit_on], TWINS[pair.on], False


def cells(grid: Grid, specs: Mapping[str, MethodSpec], options: Options, out: Path) -> tuple[Cell, ...]:
    """The runs of a table, without repetition: lines of equal configuration share theirs.

    Args:
        specs: the methods by the names they were asked for by; lines of other methods have no run.
        out: the folder of the table; every run gets one in it.

    Raises:
        UserError: a setting is unknown or wrong.
    """
    owners = {"run": config.RunConfig, **{spec.name: spec.config for spec in specs.values()}}
    chosen = config.split_overrides(options.settings, owners)
    run_settings = tuple(f"run.{key}={value}" for key, value in chosen["run"].items())
    config.override(config.preset(options.preset or "small"), chosen["run"], owner="run")
    lines: dict[tuple[Any, ...], list[Line]] = {}
    for line in grid.lines:
        if line.method in specs:
            spec = specs[line.method]
            own = dict(setting.split("=", 1) for setting in line.settings)
            preset = options.preset or ("paper" if bound(line.pair, options.home)[2] else "small")
            made = spec.configure(preset, {**chosen[spec.name], **own})
            lines.setdefault((line.pair, line.method, made, line.keep), []).append(line)
    found = []
    for (pair, method, *_), sharing in lines.items():
        first, spec = sharing[0], specs[method]
        fit_on, on, _ = bound(pair, options.home)
        own_settings = {**chosen[spec.name], **dict(setting.split("=", 1) for setting in first.settings)}
        variant = [*first.settings, *([f"keep={first.keep:g}"] if first.keep is not None else [])]
        where = on if fit_on == on else f"{fit_on}-{on}"
        title = f"{spec.name}{''.join(f' {v}' for v in variant)} on {where.replace('-synth', ' to synth')}"
        folder = out / _file_name(where) / _file_name("-".join([spec.name, *variant]))
        for seed in range(options.seeds):
            request = Request(
                method=method, protocol=pair.protocol, fit_on=fit_on, on=on, preset=options.preset,
                weights=options.weights, keep=first.keep, split=options.split, seed=seed, device=options.device,
                precision=options.precision, skip_unreadable=options.skip_unreadable, home=options.home,
                settings=(*run_settings, *(f"{spec.name}.{key}={value}" for key, value in own_settings.items())),
            )  # fmt: skip
            found.append(
                Cell(
                    name=f"{title}, seed {seed}", lines=tuple(sharing), request=request, identity=spec.identity,
                    folder=folder / f"seed-{seed}",
                )
            )  # fmt: skip
    return tuple(found)


def run(grid: Grid, options: Options, out: Path, reporter: Reporter) -> Done:
    """Do the runs of a table that are not there yet. One that fails stops no other.

    The method that changes nothing is judged first in its setting: its scores are a column of all the others.

    Raises:
        UserError: the request is wrong, so that no run of it can begin.
    """
    specs, failed = _specs(grid)
    # Resolved here: a worker may see another machine than this process does.
    device = jobs.pick_device(options.device)
    if options.launcher == "ray" and device == "cuda" and not options.resources.gpus:
        raise UserError(
            "cells cannot use a GPU", "--gpus-per-cell is 0", "give each a share of it, or use --device cpu"
        )
    all_cells = cells(grid, specs, dataclasses.replace(options, device=device), make_folder(out))
    ready, refused = _prepare(all_cells, reporter)
    errors = {line: str(why) for line in grid.lines for name, why in failed if line.method == name}
    by_name = {cell.name: cell for cell in all_cells}
    for name, why in refused:
        errors |= {line: str(why) for line in by_name[name].lines}
    failed += refused
    folders: dict[Line, list[Path]] = {line: [] for line in grid.lines}
    seconds: dict[str, float] = {}
    with (
        launch.launcher(options.launcher, options.resources, reporter) as launcher,
        reporter.stage(f"cells of {grid.name}", len(ready), "cells") as task,
    ):
        done: dict[str, Path] = {}
        for wave in ([c for c in ready if c.identity], [c for c in ready if not c.identity]):
            for outcome in launcher.run(_evaluate, {cell.name: cell for cell in wave}):
                task.advance()
                if outcome.error:
                    failed.append((outcome.name, outcome.error))
                    errors |= {line: str(outcome.error) for line in by_name[outcome.name].lines}
                    reporter.say(f"{outcome.name} is left out: {outcome.error}")
                else:
                    done[outcome.name], seconds[outcome.name] = outcome.value, outcome.seconds
                    reporter.say(_summary(outcome.name, outcome.value, len(done) + len(failed), len(all_cells)))
    for cell in all_cells:  # by seed, in whichever order they ended
        for line in cell.lines if cell.name in done else ():
            folders[line].append(done[cell.name])
    return Done(folders=folders, failed=failed, errors=errors, seconds=seconds)


def results_of(folders: Sequence[Path]) -> list[Result]:
    """The results in some run folders."""
    return [Result.read(folder / "result.json") for folder in folders]


def data_of(result: Result) -> str:
    """Which data a result is of, in words."""
    return result.on if result.data == NO_DATA_PRESET else f"{result.on} (embedded)"


def _specs(grid: Grid) -> tuple[dict[str, MethodSpec], list[tuple[str, BenchError]]]:
    """The methods of a table by the names they were asked for by; and those that cannot be used."""
    found: dict[str, MethodSpec] = {}
    failed: list[tuple[str, BenchError]] = []
    for name in dict.fromkeys(line.method for line in grid.lines):
        try:
            found[name] = external.find(name)
        except MethodError as error:
            failed.append((name, error))
    if not found:
        raise (
            failed[0][1]
            if failed
            else UserError(f"{grid.name} has no lines to run", "none of its methods is asked for", "leave --method out")
        )
    return found, failed


def _prepare(cells: Sequence[Cell], reporter: Reporter) -> tuple[list[Cell], list[tuple[str, BenchError]]]:
    """Make data and clip stores, and find what cannot be run, before anything is worked on that would be lost.

    Raises:
        UserError: nothing can be run, for that reason.
    """
    ready, refused = [], []
    found: dict[Path, BenchError] = {}
    for cell in cells:
        what = cell.folder.parent
        try:
            # Seeds differ in nothing that is refused.
            if what not in found and cell.request.seed == 0:
                evaluate.prepare(cell.request, cell.folder, reporter)
        except (UserError, WorkError) as error:
            found[what] = error
        if what in found:
            refused.append((cell.name, found[what]))
        else:
            ready.append(cell)
    if not ready:
        raise refused[0][1]
    for name, why in refused:
        reporter.say(f"{name} is left out: {why}")
    return ready, refused


def _evaluate(cell: Cell, reporter: Reporter) -> Path:
    """One run, in whichever process."""
    evaluate.evaluate(cell.request, cell.folder, reporter)
    return cell.folder


def _summary(name: str, folder: Path, done: int, total: int) -> str:
    measured = results_of([folder])[0].metrics
    figures = [(n, measured[n]) for n in ("top1", "action_cmap", "cmap", "object_cmap", "scene_cmap") if n in measured]
    shown = ", ".join(f"{n} {value:.1f}" for n, value in figures if value is not None)
    return f"[{done}/{total}] {name}: {shown}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-.") or "method"
