"""From predictions to the blocks of a result: one pure function of two tables, for runs and for strangers' files alike.

Axes as in `stp_bench.metrics`; S attackers of one kind, that differ in their seed.
"""

from __future__ import annotations

import dataclasses
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
"""What an attacker sees at once. The first that a run has is its headline; ``worst`` names the stronger one."""

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
    groups: tuple[tuple[str, int], ...]
    """Consecutive groups of attributes; empty where every attribute counts alike."""
    action: Ints
    """(V,) numbers, or (V, C) labels where a unit may show several."""
    posterior_VC: NDArray[np.float32]
    predicted_V: Ints
    first_V: NDArray[np.bool_]
    """Whether a unit is its video's first: actions are counted once per video."""
    labels_VK: Ints
    only_VK: Floats
    informed_VK: Floats
    attackers: Mapping[str, Mapping[str, Floats]]
    """Kind to attacker to scores (V, K)."""
    thresholds: Mapping[str, Floats]

    @property
    def several_actions(self) -> bool:
        """Whether a unit may show several actions at once."""
        return self.action.ndim == 2

    @property
    def slices(self) -> dict[str, slice]:
        """Group to its columns; one group without a name where there are none."""
        sizes = self.groups or (("", len(self.attributes)),)
        ends = np.cumsum([size for _, size in sizes]).tolist()
        return {name: slice(end - size, end) for (name, size), end in zip(sizes, ends, strict=True)}

    def macro(self, values_K: Floats) -> Floats:
        """Mean over attributes (last axis); with groups, the mean over groups of their means."""
        return macro(np.stack([macro(values_K[..., columns]) for columns in self.slices.values()], axis=-1))


def score(predictions: Predictions, reference: Reference, *, bootstrap: int, seed: int) -> Scores:
    """All metrics and floors of a run.

    With several attackers of a kind (``video``, ``video-1``, ...) each of its figures is the mean over them; ``spread``
    tells their mean, standard deviation (n - 1) and maximum. ``worst`` is the kind with the larger mean cMAP excess.

    Where units are frames, ``video_averaged`` has the figures of the frames' mean scores, one unit per video. Where the
    privacy target has groups of classes, ``<group>_cmap`` stands for ``cmap`` and ``f1``, which are undefined; skill,
    AUROC and excess are then means over groups, and ``per_attribute`` has a row per group. Where a video may show
    several actions, ``action_cmap`` stands for ``top1``.

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
    headline = next(iter(kinds))
    head = kinds[headline]
    worst = max(kinds, key=lambda kind: (_sortable(kinds[kind]["excess"]["cmap"]), kind == headline))
    measured = {
        **_action_block(case),
        **{name: head[name] for name in ("f1", "cmap", *_group_names(case), "excess", "skill", "auroc", "f1_tuned")},
        "per_attribute": head["per_attribute"],
        "attackers": {kind: kinds.get(kind) for kind in KINDS},
        "worst": {
            "attacker": worst,
            **{name: kinds[worst][name] for name in ("cmap", "f1", "skill")},
            "excess": kinds[worst]["excess"]["cmap"],
        },
        "ci95": _intervals(case, group_V, bootstrap, seed),
        "bootstrap": {"resamples": bootstrap, "seed": seed, "groups": len(set(predictions.groups))},
    }
    if len(case.first_V) > case.first_V.sum():
        measured["video_averaged"] = _attacker_block(_by_video(case), headline)
    if case.groups:
        measured["scored_classes"] = _scored_classes(case)
    measured, reference_figures = _plain(measured), _plain(_floor_block(case))
    missing = [*_undefined(measured, "metrics"), *_undefined(reference_figures, "floors")]
    return Scores(metrics=measured, floors=reference_figures, undefined=missing)


def _case(predictions: Predictions, reference: Reference) -> _Case:
    if set(predictions.attackers) != set(reference.thresholds):
        raise _mismatch("attacker", f"names {_list(predictions.attackers)}", _list(reference.thresholds))
    kinds = dict.fromkeys(name.split("-")[0] for name in predictions.attackers)
    if any(kind not in predictions.attackers for kind in kinds):
        raise _mismatch(
            "attacker", f"names {_list(predictions.attackers)}", "also the first of each kind, the headline"
        )
    if predictions.table["frame"].null_count and KINDS[0] not in kinds:
        raise _mismatch("attacker", f"names {_list(predictions.attackers)}", f"also {KINDS[0]!r}, the headline")
    if predictions.tags != bool(reference.groups) or (
        not predictions.tags and predictions.attributes != reference.attributes
    ):
        raise _mismatch("label_*", f"names {_list(predictions.attributes)}", _list(reference.attributes))
    if predictions.labels_VK.shape[1] != len(reference.attributes):
        width = predictions.labels_VK.shape[1]
        raise _mismatch("label_privacy", f"has {width} values", f"{len(reference.attributes)} classes")
    posterior: NDArray[np.floating] = predictions.posterior_VC
    action: Ints
    predicted: Ints
    if predictions.several_actions:
        action, predicted = _several_actions(predictions, reference), np.zeros(0, dtype=np.int64)
        total_V1 = posterior.sum(axis=1, keepdims=True, dtype=np.float64)
        posterior = np.divide(posterior, total_V1, out=np.zeros(posterior.shape), where=total_V1 > 0)
    else:
        action, predicted = _action_indices(predictions, reference)
    videos = np.array(predictions.units["video_id"].to_pylist(), dtype=object)
    counts = reference.labelled_CK, reference.positives_CK
    return _Case(
        actions=len(reference.actions),
        attributes=reference.attributes,
        groups=reference.groups,
        action=action,
        posterior_VC=predictions.posterior_VC,
        predicted_V=predicted,
        first_V=np.append(True, videos[1:] != videos[:-1]),
        labels_VK=predictions.labels_VK,
        only_VK=floors.action_only(action, *counts),
        informed_VK=floors.action_informed(posterior, *counts),
        attackers={
            kind: {name: predictions.scores_VK(name) for name in predictions.attackers if name.split("-")[0] == kind}
            for kind in KINDS
            if kind in kinds
        },
        thresholds=reference.thresholds,
    )


def _several_actions(predictions: Predictions, reference: Reference) -> Ints:
    """Labels (V, C) of the units' actions."""
    labels, scores = predictions.actions_VC, predictions.posterior_VC
    if labels.shape[1] != len(reference.actions) or scores.shape != labels.shape:
        found = f"has {labels.shape[1]} values and 'score_action' {scores.shape[1]}"
        raise _mismatch("label_action", found, f"{len(reference.actions)} actions")
    return labels


def _action_indices(predictions: Predictions, reference: Reference) -> tuple[Ints, Ints]:
    """True and predicted action of each unit as indices into the reference's list."""
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


def _by_video(case: _Case) -> _Case:
    """One unit per video: mean scores of its frames; an attribute is present if a labelled frame shows it."""
    starts = np.flatnonzero(case.first_V)
    counts_V1 = np.diff(np.append(starts, len(case.first_V)))[:, None]

    def mean(values_VK: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values_VK, starts, axis=0) / counts_V1)

    return dataclasses.replace(
        case,
        action=case.action[case.first_V],
        posterior_VC=case.posterior_VC[case.first_V],
        predicted_V=case.predicted_V[case.first_V],
        first_V=np.ones(len(starts), dtype=np.bool_),
        labels_VK=np.maximum.reduceat(case.labels_VK, starts, axis=0),
        only_VK=mean(case.only_VK),
        informed_VK=mean(case.informed_VK),
        attackers={
            kind: {name: mean(scores) for name, scores in found.items()} for kind, found in case.attackers.items()
        },
    )


def _action_block(case: _Case) -> dict[str, Any]:
    """How well the action is recognized, each video counted once."""
    first = case.first_V
    if case.several_actions:
        return {"top1": np.nan, "action_cmap": macro(_action_ap(case))}
    true, predicted = case.action[first], case.predicted_V[first]
    return {"top1": metrics.top1(true, predicted), "balanced_accuracy": metrics.balanced_accuracy(true, predicted)}


def _action_ap(case: _Case, weights_RV: Floats | None = None) -> Floats:
    """Average precision of each action, (C,) or (R, C)."""
    first = case.first_V
    weights = None if weights_RV is None else weights_RV[:, first]
    return metrics.average_precision(case.action[first], case.posterior_VC[first].astype(np.float64), weights)


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
    overall = {name: case.macro(values) for name, values in by_seed.items()}  # each of shape (S,)
    excess = {"cmap": overall["ap"] - case.macro(informed["ap"]), "f1": overall["f1"] - case.macro(informed["f1"])}
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
    return block if not case.groups else block | _group_rows(case, means, informed["ap"], share)


def _group_rows(case: _Case, means: Mapping[str, Floats], informed_K: Floats, share_K: Floats) -> dict[str, Any]:
    """What replaces an attacker's figures where classes come in groups: a row and a cMAP per group, no overall F1.

    An F1 at one half says nothing of classes that hardly any video has.
    """
    present_K = np.where(share_K > 0, share_K, np.nan)
    rows = {
        name: {
            "ap": macro(means["ap"][at]),
            "f1": np.nan,
            "auroc": macro(means["auroc"][at]),
            "prevalence": macro(present_K[at]),
            "excess": macro(means["ap"][at]) - macro(informed_K[at]),
        }
        for name, at in case.slices.items()
    }
    nothing = dict.fromkeys(("cmap", "f1", "f1_tuned"), np.nan)
    excess = {"cmap": np.mean([row["excess"] for row in rows.values()]), "f1": np.nan}
    return {**nothing, **{f"{name}_cmap": row["ap"] for name, row in rows.items()}, "excess": excess,
            "per_attribute": rows}  # fmt: skip


def _group_names(case: _Case) -> list[str]:
    return [f"{name}_cmap" for name, _ in case.groups]


def _scored_classes(case: _Case) -> dict[str, int]:
    """How many classes have a positive among these units: only those have an average precision."""
    shown_K = (case.labels_VK == 1).any(axis=0)
    counts = {name: int(shown_K[at].sum()) for name, at in case.slices.items()}
    return {"action": int((case.action == 1).any(axis=0).sum()), **counts} if case.several_actions else counts


def _floor_block(case: _Case) -> dict[str, Any]:
    labels = case.labels_VK
    share = metrics.prevalence(labels)
    present = np.where(share > 0, share * 100.0, np.nan)
    nothing = np.nan
    block: dict[str, Any] = {
        "top1_chance": nothing if case.several_actions else floors.top1_chance(case.actions),
        "top1_majority": nothing if case.several_actions else floors.top1_majority(case.action[case.first_V]),
        "cmap_prevalence": nothing if case.groups else macro(present),
        "f1_all_positive": nothing if case.groups else macro(floors.f1_all_positive(share)),
        "f1_majority": nothing if case.groups else macro(floors.f1_majority(share)),
    }
    found = {}
    for name, scores in (("action_only", case.only_VK), ("action_informed", case.informed_VK)):
        found[name] = metrics.average_precision(labels, scores)
        block[f"cmap_{name}"] = nothing if case.groups else macro(found[name])
        block[f"f1_{name}"] = nothing if case.groups else macro(metrics.f1(labels, scores))
    if case.several_actions:
        rate = metrics.prevalence(case.action[case.first_V])
        block["action_cmap_prevalence"] = macro(np.where(rate > 0, rate * 100.0, np.nan))
    for group, at in case.slices.items() if case.groups else ():
        block[f"{group}_cmap_prevalence"] = macro(present[at])
        block |= {f"{group}_cmap_{name}": macro(values[at]) for name, values in found.items()}
    return block


def _intervals(case: _Case, group_V: Ints, bootstrap: int, seed: int) -> dict[str, Any]:
    """95 % intervals of the headline. Attacker and floor are measured on the same resample, so that what they share
    (which videos were drawn) cancels in the excess. Undefined without resamples, or with a single group."""
    names = ["top1", "f1", "cmap", "excess_cmap", "excess_f1"]
    names += ["action_cmap"] if case.several_actions else []
    names += _group_names(case)
    if not bootstrap or group_V.max() == 0:
        return dict.fromkeys(names)
    blocks = [_resampled(case, weights) for weights in _blocks(metrics.resample(group_V, bootstrap, seed))]
    values = {name: np.concatenate([block[name] for block in blocks]) for name in names}
    bounds = {name: metrics.interval(values[name]) for name in names}
    return {name: None if np.isnan(low) else [low, high] for name, (low, high) in bounds.items()}


def _resampled(case: _Case, weights_RV: Floats) -> dict[str, Floats]:
    labels, first = case.labels_VK, case.first_V
    informed_RK = metrics.average_precision(labels, case.informed_VK, weights_RV)
    heads = list(next(iter(case.attackers.values())).values())
    found_RK = [metrics.average_precision(labels, scores, weights_RV) for scores in heads]
    cmap = np.mean([case.macro(ap_RK) for ap_RK in found_RK], axis=0)
    nothing = np.full(len(weights_RV), np.nan)
    values = {"excess_cmap": cmap - case.macro(informed_RK)}
    if case.several_actions:
        values |= {"top1": nothing, "action_cmap": macro(_action_ap(case, weights_RV))}
    else:
        values["top1"] = metrics.top1(case.action[first], case.predicted_V[first], weights_RV[:, first])
    if case.groups:
        values |= {f"{name}_cmap": np.mean([macro(ap[:, at]) for ap in found_RK], axis=0)
                   for name, at in case.slices.items()}  # fmt: skip
        return values | dict.fromkeys(("f1", "cmap", "excess_f1"), nothing)
    informed_f1 = macro(metrics.f1(labels, case.informed_VK, weights_RV))
    f1 = np.mean([macro(metrics.f1(labels, scores, weights_RV)) for scores in heads], axis=0)
    return values | {"f1": f1, "cmap": cmap, "excess_f1": f1 - informed_f1}


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
