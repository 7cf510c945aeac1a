"""Facts about privacy labels as data: the five attributes in their fixed order, how annotators are to answer them, what
their tables look like, and the label releases of others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

__all__ = [
    "GUIDELINE_VERSION", "Attribute", "Release", "attributes", "consent", "datasheet", "guidelines", "releases",
]  # fmt: skip

GUIDELINE_VERSION = "1"
"""Of the wording that annotators answer to: the texts of the attributes and `guidelines`. Every vote carries it. A new
wording raises it; a question that means something else is another attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One yes-or-no question about a video. 1 means that the thing can be identified, never which value it has."""

    name: str
    """Key in every table and file."""
    title: str
    question: str
    yes: str
    """When a video is labelled 1."""
    no: str
    """When a video is labelled 0."""
    keys: tuple[str, str, str]
    """Keys of the labelling page for yes, no and not sure: a column of the keyboard per attribute, a row per answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A published label release: where it lies, how to know that a file is it, and what its authors state of it."""

    name: str
    dataset: str
    repository: str
    """``owner/name`` on GitHub."""
    commit: str
    files: tuple[str, ...]
    """Paths in the repository at that commit; none of a release that is made ``of`` others."""
    of: tuple[str, ...] = ()
    """Names of the releases that it is made of."""
    license: str
    sha256: str | None = None
    """Of the file; of several files, see ``note``."""
    git_blob: str | None = None
    """Git's own digest of the file, where no other is known."""
    inner_sha256: str | None = None
    """Of the one file inside, where the file is an archive."""
    canonical_sha256: str | None = None
    """Of the sorted lines ``<class>/<stem>,<values in the order of columns>`` and a line feed each."""
    bytes: int | None = None
    videos: int | None = None
    """How many videos the release labels, before any filter of ours."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Videos that each side keeps after the filter that defines the release."""
    columns: tuple[str, ...] = ()
    """What its columns mean, in the order of the file."""
    columns_known: str = ""
    """How that is known: ``inferred``, or ``named in the file``."""
    rules: tuple[str, ...] = ()
    """Ways to read it as yes or no; the first is the default."""
    positives: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rule (``as published`` where there is none to choose) to class to number of positive videos."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Class to published share of videos, where only that is known."""
    note: str = ""

    def prevalence(self, rule: str | None = None) -> dict[str, float]:
        """Published share of positive videos of each class under a rule; empty where none is published."""
        counts = self.positives.get(rule or "as published", {})
        shares = {name: count / self.videos for name, count in counts.items()} if self.videos else {}
        return shares or dict(self.shares)


@cache
def attributes() -> tuple[Attribute, ...]:
    """The five attributes in the order of every table and file: face, skin color, gender, nudity, relationship."""
    return tuple(Attribute(**entry | {"keys": tuple(entry["keys"])}) for entry in _entries("attributes.json"))


def guidelines() -> str:
    """What annotators read before they start, a piece of HTML: the rule, and per attribute examples and edge cases."""
    return _text("guidelines.html")


def consent() -> str:
    """What people should know before they agree to annotate, in Markdown: the task, their data, their well-being."""
    return _text("consent.md")


def datasheet() -> str:
    """The datasheet of a label release, in Markdown with ``${name}`` where its figures go (`string.Template`)."""
    return _text("datasheet.md")


@cache
def releases() -> Mapping[str, Release]:
    """The known label releases by name."""
    lists = ("files", "of", "columns", "rules")
    found: dict[str, Release] = {}
    for entry in _entries("releases.json"):
        values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in entry.items()}
        found[entry["name"]] = Release(**values)
    return found


def _entries(file: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(_text(file))
    return entries


def _text(file: str) -> str:
    return resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
