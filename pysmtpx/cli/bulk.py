"""``pysmtpx bulk``: one template to a list of recipients, a run that was killed goes on where it was."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import InputError
from ..journal.recipients import Journal
from . import flags
from .compose import add_content
from .exits import Exit
from .recipients import Row, read_rows
from .running import Run, Source
from .servers import add_server, server_of
from .show import Show, complain
from .template import Template

_NAMES: Final = {"accepted": "accepted", "refused": "rejected", "doubt": "unknown", "queued": "unsent"}
"""A journal's states in the words of outcomes."""
_SHOWN: Final = 20
_TELL: Final = 5.0
"""Seconds between two lines about the progress, where there is no bar."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    parser = commands.add_parser("bulk", help="send a template to everybody on a list, nobody twice")
    add_server(parser)
    parser.add_argument("--list", metavar="FILE", required=True, help="CSV with a head line, or .jsonl")
    parser.add_argument("--column", default="email", help="the column with the address (email)")
    parser.add_argument("--journal", metavar="FILE", help="what became of each recipient; else LIST.journal")
    parser.add_argument("--report", metavar="FILE", help="write each recipient's fate there, as CSV")
    add_content(parser)
    parser.add_argument(
        "--to", default="", metavar="TEMPLATE", help="the To field, such as '{name} <{email}>'"
    )
    parser.add_argument("--jinja", action="store_true", help="the templates are Jinja2's, not str.format's")
    parser.add_argument("--mail-from", metavar="ADDRESS", help="the sender of the envelope")
    parser.add_argument("--connections", metavar="COUNT", type=flags.connections, default=4)
    parser.add_argument("--rate", metavar="MESSAGES", type=flags.rate, help="at most so many a second")
    parser.add_argument(
        "--turns", metavar="COUNT", type=flags.count, default=3, help="tries for those refused by 4xx"
    )
    parser.add_argument(
        "--turn-wait", metavar="SECONDS", type=flags.pause, default=300.0, help="between two turns"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=flags.seconds, default=600.0, help="for each message"
    )
    parser.add_argument(
        "--resend-doubtful", action="store_true", help="send to those in doubt again: they may get it twice"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the first message, and send nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, show: Show) -> Exit:
    """Send to all who are owed it, and tell what became of each."""
    template = Template(arguments)
    _check(arguments)
    if arguments.dry_run:
        return _dry_run(arguments, template, show)
    server = server_of(arguments)
    total = sum(1 for _ in read_rows(arguments.list, arguments.column))
    purpose = template.digest
    if server.outgoing is not None and server.outgoing.screens:
        # What a rehearsal redirected, everybody is owed still: that is another journal.
        purpose += f" {server.redirect_to} {server.allow_recipients}"
    with Journal(arguments.journal or f"{arguments.list}.journal", purpose) as journal:
        if arguments.resend_doubtful and (count := journal.queue_doubtful()):
            complain(f"{count} in doubt are sent it again, as you said")
        sending = Run(
            server,
            journal,
            template.message,
            sender=arguments.mail_from if arguments.mail_from is not None else arguments.sender,
            connections=arguments.connections,
            timeout=arguments.timeout,
        )
        with sending:
            _turns(arguments, sending, journal, total)
        counts = _counts(arguments, journal)
        return _tell(arguments, show, journal, counts, sending.why)


def _check(arguments: argparse.Namespace) -> None:
    """Raise ``InputError`` where one file would be written over another."""
    files = {os.path.realpath(arguments.list): "--list"}
    for name in ("journal", "report"):
        path = getattr(arguments, name) or (f"{arguments.list}.journal" if name == "journal" else None)
        if path is None:
            continue
        other = files.setdefault(os.path.realpath(path), f"--{name}")
        if other != f"--{name}":
            raise InputError(f"--{name} and {other} are one file: it would be written over")


def _dry_run(arguments: argparse.Namespace, template: Template, show: Show) -> Exit:
    for row in read_rows(arguments.list, arguments.column):
        row.check()
        message = template.message(row).as_string()
        show.value({"recipient": row.address, "message": message})
        for line in message.splitlines():
            show.line(line)
        break
    return Exit.ACCEPTED


def _turns(arguments: argparse.Namespace, sending: Run, journal: Journal, total: int) -> None:
    """Turn after turn, while somebody was refused for now and the server is there."""
    for number in range(arguments.turns):
        if number and not sending.pause(arguments.turn_wait):
            return
        source = Source(read_rows(arguments.list, arguments.column), arguments.rate)
        sending.start(source, journal.next_turn())
        for _ in _waited(sending, show_bar=not arguments.json, total=total):
            done = f"{sending.done} of {total}, {sending.accepted} accepted in this run"
            complain(f"{done}; in all: {_told(journal.counts())}")
        if sending.why or not journal.counts().get("queued"):
            return


def _waited(sending: Run, *, show_bar: bool, total: int) -> Iterator[None]:
    """Until the turn is over; by a bar in a terminal, else a step at each moment at which a line is due."""
    bar = _bar(total) if show_bar and sys.stderr.isatty() else None
    due = time.monotonic() + _TELL
    try:
        while not sending.wait(0.2):
            if bar is not None:
                _update(bar, sending)
            elif time.monotonic() > due:
                due = time.monotonic() + _TELL
                yield
    except KeyboardInterrupt:
        # Those under way end as the rules say; nobody is left in doubt for an interrupt.
        sending.stop("interrupted")
        while not sending.wait(0.2):
            pass
    finally:
        if bar is not None:
            _update(bar, sending)
            bar.stop()


def _bar(total: int) -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    accepted = TextColumn("{task.fields[accepted]} accepted")
    columns = (BarColumn(), MofNCompleteColumn(), accepted, TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task("Recipients", total=total, accepted=0)
    bar.start()
    return bar


def _update(bar: Any, sending: Run) -> None:
    bar.update(bar.task_ids[0], completed=sending.done, accepted=sending.accepted)


# -- telling -----------------------------------------------------------------------------


def _fates(arguments: argparse.Namespace, journal: Journal) -> Iterator[tuple[Row, list[object]]]:
    """Each row with its line of the report."""
    seen = journal.first_times(row.key for row in read_rows(arguments.list, arguments.column))
    for row, is_first in zip(read_rows(arguments.list, arguments.column), seen, strict=True):
        entry = journal.get(row.key)
        if not is_first:
            yield row, [row.number, row.address, "duplicate", 0, "", ""]
        elif entry is None:
            yield row, [row.number, row.address, "unsent", 0, "", ""]
        else:
            yield row, [row.number, row.address, _NAMES[entry.state], entry.tries, entry.stage, entry.reply]


def _counts(arguments: argparse.Namespace, journal: Journal) -> Counter[str]:
    """How many rows there are of each fate; with the report written on the way, if one is wanted."""
    counts: Counter[str] = Counter()
    if arguments.report is None:
        for _, line in _fates(arguments, journal):
            counts[str(line[2])] += 1
        return counts
    partial = Path(f"{arguments.report}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            report = csv.writer(file)
            report.writerow(["row", "recipient", "fate", "tries", "stage", "reply"])
            for _, line in _fates(arguments, journal):
                report.writerow([_no_formula(cell) for cell in line])
                counts[str(line[2])] += 1
        os.replace(partial, arguments.report)
    except OSError as error:
        raise InputError(f"the report cannot be written: {error}") from error
    return counts


def _no_formula(cell: object) -> object:
    """A server's reply, or a row, must not become a formula where a report is opened as a sheet."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _told(counts: dict[str, int]) -> str:
    """Of a run that goes on: whoever is in doubt may only be under way."""
    names = _NAMES | {"doubt": "under way or unknown"}
    return (
        ", ".join(f"{counts[state]} {name}" for state, name in names.items() if counts.get(state)) or "none"
    )


def _tell(
    arguments: argparse.Namespace, show: Show, journal: Journal, counts: Counter[str], why: str
) -> Exit:
    code = _code(counts, why)
    doubtful = journal.entries("doubt", _SHOWN)
    show.value(
        {
            "status": code.name.lower(),
            "counts": counts,
            "stopped": why or None,
            "journal": journal.path,
            "report": arguments.report,
            "unknown": [each.key for each in doubtful],
        }
    )
    show.table("Recipients", ("Fate", "Count"), [(name, counts[name]) for name in sorted(counts)])
    show.table(
        "In doubt: perhaps they have it", ("Recipient", "Why"), [(each.key, each.reply) for each in doubtful]
    )
    refused = [(each.key, each.reply) for each in journal.entries("refused", _SHOWN)]
    show.table(f"Refused (the first {_SHOWN})", ("Recipient", "Reply"), refused)
    if why:
        complain(f"the run stopped: {why}")
    if counts["unsent"]:
        complain("run the same command again to go on; whoever has it is sent nothing again")
    if counts["unknown"]:
        complain("those in doubt are sent nothing again, unless you say --resend-doubtful")
    return code


def _code(counts: Counter[str], why: str) -> Exit:
    if why == "interrupted":
        return Exit.INTERRUPTED
    if counts["unknown"]:
        return Exit.UNKNOWN
    if counts["unsent"]:
        return Exit.NO_CONNECTION if why and not counts["accepted"] else Exit.UNSENT
    return Exit.REJECTED if counts["rejected"] else Exit.ACCEPTED
