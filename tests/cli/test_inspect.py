"""``stp-bench inspect`` on real runs, with a real MongoDB and in a real browser where there are any."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stp_bench import video_io
from stp_bench.viewer import state

pytestmark = pytest.mark.slow
Run = Callable[..., Any]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
found = state()
needs_database = pytest.mark.skipif(found.database is None, reason=f"no FiftyOne database here: {found.why}")


@pytest.fixture(scope="module")
def compared(start: Run, tiny: Path, data_home: Path) -> Path:
    """The folder of a comparison of three methods, made once."""
    out = data_home / "compared"
    methods = [word for name in ("raw", "stprivacy", "blur-strong") for word in ("--method", name)]
    done = start("evaluate", *methods, "--preset", "tiny", "--out", str(out), "--json")
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def one(compared: Path) -> Path:
    """The run of a learned method that drops tubelets."""
    return compared / "stprivacy" / "seed-0"


def test_a_page_shows_every_test_video_with_what_happened_to_it(run: Run, one: Path, tmp_path: Path) -> None:
    done = run("inspect", one, "--static", tmp_path / "page", "--json").json()
    page = tmp_path / "page"
    predictions = pd.read_parquet(one / "predictions.parquet")
    ids = sorted(set(predictions["video_id"]))
    assert done["videos"] == done["judged"] == len(ids)
    text = (page / "index.html").read_text()
    assert all(video_id in text for video_id in ids)
    assert "http://" not in text and "https://" not in text  # nothing is fetched from elsewhere
    assert {p.relative_to(page).as_posix() for p in page.rglob("*") if p.is_file()} == {*done["files"], "inspect.json"}
    for path in (page / "videos").iterdir():
        frames = list(video_io.read_frames(path))
        assert len(frames) == 4 and frames[0].shape[1] == 3 * 224
    with (page / "records.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    judge = json.loads((one / "result.json").read_text())["metrics"]["worst"]["attacker"]
    expected = predictions[predictions["attacker"] == judge].set_index("video_id")
    for row in rows:
        truth = expected.loc[row["video_id"]]
        assert float(row["score_face"]) == pytest.approx(truth["score_face"], abs=1e-5)
        leaks = truth["label_face"] == 1 and truth["score_face"] >= 0.5
        assert ("leaked: face" in row["verdicts"].split("|")) == leaks
        assert row["action_correct"] == str(int(truth["action"] == truth["action_pred"]))


def test_rendered_clips_are_what_the_run_saw_and_made(run: Run, one: Path, data_home: Path, tmp_path: Path) -> None:
    run("inspect", one, "--static", tmp_path / "page", "--json").json()
    media = data_home / "inspect" / "media"
    with np.load(one / "strips.npz") as strips:  # of the same clips, made when the run was judged
        wanted = {name: strips[name][0] for name in ("raw", "sparsified", "anonymized")}
    for name, folder, suffix in (
        ("raw", "raw-*", ".mp4"),
        ("sparsified", "stprivacy-*", ".sparsified.mp4"),
        ("anonymized", "stprivacy-*", ".anonymized.mp4"),
    ):
        distances = []
        for path in media.glob(f"{folder}/*{suffix}"):
            frames = np.stack(list(video_io.read_frames(path)))[:, 3::7, 3::7]  # the middles of enlarged pixels
            distances.append(np.abs(frames.astype(float) - wanted[name]).mean())
        # Lossy colors of single pixels are off by some; another clip is off by far more.
        assert min(distances) < 0.5 * np.median(distances)


def test_a_second_page_is_brought_up_to_date_and_nothing_is_left_over(run: Run, one: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    run("inspect", one, "--static", page, "--json").json()
    done = run("inspect", one, "--static", page, "--limit", "3", "--json").json()
    assert done["videos"] == 3 and len(list((page / "videos").iterdir())) == 3
    assert {p.name for p in (page / "sheets").iterdir()} == {Path(f).name for f in done["files"] if "sheets" in f}


def test_figure_3_is_a_pdf_and_a_png_with_numbers_and_the_sequence_of_pruning(
    run: Run, compared: Path, tmp_path: Path
) -> None:
    ids = sorted(set(pd.read_parquet(compared / "raw" / "seed-0" / "predictions.parquet")["video_id"]))
    out = tmp_path / "figure.pdf"
    done = run("inspect", compared, "--figure3", ids[0], ids[1], "--out", out, "--json").json()
    names = {"figure.pdf", "figure.png", "figure.json", "figure-pruning.pdf", "figure-pruning.png"}
    assert {p.name for p in tmp_path.iterdir()} == names == {Path(f).name for f in done["files"]}
    assert out.read_bytes().startswith(b"%PDF")
    assert done["shown"] == ids[:2] and done["videos"] == len(ids)
    stprivacy, blur = done["methods"]["stprivacy"], done["methods"]["blur-strong"]
    assert set(done["methods"]) == {"stprivacy", "blur-strong"}  # raw is what they are compared with
    assert stprivacy["kept"] == pytest.approx(5 / 16) and blur["kept"] is None  # floor(16 x 0.7^3) of 16
    # Blurring leaves the background; a method that drops two thirds and repaints the rest leaves less.
    assert stprivacy["edge_similarity"] < stprivacy["sparsified"]["edge_similarity"] < blur["edge_similarity"] < 1
    before = out.read_bytes()
    run("inspect", compared, "--figure3", ids[0], ids[1], "--out", out, "--json").json()
    assert out.read_bytes() == before


def write_votes(path: Path, ids: list[str]) -> None:
    rows = [
        (i, who, "face", vote, 1.0, "", "", "", "independent", "1")
        for i in ids
        for who, vote in (("anna", "1"), ("ben", "0" if i == ids[0] else "1"))
    ]
    columns = "video_id annotator attribute vote seconds annotation_id created_at updated_at round guideline_version"
    pd.DataFrame(rows, columns=columns.split()).to_csv(path, index=False)


def test_every_mistake_is_one_line_with_a_way_out(
    run: Run, one: Path, compared: Path, data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "name a run folder" in run("inspect").error
    assert "no run folder" in run("inspect", tmp_path / "nowhere", "--build-only").error
    assert "no predictions" in run("inspect", tmp_path, "--static", tmp_path / "page").error
    assert "stand alone" in run("inspect", one, "--list").error
    assert "--out is missing" in run("inspect", one, "--figure3", "x").error
    assert "unknown test video" in run("inspect", one, "--figure3", "x", "--out", tmp_path / "f.pdf").error
    assert "name it" in run("inspect", one, "--figure3", "x", "--out", tmp_path / "f.gif").error
    assert "unknown method of these runs" in run("inspect", one, "--method", "blurr", "--static", tmp_path / "p").error
    bare = shutil.copytree(one, tmp_path / "bare")
    (bare / "predictions.parquet").unlink()
    assert "predictions.parquet is missing" in run("inspect", bare, "--static", tmp_path / "page").error
    other = shutil.copytree(one, tmp_path / "other")
    shutil.copyfile(compared / "raw" / "seed-0" / "predictions.parquet", other / "predictions.parquet")
    assert "is not the one that result.json was made from" in run("inspect", other, "--static", tmp_path / "p").error
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be used" in run("inspect", one, "--port", str(taken.getsockname()[1])).error
    empty = run("inspect", one, "--static", tmp_path / "page", "--data-home", tmp_path / "home")
    assert "no prepared benchmark" in empty.error
    write_votes(tmp_path / "votes.csv", ["nothing/known"])
    words = ("inspect", "--annotations", tmp_path / "votes.csv", "--build-only")
    if found.database is not None:
        assert "name the benchmark" in run(*words).error
        assert "not in synth-hmdb" in run(*words, "--on", "synth-hmdb", "--preset", "tiny").error
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9")
    monkeypatch.setattr("stp_bench.viewer._database._PATIENCE", 200)
    if found.installed:
        assert "does not answer" in run("inspect", one, "--build-only").error


def test_runs_of_other_videos_cannot_be_compared(run: Run, start: Run, one: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--method", "raw", "--preset", "tiny", "--on", "synth-ucf", "--out", str(tmp_path / "ucf"))
    assert start(*words).code == 0
    done = run("inspect", one, tmp_path / "ucf", "--static", tmp_path / "page")
    assert "is of other videos than" in done.error and "synth-ucf" in done.error


def test_a_run_cannot_have_code_imported(run: Run, one: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(one, tmp_path / "copied")
    document = json.loads((copied / "result.json").read_text())
    document["method"] = "antigravity:SPEC"
    (copied / "result.json").write_text(json.dumps(document))
    assert "names no installed method" in run("inspect", copied, "--static", tmp_path / "page").error
    assert "antigravity" not in sys.modules


def test_moved_videos_are_named_with_the_place_they_were_in(
    run: Run, one: Path, tiny: Path, data_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for part in ("data", "clips"):
        shutil.copytree(data_home / part, home / part)
    moved = sorted((home / "data" / "synth-hmdb" / "tiny-seed0" / "videos").rglob("*.avi"))
    for path in moved:
        path.unlink()
    done = run("inspect", one, "--static", tmp_path / "page", "--data-home", home)
    assert "cannot be read" in done.error and str(home) in done.error and "bring them back" in done.error


# One process for all that needs the database, since importing FiftyOne and starting MongoDB take long.
SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from stp_bench.cli import app

def command(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app([*words])
        except SystemExit as stop:
            code = stop.code
    return {"code": code or 0, "out": out.getvalue(), "err": err.getvalue()}

one, compared, votes = sys.argv[1:4]
said = {"first": command("inspect", one, "--build-only", "--json")}
import fiftyone as fo
name = json.loads(said["first"]["out"])["dataset"]

def look(name):
    d = fo.load_dataset(name)
    every = d.select_group_slices() if d.media_type == "group" else d
    fields = ["variant.name", "video_id", "verdict", "leaked.classifications.label", "leaked_in_output", "score_face",
              "action.label", "action_pred.label", "action_pred.confidence", "filepath", "metadata.total_frame_count"]
    fields = [f for f in fields if every.has_field(f.split(".")[0])]
    return {
        "names": fo.list_datasets(), "id": str(d._doc.id), "persistent": d.persistent, "slices": d.group_slices,
        "rows": [dict(zip(fields, row)) for row in zip(*every.values(fields))],
        "files": all(Path(path).is_file() for path in every.values("filepath")),
        "views": {v: d.load_saved_view(v).count() for v in d.list_saved_views()},
        "frames": every.count("frames"), "sidebar": [g.name for g in d.app_config.sidebar_groups],
        "fields": sorted(d.get_field_schema()), "described": d.get_field("verdict").description,
    }

said["one"] = look(name)
said["again"] = command("inspect", one, "--build-only", "--json")
said["unchanged"] = look(name)
said["fewer"] = command("inspect", one, "--build-only", "--limit", "3", "--frames", "none", "--json")
said["rebuilt"] = look(name)
said["unknown view"] = command("inspect", one, "--build-only", "--view", "action lots")
said["several"] = command("inspect", compared, "--build-only", "--json")
said["compared"] = look(json.loads(said["several"]["out"])["dataset"])
here = ("--on", "synth-hmdb", "--preset", "tiny")
said["votes"] = command("inspect", "--annotations", votes, *here, "--build-only", "--json")
said["voted"] = look(json.loads(said["votes"]["out"])["dataset"])
other = fo.Dataset("somebody-elses", persistent=True)
fo.delete_dataset(name)
foreign = fo.Dataset(name, persistent=True)
foreign.add_sample(fo.Sample(filepath="/nowhere.mp4"))
said["foreign"] = command("inspect", one, "--build-only")
said["foreign kept"] = len(fo.load_dataset(name))
said["foreign deleted"] = command("inspect", "--delete", name)
said["listed"] = command("inspect", "--list", "--json")
said["deleted"] = command("inspect", "--delete", json.loads(said["several"]["out"])["dataset"], "--json")
said["unknown"] = command("inspect", "--delete", "stp-nothing")
said["left"] = fo.list_datasets()
fo.delete_dataset(name)
Path(sys.argv[4]).write_text(json.dumps(said, default=str))
"""


@pytest.fixture(scope="module")
def own_home(data_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which FiftyOne finds no settings and no database of the user's."""
    home = tmp_path_factory.mktemp("user")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FIFTYONE_")}
    return kept | {"HOME": str(home), "STP_BENCH_HOME": str(data_home)}


@pytest.fixture(scope="module")
def said(one: Path, compared: Path, own_home: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a session with a real database answered."""
    folder = tmp_path_factory.mktemp("session")
    ids = sorted(set(pd.read_parquet(one / "predictions.parquet")["video_id"]))
    write_votes(folder / "votes.csv", ids)
    words = [str(one), str(compared), str(folder / "votes.csv"), str(folder / "said.json")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], env=own_home, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    # The library is told where to keep its things: nothing of ours may end up in the user's folder.
    assert not (Path(own_home["HOME"]) / "fiftyone").exists()
    return json.loads((folder / "said.json").read_text())


@needs_database
def test_the_data_set_has_every_slice_of_every_test_video_with_its_fields(said: Any, one: Path) -> None:
    rows = said["one"]["rows"]
    ids = set(pd.read_parquet(one / "predictions.parquet")["video_id"])
    by_slice = {name: {r["video_id"] for r in rows if r["variant.name"] == name} for name in said["one"]["slices"]}
    assert by_slice == dict.fromkeys(("raw", "sparsified", "anonymized", "triptych"), ids)
    assert said["one"]["files"] and all(r["metadata.total_frame_count"] == 4 for r in rows)
    for row in rows:
        if row["variant.name"] in ("anonymized", "triptych"):
            assert row["leaked.classifications.label"] == row["leaked_in_output"]
            assert 0 <= row["score_face"] <= 1 and 0 <= row["action_pred.confidence"] <= 1
            assert ("action lost" in row["verdict"]) == (row["action.label"] != row["action_pred.label"])
    failures = {r["video_id"] for r in rows if {"action lost", "privacy leaked"} & set(r["verdict"])}
    assert said["one"]["frames"] == len(failures) * 2 * 4  # heatmaps on raw and sparsified, four frames each
    assert said["one"]["persistent"] and said["one"]["described"]
    assert said["one"]["sidebar"][0].startswith("what happened")


@needs_database
def test_saved_views_hold_the_videos_that_were_counted(said: Any) -> None:
    for command, seen in (("first", "one"), ("several", "compared"), ("votes", "voted")):
        document = json.loads(said[command]["out"])
        assert said[seen]["views"] == document["views"] and document["views"]
        rows = said[seen]["rows"]
        for view, count in document["views"].items():
            assert len({r["video_id"] for r in rows if view in r["verdict"]}) == count


@needs_database
def test_the_same_command_makes_no_duplicates_and_another_one_replaces(said: Any) -> None:
    assert json.loads(said["first"]["out"])["built"] is True
    assert json.loads(said["again"]["out"])["built"] is False
    assert said["unchanged"] == said["one"]
    assert json.loads(said["fewer"]["out"])["built"] is True
    assert said["rebuilt"]["names"] == said["one"]["names"]
    assert len({r["video_id"] for r in said["rebuilt"]["rows"]}) == 3 and said["rebuilt"]["frames"] == 0


@needs_database
def test_several_runs_have_slices_fields_and_views_of_their_own(said: Any) -> None:
    assert said["compared"]["slices"] == [
        "raw", "sparsified:stprivacy", "anonymized:stprivacy", "anonymized:blur-strong", "triptych",
    ]  # fmt: skip
    assert {"verdict__stprivacy", "leaked__blur_strong", "score_face__stprivacy"} <= set(said["compared"]["fields"])
    raw = [r for r in said["compared"]["rows"] if r["variant.name"] == "raw"]
    assert all(r["score_face"] is not None for r in raw)  # what the attacker finds on raw videos


@needs_database
def test_votes_are_shown_by_disagreement_with_everybodys_answer(said: Any) -> None:
    document = json.loads(said["votes"]["out"])
    assert document["views"]["disputed"] == document["views"]["disputed: face"] == document["views"]["tied"] == 1
    assert document["views"]["unanimous"] == document["videos"] - 1
    assert said["voted"]["rows"][0]["verdict"] == ["disputed", "disputed: face", "tied"]  # most disputed first
    assert {"yes_by_anna", "no_by_ben", "vote_margin_face", "disagreement"} <= set(said["voted"]["fields"])


@needs_database
def test_a_data_set_of_others_is_neither_overwritten_nor_deleted_nor_listed(said: Any) -> None:
    for answer in ("foreign", "foreign deleted"):
        assert said[answer]["code"] == 2 and "left alone" in said[answer]["err"]
    assert said["foreign kept"] == 1
    listed = {row["name"] for row in json.loads(said["listed"]["out"])["datasets"]}
    assert "somebody-elses" not in listed and "somebody-elses" in said["left"]
    deleted = json.loads(said["deleted"]["out"])
    assert deleted["deleted"] in listed and deleted["deleted"] not in said["left"] and deleted["freed_bytes"] > 0
    assert said["unknown"]["code"] == 2 and "unknown data set" in said["unknown"]["err"]
    assert said["unknown view"]["code"] == 2 and "did you mean action lost?" in said["unknown view"]["err"]


@pytest.fixture
def served(one: Path, own_home: dict[str, str], program: Path) -> Iterator[dict[str, Any]]:
    """A running App, as users start it, and what the command said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    view = "privacy leaked"
    words = [program, "inspect", one, "--port", str(port), "--view", view, "--json"]
    process = subprocess.Popen(
        words, env=own_home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        lines = []
        while not lines or lines[-1] != "}\n":  # the end of the document
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line)
        yield {**json.loads("".join(lines)), "view": view, "port": port, "process": process}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@needs_database
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser_samples_show_a_view_filters_and_a_video_plays(served: dict[str, Any]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    assert served["url"].startswith(f"http://127.0.0.1:{served['port']}/datasets/")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        # The page asks a font host for style sheets; it works without, and a test needs no network.
        page.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
        # The App draws its videos on a canvas: they are no part of the page, and have to be watched from the start.
        page.add_init_script(
            "window.videos = []; const make = document.createElement.bind(document);"
            "document.createElement = (name, ...more) => { const made = make(name, ...more);"
            " if (String(name).toLowerCase() === 'video') window.videos.push(made); return made; }"
        )
        page.goto(served["url"].partition("?")[0])
        page.get_by_text(f"{served['videos'] * len(served['slices'])} samples").wait_for(timeout=120_000)
        page.goto(served["url"])
        page.get_by_text(f"{served['views'][served['view']]} groups").wait_for(timeout=120_000)
        assert "GraphQL API Error" not in page.inner_text("body")
        if (dismiss := page.get_by_text("Dismiss")).count():
            dismiss.first.click()
        page.mouse.click(450, 260)  # the first sample
        page.get_by_text("Annotate", exact=True).wait_for(timeout=120_000)  # its own page is open
        page.keyboard.press("Space")
        page.wait_for_function("window.videos.some(v => v.currentTime > 0 && !v.error)", timeout=120_000)
        assert "GraphQL API Error" not in page.inner_text("body")
        browser.close()
    with pytest.raises(OSError), socket.create_connection((_other_address(), served["port"]), timeout=2):
        pass  # only this machine's own address is listened on
    served["process"].send_signal(signal.SIGINT)
    assert served["process"].wait(timeout=60) == 0
    _wait_until_free(served["port"])


def _other_address() -> str:
    """An address of this machine that is not the loopback one, where it has any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.2"
    return "127.0.0.2" if address.startswith("127.0.0.1") else address


def _wait_until_free(port: int) -> None:
    """The App's server ends with the command."""
    for _ in range(300):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"port {port} is still served")
