"""`SmtpConnection.try_envelope`: MAIL and RCPT are asked and dropped, and nothing is sent."""

from __future__ import annotations

import pytest

import pysmtpx
from pysmtpx.testing import Cut, MailServer

SENDER = "ann@example.org"


def test_it_tells_each_reply_and_leaves_the_connection_usable() -> None:
    with MailServer(refuse={"eve@example.com": "550 5.1.1 unknown"}) as server:
        with pysmtpx.connect(server.url) as smtp:
            replies = smtp.try_envelope(SENDER, ["bob@example.com", "eve@example.com"])
            assert server.ledger.commands[0][-4:] == ["MAIL", "RCPT", "RCPT", "RSET"]
            assert server.ledger.count == 0
            smtp.send(SENDER, "bob@example.com", b"Subject: x\r\n\r\nx\r\n")
        (received,) = server.messages
    assert [reply.code for reply in replies] == [250, 250, 550]
    assert received.addresses == ["bob@example.com"]


@pytest.mark.parametrize("recipients", [(), "bob@example.com"])
def test_one_recipient_or_none(recipients: str | tuple[()]) -> None:
    with MailServer() as server, pysmtpx.connect(server.url) as smtp:
        assert [reply.code for reply in smtp.try_envelope("", recipients)] == [250, 250][
            : 1 + bool(recipients)
        ]


def test_behind_a_refused_sender_nobody_is_asked_for() -> None:
    with (
        MailServer(replies={("MAIL", 0): "550 5.7.1 not you"}) as server,
        pysmtpx.connect(server.url) as smtp,
    ):
        assert [reply.code for reply in smtp.try_envelope(SENDER, "bob@example.com")] == [550]
        assert "RCPT" not in server.ledger.commands[0]
        assert smtp.noop().code == 250


@pytest.mark.parametrize("code", ["421 4.3.2 closing", "354 go on"])
def test_after_what_ends_the_session_the_connection_is_closed(code: str) -> None:
    with MailServer(replies={("RCPT", 0): code}, strict=False) as server:
        smtp = pysmtpx.connect(server.url)
        replies = smtp.try_envelope(SENDER, ["bob@example.com", "joe@example.com"])
        assert [reply.code for reply in replies] == [250, int(code[:3])]
        assert smtp.closed


def test_a_transaction_that_may_be_open_is_not_gone_on_with() -> None:
    with MailServer(replies={("RSET", 0): "500 5.5.1 what?"}) as server:
        smtp = pysmtpx.connect(server.url)
        assert [reply.code for reply in smtp.try_envelope(SENDER, "bob@example.com")] == [250, 250]
        assert smtp.closed


def test_a_line_that_goes() -> None:
    with MailServer(replies={("RCPT", 0): Cut()}) as server:
        smtp = pysmtpx.connect(server.url)
        with pytest.raises(pysmtpx.ConnectionLost) as caught:
            smtp.try_envelope(SENDER, "bob@example.com")
        assert smtp.closed
    assert caught.value.stage == "rcpt"


@pytest.mark.parametrize(
    ("sender", "recipients", "kind"),
    [
        ("a b@example.org", (), pysmtpx.InputError),
        (SENDER, ["bob@example.com\r\nDATA"], pysmtpx.InputError),
        (SENDER, ["bob@example.com", "jürgen@example.com"], pysmtpx.NotSupportedError),
        ("jürgen@example.com", (), pysmtpx.NotSupportedError),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    sender: str, recipients: list[str], kind: type[pysmtpx.SmtpError]
) -> None:
    with MailServer(extensions=["PIPELINING"]) as server, pysmtpx.connect(server.url) as smtp:
        with pytest.raises(kind):
            smtp.try_envelope(sender, recipients)
        assert server.ledger.commands == [["EHLO"]]
        assert smtp.noop().code == 250


def test_smtputf8_is_stated_where_it_is_needed_and_offered() -> None:
    with MailServer() as server, pysmtpx.connect(server.url) as smtp:
        assert [reply.code for reply in smtp.try_envelope(SENDER, "jürgen@bücher.example")] == [250, 250]


def test_lmtp_knows_mailboxes_by_their_local_part() -> None:
    with MailServer(protocol="lmtp", local_mailboxes=True) as server, pysmtpx.connect(server.url) as smtp:
        assert [reply.code for reply in smtp.try_envelope("", ["root"])] == [250, 250]
