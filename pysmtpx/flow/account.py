"""The replies of one transaction, and what they mean for each of its recipients.

The commit rule: nothing is in doubt until the write with the last octet of the
content starts; from then until its reply is read, delivery is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Final, TypeAlias

from .. import cures
from ..errors import (
    AuthenticationError,
    ConnectionLost,
    DataRejected,
    InputError,
    ProtocolError,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    TlsError,
)
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .recipients import Ledger, recipients_rejected

Conclusion: TypeAlias = SendResult | SmtpError
"""What a transaction, or several for one message, came to."""
BROKEN: Final = (Timeout, ConnectionLost, ProtocolError, ServiceUnavailable)
"""What ends the connection, whatever it was in the middle of."""

_MAIL: Final = Stage.MAIL
_RCPT: Final = Stage.RCPT
_DATA: Final = Stage.DATA
_FINAL: Final = Stage.FINAL
_REFUSALS: Final[Mapping[Stage, tuple[type[SmtpError], str]]] = {
    _MAIL: (SenderRejected, "the reverse-path was refused"),
    _DATA: (DataRejected, "DATA was refused"),
    Stage.CONTENT: (DataRejected, "the content was refused while it was written"),
    _FINAL: (DataRejected, "the message was refused"),
}
"""The errors for one reply that refuses the message for all."""
_DEMANDS: Final[Mapping[str, tuple[type[SmtpError], str]]] = {
    "tls": (TlsError, "the server demands TLS first (RFC 3207 4)"),
    "login": (AuthenticationError, "the server demands AUTH (RFC 4954 6)"),
    "": (AuthenticationError, "the server demands a log-in, or TLS (RFC 4954 6, RFC 3207 4)"),
}
"""What 530 says: its enhanced code is 5.7.0 for both."""


class Account:
    """What was said in one transaction by now: the replies, and whether the end of data was written."""

    __slots__ = ("committed", "data", "early", "finals", "lmtp", "mail", "rcpts", "recipients", "stage")

    def __init__(
        self,
        recipients: Sequence[str],
        *,
        lmtp: bool,
        mail: Reply | None = None,
        rcpts: Sequence[Reply] = (),
        data: Reply | None = None,
        early: Reply | None = None,
        finals: Sequence[Reply] = (),
        committed: bool = False,
        stage: Stage = _MAIL,
    ) -> None:
        self.recipients: Sequence[str] = recipients
        self.lmtp: bool = lmtp
        self.mail: Reply | None = mail
        """The reply that refused MAIL."""
        self.rcpts: Sequence[Reply] = rcpts
        self.data: Reply | None = data
        self.early: Reply | None = early
        """The refusal that came before all of the content was written."""
        self.finals: Sequence[Reply] = finals
        self.committed: bool = committed
        """The write with the last octet of the content has begun."""
        self.stage: Stage = stage
        """What the next reply answers, or what is being done."""

    @property
    def accepted_count(self) -> int:
        """Recipients that were accepted by RCPT."""
        return sum(reply.is_positive for reply in self.rcpts)

    def ledger(self) -> Ledger:
        """What the replies say of each recipient by now; they are matched by position.

        Whoever was not refused is in doubt once the end of data was written, until
        there is a final reply; under LMTP each has one of their own (RFC 2033 4.2).
        """
        is_taken = not self.lmtp and bool(self.finals) and self.finals[0].is_positive
        ledger = Ledger(self.recipients)
        finals = iter(self.finals) if self.lmtp else repeat(self.finals[0] if is_taken else None)
        # Behind a refused MAIL the replies to RCPT say nothing about the recipients.
        for place, rcpt in enumerate(self.rcpts if self.mail is None else ()):
            if not rcpt.is_positive:
                ledger.refuse(place, rcpt, _RCPT)
            elif (final := next(finals, None)) is not None:
                if final.is_positive:
                    ledger.enter(place, final)
                else:
                    ledger.refuse(place, final, _FINAL)
        if (refusal := self._refused_by()) is not None:
            if refusal[0].code != 421:  # which refuses nobody: they are unsent
                ledger.refuse_rest(*refusal)
        elif self.committed:
            # Also whose RCPT has no reply yet: a chunk can be on its way before that.
            ledger.doubt_rest()
        return ledger

    def _refused_by(self) -> tuple[Reply, Stage] | None:
        """The reply that refuses all who were not refused before it, and what it answers."""
        if self.mail is not None:
            return self.mail, _MAIL
        if len(self.rcpts) == len(self.recipients) and not self.accepted_count:
            return None
        if self.early is not None:
            return self.early, Stage.CONTENT
        if self.data is not None and self.data.code >= 400:
            return self.data, _DATA
        is_final = bool(self.finals) and not (self.lmtp or self.finals[0].is_positive)
        return (self.finals[0], _FINAL) if is_final else None

    # -- what it amounts to -----------------------------------------------------

    def verdict(self, broken: SmtpError | None = None) -> SendResult | SmtpError:
        """The result after the final replies, or the error that they amount to.

        What was said before the transaction was ``broken`` outranks that.
        """
        ledger = self.ledger()
        if not ledger.accepted_count and self._refused_by() is not None:
            return self.refusal()
        if broken is not None and broken.stage is not Stage.INPUT:
            broken.stage = self.stage
        return ledger.outcome(broken)

    def refusal(self) -> SmtpError:
        """The error by which the message is refused for all; also for some, if all or nothing was asked."""
        ledger = self.ledger()
        reply, stage = self._refused_by() or (None, _RCPT)
        if reply is None:
            return ledger.on(recipients_rejected(ledger.rejected, len(self.recipients)))
        if reply.code == 421:
            return ledger.on(shutdown(reply, self.stage))
        kind, text = _REFUSALS[stage]
        if reply.code == 530:
            kind, text = _DEMANDS[cures.demand_of(reply)]
        return ledger.on(kind(text, stage=stage, reply=reply))


def shutdown(reply: Reply, stage: Stage) -> ServiceUnavailable:
    """The error for a 421: whoever was not refused by then was not sent to."""
    text = "the server is closing the connection (RFC 5321 3.8)"
    return ServiceUnavailable(text, stage=stage, reply=reply)


def content_raised(cause: BaseException | None, stage: Stage) -> InputError:
    """The error where the caller's content raised something of its own."""
    error = InputError("the content could not be read", stage=stage)
    error.__cause__ = cause
    return error


def are_refusals(replies: Iterable[Reply | None]) -> bool:
    """Whether each of them is there and refuses."""
    return all(reply is not None and reply.code >= 400 for reply in replies)
