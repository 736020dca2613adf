"""Mail through a real Postfix, read back from the mailbox and compared octet by octet."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from support import corpus
from support.mailbox import behind_trace, trace
from support.postfix import (
    BAD_SENDER,
    BAD_SUBJECT,
    LATER,
    NO_DATA_SENDER,
    SIZE_LIMIT,
    PostfixServer,
    is_usable,
)

import pysmtpx
from pysmtpx import Server, SmtpConnection

SENDER, ALICE, BOB, NOBODY = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test", "nobody@mail.test"
MAIL = corpus.SEVEN_BIT["lines of dots"]


@pytest.mark.parametrize("name", corpus.ALL)
def test_data_arrives_octet_by_octet(postfix: PostfixServer, line: SmtpConnection, name: str) -> None:
    """FAULTS 108: whatever the line ends and dots."""
    result = line.send(SENDER, [ALICE, BOB], corpus.ALL[name])
    assert result.accepted_recipients == (ALICE, BOB)
    assert result.rejected_recipients == ()
    for user in (ALICE, BOB):
        (stored,) = postfix.mailbox(user).take()
        assert behind_trace(stored) == corpus.arrives_as(corpus.ALL[name])
        assert f"Return-Path: <{SENDER}>".encode() in trace(stored)


@pytest.mark.parametrize("name", corpus.ALL)
def test_bdat_arrives_octet_by_octet(postfix: PostfixServer, line: SmtpConnection, name: str) -> None:
    """FAULTS 52."""
    line.send_bdat(SENDER, [ALICE], corpus.ALL[name])
    (stored,) = postfix.mailbox(ALICE).take()
    assert behind_trace(stored) == corpus.arrives_as(corpus.ALL[name])
    assert is_usable(line, postfix)


@pytest.mark.parametrize("name", corpus.SEVEN_BIT)
def test_one_command_at_a_time_arrives_too(postfix: PostfixServer, slow: SmtpConnection, name: str) -> None:
    """FAULTS 45: a server without PIPELINING."""
    assert not slow.capabilities.pipelining
    slow.send(SENDER, [ALICE], corpus.SEVEN_BIT[name])
    (stored,) = postfix.mailbox(ALICE).take()
    assert behind_trace(stored) == corpus.arrives_as(corpus.SEVEN_BIT[name])


def test_content_of_unknown_size_goes_in_several_chunks(postfix: PostfixServer) -> None:
    with pysmtpx.connect(Server(postfix.host, postfix.port)) as line:
        line.send_bdat(SENDER, [ALICE], iter([corpus.EIGHT_BIT["5 MB of 8-bit"]]))
    assert behind_trace(postfix.mailbox(ALICE).take()[0]) == corpus.EIGHT_BIT["5 MB of 8-bit"]
    counts = postfix.commands()
    assert int(counts["bdat"]) >= 2
    assert "data" not in counts


@pytest.mark.parametrize(
    "source",
    [bytes, bytearray, memoryview, io.BytesIO, lambda b: iter([b[:7], b"", b[7:]])],
    ids=["bytes", "bytearray", "memoryview", "file", "iterator"],
)
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_every_kind_of_source(
    postfix: PostfixServer, line: SmtpConnection, method: str, source: Callable[[bytes], object]
) -> None:
    getattr(line, method)(SENDER, [ALICE], source(MAIL))
    (stored,) = postfix.mailbox(ALICE).take()
    assert behind_trace(stored) == MAIL


def test_many_messages_on_one_connection(postfix: PostfixServer, line: SmtpConnection) -> None:
    sent = [corpus.HEADER + b"message %d\r\n" % n for n in range(30)]
    for number, content in enumerate(sent):
        (line.send_bdat if number % 3 == 0 else line.send)(SENDER, [ALICE], content)
    assert sorted(map(behind_trace, postfix.mailbox(ALICE).take(len(sent)))) == sorted(sent)


# Refusals: the same from every path, and the connection goes on.


@pytest.fixture(params=["pipelined", "bdat", "sequential"])
def path(
    request: pytest.FixtureRequest, line: SmtpConnection, slow: SmtpConnection
) -> tuple[SmtpConnection, Callable[..., pysmtpx.SendResult]]:
    """Return a connection and its method to send, for each way that content travels."""
    ways = {"pipelined": (line, line.send), "bdat": (line, line.send_bdat), "sequential": (slow, slow.send)}
    return ways[request.param]


Path = tuple[SmtpConnection, Callable[..., pysmtpx.SendResult]]


def test_some_recipients_are_refused(postfix: PostfixServer, path: Path) -> None:
    """FAULTS 21: the others get the mail."""
    connection, send = path
    result = send(SENDER, [NOBODY, ALICE, LATER, BOB], MAIL)
    assert result.accepted_recipients == (ALICE, BOB)
    assert [r.recipient for r in result.rejected_recipients] == [NOBODY, LATER]
    unknown, later = result.rejected_recipients
    assert (unknown.reply.code, str(unknown.reply.enhanced), unknown.temporary) == (550, "5.1.1", False)
    assert (later.reply.code, str(later.reply.enhanced), later.temporary) == (450, "4.2.0", True)
    assert {r.stage for r in result.rejected_recipients} == {"rcpt"}
    assert [behind_trace(postfix.mailbox(user).take()[0]) for user in (ALICE, BOB)] == [MAIL, MAIL]
    assert is_usable(connection, postfix)


def test_every_recipient_is_refused(postfix: PostfixServer, path: Path) -> None:
    """FAULTS 23 and 37."""
    connection, send = path
    with pytest.raises(pysmtpx.AllRecipientsFailed) as caught:
        send(SENDER, [NOBODY, LATER, "x@elsewhere.test"], MAIL)
    assert caught.value.count == 3
    assert [reply.code for reply in caught.value.responses] == [550, 450, 554]
    assert is_usable(connection, postfix)


def test_the_sender_is_refused(postfix: PostfixServer, path: Path) -> None:
    """FAULTS 19: all replies are drained, and the next mail is in step."""
    connection, send = path
    with pytest.raises(pysmtpx.SenderRejected) as caught:
        send(BAD_SENDER, [ALICE, BOB], MAIL)
    assert (caught.value.stage, caught.value.reply.code) == ("mail", 554)
    assert [(r.recipient, r.stage) for r in caught.value.rejected_recipients] == [
        (ALICE, "mail"),
        (BOB, "mail"),
    ]
    assert is_usable(connection, postfix)


@pytest.mark.parametrize("which", ["line", "slow"])
def test_data_is_refused(postfix: PostfixServer, request: pytest.FixtureRequest, which: str) -> None:
    """FAULTS 25 and 40."""
    connection = request.getfixturevalue(which)
    with pytest.raises(pysmtpx.DataRejected) as caught:
        connection.send(NO_DATA_SENDER, [ALICE], MAIL)
    assert (caught.value.stage, caught.value.reply.code) == ("data", 554)
    assert is_usable(connection, postfix)


def test_the_content_is_refused(postfix: PostfixServer, path: Path) -> None:
    """FAULTS 30, and for BDAT 47 and 48."""
    connection, send = path
    with pytest.raises(pysmtpx.DataRejected) as caught:
        send(SENDER, [ALICE], f"Subject: {BAD_SUBJECT}\r\n\r\n".encode())
    assert (caught.value.reply.code, str(caught.value.reply.enhanced)) == (550, "5.7.1")
    assert not caught.value.safe_to_retry
    # After a refused chunk nobody knows whether the server swallows what follows.
    assert connection.closed == (send == connection.send_bdat)
    assert connection.closed or is_usable(connection, postfix)


@pytest.mark.parametrize("which", ["line", "slow"])
def test_all_or_nothing_sends_nothing(
    postfix: PostfixServer, request: pytest.FixtureRequest, which: str
) -> None:
    """FAULTS 38."""
    connection = request.getfixturevalue(which)
    with pytest.raises(pysmtpx.RecipientsRejected) as caught:
        connection.send(SENDER, [ALICE, NOBODY], MAIL, all_or_nothing=True)
    assert caught.value.unsent_recipients == (ALICE,)
    assert [r.recipient for r in caught.value.rejected_recipients] == [NOBODY]
    assert is_usable(connection, postfix)
    assert postfix.mailbox(ALICE).is_empty()


def test_hundreds_of_recipients_of_whom_half_are_refused(
    postfix: PostfixServer, line: SmtpConnection
) -> None:
    good = [f"alice+{n}@mail.test" for n in range(150)]
    bad = [f"nobody+{n}@mail.test" for n in range(150)]
    mixed = [path for pair in zip(bad, good, strict=True) for path in pair]
    result = line.send(SENDER, mixed, MAIL)
    assert list(result.accepted_recipients) == good
    assert [r.recipient for r in result.rejected_recipients] == bad
    assert {behind_trace(stored) for stored in postfix.mailbox(ALICE).take(len(good))} == {MAIL}


def test_a_message_over_the_limit_is_refused_before_mail(postfix: PostfixServer) -> None:
    """FAULTS 20."""
    with pysmtpx.connect(Server(postfix.host, postfix.port)) as line:
        assert line.capabilities.size_limit == SIZE_LIMIT
        with pytest.raises(pysmtpx.MessageTooLarge):
            line.send(SENDER, [ALICE], corpus.SEVEN_BIT["5 MB"] * 2)
        line.noop()
    assert "mail" not in postfix.commands()


def test_the_limit_counts_line_ends_as_crlf(postfix: PostfixServer, line: SmtpConnection) -> None:
    """RFC 1870 5: with bare LF the source itself is under the limit."""
    lines = b"yes\n" * (SIZE_LIMIT // 5 + 1)
    assert len(lines) < SIZE_LIMIT
    with pytest.raises(pysmtpx.MessageTooLarge):
        line.send(SENDER, [ALICE], lines)
    assert is_usable(line, postfix)


# Single commands.


def test_single_commands(line: SmtpConnection) -> None:
    assert line.noop().code == 250
    assert line.rset().code == 250
    assert line.verify(ALICE).code == 252
    line.quit()
    assert line.closed


def test_what_postfix_offers(line: SmtpConnection) -> None:
    offered = line.capabilities
    assert offered.pipelining
    assert offered.chunking
    assert offered.smtputf8
    assert offered.dsn
    assert offered.starttls
    assert offered.auth == ()
    assert line.protocol is pysmtpx.Protocol.SMTP
    assert not line.is_tls


def test_lmtp_methods_are_refused_on_smtp(postfix: PostfixServer, line: SmtpConnection) -> None:
    for method in (line.send_lmtp, line.send_lmtp_bdat):
        with pytest.raises(pysmtpx.ProtocolError):
            method(SENDER, [ALICE], MAIL)
    assert is_usable(line, postfix)


def test_a_postfix_does_not_speak_lmtp(postfix: PostfixServer) -> None:
    """FAULTS 58."""
    with pytest.raises(pysmtpx.SmtpError) as caught:
        pysmtpx.connect(Server(postfix.host, postfix.port, protocol="lmtp"))
    assert caught.value.reply is not None
    assert caught.value.reply.is_permanent


def test_keywords_that_count_as_not_offered(postfix: PostfixServer) -> None:
    """Postfix offers both; neither is used."""
    server = Server(postfix.host, postfix.port, without=("PIPELINING", "CHUNKING"))
    with pysmtpx.SmtpPool(server, in_flight=8, max_connections=1) as pool:
        mails = [pysmtpx.MailObject(SENDER, [ALICE], MAIL)] * 5
        assert [outcome.status for outcome in pool.send_many(mails)] == ["accepted"] * 5
    assert "bdat" not in postfix.commands()
    assert postfix.commands()["data"] == "5"
