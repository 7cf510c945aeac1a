"""Errors that suggest a mend, whole-or-nothing writes, fingerprints, and paths that cannot escape."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stp_bench import files
from stp_bench.errors import UserError, WorkError, nearest, unknown_name


def test_an_error_is_one_line_with_what_why_and_mend() -> None:
    error = UserError("cannot\nread x", "it is\n  gone", "restore it")
    assert str(error) == "cannot read x, it is gone; restore it"
    assert (UserError.exit_code, WorkError.exit_code) == (2, 1)


def test_an_unknown_name_is_answered_with_near_ones_whatever_the_case() -> None:
    assert nearest("STPrivcy", ["raw", "stprivacy"]) == ["stprivacy"]
    assert "did you mean blur-weak" in str(unknown_name("method", "blur-week", ["blur-weak", "raw"]))
    assert "choose from a, b" in str(unknown_name("method", "zzz", ["b", "a"]))


def test_the_data_home_is_the_chosen_one_then_the_variable_then_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.HOME_VARIABLE, str(tmp_path / "variable"))
    assert files.data_home(tmp_path / "chosen") == tmp_path / "chosen"
    assert files.data_home() == tmp_path / "variable"
    monkeypatch.delenv(files.HOME_VARIABLE)
    assert files.data_home().name == "stp-bench"


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})

    def fail() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert files.read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_full_disk_is_named_with_its_own_mend(tmp_path: Path) -> None:
    def fill() -> None:
        with files.atomic_path(tmp_path / "x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkError, match="no space left on device; free some space"):
        fill()


def test_a_file_where_a_folder_should_be_is_a_work_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(WorkError, match="cannot write"):
        files.make_folder(tmp_path / "x" / "y")


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "x.json", {"a": math.nan})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_broken_json_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WorkError, match=r"broken\.json"):
        files.read_json(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_fingerprints_ignore_key_order_and_survive_json(value: dict[str, object]) -> None:
    shuffled = dict(reversed(list(value.items())))
    assert files.fingerprint(value) == files.fingerprint(shuffled)
    assert files.fingerprint(json.loads(json.dumps(value))) == files.fingerprint(value)


@given(st.integers(), st.integers())
def test_different_values_have_different_fingerprints(a: int, b: int) -> None:
    assert (files.fingerprint({"v": a}) == files.fingerprint({"v": b})) == (a == b)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "a\0b"])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="refused"):
        files.safe_join(tmp_path, name)


def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="refused"):
        files.safe_join(tmp_path / "root", "link/secret")


@pytest.mark.parametrize("name", ["walk/#a;[b]&.avi", "-x.avi", "a/b..c.avi"])
def test_odd_names_inside_the_root_are_fine(tmp_path: Path, name: str) -> None:
    assert files.safe_join(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e13, "30.0 TB")]
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert files.human_bytes(count) == text


def test_a_library_s_own_error_on_a_full_disk_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short() -> None:
        with files.atomic_path(tmp_path / "weights") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("unexpected pos 292864 vs 292752")  # what torch.save says

    with pytest.raises(RuntimeError, match="unexpected pos"):
        cut_short()
    monkeypatch.setattr(files, "free_bytes", lambda folder: 0)
    with pytest.raises(WorkError, match="no space left"):
        cut_short()
    assert not list(tmp_path.iterdir())
