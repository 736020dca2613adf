"""The command ``pysmtpx``: which command it is, and what every one of them has in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import SmtpError
from . import bulk, check, flags, journal, send, sink
from .exits import Exit, exit_of
from .show import Show, complain, error_text


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    whole = argparse.ArgumentParser(
        prog="pysmtpx",
        description="Check a mail server, send mail to it, or take mail and show it.",
        epilog="Exit codes: 0 accepted, 1 rejected, 2 usage, 3 unknown, 4 unsent, 5 no connection.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"pysmtpx {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (check, send, bulk, sink, journal):
        command.add(commands)
    for each in commands.choices.values():
        each.allow_abbrev = False
        each.add_argument("--json", action="store_true", help="tell programs, in JSON, one document a line")
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    arguments = parser().parse_args(argv)
    run: Callable[[argparse.Namespace, Show], Exit] = arguments.run
    show = Show(as_json=arguments.json)
    try:
        flags.check(arguments)
        return run(arguments, show)
    except SmtpError as error:
        code = exit_of(error)
        told = {"error": type(error).__name__, "text": error_text(error), "anchor": error.anchor}
        show.value({"status": code.name.lower()} | told)
        complain(error)
        return code
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output went away; the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ACCEPTED
