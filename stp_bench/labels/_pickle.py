"""The official pickles of VP-HMDB51 and VP-UCF101, read without unpickling.

A pickle is a program. This module reads its instructions and rebuilds plain values: dictionaries, tuples, texts, bytes,
whole numbers, and a note of each call that the program asks for. No call is made, nothing is imported, and all that is
built comes from bytes of the file, so that a small file can't fill the memory. An instruction that the releases don't
use, or any name but NumPy's three, is refused.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from typing import Any

_ARRAY, _DTYPE = ("numpy", "ndarray"), ("numpy", "dtype")
_RECONSTRUCT = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")})
_KNOWN = {_ARRAY, _DTYPE, *_RECONSTRUCT}
_SIZES = {f"{kind}{size}": size for kind in "iu" for size in (1, 2, 4, 8)}


def read_arrays(content: bytes) -> dict[str, tuple[int, ...]]:
    """The rows of a pickled dictionary of texts to whole-number arrays of shape (1, n).

    Raises:
        ValueError: it holds anything else; says what.
    """
    value = _values(content)
    if not isinstance(value, dict):
        raise ValueError("it does not hold a dictionary")
    return {name: _row(name, array) for name, array in value.items()}


@dataclass(slots=True)
class _Name:
    """A global that the pickle names."""

    path: tuple[str, str]


@dataclass(slots=True)
class _Call:
    """A call that the pickle asks for and nobody makes; ``state`` is what it would set afterwards."""

    path: tuple[str, str]
    arguments: tuple[Any, ...]
    state: Any = None


class _Mark:
    """Where a group of values begins on the stack."""


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset({"BININT", "BININT1", "BININT2", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _values(content: bytes) -> Any:
    """What the pickle holds, with a `_Call` in place of each object."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
            name = opcode.name
            if name == "STOP":
                return stack.pop()
            if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name not in ("PROTO", "FRAME"):
                _step(name, argument, stack)
    except ValueError:
        raise
    except (IndexError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"it is a damaged pickle ({type(error).__name__})") from error
    raise ValueError("it is a damaged pickle (it has no end)")


def _step(name: str, argument: Any, stack: list[Any]) -> None:
    """One instruction that only moves the stack."""
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _LITERALS:
        stack.append(argument)
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "MARK":
        stack.append(_Mark)
    elif name in _TUPLES:
        group = tuple(stack[-_TUPLES[name] :])
        del stack[-_TUPLES[name] :]
        stack.append(group)
    elif name == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _fill(stack[-1], [key, value])
    elif name == "SETITEMS":
        items = _to_mark(stack)
        _fill(stack[-1], items)
    elif name == "GLOBAL":
        module, _, attribute = argument.partition(" ")
        stack.append(_known(module, attribute))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_known(module, attribute))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is no function")
        stack.append(_Call(called.path, arguments))
    elif name == "BUILD":
        state = stack.pop()
        if not isinstance(stack[-1], _Call):
            raise ValueError("it sets the state of something that is no array")
        stack[-1].state = state
    else:
        raise ValueError(f"it uses the instruction {name}, which no release needs")


def _to_mark(stack: list[Any]) -> list[Any]:
    """Take everything above the last mark, and the mark."""
    place = next(i for i in range(len(stack) - 1, -2, -1) if i < 0 or stack[i] is _Mark)
    if place < 0:
        raise IndexError
    group = stack[place + 1 :]
    del stack[place:]
    return group


def _fill(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("it fills something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise ValueError(f"it has a key that is no text ({type(key).__name__})")
        if key in target:
            raise ValueError(f"{key!r:.80} occurs twice")
        target[key] = value


def _known(module: Any, attribute: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("it names something that is no text")
    if (module, attribute) not in _KNOWN:
        raise ValueError(f"it names {module:.40}.{attribute:.40}, which label files have no use for")
    return _Name((module, attribute))


def _row(name: str, value: Any) -> tuple[int, ...]:
    """The numbers of one array, from the state that NumPy would set: version, shape, type, order, bytes."""
    if not (isinstance(value, _Call) and value.path in _RECONSTRUCT and isinstance(value.state, tuple)):
        raise ValueError(f"the entry {name!r:.80} is no array")
    if len(value.state) != 5:
        raise ValueError(f"the entry {name!r:.80} is no array")
    _, shape, dtype, _, raw = value.state
    code = dtype.arguments[0] if isinstance(dtype, _Call) and dtype.path == _DTYPE and dtype.arguments else None
    if not isinstance(code, str) or code not in _SIZES:
        raise ValueError(f"the array of {name!r:.80} does not hold whole numbers")
    size = _SIZES[code]
    # Numbers of one byte have no order, which their type says as "|".
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else None
    if not isinstance(raw, bytes) or order not in ("<", ">", "|") or (order == "|") != (size == 1):
        raise ValueError(f"the array of {name!r:.80} is damaged")
    # Shown only where it is made of numbers: a nest of tuples can be small in the file and endless as a text.
    if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
        raise ValueError(f"the array of {name!r:.80} is damaged")
    if len(shape) != 2 or shape[0] != 1 or shape[1] * size != len(raw):
        raise ValueError(f"the array of {name!r:.80} has the shape {shape!r:.40}, not (1, 5)")
    endian: Any = "big" if order == ">" else "little"
    cells = (raw[i : i + size] for i in range(0, len(raw), size))
    return tuple(int.from_bytes(cell, endian, signed=code.startswith("i")) for cell in cells)
