"""A labelling round on a real Label Studio: whatever happens to it, the votes are those that people gave."""

from __future__ import annotations

import csv
import dataclasses
import json
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stp_annotations import attributes
from stp_bench.annotate import interface, rounds, server
from stp_bench.annotate._project import open_project, round_lock
from stp_bench.annotate.studio import Studio
from stp_bench.errors import WorkError
from stp_bench.progress import Silent

pytestmark = pytest.mark.slow

ATTRIBUTES = [a.name for a in attributes()]
PEOPLE, VIDEOS = 4, 40
NAMES = [f"action {number % 2}/#{number:02d}[a]&b;" for number in range(VIDEOS)]


def vote(video: int, person: int, attribute: int) -> str:
    """Of four people, (video + attribute) mod 5 say yes: each count from 0 to 4 occurs for a fifth of the videos."""
    return interface.YES if person < (video + attribute) % 5 else interface.NO


def answers(video: int, person: int) -> list[dict[str, Any]]:
    return interface.answers({name: vote(video, person, k) for k, name in enumerate(ATTRIBUTES)})


class KillsAfterOnePage(Silent):
    """A reporter that makes something happen when the first units of the stage ``pull`` are done."""

    def __init__(self, happen: Callable[[], None]) -> None:
        self._happen: Callable[[], None] | None = happen
        self._pulls = False

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
        self._pulls = title == "pull"
        yield self

    def advance(self, n: int = 1) -> None:
        if self._pulls and self._happen is not None:
            self._happen, happen = None, self._happen
            happen()


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "votes.parquet")


@pytest.fixture
def tasks(studio: Any, client: Any) -> Callable[[int], dict[str, int]]:
    def of(project: int) -> dict[str, int]:
        pages = Studio(studio.url, studio.admin_token()).tasks(project)
        return {task["data"]["video_id"]: task["id"] for page in pages for task in page}

    return of


def test_a_round_of_four_annotators_ends_with_exactly_their_votes(
    studio: Any, clips: Any, client: Any, tokens_of: Any, tasks: Any, run: Any, tmp_path: Path
) -> None:
    home = ["--data-home", studio.home, "--json"]
    at = [*home, "--url", studio.url]

    made = run("annotate", "init", clips(VIDEOS), "--name", "round", "--annotators", "4", *at)
    document = made.json()
    assert (document["videos"], document["imported"], document["created"]) == (VIDEOS, VIDEOS, True)
    assert "even" in made.err
    again = run("annotate", "init", document["source"], "--name", "round", *at).json()
    assert (again["copied"], again["imported"], again["created"], again["changed"]) == (0, 0, False, [])
    assert (again["project_id"], again["annotators"]) == (document["project_id"], 4)

    file = tmp_path / "accounts.csv"
    run("annotate", "people", "round", "--create-count", str(PEOPLE), "--out", file, *at).json()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tokens = tokens_of(file, studio.url)
    assert len(tokens) == PEOPLE
    number = tasks(document["project_id"])
    assert sorted(number) == sorted(NAMES)

    def label(person: int, email: str) -> None:
        own = client(studio.url, tokens[email])
        for video, name in enumerate(NAMES):
            own.annotations.create(id=number[name], result=answers(video, person), lead_time=4.0 + person)

    with ThreadPoolExecutor(PEOPLE) as pool:
        list(pool.map(label, range(PEOPLE), tokens))

    project = open_project(studio.home, "round")
    with pytest.raises(WorkError, match="annotate serve"):
        rounds.pull(
            studio.home, project, Studio(studio.url, studio.admin_token()), page_size=10,
            reporter=KillsAfterOnePage(studio.kill),
        )  # fmt: skip
    assert not list(project.path("exports").iterdir())
    assert not project.path("votes.parquet").exists()
    down = run("annotate", "pull", "round", *home)
    assert "no token" in down.error or "no Label Studio answers" in down.error
    studio.stop()
    studio.start()

    pulled = run("annotate", "pull", "round", *home).json()
    assert (pulled["votes"], pulled["annotators"], pulled["rejected"]) == (VIDEOS * PEOPLE * 5, PEOPLE, {})
    names = {email: name for name, email in json.loads(project.path("people.json").read_text())["people"].items()}
    expected = {
        (video, names[email], attribute): "1" if vote(v, person, k) == interface.YES else "0"
        for v, video in enumerate(NAMES)
        for person, email in enumerate(tokens)
        for k, attribute in enumerate(ATTRIBUTES)
    }
    votes = table(project.folder)
    assert votes.set_index(["video_id", "annotator", "attribute"])["vote"].to_dict() == expected
    assert set(votes["seconds"]) == {4.0, 5.0, 6.0, 7.0}
    assert not any("@" in str(value) for value in votes.to_numpy().ravel())

    before = {path: path.read_bytes() for path in project.folder.glob("votes.*")}
    assert run("annotate", "pull", "round", *home).json()["new"] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(project.path("exports").iterdir())) == 1  # the same export is not kept twice

    check_majorities_and_agreement(project.folder, votes)
    standing = run("annotate", "status", "round", *home).json()
    assert (standing["answered"], standing["wanted"], standing["complete"]) == (VIDEOS * PEOPLE,) * 2 + (VIDEOS,)
    assert {a["disputed"] for a in standing["attributes"]} == {24}  # 1, 2 or 3 of 4 say yes: three fifths of 40
    repaired = run("annotate", "status", "round", "--repair", *home).json()
    assert repaired["repaired"]
    assert run("annotate", "status", "round", *home).json()["wrong_states"] == 0

    check_what_people_do_wrong(studio, client, tokens, number, project.folder, names, run, home, expected)
    check_an_expert_settles_disputes(studio, client, tasks, run, home, project.folder)

    secrets = [studio.admin_token(), *tokens.values()]
    kept = [p for p in studio.home.rglob("*") if p.is_file() and server.folder(studio.home) / "data" not in p.parents]
    assert not [p for p in kept for secret in secrets if secret.encode() in p.read_bytes()]


def check_majorities_and_agreement(folder: Path, votes: pd.DataFrame) -> None:
    """Of an attribute's 40 videos, 8 have 0, 1, 2, 3 and 4 yes of 4: 16 yes, 16 no, 8 ties."""
    import krippendorff
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    from stp_bench.annotate.agreement import agreement
    from stp_bench.annotate.majority import decide

    decision = decide(votes, videos=NAMES, attributes=ATTRIBUTES)
    labels = pd.Series(decision.label_VK[:, 0]).value_counts().to_dict()
    assert labels == {1: 16, 0: 16, -1: 8}
    assert len(decision.queue()) == 8 * 5 and set(decision.queue()["reason"]) == {"tied"}
    found = agreement(votes, decision, draws=10).attributes["face"].agreement
    ratings = votes[votes["attribute"] == "face"].pivot(index="video_id", columns="annotator", values="vote")
    array = ratings.to_numpy().astype(int)
    # Pairs of 4 that agree: 6, 3, 2, 3, 6 of 6; on average 2/3. By chance 2 * 80 * 80 / (160 * 159) disagree.
    alpha = 1 - (1 / 3) / (2 * 80 * 80 / (160 * 159))
    assert (found.percent, found.alpha) == pytest.approx((2 / 3, alpha))
    assert krippendorff.alpha(reliability_data=array.T, level_of_measurement="nominal") == pytest.approx(alpha)
    # Half of the votes are yes, so that half of the pairs agree by chance, for kappa as for AC1.
    assert found.ac1 == pytest.approx((2 / 3 - 0.5) / 0.5)
    assert fleiss_kappa(aggregate_raters(array)[0]) == pytest.approx((2 / 3 - 0.5) / 0.5)


def check_what_people_do_wrong(
    studio: Any, client: Any, tokens: dict[str, str], number: dict[str, int], folder: Path, names: dict[str, str],
    run: Any, home: list[Any], expected: dict[tuple[str, str, str], str],
) -> None:  # fmt: skip
    """What is skipped, half, given twice, by a stranger or changed by somebody else is set aside with its reason."""
    one, two, *_ = (client(studio.url, token) for token in tokens.values())
    emails = list(tokens)
    admin = client(studio.url, studio.admin_token())
    skipped, half, twice, changed, own_change, stranger = (number[name] for name in NAMES[:6])
    one.annotations.create(id=skipped, result=[], was_cancelled=True)
    one.annotations.create(id=half, result=answers(1, 0)[:3], lead_time=1.0)
    flipped = interface.answers(dict.fromkeys(ATTRIBUTES, interface.UNSURE))
    one.annotations.create(id=twice, result=flipped, lead_time=2.0)
    by_two = next(a for a in admin.annotations.list(id=changed) if a.completed_by == user_of(admin, emails[1]))
    one.annotations.update(id=by_two.id, result=flipped)
    own = next(a for a in admin.annotations.list(id=own_change) if a.completed_by == user_of(admin, emails[1]))
    two.annotations.update(id=own.id, result=flipped)
    admin.annotations.create(id=stranger, result=answers(5, 0), lead_time=1.0)

    pulled = run("annotate", "pull", "round", *home).json()
    assert pulled["rejected"] == {
        "cancelled": 1, "edited_by_other": 1, "incomplete": 1, "not_invited": 1, "superseded": 1
    }  # fmt: skip
    wanted = dict(expected)
    for attribute in ATTRIBUTES:
        wanted[NAMES[2], names[emails[0]], attribute] = "abstain"  # the later of two counts
        del wanted[NAMES[3], names[emails[1]], attribute]  # nobody knows what the edited one said before
        wanted[NAMES[4], names[emails[1]], attribute] = "abstain"  # a change of one's own mind
    assert table(folder).set_index(["video_id", "annotator", "attribute"])["vote"].to_dict() == wanted
    with (folder / "rejects.csv").open(newline="") as lines:
        aside = {row["reason"]: row["video_id"] for row in csv.DictReader(lines)}
    assert aside["edited_by_other"] == NAMES[3] and aside["cancelled"] == NAMES[0]

    # The server forgets who gave the annotations of an account that is deleted.
    before = table(folder)
    admin.users.delete(id=user_of(admin, emails[3]))
    assert run("annotate", "status", "round", *home).json()["rejected"] == pulled["rejected"]
    run("annotate", "pull", "round", *home).json()
    pd.testing.assert_frame_equal(table(folder), before)


def user_of(admin: Any, email: str) -> int:
    return next(int(user.id) for user in admin.users.list() if user.email == email)


def check_an_expert_settles_disputes(
    studio: Any, client: Any, tasks: Any, run: Any, home: list[Any], folder: Path
) -> None:
    """The expert sees what is disputed; answers to what was not asked do not count."""
    run("annotate", "vote", "round", *home).json()
    sent = run("annotate", "adjudicate", "round", *home).json()
    assert sent["created"] and sent["imported"] == sent["videos"] > 0
    again = run("annotate", "adjudicate", "round", *home).json()
    assert (again["imported"], again["changed"], again["created"]) == (0, [], False)

    # NAMES[7] has (7 + k) mod 5 = 2, 3, 4, 0, 1 yes: only the first attribute is tied.
    admin = client(studio.url, studio.admin_token())
    task = tasks(sent["project_id"])[NAMES[7]]
    assert admin.tasks.get(id=str(task)).data["dispute"] == "Disputed: face (2:2)"
    admin.annotations.create(id=task, result=interface.answers(dict.fromkeys(ATTRIBUTES, interface.YES)), lead_time=3.0)
    run("annotate", "adjudicate", "round", "--collect", *home).json()
    expert = table(folder).query("round == 'adjudication'")
    assert expert[["video_id", "attribute", "vote"]].to_numpy().tolist() == [[NAMES[7], "face", "1"]]
    run("annotate", "vote", "round", *home).json()
    labels = pd.read_csv(folder / "labels.csv").set_index("video_id")
    assert (labels.loc[NAMES[7], "face"], labels.loc[NAMES[7], "source_face"]) == (1, "adjudicated")


@pytest.fixture
def signed_in(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands have a token and need not sign in, which is slow."""
    monkeypatch.setenv(server.TOKEN_VARIABLE, studio.admin_token())


@pytest.fixture
def small(studio: Any, clips: Any, run: Any, request: pytest.FixtureRequest, signed_in: None) -> Iterator[str]:
    """A round of three videos."""
    name = request.node.name[:40].replace("[", "-").replace("]", "").lower()
    run("annotate", "init", clips(3), "--name", name, "--data-home", studio.home, "--url", studio.url, "--json").json()
    yield name


def test_an_interface_edited_by_hand_is_refused_until_it_is_put_back(
    studio: Any, small: str, client: Any, run: Any
) -> None:
    home = ["--data-home", studio.home]
    admin = client(studio.url, studio.admin_token())
    project = open_project(studio.home, small)
    config = admin.projects.get(id=project.project_id).label_config
    admin.projects.update(id=project.project_id, label_config=config.replace('"not_identifiable"', '"no"'))
    assert "edited on the server" in run("annotate", "pull", small, *home).error
    assert not project.path("exports").exists()
    assert "edited on the server" in " ".join(run("annotate", "status", small, *home, "--json").json()["faults"])
    run("annotate", "status", small, "--repair", *home, "--json").json()
    assert run("annotate", "pull", small, *home, "--json").json()["votes"] == 0


def test_a_deleted_project_is_named_and_init_makes_it_anew(studio: Any, small: str, client: Any, run: Any) -> None:
    home = ["--data-home", studio.home]
    project = open_project(studio.home, small)
    client(studio.url, studio.admin_token()).projects.delete(id=project.project_id)
    for command in ("pull", "status"):
        failed = run("annotate", command, small, *home)
        assert failed.code == 1 and "somebody deleted" in failed.error
    made = run("annotate", "init", project.source, "--name", small, *home, "--url", studio.url, "--json").json()
    assert (made["created"], made["imported"], made["copied"]) == (True, 3, 0)
    assert run("annotate", "pull", small, *home, "--json").json()["tasks"] == 3


def test_a_number_that_another_round_s_project_has_by_now_is_not_taken_for_this_round_s(
    studio: Any, small: str, run: Any
) -> None:
    """As where the server's database was made anew: it numbers from 1 again."""
    home = ["--data-home", studio.home]
    own, project = Studio(studio.url, studio.admin_token()), open_project(studio.home, small)
    other = own.create(
        title="other", marker=rounds.marker("other"), config=interface.config(attributes()), annotators=1, guidelines=""
    )
    dataclasses.replace(project, project_id=other.id, adjudication_id=project.project_id).save()
    for words in (["pull"], ["status"], ["adjudicate", "--collect"]):
        failed = run("annotate", words[0], small, *words[1:], *home)
        assert failed.code == 1 and f"not that of the round {small}" in failed.error
    assert run("annotate", "purge", small, "--server", *home, "--json").json()["projects"] == []
    words = ("annotate", "init", project.source, "--name", small, *home, "--url", studio.url, "--json")
    assert run(*words, "--dry-run").json()["imported"] == 0
    assert run(*words).json()["project_id"] == project.project_id  # its own, by its description
    assert open_project(studio.home, small).adjudication_id is None
    run("annotate", "purge", small, "--server", "--yes", *home, "--json").json()
    assert own.project(project.project_id) is None and own.project(other.id) == other


def test_a_project_whose_record_is_lost_is_found_again_unless_somebody_edited_it(
    studio: Any, small: str, client: Any, run: Any
) -> None:
    project = open_project(studio.home, small)
    words = ("annotate", "init", project.source, "--name", small, "--data-home", studio.home, "--url", studio.url)
    project.path("project.json").unlink()
    found = run(*words, "--json").json()
    assert (found["project_id"], found["created"], found["imported"]) == (project.project_id, False, 0)
    assert open_project(studio.home, small) == project
    project.path("project.json").unlink()
    edited = interface.config(attributes()).replace('value="unsure"', 'value="maybe"')
    client(studio.url, studio.admin_token()).projects.update(id=project.project_id, label_config=edited)
    assert "cannot be taken over" in run(*words).error


def test_of_two_commands_at_once_the_second_gets_a_line(studio: Any, small: str, run: Any) -> None:
    project = open_project(studio.home, small)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with round_lock(project.folder):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        failed = [run("annotate", command, small, "--data-home", studio.home) for command in ("pull", "adjudicate")]
    finally:
        done.set()
        thread.join()
    assert all(one.code == 1 and "another command" in one.error for one in failed)
    assert not project.path("votes.parquet").exists()


def test_tasks_that_others_made_lost_or_changed_are_told_and_mended(
    studio: Any, small: str, client: Any, run: Any, tasks: Any
) -> None:
    admin = client(studio.url, studio.admin_token())
    project = open_project(studio.home, small)
    number = tasks(project.project_id)
    lost, changed, doubled = sorted(number)
    data = admin.tasks.get(id=str(number[doubled])).data
    admin.projects.import_tasks(id=project.project_id, request=[{"data": data}, {"data": {**data, "video_id": "x"}}])
    admin.tasks.update(id=str(number[changed]), data={**data, "video_id": changed, "fps": 1.0})
    admin.tasks.delete(id=str(number[lost]))
    words = ("annotate", "init", project.source, "--name", small, "--data-home", studio.home, "--json")
    foreseen = run(*words, "--dry-run", "--url", studio.url).json()
    assert (foreseen["imported"], foreseen["created"]) == (1, False)
    made = run(*words, "--url", studio.url).json()
    assert (made["imported"], made["changed"], made["extra"], made["twice"]) == (1, [changed], ["x"], [doubled])
    assert set(tasks(project.project_id)) == {*number, "x"}


def test_uploaded_videos_are_handed_out_and_sent_once(
    studio: Any, clips: Any, run: Any, tasks: Any, signed_in: None
) -> None:
    words = ("annotate", "init", clips(2), "--name", "sent", "--upload", "--data-home", studio.home, "--json")
    first = run(*words, "--url", studio.url).json()
    own = Studio(studio.url, studio.admin_token())
    there = own.uploaded(first["project_id"])
    assert len(there) == 2 and all(own.plays(path) for path in there.values())
    assert run(*words, "--url", studio.url).json()["imported"] == 0
    assert own.uploaded(first["project_id"]) == there


def test_predictions_order_the_queue_and_fill_forms_only_when_asked(
    studio: Any, clips: Any, client: Any, run: Any, tasks: Any, tmp_path: Path, signed_in: None
) -> None:
    import numpy as np

    from stp_bench.predictions import Predictions
    from stp_bench.schema import Target

    scores = np.repeat([[0.99], [0.5], [0.8]], 5, axis=1)  # entropy 0.08, 1, 0.72 bits
    table = Predictions.of(
        action=Target(name="action", kind="multiclass", classes=("a", "b")),
        privacy=Target(name="privacy", kind="multilabel", classes=tuple(ATTRIBUTES), private=True),
        video_ids=NAMES[:3], groups=[None] * 3, action_V=[0, 1, 0], posterior_VC=[[0.5, 0.5]] * 3,
        labels_VK=np.zeros((3, 5)), scores={"video": scores},
    )  # fmt: skip
    table.write(tmp_path / "predictions.parquet")
    words = ("annotate", "init", clips(3), "--data-home", studio.home, "--url", studio.url, "--json")
    given = ("--predictions", tmp_path / "predictions.parquet")
    plain = run(*words, "--name", "ordered", *given).json()
    number = tasks(plain["project_id"])
    assert sorted(number, key=number.__getitem__) == [NAMES[1], NAMES[2], NAMES[0]]
    admin = client(studio.url, studio.admin_token())
    assert not plain["prefilled"] and not admin.tasks.get(id=str(number[NAMES[1]])).predictions

    filled = run(*words, "--name", "filled", *given, "--prefill")
    assert filled.json()["prefilled"] and "not independent" in filled.err
    task = tasks(filled.json()["project_id"])[NAMES[0]]
    prediction = admin.tasks.get(id=str(task)).predictions[0]
    own = answers_of(prediction)
    assert set(own) == {"identifiable"}
    admin.annotations.create(
        id=task, result=interface.answers(dict.fromkeys(ATTRIBUTES, "identifiable")), parent_prediction=prediction.id
    )
    home = ("--data-home", studio.home, "--json")
    assert run("annotate", "pull", "filled", *home).json()["rejected"] == {"prefilled": 1}
    taken = run("annotate", "pull", "filled", "--accept-prefilled", *home).json()
    assert (taken["votes"], taken["prefilled"]) == (5, True)
    assert "opened empty" in run(*words[:-1], "--name", "ordered", *given, "--prefill").error


def answers_of(prediction: Any) -> list[str]:
    return [entry["value"]["choices"][0] for entry in prediction.result]


def test_purge_tells_what_would_go_and_keeps_the_votes(studio: Any, small: str, run: Any) -> None:
    home = ["--data-home", studio.home, "--json"]
    run("annotate", "pull", small, *home).json()
    project = open_project(studio.home, small)
    foreseen = run("annotate", "purge", small, "--server", *home).json()
    assert (foreseen["media"], foreseen["exports"], foreseen["done"]) == (3, 1, False)
    assert len(list(project.media.glob("*.mp4"))) == 3
    copy = server.folder(studio.home) / "data" / "export" / f"project-{project.project_id}-at-2026-01-31.json"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text("[]")
    elsewhere = Studio(f"http://localhost:{studio.port}", studio.admin_token())  # not this data home's, by its address
    there = dataclasses.replace(project, url=elsewhere.url)
    found = rounds.purge(studio.home, there, elsewhere, really=False)
    assert (found.projects, found.server_exports) == ((project.project_id,), 0)
    gone = run("annotate", "purge", small, "--server", "--yes", *home).json()
    assert gone["server_exports"] == 1 and not copy.exists()
    assert not project.media.exists() and not list(project.path("exports").iterdir())
    assert not project.path("people.json").exists() and project.path("votes.parquet").exists()
    assert Studio(studio.url, studio.admin_token()).project(project.project_id) is None


@pytest.mark.parametrize(
    ("token", "says"),
    [("0" * 40, "invalid token"), ("nonsense", "does not take this token"), ("ключ", "no token has")],
)
def test_a_token_that_the_server_does_not_know_is_refused_and_not_repeated(
    studio: Any, run: Any, monkeypatch: pytest.MonkeyPatch, token: str, says: str
) -> None:
    monkeypatch.setenv(server.TOKEN_VARIABLE, token)
    failed = run("annotate", "people", "--data-home", studio.home, "--url", studio.url)
    assert failed.code == 2 and says in failed.error
    assert token not in failed.err


def test_a_personal_access_token_does_as_well(
    studio: Any, client: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client(studio.url, studio.admin_token()).tokens.create()
    monkeypatch.setenv(server.TOKEN_VARIABLE, made.token)
    done = run("annotate", "people", "--data-home", studio.home, "--url", studio.url, "--json")
    assert done.json()["url"] == studio.url and made.token not in done.out + done.err
    client(studio.url, studio.admin_token()).tokens.blacklist(refresh=made.token)
    failed = run("annotate", "people", "--data-home", studio.home, "--url", studio.url)
    assert failed.code == 2 and "does not take this token" in failed.error and made.token not in failed.err


def test_this_data_homes_server_is_not_started_twice_nor_on_a_taken_port(studio: Any, run: Any, tmp_path: Path) -> None:
    twice = run("annotate", "serve", "--port", "18999", "--data-home", studio.home)
    assert twice.code == 2 and "already runs" in twice.error and studio.url in twice.error
    taken = run("annotate", "serve", "--port", str(studio.port), "--data-home", tmp_path)
    assert taken.code == 2 and f"port {studio.port}" in taken.error
