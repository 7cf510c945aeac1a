"""Fitted methods as files: ``method.safetensors`` (weights) and ``method.json`` (what is needed to build it again)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stp_bench import methods
from stp_bench.errors import UserError, WorkError
from stp_bench.files import atomic_path, read_json, write_json
from stp_bench.methods import Method, MethodSpec
from stp_bench.schema import ClipSpec, VitSpec
from stp_bench.training import restore

SCHEMA = 1
WEIGHTS, CARD = "method.safetensors", "method.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A frozen method with what it was built from; a fixed transform has no weights and no card."""

    spec: MethodSpec
    config: Any
    vit: VitSpec
    clip: ClipSpec
    method: Method
    card: Mapping[str, Any]
    """What ``method.json`` says: ``fit_on``, ``fit_digest``, ``preset``, ``seed``, and ``range`` for space ``free``."""


def save_method(folder: Path, method: Method, card: Mapping[str, Any]) -> None:
    """Write the method's parts and, last, its card."""
    tensors: dict[str, Tensor] = {}
    for part, stateful in method.parts().items():
        for name, value in stateful.state_dict().items():
            tensors[f"{part}/{name}"] = value.detach().cpu().contiguous()
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_json(folder / CARD, {"schema": SCHEMA, **card})


def card_of(spec: MethodSpec, config: Any, vit: VitSpec, clip: ClipSpec, **more: Any) -> dict[str, Any]:
    """What ``method.json`` holds."""
    return {
        "method": spec.name,
        "version": spec.version,
        "config": dataclasses.asdict(config),
        "vit": dataclasses.asdict(vit),
        "clip": dataclasses.asdict(clip),
        **more,
    }


def find_checkpoint(path: Path) -> Path:
    """The folder of a checkpoint named by its file, its folder, or a run folder.

    Raises:
        UserError: there is none.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists() or not (folder / CARD).exists() or not (folder / WEIGHTS).exists():
        raise UserError(
            f"no fitted method in {path}",
            f"{WEIGHTS} and {CARD} are not both there",
            "name a run folder of 'stp-bench train' or 'stp-bench evaluate'",
        )
    return folder


def load_method(path: Path, name: str, device: str) -> Fitted:
    """A fitted method from disk. Nothing the files hold is executed.

    Raises:
        UserError: no checkpoint there, of another method or version, or its tensors do not fit.
        WorkError: the files are damaged.
    """
    folder = find_checkpoint(path)
    card = read_json(folder / CARD)
    spec = methods.find(name)
    try:
        if card["schema"] != SCHEMA:
            raise UserError(
                f"cannot use {folder}", f"its schema {card['schema']} is not {SCHEMA}", "fit the method again"
            )
        if card["method"] != spec.name:
            raise UserError(
                f"{folder} is no checkpoint of {spec.name}",
                f"it holds {card['method']!r}",
                f"use --method {card['method']}",
            )
        if card["version"] != spec.version:
            raise UserError(
                f"cannot use {folder}",
                f"it was fitted with version {card['version']} of {spec.name}, installed is {spec.version}",
                "fit the method again",
            )
        vit, clip = VitSpec(**card["vit"]), ClipSpec(**card["clip"])
        config = spec.config(**card["config"])
    except (KeyError, TypeError) as error:
        raise WorkError(
            f"cannot read {folder / CARD}", f"a field is missing or unknown ({error})", "fit it again"
        ) from error
    method = spec.make(config, vit)
    load_weights(method, folder)
    to_device(method, device)
    return Fitted(spec=spec, config=config, vit=vit, clip=clip, method=method, card=card)


def load_weights(method: Method, folder: Path) -> None:
    """Load ``method.safetensors`` into a built method.

    Raises:
        UserError: parts or shapes differ.
        WorkError: the file is damaged.
    """
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise WorkError(
            f"cannot read {folder / WEIGHTS}", f"it is damaged ({error})", "fit the method again"
        ) from error
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, key = name.partition("/")
        states.setdefault(part, {})[key] = value
    restore(method.parts(), states, folder / WEIGHTS)


def to_device(method: Method, device: str) -> None:
    """Move a method's networks to a device."""
    for part in method.parts().values():
        if isinstance(part, torch.nn.Module):
            part.to(device)
