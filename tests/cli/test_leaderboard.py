"""`stp-bench leaderboard`: what a run's own files prove is shown, and whatever was touched is refused by name."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stp_leaderboard.serve import open_server

Run = Callable[..., Any]
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def made(start: Run, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two methods and two seeds, and a run of many tags."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("--preset", "tiny", "--set", "run.bootstrap=20", "--json")
    methods = ("--method", "raw", "--method", "blur-strong", "--seeds", "2")
    start("evaluate", *methods, *words, "--out", folder / "known").json()
    start("evaluate", "--method", "raw", "--on", "synth-scenes", *words, "--out", folder / "scenes").json()
    start("evaluate", "--method", "raw", "--protocol", "frame", *words, "--out", folder / "frame").json()
    return folder


@pytest.fixture(scope="module")
def packed(start: Run, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them as a folder of records."""
    records = tmp_path_factory.mktemp("records")
    for name in ("known", "scenes", "frame"):
        words = ("--submitter", "A. Person & others", "--date", "2026-03-01", "--out", records)
        start("leaderboard", "submit", made / name, *words, "--json").json()
    return records


@pytest.fixture
def records(packed: Path, tmp_path: Path) -> Path:
    """A copy of the records, to be tampered with."""
    return Path(shutil.copytree(packed, tmp_path / "records"))


def one(records: Path, method: str = "blur-strong", seed: int = 0) -> Path:
    """The record of one run on known actions."""
    (path,) = records.glob(f"{method}_known_synth-hmdb_*_seed-{seed}_*.json")
    return path


def edit(path: Path, field: str, value: Any) -> None:
    """Change a field of a record's document (dots lead inwards); a function is applied to what is there."""
    document = json.loads(path.read_text())
    *parents, last = field.split(".")
    block = document
    for name in parents:
        block = block[name]
    block[last] = value(block[last]) if callable(value) else value
    path.write_text(json.dumps(document))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], name: str = "predictions") -> None:
    """Change a table of a record."""
    table = path.with_suffix("") / f"{name}.parquet"
    pq.write_table(change(pq.ParquetFile(table).read()), table)


def replaced(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    at = table.column_names.index(column)
    return table.set_column(at, column, pa.array(values, table.schema.field(column).type))


def problems(run: Run, *paths: Path) -> dict[str, list[tuple[str, str]]]:
    """Field and message of every problem, by record; the command must have failed."""
    done = run("leaderboard", "check", *paths, "--json")
    assert done.code == 1, done.out
    assert done.err.rstrip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.err
    return {
        Path(s["source"]).name: [(p["field"], p["message"]) for p in s["problems"]]
        for s in json.loads(done.out)["submissions"]
    }


def test_what_was_packed_holds_against_predictions_and_index(run: Run, packed: Path) -> None:
    found = run("leaderboard", "check", packed, "--json").json()["submissions"]
    assert len(found) == 6
    assert all(one["holds"] and not one["unchecked"] for one in found), found
    assert all(path.stat().st_size < 200_000 for path in packed.rglob("*") if path.is_file())


def test_a_run_is_checked_before_it_is_submitted_and_an_archive_like_a_folder(
    run: Run, made: Path, tmp_path: Path
) -> None:
    assert "2 of 2" not in run("leaderboard", "check", made / "scenes").out
    archive = tmp_path / "mine.zip"
    words = ("--submitter", "me", "--date", "2026-03-01", "--out", archive)
    first = run("leaderboard", "submit", made / "known", *words, "--json").json()
    content = archive.read_bytes()
    assert run("leaderboard", "submit", made / "known", *words).code == 0
    assert archive.read_bytes() == content
    found = run("leaderboard", "check", archive, "--json").json()["submissions"]
    assert [Path(s["source"]).name for s in found] == first["records"]
    assert all(s["holds"] for s in found)


def test_a_record_is_added_once_and_never_replaced(run: Run, made: Path, records: Path) -> None:
    words = ("leaderboard", "submit", made / "scenes", "--date", "2026-03-01", "--out", records)
    assert run(*words, "--submitter", "A. Person & others").code == 0
    assert "already with another content" in run(*words, "--submitter", "Somebody Else").error


def test_without_the_benchmark_it_says_what_was_not_checked(run: Run, packed: Path, tmp_path: Path) -> None:
    found = run("leaderboard", "check", one(packed), "--data-home", tmp_path, "--json").json()["submissions"]
    assert found[0]["holds"]
    assert any("index of synth-hmdb" in note for note in found[0]["unchecked"])


def test_an_edited_figure_is_named_with_both_values(run: Run, records: Path) -> None:
    edit(one(records), "result.metrics.cmap", lambda value: value - 5)
    fields = dict(problems(run, records)[one(records).name])
    assert set(fields) == {"metrics.cmap", "left.cmap"}  # the latter does not follow from the edited figure either
    assert "by its predictions" in fields["metrics.cmap"]


def test_one_changed_score_is_found(run: Run, records: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = table["score_face"].to_pylist()
        return replaced(table, "score_face", [1 - values[0], *values[1:]])

    rewrite(one(records), change)
    fields = dict(problems(run, one(records))[one(records).name])
    assert "provenance.predictions_sha256" in fields


def test_a_dropped_video_is_found_even_if_every_figure_is_made_to_fit(run: Run, records: Path, made: Path) -> None:
    from stp_bench.predictions import Predictions, Reference
    from stp_bench.scoring import score

    path = one(records)
    rewrite(path, lambda table: table.filter(pc.not_equal(table["video_id"], table["video_id"][0].as_py())))
    tables = path.with_suffix("")
    predictions = Predictions.read(tables / "predictions.parquet")
    scores = score(predictions, Reference.read(tables / "reference.parquet"), bootstrap=20, seed=0)
    edit(path, "result.metrics", scores.metrics)
    edit(path, "result.floors", scores.floors)
    edit(path, "result.undefined", scores.undefined)
    edit(path, "result.left", {"top1": None, "f1": None, "cmap": None})
    edit(path, "result.provenance.videos_sha256", predictions.videos_digest)
    edit(path, "result.provenance.predictions_sha256", predictions.digest)
    from stp_leaderboard.records import record_from

    named = path.with_name(record_from(json.loads(path.read_text()), "it").file_name)
    path.rename(named)
    edit(named, "tables", tables.name)
    ((field, message),) = problems(run, named)[named.name]
    assert field == "video_id"
    assert "lacks" in message


def flipped(table: pa.Table) -> pa.Table:
    return replaced(table, "label_gender", [1 - value for value in table["label_gender"].to_pylist()])


def test_other_labels_and_other_training_counts_are_found_by_the_index(run: Run, records: Path) -> None:
    rewrite(one(records), flipped)
    found = problems(run, one(records))[one(records).name]
    assert any(field == "label_gender" and "by the index" in message for field, message in found)
    counts = one(records, seed=1)
    rewrite(counts, lambda t: replaced(t, "n", [value + 1 for value in t["n"].to_pylist()]), "reference")
    assert "n" in dict(problems(run, counts)[counts.name])


TABLES: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "rows in another order": ("video_id", lambda t: t.take(list(range(t.num_rows))[::-1])),
    "a video twice": ("attacker", lambda t: pa.concat_tables([t, t.slice(0, 2)])),
    "a score above 1": ("score_face", lambda t: replaced(t, "score_face", [2.0] * t.num_rows)),
    "a score that is no number": ("score_face", lambda t: replaced(t, "score_face", [float("nan")] * t.num_rows)),
    "other videos": ("video_id", lambda t: replaced(t, "video_id", [f"x{i}" for i in t["video_id"].to_pylist()])),
    "a column less": ("score_face", lambda t: t.drop_columns(["score_face"])),
}


def copies(packed: Path, folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """As many copies of all records, each in a folder of its own; the path of the one to be tampered with, by name."""
    return {
        name: one(
            Path(shutil.copytree(packed, folder / str(number), ignore=shutil.ignore_patterns("*scenes*", "*frame*")))
        )
        for number, name in enumerate(names)
    }


def test_a_table_that_is_not_in_order_is_refused_by_field(run: Run, packed: Path, tmp_path: Path) -> None:
    paths = copies(packed, tmp_path, TABLES)
    for name, path in paths.items():
        rewrite(path, TABLES[name][1])
    done = run("leaderboard", "check", *paths.values(), "--json")
    assert done.code == 1
    found = {s["source"]: [p["field"] for p in s["problems"]] for s in json.loads(done.out)["submissions"]}
    assert {name: TABLES[name][0] in found[str(path)] for name, path in paths.items()} == dict.fromkeys(TABLES, True)


FIELDS = [
    ("result.metrics.cmap", float("nan")),
    ("result.schema", 99),
    ("result.method", "<script>alert(1)</script>"),
    ("result.variant", "<b>"),
    ("submitter", "a\u202eb"),
    ("tables", "../../etc"),
    ("tables", "http://example.org/x"),
    ("result.data", {"preset": "../..", "seed": 0}),
    ("result.seed", -1),
    ("result.provenance.label_release", "another"),
    ("card.identity", True),
    ("card.title", "<i>"),
    ("date", "tomorrow"),
]


def test_a_record_with_a_bad_field_is_refused_by_its_name(run: Run, packed: Path, tmp_path: Path) -> None:
    paths = copies(packed, tmp_path, map(str, range(len(FIELDS))))
    for (field, value), path in zip(FIELDS, paths.values(), strict=True):
        edit(path, field, value)
    done = run("leaderboard", "check", *paths.values(), "--json")
    assert done.code == 1
    assert "Traceback" not in done.err
    found = {s["source"]: s["problems"] for s in json.loads(done.out)["submissions"]}
    for (field, _), path in zip(FIELDS, paths.values(), strict=True):
        assert any(field.removeprefix("result.") in p["field"] + p["message"] for p in found[str(path)]), found[
            str(path)
        ]


def test_a_share_of_raw_that_raw_does_not_give_is_refused_beside_it(run: Run, records: Path) -> None:
    edit(one(records), "result.left.cmap", 0.001)
    found = problems(run, records)
    assert dict(found.pop(one(records).name)).keys() == {"left.cmap"}
    assert not any(found.values())


def test_one_result_cannot_stand_for_two_seeds(run: Run, records: Path) -> None:
    first = one(records)
    document = json.loads(first.read_text())
    document["result"]["seed"] = 7
    copy_ = first.with_name(first.name.replace("seed-0", "seed-7"))
    copy_.write_text(json.dumps(document))
    found = problems(run, records)
    assert "provenance.predictions_sha256" in dict(found[copy_.name])


def test_what_is_no_record_at_all_is_refused(run: Run, tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"[" * 100_000, b'{"result": NaN}', b"\xff\xfe", b" " * 3_000_000]):
        (tmp_path / f"{number}.json").write_bytes(content)
    assert all(problems(run, tmp_path).values())


def test_a_table_that_asks_for_endless_memory_is_refused_and_the_next_is_still_read(run: Run, records: Path) -> None:
    """A dictionary of one long text, named by every row: some kilobytes that would unpack to terabytes."""
    for other in [*records.glob("*scenes*.json"), *records.glob("*frame*.json"), *records.glob("*seed-1*.json")]:
        other.unlink()
    path = one(records)
    rows = 3_000_000
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 2_000_000]))
    table = path.with_suffix("") / "predictions.parquet"
    pq.write_table(pa.table({"video_id": bomb}), table, compression="zstd", store_schema=False)
    assert table.stat().st_size < 1_000_000
    found = problems(run, records)
    ((_, message),) = found.pop(path.name)
    assert "cannot" in message
    assert "dictionary" not in message  # it was asked for as what it unpacks to
    assert found
    assert not any(found.values())


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/../../evil.json", "x/evil.py", "a\\b.json"])
def test_an_archive_cannot_write_outside_or_bring_other_files(run: Run, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(name, "{}")
    done = run("leaderboard", "check", archive)
    assert done.code == 2
    assert "which no submission has" in done.error
    assert not list(tmp_path.parent.rglob("evil.json"))


def test_an_archive_that_unpacks_to_endless_bytes_or_is_damaged_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stp_leaderboard import submission

    monkeypatch.setattr(submission, "MOST_UNPACKED", 1_000_000)
    archive = tmp_path / "large.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.json", b" " * 2_000_000)
    assert "unpacks to more than" in run("leaderboard", "check", archive).error
    archive.write_bytes(archive.read_bytes()[:-30])
    assert "damaged" in run("leaderboard", "check", archive).error


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_whose_compression_has_no_bound_is_refused(run: Run, tmp_path: Path, method: int) -> None:
    archive = tmp_path / "other.zip"
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("a.json", "{}")
    assert "another method than deflate" in run("leaderboard", "check", archive).error


def test_an_archive_of_names_that_are_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    archive = tmp_path / "names.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("\u00e4.json", "{}")  # marked as UTF-8
    archive.write_bytes(archive.read_bytes().replace("\u00e4".encode(), b"\xff\xff"))
    assert "damaged" in run("leaderboard", "check", archive).error


def test_nothing_beside_a_submission_is_executed(start: Run, records: Path) -> None:
    path = one(records)
    for name in ("filelock", "numpy", "pyarrow"):
        (records / f"{name}.py").write_text("open('executed', 'w').close()\n")
    found = start("leaderboard", "check", path.name, "--json", cwd=records).json()["submissions"]
    assert found[0]["holds"], found
    assert not (records / "executed").exists()


@pytest.mark.parametrize("what", ["record", "run"])
def test_no_code_that_a_submission_names_is_imported(
    run: Run, made: Path, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from stp_leaderboard.records import record_from

    (tmp_path / f"named_by_a_{what}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    if what == "record":
        document = json.loads(one(records).read_text())
        document["result"]["method"] = f"named_by_a_{what}:METHOD"
        document["card"]["identity"] = True
        path = one(records).with_name(record_from(document, "it").file_name)
        path.write_text(json.dumps(document))
        assert "card.identity" in dict(problems(run, path)[path.name])
    else:
        path = Path(shutil.copytree(made / "scenes", tmp_path / "run"))
        edit(path / "result.json", "method", f"named_by_a_{what}:METHOD")
        run("leaderboard", "check", path)
    assert not (tmp_path / "executed").exists()


def test_the_tables_of_a_run_are_read_in_the_limited_process_only(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stp_bench import predictions
    from stp_leaderboard import submission

    def read_here(*_: object) -> None:
        raise AssertionError("read in this process")

    monkeypatch.setattr(predictions.Predictions, "read", read_here)
    monkeypatch.setattr(predictions.Reference, "read", read_here)
    assert run("leaderboard", "check", made / "scenes", "--json").json()["submissions"][0]["holds"]
    damaged = Path(shutil.copytree(made / "scenes", tmp_path / "run"))
    (damaged / "predictions.parquet").write_bytes(b"no table")
    assert any("not a parquet file" in text for found in problems(run, damaged).values() for _, text in found)
    monkeypatch.setattr(submission, "MOST_TABLE", 100)
    assert "larger than" in run("leaderboard", "check", made / "scenes").error


def test_records_that_break_their_reader_are_refused_and_the_others_shown(
    run: Run, packed: Path, tmp_path: Path
) -> None:
    odd: dict[str, Any] = {
        "result.undefined": [[]], "result.metrics.ci95.zz": 5, "result.metrics.attackers.zz": 5,
        "result.floors.zz": "x", "result.provenance.config.zz": "\udc80", "result.provenance.seconds.zz": 10**400,
        "result.left.top1": 10**400, "tables": "\U0001f600" * 200,
    }  # fmt: skip
    folder = Path(shutil.copytree(packed, tmp_path / "odd"))
    for number, (field, value) in enumerate(odd.items()):
        date = f"2026-04-{number + 1:02d}"
        path = folder / one(packed).name.replace("2026-03-01", date)
        shutil.copy(one(packed), path)
        edit(path, "date", date)
        edit(path, field, value)
    (folder / "folder.json").mkdir()
    done = run("leaderboard", "build", "--records", folder, "--out", tmp_path / "page", "--json")
    assert done.code == 1
    assert "Traceback" not in done.err
    found = {Path(s["source"]).name: s["holds"] for s in json.loads(done.out)["records"]}
    assert {name for name, holds in found.items() if holds} == {path.name for path in packed.glob("*.json")}
    assert len(found) == 6 + len(odd) + 1


def test_a_page_is_not_built_into_a_folder_of_something_else(run: Run, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("another site")
    assert "left alone" in run("leaderboard", "build", "--records", packed, "--out", tmp_path).error
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_build_shows_what_holds_lists_what_does_not_and_ends_with_one(run: Run, records: Path, tmp_path: Path) -> None:
    edit(one(records), "result.metrics.top1", 99.0)
    done = run("leaderboard", "build", "--records", records, "--out", tmp_path / "page", "--json")
    assert done.code == 1
    assert json.loads(done.out)["page"] == str(tmp_path / "page" / "index.html")
    text = (tmp_path / "page" / "index.html").read_text()
    refused = text.partition('id="refused"')[2]
    assert one(records).name in refused
    assert "99.0" not in text.partition('id="refused"')[0]


def test_without_records_the_page_has_the_published_figures_only(run: Run, tmp_path: Path) -> None:
    done = run("leaderboard", "build", "--data-home", tmp_path)
    assert done.code == 0
    assert "published figures only" in done.err
    assert (tmp_path / "leaderboard" / "page" / "index.html").exists()


def test_a_missing_path_and_a_taken_port_are_told_in_one_line(run: Run, tmp_path: Path) -> None:
    assert "no such file" in run("leaderboard", "check", tmp_path / "none").error
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("leaderboard", "serve", "--port", str(port), "--data-home", tmp_path)
        assert f"cannot use port {port}" in done.error


@pytest.fixture(scope="module")
def shown(start: Run, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all records."""
    folder = tmp_path_factory.mktemp("page")
    start("leaderboard", "build", "--records", packed, "--out", folder, "--json").json()
    return folder


@pytest.fixture
def address(shown: Path) -> Iterator[str]:
    """The page, served."""
    server = open_server(shown, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_server_shows_the_page_and_nothing_else(address: str, shown: Path) -> None:
    secret = shown.parent / "secret.txt"
    secret.write_text("secret")
    (shown / "link.txt").symlink_to(secret)

    def status(path: str, host: str = address, method: str = "GET") -> int:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        connection.close()
        return answer.status

    assert status("/") == 200
    assert status("/methods/raw.html") == 200
    assert status("/methods/") == 404
    assert status("/link.txt") == 404
    assert status("/../secret.txt") == 404
    assert status("/%2e%2e/secret.txt") == 404
    assert status("/", host="evil.example:80") == 403
    assert status("/", method="POST") == 501
    (shown / "link.txt").unlink()


def test_serve_answers_on_loopback_and_ends_with_ctrl_c(program: Path, packed: Path, tmp_path: Path) -> None:
    import signal

    words = ["leaderboard", "serve", "--records", packed, "--out", tmp_path, "--port", "0", "--json"]
    with subprocess.Popen([program, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        document = "".join(iter(process.stdout.readline, "}\n")) + "}"
        found = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/", json.loads(document)["url"])
        assert found, document
        connection = http.client.HTTPConnection(found[1], timeout=30)
        connection.request("GET", "/")
        assert b"Standings" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.fixture
def browser() -> Iterator[Any]:
    """A real Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end nothing may have complained or asked for anything elsewhere."""
    complaints: list[str] = []
    asked: list[str] = []

    def go(url: str, **options: Any) -> Any:
        tab = browser.new_context(**options).new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(url)
        return tab

    yield go
    assert complaints == []
    assert asked
    elsewhere = [u for u in asked if not u.startswith(("http://127.0.0.1:", "file:///", "data:", "blob:"))]
    assert elsewhere == []


def column(tab: Any, section: str, number: int) -> list[str]:
    return list(tab.locator(f"{section} tbody tr:visible > :nth-child({number})").all_inner_texts())


def contest(tab: Any, title: str) -> str:
    sections = tab.locator(".contest")
    for i in range(sections.count()):
        if title in sections.nth(i).locator("h3").inner_text():
            return f"#{sections.nth(i).get_attribute('id')}"
    raise AssertionError(title)


def test_the_page_sorts_filters_and_draws_what_the_records_say(
    visit: Callable[..., Any], address: str, packed: Path
) -> None:
    tab = visit(f"http://{address}/")
    known = contest(tab, "Known actions of synth-hmdb")
    tab.wait_for_selector(f"{known} .scatterlayer .point")
    means: dict[str, list[float]] = {}
    for path in packed.glob("*_known_synth-hmdb_*.json"):
        result = json.loads(path.read_text())["result"]
        pair = (result["metrics"]["worst"]["excess"], result["metrics"]["top1"])
        means.setdefault(result["method"], []).extend(pair)
    wanted = sorted((sum(v[::2]) / 2, sum(v[1::2]) / 2) for v in means.values())
    drawn = tab.evaluate(
        f"document.querySelector('{known} .canvas').data.filter(t => t.name === 'methods')"
        ".flatMap(t => t.x.map((x, i) => [x, t.y[i]]))"
    )
    assert sorted(map(tuple, drawn)) == [pytest.approx(pair) for pair in wanted]

    head = tab.locator(f"{known} thead th").nth(2)
    for direction, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == direction
        figures = [float(text.split(" ")[0]) for text in column(tab, known, 3)]
        assert figures == sorted(figures, reverse=reverse)
    assert tab.locator(f"{known} [aria-sort]").count() == 1

    tab.get_by_label("Method", exact=True).fill("BLUR")
    assert [name.split(" ")[0] for name in column(tab, known, 2)] == ["blur-strong"]
    assert tab.locator(".contest:visible").count() == 1
    assert tab.evaluate(f"document.querySelector('{known} .canvas').data.at(-1).x.length") == 1
    assert tab.locator("#filters output").inner_text() == "1 of 4 rows"
    tab.get_by_label("Method", exact=True).fill("")
    tab.locator("#filters select[name=protocol]").select_option("frame")
    assert tab.locator(".contest:visible h3").all_inner_texts() == [
        "Frames of synth-pa, fitted on synth-hmdb, tiny, split 1"
    ]


def test_a_page_opened_as_a_file_and_in_the_dark_works_alike(visit: Callable[..., Any], shown: Path) -> None:
    tab = visit((shown / "index.html").as_uri(), color_scheme="dark")
    tab.wait_for_selector(".scatterlayer .point")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.get_by_role("button", name="Light mode").click()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    tab.get_by_role("link", name="blur-strong").first.click()
    tab.wait_for_selector(".barlayer .point")
    assert tab.locator("h1").inner_text() == "blur-strong"
    assert tab.locator("section").first.locator("tbody tr").count() >= 2


def test_a_phone_scrolls_tables_and_not_the_page(visit: Callable[..., Any], address: str) -> None:
    tab = visit(f"http://{address}/", viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    tab.wait_for_selector(".scatterlayer .point")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.goto(f"http://{address}/methods/raw.html")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_tables_need_no_script_and_everything_is_named(visit: Callable[..., Any], address: str) -> None:
    tab = visit(f"http://{address}/", java_script_enabled=False)
    assert tab.locator(".contest tbody tr:visible").count() == 4
    assert tab.locator("#filters:visible, .plot:visible, #theme:visible").count() == 0
    assert tab.locator("h1").count() == 1
    tables = tab.locator("table")
    for i in range(tables.count()):
        assert tables.nth(i).locator("caption").count() == 1
        assert tables.nth(i).locator("tbody th[scope=row]").count() == tables.nth(i).locator("tbody tr").count()


def test_a_missing_library_is_told_with_the_extra_that_brings_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "plotly", None)
    done = run("leaderboard", "build", "--data-home", tmp_path)
    assert done.code == 2
    assert "stp-bench[report]" in done.error
