"""``pysmtpx journal``: what is in a journal, and what somebody decides about it."""

from __future__ import annotations

import argparse
import time
from email import message_from_string
from typing import Any, Final

from ..errors import InputError
from ..journal.opening import open_journal
from ..journal.sql import SqlJournal, Summary
from ..journal.statements import PURGEABLE
from . import flags
from .exits import Exit
from .show import Show

_STATES: Final = ("queued", "doubt", "accepted", "refused")
_PAGE: Final = 500


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its own commands."""
    whole = commands.add_parser(
        "journal",
        help="look into the journal of a pool, and decide about what is in it",
        description="Look into the journal of a pool (SmtpPool(journal=FILE)), and decide about it.",
    )
    actions = whole.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="one line for each message")
    listing.add_argument("--state", choices=_STATES, help="only messages with somebody in this state")
    listing.add_argument("--limit", type=flags.count, default=100, metavar="N", help="at most so many (100)")
    show = actions.add_parser("show", help="a message, and what became of each recipient")
    retry = actions.add_parser("retry", help="queue again who was refused")
    retry.add_argument("--doubtful", action="store_true", help="also who is in doubt: they may get it twice")
    cancel = actions.add_parser("cancel", help="send it to nobody who is queued")
    stats = actions.add_parser("stats", help="how many recipients are in each state")
    purge = actions.add_parser("purge", help="forget messages that are over")
    purge.add_argument(
        "--days",
        type=flags.days,
        default=7.0,
        metavar="N",
        help="those queued more than so many days ago (7)",
    )
    purge.add_argument(
        "--fate",
        action="append",
        choices=(*PURGEABLE, "doubt"),
        help="only those whose worst fate of a recipient is this; may be repeated (accepted and refused)",
    )
    runs = {listing: _list, show: _show, retry: _retry, cancel: _cancel, stats: _stats, purge: _purge}
    for parser, run in runs.items():
        parser.allow_abbrev = False
        parser.add_argument("file", metavar="FILE", help="the journal: a file, or a URL of PostgreSQL")
        if parser in (show, retry, cancel):
            parser.add_argument("number", type=flags.count, nargs="+", metavar="NUMBER", help="of a message")
        # Also behind the action; a default here would undo what was said before it.
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        parser.set_defaults(run=_opened(run))


def _opened(run: Any) -> Any:
    def opened(arguments: argparse.Namespace, show: Show) -> Exit:
        with open_journal(arguments.file, keep=None, create=False) as journal:
            result: Exit = run(journal, arguments, show)
            return result

    return opened


def _list(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    left, after, rows = arguments.limit, 0, []
    while left > 0:
        found = journal.summaries(arguments.state, after=after, most=min(left, _PAGE))
        for each in found:
            show.value(_plain(each))
        if not show.as_json:
            rows += [_row(each) for each in found]
        if len(found) < min(left, _PAGE):
            break
        left, after = left - len(found), found[-1].number
    show.table("messages", ("number", "queued", "from", "recipients", "tries", "due"), rows)
    return Exit.ACCEPTED


def _plain(each: Summary) -> dict[str, Any]:
    plain = each._asdict()
    expires = plain["expires"]
    return plain | {"expires": None if expires > 1e100 else expires}


def _row(each: Summary) -> tuple[object, ...]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(each.states.items()))
    due = "" if not each.states.get("queued") else _moment(each.due) if each.due > time.time() else "now"
    return each.number, _moment(each.queued), each.sender or "<>", states, each.tries, due


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _show(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    for number in arguments.number:
        summary, fates = _found(journal, number), journal.fates(number)
        subject = _subject(journal, number)
        show.value(_plain(summary) | {"subject": subject, "fates": [fate._asdict() for fate in fates]})
        show.line(f"message {number} from {summary.sender or '<>'}: {subject}")
        show.line(f"queued {_moment(summary.queued)}, {summary.tries} tries, {summary.size} octets")
        columns = ("recipient", "state", "since", "stage", "reply")
        rows = [(each.address, each.state, _moment(each.changed), each.stage, each.reply) for each in fates]
        show.table("recipients", columns, rows)
    return Exit.ACCEPTED


def _found(journal: SqlJournal, number: int) -> Summary:
    summary = journal.summary(number)
    if summary is None:
        raise InputError(f"the journal has no message {number}")
    return summary


def _subject(journal: SqlJournal, number: int) -> str:
    payload = journal.payload(number)
    if payload is None:
        return "(its content is damaged or gone)"
    if payload.get("encoding") != "7bit":
        return "(in 8 bits)"
    head = str(payload.get("content", "")).partition("\r\n\r\n")[0]
    return str(message_from_string(head)["Subject"] or "(no subject)")


def _retry(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    for number in arguments.number:
        _found(journal, number)
        count = journal.retry(number, doubtful=arguments.doubtful)
        show.value({"number": number, "queued": count})
        show.line(f"message {number}: {count} recipients are queued again")
    return Exit.ACCEPTED


def _cancel(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    for number in arguments.number:
        _found(journal, number)
        count = journal.cancel(number)
        show.value({"number": number, "cancelled": count})
        show.line(f"message {number}: {count} recipients are not sent it")
    return Exit.ACCEPTED


def _purge(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    before, fates = time.time() - arguments.days * 86400, arguments.fate or PURGEABLE
    total = 0
    while count := journal.purge(before, _PAGE, fates=fates):
        total += count
    show.value({"purged": total})
    show.line(f"{total} messages are forgotten")
    return Exit.ACCEPTED


def _stats(journal: SqlJournal, arguments: argparse.Namespace, show: Show) -> Exit:
    counts = journal.counts()
    show.value({state: counts.get(state, 0) for state in _STATES})
    for state in _STATES:
        show.line(f"{state:9} {counts.get(state, 0)}")
    return Exit.ACCEPTED
