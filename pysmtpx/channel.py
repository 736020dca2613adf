"""The transmission channel: a stream, its driver, and the lock by which calls take turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Self, TypeVar

from .driver import Driver
from .errors import ConnectionLost, SmtpError, Timeout, UsageError
from .flow.allowance import Allowance
from .flow.effects import Flow
from .flow.pipeline import Done, Pipeline
from .flow.plan import Plan
from .lock import Busy, Lock, Wakeup
from .net.deadline import NEVER, Deadline, now
from .observing import Step
from .sasl.binding import ChannelBinding
from .wire.limits import REUSE_LIMIT, Stage

_T = TypeVar("_T")
_LOOK_AGAIN: Final = 1.0
"""Seconds until whoever waits looks himself: an interrupt can fall between a change and the wakeup for it."""


class Channel:
    """One connection to a server; calls from several threads take turns."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = Lock()
        self._tenant: object = None
        """The stream of messages that has the line also between two of its steps."""
        self._holder: int | None = None
        """The thread that has it."""
        self._waiting: set[Wakeup] = set()
        """Threads that wait for the end of the stream."""
        self._pid = os.getpid()
        self.step: Step | None = None
        """How it was opened, if somebody observed that."""
        self.made: float = now()
        self.allowance: Allowance | None = None
        """What the server takes in the session, once that is open, if it says so."""
        self._is_told = False

    @property
    def closed(self) -> bool:
        """True once the channel cannot be used any more."""
        return self._driver.closing or self._driver.stream.closed

    @property
    def is_foreign(self) -> bool:
        """True in a process that was forked from the one that made the channel."""
        return self._pid != os.getpid()

    @property
    def is_tls(self) -> bool:
        """Whether the octets are encrypted."""
        return self._driver.stream.is_tls

    @property
    def round_trips(self) -> int:
        """Waits for a reply after something was written, since the connection was made."""
        return self._driver.stream.round_trips

    def is_to_be_told(self) -> bool:
        """Whether its end was not told yet; True once."""
        is_told, self._is_told = self._is_told, True
        return not is_told

    def binding(self) -> ChannelBinding | None:
        """What a log-in can be bound to; None without TLS."""
        return self._driver.stream.binding()

    @property
    def mechanism(self) -> str:
        """The SASL mechanism that logged in; empty where nobody did."""
        return self._driver.mechanism

    def note_log_in(self, mechanism: str) -> None:
        """AUTH was accepted: what is refused from now on is not refused for want of it."""
        self._driver.mechanism = mechanism

    # -- one conversation ---------------------------------------------------------------

    def run(
        self,
        make: Callable[[], Flow[_T]],
        deadline: Deadline,
        *,
        fresh: bool = False,
        reused: bool = False,
        seconds: float | None = None,
    ) -> _T:
        """Run one conversation, alone on the line.

        ``make`` is called with the line in hand and may raise to say that
        nothing is to be written. ``fresh``: the server speaks first. ``reused``: the
        first reply has 20 seconds, since a line that was idle may be half-open. The wait
        for the line counts against the deadline; ``seconds`` bounds what comes
        after it. Raises ``UsageError`` where the calling thread has the line
        already, or in a forked child; ``ConnectionLost`` where the channel is
        closed.
        """

        def converse() -> _T:
            if self._driver.stream.closed:
                raise self._is_closed()
            flow = make()
            if not fresh:
                self._check_idle()
            limit = deadline if seconds is None else deadline.within(seconds)
            if reused:
                self._driver.brisk = REUSE_LIMIT
            return self._driver.drive(flow, limit)

        return self._step(converse, deadline, None)

    @property
    def is_busy(self) -> bool:
        """Whether somebody has the line, be it half a stream."""
        return self._tenant is not None or self._holder is not None

    def is_free(self) -> bool:
        """Whether it is alive, and nobody has the line."""
        if self.is_busy or self._driver.stream.closed:
            return False
        try:
            self._check_idle()
        except SmtpError:
            return False
        return True

    # -- a stream of messages -------------------------------------------------------------

    def stream(
        self, *, seconds: float | None, overlap: bool = False, in_flight: int = 1, reused: bool = False
    ) -> MailStream:
        """A stream of messages over this line; the arguments as for ``Pipeline``.

        ``seconds`` are for each message that has no deadline of its own, from when
        it is the oldest. With ``reused`` the first reply has 20 seconds, since a
        line that was idle may be half-open.
        """
        pipeline, tenant = Pipeline(overlap=overlap, in_flight=in_flight), object()
        return MailStream(self, pipeline, tenant, self._held(tenant, pipeline, seconds, reused))

    def _held(
        self, tenant: object, pipeline: Pipeline, seconds: float | None, reused: bool
    ) -> Generator[None, None, None]:
        """The line in the hands of a stream, from the first step of this to its end.

        A generator, since an interrupt may come before the first line of whatever is
        to give the line back: then that happens as soon as nobody has the stream.
        """
        try:
            self._step(partial(self._admit, tenant, seconds, reused), Deadline.after(seconds), tenant)
            yield
        finally:
            try:
                if pipeline.is_busy:
                    self.close()
                self._leave(tenant)
            except BaseException:  # an interrupt in the middle of it; nothing of it is done twice
                self.close()
                self._leave(tenant)
                raise

    def _admit(self, tenant: object, seconds: float | None, reused: bool) -> None:
        if self._driver.stream.closed:
            raise self._is_closed()
        self._check_idle()
        self._driver.seconds = seconds
        self._driver.brisk = REUSE_LIMIT if reused else None
        self._tenant = tenant

    def _leave(self, tenant: object) -> None:
        if self.is_foreign or self._tenant is not tenant:
            return  # a thread that is not in this process may have the lock
        with self._lock:
            if self._tenant is tenant:
                self._tenant = self._holder = None
        for wakeup in tuple(self._waiting):
            wakeup.wake()
        if self._driver.closing:
            self.close()

    # -- the line -------------------------------------------------------------------

    def _step(self, action: Callable[[], _T], deadline: Deadline, tenant: object) -> _T:
        """Do something alone on the line; the tenant's own steps do not wait for a turn."""
        if self._pid != os.getpid():
            # Two processes on one TLS session corrupt it for both.
            raise UsageError("this connection belongs to the process that made it, and this is a fork of it")
        me = threading.get_ident()
        if self._holder == me and (tenant is None or self._tenant is not tenant):
            raise UsageError("this connection is in use by the call that this one was made from")
        try:
            while True:
                if self._tenant is not None and self._tenant is not tenant:
                    self._await_stream(deadline)
                try:
                    return self._lock.alone(partial(self._have, action, me, tenant), deadline.remaining)
                except Busy as error:
                    if self._tenant is None:
                        text = "another thread kept the connection busy"
                        raise Timeout(text, stage=Stage.INPUT) from error
        finally:
            if self._driver.closing:
                self.close()

    def _have(self, action: Callable[[], _T], me: int, tenant: object) -> _T:
        if self._tenant is not None and self._tenant is not tenant:
            raise Busy  # another stream was sooner
        try:
            self._holder = me
            return action()
        finally:
            if self._tenant is None:
                self._holder = None

    def _await_stream(self, deadline: Deadline) -> None:
        """Wait until no stream has the line."""
        wakeup = Wakeup()
        try:
            self._waiting.add(wakeup)
            while self._tenant is not None:
                left = deadline.remaining()
                if left <= 0:
                    raise Timeout("a stream of messages kept the connection busy", stage=Stage.INPUT)
                wakeup.wait(min(left, _LOOK_AGAIN))
        finally:
            self._waiting.discard(wakeup)

    def _is_closed(self) -> ConnectionLost:
        why = self._driver.why or "the last call ended it"
        return ConnectionLost(f"the connection is closed: {why}", stage=Stage.INPUT)

    def _check_idle(self) -> None:
        try:
            self._driver.stream.check_idle()
        except SmtpError as error:
            error.stage = Stage.INPUT  # nothing was written
            self._driver.end(error.text)
            raise

    # -- the end ----------------------------------------------------------------------

    def close(self) -> None:
        """Close at once, without a QUIT; a call under way in another thread fails.

        Never waits: the thread that has the line is woken and closes it.
        """
        driver = self._driver
        driver.closing = True
        if self.is_foreign:
            driver.end("close() was called")
        elif self._lock.is_mine:
            # By a handler of signals, or what a call calls back: the call under way closes it when it is
            # at its end. Before that the descriptor could be another file's, and be waited for.
            driver.stream.shutdown()
        else:
            try:
                self._lock.alone(lambda: driver.end("close() was called"), lambda: 0.0)
            except Busy:
                driver.stream.shutdown()


class MailStream:
    """A stream of messages, which has the line from ``open`` to ``close``; a context manager.

    Another thread waits for its turn meanwhile. The time between two calls does not
    count. ``push`` and ``finish`` raise only what is no outcome, as an interrupt;
    the connection is closed then, ``known`` has what had become known, and whatever
    else was pushed is in doubt.
    """

    __slots__ = ("_channel", "_held", "_is_running", "_pipeline", "_tenant")

    def __init__(
        self, channel: Channel, pipeline: Pipeline, tenant: object, held: Generator[None, None, None]
    ) -> None:
        self._channel = channel
        self._pipeline = pipeline
        self._tenant = tenant
        self._held = held
        self._is_running = False

    @property
    def is_open(self) -> bool:
        """Whether a message may be pushed; what is pushed nevertheless is unsent."""
        return not (self._pipeline.is_closed or self._channel.closed)

    @property
    def is_busy(self) -> bool:
        """Whether a message is under way: before a wait for the next one, ``finish``."""
        return self._pipeline.is_busy

    def open(self) -> None:
        """Take the line, once.

        Raises ``ConnectionLost`` and others if the connection is found dead,
        ``Timeout`` if it does not become free in time, ``UsageError`` from within
        another call on the same line, or in a forked child.
        """
        if self._channel._tenant is not self._tenant:
            next(self._held)

    def push(
        self,
        token: Any,
        plan: Plan,
        deadline: Deadline | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Done]:
        """Send a message as far as another may follow it, and all before it to its end; what became known.

        ``deadline`` is its own; without one it has the seconds of the stream. ``meanwhile`` is
        called while a reply is waited for: it is short, and runs no code of the caller's.
        """
        pipeline = self._pipeline
        return self._drive(pipeline.push(token, plan, deadline), pipeline.deadline(deadline), meanwhile)

    def finish(self) -> list[Done]:
        """Send all that was pushed to its end; what became known."""
        pipeline = self._pipeline
        return self._drive(pipeline.finish(), pipeline.deadline()) if pipeline.is_busy else []

    def known(self) -> list[Done]:
        """What became known and was not returned, since something was raised."""
        return self._pipeline.known()

    def _drive(
        self, flow: Flow[None], deadline: Deadline | None, meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        channel, is_done = self._channel, False
        if self._is_running or channel._tenant is not self._tenant:
            raise UsageError("this stream is in use by the call that this one was made from, or was closed")
        driver = channel._driver
        self._is_running = True
        try:
            deadline = deadline or driver.fresh_deadline()
            channel._step(partial(driver.drive, flow, deadline, meanwhile), NEVER, self._tenant)
            is_done = True
        finally:
            self._is_running = False
            if not is_done:
                channel.close()
        return self._pipeline.known()

    def close(self) -> None:
        """Give the line back; close the connection if a message is under way. Does nothing twice."""
        self._held.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
