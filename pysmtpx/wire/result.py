"""What became of the recipients of one mail object, as values."""

from __future__ import annotations

from dataclasses import dataclass

from .limits import Stage
from .reply import Reply


@dataclass(frozen=True, slots=True)
class RejectedRecipient:
    """A recipient that the server refused, with the reply that refused it."""

    recipient: str
    """The forward-path, equal to the text that the caller gave."""
    reply: Reply
    stage: Stage
    """``rcpt``, or ``final`` where an LMTP server refused after the content (RFC 2033 4.2)."""

    @property
    def temporary(self) -> bool:
        """True where the refusal is a 4xx: the same mail may be accepted later."""
        return self.reply.is_temporary


@dataclass(frozen=True, slots=True)
class SendResult:
    """A mail object that the server took responsibility for (RFC 5321 4.2.5).

    At least one recipient was accepted. Both tuples keep the caller's order.
    """

    accepted_recipients: tuple[str, ...]
    rejected_recipients: tuple[RejectedRecipient, ...]
    reply: Reply
    """The final reply, which often names the queue id; under LMTP the last positive one."""
    replies: tuple[Reply, ...] = ()
    """The final reply for each accepted recipient, in the same order.

    Under SMTP they are all the same; under LMTP each recipient has its own
    (RFC 2033 4.2).
    """
    withheld_recipients: tuple[str, ...] = ()
    """To whom it did not go: ``redirect_to`` sent it elsewhere, or ``allow_recipients`` kept it back."""
