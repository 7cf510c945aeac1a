"""The baselines of the paper's tables as method cards. Importing this imports no torch.

Each spec names the class that does the work: `stp_baselines.filters` (raw, downsampling), `stp_baselines.regions`
(blackening and blurs of people, or of the whole frame), and, of those that learn, whose options are in `_learned`,
`stp_baselines.collective`, `stp_baselines.vita` and `stp_baselines.spact`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stp_baselines._learned import COLLECTIVE, SPACT, VITA, CollectiveConfig, SpactConfig, VitaConfig
from stp_bench.errors import UserError
from stp_bench.methods import MethodSpec

__all__ = [
    "BLACKENING",
    "BLUR_STRONG",
    "BLUR_WEAK",
    "COLLECTIVE",
    "DOWNSAMPLE_2X",
    "DOWNSAMPLE_4X",
    "RAW",
    "SPACT",
    "VITA",
    "BlurConfig",
    "CollectiveConfig",
    "DownsampleConfig",
    "RegionConfig",
    "SpactConfig",
    "VitaConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DownsampleConfig:
    """Loss of resolution by ``factor``; the clip is enlarged again because the recognizer's input size is fixed."""

    factor: int
    restore: Literal["bilinear", "nearest"] = "bilinear"
    """How the small frame is enlarged to the clip's size."""
    filter: Literal["area", "bicubic-antialias"] = "area"
    """How the frame is made small: block means, or an antialiased bicubic filter."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise _bad("factor", self.factor, "a frame cannot be reduced by less than 1", "use 2 or 4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Downsample2xConfig(DownsampleConfig):
    """The paper's Downsample-2x."""

    factor: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Downsample4xConfig(DownsampleConfig):
    """The paper's Downsample-4x."""

    factor: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig:
    """Where a region method acts."""

    regions: Literal["auto", "boxes", "full_frame"] = "auto"
    """``boxes``: inside the person boxes; ``full_frame``: everywhere; ``auto``: boxes where the benchmark has them."""
    on_missing: Literal["keep", "full_frame", "error"] = "keep"
    """A frame without any box: leave it as it is (undetected people leak), treat it whole, or stop."""
    dilate: float = 0.0
    """Pixels added to each side of a box, counted on a frame whose short side is 112."""

    def __post_init__(self) -> None:
        if not 0 <= self.dilate < math.inf:
            raise _bad("dilate", self.dilate, "boxes can only grow", "use 0 or more pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurConfig(RegionConfig):
    """A Gaussian blur; its sizes are counted on a frame whose short side is 112 and scale with the frame."""

    kernel: int
    """Width of the kernel in pixels, odd."""
    sigma: float = 10.0
    """Standard deviation of the Gaussian in pixels; a kernel this short cuts most of it off."""

    def __post_init__(self) -> None:
        RegionConfig.__post_init__(self)  # zero-argument super() breaks in dataclasses with slots
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise _bad("kernel", self.kernel, "a symmetric kernel has a middle pixel", "use an odd number of pixels")
        if not 0 < self.sigma < math.inf:
            raise _bad("sigma", self.sigma, "it is no standard deviation", "use a positive number of pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakBlurConfig(BlurConfig):
    """The paper's WeakBlur."""

    kernel: int = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class StrongBlurConfig(BlurConfig):
    """The paper's StrongBlur."""

    kernel: int = 21


def _bad(field: str, value: object, why: str, mend: str) -> UserError:
    return UserError(f"bad value {value!r} for {field}", why, mend)


_PAPER = "Li et al., STPrivacy (ICCV 2023), Table 1"
_BLUR = f"{_PAPER}; kernels of Ilic et al. (CVPR 2024)"

RAW = MethodSpec(
    name="raw",
    version=1,
    title="Raw data",
    build="stp_baselines.filters:Raw",
    identity=True,
    reference=_PAPER,
)
DOWNSAMPLE_2X = MethodSpec(
    name="downsample-2x",
    version=1,
    title="Downsample-2x",
    build="stp_baselines.filters:Downsample",
    config=Downsample2xConfig,
    reference=_PAPER,
)
DOWNSAMPLE_4X = MethodSpec(
    name="downsample-4x",
    version=1,
    title="Downsample-4x",
    build="stp_baselines.filters:Downsample",
    config=Downsample4xConfig,
    reference=_PAPER,
)
BLACKENING = MethodSpec(
    name="blackening",
    version=1,
    title="Blackening",
    build="stp_baselines.regions:Blackening",
    config=RegionConfig,
    needs=frozenset({"boxes"}),
    reference=_PAPER,
)
BLUR_WEAK = MethodSpec(
    name="blur-weak",
    version=1,
    title="WeakBlur",
    build="stp_baselines.regions:Blur",
    config=WeakBlurConfig,
    needs=frozenset({"boxes"}),
    reference=_BLUR,
)
BLUR_STRONG = MethodSpec(
    name="blur-strong",
    version=1,
    title="StrongBlur",
    build="stp_baselines.regions:Blur",
    config=StrongBlurConfig,
    needs=frozenset({"boxes"}),
    reference=_BLUR,
)
