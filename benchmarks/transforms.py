"""How many clips per second each installed method anonymizes, and in how much memory, at the sizes of the presets small
and paper. Memory is the peak of one call beyond what was held before it: resident pages, or tensors on a GPU.

Fixed region methods are measured with boxes and on whole frames; learned methods as built, since their cost does not
depend on the values of their weights. Beside the blurs stands the same blur by torchvision (padding and convolutions),
on the same clips.

    python benchmarks/transforms.py [--device cuda] [--seconds 2] [--threads 1]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _report import Report
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from stp_baselines import BlurConfig
from stp_baselines.regions import scaled_blur
from stp_bench.checkpoints import to_device
from stp_bench.clips import Clips
from stp_bench.config import RunConfig, preset, vit_spec
from stp_bench.methods import MethodSpec, specs

CPU_BATCH = 8


def clips_per_second(work: Callable[[], object], batch: int, seconds: float, device: str) -> float:
    """Clips per second of ``work``, which does ``batch`` of them; the best of three runs."""

    def measure() -> float:
        start, done = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds / 3:
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            done += batch
        return done / passed

    work()
    return max(measure() for _ in range(3))


def peak_bytes(work: Callable[[], object], device: str) -> int | None:
    """Memory that a call of ``work``, not the first, takes at its peak; None where the system does not tell."""
    work()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    process = Path("/proc/self")
    if not (process / "clear_refs").exists():
        return None
    (process / "clear_refs").write_text("5")  # the peak begins anew

    def resident(name: str) -> int:
        lines = (process / "status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))

    before = resident("VmRSS")
    work()
    return max(0, resident("VmHWM") - before)


def made_up_clips(frames: int, size: int, batch: int, device: str) -> Clips:
    """Noise with one person per frame, a third of its width and three quarters of its height."""
    x = torch.rand(batch, 3, frames, size, size, device=device)
    box = torch.tensor([size / 3, size / 8, 2 * size / 3, 7 * size / 8], device=device)
    return Clips(x, box.expand(batch, frames, 1, 4))


def reference_blur(x_BCTHW: Tensor, kernel: int, sigma: float) -> Tensor:
    """torchvision's blur of every frame."""
    return gaussian_blur(x_BCTHW.flatten(1, 2), [kernel, kernel], [sigma, sigma]).view(x_BCTHW.shape)


def contenders(spec: MethodSpec, run: RunConfig, name: str, clips: Clips) -> dict[str, Callable[[], object]]:
    """What to time for a method, by how it works."""
    device = str(clips.x_BCTHW.device)
    method = spec.make(spec.configure(name), vit_spec(run, image_weights=False))
    to_device(method, device)
    if "boxes" not in spec.needs:
        return {"": lambda: method.anonymize(clips)}
    whole = Clips(clips.x_BCTHW)
    found = {"boxes": lambda: method.anonymize(clips), "full_frame": lambda: method.anonymize(whole)}
    if isinstance(config := spec.configure(name), BlurConfig):
        sizes = scaled_blur(config.kernel, config.sigma, run.size)
        found["full_frame, torchvision"] = lambda: reference_blur(clips.x_BCTHW, *sizes)
        difference = (method.anonymize(whole).x_BCTHW - reference_blur(clips.x_BCTHW, *sizes)).abs().max()
        print(f"{spec.name} differs from torchvision by at most {float(difference):.1e}")
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)  # whole frames are wanted here
    device = options.device
    report = Report(f"transforms-{device.split(':')[0]}", "Clips per second of every method", device=device)
    methods = [spec for spec in specs().values() if isinstance(spec, MethodSpec)]

    for name in ("small", "paper"):
        run = preset(name)
        batch = min(run.batch, CPU_BATCH) if device == "cpu" else run.batch
        clips = made_up_clips(run.frames, run.size, batch, device)
        shape = " x ".join(map(str, clips.x_BCTHW.shape))
        for spec in methods:
            for how, work in contenders(spec, run, name, clips).items():
                peak = peak_bytes(work, device)
                rate = clips_per_second(work, batch, options.seconds, device)
                report.row(
                    preset=name, clips=shape, method=spec.name, how=how, clips_per_second=rate,
                    peak_MB=None if peak is None else peak / 1e6,
                )  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
