"""The way to a server: by a function of the caller's, through a proxy, by a UNIX socket, or straight."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from .embedded import dial_embedded, is_embedded
from .errors import ConnectError, InputError, SmtpError, Timeout
from .net.bridge import bridged
from .net.deadline import Deadline
from .net.dial import Addresses, Keep, dial, dial_unix
from .net.proxy import Proxy, dial_through
from .net.tls import BY_FINGERPRINT, Tls, context_for
from .server import Server
from .url import proxy_parts
from .wire.limits import Stage


def reach(
    server: Server,
    deadline: Deadline,
    keep: Keep | None = None,
    addresses: Addresses | None = None,
    *,
    at: str | None = None,
    again: bool = False,
) -> socket.socket:
    """A connected, non-blocking socket to the server, whatever the way.

    ``addresses`` and ``at``, an address that was reached before, are for the straight way alone. ``again``:
    beside a connection from the same source. Raises ``ConnectError``, ``Timeout``, ``InputError``.
    """
    source = server.source_address
    if source is not None and again:
        source = (source[0], 0)  # its port is in use
    if server.dial is not None:
        return _dial_by(server.dial, server, deadline, keep)
    if server.proxy is not None:
        return _dial_through(server.proxy, server, deadline, source, keep)
    if "/" in server.host:  # neither a name nor an address has one
        if is_embedded(server.host):
            return dial_embedded(server.host, keep)
        return dial_unix(server.host, deadline, keep)
    return dial(at or server.host, server.port, deadline, source, keep, addresses)


def _dial_through(
    url: str, server: Server, deadline: Deadline, source: tuple[str, int] | None, keep: Keep | None
) -> socket.socket:
    proxy = Proxy(*proxy_parts(url)[:4], server.proxy_password)

    def tls() -> Tls:
        # A context or a fingerprint of the caller's is for the server.
        roots = None if server.roots == BY_FINGERPRINT else server.roots
        return Tls(context_for(roots), proxy.host)

    return dial_through(proxy, server.host, server.port, deadline, tls=tls, source=source, keep=keep)


def _dial_by(
    function: Callable[[str, int, float], socket.socket],
    server: Server,
    deadline: Deadline,
    keep: Keep | None,
) -> socket.socket:
    """What the caller's function brings; from then on it is ours to close."""
    try:
        sock = function(server.host, server.port, max(deadline.remaining(), 0.001))
    except SmtpError:
        raise
    except TimeoutError as error:
        raise Timeout(f"the function dial did not connect in time: {error}", stage=Stage.CONNECT) from error
    except OSError as error:
        text = f"the function dial could not connect: {error.strerror or error}"
        raise ConnectError(text, stage=Stage.CONNECT) from error
    if not isinstance(sock, socket.socket):
        raise InputError(f"the function dial returns a connected socket, and not {type(sock).__name__}")
    try:
        if keep is not None:
            keep(sock)
        return _ready(sock, deadline, keep)
    except BaseException:
        sock.close()
        raise


def _ready(sock: socket.socket, deadline: Deadline, keep: Keep | None) -> socket.socket:
    if sock.type != socket.SOCK_STREAM:
        raise InputError("the function dial returns a stream socket")
    try:
        sock.getpeername()
    except OSError as error:
        raise InputError(f"the socket of the function dial is not connected: {error.strerror}") from error
    if deadline.remaining() <= 0:
        raise Timeout("the function dial took longer than it had", stage=Stage.CONNECT)
    if isinstance(sock, ssl.SSLSocket):
        sock = bridged(sock)
        if keep is not None:
            keep(sock)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setblocking(False)
    return sock
