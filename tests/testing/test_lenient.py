"""A lenient server: what stock clients do passes, what no server could take does not."""

from __future__ import annotations

import smtplib
import socket

import pytest

from pysmtpx.testing import MailServer, ReceivedMessage, ServerSession, Write
from pysmtpx.testing.config import Config

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<ann@x.example>\r\n"
RCPT = b"RCPT TO:<bob@y.example>\r\n"
END = b"\r\n.\r\n"


def told(sent: list[bytes], *, lenient: bool) -> tuple[list[int], list[str], list[ReceivedMessage]]:
    """The codes that the server says to each piece, what it enters as breaches, and the messages."""
    session = ServerSession(Config(lenient=lenient))
    session.greeting()
    codes = []
    for piece in sent:
        for action in session.receive(piece, unread=False):
            assert isinstance(action, Write)
            codes.append(int(action.octets.splitlines()[-1][:3]))
    session.eof()
    return codes, session.ledger.breaches, session.ledger.messages


def message(
    *, hello: bytes = HELLO, mail: bytes = MAIL, rcpt: bytes = RCPT, text: bytes = b"x"
) -> list[bytes]:
    return [hello, mail, rcpt, b"DATA\r\n", text + END]


HABITS = {
    "SIZE before the line ends became CRLF": message(mail=b"MAIL FROM:<ann@x.example> SIZE=9\r\n"),
    "8-bit content without BODY": message(text="Subject: x\r\n\r\nhällo".encode()),
    "8-bit header": message(text="Subject: hällo\r\n\r\nx".encode()),
    "bare LF": message(text=b"Subject: x\r\n\r\na\nb"),
    "bare CR": message(text=b"Subject: x\r\n\r\na\rb"),
    "a long line": message(text=b"x" * 3000),
    "a host name with an underscore": message(hello=b"EHLO my_app_1\r\n"),
    "the same by HELO": message(hello=b"HELO my_app_1\r\n"),
    "a host name with a blank": message(hello=b"EHLO Ann's computer\r\n"),
    "blanks behind a colon": message(
        mail=b"MAIL FROM: <ann@x.example>\r\n", rcpt=b"RCPT TO: <bob@y.example>\r\n"
    ),
    "blanks at the end": message(mail=b"MAIL FROM:<ann@x.example> \r\n"),
    "no brackets": message(mail=b"MAIL FROM:ann@x.example\r\n", rcpt=b"RCPT TO:bob@y.example\r\n"),
    "command lines that end in LF": message(
        hello=b"EHLO client.example\n", rcpt=b"RCPT TO:<bob@y.example>\n"
    ),
    "a user of this machine": message(mail=b"MAIL FROM:<root>\r\n", rcpt=b"RCPT TO:<www-data>\r\n"),
    "two dots in a local part": message(rcpt=b"RCPT TO:<bob..b@y.example>\r\n"),
    "a dot at the end": message(rcpt=b"RCPT TO:<bob@y.example.>\r\n"),
    "an underscore in a domain": message(rcpt=b"RCPT TO:<bob@my_host.example>\r\n"),
    "a long local part": message(rcpt=b"RCPT TO:<" + b"b" * 100 + b"@y.example>\r\n"),
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_stock_clients_do_is_taken_and_to_a_strict_server_a_breach(habit: str) -> None:
    codes, breaches, messages = told(HABITS[habit], lenient=True)
    assert (codes, breaches, len(messages)) == ([250, 250, 250, 354, 250], [], 1)
    assert told(HABITS[habit], lenient=False)[1]


def test_paths_are_what_the_client_wrote() -> None:
    _, _, (got,) = told(
        message(mail=b"MAIL FROM: ann@x.example SIZE=3\r\n", rcpt=b"RCPT TO: root \r\n"), lenient=True
    )
    assert (got.sender, got.addresses, got.params) == ("ann@x.example", ["root"], {"SIZE": "3"})
    _, _, (got,) = told(message(mail=b"MAIL FROM:<>\r\n"), lenient=True)
    assert got.sender == ""


REFUSED = {
    "no command": [HELLO, b"FOO\r\n"],
    "no path": [HELLO, MAIL, b"RCPT TO:<>\r\n"],
    "an empty path": [HELLO, MAIL, b"RCPT TO:\r\n"],
    "a bracket alone": [HELLO, MAIL, b"RCPT TO:<bob@y.example\r\n"],
    "two addresses": [HELLO, MAIL, b"RCPT TO:<bob@y.example, eve@y.example>\r\n"],
    "a parameter that is not offered": [HELLO, b"MAIL FROM:<ann@x.example> REQUIRETLS\r\n"],
    "not ASCII": [HELLO, "MAIL FROM:<änn@x.example>\r\n".encode()],
    "MAIL before EHLO": [MAIL],
    "MAIL twice": [HELLO, MAIL, MAIL],
    "DATA without a recipient": [HELLO, MAIL, b"DATA\r\n"],
    "BDAT that is not offered": [b"HELO x\r\n", MAIL, RCPT, b"BDAT 1 LAST\r\nx"],
    "no host": [b"EHLO\r\n"],
    "AUTH that is not offered": [HELLO, b"AUTH PLAIN AGEAYg==\r\n"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_told_to_the_client_and_is_no_breach(case: str) -> None:
    codes, breaches, messages = told(REFUSED[case], lenient=True)
    assert codes[-1] >= 500
    assert (breaches, messages) == ([], [])
    strict_codes, strict_breaches, _ = told(REFUSED[case], lenient=False)
    assert strict_codes[-1] >= 500
    assert strict_breaches


@pytest.mark.parametrize(
    ("sent", "breach"),
    [
        ([HELLO, MAIL, RCPT, b"DATA\r\n", b"x\r\n.dot" + END], "a dot that is not doubled"),
        ([HELLO, b"QUIT\r\n", b"NOOP\r\n"], "octets after QUIT"),
    ],
)
def test_what_no_server_could_make_sense_of_stays_a_breach(sent: list[bytes], breach: str) -> None:
    session = ServerSession(Config(lenient=True))
    session.greeting()
    for piece in sent:
        session.receive(piece, unread=False)
    session.eof()
    (found,) = session.ledger.breaches
    assert breach in found


@pytest.mark.parametrize(
    ("sent", "extensions", "breach"),
    [
        (MAIL + RCPT, [], "PIPELINING is not offered"),
        (MAIL + RCPT + b"DATA\r\nx\r\n.\r\n", ["PIPELINING"], "before the reply to DATA was read"),
    ],
)
def test_so_does_what_runs_ahead_of_the_replies(sent: bytes, extensions: list[str], breach: str) -> None:
    session = ServerSession(Config(lenient=True, extensions=extensions))
    session.greeting()
    session.receive(HELLO, unread=False)
    session.receive(sent, unread=True)
    assert any(breach in each for each in session.ledger.breaches)


def test_a_client_that_quits_behind_a_421_is_forgiven() -> None:
    with (
        MailServer(lenient=True, replies={"NOOP": "421 4.3.2 bye"}) as server,
        smtplib.SMTP(server.host, server.port) as client,
    ):
        assert client.noop()[0] == 421
    assert server.breaches == []


def test_a_response_to_a_challenge_is_read_as_it_is() -> None:
    with (
        MailServer(lenient=True, users={"ann": "p"}, mechanisms=["PLAIN"]) as server,
        socket.create_connection((server.host, server.port)) as sock,
    ):
        answers = sock.makefile("rb")
        answers.readline()
        for sent in (
            b"HELO client.example",
            b"EHLO client.example",
            b"AUTH PLAIN",
            b"AGFubgBw ",
            b"AUTH PLAIN AGFubgBw",
        ):
            sock.sendall(sent + b"\r\n")
            while (last := answers.readline())[3:4] == b"-":
                pass
            if sent.endswith(b" "):
                assert last.startswith(b"501"), last
        assert last.startswith(b"235")
    assert server.breaches == []
