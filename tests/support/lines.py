"""A stream of ours and the other side of it."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from typing import Any

from support import certs

from pysmtpx.net.deadline import Deadline
from pysmtpx.net.stream import Stream
from pysmtpx.net.tls import Tls, handshake

SOON = 20.0


def stream_over(sock: socket.socket) -> Stream:
    """A stream over a socket, which does not block from now on."""
    sock.setblocking(False)
    return Stream(sock)


class Line:
    """A stream of ours, and the blocking socket of the other side."""

    def __init__(self, stream: Stream, peer: socket.socket) -> None:
        self.stream = stream
        self.peer = peer

    def reply(self, **options: Any) -> Any:
        """The next reply."""
        (reply,) = self.stream.receive(Deadline.after(SOON), SOON, **options)
        return reply

    def send(self, data: bytes, **options: Any) -> bool:
        """Write; True where something is there to be received."""
        return self.stream.send(data, Deadline.after(SOON), **options)

    def arrived(self) -> None:
        """Wait until something is there to be read."""
        poll = select.poll()
        poll.register(self.stream._sock, select.POLLIN)
        assert poll.poll(SOON * 1000)


def tcp() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
        # Else Nagle holds what is said after the session tickets until these are acknowledged.
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ours, theirs


def secured(
    ours: socket.socket, theirs: socket.socket, version: ssl.TLSVersion
) -> tuple[ssl.SSLSocket, socket.socket]:
    """Both ends after the handshake; ours by ``handshake``."""
    context = certs.server_context()
    context.minimum_version = context.maximum_version = version
    done: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: done.append(context.wrap_socket(theirs, server_side=True)))
    thread.start()
    wrapped = handshake(ours, Tls(certs.client_context(), "mail.test"), Deadline.after(SOON))
    thread.join()
    return wrapped, done[0]
