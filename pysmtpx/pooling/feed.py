"""The messages that wait to be sent: a bounded queue, and who is woken for it."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..errors import Timeout, UsageError
from ..net.deadline import Deadline, now
from ..wire.limits import Stage
from .bell import Bell
from .crew import Crew
from .jobs import Job
from .source import Counts, Pacer, is_over

_LINGER: Final = 1.0
"""Seconds that a worker without work waits for some before it ends."""
_KEPT: Final = 1.0
"""Seconds for which messages are kept for a worker that waits for a place to dial."""


class Feed:
    """The queue of a pool's workers.

    ``start`` starts one more worker, in a thread of its own, and hands it the
    token that it comes with. Whoever puts a message in wakes or starts one for
    it; a worker that takes one while others wait to be taken wakes the next.
    ``post`` starts a guard: it ends messages in time, whatever holds up the workers.
    """

    def __init__(
        self,
        limit: int,
        workers: int,
        start: Callable[[object], None],
        pacer: Pacer | None = None,
        post: Callable[[Bell], None] | None = None,
    ) -> None:
        self._limit = limit
        self._most_workers = workers
        self._start = start
        self._post = post
        self._pacer = pacer
        self._number = itertools.count()
        self.abandon()

    def abandon(self) -> None:
        """Begin empty, as after a fork."""
        self._lock = threading.RLock()
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._kept: dict[Bell, list[Job]] = {}
        """Messages that one worker alone may take, on a new connection."""
        self._crew = Crew(self._most_workers, self._start, self._post)
        self._putters: deque[Bell] = deque()
        self._watchers: set[Bell] = set()
        self._under_way: set[Job] = set()
        self._finished = 0
        self._earliest = math.inf
        """No deadline in the queue is earlier."""
        self._slot: tuple[float, Job] | None = None
        """When the first in the queue may be sent, and which it was when that was reserved."""
        self._why_closed = ""
        self._is_ended = False

    # -- putting in -------------------------------------------------------------------

    def put(self, job: Job, deadline: Deadline, *, bounded: bool = True) -> None:
        """Queue a message, after a wait in turn where the queue is full.

        Raises ``Timeout`` where it is full until the deadline, ``UsageError``
        where nothing is taken in any more. Not ``bounded``: never waits.
        """
        bell = Bell()
        try:
            while not self._put(job, bell, bounded):
                left = deadline.remaining()
                if left <= 0:
                    raise Timeout("the queue is full", stage=Stage.INPUT)
                bell.wait(left)
        except BaseException:
            self.withdraw([job])
            with self._lock:
                if bell in self._putters:
                    self._putters.remove(bell)
                self._ring_putter_locked()
            raise

    def _put(self, job: Job, bell: Bell, bounded: bool) -> bool:
        with self._lock:
            if self._why_closed:
                raise UsageError(self._why_closed)
            putters = self._putters
            first = not putters or putters[0] is bell
            if bounded and not (first and self._count_locked() < self._limit):
                if bell not in putters:
                    putters.append(bell)
                return False
            if bell in putters:
                putters.remove(bell)
                self._ring_putter_locked()
            self._ready.append(job)
            self._note_deadline_locked(job)
            self._call_locked()
            self._crew.post(self._earliest)
            if not self._crew.exists:
                raise UsageError("no thread can be started: the process is ending, or at its limit")
        return True

    def _call_locked(self) -> None:
        """Call a worker, where more wait to be taken than are coming."""
        wanted = len(self._ready)
        if self._crew.keeper is not None:
            wanted = 0 if self._slot is not None else wanted  # the first may not be sent yet: it is watched
        elif self._later:
            wanted += 1
        self._crew.call(wanted)

    def put_back(self, jobs: Sequence[Job]) -> bool:
        """Put messages that were not begun back in front, in their order."""
        with self._lock:
            if self._is_ended:
                return False
            self._ready.extendleft(reversed(jobs))
            self._under_way.difference_update(jobs)
            for job in jobs:
                self._note_deadline_locked(job)
        return True

    def keep(self, jobs: Sequence[Job], bell: Bell) -> bool:
        """The same, but they are for the worker with this bell alone: until it takes or leaves them."""
        with self._lock:
            if self._is_ended:
                return False
            self._kept.setdefault(bell, []).extend(jobs)
            self._under_way.difference_update(jobs)
            for job in jobs:
                self._note_deadline_locked(job)
        return True

    def let_go(self, bell: Bell) -> None:
        """What was kept for it is for anybody."""
        with self._lock:
            if bell in self._kept:
                self._unkeep_locked(bell)
                self._call_locked()

    def _unkeep_locked(self, bell: Bell) -> None:
        """What was kept for it is the next for whoever comes."""
        if bell in self._kept:
            self._ready.extendleft(reversed(self._kept[bell]))
            del self._kept[bell]

    def put_later(self, job: Job, moment: float) -> bool:
        """Queue a message for another try at this moment."""
        with self._lock:
            if self._is_ended:
                return False
            heapq.heappush(self._later, (moment, next(self._number), job))
            self._under_way.discard(job)
            self._note_deadline_locked(job)
            self._crew.alert()
            self._call_locked()
        return True

    def _note_deadline_locked(self, job: Job) -> None:
        if job.deadline is not None:
            moment = now() + job.deadline.remaining()
            if moment < self._earliest:
                self._earliest = moment
                self._crew.alert()

    # -- taking out -------------------------------------------------------------------

    def take(self, bell: Bell, *, eager: bool) -> Job | None:
        """The next message, or None, for the worker that waits with this bell.

        One that another worker was woken for is left to it, unless ``eager``:
        on a connection where nothing is under way it cannot be sent sooner.
        """
        with self._lock:
            self._crew.found(bell)
            eager = eager or bell in self._kept
            self._unkeep_locked(bell)
            if self._is_ended or self._next_locked(now()) > -math.inf:
                return None
            if not eager and len(self._ready) <= self._crew.coming:
                return None
            self._slot = None
            job = self._ready.popleft()
            self._under_way.add(job)
            self._ring_putter_locked()
            if self._ready or self._later:
                self._call_locked()
        return job

    def _next_locked(self, moment: float) -> float:
        """When something can be taken; minus infinity is now."""
        later = self._later
        while later and later[0][0] <= moment:
            self._ready.append(heapq.heappop(later)[2])
        if not self._ready:
            if not later:
                self._earliest = math.inf
            return later[0][0] if later else math.inf
        if self._pacer is None:
            return -math.inf
        first = self._ready[0]
        if self._slot is None or self._slot[1] is not first:
            self._slot = self._pacer.reserve(first.recipients_count), first
        else:
            self._slot = self._pacer.confirm(first.recipients_count, self._slot[0]), first
        # By a later look at the clock: a moment that was reserved just now is past by then.
        return -math.inf if self._slot[0] <= now() else self._slot[0]

    def _ring_putter_locked(self) -> None:
        if self._putters:
            self._putters[0].ring()

    def expired(self) -> list[Job]:
        """Take out what was not sent in time."""
        with self._lock:
            if self._earliest > now():
                return []
            over = [job for job in self._queued_locked() if is_over(job)]
            self._remove_locked(over)
            self._under_way.update(over)
            self._earliest = math.inf
            for job in self._queued_locked():
                self._note_deadline_locked(job)
            return over

    def take_all(self) -> list[Job]:
        """Take out everything."""
        with self._lock:
            return self._taken_locked(self._queued_locked())

    def take_ready(self) -> list[Job]:
        """Take out everything but what is to be tried again later."""
        with self._lock:
            self._next_locked(now())
            return self._taken_locked([*itertools.chain(*self._kept.values()), *self._ready])

    def _taken_locked(self, jobs: list[Job]) -> list[Job]:
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
        return len(self._ready) + len(self._later) + sum(map(len, self._kept.values()))

    def _queued_locked(self) -> list[Job]:
        kept = itertools.chain(*self._kept.values())
        return [*kept, *self._ready, *(entry[2] for entry in self._later)]

    def _remove_locked(self, jobs: Sequence[Job]) -> None:
        gone = {id(job) for job in jobs}
        self._ready = deque(job for job in self._ready if id(job) not in gone)
        self._later = [entry for entry in self._later if id(entry[2]) not in gone]
        for bell, jobs in list(self._kept.items()):
            self._kept[bell] = [job for job in jobs if id(job) not in gone]
            if not self._kept[bell]:
                del self._kept[bell]
        heapq.heapify(self._later)
        self._ring_putter_locked()

    def patience(self, bell: Bell) -> Deadline:
        """Until the first message of the queue runs out of time; not long where some are kept for it."""
        with self._lock:
            kept = now() + _KEPT if bell in self._kept else math.inf
            return Deadline(min(self._earliest, kept))

    def done(self, job: Job) -> None:
        """A message that was taken has its outcome."""
        with self._lock:
            self._under_way.discard(job)
            self._finished += 1
            self._notify_locked()

    # -- workers ----------------------------------------------------------------------

    def arrive(self, token: object, bell: Bell) -> None:
        """A worker that was started is there."""
        with self._lock:
            self._crew.arrive(token, bell)

    def leave(self, token: object, bell: Bell) -> None:
        """A worker is there no more, for whatever reason."""
        with self._lock:
            self._unkeep_locked(bell)
            self._crew.leave(token, bell)
            self._call_locked()
            self._notify_locked()

    def wait(self, bell: Bell) -> bool:
        """Wait for work; False where there is none and the worker is to leave."""
        crew, has_lingered = self._crew, False
        while True:
            with self._lock:
                crew.wake(bell)
                crew.found(bell)
                moment = now()
                due = min(self._next_locked(moment), self._earliest)
                if bell in self._kept:
                    due = -math.inf
                if self._is_ended:
                    return False
                if due <= moment:
                    crew.seek(bell)
                    crew.post(self._earliest)
                    return True
                if has_lingered and (math.isinf(due) or crew.keeper is not None):
                    return False
                watches = crew.rest(bell, watch=due < math.inf)
            has_lingered = not bell.wait(due - moment if watches else _LINGER)

    # -- the guard --------------------------------------------------------------------

    def guard(self, bell: Bell) -> bool:
        """Wait until a deadline in the queue has passed; False where the guard is to leave."""
        has_lingered = False
        while True:
            with self._lock:
                left, is_empty = self._earliest - now(), not self._count_locked()
                if self._is_ended or (is_empty and has_lingered):
                    self._crew.relieve(bell)
                    return False
                if left <= 0 and not is_empty:
                    return True
            has_lingered = not bell.wait(_LINGER if is_empty else min(left, _LINGER))

    def relieve(self, bell: Bell) -> None:
        """The guard is gone."""
        with self._lock:
            self._crew.relieve(bell)
            if self._count_locked() and not self._is_ended:
                self._crew.post(self._earliest)  # a callback put an end to it, and it is wanted still
            self._notify_locked()

    # -- the whole --------------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        """True once nothing more is taken out."""
        return self._is_ended

    def close(self, why: str = "the pool is closed") -> None:
        """Take nothing more in, and say why to whoever tries."""
        with self._lock:
            self._why_closed = self._why_closed or why
            for bell in self._putters:
                bell.ring()

    def end(self) -> list[Job]:
        """Give nothing more out, and let the workers go; what is queued, until it is withdrawn."""
        self.close()
        with self._lock:
            self._is_ended = True
            self._crew.wake_all()
            return self._queued_locked()

    def watch(self, bell: Bell) -> None:
        """Ring it from now on whenever something was finished."""
        with self._lock:
            self._watchers.add(bell)

    def unwatch(self, bell: Bell) -> None:
        """Ring it no more."""
        with self._lock:
            self._watchers.discard(bell)

    @property
    def is_done(self) -> bool:
        """Nothing is queued or under way and, once it is ended, no thread is left."""
        with self._lock:
            threads = self._is_ended and not self._crew.is_gone
            return not (self._ready or self._later or self._kept or self._under_way or threads)

    def _notify_locked(self) -> None:
        for bell in self._watchers:
            bell.ring()

    def counts(self) -> Counts:
        """The queue at this moment."""
        with self._lock:
            queued = self._count_locked()
            return Counts(queued, len(self._under_way), self._finished, len(self._crew.workers))
