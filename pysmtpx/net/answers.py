"""How long a server lately took to answer the end of data."""

from __future__ import annotations

import math
from typing import Final

from .deadline import Deadline, now

_HALF_LIFE: Final = 10.0
"""Seconds in which what was seen counts half: a server that was slow once is tried again before long."""


class AnswerTime:
    """The longest of late, fading. Connections of several threads may share it."""

    __slots__ = ("_noted", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._noted = 0.0

    def note(self, since: float) -> None:
        """The end of data of that moment was answered just now."""
        moment = now()
        if (seconds := moment - since) >= self._expected(moment):
            # Two threads may do so at once, and one of both is lost: no more than an estimate is.
            self._seconds, self._noted = seconds, moment

    def note_missing(self, since: float) -> None:
        """It was not answered by now: the server is taken to need twice as long."""
        self.note(2 * since - now())  # as if it were answered now, and had been asked that much earlier

    def is_too_long_for(self, deadline: Deadline) -> bool:
        """Whether an answer cannot be expected in what is left (FAULTS 122)."""
        left = deadline.remaining()
        return left < self._seconds and left < self._expected(now())

    def _expected(self, moment: float) -> float:
        return self._seconds * math.exp2((self._noted - moment) / _HALF_LIFE)

    def __repr__(self) -> str:
        return f"<AnswerTime {self._expected(now()):.3f} s>"
