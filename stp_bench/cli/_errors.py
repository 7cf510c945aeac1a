"""What a failed command says: one line ``error: WHAT, WHY; HOW TO MEND IT`` on standard error, and its exit code.

0 done, 1 the work failed, 2 the request was wrong, 130 stopped with Ctrl-C. ``--debug`` shows the traceback as well.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from stp_bench.errors import BenchError, UserError, WorkError, out_of_memory, unknown_name
from stp_bench.files import unwritable

PROGRAM = "stp-bench"
INTERRUPTED = 130

# The parser's own error class, under whichever name this version of Typer keeps it.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Group(TyperGroup):
    """A command group whose every failure, from a mistyped option to a full disk, ends in one line and a code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = sys.argv[1:] if args is None else list(args)

        def command() -> Any:
            name = prog_name or PROGRAM
            return super(Group, self).main(args, name, complete_var, False, windows_expand_args, **extra)

        return sys.exit(guarded(command, words)) if standalone_mode else command()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown_name("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def guarded(command: Callable[[], Any], words: list[str]) -> int:
    """Run a command (given as ``words``) and return its exit code; a failure is printed, never raised."""
    try:
        code = command()
        sys.stdout.flush()  # what the exit would flush, where nobody can catch that the reader has gone
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nobody is left to tell, and the flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2  # its help text is already printed
        return _report(_usage_error(error), words)
    except Exception as error:
        return _report(explained(error), words)
    if code == INTERRUPTED:
        print("stopped: what was finished is kept, the same command takes the work up again", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _report(error: BenchError, words: list[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _usage_error(error: Any) -> UserError:
    """A mistake that the parser found, in our words."""
    context = error.ctx
    see = f"see {context.command_path} --help" if context else f"see {PROGRAM} --help"
    name = getattr(error, "option_name", None)
    if name and type(error).__name__ == "NoSuchOption":
        return unknown_name("option", name, {o for p in context.command.params for o in p.opts if o.startswith("--")})
    message = error.format_message().rstrip(".")
    what, _, why = message.partition(": ")
    if not why:
        why = "the command cannot do without it" if what.startswith("Missing") else "the command has no use for it"
        why = "none is given" if name else why
    return UserError(what[:1].lower() + what[1:], why[:1].lower() + why[1:], see)


def explained(error: Exception) -> BenchError:
    """An error in our words. What nobody foresaw: the system's refusals are named as such, the rest is a defect."""
    if isinstance(error, BenchError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return unwritable(Path(error.filename or "a file"), error)
    if out_of_memory(error):
        return WorkError(
            "out of memory",
            (str(error).splitlines() or ["the machine has no more"])[0],
            "lower run.batch, e.g. --set run.batch=8, use a smaller --preset, or close other programs",
        )
    if isinstance(error, OSError) and error.errno is not None:
        what = f"cannot use {error.filename}" if error.filename else "the system refused an operation"
        return WorkError(what, (error.strerror or str(error)).lower(), "mend that and run the same command again")
    first = (str(error).splitlines() or [""])[0]
    return WorkError(
        f"unexpected {type(error).__name__}",
        first or "no reason given",
        "this is a defect: please report it with the traceback that --debug shows",
    )
