"""Whole transactions under way, several at a time, by BDAT (RFC 3030): round trips vanish.

MAIL, every RCPT and the content go out together, before any of it is
answered, so a message is in doubt from then until its final reply. That is for
servers which swallow a chunk that they refuse: after any refused chunk what was
written is heard to its end, nothing more is written, and the connection closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..errors import ProtocolError, ServiceUnavailable, SmtpError
from ..wire import command
from ..wire.limits import SLICE, WINDOW, Stage
from ..wire.reply import Reply
from .account import Account
from .body import MORE, ContentFailed, bdat_size, early, next_piece, pieces_for_bdat
from .delivery import deliver
from .effects import CLOSE, END, WITHHELD, Flow, Hear, Octets, Pause, Report, Send
from .plan import Plan
from .stream import Entry, Intake, unsent
from .tail import OUT_OF_STEP, Tail, anew
from .transaction import BROKEN, finals, settle


def flight(count: int) -> Flow[Exception | None]:
    """``stream`` with up to ``count`` whole transactions unanswered; the server offers CHUNKING.

    Content of unknown size, several transactions for one message, or
    all-or-nothing go alone, when all before them is answered.
    """
    return _Flight(count).run()


class _Flight(Intake):
    """The transactions that are written and not answered, oldest first."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._pending: deque[Tail] = deque()
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

    # -- writing -------------------------------------------------------------------

    def _fill(self) -> Flow[None]:
        """Write what there is room for, many in one write."""
        batch: list[Octets] = []
        tails: list[Tail] = []
        shown = b""
        octets = 0
        while self._has_room(len(tails)) and octets < SLICE:
            yield from self.take(wait=not self._pending and not tails)
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
            tail = Tail(entry.plan, Account(entry.plan.mail.recipients, lmtp=entry.plan.lmtp))
            tail.token = entry.token
            size = bdat_size(entry.plan) or 0
            if size > SLICE:
                yield from self._write(batch, tails, shown)
                batch, tails, shown, octets = [], [], b"", 0
                yield from self._write_large(tail, size)
                continue
            lines = _head(entry.plan, size)
            if (pieces := self._pieces(tail)) is not None:
                batch += (lines, *pieces)
                shown += lines
                octets += len(lines) + size
            tails.append(tail)
        yield from self._write(batch, tails, shown)

    def _has_room(self, more: int) -> bool:
        free = self._count - len(self._pending) - more
        return (
            free > 0
            and self._commands < WINDOW
            and not (self._over or self._gone or self._ended or self._next)
        )

    def _pieces(self, tail: Tail) -> list[Octets] | None:
        """The whole of a small content; None where it could not be read, and nothing is written."""
        try:
            return list(_all(tail.plan))
        except (SmtpError, ContentFailed) as error:
            _fail(tail, error)
            tail.closed = False
            return None

    def _write(self, batch: list[Octets], tails: list[Tail], shown: bytes) -> Flow[None]:
        self._pending += tails
        if not batch:
            return
        written = [tail for tail in tails if tail.fate is None]
        for tail in written:
            tail.account.commit()
        if not (yield from self._send(Send(b"".join(batch), shown))):
            for tail in written:
                _not_begun(tail)

    def _write_large(self, tail: Tail, size: int) -> Flow[None]:
        """One transaction in slices. Where its content fails only closing takes it back."""
        head = _head(tail.plan, size)
        shown, held = head, b""
        tail.account.stage = Stage.CONTENT
        self._pending.append(tail)
        try:
            for piece in _all(tail.plan):
                if held:
                    if not (yield from self._send(Send(held, shown))):
                        break
                    shown = b""
                held = b"".join((head, piece))
                head = b""
            else:
                tail.account.commit()
                if not (yield from self._send(Send(held, shown))):
                    tail.account.retract()
        except (SmtpError, ContentFailed) as error:
            _fail(tail, error)
            self._over = True
        if self._gone and shown:
            _not_begun(tail)

    def _send(self, effect: Send) -> Flow[bool]:
        """Write; False where nothing was written, since the line is gone, or it broke in the middle."""
        if not self._gone:
            try:
                self._gone = (yield effect) == WITHHELD
            except BROKEN as error:
                self._break(error)
        return not self._gone

    # -- hearing -------------------------------------------------------------------

    def _hear(self, tail: Tail) -> Flow[None]:
        """The answers to the oldest transaction."""
        if tail.fate is None:
            try:
                yield from self._answers(tail)
                tail.heard()
            except BROKEN as error:
                self._shut = self._shut or _is_shutdown(error)
                if not self._closed:
                    yield from self._close()
                self._pending.appendleft(tail)
                self._break(error)
                self._pending.popleft()
            except SmtpError as error:
                tail.failed(error)
        self._commands -= _count(tail.plan)
        self._shut = self._shut or tail.account.shut is not None
        self._over = self._over or tail.closed
        if self._over and not (self._pending or self._closed):
            yield from self._close()
        idle = not (self._pending or self._next or self._over) or self._closed
        if (report := tail.report(idle=idle)) is not None:
            yield report

    def _answers(self, tail: Tail) -> Flow[None]:
        account, more = tail.account, bool(self._pending)
        account.stage = Stage.RSET
        yield from self._reset(account)
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
        yield from finals(account, more=more)

    def _reset(self, account: Account) -> Flow[None]:
        """The answer to the RSET before MAIL; without it a transaction may still be open."""
        reply: Reply = yield MORE[Stage.RSET]
        if reply.code == 421:
            raise account.shutdown(reply)
        if reply.code != 250:
            raise ProtocolError(f"{reply.code} is no answer to RSET", stage=Stage.RSET, reply=reply)

    def _break(self, error: SmtpError) -> None:
        """The connection is gone; each that is written gets its fate by the commit rule."""
        self._over = self._gone = self._closed = True
        for tail in self._pending:
            if tail.fate is None:
                if self._shut:  # answers come in order: behind a 421 nothing was done
                    tail.account.retract()
                tail.broken(anew(error))

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


def _head(plan: Plan, size: int) -> bytes:
    """RSET, the envelope and BDAT.

    Exim keeps a transaction open whose recipients were all refused, and would
    take the next message for one of the sender before (FAULTS 112).
    """
    return b"".join((command.RSET, *plan.envelope, command.bdat(size, last=True)))


def _count(plan: Plan) -> int:
    """Commands of a transaction: RSET, the envelope and BDAT."""
    return len(plan.envelope) + 2


def _is_regular(entry: Entry) -> bool:
    """Whether it can be written whole, without an answer in between."""
    plan = entry.plan
    return (
        plan is not None
        and plan.options.bdat
        and not plan.options.all_or_nothing
        and plan.window >= _count(plan)
        and (plan.limit is None or plan.limit >= len(plan.mail.recipients))
        and bdat_size(plan) is not None
    )


def _not_begun(tail: Tail) -> None:
    """The line was gone before anything of it was written."""
    if tail.fate is None:
        tail.account.retract()
        tail.broken(tail.overtaken(written=False))


def _is_shutdown(error: SmtpError) -> bool:
    return isinstance(error, ServiceUnavailable)


def _all(plan: Plan) -> Iterator[Octets]:
    pieces = pieces_for_bdat(plan)
    while (piece := next_piece(pieces)) is not None:
        yield piece


def _fail(tail: Tail, error: SmtpError | ContentFailed) -> None:
    tail.account.stage = Stage.CONTENT
    tail.failed(tail.account.content_raised(error.__cause__) if isinstance(error, ContentFailed) else error)
