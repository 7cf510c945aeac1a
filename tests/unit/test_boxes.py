"""The table of person boxes: what is refused and how it is named, what is clipped, and which frames have a box."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_bench import boxes
from stp_bench.boxes import HOLD, BoxTable, checked_rows, share_without, write_rows
from stp_bench.errors import UserError, WorkError
from stp_bench.schema import Video


def video(name: str, frames: int = 10, width: int = 64, height: int = 48) -> Video:
    return Video(
        video_id=name, relpath=f"{name}.avi", labels={}, group=None, frames=frames, height=height, width=width, fps=25.0
    )  # fmt: skip


VIDEOS = (video("clap/a"), video("clap/b", frames=30), video("wave/c", width=32, height=32))
GOOD = {
    "video_id": "clap/a", "frame": 3, "x1": 4.0, "y1": 5.0, "x2": 20.0, "y2": 40.0, "score": 0.9, "kind": "person",
    "width": 64, "height": 48,
}  # fmt: skip


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([GOOD | change for change in changes])


def saved(path: Path, *changes: dict[str, Any]) -> Path:
    rows(*changes).to_parquet(path / "boxes.parquet", index=False)
    return path / "boxes.parquet"


def read(path: Path) -> pd.DataFrame:
    return pd.concat(checked_rows(path, VIDEOS), ignore_index=True)


# --- what a table may hold ---


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    table = rows({}, {"frame": 4, "kind": "head"}, {"video_id": "wave/c", "width": 32, "height": 32, "y2": 32.0})
    write_rows(tmp_path / "boxes.parquet", [table[:1], table[1:]])
    again = read(tmp_path / "boxes.parquet")
    assert again.to_dict("list") == {
        name: [np.float32(v) if name == "score" else v for v in values]
        for name, values in table.to_dict("list").items()
    }
    assert again.dtypes[["frame", "x1", "score"]].tolist() == [np.int32, np.float32, np.float32]


def test_a_box_that_leaves_its_frame_by_less_than_a_pixel_is_clipped(tmp_path: Path) -> None:
    found = read(saved(tmp_path, {"x1": -0.9, "y1": -1.0, "x2": 64.8, "y2": 49.0}))
    assert found[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 0, 64, 48]]


def test_what_clipping_leaves_nothing_of_is_gone(tmp_path: Path) -> None:
    assert len(read(saved(tmp_path, {}, {"x1": -0.8, "x2": -0.1}, {"y1": 48.2, "y2": 48.9}))) == 1


def test_a_table_without_rows_is_one_without_boxes(tmp_path: Path) -> None:
    write_rows(tmp_path / "boxes.parquet", [])
    table = BoxTable.read(tmp_path / "boxes.parquet", VIDEOS)
    assert len(table) == 0 and table.frames_without(VIDEOS) == 50
    assert table.at("clap/a", np.arange(3)).shape == (3, 1, 4)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"video_id": "clap/z"}, "does not have", "leave its rows out"),
    ({"width": 320, "height": 240}, "another frame size", "scale"),
    ({"frame": 10}, "frame that the video does not have", "count frames from 0"),
    ({"frame": -1}, "frame that the video does not have", "count frames from 0"),
    ({"x1": math.nan}, "no finite number", "leave such rows out"),
    ({"y2": math.inf}, "no finite number", "leave such rows out"),
    ({"score": math.nan}, "no finite number", "leave such rows out"),
    ({"x2": 1e300}, "leaves its frame", "pixels of the decoded frames"),
    ({"kind": "dog"}, "no kind of person, head", "person or head"),
    ({"score": 1.2}, "score outside 0 to 1", "scale the scores"),
    ({"score": -0.1}, "score outside 0 to 1", "scale the scores"),
    ({"x1": 20.0, "x2": 4.0}, "inverted or empty", "order"),
    ({"y1": 40.0}, "inverted or empty", "order"),
    ({"x2": 65.5}, "leaves its frame by more than a pixel", "pixels of the decoded frames"),
    ({"y1": -1.5}, "leaves its frame by more than a pixel", "pixels of the decoded frames"),
]


@pytest.mark.parametrize(("change", "why", "mend"), BAD)
def test_a_wrong_row_is_named_by_video_and_number(
    tmp_path: Path, change: dict[str, Any], why: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, {}, {"frame": 4}, {}, change, change)
    with pytest.raises(UserError) as error:
        read(path)
    assert f"row 3 (video {change.get('video_id', 'clap/a')}, frame {change.get('frame', 3)}:" in error.value.why
    assert why in error.value.why and mend in error.value.mend and "stp-bench data boxes" in error.value.mend
    monkeypatch.setattr(boxes, "_PIECE", 2)  # the same number when the table is read in pieces
    with pytest.raises(UserError, match=r"row 3 \("):
        read(path)


@pytest.mark.parametrize("name", ["video_id", "kind", "frame", "width"])
def test_a_missing_value_is_named_by_its_row(tmp_path: Path, name: str) -> None:
    table = pa.Table.from_pandas(rows({}, {}), preserve_index=False)
    values = table[name].to_pylist()
    at = table.schema.get_field_index(name)
    table = table.set_column(at, name, pa.array([values[0], None], table[name].type))
    pq.write_table(table, tmp_path / "boxes.parquet")
    with pytest.raises(UserError, match=r"row 1 \("):
        read(tmp_path / "boxes.parquet")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (rows({}).drop(columns=["kind", "x1"]), "no column x1, kind"),
        (rows({"frame": 3.5}), "column frame holds double"),
        (rows({"x1": "four"}), "column x1 holds"),
        (rows({"video_id": b"\xff"}), "column video_id holds binary"),
    ],
)
def test_a_table_of_other_columns_is_refused(tmp_path: Path, table: pd.DataFrame, why: str) -> None:
    table.to_parquet(tmp_path / "boxes.parquet", index=False)
    with pytest.raises(UserError, match="no table of boxes") as error:
        read(tmp_path / "boxes.parquet")
    assert why in error.value.why


@pytest.mark.parametrize("content", [b"", b"PAR1", b"video_id,frame\n", pickle.dumps({"video_id": []})])
def test_a_file_that_is_no_parquet_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "boxes.parquet").write_bytes(content)
    with pytest.raises(WorkError, match="no parquet file, or damaged"):
        read(tmp_path / "boxes.parquet")


def test_a_damaged_table_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path, *({"frame": i} for i in range(10)))
    content = path.read_bytes()
    for cut in (len(content) // 3, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(WorkError, match="no parquet file, or damaged"):
            read(path)


def test_a_missing_table_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "boxes.parquet")


# --- which frames have a box ---


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 29), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from(["person", "head"]))))
def test_frames_without_a_box_are_those_for_which_none_is_found(found: list[tuple[int, float, str]]) -> None:
    all_rows = [GOOD | {"video_id": "clap/b", "frame": frame, "score": s, "kind": kind} for frame, s, kind in found]
    table = BoxTable(pd.DataFrame(all_rows, columns=list(GOOD)))
    has = table.at("clap/b", np.arange(30)).any(axis=(1, 2))
    assert table.frames_without([VIDEOS[1]]) == int((~has).sum())
    sure = {frame for frame, score, kind in found if score >= 0.5 and kind == "person"}
    assert has.tolist() == [any(f - HOLD <= g <= f for g in sure) for f in range(30)]


def test_the_share_counts_frames_over_videos_and_benchmarks() -> None:
    table = BoxTable(rows({"frame": 0}, {"video_id": "clap/b", "frame": 25}))
    # clap/a: frame 9 of 10 has none; clap/b: frames 0 to 24 of 30; a benchmark without a table: all of its 10.
    assert table.frames_without(VIDEOS[:2]) == 1 + 25
    assert share_without([(table, VIDEOS[:2]), (None, VIDEOS[2:])]) == pytest.approx((26 + 10) / 50)
    assert share_without([]) == 0
