"""The doctor: what it reports is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from stp_bench import doctor, video_io
from stp_bench.errors import WorkError


def test_on_a_machine_that_runs_these_tests_everything_needed_works(tmp_path: Path) -> None:
    checks = doctor.examine(tmp_path / "home")
    assert doctor.healthy(checks), [c for c in checks if c.state == "broken"]
    names = {(c.area, c.name): c for c in checks}
    assert "fits this torch" in names["software", "torchvision"].detail
    assert names["video", "H.264 in mp4"].state == "ok"
    assert "raw" in names["methods", "installed"].detail
    assert not list((tmp_path / "home").iterdir())


def test_whatever_does_not_work_comes_with_a_mend(tmp_path: Path) -> None:
    assert all(check.mend for check in doctor.examine(tmp_path) if check.state != "ok")


def test_a_data_home_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    checks = doctor.examine(tmp_path / "file" / "home")
    (home,) = [c for c in checks if c.area == "data home"]
    assert home.state == "broken"
    assert not doctor.healthy(checks)


def test_an_encoder_that_fails_is_found_by_trying_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_encoder(*_: object, **__: object) -> None:
        raise WorkError("cannot write check.mp4", "encoder libx264 is missing", "install PyAV")

    monkeypatch.setattr(video_io, "write_video", no_encoder)
    states = {c.name: c.state for c in doctor.examine(tmp_path) if c.area == "video"}
    assert states["H.264 in mp4"] == "broken"
