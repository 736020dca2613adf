"""What became of one message of many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.message import Message
from typing import Any, Literal, TypeAlias

from .errors import SmtpError
from .flow.recipients import Ledger
from .wire.envelope import MailObject
from .wire.result import RejectedRecipient, SendResult

Status: TypeAlias = Literal["accepted", "rejected", "unknown", "unsent"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message, and of each of its recipients.

    ``status`` is ``"unknown"`` where a recipient is in doubt (the end of data
    was written and no reply came), else ``"accepted"`` where at least one has
    the message, else ``"rejected"`` where the server refused it for everybody,
    else ``"unsent"``. Where somebody has the message there is a ``result``, which
    names who accepted and who was refused. ``error`` says why somebody has not
    got it; it is None where ``result`` says all there is to say.
    """

    mail: MailObject | Message[Any, Any]
    """As the caller gave it."""
    status: Status
    result: SendResult | None = None
    error: SmtpError | None = None

    @classmethod
    def of(cls, mail: MailObject | Message[Any, Any], fate: SendResult | SmtpError) -> Outcome:
        """The outcome that a result or an error amounts to."""
        if type(fate) is SendResult:
            return cls(mail, "accepted", fate)
        assert isinstance(fate, SmtpError)
        # Never with the reply of the error, which refused the others.
        result = Ledger.told(fate).result() if fate.accepted_recipients else None
        if result is not None and fate.withheld_recipients:
            result = replace(result, withheld_recipients=fate.withheld_recipients)
        if fate.unknown_recipients:
            return cls(mail, "unknown", result, fate)
        if result is not None:
            return cls(mail, "accepted", result, fate if fate.unsent_recipients else None)
        is_refused = fate.rejected_recipients and not fate.unsent_recipients
        return cls(mail, "rejected" if is_refused else "unsent", None, fate)

    @property
    def accepted_recipients(self) -> tuple[str, ...]:
        """Who has the message; each recipient is in one of the four tuples, once, or withheld."""
        return self._told.accepted_recipients

    @property
    def rejected_recipients(self) -> tuple[RejectedRecipient, ...]:
        """Who was refused, with the reply."""
        return self._told.rejected_recipients

    @property
    def unknown_recipients(self) -> tuple[str, ...]:
        """Who perhaps has it."""
        return self.error.unknown_recipients if self.error is not None else ()

    @property
    def unsent_recipients(self) -> tuple[str, ...]:
        """To whom it was not sent."""
        return self.error.unsent_recipients if self.error is not None else ()

    @property
    def withheld_recipients(self) -> tuple[str, ...]:
        """To whom it did not go, by ``redirect_to`` or ``allow_recipients``: in none of the four tuples."""
        return self._told.withheld_recipients

    @property
    def _told(self) -> SendResult | SmtpError:
        told = self.error if self.error is not None else self.result
        assert told is not None
        return told
