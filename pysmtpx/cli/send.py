"""``pysmtpx send``: one message, made from arguments or taken as it is."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from ..composing import compose
from ..connecting import connect
from ..errors import InputError, SmtpError
from ..wire.params import MailFromParams, RcptToParams
from ..wire.result import SendResult
from . import flags
from .compose import add_content, attachments_of, html_of, load, text_of, with_headers
from .exits import Exit, exit_of
from .servers import add_server, server_of
from .show import Show, complain, error_text


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    parser = commands.add_parser("send", help="send one message, and tell what became of each recipient")
    add_server(parser)
    add_content(parser)
    envelope = parser.add_argument_group("envelope")
    envelope.add_argument("--to", metavar="ADDRESS", action="append", default=[])
    envelope.add_argument("--cc", metavar="ADDRESS", action="append", default=[])
    envelope.add_argument("--bcc", metavar="ADDRESS", action="append", default=[])
    envelope.add_argument(
        "--mail-from", metavar="ADDRESS", help="the sender of the envelope; '' is the null path"
    )
    envelope.add_argument(
        "--rcpt-to", metavar="ADDRESS", action="append", help="the envelope, not the headers"
    )
    envelope.add_argument("--dsn", metavar="WHEN", help="never, or some of success,failure,delay (RFC 3461)")
    envelope.add_argument("--ret", choices=["full", "hdrs"], help="what a notification returns")
    envelope.add_argument("--envid", metavar="ID", help="our mark for notifications")
    parser.add_argument("--eml", metavar="FILE", help="send this message as it is; - is standard input")
    parser.add_argument("--timeout", metavar="SECONDS", type=flags.seconds, default=600.0)
    parser.add_argument("--transcript", action="store_true", help="show each command and reply; no secret")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, show: Show) -> Exit:
    """Send, and tell."""
    _check(arguments)
    server = server_of(arguments)
    message: EmailMessage | bytes = load(arguments.eml) if arguments.eml else _message(arguments)
    recipients = arguments.rcpt_to or None
    if recipients is None and (arguments.eml or arguments.dsn):
        named = getaddresses([*arguments.to, *arguments.cc, *arguments.bcc])
        recipients = [address for _, address in named] or None
    rcpt_params = None
    if arguments.dsn:
        if recipients is None:
            raise InputError("--dsn needs recipients: --to or --rcpt-to")
        count = len(recipients)
        notify = tuple(word.strip().upper() for word in arguments.dsn.split(","))
        rcpt_params = [RcptToParams(notify=notify)] * count
    mail_params = None
    if arguments.ret or arguments.envid:
        ret: Any = arguments.ret.upper() if arguments.ret else None
        mail_params = MailFromParams(ret=ret, envid=arguments.envid)
    sender = arguments.mail_from
    if sender is None and arguments.eml:
        sender = arguments.sender
    with _transcript(arguments.transcript):
        try:
            with connect(server) as connection:
                result = connection.send_message(
                    message,
                    sender=sender,
                    recipients=recipients,
                    mail_params=mail_params,
                    rcpt_params=rcpt_params,
                    timeout=arguments.timeout,
                )
        except SmtpError as error:
            if not error.accounts_for_anyone:
                raise
            return tell(error, show)
    return tell(result, show)


def _check(arguments: argparse.Namespace) -> None:
    """Raise ``InputError`` where the envelope of a message that is there already is given twice."""
    if not arguments.eml:
        return
    if arguments.mail_from is not None and arguments.sender:
        raise InputError("with --eml, --from and --mail-from are both the sender: which one is meant?")
    if arguments.rcpt_to and (arguments.to or arguments.cc or arguments.bcc):
        raise InputError(
            "with --eml, --rcpt-to and --to, --cc or --bcc are all the recipients: leave one out"
        )


def tell(fate: SendResult | SmtpError, show: Show) -> Exit:
    """What became of each recipient."""
    rows = list(fates(fate))
    code = Exit.ACCEPTED if isinstance(fate, SendResult) else exit_of(fate)
    if code is Exit.ACCEPTED and fate.rejected_recipients:
        code = Exit.REJECTED
    answer: dict[str, Any] = {"status": code.name.lower(), "recipients": []}
    for recipient, state, reply in rows:
        answer["recipients"].append({"recipient": recipient, "fate": state, "reply": reply})
    if isinstance(fate, SmtpError):
        answer |= {
            "error": type(fate).__name__,
            "text": error_text(fate),
            "safe_to_retry": fate.safe_to_retry,
        }
        complain(fate)
    show.value(answer)
    show.table("Recipients", ("Recipient", "Fate", "Reply"), rows)
    return code


def fates(fate: SendResult | SmtpError) -> Iterator[tuple[str, str, str]]:
    """Each recipient once: who, what became of the message, and what the server said."""
    replies = fate.replies if isinstance(fate, SendResult) else fate.accepted_replies
    for number, path in enumerate(fate.accepted_recipients):
        yield str(path), "accepted", str(replies[number]) if number < len(replies) else ""
    for refused in fate.rejected_recipients:
        yield str(refused.recipient), "rejected", str(refused.reply)
    yield from ((str(path), "withheld", "") for path in fate.withheld_recipients)
    if isinstance(fate, SmtpError):
        yield from ((str(path), "unknown", "") for path in fate.unknown_recipients)
        yield from ((str(path), "unsent", "") for path in fate.unsent_recipients)


# -- the message -----------------------------------------------------------------------


def _message(arguments: argparse.Namespace) -> EmailMessage:
    if not arguments.sender:
        raise InputError("no author was given: --from ann@example.org")
    if not (arguments.to or arguments.cc or arguments.bcc or arguments.rcpt_to):
        raise InputError("no recipient was given: --to bob@example.com")
    return compose(
        from_=arguments.sender,
        to=arguments.to,
        cc=arguments.cc,
        bcc=arguments.bcc,
        subject=arguments.subject,
        text=text_of(arguments),
        html=html_of(arguments),
        attachments=attachments_of(arguments),
        **with_headers(arguments.header),
    )


@contextlib.contextmanager
def _transcript(wanted: bool) -> Iterator[None]:
    """Each command and reply to standard error while the block lasts."""
    if not wanted:
        yield
        return
    log, handler = logging.getLogger("pysmtpx.wire"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
