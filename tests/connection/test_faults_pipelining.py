"""FAULTS group C as a caller sees it: groups of commands."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.scripted import ScriptedServer
from support.transports import SEQUENTIAL, dialled, serving
from support.verdicts import first

from pysmtpx import (
    NotSupportedError,
    ProtocolError,
    RecipientsRejected,
    SendResult,
)
from pysmtpx.testing import EXTENSIONS


def test_all_or_nothing_sends_no_data_and_keeps_the_session() -> None:
    """FAULTS 38: DATA is not pipelined; RSET leaves nobody with an empty message."""
    with serving(verdict=first(RCPT1="550 no")) as server, dialled(server) as conn:
        error = send(conn, all_or_nothing=True)
        assert type(error) is RecipientsRejected
        assert fates(error) == {RCPTS[0]: "unsent", RCPTS[1]: "rejected 550 rcpt", RCPTS[2]: "unsent"}
        assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "RSET"]]
        assert_kept(conn, server)
        assert isinstance(send(conn, all_or_nothing=True), SendResult)


def test_too_many_replies_in_a_flight() -> None:
    """FAULTS 9, 43: every later reply would answer the wrong command."""
    with serving(verdict=first(RCPT1="250 one\r\n250 two")) as server:
        conn = dialled(server)
        error = send(conn)
        assert type(error) is ProtocolError
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)
    assert not server.messages


@pytest.mark.parametrize("line", ["XXXXXXXXXX", "X-PIPELINING", "PIPELININGX"])
def test_without_pipelining_every_command_waits(line: str) -> None:
    """FAULTS 45: a firewall that strikes the keyword out wants one command at a time."""
    seen: list[int] = []

    def script(peer: Any) -> None:
        peer.greet(line)
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            peer.line()
            seen.append(len(peer.received) - peer._read)
            peer.say(reply)
        peer.content()
        peer.say(b"250 ok\r\n")
        peer.quit()

    with ScriptedServer(script) as server, server.connect() as conn:
        assert isinstance(send(conn, RCPTS[0]), SendResult)
    assert seen == [0, 0, 0]


def test_pipelining_that_is_gone_after_starttls_is_not_used() -> None:
    """FAULTS 45."""
    # The server judges a command that is sent before the reply to the last was read.
    with serving("starttls", tls_extensions=["SIZE"]) as server, dialled(server) as conn:
        assert not conn.capabilities.pipelining
        assert isinstance(send(conn), SendResult)


def test_helo_only_is_sequential_without_extensions() -> None:
    """FAULTS 15, 45."""
    with serving(helo_only=True) as server, dialled(server) as conn:
        assert isinstance(send(conn), SendResult)
        assert server.ledger.commands[0][:3] == ["EHLO", "HELO", "MAIL"]
        assert not server.messages[0].params
        error = attempt(conn.send_bdat, SENDER, RCPTS, BODY)
        assert isinstance(error, NotSupportedError)
        assert error.keyword == "CHUNKING"
        assert_kept(conn, server)


@pytest.mark.parametrize("data", [354, 451, 554])
@pytest.mark.parametrize("codes", list(itertools.product([250, 450, 550], repeat=2)))
def test_pipelined_and_sequential_give_equal_results(codes: tuple[int, int], data: int) -> None:
    """FAULTS 36: for every pattern of refusals."""
    answers = {f"RCPT{i}": f"{code} x" for i, code in enumerate(codes)} | {"DATA": f"{data} x"}
    outcomes = []
    for extensions in (EXTENSIONS, SEQUENTIAL):
        with serving(extensions=extensions, verdict=first(**answers)) as server, dialled(server) as conn:
            outcome = send(conn, RCPTS[:2])
            outcomes.append((type(outcome), fates(outcome), getattr(outcome, "temporary", None)))
            assert_kept(conn, server)
    assert outcomes[0] == outcomes[1]
