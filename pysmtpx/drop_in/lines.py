"""What the single commands read: lines, within a deadline and in bounded memory."""

from __future__ import annotations

import math
import re
import socket
from functools import lru_cache
from typing import Any, Final

from ..net.deadline import Deadline
from ..wire.limits import MAX_REPLY, SLICE
from . import standard

_LEAST = 0.001
"""Seconds: 0 would make the socket a non-blocking one."""
_WHOLE: Final = re.compile(rb"(?:[0-9]{3}-[^\n]*\n)*[0-9]{3}(?: [^\n]*|\r)?\n")
"""A reply that nobody can read in two ways."""
_CACHED: Final = 1024
"""Octets of a reply that may be remembered: a server says the same few all day."""


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
        self.waiting = bytearray()
        """What was received and not read yet."""
        self._deadline: Deadline | None = None
        self._octets = 0

    def begin(self, deadline: Deadline | None) -> None:
        """A reply begins, and must be whole by the deadline; without one the socket's own timeout holds."""
        self._deadline = deadline
        self._octets = 0

    def whole_reply(self) -> tuple[int, bytes] | None:
        """A short reply that comes at once and is well-formed; None where it has to be read line by line.

        Raises ``OSError`` as ``readline`` does.
        """
        if not self.waiting:
            self._receive()
        whole = _WHOLE.match(self.waiting)
        if whole is None or whole.end() > _CACHED:
            return None
        octets = whole[0]
        del self.waiting[: len(octets)]
        return _code_and_text(octets)

    def _receive(self) -> bytes:
        if self._deadline is not None:
            wait_until(self._sock, self._deadline)
        received = self._sock.recv(SLICE)
        self.waiting += received
        return received

    def readline(self, limit: int = MAX_REPLY) -> bytes:
        """A line with its end, or ``limit`` octets of one; nothing at the end of the stream.

        Half a line at the end is none: a reply that was cut off is lost.

        Raises ``OSError``: after the deadline, where the connection breaks, and
        for a reply without end.
        """
        buffer = self.waiting
        while (end := buffer.find(b"\n", 0, limit) + 1) == 0 and len(buffer) < limit:
            deadline = self._deadline
            if not (received := self._receive()):
                buffer.clear()
                return b""
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
        self.waiting.clear()


@lru_cache(maxsize=256)
def _code_and_text(octets: bytes) -> tuple[int, bytes]:
    lines = octets[:-1].split(b"\n")
    return int(lines[-1][:3]), b"\n".join(line[4:].strip(b" \t\r\n") for line in lines)


def features_of(text: bytes) -> dict[str, str]:
    """What a reply to EHLO offers, as the standard library reads it."""
    return dict(_features_of(text) if len(text) <= _CACHED else _features_of.__wrapped__(text))


@lru_cache(maxsize=32)
def _features_of(text: bytes) -> dict[str, str]:
    heard: Any = _Heard(text)
    standard.SMTP.ehlo(heard)
    features: dict[str, str] = heard.esmtp_features
    return features


class _Heard:
    """Stands for an object of the standard class that has this reply to EHLO."""

    ehlo_msg = local_hostname = ""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def putcmd(self, *_: str) -> None:
        """Nothing is to be written."""

    def getreply(self) -> tuple[int, bytes]:
        """The reply."""
        return 250, self._text
