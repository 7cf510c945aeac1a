"""Presets are whole values; overrides are typed, and a wrong one is answered with a near name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from stp_bench import config
from stp_bench.config import RunConfig
from stp_bench.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    alpha: float = 0.7
    blocks: int | None = None
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    frames: int = 3


@pytest.mark.parametrize("name", config.PRESETS)
def test_every_preset_cuts_clips_and_frames_into_whole_tubelets(name: str) -> None:
    run = config.preset(name)
    assert run.frames % run.tubelet == 0
    assert run.size % run.patch == 0
    assert run.dim % run.heads == 0
    assert run.dim % 3 == 0  # three feature levels share the width (paper Eq. 4)


def test_an_unknown_preset_is_answered_with_a_near_one() -> None:
    with pytest.raises(UserError, match="did you mean small"):
        config.preset("smal")


def test_the_temporal_basis_is_on_exactly_without_image_weights() -> None:
    run = config.preset("paper")
    assert config.vit_spec(run, image_weights=True).temporal_gain == 0
    assert config.vit_spec(run, image_weights=False).temporal_gain > 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("alpha=0.5", 0.5), ("blocks=4", 4), ("blocks=none", None), ("flag=true", True), ("mode=b", "b")],
)
def test_values_are_parsed_by_the_type_of_their_field(text: str, value: object) -> None:
    key, _, raw = text.partition("=")
    changed = config.override(Options(), {key: raw}, owner="x")
    assert getattr(changed, key) == value


@pytest.mark.parametrize("text", ["alpha=much", "blocks=1.5", "flag=yes", "mode=c"])
def test_a_value_of_the_wrong_type_is_refused_with_the_field_named(text: str) -> None:
    key, _, raw = text.partition("=")
    with pytest.raises(UserError, match=f"x.{key}"):
        config.override(Options(), {key: raw}, owner="x")


def test_settings_go_to_their_owner_and_bare_keys_to_the_only_one_that_has_them() -> None:
    owners = {"run": RunConfig, "m": Options}
    assert config.split_overrides(["alpha=1", "run.frames=8"], owners) == {"run": {"frames": "8"}, "m": {"alpha": "1"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "no '='"),
        ("frames=1", "ambiguous"),
        ("alpa=1", "did you mean alpha"),
        ("m.alpa=1", "did you mean alpha"),
        ("n.alpha=1", "owner"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_mend(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.split_overrides([text], {"run": RunConfig, "m": Options})


@pytest.mark.parametrize(
    "text", ["batch=0", "epochs=0", "lr=nan", "lr=inf", "attacker_seeds=0", "bootstrap=-3", "warmup=1"]
)
def test_a_value_that_no_run_can_use_is_refused_before_any_work(text: str) -> None:
    key, _, value = text.partition("=")
    with pytest.raises(UserError, match=f"run.{key}"):
        config.override(config.preset("tiny"), {key: value}, owner="run")
