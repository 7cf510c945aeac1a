"""What works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np

import stp_bench
from stp_bench import methods, video_io
from stp_bench.errors import BenchError
from stp_bench.files import free_bytes, human_bytes, make_folder, unwritable
from stp_bench.methods import Broken
from stp_bench.workers import cores

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``absent`` is something optional that is not there; ``broken`` keeps the toolkit from working."""

    area: str
    name: str
    state: State
    detail: str
    mend: str = ""


OPTIONAL = {
    "label-studio-sdk": "pip install label-studio-sdk, to collect labels with Label Studio",
}


def examine(home: Path) -> list[Check]:
    """All checks. Takes a few seconds, since torch is imported; writes and removes small files in ``home``."""
    return [
        *_versions(),
        *_torch(),
        *_devices(),
        *_video(),
        *_methods(),
        _home(home),
        *_optional(),
        _label_studio(home),
        *_viewer(),
    ]


def healthy(checks: list[Check]) -> bool:
    """Whether nothing that every command needs is broken."""
    return all(check.state != "broken" for check in checks)


def _versions() -> Iterator[Check]:
    yield Check("software", "stp-bench", "ok", stp_bench.__version__)
    yield Check("software", "python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for package in ("numpy", "pandas", "scikit-learn", "timm", "opencv-python-headless"):
        yield _installed("software", package, "broken", "install stp-bench again, with its dependencies")


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries cannot be loaded
        yield Check("software", "torch", "broken", _first_line(error), "pip install torch torchvision")
        return
    yield Check("software", "torch", "ok", torch.__version__)
    try:
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: built for another torch
        yield Check(
            "software",
            "torchvision",
            "broken",
            f"does not fit this torch: {_first_line(error)}",
            "install both from one index: pip install --force-reinstall torch torchvision",
        )
    else:
        yield Check("software", "torchvision", "ok", f"{torchvision.__version__}, fits this torch")


def _devices() -> Iterator[Check]:
    yield Check("devices", "cpu", "ok", f"{platform.processor() or platform.machine()}, {cores()} cores{_memory()}")
    try:
        import torch

        count = torch.cuda.device_count()
        for index in range(count):
            facts = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            yield Check("devices", f"cuda:{index}", "ok", f"{facts.name}, {human_bytes(facts.total_memory)}, {bf16}")
    except (ImportError, OSError, RuntimeError) as error:
        yield Check("devices", "cuda", "absent", _first_line(error), "mend torch or the GPU driver; the CPU works")
        return
    if not count:
        why = f"no GPU found (torch is built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPUs only'})"
        yield Check("devices", "cuda", "absent", why, "none needed: every preset up to small is meant for a CPU")


def _video() -> Iterator[Check]:
    yield _attempt("pyav", lambda: video_io.decoder_version("pyav"), "broken", "pip install --force-reinstall av")
    yield _attempt("decord", lambda: video_io.decoder_version("decord"), "absent", "none needed: PyAV is the default")
    yield _attempt("H.264 in mp4", lambda: _round_trip("libx264", ".mp4"), "broken", "pip install --force-reinstall av")
    yield _attempt("MPEG-4 in avi", lambda: _round_trip("mpeg4", ".avi"), "broken", "pip install --force-reinstall av")


def _attempt(name: str, try_it: Callable[[], str], failure: State, mend: str) -> Check:
    try:
        return Check("video", name, "ok", try_it())
    except (BenchError, ImportError, OSError, ValueError) as error:
        return Check("video", name, failure, _first_line(error), mend)


def _round_trip(codec: Literal["libx264", "mpeg4"], suffix: str) -> str:
    """Write a small video and read it back: the only proof that an encoder is there and works."""
    frames = [np.full((32, 48, 3), level, np.uint8) for level in (40, 120, 200)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"check{suffix}"
        video_io.write_video(path, frames, 25, codec=codec)
        levels = [float(frame.mean()) for frame in video_io.read_frames(path)]
    if len(levels) != 3 or max(abs(a - b) for a, b in zip(levels, (40, 120, 200), strict=True)) > 6:
        raise ValueError(f"three gray frames came back as {levels}")
    return "written and read back"


def _methods() -> Iterator[Check]:
    try:
        found = methods.specs()
    except BenchError as error:
        yield Check("methods", "plug-ins", "broken", error.what + ", " + error.why, error.mend)
        return
    sound = [name for name, spec in found.items() if not isinstance(spec, Broken)]
    yield Check(
        "methods", "installed", "ok" if sound else "broken", ", ".join(sound) or "none", "install stp-bench again"
    )
    for spec in found.values():
        if isinstance(spec, Broken):
            yield Check("methods", spec.name, "absent", spec.error, f"repair or reinstall {spec.source}")


def _home(home: Path) -> Check:
    try:
        make_folder(home)
        try:
            with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-") as probe:
                probe.write(b"x" * 4096)
                probe.flush()
        except OSError as error:
            raise unwritable(home, error) from error
    except BenchError as error:
        return Check("data home", str(home), "broken", error.why, error.mend)
    return Check("data home", str(home), "ok", f"writable, {human_bytes(free_bytes(home))} free")


def _optional() -> Iterator[Check]:
    for package, mend in OPTIONAL.items():
        yield _installed("optional", package, "absent", mend)


def _label_studio(home: Path) -> Check:
    """The labelling server that the ``annotate`` commands would talk to: version, edition, kind of token."""
    from stp_bench.annotate import server
    from stp_bench.annotate.session import server_address
    from stp_bench.annotate.studio import Studio

    try:
        url = server_address(os.environ.get(server.URL_VARIABLE) or server.local_url(home) or server.DEFAULT_URL)
        token = os.environ.get(server.TOKEN_VARIABLE, "").strip() or server.local_token(home, url)
        if not token:
            why = f"none runs here, and {server.TOKEN_VARIABLE} is not set" if url == server.DEFAULT_URL else "no token"
            return Check("optional", "Label Studio server", "absent", why, "start one: stp-bench annotate serve")
        found = Studio(url, token)
    except BenchError as error:
        return Check("optional", "Label Studio server", "absent", f"{error.what}, {error.why}", error.mend)
    kind = "legacy token" if found.legacy_token else "personal access token"
    detail = f"{found.server.edition} {found.server.release} at {url}, {kind}"
    return Check("optional", "Label Studio server", "ok", detail)


def _viewer() -> Iterator[Check]:
    """FiftyOne and the database that it would use; neither is started."""
    from stp_bench.viewer import INSTALL, state

    found = state()
    yield _installed("inspection", "fiftyone", "absent", INSTALL)
    if found.installed:
        there = found.database is not None
        yield Check("inspection", "database", "ok" if there else "absent", found.database or found.why, found.mend)


def _installed(area: str, package: str, failure: State, mend: str) -> Check:
    """Whether a package is installed, by its metadata: importing it may take seconds."""
    try:
        return Check(area, package, "ok", version(package))
    except PackageNotFoundError:
        return Check(area, package, failure, "not installed", mend)


def _memory() -> str:
    try:
        return f", {human_bytes(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} memory"
    except (AttributeError, OSError, ValueError):  # not on this system
        return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
