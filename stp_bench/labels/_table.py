"""A label table: labels of videos as a release states them, before they are joined with files and split lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stp_bench.schema import Labels, Part, Span, Target


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelTable:
    """Labels by video id (``<class>/<stem>`` where the data set has class folders, else ``<stem>``)."""

    release: str
    """Name of the release, e.g. ``vp-hmdb51``."""
    targets: tuple[Target, ...]
    """What is labelled: privacy alone where the action is the class folder; else the action (expression) too."""
    rows: Mapping[str, Mapping[str, Labels | None]]
    """Video id to target name to labels, sorted by id. With ``spans``: what some frame of the video shows."""
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """Video id to frame ranges of the private target; only of frame-level releases."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Video id to its source (such as a YouTube id), where the release names one."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Video id to its side, where the release itself is split."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Where the labels come from: release, rule, digests, column order and how it is known, licence, what was left
    out; JSON-able."""
