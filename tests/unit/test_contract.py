"""The contract's checks find what they claim to find: each fault below is caught, and a faultless method passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stp_bench.clips import Anonymized, Clips
from stp_bench.contract import check_method, validate_output
from stp_bench.errors import UserError
from stp_bench.methods import Batches, EpochReport, FitTask, MethodSpec, Phase, Stateful
from stp_bench.schema import VitSpec

CLIPS = Clips(torch.full((2, 3, 4, 16, 16), 0.5))


# --- validate_output ---


def keeping(slots: int = 2, tubelets: int = 4) -> Tensor:
    return torch.ones(2, slots, tubelets)


@pytest.mark.parametrize(
    "out",
    [
        Anonymized(CLIPS.x_BCTHW),
        Anonymized(CLIPS.x_BCTHW * 100 - 3, space="free"),
        Anonymized(CLIPS.x_BCTHW + 0.5 + 1e-7),
        Anonymized(CLIPS.x_BCTHW, keeping()),
        Anonymized(torch.zeros_like(CLIPS.x_BCTHW), torch.zeros(2, 4, 16)),
    ],
)
def test_valid_outputs_pass(out: Anonymized) -> None:
    validate_output("toy", CLIPS, out)


def one_dropped_tubelet() -> Tensor:
    keep = keeping()
    keep[1, 0, 3] = 0
    return keep


def with_value(value: float) -> Tensor:
    x = CLIPS.x_BCTHW.clone()
    x[1, 2, 3, 4, 5] = value
    return x


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (CLIPS.x_BCTHW, "returned Tensor"),
        (Anonymized(CLIPS.x_BCTHW[:1]), "same shape"),
        (Anonymized(CLIPS.x_BCTHW[..., :8]), "same shape"),
        (Anonymized(CLIPS.x_BCTHW.double()), "torch.float64"),
        (Anonymized(CLIPS.x_BCTHW.bfloat16()), "torch.bfloat16"),
        (Anonymized(CLIPS.x_BCTHW.to("meta")), "on meta"),
        (Anonymized(CLIPS.x_BCTHW.clone().requires_grad_()), "gradient"),
        (Anonymized(with_value(float("nan"))), "not finite"),
        (Anonymized(with_value(float("inf")), space="free"), "not finite"),
        (Anonymized(with_value(1.01)), r"\[0.5, 1.01\]"),
        (Anonymized(with_value(-0.01)), r"\[-0.01, 0.5\]"),
        (Anonymized(CLIPS.x_BCTHW, space="rgb255"), "rgb255"),  # type: ignore[arg-type]
        (Anonymized(CLIPS.x_BCTHW, torch.ones(2, 8)), "keep has shape"),
        (Anonymized(CLIPS.x_BCTHW, torch.ones(1, 2, 4)), "keep has shape"),
        (Anonymized(CLIPS.x_BCTHW, torch.ones(2, 0, 4)), "keep has shape"),
        (Anonymized(CLIPS.x_BCTHW, keeping().bool()), "keep is torch.bool"),
        (Anonymized(CLIPS.x_BCTHW, keeping(slots=3)), "does not tile"),
        (Anonymized(CLIPS.x_BCTHW, keeping(tubelets=5)), "does not tile"),
        (Anonymized(CLIPS.x_BCTHW, keeping(tubelets=9)), "does not tile"),
        (Anonymized(CLIPS.x_BCTHW, keeping() * 0.5), "other than 0 and 1"),
        (Anonymized(CLIPS.x_BCTHW, one_dropped_tubelet()), "still has pixels"),
    ],
)
def test_an_invalid_output_is_refused_in_one_line(out: Anonymized, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        validate_output("toy", CLIPS, out)
    assert "'toy'" in str(caught.value) and "\n" not in str(caught.value)


def test_the_dropped_tubelet_is_found_where_it_is() -> None:
    keep, x = one_dropped_tubelet(), CLIPS.x_BCTHW.clone()
    x[1, :, :2, 8:, 8:] = 0  # slot 0 is frames 0 and 1, tubelet 3 the lower right quarter
    validate_output("toy", CLIPS, Anonymized(x, keep))


# --- check_method: a learned toy with switches for its faults ---


@dataclass(frozen=True)
class Config:
    """What is wrong with the toy; nothing by default."""

    fault: str = "none"


def make_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3), nn.Sigmoid())


class Tint:
    """A learned anonymizer with one convolution and, on demand, one fault."""

    def __init__(self, config: Config, vit: VitSpec) -> None:
        self.fault = config.fault
        self.network = make_network()

    def phases(self, task: FitTask) -> Sequence[Phase]:
        if self.fault != "random start":
            torch.manual_seed(task.seed)
        self.network = make_network()
        phase = TintPhase(self, task)
        if self.fault == "misnamed phase":
            phase.name = "other"
        return [phase]

    def parts(self) -> Mapping[str, Stateful]:
        if self.fault == "forgotten weights":
            return {"first": self.network[0]}  # without the running statistics
        if self.fault == "nested state":
            return {"network": Nested(self.network)}
        return {"network": self.network}

    def anonymize(self, clips: Clips) -> Anonymized:
        x = clips.x_BCTHW
        self.network.train(self.fault == "batch statistics")
        with torch.set_grad_enabled(self.fault == "gradient"):
            out = self.network(x).float()
        match self.fault:
            case "random":
                out = (out + 0.01 * torch.rand(())).clamp(0, 1)
            case "changed input":
                x.zero_()
            case "range":
                out = out * 2
            case "half precision":
                out = self.network(x).detach()
            case "needs boxes":
                assert clips.boxes_BTM4 is not None
            case "crash":
                raise ValueError("no such weather")
        return Anonymized(out)


class Nested:
    """A part whose state no tensor file can hold."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": 3, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["weights"])


class TintPhase:
    """Trains the toy to brighten; its labels are the action's."""

    name, epochs = "init", 5

    def __init__(self, method: Tint, task: FitTask) -> None:
        self.method, self.task = method, task
        self.optimizer = torch.optim.Adam(method.network.parameters(), lr=1e-2)
        self.seen = 0

    def parts(self) -> Mapping[str, Stateful]:
        parts: dict[str, Stateful] = {"network": self.method.network, "optimizer": self.optimizer}
        if self.method.fault == "forgotten optimizer":
            del parts["optimizer"]
        return parts

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        fault = self.method.fault
        total = 0.0
        for batch in batches:
            assert batch.action_B is not None and len(batches) > 1
            if fault == "unlisted labels":
                assert batch.privacy_BK is not None
            if fault == "idle fit":
                continue
            self.seen += 1
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-2 / (self.seen if fault == "hidden counter" else 1 + epoch)
            target = batch.action_B.float().view(-1, 1, 1, 1, 1) + 0.1 * torch.rand(())
            loss = (self.method.network.train()(batch.clips.x_BCTHW) - target).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
        return EpochReport({"loss": float("nan") if fault == "undefined loss" else total})


TINT = MethodSpec(
    name="tint", version=1, title="Tint", build=f"{__name__}:Tint", config=Config, phases=("init",),
    needs=frozenset({"action"}),
)  # fmt: skip


def violations(fault: str) -> list[str]:
    return check_method(replace(TINT, presets={"tiny": {"fault": fault}}))


def test_a_faultless_learned_method_passes() -> None:
    assert violations("none") == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("random", "two calls with the same clips differ"),
        ("changed input", "changed its input"),
        ("range", "in space rgb01"),
        ("gradient", "gradient graph"),
        ("half precision", "torch.bfloat16"),
        ("batch statistics", "depends on the other clips"),
        ("batch statistics", "changed the method's weights or buffers"),
        ("needs boxes", "AssertionError"),
        ("crash", "ValueError: no such weather"),
        ("forgotten weights", "restored from parts() anonymizes differently"),
        ("nested state", "a part of parts() holds no tensors"),
        ("misnamed phase", "phases are ('other',)"),
        ("random start", "start from different weights"),
        ("idle fit", "changed nothing"),
        ("unlisted labels", "AssertionError"),
        ("undefined loss", "finite scalars"),
        ("forgotten optimizer", "ends with other weights"),
        ("hidden counter", "ends with other weights"),
    ],
)
def test_a_fault_is_found_and_named(fault: str, words: str) -> None:
    found = violations(fault)
    assert any(words in line for line in found), found
    assert all("'tint'" in line for line in found)


def test_checking_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    violations("none")
    assert torch.equal(torch.rand(3), expected)


# --- check_method: fixed transforms ---


class Fixed:
    """A fixed transform made of a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def phases(self, task: FitTask) -> Sequence[Phase]:
        return ()

    def parts(self) -> Mapping[str, Stateful]:
        return {}

    def anonymize(self, clips: Clips) -> Anonymized:
        return Anonymized(self.function(clips.x_BCTHW))


def invert(config: Any, vit: VitSpec) -> Fixed:
    return Fixed(lambda x: 1 - x)


def only_its_size(config: Any, vit: VitSpec) -> Fixed:
    return Fixed(lambda x: x.view(-1, 3, vit.frames, vit.size, vit.size))


def with_strange_variant(config: Any, vit: VitSpec) -> Fixed:
    method = invert(config, vit)
    method.variant = lambda has_boxes: 3  # type: ignore[attr-defined]
    return method


@pytest.mark.parametrize(
    ("build", "changes", "words"),
    [
        ("invert", {}, None),
        ("invert", {"identity": True}, "not the input"),
        ("invert", {"phases": ("init",)}, "the spec says ('init',)"),
        ("only_its_size", {}, "take any size"),
        ("with_strange_variant", {}, "variant(has_boxes)"),
    ],
)
def test_fixed_transforms_are_held_to_their_spec(build: str, changes: dict[str, Any], words: str | None) -> None:
    spec = MethodSpec(name="toy", version=1, title="Toy", build=f"{__name__}:{build}", **changes)
    found = check_method(spec)
    assert found == [] if words is None else any(words in line for line in found), found
