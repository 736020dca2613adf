"""One connection, many threads (FAULTS 93, 97)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.busy import busy, until
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.transports import dialled, serving
from support.verdicts import first

from pysmtpx import (
    ConnectionLost,
    DeliveryUnknown,
    SendResult,
    SmtpConnection,
    Timeout,
    UsageError,
)
from pysmtpx.testing import Stall

TRANSPORTS = pytest.mark.parametrize("transport", ["clear", "implicit"])

# -- threads -----------------------------------------------------------------------------


@TRANSPORTS
def test_calls_of_many_threads_take_turns(transport: str) -> None:
    """FAULTS 97: the lock spans the transaction; the strict server judges every command."""
    with serving(transport) as server, dialled(server) as conn, ThreadPoolExecutor(8) as threads:
        bodies = [b"Subject: %d\r\n\r\n%s\r\n" % (i, b"z" * i * 10) for i in range(80)]
        jobs = [
            threads.submit(conn.send, SENDER, f"r{i}@x.example", body) if i % 4 else threads.submit(conn.noop)
            for i, body in enumerate(bodies)
        ]
        outcomes = [job.result() for job in jobs]
        assert all(isinstance(o, SendResult) for i, o in enumerate(outcomes) if i % 4)
        got = {message.addresses[0]: message.content for message in server.messages}
        assert got == {f"r{i}@x.example": body for i, body in enumerate(bodies) if i % 4}


def test_the_wait_for_a_turn_counts_against_the_deadline() -> None:
    """FAULTS 62, 97: and the other thread's message is not touched."""
    with serving() as server, dialled(server) as conn:
        with busy(conn) as (_, outcome):
            start = time.monotonic()
            for call in (conn.noop, lambda timeout: conn.send(SENDER, RCPTS, BODY, timeout=timeout)):
                error = attempt(call, timeout=0.1)
                assert type(error) is Timeout
                assert error.stage == "input"
                assert error.safe_to_retry
            assert 0.2 <= time.monotonic() - start < 2.0
            assert not conn.closed
        assert isinstance(outcome[0], SendResult)
        assert server.messages[0].content == b"Subject: held\r\n\r\nend\r\n"
        assert_kept(conn, server)


def test_a_call_that_waits_goes_on_when_the_turn_is_its_own() -> None:
    with serving() as server, dialled(server) as conn, ThreadPoolExecutor(1) as threads:
        with busy(conn) as (held, _):
            job = threads.submit(conn.send, SENDER, RCPTS, BODY)
            held.go.set()
        assert isinstance(job.result(), SendResult)
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda conn: conn.noop(),
        lambda conn: conn.rset(),
        lambda conn: conn.verify("x"),
        lambda conn: conn.send(SENDER, RCPTS, BODY),
        lambda conn: conn.send_bdat(SENDER, RCPTS, BODY),
        lambda conn: conn.command("NOOP"),
        lambda conn: conn.send_message(b"From: s@x.example\r\nTo: a@x.example\r\n\r\nhi\r\n"),
    ],
)
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_a_call_from_within_a_call(call: Callable[[SmtpConnection], Any], method: str) -> None:
    """FAULTS 97: raises, does not deadlock, and what it was made from goes on."""
    seen: list[Any] = []

    def content(conn: SmtpConnection) -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n"
        seen.append(attempt(call, conn))
        yield b"end\r\n"

    with serving() as server, dialled(server) as conn:
        assert isinstance(attempt(getattr(conn, method), SENDER, RCPTS, content(conn)), SendResult)
        assert isinstance(seen[0], UsageError)
        assert_kept(conn, server)


@TRANSPORTS
@pytest.mark.parametrize("position", ["MAIL", "DATA", "FINAL"])
def test_close_wakes_a_call_of_another_thread(transport: str, position: str) -> None:
    """FAULTS 93: without a wait for any timeout, and with the truth about the message."""
    with serving(transport, verdict=first(**{position: Stall()}), strict=False) as server:
        conn = dialled(server)
        with ThreadPoolExecutor(1) as threads:
            job = threads.submit(send, conn, timeout=10)
            verb = "DATA" if position == "FINAL" else position
            until(lambda: verb in server.ledger.commands[0])
            start = time.monotonic()
            conn.close()
            error = job.result()
            assert time.monotonic() - start < 5
        assert isinstance(error, ConnectionLost | DeliveryUnknown)
        if position != "FINAL":
            assert type(error) is ConnectionLost
            assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


def test_close_while_another_thread_writes_content() -> None:
    """FAULTS 93: nobody has the half of a message."""
    with serving(strict=False) as server:
        conn = dialled(server)
        with busy(conn) as (_, outcome):
            conn.close()
        assert type(outcome[0]) is ConnectionLost
        assert fates(outcome[0]) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)
    assert not server.messages
    assert not server.ledger.refused


def test_close_from_within_the_content() -> None:
    def content(conn: SmtpConnection) -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n" + b"z" * 900 + b"\r\n"
        conn.close()
        yield b"end\r\n"

    with serving(strict=False) as server:
        conn = dialled(server)
        error = attempt(conn.send, SENDER, RCPTS, content(conn))
        assert isinstance(error, ConnectionLost)
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)
    assert not server.messages
