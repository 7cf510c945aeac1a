"""From a labelling server's export to votes.

The server checks next to nothing of what it stores: half-filled forms, answers that were never offered, several forms
by one person, forms changed by somebody else. So an export is read with distrust, and what cannot be counted is set
aside with its reason.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from stp_bench.annotate import interface
from stp_bench.annotate._table import ABSTAIN, NO, YES, is_number, seconds_of, utc_text, votes_table
from stp_bench.errors import UserError

REJECT_COLUMNS = ("video_id", "annotator", "annotation_id", "reason", "detail", "round")
REASONS: Mapping[str, str] = {
    "malformed": "not what the server writes",
    "unknown_video": "of a video that is not part of the round",
    "not_invited": "by somebody who was not invited",
    "edited_by_other": "changed by somebody else",
    "cancelled": "skipped",
    "prefilled": "started from a machine's answer",
    "unknown_control": "has an answer to a question that was not asked",
    "unknown_value": "has an answer that was not offered",
    "conflicting": "answers a question twice",
    "incomplete": "leaves a question open",
    "superseded": "the same person answered again later",
}
"""Why an annotation is set aside."""
VOTES: Mapping[str, str] = {interface.YES: YES, interface.NO: NO, interface.UNSURE: ABSTAIN}
"""Answer of the labelling page to vote."""


def pseudonym(key: bytes, email: str) -> str:
    """A person's name in every table: stable under one key, and without the key no way back to the address.

    >>> pseudonym(b"secret", "Ann@example.com ") == pseudonym(b"secret", "ann@example.com")
    True
    """
    digest = hmac.new(key, email.strip().lower().encode(), hashlib.sha256).hexdigest()
    return f"a-{digest[:8]}"


class Extracted(NamedTuple):
    """What an export holds."""

    votes: pd.DataFrame
    """`COLUMNS`, sorted."""
    rejects: pd.DataFrame
    """`REJECT_COLUMNS`, sorted: one row per annotation that was set aside."""


def extract(
    tasks: Iterable[Any],
    *,
    people: Mapping[int, str],
    videos: Collection[str],
    attributes: Sequence[str],
    invited: Collection[int] | None,
    round: str,
    guideline_version: str,
    asked: Mapping[str, Collection[str]] | None = None,
    allow_prefilled: bool = False,
) -> Extracted:
    """The votes in a Label Studio export (JSON). Whatever it holds, nothing but the export as a whole raises.

    Of several valid annotations of a video by one person, the one changed last counts.

    Args:
        tasks: its tasks, each with ``data.video_id`` and ``annotations``; may be read as they come.
        people: the server's number of a user to pseudonym.
        videos: ids of the round.
        attributes: what was asked, in the order of tables.
        invited: users whose answers count; None for all of ``people``.
        asked: video id to the attributes asked of it, where that differs: only these are required, and kept.
        allow_prefilled: take answers that started from a machine's, which are not independent.

    Raises:
        UserError: it is not an export of tasks.
    """
    reader = _Export(people, set(videos), tuple(attributes), invited, asked, allow_prefilled)
    for number, task in enumerate(tasks, 1):
        if not isinstance(task, Mapping):
            why = f"entry {number} is no task"
            raise UserError("cannot read the export", why, "export the project again as JSON")
        reader.add(task)
    return reader.extracted(round, guideline_version)


class _Set(Exception):
    """Set aside: reason and detail."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One person's valid answers to one video."""

    number: int
    seconds: float | None
    created_at: str
    updated_at: str
    votes: Mapping[str, str]


@dataclass(slots=True)
class _Export:
    """Collects the annotations of tasks: the valid ones by video and person, the others with their reasons."""

    people: Mapping[int, str]
    videos: set[str]
    attributes: tuple[str, ...]
    invited: Collection[int] | None
    asked: Mapping[str, Collection[str]] | None
    allow_prefilled: bool
    forms: dict[tuple[str, str], _Form] = field(default_factory=dict)
    rejects: list[tuple[str, str, int | None, str, str]] = field(default_factory=list)

    def add(self, task: Mapping[str, Any]) -> None:
        data, annotations = task.get("data"), task.get("annotations")
        video_id = data.get("video_id") if isinstance(data, Mapping) else None
        video_id = video_id if isinstance(video_id, str) else ""
        if not isinstance(annotations, list):
            if annotations is not None:
                self._reject(video_id, {}, "malformed", "annotations are no list")
            return
        for annotation in annotations:
            try:
                form = self._form(video_id, annotation)
            except _Set as aside:
                self._reject(video_id, annotation, *aside.args)
                continue
            self._take(video_id, self.people[_user(annotation["completed_by"])], form)

    def extracted(self, round: str, guideline_version: str) -> Extracted:
        rows = [
            (video_id, who, name, vote, f.seconds, f.number, f.created_at, f.updated_at, round, guideline_version)
            for (video_id, who), f in self.forms.items()
            for name, vote in f.votes.items()
        ]
        return Extracted(votes_table(rows), rejects_table([(*row, round) for row in self.rejects]))

    def _take(self, video_id: str, who: str, form: _Form) -> None:
        before = self.forms.get((video_id, who))
        if before is not None:
            before, form = sorted((before, form), key=lambda one: (one.updated_at, one.number))
            detail = f"by annotation {form.number}"
            self.rejects.append((video_id, who, before.number, "superseded", detail))
        self.forms[video_id, who] = form

    def _reject(self, video_id: str, annotation: Any, reason: str, detail: str) -> None:
        found = annotation if isinstance(annotation, Mapping) else {}
        who = self.people.get(_user(found.get("completed_by")), "")
        number = found.get("id")
        self.rejects.append((_printable(video_id), who, number if is_number(number) else None, reason, detail))

    def _form(self, video_id: str, annotation: Any) -> _Form:
        if not isinstance(annotation, Mapping) or not is_number(annotation.get("id")):
            raise _Set("malformed", "no numbered annotation")
        created_at, updated_at = (utc_text(annotation.get(name)) for name in ("created_at", "updated_at"))
        if created_at is None or updated_at is None:
            raise _Set("malformed", "no time of submission")
        if video_id not in self.videos or (self.asked is not None and video_id not in self.asked):
            raise _Set("unknown_video", "")
        user, editor = _user(annotation.get("completed_by")), annotation.get("updated_by")
        if user not in self.people or (self.invited is not None and user not in self.invited):
            raise _Set("not_invited", f"user {user}")
        if editor is not None and _user(editor) != user:
            raise _Set("edited_by_other", f"user {_user(editor)}")
        if annotation.get("was_cancelled"):
            raise _Set("cancelled", "")
        if annotation.get("parent_prediction") is not None and not self.allow_prefilled:
            raise _Set("prefilled", "")
        votes = self._votes(video_id, annotation.get("result"))
        return _Form(annotation["id"], seconds_of(annotation.get("lead_time")), created_at, updated_at, votes)

    def _votes(self, video_id: str, result: Any) -> dict[str, str]:
        if not isinstance(result, list):
            raise _Set("malformed", "no list of answers")
        found: dict[str, str] = {}
        for entry in result:
            if not isinstance(entry, Mapping):
                raise _Set("malformed", "an answer is no object")
            name, value = entry.get("from_name"), entry.get("value")
            if name == interface.NOTE:
                continue
            if name not in self.attributes:
                raise _Set("unknown_control", f"{name!r:.40}")
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if not isinstance(choices, list) or not choices:
                raise _Set("unknown_value", f"{name}: none")
            unknown = [c for c in choices if not isinstance(c, str) or c not in VOTES]
            if unknown:
                raise _Set("unknown_value", f"{name}: {unknown[0]!r:.40}")
            if len(choices) > 1 or name in found:
                raise _Set("conflicting", name)
            found[name] = VOTES[choices[0]]
        wanted = [n for n in self.attributes if self.asked is None or n in self.asked[video_id]]
        missing = [name for name in wanted if name not in found]
        if missing:
            raise _Set("incomplete", f"no {', '.join(missing)}")
        return {name: found[name] for name in wanted}


def _user(value: Any) -> int:
    """A user's number, which some exports wrap in an object; -1 is nobody."""
    value = value.get("id") if isinstance(value, Mapping) else value
    return value if is_number(value) else -1


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:512]


def rejects_table(rows: pd.DataFrame | Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A table of these rows, in order."""
    types = dict.fromkeys(REJECT_COLUMNS, object) | {"annotation_id": "Int64"}
    made = pd.DataFrame(rows, columns=list(REJECT_COLUMNS)).astype(types)
    return made.sort_values(list(REJECT_COLUMNS[:4]), kind="stable", ignore_index=True)
