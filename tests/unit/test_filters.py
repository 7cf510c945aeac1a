"""Raw data and downsampling: what the pure transforms promise. Axes: B clips, C channels, T frames, H, W pixels."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stp_baselines import DOWNSAMPLE_2X, DOWNSAMPLE_4X, RAW, DownsampleConfig
from stp_baselines.filters import downsample
from stp_bench.clips import Clips
from stp_bench.errors import UserError
from stp_bench.methods import MethodSpec
from stp_bench.schema import VitSpec

RESTORES = ("bilinear", "nearest")
FILTERS = ("area", "bicubic-antialias")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*(shape or (2, 3, 4, 32, 32)), generator=torch.Generator().manual_seed(seed))


def anonymize(spec: MethodSpec, x_BCTHW: Tensor, **overrides: str) -> Tensor:
    method = spec.make(spec.configure("paper", overrides), VitSpec())
    return method.anonymize(Clips(x_BCTHW)).x_BCTHW


def block_means(x_BCTHW: Tensor, factor: int) -> Tensor:
    return functional.avg_pool3d(x_BCTHW, (1, factor, factor))


def test_importing_the_specs_imports_no_torch() -> None:
    code = "import sys, stp_baselines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_raw_returns_its_input_bit_for_bit() -> None:
    x = noise()
    assert torch.equal(anonymize(RAW, x), x)


@pytest.mark.parametrize("spec", [RAW, DOWNSAMPLE_2X, DOWNSAMPLE_4X], ids=lambda s: s.name)
def test_fixed_filters_have_nothing_to_train_and_need_no_labels(spec: MethodSpec) -> None:
    assert not spec.learned and not spec.needs
    assert not spec.make(spec.configure("paper"), VitSpec()).parts()


@pytest.mark.parametrize("spec", [RAW, DOWNSAMPLE_2X, DOWNSAMPLE_4X], ids=lambda s: s.name)
def test_permuting_frames_permutes_the_output(spec: MethodSpec) -> None:
    x, order = noise(), torch.tensor([2, 0, 3, 1])
    assert torch.equal(anonymize(spec, x[:, :, order]), anonymize(spec, x)[:, :, order])


@pytest.mark.parametrize("restore", RESTORES)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [(32, 32), (30, 45), (3, 2), (1, 1)])
def test_a_constant_video_stays_as_it_is(restore: str, filter: str, value: float, size: tuple[int, int]) -> None:
    x = torch.full((1, 3, 2, *size), value)
    for spec in (DOWNSAMPLE_2X, DOWNSAMPLE_4X):
        assert torch.allclose(anonymize(spec, x, restore=restore, filter=filter), x, atol=1e-6)


@pytest.mark.parametrize("restore", RESTORES)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downsampling_is_linear(restore: str, factor: int) -> None:
    x, y = noise(seed=0), noise(seed=1)
    mixed = downsample(0.3 * x + 0.7 * y, factor, restore=restore)
    apart = 0.3 * downsample(x, factor, restore=restore) + 0.7 * downsample(y, factor, restore=restore)
    assert torch.allclose(mixed, apart, atol=1e-6)


@pytest.mark.parametrize("restore", RESTORES)
@pytest.mark.parametrize("factor", [2, 4])
def test_only_block_means_reach_the_output(restore: str, factor: int) -> None:
    x = noise()
    averaged = block_means(x, factor).repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    assert (x - averaged).abs().max() > 0.1
    assert torch.allclose(
        downsample(averaged, factor, restore=restore), downsample(x, factor, restore=restore), atol=1e-6
    )


@pytest.mark.parametrize("factor", [2, 4])
def test_nearest_restoring_keeps_the_mean_of_every_frame(factor: int) -> None:
    x = noise()
    kept = downsample(x, factor, restore="nearest")
    assert torch.allclose(kept.mean((-1, -2)), x.mean((-1, -2)), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.integers(1, 6),
    restore=st.sampled_from(RESTORES),
    seed=st.integers(0, 9),
)
def test_the_output_stays_within_the_range_of_the_input(
    height: int, width: int, factor: int, restore: str, seed: int
) -> None:
    x = noise(1, 3, 2, height, width, seed=seed)
    out = downsample(x, factor, restore=restore)
    assert out.shape == x.shape
    assert out.min() >= x.min() - 1e-6 and out.max() <= x.max() + 1e-6


@pytest.mark.parametrize("restore", RESTORES)
def test_four_times_is_two_times_twice_before_one_enlargement(restore: str) -> None:
    x = noise()
    twice = block_means(block_means(x, 2), 2).flatten(1, 2)
    enlarged = functional.interpolate(twice, size=x.shape[-2:], mode=restore).view(x.shape)
    assert torch.allclose(downsample(x, 4, restore=restore), enlarged, atol=1e-6)


def test_a_factor_of_one_changes_nothing() -> None:
    x = noise(1, 3, 2, 17, 31)
    assert torch.allclose(downsample(x, 1), x, atol=1e-6)


def test_the_factor_of_a_spec_is_the_one_in_its_name() -> None:
    x = noise()
    assert torch.equal(anonymize(DOWNSAMPLE_2X, x), downsample(x, 2))
    assert torch.equal(anonymize(DOWNSAMPLE_4X, x), downsample(x, 4))
    assert torch.equal(anonymize(DOWNSAMPLE_2X, x, factor="4"), anonymize(DOWNSAMPLE_4X, x))


def test_the_antialiased_filter_stays_in_range_where_it_would_overshoot() -> None:
    x = torch.zeros(1, 3, 1, 32, 32)
    x[..., 16:] = 1
    for restore in RESTORES:
        out = downsample(x, 2, restore=restore, filter="bicubic-antialias")
        assert out.min() >= 0 and out.max() <= 1


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="factor"):
        DownsampleConfig(factor=0)
    with pytest.raises(UserError, match="factor"):
        DOWNSAMPLE_2X.configure("paper", {"factor": "-2"})
