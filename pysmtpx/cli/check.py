"""``pysmtpx check``: the doctor."""

from __future__ import annotations

import argparse

from ..checking import check
from .checked import tell_all
from .exits import Exit
from .servers import add_server, server_of
from .show import Show


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    parser = commands.add_parser(
        "check", help="look at a server step by step, and name what is wrong and its cure; sends nothing"
    )
    add_server(parser)
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="try whether MAIL is accepted")
    parser.add_argument(
        "--to", dest="recipients", metavar="ADDRESS", action="append", default=[], help="try RCPT"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, show: Show) -> Exit:
    """Look, tell, and say by the exit code whether mail can be sent."""
    server = server_of(arguments)
    seen = check(server, sender=arguments.sender, recipients=arguments.recipients)
    return tell_all([seen], show, "command")
