"""What became of a message, in the words of ``smtplib``: its dictionary of refused, and its exceptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from smtplib import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from typing import Final, TypeAlias, TypeVar

from ..errors import RecipientsRejected, SmtpError
from ..flow.account import Account
from ..flow.recipients import Ledger
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient

Refused: TypeAlias = dict[str, tuple[int, bytes]]
_E = TypeVar("_E", bound=SmtpError)

_CARRIED: Final = (
    "accepted_recipients",
    "rejected_recipients",
    "unknown_recipients",
    "unsent_recipients",
    "safe_to_retry",
    "temporary",
    "transcript",
)
"""What an exception of ours says about the message, and that of the standard library says as well."""


def is_acceptance(code: int) -> bool:
    """Any 2xx (RFC 5321 4.2.1): a server that answers RCPT by 252 delivers."""
    return 200 <= code < 300


def pair(reply: Reply) -> tuple[int, bytes]:
    """A reply as ``smtplib`` gives it."""
    return reply.code, b"\n".join(text.strip(b" \t\r\n") for text in reply.lines)


def lines(reply: Reply) -> Iterator[bytes]:
    """A reply as it came."""
    last = len(reply.lines) - 1
    for number, text in enumerate(reply.lines):
        yield b"%d%s%s\r\n" % (reply.code, b" " if number == last else b"-", text)


def reply_of(answer: tuple[int, bytes]) -> Reply:
    """The other way round."""
    code, text = answer
    return Reply(code, tuple(text.split(b"\n")))


def refused(rejected: Iterable[RejectedRecipient]) -> Refused:
    """Who was refused, keyed by the text that the caller gave, so of two the same the last counts."""
    return {each.recipient: pair(each.reply) for each in rejected}


class Steps(Account):
    """A transaction by single commands: its recipients are those that were given so far."""

    rcpts: list[Reply]
    finals: list[Reply]

    def __init__(self) -> None:
        self._given: list[str] = []
        # Under SMTP no final reply is written down here.
        super().__init__(self._given, lmtp=True, rcpts=[], finals=[])

    def note_rcpt(self, path: str, answer: tuple[int, bytes]) -> None:
        """Write down a recipient, with the reply to RCPT."""
        self._given.append(path)
        self.rcpts.append(reply_of(answer))

    def lost(self, error: _E, recipients: Iterable[str], *, committed: bool) -> _E:
        """The error of a loss, with all these; one who stands twice is named once, by the better fate.

        ``committed``: it was perhaps delivered to those whom no reply refused.
        """
        self.committed = committed
        places = {path: place for place, path in enumerate(dict.fromkeys((*self._given, *recipients)))}
        by_name = Ledger(tuple(places))
        by_name.merge(self.ledger(), [places[path] for path in self._given])
        if committed:
            by_name.doubt_rest()
        return by_name.on(error)


def raised(error: SmtpError, account: Account, sender: str) -> SMTPException:
    """The exception of ``smtplib`` for an error of a transaction; it bears the account of the recipients."""
    return carrying(_kind(error, account, sender), error)


def carrying(exception: SMTPException, error: SmtpError) -> SMTPException:
    """The exception with what the error knows as attributes."""
    for name in _CARRIED:
        setattr(exception, name, getattr(error, name))
    return exception


def _kind(error: SmtpError, account: Account, sender: str) -> SMTPException:
    if isinstance(error, RecipientsRejected):
        return _nobody(error)
    reply = error.reply
    if account.data is not None and account.data.code < 354:
        reply = account.data  # no answer to DATA, although it is no refusal
    if reply is None or (reply.is_positive and reply is not account.data):
        return disconnected(error)
    if error.stage in (Stage.INPUT, Stage.MAIL):
        return SMTPSenderRefused(*pair(reply), sender)
    if error.stage is Stage.RCPT:
        return SMTPRecipientsRefused(refused(error.rejected_recipients) | _next_one(account, reply))
    return SMTPDataError(*pair(reply))


def _nobody(error: RecipientsRejected) -> SMTPException:
    """Everybody was refused: at RCPT, or under LMTP each by a final reply.

    If there was but one final reply it is told as ``smtplib`` always did.
    """
    finals = [each.reply for each in error.rejected_recipients if each.stage is Stage.FINAL]
    if len(finals) == 1:
        return SMTPDataError(*pair(finals[0]))
    return SMTPRecipientsRefused(refused(error.rejected_recipients))


def _next_one(account: Account, reply: Reply) -> Refused:
    """The recipient that was due when the server closed the connection."""
    index = len(account.rcpts)
    return {account.recipients[index]: pair(reply)} if index < len(account.recipients) else {}


def disconnected(error: SmtpError) -> SMTPServerDisconnected:
    """The exception for a connection that is gone, timed out or out of step."""
    return SMTPServerDisconnected(f"Connection unexpectedly closed: {error}")


def not_logged_in(error: SmtpError) -> SMTPException:
    """The exception for a log-in that failed."""
    reply = error.reply
    if isinstance(error, ConnectionError | TimeoutError) and (reply is None or reply.code != 421):
        return disconnected(error)
    if reply is None:
        return SMTPAuthenticationError(-1, str(error).encode("utf-8", "replace"))
    return SMTPAuthenticationError(*pair(reply))
