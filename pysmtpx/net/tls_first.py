"""Whether a port that says nothing waits for TLS: asked by a second dial, beside the wait for the greeting.

A server that speaks TLS from the first octet (RFC 8314 3.3) says nothing before our ClientHello, for as long
as one waits for a greeting; but one that greets late (a look-up of our name, a penalty) is silent too.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from typing import Any, Final

from .. import cures
from ..errors import TlsError
from ..wire.limits import Stage
from .deadline import Deadline
from .wait import READ, WRITE, pass_alarm

LOOK_AFTER: Final = 3.0
"""Seconds of silence before the look; half of the time for the call, where that is less."""
_AT_LEAST: Final = 1.5
_RELAY: Final = 25
"""No server speaks TLS first there, and who speaks before the greeting is taken for a robot (postscreen)."""
_TLS: Final = (b"\x16\x03", b"\x15\x03")
"""How a record with a ServerHello, or with an alert, begins (RFC 8446 5.1)."""

_LONGEST: Final = 86_400.0
"""Seconds in one system call."""

# Not epoll, as in ``dial``.
_Selector: Final[Any] = getattr(selectors, "PollSelector", selectors.SelectSelector)


def await_first_octet(
    sock: socket.socket,
    place: tuple[str, int],
    deadline: Deadline,
    *,
    readable: Callable[[int], object],
    source: tuple[str, int] | None = None,
    keep: Callable[[socket.socket], object] | None = None,
) -> None:
    """Return once the server has said something, or nothing can be found out by a second dial.

    ``place`` are host and port, ``readable`` waits so many milliseconds for ``sock``, ``source`` is our
    address, ``keep`` is given the second socket. Raises ``TlsError`` where the server is silent and answers
    a ClientHello on a second connection. Nothing else goes over that one, so nothing is verified on it.
    """
    host, port = place
    if port == _RELAY:
        return
    left = deadline.remaining()
    quiet = max(0.0, min(LOOK_AFTER, max(_AT_LEAST, left / 2), left))
    if readable(ceil(quiet * 1000)) or deadline.remaining() <= 0:
        return
    made: list[socket.socket] = []
    try:
        # In one step: an interrupt in between would leave it to the garbage collector.
        made.append(socket.socket(sock.family, socket.SOCK_STREAM))
        if keep is not None:
            keep(made[0])
        is_tls = _Look(made[0], host).is_answered(sock, source, deadline)
    except (OSError, ValueError) as error:
        pass_alarm(error)  # any other one says that it is not to be found out
        is_tls = False
    finally:
        for each in made:
            each.close()
    if is_tls:
        raise TlsError(
            "the server says nothing in clear, and answers TLS from the first octet",
            stage=Stage.GREETING,
            cure=cures.tls_first(host, port),
        )


class _Look:
    """One connection, and a ClientHello on it."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self.sock = sock
        self._hello = client_hello(host)
        self._heard = b""

    def is_answered(self, waiting: socket.socket, source: tuple[str, int] | None, deadline: Deadline) -> bool:
        """Whether the answer is TLS; False as soon as ``waiting`` has something to read."""
        self.sock.setblocking(False)
        if source is not None:
            self.sock.bind((source[0], 0))  # its port is in use
        with suppress(BlockingIOError):
            self.sock.connect(waiting.getpeername())
        with _Selector() as selector:
            selector.register(waiting, READ)
            selector.register(self.sock, WRITE)
            while (seconds := deadline.remaining()) > 0:
                ready = [key.fileobj for key, _ in selector.select(min(seconds, _LONGEST))]
                if waiting in ready:
                    return False
                if ready and (answer := self._go_on(selector)) is not None:
                    return answer
        return False

    def _go_on(self, selector: Any) -> bool | None:
        """One step; None where there is no answer yet."""
        if self._hello:
            if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._hello = self._hello[self.sock.send(self._hello) :]
            if not self._hello:
                selector.modify(self.sock, READ)
            return None
        octets = self.sock.recv(2 - len(self._heard))
        self._heard += octets
        if octets and len(self._heard) < 2:
            return None
        return self._heard in _TLS


def client_hello(host: str, up_to: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> bytes:
    """The first octets of a handshake with this host, which goes on with nothing newer than ``up_to``."""
    context, outgoing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.MemoryBIO()
    context.maximum_version = up_to
    context.check_hostname = False  # nothing goes over it
    name = None if host.startswith("/") else host
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
