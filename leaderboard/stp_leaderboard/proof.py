"""Proving submissions: every figure recomputed from its predictions, in a process that can do no harm.

The tables are a stranger's files, and a few bytes of parquet can ask for any amount of memory. They are therefore read
in a process of its own with a limit on memory and time (``python -m stp_leaderboard.proof``), which takes one line of
JSON per submission and answers with another. If it dies, the submission is refused and the next gets a new process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stp_bench.errors import BenchError, out_of_memory
from stp_bench.progress import Reporter
from stp_bench.workers import start_worker
from stp_leaderboard.records import Record, check, record_from
from stp_leaderboard.submission import MOST_TABLE, PREDICTIONS, REFERENCE, Refused, Submission, card_of

MEMORY = 4 * 2**30
"""Bytes of address space that reading and scoring one submission may take, on systems that can limit it."""
SECONDS = 600.0
"""Time that one submission may take."""
MOST_ROWS = 5_000_000
MOST_CONTENT = 2**30
"""Limits of one table: rows, bytes after decompression as it declares them."""

Problem = tuple[str, str]
"""A field (empty: the submission as a whole), and a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one submission."""

    source: str
    record: Record | None
    """None if it could not even be read."""
    problems: tuple[Problem, ...]
    """Why it is refused; none if it holds."""
    unchecked: tuple[str, ...]
    """What could not be checked here."""

    @property
    def holds(self) -> bool:
        """Whether the record follows from its tables."""
        return self.record is not None and not self.problems


def prove(submissions: Sequence[Submission | Refused], home: Path, reporter: Reporter) -> list[Verdict]:
    """Check submissions one by one, then against each other (`stp_leaderboard.standings.contradictions`).

    Args:
        home: data home, for the indexes of the benchmarks that it has.
    """
    from stp_leaderboard.standings import contradictions

    verdicts = []
    with _Prover(home) as prover, reporter.stage("recompute", len(submissions), "submissions") as task:
        for one in submissions:
            if isinstance(one, Refused):
                verdicts.append(Verdict(source=one.source, record=None, problems=(one.problem,), unchecked=()))
            else:
                problems, unchecked = prover.ask(one)
                problems += _card_problems(one.record)
                verdicts.append(Verdict(source=one.source, record=one.record, problems=problems, unchecked=unchecked))
            task.advance()
    return contradictions(verdicts)


def _card_problems(record: Record) -> tuple[Problem, ...]:
    """All shares ``left`` are counted from the method that changes nothing: not every method may claim to be that."""
    claims = bool((record.card or {}).get("identity"))
    if claims and not (card_of(record.result.method) or {}).get("identity"):
        return (("card.identity", f"card.identity is true but {record.result.method} is not known to change nothing"),)
    return ()


class _Prover:
    """The other process, started when it is first asked, and again after it was lost."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Prover:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, submission: Submission) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
        """Problems of a submission, and what could not be checked."""
        if submission.tables is None:
            where = submission.record.tables
            return (("tables", f"are not beside the record but at {where}: get them into the folder of its name"),), ()
        question = {
            "record": submission.record.to_dict(), "tables": str(submission.tables), "home": str(self._home),
        }  # fmt: skip
        answer = self._exchange(json.dumps(question))
        if answer is None:
            self._stop()
            limits = f"{MEMORY / 2**30:.0f} GB or {SECONDS:.0f} seconds"
            return (("tables", f"cannot be read within {limits}"),), ()
        return tuple((field, text) for field, text in answer["problems"]), tuple(answer["unchecked"])

    def _exchange(self, line: str) -> Any:
        if self._process is None:
            self._process = start_worker("stp_leaderboard.proof", quiet=True)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(SECONDS, process.kill)
        clock.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return None
        finally:
            clock.cancel()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what it was never told
                        pipe.close()
            self._process = None


def examine(record: Record, tables: Path, home: Path) -> tuple[list[Problem], list[str]]:
    """The same in this process, without its limits.

    Returns:
        Problems, and what could not be checked.
    """
    from stp_bench.predictions import Predictions, Reference
    from stp_leaderboard.against_index import NotThere, compare

    for name in (PREDICTIONS, REFERENCE):
        if (fault := _oversized(tables / name)) is not None:
            return [(name, fault)], []
    predictions, reference = Predictions.read(tables / PREDICTIONS), Reference.read(tables / REFERENCE)
    problems: list[Problem] = []
    if not _in_order(tables / PREDICTIONS, predictions):
        problems.append(("video_id", f"of {PREDICTIONS} is not sorted (by video_id, frame, attacker)"))
    problems += [(difference.field, str(difference)) for difference in check(record, predictions, reference)]
    try:
        findings, unchecked = compare(record.result, predictions, reference, home)
    except NotThere as error:
        return problems, [f"videos, labels and training counts against the index of {record.result.on}: {error}"]
    return problems + [(field, f"{field} {text}") for field, text in findings], unchecked


def _oversized(path: Path) -> str | None:
    """What is too large about a table, by its file and its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file() or path.is_symlink():
        return f"there is no {path.name} in {path.parent}"
    if path.stat().st_size > MOST_TABLE:
        return f"{path.name} is larger than {MOST_TABLE // 2**20} MB"
    try:
        about = pq.ParquetFile(path).metadata
    except (pa.ArrowException, OSError):
        return f"{path.name} is not a parquet file"
    content = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if about.num_rows > MOST_ROWS or content > MOST_CONTENT:
        return f"{path.name} declares {about.num_rows:,} rows of {content:,} bytes, more than is read here"
    return None


def _in_order(path: Path, predictions: Any) -> bool:
    """Whether a file has its rows in the order that the format fixes."""
    import pyarrow.parquet as pq

    keys = ["video_id", "frame", "attacker"]
    stored = pq.ParquetFile(path).read(columns=keys)
    return all(stored[key].to_pylist() == predictions.table[key].to_pylist() for key in keys)


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = record_from(question["record"], "the record")
        problems, unchecked = examine(record, Path(question["tables"]), Path(question["home"]))
    except BenchError as error:
        field = re.search(r"field '([^']+)'", error.why)
        return {"problems": [(field[1] if field else "", f"{error.what}, {error.why}")], "unchecked": []}
    except Exception as error:
        if out_of_memory(error):
            raise
        return {"problems": [("", f"cannot be read ({type(error).__name__}: {str(error)[:200]})")], "unchecked": []}
    return {"problems": problems, "unchecked": unchecked}


@contextmanager
def _own_output() -> Iterator[IO[str]]:
    """Standard output for answers only: what a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "w", encoding="utf-8") as nowhere, answers:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
        yield answers


def _serve() -> None:
    """Answer questions from standard input until it ends."""
    with suppress(ImportError, ValueError, OSError):  # systems without such limits
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    with _own_output() as answers:
        for line in sys.stdin:
            answers.write(json.dumps(_answer(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    _serve()
