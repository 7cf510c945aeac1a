"""The real data sets: what is known of each before anything of it is on the disk.

Each is a value; what differs between them (names, lists, where the action is told, which figures are right) is a
field here, so that the code that prepares them asks for no name. Nothing of them is shipped: users bring the videos,
the published split lists and the label releases. Figures are those of the official files.

A data team's own videos are such a value too (`own`), of which nothing was published.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stp_bench.errors import UserError, unknown_name
from stp_bench.index import OFFICIAL, Parts
from stp_bench.matching import class_of, key_of
from stp_bench.schema import Part
from stp_bench.splits import (
    Family,
    disjoint,
    fifth_of_titles,
    hmdb51_title,
    last_ucf101_groups,
    ranked_split,
    ucf101_group,
    validation,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RealSet:
    """A real data set, in the terms in which it is prepared."""

    name: str
    title: str
    source: str
    """Where its videos are from: sets of one source share videos."""
    stride: int
    """The paper's sampling rate r (section 4.3)."""
    action: str
    """Name of the target whose recognition must survive."""
    actions: int
    """Its classes."""
    attributes: tuple[str, ...]
    """What should become hard to recognize."""
    splits: int
    videos: int
    """As many as its lists name, else its labels before a rule left some of them out."""
    sides: Mapping[Part, int] = field(default_factory=dict)
    """Videos of each side, where the labels themselves are split and filtered; then these figures are checked."""
    releases: tuple[str, ...]
    """Label releases that fit."""
    class_folders: bool
    """Whether a video lies in a folder named after its action; its id is then ``<class>/<stem>``, else ``<stem>``."""
    lists: Family | None = None
    """Whose split lists it needs."""
    group: Callable[[str], str | None]
    """Video id to what ties clips together (one film, one source video), where the labels do not say it."""
    make_splits: Callable[[RealSet, Mapping[str, str | None], Parts], Mapping[str, Parts]]
    """The set, the group of each known video, and the published splits, to lists by name, `OFFICIAL` among them."""
    partial: bool = False
    """Whether sources have disappeared, so that nobody has all videos: coverage is reported then, not demanded."""
    subset: bool = False
    """Whether it is a part of its source, so that other videos in the folder are to be expected."""
    own: bool = False
    """Whether nothing of it was published: what the folder and the labels hold is the set, with the split lists that
    are given, if any are."""
    tied: frozenset[str] = frozenset()
    """Keys of the videos that a table of groups names, of an own set."""
    figures: Mapping[int, str] = field(default_factory=dict)
    """Other numbers of videos that are seen, and where they come from."""
    list_names: tuple[str, ...] = ()
    """Folders and archives in which the split lists are usually found."""
    videos_from: str
    lists_from: str = ""
    license: str


def _hmdb51_splits(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    return {
        OFFICIAL: official,
        "title-disjoint": disjoint(official, groups.get),
        "validation": validation(official, fifth_of_titles),
    }


def _ucf101_splits(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    return {OFFICIAL: official, "validation": validation(official, last_ucf101_groups)}


def _ranked_within_classes(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    """60/40 by title within a class, each class divided by itself; and as the paper does it."""
    units = {i: f"{class_of(i)}/{group or i}" for i, group in groups.items()}
    return {
        OFFICIAL: {n: ranked_split(kind.name, units, n - 1, class_of) for n in range(1, kind.splits + 1)},
        "paper-random": _by_video(kind, groups),
    }


def _ranked_by_group(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    """60/40 by source, so that nobody is on both sides of one source; and as the paper does it."""
    units = {i: group or i for i, group in groups.items()}
    return {
        OFFICIAL: {n: ranked_split(kind.name, units, n - 1) for n in range(1, kind.splits + 1)},
        "paper-random": _by_video(kind, groups),
    }


def _as_published(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    return {OFFICIAL: official}


def _as_given_or_ranked(kind: RealSet, groups: Mapping[str, str | None], official: Parts) -> Mapping[str, Parts]:
    """The lists that were given; without any, 60/40 by group (by video, where it has none).

    Groups are divided class by class if each is of one class. One that spans classes, such as a person who acts in all
    of them, is never divided: then all groups are ranked together.
    """
    if any(official.values()):
        return {OFFICIAL: official}
    units = {i: group or i for i, group in groups.items()}
    classes: dict[str, set[str]] = {}
    for video_id, unit in units.items():
        classes.setdefault(unit, set()).add(class_of(video_id))
    spanning = any(len(of) > 1 for of in classes.values())
    stratum = {unit: "" if spanning else min(of) for unit, of in classes.items()}
    return {
        OFFICIAL: {n: ranked_split(kind.name, units, n - 1, stratum.__getitem__) for n in range(1, kind.splits + 1)}
    }


def _by_video(kind: RealSet, groups: Mapping[str, str | None]) -> Parts:
    return {n: ranked_split(kind.name, {i: i for i in groups}, n - 1) for n in range(1, kind.splits + 1)}


def _no_group(video_id: str) -> None:
    return None


def _youtube_id(video_id: str) -> str:
    """``<id>_<start x10, 6 digits>_<end x10, 6 digits>`` without its times."""
    return video_id[:-14] if len(video_id) > 14 else video_id


_FIVE = ("face", "skin_color", "gender", "nudity", "relationship")
_HMDB_LISTS = ("testTrainMulti_7030_splits", "test_train_splits", "hmdb51_splits", "splits")
_UCF_LISTS = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask", "ucf101_splits", "splits")
_HMDB_VIDEOS = (
    "hmdb51_org.rar of the Serre lab, Brown University (about 2 GB): it holds 51 inner archives, one per "
    "class, and each of them is to be unpacked too"
)

SETS: tuple[RealSet, ...] = (
    RealSet(
        name="vp-hmdb51",
        title="VP-HMDB51",
        source="HMDB51",
        stride=2,
        action="action",
        actions=51,
        attributes=_FIVE,
        splits=3,
        videos=6766,
        releases=("vp-hmdb51",),
        class_folders=True,
        lists="hmdb51",
        group=hmdb51_title,
        make_splits=_hmdb51_splits,
        figures={
            6849: "6,849 is the number on the data set's page and in the article of 2011; the lists have 6,766",
            51: "51 files are the inner archives: unpack each of them too",
        },
        list_names=_HMDB_LISTS,
        videos_from=_HMDB_VIDEOS,
        lists_from="test_train_splits.rar of the same page: unpack it, and name the folder with --splits",
        license="CC BY 4.0 (videos and lists), MIT (labels)",
    ),
    RealSet(
        name="vp-ucf101",
        title="VP-UCF101",
        source="UCF101",
        stride=4,
        action="action",
        actions=101,
        attributes=_FIVE,
        splits=3,
        videos=13320,
        releases=("vp-ucf101",),
        class_folders=True,
        lists="ucf101",
        group=ucf101_group,
        make_splits=_ucf101_splits,
        list_names=_UCF_LISTS,
        videos_from="UCF101.rar of CRCV, University of Central Florida (about 6.9 GB), unpacked",
        lists_from="UCF101TrainTestSplits-RecognitionTask.zip of the same page, as it is or unpacked, with --splits",
        license="none stated (videos and lists), MIT (labels)",
    ),
    RealSet(
        name="pa-hmdb51",
        title="PA-HMDB51",
        source="HMDB51",
        stride=2,
        action="action",
        actions=51,
        attributes=_FIVE,
        splits=5,
        videos=515,
        releases=("pa-hmdb51",),
        class_folders=True,
        group=hmdb51_title,
        make_splits=_ranked_within_classes,
        subset=True,
        figures={
            592: "592 is the number in early versions of its description; the published labels have 515",
            529: "529 is that of an older copy, with 76 entries in a wrong class; the published labels have 515",
        },
        videos_from=_HMDB_VIDEOS,
        license="CC BY 4.0 (videos), non-commercial research (labels)",
    ),
    RealSet(
        name="celebv-hq",
        title="CelebV-HQ",
        source="CelebV-HQ",
        stride=2,
        action="expression",
        actions=8,
        attributes=("young", "pointy_nose", "male", "rosy_cheeks", "brown_hair"),
        splits=5,
        videos=35666,
        releases=("celebv-hq",),
        class_folders=False,
        group=_no_group,
        make_splits=_ranked_by_group,
        partial=True,
        videos_from="celebvhq_info.json of GitHub CelebV-HQ/CelebV-HQ: fetch each clip, cropped to its box, as "
        "<clip id>.mp4",
        license="non-commercial research, no redistribution",
    ),
    RealSet(
        name="p-hvu",
        title="P-HVU",
        source="HVU",
        stride=2,
        action="action",
        actions=739,
        attributes=("1,678 object tags", "248 scene tags"),
        splits=1,
        videos=245212 + 16012,
        sides={"train": 245212, "test": 16012},
        releases=("p-hvu",),
        class_folders=False,
        group=_youtube_id,
        make_splits=_as_published,
        partial=True,
        videos_from="the ids and times of GitHub holistic-video-understanding/HVU-Dataset: fetch each clip as "
        "<id>_<start x10, 6 digits>_<end x10, 6 digits>.mp4",
        license="none stated",
    ),
)  # fmt: skip

NAMES = tuple(kind.name for kind in SETS)


OWN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What an own set may be called: a word that fits a folder, a column and a command."""


def own(
    name: str,
    *,
    source: str,
    stride: int = 2,
    groups: Mapping[str, str] | None = None,
    splits: int = 5,
    actions: int = 0,
    attributes: tuple[str, ...] = (),
    videos: int = 0,
) -> RealSet:
    """A data team's own videos, in class folders.

    Args:
        name: what it is to be called.
        source: folder of the videos: sets of one folder share videos.
        stride: sampling rate r.
        groups: video id, of this folder or of one further up, to what ties videos together; those that it does not
            name are each their own group.
        splits: how many lists are made where none are given.
        actions, attributes, videos: what it was found to hold, once it is prepared.

    Raises:
        UserError: a name that cannot be used, or two groups of one video.
    """
    if name in NAMES or not OWN_NAME.fullmatch(name):
        known = name in NAMES
        why = "that is a known data set" if known else "names are up to 64 lower-case letters, digits, '-' and '_'"
        mend = "choose another name, or leave --own out" if known else "choose such a name"
        raise UserError(f"{name!r} cannot name your own data set", why, mend)
    if stride < 1:
        raise UserError(f"bad sampling rate {stride}", "it counts frames from one to the next", "use 1 or more")
    tied: dict[str, str] = {}
    for video_id, group in (groups or {}).items():
        key = key_of("/".join(video_id.split("/")[-2:]), class_folders=True)
        if tied.setdefault(key, group) != group:
            why = f"{video_id} is in {group!r}, and {key} in {tied[key]!r}"
            raise UserError("one video is in two groups", why, "leave one of the two rows")
    return RealSet(
        name=name, title=name, source=source, stride=stride, action="action", actions=actions, attributes=attributes,
        splits=splits, videos=videos, releases=(), class_folders=True, own=True, tied=frozenset(tied),
        group=lambda video_id: tied.get(key_of(video_id, class_folders=True)), make_splits=_as_given_or_ranked,
        videos_from="your videos", license="your own",
    )  # fmt: skip


def find(name: str) -> RealSet:
    """The real data set of this name.

    Raises:
        UserError: unknown name.
    """
    for kind in SETS:
        if kind.name == name:
            return kind
    raise unknown_name("data set", name, NAMES)
