"""What programs do with ``smtplib`` and no manual mentions."""

from __future__ import annotations

import array
import math
import mmap
import smtplib as standard
import socket
import tempfile
import weakref
from email.message import EmailMessage
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from support.certs import client_context, server_context

import pysmtpx
import pysmtpx.smtplib as smtplib
from pysmtpx.testing import MailServer

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"


def connected(server: MailServer, module: Any = smtplib) -> Any:
    return module.SMTP("127.0.0.1", server.port, "me.example", timeout=10)


# -- arguments ---------------------------------------------------------------------------


def test_no_options_may_be_none(module: ModuleType) -> None:
    with MailServer() as server, connected(server, module) as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS, (), None) == {}


@pytest.mark.parametrize("features", [["8BITMIME", "SMTPUTF8"], []], ids=["rich", "bare"])
def test_options_may_come_from_a_generator(module: ModuleType, features: list[str]) -> None:
    message = EmailMessage()
    message["From"], message["To"] = ANN, BOB
    with MailServer(extensions=features) as server, connected(server, module) as smtp:
        assert smtp.send_message(message, mail_options=(option for option in ())) == {}
        assert smtp.sendmail(ANN, BOB, OCTETS, (option for option in ())) == {}


def test_a_message_may_be_whatever_holds_octets(module: ModuleType) -> None:
    with MailServer() as server, connected(server, module) as smtp, tempfile.TemporaryFile() as file:
        file.write(OCTETS)
        file.flush()
        with mmap.mmap(file.fileno(), 0) as mapped:
            assert smtp.sendmail(ANN, BOB, mapped) == {}
        assert smtp.sendmail(ANN, BOB, array.array("B", OCTETS)) == {}
    assert [message.content for message in server.messages] == [OCTETS, OCTETS]


@pytest.mark.parametrize("host", [None, b"127.0.0.1"])
def test_a_host_may_be_what_the_system_takes_for_one(module: ModuleType, host: Any) -> None:
    with MailServer() as server:
        smtp = module.SMTP(local_hostname="me.example")
        assert smtp.connect(host, server.port)[0] == 220
        smtp.quit()


def test_a_log_in_without_a_password_is_refused_by_the_server_as_ever(module: ModuleType) -> None:
    nothing: Any = None
    with (
        MailServer(users={"ann": "p"}, mechanisms=["PLAIN"]) as server,
        connected(server, module) as smtp,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ann", nothing)
        assert smtp.login("ann", "p")[0] == 235


def test_octets_to_send_may_be_of_any_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with MailServer(users={"ann": "p"}) as server, connected(server) as smtp:
        smtp.ehlo()
        smtp.set_debuglevel(1)
        for kind in (bytes, bytearray, memoryview):
            smtp.send(kind(b"noop\r\n"))
            assert smtp.getreply()[0] == 250
        smtp.send(memoryview(b"AUTH PLAIN AGFubgBw\r\n"))
        assert smtp.getreply()[0] == 235
    told = capsys.readouterr().err
    assert "AUTH PLAIN ***" in told
    assert "AGFubgBw" not in told


@pytest.mark.parametrize("line", [" AUTH PLAIN AGFubgBw", "auth  plain AGFubgBw"])
def test_no_secret_of_a_line_that_is_written_oddly_is_told(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MailServer(strict=False, users={"ann": "p"}) as server, connected(server) as smtp:
        smtp.ehlo()
        smtp.set_debuglevel(1)
        smtp.docmd(line)
        smtp.noop()
    told = capsys.readouterr().err
    assert "AGFubgBw" not in told
    assert "noop" in told


def test_no_secret_of_a_line_that_is_refused_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with MailServer(users={"ann": "p"}) as server, connected(server) as smtp:
        smtp.set_debuglevel(1)
        with pytest.raises(ValueError, match=r"control character U\+0009 in a command line") as caught:
            smtp.docmd("auth\tplain AGFubgBw")
        assert "AGFubgBw" not in str(caught.value)
    assert "AGFubgBw" not in capsys.readouterr().err


# -- what is known of the server -----------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, None])
def test_a_size_that_a_user_wrote_need_not_be_text(module: ModuleType, size: Any) -> None:
    with MailServer() as server, connected(server, module) as smtp:
        smtp.ehlo()
        smtp.esmtp_features["size"] = size
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}


def test_a_subclass_may_deny_an_extension(module: ModuleType) -> None:
    class Plain(module.SMTP):  # type: ignore[misc, name-defined]
        def has_extn(self, opt: str) -> bool:
            return opt.lower() != "size" and super().has_extn(opt)  # type: ignore[no-any-return]

    with MailServer() as server, Plain("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert "SIZE" not in server.messages[0].params


def test_a_message_over_the_servers_size_says_who_did_not_get_it() -> None:
    with (
        MailServer(extensions=["SIZE 10"]) as server,
        connected(server) as smtp,
        pytest.raises(smtplib.SMTPSenderRefused) as caught,
    ):
        smtp.sendmail(ANN, [BOB, EVE], OCTETS)
    error: Any = caught.value
    assert isinstance(error.__cause__, pysmtpx.MessageTooLarge)
    assert error.unsent_recipients == (BOB, EVE)
    assert error.safe_to_retry is False


# -- sockets -------------------------------------------------------------------------------


def test_a_second_connect_lets_go_of_the_first_socket(module: ModuleType) -> None:
    with MailServer() as server:
        smtp = connected(server, module)
        smtp.sendmail(ANN, BOB, OCTETS)
        first = weakref.ref(smtp.sock)
        with pytest.warns(ResourceWarning, match="unclosed"):
            smtp.connect("127.0.0.1", server.port)
        assert first() is None
        smtp.ehlo()
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        smtp.quit()


def test_a_socket_with_a_sendall_of_its_own_is_asked(module: ModuleType) -> None:
    class Noted(socket.socket):
        sent = b""

        def sendall(self, data: Any, flags: int = 0) -> None:
            Noted.sent += bytes(data)
            super().sendall(data, flags)

    class Tunnelled(module.SMTP):  # type: ignore[misc, name-defined]
        def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
            sock = Noted()
            sock.connect((host, port))
            return sock

    with MailServer() as server, Tunnelled("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert OCTETS + b".\r\n" in Noted.sent


def test_a_reply_that_is_read_by_hand_has_the_sockets_own_time(module: ModuleType) -> None:
    with MailServer() as server:
        smtp = module.SMTP("127.0.0.1", server.port, "me.example", timeout=7.25)
        smtp.noop()
        smtp.putcmd("noop")
        with mock.patch("pysmtpx.net.deadline.monotonic", return_value=math.inf):
            assert smtp.file.readline().startswith(b"250 ")
        assert smtp.sock.gettimeout() == 7.25
        smtp.quit()


# -- tests of applications -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SMTP", "LMTP", "SMTP_SSL"])
def test_who_has_a_class_is_not_troubled_by_a_mock_in_the_place_of_smtp(kind: str) -> None:
    class Mine(getattr(smtplib, kind)):  # type: ignore[misc]
        pass

    options: dict[str, Any] = {"context": client_context()} if kind == "SMTP_SSL" else {}
    with (
        MailServer(
            protocol="lmtp" if kind == "LMTP" else "smtp",
            **({"ssl_context": server_context(), "tls": "implicit"} if options else {}),
        ) as server,
        mock.patch("pysmtpx.smtplib.SMTP", autospec=True) as mocked,
    ):
        with smtplib.SMTP("mail.example") as stand_in:
            stand_in.sendmail(ANN, BOB, OCTETS)
        assert mocked.called
        with Mine("localhost", server.port, "me.example", **options) as smtp:
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert len(server.messages) == 1


def test_a_mock_in_the_place_of_the_standard_class_wins_over_install() -> None:
    smtplib.install()
    with mock.patch("smtplib.SMTP") as mocked:
        standard.SMTP("mail.example").sendmail(ANN, BOB, OCTETS)
        assert mocked.return_value.sendmail.called
    assert standard.SMTP is smtplib.SMTP


@pytest.mark.parametrize("kind", ["SMTP", "LMTP", "SMTP_SSL"])
def test_a_subclass_made_before_install_may_name_its_base(kind: str) -> None:
    class Old(getattr(standard, kind)):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            getattr(standard, kind).__init__(self, *arguments, **options)

    smtplib.install()
    with MailServer(
        protocol="lmtp" if kind == "LMTP" else "smtp",
        **({"ssl_context": server_context(), "tls": "implicit"} if kind == "SMTP_SSL" else {}),
    ) as server:
        options: dict[str, Any] = {"context": client_context()} if kind == "SMTP_SSL" else {}
        with Old("localhost", server.port, "me.example", **options) as smtp:
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            assert not isinstance(smtp, smtplib.SMTP)
