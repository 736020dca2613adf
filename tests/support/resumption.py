"""A pool that dials for each message, and which of its handshakes resumed a TLS session."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from support import certs

from pysmtpx import Server, SmtpPool
from pysmtpx.net.tls_sessions import Resumption


def pool_for(port: int, tls: str = "implicit", **options: Any) -> SmtpPool:
    """Return a pool of which each message has a connection of its own."""
    options.setdefault("ssl_context", certs.client_context())
    return SmtpPool(Server("127.0.0.1", port, tls=tls, **options), max_messages=1)  # type: ignore[arg-type]


def watch_handshakes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for each handshake from now on, whether it resumed a session."""
    seen: list[bool] = []
    verified = Resumption.verified

    def noted(resumption: Resumption, sock: ssl.SSLSocket) -> None:
        seen.append(bool(sock.session_reused))
        verified(resumption, sock)

    monkeypatch.setattr(Resumption, "verified", noted)
    return seen
