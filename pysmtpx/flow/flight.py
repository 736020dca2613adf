"""Whole transactions under way, several at a time, by BDAT (RFC 3030): round trips vanish.

MAIL, every RCPT and the content go out together, before any of it is
answered, so a message is in doubt from then until its final reply. That is for
servers which swallow a chunk that they refuse: after any refused chunk what was
written is heard to its end, nothing more is written, and the connection closed.

What a reply answers is told by its place alone. With one too many before it, it
answers something else, and that may show much later. So a message is told once
the RSET behind it was answered by 250, and one with a refusal, like all behind
it, once nothing is owed any more and nothing is left over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout, shifted, unasked
from ..wire import command
from ..wire.limits import SLICE, WINDOW, Stage
from ..wire.reply import Reply
from .account import Account, are_refusals
from .body import MORE, ContentFailed, bdat_size, early, next_piece, pieces_for_bdat
from .delivery import deliver
from .effects import CLOSE, END, WITHHELD, Flow, Hear, Octets, Pause, Report, Send, Settled
from .plan import Plan
from .stream import Entry, Intake, unsent
from .tail import OUT_OF_STEP, Tail, anew
from .transaction import BROKEN, finals, settle


def flight(count: int) -> Flow[Exception | None]:
    """``stream`` with up to ``count`` whole transactions unanswered; the server offers CHUNKING.

    Content of unknown size or over 64 KiB, several transactions for one message, or
    all-or-nothing go alone, when all before them is answered.
    """
    return _Flight(count).run()


class _Whole(NamedTuple):
    """One transaction as it is written."""

    tail: Tail
    head: bytes
    """Its commands; empty where the content could not be read, and nothing of it is written."""
    content: tuple[Octets, ...]
    size: int
    """Octets of both."""


class _Flight(Intake):
    """The transactions that are written and not answered, oldest first."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._pending: deque[Tail] = deque()
        self._held: list[Tail] = []
        """Heard and not yet told: what is read next may show that they were misread."""
        self._is_refused = False
        """Something in these is a refusal, and they wait until nothing is owed."""
        self._before: Account | None = None
        """That of the transaction which was heard last."""
        self._begun: Tail | None = None
        """The oldest, where its RSET was heard behind the one before."""
        self._commands = 0
        self._next: Entry | None = None
        """Taken, and to go alone."""
        self._ended = False
        """The source has no more."""
        self._over = False
        """Nothing more is to be written."""
        self._gone = False
        """A write found the line gone; what was said before is still to be heard."""
        self._shut = False
        """The server said 421, and does nothing more."""
        self._closed = False

    def run(self) -> Flow[Exception | None]:
        while True:
            if len(self._pending) <= self._count // 2:
                yield from self._fill()
            if self._pending:
                yield from self._hear(self._pending.popleft())
            elif self._over and not self._closed:
                yield from self._close()
            elif self._next is not None:
                yield from self._alone(self._next)
            elif self._closed or self._ended:
                return self.failure

    def _close(self) -> Flow[None]:
        self._closed = True
        yield CLOSE

    def _oldest(self) -> Tail | None:
        """The oldest transaction that is owed an answer."""
        for tail in self._pending:
            if tail.fate is None:
                return tail
        return None

    # -- writing -------------------------------------------------------------------

    def _fill(self) -> Flow[None]:
        """Write what there is room for, many in one write."""
        batch: list[_Whole] = []
        octets = 0
        while self._has_room(len(batch)) and octets < SLICE:
            yield from self.take(wait=not self._pending and not batch)
            entry = self.ahead
            if isinstance(entry, Pause):
                self._ended = entry is END
                break
            if entry.plan is not None:
                self._commands += _count(entry.plan)
            if not _is_regular(entry):
                self._next = entry
                break
            assert entry.plan is not None
            batch.append(_whole(entry.plan, entry.token))
            octets += batch[-1].size
        yield from self._write(batch)

    def _has_room(self, more: int) -> bool:
        free = self._count - len(self._pending) - more
        is_last = self._over or self._gone or self._ended or self._next
        return free > 0 and self._commands < WINDOW and not (is_last or self._is_refused)

    def _write(self, batch: list[_Whole]) -> Flow[None]:
        """Write them together. In doubt is each whose last octet was handed over."""
        is_quiet = self._oldest() is None
        self._pending += [each.tail for each in batch]
        written = [each for each in batch if each.head]
        if not written:
            return
        for each in written:
            each.tail.account.commit()
        octets = b"".join(piece for each in written for piece in (each.head, *each.content))
        # Where nothing is owed, what is there must not pass for an answer.
        effect = Send(octets, b"".join(each.head for each in written), guard=is_quiet)
        if (yield effect) == WITHHELD:
            self._gone = True
            error = (yield from _withheld()) if is_quiet else None
            for each in written:
                _not_begun(each.tail, error)
        elif effect.short:
            self._gone = True
            _cut(written, effect.short)

    # -- hearing -------------------------------------------------------------------

    def _hear(self, tail: Tail) -> Flow[None]:
        """The answers to the oldest transaction, and the one to the RSET behind it."""
        is_written = tail.fate is None
        if is_written and tail is not self._begun:
            yield from self._try(tail, self._reset(tail.account))
        if tail.fate is None:
            yield from self._try(tail, self._answers(tail))
        self._commands -= _count(tail.plan)
        self._shut = self._shut or tail.account.shut is not None
        self._over = self._over or tail.closed
        self._held.append(tail)
        if is_written:
            self._before = tail.account
            self._is_refused = self._is_refused or tail.account.has_refusal
        behind = self._oldest()
        if behind is not None and behind is not self._begun:
            if is_written and tail.fate is not None:
                yield Settled(tail.fate)
            self._begun = behind
            yield from self._try(behind, self._reset(behind.account))
        yield from self._tell()

    def _tell(self) -> Flow[None]:
        """Report what is certain by now."""
        if self._oldest() is None:
            self._is_refused = False
            if self._over and not (self._pending or self._closed):
                yield from self._close()
        if self._is_refused:
            return
        held, self._held = self._held, []
        idle = not (self._pending or self._next or self._over) or self._closed
        for tail in held:
            if (report := tail.report(idle=idle)) is not None:
                yield report

    def _try(self, tail: Tail, conversation: Flow[None]) -> Flow[None]:
        try:
            yield from conversation
        except BROKEN as error:
            if not self._closed:
                yield from self._close()
            self._break(tail, error)
        except SmtpError as error:
            tail.failed(error)

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

    def _answers(self, tail: Tail) -> Flow[None]:
        account = tail.account
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
        tail.heard(is_certain=True)

    def _break(self, tail: Tail, error: SmtpError) -> None:
        """The connection is gone; each that is written gets its fate by the commit rule."""
        self._over = self._gone = True
        self._shut = self._shut or isinstance(error, ServiceUnavailable)
        if self._is_shifted(error):
            tail.account.doubt()
        is_lost = isinstance(error, Timeout | ConnectionLost)
        for each in (tail, *self._pending):
            if each.fate is not None:
                continue
            account = each.account
            if self._shut:  # answers come in order: behind a 421 nothing was done
                account.committed = False
            if each is not tail or (is_lost and self._shut):
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
        for tail in self._held:
            account = tail.account
            if account.mail is None:
                continue  # not even written
            if account is self._before and are_refusals((*account.finals, error.reply)):
                continue
            account.doubt()
            _again(tail, error)

    def _doubt_behind_one_for_all(self, error: SmtpError) -> bool:
        """LMTP: the line broke, and a refusal may have been for all recipients (FAULTS 119).

        Then whatever came behind it answered the next transaction, and too few replies came in all.
        """
        is_behind = False
        for tail in self._held:
            account = tail.account
            if is_behind and account.mail is not None:
                account.doubt()
                _again(tail, error)
            elif account.lmtp and account.finals and _is_perhaps_for_all(account.finals):
                is_behind = True
                del account.finals[1:]
                _again(tail, error)
        return is_behind

    # -- alone ---------------------------------------------------------------------

    def _alone(self, entry: Entry) -> Flow[None]:
        self._next = None
        if entry.plan is None or self._closed:
            yield Report(entry.token, entry.error or unsent(entry, None), idle=True)
            return
        tail = yield from deliver(entry.plan, idle=True)
        tail.token = entry.token
        yield from settle(tail)
        self._commands = 0
        self._over = self._closed = tail.closed
        if (report := tail.report(idle=True)) is not None:
            yield report


def _whole(plan: Plan, token: object) -> _Whole:
    """A transaction as it is written; its tail has a fate already where the content could not be read.

    Exim keeps a transaction open whose recipients were all refused, and would
    take the next message for one of the sender before: hence RSET (FAULTS 112).
    """
    tail = Tail(plan, Account(plan.mail.recipients, lmtp=plan.lmtp))
    tail.token = token
    try:
        content = tuple(_all(plan))
    except (SmtpError, ContentFailed) as error:
        _fail(tail, error)
        tail.closed = False
        return _Whole(tail, b"", (), 0)
    octets = sum(map(len, content))
    head = b"".join((command.RSET, *plan.envelope, command.bdat(octets, last=True)))
    return _Whole(tail, head, content, len(head) + octets)


def _count(plan: Plan) -> int:
    """Commands of a transaction: RSET, the envelope and BDAT."""
    return len(plan.envelope) + 2


def _is_regular(entry: Entry) -> bool:
    """Whether it can be written whole, without an answer in between.

    What is longer than a slice must not: before each the sender looks whether the
    server has said no (FAULTS 27, 28, 47), and here whatever it says may be due.
    """
    plan = entry.plan
    return (
        plan is not None
        and plan.options.bdat
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


def _not_begun(tail: Tail, error: SmtpError | None = None) -> None:
    """The line was gone before anything of it was written."""
    tail.account.retract()
    tail.broken(tail.overtaken(written=False) if error is None else anew(error))


def _cut(written: list[_Whole], short: int) -> None:
    """So many octets at the end of a write were never handed over: whose last are among them, nobody has."""
    for each in reversed(written):
        if short >= each.size:
            _not_begun(each.tail)
        elif short > 0:
            each.tail.account.retract()
        short -= each.size


def _is_perhaps_for_all(replies: list[Reply]) -> bool:
    """Whether the first refuses, and any behind it may answer the next transaction."""
    return replies[0].is_permanent and any(reply.is_positive for reply in replies[1:])


def _again(tail: Tail, error: SmtpError) -> None:
    """What is known of it has changed, and the connection is broken."""
    tail.fate = None
    tail.broken(anew(error))


def _all(plan: Plan) -> Iterator[Octets]:
    pieces = pieces_for_bdat(plan)
    while (piece := next_piece(pieces)) is not None:
        yield piece


def _fail(tail: Tail, error: SmtpError | ContentFailed) -> None:
    tail.account.stage = Stage.CONTENT
    tail.failed(tail.account.content_raised(error.__cause__) if isinstance(error, ContentFailed) else error)
