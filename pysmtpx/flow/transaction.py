"""One mail transaction: MAIL, RCPT, and the content by DATA or BDAT (RFC 5321 3.3).

Sequential or pipelined, DATA or BDAT, SMTP or LMTP are parameters of this one
conversation: how many commands may be unanswered, how the content ends, how many
final replies come. It is in two parts, so that messages can share a write: ``begin``
has the envelope answered, and ``end`` writes the content, its last octets alone or
together with the envelope of the next transaction (RFC 2920 3.1), and hears the answer.

A message has as many transactions as the server's limit on recipients asks for. A
server takes at least 100 in one and may refuse more by 452 (RFC 5321 4.5.3.1.10), or
state its limit beforehand (RFC 9422 4.2). Those beyond it get a transaction of their
own on the same connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from ..errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout, shifted
from ..wire import command
from ..wire.limits import FURTHER_FINALS_LIMIT, MAX_RCPT_REPLIES, OVERLAP_LIMIT, Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import BROKEN, Account, Conclusion, are_refusals, content_raised, shutdown
from .batches import Batches
from .body import ContentFailed, Early, Pieces, by_bdat, by_data
from .effects import CLOSE, LAST, MORE, TOO_LATE, WITHHELD, Flow, Hear, Record, Send, Transcribe
from .plan import Plan, Recorder
from .recipients import Ledger

_E = TypeVar("_E", bound=SmtpError)

# Bound once: on Python 3.11 to look up a member of an enumeration takes longer than what is done with it.
_MAIL: Final = Stage.MAIL
_RCPT: Final = Stage.RCPT
_DATA: Final = Stage.DATA
_CONTENT: Final = Stage.CONTENT
_FINAL: Final = Stage.FINAL
_NOTHING: Final = (WITHHELD, TOO_LATE)
_USUAL: Final = 512
"""Octets of a reply to RCPT that count for nothing (RFC 5321 4.5.3.1.5)."""

OUT_OF_STEP: Final = (500, 501, 502, 503)
"""Replies of a server that does not know where it is, or where we are (RFC 5321 4.2.2)."""


def delivery(plan: Plan) -> Flow[SendResult]:
    """Send one mail object and return who was accepted, in all its transactions together.

    Raises ``SenderRejected``, ``RecipientsRejected``, ``AllRecipientsFailed``
    or ``DataRejected`` for a refusal, ``ServiceUnavailable`` for a 421,
    ``Timeout``, ``ConnectionLost`` or ``ProtocolError`` where the line broke
    before the end of data was written, and ``DeliveryUnknown`` after it.

    Where somebody was accepted before, and a further transaction for those
    refused by 452 fails without leaving a doubt, they stay refused by that 452.
    Any other failure after an acceptance names those who have the message in
    ``accepted_recipients``, and is not safe to retry. Content that can be read
    only once, and all-or-nothing, go in one transaction.

    Raises ``SessionLimitReached`` at once if the session has no room for it, later for those
    whom it has no room for.
    """
    if plan.allowance is not None and plan.is_unfit:
        raise plan.allowance.reached(plan.mail.recipients)
    return Transaction(plan).run() if plan.is_one_transaction else _delivered(plan)


def begin(
    plan: Plan, before: Transaction | None = None, deadline: Any = None, token: Any = None
) -> Flow[Transaction]:
    """The same up to the end of its last transaction, on a line that has been idle since it was looked at.

    The arguments are those of ``Transaction`` and of its ``begin``.
    """
    if plan.is_one_transaction:
        return Transaction(plan, deadline, token).begin(before, is_idle=True)
    return _several(plan, before, deadline, token, is_idle=True)


def _delivered(plan: Plan) -> Flow[SendResult]:
    transaction = yield from _several(plan, None, None, None, is_idle=False)
    yield from transaction.end()
    return transaction.value()


def _several(
    plan: Plan, before: Transaction | None, deadline: Any, token: Any, *, is_idle: bool
) -> Flow[Transaction]:
    batches = Batches(plan)
    try:
        while True:
            transaction = Transaction(batches.next(), deadline, token)
            yield from transaction.begin(before, is_idle=is_idle)
            if transaction.accepted_count == len(plan.mail.recipients):
                return transaction  # everybody is in this one, and nobody is owed another
            before, is_idle = None, False
            if transaction.is_shiftable:
                yield from transaction.end()
            transaction.belong_to(batches)
            # If it is open still and the last one, whoever comes next may share its last write.
            if transaction.fate is None and batches.is_owed_another(transaction.account()):
                yield from transaction.end()
            if transaction.fate is None or not batches.owed:
                return transaction
            yield from transaction.end()
    except BaseException as error:
        batches.tell(error)
        raise


class Transaction:
    """One transaction: what is still to be written of it, what was said, and what became of its message.

    ``begin`` and ``end`` raise no ``SmtpError``: it keeps what became of it as its ``fate``.
    """

    def __init__(self, plan: Plan, deadline: Any = None, token: Any = None) -> None:
        self.plan = plan
        self.recipients: tuple[str, ...] = plan.mail.recipients
        self.lmtp: bool = plan.lmtp
        self.deadline = deadline
        """The ``Deadline`` of its message, if it has one of its own."""
        self.token = token
        """By which whoever pushed its message knows it."""
        self.is_due: bool = False
        """Its content, or what brings the session back into step behind a refusal, is still to be written."""
        self.shown: bytes = b""
        """The command by which the session is brought back into step."""
        self.fate: Conclusion | None = None
        """What became of the message; None while that is open."""
        self.closed: bool = False
        """The connection is not to be used any more."""
        self.must_close: bool = False
        """As soon as what was written behind it is answered: a chunk of it was refused."""
        self.cause: SmtpError | None = None
        """What broke the connection."""
        self.failure: BaseException | None = None
        """What the caller's content raised, where it is none of our errors."""
        self.overlapped: bool = False
        """Its envelope went behind another's end of data, or another's behind its own."""
        self.standing: Conclusion | None = None
        """What its replies say, as long as none was too many."""
        self._batches: Batches | None = None
        """Of a message that has several, these make one fate of all."""
        self._is_told = self._trouble = False

        self.stage: Stage = _MAIL
        """What the next reply answers, or what is being done."""
        self.committed: bool = False
        """The write with the last octet of the content has begun."""
        self.mail: Reply | None = None
        self.mail_refused: bool = False
        """MAIL was answered, and not by 2xx."""
        self.rcpts: list[Reply] = []
        self.accepted_count: int = 0
        self._awaited = len(plan.mail.recipients)
        """Answers to RCPT that are still to come."""
        self._octets = 0
        """Of unusual replies to RCPT."""
        self.data: Reply | None = None
        self.early: Reply | None = None
        """The refusal that came before all of the content was written."""
        self.finals: list[Reply] = []
        self.shut: Reply | None = None
        """A 421 among the final replies."""
        self.over: bool = False
        """The final replies stand, and the connection is not in step behind them."""
        self.surplus: Reply | None = None
        """A reply that came behind the last one which was owed."""

    def run(self) -> Flow[SendResult]:
        """All of it, alone on the line. Raises the error that it came to."""
        yield from self.begin()
        yield from self.end()
        return self.value()

    def belong_to(self, batches: Batches) -> None:
        """Its message has several transactions: from now on its fate is that of all of them."""
        self._batches = batches
        if self.fate is not None:
            self._settle(self.fate)

    # -- what was said so far ---------------------------------------------------------

    def account(self) -> Account:
        """What it means for the recipients."""
        return Account(
            self.recipients,
            lmtp=self.lmtp,
            mail=self.mail if self.mail_refused else None,
            rcpts=self.rcpts,
            data=self.data,
            early=self.early,
            finals=self.finals,
            committed=self.committed,
            stage=self.stage,
        )

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

    # -- the envelope -----------------------------------------------------------------

    def note(self, replies: Sequence[Reply]) -> None:
        """Write down the replies to MAIL, to the next RCPTs and to DATA, as ``stage`` says, and move that on.

        Raises ``ServiceUnavailable`` for 421 and ``ProtocolError`` for what is
        neither acceptance nor refusal; any 2xx is acceptance (RFC 5321 4.2.1).
        """
        for reply in replies:
            stage, code = self.stage, reply.code
            is_positive = code < 300
            if code == 421:
                raise shutdown(reply, self.stage)
            if stage is _DATA:
                self.data = reply
            elif not is_positive and code < 400:
                raise ProtocolError(f"{code} is no answer to {stage.upper()}", stage=stage, reply=reply)
            elif stage is _MAIL:
                self.mail = reply
                self.mail_refused = not is_positive
                self.stage = _RCPT
            else:
                self.rcpts.append(reply)
                self.accepted_count += is_positive
                self._awaited -= 1
                if not self._awaited:
                    self.stage = _DATA
                if reply.lines[1:] or reply.lines[0][_USUAL:]:
                    self._weigh(reply)

    def _weigh(self, reply: Reply) -> None:
        """They are kept, as many as there are recipients."""
        self._octets += sum(map(len, reply.lines))
        if self._octets > MAX_RCPT_REPLIES:
            raise ProtocolError("the replies to RCPT are out of all proportion", stage=_RCPT)

    def begin(self, before: Transaction | None = None, *, is_idle: bool = False) -> Flow[Transaction]:
        """Write the envelope and hear what answers it; the transaction itself.

        The end of the transaction ``before`` shares its write. What became of that is
        certain once this envelope is answered and nothing is left over: its own answer
        can have been one too many. ``is_idle``: the line has been so since it was last
        looked at.
        """
        plan = self.plan
        # With all-or-nothing DATA never goes along: where a recipient is refused and it was answered
        # by 354, nothing but closing would keep an empty message from the others.
        has_data = not (plan.options.bdat or plan.options.all_or_nothing)
        lines = (*plan.envelope, command.DATA) if has_data else plan.envelope
        count, window = len(lines), plan.window
        limit: float | None = None
        try:
            data = b"".join(lines[:window])
            if plan.allowance is not None:
                plan.allowance.spend(self.recipients, 0, min(window, count))
            if before is not None:
                self.overlapped, limit = True, OVERLAP_LIMIT
                yield from before.end(data)
                if before.closed:
                    before.settle()
                    raise before.overtaken(written=before.committed or before.shown == command.RSET)
                if isinstance(before.standing, SmtpError):
                    yield Transcribe(before.standing)
                if before.must_close:
                    yield from self._behind_refused_chunk(before, min(window, count), limit)
            elif (yield Send(data, guard=is_idle)) == WITHHELD:
                yield from self._unasked()
            if plan.mail.content.plain is None:
                plan.mail.content.prepare()
            if count <= window:
                yield Hear(self, count, True, limit, before is not None, self.deadline)
            else:
                yield from self._rest(lines, limit)
            needed = len(self.recipients) if plan.options.all_or_nothing else 1
            is_refused = self.mail_refused or self.accepted_count < needed
            is_due = self.data is None or self.data.code != 354
            if is_due and not (is_refused or plan.options.bdat):
                is_refused = yield from self._is_refused_at_data()
            if is_refused:
                yield from self._refuse(self.account().refusal())
            else:
                self.is_due = True
            if before is not None:
                before.settle()
        except BROKEN as error:
            yield CLOSE
            if before is not None:
                if not before.closed:
                    reconsider((before,), before, error)
                before.settle()
            self.broken(error)
        return self

    def _behind_refused_chunk(self, before: Transaction, count: int, limit: float | None) -> Flow[None]:
        """Hear the answers to what was written of this envelope, of which nothing comes any more.

        With one of them too many the refusal was none of the content. That shows by QUIT, if not before: its
        answer is 221, and no other command's is (RFC 5321 4.2.3).
        """
        yield Hear(self, count, True, limit, True, self.deadline)
        yield Send(command.QUIT)
        reply: Reply = yield LAST[Stage.QUIT]
        if reply.code not in (221, 421):
            raise shifted(f"{reply.code} is no answer to QUIT", Stage.QUIT, reply)
        before.closed = True
        raise before.overtaken(written=True)

    def _rest(self, lines: tuple[bytes, ...], limit: float | None) -> Flow[None]:
        """Hear the answers to an envelope that is longer than the window, and write the rest of it meanwhile.

        Every reply that is owed is read before any is judged (RFC 2920 3.1). With a
        window of 1 this is the sequential path: nothing is sent on a refused MAIL,
        and no DATA where nobody was accepted.
        """
        window = self.plan.window
        count, sent, read = len(lines), window, 0
        batch = lines[:window]
        while batch or read < sent:
            # Refill when half the window is free, so that the line never runs dry.
            floor = sent if not batch or sent == count else sent - window // 2
            if floor > read:
                is_next = self.overlapped and not read
                yield Hear(self, floor - read, floor == sent, limit, is_next, self.deadline)
                read, limit = floor, None
            # Where all are refused only DATA can be left, and nobody is there to have the content.
            is_over = self.mail_refused or self.all_refused
            batch = () if is_over else lines[sent : read + window]
            if batch:
                if self.plan.allowance is not None:
                    self.plan.allowance.spend(self.recipients, sent, sent + len(batch))
                if (yield Send(b"".join(batch), guard=read == sent)) == WITHHELD and read == sent:
                    yield from self._unasked()
                sent += len(batch)

    def _unasked(self) -> Flow[None]:
        """Something is there and no reply is owed: it must not pass for the answer to the next command."""
        reply: Reply = yield MORE[self.stage]
        if reply.code == 421:
            raise shutdown(reply, self.stage)
        raise ProtocolError("the server spoke without being asked", stage=self.stage, reply=reply)

    def _is_refused_at_data(self) -> Flow[bool]:
        """DATA, unless it went with the envelope; whether it was refused (RFC 5321 4.1.1.4)."""
        self.stage = _DATA
        if is_alone := self.data is None:
            if (yield Send(command.DATA, guard=True)) == WITHHELD:
                yield from self._unasked()
            self.note(((yield LAST[_DATA]),))
        reply = self.data
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
        if self.data is not None and self.data.code < 300:
            raise _no_go_ahead(self.data, is_alone=False)
        self.fate = self.standing = refusal
        if self.data is None or self.data.code >= 400:
            self.shown, self.is_due = command.RSET, True
        elif self.accepted_count or self.lmtp or self.data.code != 354:
            self.closed = True
            yield CLOSE
        else:
            self.shown, self.is_due = command.END_OF_DATA, True

    # -- its end ----------------------------------------------------------------------

    def end(self, envelope: bytes = b"") -> Flow[None]:
        """Write what is due, with an envelope behind its last octets, and hear what answers it."""
        if not self.is_due:
            return
        plan, is_last = self.plan, not envelope
        if envelope:
            self.overlapped = True
        try:
            if self.fate is not None:
                yield from self._step(envelope)
            else:
                self.stage = _CONTENT
                plain = plan.mail.content.plain
                if plain is None or plan.options.bdat:
                    pieces, shown = yield from self._all_but_last()
                else:  # the usual case: nothing needs to be written before the last octets
                    pieces, shown = (plain, command.END_OF_DATA), b""
                if plan.recorder is not None:
                    yield from self._record(plan.recorder)
                self.commit()
                # In doubt from here on, unless bad news or the deadline came before its last octet.
                last = Send(b"".join((*pieces, envelope)), shown + envelope, guard=True, commits=True)
                written = yield last
                if written in _NOTHING or (last.short and last.short > len(envelope)):
                    raise (yield from self._not_all(written, shown))
                yield from self.hear_finals(more=not is_last)
                self.heard(is_certain=is_last)
        except BROKEN as error:
            self.broken(error)
        except SmtpError as error:
            self.failed(error)
        except ContentFailed as error:
            self.failure = error.__cause__
            self.failed(content_raised(self.failure, self.stage))
        except BaseException as error:
            self._note_doubt(error)
            raise
        self.is_due = False
        if self.closed:
            yield CLOSE

    def _all_but_last(self) -> Flow[tuple[Pieces, bytes]]:
        """Write the content; what is to go in the last write, and what of that is a command."""
        plan = self.plan
        stop: Early | None = None
        try:
            return (yield from by_bdat(plan) if plan.options.bdat else by_data(plan))
        except Early as early:
            stop = early
        raise (yield from self.stopped(stop))

    def _record(self, recorder: Recorder) -> Flow[None]:
        """Raises what it raised: nothing is in doubt, and only closing takes back what was written by now.

        Also whom RCPT refused, as far as one can tell: behind a reply too many it was another.
        """
        error: SmtpError | None = yield Record(partial(recorder, ((self.token, self.recipients),)))
        if error is not None:
            raise anew(error)

    def _not_all(self, written: int, shown: bytes) -> Flow[SmtpError]:
        """The last octet of the content was not written, so nothing is in doubt; the error that this is."""
        self.retract()
        if written == TOO_LATE:
            return Timeout("too little time is left for the server's answer to the end of data")
        is_first = self.plan.options.bdat and bool(shown)
        return (yield from self.stopped(Early(is_begun=not is_first or written != WITHHELD)))

    def stopped(self, stop: Early) -> Flow[SmtpError]:
        """The error for a reply while the content is being written: nothing but closing ends it for us."""
        reply: Reply = stop.reply or (yield MORE[_CONTENT])
        if reply.code != 421 and not stop.is_begun:
            return shifted("the server spoke without being asked", _CONTENT, reply)
        if stop.reply is None:
            # A server that says it has the message before its end is out of step, and
            # may have delivered what it had.
            self.committed = reply.is_positive
        if reply.code < 400:
            return ProtocolError(f"{reply.code} came before the end of data", stage=_CONTENT, reply=reply)
        if reply.code == 421:
            return shutdown(reply, self.stage)
        self.early = reply
        return self.account().refusal()

    def commit(self) -> None:
        """The write that holds the last octet of the content begins now."""
        self.stage = _FINAL
        self.committed = True

    def retract(self) -> None:
        """That write did not begin after all."""
        self.stage = _CONTENT
        self.committed = False

    def _step(self, envelope: bytes) -> Flow[None]:
        """Bring the session back into step, unless a reply is there that was one too many.

        RSET is answered by 250, an empty message by anything.
        """
        is_reset = self.shown == command.RSET
        if (yield Send(self.shown + envelope, guard=self.is_shiftable)) == WITHHELD:
            early_reply: Reply = yield MORE[Stage.RSET]
            if early_reply.code == 421:
                raise shutdown(early_reply, self.stage)
            raise shifted("the server spoke without being asked", Stage.RSET, early_reply)
        reply: Reply = yield (MORE if envelope else LAST)[Stage.RSET if is_reset else _DATA]
        if reply.code == 354:
            # It is the answer to DATA, so what was read as that answers a RCPT, behind a reply too many.
            raise shifted("354 is no answer to RSET", Stage.RSET, reply)
        self.closed = reply.code == 421 or (is_reset and reply.code != 250)

    def hear_finals(self, more: bool = False) -> Flow[None]:
        """One reply, or under LMTP one for each accepted recipient, in order (RFC 2033 4.2)."""
        owed = (self.accepted_count or 1) if self.lmtp else 1
        for index in range(owed):
            effect = (MORE if more or index + 1 < owed else LAST)[_FINAL]
            if index and all(final.is_permanent for final in self.finals):
                effect = replace(effect, limit=FURTHER_FINALS_LIMIT)
            try:
                reply: Reply = yield effect
            except ProtocolError as error:
                if error.surplus is None or not are_refusals((*self.finals, *error.surplus)):
                    raise
                # Whichever of them answer the content, it was refused for everybody (FAULTS 120).
                (reply, self.surplus), self.over = error.surplus, True
            except Timeout:
                if not (index and all(_is_about_size(final) for final in self.finals)):
                    raise
                # Cyrus and others refuse a content that is too large once, for all (FAULTS 119). What another
                # refusal means for those who have no reply is not known.
                self.finals += [self.finals[0]] * (owed - index)
                self.over = True
                return
            code = reply.code
            if 300 <= code < 400:
                raise ProtocolError(f"{code} is no final reply", stage=_FINAL, reply=reply)
            if code == 421:
                self.shut = reply
                if self.lmtp:
                    return  # not about this recipient: those without a reply are unknown
            self.finals.append(reply)

    # -- in flight, where all of it is written before any of it is answered -----------

    def hear_reset(self) -> Flow[None]:
        """The answer to the RSET before MAIL; without it a transaction may still be open.

        Any other than 250 may answer the content before, behind a reply too many.
        """
        self.stage = Stage.RSET
        reply: Reply = yield MORE[Stage.RSET]
        if reply.code == 421:
            raise shutdown(reply, self.stage)
        if reply.code != 250:
            raise shifted(f"{reply.code} is no answer to RSET", Stage.RSET, reply)

    def hear_whole(self, *, is_behind_refusal: bool, more: bool) -> Flow[None]:
        """All answers from MAIL on; ``heard`` then says what they come to.

        ``is_behind_refusal``: behind that of a chunk, which the server may have taken for commands.
        """
        self.stage = _MAIL
        reply: Reply = yield MORE[_MAIL]
        if is_behind_refusal and reply.code in OUT_OF_STEP:
            raise ProtocolError("the server took content for commands", stage=_MAIL, reply=reply)
        self.note((reply,))
        yield Hear(self, len(self.recipients), last=False)
        if not (self.committed or self.mail_refused or self.all_refused):
            self.stage = _CONTENT
            raise (yield from self.stopped(Early()))
        self.stage = _FINAL
        yield from self.hear_finals(more=more)

    def unreadable(self, error: SmtpError | ContentFailed) -> None:
        """Its content could not be read, so nothing of it is written."""
        self.stage = _CONTENT
        if isinstance(error, ContentFailed):
            error = content_raised(error.__cause__, _CONTENT)
        self.failed(error)
        self.closed = False

    def not_recorded(self, error: SmtpError) -> None:
        """It could not be recorded that it would be in doubt, so nothing of it was written."""
        self.stage = _CONTENT
        self.failed(anew(error))
        self.closed = False

    def not_begun(self, error: SmtpError | None = None) -> None:
        """The line was gone before anything of it was written."""
        self.retract()
        self.broken(self.overtaken(written=False) if error is None else anew(error))

    def cut_off(self, error: SmtpError, *, is_heard: bool, is_shut: bool) -> None:
        """The connection broke while it ``is_heard``, or before that; behind a 421 nothing was done."""
        is_lost = isinstance(error, Timeout | ConnectionLost)
        if is_shut:
            self.committed = False
        if not is_heard or (is_lost and is_shut):
            self.stage = _MAIL
        elif is_lost and not self.committed:
            self.stage = _CONTENT
        self.broken(anew(error))

    def misread(self, error: SmtpError) -> None:
        """Nothing that was heard of it is certain any more, and the connection is broken."""
        self.doubt()
        self._again(error)

    @property
    def is_perhaps_refused_once(self) -> bool:
        """LMTP: its first final reply refuses, and one behind that may answer what stands behind it."""
        finals = self.finals if self.lmtp else []
        return bool(finals) and finals[0].is_permanent and any(reply.is_positive for reply in finals[1:])

    def refused_once(self, error: SmtpError) -> None:
        """Its first final reply may have been for all; the rest answered something else."""
        del self.finals[1:]
        self._again(error)

    def _again(self, error: SmtpError) -> None:
        self.fate = None
        self.broken(anew(error))

    # -- what it came to --------------------------------------------------------------

    def heard(self, *, is_certain: bool) -> None:
        """The final replies are there; not ``is_certain`` while more may show that one was too many."""
        finals = self.finals
        is_taken = bool(finals) and finals[0].code < 300 and not self.lmtp
        if is_taken and self.accepted_count == len(self.recipients):
            # The usual case: everybody has it, and nothing is done for each of them.
            self.standing = SendResult(self.recipients, (), finals[0], tuple(finals) * self.accepted_count)
        else:
            self.standing = self.account().verdict()
        # A server that refuses a chunk and does not swallow it reads content as commands.
        self.must_close = self.plan.options.bdat and self.is_refused
        self.closed = self.over or self.shut is not None or (is_certain and self.must_close)
        if is_certain or self.closed:
            self.settle()

    def settle(self) -> None:
        """What was heard stands, now that the envelope behind it was answered, or broke."""
        if self.fate is None and self.standing is not None:
            self._settle(self.standing)

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
            is_behind = self.overlapped and not (self.committed or self.goes_ahead)
            if is_behind:
                self.doubt()
            elif surplus is not None:
                self.doubt(surplus, is_alone=self.plan.window == 1)
            verdict = self.account().verdict(error)
            if isinstance(verdict, SmtpError) and verdict is not error:
                verdict.__cause__ = error
            self._settle(verdict)

    def doubt(self, surplus: tuple[Reply, Reply | None] | None = None, *, is_alone: bool = False) -> None:
        """A reply too many was read: from the first place where it can have been on, nothing is certain.

        A command that ``is_alone`` was written into silence: what was answered before stands, and if
        both replies refuse it, it was refused. 354 stands for all before it: only DATA has that answer.
        """
        is_envelope = self.stage in (_MAIL, _RCPT, _DATA)
        if self.committed:
            self.finals.clear()
        elif is_alone and surplus is not None and are_refusals(surplus) and is_envelope:
            self.note(surplus[:1])
        if not (is_alone or self.goes_ahead):
            self.rcpts.clear()
            self.accepted_count = 0
            self.mail_refused = False
            self.early = None
            if self.data is not None and self.data.code >= 400:
                self.data = None

    def failed(self, error: SmtpError) -> None:
        """The content was refused, or could not be read, half-way: only closing takes it back."""
        self.closed = True
        self.is_due = False
        error.stage = self.stage
        self._settle(self.account().verdict(error))

    def _settle(self, fate: Conclusion) -> None:
        self.fate = fate if self._batches is None else self._batches.conclude(self.account(), fate)

    def _note_doubt(self, error: BaseException) -> None:
        """Say on an error that is not ours what it leaves in doubt, and who has the message already."""
        if self.committed and not isinstance(error, SmtpError):
            error.add_note("the end of data had been written: the message was perhaps delivered")
        if self._batches is not None:
            self._batches.tell(error)

    def told(self) -> Conclusion | None:
        """What became of the message: once, and as soon as it is certain."""
        if self._is_told or self.fate is None or (self.is_due and self.is_shiftable):
            return None
        self._is_told = True
        return self.fate

    def overtaken(self, *, written: bool) -> SmtpError:
        """What the end of this connection means for a message that was next on it."""
        error: SmtpError
        if self.cause is not None:
            error = anew(self.cause)
            error.__cause__ = self.cause
        elif self.shut is not None:
            error = ServiceUnavailable("the server is closing the connection", reply=self.shut)
        else:
            error = ConnectionLost("the connection was closed behind the message before")
        error.stage = Stage.MAIL if written else Stage.INPUT
        return error

    def blame_overlap(self) -> None:
        """The server is known to have broken on an envelope behind an end of data."""
        self._trouble = True

    @property
    def has_trouble(self) -> bool:
        """Whether the connection broke, or the end of data was out of step, where envelopes overlapped."""
        if self._trouble or not self.overlapped:
            return self._trouble
        final = self.finals[0] if self.finals else None
        if self.cause is not None and isinstance(self.cause, Timeout | ConnectionLost | ProtocolError):
            return True
        return final is not None and final.code in OUT_OF_STEP

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
        if not self.overlapped or self.closed or self.accepted_count:
            return False
        replies = [] if self.mail is None else [self.mail, *self.rcpts]
        return any(reply.code in OUT_OF_STEP for reply in replies)

    def value(self) -> SendResult:
        """The result; raises the error where that is what it came to, or what the content raised."""
        if self.failure is not None:
            if self._batches is not None:
                self._batches.tell(self.failure)
            raise self.failure
        if isinstance(self.fate, SendResult):
            return self.fate
        assert self.fate is not None
        raise self.fate


def _is_about_size(reply: Reply) -> bool:
    """Whether a refusal is about the size of the content, and so about everybody (RFC 3463 3.3, 3.4)."""
    enhanced = reply.enhanced
    if enhanced is None:
        return reply.code == 552
    return reply.is_permanent and (enhanced.subject, enhanced.detail) in ((2, 3), (3, 4))


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


def reconsider(heard: Sequence[Transaction], last: Transaction | None, error: SmtpError) -> bool:
    """What was heard and is not told, now that the connection broke behind it: whether it is in doubt.

    That is so if a reply was too many or too few; a reply out of place is at another's. Under LMTP it may be
    so as well if a refusal was perhaps for all recipients (FAULTS 119): what came behind it answered what
    stood behind its transaction, and too few replies came in all. ``last`` was heard last.
    """
    if isinstance(error, ProtocolError) and (error.surplus or error.reply) is not None:
        doubt_all(heard, last, error)
        return True
    is_behind = False
    for each in heard:
        if is_behind and each.mail is not None:
            each.misread(error)
        elif each.is_perhaps_refused_once:
            is_behind = True
            each.refused_once(error)
    return is_behind


def doubt_all(heard: Sequence[Transaction], last: Transaction | None, error: ProtocolError) -> None:
    """A reply was too many: nothing that was heard and is not told is certain.

    But if the content before was refused, and what came for the answer to what is behind it refuses as
    well, it was refused by one of the two: as where the server takes content for commands (FAULTS 48, 120).
    """
    for each in heard:
        is_refused = each is last and bool(each.finals) and are_refusals((*each.finals, error.reply))
        if each.mail is not None and not is_refused:  # else nothing of it was written
            each.misread(error)
