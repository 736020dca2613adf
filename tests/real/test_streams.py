"""Streams and a pool against a real Postfix and a real Dovecot, every message read back."""

from __future__ import annotations

import pytest
from support.dovecot import DovecotServer
from support.mailbox import behind_trace
from support.postfix import BAD_SENDER, BAD_SUBJECT, PostfixServer, is_usable

import pysmtpx
from pysmtpx import MailObject, Outcome, Server, SmtpConnection

SENDER, ALICE, BOB, NOBODY = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test", "nobody@mail.test"
COUNT = 40


def body(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n.dots\r\n..\r\n" % number + b"x" * 70 * (number % 3) + b"\r\n"


def mails(*recipients: str) -> list[MailObject]:
    return [MailObject(SENDER, recipients, body(number)) for number in range(COUNT)]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


@pytest.mark.parametrize("in_flight", [1, 8])
def test_a_stream_to_postfix(postfix: PostfixServer, line: SmtpConnection, in_flight: int) -> None:
    before = line.round_trips
    outcomes = list(line.send_many(mails(ALICE, BOB), overlap=True, in_flight=in_flight))
    assert statuses(outcomes) == ["accepted"] * COUNT
    assert line.round_trips - before <= COUNT + 1
    for user in (ALICE, BOB):
        stored = sorted(behind_trace(each) for each in postfix.mailbox(user).take(COUNT))
        assert stored == sorted(map(body, range(COUNT)))
    assert is_usable(line, postfix)


@pytest.mark.parametrize("refused", ["sender", "recipient", "content"])
def test_a_refused_message_does_not_stop_the_stream(
    postfix: PostfixServer, line: SmtpConnection, refused: str
) -> None:
    sent = mails(ALICE)
    sent[7] = {
        "sender": MailObject(BAD_SENDER, ALICE, body(7)),
        "recipient": MailObject(SENDER, NOBODY, body(7)),
        "content": MailObject(SENDER, ALICE, b"Subject: " + BAD_SUBJECT.encode() + b"\r\n\r\nx\r\n"),
    }[refused]
    outcomes = list(line.send_many(sent))
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "accepted"] == [7]
    assert outcomes[7].status == "rejected"
    assert len(postfix.mailbox(ALICE).take(COUNT - 1)) == COUNT - 1
    assert is_usable(line, postfix)


def test_a_refusal_in_flight_ends_the_connection_and_no_outcome_is_missing(
    postfix: PostfixServer, line: SmtpConnection
) -> None:
    """FAULTS 49: every recipient refused, and the chunk was on its way; Postfix swallows it."""
    sent = mails(ALICE)
    sent[5] = MailObject(SENDER, NOBODY, body(5))
    outcomes = list(line.send_many(sent, in_flight=4))
    assert [outcome.mail for outcome in outcomes] == sent[: len(outcomes)]
    assert outcomes[5].status == "rejected"
    assert {outcome.status for outcome in outcomes[:5] + outcomes[6:]} == {"accepted"}
    assert line.closed
    assert len(postfix.mailbox(ALICE).take(len(outcomes) - 1)) == len(outcomes) - 1


def test_a_stream_over_lmtp_to_dovecot(dovecot: DovecotServer) -> None:
    """FAULTS 54 in a stream: one reply for each recipient."""
    with pysmtpx.connect(f"lmtp://{dovecot.host}:{dovecot.port}") as line:
        outcomes = list(line.send_many(mails(ALICE, NOBODY, BOB)))
        assert statuses(outcomes) == ["accepted"] * COUNT
        assert all(outcome.accepted_recipients == (ALICE, BOB) for outcome in outcomes)
        assert all(len(outcome.rejected_recipients) == 1 for outcome in outcomes)
    assert len(dovecot.mailbox(BOB).take(COUNT)) == COUNT


def test_a_pool_to_postfix(postfix: PostfixServer) -> None:
    server = Server(postfix.host, postfix.port)
    with pysmtpx.SmtpPool(server, max_connections=3) as pool:
        assert statuses(list(pool.send_many(mails(ALICE)))) == ["accepted"] * COUNT
        futures = [pool.submit(each) for each in mails(BOB)]
    assert all(future.result().accepted_recipients == (BOB,) for future in futures)
    for user in (ALICE, BOB):
        stored = sorted(behind_trace(each) for each in postfix.mailbox(user).take(COUNT))
        assert stored == sorted(map(body, range(COUNT)))
