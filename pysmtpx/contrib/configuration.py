"""What somebody configured: compared, made into what it stands for, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from operator import itemgetter
from typing import Any, Final, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import InputError, SmtpError
from ..frames import conceals
from ..options import RouteOptions, unknown
from ..pooling.arguments import PoolOptions
from ..retry import RetryPolicy
from ..route import Route, routes, unstated
from ..values import flag

_Made = TypeVar("_Made")

_OF_ACCOUNT: Final = frozenset(("username", "password", "token", "auth", "authzid"))


class Key:
    """What a pool depends on, secrets included. It can be compared, and shows nothing of itself."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: object) -> None:
        """Raises ``InputError`` for a part that cannot be told from another one."""
        self._parts = _frozen(parts)
        del parts  # error pages show what is in a frame
        try:
            hash(self)
        except TypeError as error:
            raise InputError(f"an option cannot be told from another one: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)


def arguments(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the arguments that it has, without those that it passes on."""
    found = signature(function).parameters.values()
    return frozenset(each.name for each in found if each.kind is not Parameter.VAR_KEYWORD)


def made(what: str, make: Callable[[], _Made]) -> _Made:
    """What somebody's options amount to; ``what`` they are called.

    Raises what ``make`` raises, and ``InputError`` for an option that it does
    not know; without the frames below, which hold secrets: error pages show them.
    """
    try:
        return make()
    except SmtpError as error:
        raise error.with_traceback(None) from None
    except TypeError as error:
        raise InputError(f"{what}: {error}") from None


def policy(what: str, value: Any) -> Any:
    """A ``RetryPolicy`` of a dict of its fields; anything else is itself. Raises ``InputError``."""
    if not isinstance(value, Mapping):
        return value
    names = RetryPolicy.__dataclass_fields__
    if not value.keys() <= names.keys():
        raise unknown(value, names, f"option in {what}")
    return made(what, lambda: RetryPolicy(**from_texts(value)))


def provider(value: Any, username: str | None) -> Any:
    """The provider of tokens that a setting names: a name, or a dict with ``provider`` and its arguments.

    Raises ``InputError``.
    """
    oauth: Any = import_module("pysmtpx.oauth.named")  # what it needs is for those who use it
    return oauth.configured(value, username)


def mechanisms(value: Any) -> Any:
    """What a setting ``auth`` stands for: a text with a dot is the path of a mechanism of one's own.

    The path may be that of a class or another function that makes it (the name
    of a mechanism has no dot: RFC 4422 3.1). Raises ``InputError`` where there is
    nothing.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        return _mechanism(value)
    return tuple(map(_mechanism, value))


def _mechanism(value: Any) -> Any:
    if isinstance(value, str):
        if "." not in value:
            return value
        value = _named("auth", value)
    return value() if callable(value) and not hasattr(type(value), "dialogue") else value


_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0", ""), False),
}
"""What a variable of the environment says of an option that is True or False."""
_KINDS: Final = (bool, int, float)


@cache
def _kinds() -> Mapping[str, type]:
    """Each option that is a number or True or False, and which of these, by what the tables say of it."""
    found: dict[str, type] = {"timeout": float, "all_or_nothing": bool}
    for table in (PoolOptions, RouteOptions, RetryPolicy):
        for name, hint in get_type_hints(table).items():
            found.update((name, kind) for kind in _KINDS if kind in (hint, *get_args(hint)))
    return found


def switch(name: str, value: Any) -> Any:
    """True or False for a text that says so, as one of the environment does; anything else is itself.

    Raises ``InputError`` for a text that says neither: Python would take any for True.
    """
    said = word(value)
    if isinstance(said, str):
        raise InputError(f"{name} is True or False, or the text of one")
    return said


def word(value: Any) -> Any:
    """True or False for a text that says so; anything else is itself."""
    return _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def number(kind: type[int | float], value: Any) -> Any:
    """The number that a text writes, as one of the environment does; anything else is itself.

    So whoever judges the option refuses it, by its name.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            return kind(value)
    return value


def switched_on(name: str, value: Any) -> bool:
    """The same of an option that is False where it is not given. Raises ``InputError``."""
    return value is not None and flag(name, switch(name, value))


def from_texts(options: Mapping[str, Any], *switches: str) -> dict[str, Any]:
    """The options of a pool, its servers and its retries, with what texts say of each number and flag.

    ``switches`` are further ones that are True or False. Raises ``InputError``.
    """
    kinds = {**_kinds(), **dict.fromkeys(switches, bool)}
    return {name: _from_text(name, value, kinds.get(name)) for name, value in options.items()}


def _from_text(name: str, value: Any, kind: type | None) -> Any:
    if kind is None:
        return value
    return switch(name, value) if kind is bool else number(kind, value)


def comparable(value: Any) -> Any:
    """A set of addresses as something that a ``Key`` takes; anything else is itself."""
    return tuple(sorted(value, key=str)) if isinstance(value, set | frozenset) else value


def hooks(what: str, value: Any) -> Any:
    """Functions of ``before_send``, where they are named by dotted paths. Raises ``InputError``."""
    if value is None or callable(value):
        return value
    if isinstance(value, str):
        return _named(what, value)
    return [_named(what, each) for each in value] if isinstance(value, list | tuple) else value


def _named(what: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    module, _, name = value.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise not_imported(what, error) from error


def not_imported(what: str, error: Exception) -> InputError:
    """The error of a setting whose dotted path leads nowhere, or to a module that raises."""
    said = error.text if isinstance(error, SmtpError) else error  # the anchor of an error of ours comes once
    return InputError(f"{what}: {said}")


@conceals
def listed_routes(what: str, values: Any, options: Mapping[str, Any]) -> list[Route]:
    """The routes that a setting lists: URLs, dicts or what a pool takes.

    ``options`` are what other settings say of all servers: see ``completed``.
    Raises ``InputError``, which says at which place of the list.
    """
    if not isinstance(values, list | tuple):
        raise InputError(f"{what} is a list of URLs or dicts")
    return [_listed(f"{what}[{at}]", each, options) for at, each in enumerate(values)]


@conceals
def _listed(place: str, value: Any, options: Mapping[str, Any]) -> Route:
    try:
        return made("a server", lambda: completed(value, options))
    except InputError as error:
        raise error.at(place) from None  # the frames of the cause hold secrets


@conceals
def completed(value: Any, options: Mapping[str, Any], *, is_alone: bool = False) -> Route:
    """The route for a URL, a dict or what a pool takes, with options that hold where it says nothing.

    An account among these completes a URL that names its user and no secret, and
    one that ``is_alone`` and names nobody: no other server is to be shown a
    password of it. Raises ``InputError``.
    """
    shared = {name: option for name, option in options.items() if name not in _OF_ACCOUNT}
    if isinstance(value, Mapping):
        return Route.of(_with_token(from_texts({**unstated(shared, value), **value})))
    if not isinstance(value, str):
        return Route.of(value).with_defaults(shared)
    user, has_secret, said = _said(value)
    is_mine = is_alone if user is None else not has_secret and options.get("username") in (None, "", user)
    given = {name: option for name, option in options.items() if is_mine or name not in _OF_ACCOUNT}
    (route,) = routes(value, unstated(given, said))
    return route


def _said(text: str) -> tuple[str | None, bool, set[str]]:
    """The user whom a URL names, whether it has a secret of theirs, and the options that it states."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None, True, set()  # whoever reads it says what is wrong
    said = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    user = unquote(parts.username) if parts.username else None
    return user, parts.password is not None or "oauth" in said, said


def _with_token(value: Any) -> Any:
    """What describes a server, with the provider that its ``oauth`` names as its token."""
    if not isinstance(value, Mapping) or not value.get("oauth"):
        return value
    options = dict(value)
    oauth = options.pop("oauth")
    if "token" in options:
        raise InputError("oauth and token were both given: which one is meant?")
    return {**options, "token": provider(oauth, options.get("username"))}


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted(((str(name), _frozen(each)) for name, each in value.items()), key=itemgetter(0)))
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value  # type: ignore[no-any-return]
