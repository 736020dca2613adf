"""What the caller of a pool may give, checked, and what a pool tells of itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from ..connecting import as_server
from ..errors import InputError
from ..options import SERVER_DEFAULTS, ServerOptions, unknown
from ..server import Server
from .backoff import LONGEST_DIAL_REST
from .events import Event


class PoolLimits(TypedDict, total=False):
    """Those keywords of ``SmtpPool`` that every face has as they are."""

    max_connections: int
    max_messages: int | None
    max_age: float | None
    max_idle: float | None
    max_reconnect_delay: float
    rate: float | None
    recipient_rate: float | None
    balance: Literal["priority", "even"]
    in_flight: int
    max_queued: int


class OwnOptions(PoolLimits, total=False):
    """Those that are not for its servers, but for ``retry``."""

    on_event: Callable[[Event], None] | None


class PoolOptions(OwnOptions, ServerOptions, total=False):
    """The keywords of ``SmtpPool``, which says what they mean, but for ``retry``."""

    port: int | None


OWN_DEFAULTS: Final[OwnOptions] = {
    "max_connections": 4,
    "max_messages": None,
    "max_age": 300.0,
    "max_idle": 60.0,
    "max_reconnect_delay": LONGEST_DIAL_REST,
    "rate": None,
    "recipient_rate": None,
    "balance": "priority",
    "in_flight": 1,
    "max_queued": 1000,
    "on_event": None,
}
POOL_DEFAULTS: Final[PoolOptions] = {**OWN_DEFAULTS, "port": None, **SERVER_DEFAULTS}
"""All of them, as they are where they are not given."""


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


def parted(options: PoolOptions, *others: str) -> tuple[OwnOptions, ServerOptions]:
    """What is for the pool, with the defaults of the rest, and what is for its servers.

    Raises ``UnknownOption``, which may suggest one of the ``others``.
    """
    if not options.keys() <= POOL_DEFAULTS.keys():
        raise unknown(options, {*POOL_DEFAULTS, *others})
    own: Any = {name: value for name, value in options.items() if name in OWN_DEFAULTS}
    rest: Any = {name: value for name, value in options.items() if name not in OWN_DEFAULTS}
    return {**OWN_DEFAULTS, **own}, rest


def servers(given: Any, options: Mapping[str, Any]) -> list[Server]:
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
