"""A small threaded server on loopback or a UNIX socket."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import threading
from dataclasses import replace
from types import TracebackType
from typing import Final, Literal, Self, Unpack

from .config import Config, Options
from .ledger import Ledger, ReceivedMessage
from .serving import Line, Selector, Serving
from .tls import end_point_of, server_certificate

Tls = Literal["none", "starttls", "implicit"]

_BACKLOG: Final = 128
_GRACE: Final = 2.0
"""Seconds for a connection's thread to read what has arrived before it is cut off."""


class MailServer:
    """An SMTP or LMTP server in threads of this process, for tests.

    It listens on a free port of 127.0.0.1 (or on ``host`` and ``port``, or at
    the UNIX socket ``path``, where the system has such) from the start of the ``with`` block to its end,
    where every thread and socket of it is gone. With ``strict``, leaving the
    block without an exception raises ``AssertionError`` if a client broke the
    protocol.

    ``lenient``, of the fields of ``Config``, is for clients that break it now and
    then, as the standard library's does.

    ``tls`` is ``"starttls"`` where an ``ssl_context`` is given, else
    ``"none"``; ``"implicit"`` starts each connection with the handshake.
    ``delay`` is seconds before each reply, ``keep=False`` counts messages
    without storing them, ``receive_buffer`` and ``send_buffer`` are octets of
    the socket buffers, ``read_size`` is octets read at a time and
    ``read_delay`` seconds between two reads. All other options are fields of
    ``Config``.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        tls: Tls | None = None,
        strict: bool = True,
        keep: bool = True,
        delay: float = 0.0,
        read_size: int = 64 * 1024,
        read_delay: float = 0.0,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.tls: Tls = tls or ("none" if ssl_context is None else "starttls")
        if self.tls != "none" and ssl_context is None:
            raise ValueError("tls needs an ssl_context")
        self.config: Config = self._with_starttls(replace(config or Config(), **options))
        self.ledger: Ledger = Ledger(keep=keep)
        self.strict = strict
        self.path: str | None = None if path is None else os.fspath(path)
        self._host, self._wanted_port = host, port
        certificate = None if ssl_context is None else server_certificate(ssl_context)
        self._line = Line(
            ssl_context=ssl_context,
            binding=None if certificate is None else end_point_of(certificate),
            implicit=self.tls == "implicit",
            delay=delay,
            read_size=read_size,
            read_delay=read_delay,
        )
        self._buffers = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: send_buffer}
        self._listener: socket.socket | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._serving: dict[threading.Thread, Serving] = {}
        self._acceptor: threading.Thread | None = None

    def _with_starttls(self, config: Config) -> Config:
        if self.tls != "starttls" or any(line.upper() == "STARTTLS" for line in config.extensions):
            return config
        return replace(config, extensions=[*config.extensions, "STARTTLS"])

    # What a test asks for.

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The TCP port that it listens on; raises ``RuntimeError`` when it has none."""
        if self._listener is None or self.path is not None:
            raise RuntimeError("the server has no port: it does not run, or listens at a path")
        number: int = self._listener.getsockname()[1]
        return number

    @property
    def url(self) -> str:
        """Where it is, such as ``smtp://127.0.0.1:2525`` or ``lmtp+unix:///run/lmtp``."""
        scheme = (
            "smtps" if self.tls == "implicit" and self.config.protocol == "smtp" else self.config.protocol
        )
        if self.path is not None:
            return f"{scheme}+unix://{os.path.abspath(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def messages(self) -> list[ReceivedMessage]:
        """The messages that it accepted, in order."""
        return list(self.ledger.messages)

    @property
    def breaches(self) -> list[str]:
        """Each breach of the protocol by a client, in words."""
        return list(self.ledger.breaches)

    def assert_clean(self) -> None:
        """Raise ``AssertionError`` with every breach, if there is any."""
        self.ledger.assert_clean()

    def wait_for(self, count: int, timeout: float = 10.0) -> list[ReceivedMessage]:
        """Wait until ``count`` messages were accepted, and return those kept.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        if not self.ledger.wait_until(lambda: self.ledger.count >= count, timeout):
            raise TimeoutError(f"{self.ledger.count} of {count} messages came within {timeout} seconds")
        return self.messages

    # Life.

    def start(self) -> Self:
        """Listen and serve; ``with`` does it."""
        if self._listener is not None:
            raise RuntimeError("the server runs already")
        self._stopping.clear()
        self._listener = self._listen()
        self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="pysmtpx.testing accept", daemon=True)
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Stop serving: read what has arrived, then close every socket and join every thread."""
        if self._listener is None or self._wake is None or self._acceptor is None:
            return
        self._stopping.set()
        self._wake[1].send(b"x")
        self._acceptor.join()
        for sock in (self._listener, *self._wake):
            sock.close()
        self._listener = self._wake = self._acceptor = None
        if self.path is not None:
            os.unlink(self.path)
        self._end_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.strict and kind is None:
            self.assert_clean()

    def __repr__(self) -> str:
        where = "stopped" if self._listener is None else self.url
        return f"<MailServer {where}, {self.ledger.count} messages, {len(self.ledger.breaches)} breaches>"

    def _listen(self) -> socket.socket:
        listener = socket.socket(self._family())
        try:
            for option, octets in self._buffers.items():
                if octets is not None:
                    # Before listen: the window of a connection is fixed when it is accepted.
                    listener.setsockopt(socket.SOL_SOCKET, option, octets)
            if self.path is None:
                if os.name == "posix":  # elsewhere it lets two servers have one port
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self._host, self._wanted_port))
            else:
                listener.bind(self.path)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _family(self) -> int:
        if self.path is None:
            return socket.AF_INET6 if ":" in self._host else socket.AF_INET
        family: int | None = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise OSError("this Python has no UNIX sockets")
        return family

    def _accept(self) -> None:
        assert self._listener is not None
        assert self._wake is not None
        with Selector() as selector:
            for sock in (self._listener, self._wake[0]):
                selector.register(sock, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                if not self._stopping.is_set():
                    with contextlib.suppress(OSError):
                        self._serve(self._listener.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        if self.path is None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serving = Serving(sock, self.config, self.ledger, self._line, self._stopping)
        thread = threading.Thread(
            target=self._run,
            args=(serving,),
            name=f"pysmtpx.testing connection {serving.number}",
            daemon=True,
        )
        with self._lock:
            self._serving[thread] = serving
        thread.start()

    def _run(self, serving: Serving) -> None:
        try:
            serving.run()
        finally:
            with self._lock:
                self._serving.pop(threading.current_thread(), None)

    def _end_connections(self) -> None:
        with self._lock:
            serving = dict(self._serving)
        for each in serving.values():
            each.hang_up(socket.SHUT_RD)
        for thread, each in serving.items():
            thread.join(_GRACE)
            each.hang_up(socket.SHUT_RDWR)
            thread.join(_GRACE)
            if thread.is_alive():
                each.close()
            thread.join()
