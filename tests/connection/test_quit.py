"""FAULTS 34: the end of a session, whatever the server makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from support import certs
from support.fates import assert_closed, send
from support.patience import at_best, on_time
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving

from pysmtpx import (
    SendResult,
)
from pysmtpx.wire.limits import REPLY_LIMITS, Stage


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the wait for the answer to QUIT a tenth of a second."""
    monkeypatch.setitem(REPLY_LIMITS, Stage.QUIT, 0.1)


def _answers(octets: bytes, *, then: str = "rest") -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("QUIT")
        peer.say(octets)
        getattr(peer, then)()

    return script


@pytest.mark.parametrize(
    "script",
    [
        _answers(b"421 bye\r\n"),
        _answers(b"500 what\r\n"),
        _answers(b"354 go on\r\n"),
        _answers(b"221-by"),
        _answers(b"garbage\r\n"),
        _answers(b"221 bye\r\n221 bye\r\n"),
        _answers(b"", then="end"),
        _answers(b"22", then="end"),
        _answers(b"", then="reset"),
        _answers(b"", then="hold"),
    ],
)
@pytest.mark.parametrize("leave", ["quit", "with"])
@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_quit_never_fails(script: Any, leave: str, tls: str, short: None) -> None:
    """FAULTS 34: whatever the answer, or none, and without close_notify."""
    context = certs.server_context() if tls == "implicit" else None
    with ScriptedServer(script, tls=context) as server:
        conn = server.connect(tls=tls, ssl_context=certs.client_context() if context else None)
        if leave == "quit":
            conn.quit()
        else:
            with conn:
                pass
        assert_closed(conn)
        conn.quit()  # does nothing
        conn.close()


@at_best
def test_quit_takes_five_seconds_at_most() -> None:
    """FAULTS 34."""
    with ScriptedServer(_answers(b"", then="hold")) as server:
        conn = server.connect()
        start = time.monotonic()
        conn.quit(timeout=0.3)
        on_time(start, time.monotonic(), 0.3, late=0.3)
        assert conn.closed
    assert REPLY_LIMITS[Stage.QUIT] == 5


def test_a_failed_quit_changes_no_outcome() -> None:
    """FAULTS 34: law 3."""
    with serving(replies={"QUIT": "421 overloaded"}) as server:
        with dialled(server) as conn:
            assert isinstance(send(conn), SendResult)
        assert len(server.messages) == 1
