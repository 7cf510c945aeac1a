"""Every installed method keeps the contract, ours and any plug-in of this environment alike."""

from __future__ import annotations

from functools import cache

import pytest

from stp_bench.contract import CHECKS, Trial
from stp_bench.methods import Broken, MethodSpec, specs

INSTALLED = {name: spec for name, spec in specs().items() if isinstance(spec, MethodSpec)}


@cache
def trial(name: str) -> Trial:
    """One trial per method, so that its fit runs once."""
    return Trial(INSTALLED[name])


def test_every_installed_method_can_be_imported() -> None:
    assert [spec.error for spec in specs().values() if isinstance(spec, Broken)] == []


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_method_keeps_the_contract(name: str, check: str) -> None:
    CHECKS[check](trial(name))
