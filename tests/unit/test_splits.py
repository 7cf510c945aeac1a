"""Split lists: the published formats, what is refused of them, and lists made by rule."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stp_bench import splits
from stp_bench.errors import BenchError, UserError
from stp_bench.splits import (
    HMDB51_VIDEOS,
    UCF101_CLASSES,
    disjoint,
    fifth_of_titles,
    hmdb51_title,
    last_ucf101_groups,
    list_digest,
    ranked_split,
    read_lists,
    ucf101_group,
    validation,
)

RELEASE = Path(__file__).parents[3] / "shared/data/splits/hmdb51_splits.tar.gz"
real = pytest.mark.skipif(not RELEASE.exists(), reason="the HMDB51 lists are not at hand")

HMDB = {
    "climb_test_split1.txt": "#1_climb_f_cm_np1_ba_med_0.avi 1 \n-x_climb_f_cm_np1_ba_med_0.avi 2 \n",
    "climb_stairs_test_split1.txt": "a[b&c;d_climb_stairs_u_nm_np2_fr_goo_3.avi 0 \n"
    "q_climb_stairs_u_nm_np2_fr_bad_4.avi 1 \n",
}
UCF = {
    "classInd.txt": "1 Archery\r\n2 HandstandPushups\r\n",
    "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g22_c01.avi 2\r\n",
    "testlist01.txt": "Archery/v_Archery_g01_c01.avi\r\nHandstandPushups/v_HandStandPushups_g01_c01.avi\r\n",
}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def accepted(path: Path) -> splits.SplitLists:
    return read_lists(path, accept_unknown=True)


def test_hmdb51_codes_are_training_test_and_unused(tmp_path: Path) -> None:
    lists = accepted(write(tmp_path, HMDB | {"class_list.txt": "climb\n", "._climb_test_split1.txt": "\0"}))
    assert (lists.family, lists.classes, lists.verified) == ("hmdb51", ("climb", "climb_stairs"), False)
    assert lists.parts == {
        1: {
            "climb/#1_climb_f_cm_np1_ba_med_0": "train",
            "climb/-x_climb_f_cm_np1_ba_med_0": "test",
            "climb_stairs/q_climb_stairs_u_nm_np2_fr_bad_4": "train",
        }
    }
    assert "climb_stairs/a[b&c;d_climb_stairs_u_nm_np2_fr_goo_3" in lists.ids and len(lists.ids) == 4


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_ucf101_test_lists_have_no_numbers_and_either_line_end(tmp_path: Path, ends: str) -> None:
    files = {name: text.replace("\r\n", ends) for name, text in UCF.items()}
    lists = accepted(write(tmp_path, files))
    assert (lists.family, lists.classes) == ("ucf101", ("Archery", "HandstandPushups"))
    assert Counter(lists.parts[1].values()) == {"train": 2, "test": 2}
    assert lists.parts[1]["HandstandPushups/v_HandStandPushups_g22_c01"] == "train"
    # The digest is of the published line ends, whichever the copy has.
    assert lists.digests["classInd.txt"] == hashlib.sha256(UCF["classInd.txt"].encode()).hexdigest()


def test_the_edited_spelling_of_handstandpushups_is_read_as_the_official_one(tmp_path: Path) -> None:
    edited = {name: text.replace("HandstandPushups", "HandStandPushups") for name, text in UCF.items()}
    official, other = accepted(write(tmp_path / "a", UCF)), accepted(write(tmp_path / "b", edited))
    assert (other.parts, other.classes, other.digests) == (official.parts, official.classes, official.digests)


def test_the_known_classes_of_ucf101_have_the_published_digest(tmp_path: Path) -> None:
    text = "".join(f"{n} {c}\r\n" for n, c in enumerate(UCF101_CLASSES, start=1))
    lists = accepted(
        write(tmp_path, UCF | {"classInd.txt": text, "trainlist01.txt": "YoYo/v_YoYo_g08_c01.avi 101\r\n"})
    )
    assert lists.digests["classInd.txt"] == "d7abbb76074d04e80c62ad8a61529bb8eec32ef978569601b2890edec3af0359"
    assert not any("classInd" in difference for difference in lists.differences)
    assert "trainlist01.txt has 1 videos, not 9537" in lists.differences


def test_the_videos_per_class_of_hmdb51_sum_up() -> None:
    assert (len(HMDB51_VIDEOS), sum(HMDB51_VIDEOS.values())) == (51, 6766)
    assert list(HMDB51_VIDEOS) == sorted(HMDB51_VIDEOS)


def packed(kind: str, files: Mapping[str, str], path: Path) -> Path:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(f"../../lists/{name}", text)
            archive.writestr("__MACOSX/lists/._classInd.txt", "\0")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(f"/etc/{name}")
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("files", [HMDB, UCF])
def test_archives_are_read_as_folders_are_and_write_nothing(
    tmp_path: Path, kind: str, files: Mapping[str, str]
) -> None:
    folder = write(tmp_path / "outer" / "inner", files)
    path = packed(kind, files, tmp_path / f"lists.{kind}")
    before = sorted(tmp_path.rglob("*"))
    assert accepted(path) == accepted(folder) == accepted(folder.parent)
    assert sorted(tmp_path.rglob("*")) == before


def test_lists_of_two_data_sets_are_told_apart_by_the_one_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a", HMDB)
    write(tmp_path / "b", UCF)
    with pytest.raises(UserError, match="of two data sets"):
        accepted(tmp_path)
    assert read_lists(tmp_path, family="ucf101", accept_unknown=True).family == "ucf101"
    with pytest.raises(UserError, match=r"no split lists of HMDB51.*these are UCF101's"):
        read_lists(tmp_path / "b", family="hmdb51")


def test_lists_that_are_not_the_published_ones_are_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"not those of HMDB51.*49 of 51 classes are missing.*--accept-unknown"
    ) as caught:
        read_lists(write(tmp_path / "a", HMDB))
    assert "split2, split3 are missing" in str(caught.value)
    with pytest.raises(UserError, match=r"trainlist02.txt.*missing"):
        read_lists(write(tmp_path / "b", UCF))
    zero = "".join(f"{n} {c}\r\n" for n, c in enumerate(UCF101_CLASSES))
    with pytest.raises(UserError, match="counts from 0"):
        read_lists(
            write(tmp_path / "c", UCF | {"classInd.txt": zero, "trainlist01.txt": "YoYo/v_YoYo_g08_c01.avi 100"})
        )


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (HMDB | {"climb_test_split1.txt": "a.avi 3 \n"}, "climb_test_split1.txt line 1.*no name with a code"),
        (HMDB | {"climb_test_split1.txt": "a.avi 1 \na.avi 2 \n"}, "line 2.*a.avi has two codes"),
        (HMDB | {"climb_test_split1.txt": "../a.avi 1 \n"}, "not the name of a video"),
        (HMDB | {"climb_test_split1.txt": "a.txt 1 \n"}, "not the name of a video"),
        (HMDB | {"climb_test_split1.txt": " \n"}, "climb_test_split1.txt: it is empty"),
        (HMDB | {"climb_test_split2.txt": "a.avi 1 \n"}, "climb_stairs_test_split2.txt: it is missing.*unpack"),
        (HMDB | {"climb_test_split1.txt": "\udcff"}, "it is not text"),
        (UCF | {"testlist01.txt": UCF["trainlist01.txt"]}, "in training and in test"),
        (UCF | {"testlist01.txt": "Bowling/v_Bowling_g01_c01.avi"}, "in no class"),
        (UCF | {"testlist01.txt": ""}, "testlist01.txt: it is missing or empty"),
        (UCF | {"trainlist01.txt": "Archery/v_Archery_g08_c01.avi 2"}, "numbers Archery 2, classInd.txt 1"),
        (UCF | {"classInd.txt": "1 Archery\n1 HandstandPushups"}, "twice"),
        (UCF | {"classInd.txt": "Archery 1"}, "no number with a class"),
        ({"classInd.txt": UCF["classInd.txt"]}, "trainlist01.txt: it is missing"),
        ({k: v for k, v in UCF.items() if k != "classInd.txt"}, "classInd.txt: it is missing"),
        ({"readme.txt": ""}, "there are no split lists"),
    ],
)  # fmt: skip
def test_lists_that_contradict_themselves_are_refused_even_if_unknown_ones_are_accepted(
    tmp_path: Path, files: Mapping[str, str], says: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=says):
        accepted(tmp_path)


def test_two_lists_of_one_name_and_two_contents_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", UCF)
    write(tmp_path / "b", UCF)
    assert accepted(tmp_path).family == "ucf101"
    write(tmp_path / "b", {"testlist01.txt": "Archery/v_Archery_g02_c01.avi"})
    with pytest.raises(UserError, match=r"two different testlist01\.txt"):
        accepted(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Rar!\x1a\x07", "rar archive.*unpack it"),
        (b"PK\x03\x04 not really", "cannot read"),
        (b"\x1f\x8bnot really", "cannot read"),
        (b"hello", "no folder and no whole zip or tar"),
        (b"", "no folder and no whole zip or tar"),
        (gzip.compress(bytes(2**26 + 1)), "far more than split lists"),
    ],
)
def test_what_is_no_archive_or_a_bomb_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "lists"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        accepted(path)
    with pytest.raises(UserError, match="no such file"):
        accepted(tmp_path / "elsewhere")


def test_a_huge_list_in_an_archive_is_not_unpacked_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lists.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("classInd.txt", bytes(2**22 + 2))
    with pytest.raises(UserError, match="far too large"):
        accepted(tmp_path / "lists.zip")


@given(st.binary(max_size=600), st.sampled_from(["lists", "classInd.txt", "a_test_split1.txt"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(b"\x1c", "a_test_split1.txt")  # a line end to Python, and no line
def test_arbitrary_bytes_are_lists_or_a_plain_error(tmp_path: Path, content: bytes, name: str) -> None:
    for prefix in (b"", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"1 A\n"):
        (tmp_path / name).write_bytes(prefix + content)
        with suppress(BenchError):
            accepted(tmp_path / name if name == "lists" else tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("video_id", "title"),
    [
        ("climb/A_climb_f_cm_np1_ba_med_0", "A"),
        ("climb_stairs/A_climb_B_climb_stairs_f_cm_np1_ba_med_0", "A_climb_B"),
        ("kick/Lattenknaller_kick_ball_kick_u_nm_np10_le_goo_12", "Lattenknaller_kick_ball"),
        ("push/a_pushup_f_cm_np1_ba_med_0", None),
        ("wave/v_wave_g01_c01", None),
    ],
)
def test_titles_are_what_stands_before_the_class(video_id: str, title: str | None) -> None:
    assert hmdb51_title(video_id) == title


def test_groups_of_ucf101_belong_to_their_class() -> None:
    assert ucf101_group("Archery/v_Archery_g07_c02") == "Archery/g07"
    assert ucf101_group("HandstandPushups/v_HandStandPushups_g07_c02") == "HandstandPushups/g07"
    assert ucf101_group("Archery/something") is None


def test_disjoint_lists_keep_the_test_side_and_share_no_group() -> None:
    official = {1: {"a1": "train", "a2": "test", "b1": "train", "c1": "test", "n": "train"}}
    group = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}.get
    assert disjoint(official, group) == {1: {"a2": "test", "b1": "train", "c1": "test", "n": "train"}}  # type: ignore[arg-type]


def test_validation_of_ucf101_holds_the_last_groups_out_and_no_test_video() -> None:
    side = {f"A/v_A_g{g:02d}_c01": "test" if g < 8 else "train" for g in range(1, 26)}
    carved = validation({1: side}, last_ucf101_groups)[1]  # type: ignore[dict-item]
    assert {i[-6:-4] for i, part in carved.items() if part == "test"} == {"22", "23", "24", "25"}
    assert len(carved) == 18 and not {i for i, part in side.items() if part == "test"} & set(carved)


def test_ranked_lists_follow_the_rule_and_nothing_else() -> None:
    units = {f"v{n}": f"u{n // 2}" for n in range(40)}
    ranks = sorted({*units.values()}, key=lambda u: hashlib.sha256(f"stp:x:3:{u}".encode()).hexdigest())
    side = ranked_split("x", units, 3)
    assert {units[i] for i, part in side.items() if part == "train"} == set(ranks[:12])  # 60 % of 20
    assert side == ranked_split("x", dict(reversed(units.items())), 3)
    assert side != ranked_split("x", units, 4) and side != ranked_split("y", units, 3)
    assert list_digest(side) == list_digest(dict(reversed(side.items())))


def test_strata_are_divided_each_by_itself() -> None:
    units = {f"{c}/{n}": f"{c}/{n}" for c, size in (("a", 5), ("b", 10), ("c", 2), ("d", 1)) for n in range(size)}
    side = ranked_split("x", units, 0, lambda unit: unit[0])
    assert Counter((i[0], part) for i, part in side.items()) == {
        ("a", "train"): 3, ("a", "test"): 2, ("b", "train"): 6, ("b", "test"): 4, ("c", "train"): 1, ("c", "test"): 1,
        ("d", "train"): 1,
    }  # fmt: skip


def test_sizes_of_the_paper_s_random_lists() -> None:
    # 60 % of 515 videos of PA-HMDB51 are 309; of 35,666 clips of CelebV-HQ 21,399.6.
    for videos, train in ((515, 309), (35666, 21400)):
        side = ranked_split("x", {str(n): str(n) for n in range(videos)}, 0)
        assert Counter(side.values()) == {"train": train, "test": videos - train}


@real
def test_the_published_lists_of_hmdb51_are_verified_and_have_the_published_figures() -> None:
    lists = read_lists(RELEASE)
    assert lists.verified and lists.differences == ()
    assert Counter(i.partition("/")[0] for i in lists.ids) == HMDB51_VIDEOS
    assert all(Counter(side.values()) == {"train": 3570, "test": 1530} for side in lists.parts.values())
    assert len({hmdb51_title(i) for i in lists.ids}) == 1407 and all(map(hmdb51_title, lists.ids))
    shared = []
    for side in lists.parts.values():
        trained = {hmdb51_title(i) for i, part in side.items() if part == "train"}
        shared.append(sum(part == "test" and hmdb51_title(i) in trained for i, part in side.items()))
    assert shared == [457, 527, 529]


@real
def test_derived_lists_of_hmdb51_share_no_title_and_leave_no_class_out() -> None:
    official = read_lists(RELEASE).parts
    for made in (disjoint(official, hmdb51_title), validation(official, fifth_of_titles)):
        for side in made.values():
            titles = {part: {hmdb51_title(i) for i, p in side.items() if p == part} for part in ("train", "test")}
            assert not titles["train"] & titles["test"]
            counts = Counter((i.partition("/")[0], part) for i, part in side.items())
            assert min(counts[c, part] for c in HMDB51_VIDEOS for part in ("train", "test")) >= 5
    for split, side in validation(official, fifth_of_titles).items():
        assert all(official[split][i] == "train" for i in side)


@real
def test_damaged_copies_of_the_published_lists_are_explained(tmp_path: Path) -> None:
    with tarfile.open(RELEASE) as archive:
        files = {
            Path(m.name).name: archive.extractfile(m).read().decode()  # type: ignore[union-attr]
            for m in archive.getmembers()
            if m.name.endswith(".txt")
        }
    assert read_lists(write(tmp_path / "same", files)).verified
    half = {name: text for name, text in files.items() if not name.startswith(("wave", "walk"))}
    with pytest.raises(UserError, match=r"2 of 51 classes are missing \(walk, wave\), as after unpacking in part"):
        read_lists(write(tmp_path / "half", half))
    lines = files["dive_test_split1.txt"].splitlines(keepends=True)
    with pytest.raises(UserError, match="split 1: dive has 126 videos, not 127"):
        read_lists(write(tmp_path / "short", files | {"dive_test_split1.txt": "".join(lines[1:])}))
    first = next(line for line in lines if " 1 " in line)
    moved = "".join(line.replace(" 1 ", " 2 ") if line == first else line for line in lines)
    with pytest.raises(UserError, match="not 70 training and 30 test videos in dive"):
        read_lists(write(tmp_path / "moved", files | {"dive_test_split1.txt": moved}))
