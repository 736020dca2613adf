"""From a ``Server`` to an open session: dial, TLS, and the flow that opens it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from .channel import Channel
from .flow.session import Opening, open_session
from .net.deadline import Deadline
from .net.dial import dial, dial_unix, own_name
from .net.stream import Stream
from .net.tls import client_context, default_context, handshake
from .server import Server
from .wire.capabilities import Capabilities

_STARTTLS: Final = {"starttls": "required", "opportunistic": "opportunistic"}


def open_channel(
    server: Server, deadline: Deadline, watch: Callable[[Callable[[], None]], None] | None = None
) -> tuple[Channel, Capabilities]:
    """A channel on which the session is open, and what the server offered last.

    Everything happens within the deadline, and nothing is left open where it
    fails. ``watch`` is given what ends the wait at once, from any thread; the
    last that it was given is the one to call. Raises what ``connect`` raises.
    """
    watch = watch or _unwatched
    tls = partial(_tls_of, server)
    watch(deadline.stop)
    sock = _dial(server, deadline)
    try:
        watch(partial(_shut, sock, deadline))
        name = server.local_hostname or own_name(sock)
        if server.tls == "implicit":
            sock = handshake(sock, *tls(), deadline)
    except BaseException:
        sock.close()
        raise
    channel = Channel(Stream(sock), tls)
    watch(channel.close)
    try:
        opening = _opening(server, name, channel.binding())
        return channel, channel.run(lambda: open_session(opening), deadline, fresh=True)
    except BaseException:
        channel.close()
        raise


def _unwatched(stop: Callable[[], None]) -> None:
    """Nobody will want to end it."""


def _shut(sock: socket.socket, deadline: Deadline) -> None:
    deadline.stop()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _dial(server: Server, deadline: Deadline) -> socket.socket:
    if server.path:
        return dial_unix(server.path, deadline)
    return dial(server.host, server.port, deadline, server.source_address)


def _tls_of(server: Server) -> tuple[ssl.SSLContext, str]:
    """The context, and the name that the certificate must bear."""
    context = server.ssl_context
    if context is None and server.client_certificate is not None:
        context = client_context(*server.client_certificate)
    return context or default_context(), server.server_hostname or server.host


def _opening(server: Server, name: str, binding: bytes | None) -> Opening:
    return Opening(
        protocol=server.protocol,
        name=name,
        starttls=_STARTTLS.get(server.tls),
        credentials=server.credentials,
        private=server.tls == "implicit" or server.is_local,
        allow_clear=server.insecure_auth,
        binding=binding,
        host=server.host,
        port=server.port,
    )
