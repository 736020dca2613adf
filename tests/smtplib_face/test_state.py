"""What a connection is after something went wrong, and at its limits."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Event, MailServer, Stall

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"


def connected(server: MailServer) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=20)


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("verb", ["NOOP", "MAIL", "AUTH", "FINAL"])
def test_an_interrupt_closes_a_connection_that_is_half_read(verb: str) -> None:
    waiting = threading.Event()

    def verdict(event: Event) -> Stall | None:
        if event.verb != verb:
            return None
        waiting.set()
        return Stall(5)

    def interrupt(*_: object) -> None:
        raise Interrupt

    with MailServer(strict=False, users={"ann": "p"}, mechanisms=["PLAIN"], verdict=verdict) as server:
        smtp = connected(server)
        before = signal.signal(signal.SIGUSR1, interrupt)
        main = threading.main_thread().ident
        assert main is not None
        thread = threading.Thread(target=lambda: waiting.wait() and signal.pthread_kill(main, signal.SIGUSR1))
        thread.start()
        calls: dict[str, Callable[[], object]] = {"NOOP": smtp.noop, "AUTH": partial(smtp.login, "ann", "p")}
        try:
            with pytest.raises(Interrupt):
                calls.get(verb, partial(smtp.sendmail, ANN, BOB, OCTETS))()
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, before)
        assert smtp.sock is None
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()


@pytest.mark.parametrize("call", ["noop", "sendmail", "login"])
def test_a_socket_that_was_closed_behind_our_back(call: str) -> None:
    with MailServer(users={"ann": "p"}, mechanisms=["PLAIN"]) as server:
        smtp = connected(server)
        smtp.sendmail(ANN, BOB, OCTETS)
        assert smtp.sock is not None
        smtp.sock.close()
        calls = {"noop": (), "sendmail": (ANN, BOB, OCTETS), "login": ("ann", "p")}
        with pytest.raises(smtplib.SMTPServerDisconnected):
            getattr(smtp, call)(*calls[call])
        assert smtp.sock is None


def test_close_in_the_middle_of_a_block_ends_it_quietly() -> None:
    with MailServer() as server:
        with connected(server) as smtp:
            smtp.sendmail(ANN, BOB, OCTETS)
            smtp.close()
            smtp.close()
        with pytest.raises(smtplib.SMTPServerDisconnected, match="please run connect"):
            smtp.sendmail(ANN, BOB, OCTETS)


def test_an_object_connects_again() -> None:
    with MailServer() as server:
        smtp = connected(server)
        for _ in range(3):
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            smtp.quit()
            assert smtp.connect("127.0.0.1", server.port)[0] == 220
        smtp.quit()
    assert len(server.messages) == 3


def test_an_object_that_is_dropped_leaves_no_socket_open() -> None:
    def drop() -> None:
        connected(server).sendmail(ANN, BOB, OCTETS)
        gc.collect()

    with MailServer() as server, pytest.warns(ResourceWarning, match="unclosed"):
        drop()


@pytest.mark.parametrize("features", [[], ["PIPELINING"]], ids=["sequential", "pipelined"])
def test_more_recipients_than_fit_a_window(features: list[str]) -> None:
    many = [f"user{number}@example.com" for number in range(2500 if features else 300)]
    refuse = dict.fromkeys(many[::100], "550 5.1.1 none")
    with MailServer(extensions=features, refuse=refuse) as server, connected(server) as smtp:
        refused = smtp.sendmail(ANN, many, OCTETS)
        assert list(refused) == many[::100]
    assert len(server.messages[0].delivered) == len(many) - len(refuse)


def test_a_large_message() -> None:
    large = b"Subject: large\r\n\r\n" + b".a line that begins with a dot\r\n" * 200_000
    with MailServer() as server, connected(server) as smtp:
        assert smtp.sendmail(ANN, BOB, large) == {}
        assert smtp.sendmail(ANN, BOB, memoryview(large)) == {}
    assert [message.content == large for message in server.messages] == [True, True]


@pytest.mark.parametrize("message", [None, 7, ["Subject: x"], object()])
def test_what_is_no_message_is_no_message(message: Any) -> None:
    with MailServer() as server, connected(server) as smtp:
        with pytest.raises(TypeError):
            smtp.sendmail(ANN, BOB, message)
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}


def test_octets_of_nothing_are_refused_before_anything_is_sent() -> None:
    with MailServer() as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPNotSupportedError, match="NUL"):
            smtp.sendmail(ANN, BOB, b"Subject: x\r\n\r\n\0\r\n")
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.ledger.commands[0].count("MAIL") == 1


def test_many_objects_in_many_threads() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                with connected(server) as smtp:
                    for _ in range(5):
                        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        except BaseException as error:
            failures.append(error)

    with MailServer() as server:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(server.messages) == 200
