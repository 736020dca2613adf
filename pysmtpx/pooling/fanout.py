"""Many messages over a pool: bounded memory, every outcome, and an end that leaves nothing running."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from ..errors import SmtpError, UsageError
from ..lock import Wakeup
from ..net.deadline import Deadline
from ..outcome import Outcome
from ..shortening import listed
from .connections import closed
from .job import Job
from .queue import Queue

MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of content in memory from which on no further message is taken."""
_GRACE: Final = 10.0
"""Seconds for the workers to notice that the sockets of a fan-out that was interrupted are shut down."""

Maker = Callable[[Any, Callable[[Job], None]], Job]
"""Makes a job of a message; takes also whom to tell when it has its outcome."""


class FanOut:
    """One ``send_many``: what was handed to the workers, and what came back and was not told yet.

    At most ``window`` messages are between the iterable and the caller, and
    where these are large no more than the first to exceed ``MOST_OCTETS``. The
    iterable is only touched in the caller's thread.
    """

    def __init__(
        self, queue: Queue, make: Maker, messages: Iterable[Any], *, window: int, ordered: bool
    ) -> None:
        self._queue = queue
        self._make = make
        self._messages = iter(messages)
        self._window = window
        self._ordered = ordered
        self._wakeup = Wakeup()
        self._arrived: deque[int] = deque()
        """Numbers of those that have their outcome, in the order of that."""
        self._jobs: dict[int, Job] = {}
        """Those that the caller was not told of yet, by number."""
        self._done: dict[int, Outcome] = {}
        self._sizes: dict[int, int] = {}
        """Octets of each that the caller was not told of."""
        self._octets = 0
        self._number = 0
        self._turn = 0
        """The number that is told next, where the order counts."""
        self._is_exhausted = False
        self._failure: Exception | None = None

    def run(self) -> Iterator[Outcome]:
        """Yield every outcome; then raise what the iterable raised, if it did.

        Closed early, it withdraws what is still queued. An interrupt in the
        middle also shuts down the connections on which messages of it are
        under way, waits for their outcomes and names on itself who is in doubt.
        """
        try:
            while True:
                self._collect()
                while (outcome := self._next()) is not None:
                    yield outcome
                    self._collect()
                if self._has_room():
                    self._pull()
                elif self._jobs:
                    self._wakeup.wait(math.inf)
                else:
                    break
        except (Exception, GeneratorExit):
            self._withdraw()
            raise
        except BaseException as error:
            self._abort(error)
            raise
        if self._failure is not None:
            raise self._failure

    def _has_room(self) -> bool:
        is_full = len(self._jobs) + len(self._done) >= self._window or self._octets >= MOST_OCTETS
        return not (is_full or self._is_exhausted)

    # -- in ---------------------------------------------------------------------------

    def _pull(self) -> None:
        """Hand the next message to the workers; what is wrong with it is its outcome."""
        try:
            message = next(self._messages)
        except StopIteration:
            self._is_exhausted = True
            return
        except Exception as error:
            self._is_exhausted, self._failure = True, error
            return
        number, self._number = self._number, self._number + 1
        try:
            job = self._make(message, partial(self._arrive, number))
        except SmtpError as error:
            self._done[number] = Outcome.of(message, error)
            return
        self._sizes[number] = job.resident
        self._octets += job.resident
        self._jobs[number] = job
        try:
            self._queue.put(job, job.deadline or Deadline.after(None))
        except SmtpError as error:
            job.end(error)
            if isinstance(error, UsageError):  # the pool was closed: there is no point in asking for more
                self._is_exhausted, self._failure = True, error

    def _arrive(self, number: int, job: Job) -> None:
        self._arrived.append(number)
        self._wakeup.wake()

    # -- out --------------------------------------------------------------------------

    def _collect(self) -> None:
        while self._arrived:
            number = self._arrived[0]
            job = self._jobs.get(number)
            if job is not None and job.outcome is not None:
                self._done[number] = Outcome.of(job.mail, job.outcome)
                del self._jobs[number]
            self._arrived.popleft()

    def _next(self) -> Outcome | None:
        number = self._turn if self._ordered else next(iter(self._done), -1)
        outcome = self._done.pop(number, None)
        if outcome is not None:
            self._octets -= self._sizes.pop(number, 0)
            self._turn += 1
        return outcome

    # -- an early end -------------------------------------------------------------------

    def _withdraw(self) -> None:
        """End what no worker has taken as unsent; what an interrupt recalled is owed still in a journal."""
        for job in self._queue.withdraw(list(self._jobs.values())):
            job.end(closed(), stays=job.is_recalled)

    def _are_held(self, jobs: list[Job]) -> bool:
        """Whether a worker has one of these still, be it only to tell how it ended."""
        return len(self._queue.withdraw(jobs)) < len(jobs)

    def _abort(self, error: BaseException) -> None:
        limit = Deadline.after(_GRACE)
        mine = list(self._jobs.values())
        for job in mine:
            job.is_recalled = True
        while (self._jobs or self._are_held(mine)) and limit.remaining() > 0:
            self._withdraw()
            self._collect()
            if self._jobs:
                # Again and again: one may have been on its way to a connection.
                for job in self._jobs.values():
                    if (connection := job.connection) is not None:
                        connection.close()
            self._wakeup.wait(0.05 if self._jobs else 0.005)
            self._collect()
        doubtful = [path for outcome in self._done.values() for path in outcome.unknown_recipients]
        doubtful += [path for job in self._jobs.values() for path in job.recipients]
        if doubtful:
            error.add_note(f"perhaps delivered: {listed(doubtful)}")
        accepted = [path for outcome in self._done.values() for path in outcome.accepted_recipients]
        if accepted:
            error.add_note(f"delivered, and not yet told: {listed(accepted)}")
