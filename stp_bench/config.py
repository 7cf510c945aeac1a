"""Run configuration: one frozen value per preset, changed field by field with typed ``KEY=VALUE`` overrides."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from stp_bench.errors import UserError, unknown_name
from stp_bench.schema import ClipSpec, Sampling, VitSpec

C = TypeVar("C")

Preset = Literal["tiny", "small", "full", "paper"]
PRESETS: tuple[Preset, ...] = ("tiny", "small", "full", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Sizes and recipes of a run. The defaults are the paper's (section 4.3; what it leaves open: docs/protocol.md)."""

    frames: int = 16
    size: int = 112
    tubelet: int = 2
    patch: int = 16
    dim: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    sampling: Sampling = "videomae"
    """How training windows are drawn: ``videomae`` (the paper's reference) or ``exact`` (stride frames apart)."""
    clips: int = 5
    crops: int = 3
    batch: int = 64
    epochs: int = 80
    """Epochs of the evaluation recognizers."""
    lr: float = 0.001 * 64 / 512
    """Peak learning rate of the action recognizer (0.001 x batch / 512)."""
    lr_privacy: float = 0.001 * 64 / 512
    """Peak learning rate of the privacy recognizers."""
    weight_decay: float = 0.05
    beta2: float = 0.999
    warmup: float = 5 / 80
    """Share of the steps with a linear warm-up."""
    grad_clip: float = 0.0
    """Largest gradient norm of the recognizers; 0 for no limit."""
    layer_decay: float = 0.75
    """Learning rate factor per layer downwards, used only with image weights."""
    label_smoothing: float = 0.0
    crop_scale: float = 0.5
    """Smallest area share of the random resized training crop; 1 for a plain random crop."""
    color_jitter: float = 0.0
    """Strength of random brightness (x 1 +- 2j) and color offset (+- j)."""
    attacker_seeds: int = 1
    """How many of each privacy recognizer are trained."""
    bootstrap: int = 1000
    """Resamples for the confidence intervals; 0 for none."""

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that no run can use."""
        for name in ("frames", "size", "tubelet", "patch", "dim", "depth", "heads", "clips", "crops", "batch", "epochs",
                     "attacker_seeds"):  # fmt: skip
            _check(name, getattr(self, name), getattr(self, name) >= 1, "one or more")
        for name in ("bootstrap", "weight_decay", "grad_clip", "color_jitter"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "zero or more")
        for name in ("lr", "lr_privacy", "mlp_ratio", "layer_decay"):
            _check(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "more than zero")
        for name in ("drop_path", "beta2", "warmup", "label_smoothing"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "from 0 to below 1")
        _check("crop_scale", self.crop_scale, 0 < self.crop_scale <= 1, "above 0, at most 1")


def _check(name: str, value: float, good: bool, wanted: str) -> None:
    if not good:
        raise UserError(f"bad value {value} for run.{name}", f"it must be {wanted}", "mend the value")


def preset(name: str) -> RunConfig:
    """A run preset: ``tiny`` runs code paths, ``small`` learns on a CPU, the others are paper size."""
    match name:
        case "tiny":
            return RunConfig(
                frames=4, size=32, patch=8, dim=24, depth=4, heads=3, drop_path=0.0, sampling="exact", batch=8,
                epochs=2, lr=3e-3, lr_privacy=2e-3, crop_scale=1.0, bootstrap=50,
            )  # fmt: skip
        case "small":
            return RunConfig(
                frames=8, size=32, patch=8, dim=96, depth=3, heads=4, mlp_ratio=3.0, drop_path=0.0, sampling="exact",
                batch=24, epochs=30, lr=3e-3, lr_privacy=2e-3, beta2=0.98, warmup=0.08, grad_clip=1.0,
                label_smoothing=0.1, crop_scale=1.0, color_jitter=0.1,
            )  # fmt: skip
        case "full":
            return RunConfig(epochs=40, lr=5e-4, lr_privacy=5e-4, warmup=0.1, grad_clip=1.0, attacker_seeds=3)
        case "paper":
            return RunConfig(attacker_seeds=3)
        case _:
            raise unknown_name("preset", name, PRESETS)


def vit_spec(run: RunConfig, *, image_weights: bool) -> VitSpec:
    """Sizes of this run's ViT. The temporal basis is on exactly where networks start from random weights."""
    return VitSpec(
        frames=run.frames, size=run.size, tubelet=run.tubelet, patch=run.patch, dim=run.dim, depth=run.depth,
        heads=run.heads, mlp_ratio=run.mlp_ratio, drop_path=run.drop_path, temporal_gain=0.0 if image_weights else 8.0,
    )  # fmt: skip


def clip_spec(run: RunConfig, stride: int) -> ClipSpec:
    """How this run cuts clips from videos sampled at ``stride``."""
    return ClipSpec(frames=run.frames, stride=stride, size=run.size, sampling=run.sampling)


def override(config: C, values: Mapping[str, str], *, owner: str) -> C:
    """``config`` with fields replaced by parsed text, e.g. ``{"alpha": "0.5"}``.

    Raises:
        UserError: an unknown field, or a text that is not of the field's type.
    """
    fields = field_types(type(config))
    parsed = {}
    for key, text in values.items():
        if key not in fields:
            raise unknown_name(f"field of {owner}", key, fields)
        parsed[key] = _parse(fields[key], text, f"{owner}.{key}")
    return dataclasses.replace(config, **parsed)  # type: ignore[type-var]


def field_types(config: type) -> dict[str, Any]:
    """Field names of a configuration class with their types."""
    hints = typing.get_type_hints(config)
    return {f.name: hints[f.name] for f in dataclasses.fields(config)}


def split_overrides(settings: Sequence[str], configs: Mapping[str, type]) -> dict[str, dict[str, str]]:
    """Sort ``OWNER.KEY=VALUE`` and bare ``KEY=VALUE`` texts by owner (``run`` or a method's name).

    Raises:
        UserError: no ``=``, an unknown owner or key, or a bare key that several owners have.
    """
    sorted_: dict[str, dict[str, str]] = {owner: {} for owner in configs}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"bad setting {setting!r}", "it has no '='", "write --set KEY=VALUE")
        owner, dot, key = name.rpartition(".")
        if not dot:
            owners = [o for o, config in configs.items() if key in field_types(config)]
            if not owners:
                raise unknown_name("setting", key, {k for c in configs.values() for k in field_types(c)})
            if len(owners) > 1:
                raise UserError(
                    f"setting {key!r} is ambiguous", f"{' and '.join(owners)} both have it", f"write {owners[0]}.{key}"
                )
            owner = owners[0]
        elif owner not in configs:
            raise unknown_name("owner of settings", owner, configs)
        elif key not in field_types(configs[owner]):
            raise unknown_name(f"field of {owner}", key, field_types(configs[owner]))
        sorted_[owner][key] = value
    return sorted_


def _parse(kind: Any, text: str, name: str) -> Any:
    """``text`` as a value of a field's type: bool, int, float, str, a literal, or one of these or None."""
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        for choice in choices:
            if str(choice) == text:
                return choice
        raise UserError(f"bad value {text!r} for {name}", "it is not a choice", f"use {', '.join(map(str, choices))}")
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in choices:
            return None
        kind = next(c for c in choices if c is not type(None))
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"bad value {text!r} for {name}", "it is not a truth value", "use true or false")
    try:
        return kind(text)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"bad value {text!r} for {name}", f"it is not of type {kind.__name__}", "mend the value"
        ) from error
