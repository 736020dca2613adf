"""How one thread waits for another, without holding any lock of the pool meanwhile.

A condition variable would take the pool's lock again on the way out, and an
interrupt that falls into that leaves the lock in a state nobody knows. A wait
here touches nothing but the waiter's own bell.
"""

from __future__ import annotations

import threading
from typing import Final

_LONGEST: Final = min(threading.TIMEOUT_MAX, 1e6)


class Bell:
    """Wakes one thread. Rung while nobody waits, it ends the next wait at once."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """End the wait, the present one or the next; never blocks, safe in a signal handler."""
        try:  # noqa: SIM105 - no call more than the one that counts
            self._silence.release()
        except RuntimeError:
            pass  # it has been rung already

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, at most so many seconds; whether it was."""
        if seconds <= 0:
            return self._silence.acquire(blocking=False)
        return self._silence.acquire(timeout=min(seconds, _LONGEST))
