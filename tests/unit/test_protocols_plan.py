"""Protocols are values, and a plan is a pure function of the job: what shares its inputs shares its stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from stp_bench import config, methods, protocols
from stp_bench.evaluate import Plan, plan
from stp_bench.jobs import Job, Request, Side
from stp_bench.schema import Benchmark, Protocol, SplitRef, Target

PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)


def benchmark(name: str, stride: int) -> Benchmark:
    action = Target(name="action", kind="multiclass", classes=("run", "walk"))
    return Benchmark(name=name, title=name, version=1, targets=(action, PRIVACY), stride=stride, splits=1)


HMDB, UCF = benchmark("hmdb", 2), benchmark("ucf", 4)


class _Data:
    """As much of a data set as a plan looks at: its description."""

    def __init__(self, described: Benchmark, boxes_digest: str = "boxes") -> None:
        self.benchmark, self.boxes_digest = described, boxes_digest


def job(method: str, protocol: Protocol, tmp_path: Path, **changes: Any) -> Job:
    spec = methods.find(method)
    run = config.preset("tiny")
    refs = {protocol.fit, *(r for p in protocol.probes for r in (p.train, p.test))}
    sides = {
        ref: Side(
            ref=ref,
            dataset=_Data(HMDB if ref.benchmark == "hmdb" else UCF),  # type: ignore[arg-type]
            store=None,  # type: ignore[arg-type]
            videos=(),
            digest=f"{ref.benchmark}/{ref.part}",
            raw_digest=f"{ref.benchmark}/{ref.part}",
        )
        for ref in refs
    }
    values: dict[str, Any] = {
        "request": Request(method=method, home=tmp_path), "preset": "tiny", "spec": spec,
        "config": spec.configure("tiny"), "run": run, "vit": config.vit_spec(run, image_weights=False),
        "protocol": protocol, "weights": "none", "weights_digest": "none", "device": "cpu", "precision": "fp32",
        "sides": sides, "overlap": 0, "checkpoint": None, "checkpoint_digest": None,
        "variant": None,
    }  # fmt: skip
    return Job(**(values | changes))


def keys(stages: Plan) -> list[str]:
    return [s.key for s in stages.all]


def test_a_protocol_trains_and_tests_every_probe_on_the_judged_benchmark() -> None:
    unseen = protocols.unseen(UCF, HMDB, 1)
    assert unseen.fit == SplitRef(benchmark="ucf", part="train", split=1)
    assert {(p.train.benchmark, p.train.part, p.test.benchmark, p.test.part) for p in unseen.probes} == {
        ("hmdb", "train", "hmdb", "test")
    }
    assert [(p.name, p.target, p.unit) for p in unseen.probes] == [
        ("action", "action", "video"), ("video", "privacy", "video"), ("frame", "privacy", "frame"),
    ]  # fmt: skip
    known = protocols.known(HMDB, 1)
    assert known.fit.benchmark == "hmdb"
    assert known.probes == unseen.probes


def test_known_and_unseen_share_one_fit(tmp_path: Path) -> None:
    known = plan(job("stprivacy", protocols.known(UCF, 1), tmp_path))
    unseen = plan(job("stprivacy", protocols.unseen(UCF, HMDB, 1), tmp_path))
    assert [s.key for s in known.fit] == [s.key for s in unseen.fit]
    assert known.probes[0].key != unseen.probes[0].key


def test_the_unseen_row_of_a_fixed_method_is_its_known_row(tmp_path: Path) -> None:
    known = plan(job("raw", protocols.known(HMDB, 1), tmp_path))
    unseen = plan(job("raw", protocols.unseen(UCF, HMDB, 1), tmp_path))
    assert keys(known) == keys(unseen)


def test_phases_stand_on_each_other(tmp_path: Path) -> None:
    stages = plan(job("stprivacy", protocols.known(HMDB, 1), tmp_path))
    first, second = stages.fit
    assert second.needs == (first.key,)
    assert stages.probes[0].needs == (second.key,)
    assert stages.score.needs == (stages.probes[0].key,)


@pytest.mark.parametrize(
    ("change", "fit_moves"),
    [
        ({"precision": "bf16"}, True),
        ({"weights_digest": "abc"}, True),
        ({"run": dataclasses.replace(config.preset("tiny"), batch=7)}, True),
        ({"run": dataclasses.replace(config.preset("tiny"), epochs=7)}, False),
        ({"run": dataclasses.replace(config.preset("tiny"), lr=1.0)}, False),
    ],
)
def test_what_moves_the_numbers_moves_the_key(tmp_path: Path, change: dict[str, Any], fit_moves: bool) -> None:
    base = plan(job("stprivacy", protocols.known(HMDB, 1), tmp_path))
    moved = plan(job("stprivacy", protocols.known(HMDB, 1), tmp_path, **change))
    assert (base.fit[0].key != moved.fit[0].key) == fit_moves
    assert base.probes[0].key != moved.probes[0].key


@pytest.mark.parametrize("field", ["device", "preset", "overlap"])
def test_what_does_not_move_the_numbers_leaves_the_key(tmp_path: Path, field: str) -> None:
    base = job("stprivacy", protocols.known(HMDB, 1), tmp_path)
    moved = dataclasses.replace(base, **{field: {"device": "cuda", "preset": "small", "overlap": 3}[field]})
    assert keys(plan(base)) == keys(plan(moved))


def test_seed_and_keep_move_the_right_stages(tmp_path: Path) -> None:
    base = job("stprivacy", protocols.known(HMDB, 1), tmp_path)
    seeded = plan(dataclasses.replace(base, request=dataclasses.replace(base.request, seed=1)))
    kept = plan(dataclasses.replace(base, request=dataclasses.replace(base.request, keep=0.5)))
    assert not set(keys(plan(base))) & set(keys(seeded))
    assert kept.fit[-1].key == plan(base).fit[-1].key
    assert kept.probes[0].key != plan(base).probes[0].key


def test_other_boxes_move_only_the_methods_that_use_boxes(tmp_path: Path) -> None:
    for method, moves in (("blackening", True), ("raw", False)):
        base = job(method, protocols.known(HMDB, 1), tmp_path)
        sides = {ref: dataclasses.replace(s, dataset=_Data(HMDB, "other")) for ref, s in base.sides.items()}  # type: ignore[arg-type]
        assert (plan(base).probes[0].key != plan(dataclasses.replace(base, sides=sides)).probes[0].key) == moves


@pytest.mark.parametrize("change", [{"variant": "full_frame"}, {"checkpoint_digest": "abc"}])
def test_variant_and_checkpoint_move_the_probes(tmp_path: Path, change: dict[str, Any]) -> None:
    base = job("blackening", protocols.known(HMDB, 1), tmp_path)
    assert plan(base).probes[0].key != plan(dataclasses.replace(base, **change)).probes[0].key


def test_another_package_s_method_of_the_same_name_has_keys_of_its_own(tmp_path: Path) -> None:
    base = job("raw", protocols.known(HMDB, 1), tmp_path)
    other = dataclasses.replace(base, spec=dataclasses.replace(base.spec, build="elsewhere:build"))
    assert plan(base).probes[0].key != plan(other).probes[0].key


def test_only_the_bootstrap_moves_the_score_alone(tmp_path: Path) -> None:
    base = job("raw", protocols.known(HMDB, 1), tmp_path)
    more = plan(dataclasses.replace(base, run=dataclasses.replace(base.run, bootstrap=7)))
    assert more.probes[0].key == plan(base).probes[0].key
    assert more.score.key != plan(base).score.key
