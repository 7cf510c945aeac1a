"""A third-party method as its author meets it: a separate package, installed, listed, checked and evaluated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the example and a broken neighbor in it."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, source)  # a build may leave files behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder, source], check=True)
    (folder / "stp_broken.py").write_text("raise RuntimeError('this plug-in needs a moon phase')\n")
    card = folder / "stp_broken-0.1.dist-info"
    card.mkdir()
    (card / "METADATA").write_text("Metadata-Version: 2.1\nName: stp-broken\nVersion: 0.1\n")
    (card / "entry_points.txt").write_text("[stp_bench.methods]\nbroken = stp_broken:SPEC\n")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data home for all commands, so that the data are made once."""
    return tmp_path_factory.mktemp("home")


def run(site: Path, home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "STP_BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)


def stp_bench(site: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(site, home, Path(sys.executable).parent / "stp-bench", *arguments)


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_installed_package_is_listed_with_its_source_and_a_broken_one_with_its_error(site: Path, home: Path) -> None:
    listed = {m["name"]: m for m in json_of(stp_bench(site, home, "methods", "--json"))["methods"]}
    assert listed["pixelate"]["kind"] == "fixed"
    assert listed["pixelate"]["source"] == "stp-pixelate 0.1.0"
    assert listed["broken"]["kind"] == "broken"
    assert "moon phase" in listed["broken"]["error"]
    assert {"raw", "blur-strong", "stprivacy"} <= set(listed)


def test_a_broken_package_stops_only_the_command_that_asks_for_it(site: Path, home: Path) -> None:
    done = stp_bench(site, home, "evaluate", "--method", "broken", "--preset", "tiny")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error:") and "moon phase" in done.stderr


def test_the_example_keeps_the_contract(site: Path, home: Path) -> None:
    code = (
        "from stp_bench.contract import check_method; from stp_pixelate import PIXELATE; print(check_method(PIXELATE))"
    )
    done = run(site, home, sys.executable, "-c", code)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_listing_methods_imports_no_torch(site: Path, home: Path) -> None:
    code = "import sys; from stp_bench.methods import specs; print('pixelate' in specs(), 'torch' in sys.modules)"
    done = run(site, home, sys.executable, "-c", code)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_foreign_method_is_evaluated_like_ours_by_name_or_by_module(site: Path, home: Path) -> None:
    def evaluate(name: str) -> Any:
        return json_of(stp_bench(site, home, "evaluate", "--method", name, "--preset", "tiny", "--json"))

    by_name, by_module = evaluate("pixelate"), evaluate("stp_pixelate:PIXELATE")
    assert (by_name["method"], by_name["preset"], by_name["variant"]) == ("pixelate", "tiny", None)
    assert 0 <= by_name["metrics"]["top1"] <= 100
    assert by_module["metrics"] == by_name["metrics"]


def test_its_options_are_set_like_ours(site: Path, home: Path) -> None:
    done = stp_bench(site, home, "evaluate", "--method", "pixelate", "--preset", "tiny", "--set", "pixelate.bloks=4")
    assert done.returncode == 2
    assert "blocks" in done.stderr
