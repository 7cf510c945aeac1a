"""The method that docs/adding-a-method.md shows is a working one."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stp_bench.contract import check_method
from stp_bench.methods import MethodSpec, find

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def veil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MethodSpec]:
    """The spec of the page's example, imported from its files as they are printed."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if named := re.match(r"# file: (\S+)\n", block):
            path = tmp_path / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield find("stp_veil:VEIL")
    for name in ("stp_veil", "stp_veil.veil"):
        sys.modules.pop(name, None)


def test_the_example_of_a_learned_method_keeps_the_contract(veil: MethodSpec) -> None:
    assert veil.learned
    assert check_method(veil) == []
