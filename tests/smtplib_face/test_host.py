"""Which name the certificate must bear, whatever the standard library writes to ``_host``, and when."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from support.certs import server_context

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import MailServer

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
Trust = Callable[[], None]


class Proxied(smtplib.SMTP):
    """As many a program has it, copied from the one before: it connects by itself, and then calls SMTP's."""

    def __init__(self, host: str = "", port: int = 0, timeout: float = 5.0) -> None:
        self.timeout = timeout
        self.source_address = None
        self.esmtp_features: dict[str, str] = {}
        if host:
            code, text = self.connect(host, port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, text)
        smtplib.SMTP.__init__(self, local_hostname="me.example")

    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        return socket.create_connection((host, port), timeout)


class Dialled(Proxied):
    """The same, with nothing of its own about the socket."""

    _get_socket = smtplib.SMTP._get_socket


class Whole(Proxied):
    """The same, with the standard library's ``connect`` copied as well."""

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: Any = None
    ) -> tuple[int, bytes]:
        self.sock = self._get_socket(host, port, self.timeout)
        return self.getreply()


@pytest.mark.parametrize("kind", [Proxied, Dialled, Whole])
def test_who_connects_before_the_constructor_runs(kind: type[Proxied]) -> None:
    with MailServer() as server, kind("127.0.0.1", server.port) as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.messages[0].delivered == [BOB]


@pytest.mark.parametrize("kind", [Proxied, Dialled])
def test_who_connects_before_the_constructor_runs_has_the_name_that_was_dialled(
    kind: type[Proxied], trust: Trust
) -> None:
    trust()
    with (
        MailServer(ssl_context=server_context("localhost")) as server,
        kind("localhost", server.port) as smtp,
    ):
        assert smtp._host == "localhost"
        assert smtp.starttls()[0] == 220


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_name_that_was_written_holds_while_others_are_dialled(tls: str, trust: Trust) -> None:
    trust()
    implicit = tls == "implicit"
    kind: Any = smtplib.SMTP_SSL if implicit else smtplib.SMTP
    options: Any = {"tls": "implicit", "strict": False} if implicit else {}
    with MailServer(ssl_context=server_context("mail.test"), **options) as server:
        smtp = kind(local_hostname="me.example")
        smtp._host = "mail.test"
        for host, port in ((f"127.0.0.1:{server.port}", 0), ("127.0.0.1", server.port)):
            smtp.connect(host, port)
            if not implicit:
                smtp.starttls()
            assert smtp._host == "mail.test"
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            smtp.quit()
        smtp._host = "127.0.0.1"
        if not implicit:
            smtp.connect("127.0.0.1", server.port)
        with pytest.raises(ssl.SSLCertVerificationError):
            smtp.connect("127.0.0.1", server.port) if implicit else smtp.starttls()
        smtp.close()


def test_the_name_follows_what_is_dialled() -> None:
    with MailServer() as server:
        smtp = smtplib.SMTP(local_hostname="me.example")
        assert smtp._host == ""
        for host, port, name in (
            (f"localhost:{server.port}", 0, "localhost"),
            ("127.0.0.1", server.port, "127.0.0.1"),
        ):
            smtp.connect(host, port)
            assert smtp._host == name
            smtp.quit()


def test_a_greeting_that_is_none_closes_and_is_told() -> None:
    with MailServer(strict=False, replies={"CONNECT": "554 5.3.2 no"}) as server:
        smtp = smtplib.SMTP(local_hostname="me.example")
        with pytest.raises(smtplib.SMTPConnectError) as caught:
            smtp.__init__("127.0.0.1", server.port)  # type: ignore[misc]
        assert (caught.value.smtp_code, caught.value.smtp_error) == (554, b"5.3.2 no")
        assert smtp.sock is None
