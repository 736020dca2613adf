"""What the caller of a pool may give, checked, and what a pool tells of itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

from ..events import Event
from ..journal.store import Store
from ..options import SERVER_DEFAULTS, ServerOptions, unknown
from ..wire.reply import Reply
from .backoff import LONGEST_DIAL_REST

Balance: TypeAlias = Literal["failover", "priority", "even", "weighted"]
"""Which of several servers is next; the first two are the same."""
BALANCES: Final[tuple[Balance, ...]] = ("failover", "priority", "even", "weighted")


State: TypeAlias = Literal["usable", "resting", "unreachable", "refused"]


class PoolLimits(TypedDict, total=False):
    """Those keywords of ``SmtpPool`` that every face has as they are."""

    max_connections: int
    max_messages: int | None
    max_age: float | None
    max_idle: float | None
    max_reconnect_delay: float
    rate: float | None
    recipient_rate: float | None
    balance: Balance
    in_flight: int
    max_queued: int
    journal: str | os.PathLike[str] | Store | None


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
    "journal": None,
    "on_event": None,
}
POOL_DEFAULTS: Final[PoolOptions] = {**OWN_DEFAULTS, "port": None, **SERVER_DEFAULTS}
"""All of them, as they are where they are not given."""


@dataclass(frozen=True, slots=True)
class ServerStats:
    """One server of a pool at one moment."""

    server: str
    """Host and port, or path."""
    state: State
    """``"resting"``: it takes no more for now, it said; ``"refused"``: it does not take our credentials."""
    connections: int
    idle: int
    dialling: int
    messages: int
    """That were handed to it, each try counted."""
    rest: float
    """Seconds until a server that rests is asked again."""
    reply: Reply | None
    """By which it said that it takes no more, or was not to be reached; None if it is usable."""


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
    servers: tuple[ServerStats, ...] = ()
    """In the order in which they were given."""


def parted(options: PoolOptions, *others: str) -> tuple[OwnOptions, ServerOptions]:
    """What is for the pool, with the defaults of the rest, and what is for its servers.

    Raises ``UnknownOption``, which may suggest one of the ``others``.
    """
    if not options.keys() <= POOL_DEFAULTS.keys():
        raise unknown(options, {*POOL_DEFAULTS, *others})
    own: Any = {name: value for name, value in options.items() if name in OWN_DEFAULTS}
    rest: Any = {name: value for name, value in options.items() if name not in OWN_DEFAULTS}
    return {**OWN_DEFAULTS, **own}, rest
