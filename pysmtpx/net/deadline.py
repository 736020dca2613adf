"""The only clock: a point in time until which something may take."""

from __future__ import annotations

import math
from time import monotonic

from ..errors import InputError


class Deadline:
    """A moment on the monotonic clock, made once at the edge of the API and passed down."""

    __slots__ = ("_at",)

    def __init__(self, at: float) -> None:
        self._at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment this many seconds from now; None is never.

        Raises ``InputError`` unless ``seconds`` is a positive number.
        """
        if seconds is None:
            return cls(math.inf)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise InputError(f"a timeout is a positive number of seconds or None, not {seconds!r}")
        return cls(monotonic() + seconds)

    def within(self, seconds: float) -> Deadline:
        """The same, but at most this many seconds from now."""
        return Deadline(min(self._at, monotonic() + seconds))

    def window(self, seconds: float) -> tuple[float, float]:
        """When so many seconds have passed, or this before them, and how many are left until then."""
        moment = monotonic()
        end = min(self._at, moment + seconds)
        return end, end - moment

    def stop(self) -> None:
        """Let it have passed, from another thread; whoever waits by it notices at his next look."""
        self._at = -math.inf

    def remaining(self) -> float:
        """Seconds left; zero or less when it has passed, infinite for never."""
        return self._at - monotonic()

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"


now = monotonic
"""Seconds on the same clock."""
