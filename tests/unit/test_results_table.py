"""The README's tables are written from result files, and nothing else in it is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stp_bench.results import Result, aggregate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "results_table.py", tmp_path / "tools")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def write(tree: Path, *, top1: tuple[float, ...]) -> str:
    document = json.loads((ROOT / "tests" / "golden" / "result-schema1.json").read_text())
    results = []
    for seed, value in enumerate(top1):
        document["seed"], document["metrics"]["top1"] = seed, value
        results.append(Result.from_dict(json.loads(json.dumps(document))))
    (tree / "result.json").write_text(json.dumps(aggregate(results)))
    subprocess.run([sys.executable, tree / "tools" / "results_table.py", tree / "result.json"], check=True)
    return (tree / "README.md").read_text()


def test_a_table_has_a_row_per_method_with_mean_and_spread(tree: Path) -> None:
    # Mean of 70 and 74; their standard deviation with n - 1 is sqrt(8) = 2.8.
    assert "| 72.0 ± 2.8 |" in write(tree, top1=(70.0, 74.0))
    assert "| 70.0 |" in write(tree, top1=(70.0,))


def test_writing_twice_is_writing_once_and_the_rest_stays(tree: Path) -> None:
    before = (tree / "README.md").read_text()
    once = write(tree, top1=(70.0, 74.0))
    assert write(tree, top1=(70.0, 74.0)) == once
    for part, whole in ((before, once), (once, before)):
        begin, end = part.index("<!-- results: begin"), part.index("<!-- results: end")
        assert whole.startswith(part[:begin])
        assert whole.endswith(part[end:])
