"""How fast a pool may go: a moment for each message, in turn, strictly."""

from __future__ import annotations

import math
import threading
from typing import Final

from ..net.deadline import now

_LATE: Final = 0.05
"""Seconds after its moment in which a message may be sent still; later it would crowd those behind it."""


class TokenBucket:
    """So many tokens a second, one of them saved up.

    Strict: in no span of time are more spent than one and what the rate adds in
    that span (the generic cell rate algorithm, in its form with one moment of
    state). What costs more than one waits until the bucket is full and leaves a
    debt, which what comes next waits for.

    Times are seconds on any one clock. A moment in the future may be spent as
    well, which reserves it. The rate is finite and above zero.
    """

    __slots__ = ("_interval", "full")

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self.full = -math.inf
        """When it is full again."""

    def when(self, cost: float, now: float) -> float:
        """The first moment, from ``now`` on, at which so many may be spent."""
        return max(now, self.full - max(0.0, (1.0 - cost) * self._interval))

    def spend(self, cost: float, moment: float) -> None:
        """Take so many out."""
        self.full = max(self.full, moment) + cost * self._interval


class RateLimit:
    """Messages and recipients a second, together, over a whole pool; None is no limit."""

    def __init__(self, rate: float | None = None, recipient_rate: float | None = None) -> None:
        self._messages = None if rate is None else TokenBucket(rate)
        self._recipients = None if recipient_rate is None else TokenBucket(recipient_rate)
        self._last = -math.inf
        """The moment that was reserved last."""
        self._before = (-math.inf, -math.inf)
        """When the buckets were full again without it."""
        self.abandon()

    def abandon(self) -> None:
        """Another lock, after a fork."""
        self._lock = threading.Lock()

    def reserve(self, recipients: int) -> float:
        """When a message to so many recipients may be sent; the time is spent, whether it is used or not."""
        with self._lock:
            return self._reserve_locked(recipients)

    def confirm(self, recipients: int, moment: float) -> float:
        """The moment that was reserved, or another if it was missed, as when no connection was free."""
        with self._lock:
            if now() - moment <= _LATE:
                return moment
            if moment == self._last:  # nobody has one behind it: it is free again
                self._restore_locked()
            return self._reserve_locked(recipients)

    # -- without a wait: for whoever has a choice -------------------------------------------

    @property
    def ready(self) -> float:
        """The moment from which on a message may begin."""
        return max(_full(self._messages), _full(self._recipients))

    def begin(self, recipients: int = 1) -> float | None:
        """Begin a message now: its moment; None if it may not be yet."""
        with self._lock:
            return None if self.ready > now() else self._reserve_locked(recipients)

    def add(self, recipients: int, moment: float) -> None:
        """The message that was begun then has so many more recipients, for which what comes next waits."""
        if recipients and self._recipients is not None:
            with self._lock:
                self._recipients.spend(recipients, moment)

    def withdraw(self, moment: float) -> None:
        """There was no message to begin then; its time is free again if nobody has one behind it."""
        with self._lock:
            if moment == self._last:
                self._restore_locked()

    def _restore_locked(self) -> None:
        """As it was before the last one."""
        for bucket, full in zip((self._messages, self._recipients), self._before, strict=True):
            if bucket is not None:
                bucket.full = full

    def _reserve_locked(self, recipients: int) -> float:
        costs = ((self._messages, 1), (self._recipients, recipients))
        moment = now()
        for bucket, cost in costs:
            moment = moment if bucket is None else bucket.when(cost, moment)
        self._before = (_full(self._messages), _full(self._recipients))
        for bucket, cost in costs:
            if bucket is not None:
                bucket.spend(cost, moment)
        self._last = moment
        return moment


def _full(bucket: TokenBucket | None) -> float:
    return -math.inf if bucket is None else bucket.full
