"""What happens to pools when the process forks, and when it ends.

An executor joins its workers before ``atexit`` runs, however long these are
hung, so pools are told earlier: what is queued goes on being sent as long as
outcomes arrive, and a second after the last one every worker's socket is shut
down.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..lock import Wakeup
from ..net.deadline import now

QUIET: Final = 1.0
"""Seconds without an outcome after which the workers of a process that ends are given up."""


class Living(Protocol):
    """A pool, as its process sees it."""

    def after_fork(self) -> None:
        """Begin empty, in a child: other locks, no threads, inherited descriptors closed without an octet."""

    def take_leave(self, wakeup: Wakeup) -> None:
        """The process ends: take nothing more in, and wake this for each outcome from now on."""

    @property
    def is_quiet(self) -> bool:
        """Nothing is queued, and nothing is under way in a worker."""

    @property
    def outcomes_count(self) -> int:
        """How many messages of its workers have their outcome."""

    def give_up(self) -> None:
        """End what is queued as unsent, and shut down the sockets of all workers."""

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""


_lock = threading.Lock()
_pools: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_has_hooks = False


def enter(pool: Living) -> None:
    """Tell this pool of forks and of the end of the process."""
    global _has_hooks
    with _lock:
        if not _has_hooks:
            _has_hooks = True
            _hook()
        _pools.add(pool)


def living() -> list[Any]:
    """The pools of this process that somebody has."""
    with _lock:
        return list(_pools)


def _hook() -> None:
    # The executor's own hook must be there first: the last one registered is called first.
    import concurrent.futures.thread  # noqa: F401

    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):  # the process is ending already
        register(end_workers)
    atexit.register(_close_idle)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_empty)


def _begin_empty() -> None:
    _lock.release()
    for pool in tuple(_pools):
        pool.after_fork()


def end_workers() -> None:
    """Let every pool's workers finish while outcomes arrive, then shut down what hangs."""
    pools: list[Living] = list(_pools)
    wakeup = Wakeup()
    for pool in pools:
        pool.take_leave(wakeup)
    outcomes, since = -1, now()
    while not all(pool.is_quiet for pool in pools):
        if (count := sum(pool.outcomes_count for pool in pools)) != outcomes:
            outcomes, since = count, now()
        left = since + QUIET - now()
        if left <= 0:
            break
        wakeup.wait(left)
    for pool in pools:
        pool.give_up()


def _close_idle() -> None:
    for pool in list(_pools):
        pool.close_idle()
