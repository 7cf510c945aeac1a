"""What a method that needs a holdout is not fitted on: whole groups, the same for every seed, central clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stp_baselines import VITA
from stp_bench import methods, protocols
from stp_bench.clipstore import StoreRecipe, center_batches, center_loader, open_store
from stp_bench.contract import Trial
from stp_bench.errors import UserError
from stp_bench.evaluate import evaluate
from stp_bench.index import read_index
from stp_bench.jobs import Job, Request, resolve
from stp_bench.progress import Silent
from stp_bench.protocols import hold_out
from stp_bench.schema import ClipSpec, Video


def video(name: str, group: str | None = None) -> Video:
    return Video(
        video_id=name, relpath=name, labels={}, group=group, frames=1, height=1, width=1, fps=25.0
    )  # fmt: skip


def names(videos: tuple[Video, ...]) -> list[str]:
    return [v.video_id for v in videos]


def test_a_tenth_of_videos_without_groups_is_held_out_in_order() -> None:
    videos = [video(f"v{n:03}") for n in range(200)]
    shown, held = hold_out(videos)
    assert len(held) == 20 and len(shown) == 180
    assert names(shown) == sorted(names(shown)) and names(held) == sorted(names(held))
    assert sorted(names(shown) + names(held)) == names(tuple(videos))
    assert max(names(held)) > "v100" > min(names(held))  # not simply the first or last ones


def test_groups_stay_together_and_at_most_a_tenth_is_held_out() -> None:
    videos = [video(f"v{n:03}", f"g{n % 23}") for n in range(230)]
    shown, held = hold_out(videos)
    assert not {v.group for v in shown} & {v.group for v in held}
    assert len(held) == 20  # two groups of ten; a third would exceed 23


def test_who_is_held_out_depends_on_names_alone() -> None:
    videos = [video(f"v{n}") for n in range(50)]
    assert names(hold_out(videos)[1]) == names(tuple(reversed(hold_out(videos[::-1])[1])))


def test_of_large_groups_only_the_smallest_is_held_out() -> None:
    videos = [video(f"v{n}", "large" if n else "small") for n in range(4)]
    assert names(hold_out(videos)[1]) == ["v0"]


def test_one_group_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="one group"):
        hold_out([video("a", "g"), video("b", "g")])


def test_a_held_out_clip_is_the_central_one_with_its_labels_in_every_epoch(tiny: Path, tmp_path: Path) -> None:
    dataset = read_index(tiny)
    store = open_store(dataset, StoreRecipe.for_crop(32, "raw"), tmp_path)
    clip = ClipSpec(frames=4, stride=2, size=32, sampling="exact")
    action, privacy = dataset.benchmark.action, dataset.benchmark.privacy
    videos = dataset.videos[:5]
    loader = center_loader(
        store, videos, clip, batch=2, device="cpu", action=action, privacy=privacy, boxes=False
    )  # fmt: skip
    first, second = list(loader(0)), list(loader(7))
    assert len(loader(0)) == len(first) == 3
    central = [c.x_BCTHW for _, c in center_batches(store, videos, clip, batch=2, device="cpu", boxes=False)]
    for a, b, x in zip(first, second, central, strict=True):
        assert torch.equal(a.clips.x_BCTHW, x) and torch.equal(b.clips.x_BCTHW, x)
    labels = [v.labels[action.name] for v in videos]
    assert torch.cat([b.action_B for b in first if b.action_B is not None]).tolist() == [y[0] for y in labels if y]
    private = torch.cat([b.privacy_BK for b in first if b.privacy_BK is not None])
    assert private.tolist() == [list(v.labels[privacy.name] or ()) for v in videos]
    withheld = center_loader(store, videos, clip, batch=2, device="cpu", action=None, privacy=None, boxes=False)
    assert all(b.action_B is None and b.privacy_BK is None for b in withheld(0))


def job(method: str, home: Path) -> Job:
    return resolve(Request(method=method, preset="tiny", home=home), Silent())


def test_a_fit_is_shown_all_but_the_held_out_videos(tiny: Path, data_home: Path) -> None:
    needs, other = job("vita", data_home), job("stprivacy", data_home)
    shown, held = names(needs.shown.videos), names(needs.held_out)
    assert held and sorted(shown + held) == sorted(names(needs.fit.videos))
    assert other.held_out == () and other.shown.videos == other.fit.videos


def test_only_a_method_that_needs_it_has_the_holdout_in_its_keys(
    tiny: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stp_bench.evaluate import plan

    jobs = {name: job(name, data_home) for name in ("vita", "spact", "stprivacy")}
    before = {name: plan(j).fit[0].key for name, j in jobs.items()}
    monkeypatch.setattr(protocols, "HOLDOUT", 0.2)
    moved = {name for name, j in jobs.items() if plan(j).fit[0].key != before[name]}
    assert moved == {"vita"}


def test_the_number_of_held_out_videos_is_in_the_result(tiny: Path, data_home: Path, tmp_path: Path) -> None:
    result, _ = evaluate(Request(method="vita", preset="tiny", home=data_home), tmp_path / "run", Silent())
    assert result.skipped["holdout"] == len(job("vita", data_home).held_out) > 0


def test_a_trial_holds_out_batches_for_methods_that_need_them() -> None:
    holdout = Trial(VITA).task().holdout
    assert holdout is not None
    (batch, *_) = holdout(0)
    assert batch.action_B is not None and batch.privacy_BK is not None
    stprivacy = methods.find("stprivacy")
    assert Trial(stprivacy).task().holdout is None
