"""A lock that an interrupt cannot leave behind, and how one thread wakes another.

``KeyboardInterrupt``, or whatever else a handler of signals raises, comes where
CPython looks for signals: behind a call of something written in C, at the entry
of a function written in Python, and at a jump back. So it cannot come between
the two halves of ``with lock`` if the lock is written in C; it can come between
``lock.acquire(timeout=…)`` and the ``try`` behind it, at the entry of any
``__exit__`` written in Python, and in ``Condition.wait`` while that takes its
lock again. Nothing else in the package takes a lock for a limited time or waits
for a condition.
"""

from __future__ import annotations

import threading
from _thread import RLock
from collections.abc import Callable
from typing import Final, TypeVar

_T = TypeVar("_T")
_LONGEST: Final = min(threading.TIMEOUT_MAX, 1e6)


class Busy(Exception):
    """Another thread has kept a lock for too long."""


class Lock(RLock):  # type: ignore[misc]  # final in the stubs alone
    """``with lock:`` for steps that end at once; ``alone`` for what may be waited for and may take long.

    Reentrant: a handler of signals may come to it in the middle of a step.
    """

    __slots__ = ()

    def alone(self, action: Callable[[], _T], seconds: Callable[[], float]) -> _T:
        """Do it with the lock, and give that back whatever happens.

        Raises ``Busy`` if it cannot be had within the seconds, which are asked for
        if another thread has it. Not for one that has it already: ``is_mine`` tells.
        """
        try:
            if not self.acquire(blocking=False) and not self.acquire(
                timeout=max(0.0, min(seconds(), _LONGEST))
            ):
                raise Busy
            result = action()
            self.release()
            return result
        except BaseException:
            try:  # noqa: SIM105 - the release alone tells whose it is: a look before would be one call more
                self.release()
            except RuntimeError:
                pass  # it was never had, or is given back already
            raise

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread has it."""
        return self._is_owned()  # type: ignore[attr-defined, no-any-return]  # Condition uses it, too


class Wakeup:
    """Wakes one thread. Woken while it does not wait, it ends the next wait at once.

    Who waits holds no lock meanwhile, and has none to take again afterwards.
    """

    __slots__ = ("_asleep",)

    def __init__(self) -> None:
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wake(self) -> None:
        """End the wait, the present one or the next; never blocks, safe in a handler of signals."""
        try:  # noqa: SIM105 - no call more than the one that counts
            self._asleep.release()
        except RuntimeError:
            pass  # that was done already

    def wait(self, seconds: float) -> bool:
        """Wait until woken, at most so many seconds; whether it was."""
        if seconds <= 0:
            return self._asleep.acquire(blocking=False)
        return self._asleep.acquire(timeout=min(seconds, _LONGEST))
