"""Can the action of an embedded benchmark be read from a single frame? It should not: only the motion tells.

A fresh recognizer that sees one frame at a time is trained on raw videos with the recipe of the preset, and scored like
every probe: mean over all frames of all test views. Chance is one over the number of actions.

    python benchmarks/single_frame_action.py --seeds 1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from _report import Report

from stp_bench import catalogue, config, methods
from stp_bench.clipstore import Augment, StoreRecipe, open_store, train_loader, view_batches
from stp_bench.files import data_home
from stp_bench.progress import Silent
from stp_bench.recognizers import ProbePhase, Recognizer, Setting, predict
from stp_bench.schema import Probe, SplitRef
from stp_bench.training import seed_everything


def single_frame_top1(name: str, preset: str, seed: int, home: Path) -> float:
    """Top-1 in percent of an action recognizer that sees single frames of raw videos."""
    dataset = catalogue.dataset(name, preset=preset, seed=0, home=home, reporter=Silent())
    benchmark, run = dataset.benchmark, config.preset(preset)
    vit, clip = config.vit_spec(run, image_weights=False), config.clip_spec(run, benchmark.stride)
    store = open_store(dataset, StoreRecipe.for_crop(run.size, "raw"), home)
    train, test = (SplitRef(benchmark=name, part=part, split=1) for part in ("train", "test"))
    spec = methods.find("raw")
    raw = spec.make(spec.configure(preset), vit)
    probe = Probe(name="frame", target=benchmark.action.name, unit="frame", train=train, test=test)
    recognizer = Recognizer(probe, benchmark.action, Setting(vit, run, "none", "cpu", seed))
    loader = train_loader(
        store, dataset.split(train), clip, Augment(run.crop_scale, run.color_jitter), batch=run.batch, seed=seed,
        device="cpu", action=benchmark.action, privacy=None, boxes=False,
    )  # fmt: skip
    phase = ProbePhase(raw, spec.name, [recognizer], run.epochs)
    for epoch in range(run.epochs):
        seed_everything(f"single frame/{seed}/{epoch}")
        phase.run_epoch(loader(epoch), epoch)
    videos = dataset.split(test)
    views = view_batches(store, videos, clip, batch=2 * run.batch, device="cpu", boxes=False)
    scores = predict(raw, spec.name, [recognizer], views, len(videos), Silent())["frame"]
    true = np.array([video.labels[benchmark.action.name] for video in videos])[:, 0]
    return float((scores.argmax(1) == true).mean() * 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    report = Report("single-frame-action", "The action from single frames of raw videos: top-1 beside chance")
    for name in catalogue.names():
        actions = len(catalogue.benchmark(name, options.preset).action.classes)
        for seed in range(options.seeds):
            started = time.monotonic()
            top1 = single_frame_top1(name, options.preset, seed, data_home())
            report.row(
                benchmark=name, preset=options.preset, seed=seed, top1=round(top1, 1), chance=round(100 / actions, 1),
                seconds=round(time.monotonic() - started),
            )  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
