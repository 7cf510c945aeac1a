"""Videos of which only some private attributes are labelled: recognizers learn from those, methods from none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stp_bench.clips import Anonymized, Clips, Labelled
from stp_bench.clipstore import Augment, Store, StoreRecipe, open_store, train_loader
from stp_bench.config import clip_spec, preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.index import read_index
from stp_bench.recognizers import Recognizer, Setting
from stp_bench.schema import Probe, SplitRef, Target, Video

RUN = preset("tiny")
VIT = vit_spec(RUN, image_weights=False)
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender", "nudity"), private=True)
REF = SplitRef(benchmark="toy", part="train", split=1)


def recognizer(unit: str, partial: bool) -> Recognizer:
    probe = Probe(name=unit, target="privacy", unit=unit, train=REF, test=REF)  # type: ignore[arg-type]
    return Recognizer(probe, PRIVACY, Setting(VIT, RUN, "none", "cpu", 0, partial=partial))


def learn(judge: Recognizer, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Loss of one update, and the head's biases after it, which start from zero."""
    torch.manual_seed(0)
    shape = (len(labels), 3, VIT.frames, VIT.size, VIT.size)
    clips = Clips(torch.rand(shape, generator=torch.Generator().manual_seed(1)))
    loss = judge.learn(Anonymized(clips.x_BCTHW), Labelled(clips, None, labels), 0.5)
    return float(loss), judge.network.head.bias.detach().clone()


@pytest.mark.parametrize("unit", ["video", "frame"])
def test_an_attribute_without_labels_teaches_nothing(unit: str) -> None:
    labels = torch.tensor([[0.0, -1, 1], [1, -1, -1], [1, -1, 0], [0, -1, 1]])
    _, bias = learn(recognizer(unit, partial=True), labels)
    assert bias[1] == 0 and (bias[[0, 2]] != 0).all()


@pytest.mark.parametrize("unit", ["video", "frame"])
def test_complete_labels_teach_the_same_whether_some_could_be_missing_or_not(unit: str) -> None:
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    found, expected = (learn(recognizer(unit, partial), labels) for partial in (True, False))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1])


def test_batches_hold_unlabelled_attributes_only_where_they_are_asked_for(tiny: Path, tmp_path: Path) -> None:
    dataset = read_index(tiny)
    privacy, first = dataset.benchmark.privacy, dataset.videos[0]
    known = first.labels[privacy.name]
    assert known is not None
    labels = {**first.labels, privacy.name: (-1, *known[1:])}
    videos = (replace(first, labels=labels), *dataset.videos[1:4])
    store = open_store(dataset, StoreRecipe.for_crop(RUN.size, "raw"), tmp_path)

    def batches(videos: tuple[Video, ...], store: Store = store, **more: bool) -> list[Labelled]:
        load = train_loader(
            store, videos, clip_spec(RUN, 2), Augment(), batch=4, seed=0, device="cpu", action=None, privacy=privacy,
            boxes=False, **more,
        )  # fmt: skip
        return list(load(0))

    (batch,) = batches(videos, partial=True)
    assert batch.privacy_BK is not None and int((batch.privacy_BK == -1).sum()) == 1
    with pytest.raises(UserError, match=rf"1 training videos have .* for some classes only.*{first.video_id}"):
        batches(videos)
    nothing = replace(first, labels={**first.labels, privacy.name: None})
    with pytest.raises(UserError, match="1 training videos have no privacy label"):
        batches((nothing, *videos[1:]), partial=True)
