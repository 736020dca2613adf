"""The transmission channel: a stream, its driver, and the lock by which calls take turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from typing import TypeVar, cast

from .driver import Driver, Source
from .errors import ConnectionLost, SmtpError, Timeout, UsageError
from .flow.effects import Flow, Pause, Report
from .flow.flight import flight
from .flow.stream import Entry, stream
from .net.deadline import Deadline
from .wire.limits import REUSE_LIMIT, Stage

_T = TypeVar("_T")


class Channel:
    """One connection to a server; calls from several threads take turns."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        # Reentrant, since its release is the one test for its owner that no interrupt can fall into.
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._tenant: object = None
        """The stream of messages that has the line also between two of its steps."""
        self._holder: int | None = None
        self._pid = os.getpid()

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

    def binding(self) -> bytes | None:
        """The ``tls-server-end-point`` octets, None without TLS (RFC 5929 4.1)."""
        return self._driver.stream.binding()

    # -- one conversation ---------------------------------------------------------------

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

        def converse() -> _T:
            self._check_open()
            flow = make()
            if not fresh:
                self._check_idle()
            limit = deadline if seconds is None else deadline.within(seconds)
            return cast(_T, self._driver.drive(flow, limit))

        return self._step(converse, deadline, None)

    # -- a stream of messages -------------------------------------------------------------

    def stream(
        self,
        take: Callable[[bool], Entry | Pause],
        *,
        seconds: float | None,
        overlap: bool = False,
        in_flight: int = 1,
        reused: bool = False,
    ) -> Generator[Report, None, None]:
        """Send the messages that ``take`` gives, and tell what became of each, in order.

        ``take(wait)`` answers with an ``Entry``, ``LATER`` or ``END``; without
        ``wait`` at once. ``seconds`` are for each message that has no deadline
        of its own, from when it is the oldest; the time between two steps of
        the iterator does not count. With ``overlap`` the end of one message and
        the envelope of the next share a write; ``in_flight`` above 1 asks for so
        many whole transactions under way, by BDAT. With ``reused`` the first reply
        has 20 seconds, since a line that was idle may be half-open.

        The line is the stream's until it ends; another thread waits. What
        ``take`` raises comes after the reports of all that was under way.
        Closed early, the iterator closes the channel unless nothing is under
        way.
        """
        driver, tenant = self._driver, object()
        flow = flight(in_flight) if in_flight > 1 else stream(overlap=overlap)
        idle = True
        try:
            self._step(lambda: self._admit(tenant), Deadline.after(seconds), tenant)
            driver.source = Source(take, seconds)
            driver.brisk = REUSE_LIMIT if reused else None
            deadline: Deadline | None = Deadline.after(seconds)
            while True:
                idle = False
                report = self._step(lambda: driver.drive(flow, deadline), None, tenant)  # noqa: B023
                if not isinstance(report, Report):
                    idle = True
                    break
                driver.source.reported()
                if isinstance(report.outcome, SmtpError):
                    driver.transcribe(report.outcome)
                idle = report.idle
                yield report
                deadline = None
                driver.renew()
        finally:
            try:
                if not idle:
                    self.close()
                flow.close()
                self._leave(tenant)
            except BaseException:  # an interrupt in the middle of it; nothing of it is done twice
                self.close()
                self._leave(tenant)
                raise
        if report is not None:
            raise report

    def _admit(self, tenant: object) -> None:
        self._check_open()
        self._check_idle()
        self._tenant = tenant

    def _leave(self, tenant: object) -> None:
        if self.is_foreign:
            return  # a thread that is not in this process may have the lock
        with self._lock:
            if self._tenant is tenant:
                self._turn.notify_all()
                self._driver.source = None
                self._tenant = self._holder = None
        if self._driver.closing:
            self.close()

    # -- the line -------------------------------------------------------------------

    def _step(self, action: Callable[[], _T], deadline: Deadline | None, tenant: object) -> _T:
        """Do something alone on the line; the tenant's own steps do not wait for a turn."""
        if self.is_foreign:
            # Two processes on one TLS session corrupt it for both.
            raise UsageError("this connection belongs to the process that made it, and this is a fork of it")
        me = threading.get_ident()
        if self._holder == me and (tenant is None or self._tenant is not tenant):
            raise UsageError("this connection is in use by the call that this one was made from")
        mine = False
        # An interrupt may come at any call: whatever happens in here, the line is given back.
        try:
            if deadline is not None:
                self._take(deadline)
            else:
                self._lock.acquire()
            mine = True
            self._holder = me
            return action()
        finally:
            if mine and self._tenant is None:
                self._holder = None
            try:  # noqa: SIM105 - a call of its own would be one more place for an interrupt
                self._lock.release()
            except RuntimeError:
                pass  # it was never taken
            if self._driver.closing:
                self.close()

    def _take(self, deadline: Deadline) -> None:
        if not self._lock.acquire(blocking=False):
            seconds = max(0.0, min(deadline.remaining(), threading.TIMEOUT_MAX))
            if not self._lock.acquire(timeout=seconds):
                raise Timeout("another thread kept the connection busy", stage=Stage.INPUT)
        while self._tenant is not None:
            seconds = max(0.0, min(deadline.remaining(), threading.TIMEOUT_MAX))
            if not self._turn.wait(seconds):
                raise Timeout("a stream of messages kept the connection busy", stage=Stage.INPUT)

    def _check_open(self) -> None:
        driver = self._driver
        if driver.stream.closed:
            raise ConnectionLost(
                f"the connection is closed: {driver.why or 'the last call ended it'}", stage=Stage.INPUT
            )

    def _check_idle(self) -> None:
        try:
            self._driver.stream.check_idle()
        except SmtpError as error:
            error.stage = Stage.INPUT  # nothing was written
            self._driver.end(str(error))
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
        elif self._is_busy():
            # By a handler of signals, or what a call calls back: the call under way closes it when it is
            # at its end. Before that the descriptor could be another file's, and be waited for.
            driver.stream.shutdown()
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        # An interrupt may come at any call, also between the lock and what follows.
        try:
            if self._lock.acquire(blocking=False):
                self._driver.end("close() was called")
            else:
                self._driver.stream.shutdown()
        finally:
            try:  # noqa: SIM105 - as in ``_step``
                self._lock.release()
            except RuntimeError:
                pass

    def _is_busy(self) -> bool:
        """Whether the calling thread is in the middle of something on the line."""
        try:
            self._turn.notify(0)  # rings for nobody, and refuses whom the lock does not belong to
        except RuntimeError:
            return False
        return True
