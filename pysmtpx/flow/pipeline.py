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
from typing import Any, NamedTuple

from ..errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout, shifted, unasked
from ..wire import command
from ..wire.limits import SLICE, WINDOW, Stage
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import Account, are_refusals
from .body import ContentFailed, bdat_size, early, next_piece, slices
from .delivery import begin
from .effects import CLOSE, MORE, WITHHELD, Flow, Hear, Octets, Send, Transcribe, Until
from .plan import Plan
from .transaction import BROKEN, OUT_OF_STEP, Transaction, anew, finals


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
        self.known: list[Done] = []
        """What became known, to be taken by whoever pushes."""
        self.is_closed = False
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
        self._before: Account | None = None
        """That of the transaction which was heard last."""
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

    # -- what is pushed ---------------------------------------------------------------

    def push(self, token: Any, plan: Plan, deadline: Any = None) -> Flow[None]:
        """Send a message as far as the next one may follow it, and all before it to its end."""
        if self._window > 1 and _is_regular(plan):
            yield from self._gather(token, plan, deadline)
            return
        if self.is_busy and not (self._overlap and plan.window > 1):
            yield from self.finish()
            yield Until(deadline)
        if self.is_closed:
            self._unsent(token, plan)
            return
        before = self._last if self._last is not None and self._last.is_due else None
        transaction = yield from begin(plan, before, deadline, is_idle=True)
        if transaction.is_out_of_step:
            transaction = yield from self._begin_again(transaction, plan)
        if before is not None:
            yield from self._know(before)
        self._last = transaction
        transaction.token = token
        if not self._overlap:
            yield from transaction.end()
        self.is_closed = transaction.closed
        yield from self._know(transaction)

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
        if not refused.closed:
            transaction = yield from begin(plan, None, refused.deadline, is_idle=True)
        transaction.trouble = True
        return transaction

    def _know(self, transaction: Transaction) -> Flow[None]:
        """Tell what became of a message, once, if that is certain."""
        outcome = transaction.fate
        if transaction.is_told or outcome is None or (transaction.is_due and transaction.is_shiftable):
            return
        transaction.is_told = True
        if isinstance(outcome, SmtpError):
            yield Transcribe(outcome)
        self.known.append(Done(transaction.token, outcome, transaction.has_trouble))

    def _unsent(self, token: Any, plan: Plan) -> None:
        """The connection ended before anything of this message was written."""
        last = self._last
        if last is None:
            text = "the connection was closed behind the message before"
            error: SmtpError = ConnectionLost(text, stage=Stage.INPUT)
        else:
            error = last.overtaken(written=False)
        error.unsent_recipients = plan.mail.recipients
        self.known.append(Done(token, error))

    # -- in flight: writing -----------------------------------------------------------

    def _gather(self, token: Any, plan: Plan, deadline: Any) -> Flow[None]:
        """Take a message to be written with others; write them where there is no room for more."""
        if self._is_last:
            yield from self.finish()
            yield Until(deadline)
        if self.is_closed:
            self._unsent(token, plan)
            return
        whole = _whole(plan, deadline)
        whole.transaction.token = token
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
        for each in written:
            each.transaction.account.commit()
        octets = b"".join(piece for each in written for piece in (each.head, *each.content))
        # Where nothing is owed, what is there must not pass for an answer.
        effect = Send(octets, b"".join(each.head for each in written), guard=is_quiet)
        if (yield effect) == WITHHELD:
            self._gone = True
            error = (yield from _withheld()) if is_quiet else None
            for each in written:
                _not_begun(each.transaction, error)
        elif effect.short:
            self._gone = True
            _cut(written, effect.short)

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
            yield from self._try(transaction, self._reset(transaction.account))
        if transaction.fate is None:
            yield from self._try(transaction, self._answers(transaction))
        self._commands -= _count(transaction.plan)
        self._shut = self._shut or transaction.account.shut is not None
        self._over = self._over or transaction.closed
        self._held.append(transaction)
        if is_written:
            self._before = transaction.account
            self._is_refused = self._is_refused or transaction.account.has_refusal
        if isinstance(transaction.fate, SmtpError):
            yield Transcribe(transaction.fate)
        if self._pending:
            yield Until(self._pending[0].deadline)
        behind = self._oldest()
        if behind is not None and behind is not self._begun:
            self._begun = behind
            yield from self._try(behind, self._reset(behind.account))
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

    def _reset(self, account: Account) -> Flow[None]:
        """The answer to the RSET before MAIL; without it a transaction may still be open.

        Any other than 250 may answer the content before, behind a reply too many.
        """
        account.stage = Stage.RSET
        reply: Reply = yield MORE[Stage.RSET]
        if reply.code == 421:
            raise account.shutdown(reply)
        if reply.code != 250:
            raise shifted(f"{reply.code} is no answer to RSET", Stage.RSET, reply)

    def _answers(self, transaction: Transaction) -> Flow[None]:
        account = transaction.account
        account.stage = Stage.MAIL
        reply: Reply = yield MORE[Stage.MAIL]
        if self._over and reply.code in OUT_OF_STEP:
            raise ProtocolError("the server took content for commands", stage=Stage.MAIL, reply=reply)
        account.note(reply)
        yield Hear(account, len(account.recipients), last=False)
        if not (account.committed or account.mail_refused or account.all_refused):
            account.stage = Stage.CONTENT
            yield from early(account)
        account.stage = Stage.FINAL
        yield from finals(account, more=self._oldest() is not None)
        if account.surplus is not None:
            self._doubt(ProtocolError("the server sent more than was owed"))
        transaction.heard(is_certain=True)

    def _break(self, transaction: Transaction, error: SmtpError) -> None:
        """The connection is gone; each that is written gets its fate by the commit rule."""
        self._over = self._gone = True
        self._shut = self._shut or isinstance(error, ServiceUnavailable)
        if self._is_shifted(error):
            transaction.account.doubt()
        is_lost = isinstance(error, Timeout | ConnectionLost)
        for each in (transaction, *self._pending):
            if each.fate is not None:
                continue
            account = each.account
            if self._shut:  # answers come in order: behind a 421 nothing was done
                account.committed = False
            if each is not transaction or (is_lost and self._shut):
                account.stage = Stage.MAIL
            elif is_lost and not account.committed:
                account.stage = Stage.CONTENT
            each.broken(anew(error))

    def _is_shifted(self, error: SmtpError) -> bool:
        """Whether a reply was too many or too few before this error; then what was not told is in doubt."""
        if isinstance(error, ProtocolError) and (error.surplus or error.reply) is not None:
            self._doubt(error)  # a reply out of place is at another's
            return True
        return self._doubt_behind_one_for_all(error)

    def _doubt(self, error: ProtocolError) -> None:
        """A reply was too many: nothing that was heard and not told is certain.

        But if the content before was refused, and what came for the answer to RSET
        refuses as well, whichever of the two was its answer: as where the server
        takes content for commands (FAULTS 48, 120).
        """
        for transaction in self._held:
            account = transaction.account
            if account.mail is None:
                continue  # not even written
            if account is self._before and are_refusals((*account.finals, error.reply)):
                continue
            account.doubt()
            _again(transaction, error)

    def _doubt_behind_one_for_all(self, error: SmtpError) -> bool:
        """LMTP: the line broke, and a refusal may have been for all recipients (FAULTS 119).

        Then whatever came behind it answered the next transaction, and too few replies came in all.
        """
        is_behind = False
        for transaction in self._held:
            account = transaction.account
            if is_behind and account.mail is not None:
                account.doubt()
                _again(transaction, error)
            elif account.lmtp and account.finals and _is_perhaps_for_all(account.finals):
                is_behind = True
                del account.finals[1:]
                _again(transaction, error)
        return is_behind


class _Whole(NamedTuple):
    """One transaction as it is written in flight."""

    transaction: Transaction
    head: bytes
    """Its commands; empty where the content could not be read, and nothing of it is written."""
    content: tuple[Octets, ...]
    size: int
    """Octets of both."""


def _whole(plan: Plan, deadline: Any) -> _Whole:
    """A transaction as it is written; it has a fate already if the content could not be read.

    Exim keeps a transaction open whose recipients were all refused, and would
    take the next message for one of the sender before: hence RSET (FAULTS 112).
    """
    transaction = Transaction(plan, Account(plan.mail.recipients, lmtp=plan.lmtp), deadline)
    try:
        content = tuple(_all(plan))
    except (SmtpError, ContentFailed) as error:
        _fail(transaction, error)
        transaction.closed = False
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
        and (plan.limit is None or plan.limit >= len(plan.mail.recipients))
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


def _not_begun(transaction: Transaction, error: SmtpError | None = None) -> None:
    """The line was gone before anything of it was written."""
    transaction.account.retract()
    transaction.broken(transaction.overtaken(written=False) if error is None else anew(error))


def _cut(written: list[_Whole], short: int) -> None:
    """So many octets at the end of a write were never handed over: whose last are among them, nobody has."""
    for each in reversed(written):
        if short >= each.size:
            _not_begun(each.transaction)
        elif short > 0:
            each.transaction.account.retract()
        short -= each.size


def _is_perhaps_for_all(replies: list[Reply]) -> bool:
    """Whether the first refuses, and any behind it may answer the next transaction."""
    return replies[0].is_permanent and any(reply.is_positive for reply in replies[1:])


def _again(transaction: Transaction, error: SmtpError) -> None:
    """What is known of it has changed, and the connection is broken."""
    transaction.fate = None
    transaction.broken(anew(error))


def _all(plan: Plan) -> Iterator[Octets]:
    pieces = slices(plan)
    while (piece := next_piece(pieces)) is not None:
        yield piece


def _fail(transaction: Transaction, error: SmtpError | ContentFailed) -> None:
    account = transaction.account
    account.stage = Stage.CONTENT
    if isinstance(error, ContentFailed):
        error = account.content_raised(error.__cause__)
    transaction.failed(error)
