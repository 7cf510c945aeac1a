"""A new method as a package of its own: written from templates, ready to be installed, tested and judged."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from stp_bench import methods
from stp_bench.errors import UserError
from stp_bench.external import EXEC, FILES
from stp_bench.files import make_folder, unwritable

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40
_RESERVED = frozenset({"run", FILES, EXEC})
"""Owners of settings, and what stands before a colon where a method's name does."""
_PLACEHOLDERS = {
    "fixed": "it leaves a few values of each color channel",
    "learned": "it learns a new color for every color",
}


def new_method(name: str, *, learned: bool, out: Path | None = None) -> Path:
    """Write a package with a fixed or a learned method, its card, its entry point and its test.

    Args:
        name: of the method: lower-case words joined by hyphens.
        out: the new folder; None for ``stp-NAME`` in the working directory.

    Returns:
        The folder.

    Raises:
        UserError: a name that cannot be used or is taken, or a folder that is there already.
        WorkError: the folder cannot be written.
    """
    module = _module(name)
    folder = out if out is not None else Path(f"stp-{name}")
    if folder.exists():
        raise UserError(f"cannot write {folder}", "it is there already", "choose another --out, or remove it")
    kind, package = ("learned" if learned else "fixed"), f"stp_{module}"
    words = {
        "name": name,
        "module": module,
        "package": package,
        "distribution": f"stp-{name}",
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "title": name.replace("-", " ").capitalize(),
        "placeholder": _PLACEHOLDERS[kind],
    }
    sources = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": f"{kind}/__init__.py",
        f"{package}/method.py": f"{kind}/method.py",
        f"tests/test_{module}.py": f"{kind}/test.py",
    }
    templates = files("stp_bench") / "templates"
    make_folder(folder.absolute().parent)
    temporary = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(3)}.partial")
    try:
        for target, source in sources.items():
            text = Template((templates / f"{source}.tmpl").read_text(encoding="utf-8")).substitute(words)
            path = temporary / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _module(name: str) -> str:
    """The name as Python writes it, if a method can be called so."""
    what = f"a method cannot be called {name!r}"
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        why = f"names are lower-case letters and digits, in words joined by hyphens, at most {_LONGEST} characters"
        raise UserError(what, why, "choose one like my-blur")
    if name in _RESERVED:
        raise UserError(what, "the command line uses that word for something else", "choose another name")
    if name in methods.specs():
        raise UserError(what, "an installed method has that name", "choose another name: see stp-bench methods")
    module = name.replace("-", "_")
    if importlib.util.find_spec(f"stp_{module}") is not None:
        raise UserError(what, f"its package stp_{module} is there already", "choose another name")
    return module
