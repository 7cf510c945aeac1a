"""CelebV-HQ: emotion and appearance of faces, one JSON file for all clips.

``meta_info.appearance_mapping`` names the columns of each clip's ``attributes.appearance``: ours are found by name,
since nothing promises their places. ``attributes.emotion`` is one emotion, or (``sep_flag``) several with their
seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stp_annotations import Release
from stp_bench.labels._official import about, accepted, broken, content_of, name_of, parse_json
from stp_bench.labels._table import LabelTable
from stp_bench.schema import Labels, Target

FILE = "celebvhq_info.json"

EXPRESSION = Target(
    name="expression",
    kind="multiclass",
    classes=("neutral", "happy", "sadness", "anger", "fear", "surprise", "contempt", "disgust"),
)
PRIVACY = Target(
    name="privacy",
    kind="multilabel",
    classes=("young", "pointy_nose", "male", "rosy_cheeks", "brown_hair"),
    private=True,
)


def read_celebv(path: Path, release: Release, *, rule: str, accept_unknown: bool) -> LabelTable:
    """The table of ``celebvhq_info.json``, grouped by the video on YouTube that a clip is cut from.

    Args:
        rule: what becomes of clips with several emotions: ``exclude`` drops them, ``longest`` takes the emotion that
            lasts longest at a stretch (the earlier of two equal ones).

    Raises:
        UserError: not the published file (unless accepted), or not what such a file holds.
    """
    content = content_of(path)
    digest = hashlib.sha256(content).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    git.update(content)
    matches = git.hexdigest() == release.git_blob
    verified = accepted(path, release.name, matches, digest, accept_unknown=accept_unknown)
    rows: dict[str, Mapping[str, Labels | None]] = {}
    groups: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    try:
        clips, columns = _clips_and_columns(parse_json(content))
        del content
        for key in sorted(clips):
            try:
                emotion, appearance, group = _clip(clips[key], columns, rule)
            except ValueError as error:
                raise ValueError(f"clip {name_of(key)!r:.80}: {error}") from error
            if emotion is None:
                left_out["several emotions" if rule == "exclude" else "no emotion with a duration"] += 1
                continue
            rows[name_of(key)] = {
                EXPRESSION.name: (EXPRESSION.classes.index(emotion),),
                PRIVACY.name: appearance,
            }
            groups[key] = group
    except ValueError as error:
        raise broken(path, release.name, str(error)) from error
    if not rows:
        raise broken(path, release.name, "it labels no clip")
    return LabelTable(
        release=release.name,
        targets=(EXPRESSION, PRIVACY),
        rows=rows,
        groups=groups,
        manifest=about(release, {path.name: digest}, verified=verified, rule=rule)
        | {"videos": {"published": release.videos, "read": len(clips)}, "left_out": dict(left_out)},
    )


def _clips_and_columns(document: Any) -> tuple[Mapping[str, Any], list[str]]:
    """All clips, and the lower-cased names of the appearance columns."""
    clips = document.get("clips") if isinstance(document, dict) else None
    info = document.get("meta_info") if isinstance(document, dict) else None
    names = info.get("appearance_mapping") if isinstance(info, dict) else None
    if not isinstance(clips, dict) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError("it has no clips, or no meta_info.appearance_mapping")
    columns = [name.strip().lower() for name in names]
    for name in PRIVACY.classes:
        if columns.count(name) != 1:
            raise ValueError(f"its appearance_mapping names {name} {columns.count(name)} times")
    return clips, columns


def _clip(clip: Any, columns: list[str], rule: str) -> tuple[str | None, tuple[int, ...], str]:
    """A clip's emotion (None: left out), our attributes, and where it is cut from."""
    attributes = clip.get("attributes") if isinstance(clip, dict) else None
    appearance = attributes.get("appearance") if isinstance(attributes, dict) else None
    if attributes is None or not isinstance(appearance, list) or len(appearance) != len(columns):
        raise ValueError(f"it has not {len(columns)} values of appearance")
    values = tuple(appearance[columns.index(name)] for name in PRIVACY.classes)
    if not all(type(value) is int and value in (0, 1) for value in values):
        raise ValueError("its appearance has a value outside 0 and 1")
    group = clip.get("ytb_id")
    return _emotion(attributes.get("emotion"), rule), values, name_of(group)


def _emotion(emotion: Any, rule: str) -> str | None:
    several = emotion.get("sep_flag") if isinstance(emotion, dict) else None
    if not isinstance(several, bool):
        raise ValueError("its emotion has no sep_flag")
    if not several:
        return _known(emotion.get("labels"))
    if rule == "exclude":
        return None
    pieces = emotion.get("labels")
    if not isinstance(pieces, list) or not all(isinstance(piece, dict) for piece in pieces):
        raise ValueError("its emotion has no list of pieces")
    lasting = [(_seconds(piece), _known(piece.get("emotion"))) for piece in pieces]
    longest = max(lasting, key=lambda one: one[0], default=(0.0, ""))
    return longest[1] if longest[0] > 0 else None


def _seconds(piece: Mapping[str, Any]) -> float:
    start, end = piece.get("start_sec"), piece.get("end_sec")
    if type(start) not in (int, float) or type(end) not in (int, float):
        raise ValueError("a piece of its emotion has no start_sec and end_sec")
    try:
        seconds = float(end) - float(start)  # type: ignore[arg-type]
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("a piece of its emotion does not end")
    return seconds


def _known(emotion: Any) -> str:
    if not isinstance(emotion, str) or emotion.strip().lower() not in EXPRESSION.classes:
        raise ValueError(f"its emotion {str(emotion)[:40]!r} is none of {', '.join(EXPRESSION.classes)}")
    return emotion.strip().lower()
