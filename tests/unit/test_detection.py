"""Finding people: real videos, real networks with weights of chance, and a detector that sees one color."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from stp_bench.boxes import BoxTable
from stp_bench.detection import DetectorError, Options, detect, import_boxes
from stp_bench.detectors import Origin, fetch_weights, find_detector
from stp_bench.errors import UserError, WorkError
from stp_bench.files import sha256_file
from stp_bench.index import Dataset, read_index, write_index
from stp_bench.progress import Silent
from stp_bench.schema import Benchmark, Target, Video
from stp_bench.video_io import write_video

LENGTHS, WIDTH, HEIGHT = (7, 10, 3), 64, 48
PEOPLE = 3
"""Of the first video: frames on which its rectangle is there."""
ORIGIN = Origin(detector="colors:red", version="colors 1")


def corners(number: int, frame: int) -> tuple[int, int, int, int] | None:
    """Where the red rectangle of a video is; the first video's goes away."""
    if number == 0 and frame >= PEOPLE:
        return None
    x, y = 4 + 4 * frame, 6 + 2 * number
    return x, y, x + 16, y + 24


def drawn(number: int, frame: int) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    if (box := corners(number, frame)) is not None:
        picture[box[1] : box[3], box[0] : box[2]] = (230, 20, 20)
    return picture


def red(frames_BHWC: NDArray[np.uint8]) -> list[list[tuple[float, ...]]]:
    """The bounding boxes of what is red."""
    found = []
    for frame in frames_BHWC:
        mask = (frame[:, :, 0].astype(int) - frame[:, :, 1] > 100).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found.append([(x, y, x + w, y + h, 1.0) for x, y, w, h, area in stats[1:] if area > 8])
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "toy"
    targets = (
        Target(name="action", kind="multiclass", classes=("run",)),
        Target(name="privacy", kind="multilabel", classes=("face",), private=True),
    )
    videos, facts = [], {}
    for number, length in enumerate(LENGTHS):
        path = root / "videos" / f"v{number}.mp4"
        write_video(path, (drawn(number, t) for t in range(length)), 25)
        videos.append(
            Video(
                video_id=path.stem, relpath=f"videos/{path.name}", group=None, frames=length, height=HEIGHT,
                width=WIDTH, fps=25.0, labels={"action": (0,), "privacy": (0,)},
            )
        )  # fmt: skip
        facts[path.stem] = (path.stat().st_size, sha256_file(path))
    benchmark = Benchmark(name="toy", title="Toy", version=1, targets=targets, stride=1, splits=1)
    write_index(root, benchmark, videos, {1: {"v0": "test", "v1": "train", "v2": "train"}}, facts)
    return read_index(root)


def look(dataset: Dataset, find: Any = red, origin: Origin = ORIGIN, **options: Any) -> dict[str, Any]:
    return detect(dataset, find, origin, Options(**options), dataset.root, Silent())


def table_of(dataset: Dataset) -> pd.DataFrame:
    return pd.read_parquet(dataset.root / "boxes.parquet")


def hidden(dataset: Dataset) -> list[str]:
    return sorted(p.name for p in dataset.root.glob(".*") if not p.name.endswith(".lock"))


# --- what is found ---


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_every_frame_is_looked_at_once_in_order_whatever_the_batch(dataset: Dataset, batch: int) -> None:
    seen: list[int] = []

    def watched(frames: NDArray[np.uint8]) -> Any:
        assert frames.dtype == np.uint8 and frames.shape[1:] == (HEIGHT, WIDTH, 3) and len(frames) <= batch
        seen.append(len(frames))
        return red(frames)

    card = look(dataset, watched, batch=batch)
    assert sum(seen) == sum(LENGTHS)
    found = {(row.video_id, row.frame): (row.x1, row.y1, row.x2, row.y2) for row in table_of(dataset).itertuples()}
    true = {(f"v{n}", t): corners(n, t) for n, length in enumerate(LENGTHS) for t in range(length)}
    assert found.keys() == {key for key, box in true.items() if box}
    assert all(np.abs(np.subtract(found[key], true[key])).max() <= 2 for key in found)  # the codec blurs an edge
    assert card["boxes"] == len(found) and card["videos"] == 3
    assert hidden(dataset) == []


def test_the_card_says_what_made_the_boxes_and_what_is_left_without(dataset: Dataset) -> None:
    card = look(dataset, min_score=0.6)
    assert json.loads((dataset.root / "boxes.json").read_text()) == card
    assert card["detector"] == "colors:red" and card["version"] == "colors 1" and card["min_score"] == 0.6
    assert card["boxes_sha256"] == sha256_file(dataset.root / "boxes.parquet") == dataset.boxes_digest
    assert card["frames_without"] == {"1": {"train": 0.0, "test": 0.0}}  # held for eight frames


def test_frames_between_those_that_are_looked_at_keep_their_boxes(dataset: Dataset) -> None:
    look(dataset, every=4)
    assert sorted(set(table_of(dataset)["frame"])) == [0, 4, 8]
    table = dataset.boxes
    assert table is not None
    lefts = table.at("v1", np.arange(10))[:, 0, 0]
    assert np.abs(lefts - ([4] * 4 + [20] * 4 + [36] * 2)).max() <= 2


def test_boxes_of_a_lower_score_are_left_out(dataset: Dataset) -> None:
    def unsure(frames: NDArray[np.uint8]) -> list[list[tuple[float, ...]]]:
        return [[(0, 0, 9, 9, 0.4), (1, 1, 8, 8, 0.7)] for _ in frames]

    look(dataset, unsure, min_score=0.5)
    assert set(table_of(dataset)["x1"]) == {1}


def test_boxes_are_clipped_and_those_that_vanish_left_out(dataset: Dataset) -> None:
    look(dataset, lambda frames: [[(-0.5, -1, 64.9, 48.5, 1), (-0.9, 0, -0.1, 9, 1)] for _ in frames])
    assert table_of(dataset)[["x1", "y1", "x2", "y2"]].drop_duplicates().to_numpy().tolist() == [[0, 0, WIDTH, HEIGHT]]


# --- what goes wrong ---


def failing_on(video: int, frame: int, how: Any) -> Any:
    """A detector of red that does ``how`` when it sees a frame, which it knows by its rectangle."""
    box = corners(video, frame)
    assert box is not None

    def find(frames: NDArray[np.uint8]) -> Any:
        tables = red(frames)
        for i, table in enumerate(tables):
            if table and np.abs(np.subtract(table[0][:4], box)).max() <= 1:
                tables[i] = how()
        return tables

    return find


def raising() -> Any:
    raise ZeroDivisionError("no light")


BROKEN: list[tuple[Any, str]] = [
    (raising, "ZeroDivisionError: no light"),
    (lambda: [(1, 2, 3)], "shape (1, 3)"),
    (lambda: [(0, 0, float("nan"), 5, 1)], "no finite number"),
    (lambda: [(0, 0, 70, 5, 1)], "leaves its frame"),
    (lambda: [(9, 0, 3, 5, 1)], "inverted or empty"),
    (lambda: [(0, 0, 3, 5, 7)], "score outside 0 to 1"),
    (lambda: [("a", 0, 3, 5, 7)], "could not convert"),
]


@pytest.mark.parametrize(("how", "why"), BROKEN)
@pytest.mark.parametrize("batch", [1, 8])
def test_a_detector_that_fails_on_a_frame_is_named_with_it(dataset: Dataset, how: Any, why: str, batch: int) -> None:
    find = failing_on(1, 5, how)
    with pytest.raises(DetectorError) as error:
        look(dataset, find, batch=batch)
    assert error.value.what == "detector colors:red failed on frame 5 of video v1" and why in error.value.why
    assert not (dataset.root / "boxes.parquet").exists()
    card = look(dataset, find, batch=batch, skip_failed=True)
    assert card["failed"] == {"v1": [5]} and 5 not in set(table_of(dataset).query("video_id == 'v1'")["frame"])
    with pytest.raises(DetectorError):  # what was skipped does not count as done for who does not skip
        look(dataset, find, batch=batch)
    assert look(dataset, red)["failed"] == {} and len(table_of(dataset)) == PEOPLE + 10 + 3


def test_a_detector_that_returns_another_number_of_tables_is_named(dataset: Dataset) -> None:
    with pytest.raises(DetectorError, match="frames 0 to 3 of video v0 at once, it returned 1 tables for 4 frames"):
        look(dataset, lambda frames: red(frames)[:1], batch=4)


def test_exhausted_memory_is_no_failure_of_a_frame(dataset: Dataset) -> None:
    def large(frames: NDArray[np.uint8]) -> Any:
        raise MemoryError

    with pytest.raises(WorkError, match=r"out of memory.*--batch"):
        look(dataset, large, skip_failed=True)


def test_an_unreadable_video_stops_the_work_or_is_left_out_and_named(dataset: Dataset) -> None:
    path = dataset.path(dataset.videos[1])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WorkError, match=r"v1\.mp4"):
        look(dataset)
    card = look(dataset, skip_unreadable=True)
    assert list(card["unreadable"]) == ["v1"] and set(table_of(dataset)["video_id"]) == {"v0", "v2"}


def test_a_video_that_is_not_the_indexed_one_is_named(dataset: Dataset) -> None:
    write_video(dataset.path(dataset.videos[1]), (drawn(1, t) for t in range(4)), 25)
    with pytest.raises(WorkError, match="not the 10 frames of 64 x 48 pixels"):
        look(dataset)


# --- taken up again ---


def test_what_was_found_is_not_found_again(dataset: Dataset) -> None:
    asked = 0

    def counting(frames: NDArray[np.uint8]) -> Any:
        nonlocal asked
        asked += len(frames)
        if asked > 12:
            raise KeyboardInterrupt
        return red(frames)

    with pytest.raises(KeyboardInterrupt):
        look(dataset, counting, batch=2)
    assert len(hidden(dataset)) == 1 and not (dataset.root / "boxes.parquet").exists()
    journal = dataset.root / hidden(dataset)[0]
    journal.write_bytes(journal.read_bytes() + b'{"video_id": "v1", "sha')  # a line cut short by a kill
    asked = -100
    whole = look(dataset, counting)
    assert asked == -100 + sum(LENGTHS[1:])
    assert look(dataset, raising) == whole  # it is there already
    for other in ({"every": 2}, {"min_score": 0.7}, {"origin": Origin(detector="colors:red", version="colors 2")}):
        with pytest.raises(DetectorError):
            look(dataset, lambda frames: 1 / 0, **other)


def test_a_video_that_changed_is_looked_at_again(dataset: Dataset) -> None:
    with pytest.raises(DetectorError):
        look(dataset, failing_on(2, 0, raising))
    entry = json.loads((dataset.root / hidden(dataset)[0]).read_text().splitlines()[0])
    assert entry["video_id"] == "v0"
    write_video(dataset.path(dataset.videos[0]), (drawn(2, t) for t in range(LENGTHS[0])), 25)
    changed = sha256_file(dataset.path(dataset.videos[0]))
    facts = {**dataset.facts, "v0": (1, changed)}
    write_index(dataset.root, dataset.benchmark, dataset.videos, dataset.parts, facts)
    look(read_index(dataset.root))
    assert len(table_of(dataset).query("video_id == 'v0'")) == LENGTHS[0]


CHILD = """
import sys, time
from pathlib import Path
from stp_bench.detection import Options, detect
from stp_bench.detectors import find_detector
from stp_bench.index import read_index
from stp_bench.progress import Silent
root = Path(sys.argv[1])
find, origin = find_detector("slowly:find", None, device="auto", min_score=0.5, folder=root, reporter=Silent())
detect(read_index(root), find, origin, Options(batch=1), root, Silent())
"""
SLOWLY = """
import time
from pathlib import Path
def find(frames):
    with Path({log!r}).open("a") as log:
        log.write("x" * len(frames))
    time.sleep({seconds})
    return [[(1, 2, 3, 4, 1)] for _ in frames]
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_with_the_next_video(dataset: Dataset, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def start(seconds: float) -> subprocess.Popen[bytes]:
        # A package, whose own file stays as it is: else it would be another detector, which starts from nothing.
        (tmp_path / "slowly").mkdir(exist_ok=True)
        (tmp_path / "slowly" / "_find.py").write_text(SLOWLY.format(log=str(log), seconds=seconds))
        (tmp_path / "slowly" / "__init__.py").write_text("from slowly._find import find\n")
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.Popen([sys.executable, "-c", CHILD, str(dataset.root)], env=environment)

    process = start(0.2)
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text()) < LENGTHS[0] + 2:  # the first video is done, the second is not
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (dataset.root / "boxes.parquet").exists()
    log.write_text("")
    assert start(0).wait(60) == 0
    assert len(log.read_text()) == LENGTHS[1] + LENGTHS[2]
    assert len(table_of(dataset)) == sum(LENGTHS) and hidden(dataset) == []


# --- boxes from elsewhere ---


def test_imported_boxes_are_those_of_the_file(dataset: Dataset, tmp_path: Path) -> None:
    look(dataset)
    before = table_of(dataset)
    (dataset.root / "boxes.parquet").rename(tmp_path / "boxes.parquet")
    for source in (tmp_path / "boxes.parquet", tmp_path):
        card = import_boxes(dataset, source, dataset.root, Silent())
        pd.testing.assert_frame_equal(table_of(dataset), before)
        assert card["imported"] == "boxes.parquet" and card["imported_sha256"] == sha256_file(
            tmp_path / "boxes.parquet"
        )


def test_an_import_that_is_refused_leaves_the_boxes_before_it(dataset: Dataset, tmp_path: Path) -> None:
    look(dataset)
    before = sha256_file(dataset.root / "boxes.parquet")
    table_of(dataset).assign(width=320, height=240).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="another frame size"):
        import_boxes(dataset, tmp_path / "other.parquet", dataset.root, Silent())
    assert sha256_file(dataset.root / "boxes.parquet") == before


def test_a_bad_table_is_refused_by_whoever_opens_the_boxes(dataset: Dataset) -> None:
    assert dataset.boxes is None
    look(dataset)
    table_of(dataset).assign(video_id="v9").to_parquet(dataset.root / "boxes.parquet")
    with pytest.raises(UserError, match=r"row 0 \(video v9"):
        read_index(dataset.root).boxes  # noqa: B018


# --- detectors ---


def find(name: str, weights: Path | str | None = None, min_score: float = 0.5, device: str = "cpu") -> Any:
    chosen = str(weights) if weights else None
    return find_detector(
        name, chosen, device=device, min_score=min_score, folder=Path("nowhere"), reporter=Silent()
    )  # fmt: skip


def biases(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Of SSDlite's last layers, (anchors, classes)."""
    names = [f"head.classification_head.module_list.{i}.1.bias" for i in range(6)]
    return [state[name].view(-1, 91) for name in names]


@pytest.fixture(scope="module")
def ssdlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of chance, but for a bias that makes every anchor a person."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.manual_seed(0)
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=91)
    state = network.state_dict()
    for bias in biases(state):
        bias[:, 1] += 12
    path = tmp_path_factory.mktemp("weights") / "ssdlite.pth"
    torch.save(state, path)
    return path


def test_ssdlite_runs_with_the_weights_of_a_file(dataset: Dataset, ssdlite: Path, tmp_path: Path) -> None:
    save_file(torch.load(ssdlite, weights_only=True), tmp_path / "same.safetensors")
    people, origin = find("ssdlite", ssdlite)
    assert origin.version.startswith("torchvision ") and origin.weights_sha256 == sha256_file(ssdlite)
    frames = np.stack([drawn(0, t) for t in range(2)])
    found = people(frames)
    assert len(found) == 2 and all(table.shape[1] == 5 and len(table) for table in found)
    assert (found[0][:, 4] >= 0.5).all()
    again = find("ssdlite", tmp_path / "same.safetensors")[0](frames)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    card = look(dataset, people, origin, every=5)
    assert card["boxes"] > 0 and card["frames_without"] == {"1": {"train": 0.0, "test": 0.0}}
    assert len(BoxTable.read(dataset.root / "boxes.parquet", dataset.videos)) == card["boxes"]


def test_another_class_than_person_is_no_box(ssdlite: Path, tmp_path: Path) -> None:
    state = torch.load(ssdlite, weights_only=True)
    for bias in biases(state):
        bias[:, 1:3] = bias[:, [2, 1]].clone()
    torch.save(state, tmp_path / "bicycles.pth")
    assert len(find("ssdlite", tmp_path / "bicycles.pth")[0](drawn(0, 0)[None])[0]) == 0


@pytest.mark.slow
def test_faster_rcnn_runs_with_the_weights_of_a_file(tmp_path: Path) -> None:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(0)
    state = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][1] += 12
    torch.save(state, tmp_path / "w.pth")
    (found,) = find("fasterrcnn", tmp_path / "w.pth")[0](drawn(0, 0)[None])
    assert len(found) and found.shape[1] == 5 and (found[:, 2:4] <= [WIDTH, HEIGHT]).all()


class _Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


def test_weights_that_hold_code_are_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _Evil()}, "w.pth")
    with pytest.raises(WorkError, match="cannot read the weights"):
        find("ssdlite", "w.pth")
    assert not Path("executed").exists()


def test_unsuitable_weights_are_named(ssdlite: Path, tmp_path: Path) -> None:
    state = torch.load(ssdlite, weights_only=True)
    other = dict(list(state.items())[:-1])
    spoiled = {name: value.clone() for name, value in state.items()}
    next(v for v in spoiled.values() if v.is_floating_point()).view(-1)[0] = float("nan")
    for content, why in (
        (other, "names or shapes differ"),
        (spoiled, "not finite"),
        ([1], "not a table of named tensors"),
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError) as error:
            find("ssdlite", tmp_path / "w.pth")
        assert why in error.value.why
    (tmp_path / "w.pth").write_bytes(ssdlite.read_bytes()[:1000])
    with pytest.raises(WorkError, match="cannot read the weights"):
        find("ssdlite", tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "weights", "device", "why"),
    [
        ("fasterrcn", None, "auto", "did you mean fasterrcnn"),
        ("ssdlite", None, "auto", "none are shipped"),
        ("ssdlite", "nowhere.pth", "auto", "no such file"),
        ("no_such_package:find", None, "auto", "ModuleNotFoundError"),
        ("json:no_such_name", None, "auto", "AttributeError"),
        ("json:__doc__", None, "auto", "not callable"),
        ("json:loads", "pretrained", "auto", "--weights does not fit"),
        ("json:loads", None, "cpu", "--device does not fit"),
    ],
)
def test_a_detector_that_cannot_be_used_is_refused(name: str, weights: str | None, device: str, why: str) -> None:
    with pytest.raises(UserError) as error:
        find(name, weights, device=device)
    assert why in str(error.value)


# --- downloads ---

CONTENT = b"weights" * 30_000


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "missing" in self.path else 200)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_weights_are_downloaded_once_and_announced(server: str, tmp_path: Path) -> None:
    told = Told()
    url = f"{server}/net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    for _ in range(2):
        assert fetch_weights(url, tmp_path / "weights", len(CONTENT), told).read_bytes() == CONTENT
    assert len(told.lines) == 1 and url in told.lines[0] and str(tmp_path / "weights") in told.lines[0]


@pytest.mark.parametrize("name", ["net-01234567.pth", "missing-01234567.pth"])
def test_what_is_not_the_published_file_is_not_kept(server: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkError, match=r"cannot fetch .*--weights FILE"):
        fetch_weights(f"{server}/{name}", tmp_path, len(CONTENT), Silent())
    with pytest.raises(WorkError, match="not the published file"):
        fetch_weights(f"{server}/net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth", tmp_path, 1000, Silent())
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_a_download_fails_with_the_way_round(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"no answer .*; get .* --weights FILE"):
        fetch_weights("http://127.0.0.1:9/net-01234567.pth", tmp_path, 1000, Silent())
