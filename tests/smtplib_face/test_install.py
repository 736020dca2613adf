"""``install`` for code that cannot be edited, and ``uninstall``."""

from __future__ import annotations

import logging
import logging.handlers
import smtplib as standard
import sys
import threading
from collections.abc import Callable
from unittest import mock

import pytest
from support.certs import server_context

import pysmtpx.smtplib as ours
from pysmtpx.drop_in.standard import LMTP, SMTP, SMTP_SSL
from pysmtpx.testing import MailServer

ANN, BOB = "ann@example.org", "bob@example.com"


def test_everybody_who_imports_smtplib_has_ours_until_it_is_taken_back() -> None:
    before = dict(vars(standard))
    ours.install()
    import smtplib
    from smtplib import SMTP as imported

    assert smtplib is standard is sys.modules["smtplib"]
    assert imported is smtplib.SMTP is ours.SMTP
    assert (smtplib.SMTP_SSL, smtplib.LMTP) == (ours.SMTP_SSL, ours.LMTP)
    assert {name for name in before if vars(standard)[name] is not before[name]} == {
        "SMTP",
        "SMTP_SSL",
        "LMTP",
    }
    ours.uninstall()
    assert dict(vars(standard)) == before


def test_twice_is_like_once() -> None:
    ours.install()
    ours.install()
    ours.uninstall()
    assert standard.SMTP is SMTP
    ours.uninstall()
    assert (standard.SMTP, standard.SMTP_SSL, standard.LMTP) == (SMTP, SMTP_SSL, LMTP)


def test_from_many_threads() -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(50):
            (ours.install if number % 2 else ours.uninstall)()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (standard.SMTP, standard.LMTP) in ((SMTP, LMTP), (ours.SMTP, ours.LMTP))
    ours.uninstall()
    assert (standard.SMTP, standard.SMTP_SSL, standard.LMTP) == (SMTP, SMTP_SSL, LMTP)


def test_what_somebody_else_put_there_since_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type("Other", (), {})
    ours.install()
    monkeypatch.setattr(standard, "LMTP", other)
    ours.uninstall()
    assert (SMTP, other) == (standard.SMTP, standard.LMTP)


def test_what_a_test_put_back_after_uninstall_is_taken_out_too() -> None:
    ours.install()
    with mock.patch("smtplib.SMTP"):
        ours.uninstall()
    assert standard.SMTP is ours.SMTP
    ours.uninstall()
    assert (standard.SMTP, standard.SMTP_SSL, standard.LMTP) == (SMTP, SMTP_SSL, LMTP)


def test_who_took_the_standard_classes_before_can_still_use_them() -> None:
    ours.install()
    with MailServer() as server:
        for kind in (SMTP, LMTP):
            smtp = kind(local_hostname="me.example")
            assert type(smtp) is kind
            smtp.close()
        with SMTP("127.0.0.1", server.port, "me.example") as smtp:
            assert smtp.sendmail(ANN, BOB, b"Subject: x\r\n\r\n") == {}
            assert not isinstance(smtp, ours.SMTP)
        unconnected = SMTP_SSL(local_hostname="me.example")
        assert unconnected.local_hostname == "me.example"
        assert isinstance(unconnected, SMTP)


def test_a_subclass_made_after_install_is_one_of_ours() -> None:
    ours.install()

    class Mine(standard.SMTP):
        pass

    with MailServer() as server, Mine("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, BOB, b"Subject: x\r\n\r\n") == {}
        assert isinstance(smtp, ours.SMTP)
        assert isinstance(smtp, SMTP)


@pytest.mark.parametrize("patched", ["smtplib.socket", "pysmtpx.smtplib.socket"])
@pytest.mark.parametrize("kind", ["SMTP", "LMTP", "unix"])
def test_a_test_that_patches_the_name_socket_dials_nowhere(patched: str, kind: str) -> None:
    ours.install()
    with mock.patch(patched) as sockets:
        sock = sockets.socket.return_value = sockets.create_connection.return_value
        sock.makefile.return_value.readline.return_value = b"220 hello\r\n"
        if kind == "unix":
            standard.LMTP("/no/such/socket", local_hostname="me.example", timeout=5)
            sock.connect.assert_called_once_with("/no/such/socket")
        else:
            getattr(standard, kind)("mail.invalid", 25, "me.example", timeout=5)
            sockets.create_connection.assert_called_once_with(("mail.invalid", 25), 5, None)


def test_the_handler_of_logging(trust: Callable[[], None]) -> None:
    trust()
    ours.install()
    failures = []
    with MailServer(ssl_context=server_context(), users={"ann": "pässword"}) as server:
        handler = logging.handlers.SMTPHandler(
            ("localhost", server.port), ANN, [BOB], "hello", credentials=("ann", "pässword"), secure=()
        )
        handler.handleError = failures.append  # type: ignore[method-assign]
        logger = logging.Logger("tests.smtplib_face")
        logger.addHandler(handler)
        logger.error("Something broke.")
        handler.close()
    assert not failures
    (message,) = server.messages
    assert (message.delivered, message.user, message.tls) == ([BOB], "ann", True)
    assert b"Something broke." in message.content


def test_a_program_that_calls_as_flask_mail_does() -> None:
    ours.install()
    with MailServer(users={"ann": "p"}, refuse={"eve@example.com": "550 5.1.1 none"}) as server:
        host = standard.SMTP("127.0.0.1", server.port)
        host.set_debuglevel(0)
        host.login("ann", "p")
        refused = host.sendmail(
            ANN, [BOB, "eve@example.com"], b"Subject: x\r\n\r\nHi.\r\n", ["BODY=8BITMIME"], []
        )
        host.quit()
    assert refused == {"eve@example.com": (550, b"5.1.1 none")}
    assert isinstance(host, ours.SMTP)
    assert server.messages[0].params["BODY"] == "8BITMIME"
