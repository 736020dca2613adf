"""All pools of the process at one moment, for metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from . import process
from .arguments import PoolStats
from .engine import Engine

_NAMES = tuple(field.name for field in fields(PoolStats))


def stats_by_name() -> dict[str, PoolStats]:
    """The state of the pools that are not closed, added up for those with the same servers.

    The name is that of the servers, in order, as host and port: a bounded set,
    however many pools there are.
    """
    found: dict[str, PoolStats] = {}
    for engine in _open():
        stats, before = engine.stats(), found.get(engine.name)
        found[engine.name] = stats if before is None else _sum(before, stats)
    return found


def _open() -> Iterator[Engine]:
    for each in process.living():
        if isinstance(each, Engine) and not each.is_closed:
            yield each


def _sum(one: PoolStats, other: PoolStats) -> PoolStats:
    return PoolStats(**{name: getattr(one, name) + getattr(other, name) for name in _NAMES})
