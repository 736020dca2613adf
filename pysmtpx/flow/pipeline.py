"""A stream of messages on one connection: one after the other, overlapped, or several in flight.

Whoever has the messages pushes one after the other; what became known is told after
each push. Without more, a message is sent to its end before the next. Overlapped, the
end of one message and the envelope of the next share a write (RFC 2920 3.1), and a
message costs one round trip and not two; not every server understands that, so it is
for the caller to ask for. Only the content that was ended last is ever in doubt then.

In flight, whole transactions (RSET, MAIL, RCPT, and the content by BDAT, RFC 3030) go
out before any of it is answered, and round trips vanish: a message is in doubt from
then until its final reply. That is for servers which swallow a chunk that they refuse:
after any refused chunk what was written is heard to its end, nothing more is written,
and the connection closes.

What a reply answers is told by its place alone. With one too many before it, it
answers something else, and that may show much later. So a message is told once the
envelope behind it was answered; in flight once the RSET behind it was answered by 250,
and one with a refusal, like all behind it, once nothing is owed any more and nothing
is left over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from ..errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, unasked
from ..frames import bare
from ..wire import command
from ..wire.limits import SLICE, WINDOW, Stage
from ..wire.result import SendResult
from .account import BROKEN
from .allowance import Allowance
from .body import ContentFailed, bdat_size, next_piece, slices
from .effects import CLOSE, MORE, WITHHELD, Flow, Octets, Record, Send, Transcribe, Until
from .plan import Plan
from .transaction import Transaction, begin, doubt_all, reconsider


class Done(NamedTuple):
    """What became of a message."""

    token: Any
    """As it was pushed."""
    outcome: SendResult | SmtpError
    trouble: bool = False
    """The server broke on an envelope behind an end of data, this message's or the next one's."""


class Pipeline:
    """The messages that were pushed and are not told yet.

    With ``overlap`` the end of each goes with the envelope of the next; with
    ``in_flight`` above 1, for a server that offers CHUNKING, up to so many whole
    transactions are unanswered. Content of unknown size or over 64 KiB, several
    transactions for one message, or all-or-nothing go alone then, when all before
    them is answered.

    Before a wait for the next message whoever pushes must call ``finish``. Every
    message that was pushed is told once, in order: one of which nothing was written
    when the connection ended by an error of stage ``input``.
    """

    def __init__(self, *, overlap: bool = False, in_flight: int = 1) -> None:
        self._known: list[Done] = []
        self.is_closed: bool = False
        """The connection is over: what is pushed is unsent."""
        self._overlap = overlap and in_flight == 1
        self._window = in_flight
        self._last: Transaction | None = None
        """Its envelope is answered, and its end is to be written; or it ended the connection."""
        self._batch: list[_Whole] = []
        """To be written together."""
        self._pending: deque[Transaction] = deque()
        """Written whole and not heard, oldest first."""
        self._held: list[Transaction] = []
        """Heard and not yet told: what is read next may show that they were misread."""
        self._is_refused = False
        """Something in these is a refusal, and they wait until nothing is owed."""
        self._before: Transaction | None = None
        """The transaction which was heard last."""
        self._begun: Transaction | None = None
        """The oldest, where its RSET was heard behind the one before."""
        self._commands = self._octets = 0
        self._over = False
        """Nothing more is to be written."""
        self._gone = False
        """A write found the line gone; what was said before is still to be heard."""
        self._shut = False
        """The server said 421, and does nothing more."""

    @property
    def is_busy(self) -> bool:
        """A message is not told yet, or the session is to be brought back into step."""
        last = self._last
        return bool(self._batch or self._pending or (last is not None and last.is_due))

    def deadline(self, new: Any = None) -> Any:
        """The deadline of the oldest message under way, else that of the ``new`` one; None: it has none."""
        if self._pending:
            return self._pending[0].deadline
        if self._batch:
            return self._batch[0].transaction.deadline
        last = self._last
        return last.deadline if last is not None and last.is_due else new

    def known(self) -> list[Done]:
        """What became known since it was last asked for."""
        known, self._known = self._known, []
        for done in known:
            if type(done.outcome) is not SendResult:
                # Without frames: no error is to be a ring by which the line would be held.
                bare(done.outcome)  # type: ignore[type-var]
        return known

    # -- what is pushed ---------------------------------------------------------------

    def push(self, token: Any, plan: Plan, deadline: Any = None) -> Flow[None]:
        """Send a message as far as the next one may follow it, and all before it to its end."""
        if plan.allowance is not None and plan.is_unfit:
            yield from self._tell_unfit(token, plan, plan.allowance)
            return
        if self._window > 1 and _is_regular(plan):
            yield from self._gather(token, plan, deadline)
            return
        if not (self._overlap and plan.window > 1) and self.is_busy:
            yield from self.finish()
            yield Until(deadline)
        if self.is_closed:
            self._unsent(token, plan)
            return
        before = self._last if self._last is not None and self._last.is_due else None
        transaction = yield from begin(plan, before, deadline, token)
        if transaction.fate is not None and transaction.is_out_of_step:
            transaction = yield from self._begin_again(transaction, plan)
        if before is not None:
            yield from self._know(before)
        self._last = transaction
        if not self._overlap:
            yield from transaction.end()
        self.is_closed = transaction.closed
        if transaction.fate is not None:
            yield from self._know(transaction)

    def _tell_unfit(self, token: Any, plan: Plan, allowance: Allowance) -> Flow[None]:
        """The session has no room for it, so nothing of it is written."""
        yield from self.finish()
        if self.is_closed:
            self._unsent(token, plan)
        else:
            self._known.append(Done(token, allowance.reached(plan.mail.recipients)))

    def finish(self) -> Flow[None]:
        """Send all that was pushed to its end."""
        if self._batch:
            yield from self._write()
        while self._pending:
            yield from self._hear(self._pending.popleft())
        last = self._last
        if last is not None:
            yield from last.end()
            self.is_closed = self.is_closed or last.closed
            yield from self._know(last)

    def _begin_again(self, refused: Transaction, plan: Plan) -> Flow[Transaction]:
        """An envelope was refused as out of step behind an end of data: alone it may be understood.

        Nothing overlaps from then on.
        """
        self._overlap = False
        yield from refused.end()
        transaction = refused
        if not refused.closed and plan.allowance is not None and plan.is_unfit:
            refused.fate = plan.allowance.reached(plan.mail.recipients)
        elif not refused.closed:
            transaction = yield from begin(plan, None, refused.deadline, refused.token)
        transaction.blame_overlap()
        return transaction

    def _know(self, transaction: Transaction) -> Flow[None]:
        """Tell what became of a message, once, if that is certain."""
        outcome = transaction.told()
        if outcome is None:
            return
        if type(outcome) is not SendResult:
            yield Transcribe(outcome)  # type: ignore[arg-type]
        self._known.append(Done(transaction.token, outcome, transaction.has_trouble))

    def _unsent(self, token: Any, plan: Plan) -> None:
        """The connection ended before anything of this message was written."""
        last = self._last
        if last is None:
            text = "the connection was closed behind the message before"
            error: SmtpError = ConnectionLost(text, stage=Stage.INPUT)
        else:
            error = last.overtaken(written=False)
        error.unsent_recipients = plan.mail.recipients
        self._known.append(Done(token, error))

    # -- in flight: writing -----------------------------------------------------------

    def _gather(self, token: Any, plan: Plan, deadline: Any) -> Flow[None]:
        """Take a message to be written with others; write them where there is no room for more."""
        if self._is_last:
            yield from self.finish()
            yield Until(deadline)
        if self.is_closed:
            self._unsent(token, plan)
            return
        whole = _whole(plan, deadline, token)
        if whole.head and plan.allowance is not None:
            plan.allowance.spend(plan.mail.recipients, 0, len(plan.envelope))
        self._batch.append(whole)
        self._commands += _count(plan)
        self._octets += whole.size
        is_full = len(self._pending) + len(self._batch) >= self._window or self._commands >= WINDOW
        if is_full or self._octets >= SLICE:
            yield from self._write()
        if is_full:
            while self._pending and not self._has_room:
                yield from self._hear(self._pending.popleft())

    @property
    def _is_last(self) -> bool:
        """Nothing may be written before all is heard."""
        return self._over or self._gone or self._is_refused

    @property
    def _has_room(self) -> bool:
        """Half of the window is free."""
        return len(self._pending) <= self._window // 2 and self._commands < WINDOW and not self._is_last

    def _write(self) -> Flow[None]:
        """Write what was gathered. In doubt is each whose last octet was handed over."""
        batch, self._batch, self._octets = self._batch, [], 0
        is_quiet = self._oldest() is None
        self._pending += [each.transaction for each in batch]
        written = [each for each in batch if each.head]
        if not written:
            return
        if not (yield from self._record(written)):
            return
        for each in written:
            each.transaction.commit()
        octets = b"".join(piece for each in written for piece in (each.head, *each.content))
        # Where nothing is owed, what is there must not pass for an answer.
        effect = Send(octets, b"".join(each.head for each in written), guard=is_quiet)
        if (yield effect) == WITHHELD:
            self._gone = True
            error = (yield from _withheld()) if is_quiet else None
            for each in written:
                each.transaction.not_begun(error)
        elif effect.short:
            self._gone = True
            _cut(written, effect.short)

    def _record(self, written: list[_Whole]) -> Flow[bool]:
        """One record for all of a write: the messages of a stream have one recorder. False if it failed."""
        recorder = written[0].transaction.plan.recorder
        if recorder is None:
            return True
        doubtful = [(each.transaction.token, each.transaction.recipients) for each in written]
        error: SmtpError | None = yield Record(partial(recorder, doubtful))
        if error is not None:
            for each in written:
                each.transaction.not_recorded(error)
        return error is None

    # -- in flight: hearing -----------------------------------------------------------

    def _oldest(self) -> Transaction | None:
        """The oldest transaction that is owed an answer."""
        for transaction in self._pending:
            if transaction.fate is None:
                return transaction
        return None

    def _hear(self, transaction: Transaction) -> Flow[None]:
        """The answers to the oldest transaction, and the one to the RSET behind it."""
        is_written = transaction.fate is None
        if is_written and transaction is not self._begun:
            yield from self._try(transaction, transaction.hear_reset())
        if transaction.fate is None:
            yield from self._try(transaction, self._answers(transaction))
        self._commands -= _count(transaction.plan)
        self._shut = self._shut or transaction.shut is not None
        self._over = self._over or transaction.closed
        self._held.append(transaction)
        if is_written:
            self._before = transaction
            self._is_refused = self._is_refused or transaction.has_refusal
        if isinstance(transaction.fate, SmtpError):
            yield Transcribe(transaction.fate)
        if self._pending:
            yield Until(self._pending[0].deadline)
        behind = self._oldest()
        if behind is not None and behind is not self._begun:
            self._begun = behind
            yield from self._try(behind, behind.hear_reset())
        yield from self._tell()

    def _tell(self) -> Flow[None]:
        """Tell what is certain by now."""
        if self._oldest() is None:
            self._is_refused = False
            if self._over and not (self._pending or self.is_closed):
                yield from self._close()
        if self._is_refused:
            return
        held, self._held = self._held, []
        for transaction in held:
            yield from self._know(transaction)

    def _close(self) -> Flow[None]:
        self.is_closed = True
        yield CLOSE

    def _try(self, transaction: Transaction, conversation: Flow[None]) -> Flow[None]:
        try:
            yield from conversation
        except BROKEN as error:
            if not self.is_closed:
                yield from self._close()
            self._break(transaction, error)
        except SmtpError as error:
            transaction.failed(error)

    def _answers(self, transaction: Transaction) -> Flow[None]:
        more = self._oldest() is not None
        yield from transaction.hear_whole(is_behind_refusal=self._over, more=more)
        if transaction.surplus is not None:
            doubt_all(self._held, self._before, ProtocolError("the server sent more than was owed"))
        transaction.heard(is_certain=True)

    def _break(self, transaction: Transaction, error: SmtpError) -> None:
        """The connection is gone; each that is written gets its fate by the commit rule."""
        self._over = self._gone = True
        self._shut = self._shut or isinstance(error, ServiceUnavailable)
        if reconsider(self._held, self._before, error):
            transaction.doubt()
        for each in (transaction, *self._pending):
            if each.fate is None:
                each.cut_off(error, is_heard=each is transaction, is_shut=self._shut)


class _Whole(NamedTuple):
    """One transaction as it is written in flight."""

    transaction: Transaction
    head: bytes
    """Its commands; empty where the content could not be read, and nothing of it is written."""
    content: tuple[Octets, ...]
    size: int
    """Octets of both."""


def _whole(plan: Plan, deadline: Any, token: Any) -> _Whole:
    """A transaction as it is written; it has a fate already if the content could not be read.

    Exim keeps a transaction open whose recipients were all refused, and would
    take the next message for one of the sender before: hence RSET (FAULTS 112).
    """
    transaction = Transaction(plan, deadline, token)
    try:
        content = tuple(_all(plan))
    except (SmtpError, ContentFailed) as error:
        transaction.unreadable(error)
        return _Whole(transaction, b"", (), 0)
    octets = sum(map(len, content))
    head = b"".join((command.RSET, *plan.envelope, command.bdat(octets, last=True)))
    return _Whole(transaction, head, content, len(head) + octets)


def _count(plan: Plan) -> int:
    """Commands of a transaction: RSET, the envelope and BDAT."""
    return len(plan.envelope) + 2


def _is_regular(plan: Plan) -> bool:
    """Whether it can be written whole, without an answer in between.

    What is longer than a slice must not: before each the sender looks whether the
    server has said no (FAULTS 27, 28, 47), and here whatever it says may be due.
    """
    return (
        plan.options.bdat
        and not plan.options.all_or_nothing
        and plan.window >= _count(plan)
        and plan.is_undivided
        and (size := bdat_size(plan)) is not None
        and size <= SLICE
    )


def _withheld() -> Flow[SmtpError]:
    """Why nothing was written although nothing was owed."""
    error: SmtpError
    try:
        error = unasked((yield MORE[Stage.RSET]))
    except BROKEN as broken:
        error = broken
    error.stage = Stage.INPUT
    return error


def _cut(written: list[_Whole], short: int) -> None:
    """So many octets at the end of a write were never handed over: whose last are among them, nobody has."""
    for each in reversed(written):
        if short >= each.size:
            each.transaction.not_begun()
        elif short > 0:
            each.transaction.retract()
        short -= each.size


def _all(plan: Plan) -> Iterator[Octets]:
    pieces = slices(plan)
    while (piece := next_piece(pieces)) is not None:
        yield piece
