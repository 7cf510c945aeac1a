"""What a run's recognizers said about the test videos, and what was known before they looked: two tables.

``predictions.parquet`` has one row per video (or frame of one) and privacy attacker, sorted by these three::

    video_id, group (videos of one group share a source; null: none), frame (null: the whole video),
    attacker (video, frame; video-1, ... for further attacker seeds), action, action_pred,
    action_scores (list of float32 probabilities, in target order),
    label_<attribute> (0, 1, null: unlabelled), score_<attribute> (probability)

Where videos show several actions at once, ``label_action, score_action`` stand for the three action columns; where the
privacy target has groups of many classes, ``label_privacy, score_privacy`` stand for the columns of attributes: lists
of int8 (0, 1, -1: unlabelled) and float32, in target order.

``reference.parquet`` has one row per action and attribute, in target order, from the recognizers' training split::

    action, attribute, n (labelled training units: videos, or frames where frames are scored), positives,
    threshold_<attacker> (best on training units; or null), attribute_group (only where the privacy target has groups)

Every metric is a function of the two (`stp_bench.scoring`), whoever wrote them: hence the strict readers.

Axes: V units that are scored, C actions, K attributes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from stp_bench.errors import UserError
from stp_bench.files import atomic_path, canonical_json
from stp_bench.floors import training_counts
from stp_bench.metrics import UNLABELLED, Floats
from stp_bench.schema import Target

ATTACKER = re.compile(r"(video|frame)(-[1-9]\d*)?")
SUM_TOLERANCE = 1e-3
"""How far the action probabilities of a video may be from 1 in sum: half precision and averaging leave traces."""

_TEXT, _LIST, _FLAGS = pa.string(), pa.list_(pa.float32()), pa.list_(pa.int8())
_UNIT = {"video_id": _TEXT, "group": _TEXT, "frame": pa.int32(), "attacker": _TEXT}
_ONE_ACTION = {"action": _TEXT, "action_pred": _TEXT, "action_scores": _LIST}
_ACTIONS = {"label_action": _FLAGS, "score_action": _LIST}
_PRIVACY = {"label_privacy": _FLAGS, "score_privacy": _LIST}
_MAY_BE_NULL = ("group", "frame")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A valid table of predictions, in canonical order and types: build it with `of` or `read`."""

    table: pa.Table

    @classmethod
    def of(
        cls,
        *,
        action: Target,
        privacy: Target,
        video_ids: Sequence[str],
        groups: Sequence[str | None],
        action_V: ArrayLike,
        posterior_VC: ArrayLike,
        labels_VK: ArrayLike,
        scores: Mapping[str, ArrayLike],
        frames: Sequence[int | None] | None = None,
    ) -> Predictions:
        """The table of a run's arrays.

        Args:
            action, privacy: the two targets; their classes name the columns C and K.
            action_V: true action indices (V,), or labels (V, C) of a multilabel action.
            posterior_VC: action probabilities, already averaged over views.
            labels_VK: 0, 1, or `UNLABELLED`.
            scores: attacker name to probabilities (V, K), averaged over views.
            frames: frame numbers, for scores of single frames; without them a unit is a video.

        Raises:
            UserError: the arrays are not valid predictions.
        """
        posterior, true = np.asarray(posterior_VC, dtype=np.float32), np.asarray(action_V)
        labels = np.asarray(labels_VK)
        names = np.array(action.classes, dtype=object)
        shared = {
            "video_id": pa.array(video_ids, _TEXT),
            "group": pa.array(groups, _TEXT),
            "frame": pa.array(frames if frames is not None else [None] * len(video_ids), pa.int32()),
        }
        if action.kind == "multiclass":
            shared |= {
                "action": pa.array(names[true], _TEXT),
                "action_pred": pa.array(names[posterior.argmax(axis=1)], _TEXT),
                "action_scores": _lists(posterior, pa.float32()),
            }
        else:
            shared |= {"label_action": _lists(true, pa.int8()), "score_action": _lists(posterior, pa.float32())}
        if privacy.groups:
            shared |= {"label_privacy": _lists(labels, pa.int8())}
        else:
            shared |= {
                f"label_{name}": pa.array(labels[:, k], pa.int8(), mask=labels[:, k] == UNLABELLED)
                for k, name in enumerate(privacy.classes)
            }
        tables = []
        for attacker, values in scores.items():
            values_VK = np.asarray(values, dtype=np.float64)
            if privacy.groups:
                own = {"score_privacy": _lists(values_VK, pa.float32())}
            else:
                own = {f"score_{name}": pa.array(values_VK[:, k]) for k, name in enumerate(privacy.classes)}
            tables.append(pa.table(shared | {"attacker": pa.array([attacker] * len(video_ids), _TEXT)} | own))
        return cls(_canonical(pa.concat_tables(tables), "made from arrays"))

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """The predictions in a parquet file, rows in any order.

        Raises:
            UserError: no such file, or not a valid table; the message names the field.
        """
        return cls(_canonical(_read(path), str(path)))

    def write(self, path: Path) -> None:
        """Write the table, whole or not at all."""
        _write(self.table, path)

    @cached_property
    def attackers(self) -> tuple[str, ...]:
        """Names of the privacy attackers, sorted."""
        return tuple(sorted(set(self.table["attacker"].to_pylist())))

    @property
    def tags(self) -> bool:
        """Whether the privacy target has groups of many classes, whose names only the reference knows."""
        return _is_list(self.table, "label_privacy")

    @property
    def several_actions(self) -> bool:
        """Whether a video may show several actions at once."""
        return _is_list(self.table, "label_action")

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of the privacy classes, in column order; none with `tags`."""
        listed = {"action"} if self.several_actions else set()
        return () if self.tags else tuple(name for name in _attributes(self.table) if name not in listed)

    @cached_property
    def units(self) -> pa.Table:
        """One row per unit: what does not depend on the attacker."""
        return self.table.filter(pc.equal(self.table["attacker"], self.attackers[0]))

    @cached_property
    def groups(self) -> list[tuple[str, str]]:
        """What a unit is resampled with: its group, or its video where there is none."""
        units = self.units.select(["group", "video_id"]).to_pydict()
        return [("group", g) if g is not None else ("video", v) for g, v in zip(units["group"], units["video_id"])]

    @cached_property
    def posterior_VC(self) -> NDArray[np.float32]:
        """Action probabilities of the units."""
        return _matrix(self.units["score_action" if self.several_actions else "action_scores"])

    @cached_property
    def actions_VC(self) -> NDArray[np.int8]:
        """0, 1 or `UNLABELLED` of the units, where a video may show several actions."""
        return _matrix(self.units["label_action"], np.int8)

    @cached_property
    def labels_VK(self) -> NDArray[np.int8]:
        """0, 1 or `UNLABELLED`, of the units."""
        if self.tags:
            return _matrix(self.units["label_privacy"], np.int8)
        columns = [pc.fill_null(self.units[f"label_{name}"], UNLABELLED).to_numpy() for name in self.attributes]
        return np.stack(columns, axis=1)

    def scores_VK(self, attacker: str) -> Floats:
        """Probabilities that one attacker gave, in the order of `units`."""
        rows = self.table.filter(pc.equal(self.table["attacker"], attacker))
        if self.tags:
            return _matrix(rows["score_privacy"]).astype(np.float64)
        return np.stack([rows[f"score_{name}"].to_numpy() for name in self.attributes], axis=1)

    @cached_property
    def videos_digest(self) -> str:
        """SHA-256 of what was to be predicted: which units, their actions and labels. Equal for equal test sets."""
        if self.several_actions:
            units = self.units.select(["video_id", "frame"]).to_pydict()
            return _digest(units, self.attributes, self.labels_VK, self.actions_VC)
        return _digest(self.units.select(["video_id", "frame", "action"]).to_pydict(), self.attributes, self.labels_VK)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content (not of the file, whose bytes depend on the writer)."""
        names = self.units.select(["group"] if self.several_actions else ["group", "action_pred"]).to_pydict()
        scores = [self.scores_VK(attacker) for attacker in self.attackers]
        return _digest(self.videos_digest, names, self.attackers, self.posterior_VC, *scores)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """What is known without looking at a test video: class lists, training counts, thresholds tuned in training."""

    actions: tuple[str, ...]
    attributes: tuple[str, ...]
    labelled_CK: NDArray[np.int64]
    positives_CK: NDArray[np.int64]
    thresholds: Mapping[str, Floats]
    """Attacker name to one threshold per attribute; NaN where the training units have no positive."""
    groups: tuple[tuple[str, int], ...] = ()
    """Names and sizes of consecutive groups of attributes: `stp_bench.schema.Target.groups`."""

    @classmethod
    def of(
        cls,
        *,
        action: Target,
        privacy: Target,
        action_V: ArrayLike,
        labels_VK: ArrayLike,
        thresholds: Mapping[str, ArrayLike],
    ) -> Reference:
        """The reference of a training split: true actions (indices (V,), or labels (V, C)) and privacy labels (V, K),
        0, 1 or `UNLABELLED`, of its units."""
        labelled, positives = training_counts(np.asarray(action_V), np.asarray(labels_VK), len(action.classes))
        return cls(
            actions=action.classes,
            attributes=privacy.classes,
            labelled_CK=labelled,
            positives_CK=positives,
            thresholds={name: np.asarray(values, dtype=np.float64) for name, values in thresholds.items()},
            groups=privacy.groups,
        )

    def write(self, path: Path) -> None:
        """Write the table, whole or not at all."""
        actions, attributes = len(self.actions), len(self.attributes)
        columns: dict[str, Any] = {
            "action": pa.array(np.repeat(np.array(self.actions, dtype=object), attributes), _TEXT),
            "attribute": pa.array(list(self.attributes) * actions, _TEXT),
            "n": pa.array(self.labelled_CK.reshape(-1), pa.int64()),
            "positives": pa.array(self.positives_CK.reshape(-1), pa.int64()),
        }
        for attacker in sorted(self.thresholds):
            values = np.tile(self.thresholds[attacker], actions)
            columns[f"threshold_{attacker}"] = pa.array(values, pa.float64(), mask=np.isnan(values))
        if self.groups:
            names = [name for name, size in self.groups for _ in range(size)]
            columns["attribute_group"] = pa.array(names * actions, _TEXT)
        _write(pa.table(columns), path)

    @classmethod
    def read(cls, path: Path) -> Reference:
        """The reference in a parquet file.

        Raises:
            UserError: no such file, or not a valid table; the message names the field.
        """
        table, source = _read(path), str(path)
        attackers = [n.removeprefix("threshold_") for n in table.column_names if n.startswith("threshold_")]
        types = {"action": _TEXT, "attribute": _TEXT, "n": pa.int64(), "positives": pa.int64()}
        thresholds = {f"threshold_{attacker}": pa.float64() for attacker in attackers}
        grouped = {"attribute_group": _TEXT} if "attribute_group" in table.column_names else {}
        table = _typed(table, types | thresholds | grouped, tuple(thresholds), source)
        rows = [*zip(table["action"].to_pylist(), table["attribute"].to_pylist())]
        actions = tuple(dict.fromkeys(action for action, _ in rows))
        width = len(rows) // max(1, len(actions))
        attributes = tuple(name for _, name in rows[:width])
        # Two groups may have a class of the same name; classes of one list may not.
        if (
            not rows
            or rows != [(a, k) for a in actions for k in attributes]
            or (not grouped and len(set(attributes)) < width)
        ):
            _refuse(source, "attribute", "is not listed once for each action, in one order")
        groups: dict[str, int] = {}
        if grouped:
            names = table["attribute_group"].to_pylist()
            for name in names[:width]:
                groups[name] = groups.get(name, 0) + 1
            if names != [name for name, size in groups.items() for _ in range(size)] * len(actions):
                _refuse(source, "attribute_group", "does not name consecutive groups, the same for each action")
        shape = (len(actions), len(attributes))
        labelled, positives = (table[name].to_numpy().reshape(shape) for name in ("n", "positives"))
        if (positives < 0).any() or (positives > labelled).any():
            _refuse(source, "positives", "is not between 0 and n")
        tuned = {}
        for attacker in attackers:
            _check_attackers(source, {attacker})
            values = table[f"threshold_{attacker}"].to_numpy().reshape(shape)
            if not np.array_equal(values, np.broadcast_to(values[0], shape), equal_nan=True):
                _refuse(source, f"threshold_{attacker}", "differs between actions")
            tuned[attacker] = values[0].copy()
        return cls(
            actions=actions, attributes=attributes, labelled_CK=labelled, positives_CK=positives, thresholds=tuned,
            groups=tuple(groups.items()),
        )  # fmt: skip


def _canonical(table: pa.Table, source: str) -> pa.Table:
    """``table`` checked, with columns and rows in order."""
    several, tags = _is_list(table, "label_action"), _is_list(table, "label_privacy")
    attributes = () if tags else tuple(name for name in _attributes(table) if not (several and name == "action"))
    labels = {f"label_{name}": pa.int8() for name in attributes}
    scores = {f"score_{name}": pa.float64() for name in attributes}
    columns = _UNIT | (_ACTIONS if several else _ONE_ACTION) | (_PRIVACY if tags else labels | scores)
    table = _typed(table, columns, (*_MAY_BE_NULL, *labels), source)
    if not tags and not attributes:
        _refuse(source, "label_<attribute>", "is missing")
    if not table.num_rows:
        _refuse(source, "video_id", "has no rows")
    for field in labels:
        if not set(table[field].unique().to_pylist()) <= {0, 1, None}:
            _refuse(source, field, "has a value other than 0, 1 and null")
    for field in scores:
        _check_probabilities(source, field, table[field].to_numpy())
    for field, kind in columns.items():
        if pa.types.is_list(kind):
            _check_lists(source, field, table[field])
    if not several:
        posterior = _matrix(table["action_scores"])
        if not posterior.size or (np.abs(posterior.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE).any():
            _refuse(source, "action_scores", "does not sum to 1")
    _check_attackers(source, set(table["attacker"].unique().to_pylist()))
    if pc.any(pc.less(table["frame"], 0)).as_py():
        _refuse(source, "frame", "has a negative number")
    keys = table.select(["video_id", "attacker"]).append_column("frame", pc.fill_null(table["frame"], -1))
    order = pc.sort_indices(keys, [(name, "ascending") for name in ("video_id", "frame", "attacker")])
    table = table.take(order).combine_chunks()
    _check_rows(table, source)
    return table


def _check_lists(source: str, field: str, column: pa.ChunkedArray) -> None:
    if pc.count_distinct(pc.list_value_length(column)).as_py() != 1:
        _refuse(source, field, "has lists of different lengths")
    if pa.types.is_floating(column.type.value_type):
        _check_probabilities(source, field, _matrix(column))
    else:
        flat = pc.list_flatten(column)
        if flat.null_count or not set(flat.unique().to_pylist()) <= {0, 1, UNLABELLED}:
            _refuse(source, field, "has a value other than 0, 1 and -1")


def _check_rows(table: pa.Table, source: str) -> None:
    """Sorted rows of one unit differ in attacker and scores only; of one video, in frame and labels besides."""
    names = table["attacker"].to_pylist()
    attackers = sorted(set(names))
    count, rest = divmod(len(names), len(attackers))
    units = [*zip(table["video_id"].to_pylist(), table["frame"].to_pylist())]
    step = len(attackers)
    if rest or names != attackers * count or any(units[i] != units[i - i % step] for i in range(len(units))):
        _refuse(source, "attacker", f"does not name each of {', '.join(attackers)} once for each video and frame")
    if len(set(units)) != count:
        _refuse(source, "video_id", "repeats a video and frame")
    same_unit = np.array([units[i] == units[i - 1] for i in range(1, len(units))], dtype=np.bool_)
    same_video = np.array([units[i][0] == units[i - 1][0] for i in range(1, len(units))], dtype=np.bool_)
    for field in table.column_names:
        by_video = field in ("group", "action", "action_pred", "action_scores", "label_action", "score_action")
        if not (by_video or field.startswith("label_")):
            continue
        wrong = np.flatnonzero((same_video if by_video else same_unit) & _differs_from_last(table[field]))
        if len(wrong):
            _refuse(source, field, f"differs between rows of {units[wrong[0]][0]!r}")


def _differs_from_last(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """For every row but the first whether its value is another than that of the row before; null equals null."""
    if pa.types.is_list(column.type):
        values = _matrix(column, np.int8 if pa.types.is_integer(column.type.value_type) else np.float32)
        return np.asarray((values[1:] != values[:-1]).any(axis=1))
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    return np.asarray(codes[1:] != codes[:-1])


def _check_probabilities(source: str, field: str, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        _refuse(source, field, "has a value that is not finite")
    if (values < 0).any() or (values > 1).any():
        _refuse(source, field, "has a value outside [0, 1]")


def _check_attackers(source: str, names: set[str]) -> None:
    for name in sorted(names):
        if not ATTACKER.fullmatch(name):
            _refuse(source, "attacker", f"is {name!r} instead of video, frame, or one of these with -1, -2, ...")


def _typed(table: pa.Table, types: Mapping[str, pa.DataType], nullable: tuple[str, ...], source: str) -> pa.Table:
    """The columns of ``types`` in that order and of those types; another width of the same kind is converted."""
    for field in table.column_names:
        if field not in types or table.column_names.count(field) > 1:
            _refuse(source, field, "is not expected there" if field not in types else "is there twice")
    columns = {}
    for field, kind in types.items():
        if field not in table.column_names:
            _refuse(source, field, "is missing")
        column = table[field]
        if not (_same_kind(column.type, kind) or (pa.types.is_null(column.type) and field in nullable)):
            _refuse(source, field, f"is of type {column.type} instead of {kind}")
        if column.null_count and field not in nullable:
            _refuse(source, field, "has null values")
        try:
            columns[field] = column.cast(kind)
        except pa.ArrowInvalid:
            _refuse(source, field, f"does not fit {kind}")
    return pa.table(columns)


def _same_kind(found: pa.DataType, wanted: pa.DataType) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    if is_list and pa.types.is_list(wanted):
        return _same_kind(found.value_type, wanted.value_type)
    is_text = pa.types.is_string(found) or pa.types.is_large_string(found)
    return bool(
        (is_text and pa.types.is_string(wanted))
        or (pa.types.is_integer(found) and pa.types.is_integer(wanted))
        or (pa.types.is_floating(found) and pa.types.is_floating(wanted))
    )


def _attributes(table: pa.Table) -> tuple[str, ...]:
    """What the columns ``label_<attribute>`` name."""
    return tuple(n.removeprefix("label_") for n in table.column_names if n.startswith("label_"))


def _is_list(table: pa.Table, field: str) -> bool:
    """Whether a column is there and holds lists: an attribute may have the same name."""
    if table.column_names.count(field) != 1:
        return False
    kind = table.schema.field(field).type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _lists(values_VX: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """The rows of an array as a column of lists."""
    rows, width = values_VX.shape
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    flat = pa.array(np.ascontiguousarray(values_VX).reshape(-1)).cast(kind)
    return pa.LargeListArray.from_arrays(offsets, flat).cast(pa.list_(kind))


def _matrix(lists: pa.ChunkedArray, kind: Any = np.float32) -> NDArray[Any]:
    """A column of lists of equal length as an array, one row each; a null inside becomes NaN."""
    flat = pc.list_flatten(lists).to_numpy()
    return np.asarray(flat, dtype=kind).reshape(len(lists), -1)


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"cannot read {path}", "there is no such file", "check the path")
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read {path}", f"it is not a parquet file ({reason})", "write it again") from error


def _write(table: pa.Table, path: Path) -> None:
    with atomic_path(path, fsync=True) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).tobytes())
        else:
            digest.update(canonical_json(part).encode())
    return digest.hexdigest()


def _refuse(source: str, field: str, fault: str) -> NoReturn:
    raise UserError(f"the table {source} cannot be scored", f"field {field!r} {fault}", "write it again")
