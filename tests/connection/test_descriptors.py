"""Descriptors: high ones, and none that is left behind (FAULTS 99)."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from support import certs
from support.busy import until
from support.fates import assert_kept, attempt
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving

from pysmtpx import (
    ConnectError,
    SmtpError,
    connect,
)

TRANSPORTS = pytest.mark.parametrize("transport", ["clear", "implicit"])


@TRANSPORTS
def test_a_descriptor_over_1023(transport: str) -> None:
    """FAULTS 99: select() would fail on it, or write beyond its set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this machine allows no descriptor over 1023")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    files = []
    try:
        while not files or files[-1] < 1040:
            files.append(os.open(os.devnull, os.O_RDONLY))
        with serving(transport) as server, dialled(server) as conn:
            assert conn._channel._driver.stream._sock.fileno() > 1023
            assert_kept(conn, server)
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _scripts() -> dict[str, tuple[Callable[[Peer], None], dict[str, Any]]]:
    def starttls(peer: Peer) -> None:
        peer.starttls()

    trusting = {"ssl_context": certs.client_context()}
    return {
        "refused": (lambda peer: peer.say(b"554 no\r\n"), {}),
        "gone": (lambda peer: None, {}),
        "garbage": (lambda peer: peer.say(b"\x15\x03\x03\x00\x02\x02\x46"), {}),
        "silent": (lambda peer: peer.hold(), {"connect_timeout": 0.1}),
        "no TLS": (lambda peer: peer.say(b"220 hi\r\n"), {"tls": "implicit", **trusting}),
        "TLS that stalls": (
            lambda peer: peer.hold(),
            {"tls": "implicit", "connect_timeout": 0.1, **trusting},
        ),
        "STARTTLS that ends": (starttls, {"tls": "starttls", **trusting}),
        "no AUTH": (lambda peer: peer.greet(), {"username": "u", "password": "p"}),
    }


@pytest.mark.parametrize("name", _scripts())
def test_a_connect_that_fails_leaves_no_socket(name: str) -> None:
    """FAULTS 99."""
    script, options = _scripts()[name]
    with ScriptedServer(script) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert isinstance(attempt(server.connect, **options), SmtpError)
        gc.collect()
        assert [str(w.message) for w in caught] == []


def test_a_connection_that_is_dropped_warns_and_does_no_more(recwarn: Any) -> None:
    """FAULTS 99: no I/O in a finalizer; the socket's own warning says what was forgotten."""
    with serving() as server:
        conn = dialled(server)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del conn
            gc.collect()
        assert any(issubclass(w.category, ResourceWarning) for w in caught)
        until(lambda: server.ledger.connections[0].ending == "eof")
    assert server.ledger.commands == [["EHLO"]]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_end_of_a_with_block(error: type[BaseException] | None) -> None:
    """QUIT where there is time for it; an interrupt closes at once."""
    with serving() as server:
        with contextlib.suppress(ValueError, KeyboardInterrupt), dialled(server) as conn:
            if error is not None:
                raise error
        assert conn.closed
        until(lambda: bool(server.ledger.connections[0].ending))
    assert server.ledger.commands == [["EHLO"] if error is KeyboardInterrupt else ["EHLO", "QUIT"]]


def test_connect_that_cannot_bind_leaves_no_socket() -> None:
    """FAULTS 99."""
    with ScriptedServer(lambda peer: None) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            error = attempt(
                connect, "127.0.0.1", server.port, source_address=("127.0.0.1", taken.getsockname()[1])
            )
            gc.collect()
            assert [str(w.message) for w in caught] == []
        assert isinstance(error, ConnectError)
