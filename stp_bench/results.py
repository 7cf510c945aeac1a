"""What a run is remembered by: one JSON record, checked when it is read, and the aggregate of several.

Top-1, cMAP, AP and AUROC are percentages; F1, skill, prevalence and the shares of ``left`` are decimals. An undefined
value is null and named in ``undefined``, never NaN; the keys below are always there. A reader accepts every schema
number up to its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stp_bench.errors import UserError
from stp_bench.files import read_json, write_json

SCHEMA = 1
RUN, RESULT = "run.json", "result.json"
"""Files of a run folder: what is being run, and its result or aggregate."""

_LEFT = {"top1": "top1_chance", "f1": "f1_all_positive", "cmap": "cmap_prevalence"}
"""The figures of ``left`` and the floor that each is counted from."""

_AGGREGATED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "top1": ("metrics", "top1"),
        "f1": ("metrics", "f1"),
        "cmap": ("metrics", "cmap"),
        "excess_cmap": ("metrics", "excess", "cmap"),
        "excess_f1": ("metrics", "excess", "f1"),
        "skill": ("metrics", "skill"),
        "auroc": ("metrics", "auroc"),
        "f1_tuned": ("metrics", "f1_tuned"),
        "worst_cmap": ("metrics", "worst", "cmap"),
        "worst_f1": ("metrics", "worst", "f1"),
        "worst_skill": ("metrics", "worst", "skill"),
        "worst_excess": ("metrics", "worst", "excess"),
        "left_top1": ("left", "top1"),
        "left_f1": ("left", "f1"),
        "left_cmap": ("left", "cmap"),
    }
)
"""Figures of every aggregate and where a result has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One method under one protocol with one seed. ``write`` and ``read`` are its JSON, field by field."""

    schema: int = SCHEMA
    method: str
    variant: str | None
    """What of the method was run where its name leaves that open, such as ``boxes`` or ``full_frame``."""
    protocol: str
    fit_on: str | None
    """Benchmark that the method was fitted on."""
    on: str
    """Benchmark whose recognizers judge it."""
    preset: str
    data: Mapping[str, Any]
    """``preset`` and ``seed`` of embedded data; null for real data."""
    seed: int
    split: int
    weights: str
    precision: str
    metrics: Mapping[str, Any]
    """What the attackers and the action recognizer reach: `stp_bench.scoring.score`."""
    floors: Mapping[str, Any]
    """What predictors reach that never look at a video: `stp_bench.floors`."""
    left: Mapping[str, Any]
    """Share of the raw data's value above its floor that remains; null without a raw run: `share_left`."""
    undefined: Sequence[str]
    """Paths of every null in ``metrics`` and ``floors``."""
    skipped: Mapping[str, int]
    """Videos left out: ``unreadable`` and ``missing`` ones, training videos that are test videos elsewhere
    (``overlap``), and those that a method's fit holds out to measure its progress (``holdout``); results of older
    versions have fewer of these."""
    provenance: Mapping[str, Any]
    """Where the numbers come from; shown, never compared, but for the digests and the configuration."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: plain dictionaries and lists, fixed keys first to last as declared here."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, document: Any, source: str = "this document") -> Result:
        """The result in a JSON document.

        Raises:
            UserError: not a result of a known schema; the message names the field.
        """
        _check(document, source)
        return cls(**{field.name: document[field.name] for field in fields(cls)})

    def write(self, path: Path) -> None:
        """Write the JSON document, whole or not at all, after the checks of `from_dict`."""
        document = self.to_dict()
        _check(document, str(path))
        write_json(path, document)

    @classmethod
    def read(cls, path: Path) -> Result:
        """The result in a JSON file.

        Raises:
            UserError: no such file, or not a result of a known schema.
            WorkError: not JSON.
        """
        return cls.from_dict(read_json(path), str(path))


def described(result: Mapping[str, Any]) -> str:
    """What a result (as a document) judged, in words: ``unseen actions of synth-hmdb``, ``frames of synth-pa``."""
    what = "frames" if result["protocol"] == "frame" else f"{result['protocol']} actions"
    return f"{what} of {result['on']}"


def share_left(
    metrics: Mapping[str, Any],
    floors: Mapping[str, Any],
    raw_metrics: Mapping[str, Any] | None = None,
    raw_floors: Mapping[str, Any] | None = None,
) -> dict[str, float | None]:
    """The share of the raw data's value above its floor that remains: (value - floor) / (raw value - its floor).

    1: as on raw data; 0: at the floor; below 0: under it. Floors are chance (top-1), the all-positive predictor (F1)
    and the prevalence (cMAP), each of its own run. Null without a raw run of the same setting, or where raw data are
    not above their floor.
    """
    left: dict[str, float | None] = dict.fromkeys(_LEFT)
    if raw_metrics is None or raw_floors is None:
        return left
    for name, floor in _LEFT.items():
        values = (metrics[name], floors[floor], raw_metrics[name], raw_floors[floor])
        if None not in values and values[2] > values[3]:
            left[name] = (values[0] - values[1]) / (values[2] - values[3])
    return left


def aggregate(results: Sequence[Result]) -> dict[str, Any]:
    """The document of several runs: every result, and per setting the spread over its seeds.

    ``{schema, kind: "aggregate", results: [...], aggregates: [{method, variant, protocol, fit_on, on, preset, split,
    seeds, runs, metrics: {top1: {mean, sd, min, max}, ...}}]}``, settings in order of first appearance. ``sd`` divides
    by n - 1 and is null for one run; a figure that some run leaves undefined is null throughout.
    """
    setting = ("method", "variant", "protocol", "fit_on", "on", "preset", "split")
    runs: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        runs.setdefault(tuple(getattr(result, name) for name in setting), []).append(result)
    aggregates = [
        {
            **dict(zip(setting, key)),
            "seeds": [result.seed for result in group],
            "runs": len(group),
            "metrics": {
                name: _spread([_at(result, path) for result in group]) for name, path in _figures(group).items()
            },
        }
        for key, group in runs.items()
    ]
    return {
        "schema": SCHEMA,
        "kind": "aggregate",
        "results": [result.to_dict() for result in results],
        "aggregates": aggregates,
    }


def _figures(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Figures of an aggregate: the fixed ones, and those that stand for them where classes come in groups."""
    more = [name for name in results[0].metrics if name.endswith("_cmap") or name == "balanced_accuracy"]
    return {**_AGGREGATED, **{name: ("metrics", name) for name in more}}


def _at(result: Result, path: tuple[str, ...]) -> float | None:
    value: Any = getattr(result, path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return dict.fromkeys(("mean", "sd", "min", "max"))
    return {
        "mean": statistics.fmean(defined),
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
        "min": min(defined),
        "max": max(defined),
    }


# What a document must hold: a type, a tuple of types (None for null), or a mapping of further fields. It may hold more.
_NUMBER = (float, int, None)
_ATTACKER: Mapping[str, Any] = {
    **dict.fromkeys(("cmap", "f1", "auroc", "skill", "f1_tuned"), _NUMBER),
    "excess": {"cmap": _NUMBER, "f1": _NUMBER},
    "per_attribute": Mapping,
}
_SHAPE: Mapping[str, Any] = {
    "method": str,
    "variant": (str, None),
    "protocol": str,
    "fit_on": (str, None),
    "on": str,
    "preset": str,
    "data": {"preset": (str, None), "seed": (int, None)},
    "seed": int,
    "split": int,
    "weights": str,
    "precision": str,
    "metrics": {
        "top1": _NUMBER,
        **_ATTACKER,
        "attackers": {"video": (Mapping, None), "frame": (Mapping, None)},
        "worst": {"attacker": str, **dict.fromkeys(("cmap", "f1", "skill", "excess"), _NUMBER)},
        "ci95": dict.fromkeys(("top1", "f1", "cmap", "excess_cmap", "excess_f1"), (list, None)),
        "bootstrap": {"resamples": int, "seed": int, "groups": int},
    },
    "floors": dict.fromkeys(
        [
            *("top1_chance", "top1_majority", "cmap_prevalence", "f1_all_positive", "f1_majority"),
            *("cmap_action_only", "f1_action_only", "cmap_action_informed", "f1_action_informed"),
        ],
        _NUMBER,
    ),
    "left": dict.fromkeys(_LEFT, _NUMBER),
    "undefined": list,
    "skipped": {"unreadable": int, "overlap": int},
    "provenance": {
        **dict.fromkeys(("version", "git", "torch", "device", "label_release", "index_sha256"), (str, None)),
        **dict.fromkeys(("predictions_sha256", "videos_sha256"), str),
        "stages": list,
        "seconds": Mapping,
        "config": Mapping,
    },
}
_MOST_INTEGER, _MOST_DEPTH = 2**63, 50
"""Larger whole numbers may fit no float; deeper documents may end Python's stack."""
_PER_ATTRIBUTE = dict.fromkeys(("ap", "f1", "auroc", "prevalence", "excess"), _NUMBER)


def _check(document: Any, source: str) -> None:
    if not isinstance(document, Mapping) or "schema" not in document:
        raise _refused(source, "it has no field 'schema'")
    if document.get("kind") == "aggregate":
        raise _refused(source, "it is an aggregate of several", "give one of the results in it")
    known, schema = range(1, SCHEMA + 1), document["schema"]
    if isinstance(schema, bool) or schema not in known:
        raise _refused(source, f"its schema is {schema!r} and this version reads up to {SCHEMA}", "update stp-bench")
    nulls = _check_shape(document, _SHAPE, "", source)
    _check_values(document, "", source)
    metrics = document["metrics"]
    nulls += _check_shape(metrics["per_attribute"], dict.fromkeys(metrics["per_attribute"], _PER_ATTRIBUTE),
                          "metrics.per_attribute", source)  # fmt: skip
    for kind, block in metrics["attackers"].items():
        if block is not None:
            _check_shape(metrics["attackers"], {kind: Mapping}, "metrics.attackers", source)
            nulls += _check_shape(block, _ATTACKER, f"metrics.attackers.{kind}", source)
    for name, bounds in metrics["ci95"].items():
        if bounds is not None and not _is_pair(bounds):
            raise _refused(source, f"field 'metrics.ci95.{name}' is not a pair of numbers")
    _check_shape(document["floors"], dict.fromkeys(document["floors"], _NUMBER), "floors", source)
    if not all(isinstance(path, str) for path in document["undefined"]):
        raise _refused(source, "field 'undefined' is not a list of paths")
    named = set(document["undefined"])
    for path in nulls:
        if path.startswith(("metrics.", "floors.")) and path not in named:
            raise _refused(source, f"field {path!r} is null but not named in 'undefined'")


def _check_shape(value: Any, shape: Mapping[str, Any], path: str, source: str) -> list[str]:
    """Check the fields of ``shape``; the paths of those that are null."""
    nulls = []
    for name, wanted in shape.items():
        inner = f"{path}.{name}".lstrip(".")
        if name not in value:
            raise _refused(source, f"field {inner!r} is missing")
        found = value[name]
        nested = isinstance(wanted, Mapping)
        kinds = (Mapping,) if nested else wanted if isinstance(wanted, tuple) else (wanted,)
        types = tuple(kind for kind in kinds if kind is not None)
        if found is None and None in kinds:
            nulls.append(inner)
        elif isinstance(found, bool) or not isinstance(found, types):
            raise _refused(source, f"field {inner!r} is {found!r:.40} instead of {_named(kinds)}")
        elif nested:
            nulls += _check_shape(found, wanted, inner, source)
    return nulls


def _check_values(value: Any, path: str, source: str, depth: int = 0) -> None:
    """Check what JSON allows anywhere and no reader of results can bear."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(source, f"field {path!r} is not a finite number")
    if isinstance(value, int) and abs(value) >= _MOST_INTEGER:
        raise _refused(source, f"field {path!r:.80} is a whole number of more than 63 bits")
    if isinstance(value, str) and not _is_text(value):
        raise _refused(source, f"field {path!r:.80} holds characters that no text has (lone surrogates)")
    if isinstance(value, (Mapping, list, tuple)) and depth == _MOST_DEPTH:
        raise _refused(source, f"field {path!r:.80} is nested more than {_MOST_DEPTH} deep")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not _is_text(str(name)):
                raise _refused(source, f"a name in field {path!r:.80} is no text (lone surrogates)")
            _check_values(inner, f"{path}.{name}".lstrip("."), source, depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            _check_values(inner, f"{path}[{i}]", source, depth + 1)


def _is_pair(bounds: Any) -> bool:
    return (
        isinstance(bounds, (list, tuple))
        and len(bounds) == 2
        and all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds)
    )


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _named(kinds: Sequence[Any]) -> str:
    if kinds == _NUMBER:
        return "a number or null"
    words = {str: "text", int: "a whole number", list: "a list", None: "null"}
    return " or ".join(words.get(kind, "an object") for kind in kinds)


def _refused(source: str, why: str, mend: str = "restore the file or run the evaluation again") -> UserError:
    return UserError(f"{source} is not a result", why, mend)
