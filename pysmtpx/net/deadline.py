"""The only clock: a point in time until which something may take, and how long an answer lately took."""

from __future__ import annotations

import math
from time import monotonic
from typing import Final

from ..values import above_zero, positive

_HALF_LIFE: Final = 10.0
"""Seconds in which what was seen counts half: a server that was slow once is tried again before long."""
now = monotonic
"""Seconds on the clock."""


class Deadline:
    """A moment on the monotonic clock, made once at the edge of the API and passed down."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at: float = at
        """By ``now``; infinite for never."""

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment this many seconds from now; None is never.

        Raises ``InputError`` unless ``seconds`` is a positive number.
        """
        if seconds is None:
            return cls(math.inf)
        if type(seconds) is not float or not seconds > 0:
            seconds = above_zero("timeout", seconds, ", or None")
        return cls(now() + seconds)

    def within(self, seconds: float) -> Deadline:
        """The same, but at most this many seconds from now."""
        return Deadline(min(self.at, now() + seconds))

    def stop(self) -> None:
        """Let it have passed, from another thread; whoever waits by it notices at his next look."""
        self.at = -math.inf

    def remaining(self) -> float:
        """Seconds left; zero or less when it has passed, infinite for never."""
        return self.at - now()

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"


NEVER: Final = Deadline(math.inf)
"""Shared: not for one that is stopped."""


def check_timeout(seconds: object) -> None:
    """Raise ``InputError`` unless this is a positive number of seconds, or None."""
    # Not a number is not above 0, so it is refused below; infinity is no limit, as None is.
    if not (type(seconds) is float and seconds > 0):
        positive("timeout", seconds)


class AnswerTime:
    """How long a server lately took to answer the end of data: the longest of late, fading.

    Connections of several threads may share it.
    """

    __slots__ = ("_noted", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._noted = 0.0

    def note(self, since: float, moment: float) -> None:
        """The end of data that was begun then was answered at this moment."""
        if (seconds := moment - since) >= self._expected(moment):
            # Two threads may do so at once, and one of both is lost: no more than an estimate is.
            self._seconds, self._noted = seconds, moment

    def note_missing(self, since: float, moment: float) -> None:
        """It was not answered by now: the server is taken to need twice as long."""
        self.note(2 * since - moment, moment)  # as if it had been asked that much earlier

    def is_too_long_for(self, deadline: Deadline, moment: float) -> bool:
        """Whether an answer cannot be expected in what is left (FAULTS 122)."""
        left = deadline.at - moment
        return left < self._seconds and left < self._expected(moment)

    def _expected(self, moment: float) -> float:
        return self._seconds * float(0.5 ** ((moment - self._noted) / _HALF_LIFE))

    def __repr__(self) -> str:
        return f"<AnswerTime {self._expected(now()):.3f} s>"
