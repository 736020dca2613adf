"""A sink that answers without looking, in a thread or as a process: ``python -m benchmarks.blind``.

The process prints its port; given a certificate chain and its key it offers STARTTLS and then AUTH PLAIN.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

_END = b"\r\n.\r\n"
_REPLIES = {
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250 2.1.5 ok\r\n",
    b"DATA": b"354 go on\r\n",
    b"AUTH": b"235 2.7.0 welcome\r\n",
    b"STAR": b"220 2.0.0 go on\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


class Session:
    """One connection: octets in, replies out."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.context = context
        self.held = b""
        self.is_data = False
        self.last = b""

    def run(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            self.sock.sendall(b"220 blind.test ESMTP\r\n")
            while self.last != b"QUIT" and (data := self.sock.recv(1 << 18)):
                if replies := self.answer(data):
                    self.sock.sendall(replies)
                if self.last == b"STAR" and self.context is not None:
                    self.sock, self.last = self.context.wrap_socket(self.sock, server_side=True), b""
        self.sock.close()

    def answer(self, data: bytes) -> bytes:
        held, replies = self.held + data, b""
        while True:
            end = held.find(_END if self.is_data else b"\r\n")
            if end < 0:
                self.held = held[-4:] if self.is_data else held
                return replies
            if self.is_data:
                held, self.is_data = held[end + 5 :], False
                replies += b"250 2.0.0 taken\r\n"
            else:
                self.last = verb = held[:4].upper()  # smtplib says ehlo
                held, self.is_data = held[end + 2 :], verb == b"DATA"
                replies += self.capabilities() if verb == b"EHLO" else _REPLIES.get(verb, b"250 2.0.0 ok\r\n")

    def capabilities(self) -> bytes:
        tls = isinstance(self.sock, ssl.SSLSocket)
        extra = b"250-AUTH PLAIN\r\n" if tls else b"250-STARTTLS\r\n" if self.context else b""
        return b"250-blind.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n%b250 DSN\r\n" % extra


def serve(listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
    """Accept until the listener is shut down, a thread for each connection."""
    with contextlib.suppress(OSError):
        while True:
            session = Session(listener.accept()[0], context)
            threading.Thread(target=session.run, daemon=True).start()


@contextlib.contextmanager
def in_process() -> Iterator[int]:
    """The sink in threads of this process; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _main(files: list[str]) -> None:
    context = None
    if files:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=serve, args=(listener, context), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main(sys.argv[1:])
