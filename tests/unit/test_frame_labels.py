"""Labels of single frames: looked up with the clips they belong to, learned from, and scored frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stp_bench.clips import Anonymized, Clips, Labelled, tile_windows
from stp_bench.clipstore import Augment, FrameLabels, StoreRecipe, open_store, tile_batches, train_loader
from stp_bench.config import preset, vit_spec
from stp_bench.errors import UserError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.losses import group_mean, hit_rate, recognition_loss
from stp_bench.progress import Silent
from stp_bench.recognizers import Recognizer, Setting, predict_frames
from stp_bench.schema import Benchmark, ClipSpec, Probe, Span, SplitRef, Target, Video
from stp_bench.video_io import write_video

ACTION = Target(name="action", kind="multiclass", classes=("run", "jump"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
TAGS = dataclasses.replace(PRIVACY, classes=("a", "b", "c"), groups=(("one", 1), ("two", 2)))
CLIP = ClipSpec(frames=4, stride=2, size=32, sampling="exact")
LENGTHS = (20, 5, 9)
SPANS = (
    (Span(start=2, end=9, labels=(1, 0)), Span(start=10, end=18, labels=(0, 1))),
    (Span(start=0, end=9, labels=(1, -1)),),  # beyond the end, and one attribute that nobody labelled
    (Span(start=0, end=2, labels=(0, 0)), Span(start=5, end=8, labels=(1, 1))),  # a hole
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three videos, each frame of its own gray."""
    root = tmp_path_factory.mktemp("frames")
    videos, facts = [], {}
    for number, (length, spans) in enumerate(zip(LENGTHS, SPANS, strict=True)):
        path = root / "videos" / f"v{number}.avi"
        gray = [np.full((36, 36, 3), 12 * t + 4 * number, np.uint8) for t in range(length)]
        write_video(path, gray, 12, codec="mpeg4")
        some = tuple(max(s.labels[k] for s in spans) for k in range(2))
        videos.append(
            Video(
                video_id=f"v{number}", relpath=f"videos/v{number}.avi", group=None, frames=length, height=36, width=36,
                fps=12.0, labels={"action": (number % 2,), "privacy": some}, spans={"privacy": spans},
            )
        )  # fmt: skip
        facts[f"v{number}"] = (path.stat().st_size, sha256_file(path))
    benchmark = Benchmark(name="toy", title="Toy", version=1, targets=(ACTION, PRIVACY), stride=2, splits=1)
    write_index(root, benchmark, videos, {1: {v.video_id: "train" for v in videos}}, facts)
    return read_index(root)


def label(video: int, frame: int) -> list[int]:
    """What the spans above say, frame by frame."""
    return next((list(s.labels) for s in SPANS[video] if s.start <= frame <= s.end), [-1, -1])


def test_spans_come_back_from_the_index(dataset: Dataset) -> None:
    assert [v.spans["privacy"] for v in dataset.videos] == list(SPANS)


def test_spans_move_the_digest(dataset: Dataset) -> None:
    moved = dataclasses.replace(dataset.videos[0], spans={"privacy": SPANS[0][:1]})
    assert dataset.digest([moved]) != dataset.digest(dataset.videos[:1])


def test_every_frame_has_the_labels_of_its_span_and_a_frame_outside_all_has_none(dataset: Dataset) -> None:
    known = FrameLabels(dataset.videos, PRIVACY)
    for video, length in enumerate(LENGTHS):
        found = known.at([video], np.arange(length)[None])[0].tolist()
        assert found == [label(video, t) for t in range(length)]
    # another decoder may find a frame more: it takes no label from the video that follows
    assert known.at([1], np.array([[5]])).tolist() == [[[-1, -1]]]


def test_a_video_without_frame_labels_is_refused(dataset: Dataset) -> None:
    bare = dataclasses.replace(dataset.videos[1], spans={})
    with pytest.raises(UserError, match="v1"):
        FrameLabels([dataset.videos[0], bare], PRIVACY)


def test_training_batches_carry_the_labels_of_exactly_their_frames(dataset: Dataset, tmp_path: Path) -> None:
    store = open_store(dataset, StoreRecipe(side=36, encoding="raw"), tmp_path)
    load = train_loader(
        store, dataset.videos, CLIP, Augment(), batch=3, seed=0, device="cpu", action=ACTION, privacy=None,
        boxes=False, frame_labels=PRIVACY,
    )  # fmt: skip
    for epoch in range(3):
        (batch,) = list(load(epoch))
        assert batch.privacy_BTK is not None and batch.privacy_BTK.dtype == torch.float32
        # The gray of a frame tells its video and number: 4 v + 12 t, give or take the codec's rounding.
        gray = (batch.clips.x_BCTHW.mean(dim=(1, 3, 4)) * 255).round().int()
        for row, labels in zip(gray.tolist(), batch.privacy_BTK.int().tolist(), strict=True):
            video = min(range(3), key=lambda v: abs((row[0] - 4 * v + 6) % 12 - 6))
            assert labels == [label(video, round((g - 4 * video) / 12)) for g in row]


class Gray:
    """Leaves clips as they are."""

    def anonymize(self, clips: Clips) -> Anonymized:
        return Anonymized(clips.x_BCTHW)


def recognizer() -> Recognizer:
    ref = SplitRef(benchmark="toy", part="train", split=1)
    probe = Probe(name="frame", target="privacy", unit="frame", train=ref, test=ref, judged="frame")
    run = preset("tiny")
    return Recognizer(probe, PRIVACY, Setting(vit_spec(run, image_weights=False), run, "none", "cpu", 0))


def test_every_strided_frame_is_scored_once_by_the_mean_over_the_views_that_hold_it(
    dataset: Dataset, tmp_path: Path
) -> None:
    store = open_store(dataset, StoreRecipe(side=36, encoding="raw"), tmp_path)
    views = tile_batches(store, dataset.videos, CLIP, crops=3, batch=4, device="cpu", boxes=False)
    judge = recognizer()
    scores, units = predict_frames(Gray(), "gray", [judge], views.with_frames(), list(LENGTHS), Silent())  # type: ignore[arg-type]
    assert units.tolist() == [[v, t] for v, n in enumerate(LENGTHS) for t in range(0, n, 2)]
    # A frame's scores are those of the frame alone, whichever clip it came in: gray frames make all crops alike.
    for (video, frame), found in zip(units.tolist(), scores["frame"], strict=True):
        x = (
            torch.from_numpy(store.read(f"v{video}", np.array([frame]))).permute(3, 0, 1, 2)[None, :, :, 2:34, 2:34]
            / 255
        )
        alone = judge.frame_scores(Anonymized(x))[0, 0]
        np.testing.assert_allclose(found, alone.numpy(), atol=2e-3)
    assert sum(len(tile_windows(n, CLIP)) for n in LENGTHS) * 3 == sum(len(v) for v, _, _ in views.with_frames())


def test_a_frame_recognizer_learns_from_labelled_frames_only() -> None:
    x = torch.rand(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = torch.zeros(4, 2)

    def learned(frames: torch.Tensor) -> list[torch.Tensor]:
        judge = recognizer()
        torch.manual_seed(0)
        judge.learn(Anonymized(x), Labelled(Clips(x), torch.zeros(4).long(), whole, frames), 0.5)
        return [p.detach().clone() for p in judge.network.parameters()]

    unlabelled = torch.full((4, 4, 2), -1.0)
    present, absent = unlabelled.clone(), unlabelled.clone()
    present[..., 0], absent[..., 0] = 1, 0
    assert any(not torch.equal(a, b) for a, b in zip(learned(present), learned(absent), strict=True))
    # With one class labelled alike, the labels of videos or of the other class change nothing.
    assert all(torch.equal(a, b) for a, b in zip(learned(present), learned(present.clone()), strict=True))


# Losses


def rows(count: int, classes: int) -> Iterator[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    yield torch.randn(count, classes, generator=draw)
    yield (torch.rand(count, classes, generator=draw) < 0.5).float()


def test_unlabelled_entries_count_for_nothing() -> None:
    logits, labels = rows(6, 2)
    partial = labels.clone()
    partial[2:, 1] = -1
    loss = recognition_loss(logits, partial, PRIVACY, partial=True)
    parts = [recognition_loss(logits[:n, k : k + 1], labels[:n, k : k + 1], PRIVACY) for k, n in ((0, 6), (1, 2))]
    torch.testing.assert_close(loss, torch.stack(parts).mean())
    assert recognition_loss(logits, torch.full_like(labels, -1), PRIVACY, partial=True) == 0
    torch.testing.assert_close(
        recognition_loss(logits, labels, PRIVACY, partial=True), recognition_loss(logits, labels, PRIVACY)
    )


def test_each_group_of_classes_counts_alike_however_many_it_has() -> None:
    logits, labels = rows(5, 3)
    each = [recognition_loss(logits[:, [k]], labels[:, [k]], PRIVACY) for k in range(3)]
    torch.testing.assert_close(recognition_loss(logits, labels, TAGS), (each[0] + (each[1] + each[2]) / 2) / 2)
    assert group_mean(torch.tensor([1.0, 2, 4]), TAGS.groups) == 2


@pytest.mark.parametrize(
    ("target", "labels", "share"),
    [(ACTION, torch.tensor([0, 1, 1]), 2 / 3), (PRIVACY, torch.tensor([[1.0, 0], [1, 0], [0, 0]]), 5 / 6)],
)
def test_hits_are_right_classes_or_right_answers(target: Target, labels: torch.Tensor, share: float) -> None:
    logits = torch.tensor([[1.0, -1], [2, -2], [-1, 1]])
    assert hit_rate(logits, labels, target) == pytest.approx(share)
