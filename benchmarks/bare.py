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


def overlapped(
    port: int, sender: str, recipient: str, content: bytes, count: int, quick: bool = False
) -> float:
    """Messages a second with the end of one and the envelope of the next in one write.

    ``quick`` acknowledges at once, without which Postfix's Nagle waits 40 ms a message; smtp-sink has none.
    """
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    flight = content + b".\r\n" + envelope
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _lines(sock, 1, quick)
        sock.sendall(b"EHLO bench\r\n")
        while b"\r\n250 " not in (b"\r\n" + sock.recv(65536)):
            pass
        start = time.perf_counter()
        sock.sendall(envelope)
        _lines(sock, 3, quick)
        for _ in range(count - 1):
            sock.sendall(flight)
            _lines(sock, 4, quick)
        sock.sendall(content + b".\r\n")
        _lines(sock, 1, quick)
        seconds = time.perf_counter() - start
        sock.sendall(b"QUIT\r\n")
    return count / seconds
