"""The nouns of the benchmark: every other module speaks in these few frozen values.

A *benchmark* is videos with labels for its *targets*; a *protocol* says on which split a method is fitted and which
*probes* (fresh recognizers) judge it; a *stage* is one cached piece of that work.

Axes in tensor names: B clips, C channels, T frames, H, W pixels, L slots (groups of tubelet frames), N tubelets of a
slot, V videos, K classes of a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Part = Literal["train", "test"]
Unit = Literal["video", "frame"]
Space = Literal["rgb01", "free"]
Sampling = Literal["exact", "videomae"]
Labels = Sequence[int]
"""What is known of one unit and one target. Multiclass: the class number, alone. Multilabel: per class 1 (present),
0 (absent) or -1 (not labelled). A tuple, or a compact array where a target has `COMPACT` classes or more."""
COMPACT = 64
"""From so many classes on, labels are held in an array of bytes: eight bytes a class would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something a recognizer predicts. ``private`` targets should become hard to predict, the others stay easy."""

    name: str
    kind: Literal["multiclass", "multilabel"]
    classes: tuple[str, ...]
    private: bool = False
    groups: tuple[tuple[str, int], ...] = ()
    """Names and sizes of consecutive groups of classes that are scored group by group, such as (("object", 1678),
    ("scene", 248)); empty where every class counts alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A data set as the protocol sees it. ``stride`` is the paper's sampling rate r (section 4.3)."""

    name: str
    title: str
    version: int
    targets: tuple[Target, ...]
    stride: int
    splits: int
    embedded: bool = False

    @property
    def action(self) -> Target:
        """The target whose recognition must survive."""
        return next(t for t in self.targets if not t.private)

    @property
    def privacy(self) -> Target:
        """The target that must not be recognizable."""
        return next(t for t in self.targets if t.private)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Frames ``start`` to ``end``, both included, that share the labels of one target."""

    start: int
    end: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video of an index. Sizes are of the decoded frames; ``labels[target]`` is None where nobody labelled it."""

    video_id: str
    relpath: str
    labels: Mapping[str, Labels | None]
    group: str | None
    frames: int
    height: int
    width: int
    fps: float
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """Labels of single frames, by target, where a benchmark has them: in order, without overlap; a frame outside all
    spans is not labelled. ``labels`` then says what some frame shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef:
    """A reference to one side of one official split."""

    benchmark: str
    part: Part
    split: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A fresh recognizer that judges anonymized videos.

    ``unit`` is what it sees at once: a whole clip (``video``) or one frame of it (``frame``). ``judged`` is what it is
    asked about: videos, by its scores averaged over a video's views; or single frames, each with labels of its own.
    """

    name: str
    target: str
    unit: Unit
    train: SplitRef
    test: SplitRef
    judged: Unit = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Where a method is fitted and which probes judge it. A protocol is a value: see ``protocols.py``."""

    name: str
    fit: SplitRef
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """How a clip is cut from a video: ``frames`` frames, ``stride`` apart, square crops of ``size`` pixels."""

    frames: int
    stride: int
    size: int
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class VitSpec:
    """Sizes of a video ViT (defaults: ViT-S on 16 x 112 x 112, the paper's section 4.3).

    ``temporal_gain`` > 0 feeds the tubelet embedding the mean and ``gain`` x the difference of each frame pair: the
    same function class in a temporal Haar basis, without which a network that starts from random weights hardly learns
    motion. 0 is the plain embedding, right where image weights are inflated.
    """

    frames: int = 16
    size: int = 112
    tubelet: int = 2
    patch: int = 16
    dim: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    temporal_gain: float = 0.0

    @property
    def slots(self) -> int:
        """L: time slots of a clip."""
        return self.frames // self.tubelet

    @property
    def side(self) -> int:
        """Tubelets along one side of a frame."""
        return self.size // self.patch

    @property
    def tubelets(self) -> int:
        """N: tubelets of a slot."""
        return self.side**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One cached piece of work. ``inputs`` is everything that moves its numbers; ``key`` is their fingerprint."""

    kind: str
    name: str
    key: str
    inputs: Mapping[str, Any] = field(repr=False)
    needs: tuple[str, ...] = ()
