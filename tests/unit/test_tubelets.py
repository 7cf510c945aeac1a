"""Pixels, tubelets and keep decisions."""

from __future__ import annotations

import pytest
import torch

from stp_bench.schema import VitSpec
from stp_bench.tubelets import (
    assemble,
    from_temporal_basis,
    keep_to_mask,
    resample_keep,
    temporal_gain,
    to_temporal_basis,
    tokenize,
)

TINY = VitSpec(frames=4, size=32, tubelet=2, patch=8, dim=24, depth=4, heads=3, drop_path=0.0)


@pytest.mark.parametrize("tubelet", [1, 2, 4])
def test_assembling_the_values_of_every_tubelet_gives_the_clip_back(tubelet: int) -> None:
    vit = VitSpec(frames=4, size=24, tubelet=tubelet, patch=8)
    clip = torch.rand(2, 3, 4, 24, 24)
    assert torch.equal(assemble(tokenize(clip, vit), vit), clip)


def test_tokens_run_slot_by_slot_row_by_row_and_their_values_channel_fastest() -> None:
    clip = torch.rand(1, 3, 4, 32, 32)
    tokens = tokenize(clip, TINY)
    # token 1*16 + 2*4 + 3 = slot 1, row 2, column 3; value ((1*8 + 5)*8 + 6)*3 + 2 = frame 1, pixel (5, 6), channel 2
    assert tokens[0, 27, (13 * 8 + 6) * 3 + 2] == clip[0, 2, 2 * 1 + 1, 2 * 8 + 5, 3 * 8 + 6]


def test_the_temporal_basis_holds_mean_and_scaled_difference_and_is_inverted() -> None:
    clip = torch.rand(2, 3, 4, 5, 5, dtype=torch.float64)
    changed = to_temporal_basis(clip, 8.0)
    torch.testing.assert_close(changed[:, :, 2], (clip[:, :, 2] + clip[:, :, 3]) / 2)
    torch.testing.assert_close(changed[:, :, 3], 8 * (clip[:, :, 3] - clip[:, :, 2]))
    torch.testing.assert_close(from_temporal_basis(changed, 8.0), clip)


def test_the_temporal_basis_needs_whole_frame_pairs() -> None:
    assert temporal_gain(VitSpec(tubelet=1, temporal_gain=8.0)) == 0
    assert temporal_gain(VitSpec(tubelet=4, temporal_gain=8.0)) == 8


def test_the_mask_of_a_decision_covers_exactly_the_kept_tubelets() -> None:
    keep = (torch.rand(2, TINY.slots, TINY.tubelets) > 0.5).float()
    values = keep.flatten(1).unsqueeze(-1).expand(-1, -1, 2 * 8 * 8)
    assert torch.equal(keep_to_mask(keep, 4, 32), assemble(values, TINY))


def test_a_decision_on_its_own_grid_is_left_alone() -> None:
    keep = (torch.rand(2, 2, 16) > 0.5).float()
    assert resample_keep(keep, TINY, TINY) is keep


def test_a_coarser_token_is_visible_if_any_of_its_pixels_is() -> None:
    coarse = VitSpec(frames=4, size=32, tubelet=4, patch=16)
    keep = torch.zeros(1, 2, 16)
    keep[0, 1, 7] = 1  # slot 1, row 1, column 3: upper right quarter
    assert resample_keep(keep, TINY, coarse).tolist() == [[[0, 1, 0, 0]]]


def test_a_single_frame_target_gets_the_decision_of_each_frames_slot() -> None:
    keep = (torch.rand(2, 2, 16) > 0.5).float()
    frame = VitSpec(frames=1, size=32, tubelet=1, patch=8)
    assert torch.equal(resample_keep(keep, TINY, frame), keep.repeat_interleave(2, 1))


def test_resampling_passes_gradients_on() -> None:
    keep = torch.ones(1, 2, 16, requires_grad=True)
    resample_keep(keep, TINY, VitSpec(frames=4, size=32, tubelet=4, patch=16)).sum().backward()
    assert keep.grad is not None
    assert keep.grad.sum() == 4
