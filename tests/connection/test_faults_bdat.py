"""FAULTS group D as a caller sees it: BDAT."""

from __future__ import annotations

from typing import Any

import pytest
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates
from support.scripted import ScriptedServer
from support.transports import dialled, serving
from support.verdicts import first

from pysmtpx import (
    AllRecipientsFailed,
    DataRejected,
    DeliveryUnknown,
    SendResult,
    ServiceUnavailable,
)
from pysmtpx.testing import Cut, Event, Garbage


@pytest.mark.parametrize("code", [421, 452, 554])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_refused_chunk_closes(chunk: int, code: int) -> None:
    """FAULTS 47, 48: a server that did not swallow it runs the content as commands under our AUTH."""

    def verdict(event: Event) -> Any:
        index = 2 if event.verb == "FINAL" else event.index
        return f"{code} no" if event.verb in ("BDAT", "FINAL") and index == chunk else None

    body = iter([b"Subject: x\r\n\r\n", *[b"z" * 998 + b"\r\n"] * 2600])  # three chunks
    with serving(verdict=verdict) as server:
        conn = dialled(server)
        error = attempt(conn.send_bdat, SENDER, RCPTS, body)
        stage = "final" if chunk == 2 else "content"
        assert type(error) is (ServiceUnavailable if code == 421 else DataRejected)
        assert (error.stage, error.reply.code) == (stage, code)
        fate = "unsent" if code == 421 else f"rejected {code} {stage}"
        assert fates(error) == dict.fromkeys(RCPTS, fate)
        assert_closed(conn)
    assert server.ledger.commands[0].count("BDAT") == chunk + 1
    assert "RSET" not in server.ledger.commands[0]


def test_a_server_that_refuses_bdat_and_does_not_swallow_it_gets_no_further_octet() -> None:
    """FAULTS 48."""
    trap = b"Subject: x\r\n\r\nRSET\r\nMAIL FROM:<forged@x.example>\r\n"

    def script(peer: Any) -> None:
        peer.greet("CHUNKING", "PIPELINING")
        peer.envelope(data=False)
        peer.expect("BDAT")
        peer.say(b"502 5.5.1 not implemented\r\n")
        peer.rest()

    with ScriptedServer(script) as server:
        conn = server.connect()
        error = attempt(conn.send_bdat, SENDER, RCPTS[0], trap)
        assert isinstance(error, DataRejected)
        assert_closed(conn)
    assert server.received.endswith(b"BDAT %d LAST\r\n%s" % (len(trap), trap))


def test_bdat_is_not_sent_where_every_recipient_was_refused() -> None:
    """FAULTS 49: BDAT LAST never travels with the envelope, so nothing is in flight."""
    with serving(verdict=first(RCPT="550 no")) as server, dialled(server) as conn:
        error = attempt(conn.send_bdat, SENDER, RCPTS, BODY)
        assert isinstance(error, AllRecipientsFailed)
        assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "RSET"]]
        assert_kept(conn, server)


@pytest.mark.parametrize("transport", ["clear", "implicit"])
@pytest.mark.parametrize("fault", [Cut(), Cut(reset=True), Garbage(b"what\r\n"), "354 go on"])
def test_the_line_breaks_after_bdat_last(transport: str, fault: Any) -> None:
    """FAULTS 31, 51."""
    with serving(transport, verdict=first(FINAL=fault)) as server:
        conn = dialled(server)
        error = attempt(conn.send_bdat, SENDER, RCPTS, BODY)
        assert isinstance(error, DeliveryUnknown)
        assert fates(error) == dict.fromkeys(RCPTS, "unknown")
        assert_closed(conn)


@pytest.mark.parametrize("body", [b"", b".\r\n", b"x: y\r\n\r\n.\r\n..\r\n.a\r\n", b"x: y\n\nno end"])
@pytest.mark.parametrize("streamed", [False, True])
def test_bdat_is_not_stuffed_and_counts_to_the_octet(body: bytes, streamed: bool) -> None:
    """FAULTS 52."""
    want = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    want += b"" if not want or want.endswith(b"\r\n") else b"\r\n"
    with serving() as server, dialled(server) as conn:
        content = iter([body[:2], body[2:]]) if streamed else body
        assert isinstance(attempt(conn.send_bdat, SENDER, RCPTS, content), SendResult)
        (message,) = server.messages
        assert (message.content, message.via, message.wire_size) == (want, "BDAT", len(want))
        assert "DATA" not in server.ledger.commands[0]
        assert_kept(conn, server)
