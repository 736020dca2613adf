"""The replies of one transaction, and what they mean for each of its recipients.

The commit rule: nothing is in doubt until the write with the last octet of the
content starts; from then until its reply is read, delivery is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Final

from .. import cures
from ..errors import (
    AuthenticationError,
    DataRejected,
    InputError,
    ProtocolError,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    TlsError,
)
from ..wire.limits import MAX_RCPT_REPLIES, Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .recipients import Ledger, recipients_rejected

_MAIL: Final = Stage.MAIL
_RCPT: Final = Stage.RCPT
_DATA: Final = Stage.DATA
_FINAL: Final = Stage.FINAL
_ENVELOPE: Final = (_MAIL, _RCPT, _DATA)
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
    """The replies of one transaction, in order, and whether the end of data was written."""

    __slots__ = (
        "_octets",
        "accepted_count",
        "committed",
        "data",
        "early",
        "finals",
        "lmtp",
        "mail",
        "mail_refused",
        "over",
        "rcpts",
        "recipients",
        "shut",
        "stage",
        "surplus",
    )

    def __init__(self, recipients: Sequence[str], *, lmtp: bool) -> None:
        self.recipients = recipients
        self.lmtp = lmtp
        self.mail: Reply | None = None
        self.mail_refused = False
        """MAIL was answered, and not by 2xx."""
        self.rcpts: list[Reply] = []
        self.accepted_count = 0
        self.data: Reply | None = None
        self.early: Reply | None = None
        """The refusal that came before all of the content was written."""
        self.finals: list[Reply] = []
        self.committed = False
        self.shut: Reply | None = None
        """A 421 among the final replies."""
        self.over = False
        """The final replies stand, and the connection is not in step behind them."""
        self.surplus: Reply | None = None
        """A reply that came behind the last one which was owed."""
        self._octets = 0
        self.stage = _MAIL
        """What the next reply answers, or what is being done."""

    def note(self, reply: Reply) -> None:
        """Write down the reply to MAIL, to the next RCPT or to DATA, as ``stage`` says, and move that on.

        Raises ``ServiceUnavailable`` for 421 and ``ProtocolError`` for what is
        neither acceptance nor refusal; any 2xx is acceptance (RFC 5321 4.2.1).
        """
        stage, is_positive = self.stage, reply.code < 300
        if not is_positive:
            self._check(reply, stage)
        if stage is _DATA:
            self.data = reply
        elif stage is _MAIL:
            self.mail = reply
            self.mail_refused = not is_positive
            self.stage = _RCPT
        else:
            self.rcpts.append(reply)
            self.accepted_count += is_positive
            if len(self.rcpts) == len(self.recipients):
                self.stage = _DATA
            for line in reply.lines:
                self._octets += len(line)
            if self._octets > MAX_RCPT_REPLIES:
                raise ProtocolError("the replies to RCPT are out of all proportion", stage=stage)

    def _check(self, reply: Reply, stage: Stage) -> None:
        if reply.code == 421:
            raise self.shutdown(reply)
        if reply.code < 400 and stage is not _DATA:
            raise ProtocolError(f"{reply.code} is no answer to {stage.upper()}", stage=stage, reply=reply)

    def commit(self) -> None:
        """The write that holds the last octet of the content begins now."""
        self.stage = _FINAL
        self.committed = True

    def note_doubt(self, error: BaseException) -> None:
        """Say on an error that is not ours what it leaves in doubt."""
        if self.committed and not isinstance(error, SmtpError):
            error.add_note("the end of data had been written: the message was perhaps delivered")

    def retract(self) -> None:
        """That write did not begin after all."""
        self.stage = Stage.CONTENT
        self.committed = False

    # -- what was said so far -------------------------------------------------

    @property
    def goes_ahead(self) -> bool:
        """DATA was answered, and 354 is the only good answer (RFC 5321 4.1.1.4)."""
        return self.data is not None and self.data.code == 354

    @property
    def all_refused(self) -> bool:
        """Every RCPT was answered, and none accepted."""
        return not self.accepted_count and len(self.rcpts) == len(self.recipients)

    @property
    def is_refused(self) -> bool:
        """Some reply refused the message for somebody who could have had it, or for everybody."""
        return self.mail_refused or self.all_refused or not all(reply.is_positive for reply in self.finals)

    @property
    def has_refusal(self) -> bool:
        """Any reply is something else than an acceptance."""
        return self.is_refused or self.accepted_count < len(self.rcpts)

    def ledger(self) -> Ledger:
        """What the replies say of each recipient by now; they are matched by position.

        Whoever was not refused is in doubt once the end of data was written, until
        there is a final reply; under LMTP each has one of their own (RFC 2033 4.2).
        """
        is_taken = not self.lmtp and bool(self.finals) and self.finals[0].code < 300
        if is_taken and self.accepted_count == len(self.recipients):
            return Ledger(self.recipients, self.finals[0])
        ledger = Ledger(self.recipients)
        finals = iter(self.finals) if self.lmtp else repeat(self.finals[0] if is_taken else None)
        # Behind a refused MAIL the replies to RCPT say nothing about the recipients.
        for place, rcpt in enumerate([] if self.mail_refused else self.rcpts):
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
        if self.mail is not None and self.mail_refused:
            return self.mail, _MAIL
        if self.all_refused:
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
            return ledger.on(self.shutdown(reply))
        kind, text = _REFUSALS[stage]
        if reply.code == 530:
            kind, text = _DEMANDS[cures.demand_of(reply)]
        return ledger.on(kind(text, stage=stage, reply=reply))

    def shutdown(self, reply: Reply) -> ServiceUnavailable:
        """The error for a 421: whoever was not refused by then was not sent to."""
        text = "the server is closing the connection (RFC 5321 3.8)"
        return ServiceUnavailable(text, stage=self.stage, reply=reply)

    def doubt(self, surplus: tuple[Reply, Reply | None] | None = None, *, is_alone: bool = False) -> None:
        """A reply too many was read: from the first place where it can have been on, nothing is certain.

        A command that ``is_alone`` was written into silence: what was answered before stands, and if
        both replies refuse it, it was refused. 354 stands for all before it: only DATA has that answer.
        """
        if self.committed:
            self.finals.clear()
        elif is_alone and surplus is not None and are_refusals(surplus) and self.stage in _ENVELOPE:
            self.note(surplus[0])
        if not (is_alone or self.goes_ahead):
            self.rcpts.clear()
            self.accepted_count = 0
            self.mail_refused = False
            self.early = None
            if self.data is not None and self.data.code >= 400:
                self.data = None

    def content_raised(self, cause: BaseException | None) -> InputError:
        """The error where the caller's content raised something of its own."""
        error = InputError("the content could not be read", stage=self.stage)
        error.__cause__ = cause
        return error


def are_refusals(replies: Iterable[Reply | None]) -> bool:
    """Whether each of them is there and refuses."""
    return all(reply is not None and reply.code >= 400 for reply in replies)
