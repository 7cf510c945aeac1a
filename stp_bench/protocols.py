"""The protocols, as values: where a method is fitted and which probes judge it.

A new protocol is one more function here and a line in `jobs`, which turns a request into one; what runs a protocol
never asks for its name.
"""

from __future__ import annotations

from stp_bench.schema import Benchmark, Part, Probe, Protocol, SplitRef


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
