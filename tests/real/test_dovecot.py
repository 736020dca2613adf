"""Mail through a real Dovecot by LMTP, over TCP and a UNIX socket: one reply a recipient (RFC 2033)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest
from support import corpus
from support.dovecot import FULL, DovecotServer
from support.mailbox import behind_trace, trace

import pysmtpx
from pysmtpx import Server, SmtpConnection

SENDER, ALICE, BOB, NOBODY = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test", "nobody@mail.test"
MAIL = corpus.SEVEN_BIT["lines of dots"]
LARGE = corpus.HEADER + b"more than the full mailbox holds\r\n" * 100


@pytest.fixture(params=["tcp", "unix"])
def line(request: pytest.FixtureRequest, dovecot: DovecotServer) -> Iterator[SmtpConnection]:
    """Yield a connection over TCP, then one over the UNIX socket."""
    urls = {"tcp": f"lmtp://{dovecot.host}:{dovecot.port}", "unix": f"lmtp+unix://{dovecot.socket_path}"}
    with pysmtpx.connect(urls[request.param]) as connection:
        yield connection


@pytest.fixture(params=["data", "bdat"])
def send(request: pytest.FixtureRequest, line: SmtpConnection) -> Callable[..., pysmtpx.SendResult]:
    """Return the method to send with, for each way that content travels."""
    return {"data": line.send_lmtp, "bdat": line.send_lmtp_bdat}[request.param]


Send = Callable[..., pysmtpx.SendResult]


@pytest.mark.parametrize("name", corpus.ALL)
def test_mail_arrives_octet_by_octet(dovecot: DovecotServer, send: Send, name: str) -> None:
    result = send(SENDER, [ALICE, BOB], corpus.ALL[name])
    assert result.accepted_recipients == (ALICE, BOB)
    for user in (ALICE, BOB):
        (stored,) = dovecot.mailbox(user).take()
        assert behind_trace(stored) == corpus.arrives_as(corpus.ALL[name])
        assert f"Return-Path: <{SENDER}>".encode() in trace(stored)


def test_each_recipient_has_its_own_reply(dovecot: DovecotServer, send: Send) -> None:
    """FAULTS 54: refused at RCPT, refused after the content, accepted."""
    result = send(SENDER, [ALICE, NOBODY, FULL, BOB], LARGE)
    assert result.accepted_recipients == (ALICE, BOB)
    assert len(result.replies) == 2
    assert all(
        user.encode() in reply.lines[0] for user, reply in zip((ALICE, BOB), result.replies, strict=True)
    )
    unknown, full = result.rejected_recipients
    assert (unknown.recipient, unknown.stage, unknown.reply.code) == (NOBODY, "rcpt", 550)
    assert (full.recipient, full.stage, str(full.reply.enhanced)) == (FULL, "final", "5.2.2")
    assert [behind_trace(dovecot.mailbox(user).take()[0]) for user in (ALICE, BOB)] == [LARGE, LARGE]
    assert dovecot.mailbox(FULL).is_empty()


def test_the_same_recipient_twice(dovecot: DovecotServer, send: Send) -> None:
    """FAULTS 56: replies are matched by position."""
    result = send(SENDER, [ALICE, NOBODY, ALICE], MAIL)
    assert result.accepted_recipients == (ALICE, ALICE)
    assert len(result.replies) == 2
    assert [r.recipient for r in result.rejected_recipients] == [NOBODY]


def test_every_recipient_is_refused_at_rcpt(dovecot: DovecotServer, line: SmtpConnection) -> None:
    with pytest.raises(pysmtpx.AllRecipientsFailed) as caught:
        line.send_lmtp(SENDER, [NOBODY, "other@mail.test"], MAIL)
    assert [reply.code for reply in caught.value.responses] == [550, 550]
    assert {r.stage for r in caught.value.rejected_recipients} == {"rcpt"}
    line.send_lmtp(SENDER, [ALICE], MAIL)
    assert behind_trace(dovecot.mailbox(ALICE).take()[0]) == MAIL


def test_every_recipient_is_refused_after_the_content(dovecot: DovecotServer, send: Send) -> None:
    with pytest.raises(pysmtpx.AllRecipientsFailed) as caught:
        send(SENDER, [NOBODY, FULL], LARGE)
    stages = {r.recipient: r.stage for r in caught.value.rejected_recipients}
    assert stages == {NOBODY: "rcpt", FULL: "final"}
    assert not caught.value.temporary
    assert dovecot.mailbox(FULL).is_empty()


def test_many_messages_on_one_connection(dovecot: DovecotServer, line: SmtpConnection) -> None:
    sent = [corpus.HEADER + b"message %d\r\n" % n for n in range(20)]
    for number, content in enumerate(sent):
        (line.send_lmtp if number % 2 else line.send_lmtp_bdat)(SENDER, [ALICE, NOBODY], content)
    assert sorted(map(behind_trace, dovecot.mailbox(ALICE).take(len(sent)))) == sorted(sent)


def test_a_message_object(dovecot: DovecotServer, line: SmtpConnection) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Bcc"] = SENDER, ALICE, BOB
    letter["Subject"] = "Grüße"
    letter.set_content("Grüße\n.\n")
    assert set(line.send_message(letter).accepted_recipients) == {ALICE, BOB}
    for user in (ALICE, BOB):
        (stored,) = dovecot.mailbox(user).take()
        assert b"\nBcc:" not in stored


def test_smtp_methods_are_refused_on_lmtp(dovecot: DovecotServer, line: SmtpConnection) -> None:
    for method in (line.send, line.send_bdat):
        with pytest.raises(pysmtpx.ProtocolError):
            method(SENDER, [ALICE], MAIL)
    line.send_lmtp(SENDER, [ALICE], MAIL)
    assert behind_trace(dovecot.mailbox(ALICE).take()[0]) == MAIL


def test_what_dovecot_offers(dovecot: DovecotServer, line: SmtpConnection) -> None:
    assert line.protocol is pysmtpx.Protocol.LMTP
    assert line.capabilities.pipelining
    assert line.capabilities.chunking
    assert line.noop().is_positive
    assert line.rset().is_positive


def test_a_dovecot_does_not_speak_smtp(dovecot: DovecotServer) -> None:
    """FAULTS 58."""
    with pytest.raises(pysmtpx.SmtpError) as caught:
        pysmtpx.connect(Server(dovecot.host, dovecot.port))
    assert caught.value.reply is not None
    assert caught.value.reply.is_permanent
