"""One deadline for each call, and what it does to the connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Drip, MailServer, Stall

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
LIMIT = 1.0


@contextlib.contextmanager
def ends_in_time() -> Iterator[None]:
    """Fail for a call that takes several times its limit."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < LIMIT * 5


@pytest.mark.parametrize("verb", ["NOOP", "EHLO", "MAIL", "RCPT", "DATA", "FINAL"])
@pytest.mark.parametrize("answer", [Stall(), Drip(0.3)], ids=["stalls", "drips"])
def test_no_server_outlives_the_deadline(verb: str, answer: Any) -> None:
    with MailServer(strict=False, replies={verb: answer}) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=LIMIT)
        call = smtp.noop if verb == "NOOP" else partial(smtp.sendmail, ANN, BOB, OCTETS)
        with ends_in_time(), pytest.raises(smtplib.SMTPServerDisconnected):
            call()
        assert smtp.sock is None


def test_the_deadline_is_for_all_of_a_log_in() -> None:
    with MailServer(users={"ann": "p"}, strict=False, replies={"AUTH": Drip(0.3)}) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=LIMIT)
        with ends_in_time(), pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.login("ann", "p")
        assert smtp.sock is None


def test_a_greeting_that_drips() -> None:
    with (
        MailServer(strict=False, replies={"CONNECT": Drip(0.3)}) as server,
        ends_in_time(),
        pytest.raises(smtplib.SMTPServerDisconnected),
    ):
        smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=LIMIT)


def test_a_server_that_takes_no_content() -> None:
    replies = {("BODY", 100_000): Stall()}
    with MailServer(strict=False, replies=replies, receive_buffer=4096) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=LIMIT)
        with ends_in_time(), pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, BOB, OCTETS + b"x" * 20_000_000)
        assert caught.value.unsent_recipients == (BOB,)  # type: ignore[attr-defined]


def test_a_user_may_change_the_timeout_of_the_socket() -> None:
    with MailServer(strict=False, replies={"NOOP": Stall(), "MAIL": Stall()}) as server:
        for call in (smtplib.SMTP.noop, lambda smtp: smtp.sendmail(ANN, BOB, OCTETS)):
            smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=60)
            assert smtp.sock is not None
            smtp.sock.settimeout(LIMIT)
            with ends_in_time(), pytest.raises(smtplib.SMTPServerDisconnected):
                call(smtp)


def test_the_socket_has_its_timeout_between_calls() -> None:
    with (
        MailServer(users={"ann": "p"}) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=7) as smtp,
    ):
        assert smtp.sock is not None
        for call in (
            smtp.noop,
            lambda: smtp.login("ann", "p"),
            lambda: smtp.sendmail(ANN, BOB, OCTETS),
        ):
            call()
            assert smtp.sock.gettimeout() == 7


def test_the_default_timeout_of_sockets_counts() -> None:
    before = socket.getdefaulttimeout()
    with MailServer(strict=False, replies={"NOOP": Stall()}) as server:
        socket.setdefaulttimeout(LIMIT)
        try:
            smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
            with ends_in_time(), pytest.raises(smtplib.SMTPServerDisconnected):
                smtp.noop()
        finally:
            socket.setdefaulttimeout(before)


@pytest.mark.parametrize("timeout", [0, 0.0, False])
def test_a_timeout_of_0_is_refused(timeout: float) -> None:
    for kind in (smtplib.SMTP, smtplib.SMTP_SSL, smtplib.LMTP):
        with pytest.raises(ValueError, match="timeout=0"):
            kind("127.0.0.1", 25, timeout=timeout)
    with pytest.raises(ValueError, match="timeout=0"):
        smtplib.LMTP("/no/such/socket", timeout=timeout)


def test_a_reply_without_end_is_not_kept() -> None:
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"220 mail.example\r\n")
            while not ended.is_set():
                peer.sendall(b"250-and so on\r\n" * 100)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            smtp = smtplib.SMTP("127.0.0.1", listener.getsockname()[1], "me.example", timeout=20)
            with pytest.raises(smtplib.SMTPServerDisconnected, match="octets"):
                smtp.noop()
        finally:
            ended.set()
            thread.join()
