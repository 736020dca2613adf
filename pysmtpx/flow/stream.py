"""A stream of messages on one connection, one after the other or overlapped (RFC 2920 3.1).

Overlapped, the end of one message and the envelope of the next share a write,
and a message costs one round trip and not two. RFC 2920 allows that, and not
every server understands it, so it is for the caller to ask for. Only the
content that was ended last is ever in doubt: the next one's is written after
the final reply to it was read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import ConnectionLost, SmtpError
from ..wire.limits import Stage
from .delivery import deliver
from .effects import END, LATER, LOOK, WAIT, Flow, Pause, Report
from .plan import Plan
from .tail import Tail
from .transaction import settle


class Entry(NamedTuple):
    """One message of a stream."""

    token: Any
    """The source's own, handed back with the ``Report``."""
    plan: Plan | None
    """None where ``error`` says why it cannot be sent."""
    error: SmtpError | None = None
    deadline: Any = None
    """The ``Deadline`` for this message; None: the stream's seconds, from when no older one is unreported."""


def stream(*, overlap: bool = False) -> Flow[Exception | None]:
    """Send what ``Take`` gives until there is no more or the connection ends; ``Report`` each, in order.

    Never waits for a message before the one under way is ended. With
    ``overlap`` the next one is asked for while the server works; an envelope
    that is refused as out of step behind an end of data is sent again alone,
    and nothing overlaps from then on. A message that was taken and of which
    nothing was written when the connection ended is reported with an error of
    stage ``input``. Returns what ``Take`` raised, which ends the stream like
    the last message, or None.
    """
    return _Stream(overlap).run()


class Intake:
    """Where the next message comes from."""

    __slots__ = ("ahead", "failure")

    def __init__(self) -> None:
        self.ahead: Entry | Pause = LATER
        """What was taken last."""
        self.failure: Exception | None = None
        """What the source raised."""

    def take(self, wait: bool = False) -> Flow[None]:
        """Take the next message; where the source fails there is none any more."""
        try:
            self.ahead = yield WAIT if wait else LOOK
        except Exception as error:
            self.failure = self.failure or error
            self.ahead = END


class _Stream(Intake):
    """The message under way; ``ahead`` of it the one that was taken while the server worked."""

    __slots__ = ("_overlap", "_tail")

    def __init__(self, overlap: bool) -> None:
        super().__init__()
        self._overlap = overlap
        self._tail: Tail | None = None

    def run(self) -> Flow[Exception | None]:
        while True:
            if self.ahead is LATER and (self._overlap or self._tail is None):
                yield from self.take(wait=self._tail is None)
            entry, self.ahead = self.ahead, LATER
            if self._tail is not None and not self._joins(entry):
                yield from self._finish(self._tail, idle=isinstance(entry, Pause))
                if self._tail.closed:
                    yield from self._leave(self._tail, entry)
                    return self.failure
                self._tail = None
            if entry is END:
                return self.failure
            if not isinstance(entry, Entry):
                continue
            if entry.plan is None:
                yield Report(entry.token, entry.error or unsent(entry, None), idle=True)
                continue
            tail = yield from self._deliver(entry.plan)
            tail.token = entry.token
            self._tail = tail if tail.left or tail.closed else None
            if tail.fate is not None and (report := tail.report(idle=not tail.left)) is not None:
                yield report
            if tail.closed:
                yield from self._leave(tail, self.ahead)
                return self.failure

    def _joins(self, entry: Entry | Pause) -> bool:
        """Whether its envelope may follow in the write that ends the message before."""
        return self._overlap and isinstance(entry, Entry) and entry.plan is not None and entry.plan.window > 1

    def _deliver(self, plan: Plan) -> Flow[Tail]:
        """Send a message up to its tail, behind the one before where they overlap."""
        tail = yield from deliver(plan, self._tail, self.take if self._overlap else None, idle=True)
        if not tail.is_out_of_step:
            return tail
        self._overlap = False
        yield from settle(tail)
        if not tail.closed:
            tail = yield from deliver(plan, idle=True)
        tail.trouble = True
        return tail

    def _finish(self, tail: Tail, *, idle: bool) -> Flow[None]:
        yield from settle(tail)
        if (report := tail.report(idle=idle or tail.closed)) is not None:
            yield report

    def _leave(self, tail: Tail, entry: Entry | Pause) -> Flow[None]:
        """The connection is closed: what was taken and not begun goes back unsent."""
        if isinstance(entry, Entry):
            yield Report(entry.token, entry.error or unsent(entry, tail), idle=True)


def unsent(entry: Entry, tail: Tail | None) -> SmtpError:
    """The error for a message whose connection ended before anything of it was written."""
    error: SmtpError = ConnectionLost(
        "the connection was closed behind the message before", stage=Stage.INPUT
    )
    if tail is not None:
        error = tail.overtaken(written=False)
    if entry.plan is not None:
        error.unsent_recipients = entry.plan.mail.recipients
    return error
