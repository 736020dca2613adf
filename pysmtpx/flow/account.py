"""What is known about each recipient of one transaction, and what follows from it.

The commit rule: nothing is in doubt until the write with the last octet of the
content starts; from then until its reply is read, delivery is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Final, TypeVar

from ..errors import (
    AllRecipientsFailed,
    AuthenticationError,
    DataRejected,
    DeliveryUnknown,
    InputError,
    ProtocolError,
    RecipientsRejected,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
)
from ..wire.limits import MAX_RCPT_REPLIES, Stage
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient, SendResult

_E = TypeVar("_E", bound=SmtpError)

_MAIL: Final = Stage.MAIL
_RCPT: Final = Stage.RCPT
_DATA: Final = Stage.DATA
_FINAL: Final = Stage.FINAL
_ENVELOPE: Final = (_MAIL, _RCPT, _DATA)


class Account:
    """The replies of one transaction, in order, and whether the end of data was written."""

    __slots__ = (
        "_octets",
        "accepted_count",
        "committed",
        "data",
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

    def __init__(self, recipients: tuple[str, ...], *, lmtp: bool) -> None:
        self.recipients = recipients
        self.lmtp = lmtp
        self.mail: Reply | None = None
        self.mail_refused = False
        """MAIL was answered, and not by 2xx."""
        self.rcpts: list[Reply] = []
        self.accepted_count = 0
        self.data: Reply | None = None
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
    def accepted(self) -> tuple[str, ...]:
        """Recipients whose RCPT was accepted."""
        if self.accepted_count == len(self.recipients):
            return self.recipients
        rows = zip(self.recipients, self.rcpts, strict=False)
        return tuple(path for path, reply in rows if reply.is_positive)

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
        rcpts_are_accepted = self.accepted_count == len(self.rcpts)
        return self.mail_refused or not rcpts_are_accepted or not all(r.is_positive for r in self.finals)

    # -- what it amounts to -----------------------------------------------------

    def verdict(self) -> SendResult | SmtpError:
        """The result after the final replies, or the error that they amount to."""
        if self.mail_refused:
            return self.sender_refused()
        if not self.accepted_count:
            return self.nobody()
        accepted = self.accepted
        if not self.lmtp:
            final = self.finals[0]
            if not final.is_positive:
                return self.refusal(DataRejected, final, "the message was refused")
            return SendResult(accepted, self._rejections(), final, (final,) * len(accepted))
        if len(self.finals) < len(accepted):
            return self.unknown("421 came before every recipient had its reply (RFC 2033 4.2)")
        good = [(p, r) for p, r in zip(accepted, self.finals, strict=True) if r.is_positive]
        if not good:
            return self.nobody(Stage.FINAL)
        paths, replies = zip(*good, strict=True)
        return SendResult(paths, self._rejections(), replies[-1], replies)

    def refusal(self, kind: type[SmtpError], reply: Reply, text: str) -> SmtpError:
        """An error by which one reply refuses all who were not refused before it."""
        error: SmtpError
        if reply.code == 421:
            return self.shutdown(reply)
        if reply.code == 530:
            error = AuthenticationError("the server demands AUTH (RFC 4954 6)", stage=self.stage, reply=reply)
        else:
            error = kind(text, stage=self.stage, reply=reply)
        # Behind a refused MAIL the replies to RCPT say nothing about the recipients.
        before = [] if self.mail_refused else self.rcpts
        error.rejected_recipients = tuple(
            RejectedRecipient(path, reply, self.stage)
            if earlier is None or earlier.is_positive
            else RejectedRecipient(path, earlier, Stage.RCPT)
            for path, earlier in zip_longest(self.recipients, before)
        )
        return error

    def sender_refused(self) -> SmtpError:
        """The error for a refused MAIL; replies to RCPT after it mean nothing."""
        assert self.mail is not None
        self.stage = Stage.MAIL
        return self.refusal(SenderRejected, self.mail, "the reverse-path was refused")

    def nobody(self, stage: Stage = Stage.RCPT) -> RecipientsRejected:
        """The error where refused recipients keep the message from being sent or delivered."""
        rejections = self._rejections()
        kind = AllRecipientsFailed if len(rejections) == len(self.recipients) else RecipientsRejected
        error = kind(len(self.recipients), [r.reply for r in rejections], stage=stage)
        if stage is Stage.RCPT:
            return self._unsent(error)
        error.rejected_recipients = rejections
        return error

    def shutdown(self, reply: Reply) -> ServiceUnavailable:
        """The error for a 421: whoever was not refused by then was not sent to."""
        error = ServiceUnavailable(
            "the server is closing the connection (RFC 5321 3.8)", stage=self.stage, reply=reply
        )
        return self._unsent(error)

    def broken(self, error: SmtpError) -> SmtpError:
        """What a loss, timeout or breach amounts to here: what was said before it outranks it."""
        if self.mail_refused:
            return self.sender_refused()
        if self.all_refused:
            return self.nobody()
        if self.committed:
            return self.unknown("the end of data was written and no valid reply came")
        if self.data is not None and self.data.code >= 400:
            return self.refusal(DataRejected, self.data, "DATA was refused")
        if error.stage is not Stage.INPUT:
            error.stage = self.stage
        return self._unsent(error)

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
            if self.data is not None and self.data.code >= 400:
                self.data = None

    def content_failed(self, error: Exception) -> None:
        """Account for the recipients where the caller's content could not be sent to its end."""
        if isinstance(error, SmtpError) and not error.rejected_recipients:
            error.stage = self.stage
            self._unsent(error)

    def content_raised(self, cause: BaseException | None) -> InputError:
        """The error where the caller's content raised something of its own."""
        error = InputError("the content could not be read", stage=self.stage)
        error.__cause__ = cause
        return error

    def unknown(self, text: str) -> DeliveryUnknown:
        """The error where the end of data was written and a reply is missing."""
        # Whose RCPT has no reply yet may have been accepted (a chunk can be on its way before that).
        accepted = self.accepted + self.recipients[len(self.rcpts) :]
        error = DeliveryUnknown(text, stage=Stage.FINAL)
        answered = list(zip(accepted, self.finals, strict=False))
        error.accepted_recipients = tuple(path for path, reply in answered if reply.is_positive)
        error.accepted_replies = tuple(reply for _, reply in answered if reply.is_positive)
        error.unknown_recipients = accepted[len(answered) :]
        error.rejected_recipients = self._rejections()
        return error

    def _unsent(self, error: _E) -> _E:
        error.rejected_recipients = self._rejections()
        error.unsent_recipients = tuple(
            path
            for i, path in enumerate(self.recipients)
            if i >= len(self.rcpts) or self.rcpts[i].is_positive
        )
        return error

    def _rejections(self) -> tuple[RejectedRecipient, ...]:
        """Refused at RCPT or, under LMTP, after the content; in the caller's order.

        Replies are matched by position: an address may stand twice.
        """
        if not self.lmtp and self.accepted_count == len(self.rcpts):
            return ()
        finals = iter(self.finals if self.lmtp else ())
        rejections = []
        for path, reply in zip(self.recipients, self.rcpts, strict=False):
            if not reply.is_positive:
                rejections.append(RejectedRecipient(path, reply, Stage.RCPT))
            elif (final := next(finals, None)) is not None and not final.is_positive:
                rejections.append(RejectedRecipient(path, final, Stage.FINAL))
        return tuple(rejections)


def are_refusals(replies: Iterable[Reply | None]) -> bool:
    """Whether each of them is there and refuses."""
    return all(reply is not None and reply.code >= 400 for reply in replies)
