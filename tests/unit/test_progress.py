"""Reporters: the silent default, and the two of the command line."""

from __future__ import annotations

import io
import logging
import re
import sys
import threading

import pytest

from stp_bench.cli._io import Bars, Lines, seconds_text, working
from stp_bench.progress import Reporter, Silent


def use(reporter: Reporter) -> None:
    with reporter.stage("outer", 2, "videos") as outer:
        with reporter.stage("inner", None, "frames") as inner:
            inner.update(3, 10)
            inner.note("loss 0.5")
        outer.advance()
        reporter.say("half of it")
        outer.advance()


def test_the_silent_reporter_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    use(Silent())
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_finished_stages_and_notices_are_lines_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(Lines())
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"inner: 3 frames in [\d.]+ s\nhalf of it\nouter: 2 videos in [\d.]+ s\n", err)


def test_without_a_terminal_a_stage_that_stands_still_goes_on_talking(capsys: pytest.CaptureFixture[str]) -> None:
    talked = threading.Event()

    class Listening(Lines):
        def say(self, text: str) -> None:
            super().say(text)
            talked.set()

    with Listening(pace=0.01).stage("decode", 40, "videos") as task:
        task.update(10, 40)
        assert talked.wait(10)
    assert "decode: 10 of 40 videos" in capsys.readouterr().err


def test_a_stage_with_nothing_to_count_tells_only_how_long_it_takes() -> None:
    with Lines(pace=60).stage("install") as task:
        assert re.fullmatch(r"install: [\d.]+ s so far", task.text())  # type: ignore[attr-defined]


def test_a_stage_tells_its_rate_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(pace=60)
    with lines.stage("train", 100, "batches") as task:
        for _ in range(50):
            task.advance()
        task.note("loss 0.25")
        text = lines._stages[-1].text()
    assert re.fullmatch(r"train: 50 of 100 batches, [\d.]+ batches/s, about [\d.]+ s left, loss 0.25", text)


def test_a_failed_stage_is_not_reported_as_finished(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Lines().stage("decode", 3, "videos"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_on_a_terminal_finished_stages_stay_and_bars_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    use(Bars())
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"inner: 3 frames in [\d.]+ s", plain)
    assert re.search(r"outer: 2 videos in [\d.]+ s", plain)
    assert "half of it" in plain


def test_while_working_for_json_a_library_that_prints_does_not_reach_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with working(as_json=True):
        print("a library says hello")
        logging.getLogger("stp_bench").warning("disk almost full")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a library says hello\nwarning: disk almost full\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
