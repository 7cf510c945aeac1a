"""Pictures of runs: drawn from records as they come, undefined values included."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_bench.errors import WorkError
from stp_bench.pictures import (
    curves_picture,
    methods_picture,
    pareto_front,
    place_labels,
    result_picture,
    tradeoff_picture,
)


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
            "top1_chance": 12.5, "cmap_prevalence": 50.0, "cmap_action_informed": None, "cmap_action_only": 58.0,
            "f1_all_positive": 0.66, "f1_action_informed": 0.6,
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


def test_every_method_gets_a_column_with_its_own_frames(tmp_path: Path) -> None:
    flat = {name: np.full((3, 4, 16, 16, 3), shade, np.uint8) for name, shade in (("dark", 40), ("light", 200))}
    methods_picture({name: {"anonymized": clips} for name, clips in flat.items()}, tmp_path / "m.png")
    picture = read(tmp_path / "m.png").mean(2)
    shown = [{int(x) for x in np.unique(half[-20:])} - {255} for half in np.array_split(picture, 2, axis=1)]
    assert 40 in shown[0] and 200 not in shown[0]
    assert 200 in shown[1] and 40 not in shown[1]


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


def spread(mean: float | None, sd: float | None = None) -> dict[str, float | None]:
    return {"mean": mean, "sd": sd}


def colored(path: Path) -> int:
    """Pixels of points and labels; floors and frames are gray."""
    return int((read(path).std(2) > 20).sum())


def test_methods_are_points_and_those_without_a_figure_are_left_out(tmp_path: Path) -> None:
    def row(method: str, top1: float | None) -> dict[str, Any]:
        figures = {"worst_cmap": spread(60.0), "worst_excess": spread(2.0), "top1": spread(top1, 2.0)}
        return {"method": method, "variant": None, "metrics": figures}

    inks = []
    for number, rows in enumerate([[], [row("a", 70.0)], [row("a", 70.0), row("b", 50.0)], [row("a", None)]]):
        tradeoff_picture({"results": [record()], "aggregates": rows}, tmp_path / f"{number}.png")
        inks.append(colored(tmp_path / f"{number}.png"))
    assert inks[0] == inks[3] < inks[1] < inks[2]


def test_a_figure_that_is_undefined_in_one_panel_is_drawn_in_the_other(tmp_path: Path) -> None:
    inks = []
    for number, excess in enumerate((None, 2.0)):
        figures = {"worst_cmap": spread(60.0), "worst_excess": spread(excess), "top1": spread(70.0)}
        rows = [{"method": "a", "variant": "boxes", "metrics": figures}]
        tradeoff_picture({"results": [record()], "aggregates": rows}, tmp_path / f"{number}.png")
        inks.append(colored(tmp_path / f"{number}.png"))
    assert 0 < inks[0] < inks[1]


def test_where_classes_come_in_groups_each_has_a_panel(tmp_path: Path) -> None:
    grouped = record() | {
        "metrics": {"action_cmap": 40.0, "object_cmap": 20.0, "scene_cmap": 30.0,
                    "per_attribute": {"object": {}, "scene": {}}},
        "floors": {f"{name}_cmap_{floor}": 5.0 for name in ("action", "object", "scene")
                   for floor in ("prevalence", "action_only")},
    }  # fmt: skip
    figures = {name: spread(25.0) for name in ("action_cmap", "object_cmap", "scene_cmap", "worst_excess")}
    plain = {name: spread(25.0) for name in ("top1", "worst_cmap", "worst_excess")}
    widths = []
    for result, found in ((record(), plain), (grouped, figures)):
        rows = [{"method": "a", "variant": None, "metrics": found}]
        tradeoff_picture({"results": [result], "aggregates": rows}, tmp_path / "r.png")
        assert colored(tmp_path / "r.png") > 0
        widths.append(read(tmp_path / "r.png").shape[1])
    assert widths[1] / widths[0] == pytest.approx(3 / 2, rel=0.05)


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(POINTS)
def test_a_point_is_on_the_front_exactly_if_no_other_beats_it(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    for i, (x, y) in enumerate(points):
        beaten = any((u < x and v >= y) or (u <= x and v > y) for u, v in points)
        assert (i in front) == (not beaten)


@given(POINTS)
def test_along_the_front_more_is_recognized_only_where_more_leaks(points: list[tuple[float, float]]) -> None:
    front = [points[i] for i in pareto_front(points)]
    assert front == sorted(front)
    for (x1, y1), (x2, y2) in pairwise(front):
        assert (x1 < x2 and y1 < y2) or (x1, y1) == (x2, y2)
    assert bool(front) == bool(points)


@given(POINTS, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_the_order_of_points(points: list[tuple[float, float]], random: Any) -> None:
    shuffled = random.sample(points, len(points))
    assert [points[i] for i in pareto_front(points)] == [shuffled[i] for i in pareto_front(shuffled)]


AREA = np.array([0.0, 0.0, 600.0, 500.0])


def overlaps(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes x1, y1, x2, y2 share an area."""
    return bool(np.all(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) > 1e-6))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(100, 500), st.floats(100, 400), st.integers(20, 110)), min_size=1, max_size=10
    ),
    st.booleans(),
)  # fmt: skip
def test_labels_cover_neither_each_other_nor_points_and_stay_inside(
    drawn: list[tuple[float, float, int]], close: bool
) -> None:
    points = np.array([(x, y) for x, y, _ in drawn])
    if close:
        points = 300 + (points - 300) / 20
    sizes = np.array([(float(width), 14.0) for *_, width in drawn])
    corners = place_labels(points, sizes, AREA)
    boxes = np.hstack([corners, corners + sizes])
    for i, box in enumerate(boxes):
        assert (box[:2] >= AREA[:2]).all() and (box[2:] <= AREA[2:]).all()
        assert not any(overlaps(box, other) for other in boxes[i + 1 :])
        assert not any(overlaps(box, np.hstack([p - 3, p + 3])) for p in points)


def test_a_lonely_label_is_beside_its_point_and_off_the_lines() -> None:
    point, size = np.array([[300.0, 250.0]]), np.array([[60.0, 14.0]])
    beside = place_labels(point, size, AREA)[0] - point[0]
    assert (beside > 0).all() and np.hypot(*beside) < 10
    bar = np.array([[301.0, 250.0, 500.0, 262.0]])
    assert not overlaps(np.hstack([(corner := place_labels(point, size, AREA, bar)[0]), corner + size[0]]), bar[0])
