"""Help is documentation: every command explains itself, groups its options, and ends with something to copy."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main

from stp_bench.cli import app

PROMISED = {
    "doctor", "methods", "train", "anonymize", "evaluate",
    "data list", "data synth", "data store", "data check",
}  # fmt: skip


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, *path, name)
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = {" ".join(path): command for path, command in leaves(typer.main.get_command(app))}


def text(screen: str) -> str:
    """A help page without its frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", screen).split())


def test_the_commands_are_those_that_were_promised() -> None:
    assert set(COMMANDS) == PROMISED


@pytest.mark.parametrize("name", ["", "data", *sorted(COMMANDS)])
def test_help_starts_with_a_sentence_and_ends_with_an_example(run: Callable[..., Any], name: str) -> None:
    done = run(*name.split(), "--help")
    assert done.code == 0
    words = text(done.out)
    assert re.search(r"Usage: stp-bench.*? [A-Z][^.]+\. ", words)
    example = words.rpartition("Example: ")[2]
    assert example.startswith("stp-bench ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_fit_on_a_line_and_use_options_that_exist(name: str) -> None:
    example = COMMANDS[name].epilog.removeprefix("Example: ")
    assert len(example) <= 70
    words = shlex.split(example)
    assert words[: 1 + len(name.split())] == ["stp-bench", *name.split()]
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


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
