"""What all who send for a pool have in common."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import Timeout
from ..net.deadline import now
from ..retry import RetryPolicy
from ..wire.limits import Stage
from ..wire.result import SendResult
from .events import Event, Events, Kind
from .jobs import Job
from .rack import Rack
from .shelf import closed
from .source import Source

_T = TypeVar("_T")


class Tally:
    """Counts that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """One more of these."""
        with self._lock:
            self._counts[name] += 1

    def counts(self) -> dict[str, int]:
        """All of them."""
        with self._lock:
            return dict(self._counts)

    def abandon(self) -> None:
        """Begin with nothing, as after a fork."""
        self.__init__()  # type: ignore[misc]


def for_each(things: Iterable[_T], action: Callable[[_T], None]) -> None:
    """Do it with all of them; what a callback of one raises comes after that."""
    failure: BaseException | None = None
    for thing in things:
        try:
            action(thing)
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class Shop:
    """The connections, the rules and the books of one pool."""

    rack: Rack
    events: Events
    policy: RetryPolicy
    in_flight: int = 1
    tally: Tally = field(default_factory=Tally)

    def ended(self, job: Job, server: str = "") -> None:
        """A message has its outcome: count it and tell it."""
        self.tally.add(job.status)
        self._tell("sent" if isinstance(job.outcome, SendResult) else "refused", job, server)

    def retried(self, job: Job, server: str, delay: float) -> None:
        """A message is to be tried again in so many seconds."""
        self.tally.add("retried")
        self._tell("retried", job, server, delay)

    def expire(self, source: Source) -> None:
        """End what was not sent in time, or before the end of the pool, with what its last try came to."""
        for_each(source.expired(), lambda job: self._expire(source, job))

    def _expire(self, source: Source, job: Job) -> None:
        error = closed()
        if not source.is_ended:
            error = Timeout("its time was over before it was sent", stage=Stage.INPUT)
            error.__cause__ = self.rack.error
        try:
            if job.end(error):
                self.ended(job)
        finally:
            source.done(job)

    def _tell(self, kind: Kind, job: Job, server: str, delay: float | None = None) -> None:
        event = Event(kind, server, now() - job.began, job.mail, job.outcome, job.attempts, delay)
        self.events.emit(event)
