"""Split lists: reading the published ones of HMDB51 and UCF101, and lists made by rule.

HMDB51 has a file per class and split, ``<class>_test_split<n>.txt``, whose lines are a name and a code: 1 training, 2
test, 0 unused. UCF101 has ``classInd.txt``, ``trainlist<nn>.txt`` and ``testlist<nn>.txt`` with ``<class>/<file>``
lines; only training lines carry the class number, counted from 1. Lists are compared with the published SHA-256, and
what differs is refused unless it is asked for. Archives are read in memory; a name in them is never used as a path.

Video ids are ``<class>/<file without suffix>``, the class in its official spelling.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from stp_bench.errors import UserError
from stp_bench.matching import CONTAINERS, SUFFIXES, class_of, some, without_suffix
from stp_bench.schema import Part

Family = Literal["hmdb51", "ucf101"]
Side = Mapping[str, Part]
"""Video id to its side in one split; an unused video is absent."""

TITLES: Mapping[Family, str] = {"hmdb51": "HMDB51", "ucf101": "UCF101"}

HMDB51_VIDEOS: Mapping[str, int] = {
    "brush_hair": 107, "cartwheel": 107, "catch": 102, "chew": 109, "clap": 130, "climb": 108, "climb_stairs": 112,
    "dive": 127, "draw_sword": 103, "dribble": 145, "drink": 164, "eat": 108, "fall_floor": 136, "fencing": 116,
    "flic_flac": 107, "golf": 105, "handstand": 113, "hit": 127, "hug": 118, "jump": 151, "kick": 130, "kick_ball": 128,
    "kiss": 102, "laugh": 128, "pick": 106, "pour": 106, "pullup": 104, "punch": 126, "push": 116, "pushup": 103,
    "ride_bike": 103, "ride_horse": 116, "run": 232, "shake_hands": 162, "shoot_ball": 131, "shoot_bow": 112,
    "shoot_gun": 103, "sit": 142, "situp": 105, "smile": 102, "smoke": 109, "somersault": 140, "stand": 154,
    "swing_baseball": 143, "sword": 127, "sword_exercise": 127, "talk": 120, "throw": 102, "turn": 240, "walk": 548,
    "wave": 104,
}  # fmt: skip
"""Videos per class in the published lists; the order of the classes is the alphabet's."""

UCF101_CLASSES = tuple(
    """ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
    BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag
    BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen
    Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut Hammering
    HammerThrow HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding HulaHoop IceDancing
    JavelinThrow JugglingBalls JumpingJack JumpRope Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor
    Nunchucks ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano
    PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor
    RopeClimbing Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling
    SoccerPenalty StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus
    TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo""".split()  # noqa: SIM905 (a list of a hundred quoted names says no more)
)
"""In the order of ``classInd.txt``."""

# HMDB51: of the sorted lines "<class>/<name>.avi <code>\n" of a split. UCF101: of the file with CRLF line ends.
_PUBLISHED: Mapping[Family, Mapping[str, str]] = {
    "hmdb51": {
        "split1": "edd69c70cd7cd7bbe9fab8168848bf314915b45dfd253738fc6dcd4bffa2046d",
        "split2": "67c032f8b705b41a947849e898fa05818512f232297f0869e59ecb5bb4eeb2b8",
        "split3": "34484e404fe230bdcf73db7566b831380cdd077c7c88112c864c5d43539b6f9b",
    },
    "ucf101": {
        "classInd.txt": "d7abbb76074d04e80c62ad8a61529bb8eec32ef978569601b2890edec3af0359",
        "trainlist01.txt": "f7a4d7abc05147b921c17fc227d731197c3583f29945d1f1d46bce830d1b9f12",
        "testlist01.txt": "81be4765084d72739dca4d11658f7ec369c441ad9e227f11d9468fe2a1c14890",
        "trainlist02.txt": "3ea7145317098bdb4a999f69fb3b53ca3d3831d692602fc5dc8cd5c5e3eb8ca9",
        "testlist02.txt": "c9eec18f3f312153cda441f93e30bc9cffef1941367ebc06996e40c9cd056c91",
        "trainlist03.txt": "c75af0148b3b0e70d5d881ad71b0a5fbb685bf2d3278908278658435c3f1bf0f",
        "testlist03.txt": "f9cc029b0598c63f5cc07d070ae1fa4666d1d3901cc79a93490ea0742ca097db",
    },
}
_UCF_LINES: Mapping[str, int] = {
    "trainlist01.txt": 9537, "testlist01.txt": 3783, "trainlist02.txt": 9586, "testlist02.txt": 3734,
    "trainlist03.txt": 9624, "testlist03.txt": 3696,
}  # fmt: skip

_LIMIT = 2**26
"""Bytes that all lists (or an archive of them) may have: the real ones have less than two million."""
_FILE_LIMIT = 2**22
_DEPTH = 4
_NAME = 512
"""Characters of a group's name."""
_HMDB_FILE = re.compile(r"(.+)_test_split([1-9])\.txt")
_UCF_FILE = re.compile(r"(train|test)list0?([1-9])\.txt")
_HMDB_NAME = r"_[fuhl]_(?:cm|nm)_np\d+_(?:fr|le|ri|ba)_(?:med|bad|goo)_\d+"


@dataclass(frozen=True, kw_only=True)
class SplitLists:
    """Split lists as published, or as accepted."""

    family: Family
    classes: tuple[str, ...]
    """In the order of their numbers."""
    parts: Mapping[int, Side]
    ids: tuple[str, ...]
    """All listed videos, sorted, those that no split uses included."""
    digests: Mapping[str, str]
    """SHA-256 per list, computed as the published ones are."""
    verified: bool
    """Whether every list is the published one."""
    differences: tuple[str, ...] = ()
    """What differs from the published lists; empty where they are verified."""


def read_lists(path: Path, *, family: Family | None = None, accept_unknown: bool = False) -> SplitLists:
    """Read the split lists in a folder (subfolders included), a zip or a tar archive (plain or gzip).

    Args:
        path: folder or archive.
        family: whose lists they must be; None for whichever are there.
        accept_unknown: take lists that are not the published ones, if they do not contradict themselves.

    Raises:
        UserError: there are no such lists, they contradict themselves, or are not the published ones.
    """
    files = _members(path)
    found: dict[Family, dict[str, bytes]] = {
        "hmdb51": {name: content for name, content in files.items() if _HMDB_FILE.fullmatch(name)},
        "ucf101": {n: content for n, content in files.items() if n == "classInd.txt" or _UCF_FILE.fullmatch(n)},
    }
    there = [name for name, lists in found.items() if lists]
    if family is None and len(there) > 1:
        raise UserError(f"{path} holds split lists of two data sets", "both HMDB51's and UCF101's", "name one's folder")
    wanted = family or (there[0] if there else None)
    if wanted is None or wanted not in there:
        raise _absent(path, wanted, there)
    read = _read_hmdb51 if wanted == "hmdb51" else _read_ucf101
    lists = read(path, found[wanted])
    if lists.differences and not accept_unknown:
        raise UserError(
            f"the split lists in {path} are not those of {TITLES[wanted]} as published",
            "; ".join(lists.differences[:4]).replace(";", ","),
            "unpack the official archive again, or take them as they are with --accept-unknown",
        )
    return lists


def list_digest(side: Side) -> str:
    """SHA-256 of one split: its sorted lines ``<video id> <train|test>``."""
    return hashlib.sha256("".join(sorted(f"{i} {part}\n" for i, part in side.items())).encode()).hexdigest()


def hmdb51_title(video_id: str) -> str | None:
    """The source title in an HMDB51 name, ``<title>_<class>_<body>_<camera>_np<N>_<view>_<quality>_<number>``.

    Titles and classes both contain underscores (``climb``, ``climb_stairs``): the class of the folder is the anchor.
    None where the name follows another grammar.

    >>> hmdb51_title("climb_stairs/A_climb_B_climb_stairs_f_cm_np1_ba_med_0")
    'A_climb_B'
    """
    action, _, stem = video_id.partition("/")
    found = re.fullmatch(rf"(.+)_{re.escape(action)}{_HMDB_NAME}", stem)
    return found[1] if found else None


def ucf101_group(video_id: str) -> str | None:
    """The group of a UCF101 name, ``v_<class>_g<group>_c<clip>``, within its class: ``Archery/g07``.

    Clips of a group are cut from one source video; groups of equal number in two classes have nothing in common.

    >>> ucf101_group("HandstandPushups/v_HandStandPushups_g25_c01")
    'HandstandPushups/g25'
    """
    action, _, stem = video_id.partition("/")
    found = re.fullmatch(r"v_.+_(g\d+)_c\d+", stem)
    return f"{action}/{found[1]}" if found else None


def disjoint(parts: Mapping[int, Side], group: Callable[[str], str | None]) -> dict[int, dict[str, Part]]:
    """The same test videos; training without the videos that share a group with one of them."""
    made: dict[int, dict[str, Part]] = {}
    for split, side in parts.items():
        tested = {group(i) for i, part in side.items() if part == "test"} - {None}
        made[split] = {i: part for i, part in side.items() if part == "test" or group(i) not in tested}
    return made


def validation(parts: Mapping[int, Side], held_out: Callable[[int, Sequence[str]], set[str]]) -> dict[int, Side]:
    """Lists for choosing settings: the training side of each split, divided anew; no test video is in them.

    Args:
        parts: the official splits.
        held_out: split number and sorted training ids to those that become the test side.
    """
    made: dict[int, Side] = {}
    for split, side in parts.items():
        training = sorted(i for i, part in side.items() if part == "train")
        held = held_out(split, training)
        made[split] = {i: "test" if i in held else "train" for i in training}
    return made


def last_ucf101_groups(split: int, training: Sequence[str]) -> set[str]:
    """Videos of groups 22 to 25, which every official split trains on."""
    return {i for i in training if (ucf101_group(i) or "")[-2:] in ("22", "23", "24", "25")}


def fifth_of_titles(split: int, training: Sequence[str]) -> set[str]:
    """About a fifth of every HMDB51 class, by title: a title is on one side, whatever classes it occurs in.

    Titles are taken in the order of sha256("stp:hmdb51-validation:<split - 1>:<title>"); one that would take more than
    a fifth of a class is passed over.
    """
    clips: dict[str, list[str]] = {}
    for video_id in training:
        clips.setdefault(hmdb51_title(video_id) or video_id, []).append(video_id)
    room = {action: count // 5 for action, count in Counter(map(class_of, training)).items()}
    held: set[str] = set()
    for title in _ranked("hmdb51-validation", split - 1, clips):
        takes = Counter(map(class_of, clips[title]))
        if all(count <= room[action] for action, count in takes.items()):
            room = {action: left - takes[action] for action, left in room.items()}
            held.update(clips[title])
    return held


def ranked_split(
    benchmark: str, units: Mapping[str, str], seed: int, stratum: Callable[[str], str] = lambda unit: ""
) -> dict[str, Part]:
    """A 60/40 list by rule: units ranked by sha256("stp:<benchmark>:<seed>:<unit>"), the first 60 % train.

    Args:
        benchmark: name in the rule.
        units: video id to what must stay on one side, such as a title or a source video.
        seed: number in the rule.
        stratum: unit to the stratum in which it is ranked; 60 % of each stratum's units, rounded to nearest, train.
    """
    strata: dict[str, set[str]] = {}
    for unit in units.values():
        strata.setdefault(stratum(unit), set()).add(unit)
    train = {
        unit for inside in strata.values() for unit in _ranked(benchmark, seed, inside)[: (6 * len(inside) + 5) // 10]
    }
    return {i: "train" if unit in train else "test" for i, unit in sorted(units.items())}


def read_groups(path: Path) -> dict[str, str]:
    """Video id to group, of a CSV file with the columns ``video_id`` and ``group``; a blank group says nothing.

    Raises:
        UserError: no such file, or it is not such a table.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise UserError(f"{path} is refused", "it is far too large for a table of groups", "check the path")
        rows = list(csv.reader(content.decode("utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"it is no CSV file in UTF-8 ({error})"
        raise UserError(f"cannot read groups from {path}", reason[:1].lower() + reason[1:], "check the path") from error
    if not rows or rows[0] != ["video_id", "group"]:
        raise UserError(f"cannot read groups from {path}", "its columns are not video_id, group", "name them so")
    groups: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) not in (0, 2):
            raise UserError(f"cannot read groups from {path}", f"row {number} has {len(row)} cells, not 2", "mend it")
        if row and not (row[1].isprintable() and len(row[1]) <= _NAME):
            raise UserError(f"cannot read groups from {path}", f"row {number} has an unusable name", "mend it")
        if row and row[1] and groups.setdefault(without_suffix(row[0], CONTAINERS), row[1]) != row[1]:
            why = f"row {number} puts {row[0]!r:.80} into a second group"
            raise UserError(f"cannot read groups from {path}", why, "leave one of the two")
    return groups


def _ranked(benchmark: str, seed: int, units: Iterable[str]) -> list[str]:
    return sorted(units, key=lambda unit: hashlib.sha256(f"stp:{benchmark}:{seed}:{unit}".encode()).hexdigest())


def _members(path: Path) -> dict[str, bytes]:
    """Base name to content of all lists in a folder or an archive.

    Raises:
        UserError: no such path, another kind of file, too large, damaged, or one name with two contents.
    """
    files: dict[str, bytes] = {}
    total = 0
    try:
        for name, content in _lists_in(path):
            total += len(content)
            if len(content) > _FILE_LIMIT or total > _LIMIT:
                raise UserError(f"{path} is refused", f"{name} is far too large for a split list", "check the path")
            if files.setdefault(name, content) != content:
                raise UserError(f"{path} is refused", f"it holds two different {name}", "name one of the two folders")
    except (*_DAMAGE, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        mend = "download it again, or unpack it and name the folder"
        raise UserError(f"cannot read split lists from {path}", reason[:1].lower() + reason[1:], mend) from error
    return files


_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What archive readers raise for damaged, encrypted and unknown content."""


def _is_list(name: str) -> bool:
    known = name == "classInd.txt" or _HMDB_FILE.fullmatch(name) or _UCF_FILE.fullmatch(name)
    return bool(known) and not name.startswith(".")


def _lists_in(path: Path) -> Iterator[tuple[str, bytes]]:
    """Base name and content (at most one byte beyond the limit) of every list below a folder or in an archive."""
    if path.is_dir():
        yield from _lists_in_folder(path, _DEPTH)
        return
    if not path.exists():
        raise UserError(f"cannot read split lists from {path}", "there is no such file or folder", "check the path")
    with path.open("rb") as handle:
        head = handle.read(4)
    if head == b"Rar!":
        raise UserError(f"{path} is a rar archive", "reading it needs another program", "unpack it and name the folder")
    if path.stat().st_size > _LIMIT:
        raise UserError(f"{path} is refused", "it is far too large for split lists", "check the path")
    if head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if _is_list(name := PurePosixPath(info.filename).name):
                    with archive.open(info) as stream:
                        yield name, stream.read(_FILE_LIMIT + 1)
        return
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        # Unpacked here, with a bound: the tar reader would follow whatever sizes a hostile header claims.
        with gzip.open(io.BytesIO(content)) as packed:
            content = packed.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise UserError(f"{path} is refused", "it unpacks to far more than split lists", "check the path")
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as folder:
            for member in folder:
                if not (member.isreg() and _is_list(name := PurePosixPath(member.name).name)):
                    continue
                if (file := folder.extractfile(member)) is not None:
                    yield name, file.read(_FILE_LIMIT + 1)
    except tarfile.ReadError as error:
        why = "it is no folder and no whole zip or tar archive"
        raise UserError(f"cannot read split lists from {path}", why, "check the path, or download it again") from error


def _lists_in_folder(folder: Path, depth: int) -> Iterator[tuple[str, bytes]]:
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda e: e.name)
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith(".") and depth:
            yield from _lists_in_folder(Path(entry.path), depth - 1)
        elif entry.is_file() and _is_list(entry.name):
            with Path(entry.path).open("rb") as handle:
                yield entry.name, handle.read(_FILE_LIMIT + 1)


def _absent(path: Path, wanted: Family | None, there: Sequence[Family]) -> UserError:
    what = f"there are no split lists{f' of {TITLES[wanted]}' if wanted else ''} in {path}"
    if there:
        return UserError(what, f"these are {TITLES[there[0]]}'s", "name the other folder or archive")
    names = "<class>_test_split<n>.txt (HMDB51) or classInd.txt, trainlist<nn>.txt, testlist<nn>.txt (UCF101)"
    return UserError(what, f"no file is named {names}", "name the folder that holds them, unpacked")


def _lines(path: Path, name: str, content: bytes) -> Iterator[tuple[str, Sequence[str]]]:
    """Every line that is not blank as (where, words)."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {name} in {path}", "it is not text", "download the lists again") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if words := line.split():
            yield f"{name} line {number}", words


def _listed(path: Path, where: str, name: str) -> str:
    """A listed file's name without its suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or dot + suffix.lower() not in SUFFIXES or "/" in name:
        raise _contradiction(path, where, f"{name!r} is not the name of a video", "download the lists again")
    return stem


def _contradiction(path: Path, where: str, why: str, mend: str) -> UserError:
    return UserError(f"the split lists in {path} cannot be used", f"{where}: {why}", mend)


_EDITED = "somebody has edited them, so download the lists again"
_HALF = "the archive was unpacked in part, so unpack it again"


def _read_hmdb51(path: Path, files: Mapping[str, bytes]) -> SplitLists:
    codes: dict[int, dict[str, str]] = {}
    lines: dict[int, list[str]] = {}
    of_class: dict[str, set[int]] = {}
    for name, content in sorted(files.items()):
        found = _HMDB_FILE.fullmatch(name)
        assert found is not None
        action, split = found[1], int(found[2])
        of_class.setdefault(action, set()).add(split)
        listed = codes.setdefault(split, {})
        rows = list(_lines(path, name, content))
        if not rows:
            raise _contradiction(path, name, "it is empty", _HALF)
        for where, words in rows:
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise _contradiction(path, where, "it is no name with a code 0, 1 or 2", _EDITED)
            video_id = f"{action}/{_listed(path, where, words[0])}"
            if listed.setdefault(video_id, words[1]) != words[1]:
                raise _contradiction(path, where, f"{words[0]} has two codes", _EDITED)
            lines.setdefault(split, []).append(f"{action}/{words[0]} {words[1]}\n")
    for action, there in sorted(of_class.items()):
        if lacking := sorted(set(codes) - there):
            raise _contradiction(path, f"{action}_test_split{lacking[0]}.txt", "it is missing", _HALF)
    digests = {
        f"split{n}": hashlib.sha256("".join(sorted(set(found))).encode()).hexdigest()
        for n, found in sorted(lines.items())
    }
    parts: dict[int, dict[str, Part]] = {}
    for split, listed in sorted(codes.items()):
        sides: dict[str, Part] = {"1": "train", "2": "test"}
        parts[split] = {i: sides[code] for i, code in sorted(listed.items()) if code in sides}
    return SplitLists(
        family="hmdb51",
        classes=tuple(sorted(of_class)),
        parts=parts,
        ids=tuple(sorted(set().union(*codes.values()))),
        digests=digests,
        verified=digests == _PUBLISHED["hmdb51"],
        differences=tuple(_hmdb51_differences(codes, digests)),
    )


def _hmdb51_differences(codes: Mapping[int, Mapping[str, str]], digests: Mapping[str, str]) -> Iterator[str]:
    published = _PUBLISHED["hmdb51"]
    if digests == published:
        return
    classes = {class_of(i) for listed in codes.values() for i in listed}
    if lacking := sorted(set(HMDB51_VIDEOS) - classes):
        yield f"the lists of {len(lacking)} of 51 classes are missing ({some(lacking)}), as after unpacking in part"
    if strange := sorted(classes - set(HMDB51_VIDEOS)):
        yield f"{len(strange)} classes are unknown ({some(strange)})"
    if lost := sorted(set(published) - set(digests)):
        yield f"the lists of {some(lost)} are missing"
    for split, listed in codes.items():
        if digests[f"split{split}"] == published.get(f"split{split}"):
            continue
        count = Counter(map(class_of, listed))
        wrong = [
            f"{c} has {count[c]} videos, not {HMDB51_VIDEOS[c]}"
            for c in sorted(classes & set(HMDB51_VIDEOS))
            if count[c] != HMDB51_VIDEOS[c]
        ]
        coded = Counter((class_of(i), code) for i, code in listed.items())
        odd = [c for c in sorted(classes) if (coded[c, "1"], coded[c, "2"]) != (70, 30)]
        if wrong:
            yield f"split {split}: {some(wrong)}"
        elif odd:
            yield f"split {split}: not 70 training and 30 test videos in {some(odd)}"
        elif not lacking:
            yield f"split {split}: names or codes differ"


def _read_ucf101(path: Path, files: Mapping[str, bytes]) -> SplitLists:
    if "classInd.txt" not in files:
        raise _contradiction(path, "classInd.txt", "it is missing", _HALF)
    numbers: dict[str, int] = {}
    spelling: dict[str, str] = {c.lower(): c for c in UCF101_CLASSES}
    for where, words in _lines(path, "classInd.txt", files["classInd.txt"]):
        if len(words) != 2 or not words[0].isascii() or not words[0].isdigit():
            raise _contradiction(path, where, "it is no number with a class", _EDITED)
        name = spelling.setdefault(words[1].lower(), words[1])
        if name in numbers or int(words[0]) in numbers.values():
            raise _contradiction(path, where, "its class or number stands there twice", _EDITED)
        numbers[name] = int(words[0])
    parts: dict[int, dict[str, Part]] = {}
    for name in sorted(set(files) - {"classInd.txt"}):
        found = _UCF_FILE.fullmatch(name)
        assert found is not None
        part: Part = "train" if found[1] == "train" else "test"
        listed = parts.setdefault(int(found[2]), {})
        for where, words in _lines(path, name, files[name]):
            action, _, file = words[0].partition("/")
            action = spelling.get(action.lower(), action)
            if len(words) > 2 or action not in numbers:
                raise _contradiction(path, where, f"{words[0]!r} is in no class of classInd.txt", _EDITED)
            if len(words) == 2 and words[1] != str(numbers[action]):
                why = f"it numbers {action} {words[1]}, classInd.txt {numbers[action]}"
                raise _contradiction(path, where, why, _EDITED)
            video_id = f"{action}/{_listed(path, where, file)}"
            if listed.setdefault(video_id, part) != part:
                raise _contradiction(path, where, f"{video_id} is in training and in test", _EDITED)
    for split, listed in sorted(parts.items()):
        for part in ("train", "test"):
            if part not in listed.values():
                raise _contradiction(path, f"{part}list{split:02d}.txt", "it is missing or empty", _HALF)
    if not parts:
        raise _contradiction(path, "trainlist01.txt", "it is missing", _HALF)
    digests = {name: hashlib.sha256(_as_published(content)).hexdigest() for name, content in sorted(files.items())}
    return SplitLists(
        family="ucf101",
        classes=tuple(sorted(numbers, key=numbers.__getitem__)),
        parts={split: dict(sorted(listed.items())) for split, listed in sorted(parts.items())},
        ids=tuple(sorted(set().union(*parts.values()))),
        digests=digests,
        verified=digests == _PUBLISHED["ucf101"],
        differences=tuple(_ucf101_differences(numbers, files, digests)),
    )


def _as_published(content: bytes) -> bytes:
    """A list with CRLF line ends and ``HandstandPushups`` spelled as published: copies that differ in these only are
    common, and equal in what they say."""
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return re.sub(rb"(?m)^((?:\d+ )?)HandStandPushups(?=/|\r)", rb"\1HandstandPushups", content)


def _ucf101_differences(
    numbers: Mapping[str, int], files: Mapping[str, bytes], digests: Mapping[str, str]
) -> Iterator[str]:
    published = _PUBLISHED["ucf101"]
    if lost := sorted(set(published) - set(digests)):
        yield f"{some(lost)} missing, as after unpacking in part"
    if digests["classInd.txt"] != published["classInd.txt"]:
        shared = [(c, n) for n, c in enumerate(UCF101_CLASSES, start=1) if c in numbers]
        if shared and all(numbers[c] == n - 1 for c, n in shared):
            yield "classInd.txt counts from 0, the published one from 1"
        elif lacking := [c for c in UCF101_CLASSES if c not in numbers]:
            yield f"classInd.txt lacks {len(lacking)} of 101 classes ({some(lacking)})"
        else:
            yield "classInd.txt has other index numbers or classes"
    for name, expected in _UCF_LINES.items():
        if name in files and digests[name] != published[name]:
            count = sum(1 for line in files[name].splitlines() if line.strip())
            yield f"{name} has {count} videos, not {expected}" if count != expected else f"{name} has other names"
    if strange := sorted(set(digests) - set(published)):
        yield f"{some(strange)} unknown"
