"""How long ``stp-bench inspect`` takes beyond anonymizing: rendering clips, measuring them, building the data set.

Clips are of the paper's size (16 x 112 x 112, 8 x 7 x 7 tubelets): moving textures, noise where STPrivacy would paint.
The files of 500 videos are really rendered; a data set of 6,766 videos (VP-HMDB51) is built from synthetic findings
over the same files, and its rendering is scaled up from the 500, since it is the same work video by video.

    python benchmarks/inspection.py [--videos 500] [--all 6766]
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _report import Report

from stp_bench import viewer
from stp_bench.files import fingerprint
from stp_bench.predictions import Predictions, Reference
from stp_bench.progress import Silent
from stp_bench.results import Result
from stp_bench.schema import ClipSpec, Target, Video
from stp_bench.viewer import _measures, _records, _render
from stp_bench.viewer._clips import Panels, Shown
from stp_bench.viewer._render import Media
from stp_bench.viewer._runs import Run

ACTION = Target(name="action", kind="multiclass", classes=tuple(f"action {i}" for i in range(51)))
ATTRIBUTES = ("face", "skin_color", "gender", "nudity", "relationship")
PRIVACY = Target(name="privacy", kind="multilabel", classes=ATTRIBUTES, private=True)
CLIP = ClipSpec(frames=16, stride=2, size=112, sampling="exact")


class MadeUp:
    """Stands where the clips of a run come from: everything but reading and anonymizing."""

    def __init__(self) -> None:
        self.clip, self.raw_key = CLIP, "made up"
        self.frozen = {"stprivacy": SimpleNamespace(name="stprivacy", identity={"made": "up"})}

    def digest(self, video: Video) -> str:
        return fingerprint(video.video_id)

    def fps(self, video: Video) -> float:
        return video.fps / CLIP.stride

    def panels(self, videos: Sequence[Video]) -> Iterator[Panels]:
        """Textures that move, and noise in a third of the tubelets."""
        rng = np.random.default_rng(0)
        base = np.kron(rng.integers(0, 256, (40, 40, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        for number, video in enumerate(videos):
            raw = np.stack([np.roll(base, 2 * t + number, axis=1)[:112, :112] for t in range(CLIP.frames)])
            keep_LNN = rng.random((8, 7, 7)) < 16 / 49
            mask = np.stack([_measures.enlarge(keep_LNN[t // 2], 112, 112) for t in range(CLIP.frames)])[..., None]
            noise = rng.integers(0, 256, raw.shape, np.uint8)
            shown = Shown(anonymized=noise * mask, sparsified=raw * mask, keep_LNN=keep_LNN, keep_MLNN=None)
            yield Panels(video=video, raw=raw, shown={"stprivacy": shown})


def made_up_run(count: int) -> Run:
    """A run that is right about half of the actions and finds half of the attributes."""
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.full(51, 0.1), count).astype(np.float32)
    predictions = Predictions.of(
        action=ACTION, privacy=PRIVACY, video_ids=[f"action/{i:05}" for i in range(count)], groups=[None] * count,
        action_V=np.where(rng.random(count) < 0.5, posterior.argmax(1), 0), posterior_VC=posterior,
        labels_VK=rng.integers(0, 2, (count, 5)), scores={"video": rng.random((count, 5))},
    )  # fmt: skip
    blank: dict[str, Any] = {f.name: {} for f in dataclasses.fields(Result)}
    facts = {"method": "stprivacy", "on": "vp-hmdb51", "split": 1, "metrics": {"worst": {"attacker": "video"}}}
    reference = Reference.of(action=ACTION, privacy=PRIVACY, action_V=[0], labels_VK=[[1] * 5], thresholds={})
    return Run(
        label="stprivacy", folder=Path("made-up"), key=f"{count:08}", result=Result(**blank | facts),
        predictions=predictions, reference=reference, identity=False,
    )  # fmt: skip


def render(count: int, home: Path) -> tuple[list[Media], float]:
    """The files of so many videos, and the seconds that they took; making the clips up is not counted."""
    videos = [
        Video(
            video_id=f"action/{i:05}", relpath="", labels={}, group=None, frames=64, height=128, width=171, fps=30.0
        )
        for i in range(count)
    ]  # fmt: skip
    source: Any = MadeUp()
    began = time.perf_counter()
    for _ in source.panels(videos):
        pass
    making = time.perf_counter() - began
    began = time.perf_counter()
    media = _render.render(source, videos, home, Silent())
    return list(media.values()), time.perf_counter() - began - making


def build(count: int, media: Sequence[Media], frames: str) -> tuple[int, float]:
    """Build a data set of so many videos; heatmap frames, and seconds."""
    run = made_up_run(count)
    records = _records.records([run])
    files = {record.video_id: media[i % len(media)] for i, record in enumerate(records)}
    began = time.perf_counter()
    plan = viewer.plan_of([run], records, files, frames=frames)
    viewer.build(plan, Silent())
    drawn = sum(s.keep_LNN is not None for group in plan.groups for s in group) * CLIP.frames
    return drawn, time.perf_counter() - began


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--all", type=int, default=6766)
    options = parser.parse_args()
    report = Report("inspect", "inspect beyond anonymizing: seconds until the data set is built")
    home = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, home, ignore_errors=True)  # after the database, which ends when Python does
    viewer.prepare(home)
    viewer.listed()  # FiftyOne is imported and its database started: seconds that do not depend on the videos
    media, rendering = render(options.videos, home)
    size = sum(path.stat().st_size for of in media for path in of.files.values()) / 1e6
    for count, frames in ((options.videos, "failures"), (options.all, "none"), (options.all, "failures")):
        factor = count / options.videos
        drawn, seconds = build(count, media, frames)
        report.row(
            videos=count, frames=frames, heatmap_frames=drawn, render_s=rendering * factor,
            rendered="yes" if factor == 1 else "scaled from the first row", build_s=seconds,
            total_s=rendering * factor + seconds, media_MB=size * factor,
        )  # fmt: skip
        report.write()  # the next row takes minutes


if __name__ == "__main__":
    main()
