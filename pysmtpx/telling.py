"""Telling somebody of something, where he may do the same in turn: once, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar


class Telling:
    """One kind of news. Of what its listeners cause while they are told nothing is told.

    A log handler that mails what is logged, or a hook that reports by mail,
    would else be told of that mail, and go on for ever.
    """

    __slots__ = ("_is_under_way",)

    def __init__(self, name: str) -> None:
        self._is_under_way = ContextVar(name, default=False)

    @property
    def is_under_way(self) -> bool:
        """Whether this is from within such a call."""
        return self._is_under_way.get()

    def once(self, tell: Callable[..., object], *args: object) -> None:
        """Call ``tell``, unless this is from within such a call."""
        if self._is_under_way.get():
            return
        try:
            # Within: an interrupt comes behind a call into C, and must not leave this thread silent for good.
            self._is_under_way.set(True)
            tell(*args)
        finally:
            self._is_under_way.set(False)
