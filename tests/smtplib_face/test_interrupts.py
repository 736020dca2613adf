"""An interrupt at any line of a call: afterwards the object is closed or in step, never in between."""

from __future__ import annotations

import contextlib
import itertools
import signal
import smtplib as standard
import sys
import threading
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from support.interrupts import interrupted

import pysmtpx.smtplib as smtplib
from pysmtpx.drop_in.commands import one_call
from pysmtpx.testing import Event, MailServer, Stall

pytestmark = pytest.mark.slow

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
MESSAGE = EmailMessage()
MESSAGE["From"], MESSAGE["To"] = ANN, BOB
MESSAGE.set_content("Hi.\n")


class Stepwise(smtplib.SMTP):
    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


CALLS: dict[str, Callable[[smtplib.SMTP], object]] = {
    "noop": lambda smtp: smtp.noop(),
    "ehlo": lambda smtp: smtp.ehlo(),
    "verify": lambda smtp: smtp.verify(BOB),
    "transaction": lambda smtp: (smtp.mail(ANN), smtp.rcpt(BOB), smtp.data(OCTETS)),
    "sendmail": lambda smtp: smtp.sendmail(ANN, [BOB, EVE], OCTETS),
    "send_message": lambda smtp: smtp.send_message(MESSAGE),
    "login": lambda smtp: smtp.login("ann", "p"),
    "auth": lambda smtp: smtp.auth("LOGIN", smtp.auth_plain),
}


def files() -> set[str]:
    names = [name for name in sys.modules if name.startswith("pysmtpx.drop_in.")]
    modules = [sys.modules[name] for name in ("smtplib", "pysmtpx.smtplib", "pysmtpx.driver", *names)]
    return {module.__file__ or "" for module in modules}


def echo(event: Event) -> str | None:
    return f"252 2.5.2 {event.address}" if event.verb == "EXPN" else None


@pytest.mark.parametrize("kind", [smtplib.SMTP, Stepwise])
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_line(name: str, kind: type[smtplib.SMTP]) -> None:
    users = {"ann": "p"}
    with MailServer(strict=False, users=users, mechanisms=["PLAIN", "LOGIN"], verdict=echo) as server:
        for place in itertools.count(1):
            smtp = kind("127.0.0.1", server.port, "me.example", timeout=20)
            smtp.ehlo()
            smtp.user, smtp.password = "ann", "p"

            def call(smtp: smtplib.SMTP = smtp) -> None:
                with contextlib.suppress(standard.SMTPException):
                    CALLS[name](smtp)

            came = interrupted(place, files(), call)
            if smtp.sock is not None:
                assert smtp.sock.gettimeout() == 20, place
                assert smtp.expn(str(place)) == (252, b"2.5.2 %d" % place)
            smtp.close()
            assert smtp.connect("127.0.0.1", server.port)[0] == 220
            smtp.close()
            if not came:
                break
    assert place > 20


class Limit(Exception):
    """As a task queue raises it from a signal handler."""


STAGES = {
    "noop": "NOOP",
    "ehlo": "EHLO",
    "verify": "VRFY",
    "transaction": "RCPT",
    "sendmail": "RCPT",
    "send_message": "FINAL",
    "login": "AUTH",
    "auth": "AUTH",
}


@pytest.mark.parametrize("name", CALLS)
def test_an_exception_of_a_signal_handler(name: str) -> None:
    waiting = threading.Event()
    armed: list[bool] = []

    def verdict(event: Event) -> Stall | None:
        if event.verb != STAGES[name] or not armed:
            return None
        waiting.set()
        return Stall(5)

    def interrupt(*_: object) -> None:
        raise Limit

    users = {"ann": "p"}
    with MailServer(strict=False, users=users, mechanisms=["PLAIN", "LOGIN"], verdict=verdict) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=20)
        smtp.ehlo()
        smtp.user, smtp.password = "ann", "p"
        armed.append(True)
        before = signal.signal(signal.SIGUSR1, interrupt)
        main = threading.main_thread().ident
        assert main is not None
        thread = threading.Thread(target=lambda: waiting.wait() and signal.pthread_kill(main, signal.SIGUSR1))
        thread.start()
        try:
            with pytest.raises(Limit):
                CALLS[name](smtp)
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, before)
        assert smtp.sock is None


def test_an_authobject_that_raises_leaves_no_log_in_half_done() -> None:
    class OutOfTokens(Exception):
        pass

    def at_the_challenge(challenge: bytes | None = None) -> None:
        if challenge is not None:
            raise OutOfTokens

    def at_once(challenge: bytes | None = None) -> str:
        raise OutOfTokens

    with MailServer(users={"ann": "p"}, mechanisms=["LOGIN"]) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
        smtp.ehlo()
        with pytest.raises(OutOfTokens):
            smtp.auth("LOGIN", at_once)
        assert smtp.noop()[0] == 250
        with pytest.raises(OutOfTokens):
            smtp.auth("LOGIN", at_the_challenge)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()


def test_an_argument_that_is_refused_costs_no_connection() -> None:
    with MailServer() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        smtp.putcmd("noop")
        for wrong in ("a\nb", "bücher"):
            with pytest.raises(ValueError, match=r"newline|codec"):
                smtp.docmd(wrong)
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.starttls()
        assert smtp.getreply()[0] == 250
        wrong_message: Any = None
        with pytest.raises(TypeError):
            smtp.sendmail(ANN, BOB, wrong_message)
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}


def test_calls_of_two_threads_that_overlap_leave_no_deadline_behind() -> None:
    @one_call
    def held(_: smtplib.SMTP, begun: threading.Event, may_end: threading.Event) -> None:
        begun.set()
        may_end.wait(20)

    smtp = smtplib.SMTP()
    calls = []
    for _ in range(2):
        begun, may_end = threading.Event(), threading.Event()
        thread = threading.Thread(target=held, args=(smtp, begun, may_end))
        thread.start()
        assert begun.wait(20)
        calls.append((thread, may_end))
    for thread, may_end in calls:
        may_end.set()
        thread.join()
    assert smtp._deadline is None
