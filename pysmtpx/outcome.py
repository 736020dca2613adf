"""What became of one message of many."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal, TypeAlias

from .errors import SmtpError
from .wire.envelope import MailObject
from .wire.result import RejectedRecipient, SendResult

Status: TypeAlias = Literal["accepted", "rejected", "unknown", "unsent"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message, and of each of its recipients.

    ``status`` is ``"unknown"`` where a recipient is in doubt (the end of data
    was written and no reply came), else ``"accepted"`` where at least one has
    the message, else ``"rejected"`` where the server refused all of it, else
    ``"unsent"``. ``result`` names who accepted; ``error`` says why somebody
    has not got it, other than by a refusal at RCPT that ``result`` names.
    """

    mail: MailObject | Message[Any, Any]
    """As the caller gave it."""
    status: Status
    result: SendResult | None = None
    error: SmtpError | None = None

    @classmethod
    def of(cls, mail: MailObject | Message[Any, Any], fate: SendResult | SmtpError) -> Outcome:
        """The outcome that a result or an error amounts to."""
        if isinstance(fate, SendResult):
            return cls(mail, "accepted", fate)
        status: Status = "unsent"
        if fate.unknown_recipients:
            status = "unknown"
        elif fate.accepted_recipients:
            status = "accepted"
        elif fate.rejected_recipients and not fate.unsent_recipients:
            status = "rejected"
        return cls(mail, status, None, fate)

    @property
    def accepted_recipients(self) -> tuple[str, ...]:
        """Who has the message."""
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
    def _told(self) -> SendResult | SmtpError:
        told = self.error if self.error is not None else self.result
        assert told is not None
        return told
