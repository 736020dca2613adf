"""Talk to an embedded server by a socket, octet by octet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from support import certs

from pysmtpx.testing import MailServer


@contextmanager
def raw(server: MailServer, *, hello: bool = True) -> Iterator[socket.socket]:
    """A connection, under TLS if the server begins so; with ``hello`` greeting and EHLO are behind it."""
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        if server.tls == "implicit":
            sock: socket.socket = certs.client_context().wrap_socket(plain, server_hostname="localhost")
        else:
            sock = plain
        with sock:
            if hello:
                sock.recv(1000)
                sock.sendall(b"EHLO client.example\r\n")
                sock.recv(1000)
            yield sock


def rest(sock: socket.socket) -> bytes:
    """Everything up to the end of file."""
    received = b""
    while data := sock.recv(1000):
        received += data
    return received
