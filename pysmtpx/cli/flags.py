"""What the value of an option of the command may be, and which options contradict one another."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

from ..errors import InputError
from ..values import above_zero, from_zero, whole

_T = TypeVar("_T", int, float)

_LONGEST: Final = threading.TIMEOUT_MAX
"""Seconds that a thread can be told to wait for."""
_MOST_THREADS: Final = 1000
_SLOWEST: Final = 1e-6
_FASTEST: Final = 1e6
"""Messages a second; between two of the slowest rate lie eleven days."""

_CONTENT: Final = ("subject", "body", "body_file", "html_file", "header", "attach")
_APART: Final = (
    ("body", "body_file"),
    ("password_file", "token_file"),
    ("oauth", "password_file"),
    ("oauth", "token_file"),
    ("ca_file", "roots"),
    ("no_web", "web_port"),
    *(("eml", each) for each in _CONTENT),
)
"""Options that say the same matter twice."""
_NEEDS: Final = (("client_key", "client_certificate"), ("key", "certificate"), ("tls", "certificate"))
"""Options that say nothing without another, in the commands that have both."""
_READ: Final = ("password_file", "token_file", "eml", "body_file", "html_file", "attach")
"""Options whose value names a file, or standard input."""


def count(text: str) -> int:
    """The value of an option: a whole number from 1."""
    return _read(int, whole, text)


def connections(text: str) -> int:
    """The value of an option: a whole number of connections, each with its thread."""
    return _read(int, partial(whole, most=_MOST_THREADS), text)


def port(text: str) -> int:
    """The value of an option: a port to listen on; 0 is any free one."""
    return _read(int, partial(whole, lowest=0, most=65535), text)


def seconds(text: str) -> float:
    """The value of an option: a number of seconds above 0."""
    return _read(float, lambda name, value: min(above_zero(name, value), _LONGEST), text)


def pause(text: str) -> float:
    """The value of an option: a number of seconds from 0."""
    return _read(float, lambda name, value: min(from_zero(name, value), _LONGEST), text)


def days(text: str) -> float:
    """The value of an option: a number of days from 0."""
    return _read(float, partial(from_zero, most=1e6), text)


def rate(text: str) -> float:
    """The value of an option: so many a second."""
    value = _read(float, above_zero, text)
    if not _SLOWEST <= value <= _FASTEST:
        raise argparse.ArgumentTypeError(f"it is a number from {_SLOWEST:f} to {_FASTEST:.0f}")
    return value


def _read(convert: Callable[[str], _T], check: Callable[[str, object], _T], text: str) -> _T:
    """The number that a text writes. Raises ``ArgumentTypeError``, beside which argparse names the option."""
    value: object = text
    with contextlib.suppress(ValueError):  # it is refused as the text that it is
        value = convert(text)
    try:
        return check("it", value)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.text) from None


def check(arguments: argparse.Namespace) -> None:
    """Raise ``InputError`` where two options contradict each other, or one says nothing without another."""
    for one, other in _APART:
        if _is_given(arguments, one) and _is_given(arguments, other):
            raise InputError(f"{named(one)} and {named(other)} were both given: which one is meant?")
    for one, other in _NEEDS:
        if _is_given(arguments, one) and hasattr(arguments, other) and not _is_given(arguments, other):
            raise InputError(f"{named(one)} says nothing without {named(other)}")
    if len(readers := list(_readers(arguments))) > 1:
        raise InputError(f"{' and '.join(readers)} cannot both be read from standard input")


def named(name: str) -> str:
    """An option as it is written."""
    return f"--{name.replace('_', '-')}"


def _is_given(arguments: argparse.Namespace, name: str) -> bool:
    value = getattr(arguments, name, None)
    return value is not None and value is not False and value not in ("", [])


def _readers(arguments: argparse.Namespace) -> Iterator[str]:
    """The options that would read standard input, which can be read once."""
    for name in _READ:
        given = getattr(arguments, name, None)
        yield from [named(name)] * (given if isinstance(given, list) else [given]).count("-")
