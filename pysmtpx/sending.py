"""What every way to send has in common: the keywords, and one message made ready for one server."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from email.message import Message
from typing import Any, Final, TypeAlias, TypedDict

from .errors import InputError, SmtpError
from .flow.effects import END, LATER, Pause, Report
from .flow.plan import DEFAULT, Options, make_plan
from .flow.stream import Entry
from .message import written
from .outcome import Outcome
from .wire.capabilities import Capabilities, Protocol
from .wire.envelope import MailObject
from .wire.limits import Stage

_log: Final = logging.getLogger("pysmtpx")

Mail: TypeAlias = "MailObject | Message[Any, Any]"
"""What a stream takes; ``EmailMessage`` is a ``Message``."""


class SendOptions(TypedDict, total=False):
    """Keywords that every ``send`` method takes."""

    timeout: float | None
    """Seconds for the whole call, 600 by default; None leaves the limits on each reply (RFC 5321 4.5.3.2)."""
    all_or_nothing: bool
    """Send only where every recipient is accepted; else ``RecipientsRejected`` is raised."""
    allow_long_lines: bool
    """Send lines over 998 octets and 8-bit headers as they stand."""


def as_options(bdat: bool, all_or_nothing: bool, allow_long_lines: bool) -> Options:
    """The keywords as the flows know them."""
    if bdat or all_or_nothing or allow_long_lines:
        return Options(bdat=bdat, all_or_nothing=all_or_nothing, as_is=allow_long_lines)
    return DEFAULT


def possible_in_flight(count: int, capabilities: Capabilities) -> int:
    """How many whole transactions may be under way; 1 without CHUNKING, and the log says so.

    Raises ``InputError`` unless ``count`` is a whole number from 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError("in_flight is a whole number from 1")
    if count > 1 and not capabilities.chunking:
        name = capabilities.greeting_name
        _log.warning("%s offers no CHUNKING (RFC 3030): one message is in flight, not %d", name, count)
        return 1
    return count


def check_mail(message: object) -> None:
    """Raise ``InputError`` for what a stream or pool cannot send."""
    if not isinstance(message, MailObject | Message):
        kind = type(message).__name__
        raise InputError(f"a message is a MailObject or an email message, not {kind}")


def check_messages(messages: object) -> None:
    """Raise ``InputError`` for what is one message, or none."""
    if isinstance(messages, MailObject | Message | str | bytes) or not isinstance(messages, Iterable):
        raise InputError("messages is an iterable of MailObjects and email messages")


def make_entry(
    token: Any,
    message: Mail,
    capabilities: Capabilities,
    protocol: Protocol,
    is_tls: bool,
    options: Options,
    is_local: bool = False,
) -> Entry:
    """One message of a stream, ready to be written, or with the error for which it cannot be."""
    mail: MailObject | None = None
    try:
        check_mail(message)
        mail = message if isinstance(message, MailObject) else None
        mail = written(message, capabilities)
        plan = make_plan(
            mail, capabilities, protocol=protocol, is_tls=is_tls, options=options, is_local=is_local
        )
        return Entry(token, plan)
    except SmtpError as raised:
        error = raised
    except Exception as raised:
        error = InputError("the message could not be read", stage=Stage.INPUT)
        error.__cause__ = raised
    if mail is not None:
        account_for(error, mail)
    return Entry(token, None, error)


def account_for(error: SmtpError, mail: MailObject) -> None:
    """Name the recipients of a message that never came to MAIL."""
    if not error.accounts_for_anyone:
        error.unsent_recipients = mail.recipients


class Messages:
    """The messages of a stream, from any iterable, in the thread that asks for them.

    A list is known to have the next one at once. An iterator may take its time,
    so it is asked only when nothing is under way.
    """

    __slots__ = ("_is_ready", "_make", "_messages")

    def __init__(self, messages: Iterable[Mail], make: Callable[[Mail], Entry]) -> None:
        check_messages(messages)
        self._is_ready = isinstance(messages, Sequence)
        self._messages = iter(messages)
        self._make = make

    def take(self, wait: bool) -> Entry | Pause:
        """The next one; ``LATER`` where it may take time to get it, and ``wait`` is not set."""
        if not (wait or self._is_ready):
            return LATER
        try:
            message = next(self._messages)
        except StopIteration:
            return END
        return self._make(message)


def outcomes(reports: Generator[Report, None, None]) -> Iterator[Outcome]:
    """The reports of a stream as its caller sees them."""
    with contextlib.closing(reports):
        for report in reports:
            yield Outcome.of(report.token, report.outcome)
