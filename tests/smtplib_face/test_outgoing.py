"""``set_outgoing``: who gets the messages of ``sendmail``, and what leaves of them."""

from __future__ import annotations

import smtplib as standard
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

import pysmtpx.smtplib as ours
from pysmtpx import InputError, MailObject
from pysmtpx.outgoing import FIELD
from pysmtpx.testing import MailServer

SENDER, DEV = "app@example.org", "dev@example.org"
CUSTOMERS = ["Ann <ann@example.com>", "bob@example.net"]
TEXT = b"Subject: x\r\n\r\n.hello\r\n"


@pytest.fixture(autouse=True)
def _nothing_set() -> Iterator[None]:
    yield
    ours.set_outgoing()


DIALOGUE = b"Subject: x\r\n\r\nhe wrote\r\nRCPT TO:<bob@example.net>\r\n.\r\nRCPT TO:<bob@example.net>\r\n"
"""Content that looks like commands, also behind a dot."""


class Stepwise(ours.SMTP):
    """Somebody who has a say in the single commands."""

    def rcpt(self, recip: str, options: Any = ()) -> tuple[int, bytes]:
        return super().rcpt(recip, options)


class OwnData(ours.SMTP):
    """Somebody who has a say in DATA."""

    def data(self, msg: Any) -> tuple[int, bytes]:
        return super().data(msg)


@pytest.fixture(params=[ours.SMTP, Stepwise, OwnData])
def kind(request: pytest.FixtureRequest) -> type[ours.SMTP]:
    return request.param  # type: ignore[no-any-return]


def test_every_message_goes_elsewhere(kind: type[ours.SMTP]) -> None:
    ours.set_outgoing(redirect_to=DEV)
    with MailServer() as server:
        with kind(server.host, server.port) as smtp:
            assert smtp.sendmail(SENDER, CUSTOMERS, TEXT) == {}
            message = EmailMessage()
            message["From"], message["To"], message["Bcc"] = SENDER, *CUSTOMERS
            message.set_content("hello")
            assert smtp.send_message(message) == {}
        for got in server.messages:
            assert got.addresses == [DEV]
            assert got.content.startswith(f"{FIELD}: ann@example.com,\r\n bob@example.net\r\n".encode())
        assert server.messages[0].content.endswith(b"\r\nSubject: x\r\n\r\n.hello\r\n")


def test_by_install() -> None:
    ours.set_outgoing(redirect_to=DEV)
    ours.install()
    try:
        with MailServer() as server:
            with standard.SMTP(server.host, server.port) as smtp:
                smtp.sendmail(SENDER, CUSTOMERS, TEXT)
            assert server.messages[0].addresses == [DEV]
    finally:
        ours.uninstall()


def test_those_kept_back_are_among_the_refused(kind: type[ours.SMTP]) -> None:
    refuse = {"eve@example.com": "550 5.1.1 unknown"}
    with MailServer(refuse=refuse) as server, kind(server.host, server.port) as smtp:
        smtp.set_outgoing(allow_recipients="example.com")
        refused = smtp.sendmail(SENDER, [*CUSTOMERS, "eve@example.com"], TEXT)
        assert refused.keys() == {"bob@example.net", "eve@example.com"}
        assert refused["bob@example.net"][0] == 550
        assert b"allow_recipients" in refused["bob@example.net"][1]
        (got,) = server.messages
        assert got.addresses == ["ann@example.com"]
        with pytest.raises(standard.SMTPRecipientsRefused) as caught:
            smtp.sendmail(SENDER, ["bob@example.net", "eve@example.com"], TEXT)
        assert caught.value.recipients.keys() == {"bob@example.net", "eve@example.com"}
        with pytest.raises(standard.SMTPRecipientsRefused) as caught:
            smtp.sendmail(SENDER, ["bob@example.net", "not an address"], TEXT)
        assert caught.value.recipients.keys() == {"bob@example.net", "not an address"}
        assert smtp.noop()[0] == 250
    assert len(server.messages) == 1


@pytest.mark.parametrize(
    "command",
    [
        lambda smtp: smtp.rcpt("bob@example.net"),
        lambda smtp: smtp.docmd("RCPT", "TO:<bob@example.net>"),
        lambda smtp: smtp.docmd("rcpt TO: bob@example.net"),
        lambda smtp: smtp.putcmd("rcpt", "to:<bob@example.net> NOTIFY=NEVER"),
        lambda smtp: smtp.rcpt("Bob"),
        lambda smtp: smtp.send("rcpt to:<bob@example.net>\r\n"),
        lambda smtp: smtp.send(b"NOOP\r\nRCPT TO:<bob@example.net>\r\n"),
    ],
)
def test_single_commands_are_no_way_around(command: Any) -> None:
    with MailServer() as server, ours.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(allow_recipients="example.com")
        smtp.ehlo()
        smtp.mail(SENDER)
        with pytest.raises(standard.SMTPNotSupportedError, match="allow_recipients"):
            command(smtp)
        assert smtp.rcpt("ann@example.com")[0] == 250
        assert smtp.data(TEXT)[0] == 250
    assert server.messages[0].addresses == ["ann@example.com"]


@pytest.mark.parametrize(
    "line",
    [
        "RCPT\tTO:<bob@example.net>\r\n",
        "RCPT\x0bTO:<bob@example.net>\r\n",
        "\trcpt  to : <bob@example.net>\r\n",
        "RCPT TO:<bob@example.net>\n",
        "RCPT TO <bob@example.net>\r\n",
        "RCPT:<bob@example.net>\r\n",
        "RCPTTO:<bob@example.net>\r\n",
        "NOOP\rRCPT TO:<bob@example.net>\r\n",
        "RCPT\rTO:<bob@example.net>\r\n",
        "\0RCPT TO:<bob@example.net>\r\n",
        "RC\0PT TO:<bob@example.net>\r\n",
        "RCPT TO:<ann@example.com\0>\r\n",
        "RCPT TO:bob@example.net X=<ann@example.com>\r\n",
        "RCPT TO:<ann@example.com> RCPT TO:<bob@example.net>\r\n",
        "BDAT 3\r\nabcRCPT TO:<bob@example.net>\r\n",
        "RSET\r\nRCPT TO:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\n",
        "RC",
        "RCPT TO:<bob@example.net>",
        "NOOP\r\nRCPT TO:<ann@example.com>\r",
    ],
)
@pytest.mark.parametrize("form", [str, str.encode, lambda line: memoryview(line.encode())])
def test_no_form_of_a_line_is_a_way_around(line: str, form: Any) -> None:
    with MailServer() as server, ours.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(allow_recipients="example.com")
        smtp.ehlo()
        smtp.mail(SENDER)
        with pytest.raises(standard.SMTPNotSupportedError, match="allow_recipients"):
            smtp.send(form(line))
        smtp.send("RCPT TO:<ann@example.com>\r\n")
        assert smtp.getreply()[0] == 250
        assert smtp.data(TEXT)[0] == 250
    assert server.messages[0].addresses == ["ann@example.com"]


def test_content_may_look_like_commands(kind: type[ours.SMTP]) -> None:
    with MailServer() as server:
        with kind(server.host, server.port) as smtp:
            smtp.set_outgoing(allow_recipients="example.com")
            assert smtp.sendmail(SENDER, ["ann@example.com"], DIALOGUE) == {}
            smtp.mail(SENDER)
            smtp.rcpt("ann@example.com")
            assert smtp.data(DIALOGUE)[0] == 250
            with pytest.raises(standard.SMTPNotSupportedError):
                smtp.send("RCPT TO:<bob@example.net>\r\n")
        assert [got.content for got in server.messages] == [DIALOGUE] * 2


def test_content_written_by_hand_ends_at_its_dot() -> None:
    behind = b"MAIL FROM:<app@example.org>\r\nRCPT TO:<bob@example.net>\r\n"
    with MailServer() as server, ours.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(allow_recipients="example.com")
        smtp.ehlo()
        smtp.send(b"MAIL FROM:<app@example.org>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n")
        assert [smtp.getreply()[0] for _ in range(3)] == [250, 250, 354]
        smtp.send(b"Subject: x\r\n\r\nRC")
        smtp.send(b"PT TO:<bob@example.net>\r\n.")
        with pytest.raises(standard.SMTPNotSupportedError):
            smtp.send(b"\r\n" + behind)
        smtp.send("\r\n")
        with pytest.raises(standard.SMTPNotSupportedError):
            smtp.send(behind)
        assert smtp.getreply()[0] == 250
        with pytest.raises(standard.SMTPNotSupportedError):
            smtp.send(behind)
        assert smtp.noop()[0] == 250
    (got,) = server.messages
    assert got.addresses == ["ann@example.com"]
    assert got.content == b"Subject: x\r\n\r\nRCPT TO:<bob@example.net>\r\n"


@pytest.mark.parametrize(
    "written", ["DATA\r\nhi\r\n.\r\n", "DATA\r\nhi\r\n.\r\nDATA\r\n", "DATA\r\n.\r\nNOOP\r\n"]
)
def test_a_354_that_is_older_than_what_was_written_begins_no_content(written: str) -> None:
    with MailServer(strict=False) as server, ours.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(allow_recipients="example.com")
        smtp.ehlo()
        smtp.mail(SENDER)
        smtp.rcpt("ann@example.com")
        smtp.send(written)
        assert smtp.getreply()[0] == 354
        with pytest.raises(standard.SMTPNotSupportedError):
            smtp.send("MAIL FROM:<app@example.org>\r\nRCPT TO:<bob@example.net>\r\n")
        smtp.close()


def test_what_leaves_is_what_the_function_made(kind: type[ours.SMTP]) -> None:
    seen: list[tuple[bytes, MailObject]] = []

    def stamp(octets: bytes, mail: MailObject) -> bytes:
        seen.append((octets, mail))
        return b"X-Stamp: 1\n" + octets

    with MailServer() as server:
        with kind(server.host, server.port) as smtp:
            smtp.set_outgoing(before_send=[stamp, lambda octets, mail: None], redirect_to=DEV)
            smtp.sendmail(SENDER, CUSTOMERS, TEXT)
        (got,) = server.messages
    ((octets, mail),) = seen
    assert octets.endswith(b"\r\nSubject: x\r\n\r\n.hello\r\n")
    assert (mail.sender, mail.recipients) == (SENDER, (DEV,))
    assert got.content == b"X-Stamp: 1\r\n" + octets


def test_what_the_process_asks_for_holds_where_a_connection_says_nothing_of_it(
    kind: type[ours.SMTP],
) -> None:
    ours.set_outgoing(redirect_to=DEV)
    with MailServer() as server, kind(server.host, server.port) as smtp:
        smtp.set_outgoing(before_send=lambda octets, mail: octets)
        smtp.sendmail(SENDER, CUSTOMERS, TEXT)
        assert server.messages[0].addresses == [DEV]
        smtp.set_outgoing(redirect_to="other@x.example")
        smtp.sendmail(SENDER, CUSTOMERS, TEXT)
        assert server.messages[1].addresses == ["other@x.example"]


def test_a_function_that_fails_sends_nothing(kind: type[ours.SMTP]) -> None:
    with MailServer() as server, kind(server.host, server.port) as smtp:
        smtp.set_outgoing(before_send=lambda octets, mail: 1 / 0)
        with pytest.raises(InputError, match="ZeroDivisionError"):
            smtp.sendmail(SENDER, CUSTOMERS, TEXT)
        smtp.set_outgoing()
        smtp.sendmail(SENDER, CUSTOMERS, TEXT)
    assert len(server.messages) == 1


def test_what_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="redirect_to"):
        ours.set_outgoing(redirect_to="")
    with pytest.raises(ValueError, match="before_send"):
        ours.set_outgoing(before_send="a.b")  # type: ignore[arg-type]
