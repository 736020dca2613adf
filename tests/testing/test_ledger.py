"""The books: waiting, and who wrote what."""

from __future__ import annotations

import threading

import pytest
from support.talk import Talk

from pysmtpx.testing import Config, Ledger, ServerSession


def test_breaches_name_their_connection() -> None:
    ledger = Ledger()
    for _ in range(2):
        session = ServerSession(Config(), ledger)
        session.greeting()
        session.receive(b"FOO\r\n")
    assert ledger.breaches == ["connection 0: 'FOO' is not a command", "connection 1: 'FOO' is not a command"]
    with pytest.raises(AssertionError, match="connection 1: 'FOO'"):
        ledger.assert_clean()


def test_waiting_ends_with_the_condition() -> None:
    ledger = Ledger()
    connection = ledger.open()
    thread = threading.Thread(target=lambda: ledger.close(connection, "eof"))
    thread.start()
    assert ledger.wait_until(lambda: connection.ending == "eof", 10)
    thread.join()
    assert not ledger.wait_until(lambda: False, 0.01)


def test_the_first_cause_of_an_ending_stands() -> None:
    talk = Talk()
    talk.say(b"QUIT")
    talk.session.eof()
    assert talk.ledger.connections[0].ending == "QUIT"


def test_a_message_is_refused_where_nobody_gets_it() -> None:
    talk = Talk(protocol="lmtp", replies={"FINAL": "451 later"})
    talk.say(b"MAIL FROM:<>", b"RCPT TO:<a@x>", b"RCPT TO:<b@x>", b"DATA", b"x\r\n.")
    assert (talk.ledger.count, talk.ledger.messages, len(talk.ledger.refused)) == (0, [], 1)
    assert talk.ledger.refused[0].delivered == []
