"""How fast a pool may go: strict token buckets, without a clock of their own."""

from __future__ import annotations

import math

from ..errors import InputError


class TokenBucket:
    """So many tokens a second, and at most ``burst`` of them saved up.

    Strict: in no span of time are more spent than the burst and what the rate
    adds in that span (the generic cell rate algorithm, in its form with one
    moment of state). What costs more than the burst waits until the bucket is
    full and leaves a debt, which what comes next waits for.

    Times are seconds on any one clock. A moment in the future may be spent as
    well, which reserves it. Raises ``InputError`` unless both numbers are
    finite and above zero.
    """

    __slots__ = ("_full", "_interval", "_slack")

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        for name, value in (("rate", rate), ("burst", burst)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is a finite number above 0")
        self._interval = 1.0 / rate
        self._slack = burst * self._interval
        """Seconds in which an empty bucket fills up."""
        self._full = -math.inf
        """When it is full again."""

    def when(self, cost: float, now: float) -> float:
        """The first moment, from ``now`` on, at which so many may be spent."""
        return max(now, self._full - max(0.0, self._slack - cost * self._interval))

    def spend(self, cost: float, moment: float) -> None:
        """Take so many out."""
        self._full = max(self._full, moment) + cost * self._interval


class Pace:
    """Messages and recipients a second, together; None is no limit."""

    __slots__ = ("_messages", "_recipients")

    def __init__(self, rate: float | None = None, recipient_rate: float | None = None) -> None:
        self._messages = None if rate is None else TokenBucket(rate)
        self._recipients = None if recipient_rate is None else TokenBucket(recipient_rate)

    def when(self, recipients: int, now: float) -> float:
        """The first moment, from ``now`` on, at which a message to so many recipients may be sent."""
        moment = now
        if self._messages is not None:
            moment = self._messages.when(1, moment)
        if self._recipients is not None:
            moment = self._recipients.when(recipients, moment)
        return moment

    def spend(self, recipients: int, moment: float) -> None:
        """A message to so many recipients is sent at this moment."""
        if self._messages is not None:
            self._messages.spend(1, moment)
        if self._recipients is not None:
            self._recipients.spend(recipients, moment)
