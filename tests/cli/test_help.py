"""Help is documentation: every command explains itself, groups its options, and ends with something to copy."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from stp_bench.cli import app

PROMISED = {
    "doctor", "methods", "methods new", "train", "anonymize", "evaluate", "reproduce", "inspect",
    "data list", "data synth", "data prepare", "data store", "data check", "data boxes", "data card",
    "labels import", "labels fetch", "labels stats", "cache list", "cache prune", "runs list", "runs show",
    "annotate serve", "annotate people", "annotate init", "annotate status", "annotate pull", "annotate vote",
    "annotate adjudicate", "annotate agreement", "annotate export", "annotate votes-export", "annotate votes-import",
    "annotate purge", "leaderboard submit", "leaderboard check", "leaderboard build", "leaderboard serve",
}  # fmt: skip


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, *path, name)
    if path and (not hasattr(command, "commands") or command.invoke_without_command):
        yield path, command


COMMANDS = {" ".join(path): command for path, command in leaves(typer.main.get_command(app))}


LONG = {"evaluate", "train", "reproduce", "leaderboard serve"}
AWAY = {"labels fetch", *(name for name in COMMANDS if name.startswith("annotate "))}  # a network, a server
CHEAP = sorted(set(COMMANDS) - LONG - AWAY)


def examples(name: str) -> list[str]:
    """What the help of a command offers to copy, in the order of its lines."""
    return [line.partition(": ")[2] for line in COMMANDS[name].epilog.split("\n\n")]


def command_of(line: str) -> str:
    """The command that a line starts with."""
    words = shlex.split(line)[1:]
    return next(name for n in (2, 1) if (name := " ".join(words[:n])) in COMMANDS)


def text(screen: str) -> str:
    """A help page without its frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", screen).split())


def test_the_commands_are_those_that_were_promised() -> None:
    assert set(COMMANDS) == PROMISED


@pytest.mark.parametrize("name", ["", "data", "labels", "annotate", "leaderboard", "cache", "runs", *sorted(COMMANDS)])
def test_help_starts_with_a_sentence_and_ends_with_an_example(run: Callable[..., Any], name: str) -> None:
    done = run(*name.split(), "--help")
    assert done.code == 0
    words = text(done.out)
    assert re.search(r"Usage: stp-bench.*? [A-Z][^.]+\. ", words)
    example = words.rpartition("Example: ")[2]
    assert example.startswith("stp-bench ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_fit_on_a_line_and_use_options_that_exist(name: str) -> None:
    *before, example = examples(name)
    assert len(before) <= 1
    for line, command in [(example, name), *((line, command_of(line)) for line in before)]:
        assert len(line) <= 80
        words = shlex.split(line)
        assert words[: 1 + len(command.split())] == ["stp-bench", *command.split()]
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_examples_of_quick_commands_work_on_a_fresh_install(tmp_path: Path) -> None:
    """One process for all, since starting torch again proves nothing; each command has a home and folder of its own."""
    code = (
        "import os, pathlib, shlex, sys\nfrom stp_bench.cli import app\n"
        "for number, lines in enumerate(sys.argv[1:]):\n"
        "    folder = pathlib.Path(str(number)).absolute()\n    (folder / 'here').mkdir(parents=True)\n"
        "    os.chdir(folder / 'here')\n    os.environ['STP_BENCH_HOME'] = str(folder / 'home')\n"
        "    for line in lines.split('\\n'):\n"
        "        try:\n            app(shlex.split(line)[1:])\n"
        "        except SystemExit as stop:\n            assert not stop.code, (line, stop.code)\n"
        "    os.chdir(folder.parent)\n"
    )
    words = ["\n".join(examples(name)) for name in CHEAP]
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    anonymized = tmp_path / str(CHEAP.index("anonymize")) / "here" / "out"
    assert len(list(anonymized.glob("*.mp4"))) == 2 * len(list(anonymized.glob("*.json"))) > 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained_in_a_panel_and_every_command_has_the_general_ones(name: str) -> None:
    options = [p for p in COMMANDS[name].params if p.param_type_name == "option" and "--help" not in p.opts]
    assert all(p.help and p.rich_help_panel for p in options)
    assert {"--json", "--data-home", "--debug"} <= {o for p in options for o in p.opts}


def test_evaluate_has_the_options_of_its_contract_with_their_defaults() -> None:
    found = {o: p.default for p in COMMANDS["evaluate"].params for o in p.opts}
    defaults = {
        "--method": None, "--protocol": "known", "--fit-on": None, "--on": None, "--preset": None, "--weights": None,
        "--skip-unreadable": False, "--set": None, "--checkpoint": None, "--keep": None, "--split": 1, "--seeds": 1,
        "--device": "auto", "--precision": "auto", "--out": None, "--json": False, "--decoder": "pyav",
        "--encoding": None,
    }  # fmt: skip
    assert {name: found[name] for name in defaults} == defaults


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "--help"], ["methods"], ["data", "list"]])
def test_help_and_lists_start_without_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom stp_bench.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'timm', 'torchvision', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy\n"
        "if '--help' in sys.argv: assert not {'av', 'cv2', 'pandas', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_command_the_help_is_shown(run: Callable[..., Any]) -> None:
    done = run()
    assert done.code == 2
    assert "Usage: stp-bench" in done.out


def test_the_version_is_the_package_s(run: Callable[..., Any]) -> None:
    import stp_bench

    assert run("--version").out == f"stp-bench {stp_bench.__version__}\n"
