"""The protocols, as values: where a method is fitted and which probes judge it.

A new protocol is one more function here and a line in `jobs`, which turns a request into one; what runs a protocol
never asks for its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from stp_bench.errors import UserError
from stp_bench.schema import Benchmark, Part, Probe, Protocol, SplitRef, Video

HOLDOUT = 0.1
"""Share of the training videos that a method which needs a holdout is not fitted on."""


def known(on: Benchmark, split: int) -> Protocol:
    """Known actions (paper Table 1): the method is fitted and judged on the same benchmark."""
    return Protocol(name="known", fit=_ref(on, "train", split), probes=_video_probes(on, split))


def unseen(fit_on: Benchmark, on: Benchmark, split: int, fit_split: int | None = None) -> Protocol:
    """Unseen actions (paper Table 2): the method is fitted on one benchmark and judged on another.

    ``fit_split`` is the split of the former, by default that of the latter.
    """
    return Protocol(name="unseen", fit=_ref(fit_on, "train", fit_split or split), probes=_video_probes(on, split))


def frame(fit_on: Benchmark, on: Benchmark, split: int, fit_split: int) -> Protocol:
    """Frame level (paper Table 3): the method is fitted, and the action learned, on videos with labels of whole videos;
    a single-frame attacker learns and is judged by the frame labels of another benchmark with the same actions."""
    learned, test = _ref(fit_on, "train", fit_split), _ref(on, "test", split)
    return Protocol(
        name="frame",
        fit=learned,
        probes=(
            Probe(name="action", target=on.action.name, unit="video", train=learned, test=test),
            Probe(
                name="frame", target=on.privacy.name, unit="frame", train=_ref(on, "train", split), test=test,
                judged="frame",
            ),
        ),
    )  # fmt: skip


def hold_out(videos: Sequence[Video]) -> tuple[tuple[Video, ...], tuple[Video, ...]]:
    """Training videos to fit on, and those held out to measure the fit's progress, both in the given order.

    At most a share `HOLDOUT` is held out, whole groups at a time (videos without a group are each their own), in the
    order of a hash of their names: the same for every seed. Where every group is larger than that, the smallest one.

    Raises:
        UserError: all are of one group.
    """
    units: dict[str, list[Video]] = {}
    for video in videos:
        units.setdefault(f"group {video.group}" if video.group else f"video {video.video_id}", []).append(video)
    if len(units) < 2:
        raise UserError(
            "no training video can be held out", "all are of one group", "fit on videos of at least two groups"
        )
    ranked = sorted(units, key=lambda unit: hashlib.sha256(f"stp:holdout:{unit}".encode()).digest())
    held: set[str] = set()
    for unit in ranked:
        if sum(len(units[u]) for u in held) + len(units[unit]) <= HOLDOUT * len(videos):
            held.add(unit)
    held = held or {min(ranked, key=lambda unit: len(units[unit]))}
    ids = {video.video_id for unit in held for video in units[unit]}
    return tuple(v for v in videos if v.video_id not in ids), tuple(v for v in videos if v.video_id in ids)


def _video_probes(on: Benchmark, split: int) -> tuple[Probe, ...]:
    """An action recognizer, and two privacy attackers: one that sees whole clips, one that sees single frames."""
    train, test = _ref(on, "train", split), _ref(on, "test", split)
    action, privacy = on.action.name, on.privacy.name
    return (
        Probe(name="action", target=action, unit="video", train=train, test=test),
        Probe(name="video", target=privacy, unit="video", train=train, test=test),
        Probe(name="frame", target=privacy, unit="frame", train=train, test=test),
    )


def _ref(benchmark: Benchmark, part: Part, split: int) -> SplitRef:
    return SplitRef(benchmark=benchmark.name, part=part, split=split)
