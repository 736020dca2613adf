"""``sendmail`` and ``send_message``: what the standard library leaves undone."""

from __future__ import annotations

import pickle
import smtplib as standard
import sys
from email.message import EmailMessage
from email.mime.text import MIMEText
from typing import Any

import pytest

import pysmtpx
import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Cut, Garbage, MailServer

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
EIGHT_BIT = "Subject: hello\r\n\r\nGrüße\r\n".encode()


def connected(server: MailServer, **options: Any) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "me.example", **options)


def writes(smtp: smtplib.SMTP, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes over the line from now on, write by write, by the events of ``sys.audit``."""
    found: list[bytes] = []
    monkeypatch.setattr(sys, "audit", lambda event, who, octets: found.append(octets))
    return found


def test_the_envelope_goes_in_one_write_where_pipelining_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.ehlo()
        found = writes(smtp, monkeypatch)
        assert smtp.sendmail(ANN, [BOB, EVE], OCTETS) == {}
        assert found == [
            b"mail from:<ann@example.org> size=%d\r\nrcpt to:<bob@example.com>\r\n"
            b"rcpt to:<eve@example.com>\r\ndata\r\n" % len(OCTETS),
            OCTETS + b".\r\n",
        ]


def test_commands_go_one_by_one_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(extensions=[], refuse={EVE: "550 no"}) as server, connected(server) as smtp:
        smtp.ehlo()
        found = writes(smtp, monkeypatch)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail(ANN, [EVE], OCTETS)
        assert found == [b"mail from:<ann@example.org>\r\n", b"rcpt to:<eve@example.com>\r\n", b"rset\r\n"]


def test_a_user_can_turn_pipelining_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.ehlo()
        del smtp.esmtp_features["pipelining"]
        found = writes(smtp, monkeypatch)
        smtp.sendmail(ANN, BOB, OCTETS)
        assert len(found) == 4


def test_line_ends_leave_as_crlf_so_that_no_end_of_data_hides_in_a_message() -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.sendmail(ANN, BOB, b"Subject: x\n\nfirst\n.\nMAIL FROM:<eve@example.com>\r.\rlast")
        replies = smtp.mail(ANN), smtp.rcpt(BOB), smtp.data(b"Subject: x\n\n\n.\r\nlast")
        assert [code for code, _ in replies] == [250, 250, 250]
    first, second = server.messages
    assert first.content == b"Subject: x\r\n\r\nfirst\r\n.\r\nMAIL FROM:<eve@example.com>\r\n.\r\nlast\r\n"
    assert second.content == b"Subject: x\r\n\r\n\r\n.\r\nlast\r\n"


def test_a_message_over_the_servers_size_is_not_sent() -> None:
    with MailServer(extensions=["SIZE 100"]) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            smtp.sendmail(ANN, BOB, OCTETS * 10)
        assert caught.value.smtp_code == 552
        assert b"100" in caught.value.smtp_error
        assert caught.value.sender == ANN
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]]


def test_8_bit_content_is_declared() -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.sendmail(ANN, BOB, EIGHT_BIT)
        smtp.sendmail(ANN, BOB, EIGHT_BIT, ["body=8bitmime"])
        smtp.sendmail(ANN, BOB, OCTETS)
    assert [m.params.get("BODY") for m in server.messages] == ["8BITMIME", "8bitmime", None]


def test_8_bit_octets_and_long_lines_still_go_where_they_always_went() -> None:
    with (
        MailServer(extensions=[], strict=False, text_line_limit=None) as server,
        connected(server) as smtp,
    ):
        smtp.sendmail(ANN, BOB, EIGHT_BIT)
        smtp.sendmail(ANN, BOB, b"Subject: x\r\n\r\n" + b"x" * 5000 + b"\r\n")
    assert server.messages[0].content == EIGHT_BIT
    assert b"x" * 5000 in server.messages[1].content


def test_a_message_object_is_written_in_7_bit_for_a_server_without_8bitmime() -> None:
    message = MIMEText("Grüße", "plain", "utf-8")
    message.replace_header("Content-Transfer-Encoding", "8bit")
    message.set_payload("Grüße".encode())
    message["From"], message["To"], message["Bcc"] = ANN, BOB, EVE
    with MailServer(extensions=["SIZE"]) as server, connected(server) as smtp:
        assert smtp.send_message(message) == {}
    content = server.messages[0].content
    assert content.isascii()
    assert b"Gr=C3=BC=C3=9Fe" in content or b"R3LDvMOfZQ==" in content
    assert b"Bcc:" not in content
    assert server.messages[0].delivered == [BOB, EVE]
    assert message["Bcc"] == EVE


def test_an_international_domain_goes_as_a_labels() -> None:
    with MailServer() as server, connected(server) as smtp:
        assert smtp.sendmail("ann@bücher.example", ["Bob <bob@faß.example>"], OCTETS) == {}
        assert smtp.mail("ann@bücher.example")[0] == 250
        assert smtp.rcpt("bob@faß.example")[0] == 250
        smtp.rset()
    assert server.messages[0].sender == "ann@xn--bcher-kva.example"
    assert server.messages[0].delivered == ["bob@xn--fa-hia.example"]


def test_a_message_to_an_international_domain_goes_without_smtputf8() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = ANN, "bob@bücher.example", "hello"
    message.set_content("Hi.\n")
    with MailServer(extensions=["8BITMIME"], strict_headers=True) as server, connected(server) as smtp:
        smtp.send_message(message)
        del message["To"]
        message["To"] = "bób@bücher.example"
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.send_message(message)
    assert server.messages[0].delivered == ["bob@xn--bcher-kva.example"]
    assert b"To: bob@xn--bcher-kva.example" in server.messages[0].content


def test_smtputf8_goes_where_it_is_asked_for_and_with_a_message() -> None:
    message = EmailMessage()
    message["From"], message["To"] = ANN, "bób@example.com"
    message.set_content("Hi.\n")
    with MailServer() as server, connected(server) as smtp:
        smtp.sendmail("änn@example.org", "bób@example.com", OCTETS, ["SMTPUTF8"])
        smtp.send_message(message)
    assert [m.delivered for m in server.messages] == [["bób@example.com"]] * 2
    assert all("SMTPUTF8" in m.params for m in server.messages)
    assert server.messages[0].sender == "änn@example.org"


def test_smtputf8_needs_a_server_that_has_it() -> None:
    with MailServer(extensions=["8BITMIME"]) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.sendmail(ANN, BOB, OCTETS, ["SMTPUTF8"])
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.ledger.commands[0].count("MAIL") == 1


def test_smtputf8_command_by_command() -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.ehlo()
        assert smtp.mail("änn@example.org", ["SMTPUTF8"])[0] == smtp.rcpt("bób@bücher.example")[0] == 250
        assert smtp.data(OCTETS)[0] == smtp.rset()[0] == 250
        assert smtp.command_encoding == "ascii"
        with pytest.raises(UnicodeEncodeError):
            smtp.mail("änn@example.org")
        smtp.esmtp_features.pop("smtputf8")
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.mail("änn@example.org", ["SMTPUTF8"])
    assert server.messages[0].delivered == ["bób@bücher.example"]


@pytest.mark.parametrize("hostile", ["a\0b@example.com", "a\x1b[1m@example.com", "a@example.com\x85"])
def test_a_control_character_is_no_part_of_a_command(hostile: str) -> None:
    with MailServer() as server, connected(server) as smtp:
        smtp.ehlo()
        for sender, recipient in ((hostile, BOB), (ANN, hostile)):
            with pytest.raises(ValueError, match=r"control|codec"):
                smtp.sendmail(sender, recipient, OCTETS)
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.ledger.commands[0].count("MAIL") == 1


# -- what became of it ------------------------------------------------------------------


def test_a_lost_reply_to_the_end_of_data_says_that_nobody_knows() -> None:
    replies = {("RCPT", 1): "550 5.1.1 none", "FINAL": Cut()}
    with MailServer(replies=replies) as server:
        smtp = connected(server)
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, [BOB, EVE], OCTETS)
        error: Any = caught.value
        assert isinstance(error.__cause__, pysmtpx.DeliveryUnknown)
        assert error.unknown_recipients == (BOB,)
        assert [refused.recipient for refused in error.rejected_recipients] == [EVE]
        assert error.safe_to_retry is False
        assert pickle.loads(pickle.dumps(error)).unknown_recipients == (BOB,)
        assert smtp.sock is None
        with pytest.raises(standard.SMTPServerDisconnected, match="please run connect"):
            smtp.noop()


def test_a_loss_before_the_end_of_data_says_that_nobody_has_it() -> None:
    with MailServer(replies={"DATA": Cut()}) as server:
        smtp = connected(server)
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, BOB, OCTETS)
        error: Any = caught.value
        assert error.unknown_recipients == ()
        assert error.unsent_recipients == (BOB,)
        assert error.safe_to_retry is True


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "FINAL"])
def test_octets_that_are_no_reply_end_the_connection(stage: str) -> None:
    with MailServer(strict=False, replies={stage: Garbage(b"HTTP/1.1 400\r\n")}) as server:
        smtp = connected(server)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.sendmail(ANN, BOB, OCTETS)
        assert smtp.sock is None


def test_a_reply_that_nobody_asked_for_is_not_taken_for_an_answer() -> None:
    with MailServer(strict=False, replies={"NOOP": "250 ok\n421 4.3.2 bye"}) as server:
        smtp = connected(server)
        smtp.ehlo()
        assert smtp.noop() == (250, b"ok")
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            smtp.sendmail(ANN, BOB, OCTETS)
        assert caught.value.smtp_code == 421
        assert smtp.sock is None
    assert "MAIL" not in server.ledger.commands[0]


def test_a_new_connection_knows_nothing_of_the_last_one() -> None:
    with MailServer() as rich, MailServer(extensions=[]) as bare:
        smtp = connected(rich)
        smtp.sendmail(ANN, BOB, OCTETS)
        smtp.close()
        smtp.connect("127.0.0.1", bare.port)
        smtp.sendmail(ANN, BOB, EIGHT_BIT.replace("ü".encode(), b"ue").replace("ß".encode(), b"ss"))
        smtp.quit()
        assert bare.ledger.commands[0][0] == "EHLO"


class Stepwise(smtplib.SMTP):
    """Asked for each command."""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


class StepwiseLMTP(smtplib.LMTP):
    """The same over LMTP."""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


@pytest.mark.parametrize("kind", [smtplib.SMTP, Stepwise, smtplib.LMTP, StepwiseLMTP])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "FINAL"])
@pytest.mark.parametrize("code", [250, 251, 252, 254, 299])
def test_any_2xx_is_an_acceptance(code: int, stage: str, kind: Any) -> None:
    """RFC 5321 4.2.1: the server delivers, so nobody is told that it refused."""
    protocol: Any = "lmtp" if issubclass(kind, smtplib.LMTP) else "smtp"
    with (
        MailServer(
            protocol=protocol, strict=False, replies={stage: f"{code} 2.1.5 ok"}, refuse={EVE: "550 5.1.1 no"}
        ) as server,
        kind("127.0.0.1", server.port, "me.example") as smtp,
    ):
        refused = {} if stage == "RCPT" else {EVE: (550, b"5.1.1 no")}
        assert smtp.sendmail(ANN, [BOB, EVE], OCTETS) == refused
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert [BOB in message.delivered for message in server.messages] == [True, True]


@pytest.mark.parametrize("features", [[], ["PIPELINING"]], ids=["sequential", "pipelined"])
@pytest.mark.parametrize(
    ("stage", "reply", "kind"),
    [
        ("MAIL", "354 go on", smtplib.SMTPSenderRefused),
        ("RCPT", "354 go on", smtplib.SMTPRecipientsRefused),
        ("DATA", "250 2.0.0 done", smtplib.SMTPDataError),
        ("FINAL", "354 go on", smtplib.SMTPServerDisconnected),
    ],
)
def test_a_reply_out_of_place_ends_the_connection(
    stage: str, reply: str, kind: type[Exception], features: list[str]
) -> None:
    with MailServer(strict=False, replies={stage: reply}, extensions=features) as server:
        smtp = connected(server)
        with pytest.raises(kind) as caught:
            smtp.sendmail(ANN, BOB, OCTETS)
        assert smtp.sock is None
        unknown = caught.value.unknown_recipients  # type: ignore[attr-defined]
        assert unknown == ((BOB,) if stage == "FINAL" else ())
    assert not server.messages or stage == "FINAL"


def test_a_signed_message_is_not_altered_for_a_server_without_8bitmime() -> None:
    message = MIMEText("", "plain", "utf-8")
    message.replace_header("Content-Transfer-Encoding", "8bit")
    message.set_payload("Grüße\r\n".encode())
    message["From"], message["To"], message["DKIM-Signature"] = ANN, BOB, "v=1; bh=x; b=y"
    with MailServer(extensions=[]) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPNotSupportedError, match="signed"):
            smtp.send_message(message)
        assert smtp.noop()[0] == 250


def test_what_was_said_last_is_on_the_exception() -> None:
    with MailServer(replies={"MAIL": "550 5.7.1 not you"}) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            smtp.sendmail(ANN, BOB, OCTETS)
        error: Any = caught.value
        assert "S: 550 5.7.1 not you" in error.transcript
        assert error.temporary is False
