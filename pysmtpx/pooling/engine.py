"""The parts of a pool together: connections, queue and workers, calls; and how they come to an end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..errors import UsageError
from ..events import Events
from ..lock import Wakeup
from ..net.deadline import Deadline
from ..retry import RetryPolicy
from . import process
from .arguments import PoolStats
from .call import Call
from .connection import PooledServer
from .connections import Connections, Opener, closed
from .job import Job
from .journaling import Keeper
from .outcomes import Outcomes
from .queue import Queue, Worker
from .ratelimit import RateLimit
from .selection import Limits
from .worker import Sender, for_each

_GRACE: Final = 5.0
"""Seconds for the workers to come to an end after their sockets were shut down."""
_LOOK_AGAIN: Final = 1.0
"""Seconds until whoever waits looks himself: an interrupt can fall between a change and the wakeup for it."""


class Engine:
    """What sends for a pool: in its workers, and in the threads of its callers."""

    def __init__(
        self,
        servers: Sequence[PooledServer],
        limits: Limits,
        policy: RetryPolicy,
        events: Events,
        *,
        by_priority: bool = True,
        is_weighted: bool = False,
        in_flight: int = 1,
        most_queued: int = 1000,
        rate: RateLimit | None = None,
        opener: Opener | None = None,
    ) -> None:
        self.limits = limits
        self.in_flight = in_flight
        self.is_closed = False
        self.rate = rate
        self.inside: dict[int, Call | None] = {}
        """Threads in the middle of a call or at work for the pool: from these it calls its caller."""
        self.connections = Connections(
            servers,
            limits,
            events,
            self.inside,
            by_priority=by_priority,
            is_weighted=is_weighted,
            opener=opener,
        )
        self.outcomes = Outcomes(self.connections, events, policy)
        self.queue = Queue(most_queued, limits.connections, self._start, rate)
        self._executor: ThreadPoolExecutor | None = None
        self.keeper: Keeper | None = None
        """Of its journal, where it has one; given to it before anything is sent."""
        process.enter(self)

    # -- sending ----------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Queue a message for the workers; waits if the queue is full, until the message's deadline."""
        if self.is_closed:
            raise UsageError("the pool is closed")
        # A worker must not wait for what only workers can do.
        self.queue.put(job, job.deadline or Deadline.after(None), bounded=not self.is_inside)

    def put_owed(self, job: Job) -> None:
        """Queue a message of the journal, which has room for it; never waits."""
        self.queue.put(job, Deadline.after(None), bounded=False)

    @property
    def is_inside(self) -> bool:
        """Whether this thread is in a callback, a hook or the content of a message of this pool."""
        return threading.get_ident() in self.inside

    def _start(self, worker: Worker) -> None:
        """One more worker; called under the queue's lock."""
        if self._executor is None:
            threads = self.limits.connections + 1
            self._executor = ThreadPoolExecutor(threads, thread_name_prefix="pysmtpx-pool")
        self._executor.submit(self._work, worker)

    def _work(self, worker: Worker) -> None:
        me = threading.get_ident()
        self.inside[me] = None
        try:
            Sender(worker, self.queue, self.connections, self.outcomes, self.in_flight).run()
        finally:
            self.inside.pop(me, None)

    # -- telling ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of its servers, in order."""
        return ",".join(server.name for server in self.connections.servers)

    def stats(self) -> PoolStats:
        """The live state."""
        connections, queue, counts = self.connections.counts(), self.queue.counts(), self.outcomes.counts()
        names = ("accepted", "rejected", "unknown", "unsent", "retried")
        return PoolStats(
            connections=connections.open,
            idle=connections.idle,
            dialling=connections.dialling,
            waiting=connections.waiting,
            workers=queue.workers,
            queued=queue.queued,
            under_way=queue.under_way,
            servers=self.connections.server_stats(),
            **{name: counts.get(name, 0) for name in names},
        )

    # -- the end ----------------------------------------------------------------------

    def drain(self, seconds: float | None) -> bool:
        """Take in nothing more for the workers, and wait until they have sent all; whether they have."""
        if self.keeper is not None:
            self.keeper.stop_feeding()
        self.queue.close()
        if self.is_inside:
            return False  # it is called for what would be waited for
        return self._wait(lambda: self.queue.is_done, Deadline.after(seconds))

    def close(self, seconds: float | None) -> None:
        """End what is queued as unsent, let what is under way end until then, and shut down the rest."""
        self.is_closed = True
        if self.keeper is not None:
            self.keeper.stop_feeding()
        self._end_queued()
        for call in list(self.inside.values()):
            if call is not None:
                call.end(self.queue.notify)
        self.connections.end()
        if self.is_inside:  # this very thread is what would be waited for
            if seconds == 0:
                self.connections.shut_down()
            return
        try:
            done = seconds != 0 and self._wait(self._is_done, Deadline.after(seconds))
        finally:
            if seconds == 0 or not self._is_done():
                self.connections.shut_down()
        done = done or self._wait(self._is_done, Deadline.after(_GRACE))
        self.connections.await_dials(_GRACE)
        if self._executor is not None:
            self._executor.shutdown(wait=done)
        if self.keeper is not None:
            self.keeper.end()

    def _end_queued(self) -> None:
        queued = self.queue.end()
        for_each(queued, self._end_unsent)  # after an interrupt they are in the queue, for the next close
        self.queue.withdraw(queued)

    def _end_unsent(self, job: Job) -> None:
        if job.end(closed(), stays=True):
            self.outcomes.ended(job)

    def _is_done(self) -> bool:
        return self.queue.is_done and not any(call is not None for call in list(self.inside.values()))

    def _wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        wakeup = Wakeup()
        self.queue.watch(wakeup)
        try:
            while not condition():
                if deadline.remaining() <= 0:
                    return False
                wakeup.wait(min(deadline.remaining(), _LOOK_AGAIN))
            return True
        finally:
            self.queue.unwatch(wakeup)

    # -- the process -------------------------------------------------------------------

    def after_fork(self) -> None:
        """Begin empty, in a child: other locks, no threads, inherited descriptors closed without an octet."""
        self.inside.clear()
        self._executor = None
        self.queue.abandon()
        self.connections.abandon()
        self.outcomes.abandon()
        if self.keeper is not None:
            self.keeper.abandon()
        if self.rate is not None:
            self.rate.abandon()
        if self.is_closed:
            self.queue.close()
            self.connections.end()

    def take_leave(self, wakeup: Wakeup) -> None:
        """The process ends: take nothing more in, and wake this for each outcome from now on."""
        if self.keeper is not None:
            self.keeper.stop_feeding()
        self.queue.close("the process is ending: no worker can send this; a send in the calling thread can")
        self.queue.watch(wakeup)

    @property
    def is_quiet(self) -> bool:
        """Nothing is queued, and nothing is under way in a worker."""
        return self.queue.is_done

    @property
    def outcomes_count(self) -> int:
        """How many messages of its workers have their outcome."""
        return self.queue.counts().finished

    def give_up(self) -> None:
        """End what is queued as unsent, and shut down the sockets of all workers."""
        self._end_queued()
        self.connections.shut_down(workers_only=True)
        if self.keeper is not None:
            self.keeper.end()

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        self.connections.close_idle()
