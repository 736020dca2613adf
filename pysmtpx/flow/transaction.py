"""One mail transaction: MAIL, RCPT, and the content by DATA or BDAT (RFC 5321 3.3).

Sequential or pipelined, DATA or BDAT, SMTP or LMTP are parameters of this one
conversation: how many commands may be unanswered, how the content ends, how many
final replies come. It is in two parts, so that messages can share a write: ``begin``
has the envelope answered, and ``end`` writes the content, its last octets alone or
together with the envelope of the next transaction (RFC 2920 3.1), and hears the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import (
    ConnectionLost,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    shifted,
)
from ..wire import command
from ..wire.limits import FURTHER_FINALS_LIMIT, OVERLAP_LIMIT, Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import Account, are_refusals
from .body import ContentFailed, by_bdat, by_data, early
from .effects import CLOSE, LAST, MORE, TOO_LATE, WITHHELD, Flow, Hear, Send, Transcribe, Until
from .plan import Plan
from .recipients import Ledger

Fate: TypeAlias = SendResult | SmtpError

_E = TypeVar("_E", bound=SmtpError)

# Bound once: on Python 3.11 to look up a member of an enumeration takes longer than what is done with it.
_DATA: Final = Stage.DATA
_FINAL: Final = Stage.FINAL
_NOTHING: Final = (WITHHELD, TOO_LATE)

BROKEN: Final = (Timeout, ConnectionLost, ProtocolError, ServiceUnavailable)
"""What ends the connection, whatever it was in the middle of."""
OUT_OF_STEP: Final = (500, 501, 502, 503)
"""Replies of a server that does not know where it is, or where we are (RFC 5321 4.2.2)."""


class Transaction:
    """One transaction: what is still to be written of it, and what became of its message.

    ``begin`` and ``end`` raise no ``SmtpError``: it keeps what became of it as its ``fate``.
    """

    __slots__ = (
        "account",
        "cause",
        "closed",
        "conclude",
        "deadline",
        "failure",
        "fate",
        "is_due",
        "is_told",
        "overlapped",
        "plan",
        "shown",
        "tell",
        "token",
        "trouble",
        "verdict",
    )

    def __init__(self, plan: Plan, account: Account, deadline: Any = None) -> None:
        self.plan = plan
        self.account = account
        self.deadline = deadline
        """The ``Deadline`` of its message, if it has one of its own."""
        self.token: Any = None
        self.is_due = False
        """Its content, or what brings the session back into step behind a refusal, is still to be written."""
        self.shown = b""
        """The command by which the session is brought back into step."""
        self.fate: Fate | None = None
        """What became of the message; None while that is open."""
        self.verdict: Fate | None = None
        """What its replies say, as long as none was too many."""
        self.closed = False
        """The connection is not to be used any more."""
        self.cause: SmtpError | None = None
        """What broke the connection."""
        self.failure: BaseException | None = None
        """What the caller's content raised, where it is none of our errors."""
        self.conclude: Callable[[Fate], Fate] | None = None
        """Makes of this transaction's fate that of a message which had several."""
        self.tell: Callable[[BaseException], None] | None = None
        """Says on an error that is not ours what transactions before this one came to."""
        self.is_told = False
        self.overlapped = False
        """Its envelope went behind another's end of data, or another's behind its own."""
        self.trouble = False
        """The server is known to have broken on that."""

    def run(self) -> Flow[SendResult]:
        """All of it, alone on the line. Raises the error that it came to."""
        yield from self.begin()
        yield from self.end()
        return self.value()

    # -- the envelope -----------------------------------------------------------------

    def begin(self, before: Transaction | None = None, *, is_idle: bool = False) -> Flow[Transaction]:
        """Write the envelope and hear what answers it; the transaction itself.

        The end of the transaction ``before`` shares its write. What became of that is
        certain once this envelope is answered and nothing is left over: its own answer
        can have been one too many. ``is_idle``: the line has been so since it was last
        looked at.
        """
        plan, account = self.plan, self.account
        lines = plan.commands
        count, window = len(lines), plan.window
        limit: float | None = None
        try:
            data = b"".join(lines[:window])
            if before is not None:
                self.overlapped, limit = True, OVERLAP_LIMIT
                yield from self._behind(before, data)
            elif is_idle:
                yield from _say(account, data)
            else:
                yield Send(data)
            plan.mail.content.prepare()
            if count <= window:
                yield Hear(account, count, True, limit)
            else:
                yield from self._rest(lines, limit)
            needed = len(account.recipients) if plan.options.all_or_nothing else 1
            is_refused = account.mail_refused or account.accepted_count < needed
            if not (is_refused or plan.options.bdat or account.goes_ahead):
                is_refused = yield from self._is_refused_at_data()
            if is_refused:
                yield from self._refuse(account.refusal())
            else:
                self.is_due = True
            if before is not None:
                before.settle()
        except BROKEN as error:
            yield CLOSE
            if before is not None:
                before.settle(error)
            self.broken(error)
        return self

    def _rest(self, lines: tuple[bytes, ...], limit: float | None) -> Flow[None]:
        """Hear the answers to an envelope that is longer than the window, and write the rest of it meanwhile.

        Every reply that is owed is read before any is judged (RFC 2920 3.1). With a
        window of 1 this is the sequential path: nothing is sent on a refused MAIL,
        and no DATA where nobody was accepted.
        """
        account, window = self.account, self.plan.window
        count, sent, read = len(lines), window, 0
        batch = lines[:window]
        while batch or read < sent:
            # Refill when half the window is free, so that the line never runs dry.
            floor = sent if not batch or sent == count else sent - window // 2
            if floor > read:
                yield Hear(account, floor - read, floor == sent, limit)
                read, limit = floor, None
            # Where all are refused only DATA can be left, and nobody is there to have the content.
            is_over = account.mail_refused or account.all_refused
            batch = () if is_over else lines[sent : read + window]
            if batch:
                if read == sent:
                    yield from _say(account, b"".join(batch))
                else:
                    yield Send(b"".join(batch))
                sent += len(batch)

    def _behind(self, before: Transaction, data: bytes) -> Flow[None]:
        """The end of the transaction before, and this envelope behind it in the same write."""
        before.overlapped = True
        yield from before.end(data)
        if before.closed:
            before.settle()
            raise before.overtaken(written=before.account.committed or before.shown == command.RSET)
        if isinstance(before.verdict, SmtpError):
            yield Transcribe(before.verdict)
        yield Until(self.deadline)

    def _is_refused_at_data(self) -> Flow[bool]:
        """DATA, unless it went with the envelope; whether it was refused (RFC 5321 4.1.1.4)."""
        account = self.account
        account.stage = _DATA
        if is_alone := account.data is None:
            yield from _say(account, command.DATA)
            account.note((yield LAST[_DATA]))
        reply = account.data
        assert reply is not None
        if reply.code < 400 and reply.code != 354:
            # A server that answers 250 would read the content as commands.
            raise _no_go_ahead(reply, is_alone=is_alone)
        return reply.code != 354

    def _refuse(self, refusal: SmtpError) -> Flow[None]:
        """A refusal of the envelope or of DATA, and what leaves the session in step.

        Where DATA was answered by 354 although nothing will be sent, that is the
        end of an empty message (RFC 2920 3.1). Where a recipient was accepted that
        could be delivered to it, and an LMTP server without recipients may answer
        nothing at all (RFC 2033 4.2): both leave only closing, as does any other
        answer that is no refusal.
        """
        account = self.account
        if account.data is not None and account.data.code < 300:
            raise _no_go_ahead(account.data, is_alone=False)
        self.fate = self.verdict = refusal
        if account.data is None or account.data.code >= 400:
            self.shown, self.is_due = command.RSET, True
        elif account.accepted_count or account.lmtp or account.data.code != 354:
            self.closed = True
            yield CLOSE
        else:
            self.shown, self.is_due = command.END_OF_DATA, True

    # -- its end ----------------------------------------------------------------------

    def end(self, envelope: bytes = b"") -> Flow[None]:
        """Write what is due, with an envelope behind its last octets, and hear what answers it."""
        if not self.is_due:
            return
        account, is_last = self.account, not envelope
        try:
            if self.fate is not None:
                yield from self._step(envelope)
            else:
                yield from self._content(envelope)
                yield from finals(account, more=not is_last)
                self.heard(is_certain=is_last)
        except BROKEN as error:
            self.broken(error)
        except SmtpError as error:
            self.failed(error)
        except ContentFailed as error:
            self.failure = error.__cause__
            self.failed(account.content_raised(self.failure))
        except BaseException as error:
            account.note_doubt(error)
            if self.tell is not None:
                self.tell(error)
            raise
        self.is_due = False
        if self.closed:
            yield CLOSE

    def _content(self, envelope: bytes) -> Flow[None]:
        """The content; its last octets and the envelope behind them in one write."""
        plan, account = self.plan, self.account
        bdat = plan.options.bdat
        pieces, shown = yield from by_bdat(plan, account) if bdat else by_data(plan, account)
        account.commit()
        # In doubt from here on, unless bad news or the deadline came before its last octet.
        effect = Send(b"".join((*pieces, envelope)), shown + envelope, guard=True, commits=True)
        written = yield effect
        if written in _NOTHING or effect.short > len(envelope):
            account.retract()
            if written == TOO_LATE:
                raise Timeout("too little time is left for the server's answer to the end of data")
            is_first = bdat and bool(shown)
            yield from early(account, is_begun=not is_first or written != WITHHELD)

    def _step(self, envelope: bytes) -> Flow[None]:
        """Bring the session back into step, unless a reply is there that was one too many.

        RSET is answered by 250, an empty message by anything.
        """
        is_reset = self.shown == command.RSET
        if (yield Send(self.shown + envelope, guard=self.is_shiftable)) == WITHHELD:
            early_reply: Reply = yield MORE[Stage.RSET]
            if early_reply.code == 421:
                raise self.account.shutdown(early_reply)
            raise shifted("the server spoke without being asked", Stage.RSET, early_reply)
        reply: Reply = yield (MORE if envelope else LAST)[Stage.RSET if is_reset else _DATA]
        if reply.code == 354:
            # It is the answer to DATA, so what was read as that answers a RCPT, behind a reply too many.
            raise shifted("354 is no answer to RSET", Stage.RSET, reply)
        self.closed = reply.code == 421 or (is_reset and reply.code != 250)

    # -- what it came to --------------------------------------------------------------

    def heard(self, *, is_certain: bool) -> None:
        """The final replies are there; not ``is_certain`` while more may show that one was too many."""
        account = self.account
        # A server that refuses a chunk and does not swallow it reads content as commands.
        is_over = account.over or account.shut is not None
        self.closed = is_over or (self.plan.options.bdat and account.is_refused)
        self.verdict = account.verdict()
        if is_certain or self.closed:
            self.settle()

    def settle(self, error: SmtpError | None = None) -> None:
        """What was heard stands, now that the envelope behind it was answered, or broke by this error."""
        is_shift = isinstance(error, ProtocolError) and (error.surplus or error.reply) is not None
        if isinstance(error, ProtocolError) and is_shift and not self.closed:
            doubt = anew(error)
            if error.reply is not None and error.surplus is None:
                doubt.surplus = (error.reply, None)  # a reply out of place is at another's
            self.broken(doubt)
        if self.fate is None and self.verdict is not None:
            self._settle(self.verdict)

    def broken(self, error: SmtpError) -> None:
        """The connection broke; a fate that is known stands."""
        self.closed = True
        self.cause = error
        surplus = error.surplus if isinstance(error, ProtocolError) else None
        if surplus is not None and self.is_shiftable:
            self.fate = None
        self.is_due = False
        if self.fate is None:
            # 354 came where it was due: nothing before it was shifted.
            is_behind = self.overlapped and not (self.account.committed or self.account.goes_ahead)
            if is_behind:
                self.account.doubt()
            elif surplus is not None:
                self.account.doubt(surplus, is_alone=self.plan.window == 1)
            verdict = self.account.verdict(error)
            if isinstance(verdict, SmtpError) and verdict is not error:
                verdict.__cause__ = error
            self._settle(verdict)

    def failed(self, error: SmtpError) -> None:
        """The content was refused, or could not be read, half-way: only closing takes it back."""
        self.closed = True
        self.is_due = False
        error.stage = self.account.stage
        self._settle(self.account.verdict(error))

    def _settle(self, fate: Fate) -> None:
        self.fate = fate if self.conclude is None else self.conclude(fate)

    def overtaken(self, *, written: bool) -> SmtpError:
        """What the end of this connection means for a message that was next on it."""
        error: SmtpError
        if self.cause is not None:
            error = anew(self.cause)
            error.__cause__ = self.cause
        elif self.account.shut is not None:
            error = ServiceUnavailable("the server is closing the connection", reply=self.account.shut)
        else:
            error = ConnectionLost("the connection was closed behind the message before")
        error.stage = Stage.MAIL if written else Stage.INPUT
        return error

    @property
    def has_trouble(self) -> bool:
        """Whether the connection broke, or the end of data was out of step, where envelopes overlapped."""
        if self.trouble or not self.overlapped:
            return self.trouble
        final = self.account.finals[0] if self.account.finals else None
        return isinstance(self.cause, Timeout | ConnectionLost | ProtocolError) or (
            final is not None and final.code in OUT_OF_STEP
        )

    @property
    def is_shiftable(self) -> bool:
        """It was refused, and a reply too many may have passed for that, since commands went together.

        That shows by the answer to RSET at the latest, so the message is not told before.
        """
        return self.plan.window > 1 and self.shown == command.RSET

    @property
    def is_out_of_step(self) -> bool:
        """The envelope was refused as out of step, as by a server that hears none behind an end of data.

        Nothing of the content was written, and the session is in step.
        """
        account = self.account
        replies = [] if account.mail is None else [account.mail, *account.rcpts]
        return (
            self.overlapped
            and not (self.closed or account.accepted_count)
            and any(reply.code in OUT_OF_STEP for reply in replies)
        )

    def value(self) -> SendResult:
        """The result; raises the error where that is what it came to, or what the content raised."""
        if self.failure is not None:
            if self.tell is not None:
                self.tell(self.failure)
            raise self.failure
        if isinstance(self.fate, SendResult):
            return self.fate
        assert self.fate is not None
        raise self.fate


def finals(account: Account, *, more: bool = False) -> Flow[None]:
    """One reply, or under LMTP one for each accepted recipient, in order (RFC 2033 4.2)."""
    owed = (account.accepted_count or 1) if account.lmtp else 1
    for index in range(owed):
        effect = (MORE if more or index + 1 < owed else LAST)[_FINAL]
        if index and all(final.is_permanent for final in account.finals):
            effect = replace(effect, limit=FURTHER_FINALS_LIMIT)
        try:
            reply: Reply = yield effect
        except ProtocolError as error:
            if error.surplus is None or not are_refusals((*account.finals, *error.surplus)):
                raise
            # Whichever of them answer the content, it was refused for everybody (FAULTS 120).
            (reply, account.surplus), account.over = error.surplus, True
        except Timeout:
            if not (index and all(_is_about_size(final) for final in account.finals)):
                raise
            # Cyrus and others refuse a content that is too large once, for all (FAULTS 119). What another
            # refusal means for those who have no reply is not known.
            account.finals += [account.finals[0]] * (owed - index)
            account.over = True
            return
        code = reply.code
        if 300 <= code < 400:
            raise ProtocolError(f"{code} is no final reply", stage=_FINAL, reply=reply)
        if code == 421:
            account.shut = reply
            if account.lmtp:
                return  # not about this recipient: those without a reply are unknown
        account.finals.append(reply)


def _is_about_size(reply: Reply) -> bool:
    """Whether a refusal is about the size of the content, and so about everybody (RFC 3463 3.3, 3.4)."""
    enhanced = reply.enhanced
    if enhanced is None:
        return reply.code == 552
    return reply.is_permanent and (enhanced.subject, enhanced.detail) in ((2, 3), (3, 4))


def _say(account: Account, data: bytes) -> Flow[None]:
    """Commands at a time when no reply is owed: what is said unasked must not pass for their answer."""
    if (yield Send(data, guard=True)) == WITHHELD:
        reply: Reply = yield MORE[account.stage]
        if reply.code == 421:
            raise account.shutdown(reply)
        raise ProtocolError("the server spoke without being asked", stage=account.stage, reply=reply)


def _no_go_ahead(reply: Reply, *, is_alone: bool) -> ProtocolError:
    """The error for an answer to DATA that is neither 354 nor a refusal."""
    text = f"{reply.code} is no answer to DATA"
    if is_alone or reply.code >= 300:
        return ProtocolError(text, stage=_DATA, reply=reply)
    return shifted(text, _DATA, reply)  # it may answer a RCPT


def anew(error: _E) -> _E:
    """The same error for another message: who has the one it was about is not said of the other."""
    twin = copy(error)
    twin.__cause__ = error.__cause__
    twin.transcript = ()
    return Ledger(()).on(twin)
