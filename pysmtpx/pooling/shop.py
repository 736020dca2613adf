"""What all who send for a pool have in common."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from ..retry import RetryPolicy
from .events import Events
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
