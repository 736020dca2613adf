"""From a ``Server`` to an open session: dial, TLS, and the flow that opens it."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import Final

from .channel import Channel
from .flow.session import Opening, open_session
from .net.deadline import Deadline
from .net.dial import dial, dial_unix, own_name
from .net.stream import Stream
from .net.tls import client_context, default_context, handshake
from .net.wait import pass_alarm
from .server import Server
from .wire.capabilities import Capabilities

_STARTTLS: Final = {"starttls": "required", "opportunistic": "opportunistic"}


class Attempt:
    """What an attempt to open a session holds, and how it is ended; does no harm once that is over."""

    __slots__ = ("_deadline", "_sockets", "channel")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sockets: list[socket.socket] = []
        self.channel: Channel | None = None
        """Has the last of the sockets, once it is there."""

    def keep(self, sock: socket.socket) -> None:
        """Take note of a socket."""
        self._sockets.append(sock)

    def stop(self) -> None:
        """End the wait at once, from any thread; whoever waits closes everything."""
        self._deadline.stop()
        for sock in self._sockets.copy():
            try:
                # Not SSLSocket's own, which drops the TLS state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError as error:
                pass_alarm(error)
        if self.channel is not None:
            self.channel.close()

    def drop(self) -> None:
        """Close everything without an octet, for whoever waits himself or in a forked child."""
        if self.channel is not None:
            self.channel.close()
        for sock in self._sockets:
            sock.close()


def open_channel(
    server: Server, deadline: Deadline, attempt: Attempt | None = None
) -> tuple[Channel, Capabilities]:
    """A channel on which the session is open, and what the server offered last.

    Everything happens within the deadline, which is that of the ``attempt``,
    and nothing is left open where it fails. Raises what ``connect`` raises.
    """
    attempt = attempt or Attempt(deadline)
    tls = partial(_tls_of, server)
    try:
        sock = _dial(server, deadline, attempt)
        name = server.local_hostname or own_name(sock)
        if server.tls == "implicit":
            sock = handshake(sock, *tls(), deadline, attempt.keep)
        channel = attempt.channel = Channel(Stream(sock), tls)
        opening = _opening(server, name, channel.binding())
        return channel, channel.run(lambda: open_session(opening), deadline, fresh=True)
    except BaseException:
        attempt.drop()
        raise


def _dial(server: Server, deadline: Deadline, attempt: Attempt) -> socket.socket:
    if server.path:
        return dial_unix(server.path, deadline, attempt.keep)
    return dial(server.host, server.port, deadline, server.source_address, attempt.keep)


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
