"""Blackening and blurs: what the pure transforms promise. Axes: B clips, C channels, T frames, M boxes, H, W pixels."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stp_baselines import BLACKENING, BLUR_STRONG, BLUR_WEAK, RegionConfig
from stp_baselines.regions import (
    Blackening,
    blacken,
    blur_matrix,
    box_mask,
    gaussian_blur,
    gaussian_kernel,
    scaled_blur,
)
from stp_bench.clips import Clips
from stp_bench.errors import UserError, WorkError
from stp_bench.methods import MethodSpec
from stp_bench.schema import VitSpec

SPECS = [BLACKENING, BLUR_WEAK, BLUR_STRONG]
BLURS = [BLUR_WEAK, BLUR_STRONG]
SIDE = 32
CPU = torch.device("cpu")

each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
each_blur = pytest.mark.parametrize("spec", BLURS, ids=lambda s: s.name)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*(shape or (2, 3, 4, SIDE, SIDE)), generator=torch.Generator().manual_seed(seed))


def some_boxes(seed: int = 0, *, batch: int = 2, frames: int = 4, boxes: int = 2, side: int = SIDE) -> Tensor:
    """Boxes at quarter pixels (exact in float32), some of them partly outside the frame."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.randint(-8, 4 * side + 8, (batch, frames, boxes, 2, 2), generator=draw).sort(dim=3).values
    return corners.flatten(-2) / 4


def anonymize(spec: MethodSpec, x_BCTHW: Tensor, boxes_BTM4: Tensor | None = None, **overrides: str) -> Tensor:
    method = spec.make(spec.configure("paper", overrides), VitSpec())
    return method.anonymize(Clips(x_BCTHW, boxes_BTM4)).x_BCTHW


def naive_mask(boxes_BTM4: Tensor, height: int, width: int) -> Tensor:
    """The definition, pixel by pixel: a pixel is inside if its open square meets a box."""
    batch, frames, count, _ = boxes_BTM4.shape
    mask = torch.zeros(batch, 1, frames, height, width, dtype=torch.bool)
    for b in range(batch):
        for t in range(frames):
            for m in range(count):
                x1, y1, x2, y2 = boxes_BTM4[b, t, m].tolist()
                for y in range(height):
                    for x in range(width):
                        touches = max(x1, x) < min(x2, x + 1) and max(y1, y) < min(y2, y + 1)
                        mask[b, 0, t, y, x] |= touches
    return mask


# --- masks ---


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), boxes=st.integers(0, 3), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_mask_covers_exactly_the_pixels_that_a_box_touches(seed: int, boxes: int, height: int, width: int) -> None:
    boxes_BTM4 = some_boxes(seed, frames=2, boxes=boxes, side=8)
    assert torch.equal(box_mask(boxes_BTM4, height, width), naive_mask(boxes_BTM4, height, width).float())


def test_padding_and_inverted_boxes_cover_nothing_even_when_dilated() -> None:
    boxes = torch.tensor([[[[0.0, 0, 0, 0], [9, 9, 4, 4], [5, 2, 5, 9]]]])
    assert not box_mask(boxes, SIDE, SIDE, dilate=3.0).any()


def test_dilation_grows_a_box_on_every_side() -> None:
    grown = box_mask(torch.tensor([[[[10.0, 12, 14, 20]]]]), SIDE, SIDE, dilate=2.0)
    assert torch.equal(grown, box_mask(torch.tensor([[[[8.0, 10, 16, 22]]]]), SIDE, SIDE))


def test_dilation_scales_with_the_frame() -> None:
    x, box = noise(1, 3, 1, 56, 56), torch.tensor([[[[20.0, 20, 30, 30]]]])
    scaled = anonymize(BLACKENING, x, box, dilate="4")  # 4 pixels at 112 are 2 at 56
    assert torch.equal(scaled, blacken(x, box_mask(box, 56, 56, dilate=2.0)))


# --- both kinds of methods ---


@each_spec
def test_a_clip_without_any_box_is_left_alone(spec: MethodSpec) -> None:
    x = noise()
    assert torch.equal(anonymize(spec, x, torch.zeros(2, 4, 1, 4)), x)
    assert torch.equal(anonymize(spec, x, torch.zeros(2, 4, 0, 4)), x)


@each_spec
def test_pixels_outside_the_boxes_are_untouched_bit_for_bit(spec: MethodSpec) -> None:
    x, boxes = noise(), some_boxes()
    outside = box_mask(boxes, SIDE, SIDE).expand(x.shape) == 0
    out = anonymize(spec, x, boxes)
    assert outside.any() and torch.equal(out[outside], x[outside])
    assert not torch.equal(out, x)


@each_spec
def test_flipping_clip_and_boxes_flips_the_output(spec: MethodSpec) -> None:
    x, boxes = noise(), some_boxes()
    x1, y1, x2, y2 = boxes.unbind(-1)
    flipped = torch.stack([SIDE - x2, y1, SIDE - x1, y2], dim=-1)
    assert torch.allclose(anonymize(spec, x.flip(-1), flipped), anonymize(spec, x, boxes).flip(-1), atol=1e-6)


@each_spec
@pytest.mark.parametrize("regions", ["boxes", "full_frame"])
def test_permuting_frames_with_their_boxes_permutes_the_output(spec: MethodSpec, regions: str) -> None:
    x, boxes, order = noise(), some_boxes(), torch.tensor([2, 0, 3, 1])
    permuted = anonymize(spec, x[:, :, order], boxes[:, order], regions=regions)
    assert torch.equal(permuted, anonymize(spec, x, boxes, regions=regions)[:, :, order])


@each_spec
def test_auto_means_boxes_where_there_are_some_and_the_whole_frame_elsewhere(spec: MethodSpec) -> None:
    x, boxes = noise(), some_boxes()
    assert torch.equal(anonymize(spec, x, boxes), anonymize(spec, x, boxes, regions="boxes"))
    assert torch.equal(anonymize(spec, x), anonymize(spec, x, boxes, regions="full_frame"))


@each_spec
def test_the_variant_names_the_regions_without_running(spec: MethodSpec) -> None:
    def variant(regions: str, has_boxes: bool) -> object:
        method = spec.make(spec.configure("paper", {"regions": regions}), VitSpec())
        return method.variant(has_boxes)  # type: ignore[attr-defined]

    assert [variant("auto", True), variant("auto", False)] == ["boxes", "full_frame"]
    assert [variant("boxes", True), variant("full_frame", True)] == ["boxes", "full_frame"]


def test_falling_back_to_the_whole_frame_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    method = Blackening(RegionConfig(), VitSpec())
    asked = Blackening(RegionConfig(regions="full_frame"), VitSpec())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            method.anonymize(Clips(noise()))
            asked.anonymize(Clips(noise()))
    assert len(caplog.records) == 1


@each_spec
def test_asking_for_boxes_that_nobody_has_is_an_error(spec: MethodSpec) -> None:
    with pytest.raises(UserError, match="no person boxes"):
        anonymize(spec, noise(), regions="boxes")


@each_spec
def test_frames_without_a_box_follow_on_missing(spec: MethodSpec) -> None:
    x, boxes = noise(), some_boxes()
    boxes[:, 1] = 0
    whole = anonymize(spec, x, regions="full_frame")
    kept, filled = anonymize(spec, x, boxes), anonymize(spec, x, boxes, on_missing="full_frame")
    assert torch.equal(kept[:, :, 1], x[:, :, 1])
    assert torch.equal(filled[:, :, 1], whole[:, :, 1])
    assert torch.equal(filled[:, :, [0, 2, 3]], kept[:, :, [0, 2, 3]])
    with pytest.raises(WorkError, match="2 of 8 frames"):
        anonymize(spec, x, boxes, on_missing="error")


@each_spec
def test_on_missing_error_lets_clips_with_all_their_boxes_pass(spec: MethodSpec) -> None:
    x, boxes = noise(), torch.tensor([4.0, 4, 20, 20]).expand(2, 4, 1, 4)
    assert torch.equal(anonymize(spec, x, boxes, on_missing="error"), anonymize(spec, x, boxes))


# --- blackening ---


def test_the_whole_frame_becomes_black() -> None:
    assert not anonymize(BLACKENING, noise(), regions="full_frame").any()


def test_what_is_inside_a_box_does_not_matter() -> None:
    x, boxes = noise(), some_boxes()
    inside = box_mask(boxes, SIDE, SIDE) > 0
    other = torch.where(inside, noise(seed=1), x)
    assert not torch.equal(other, x)
    assert torch.equal(anonymize(BLACKENING, other, boxes), anonymize(BLACKENING, x, boxes))


def test_blackening_twice_is_blackening_once() -> None:
    x, boxes = noise(), some_boxes()
    once = anonymize(BLACKENING, x, boxes)
    assert torch.equal(anonymize(BLACKENING, once, boxes), once)


# --- blurs ---


@pytest.mark.parametrize(("kernel", "sigma"), [(21, 10.0), (13, 10.0), (7, 1.0), (1, 10.0)])
def test_the_kernel_is_symmetric_and_sums_to_one(kernel: int, sigma: float) -> None:
    weights = gaussian_kernel(kernel, sigma)
    assert len(weights) == kernel
    assert torch.equal(weights, weights.flip(0))
    assert abs(float(weights.sum()) - 1) < 1e-12


def test_kernel_weights_follow_the_gaussian() -> None:
    # sigma 1, offsets -1, 0, 1: e^-0.5 = 0.606531, the sum is 2.213061;
    # 0.606531 / 2.213061 = 0.274069 and 1 / 2.213061 = 0.451863
    expected = torch.tensor([0.274069, 0.451863, 0.274069], dtype=torch.float64)
    assert torch.allclose(gaussian_kernel(3, 1.0), expected, atol=1e-6)


def test_strong_and_weak_differ_as_their_effective_widths_say() -> None:
    # A Gaussian of sigma 10 cut at 21 and at 13 pixels has standard deviations 5.62 and 3.64.
    def width(kernel: int) -> float:
        offsets = torch.arange(kernel) - kernel // 2
        return float((gaussian_kernel(kernel, 10.0) * offsets**2).sum().sqrt())

    assert width(21) == pytest.approx(5.62, abs=0.005)
    assert width(13) == pytest.approx(3.64, abs=0.005)


@pytest.mark.parametrize(
    ("kernel", "side", "expected"),
    [(21, 112, 21), (13, 112, 13), (21, 32, 7), (13, 32, 5), (21, 240, 45), (13, 240, 29), (13, 8, 1), (21, 1080, 203)],
)
def test_kernels_scale_to_the_next_odd_size_up(kernel: int, side: int, expected: int) -> None:
    # 21 x 32 / 112 = 6 -> 7; 13 x 32 / 112 = 3.7 -> 5; 21 x 240 / 112 = 45; 13 x 240 / 112 = 27.9 -> 29
    assert scaled_blur(kernel, 10.0, side) == (expected, pytest.approx(10.0 * side / 112))


@each_blur
@pytest.mark.parametrize("size", [(112, 112), (32, 32), (30, 45), (2, 3), (1, 1)])
def test_a_constant_video_stays_constant(spec: MethodSpec, size: tuple[int, int]) -> None:
    for value in (0.0, 0.3, 1.0):
        x = torch.full((1, 3, 2, *size), value)
        assert torch.allclose(anonymize(spec, x), x, atol=1e-6)


@each_blur
def test_blurred_values_stay_within_zero_and_one(spec: MethodSpec) -> None:
    x = noise().round()
    for out in (anonymize(spec, x), anonymize(spec, x, some_boxes()), anonymize(spec, torch.ones_like(x))):
        assert out.min() >= 0 and out.max() <= 1


def test_a_stronger_blur_leaves_less_variance() -> None:
    x = noise(1, 3, 2, 112, 112)
    raw, weak, strong = x, anonymize(BLUR_WEAK, x), anonymize(BLUR_STRONG, x)
    for t in range(2):
        assert strong[:, :, t].var() <= weak[:, :, t].var() <= raw[:, :, t].var()


@each_blur
def test_an_impulse_becomes_the_outer_product_of_the_kernel(spec: MethodSpec) -> None:
    x = torch.zeros(1, 3, 1, 112, 112)
    x[..., 50, 60] = 1
    kernel = spec.configure("paper").kernel
    weights, r = gaussian_kernel(kernel, 10.0).float(), kernel // 2
    expected = torch.zeros(112, 112)
    expected[50 - r : 50 + r + 1, 60 - r : 60 + r + 1] = torch.outer(weights, weights)
    assert torch.allclose(anonymize(spec, x)[0, 0, 0], expected, atol=1e-7)


@pytest.mark.parametrize(("height", "width", "kernel"), [(24, 31, 7), (12, 40, 23), (112, 112, 21)])
def test_the_blur_equals_a_convolution_with_reflect_padding(height: int, width: int, kernel: int) -> None:
    x, r = noise(2, 3, 2, height, width), kernel // 2
    weights = gaussian_kernel(kernel, 3.0).float()
    padded = functional.pad(x.flatten(0, 2)[:, None], (r, r, r, r), mode="reflect")
    expected = functional.conv2d(padded, torch.outer(weights, weights)[None, None]).view(x.shape)
    assert torch.allclose(gaussian_blur(x, kernel, 3.0), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 12), kernel=st.integers(0, 20).map(lambda r: 2 * r + 1))
def test_lines_shorter_than_the_kernel_are_mirrored_back_and_forth(size: int, kernel: int) -> None:
    # Mirror a line by hand: 0 1 2 -> ... 2 1 | 0 1 2 | 1 0 1 2 1 ...
    mirrored, step, at = [], 1, 0
    line = torch.arange(size, dtype=torch.float64)
    for _ in range(size + 2 * kernel):
        mirrored.append(float(line[at]))
        if size > 1:
            step = 1 if at == 0 else -1 if at == size - 1 else step
            at += step
    weights, r = gaussian_kernel(kernel, 4.0), kernel // 2
    right = torch.tensor(mirrored)  # starts at pixel 0 and runs to the right, so it is also the mirror of the left side
    for i in range(size):
        values = torch.stack([right[abs(i + o)] for o in range(-r, r + 1)])
        blurred = blur_matrix(size, kernel, 4.0, CPU)[i].double() @ line
        assert float(blurred) == pytest.approx(float((weights * values).sum()), abs=1e-5)


def test_the_blur_is_computed_on_whole_frames_before_boxes_are_cut_out() -> None:
    x, boxes = noise(), some_boxes()
    inside = box_mask(boxes, SIDE, SIDE).expand(x.shape) > 0
    whole = anonymize(BLUR_STRONG, x, regions="full_frame")
    assert torch.equal(anonymize(BLUR_STRONG, x, boxes)[inside], whole[inside])


def test_autocast_changes_nothing() -> None:
    x = noise()
    for spec in SPECS:
        with torch.autocast("cpu", torch.bfloat16):
            cast = anonymize(spec, x, some_boxes())
        assert cast.dtype == torch.float32 and torch.equal(cast, anonymize(spec, x, some_boxes()))


# --- options ---


@pytest.mark.parametrize(
    "field", [{"kernel": "4"}, {"kernel": "-1"}, {"sigma": "0"}, {"sigma": "nan"}, {"dilate": "-1"}, {"dilate": "inf"}]
)
def test_impossible_sizes_are_refused_by_name(field: dict[str, str]) -> None:
    with pytest.raises(UserError, match=next(iter(field))):
        BLUR_STRONG.configure("paper", field)


def test_weak_and_strong_differ_only_in_their_kernel() -> None:
    x = noise(1, 3, 1, 112, 112)
    assert torch.equal(anonymize(BLUR_WEAK, x, kernel="21"), anonymize(BLUR_STRONG, x))
    assert not torch.equal(anonymize(BLUR_WEAK, x), anonymize(BLUR_STRONG, x))
