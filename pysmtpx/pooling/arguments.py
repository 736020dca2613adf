"""What the caller of a pool may give, checked, and what a pool tells of itself."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from ..connecting import as_server
from ..errors import InputError
from ..server import Server


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment; messages are counted since it was made."""

    connections: int
    """Open, idle ones included."""
    idle: int
    dialling: int
    waiting: int
    """Calls and workers that wait for a connection."""
    workers: int
    queued: int
    under_way: int
    """Taken by a worker and without an outcome yet."""
    accepted: int
    rejected: int
    unknown: int
    unsent: int
    retried: int
    """Tries after the first."""


def servers(given: Any, options: dict[str, Any]) -> list[Server]:
    """The servers of a pool; one, or a sequence of them, as ``connect`` takes them."""
    several = [given] if isinstance(given, str | os.PathLike | Server) else list(given)
    if not several:
        raise InputError("a pool needs a server")
    return [as_server(each, None, options) for each in several]


def whole(name: str, value: object) -> int:
    """A number to count with; ``InputError`` unless it is one from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is a whole number from 1")
    return value


def positive(name: str, value: object) -> float | None:
    """A number above 0, or None; ``InputError`` for anything else."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise InputError(f"{name} is a finite number above 0, or None")
    return float(value)  # type: ignore[arg-type]
