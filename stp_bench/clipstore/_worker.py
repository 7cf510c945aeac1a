"""The entry point of a worker process (see `_build`)."""

from __future__ import annotations

import os
import signal
import sys

import cv2

from stp_bench.clipstore._build import serve


def main() -> None:
    """Serve tasks from standard input; Ctrl-C reaches the whole process group, and the parent alone acts on it."""
    cv2.setNumThreads(1)  # there is one worker per core
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers

    def answer(line: str) -> None:
        answers.write(line + "\n")
        answers.flush()

    try:
        serve(iter(sys.stdin.readline, ""), answer)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone


if __name__ == "__main__":
    main()
