"""What a worker needs of the place that its messages come from, and the source of one message."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ..net.deadline import Deadline, now
from .bell import Bell
from .jobs import Job
from .pace import Pace


class Counts(NamedTuple):
    """The queue at one moment."""

    queued: int
    under_way: int
    finished: int
    """Messages that have their outcome, since it was made."""
    workers: int


def is_over(job: Job) -> bool:
    """True where its time has passed."""
    return job.deadline is not None and job.deadline.remaining() <= 0


class Source(Protocol):
    """Where a worker gets its messages from, and what it tells about them."""

    @property
    def is_ended(self) -> bool:
        """Nothing is given out any more; what is under way comes to its end."""

    def wait(self, bell: Bell) -> bool:
        """Wait until something can be taken; False where the worker is to end."""

    def take(self, bell: Bell, *, eager: bool) -> Job | None:
        """The next message, now under way; ``eager`` where nothing else is under way on the connection."""

    def take_all(self) -> list[Job]:
        """Everything that is queued, now under way."""

    def take_ready(self) -> list[Job]:
        """The same, but for what is to be tried again later."""

    def patience(self, bell: Bell) -> Deadline:
        """Until when a connection may be waited for."""

    def expired(self) -> list[Job]:
        """Messages whose time was over before they were sent; now under way."""

    def put_back(self, jobs: Sequence[Job]) -> bool:
        """These were not begun after all; False where nothing is given out any more."""

    def keep(self, jobs: Sequence[Job], bell: Bell) -> bool:
        """The same, and they are for the worker with this bell, which is about to have a new connection."""

    def let_go(self, bell: Bell) -> None:
        """What was kept for this worker is for anybody: it gets no connection for now."""

    def put_later(self, job: Job, moment: float) -> bool:
        """It is to be tried again then; False where nothing is given out any more."""

    def done(self, job: Job) -> None:
        """It is under way no more."""


_LATE: Final = 0.05
"""Seconds after its moment in which a message may be sent still; later it would crowd those behind it."""


class Pacer:
    """The rate of a whole pool: a moment of its own for each message, in turn."""

    def __init__(self, pace: Pace) -> None:
        self._pace = self._before = pace
        self._last = -math.inf
        """The moment that was reserved last; ``_before`` is the pace without it."""
        self._lock = threading.Lock()

    def abandon(self) -> None:
        """Another lock, after a fork."""
        self._lock = threading.Lock()

    def reserve(self, recipients: int) -> float:
        """When a message to so many recipients may be sent; the time is spent, whether it is used or not."""
        with self._lock:
            return self._reserve_locked(recipients)

    def confirm(self, recipients: int, moment: float) -> float:
        """The moment that was reserved, or another where it was missed, as where no connection was free."""
        with self._lock:
            if now() - moment <= _LATE:
                return moment
            if moment == self._last:
                self._pace = self._before  # nobody has one behind it: it is free again
            return self._reserve_locked(recipients)

    def _reserve_locked(self, recipients: int) -> float:
        self._before = copy.deepcopy(self._pace)
        self._last = self._pace.when(recipients, now())
        self._pace.spend(recipients, self._last)
        return self._last


class Single:
    """One message, for a call that sends it in its own thread."""

    def __init__(self, job: Job, pacer: Pacer | None = None) -> None:
        self._job: Job | None = job
        self._deadline = job.deadline or Deadline.after(None)
        self._recipients = job.recipients_count
        self._pacer = pacer
        self._moment: float | None = None if pacer else now()
        self._bell: Bell | None = None
        self._is_done = False
        self.is_ended = False
        """The pool was closed: the message is not begun, or not begun again."""

    def wait(self, bell: Bell) -> bool:
        """Wait until the message may be sent; False once it has its outcome."""
        self._bell = bell
        while not self._is_done:
            if self._moment is None and self._pacer is not None:
                self._moment = self._pacer.reserve(self._recipients)
            seconds = min((self._moment or 0.0) - now(), self._deadline.remaining())
            if seconds <= 0 or self.is_ended:
                return True
            bell.wait(seconds)
        return False

    def take(self, bell: Bell, *, eager: bool) -> Job | None:
        """The message, from when it may be sent on; until it is handed back, once."""
        if self.is_ended or (self._moment is not None and self._moment > now()):
            return None  # the pause before another try: without a connection, which others may use meanwhile
        if not self._has_its_turn(bell):
            return None
        job, self._job = self._job, None
        return job

    def _has_its_turn(self, bell: Bell) -> bool:
        """Wait for another turn where it missed its own, with the connection: else it may miss that too."""
        if self._pacer is None or self._moment is None or self._job is None:
            return True
        self._moment = self._pacer.confirm(self._recipients, self._moment)
        while (seconds := min(self._moment - now(), self._deadline.remaining())) > 0 and not self.is_ended:
            bell.wait(seconds)
        return not self.is_ended and self._deadline.remaining() > 0

    def take_all(self) -> list[Job]:
        """The message, if it is not under way."""
        job, self._job = self._job, None
        return [] if job is None else [job]

    def take_ready(self) -> list[Job]:
        """The message, unless it is under way or pauses."""
        return [] if self._moment is not None and self._moment > now() else self.take_all()

    def patience(self, bell: Bell) -> Deadline:
        """The deadline of the call."""
        return self._deadline

    def expired(self) -> list[Job]:
        """The message, where its time is over or the pool was closed before it was sent."""
        if self._job is None or not (self.is_ended or self._deadline.remaining() <= 0):
            return []
        job, self._job = self._job, None
        return [job]

    def put_back(self, jobs: Sequence[Job]) -> bool:
        """Ready again at once, where it is not too late."""
        if self.is_ended:
            return False
        for self._job in jobs:
            pass
        return True

    def keep(self, jobs: Sequence[Job], bell: Bell) -> bool:
        """Ready again at once: there is one worker alone."""
        return self.put_back(jobs)

    def let_go(self, bell: Bell) -> None:
        """There is nobody else."""

    def put_later(self, job: Job, moment: float) -> bool:
        """Ready again then: a try of its own, which counts for the rate."""
        if self.is_ended:
            return False
        self._job = job
        self._moment = max(moment, self._pacer.reserve(self._recipients)) if self._pacer else moment
        return True

    def done(self, job: Job) -> None:
        """It has its outcome."""
        self._is_done = True

    def end(self) -> None:
        """From another thread: send it no more, unless it is under way."""
        self.is_ended = True
        if self._bell is not None:
            self._bell.ring()
