"""Whole videos through a method: every frame once, in order, at its place and size, whatever length and shape."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_bench import video_io
from stp_bench.anonymize import Tool, _anonymize_block, anonymize, prepare, targets
from stp_bench.clips import Anonymized, Clips
from stp_bench.errors import UserError, WorkError
from stp_bench.methods import FitTask, Phase, Stateful
from stp_bench.progress import Silent
from stp_bench.schema import ClipSpec


class Fixed:
    """What a method without anything to learn answers."""

    def phases(self, task: FitTask) -> Sequence[Phase]:
        return ()

    def parts(self) -> Mapping[str, Stateful]:
        return {}


class Same(Fixed):
    def anonymize(self, clips: Clips) -> Anonymized:
        return Anonymized(clips.x_BCTHW)


class Place(Fixed):
    """Paints every frame with its position in its clip."""

    def anonymize(self, clips: Clips) -> Anonymized:
        x = clips.x_BCTHW
        step = torch.arange(x.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1) / 255
        return Anonymized(step.expand_as(x).contiguous())


class Checkered(Fixed):
    """Keeps every other tubelet of a 2 x 2 grid, the other half in the next slot; unbounded output."""

    def anonymize(self, clips: Clips) -> Anonymized:
        batch, _, frames, side, _ = clips.x_BCTHW.shape
        keep = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]]).repeat(batch, frames // 4, 1)
        grid = keep.view(batch, 1, frames // 2, 1, 2, 1, 2, 1)
        mask = grid.expand(-1, 1, -1, 2, 2, side // 2, 2, side // 2).reshape(batch, 1, frames, side, side)
        return Anonymized(((clips.x_BCTHW * 4 - 2) * mask).contiguous(), keep, "free")


def tool(method: Any, *, frames: int = 4, stride: int = 2, learned: bool = True, **more: Any) -> Tool:
    identity = {"method": type(method).__name__, "keep": None}
    return Tool(
        name="test", method=method, learned=learned, device="cpu", identity=identity,
        clip=ClipSpec(frames=frames, stride=stride, size=32, sampling="exact"),
        **{"channel_range": None, **more},
    )  # fmt: skip


def video(path: Path, count: int = 21, height: int = 48, width: int = 64, fps: Fraction | int = 12) -> Path:
    rows = np.linspace(40, 200, height)[:, None, None]
    frames = [np.broadcast_to(rows + 2 * i, (height, width, 3)).astype(np.uint8) for i in range(count)]
    video_io.write_video(path, frames, fps)
    return path


def read(path: str | Path) -> np.ndarray:
    return np.stack(list(video_io.read_frames(Path(path))))


def distinct(count: int, height: int = 32, width: int = 32) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@given(stride=st.integers(1, 5), frames=st.sampled_from([1, 2, 4]), data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_block_of_any_length_comes_back_frame_by_frame_in_order(
    stride: int, frames: int, data: st.DataObject
) -> None:
    block = distinct(data.draw(st.integers(1, stride * frames)))
    one = tool(Same(), frames=frames, stride=stride)
    shown, keep = _anonymize_block(block, one.clip, one)
    assert keep is None
    np.testing.assert_array_equal(np.stack(shown), np.stack(block))


def test_a_clip_takes_every_stride_th_frame() -> None:
    one = tool(Place(), frames=4, stride=3)
    shown, _ = _anonymize_block(distinct(12), one.clip, one)
    assert [int(frame[0, 0, 0]) for frame in shown] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_learned_method_sees_its_square_and_a_fixed_one_the_source() -> None:
    class Shape(Same):
        seen: torch.Size

        def anonymize(self, clips: Clips) -> Anonymized:
            self.seen = clips.x_BCTHW.shape
            return super().anonymize(clips)

    for learned, size in ((True, (32, 32)), (False, (20, 50))):
        method = Shape()
        one = tool(method, learned=learned)
        shown, _ = _anonymize_block(distinct(8, 20, 50), one.clip, one)
        assert method.seen == (2, 3, 4, *size)
        assert shown[0].shape == (20, 50, 3)


def test_dropped_tubelets_are_black_with_sharp_edges_at_the_source_s_size(tmp_path: Path) -> None:
    source = video(tmp_path / "in.mp4", count=8, height=90, width=120)
    one = tool(Checkered(), channel_range=[[-2.0] * 3, [2.0] * 3])
    report = anonymize(source, tmp_path / "out", one, reporter=Silent())
    (record,) = report["videos"]
    assert record["kept_tubelets"] == 0.5
    assert record["panels"] == ["raw", "sparsified", "anonymized"]
    sparsified, shown, raw = (
        read(tmp_path / "out" / f"in{e}") for e in (".sparsified.mp4", ".mp4", ".side-by-side.mp4")
    )
    raw = raw[:, :, :120]
    # Frames 0-3 belong to slot 0 of both interleaved clips (stride 2, two frames a slot), frames 4-7 to slot 1.
    corners = {True: np.s_[4:41, 4:56], False: np.s_[4:41, 64:116]}
    for frame in range(8):
        first = frame < 4
        for pictures in (sparsified, shown):
            assert pictures[frame][corners[not first]].max() <= 12  # black, but for what the codec adds
        assert np.abs(sparsified[frame][corners[first]].astype(int) - raw[frame][corners[first]]).mean() < 4
        assert shown[frame][corners[first]].mean() > 30


@pytest.mark.parametrize("count", [1, 7, 8, 9, 33])
def test_length_size_and_rate_are_the_source_s(tmp_path: Path, count: int) -> None:
    source = video(tmp_path / "in.mp4", count=count, height=38, width=54, fps=Fraction(30000, 1001))
    anonymize(source, tmp_path / "out", tool(Same()), reporter=Silent())
    before, after = video_io.probe(source), video_io.probe(tmp_path / "out" / "in.mp4")
    assert (after.frames, after.height, after.width) == (count, 38, 54)
    assert math.isclose(after.fps, before.fps, rel_tol=1e-6)
    beside = video_io.probe(tmp_path / "out" / "in.side-by-side.mp4")
    assert (beside.frames, beside.height, beside.width) == (count, 38, 108)


def test_an_output_can_be_named_as_a_file(tmp_path: Path) -> None:
    anonymize(video(tmp_path / "in.mp4", 3), tmp_path / "a" / "b.c.mp4", tool(Same()), reporter=Silent())
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"b.c.mp4", "b.c.side-by-side.mp4", "b.c.json"}


def test_a_folder_s_tree_is_mirrored(tmp_path: Path) -> None:
    for name in ("a.avi", "x/a.mp4", "x/y/b.mkv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        video(tmp_path / "in" / name, 3)
    (tmp_path / "in" / "notes.txt").write_text("not a video")
    anonymize(tmp_path / "in", tmp_path / "out", tool(Same()), reporter=Silent())
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.mp4") if p.name.count(".") == 1}
    assert made == {"a.mp4", "x/a.mp4", "x/y/b.mp4"}


def test_finished_outputs_are_found_again_and_others_are_made_again(tmp_path: Path) -> None:
    source, out = video(tmp_path / "in.mp4", 5), tmp_path / "out"
    first = anonymize(source, out, tool(Same()), reporter=Silent())

    def state() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in out.iterdir()}

    before = state()
    assert anonymize(source, out, tool(Same()), reporter=Silent()) == first
    assert state() == before
    (out / "in.mp4").write_bytes(b"cut")
    anonymize(source, out, tool(Same()), reporter=Silent())
    assert len(read(out / "in.mp4")) == 5
    other = dataclasses.replace(tool(Place()), identity={"method": "Place", "keep": None})
    anonymize(source, out, other, reporter=Silent())
    assert read(out / "in.mp4").max() < 20
    video(source, 6)
    anonymize(source, out, other, reporter=Silent())
    assert len(read(out / "in.mp4")) == 6


def test_a_sidecar_says_what_made_the_file_and_what_it_is_not(tmp_path: Path) -> None:
    anonymize(video(tmp_path / "in.mp4", 5), tmp_path / "out", tool(Same()), reporter=Silent())
    card = json.loads((tmp_path / "out" / "in.json").read_text())
    assert card["made_by"]["method"] == "Same"
    assert "not the form" in card["notice"]
    assert card["source"]["frames"] == 5
    assert card["files"] == {
        name: (tmp_path / "out" / name).stat().st_size for name in ("in.mp4", "in.side-by-side.mp4")
    }


def test_a_corrupt_video_stops_the_work_and_keeps_what_is_done(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    video(tmp_path / "in" / "a.mp4", 3)
    (tmp_path / "in" / "b.mp4").write_bytes((tmp_path / "in" / "a.mp4").read_bytes()[:700])
    video(tmp_path / "in" / "c.mp4", 3)
    with pytest.raises(WorkError, match=r"b\.mp4.*--skip-unreadable"):
        anonymize(tmp_path / "in", tmp_path / "out", tool(Same()), reporter=Silent())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.mp4", "a.side-by-side.mp4", "a.json"}
    report = anonymize(tmp_path / "in", tmp_path / "out", tool(Same()), skip_unreadable=True, reporter=Silent())
    assert [Path(v["input"]).name for v in report["videos"]] == ["a.mp4", "c.mp4"]
    assert [Path(v["source"]).name for v in report["unreadable"]] == ["b.mp4"]


def test_work_that_fails_halfway_leaves_no_half_file(tmp_path: Path) -> None:
    class Tired(Same):
        calls = 0

        def anonymize(self, clips: Clips) -> Anonymized:
            self.calls += 1
            if self.calls > 1:
                raise WorkError("cannot go on", "the method is tired", "let it rest")
            return super().anonymize(clips)

    with pytest.raises(WorkError, match="tired"):
        anonymize(video(tmp_path / "in.mp4", 21), tmp_path / "out", tool(Tired()), reporter=Silent())
    assert not list((tmp_path / "out").iterdir())


def test_outputs_never_overwrite_inputs_or_one_another(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    video(folder / "a.mp4", 2)
    with pytest.raises(UserError, match="stands in its way"):
        targets(folder / "a.mp4", folder)
    with pytest.raises(UserError, match="inside the input"):
        targets(folder, folder / "out")
    video(folder / "a.avi", 2)
    with pytest.raises(UserError, match=r"a\.avi stands in its way"):
        targets(folder, tmp_path / "out")
    (folder / "a.avi").rename(folder / "a.sparsified.mp4")
    with pytest.raises(UserError, match="stands in its way"):
        targets(folder, tmp_path / "out")


def test_inputs_that_are_no_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        targets(tmp_path / "none.mp4", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no videos"):
        targets(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match=r"name it .*x\.mp4"):
        targets(video(tmp_path / "a.mp4", 1), tmp_path / "x.avi")


def test_an_unbounded_output_needs_the_range_of_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="no range"):
        anonymize(video(tmp_path / "in.mp4", 8), tmp_path / "out", tool(Checkered()), reporter=Silent())


def test_without_boxes_a_region_method_says_that_it_treats_whole_frames() -> None:
    assert prepare("blur-strong").identity["variant"] == "full_frame"


def test_a_fixed_transform_needs_no_checkpoint_and_takes_settings() -> None:
    assert prepare("downsample-4x").clip.stride == 1
    assert prepare("downsample-4x", settings=["downsample-4x.factor=3"]).identity["config"]["factor"] == 3
    with pytest.raises(UserError, match="--checkpoint does not fit raw"):
        prepare("raw", checkpoint=Path("x"))
    with pytest.raises(UserError, match="--keep does not fit raw"):
        prepare("raw", keep=0.5)


def test_a_learned_method_needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match="needs --checkpoint"):
        prepare("stprivacy")
