"""Subclasses and patches that somebody made for the standard class keep working."""

from __future__ import annotations

import socket
from email.message import EmailMessage
from typing import Any
from unittest import mock

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Cut, MailServer

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"


def test_a_subclass_may_dial_itself() -> None:
    class Proxied(smtplib.SMTP):
        dialled: tuple[Any, ...] = ()

        def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
            Proxied.dialled = (host, port, timeout)
            return socket.create_connection(("127.0.0.1", server.port), timeout)

    with MailServer() as server:
        with Proxied("mail.invalid:2525", local_hostname="me.example", timeout=5) as smtp:
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            assert smtp.sock is not None
            assert smtp.sock.gettimeout() == 5
        assert Proxied.dialled == ("mail.invalid", 2525, 5)
        assert smtp._host == "mail.invalid"
    assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]]


def test_a_socket_that_is_none_of_the_systems() -> None:
    class Wrapper:
        """As a tunnel may have it: what it needs of a socket, and no descriptor."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.makefile, self.sendall, self.close = sock.makefile, sock.sendall, sock.close

    class Tunnelled(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: Any) -> Any:
            return Wrapper(super()._get_socket(host, port, timeout))

    with (
        MailServer(users={"ann": "p"}, mechanisms=["PLAIN"], refuse={EVE: "550 no"}) as server,
        Tunnelled("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.login("ann", "p")[0] == 235
        assert smtp.sendmail(ANN, [BOB, EVE], OCTETS) == {EVE: (550, b"no")}
    assert server.messages[0].delivered == [BOB]


def test_a_subclass_may_send_itself() -> None:
    class Noted(smtplib.SMTP):
        sent: list[Any]

        def send(self, s: Any) -> None:
            self.__dict__.setdefault("sent", []).append(s)
            super().send(s)

    with MailServer() as server, Noted("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        assert smtp.sent == [
            "ehlo me.example\r\n",
            f"mail from:<{ANN}> size={len(OCTETS)}\r\n",
            f"rcpt to:<{BOB}>\r\n",
            "data\r\n",
            OCTETS + b".\r\n",
        ]


def test_a_subclass_may_greet_itself() -> None:
    class Quiet(smtplib.SMTP):
        def ehlo(self, name: str = "") -> tuple[int, bytes]:
            reply = super().ehlo("other.example")
            self.esmtp_features.pop("pipelining", None)
            return reply

    with MailServer() as server, Quiet("127.0.0.1", server.port) as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        assert "pipelining" not in smtp.esmtp_features


def test_a_subclass_may_log_in_itself() -> None:
    class Token(smtplib.SMTP):
        def auth_plain(self, challenge: Any = None) -> str:
            return f"\0{self.user}\0secret-of-{self.user}"

    mechanisms = ["SCRAM-SHA-256", "PLAIN"]
    with MailServer(users={"ann": "secret-of-ann"}, mechanisms=mechanisms) as server:
        with Token("127.0.0.1", server.port, "me.example") as smtp:
            assert smtp.login("ann", "not used")[0] == 235
        with smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
            smtp.auth_plain = lambda challenge=None: "\0ann\0secret-of-ann"  # type: ignore[method-assign]
            assert smtp.login("ann", "not used")[0] == 235


def test_a_subclass_may_refuse_a_recipient_itself() -> None:
    class Careful(smtplib.SMTP):
        def rcpt(self, recip: str, options: Any = ()) -> tuple[int, bytes]:
            return (550, b"not from here") if recip == EVE else super().rcpt(recip, options)

    with MailServer() as server, Careful("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, [BOB, EVE], OCTETS) == {EVE: (550, b"not from here")}
    assert server.messages[0].delivered == [BOB]


@pytest.mark.parametrize("reply", ["451 4.3.0 later", "421 4.3.2 bye"])
def test_command_by_command_a_refused_data_leaves_the_session_in_step_too(reply: str) -> None:
    class Stepwise(smtplib.SMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    with MailServer(strict=False, replies={("DATA", 0): reply}) as server:
        smtp = Stepwise("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPDataError) as caught:
            smtp.sendmail(ANN, BOB, OCTETS)
        assert caught.value.smtp_code == int(reply[:3])
        assert (smtp.sock is None) == reply.startswith("421")
        if smtp.sock is not None:
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            smtp.quit()


def test_a_patched_method_is_called() -> None:
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        with mock.patch.object(smtplib.SMTP, "rcpt", return_value=(250, b"ok")) as rcpt:
            smtp.data = lambda msg: (250, b"ok")  # type: ignore[method-assign]
            assert smtp.sendmail(ANN, [BOB], OCTETS) == {}
            rcpt.assert_called_once()
        smtp.rset()


def test_a_user_may_put_the_socket_into_tls_or_a_tunnel_by_hand() -> None:
    with MailServer() as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
        smtp.sendmail(ANN, BOB, OCTETS)
        old, smtp.sock = smtp.sock, socket.create_connection(("127.0.0.1", server.port))
        smtp.file = None
        assert smtp.getreply()[0] == 220
        smtp.ehlo()
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        smtp.quit()
        assert old is not None
        old.close()
    assert len(server.messages) == 2


def test_several_commands_may_be_written_before_their_replies_are_read() -> None:
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        for command in ("rset", "rset", "noop"):
            smtp.putcmd(command)
        assert [smtp.getreply()[0] for _ in range(3)] == [250, 250, 250]


def test_a_mixed_session_of_single_commands_and_whole_calls() -> None:
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        for _ in range(3):
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            assert smtp.noop()[0] == 250
            assert smtp.docmd("VRFY", "bob")[0] in (250, 252)
            assert smtp.mail(ANN)[0] == smtp.rcpt(BOB)[0] == smtp.data("Subject: x\n\nhi")[0] == 250
    assert len(server.messages) == 6


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "FINAL"])
def test_command_by_command_a_loss_says_who_may_have_the_message(verb: str) -> None:
    class Stepwise(smtplib.SMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    with MailServer(strict=False, replies={verb: Cut()}, refuse={EVE: "550 no"}) as server:
        smtp = Stepwise("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, [BOB, EVE], OCTETS)
        error: Any = caught.value
        in_doubt = verb == "FINAL"
        assert error.unknown_recipients == ((BOB,) if in_doubt else ())
        assert BOB in error.unsent_recipients or in_doubt
        assert error.safe_to_retry is not in_doubt
        rejected = [(each.recipient, str(each.reply), each.stage) for each in error.rejected_recipients]
        assert rejected == ([] if verb == "MAIL" else [(EVE, "550 no", "rcpt")])
        for call in (
            lambda: smtp.sendmail(ANN, BOB, OCTETS),
            lambda: smtp.send_message(EmailMessage(), ANN, BOB),
        ):
            with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
                call()
            assert caught.value.unknown_recipients == ()  # type: ignore[attr-defined]


def test_command_by_command_one_who_was_accepted_once_and_refused_once_may_have_the_message() -> None:
    class Stepwise(smtplib.SMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    replies: Any = {"FINAL": Cut(), ("RCPT", 1): "450 4.2.1 once is enough"}
    with MailServer(replies=replies) as server:
        smtp = Stepwise("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, [BOB, BOB], OCTETS)
        error: Any = caught.value
        assert set(error.unknown_recipients) == {BOB}
        assert error.rejected_recipients == ()
        assert not error.safe_to_retry
