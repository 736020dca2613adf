"""What all who send for a pool have in common."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from ..net.deadline import now
from ..retry import RetryPolicy
from ..wire.result import SendResult
from .events import Event, Events, Kind
from .jobs import Job
from .rack import Rack


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

    def _tell(self, kind: Kind, job: Job, server: str, delay: float | None = None) -> None:
        event = Event(kind, server, now() - job.began, job.mail, job.outcome, job.attempts, delay)
        self.events.emit(event)
