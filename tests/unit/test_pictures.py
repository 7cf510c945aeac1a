"""Pictures of runs: drawn from records as they come, undefined values included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from stp_bench.errors import WorkError
from stp_bench.pictures import curves_picture, result_picture, tradeoff_picture


def record(cmap: float | None = 61.0) -> dict[str, Any]:
    attributes = ("face", "skin_color", "gender", "nudity", "relationship")
    return {
        "method": "some-method", "protocol": "unseen", "fit_on": "a", "on": "b", "preset": "tiny", "split": 1,
        "seed": 0,
        "metrics": {
            "top1": 70.0, "f1": 0.6, "cmap": cmap,
            "per_attribute": {name: {"ap": cmap, "prevalence": 0.5} for name in attributes},
        },
        "floors": {
            "top1_chance": 12.5, "cmap_prevalence": 50.0, "cmap_action_informed": None, "f1_all_positive": 0.66,
            "f1_action_informed": 0.6,
        },
    }  # fmt: skip


def strips(*names: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, (4, 8, 32, 32, 3), dtype=np.uint8) for name in names}


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_a_picture_grows_by_the_rows_of_frames_it_shows(tmp_path: Path) -> None:
    heights = []
    for number, names in enumerate([(), ("raw", "anonymized"), ("raw", "sparsified", "anonymized")]):
        result_picture(record(), strips(*names), tmp_path / f"{number}.png")
        heights.append(read(tmp_path / f"{number}.png").shape[0])
    assert heights[0] < heights[1] < heights[2]


def test_undefined_values_leave_the_picture_standing(tmp_path: Path) -> None:
    result_picture(record(cmap=None), None, tmp_path / "r.png")
    assert read(tmp_path / "r.png").std() > 0


def test_the_frames_shown_are_the_frames_given(tmp_path: Path) -> None:
    green = {
        "raw": np.full((2, 4, 16, 16, 3), (0, 255, 0), np.uint8),
        "anonymized": np.zeros((2, 4, 16, 16, 3), np.uint8),
    }
    result_picture(record(), green, tmp_path / "r.png")
    shown = read(tmp_path / "r.png").reshape(-1, 3)
    assert (shown == (0, 255, 0)).all(1).mean() > 0.02
    assert (shown == 0).all(1).mean() > 0.02


@pytest.mark.parametrize("scalars", [1, 3, 4])
def test_curves_of_any_number_of_scalars_and_phases(tmp_path: Path, scalars: int) -> None:
    rows = [
        {"phase": phase, "epoch": epoch, "name": f"loss_{number}", "value": 1 / epoch}
        for phase in ("init", "probes")
        for number in range(scalars)
        for epoch in (1, 2, 3)
    ]
    curves_picture(pd.DataFrame(rows), tmp_path / "c.png")
    assert read(tmp_path / "c.png").std() > 0


def test_a_picture_that_cannot_be_written_is_a_work_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkError, match="cannot write"):
        result_picture(record(), None, tmp_path / "file" / "r.png")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_methods_are_points_and_those_without_a_figure_are_left_out(tmp_path: Path) -> None:
    def row(method: str, top1: float | None) -> dict[str, Any]:
        figures = {"worst_cmap": {"mean": 60.0, "sd": None}, "top1": {"mean": top1, "sd": 2.0}}
        return {"method": method, "variant": None, "metrics": figures}

    inks = []
    for number, rows in enumerate([[], [row("a", 70.0)], [row("a", 70.0), row("b", 50.0)], [row("a", None)]]):
        tradeoff_picture({"results": [record()], "aggregates": rows}, tmp_path / f"{number}.png")
        inks.append(int((read(tmp_path / f"{number}.png").std(2) > 20).sum()))  # colored pixels: points and labels
    assert inks[0] == inks[3] == 0 < inks[1] < inks[2]
