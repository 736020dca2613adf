"""Sockets as ``smtplib`` has them: blocking, with a timeout, and failing with the system's own errors."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any, Final, TypeAlias, TypedDict, TypeGuard, cast

from .. import observing
from ..errors import ConnectError, InputError, ProxyError, Timeout, TlsError
from ..net import dial as dialling
from ..net import tls
from ..net.deadline import NEVER, Deadline
from ..net.dial import Addresses
from ..observing import Peer
from ..reaching import reach
from ..server import Server
from ..wire.address import domain_to_ascii
from .lines import wait_at_most, wait_until

SourceAddress: TypeAlias = "tuple[bytearray | bytes | str, int] | None"

_SOCKET: Final = socket.socket
_CREATE: Final = socket.create_connection
_LAST_PORT: Final = 65_535
_WRAP: Final = ssl.SSLContext.wrap_socket


_of_socket: Final = attrgetter("sendall", "makefile", "recv_into")
"""What the standard library uses of a socket: whoever overrides it wants to be asked."""
_REAL: Final = (_of_socket(_SOCKET), _of_socket(ssl.SSLSocket))


def is_real(sock: object) -> TypeGuard[socket.socket]:
    """Whether this is an open descriptor that blocks, and no stand-in of a test or a proxy."""
    return (
        isinstance(sock, _SOCKET)
        and _of_socket(type(sock)) in _REAL
        and sock.gettimeout() != 0
        and sock.fileno() >= 0
    )


def default_timeout(timeout: Any, sockets: ModuleType) -> float | None:
    """Seconds; None without a limit. What is no timeout is left to ``check_timeout``."""
    if timeout is socket._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]
        timeout = sockets.getdefaulttimeout()
    return None if timeout is None else float(timeout)


def deadline_for(seconds: float | None) -> Deadline:
    """The deadline of a call; none for a timeout that the dialling will refuse."""
    return Deadline.after(seconds) if seconds is not None and 0 < seconds < math.inf else NEVER


def check_timeout(timeout: Any) -> None:
    """Raise ``ValueError`` for 0, as the standard library does."""
    if timeout is not None and not timeout:
        raise ValueError("Non-blocking socket (timeout=0) is not supported")


def connected(
    host: str,
    port: int,
    timeout: Any,
    source: SourceAddress,
    sockets: ModuleType,
    deadline: Deadline,
    addresses: Addresses | None = None,
) -> socket.socket:
    """A connected socket. Every address is tried (RFC 8305), all within the deadline.

    ``addresses`` are those that an earlier dial left.

    Where somebody has put a socket of their own in place (a test, a proxy, a
    tracer), ``sockets.create_connection`` makes it.
    """
    seconds = default_timeout(timeout, sockets)
    is_usual = isinstance(host, str) and type(port) is int and port >= 0 and (seconds or 1) >= 0
    if sockets is not socket or _is_patched() or not is_usual:
        made: socket.socket = sockets.create_connection((host, port), timeout, source)
        return made
    if port > _LAST_PORT:
        # The resolver takes it modulo 65,536, and whoever listens there would have the mail.
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"no port has the number {port}")
    dial: Callable[..., socket.socket] = _observed if observing.observers else dialling.dial
    with system_errors:
        sock = dial(host, port, deadline, source, addresses=addresses)
    wait_at_most(sock, seconds)
    return sock


def _observed(
    host: str, port: int, deadline: Deadline, source: Any, *, addresses: Addresses | None
) -> socket.socket:
    """As ``dial``, for those who observe."""
    with observing.scope("dial"):
        return dialling.dial(host, port, deadline, source, addresses=addresses)


def brought(
    host: str,
    port: int,
    timeout: Any,
    source: SourceAddress,
    way: Way,
    sockets: ModuleType,
    deadline: Deadline,
) -> socket.socket:
    """A connected socket by a proxy, or by a function of the caller's."""
    given = cast("tuple[str, int] | None", source)
    # Such an option is refused as it is: told as a look-up that failed, it would be tried again and again.
    Server("localhost", tls="none", source_address=given, **way)
    with system_errors:
        sock = reach(Server(host, port, tls="none", source_address=given, **way), deadline)
    wait_at_most(sock, default_timeout(timeout, sockets))
    return sock


def is_about_one_address(error: OSError) -> bool:
    """Whether another address of the server may do better; a certificate that is refused is final."""
    return not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _is_patched() -> bool:
    # Not so for getaddrinfo() and connect(): our dial calls whatever is there in their place.
    return socket.socket is not _SOCKET or socket.create_connection is not _CREATE


def connected_unix(path: str, timeout: Any, sockets: ModuleType, deadline: Deadline) -> socket.socket:
    """A connected UNIX socket."""
    if sockets is not socket or _is_patched():
        return _connected_stand_in(path, timeout, sockets)
    with system_errors:
        sock = dialling.dial_unix(path, deadline)
    wait_at_most(sock, default_timeout(timeout, sockets))
    return sock


def _connected_stand_in(path: str, timeout: Any, sockets: ModuleType) -> socket.socket:
    sock: socket.socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        if timeout is not socket._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]
            sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


class SystemErrors:
    """Raises what the standard library would: the system's error, ours behind it as its cause."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, Timeout):
            raise TimeoutError("timed out") from error
        if isinstance(error, ConnectError | TlsError):
            raise _original(error) from error
        if isinstance(error, InputError):
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            raise socket.gaierror(socket.EAI_NONAME, str(error)) from error


system_errors: Final = SystemErrors()


def _original(error: ConnectError | TlsError) -> Exception:
    cause = error.__cause__
    if isinstance(error, ProxyError):
        # Alone, "connection refused" would be taken for the server's.
        return OSError(getattr(cause, "errno", None) or errno.ECONNREFUSED, error.text)
    if not isinstance(cause, OSError | ValueError):
        # Another address of the server would be asked after an error of the system.
        return (
            ssl.SSLCertVerificationError(str(error)) if isinstance(error, TlsError) else OSError(str(error))
        )
    if isinstance(cause, ssl.SSLError | ValueError | socket.gaierror) or cause.errno is None:
        return cause
    return OSError(cause.errno, cause.strerror or os.strerror(cause.errno))


def own_name(sock: object) -> str:
    """Our name for EHLO, without asking a resolver."""
    known = sock if is_real(sock) else SimpleNamespace(family=None)
    return dialling.own_name(cast(socket.socket, known))


# -- TLS -----------------------------------------------------------------------


class Way(TypedDict, total=False):
    """How a server is reached; of the options of ``Server``."""

    proxy: str | None
    dial: Callable[[str, int, float], socket.socket] | None


def left_out(keywords: str | Sequence[str]) -> set[str]:
    """The names of the features of EHLO that count as not offered. Raises ``InputError``."""
    return {each.lower() for each in Server("localhost", tls="none", without=keywords).without}


class Trust(TypedDict):
    """Whom TLS takes for the server; of the options of ``Server``."""

    roots: str | None
    fingerprint: str | Sequence[str] | None


class Verification:
    """Whether TLS without a context of the caller's verifies the server; for the whole process."""

    off = False


def make_context(certfile: str | None = None, keyfile: str | None = None) -> ssl.SSLContext:
    """A context of its own for a caller that gave none."""
    if Verification.off:
        made: Callable[..., ssl.SSLContext] = ssl._create_stdlib_context  # type: ignore[attr-defined]
        return made(certfile=certfile, keyfile=keyfile)
    with system_errors:
        return tls.new_context() if certfile is None else tls.client_context(certfile, keyfile)


def shared_context() -> ssl.SSLContext:
    """The same for one who will not see it: made once, since reading the roots takes long."""
    if Verification.off:
        return make_context()
    with system_errors:
        return tls.default_context()


def secured(sock: socket.socket, by: tls.Tls, deadline: Deadline) -> socket.socket:
    """The socket in TLS, after the handshake. Closed where that fails."""
    with observing.scope("tls", peer_of(sock, by.hostname) if observing.observers else None):
        return _secured(sock, by, deadline)


def tls_by(context: ssl.SSLContext | None, hostname: str, trust: Trust) -> tls.Tls:
    """How to secure a line, with the context of a caller who gave one. Raises ``InputError``."""
    expected: tuple[str, ...] = ()
    if trust["roots"] is not None or trust["fingerprint"] is not None:
        server = Server("localhost", tls="implicit", ssl_context=context, **trust)
        expected = server.fingerprint
        if server.roots is not None:
            context = tls.context_for(server.roots)
    return tls.Tls(context or shared_context(), hostname, expected)


def peer_of(sock: Any, host: str, *, lmtp: bool = False) -> Peer:
    """Who is at the other end, as far as that can be told."""
    protocol = "lmtp" if lmtp else "smtp"
    try:
        name = sock.getpeername()
    except (OSError, AttributeError):
        name = ""
    if isinstance(name, tuple) and len(name) > 1:
        return Peer(host or str(name[0]), int(name[1]), protocol)
    return Peer(host or str(name), None, protocol)


def _secured(sock: socket.socket, by: tls.Tls, deadline: Deadline) -> socket.socket:
    real = is_real(sock)
    before = sock.gettimeout() if real else None
    if not real or getattr(type(by.context), "wrap_socket", None) is not _WRAP:
        # A context with a will of its own may have to look at the certificate when it is asked.
        if real:
            wait_until(sock, deadline)
        wrapped: socket.socket = by.context.wrap_socket(sock, server_hostname=by.hostname)
        if by.fingerprints:
            with system_errors:
                tls.check_fingerprint(wrapped, by.fingerprints)
    else:
        with system_errors:
            wrapped = tls.handshake(sock, by._replace(hostname=_tls_name(by.hostname)), deadline)
    if real:
        wait_at_most(wrapped, before)
    return wrapped


def _tls_name(hostname: str) -> str:
    if hostname.isascii():
        return hostname
    return domain_to_ascii(hostname)
