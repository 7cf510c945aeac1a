"""How a method plugs in: the three small interfaces, and discovery through entry points.

A fixed transform is one pure function behind ``Method.anonymize``. A learned one adds ``phases``, whose update rules
it owns; the harness owns order, seeds, precision, progress, checkpoints and resuming. ``stp_bench`` knows no method by
name: ours and anyone's arrive through the entry-point group ``stp_bench.methods``, each naming a `MethodSpec`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from stp_bench.config import override
from stp_bench.errors import BenchError, MethodError, UserError, WorkError, out_of_memory, unknown_name
from stp_bench.schema import ClipSpec, Space, Target, VitSpec

if TYPE_CHECKING:
    from stp_bench.clips import Anonymized, Clips, Labelled

GROUP = "stp_bench.methods"
Need = Literal["action", "privacy", "boxes", "holdout"]


class Stateful(Protocol):
    """What a checkpoint can hold: torch modules, optimizers, and whatever behaves like them."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Batches(Protocol):
    """One epoch of training batches, already on the device and augmented."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Labelled]: ...


Loader = Callable[[int], Batches]
"""Maps an epoch number to that epoch's batches; the same number gives the same batches."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What an epoch says of itself: scalars for the curves, and whether the phase may stop early."""

    scalars: Mapping[str, float]
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTask:
    """Everything a learned method may know about what it is fitted on."""

    action: Target
    privacy: Target | None
    prevalence: tuple[float, ...]
    """Share of positives per privacy class in the training split; empty where the method may not see these labels."""
    clip: ClipSpec
    batch: int
    seed: int
    device: str
    weights: str
    """``none``, ``pretrained`` or the path of an image ViT's weights (paper section 4.3)."""
    holdout: Loader | None = None
    """Central clips of training videos that no phase is shown, with labels, alike in every epoch; None unless the
    method needs them."""


class Phase(Protocol):
    """A named part of a fit. ``run_epoch`` gets the iterator, since methods differ in how they walk through it."""

    name: str
    epochs: int

    def parts(self) -> Mapping[str, Stateful]:
        """Networks, auxiliaries, optimizers, counters: all that a resumed phase needs."""
        ...

    def run_epoch(self, batches: Batches, epoch: int) -> EpochReport: ...


@runtime_checkable
class Method(Protocol):
    """An anonymizer. ``anonymize`` is frozen, deterministic, label-free and independent of batch mates."""

    def phases(self, task: FitTask) -> Sequence[Phase]:
        """The phases of the fit in order, named as the spec says; ``()`` for a fixed transform."""
        ...

    def parts(self) -> Mapping[str, Stateful]:
        """What the published checkpoint holds; empty for a fixed transform."""
        ...

    def anonymize(self, clips: Clips) -> Anonymized: ...


@runtime_checkable
class HasVariant(Protocol):
    """A method whose name leaves open what it does, e.g. black out boxes or whole frames."""

    def variant(self, has_boxes: bool) -> str | None:
        """What it will do on a benchmark with or without boxes; part of the cache key and of the result."""
        ...


@runtime_checkable
class HasKeep(Protocol):
    """A method with a dial at deployment: the share of tubelets it keeps."""

    def with_keep(self, alpha: float) -> Method:
        """The same fitted method at another keep ratio."""
        ...


@dataclass(frozen=True, slots=True)
class NoConfig:
    """The configuration of a method without options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """A method's card. Importing it imports no torch, so that listing methods is instant."""

    name: str
    version: int
    """Raised by hand whenever the method's numbers can move: it is part of every cache key."""
    title: str
    build: str
    """``package.module:function``, imported when first used and called as ``function(config, vit)``: the options and
    the sizes of this preset's video ViT (a fixed transform ignores the latter). Returns a `Method`."""
    config: type = NoConfig
    """A frozen dataclass; its defaults are the published setting."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Field values per run preset, where the published setting does not fit it."""
    phases: tuple[str, ...] = ()
    """Names of the phases of the fit; empty for a fixed transform."""
    needs: frozenset[Need] = frozenset()
    """Labels and extras the method uses; what is not named here never reaches it."""
    space: Space = "rgb01"
    """Range of the output, by default: [0, 1], or unbounded (``Anonymized.space`` decides)."""
    identity: bool = False
    """Whether the output is the input: the run that the share ``left`` is measured against."""
    reference: str = ""
    """Where the method was published."""
    source: str = ""
    """The distribution it came from; filled in by `specs`."""

    @property
    def learned(self) -> bool:
        """Whether the method must be fitted before it is used."""
        return bool(self.phases)

    def configure(self, preset: str, overrides: Mapping[str, str] | None = None) -> Any:
        """The configuration for a preset with ``KEY=VALUE`` overrides applied.

        Raises:
            UserError: an unknown field or a value of the wrong type.
        """
        config = self.config(**self.presets.get(preset, {}))
        return override(config, overrides or {}, owner=self.name)

    def make(self, config: Any, vit: VitSpec) -> Method:
        """Build the method; heavy imports happen here."""
        build = _load_object(self.build, f"method {self.name!r}")
        with naming(self.name, "its constructor"):
            made = build(config, vit)
        if not isinstance(made, Method):
            raise MethodError(
                f"method {self.name!r} cannot be used",
                f"{self.build} returned {type(made).__name__}, which lacks phases, parts or anonymize",
                "see docs/adding-a-method.md",
            )
        return made


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that could not be imported; it stops only the command that asks for it."""

    name: str
    source: str
    error: str


def specs() -> dict[str, MethodSpec | Broken]:
    """The installed methods by name, read from package metadata at each call.

    Raises:
        UserError: two packages claim one name.
    """
    found: dict[str, MethodSpec | Broken] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        source = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        if point.name in found:
            raise UserError(
                f"method name {point.name!r} is taken twice",
                f"{found[point.name].source} and {source} both claim it",
                "uninstall one of them",
            )
        found[point.name] = _from_entry_point(point, source)
    return found


def find(name: str) -> MethodSpec:
    """The spec of an installed method, or of any ``package.module:NAME``.

    Raises:
        UserError: unknown; as `MethodError` broken, or not a `MethodSpec`.
    """
    if ":" in name:
        package = name.partition(":")[0].partition(".")[0]
        if not package or importlib.util.find_spec(package) is None:
            raise UserError(f"unknown method {name!r}", f"there is no package {package!r}", "check the name")
        spec = _load_object(name, f"method {name!r}")
        if not isinstance(spec, MethodSpec):
            raise MethodError(f"{name!r} is no method", "it does not name a MethodSpec", "name a MethodSpec value")
        return spec
    installed = specs()
    if name not in installed:
        raise unknown_name("method", name, installed)
    spec = installed[name]
    if isinstance(spec, Broken):
        raise MethodError(f"method {name!r} cannot be used", spec.error, f"repair or reinstall {spec.source}")
    return spec


@contextmanager
def naming(method: str, what: str) -> Iterator[None]:
    """Surround a call of a method's own code: whatever it raises then names the method and ``what`` was called.

    Errors of ours, the system's refusals and exhausted memory pass as they are.
    """
    try:
        yield
    except (BenchError, OSError):
        raise
    except Exception as error:  # a stranger's code may raise anything
        if out_of_memory(error):
            raise
        raise WorkError(
            f"method {method!r} failed",
            f"{what} raised {type(error).__name__}: {error}",
            "repair it; stp_bench.contract.check_method shows what it breaks",
        ) from error


def inputs_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration that move numbers: all but those declared with ``field(compare=False)``, which
    only say how the work is done, such as a time limit. They are recorded and are no part of cache keys."""
    moving = {f.name for f in dataclasses.fields(config) if f.compare}
    return {name: value for name, value in dataclasses.asdict(config).items() if name in moving}


def _from_entry_point(point: EntryPoint, source: str) -> MethodSpec | Broken:
    try:
        spec = point.load()
    except Exception as error:  # listed as broken, with its error
        return Broken(point.name, source, f"importing {point.value} raised {type(error).__name__}: {error}")
    if not isinstance(spec, MethodSpec):
        return Broken(point.name, source, f"{point.value} is no MethodSpec")
    if spec.name != point.name:
        return Broken(point.name, source, f"{point.value} calls itself {spec.name!r}")
    return dataclasses.replace(spec, source=source)


def _load_object(path: str, what: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a stranger's module may raise anything when it is imported
        reason = f"importing {path} raised {type(error).__name__}: {error}"
        raise MethodError(f"{what} cannot be used", reason, "check the name, or repair the package") from error
