"""The privacy attributes that the benchmark asks about: definitions as data, in their fixed order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["Attribute", "attributes"]


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


@cache
def attributes() -> tuple[Attribute, ...]:
    """The five attributes in the order of every table and file: face, skin color, gender, nudity, relationship."""
    text = resources.files(__name__).joinpath("attributes.json").read_text(encoding="utf-8")
    return tuple(Attribute(**entry) for entry in json.loads(text))
