"""Detectors of people: two of torchvision's, or anyone's function of frames.

torchvision's are Faster R-CNN (ResNet-50, FPN) and SSDlite (MobileNetV3), trained on COCO. Their weights come from a
local file, or are downloaded when the user asks for ``pretrained``. Axes: B frames, M boxes of a frame.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stp_bench.errors import UserError, WorkError, unknown_name
from stp_bench.files import atomic_path, human_bytes, sha256_file
from stp_bench.progress import Reporter, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


class Detector(Protocol):
    """Finds people in frames."""

    def __call__(self, frames_BHWC: NDArray[np.uint8], /) -> Sequence[ArrayLike]:
        """The people of each frame.

        Args:
            frames_BHWC: uint8 RGB frames of one video, in order; B varies.

        Returns:
            B tables of rows ``x1, y1, x2, y2, score``: corners in pixels of the frame, x1 < x2 and y1 < y2, at most a
            pixel outside it; score from 0 to 1. An empty one where nobody is.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What boxes are found by."""

    detector: str
    version: str
    """Name and version of its package, or name and digest of its file."""
    weights: str | None = None
    """``pretrained``, or the name of the file; None where the detector brings its own."""
    weights_sha256: str | None = None


class _Network(NamedTuple):
    """torchvision's names of a network."""

    build: str
    weights: str
    threshold: str
    """The option that holds the lowest score."""


TORCHVISION = {
    "fasterrcnn": _Network("fasterrcnn_resnet50_fpn", "FasterRCNN_ResNet50_FPN_Weights", "box_score_thresh"),
    "ssdlite": _Network("ssdlite320_mobilenet_v3_large", "SSDLite320_MobileNet_V3_Large_Weights", "score_thresh"),
}
"""The detectors that are known by a short name."""

_PERSON, _CLASSES = 1, 91
"""Of COCO, as torchvision numbers it."""
_TIMEOUT = 30.0
"""Seconds of silence after which a download is given up."""
_PIECE = 2**16


def find_detector(
    name: str, weights: str | None, *, device: str, min_score: float, folder: Path, reporter: Reporter
) -> tuple[Detector, Origin]:
    """A detector, ready to be called.

    Args:
        name: a name in `TORCHVISION`, or ``package.module:NAME`` of a `Detector`.
        weights: of torchvision's: ``pretrained`` (downloaded unless they are in ``folder``), or a file.
        device: of torchvision's: ``auto``, ``cpu`` or ``cuda``.
        min_score: of torchvision's: people of a lower score need not be found.
        folder: where downloaded weights are kept.

    Raises:
        UserError: unknown detector, none or unsuitable weights.
        WorkError: damaged weights, or a download that failed.
    """
    if name not in TORCHVISION:
        if ":" not in name:
            raise unknown_name("detector", name, [*TORCHVISION, "package.module:NAME"])
        for option, given in (("--weights", weights is not None), ("--device", device != "auto")):
            if given:
                raise UserError(f"{option} does not fit {name}", "it brings its own", "leave the option out")
        return _plugged(name)
    if weights is None:
        raise UserError(
            f"detector {name} has no weights",
            "none are shipped with this package",
            "add --weights pretrained (a download) or --weights FILE",
        )
    path = _pretrained(name, folder, reporter) if weights == "pretrained" else Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"no weights in {path}", "there is no such file", "name a file, or 'pretrained'")
    from stp_bench.jobs import pick_device  # which takes torch, and a stranger's detector may do without

    where = pick_device(device)
    network = _network(name, path, min_score).to(where)
    origin = Origin(
        detector=name, version=f"torchvision {version('torchvision')}",
        weights=weights if weights == "pretrained" else path.name, weights_sha256=sha256_file(path),
    )  # fmt: skip
    return _people_of(network, where), origin


def _plugged(name: str) -> tuple[Detector, Origin]:
    module, _, attribute = name.partition(":")
    try:
        home = importlib.import_module(module)
        found = getattr(home, attribute)
    except Exception as error:  # a stranger's module may raise anything when it is imported
        why = f"importing {name} raised {type(error).__name__}: {error}"
        raise UserError(f"detector {name!r} cannot be used", why, "check the name, or install its package") from error
    if not callable(found):
        raise UserError(f"detector {name!r} cannot be used", "it is not callable", "name a function of frames")
    detector: Detector = found
    return detector, Origin(detector=name, version=_version(home))


def _version(module: ModuleType) -> str:
    """Name and version of the installed package that a module belongs to; of a loose file its digest."""
    for distribution in packages_distributions().get(module.__name__.partition(".")[0], [])[:1]:
        return f"{distribution} {version(distribution)}"
    file = Path(module.__file__ or "")
    return f"{file.name} {sha256_file(file)}" if file.is_file() else ""


# torchvision's


def _detection() -> Any:
    try:
        from torchvision.models import detection
    except (ImportError, RuntimeError) as error:  # the latter where its build does not fit torch's
        why = (str(error).splitlines() or [type(error).__name__])[0]
        mend = "install the torchvision that fits this torch, see 'stp-bench doctor'"
        raise UserError("torchvision's detectors cannot be used", why, mend) from error
    return detection


def _network(name: str, path: Path, min_score: float) -> nn.Module:
    """A network with weights from a file, of which nothing is executed."""
    known = TORCHVISION[name]
    state = _state(path)
    network: nn.Module = getattr(_detection(), known.build)(
        weights=None, weights_backbone=None, num_classes=_CLASSES, **{known.threshold: min_score}
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        why = f"names or shapes differ ({first[0].strip():.200})"
        mend = f"give the state_dict of torchvision's {known.build} with COCO's {_CLASSES} classes"
        raise UserError(f"{path} holds no weights of {name}", why, mend) from error
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise UserError(f"{path} holds no usable weights", "some are not finite", "get the file anew")
    return network.eval()


def _state(path: Path) -> Mapping[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own errors for a damaged file
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkError(f"cannot read the weights in {path}", why, "get the file anew") from error
    state = state.get("model", state.get("state_dict", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no weights", "it is not a table of named tensors", "give a state_dict")
    return state


def _people_of(network: nn.Module, device: str) -> Detector:
    """What one of torchvision's detection networks says of class person."""
    import torch

    @torch.inference_mode()
    def people(frames_BHWC: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        x_BCHW = torch.from_numpy(frames_BHWC).to(device).permute(0, 3, 1, 2).float().div_(255)
        found = []
        for one in network(list(x_BCHW)):
            filled = (one["boxes"][:, 2:] > one["boxes"][:, :2]).all(dim=1)
            rows_M5 = torch.cat([one["boxes"], one["scores"][:, None]], dim=1)
            found.append(rows_M5[filled & (one["labels"] == _PERSON)].cpu().numpy())
        return found

    return people


def _pretrained(name: str, folder: Path, reporter: Reporter) -> Path:
    weights = getattr(_detection(), TORCHVISION[name].weights).DEFAULT
    return fetch_weights(weights.url, folder, int(weights.meta["_file_size"] * 2**20), reporter)


def fetch_weights(url: str, folder: Path, size: int, reporter: Reporter) -> Path:
    """The file of a URL that ends in ``-<first digits of its SHA-256>.pth``: in ``folder``, downloaded if need be.

    Args:
        size: about how many bytes it has.

    Raises:
        WorkError: no network, another answer than the published file, or a disk that refuses.
    """
    target = folder / url.rpartition("/")[2]
    if target.is_file():
        return target
    reporter.say(f"downloading weights ({human_bytes(size)}) from {url} to {target}")
    way_round = f"get {url} wherever there is a network, and name the file with --weights FILE"
    with reporter.stage(f"download {target.name}", size, "bytes") as task, atomic_path(target, fsync=True) as temporary:
        digest = _download(url, temporary, 2 * size, way_round, task)
        if not digest.startswith(target.stem.rpartition("-")[2]):
            raise WorkError(f"cannot fetch {url}", "what came is not the published file", way_round)
    return target


def _download(url: str, target: Path, most: int, way_round: str, task: Task) -> str:
    """Write what a URL answers, up to ``most`` bytes of it, and say its SHA-256."""
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, target.open("wb") as handle:
            while most > 0 and (piece := answer.read(_PIECE)):
                most -= len(piece)
                digest.update(piece)
                handle.write(piece)
                task.advance(len(piece))
    except urllib.error.HTTPError as error:
        why = f"the server answers {error.code} {error.reason}"
        raise WorkError(f"cannot fetch {url}", why, way_round) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise WorkError(f"cannot fetch {url}", f"no answer ({reason})", way_round) from error
    return digest.hexdigest()
