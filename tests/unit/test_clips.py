"""Index arithmetic of clips and views, against worked examples and the rules written out a second time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stp_bench.clips import crop_offsets, tile_windows, train_window
from stp_bench.clips import test_windows as windows_of_test
from stp_bench.schema import ClipSpec


def spec(frames: int = 16, stride: int = 2, sampling: str = "exact", size: int = 112) -> ClipSpec:
    return ClipSpec(frames=frames, stride=stride, size=size, sampling=sampling)  # type: ignore[arg-type]


class Fixed:
    """A random source that answers with one end of the range it is asked for, and remembers the range."""

    def __init__(self, last: bool) -> None:
        self.last, self.asked = last, []

    def integers(self, low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        self.asked.append((low, high))
        return high - 1 if self.last else low


@pytest.mark.parametrize(
    ("frames", "stride", "starts"),
    [
        (79, 2, [0, 12, 24, 36, 48]),  # 40 strided items, 24 to spare, a quarter of it is 6 items = 12 frames
        (167, 4, [0, 24, 52, 76, 104]),  # 42 items, 26 to spare: items 0, 6, 13, 19, 26
        (32, 2, [0] * 5),  # exactly 16 items
        (18, 2, [0] * 5),
    ],
)
def test_test_clips_start_where_the_worked_examples_say(frames, stride, starts):
    assert windows_of_test(frames, spec(stride=stride))[:, 0].tolist() == starts


def test_test_clips_are_consecutive_strided_frames_and_a_short_video_repeats_its_last():
    assert windows_of_test(79, spec())[2].tolist() == list(range(24, 56, 2))
    assert windows_of_test(18, spec())[0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 16, 16, 16, 16, 16, 16, 16]


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 20), st.integers(1, 6), st.integers(1, 7))
def test_test_clips_stay_inside_and_reach_from_the_first_to_the_last_strided_frame(frames, count, stride, clips):
    windows = windows_of_test(frames, spec(count, stride), clips)
    assert windows.shape == (clips, count)
    assert windows.min() >= 0 and windows.max() < frames
    assert set(np.unique(np.diff(windows, axis=1))) <= {0, stride}
    if clips > 1:
        assert windows[0, 0] == 0 and windows[-1, -1] == (frames - 1) // stride * stride


def test_the_central_clip_leaves_as_much_before_as_after():
    assert windows_of_test(79, spec(), clips=1)[0, 0] == 24
    assert windows_of_test(10, spec(4, 2), clips=1).tolist() == [[0, 2, 4, 6]]  # five items, one to spare


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 20), st.integers(1, 6))
def test_tiles_hold_every_strided_frame_in_as_few_clips_as_that_takes(frames, count, stride):
    windows = tile_windows(frames, spec(count, stride))
    strided = range(0, frames, stride)
    assert sorted(set(windows.ravel().tolist())) == list(strided)
    assert len(windows) == max(1, -(-len(strided) // count))
    assert set(np.unique(np.diff(windows, axis=1))) <= {0, stride}


def test_videomae_samples_a_short_video_as_a_whole_then_repeats_the_last_frame():
    window = train_window(18, spec(sampling="videomae"), np.random.default_rng(0))
    assert window.tolist() == [0, 2, 4, 6, 9, 11, 13, 15] + [17] * 8


def test_videomae_windows_span_t_times_stride_frames_and_end_before_their_end():
    first, last = Fixed(last=False), Fixed(last=True)
    early = train_window(79, spec(sampling="videomae"), first)
    late = train_window(79, spec(sampling="videomae"), last)
    assert first.asked == [(32, 79)]
    # floor of 0, 2.13, 4.27, ... in steps of 32 / 15, the last clipped from 32 to 31
    assert early.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31]
    assert late[0] == 46 and late[-1] == 77


def test_exact_windows_are_stride_apart_and_every_start_that_fits_is_drawn():
    starts = {tuple(train_window(40, spec(8, 4), np.random.default_rng(s))) for s in range(300)}
    assert starts == {tuple(range(s, s + 32, 4)) for s in range(12)}  # 40 - 7 x 4 = 12 starts


def test_an_exact_window_of_a_short_video_repeats_the_last_frame():
    assert train_window(5, spec(6, 2), np.random.default_rng(0)).tolist() == [0, 2, 4, 4, 4, 4]


@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 20),
    st.integers(1, 6),
    st.sampled_from(["exact", "videomae"]),
    st.integers(0, 9),
)
def test_training_windows_never_leave_the_video_nor_run_backwards(frames, count, stride, sampling, seed):
    window = train_window(frames, spec(count, stride, sampling), np.random.default_rng(seed))
    assert window.shape == (count,) and window.dtype == np.int64
    assert window.min() >= 0 and window.max() < frames
    assert (np.diff(window) >= 0).all()


def test_the_three_crops_of_a_4_to_3_video_lie_at_0_18_and_37():
    plane, offsets = crop_offsets(240, 320, 112)
    assert plane == (112, 149)
    assert offsets.tolist() == [[0, 0], [0, 18], [0, 37]]


def test_crops_of_an_upright_video_move_down():
    plane, offsets = crop_offsets(320, 240, 112)
    assert plane == (149, 112)
    assert offsets.tolist() == [[0, 0], [18, 0], [37, 0]]


def test_crops_of_a_square_video_are_equal_and_a_single_crop_is_central():
    assert (crop_offsets(77, 77, 32)[1] == 0).all()
    assert crop_offsets(240, 320, 112, crops=1)[1].tolist() == [[0, 18]]


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 128), st.integers(1, 5))
def test_crops_lie_inside_their_plane(height, width, size, crops):
    plane, offsets = crop_offsets(height, width, size, crops)
    assert min(plane) == size
    assert (offsets >= 0).all() and (offsets + size <= plane).all()
