"""The messages that wait to be sent by workers: bounded, with deadlines and retries, under one lock."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from ..errors import Timeout, UsageError
from ..flow.allowance import Allowance
from ..lock import Lock, Wakeup
from ..net.deadline import Deadline, now
from ..wire.limits import Stage
from .job import Job
from .ratelimit import RateLimit

_LINGER: Final = 1.0
"""Seconds that a worker without work waits for some before it ends."""
_RENEWAL: Final = 1.0
"""Seconds for which a message waits for a connection that is newer than the one that is to blame."""


class Counts(NamedTuple):
    """The queue at one moment."""

    queued: int
    under_way: int
    finished: int
    """Messages that have their outcome, since it was made."""
    workers: int


class Worker:
    """One thread that sends, as the queue sees it."""

    __slots__ = ("is_coming", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.is_coming = True
        """It is on its way to take something: just started, woken, or waiting for a connection."""


class Queue:
    """What waits: messages owed a newer connection, those that are ready, and those due later.

    Whoever puts a message in wakes or starts a worker for it, by ``start``; a
    worker that takes one while others wait wakes the next. At most ``connections``
    workers can have a connection: one more waits for one as soon as all of them
    are busy, and tells meanwhile those whose time is over.
    """

    def __init__(
        self, limit: int, connections: int, start: Callable[[Worker], None], rate: RateLimit | None = None
    ) -> None:
        self._limit = limit
        self._connections = connections
        self._start = start
        self._rate = rate
        self._number = itertools.count()
        self.abandon()

    def abandon(self) -> None:
        """Begin empty, as after a fork."""
        self._lock = Lock()
        self._renewed: deque[Job] = deque()
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._under_way: set[Job] = set()
        self._finished = 0
        self._earliest = math.inf
        """No deadline in the queue is earlier."""
        self._slot: tuple[float, Job] | None = None
        """When the first in the queue may be sent, and which it was when that was reserved."""
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._putters: deque[Wakeup] = deque()
        self._watchers: set[Wakeup] = set()
        self._why_closed = ""
        self._is_ended = False

    # -- putting in -------------------------------------------------------------------

    def put(self, job: Job, deadline: Deadline, *, bounded: bool = True) -> None:
        """Queue a message, after a wait in turn if the queue is full.

        Raises ``Timeout`` if it is full until the deadline, ``UsageError`` if
        nothing is taken in any more. Not ``bounded``: never waits.
        """
        wakeup = Wakeup()
        try:
            while not self._put(job, wakeup, bounded):
                left = deadline.remaining()
                if left <= 0:
                    raise Timeout("the queue is full", stage=Stage.INPUT)
                wakeup.wait(min(left, _LINGER))
        except BaseException:
            self.withdraw([job])
            with self._lock:
                if wakeup in self._putters:
                    self._putters.remove(wakeup)
                self._wake_putter_locked()
            raise

    def _put(self, job: Job, wakeup: Wakeup, bounded: bool) -> bool:
        with self._lock:
            if self._why_closed:
                raise UsageError(self._why_closed)
            putters = self._putters
            is_first = not putters or putters[0] is wakeup
            if bounded and not (is_first and self._count_locked() < self._limit):
                if wakeup not in putters:
                    putters.append(wakeup)
                return False
            if wakeup in putters:
                putters.remove(wakeup)
                self._wake_putter_locked()
            self._ready.append(job)
            self._note_deadline_locked(job)
            self._call_locked()
            if not self._workers:
                raise UsageError("no thread can be started: the process is ending, or at its limit")
        return True

    def put_back(self, jobs: Sequence[Job]) -> bool:
        """Put messages that were not begun back in front, in their order; False if nothing is given out."""
        with self._lock:
            if self._is_ended:
                return False
            for job in reversed(jobs):
                (self._ready if job.newer_than == -math.inf else self._renewed).appendleft(job)
                self._under_way.discard(job)
                self._note_deadline_locked(job)
        return True

    def go_on(self, job: Job) -> bool:
        """Put a message that was taken back in front, for its next part; False if nothing is given out."""
        is_back = self.put_back([job])
        with self._lock:
            if is_back:
                self._call_locked()
                self._wake_watchers_locked()
        return is_back

    def put_later(self, job: Job, moment: float) -> bool:
        """Queue a message for another try at this moment; False if nothing is given out any more."""
        with self._lock:
            if self._is_ended:
                return False
            heapq.heappush(self._later, (moment, next(self._number), job))
            self._under_way.discard(job)
            self._note_deadline_locked(job)
            self._call_locked()
            self._wake_watchers_locked()
        return True

    def _note_deadline_locked(self, job: Job) -> None:
        if job.deadline is not None:
            moment = now() + job.deadline.remaining()
            if moment < self._earliest:
                self._earliest = moment
                self._wake_watchers_locked()

    def _wake_watchers_locked(self) -> None:
        """Let those look at the clock again who are idle, or wait for a connection."""
        watchers = self._idle[:1] or [worker for worker in self._workers if worker.is_coming]
        for worker in watchers:
            worker.wakeup.wake()

    # -- workers ----------------------------------------------------------------------

    def _call_locked(self) -> None:
        """Wake or start a worker, if more wait than are coming, or if nobody looks at the clock."""
        wanted = len(self._ready) + len(self._renewed)
        if self._idle:
            wanted = 0 if self._slot is not None else wanted  # the first may not be sent yet: it is watched
        elif self._later:
            wanted += 1
        if sum(worker.is_coming for worker in self._workers) >= wanted:
            return
        if self._idle:
            worker = self._idle[-1]
            worker.is_coming = True
            self._idle.pop()
            worker.wakeup.wake()
        elif len(self._workers) <= self._connections:
            worker = Worker()
            with suppress(RuntimeError):
                self._start(worker)
                # Only now: an interrupt before must not leave us waiting for a worker that never comes.
                self._workers.add(worker)

    def _coming_locked(self) -> int:
        """Workers that will take something soon: those that have all connections leave none to others."""
        coming = sum(worker.is_coming for worker in self._workers)
        busy = len(self._workers) - coming - len(self._idle)
        return min(coming, self._connections - busy)

    def arrive(self, worker: Worker) -> None:
        """A worker that was started is there."""
        with self._lock:
            self._workers.add(worker)

    def leave(self, worker: Worker) -> None:
        """A worker is there no more, for whatever reason."""
        with self._lock:
            self._workers.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._call_locked()
            self._notify_locked()

    def wait(self, worker: Worker) -> bool:
        """Wait for work; False if there is none and the worker is to leave."""
        has_lingered = False
        while True:
            with self._lock:
                worker.is_coming = False
                if worker in self._idle:
                    self._idle.remove(worker)
                moment = now()
                due = min(self._next_locked(moment), self._earliest)
                if self._is_ended:
                    return False
                if due <= moment and self._coming_locked() < max(1, len(self._ready) + len(self._renewed)):
                    worker.is_coming = True
                    return True
                if has_lingered and (math.isinf(due) or self._idle):
                    return False
                self._idle.append(worker)
            # What is due already others are coming for.
            seconds = _LINGER if due <= moment else min(due - moment, _LINGER)
            has_lingered = not worker.wakeup.wait(seconds) and seconds == _LINGER

    def wish(self, worker: Worker) -> tuple[float, float] | None:
        """After which moment a connection for this worker must be made, and for how many seconds that holds.

        None if there is nothing to send by now.
        """
        with self._lock:
            if self._is_ended or not (self._renewed or self._ready):
                worker.is_coming = False
                return None
            newer_than = self._newer_than_locked()
            return newer_than, max(0.01, min(self._earliest - now(), _LINGER))

    def fits_next(self, allowance: Allowance) -> bool:
        """Whether a session that has this left is of use for what is next, as it seems.

        Asked under the lock of the connections, so without the queue's own: whoever takes it looks again.
        """
        for jobs in (self._renewed, self._ready):
            with suppress(IndexError):
                if not jobs[0].fits(allowance):
                    return False
        return True

    def _newer_than_locked(self) -> float:
        """For as long as only those wait that are owed one."""
        if self._ready or not self._renewed:
            return -math.inf
        moment = min(job.newer_than for job in self._renewed)
        return moment if moment + _RENEWAL > now() else -math.inf

    # -- taking out -------------------------------------------------------------------

    def take(
        self, worker: Worker, made: float, *, eager: bool, allowance: Allowance | None = None
    ) -> Job | None:
        """The next message, or None, for a worker with a connection that was ``made`` at that moment.

        One that another worker is coming for is left to it, unless ``eager``: on
        a connection where nothing is under way it cannot be sent sooner. One for
        which the ``allowance`` has no room is left to another connection.
        """
        with self._lock:
            worker.is_coming = False
            moment = now()
            if self._is_ended or self._next_locked(moment, made) > moment:
                return None
            is_renewal = self._is_renewal_locked(made, moment)
            jobs = self._renewed if is_renewal else self._ready
            if not (is_renewal or eager or len(jobs) > self._coming_locked()):
                return None
            if allowance is not None and not jobs[0].fits(allowance):
                return None
            job = jobs.popleft()
            self._slot = None
            self._under_way.add(job)
            self._wake_putter_locked()
            if self._ready or self._renewed or self._later:
                self._call_locked()
        return job

    def _is_renewal_locked(self, made: float, moment: float) -> bool:
        if not self._renewed:
            return False
        newer_than = self._renewed[0].newer_than
        return made > newer_than or newer_than + _RENEWAL <= moment

    def _next_locked(self, moment: float, made: float = math.inf) -> float:
        """When something can be taken; minus infinity is now."""
        later = self._later
        while later and later[0][0] <= moment:
            self._ready.append(heapq.heappop(later)[2])
        if self._is_renewal_locked(made, moment):
            first = self._renewed[0]
        elif self._ready:
            first = self._ready[0]
        else:
            if not (later or self._renewed):
                self._earliest = math.inf
            return later[0][0] if later else math.inf
        if self._rate is None:
            return -math.inf
        if self._slot is None or self._slot[1] is not first:
            self._slot = self._rate.reserve(first.recipients_count), first
        else:
            self._slot = self._rate.confirm(first.recipients_count, self._slot[0]), first
        # By a later look at the clock: a moment that was reserved just now is past by then.
        return -math.inf if self._slot[0] <= now() else self._slot[0]

    def _wake_putter_locked(self) -> None:
        if self._putters:
            self._putters[0].wake()

    def expired(self) -> list[Job]:
        """Take out what was not sent in time."""
        with self._lock:
            if self._earliest > now():
                return []
            over = [job for job in self._queued_locked() if job.is_late]
            self._remove_locked(over)
            self._under_way.update(over)
            self._earliest = math.inf
            for job in self._queued_locked():
                self._note_deadline_locked(job)
            return over

    def take_all(self, *, ready_only: bool) -> list[Job]:
        """Take out everything, or but for what is to be tried again later."""
        with self._lock:
            self._next_locked(now())
            jobs = [*self._renewed, *self._ready] if ready_only else list(self._queued_locked())
            self._remove_locked(jobs)
            self._under_way.update(jobs)
            return jobs

    def withdraw(self, jobs: Iterable[Job]) -> list[Job]:
        """Take these out of the queue; those that no worker has, whether they were queued or not."""
        with self._lock:
            free = [job for job in jobs if job not in self._under_way]
            self._remove_locked(free)
            self._notify_locked()
            return free

    def _count_locked(self) -> int:
        return len(self._renewed) + len(self._ready) + len(self._later)

    def _queued_locked(self) -> Iterator[Job]:
        return itertools.chain(self._renewed, self._ready, (entry[2] for entry in self._later))

    def _remove_locked(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        gone = set(jobs)
        self._renewed = deque(job for job in self._renewed if job not in gone)
        self._ready = deque(job for job in self._ready if job not in gone)
        self._later = [entry for entry in self._later if entry[2] not in gone]
        heapq.heapify(self._later)
        self._wake_putter_locked()

    def done(self, job: Job) -> None:
        """A message that was taken has its outcome."""
        with self._lock:
            self._under_way.discard(job)
            self._finished += 1
            if self._watchers:
                self._notify_locked()

    # -- the whole --------------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        """True once nothing more is given out."""
        return self._is_ended

    def close(self, why: str = "the pool is closed") -> None:
        """Take nothing more in, and say why to whoever tries."""
        with self._lock:
            self._why_closed = self._why_closed or why
            for wakeup in self._putters:
                wakeup.wake()

    def end(self) -> list[Job]:
        """Give nothing more out, and let the workers go; what is queued, until it is withdrawn."""
        self.close()
        with self._lock:
            self._is_ended = True
            for worker in self._idle:
                worker.wakeup.wake()
            return list(self._queued_locked())

    def watch(self, wakeup: Wakeup) -> None:
        """Wake it from now on whenever something was finished."""
        with self._lock:
            self._watchers.add(wakeup)

    def unwatch(self, wakeup: Wakeup) -> None:
        """Wake it no more."""
        with self._lock:
            self._watchers.discard(wakeup)

    def notify(self) -> None:
        """Let those who watch look again."""
        with self._lock:
            self._notify_locked()

    @property
    def is_done(self) -> bool:
        """Nothing is queued or under way and, once it is ended, no thread is left."""
        with self._lock:
            threads = self._is_ended and self._workers
            return not (self._count_locked() or self._under_way or threads)

    def _notify_locked(self) -> None:
        for wakeup in self._watchers:
            wakeup.wake()

    def counts(self) -> Counts:
        """The queue at this moment."""
        with self._lock:
            return Counts(self._count_locked(), len(self._under_way), self._finished, len(self._workers))
