"""The clips that a run's recognizers were tested on, raw and anonymized by the frozen method of the run.

Of the views that count in the test it is the central one, read from the same clip store: frame k is the same moment in
everything that is made of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stp_bench import catalogue, checkpoints, config, methods
from stp_bench.clips import Anonymized, Clips
from stp_bench.clipstore import Store, StoreRecipe, center_batches, open_store
from stp_bench.config import RunConfig
from stp_bench.display import display, sparsified, to_uint8
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, sha256_file
from stp_bench.index import Dataset
from stp_bench.jobs import pick_device
from stp_bench.methods import HasKeep, Method
from stp_bench.progress import Reporter
from stp_bench.recognizers import anonymize
from stp_bench.schema import ClipSpec, Video, VitSpec
from stp_bench.training import autocast
from stp_bench.viewer._runs import Run, find_method

BATCH = 16
FALLBACK_FPS = 25.0

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a method made of one clip, as people see it: uint8 (T, H, W, 3)."""

    anonymized: Frames
    sparsified: Frames | None
    """The raw clip with dropped tubelets black; None of a method that drops none."""
    keep_LNN: NDArray[np.bool_] | None
    """Kept tubelets per time slot, as a grid."""
    keep_MLNN: NDArray[np.bool_] | None
    """The same after each step of a method that drops in steps and tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """One clip before and after: what is shown side by side."""

    video: Video
    raw: Frames
    shown: Mapping[str, Shown]
    """By label of the run."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that clips are made from. Open it with `open_source`."""

    dataset: Dataset
    store: Store
    clip: ClipSpec
    batch: int
    device: str
    frozen: Mapping[str, Frozen]
    """By label of the run."""

    @property
    def raw_key(self) -> str:
        """Fingerprint of all that decides the raw clips, but for the videos' contents."""
        return fingerprint([dataclasses.asdict(self.clip), dataclasses.asdict(self.store.recipe)])

    def digest(self, video: Video) -> str:
        """SHA-256 of a video's content."""
        return self.dataset.facts[video.video_id][1]

    def fps(self, video: Video) -> float:
        """Frames of the clip per second of the video."""
        return (video.fps or FALLBACK_FPS) / self.clip.stride

    def panels(self, videos: Sequence[Video]) -> Iterator[Panels]:
        """The central clips of some videos, in order, raw and as each run's method transforms them.

        Raises:
            WorkError: a method failed, or stored frames are damaged.
        """
        boxes = any(frozen.boxes for frozen in self.frozen.values())
        batches = center_batches(self.store, videos, self.clip, batch=self.batch, device=self.device, boxes=boxes)
        for videos_B, clips in batches:
            made = {label: frozen.show(clips, self.device) for label, frozen in self.frozen.items()}
            raw_BTHWC = _images(clips.x_BCTHW)
            for row, number in enumerate(videos_B.tolist()):
                shown = {label: of[row] for label, of in made.items()}
                yield Panels(video=videos[number], raw=raw_BTHWC[row], shown=shown)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The method of a run, as it was judged."""

    name: str
    method: Method
    boxes: bool
    precision: str
    channel_range: Sequence[Sequence[float]] | None
    identity: Mapping[str, Any]
    """All that decides what it makes of a clip."""

    @torch.no_grad()
    def show(self, clips: Clips, device: str) -> list[Shown]:
        """What it makes of each clip of a batch."""
        given = clips if self.boxes else Clips(clips.x_BCTHW)
        with autocast(device, self.precision):
            out = anonymize(self.method, self.name, given)
        if out.space == "free" and self.channel_range is None:
            raise WorkError(f"the output of {self.name} cannot be shown", "its checkpoint has no range", "fit it again")
        anonymized = _images(display(out, self.channel_range))
        black = _images(sparsified(given, out)) if out.keep_BLN is not None else None
        keep_BLNN, keep_MBLNN = _grid(out.keep_BLN), _grid(_steps(self.name, out))
        return [
            Shown(
                anonymized=anonymized[row],
                sparsified=black[row] if black is not None else None,
                keep_LNN=keep_BLNN[row] if keep_BLNN is not None else None,
                keep_MLNN=keep_MBLNN[:, row] if keep_MBLNN is not None else None,
            )
            for row in range(len(anonymized))
        ]


def open_source(runs: Sequence[Run], wanted: Sequence[str], home: Path, device: str, reporter: Reporter) -> Source:
    """The videos that some runs judged and the frozen methods of those in ``runs``.

    Args:
        runs: runs of the same videos: only their methods are loaded.
        wanted: ids of the videos that will be shown.
        home: the data home that the videos were prepared in.

    Raises:
        UserError: the benchmark is not there or is another one, or a method does not fit this version.
        WorkError: videos were moved or changed since, or files are damaged.
    """
    chosen = pick_device(device)
    first = runs[0]
    result, settings = first.result, first.config
    run = _config(RunConfig, settings["run"], first.folder)
    preset, seed = result.data.get("preset"), result.data.get("seed")
    dataset = catalogue.prepared(result.on, preset=preset or "", seed=seed or 0, home=home)
    known = {v.video_id for v in dataset.videos}
    if lost := [video_id for video_id in wanted if video_id not in known]:
        raise UserError(
            f"{first.folder} judged other videos than {dataset.root} has",
            f"{len(lost)} of {len(wanted)} are not among them, such as {lost[0]}",
            "name the data home that it was made in, by --data-home",
        )
    recipe = StoreRecipe.for_crop(run.size, settings["encoding"], decoder=settings["decoder"])
    with reporter.stage(f"clip store of {dataset.benchmark.name}", len(dataset.videos), "videos") as task:
        store = open_store(dataset, recipe, home, skip_unreadable=True, progress=task.update)
    if gone := [video_id for video_id in wanted if video_id not in store]:
        raise WorkError(
            f"{len(gone)} of {len(wanted)} videos of {dataset.benchmark.name} cannot be read",
            f"{gone[0]} in {dataset.videos_root}: {store.unreadable.get(gone[0], 'not in the clip store')}",
            "bring them back there, or prepare the data again from where they are now",
        )
    return Source(
        dataset=dataset, store=store, clip=config.clip_spec(run, dataset.benchmark.stride), batch=min(run.batch, BATCH),
        device=chosen, frozen={of.label: _frozen(of, run, dataset, chosen) for of in runs},
    )  # fmt: skip


def _frozen(of: Run, run: RunConfig, dataset: Dataset, device: str) -> Frozen:
    """The method of a run: the fitted one in its folder, or a fixed transform with its settings."""
    spec = find_method(of.result.method, of.folder)
    settings = of.config
    weights, card = None, {}
    if spec.learned:
        fitted = checkpoints.load_method(of.folder, spec.name, device)
        method, made, card = fitted.method, fitted.config, dict(fitted.card)
        weights = sha256_file(of.folder / checkpoints.WEIGHTS)
    else:
        made = _config(spec.config, settings["method"], of.folder)
        vit: VitSpec = config.vit_spec(run, image_weights=of.result.weights != "none")
        method = spec.make(made, vit)
        checkpoints.to_device(method, device)
    if settings.get("keep") is not None and isinstance(method, HasKeep):
        method = method.with_keep(settings["keep"])
    boxes = "boxes" in spec.needs
    return Frozen(
        name=spec.name, method=method, boxes=boxes, precision=of.result.precision, channel_range=card.get("range"),
        identity={
            "method": spec.name, "version": spec.version, "config": methods.inputs_of(made), "weights": weights,
            "keep": settings.get("keep"), "precision": of.result.precision,
            "boxes": dataset.boxes_digest if boxes else None,
        },
    )  # fmt: skip


def _config(kind: type, values: Mapping[str, Any], folder: Path) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        why = f"it was made with other settings than this version has ({error})"
        raise UserError(f"{folder} cannot be shown", why, "evaluate again with this version") from error


def _images(x_BCTHW: Tensor) -> Frames:
    """Clips in [0, 1] as uint8 (B, T, H, W, 3)."""
    return np.ascontiguousarray(to_uint8(x_BCTHW.float().clamp(0, 1)).permute(0, 2, 3, 4, 1).cpu().numpy())


def _grid(keep: Tensor | None) -> NDArray[np.bool_] | None:
    """Decisions with their tubelets as a square grid."""
    if keep is None:
        return None
    side = math.isqrt(keep.shape[-1])
    return np.asarray(keep.unflatten(-1, (side, side)).bool().cpu().numpy())


def _steps(name: str, out: Anonymized) -> Tensor | None:
    """The decisions of a method that drops in steps, if what it tells is true of what it did."""
    steps, keep = out.keep_MBLN, out.keep_BLN
    if steps is None or keep is None:
        return None
    if steps.shape[1:] != keep.shape or not torch.equal(steps[-1], keep):
        why = "the last of the steps that it tells is not its decision"
        raise WorkError(f"the pruning of {name} cannot be shown", why, "mend its keep_MBLN, or leave it out")
    return steps
