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

    def note(self, seconds: float) -> None:
        """It took so long."""
        self._seconds, self._noted = max(seconds, self._expected()), now()

    def note_missing(self, seconds: float) -> None:
        """So long was not enough: it is taken to need twice that."""
        self.note(2 * seconds)

    def is_too_long_for(self, deadline: Deadline) -> bool:
        """Whether an answer cannot be expected in what is left (FAULTS 122)."""
        left = deadline.remaining()
        return left < self._seconds and left < self._expected()

    def _expected(self) -> float:
        # Two threads may note at once, and one of both is lost: no more than an estimate is.
        return self._seconds * math.exp2((self._noted - now()) / _HALF_LIFE)

    def __repr__(self) -> str:
        return f"<AnswerTime {self._expected():.3f} s>"
