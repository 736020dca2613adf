"""Tracebacks whose frames would show secrets: error reporters print the locals of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)


def bare(error: _E) -> _E:
    """The error, without the frames that it and the errors behind it came through so far."""
    seen: set[int] = set()
    behind: list[BaseException | None] = [error]
    while behind:
        each = behind.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            behind += (each.__cause__, each.__context__)
    return error


def alone(error: _E) -> _E:
    """The error, without frames and without the errors behind it, whose texts can quote a secret."""
    error.__cause__ = error.__context__ = None
    return bare(error)


def conceals(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let no error of a function show its arguments, or any frame below: for one that is given a secret."""
    return _concealing((BaseException,), bare)(function)


def conceals_settings(*kinds: type[BaseException]) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """A decorator for what is given settings: no error shows them, and one of these kinds comes ``alone``.

    Any other error keeps the frames below, so that what it is about can be found; the function must not hold
    a secret of its own for longer than it needs.
    """
    return _concealing(kinds, alone)


def _concealing(
    kinds: tuple[type[BaseException], ...], strip: Callable[[BaseException], BaseException]
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def concealed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return function(*args, **kwargs)
            except kinds as error:
                raised = strip(error)
            except BaseException:
                del args, kwargs
                raise
            del args, kwargs
            try:
                raise raised
            finally:
                del raised  # else the error would hold this frame, and this frame the error

        concealed.__signature__ = signature(function)  # type: ignore[attr-defined]  # for those who do not unwrap
        return concealed

    return decorate
