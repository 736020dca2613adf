"""The moving parts of a pool under one roof: feed, rack and workers, and how they come to an end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from ..errors import UsageError
from ..net.deadline import Deadline
from ..retry import RetryPolicy
from ..wire.result import SendResult
from . import lifetime
from .bell import Bell
from .events import Events
from .feed import Feed
from .jobs import Job
from .rack import Opener, Rack
from .session import Claim, Site
from .shelf import Limits, closed
from .shop import Shop, for_each
from .source import Pacer, Single
from .worker import abandon, guard, is_serving, serve, work

_GRACE: Final = 5.0
"""Seconds for the workers to come to an end after their sockets were shut down."""
_LOOK_AGAIN: Final = 1.0
"""Seconds until whoever waits looks himself: an interrupt can fall between a change and its ring."""


class Settings(NamedTuple):
    """How a pool behaves."""

    limits: Limits
    policy: RetryPolicy
    events: Events
    by_priority: bool = True
    in_flight: int = 1
    most_queued: int = 1000
    pacer: Pacer | None = None


class Engine:
    """What sends for a pool: in its workers, and in the threads of its callers."""

    def __init__(self, sites: Sequence[Site], settings: Settings, opener: Opener | None = None) -> None:
        self.settings = settings
        limits = settings.limits
        self.rack = Rack(sites, limits, settings.events, by_priority=settings.by_priority, opener=opener)
        self.shop = Shop(self.rack, settings.events, settings.policy, settings.in_flight)
        self.feed = Feed(settings.most_queued, limits.connections, self._start, settings.pacer, self._post)
        self._begin()
        lifetime.enter(self)

    def _begin(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.RLock()
        self._singles: weakref.WeakSet[Single] = weakref.WeakSet()
        self._watchers: list[Bell] = []
        self.is_closed = False

    # -- sending ----------------------------------------------------------------------

    def send(self, job: Job) -> SendResult:
        """Send in the calling thread; return the result or raise the error."""
        single = Single(job, self.settings.pacer)
        try:
            with self._lock:
                self.check_open()
                self._singles.add(single)
            serve(self.shop, single, Claim(urgent=True))
        finally:
            with self._lock:
                self._singles.discard(single)
                for bell in self._watchers:
                    bell.ring()
        outcome = job.outcome
        if isinstance(outcome, SendResult):
            return outcome
        raise closed() if outcome is None else outcome

    def put(self, job: Job) -> None:
        """Queue a message for the workers; waits where the queue is full, until the message's deadline."""
        self.check_open()
        # A worker must not wait for what only workers can do.
        self.feed.put(job, job.deadline or Deadline.after(None), bounded=not is_serving(self.shop))

    def check_open(self) -> None:
        """Raise ``UsageError`` where the pool was closed."""
        if self.is_closed:
            raise UsageError("the pool is closed")

    def _start(self, token: object) -> None:
        """One more worker; called under the feed's lock."""
        self._threads().submit(work, self.shop, self.feed, token)

    def _post(self, bell: Bell) -> None:
        """A guard for the deadlines; called under the feed's lock."""
        self._threads().submit(guard, self.shop, self.feed, bell)

    def _threads(self) -> ThreadPoolExecutor:
        if self._executor is None:
            threads = self.settings.limits.connections + 1
            self._executor = ThreadPoolExecutor(threads, thread_name_prefix="pysmtpx-pool")
        return self._executor

    # -- the end ----------------------------------------------------------------------

    def drain(self, seconds: float | None) -> bool:
        """Take in nothing more for the workers, and wait until they have sent all; whether they have."""
        self.feed.close()
        if is_serving(self.shop):
            return False  # from within a callback: it is called for what would be waited for
        return self._wait(lambda: self.feed.is_done, Deadline.after(seconds))

    def close(self, seconds: float | None) -> None:
        """End what is queued as unsent, let what is under way end until then, and shut down the rest."""
        with self._lock:
            self.is_closed = True
            singles = list(self._singles)
        self._end_queued()
        for single in singles:
            single.end()
        self.rack.end()
        if is_serving(self.shop):  # from within a callback: this very thread is what would be waited for
            if seconds == 0:
                self.rack.shut_down()
            return
        try:
            done = seconds != 0 and self._wait(self._is_done, Deadline.after(seconds))
        finally:
            if seconds == 0 or not self._is_done():
                self.rack.shut_down()
        done = done or self._wait(self._is_done, Deadline.after(_GRACE))
        self.rack.await_dials(_GRACE)
        if self._executor is not None:
            self._executor.shutdown(wait=done)

    def _end_queued(self) -> None:
        queued = self.feed.end()
        for_each(queued, self._end_unsent)  # after an interrupt they are in the queue, for the next close
        self.feed.withdraw(queued)

    def _end_unsent(self, job: Job) -> None:
        if job.end(closed()):
            self.shop.ended(job)

    def _is_done(self) -> bool:
        with self._lock:
            return self.feed.is_done and not self._singles

    def _wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        bell = Bell()
        self.feed.watch(bell)
        try:
            with self._lock:
                self._watchers.append(bell)
            while not condition():
                if deadline.remaining() <= 0:
                    return False
                bell.wait(min(deadline.remaining(), _LOOK_AGAIN))
            return True
        finally:
            self.feed.unwatch(bell)
            with self._lock:
                if bell in self._watchers:
                    self._watchers.remove(bell)

    # -- the process -------------------------------------------------------------------

    def after_fork(self) -> None:
        """Begin empty, in a child: other locks, no threads, inherited descriptors closed without an octet."""
        was_closed = self.is_closed
        abandon()
        self._begin()
        self.is_closed = was_closed
        self.feed.abandon()
        self.rack.abandon()
        self.shop.tally.abandon()
        if self.settings.pacer is not None:
            self.settings.pacer.abandon()
        if was_closed:
            self.feed.close()
            self.rack.end()

    def take_leave(self, bell: Bell) -> None:
        """The process ends: take nothing more in, and ring for each outcome from now on."""
        self.feed.close("the process is ending: no worker can send this; a send in the calling thread can")
        self.feed.watch(bell)

    @property
    def is_quiet(self) -> bool:
        """Nothing is queued, and nothing is under way in a worker."""
        return self.feed.is_done

    @property
    def outcomes(self) -> int:
        """How many messages of its workers have their outcome."""
        return self.feed.counts().finished

    def give_up(self) -> None:
        """End what is queued as unsent, and shut down the sockets of all workers."""
        self._end_queued()
        self.rack.shut_down(workers_only=True)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        self.rack.close_idle()
