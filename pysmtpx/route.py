"""A server as one of several of a pool: how much of the mail it is to have, and what it may be asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, Unpack

from .connecting import as_server
from .errors import InputError
from .frames import conceals
from .options import (
    ROUTE_DEFAULTS,
    SERVER_DEFAULTS,
    RouteOptions,
    UnknownOption,
    complete,
    spelled_out,
)
from .server import Server
from .url import preset_limits
from .values import above_zero, positive, whole


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """One of the servers of a ``SmtpPool``, with limits of its own.

    ``server`` is what ``connect`` takes; a URL may state the limits in its
    query: ``smtps://ann:secret@mail.example.org?weight=3&max_connections=2``.
    ``weight`` is its share of the messages beside the weights of the others,
    where the pool has ``balance="weighted"``. ``max_connections`` are the most
    that are open to it, those being dialled counted, and ``max_messages`` the
    most on each of them. ``rate`` and ``recipient_rate`` are the most messages
    and recipients a second that it is sent, strictly. None is no limit besides
    those of the pool, which hold for all its servers together; of two limits the
    smaller one holds. With the URL of a
    preset, its limits are those that nothing else is said of.

    Raises ``InputError`` for what cannot be right.
    """

    server: Server
    weight: float
    max_connections: int | None
    max_messages: int | None
    rate: float | None
    recipient_rate: float | None

    @conceals
    @spelled_out(RouteOptions, ROUTE_DEFAULTS)
    def __init__(self, server: str | os.PathLike[str] | Server, **options: Unpack[RouteOptions]) -> None:
        limits: Mapping[str, Any] = options
        if not isinstance(server, Server):
            server, stated = _parted(_text(server))
            limits = {**stated, **options}
        if of_server := SERVER_DEFAULTS.keys() & limits.keys():
            name = min(of_server)
            raise UnknownOption(f"{name} is an option of the server: Route(Server(…, {name}=…), …)")
        given: Any = complete(limits, ROUTE_DEFAULTS)
        weight = above_zero("weight", given["weight"])
        put = object.__setattr__
        put(self, "server", server if isinstance(server, Server) else as_server(server, None, {}))
        put(self, "weight", weight)
        for name in ("max_connections", "max_messages"):
            put(self, name, None if given[name] is None else whole(name, given[name]))
        for name in ("rate", "recipient_rate"):
            put(self, name, positive(name, given[name]))

    @classmethod
    @conceals
    def of(cls, value: Any) -> Route:
        """The route for what a setting lists: a URL, a ``Server``, a ``Route``, or a dict.

        A dict has ``url`` or ``host``, and options of ``Route`` and of ``Server``,
        so that a password need not stand in a URL. Raises ``InputError``.
        """
        if isinstance(value, cls):
            return value
        return _of_mapping(value) if isinstance(value, Mapping) else cls(value)

    @conceals
    def with_defaults(self, options: Mapping[str, Any]) -> Self:
        """The same, where its server has these options unless something else was said of it."""
        plain, mine = Server(self.server.host), self.server
        stated = {name for name in SERVER_DEFAULTS if getattr(mine, name) != getattr(plain, name)}
        return self._with(unstated(options, stated))

    def _with(self, options: Mapping[str, Any]) -> Self:
        """The same with these options of its server."""
        if not options:
            return self
        limits: Any = {name: getattr(self, name) for name in ROUTE_DEFAULTS}
        return type(self)(as_server(self.server, None, options), **limits)


_OF_ANOTHER_WAY: Final = {
    "proxy": frozenset(("dial",)),
    "proxy_password": frozenset(("proxy", "dial")),
    "dial": frozenset(("proxy",)),
    "roots": frozenset(("ssl_context",)),
    "ssl_context": frozenset(("roots",)),
}
"""By which words of its own a server has no use for a shared option: the way there, or whom it trusts."""


@conceals
def unstated(shared: Mapping[str, Any], stated: Collection[str]) -> dict[str, Any]:
    """Those of the shared options that are for a server that states these itself."""
    return {
        name: value
        for name, value in shared.items()
        if name not in stated and _OF_ANOTHER_WAY.get(name, frozenset()).isdisjoint(stated)
    }


@conceals
def routes(given: Any, options: Mapping[str, Any], stated: Collection[str] = ()) -> list[Route]:
    """The routes of a pool: one server or route, or a sequence of them; ``options`` are for each server.

    ``stated`` are the limits that the pool was given: of these a preset's own do not count.
    """
    is_one = not isinstance(given, Iterable) or isinstance(given, str | bytes | os.PathLike | Mapping)
    several = [given] if is_one else list(given)
    if not several:
        raise InputError("a pool needs a server")
    return [_route(each, options, {}, stated) for each in several]


@conceals
def _route(
    target: Any, options: Mapping[str, Any], limits: Mapping[str, Any], of_pool: Collection[str] = ()
) -> Route:
    """One of a server with these options, which may complete a URL: its user's password or token."""
    if isinstance(target, Route):
        return target._with(options)
    if isinstance(target, Mapping):
        return _of_mapping({**options, **target}, of_pool)
    if not isinstance(target, Server):
        target, stated = _parted(_text(target), of_pool)
        limits = {**stated, **limits}
    return Route(as_server(target, None, options), **limits)


@conceals
def _of_mapping(value: Mapping[str, Any], of_pool: Collection[str] = ()) -> Route:
    options = dict(value)
    if ("url" in options) == ("host" in options):
        raise InputError("a server is a URL, or a dict with either url or host")
    target = options.pop("url", None) or options.pop("host", None)
    limits: Any = {name: options.pop(name) for name in ROUTE_DEFAULTS if name in options}
    return _route(target, options, limits, of_pool)


@conceals
def _text(target: Any) -> str:
    text = os.fspath(target) if isinstance(target, os.PathLike) else target
    if not isinstance(text, str):
        raise InputError("a server is a name, a path, a URL, a Server, a Route or a dict")
    return text


@conceals
def _parted(text: str, of_pool: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """A URL without what is said of its limits, and that; a preset's are what nobody says otherwise."""
    place, mark, query = text.partition("?")
    published = preset_limits(place)
    limits = {name: published[name] for name in published if name in ROUTE_DEFAULTS and name not in of_pool}
    if "://" not in text or not mark:
        return text, limits
    place, stated = _stated(place, query)
    return place, {**limits, **stated}


@conceals
def _stated(place: str, query: str) -> tuple[str, dict[str, Any]]:
    kept: list[str] = []
    limits: dict[str, Any] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name not in ROUTE_DEFAULTS:
            kept.append(pair)
        elif name in limits:
            raise InputError("the URL gives an option twice")
        else:
            limits[name] = _number(name, value)
    return (f"{place}?{'&'.join(kept)}" if kept else place), limits


def _number(name: str, text: str) -> float:
    try:
        return int(text) if name.startswith("max_") else float(text)
    except ValueError:
        pass  # its text quotes the value, which may be the rest of a password
    raise InputError(f"{name} in a URL is a number")
