"""Waiting for one socket, with any descriptor number and no time lost on sets."""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Callable
from math import ceil
from typing import Final

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
_LONGEST: Final = 86_400.0
"""Seconds in one system call: a poll takes no infinity and only 31 bits of milliseconds."""


class _Poll:
    """By poll: unlike select it takes descriptors over 1023."""

    __slots__ = ("_fd", "readable")

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        reading = select.poll()
        reading.register(self._fd, select.POLLIN)
        self.readable: Callable[[int], object] = reading.poll
        """Wait so many milliseconds for something to be read; true also if the connection is broken."""

    def wait(self, want: int, seconds: float) -> int:
        """What of ``want`` is possible now or within ``seconds``; 0 where nothing is.

        A broken connection counts as ready: the call that is waited for says how.
        """
        # Rounded up: a wait that ends too early would spin until the deadline.
        milliseconds = ceil(min(seconds, _LONGEST) * 1000) if seconds > 0 else 0
        if want == READ:
            return READ if self.readable(milliseconds) else 0
        mask = (select.POLLIN if want & READ else 0) | (select.POLLOUT if want & WRITE else 0)
        poll = select.poll()
        poll.register(self._fd, mask)
        events = poll.poll(milliseconds)
        if not events:
            return 0
        if want != READ | WRITE:
            return want
        happened = events[0][1]
        if happened & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return want
        return (READ if happened & select.POLLIN else 0) | (WRITE if happened & select.POLLOUT else 0)


class _Select:
    """The same where there is no poll (Windows)."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def readable(self, milliseconds: int) -> object:
        """As that of ``_Poll``."""
        return self.wait(READ, milliseconds / 1000)

    def wait(self, want: int, seconds: float) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, want)
            events = selector.select(max(0.0, min(seconds, _LONGEST)))
        return events[0][1] if events else 0


def pass_alarm(error: Exception) -> None:
    """Raise an error again that came into a system call from a handler of signals.

    It passes for one of the call's own where it is a ``TimeoutError``, as that
    of an alarm mostly is; but a descriptor that never blocks never times out,
    and one of the kernel's has a number (ETIMEDOUT).
    """
    if isinstance(error, TimeoutError) and error.errno is None:
        raise error


Waiter: type[_Poll] | type[_Select] = _Poll if hasattr(select, "poll") else _Select
