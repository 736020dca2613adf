"""The limit: socket calls and nothing else. Not a client: it takes every reply for a yes."""

from __future__ import annotations

import socket
import time


def _lines(sock: socket.socket, count: int, quick: bool) -> None:
    """Read until so many lines are there."""
    while count > 0:
        if quick:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the server hung up")
        count -= data.count(b"\r\n")


def stream(
    port: int,
    sender: str,
    recipient: str,
    content: bytes,
    count: int,
    *,
    quick: bool = False,
    overlap: bool = True,
) -> float:
    """Messages a second, by DATA: the envelope in one write, the content in the next.

    With ``overlap`` the envelope of the next message goes out with the end of this one, so that a message
    costs one round trip and not two. ``quick`` acknowledges at once, without which Postfix's Nagle waits
    40 ms a message; smtp-sink has none.
    """
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    end = content + b".\r\n"
    flights = [(end + envelope, 4)] if overlap else [(end, 1), (envelope, 3)]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _lines(sock, 1, quick)
        sock.sendall(b"EHLO bench\r\n")
        while b"\r\n250 " not in (b"\r\n" + sock.recv(65536)):
            pass
        start = time.perf_counter()
        sock.sendall(envelope)
        _lines(sock, 3, quick)
        for flight, replies in flights * (count - 1):
            sock.sendall(flight)
            _lines(sock, replies, quick)
        sock.sendall(end)
        _lines(sock, 1, quick)
        seconds = time.perf_counter() - start
        sock.sendall(b"QUIT\r\n")
    return count / seconds
