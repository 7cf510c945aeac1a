"""``stp-bench methods new``: what it writes is a method as it stands, installed as its author would install it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment of its own, in which all that is installed here can be imported as well."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    made = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = [made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    shared = sysconfig.get_path("purelib")
    (packages / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), [("fixed", []), ("learned", ["--learned"])])
def test_a_new_method_passes_its_test_and_is_listed_as_soon_as_it_is_installed(
    run: Run, here: Path, python: Path, kind: str, options: list[str]
) -> None:
    name = f"my-{kind}-one"
    document = run("methods", "new", name, *options, "--json").json()
    folder = here / f"stp-{name}"
    assert (document["kind"], here / document["folder"]) == (kind, folder)
    assert sorted(document["files"]) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-e", folder], check=True)
    tested = subprocess.run([python, "-m", "pytest", "-q", folder], capture_output=True, text=True, cwd=here)
    assert tested.returncode == 0, tested.stdout
    code = "from stp_bench.cli import app; app(['methods', '--json'])"
    listed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    (found,) = (m for m in json.loads(listed.stdout)["methods"] if m["name"] == name)
    assert (found["kind"], found["source"]) == (kind, f"stp-{name} 0.1.0")


def test_the_folder_can_be_chosen_and_nothing_else_is_left_behind(run: Run, here: Path) -> None:
    done = run("methods", "new", "my-blur", "--out", "deep/er/mine")
    assert done.code == 0
    assert "pip install -e deep/er/mine" in done.out
    assert [p.name for p in (here / "deep" / "er").iterdir()] == ["mine"]
    assert 'my-blur = "stp_my_blur:SPEC"' in (here / "deep" / "er" / "mine" / "pyproject.toml").read_text()


def test_a_folder_that_is_there_is_left_alone(run: Run, here: Path) -> None:
    (here / "stp-my-blur").mkdir()
    done = run("methods", "new", "my-blur")
    assert (done.code, "already" in done.error) == (2, True)
    assert list((here / "stp-my-blur").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../escape", "lower-case"),
        ("/tmp/x", "lower-case"),
        ("My-Blur", "lower-case"),
        ("blur_it", "lower-case"),
        ("2blur", "lower-case"),
        ("blur--it", "lower-case"),
        ("blur\n", "lower-case"),
        ("blür", "lower-case"),
        ("b" * 41, "at most 40"),
        ("", "lower-case"),
        ("raw", "an installed method has that name"),
        ("blur-strong", "an installed method has that name"),
        ("run", "something else"),
        ("exec", "something else"),
        ("bench", "package stp_bench is there already"),
    ],
)
def test_a_name_that_no_method_can_have_is_refused(run: Run, here: Path, name: str, says: str) -> None:
    done = run("methods", "new", name)
    assert (done.code, says in done.error) == (2, True), done.error
    assert list(here.iterdir()) == []


def test_methods_still_lists_and_knows_its_only_command(run: Run) -> None:
    assert {"raw", "stprivacy"} <= {m["name"] for m in run("methods", "--json").json()["methods"]}
    assert "did you mean new?" in run("methods", "knew").error
