"""The transmission channel: a lock, a stream, and the driver of flows.

This is the only place where conversations meet a socket. Whatever leaves an
exchange half-read closes the channel: a timeout, a loss, a breach, an
interrupt. Only a clean refusal keeps it.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import (
    AuthenticationError,
    ConnectionLost,
    RejectedError,
    SmtpError,
    Timeout,
    UsageError,
)
from .flow.effects import Effect, Flow, Receive, Send, StartTls
from .net.deadline import Deadline
from .net.stream import Stream
from .wire.limits import REPLY_LIMITS, Stage
from .wire.reply import Reply

_T = TypeVar("_T")


class Channel:
    """One connection to a server; calls from several threads take turns."""

    def __init__(self, stream: Stream, tls: Callable[[], tuple[ssl.SSLContext, str]]) -> None:
        self._stream = stream
        self._tls = tls
        # Reentrant, since its release is the one test for its owner that no interrupt can fall into.
        self._lock = threading.RLock()
        self._holder: int | None = None
        self._pid = os.getpid()
        self._why = ""
        self._farewell = False
        self._closing = False

    @property
    def closed(self) -> bool:
        """True once the channel cannot be used any more."""
        return self._closing or self._stream.closed

    @property
    def is_foreign(self) -> bool:
        """True in a process that was forked from the one that made the channel."""
        return self._pid != os.getpid()

    @property
    def is_tls(self) -> bool:
        """Whether the octets are encrypted."""
        return self._stream.is_tls

    @property
    def round_trips(self) -> int:
        """Waits for a reply after something was written, since the connection was made."""
        return self._stream.round_trips

    def binding(self) -> bytes | None:
        """The ``tls-server-end-point`` octets, None without TLS (RFC 5929 4.1)."""
        return self._stream.binding()

    def run(
        self,
        make: Callable[[], Flow[_T]],
        deadline: Deadline,
        *,
        fresh: bool = False,
        seconds: float | None = None,
    ) -> _T:
        """Run one conversation, alone on the line.

        ``make`` is called with the line in hand and may raise to say that
        nothing is to be written. ``fresh``: the server speaks first. The wait
        for the line counts against the deadline; ``seconds`` bounds what comes
        after it. Raises ``UsageError`` where the calling thread has the line
        already, or in a forked child; ``ConnectionLost`` where the channel is
        closed.
        """
        if self.is_foreign:
            # Two processes on one TLS session corrupt it for both.
            raise UsageError("this connection belongs to the process that made it, and this is a fork of it")
        me = threading.get_ident()
        if self._holder == me:
            raise UsageError("this connection is in use by the call that this one was made from")
        mine = False
        # An interrupt may come at any call: whatever happens in here, the line is given back.
        try:
            self._take(deadline)
            self._holder = me
            mine = True
            self._check_open()
            flow = make()
            if not fresh:
                self._check_idle()
            return self._drive(flow, deadline if seconds is None else deadline.within(seconds))
        finally:
            if mine:
                self._holder = None
            try:  # noqa: SIM105 - a call of its own would be one more place for an interrupt
                self._lock.release()
            except RuntimeError:
                pass  # it was never taken
            if self._closing:
                self.close()

    # -- the line -------------------------------------------------------------------

    def _take(self, deadline: Deadline) -> None:
        if not self._lock.acquire(blocking=False):
            seconds = max(0.0, min(deadline.remaining(), threading.TIMEOUT_MAX))
            if not self._lock.acquire(timeout=seconds):
                raise Timeout("another thread kept the connection busy", stage=Stage.INPUT)

    def _check_open(self) -> None:
        if self._stream.closed:
            raise ConnectionLost(
                f"the connection is closed: {self._why or 'the last call ended it'}", stage=Stage.INPUT
            )

    def _check_idle(self) -> None:
        try:
            self._stream.check_idle()
        except SmtpError as error:
            error.stage = Stage.INPUT  # nothing was written
            self._end(str(error))
            raise

    # -- the driver -----------------------------------------------------------------

    def _drive(self, flow: Flow[_T], deadline: Deadline) -> _T:
        self._farewell = False
        try:
            effect = next(flow)
            while True:
                try:
                    if type(effect) is Receive:
                        result: Any = self._receive(effect, deadline)
                    elif type(effect) is Send:
                        result = self._stream.send(
                            effect.data, deadline, watch=effect.watch, guard=effect.guard
                        )
                    else:
                        result = self._perform(effect, deadline)
                except BaseException as error:
                    effect = flow.throw(self._ended(error, effect))
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            if self._farewell:
                self._end("the server said 421")
            value: _T = stop.value
            return value
        except BaseException as error:
            if inspect.getgeneratorstate(flow) == inspect.GEN_SUSPENDED:
                _tell(flow, error)
            clean = isinstance(error, RejectedError | AuthenticationError)
            if self._farewell or not clean:
                self._end(str(error))
            self._why = self._why or str(error) or type(error).__name__
            raise

    def _receive(self, effect: Receive, deadline: Deadline) -> Reply:
        stream = self._stream
        reply = stream.receive(deadline, REPLY_LIMITS[effect.stage], last=effect.last)
        if stream.farewell is not None:
            self._farewell = True
            # A refusal and a final reply stand; an acceptance was overtaken by the 421 behind it.
            stands = reply.code >= 400 or effect.stage is Stage.FINAL
            return reply if stands else stream.farewell
        if reply.code == 421:
            self._farewell = True
        return reply

    def _perform(self, effect: Effect, deadline: Deadline) -> Any:
        if type(effect) is StartTls:
            return self._start_tls(deadline)
        self._end("")
        return None

    def _start_tls(self, deadline: Deadline) -> bytes | None:
        if self._stream.closed:
            raise ConnectionLost("the connection is closed")
        context, hostname = self._tls()
        self._stream = self._stream.start_tls(context, hostname, deadline)
        # Whatever the server says before our first word is not its own (CVE-2009-3555).
        self._stream.check_idle()
        return self._stream.binding()

    # -- the end ----------------------------------------------------------------------

    def _ended(self, error: BaseException, effect: Effect) -> BaseException:
        """Close after a failure; the same failure, with what is known of it here."""
        if self._closing and isinstance(error, ConnectionLost):
            error = ConnectionLost("close() was called")
        if isinstance(error, SmtpError) and error.stage is None:
            error.stage = effect.stage if isinstance(effect, Receive) else Stage.COMMAND
        self._end(str(error) or type(error).__name__)
        return error

    def _end(self, why: str) -> None:
        if not self._stream.closed:
            self._why = why
            self._stream.close()

    def close(self) -> None:
        """Close at once, without a QUIT; a call under way in another thread fails.

        Never waits: the thread that has the line is woken and closes it.
        """
        self._closing = True
        if self.is_foreign:
            self._end("close() was called")
        elif self._lock.acquire(blocking=False):
            try:
                self._end("close() was called")
            finally:
                self._lock.release()
        else:
            self._stream.shutdown()


def _tell(flow: Flow[Any], error: BaseException) -> None:
    """Let a flow that an interrupt between two effects left behind say what that means."""
    with contextlib.suppress(BaseException):
        flow.throw(error)
    flow.close()
