"""What a labelling round is made of, as far as it needs no server: copies, page, people, queue and counts."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from stp_annotations import attributes
from stp_bench import video_io
from stp_bench.annotate import interface, media, people, rounds, studio
from stp_bench.annotate._project import ADJUDICATION, ROUND, Project, check_name, open_project, write_private
from stp_bench.annotate.disputes import read_queue
from stp_bench.annotate.session import server_address
from stp_bench.annotate.standing import standing
from stp_bench.annotate.votes import extract
from stp_bench.errors import BenchError, UserError, WorkError
from stp_bench.progress import Silent

ATTRIBUTES = tuple(a.name for a in attributes())


def project(folder: Path, **changes: Any) -> Project:
    values: dict[str, Any] = {
        "folder": folder, "title": "Trial", "source": "clips", "videos": {"a/1": "x.mp4", "a/2": "y.mp4"},
        "attributes": ATTRIBUTES, "annotators": 2, "guideline_version": "1", "interface_sha256": rounds.digest(),
        "url": "http://127.0.0.1:8080", "project_id": 7,
    }  # fmt: skip
    return Project(**(values | changes))


# -- the page


def test_the_page_offers_each_answer_of_each_attribute_under_a_key_of_its_own() -> None:
    page = ElementTree.fromstring(interface.config(attributes()))
    blocks = page.findall(".//Choices")
    assert [block.get("name") for block in blocks] == list(ATTRIBUTES)
    assert all(block.get("required") == "true" and block.get("choice") == "single-radio" for block in blocks)
    assert {tuple(c.get("value") for c in block) for block in blocks} == {tuple(interface.CHOICES)}
    keys = [choice.get("hotkey") for block in blocks for choice in block]
    assert len(set(keys)) == len(keys) == 15
    texts = " ".join(h.get("value", "") for h in page.iter("Header"))
    assert all(a.question in texts and a.yes in texts and a.no in texts for a in attributes())


def test_the_expert_s_page_asks_the_same_and_shows_the_dispute() -> None:
    plain, disputed = (ElementTree.fromstring(interface.config(attributes(), disputed=d)) for d in (False, True))
    headers = [[h.get("value") for h in page.iter("Header")] for page in (plain, disputed)]
    assert [h for h in headers[1] if h not in headers[0]] == ["$dispute"]


def test_the_digest_moves_with_what_an_answer_means_and_not_with_its_key() -> None:
    first, *rest = attributes()
    before = interface.digest(attributes(), "1")
    assert interface.digest((dataclasses.replace(first, keys=("x", "y", "z")), *rest), "1") == before
    for changed in (dataclasses.replace(first, yes="Otherwise."), dataclasses.replace(first, question="Really?")):
        assert interface.digest((changed, *rest), "1") != before
    assert interface.digest(attributes(), "2") != before


def test_uncertainty_is_the_entropy_of_the_scores_in_bits() -> None:
    assert interface.uncertainty({"a": 0.5, "b": 0.5}) == 1
    assert interface.uncertainty({"a": 0.0, "b": 1.0}) == 0
    # -(1/4) log2(1/4) - (3/4) log2(3/4)
    assert interface.uncertainty({"a": 0.25}) == pytest.approx(0.811278)


# -- copies


def clip(path: Path, frames: int = 6, size: tuple[int, int] = (33, 47), seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    video_io.write_video(path, list(rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8)), 25, codec="mpeg4")


def test_copies_are_h264_of_even_size_with_every_frame_under_a_name_that_tells_nothing(tmp_path: Path) -> None:
    import av

    clip(tmp_path / "in" / "kiss" / "two people.avi")
    videos = media.find_videos(tmp_path / "in")
    assert list(videos) == ["kiss/two people"]
    made = media.make_copies(videos, tmp_path / "out", journal=tmp_path / "journal", reporter=Silent())
    copy = tmp_path / "out" / made.clips["kiss/two people"].file
    assert "kiss" not in str(copy.relative_to(tmp_path)) and made.made == 1
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, len(container.streams)) == (34, 48, 1)
    assert video_io.probe(copy).frames == made.clips["kiss/two people"].frames == 6


def test_copies_that_are_there_are_not_made_again_and_unreadable_videos_are_named(tmp_path: Path) -> None:
    for number in range(3):
        clip(tmp_path / "in" / f"{number}.avi", seed=number)
    (tmp_path / "in" / "bad.avi").write_bytes(b"not a video")
    (tmp_path / "in" / "same.avi").write_bytes((tmp_path / "in" / "0.avi").read_bytes())
    videos = media.find_videos(tmp_path / "in")

    def make() -> media.Copies:
        return media.make_copies(videos, tmp_path / "out", journal=tmp_path / "journal", workers=2, reporter=Silent())

    first = make()
    assert (first.made, set(first.unreadable), first.clips["0"].file == first.clips["same"].file) == (3, {"bad"}, True)
    content = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(content) == 3
    next(iter(content)).unlink()
    assert make().made == 1
    assert make().made == 0


def test_a_folder_without_videos_or_with_two_of_one_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a benchmark nor a folder"):
        media.find_videos(tmp_path / "absent")
    with pytest.raises(UserError, match="no videos in"):
        media.find_videos(tmp_path)
    for suffix in ("avi", "mp4"):
        (tmp_path / f"a.{suffix}").touch()
    with pytest.raises(UserError, match=r"a\.avi and a\.mp4"):
        media.find_videos(tmp_path)


# -- people and names


def test_the_key_of_pseudonyms_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = people.key(tmp_path)
    file = tmp_path / "annotations" / "key"
    assert len(key) == 32 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert people.key(tmp_path) == key
    file.write_text("short")
    with pytest.raises(WorkError, match="restore it"):
        people.key(tmp_path)


def test_invitations_add_up_and_are_private(tmp_path: Path) -> None:
    people.invite(tmp_path, ["b@x.org"], {2: "b@x.org", 3: "c@x.org"}, "http://x")
    people.invite(tmp_path, ["a@x.org", "b@x.org"], {2: "a@x.org"}, "http://y")
    found = people.read(tmp_path)
    assert found.invited == ("a@x.org", "b@x.org")
    assert (found.numbers("http://x"), found.numbers("http://y")) == ({2: "b@x.org"}, {2: "a@x.org"})
    assert stat.S_IMODE((tmp_path / "people.json").stat().st_mode) == 0o600


def test_annotations_of_a_deleted_account_get_back_their_author_and_others_keep_theirs() -> None:
    made = [{"id": 1, "completed_by": None}, {"id": 2, "completed_by": None}, {"id": 3, "completed_by": 8}]
    (task,) = people.with_authors([{"data": {}, "annotations": made}], {1: 7, 3: 7})
    assert [a["completed_by"] for a in task["annotations"]] == [7, None, 8]


@pytest.mark.parametrize("text", ["name\nx@y.org\n", "email\nno address\n", "email\n", "email\n@y.org\n"])
def test_a_file_that_names_nobody_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(UserError, match=r"column 'email'|e-mail address|0 people"):
        people.addresses(tmp_path / "people.csv")


def test_addresses_are_read_once_each_in_small_letters(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name,email\nA,Ann@X.org\nB,ben@x.org\nA,ann@x.org \n")
    assert people.addresses(tmp_path / "people.csv") == ["ann@x.org", "ben@x.org"]


@pytest.mark.parametrize("name", ["", "../x", "Key", "key", "media", "-a", "a/b", "a" * 65])
def test_a_round_s_name_cannot_leave_its_folder_nor_be_another_s(name: str) -> None:
    with pytest.raises(UserError, match="cannot name"):
        check_name(name)


def test_a_round_is_read_as_it_was_written_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    made = project(tmp_path / "annotations" / "trial", adjudication_id=9, durations={"a/1": 1.5})
    made.save()
    assert open_project(tmp_path) == made
    (made.folder / "project.json").write_text('{"schema": 1, "title": "x"}')
    with pytest.raises(WorkError, match="not the record"):
        open_project(tmp_path, "trial")
    with pytest.raises(UserError, match="did you mean trial"):
        open_project(tmp_path, "trail")


def test_private_files_replace_open_ones(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(0o644)
    write_private(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new" and stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


# -- the server's address, version and errors


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://x",
        "http://ann:secret@x.org",
        "http://",
        "http://x:99999",
        "http://x?token=1",
        "http://[x",
    ],
)
def test_an_address_that_is_none_or_tells_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UserError) as refused:
        server_address(url)
    assert "secret" not in str(refused.value)


def test_an_address_is_kept_in_one_form() -> None:
    assert server_address(" http://127.0.0.1:8080/ ") == "http://127.0.0.1:8080"


def test_an_old_server_is_refused() -> None:
    studio.check_version("1.23.2")
    studio.check_version("2.0.0")
    with pytest.raises(UserError, match=r"1\.8\.0 is too old"):
        studio.check_version("1.8.0")


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (401, {"detail": "Invalid token."}, 2, "invalid token"),
        (401, {"detail": "API key has expired. Please obtain a new refresh token."}, 2, "has expired"),
        (401, {"detail": "... legacy token authentication has been disabled ..."}, 2, "personal access token"),
        (400, {"detail": "Validation error", "validation_errors": {"x": ["path does not exist"]}}, 1, "path does not"),
        (404, "<html>page not found</html>", 1, "edition"),
        (500, "Traceback: secret", 1, "status 500"),
        (302, "", 1, "sends elsewhere"),
        (400, {"detail": "token " + "a" * 40}, 1, "(a token)"),
    ],
)
def test_what_the_server_refuses_becomes_one_line_without_pages_and_tokens(
    status: int, body: Any, code: int, says: str
) -> None:
    found: BenchError = studio._refused("http://x", status, body)
    assert found.exit_code == code and says in str(found)
    assert "<" not in str(found) and "secret" not in str(found) and "a" * 40 not in str(found)


# -- the queue and counts


def test_the_queue_is_a_fixed_shuffle_with_the_unsure_first() -> None:
    names = [f"{action}/{n}" for action in ("jump", "kick") for n in range(20)]
    plain = rounds._queue(names, {})
    assert sorted(plain) == sorted(names) and plain == rounds._queue(reversed(names), {})
    assert {name.partition("/")[0] for name in plain[:10]} == {"jump", "kick"}
    assert rounds._queue(["a", "b", "c"], {"a": {"x": 0.9}, "b": {"x": 0.6}}) == ["b", "a", "c"]


def test_a_queue_of_other_videos_or_without_counts_is_refused(tmp_path: Path) -> None:
    made = project(tmp_path)
    with pytest.raises(UserError, match="nothing was voted on"):
        read_queue(tmp_path / "queue.csv", made)
    for text in (
        "video_id,attribute\na/1,face\n",
        "video_id,attribute,reason,n_yes,n_no,n_abstain\nz,face,tied,2,2,0\n",
    ):
        (tmp_path / "queue.csv").write_text(text)
        with pytest.raises(UserError, match="line 2"):
            read_queue(tmp_path / "queue.csv", made)


def form(number: int, person: int, values: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    at = "2026-01-31T09:30:00.000000Z"
    return {
        "id": number, "completed_by": person, "was_cancelled": False, "lead_time": 10.0 * person, "created_at": at,
        "updated_at": at, "updated_by": person, "parent_prediction": None, "result": interface.answers(values),
    } | changes  # fmt: skip


def test_a_standing_counts_people_and_not_annotations(tmp_path: Path) -> None:
    yes, no = dict.fromkeys(ATTRIBUTES, interface.YES), dict.fromkeys(ATTRIBUTES, interface.NO)
    first = [form(1, 1, yes), form(2, 2, no), form(3, 2, no)]  # the second person answers twice
    second = [form(4, 1, yes), form(5, 2, yes, was_cancelled=True)]
    tasks = [
        {"data": {"video_id": "a/1"}, "annotations": first, "drafts": 0, "total_annotations": 3, "is_labeled": True},
        {"data": {"video_id": "a/2"}, "annotations": second, "drafts": 2, "total_annotations": 2, "is_labeled": True},
        {"data": {"video_id": "b/9"}, "annotations": [], "drafts": 0, "total_annotations": 0, "is_labeled": False},
    ]
    made = project(tmp_path)
    extracted = extract(
        tasks, people={1: "a-1", 2: "a-2"}, videos=made.videos, attributes=ATTRIBUTES, invited=None, round=ROUND,
        guideline_version="1",
    )  # fmt: skip
    found = standing(made, tasks, extracted)
    assert (found.answered, found.wanted, found.complete) == (3, 4, 1)
    assert (found.wrong_counters, found.wrong_states) == (1, 1)  # a skip is no annotation, and one is not two
    assert (found.drafts, found.extra, found.missing) == (2, ("b/9",), ())
    assert (found.seconds, found.remaining) == (10.0, 10.0)  # of 10, 20 and 10 s; one form is left
    face = found.attributes[0]
    assert (face.complete, face.yes, face.no, face.disputed, face.compared) == (1, 2, 1, 1, 1)
    assert {p.name: (p.videos, p.set_aside, p.skipped) for p in found.people} == {"a-1": (2, 0, 0), "a-2": (1, 2, 1)}


def test_the_two_projects_of_a_round_are_told_apart_by_their_marks() -> None:
    assert len({rounds.marker("x"), rounds.marker("x", ADJUDICATION), rounds.marker("y")}) == 3


def test_a_project_is_a_round_s_by_its_mark_whatever_the_version_of_the_questions() -> None:
    def remote(description: str) -> studio.Remote:
        return studio.Remote(
            id=1, title="", description=description, config="", annotators=1, shows_predictions=False, tasks=0
        )

    assert rounds.belongs(remote(rounds.marker("x")), "x")
    assert rounds.belongs(remote(rounds.marker("x").replace(rounds.digest(), "0" * 64)), "x")
    for other in (rounds.marker("x", ADJUDICATION), rounds.marker("x-2"), rounds.marker("y"), ""):
        assert not rounds.belongs(remote(other), "x")


def test_other_content_under_the_name_of_a_video_is_refused_and_more_or_fewer_videos_are_not(tmp_path: Path) -> None:
    made = project(tmp_path)
    clips = {name: media.Clip(file=file, frames=8, fps=25.0) for name, file in made.videos.items()}
    new = media.Clip(file="z.mp4", frames=8, fps=25.0)
    rounds._check_clips(None, clips)
    rounds._check_clips(made, {**clips, "a/3": new})
    rounds._check_clips(made, {"a/1": clips["a/1"]})
    with pytest.raises(UserError, match=r"a/2 is another.*--name"):
        rounds._check_clips(made, {**clips, "a/2": new})


def test_an_expert_s_project_asks_what_any_task_of_a_video_asks_and_a_task_by_hand_asks_nothing() -> None:
    tasks = [
        {"data": {"video_id": "a/1", "attributes": ["face"]}},
        {"data": {"video_id": "a/1", "attributes": ["gender"]}},
        {"data": {"video": "by hand"}},
        {"data": {"video_id": "a/2", "attributes": "face"}},
        {"data": ["face"]},
    ]
    assert rounds.asked_of(tasks) == {"a/1": {"face", "gender"}, "a/2": set()}
