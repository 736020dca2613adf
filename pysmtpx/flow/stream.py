"""A stream of messages on one connection, with no idle round trip between them (RFC 2920 3.1).

The end of one message and the envelope of the next share a write, so a message
costs one round trip. Only the content that was ended last is ever in doubt: the
next one's is written after the final reply to it was read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import ConnectionLost, SmtpError
from ..wire.limits import Stage
from .delivery import deliver
from .effects import END, LATER, Flow, Pause, Report, Take
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


def stream() -> Flow[Exception | None]:
    """Send what ``Take`` gives until there is no more or the connection ends; ``Report`` each, in order.

    Never waits for a message before the one under way is ended. A message that
    was taken and of which nothing was written when the connection ended is
    reported with an error of stage ``input``. Returns what ``Take`` raised,
    which ends the stream like the last message, or None.
    """
    messages = _Stream()
    yield from messages.run()
    return messages.failure


class _Stream:
    """The message under way, and the one that was taken while the server worked."""

    __slots__ = ("_ahead", "_tail", "failure")

    def __init__(self) -> None:
        self._tail: Tail | None = None
        self._ahead: Entry | Pause = LATER
        self.failure: Exception | None = None

    def run(self) -> Flow[None]:
        while True:
            entry, self._ahead = self._ahead, LATER
            if entry is LATER:
                entry = yield from self._take(wait=self._tail is None)
            if self._tail is not None and not self._joins(entry):
                yield from self._finish(self._tail, idle=isinstance(entry, Pause))
                if self._tail.closed:
                    yield from self._leave(self._tail, entry)
                    return
                self._tail = None
            if entry is END:
                return
            if isinstance(entry, Entry):
                yield from self._send(entry)
                if self._tail is not None and self._tail.closed:
                    yield from self._leave(self._tail, self._ahead)
                    return

    def _joins(self, entry: Entry | Pause) -> bool:
        """Whether its envelope may follow in the write that ends the message before."""
        return isinstance(entry, Entry) and entry.plan is not None and entry.plan.window > 1

    def _send(self, entry: Entry) -> Flow[None]:
        """One message up to its tail, or to the error that it was taken with."""
        if entry.plan is None:
            assert entry.error is not None
            yield Report(entry.token, entry.error, idle=True)
            return
        tail = yield from deliver(entry.plan, self._tail, self._look_ahead, idle=True)
        tail.token = entry.token
        self._tail = tail if tail.octets or tail.closed else None
        yield from tail.report(idle=not tail.octets)

    def _look_ahead(self) -> Flow[None]:
        """Take the next message while the server works, if it is there."""
        self._ahead = yield from self._take(wait=False)

    def _take(self, *, wait: bool) -> Flow[Entry | Pause]:
        """The next message; where the source fails, what is under way is ended first."""
        entry, failure = yield from taken(wait=wait)
        self.failure = self.failure or failure
        return entry

    def _finish(self, tail: Tail, *, idle: bool) -> Flow[None]:
        yield from settle(tail)
        yield from tail.report(idle=idle or tail.closed)

    def _leave(self, tail: Tail, entry: Entry | Pause) -> Flow[None]:
        """The connection is closed: what was taken and not begun goes back unsent."""
        if isinstance(entry, Entry):
            yield Report(entry.token, entry.error or unsent(entry, tail), idle=True)


def taken(*, wait: bool) -> Flow[tuple[Entry | Pause, Exception | None]]:
    """The next message; where the source fails there is none any more, and why."""
    try:
        entry: Entry | Pause = yield Take(wait)
    except Exception as error:
        return END, error
    return entry, None


def unsent(entry: Entry, tail: Tail | None) -> SmtpError:
    """The error for a message whose connection ended before anything of it was written."""
    error: SmtpError = ConnectionLost(
        "the connection was closed behind the message before", stage=Stage.INPUT
    )
    if tail is not None:
        error = tail.overtaken(written=False)
    if entry.plan is not None:
        error.unsent_recipients = entry.plan.mail.recipients
    error.rejected_recipients, error.accepted_recipients, error.unknown_recipients = (), (), ()
    return error
