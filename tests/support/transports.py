"""The ways to reach a server: clear TCP, implicit TLS, STARTTLS, a UNIX socket."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from support import certs

from pysmtpx import SmtpConnection, connect
from pysmtpx.net import dial as dialling
from pysmtpx.testing import EXTENSIONS, MailServer

TRANSPORTS = ("clear", "implicit", "starttls", "unix")
SEQUENTIAL = tuple(line for line in EXTENSIONS if line != "PIPELINING")


@contextlib.contextmanager
def serving(transport: str = "clear", **options: Any) -> Iterator[MailServer]:
    """A server that is reached so. Octets after its script has gone wrong are no breach of the client's."""
    with contextlib.ExitStack() as stack:
        if transport == "unix":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="smtp"))
            options["path"] = f"{folder}/s"
        elif transport != "clear":
            options.update(ssl_context=certs.server_context(), tls=transport)
        yield stack.enter_context(MailServer(**options))


def dialled(server: MailServer, **options: Any) -> SmtpConnection:
    """A connection to it."""
    if server.tls != "none":
        options = {"tls": server.tls, "ssl_context": certs.client_context(), **options}
    options.setdefault("protocol", server.config.protocol)
    if server.path is not None:
        return connect(server.path, **options)
    return connect(server.host, server.port, **options)


def resolve_all(monkeypatch: pytest.MonkeyPatch, port: int | None = None, *addresses: str) -> None:
    """Let every host name have these addresses (127.0.0.1 by default)."""
    found = [
        (socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port or 0))
        for address in addresses or ("127.0.0.1",)
    ]

    def resolve(host: str, wanted: int, deadline: object) -> list[tuple[socket.AddressFamily, Any]]:
        return [(family, (address, port or wanted)) for family, (address, _) in found]

    monkeypatch.setattr(dialling, "resolve", resolve)
