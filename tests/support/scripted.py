"""A server that does what a test's script says, octet by octet, over a real socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeAlias

from pysmtpx import SmtpConnection, connect

CUTS = ("whole", "line", "octet")
"""How a server's octets are cut up into segments."""

_PATIENCE = 10.0
"""Seconds after which a script that still waits for its client is cut off."""


class Peer:
    """The server's end of one connection, in the hands of a script."""

    def __init__(self, sock: socket.socket, cut: str, stopping: threading.Event) -> None:
        sock.settimeout(_PATIENCE)
        self.sock = sock
        self.received = bytearray()
        """Every octet that the client sent, in clear."""
        self._cut = cut
        self._stopping = stopping
        self._read = 0

    def say(self, *texts: bytes) -> None:
        """Send octets, cut up as the server is told to."""
        for piece in pieces(b"".join(texts), self._cut):
            self.sock.sendall(piece)

    def _more(self) -> None:
        data = self.sock.recv(64 * 1024)
        if not data:
            raise EOFError("the client is gone")
        self.received += data

    def line(self) -> bytes:
        """The next line without CRLF; EOFError where the client is gone."""
        while (end := self.received.find(b"\r\n", self._read)) < 0:
            self._more()
        line = bytes(self.received[self._read : end])
        self._read = end + 2
        return line

    def expect(self, verb: str) -> bytes:
        """The next line, which must begin with this verb."""
        line = self.line()
        assert line.split(b" ")[0] == verb.encode(), f"{verb} was due, not {line[:80]!r}"
        return line

    def content(self) -> bytes:
        """What stands before the end of data."""
        start = self._read
        while True:
            at = self.received.find(b"\r\n.\r\n", max(0, start - 2), None)
            if at >= 0:
                self._read = at + 5
                return bytes(self.received[start : at + 2])
            self._more()

    def take(self, octets: int) -> bytes:
        """The next so many octets."""
        while len(self.received) < self._read + octets:
            self._more()
        self._read += octets
        return bytes(self.received[self._read - octets : self._read])

    def rest(self) -> bytes:
        """Whatever else the client sends until it is gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._more()
        return bytes(self.received[self._read :])

    def hold(self) -> None:
        """Neither read nor write until the test is over."""
        self._stopping.wait(_PATIENCE * 3)

    # -- pieces of sessions --------------------------------------------------------

    def greet(self, *keywords: str, verb: str = "EHLO") -> None:
        """Greeting, and the answer to EHLO or LHLO."""
        self.say(b"220 mail.example ESMTP\r\n")
        self.hello(*keywords, verb=verb)

    def hello(self, *keywords: str, verb: str = "EHLO") -> None:
        """The answer to EHLO or LHLO."""
        self.expect(verb)
        self.say(ehlo(*keywords))

    def starttls(self) -> None:
        """Greeting, EHLO and STARTTLS, answered: what follows is the handshake."""
        self.greet("STARTTLS")
        self.expect("STARTTLS")
        self.say(b"220 go\r\n")

    def envelope(self, recipients: int = 1, *, data: bool = True) -> None:
        """Accept MAIL and every RCPT, and answer DATA by 354."""
        for verb in ("MAIL", *["RCPT"] * recipients):
            self.expect(verb)
            self.say(b"250 2.0.0 ok\r\n")
        if data:
            self.expect("DATA")
            self.say(b"354 go ahead\r\n")

    def tls(self, context: ssl.SSLContext) -> None:
        """Shake hands; what follows is under TLS, and its raw end is no end of file."""
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # CPython sets it where OpenSSL is 3
        self.sock = context.wrap_socket(self.sock, server_side=True, suppress_ragged_eofs=False)

    def quit(self) -> None:
        """The answer to QUIT, and the end."""
        self.expect("QUIT")
        self.say(b"221 2.0.0 bye\r\n")
        self.rest()

    # -- ends ----------------------------------------------------------------------

    def end(self) -> None:
        """Close our half by FIN, without close_notify, and wait until the client is gone."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Close by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script: TypeAlias = Callable[[Peer], Any]


class ScriptedServer:
    """Serves each connection by its own script; the last script serves all that follow.

    A script ends quietly where its client is gone; an assertion that fails in it
    is raised at the end of the ``with`` block.
    """

    def __init__(
        self,
        *scripts: Script,
        cut: str = "whole",
        path: str | None = None,
        place: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
        buffer: int | None = None,
    ) -> None:
        self._scripts = scripts
        self._cut = cut
        self._tls = tls
        self.path = path
        self.peers: list[Peer] = []
        self._errors: list[BaseException] = []
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._listener = socket.socket(family if path is None else socket.AF_UNIX)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF) if buffer else ():
            self._listener.setsockopt(socket.SOL_SOCKET, option, buffer or 0)
        try:
            self._listener.bind(path or place)
        except OSError:
            self._listener.close()
            raise
        self._listener.listen(16)

    @property
    def port(self) -> int:
        number: int = self._listener.getsockname()[1]
        return number

    @property
    def received(self) -> bytes:
        """What the first client sent, once its script is over."""
        for thread in self._threads[1:2]:
            thread.join(_PATIENCE)
        return bytes(self.peers[0].received)

    def connect(self, **options: Any) -> SmtpConnection:
        """A connection of ours to this server."""
        if self.path is not None:
            return connect(self.path, **options)
        return connect("127.0.0.1", self.port, **options)

    def discard(self) -> None:
        """Close one that never served."""
        self._listener.close()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(2.0 if kind is None else 0.2)
        for peer in self.peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(_PATIENCE)
        if self._errors and kind is None:
            raise self._errors[0]

    def _start(self, target: Callable[..., Any], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="scripted", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
            peer = Peer(sock, self._cut, self._stopping)
            self.peers.append(peer)
            self._start(self._serve, script, peer)

    def _serve(self, script: Script, peer: Peer) -> None:
        try:
            if self._tls is not None:
                peer.tls(self._tls)
            script(peer)
        except (EOFError, OSError):
            pass
        except BaseException as error:
            self._errors.append(error)
        finally:
            peer.sock.close()


def pieces(octets: bytes, cut: str) -> Iterator[bytes]:
    """The octets whole, by line or one by one."""
    if cut == "whole":
        yield octets
    elif cut == "line":
        yield from octets.splitlines(keepends=True)
    else:
        yield from (octets[i : i + 1] for i in range(len(octets)))


def ehlo(*keywords: str) -> bytes:
    """An answer to EHLO."""
    *rest, last = ["mail.example", *keywords]
    return "".join([*(f"250-{line}\r\n" for line in rest), f"250 {last}\r\n"]).encode()
