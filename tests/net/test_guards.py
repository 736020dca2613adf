"""Guards of test suites stand at ``socket.socket.connect``: no dial of ours goes round them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.transports import resolve_all

import pysmtpx.smtplib as smtplib
from pysmtpx import SmtpPool, connect
from pysmtpx.testing import MailServer

pytest_socket = pytest.importorskip("pytest_socket", reason="pytest-socket is not installed")

Dial = Callable[[Any, Any], Any]


def _native(host: Any, port: Any) -> None:
    with connect(host, port, tls="none") as conn:
        conn.noop()


def _pooled(host: Any, port: Any) -> None:
    place = host if port is None else f"smtp://[{host}]:{port}" if ":" in host else f"smtp://{host}:{port}"
    with SmtpPool(place, tls="none") as pool, pool.connection() as conn:
        conn.noop()


def _by_the_face(host: Any, port: Any) -> None:
    made = smtplib.LMTP(host, timeout=5) if port is None else smtplib.SMTP(host, port, timeout=5)
    with made as smtp:
        assert smtp.noop()[0] == 250


DIALS = pytest.mark.parametrize("dial", [_native, _pooled, _by_the_face])
HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "mail.test"])


@pytest.fixture
def allow() -> Iterator[Callable[..., None]]:
    """``pytest_socket.socket_allow_hosts``, undone at the end."""
    before = socket.socket.connect
    yield pytest_socket.socket_allow_hosts
    socket.socket.connect = before  # type: ignore[method-assign]


@HOSTS
@DIALS
@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_pytest_socket_sees_a_dial(dial: Dial, host: str, allow: Any, monkeypatch: Any) -> None:
    if host == "mail.test":
        resolve_all(monkeypatch)
    with MailServer(host="::1" if host == "::1" else "127.0.0.1") as server:
        allow(["192.0.2.1"])
        with pytest.raises(pytest_socket.SocketConnectBlockedError):
            dial(host, server.port)
        assert server.ledger.connections == []
        allow(["127.0.0.1", "::1"])
        dial(host, server.port)


@DIALS
@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_pytest_socket_sees_a_dial_of_a_unix_socket(dial: Dial, allow: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with MailServer(path=path, protocol="lmtp" if dial is _by_the_face else "smtp") as server:
        allow(["127.0.0.1"])
        with pytest.raises(pytest_socket.SocketConnectBlockedError):
            dial(path, None)
        assert server.ledger.connections == []
        allow(["127.0.0.1"], allow_unix_socket=True)
        dial(path, None)


@HOSTS
@DIALS
def test_a_patched_connect_sees_each_address(dial: Dial, host: str, monkeypatch: Any) -> None:
    if host == "mail.test":
        resolve_all(monkeypatch)
    real, seen = socket.socket.connect, []

    def patched(sock: socket.socket, address: Any) -> None:
        seen.append(address[:2])
        real(sock, address)

    with MailServer(host="::1" if host == "::1" else "127.0.0.1") as server:
        monkeypatch.setattr(socket.socket, "connect", patched)
        dial(host, server.port)
        assert ("::1" if host == "::1" else "127.0.0.1", server.port) in seen


class Refused(RuntimeError):
    """What a guard raises: no ``OSError``, which would pass for a network that is down."""


@DIALS
def test_what_a_guard_raises_comes_through(dial: Dial, monkeypatch: Any) -> None:
    """It is not taken for an address that is down, and no other address is tried after it."""
    asked: list[Any] = []

    def refuse(sock: socket.socket, address: Any) -> None:
        asked.append(address)
        raise Refused(address)

    with MailServer() as server, contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(socket.socket, "connect", refuse)
        with pytest.raises(Refused):
            dial("localhost", server.port)
    assert len(asked) == 1
