"""Through a proxy to a server: SOCKS4a, SOCKS5 (RFC 1928, 1929) and HTTP CONNECT (RFC 9110 9.3.6).

What goes over the line is the business of ``python-socks``; the dial, every wait and the end of the proxy's
answer are ours: one deadline for all, and not one octet of the server's greeting is taken with the answer.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from typing import Any, Final

from .. import cures
from ..errors import ConnectError, ProxyError, ProxyReason, SmtpError, Timeout, TlsError
from ..extras import needs
from ..wire.limits import Stage
from .bridge import bridged
from .deadline import Deadline
from .dial import Keep, dial
from .tls import Tls, handshake
from .wait import READ, WRITE, Waiter

_HEAD: Final = 64 * 1024
"""Octets of an answer's header section, at most."""

_SOCKS5: Final[dict[int, ProxyReason]] = {2: "refused", 7: "refused"}
"""RFC 1928 6: by the rules, and a command that it does not know; all others are about the server."""
_SOCKS4: Final[dict[int, ProxyReason]] = {0x5C: "refused", 0x5D: "refused"}
"""It wants identd; 0x5B is both a rejection and a failure."""
_HTTP: Final[dict[int, ProxyReason]] = {
    **dict.fromkeys((401, 403, 405, 407, 501), "refused"),
    **dict.fromkeys((500, 502, 503, 504), "target"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """Where a proxy is, what it speaks, and who we are there."""

    scheme: str
    """``socks4a``, ``socks5``, ``http`` or ``https``."""
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def name(self) -> str:
        """Without who we are: for errors and logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Proxy {self.name}>"


def dial_through(
    proxy: Proxy,
    host: str,
    port: int,
    deadline: Deadline,
    *,
    tls: Callable[[], Tls],
    source: tuple[str, int] | None = None,
    keep: Keep | None = None,
) -> socket.socket:
    """A connected, non-blocking socket whose other end is the server; the proxy looks its name up.

    ``tls`` is for an ``https`` proxy. Raises ``ProxyError``, ``Timeout``, and ``MissingExtra`` without
    ``python-socks``.
    """
    library = needs("proxy", "python_socks.sync")
    sock = _reached(proxy, deadline, source, keep)
    try:
        if proxy.scheme == "https":
            sock = _secured(proxy, sock, tls(), deadline, keep)
        failure = _ask(library, proxy, sock, host, port, deadline)
        if failure is not None:
            raise failure
        if isinstance(sock, ssl.SSLSocket):
            sock = bridged(sock)
            if keep is not None:
                keep(sock)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


def _reached(
    proxy: Proxy, deadline: Deadline, source: tuple[str, int] | None, keep: Keep | None
) -> socket.socket:
    try:
        return dial(proxy.host, proxy.port, deadline, source, keep)
    except Timeout as error:
        raise Timeout(
            f"the proxy {proxy.name} cannot be reached: {error.args[0]}",
            stage=Stage.CONNECT,
            cure=cures.proxy_unreachable(),
        ) from error
    except ConnectError as error:
        text = f"the proxy {proxy.name} cannot be reached: {error.args[0]}"
        raise _failed(proxy, "unreachable", text, cures.proxy_unreachable()) from error.__cause__


def _secured(
    proxy: Proxy, sock: socket.socket, tls: Tls, deadline: Deadline, keep: Keep | None
) -> ssl.SSLSocket:
    try:
        return handshake(sock, tls, deadline, keep)
    except TlsError as error:
        text = f"TLS with the proxy {proxy.name} failed: {error.args[0]}"
        raise _failed(proxy, "broken", text, cures.proxy_tls()) from error.__cause__
    except Timeout:
        raise _too_late(proxy) from None


def _failed(proxy: Proxy, reason: ProxyReason, text: str, cure: str) -> ProxyError:
    return ProxyError(text, stage=Stage.CONNECT, cure=cure, reason=reason, proxy=proxy.name)


def _too_late(proxy: Proxy) -> Timeout:
    return Timeout(
        f"the proxy {proxy.name} did not bring a connection in time",
        stage=Stage.CONNECT,
        cure=cures.proxy_target(),
    )


def _ask(
    library: Any, proxy: Proxy, sock: socket.socket, host: str, port: int, deadline: Deadline
) -> SmtpError | None:
    """Ask for the server; what came of it if that is not a connection.

    It is returned, not raised: the frames below have the password in their locals.
    """
    kinds = needs("proxy", "python_socks")
    kind = {"socks4a": kinds.ProxyType.SOCKS4, "socks5": kinds.ProxyType.SOCKS5}.get(
        proxy.scheme, kinds.ProxyType.HTTP
    )
    line = _Line(sock, deadline, by_head=kind is kinds.ProxyType.HTTP)
    who = {"username": proxy.username, "password": proxy.password}
    try:
        asking = library.Proxy(kind, proxy.host, proxy.port, **who, rdns=True, forward=line)
        asking.connect(host, port)
    except TimeoutError:
        return _too_late(proxy)
    except kinds.ProxyTimeoutError:
        return _too_late(proxy)
    except kinds.ProxyError as error:
        return _refused(proxy, host, port, error)
    except (OSError, UnicodeError, ValueError, AssertionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        return _failed(
            proxy, "broken", f"the proxy {proxy.name} ended the connection: {why}", cures.no_proxy()
        )
    return None


def _refused(proxy: Proxy, host: str, port: int, error: Any) -> ProxyError:
    """By the code of its answer; a text of its own could quote what we said."""
    code = error.error_code
    place = f"{host}:{port}"
    if code is None:
        if "uthentication" not in str(error):
            text = f"what the proxy {proxy.name} answers is not {proxy.scheme}"
            return _failed(proxy, "broken", text, cures.no_proxy())
        text = f"the proxy {proxy.name} did not take our log-in"
        return _failed(proxy, "refused", text, cures.proxy_refused(is_login=True))
    if proxy.scheme in ("http", "https"):
        reason, why = _HTTP.get(code, "broken"), f"{code} {responses.get(code, '')}".rstrip()
    else:
        table = _SOCKS5 if proxy.scheme == "socks5" else _SOCKS4
        reason, why = table.get(code, "target"), str(error)
    if reason == "refused":
        text = f"the proxy {proxy.name} refused {place}: {why}"
        return _failed(proxy, reason, text, cures.proxy_refused(is_login=code in (401, 407)))
    if reason == "target":
        text = f"the proxy {proxy.name} does not reach {place}: {why}"
        return _failed(proxy, reason, text, cures.proxy_target())
    return _failed(proxy, reason, f"the proxy {proxy.name} answered {why}", cures.no_proxy())


class _Line:
    """The socket as the library uses one, and the dial that it is to begin with: both are there already."""

    def __init__(self, sock: socket.socket, deadline: Deadline, *, by_head: bool) -> None:
        self._sock = sock
        self._deadline = deadline
        self._waiter = Waiter(sock)
        self._by_head = by_head

    def connect(self, *_: Any, **__: Any) -> _Line:
        """It is connected."""
        return self

    def sendall(self, octets: bytes) -> None:
        """Write all. Raises ``TimeoutError`` and what the system does."""
        left = memoryview(octets)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(WRITE)
            except ssl.SSLWantReadError:
                self._wait(READ)

    def recv(self, count: int) -> bytes:
        """So many octets at most; of an HTTP answer its header section, and nothing of what is behind it."""
        if not self._by_head:
            return self._receive(count)
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            # One by one: the server's greeting may stand behind it, and it is not ours to keep.
            octet = self._receive(1)
            if not octet or len(head) >= _HEAD:
                raise OSError(errno.EPROTO, "its answer has no end")
            head += octet
        return bytes(head)

    def _receive(self, count: int) -> bytes:
        while True:
            if self._deadline.remaining() <= 0:
                raise TimeoutError
            try:
                return self._sock.recv(count)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(READ)
            except ssl.SSLWantWriteError:
                self._wait(WRITE)

    def _wait(self, want: int) -> None:
        if not self._waiter.wait(want, max(0.0, self._deadline.remaining())):
            raise TimeoutError

    def close(self) -> None:
        """Whoever made it closes it."""
