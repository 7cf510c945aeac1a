"""Discovery: every method arrives through an entry point or by name, and a broken one stops only itself."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from stp_bench import methods
from stp_bench.errors import UserError
from stp_bench.methods import Broken, MethodSpec

MODULE = """
from stp_bench.methods import MethodSpec
SPEC = MethodSpec(name="toy", version=1, title="Toy", build="toy_plugin:build")
NOT_A_SPEC = 3
def build(config, vit):
    return object()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_plugin.py").write_text(MODULE)
    (tmp_path / "toy_broken.py").write_text("raise RuntimeError('no such accelerator')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("toy_plugin", "toy_broken"):
        sys.modules.pop(name, None)


def points(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = [EntryPoint(name, value, methods.GROUP) for name, value in values.items()]
    monkeypatch.setattr(methods, "entry_points", lambda group: found)


def test_the_seven_methods_are_installed() -> None:
    found = methods.specs()
    assert {"raw", "downsample-2x", "downsample-4x", "blackening", "blur-weak", "blur-strong", "stprivacy"} <= set(
        found
    )
    assert all(isinstance(spec, MethodSpec) and spec.source.startswith("stp-bench") for spec in found.values())


def test_exactly_one_installed_method_changes_nothing() -> None:
    assert [s.name for s in methods.specs().values() if isinstance(s, MethodSpec) and s.identity] == ["raw"]


def test_a_method_is_found_by_module_and_name(plugin: None) -> None:
    assert methods.find("toy_plugin:SPEC").name == "toy"


@pytest.mark.parametrize(
    "name", ["toy_plugin:NOT_A_SPEC", "toy_plugin:missing", "no_such_module:X", "toy_broken:X", ":"]
)
def test_what_is_no_method_is_refused_in_one_line(plugin: None, name: str) -> None:
    with pytest.raises(UserError):
        methods.find(name)


def test_a_broken_plugin_stops_only_who_asks_for_it(plugin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, toy="toy_plugin:SPEC", bad="toy_broken:X", odd="toy_plugin:NOT_A_SPEC", other="toy_plugin:SPEC")
    found = methods.specs()
    assert isinstance(found["toy"], MethodSpec)
    assert isinstance(found["bad"], Broken)
    assert "no such accelerator" in found["bad"].error
    assert isinstance(found["odd"], Broken)
    assert isinstance(found["other"], Broken)  # it calls itself toy
    assert methods.find("toy").name == "toy"
    with pytest.raises(UserError, match="no such accelerator"):
        methods.find("bad")


def test_an_unknown_method_is_answered_with_a_near_one() -> None:
    with pytest.raises(UserError, match="did you mean stprivacy"):
        methods.find("stprivcy")


def test_two_owners_of_one_name_are_refused(plugin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [EntryPoint("toy", "toy_plugin:SPEC", methods.GROUP)] * 2
    monkeypatch.setattr(methods, "entry_points", lambda group: twice)
    with pytest.raises(UserError, match="taken twice"):
        methods.specs()


def test_something_that_is_no_method_is_refused_when_built(plugin: None) -> None:
    from stp_bench.schema import VitSpec

    spec = methods.find("toy_plugin:SPEC")
    with pytest.raises(UserError, match="lacks phases, parts or anonymize"):
        spec.make(spec.configure("tiny"), VitSpec())
