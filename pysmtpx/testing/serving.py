"""One connection of the threaded server: a socket on one side, a ``ServerSession`` on the other."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import Final

from .actions import Action, Close, StartTls, Wait, Write, WriteSlowly
from .config import Config
from .ledger import Ledger
from .protocol import ServerSession
from .tls import exporter_of, name_of_peer

Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Windows has no poll. Not epoll: a forked child would inherit its descriptor."""
_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER of no seconds, by which a close is an RST."""
_LINGER: Final = 1.0
"""Seconds after a close in which the client's last octets are still read, so that no RST destroys
the reply that it has yet to read."""


@dataclass(frozen=True, slots=True)
class Line:
    """How octets travel, the same for every connection."""

    ssl_context: ssl.SSLContext | None
    binding: bytes | None
    """The ``tls-server-end-point`` of the certificate that the context shows."""
    implicit: bool
    delay: float
    read_size: int
    read_delay: float


class _Ended(Exception):
    """The connection is over."""


class Serving:
    """Serves one accepted socket until it ends; ``run`` owns and closes it."""

    def __init__(
        self, sock: socket.socket, config: Config, ledger: Ledger, line: Line, stopping: threading.Event
    ) -> None:
        self._sock = sock
        self._line = line
        self._stopping = stopping
        self._session = ServerSession(config, ledger)
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """The number of the connection in the ledger."""
        return self._session.connection.number

    def hang_up(self, how: int) -> None:
        """Shut the socket down from another thread; a blocked call wakes."""
        with self._lock, contextlib.suppress(OSError):
            # Past SSLSocket.shutdown, which would pull TLS from under the thread that uses it.
            socket.socket.shutdown(self._sock, how)

    def close(self) -> None:
        """Close the socket from another thread: the last resort, where no shutdown wakes a blocked call."""
        self._sock.close()

    def run(self) -> None:
        """Serve until the client or the script ends it."""
        try:
            with contextlib.suppress(OSError, _Ended):
                self._converse()
        finally:
            self._session.eof()
            with self._lock:
                self._sock.close()

    def _converse(self) -> None:
        if self._line.implicit:
            self._start_tls()
        self._perform(self._session.greeting())
        while data := self._read():
            self._perform(self._session.receive(data))

    def _read(self) -> bytes:
        if self._line.read_delay:
            self._stopping.wait(self._line.read_delay)
        return self._sock.recv(self._line.read_size)

    def _perform(self, actions: list[Action]) -> None:
        """Do what the session wants; what arrives before its replies leave is known to be pipelined."""
        if not actions:
            return
        if self._line.delay:
            self._stopping.wait(self._line.delay)
        if not isinstance(actions[-1], Close) and self._has_input() and (data := self._read()):
            actions = actions + self._session.receive(data, unread=True)
        replies = bytearray()
        for action in actions:
            if isinstance(action, Write):
                replies += action.octets
                continue
            self._send(replies)
            self._act(action)
        self._send(replies)

    def _has_input(self) -> bool:
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        with Selector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _send(self, replies: bytearray) -> None:
        if replies:
            self._sock.sendall(replies)
            replies.clear()

    def _act(self, action: Action) -> None:
        match action:
            case WriteSlowly(octets=octets, seconds=seconds):
                self._drip(octets, seconds)
            case Wait(seconds=seconds):
                self._stopping.wait(seconds)
                if seconds is None:
                    raise _Ended
            case StartTls():
                self._start_tls()
            case Close(reset=reset, orderly=orderly):
                self._close(reset=reset, orderly=orderly)

    def _drip(self, octets: bytes, seconds: float) -> None:
        for index in range(len(octets)):
            if self._stopping.wait(seconds):
                raise _Ended
            self._sock.sendall(octets[index : index + 1])

    def _start_tls(self) -> None:
        context = self._line.ssl_context
        assert context is not None
        plain = self._sock
        plain.getpeername()  # wrapping one that was reset can leave the descriptor to the collector
        secure = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._sock = secure
        secure.do_handshake()
        self._session.tls_started(name_of_peer(secure), self._line.binding, exporter_of(secure))

    def _close(self, *, reset: bool, orderly: bool) -> None:
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            raise _Ended
        if orderly and isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(0)
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
        socket.socket.shutdown(self._sock, socket.SHUT_WR)
        self._linger()
        raise _Ended

    def _linger(self) -> None:
        self._sock.settimeout(_LINGER)
        while data := self._sock.recv(self._line.read_size):
            self._session.receive(data)
