"""One pool for a process and a configuration, shared by whoever asks for the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Final

from ..net.deadline import now
from ..pool import SmtpPool

MOST: Final = 32
"""Pools that are kept, however long nobody asks for them; a site has a few, one with tenants any number."""
REST: Final = 60.0
"""Seconds for which nobody asked for a pool before one too many is closed."""

_pools: Final[dict[Hashable, tuple[SmtpPool, float]]] = {}
"""Each with the moment at which it was asked for last; the longest ago first."""
_lock = threading.RLock()
"""One that its thread may take twice: a handler of signals may send, or close the pools, at any point."""


def shared_pool(key: Hashable, make: Callable[[], SmtpPool]) -> SmtpPool:
    """The pool of this configuration; made by the first who asks, and anew where it was closed.

    ``key`` stands for everything that the pool depends on (as a ``configuration.Key`` does): two
    configurations that differ share no connection. Ask for each call rather
    than keep the pool: beyond ``MOST`` configurations those that send nothing,
    and that nobody asked for within ``REST`` seconds, are closed. A child of
    ``os.fork`` goes on with the same objects, which start empty there; at the
    end of the process they send what is queued and close.

    Raises what ``make`` raises. It is called outside every lock, so it may
    import, send or ask for another pool.
    """
    with _lock:
        pool = _known(key)
    if pool is not None:
        return pool
    made = make()
    with _lock:
        pool = _known(key)  # another thread was faster
        if pool is None:
            pool = _keep(key, made)
        spare = _spare()
    for each in (*spare, *([] if pool is made else [made])):
        each.close(0)
    return pool


def close_pools(timeout: float | None = 30.0) -> None:
    """Close every shared pool, as ``SmtpPool.close`` does; whoever asks next gets a new one.

    ``timeout`` is in seconds, for each pool.
    """
    with _lock:
        pools = [pool for pool, _ in _pools.values()]
        _pools.clear()
    for pool in pools:
        pool.close(timeout)


def _known(key: Hashable) -> SmtpPool | None:
    pool, _ = _pools.get(key, (None, 0.0))
    return None if pool is None or pool.closed else _keep(key, pool)


def _keep(key: Hashable, pool: SmtpPool) -> SmtpPool:
    """Enter it as the one that was asked for last."""
    _pools.pop(key, None)
    _pools[key] = pool, now()
    return pool


def _spare() -> list[SmtpPool]:
    """Take out what is one too many and at rest."""
    found: list[SmtpPool] = []
    before = now() - REST
    for key, (pool, asked) in list(_pools.items()):
        if len(_pools) <= MOST or asked > before:
            break
        if _is_quiet(pool):
            _pools.pop(key, None)
            found.append(pool)
    return found


def _is_quiet(pool: SmtpPool) -> bool:
    stats = pool.stats()
    return not (stats.queued or stats.under_way or stats.waiting) and stats.idle == stats.connections


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
