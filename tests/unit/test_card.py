"""Cards of data sets: what they count, what their pictures show, what their metadata promise."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from stp_bench import card
from stp_bench.errors import WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.schema import Benchmark, Labels, Span, Target, Video
from stp_bench.video_io import write_video

ACTION = Target(name="action", kind="multiclass", classes=("run", "sit"))
PRIVACY = Target(name="privacy", kind="multilabel", classes=("face", "gender"), private=True)
ACTION_TAGS = Target(name="action", kind="multilabel", classes=("run", "sit", "swim"))
TAGS = Target(
    name="privacy", kind="multilabel", classes=("ball", "car", "beach"), private=True,
    groups=(("object", 2), ("scene", 1)),
)  # fmt: skip
Row = tuple[Mapping[str, Labels | None], str | None, str | None]
"""Labels, side in split 1, group."""


def made(
    root: Path,
    targets: tuple[Target, ...],
    rows: Sequence[Row],
    *,
    spans: Mapping[int, tuple[Span, ...]] | None = None,
    name: str = "toy",
    embedded: bool = False,
    **manifest: Any,
) -> Dataset:
    """A prepared benchmark of real videos of eight frames: number i is filled with green of brightness 255 - i."""
    videos, facts = [], {}
    for number, (labels, _, group) in enumerate(rows):
        video_id, path = f"v{number}", root / "videos" / f"v{number}.avi"
        write_video(path, [np.full((24, 32, 3), (0, 255 - number, 0), np.uint8)] * 8, 25, codec="mpeg4")
        videos.append(
            Video(
                video_id=video_id, relpath=f"videos/{path.name}", labels=labels, group=group, frames=8, height=24,
                width=32, fps=25.0, spans={"privacy": spans.get(number, ())} if spans else {},
            )
        )  # fmt: skip
        facts[video_id] = (path.stat().st_size, sha256_file(path))
    parts: Any = {1: {f"v{n}": side for n, (_, side, _) in enumerate(rows) if side}}
    described = Benchmark(
        name=name, title="Toy", version=2, targets=targets, stride=2, splits=1, embedded=embedded
    )  # fmt: skip
    write_index(root, described, videos, parts, facts, **manifest)
    return read_index(root)


def row(action: int, privacy: tuple[int, ...] | None, side: str | None, group: str | None = None) -> Row:
    return {"action": (action,), "privacy": privacy}, side, group


ROWS = [
    row(0, (1, 0), "train", "a"),
    row(0, (1, 1), "train", "b"),
    row(1, (0, -1), "train", "c"),
    row(0, (1, 1), "test", "b"),
    row(1, (0, 1), "test", "d"),
    row(1, None, "test"),
    row(1, (0, 0), None),
]


@pytest.fixture
def toy(tmp_path: Path) -> Dataset:
    return made(tmp_path / "toy", (ACTION, PRIVACY), ROWS)


@pytest.fixture
def tagged(tmp_path: Path) -> Dataset:
    rows: list[Row] = [
        ({"action": (1, 0, 0), "privacy": (1, 0, 1)}, "train", None),
        ({"action": (1, 1, 0), "privacy": (1, 1, 0)}, "train", None),
        ({"action": (0, 1, 0), "privacy": (1, 0, 0)}, "test", None),
        ({"action": (1, 0, 0), "privacy": (0, 0, 0)}, "test", None),
    ]
    return made(tmp_path / "tagged", (ACTION_TAGS, TAGS), rows)


def metadata(dataset: Dataset) -> tuple[dict[str, Any], bytes]:
    """The Croissant document of a data set and the table of classes that it names."""
    found = card.describe(dataset)
    table = card.class_table(found).encode()
    digest = hashlib.sha256(table).hexdigest()
    return card.croissant(found, dataset, classes_sha256=digest, classes_bytes=len(table)), table


def green(picture: Path) -> int:
    """Pixels of a picture that are about as green as the videos."""
    image = cv2.imread(str(picture))
    assert image is not None
    blue, bright, red = image.transpose(2, 0, 1).astype(int)
    return int(((bright > 200) & (blue < 60) & (red < 60)).sum())


def test_shares_are_counted_per_side_among_labelled_videos(toy: Dataset) -> None:
    found = card.describe(toy)
    (privacy,) = found.privacy
    face, gender = privacy.classes
    assert privacy.units == {"all": 6, "split 1 train": 3, "split 1 test": 2}
    assert face.share == {"all": 3 / 6, "split 1 train": 2 / 3, "split 1 test": 1 / 2}
    assert gender.labelled == {"all": 5, "split 1 train": 2, "split 1 test": 2}
    assert gender.share == {"all": 3 / 5, "split 1 train": 1 / 2, "split 1 test": 1.0}
    assert [c.positives["all"] for c in found.action.classes] == [3, 4]
    assert (found.splits[1].train, found.splits[1].test, found.splits[1].unused) == (3, 3, 1)
    assert (found.videos, found.frames, found.length) == (7, 56, (8, 8, 8))


def test_labels_of_frames_count_by_their_number_beside_those_of_videos(tmp_path: Path) -> None:
    spans = {
        0: (Span(start=0, end=5, labels=(1, 0)), Span(start=6, end=7, labels=(0, 0))),
        1: (Span(start=2, end=3, labels=(0, 1)),),
    }
    rows = [row(0, (1, 0), "train"), row(1, (0, 1), "test")]
    by_frame, by_video = card.describe(made(tmp_path / "f", (ACTION, PRIVACY), rows, spans=spans)).privacy
    assert (by_frame.unit, by_video.unit) == ("frame", "video")
    assert by_frame.units == {"all": 10, "split 1 train": 8, "split 1 test": 2}
    assert [c.share["all"] for c in by_frame.classes] == [6 / 10, 2 / 10]
    assert [c.share["all"] for c in by_video.classes] == [1 / 2, 1 / 2]


def test_groups_of_tags_and_several_actions_at_once_have_floors_of_their_own(tagged: Dataset) -> None:
    found = card.describe(tagged)
    assert list(found.privacy[0].by_group()) == ["object", "scene"]
    floors = found.splits[1].floors
    # Test videos: ball in one of two, car in none; beach in none; run and sit in one of two each, swim in none.
    assert floors["object"]["cmap_prevalence"] == pytest.approx(50.0)
    assert floors["object"]["f1_all_positive"] == floors["object"]["f1_majority"] == pytest.approx(2 / 3)
    assert set(floors["scene"].values()) == {None}
    assert floors["action"]["cmap_prevalence"] == pytest.approx(50.0)
    assert found.splits[1].attribute_floors is None


def test_floors_that_know_the_action_are_an_independent_average_precision(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows = [
        row(int(random.integers(2)), (int(random.integers(2)), int(random.integers(2))), "train" if n < 12 else "test")
        for n in range(24)
    ]
    floors = card.describe(made(tmp_path / "t", (ACTION, PRIVACY), rows)).splits[1].floors["privacy"]
    train, test = (
        [(labels["action"][0], labels["privacy"]) for labels, side, _ in rows if side == part]  # type: ignore[index]
        for part in ("train", "test")
    )
    values = []
    for k in range(2):
        rate = [np.mean([found[k] for action, found in train if action == a]) for a in range(2)]  # type: ignore[index]
        scores = [rate[action] for action, _ in test]
        values.append(100 * average_precision_score([found[k] for _, found in test], scores))  # type: ignore[index]
    assert floors["cmap_action_only"] == pytest.approx(np.mean(values))


def test_what_both_sides_share_is_counted(toy: Dataset, tmp_path: Path) -> None:
    split = card.describe(toy).splits[1]
    assert (split.shared_groups, split.test_in_shared_groups, split.same_content) == (1, 1, 0)
    other = made(tmp_path / "other", (ACTION, PRIVACY), [row(0, (1, 1), "test")], name="other")
    assert card.describe(toy, others=[other]).splits[1].tested_elsewhere == {"other": 1}  # v0, by name and content
    again = made(tmp_path / "again", (ACTION, PRIVACY), ROWS[:1] * 2)
    (again.root / "videos" / "v1.avi").write_bytes((again.root / "videos" / "v0.avi").read_bytes())
    facts = dict.fromkeys(("v0", "v1"), again.facts["v0"])
    write_index(again.root, again.benchmark, again.videos, {1: {"v0": "train", "v1": "test"}}, facts)
    found = card.describe(read_index(again.root))
    assert (found.splits[1].same_content, found.same_content) == (1, 1)


def test_the_sample_shows_every_action_before_one_comes_again_and_depends_on_the_seed(toy: Dataset) -> None:
    def chosen(seed: int, count: int) -> list[Video]:
        return card.sample(toy.videos, ACTION, PRIVACY, count=count, seed=seed)

    for seed in range(5):
        assert {v.labels["action"] for v in chosen(seed, 2)} == {(0,), (1,)}  # type: ignore[comparison-overlap]
        # Four patterns of labels and none at all, two of them with each action: no pattern comes twice before that.
        assert len({v.labels["privacy"] for v in chosen(seed, 4)}) == 4
    assert chosen(0, 7) == chosen(0, 7) and len({v.video_id for v in chosen(0, 99)}) == 7
    assert len({tuple(v.video_id for v in chosen(seed, 3)) for seed in range(5)}) > 1


def test_the_sheet_shows_frames_of_the_videos_and_leaves_unreadable_ones_out(toy: Dataset, tmp_path: Path) -> None:
    whole = card.contact_sheet(toy, tmp_path / "whole.png")
    assert set(whole.shown) == {v.video_id for v in toy.videos} and not whole.unreadable
    (toy.root / "videos" / "v0.avi").write_bytes(b"")
    (toy.root / "videos" / "v1.avi").unlink()
    less = card.contact_sheet(toy, tmp_path / "less.png")
    assert less.unreadable == {"v0": "the file is empty", "v1": "there is no such file"}
    assert set(less.shown) == set(whole.shown) - {"v0", "v1"}
    rows = green(tmp_path / "less.png") / len(less.shown)
    assert rows == pytest.approx(green(tmp_path / "whole.png") / len(whole.shown), rel=0.02) and rows > 10_000


def test_a_video_that_is_shorter_than_its_index_says_is_not_shown(toy: Dataset, tmp_path: Path) -> None:
    frames = [np.zeros((24, 32, 3), np.uint8)] * 2
    write_video(toy.root / "videos" / "v3.avi", frames, 25, codec="mpeg4")
    sheet = card.contact_sheet(toy, tmp_path / "s.png")
    assert list(sheet.unreadable) == ["v3"] and "fewer frames" in sheet.unreadable["v3"]


def test_without_a_readable_video_the_card_has_no_sheet_and_says_so(toy: Dataset, tmp_path: Path) -> None:
    assert "contact_sheet.png" in card.write_card(toy, tmp_path / "c").files
    for video in toy.videos:
        toy.path(video).unlink()
    files = card.write_card(toy, tmp_path / "c").files
    assert {p.name for p in (tmp_path / "c").iterdir()} == set(files) and "contact_sheet.png" not in files
    text = (tmp_path / "c" / "card.md").read_text()
    assert "no contact sheet" in text and "Not readable: v0 (there is no such file)" in text


def test_cards_of_all_kinds_of_targets_are_whole_and_the_same_when_written_again(
    toy: Dataset, tagged: Dataset, tmp_path: Path
) -> None:
    spans = {0: (Span(start=0, end=5, labels=(1, 0)),)}
    framed = made(tmp_path / "framed", (ACTION, PRIVACY), [row(0, (1, 0), "train"), row(1, None, "test")], spans=spans)
    for number, dataset in enumerate((toy, tagged, framed)):
        folder = tmp_path / f"card{number}"
        written = card.write_card(dataset, folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert set(before) == set(written.files)
        card.write_card(dataset, folder)
        assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
        for name in ("prevalence.png", "classes.png", "contact_sheet.png"):
            picture = cv2.imread(str(folder / name))
            assert picture is not None and picture.std() > 0
        numbers = json.loads(before["card.json"])
        assert numbers["schema"] == 1 and numbers["videos"] == len(dataset.videos)


def test_text_and_metadata_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "m", (ACTION, PRIVACY), ROWS, videos_root=str(tmp_path / "m"))
    for path in card.write_card(elsewhere, tmp_path / "card").folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def wide(root: Path) -> Dataset:
    """Forty actions, and more tags than fit on a page, with names that Markdown and matplotlib would read."""
    action = Target(name="action", kind="multiclass", classes=tuple(f"a|{n}" for n in range(40)))
    names = tuple(f"tag$_{n}$" for n in range(150))
    privacy = Target(name="privacy", kind="multilabel", classes=names, private=True, groups=(("x", 100), ("y", 50)))
    rows: list[Row] = [
        ({"action": (n,), "privacy": array("b", [int(k % (n + 1) == 0) for k in range(150)])}, side, None)
        for n, side in enumerate(("train", "train", "test", "test"))
    ]
    return made(root, (action, privacy), rows)


def test_long_lists_go_to_the_table_and_leave_their_ends_on_the_page(tmp_path: Path) -> None:
    folder = card.write_card(wide(tmp_path / "wide"), tmp_path / "card").folder
    page = (folder / "card.md").read_text()
    for mark, count in (("| a\\|", 40), ("| tag$", 200)):
        assert page.count(mark) == (30 if count == 40 else 60)
    assert "tag$_0$" in page and "15 most and the 15 least frequent of 100" in page
    rows = list(csv.DictReader(io.StringIO((folder / "classes.csv").read_text())))
    assert len(rows) == 40 + 150
    assert [r["group"] for r in rows[40:]] == ["x"] * 100 + ["y"] * 50
    # Tag 6 is with videos 0, 1 and 2: 6 is a multiple of 1, 2 and 3, not of 4.
    assert (rows[46]["class"], rows[46]["positives all"], rows[46]["share split 1 test"]) == ("tag$_6$", "3", "0.5")


def test_facts_of_a_real_release_are_told_and_its_figures_stand_beside_ours(tmp_path: Path) -> None:
    dataset = made(
        tmp_path / "r", (ACTION, PRIVACY), ROWS, name="vp-hmdb51",
        label_release="vp-hmdb51", labels_verified=True, prevalence={"face": 0.6}, counts={"known": 9},
        labels={"release": "vp-hmdb51", "columns": ["gender", "face"], "columns_known": "inferred"},
    )  # fmt: skip
    found = card.describe(dataset)
    assert [c.stated for c in found.privacy[0].classes] == [0.6, None]
    assert "MIT" in found.source.terms and "CC BY 4.0" in found.source.terms
    assert [work.year for work in found.source.cite] == [2011, 2023]
    assert any("7 of 9 videos" in limit for limit in found.limits)
    assert any("does not name its columns" in limit for limit in found.limits)
    text = card.page(found, card.Sheet(shown=(), unreadable={}))
    assert "as published" in text and "gender, face (inferred)" in text and "| face | 0.600 | 0.500 |" in text


def test_a_drawn_set_takes_no_terms_from_the_release_whose_files_it_imitates(tmp_path: Path) -> None:
    about = {"release": "celebv-hq", "license": "no redistribution", "columns": ["x"], "columns_known": "inferred"}
    dataset = made(tmp_path / "d", (ACTION, PRIVACY), ROWS, embedded=True, labels=about, labels_verified=False)
    found = card.describe(dataset)
    assert found.source.terms == "Apache-2.0" and found.labels.verified is None
    text = card.page(found, card.Sheet(shown=(), unreadable={}))
    assert "redistribution" not in text and "not as published" not in text and "CelebV" not in text


def test_an_action_that_is_mostly_one_answer_is_named_as_a_limit(tmp_path: Path) -> None:
    rows = [row(0, (1, 0), side) for side in ("train", "test", "test", "test")] + [row(1, (0, 1), "test")]
    limits = card.describe(made(tmp_path / "m", (ACTION, PRIVACY), rows)).limits
    assert any("'run' is right for 75.0 %" in limit for limit in limits)


OFFLINE = """
import json, sys
def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"it touches the network: {args}")
sys.addaudithook(guard)
from stp_bench import card
document = json.load(open(sys.argv[1]))
before = json.dumps(document)
assert card.validate(document) and json.dumps(document) == before
import mlcroissant
mapping = {name: path for name, path in zip(("index.parquet", "classes.csv"), sys.argv[2:])}
dataset = mlcroissant.Dataset(jsonld=sys.argv[1], mapping=mapping)
def plain(value):
    return value.decode() if isinstance(value, bytes) else value.tolist() if hasattr(value, "tolist") else value
found = {s: [{k: plain(v) for k, v in r.items()} for r in dataset.records(s)] for s in ("videos", "classes")}
assert not {"torch", "timm", "tensorflow"} & set(sys.modules)
print(json.dumps(found, default=str))
"""


def test_the_metadata_are_valid_and_their_records_are_the_index_without_a_network(toy: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant")
    document, table = metadata(toy)
    (tmp_path / "croissant.json").write_text(json.dumps(document))
    (tmp_path / "classes.csv").write_bytes(table)
    words = [tmp_path / "croissant.json", toy.root / "index.parquet", tmp_path / "classes.csv"]
    done = subprocess.run([sys.executable, "-c", OFFLINE, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [r["videos/video_id"] for r in found["videos"]] == [v.video_id for v in toy.videos]
    assert [r["videos/split1"] for r in found["videos"][:4]] == ["train", "train", "train", "test"]
    assert [r["videos/label_privacy"] for r in found["videos"][:3]] == [[1, 0], [1, 1], [0, -1]]
    assert [r["classes/class"] for r in found["classes"]] == ["run", "sit", "face", "gender"]


def test_the_metadata_state_size_and_digest_of_the_files_they_name(toy: Dataset) -> None:
    document, table = metadata(toy)
    named = {"index.parquet": (toy.root / "index.parquet").read_bytes(), "classes.csv": table}
    for entry in document["distribution"]:
        content = named.pop(entry["contentUrl"])
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"
    assert not named and document["version"] == "2.0.0"


def test_metadata_that_are_not_valid_are_refused(toy: Dataset) -> None:
    pytest.importorskip("mlcroissant")
    document, _ = metadata(toy)
    document["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "no-such-file"
    with pytest.raises(WorkError, match=r"croissant\.json is not valid"):
        card.validate(document)
