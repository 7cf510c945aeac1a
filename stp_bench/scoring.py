"""From predictions to the blocks of a result: one pure function of two tables, for runs and for strangers' files alike.

Axes as in `stp_bench.metrics`; S attackers of one kind, that differ in their seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stp_bench import floors, metrics
from stp_bench.errors import UserError
from stp_bench.metrics import Floats, Ints, macro
from stp_bench.predictions import Predictions, Reference

KINDS = ("video", "frame")
"""What an attacker sees at once. The first is the headline, as in the paper; ``worst`` names the stronger one."""

_BLOCK = 300_000
"""Resamples x units measured at a time: their arrays stay in the processor's cache, and memory is bounded."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The blocks ``metrics``, ``floors`` and ``undefined`` of a result, as its JSON has them."""

    metrics: dict[str, Any]
    floors: dict[str, Any]
    undefined: list[str]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """The arrays that every figure is computed from."""

    actions: int
    attributes: tuple[str, ...]
    action_V: Ints
    predicted_V: Ints
    first_V: NDArray[np.bool_]
    """Whether a unit is its video's first: actions are counted once per video."""
    labels_VK: Ints
    only_VK: Floats
    informed_VK: Floats
    attackers: Mapping[str, Mapping[str, Floats]]
    """Kind to attacker to scores (V, K)."""
    thresholds: Mapping[str, Floats]


def score(predictions: Predictions, reference: Reference, *, bootstrap: int, seed: int) -> Scores:
    """All metrics and floors of a run.

    With several attackers of a kind (``video``, ``video-1``, ...) each of its figures is the mean over them; ``spread``
    tells their mean, standard deviation (n - 1) and maximum. ``worst`` is the kind with the larger mean cMAP excess.

    Args:
        bootstrap: resamples (by group of videos) for the 95 % intervals; 0 for none.
        seed: of the resampling.

    Returns:
        Blocks whose undefined values are None and named by their paths in ``undefined``. ``metrics.bootstrap`` holds
        what is needed to compute the same intervals again.

    Raises:
        UserError: the two tables do not belong together.
    """
    case = _case(predictions, reference)
    kinds = {kind: _attacker_block(case, kind) for kind in case.attackers}
    group_V = metrics.group_index(predictions.groups)
    head = kinds[KINDS[0]]
    worst = max(kinds, key=lambda kind: (_sortable(kinds[kind]["excess"]["cmap"]), kind == KINDS[0]))
    measured = {
        "top1": float(metrics.top1(case.action_V[case.first_V], case.predicted_V[case.first_V])),
        **{name: head[name] for name in ("f1", "cmap", "excess", "skill", "auroc", "f1_tuned", "per_attribute")},
        "attackers": {kind: kinds.get(kind) for kind in KINDS},
        "worst": {
            "attacker": worst,
            **{name: kinds[worst][name] for name in ("cmap", "f1", "skill")},
            "excess": kinds[worst]["excess"]["cmap"],
        },
        "ci95": _intervals(case, group_V, bootstrap, seed),
        "bootstrap": {"resamples": bootstrap, "seed": seed, "groups": len(set(predictions.groups))},
    }
    measured, reference_figures = _plain(measured), _plain(_floor_block(case))
    missing = [*_undefined(measured, "metrics"), *_undefined(reference_figures, "floors")]
    return Scores(metrics=measured, floors=reference_figures, undefined=missing)


def _case(predictions: Predictions, reference: Reference) -> _Case:
    true, predicted = _action_indices(predictions, reference)
    if set(predictions.attackers) != set(reference.thresholds):
        raise _mismatch("attacker", f"names {_list(predictions.attackers)}", _list(reference.thresholds))
    if KINDS[0] not in predictions.attackers:
        raise _mismatch("attacker", f"names {_list(predictions.attackers)}", f"also {KINDS[0]!r}, the headline")
    videos = np.array(predictions.units["video_id"].to_pylist(), dtype=object)
    counts = reference.labelled_CK, reference.positives_CK
    return _Case(
        actions=len(reference.actions),
        attributes=reference.attributes,
        action_V=true,
        predicted_V=predicted,
        first_V=np.append(True, videos[1:] != videos[:-1]),
        labels_VK=predictions.labels_VK,
        only_VK=floors.action_only(true, *counts),
        informed_VK=floors.action_informed(predictions.posterior_VC, *counts),
        attackers={
            kind: {name: predictions.scores_VK(name) for name in predictions.attackers if name.split("-")[0] == kind}
            for kind in KINDS
            if any(name.split("-")[0] == kind for name in predictions.attackers)
        },
        thresholds=reference.thresholds,
    )


def _action_indices(predictions: Predictions, reference: Reference) -> tuple[Ints, Ints]:
    """True and predicted action of each unit as indices into the reference's list."""
    if predictions.attributes != reference.attributes:
        raise _mismatch("label_*", f"names {_list(predictions.attributes)}", _list(reference.attributes))
    posterior = predictions.posterior_VC
    if posterior.shape[1] != len(reference.actions):
        raise _mismatch("action_scores", f"has {posterior.shape[1]} values", f"{len(reference.actions)} actions")
    number = {name: i for i, name in enumerate(reference.actions)}
    found = []
    for field in ("action", "action_pred"):
        names = predictions.units[field].to_pylist()
        if unknown := sorted(set(names) - set(number)):
            raise _mismatch(field, f"has {unknown[0]!r}", f"only {_list(reference.actions)}")
        found.append(np.array([number[name] for name in names], dtype=np.int64))
    true, predicted = found
    if (posterior[np.arange(len(predicted)), predicted] < posterior.max(axis=1)).any():
        raise UserError(
            "these predictions cannot be scored",
            "field 'action_pred' is not always the action with the largest score",
            "write the table again",
        )
    return true, predicted


def _attacker_block(case: _Case, kind: str) -> dict[str, Any]:
    """The figures of the attackers of one kind: means over their seeds, per attribute and over attributes."""
    labels, scores_S = case.labels_VK, list(case.attackers[kind].values())
    share = metrics.prevalence(labels)
    informed = {"ap": metrics.average_precision(labels, case.informed_VK), "f1": metrics.f1(labels, case.informed_VK)}
    by_seed: dict[str, Floats] = {  # each of shape (S, K)
        "ap": np.stack([metrics.average_precision(labels, scores) for scores in scores_S]),
        "f1": np.stack([metrics.f1(labels, scores) for scores in scores_S]),
        "auroc": np.stack([metrics.auroc(labels, scores) for scores in scores_S]),
        "f1_tuned": np.stack(
            [metrics.f1(labels, s, thresholds=case.thresholds[name]) for name, s in case.attackers[kind].items()]
        ),
    }
    by_seed["skill"] = np.stack([metrics.skill(ap, share) for ap in by_seed["ap"]])
    overall = {name: macro(values) for name, values in by_seed.items()}  # each of shape (S,)
    excess = {"cmap": overall["ap"] - macro(informed["ap"]), "f1": overall["f1"] - macro(informed["f1"])}
    means = {name: values.mean(axis=0) for name, values in by_seed.items()}
    block: dict[str, Any] = {
        "cmap": overall["ap"].mean(),
        **{name: overall[name].mean() for name in ("f1", "auroc", "skill", "f1_tuned")},
        "excess": {name: values.mean() for name, values in excess.items()},
        "per_attribute": {
            attribute: {
                **{name: means[name][k] for name in ("ap", "f1", "auroc")},
                "prevalence": share[k],
                "excess": means["ap"][k] - informed["ap"][k],
            }
            for k, attribute in enumerate(case.attributes)
        },
        "seeds": len(scores_S),
    }
    if len(scores_S) > 1:
        spread = {"cmap": overall["ap"], "f1": overall["f1"], "skill": overall["skill"], "excess": excess["cmap"]}
        block["spread"] = {
            name: {"mean": values.mean(), "sd": values.std(ddof=1), "max": values.max()}
            for name, values in spread.items()
        }
    return block


def _floor_block(case: _Case) -> dict[str, Any]:
    labels = case.labels_VK
    share = metrics.prevalence(labels)
    block: dict[str, Any] = {
        "top1_chance": floors.top1_chance(case.actions),
        "top1_majority": floors.top1_majority(case.action_V[case.first_V]),
        "cmap_prevalence": macro(np.where(share > 0, share * 100.0, np.nan)),
        "f1_all_positive": macro(floors.f1_all_positive(share)),
        "f1_majority": macro(floors.f1_majority(share)),
    }
    for name, scores in (("action_only", case.only_VK), ("action_informed", case.informed_VK)):
        block[f"cmap_{name}"] = macro(metrics.average_precision(labels, scores))
        block[f"f1_{name}"] = macro(metrics.f1(labels, scores))
    return block


def _intervals(case: _Case, group_V: Ints, bootstrap: int, seed: int) -> dict[str, Any]:
    """95 % intervals of the headline. Attacker and floor are measured on the same resample, so that what they share
    (which videos were drawn) cancels in the excess. Undefined without resamples, or with a single group."""
    names = ("top1", "f1", "cmap", "excess_cmap", "excess_f1")
    if not bootstrap or group_V.max() == 0:
        return dict.fromkeys(names)
    blocks = [_resampled(case, weights) for weights in _blocks(metrics.resample(group_V, bootstrap, seed))]
    values = {name: np.concatenate([block[name] for block in blocks]) for name in names}
    bounds = {name: metrics.interval(values[name]) for name in names}
    return {name: None if np.isnan(low) else [low, high] for name, (low, high) in bounds.items()}


def _resampled(case: _Case, weights_RV: Floats) -> dict[str, Floats]:
    labels, first = case.labels_VK, case.first_V
    informed_ap = macro(metrics.average_precision(labels, case.informed_VK, weights_RV))
    informed_f1 = macro(metrics.f1(labels, case.informed_VK, weights_RV))
    heads = list(case.attackers[KINDS[0]].values())
    cmap = np.mean([macro(metrics.average_precision(labels, scores, weights_RV)) for scores in heads], axis=0)
    f1 = np.mean([macro(metrics.f1(labels, scores, weights_RV)) for scores in heads], axis=0)
    return {
        "top1": metrics.top1(case.action_V[first], case.predicted_V[first], weights_RV[:, first]),
        "f1": f1,
        "cmap": cmap,
        "excess_cmap": cmap - informed_ap,
        "excess_f1": f1 - informed_f1,
    }


def _blocks(weights_RV: Floats) -> Iterator[Floats]:
    step = max(1, _BLOCK // weights_RV.shape[1])
    for start in range(0, len(weights_RV), step):
        yield weights_RV[start : start + step]


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: Python numbers, None for NaN."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (np.floating, np.ndarray, float)):
        number = float(value)
        return None if np.isnan(number) else number
    return value


def _undefined(value: Any, path: str) -> list[str]:
    """The paths below ``path`` whose value is None."""
    if isinstance(value, Mapping):
        return [found for name, inner in value.items() for found in _undefined(inner, f"{path}.{name}")]
    return [path] if value is None else []


def _sortable(value: Any) -> float:
    return float("-inf") if np.isnan(value) else float(value)


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def _mismatch(field: str, found: str, wanted: str) -> UserError:
    return UserError(
        "these predictions cannot be scored",
        f"field {field!r} {found}, the reference has {wanted}",
        "give the two tables of one run",
    )
