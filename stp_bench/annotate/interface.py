"""The labelling page: one block of three answers per attribute beside the video, made from the attribute table.

What an answer means depends on the questions, the offered answers and the guideline. `digest` covers these three, and
nothing of how the page looks; a round keeps it, and is refused where the installed texts have another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from stp_annotations import Attribute
from stp_bench.files import fingerprint

YES, NO, UNSURE = "identifiable", "not_identifiable", "unsure"
CHOICES = {YES: "Yes", NO: "No", UNSURE: "Not sure"}
NOTE = "note"
"""Control of the free remark. It may tell of persons, so it never leaves an export."""
PLAY_KEY = {"video:media:playpause": {"key": "space", "active": True}}
"""The server's own key for it is ctrl+alt+space; each account has its own setting."""

_VIDEO = "video"
_STYLE = """
.stp-row{display:flex;gap:16px;align-items:flex-start}
.stp-video{flex:0 0 50%;position:sticky;top:0}
.stp-form{flex:1}
.stp-attr{border:1px solid #c8c8d4;border-radius:6px;padding:4px 10px;margin-bottom:6px}
.stp-attr > div{margin:0 !important}
.stp-head{display:flex;gap:10px;align-items:baseline}
.stp-head > div{margin:0 !important}
.stp-guide *{font-size:12px !important;line-height:1.3 !important;font-weight:400 !important;margin:0 !important}
"""


def digest(attributes: Sequence[Attribute], guideline_version: str) -> str:
    """Fingerprint of everything that an answer's meaning depends on."""
    texts = [[a.name, a.title, a.question, a.yes, a.no] for a in attributes]
    return fingerprint([texts, CHOICES, guideline_version])


def config(attributes: Sequence[Attribute], *, disputed: bool = False) -> str:
    """The labelling interface as Label Studio's XML.

    Args:
        attributes: the questions, in the order of the page.
        disputed: show each task's ``dispute``, for the expert who settles it.
    """
    page = ElementTree.Element("View")
    ElementTree.SubElement(page, "Style").text = _STYLE
    row = ElementTree.SubElement(page, "View", className="stp-row")
    left = ElementTree.SubElement(row, "View", className="stp-video")
    ElementTree.SubElement(
        left, "Video", name=_VIDEO, value="$video", framerate="$fps", height="360", timelineHeight="40"
    )
    task = "Watch the whole clip, then answer for the whole clip: identifiable in at least one moment?"
    ElementTree.SubElement(left, "Header", size="5", value=task)
    if disputed:
        ElementTree.SubElement(left, "Header", size="4", value="$dispute")
    form = ElementTree.SubElement(row, "View", className="stp-form")
    for attribute in attributes:
        form.append(_block(attribute))
    ElementTree.SubElement(
        form, "TextArea", name=NOTE, toName=_VIDEO, placeholder="Note (optional; write nothing about a person here)",
        rows="1", maxSubmissions="1", editable="true",
    )  # fmt: skip
    ElementTree.indent(page)
    return ElementTree.tostring(page, encoding="unicode")


def _block(attribute: Attribute) -> ElementTree.Element:
    block = ElementTree.Element("View", className="stp-attr")
    keys = dict(zip(CHOICES, attribute.keys, strict=True))
    head = ElementTree.SubElement(block, "View", className="stp-head")
    ElementTree.SubElement(head, "Header", size="6", value=attribute.title)
    asked = ElementTree.SubElement(head, "View", className="stp-guide")
    ElementTree.SubElement(asked, "Header", size="6", value=attribute.question)
    guide = ElementTree.SubElement(block, "View", className="stp-guide")
    for text in (f"Yes: {attribute.yes}", f"No: {attribute.no}"):
        ElementTree.SubElement(guide, "Header", size="6", value=text)
    choices = ElementTree.SubElement(
        block, "Choices", name=attribute.name, toName=_VIDEO, choice="single-radio", showInline="true",
        required="true", requiredMessage=f"{attribute.title}: choose one answer",
    )  # fmt: skip
    for value, text in CHOICES.items():
        ElementTree.SubElement(choices, "Choice", value=value, html=text, hotkey=keys[value])
    return block


def answers(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Label Studio's form of answers: attribute to one of `CHOICES`."""
    return [
        {"from_name": name, "to_name": _VIDEO, "type": "choices", "value": {"choices": [value]}}
        for name, value in values.items()
    ]


def prefilled(scores: Mapping[str, float], model: str) -> dict[str, Any]:
    """A model's answers as a pre-annotation: yes from a score of one half on. The score is the least sure one's."""
    values = {name: YES if score >= 0.5 else NO for name, score in scores.items()}
    sure = min(max(score, 1 - score) for score in scores.values())
    return {"model_version": model, "score": sure, "result": answers(values)}


def uncertainty(scores: Mapping[str, float]) -> float:
    """Mean entropy of the scores in bits, 0 (sure of every attribute) to 1 (a coin's)."""
    return sum(-_plogp(score) - _plogp(1 - score) for score in scores.values()) / len(scores)


def _plogp(p: float) -> float:
    return p * math.log2(p) if p > 0 else 0.0
