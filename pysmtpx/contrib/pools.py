"""One pool for a process and a configuration, shared by whoever asks for the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Final

from ..pool import SmtpPool

_pools: Final[dict[Hashable, SmtpPool]] = {}
_lock = threading.Lock()


def shared_pool(key: Hashable, make: Callable[[], SmtpPool]) -> SmtpPool:
    """The pool of this configuration; made by the first who asks, and anew where it was closed.

    ``key`` is everything that the pool depends on, secrets included: two
    configurations that differ share no connection. A child of ``os.fork`` goes
    on with the same objects, which start empty there; at the end of the
    process they send what is queued and close.
    """
    with _lock:
        pool = _pools.get(key)
        if pool is None or pool.closed:
            pool = _pools[key] = make()
        return pool


def close_pools(timeout: float | None = 30.0) -> None:
    """Close every shared pool, as ``SmtpPool.close`` does; whoever asks next gets a new one."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close(timeout)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
