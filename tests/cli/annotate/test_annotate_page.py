"""The labelling page in a real browser: a person can play the clip and answer everything by keyboard.

``STP_BENCH_PICTURES=docs/images`` also keeps the picture of the page that the documentation shows, as ``annotate.png``.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stp_annotations import attributes
from stp_bench.video_io import read_frames, write_video

pytestmark = pytest.mark.slow
ANSWERS = {"face": 0, "skin_color": 1, "gender": 2, "nudity": 1, "relationship": 0}
"""Attribute to the number of the key: yes, no, not sure."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        try:
            made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield made
        made.close()


def test_a_person_plays_the_clip_and_answers_all_by_keyboard(
    studio: Any, browser: Any, run: Any, tiny: Path, client: Any, tmp_path: Path
) -> None:
    at = ["--data-home", studio.home, "--url", studio.url, "--json"]
    enlarged(tiny / "videos", tmp_path / "clips")
    made = run(
        "annotate", "init", tmp_path / "clips", "--name", "page", "--title", "Privacy of short clips", *at
    ).json()
    run("annotate", "people", "page", "--create-count", "1", "--out", tmp_path / "accounts.csv", *at).json()
    with (tmp_path / "accounts.csv").open(newline="") as lines:
        person = next(csv.DictReader(lines))
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    outside: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((studio.url, "data:", "blob:")) else outside.append(r.url))
    page.goto(f"{studio.url}/user/login/")
    page.fill("input[name=email]", person["email"])
    page.fill("input[name=password]", person["password"])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/user/login" not in url, timeout=60_000)
    page.goto(made["label_at"])
    _close_instructions(page)
    page.wait_for_selector("text=Face", timeout=60_000)
    video = "document.querySelector('video')"
    page.wait_for_function(f"{video} && {video}.readyState >= 2", timeout=60_000)
    assert page.evaluate(f"{video}.videoWidth") > 0
    for _ in range(40):  # a key that comes before the page listens is lost, as it is for a person
        page.keyboard.press("Space")
        page.wait_for_timeout(250)
        if page.evaluate(f"{video}.currentTime") > 0.1:
            break
    assert page.evaluate(f"{video}.currentTime") > 0.1

    for attribute in attributes():
        page.keyboard.press(attribute.keys[ANSWERS[attribute.name]])
    if folder := os.environ.get("STP_BENCH_PICTURES"):
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(folder) / "annotate.png")
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST", timeout=60_000) as sent:
        page.keyboard.press("Control+Enter")
    assert sent.value.status == 201
    page.close()
    assert not outside

    pulled = run("annotate", "pull", "page", "--data-home", studio.home, "--json").json()
    assert (pulled["votes"], pulled["rejected"]) == (5, {})
    votes = pd.read_parquet(Path(pulled["folder"]) / "votes.parquet").set_index("attribute")["vote"].to_dict()
    assert votes == {name: ("1", "0", "abstain")[key] for name, key in ANSWERS.items()}


def enlarged(videos: Path, out: Path) -> None:
    """Three clips at the size of real ones."""
    for number, path in enumerate(sorted(videos.rglob("*.avi"))[:3]):
        frames = (frame.repeat(5, axis=0).repeat(5, axis=1) for frame in read_frames(path))
        write_video(out / f"{number}.mp4", frames, 12)


def _close_instructions(page: Any) -> None:
    """The guidelines open by themselves before the first task; a key that comes too early does not close them."""
    title = page.locator("text=Labeling Instructions")
    title.wait_for(timeout=60_000)
    for _ in range(50):
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)
        if not title.count():
            return
    raise AssertionError("the guidelines cannot be closed")
