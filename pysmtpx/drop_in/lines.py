"""What the single commands read: lines, within a deadline and in bounded memory."""

from __future__ import annotations

import math
import socket

from ..net.deadline import Deadline
from ..wire.limits import MAX_REPLY, SLICE

_LEAST = 0.001
"""Seconds: 0 would make the socket a non-blocking one."""


def wait_until(sock: socket.socket, deadline: Deadline) -> None:
    """Let the next call on a socket take until the deadline, and no longer."""
    seconds = deadline.remaining()
    if seconds != math.inf:
        sock.settimeout(max(seconds, _LEAST))
    elif sock.gettimeout() is not None:
        sock.settimeout(None)


def wait_at_most(sock: socket.socket, seconds: float | None) -> None:
    """Let each call on a socket that was a non-blocking one wait again; None is for as long as it takes."""
    # A green socket of eventlet forgets that it was not to block only where it is told so.
    sock.setblocking(True)
    if seconds is not None:
        sock.settimeout(seconds)


class Lines:
    """Stands where the standard library has ``sock.makefile("rb")``.

    One deadline holds for all lines of a reply: a server that sends an octet
    now and then does not outlive it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._deadline: Deadline | None = None
        self._octets = 0

    @property
    def waiting(self) -> bytes:
        """What was received and not read yet."""
        return bytes(self._buffer)

    def begin(self, deadline: Deadline | None) -> None:
        """A reply begins, and must be whole by the deadline; without one the socket's own timeout holds."""
        self._deadline = deadline
        self._octets = 0

    def readline(self, limit: int = MAX_REPLY) -> bytes:
        """A line with its end, or ``limit`` octets of one; nothing at the end of the stream.

        Half a line at the end is none: a reply that was cut off is lost.

        Raises ``OSError``: after the deadline, where the connection breaks, and
        for a reply without end.
        """
        buffer = self._buffer
        while (end := buffer.find(b"\n", 0, limit) + 1) == 0 and len(buffer) < limit:
            deadline = self._deadline
            if deadline is not None:
                wait_until(self._sock, deadline)
            if not (received := self._sock.recv(SLICE)):
                buffer.clear()
                return b""
            buffer += received
            if deadline is not None and deadline.remaining() <= 0 and b"\n" not in received:
                raise TimeoutError("timed out")
        line = bytes(buffer[: end or limit])
        del buffer[: len(line)]
        self._octets += len(line)
        if self._octets > MAX_REPLY:
            raise OSError(f"a reply is over {MAX_REPLY} octets")
        return line

    def close(self) -> None:
        """Forget what was not read; the socket is its owner's."""
        self._buffer.clear()
