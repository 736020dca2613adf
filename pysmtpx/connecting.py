"""``connect``: from a name, a URL or a ``Server`` to a connection that is ready to send."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Unpack

from .connection import SmtpConnection
from .errors import InputError, SmtpError
from .frames import conceals
from .net.deadline import Deadline, now
from .opening import Attempt, open_channel
from .options import SERVER_DEFAULTS, ServerOptions, spelled_out
from .server import Server, server_of
from .watching import opened


@spelled_out(ServerOptions, SERVER_DEFAULTS)
def connect(
    target: str | os.PathLike[str] | Server, port: int | None = None, **options: Unpack[ServerOptions]
) -> SmtpConnection:
    """Dial a server and bring the session to the point where it takes mail.

    ``target`` is a host name, the path of a UNIX socket, a URL such as
    ``smtps://user:password@mail.example.org``, or a ``Server``; ``options`` are
    those of ``Server``. Greeting, EHLO or LHLO, TLS, EHLO again and AUTH happen
    here, within ``connect_timeout`` (30 seconds by default) in all.

    Raises ``InputError`` before anything is dialled, ``ConnectError`` where no
    address answers or the server refuses the session, ``TlsError``,
    ``AuthenticationError``, ``ProtocolError``, ``Timeout``, ``ConnectionLost``.
    """
    try:
        server = as_server(target, port, options)
    finally:
        del target, options  # a URL with a password: error reporters show the locals of each frame
    deadline = Deadline.after(server.connect_timeout)
    attempt = Attempt(deadline)
    began = now()
    try:
        channel, capabilities = open_channel(server, deadline, attempt)
        outgoing = server.outgoing
        if outgoing is not None:
            outgoing.announce(server.host)
        connection = SmtpConnection(channel, server, capabilities, server.is_local, outgoing)
        opened(server, now() - began)
        return connection
    except BaseException as error:  # an interrupt between the two, too
        attempt.drop()
        if isinstance(error, SmtpError):
            opened(server, now() - began, error)
        raise


@conceals
def as_server(
    target: str | os.PathLike[str] | Server, port: int | None, options: Mapping[str, Any]
) -> Server:
    """The server that the arguments of ``connect`` describe."""
    given = options if port is None else {"port": port, **options}
    if isinstance(target, Server):
        return target.replace(**given) if given else target
    if not isinstance(target, str | os.PathLike):
        raise InputError(f"a server is a host, a URL or a Server, and not {type(target).__name__}")
    text = os.fspath(target)
    return Server.from_url(text, **given) if "://" in text else server_of(text, given)
