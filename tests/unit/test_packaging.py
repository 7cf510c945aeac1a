"""What users install: the wheel's packages, data files and entry points; and who may import whom."""

from __future__ import annotations

import email
import itertools
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "stp_bench": "stp_bench",
    "stp_annotations": "annotations/stp_annotations",
    "stp_baselines": "baselines/stp_baselines",
    "stprivacy": "model/stprivacy",
    "stp_leaderboard": "leaderboard/stp_leaderboard",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_exactly_five_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_every_file_of_the_packages_arrives(wheel: zipfile.ZipFile) -> None:
    arrived = set(wheel.namelist())
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in arrived
        assert f"{package}/py.typed" in arrived


def test_entry_points_license_and_readme_arrive(wheel: zipfile.ZipFile) -> None:
    info = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    entries = wheel.read(f"{info}/entry_points.txt").decode()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["stp_bench.methods"]
    assert "stp-bench = stp_bench.cli:main" in entries
    assert all(f"{name} = {target}" in entries for name, target in declared.items())
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "# stp-bench" in metadata.get_payload()


def test_the_folders_that_hold_packages_are_no_packages() -> None:
    """``import model`` must not find a second copy of the code under another name."""
    for folder in ("annotations", "baselines", "model", "leaderboard"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_constraints_cover_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras.values())]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(line.split("==")[0]) for line in lines if "==" in line}
    assert {normal(requirement) for requirement in wanted} - {"stp-bench"} <= pinned
    own = [name for name in wanted if normal(name) == "stp-bench"]
    assert {extra for name in own for extra in name.partition("[")[2].rstrip("]").split(",")} <= set(extras)


def normal(requirement: str) -> str:
    """The name in a requirement, as packaging compares names."""
    name = requirement
    for mark in "<>=!~;[ ":
        name = name.split(mark)[0]
    return name.lower().replace("_", "-").replace(".", "-")
