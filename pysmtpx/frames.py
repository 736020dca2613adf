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


def conceals(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let no error of a function show its arguments, or any frame below: for one that is given a secret."""

    @wraps(function)
    def concealed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            raised = bare(error)
        del args, kwargs
        try:
            raise raised
        finally:
            del raised  # else the error would hold this frame, and this frame the error

    concealed.__signature__ = signature(function)  # type: ignore[attr-defined]  # for those who do not unwrap
    return concealed
