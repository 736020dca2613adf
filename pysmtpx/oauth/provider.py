"""What all providers have in common: they keep one token or password, and show nothing of it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from importlib.util import find_spec
from typing import Any, Final, NoReturn, TypeVar

from ..errors import CredentialsUnavailable, InputError
from ..extras import needs
from ..frames import conceals
from ..values import above_zero
from .renewal import Renewal, Secret, shared_renewal

_P = TypeVar("_P", bound="TokenProvider")

TIMEOUT: Final = 20.0
"""Seconds for one renewal, as long as nothing else is given."""


class TokenProvider(ABC):
    """Keeps a token or password, and has it renewed by ``fetch``: one thread at a time, ahead of its end.

    Subclass it for a provider of your own. Any number of pools and connections
    may share one; what it holds is in no ``repr`` and no pickle. It can be called,
    and then returns the token, so it goes wherever a function for tokens does.
    """

    __slots__ = ("__weakref__", "_renewal")

    knows_accounts = True
    """It can be told for which user name it is asked."""
    renews_aside = True
    """What it waits for goes on in a thread of its own: who asked may give up, and ask again."""
    _renewal: Renewal

    def __new__(cls: type[_P], *args: Any, **options: Any) -> _P:
        """A subclass need not call ``super().__init__``."""
        made = super().__new__(cls)
        made._renewal = Renewal()
        return made

    @abstractmethod
    def fetch(self) -> Secret:
        """Get a new one from where it is made; called in a thread of its own, never twice at a time.

        Raises ``CredentialsUnavailable`` where there is none; anything else that
        it raises becomes one, of which only the kind of the error is told.
        """

    def current(self, timeout: float | None = None, account: str = "") -> str:
        """Return the token or password to log in with now, within so many seconds where they are given.

        ``account`` is for whom: another one, to whom the same was refused, does not count.

        Raises ``CredentialsUnavailable`` where it cannot be had; for a while,
        which grows, that is raised again and nobody is asked. ``Timeout`` where
        it takes too long.
        """
        return self._renewal.current(self.fetch, timeout, account)

    def renewed(self, refused: str, timeout: float | None = None, account: str = "") -> str:
        """Return another one, since a server refused this; the same where asking for more would be of no use.

        Raises what ``current`` raises.
        """
        return self._renewal.renewed(self.fetch, refused, timeout, account)

    def __call__(self) -> str:
        """As ``current``."""
        return self.current()

    def __copy__(self: _P) -> _P:
        return self

    def __deepcopy__(self: _P, memo: object) -> _P:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds secrets and is not pickled: make one in the other process"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Named(TokenProvider):
    """A provider that is a value: equal ones share what they hold, in a process.

    ``shown`` are those of its arguments that ``repr`` shows.
    """

    __slots__ = ("_key", "_shown")

    _key: tuple[Hashable, ...]
    _shown: dict[str, object]

    def _is(self, shown: Mapping[str, object], *others: object) -> None:
        """Say what it is made of; ``others`` may be secrets."""
        self._shown = {name: value for name, value in shown.items() if value is not None}
        self._key = (type(self), *shown.items(), *map(_as_key, others))
        self._renewal = shared_renewal(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._shown.items())
        return f"{type(self).__name__}({shown})"


class Cached(Named):
    """Keeps what a function returns for so many seconds: a password that rotates, another library's token.

    ``function`` is called by one thread at a time, ahead of the end of these
    seconds, and once more when a server refuses what it gave. Without it each
    connection of a pool calls the function, several at once.

    Raises ``InputError`` for what is no function, and for seconds that are none.
    """

    __slots__ = ("_function", "_seconds")

    @conceals
    def __init__(self, function: Callable[[], str], seconds: float) -> None:
        if not callable(function):
            raise InputError("Cached takes a function that returns the token or password")
        self._function = function
        self._seconds = above_zero("seconds of Cached", seconds)
        self._is({"seconds": self._seconds}, function)

    def fetch(self) -> Secret:
        """What the function returns now. Raises what it raises."""
        return Secret(self._function(), self._seconds)


def _as_key(argument: object) -> Hashable:
    """What equal arguments have in common: a function may be an object that cannot be hashed."""
    try:
        hash(argument)
    except TypeError:
        return _Itself(argument)
    return argument


class _Itself:
    """Stands for an object that cannot be hashed: equal to what stands for the same one."""

    __slots__ = ("_object",)

    def __init__(self, object_: object) -> None:
        self._object = object_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)


def checked_extra(extra: str, module: str) -> None:
    """Tell early of a library that is missing: it is loaded by the first renewal. Raises ``MissingExtra``."""
    try:
        is_there = find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package above it
        is_there = False
    if not is_there:
        needs(extra, module)


def text_of(what: str, value: object) -> str:
    """A secret that a caller gave, or what his function returns. Raises ``CredentialsUnavailable``."""
    text = value() if callable(value) else value
    if not isinstance(text, str) or not text:
        raise CredentialsUnavailable(f"the function for the {what} returned none")
    return text


def checked_secret(what: str, value: object) -> Any:
    """A secret as a caller may give it: a text, or a function that returns it. Raises ``InputError``."""
    if value is None or callable(value) or (isinstance(value, str) and value):
        return value
    raise InputError(f"{what} is a text that is not empty, or a function that returns one")


def checked(what: str, value: object) -> str:
    """A text that is no secret. Raises ``InputError``."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{what} is a text that is not empty and holds no control characters")
    return value


def checked_path(what: str, value: object) -> str:
    """The path of a file that is read at each renewal. Raises ``InputError``."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{what} is the path of a file")
    return value


def checked_function(what: str, value: object) -> Any:
    """A function, or None. Raises ``InputError``."""
    if value is not None and not callable(value):
        raise InputError(f"{what} is a function")
    return value
