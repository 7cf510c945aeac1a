"""The networks of the learned baselines: published sizes, frames on their own, ranges."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from stp_baselines.nets import (
    ActionCnn,
    Embedder,
    FrameCnn,
    FrameCnnName,
    ITNet,
    LossNet,
    TransNet,
    UNet,
    each_frame,
    look,
)
from stp_bench.config import preset, vit_spec
from stp_bench.vit import VideoVit

TINY = vit_spec(preset("tiny"), image_weights=False)
TRANSFORMS = {
    "transnet": lambda: TransNet(8),
    "itnet": lambda: ITNet(8),
    "unet": lambda: UNet(8),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*(shape or (2, 3, 4, 32, 32)), generator=torch.Generator().manual_seed(seed))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert count(TransNet()) == 168_835
        assert count(TransNet(16)) == 42_947
        assert count(UNet()) == 17_267_523
        embedder = Embedder(FrameCnn("resnet50", 2048), 2048)
    # trunk without its classifier; 2048 -> 2048 -> 128 with biases
    assert count(embedder) == 23_508_032 + 4_458_624
    itnet = ITNet()
    assert count(itnet) == 1_677_638
    assert sum(p.numel() for p in itnet.parameters() if p.ndim == 4) == 1_674_432
    assert sum(p.numel() for p in itnet.parameters() if p.ndim == 1) == 3_206


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_keeps_the_size_and_the_range(name: str) -> None:
    torch.manual_seed(0)
    out = each_frame(TRANSFORMS[name](), noise(1, 3, 2, 48, 32))
    assert out.shape == (1, 3, 2, 48, 32) and out.dtype == torch.float32
    assert out.min() > 0 and out.max() < 1


@pytest.mark.parametrize("name", TRANSFORMS)
def test_permuting_frames_permutes_the_output(name: str) -> None:
    torch.manual_seed(0)
    network, x, order = TRANSFORMS[name]().eval(), noise(), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(each_frame(network, x[:, :, order]), each_frame(network, x)[:, :, order])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_frame_does_not_depend_on_the_others(name: str) -> None:
    torch.manual_seed(0)
    network, x = TRANSFORMS[name]().eval(), noise()
    other = x.clone()
    other[1], other[0, :, 1:] = 0.5, 1.0
    with torch.no_grad():
        torch.testing.assert_close(each_frame(network, other)[0, :, 0], each_frame(network, x)[0, :, 0])


def test_frames_beyond_one_piece_are_transformed_like_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, x = UNet(8).eval(), noise()
    with torch.no_grad():
        whole = each_frame(network, x)
        monkeypatch.setattr("stp_baselines.nets.AT_ONCE", 3)
        torch.testing.assert_close(each_frame(network, x), whole)


def test_before_the_tanh_a_frame_has_neither_color_nor_contrast_of_its_own() -> None:
    torch.manual_seed(0)
    network = ITNet(8)
    before = network.body(noise(3, 3, 32, 32))
    torch.testing.assert_close(before.mean((2, 3)), torch.zeros(3, 3), atol=1e-4, rtol=0)
    # variance / (variance + 0.001): below 1 by what the norm's eps takes
    torch.testing.assert_close(before.var((2, 3), unbiased=False), torch.ones(3, 3), atol=0.01, rtol=0)


def test_a_gray_output_has_equal_channels_with_the_mean_of_the_colored_one() -> None:
    torch.manual_seed(0)
    network, x = ITNet(8), noise(1, 3, 32, 32)
    colored = network(x)
    network.gray = True
    torch.testing.assert_close(network(x), colored.mean(1, keepdim=True).expand_as(x))


def test_without_its_sigmoid_transnet_is_unbounded() -> None:
    torch.manual_seed(0)
    bounded, linear = TransNet(8), TransNet(8, bounded=False)
    linear.load_state_dict(bounded.state_dict())
    x = noise(1, 3, 32, 32)
    torch.testing.assert_close(linear(x).sigmoid(), bounded(x))


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_looking_at_a_recognizer_gives_its_answer_and_two_normalized_taps(depth: int) -> None:
    torch.manual_seed(0)
    network, x = VideoVit(dataclasses.replace(TINY, depth=depth), 3).eval(), noise()
    looked = look(network, x)
    torch.testing.assert_close(looked.logits_BK, network(x))
    for tap in (looked.middle_BMC, looked.last_BMC):
        assert tap.shape == (2, TINY.slots * TINY.tubelets, TINY.dim)
        torch.testing.assert_close(tap.mean(-1), torch.zeros(tap.shape[:2]), atol=1e-5, rtol=0)
    assert torch.equal(looked.middle_BMC, looked.last_BMC) == (depth == 1)


def test_lossnet_averages_the_answers_of_frames() -> None:
    torch.manual_seed(0)
    network, x = LossNet(3, 32).eval(), noise()
    looked = network.look(x)
    assert looked.middle_BMC.shape == (2, 4 * 32 * 32, 16) and looked.last_BMC.shape == (2, 4 * 16 * 16, 32)
    single = torch.stack([network.look(x[:, :, t : t + 1]).logits_BK for t in range(4)])
    torch.testing.assert_close(looked.logits_BK, single.mean(0))


def test_the_dilated_action_model_keeps_time_in_its_last_stage() -> None:
    shapes = {}
    for dilated in (False, True):
        network = ActionCnn(5, dilated=dilated).eval()
        network.network.layer4.register_forward_hook(lambda m, i, out, d=dilated: shapes.update({d: out.shape}))
        assert network(noise(1, 3, 8, 32, 32)).shape == (1, 5)
    assert shapes == {False: (1, 512, 1, 2, 2), True: (1, 512, 2, 2, 2)}


@pytest.mark.parametrize("name", ["resnet50", "resnext50", "mobilenet", "mobilenet-0.75"])
def test_published_image_networks_answer_for_single_frames(name: FrameCnnName) -> None:
    assert FrameCnn(name, 5).eval()(noise(2, 3, 1, 32, 32)).shape == (2, 5)


def test_an_embedding_is_a_unit_vector() -> None:
    embedded = Embedder(VideoVit(dataclasses.replace(TINY, frames=1, tubelet=1, temporal_gain=0.0), 24), 24)(
        noise(3, 3, 1, 32, 32)
    )
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
