"""Leaderboard records: they prove themselves from their predictions, or the check names what they can't prove."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stp_bench.errors import UserError
from stp_bench.predictions import Predictions, Reference
from stp_bench.results import Result
from stp_bench.schema import Target
from stp_bench.scoring import score
from stp_leaderboard.records import Record, check, read_records, record_of

GOLDEN = Path(__file__).parents[1] / "golden/result-schema1.json"
ACTION = Target(name="action", kind="multiclass", classes=("jump", "run"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)


def run(seed: int = 0) -> tuple[Result, Predictions, Reference]:
    """A small run: its result and the two tables behind it."""
    rng = np.random.default_rng(seed)
    action, labels = np.arange(20) % 2, rng.integers(0, 2, (20, 2))
    scores = {name: rng.random((20, 2)) for name in ("video", "frame")}
    predictions = Predictions.of(
        action=ACTION,
        privacy=PRIVACY,
        video_ids=[f"v{i:02d}" for i in range(20)],
        groups=[None] * 20,
        action_V=action,
        posterior_VC=rng.dirichlet([1, 1], 20),
        labels_VK=labels,
        scores=scores,
    )
    reference = Reference.of(
        action=ACTION,
        privacy=PRIVACY,
        action_V=action,
        labels_VK=labels,
        thresholds={name: [0.5, 0.4] for name in scores},
    )
    figures = score(predictions, reference, bootstrap=20, seed=seed)
    golden = Result.read(GOLDEN)
    result = dataclasses.replace(
        golden,
        metrics=figures.metrics,
        floors=figures.floors,
        undefined=figures.undefined,
        provenance={
            **golden.provenance,
            "predictions_sha256": predictions.digest,
            "videos_sha256": predictions.videos_digest,
        },
    )
    return result, predictions, reference


def submitted(result: Result, **changes: Any) -> Record:
    given = {"submitter": "A. Person", "date": datetime.date(2026, 3, 1), "tables": "runs/one"} | changes
    return record_of(result, **given)


def test_a_record_that_went_through_its_file_is_proved_by_its_predictions(tmp_path: Path) -> None:
    result, predictions, reference = run()
    path = submitted(result).write(tmp_path)
    (record,) = read_records(tmp_path)
    assert path.name == record.file_name
    assert record == submitted(Result.from_dict(result.to_dict()))
    assert check(record, predictions, reference) == ()


@pytest.mark.parametrize(
    "field", ["metrics.cmap", "metrics.worst.excess", "metrics.per_attribute.face.ap", "floors.top1_chance"]
)
def test_a_touched_up_figure_is_named_with_both_values(field: str) -> None:
    result, predictions, reference = run()
    document = json.loads(json.dumps(result.to_dict()))
    block = document
    *parents, name = field.split(".")
    for parent in parents:
        block = block[parent]
    block[name] -= 0.001
    (difference,) = check(submitted(Result.from_dict(document)), predictions, reference)
    assert difference.field == field
    assert difference.recorded == pytest.approx(difference.recomputed - 0.001)
    assert field in str(difference)


def test_a_narrowed_interval_is_named() -> None:
    result, predictions, reference = run()
    document = json.loads(json.dumps(result.to_dict()))
    document["metrics"]["ci95"]["cmap"][1] -= 1
    (difference,) = check(submitted(Result.from_dict(document)), predictions, reference)
    assert difference.field == "metrics.ci95.cmap[1]"


def test_predictions_of_another_run_do_not_prove_a_record() -> None:
    result, *_ = run()
    _, predictions, reference = run(seed=1)
    fields = {difference.field for difference in check(submitted(result), predictions, reference)}
    assert {"metrics.cmap", "provenance.predictions_sha256", "provenance.videos_sha256"} <= fields


def test_a_record_cannot_order_endless_work() -> None:
    result, predictions, reference = run()
    greedy = dataclasses.replace(
        result, metrics={**result.metrics, "bootstrap": {"resamples": 10**9, "seed": 0, "groups": 20}}
    )
    with pytest.raises(UserError, match="resamples"):
        check(submitted(greedy), predictions, reference)


def test_seeds_and_dates_repeat_a_measurement_and_configurations_make_another() -> None:
    result, *_ = run()
    again = submitted(dataclasses.replace(result, seed=1), date=datetime.date(2026, 4, 1))
    assert submitted(result).key == again.key
    assert submitted(result).file_name != again.file_name
    changed = {**result.provenance, "config": {"run": {"epochs": 1}}}
    assert submitted(result).key != submitted(dataclasses.replace(result, provenance=changed)).key


def test_any_method_name_gives_a_plain_file_name() -> None:
    name = submitted(dataclasses.replace(run()[0], method='exec:"../blur {input}"')).file_name
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"submitter": ""}, "'submitter' is empty"),
        ({"date": "soon"}, "'date' is 'soon'"),
        ({"tables": None}, "'tables' is empty"),
        ({"result": {}}, "schema"),
        ({"date": "2027-01-01"}, "belongs to"),
    ],
)
def test_a_damaged_record_is_refused(damage: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    path = submitted(run()[0]).write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(UserError, match=complaint):
        read_records(tmp_path)


def test_a_result_alone_is_no_record(tmp_path: Path) -> None:
    run()[0].write(tmp_path / "result.json")
    with pytest.raises(UserError, match="'result' is missing"):
        read_records(tmp_path)
