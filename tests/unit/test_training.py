"""The training loop: a run that was interrupted anywhere ends with the same bits as one that was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stp_bench.clips import Clips, Labelled
from stp_bench.errors import UserError, WorkError
from stp_bench.methods import Batches, EpochReport, Stateful
from stp_bench.progress import Silent
from stp_bench.training import CHECKPOINT, CURVES, autocast, load_checkpoint, restore, run_phase, seed_of


class Made:
    """Two batches whose content depends on the epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Labelled]:
        for i in range(2):
            x = torch.full((2, 3, 1, 2, 2), float(self.epoch * 2 + i))
            yield Labelled(Clips(x), torch.tensor([0, 1]), None)


class Regression:
    """A small phase with weights, momentum and dropout noise: everything that a resume can forget."""

    name = "toy"

    def __init__(self, epochs: int = 4, stop_after: int | None = None, crash_in: int | None = None) -> None:
        torch.manual_seed(0)
        self.epochs, self.stop_after, self.crash_in = epochs, stop_after, crash_in
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.01)
        self.ran: list[int] = []

    def parts(self) -> Mapping[str, Stateful]:
        return {"network": self.network, "optimizer": self.optimizer}

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
        self.ran.append(epoch)
        for step, batch in enumerate(batches):
            if epoch == self.crash_in and step == 1:
                raise KeyboardInterrupt
            loss: torch.Tensor = self.network(batch.clips.x_BCTHW).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return EpochReport({"loss": loss.item()}, done=epoch == self.stop_after)


def run(phase: Any, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    run_phase(phase, Made, folder, stream="s", device="cpu", precision="fp32", reporter=Silent())
    return phase


@pytest.mark.parametrize("crash_in", [0, 1, 3])
def test_an_interrupted_phase_resumes_to_the_same_weights(tmp_path: Path, crash_in: int) -> None:
    whole = run(Regression(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Regression(crash_in=crash_in), tmp_path / "cut")
    resumed = run(Regression(), tmp_path / "cut")
    assert resumed.ran == list(range(crash_in, 4))
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole" / CURVES).read_text() == (tmp_path / "cut" / CURVES).read_text()


def test_a_phase_that_says_done_stops_and_stays_stopped(tmp_path: Path) -> None:
    assert run(Regression(stop_after=1), tmp_path).ran == [0, 1]
    assert run(Regression(stop_after=1), tmp_path).ran == []


def test_curves_have_a_row_per_epoch(tmp_path: Path) -> None:
    run(Regression(), tmp_path)
    lines = (tmp_path / CURVES).read_text().splitlines()
    assert lines[0] == "epoch,loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_divergence_is_named_and_the_last_good_epoch_kept(tmp_path: Path) -> None:
    class Diverging(Regression):
        def run_epoch(self, batches: Batches, epoch: int) -> EpochReport:
            return EpochReport({"loss": float("nan") if epoch == 2 else 1.0})

    with pytest.raises(WorkError, match="toy diverged in epoch 3"):
        run(Diverging(), tmp_path)
    assert len(load_checkpoint(tmp_path / CHECKPOINT)["curves"]) == 2


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(Regression(), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:100])
    with pytest.raises(WorkError, match=r"checkpoint\.pt.*damaged"):
        run(Regression(), tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"parts": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(WorkError, match="damaged"):
        load_checkpoint(tmp_path / CHECKPOINT)
    assert not (tmp_path / "executed").exists()


def test_states_of_other_parts_or_shapes_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    with pytest.raises(UserError, match="does not fit"):
        restore({"a": network}, {"b": network.state_dict()}, tmp_path)
    with pytest.raises(UserError, match="does not fit, a: "):
        restore({"a": network}, {"a": nn.Linear(3, 1).state_dict()}, tmp_path)


def test_seeds_differ_by_stream_and_are_the_same_in_every_process() -> None:
    assert seed_of("a/0") != seed_of("a/1")
    assert seed_of("a/0") == 1451346014421447915
    assert 0 <= seed_of("x") < 2**63


def test_steps_under_bf16_use_the_weights_of_the_step_before() -> None:
    def outputs(contexts: int) -> list[float]:
        torch.manual_seed(0)
        layer = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        x, seen = torch.ones(2, 4), list[float]()
        for _ in range(contexts):
            with autocast("cpu", "bf16"):
                for _ in range(4 // contexts):
                    loss = layer(x).float().square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    seen.append(loss.item())
        return seen

    assert outputs(1) == outputs(4)
    assert len(set(outputs(1))) > 1


def test_a_phase_of_no_epochs_leaves_its_parts_and_empty_curves(tmp_path: Path) -> None:
    phase = run(Regression(epochs=0), tmp_path)
    assert load_checkpoint(tmp_path / CHECKPOINT)["curves"] == []
    assert (tmp_path / CURVES).read_text() == "epoch\n"
    assert phase.ran == []
