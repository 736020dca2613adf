"""Interrupts and forks in the middle of a call (FAULTS 95, 96)."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.busy import busy
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, send
from support.patience import LONG
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving
from support.verdicts import first

from pysmtpx import (
    ConnectionLost,
    DeliveryUnknown,
    SendResult,
    SmtpConnection,
    UsageError,
)
from pysmtpx.flow.effects import CLOSE, Flow
from pysmtpx.testing import Event, Stall

TRANSPORTS = pytest.mark.parametrize("transport", ["clear", "implicit"])


class Cancelled(BaseException):
    """What gevent and Celery throw into a task whose time is up."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Cancelled, GeneratorExit])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
@pytest.mark.parametrize("chunks", [0, 300])
def test_an_interrupt_within_the_content(kind: type[BaseException], method: str, chunks: int) -> None:
    """FAULTS 96: the connection is closed, the interrupt is the caller's, later calls say so."""

    def content() -> Iterator[bytes]:
        for _ in range(chunks):
            yield b"z" * 998 + b"\r\n"
        raise kind

    with serving(strict=False) as server:
        conn = dialled(server)
        with pytest.raises(kind):
            getattr(conn, method)(SENDER, RCPTS, content())
        assert_closed(conn)
        assert kind.__name__ in str(attempt(conn.noop))
    assert not server.messages
    assert not server.ledger.refused


@TRANSPORTS
@pytest.mark.parametrize("position", ["MAIL", "DATA", "FINAL"])
def test_an_interrupt_by_a_signal_while_we_wait(transport: str, position: str) -> None:
    """FAULTS 96: after the end of data the interrupt carries a note that the message may be delivered."""
    with serving(transport, verdict=_stalls(position), strict=False) as server:
        conn = dialled(server)
        with _interrupted(), pytest.raises(KeyboardInterrupt) as caught:
            send(conn)
        assert_closed(conn)
        notes = getattr(caught.value, "__notes__", [])
        assert ("perhaps delivered" in "".join(notes)) == (position == "FINAL")


@TRANSPORTS
@pytest.mark.parametrize("position", ["MAIL", "DATA", "FINAL"])
def test_a_handler_of_a_signal_that_closes_the_connection_we_wait_for(transport: str, position: str) -> None:
    """FAULTS 93: the wait ends at once, also where the number of the descriptor is another file's by then."""
    others: list[socket.socket] = []

    def close() -> None:
        conn.close()
        for _ in range(4):
            others.extend(socket.socketpair())

    with serving(transport, verdict=_stalls(position), strict=False) as server:
        conn = dialled(server)
        with _interrupted(close):
            error = attempt(send, conn, timeout=LONG)
        for other in others:
            other.close()
        if position == "FINAL":
            assert isinstance(error, DeliveryUnknown)
            error = error.__cause__
        assert isinstance(error, ConnectionLost)
        assert "close() was called" in str(error)
        assert_closed(conn)


def test_an_interrupt_of_what_an_interrupt_does_is_not_lost() -> None:
    """FAULTS 96: the second Ctrl-C, or the alarm behind the first, is the caller's as well."""

    class Second(BaseException):
        pass

    def flow() -> Flow[None]:
        try:
            yield CLOSE
        except KeyboardInterrupt:
            raise Second from None

    with serving() as server:
        conn = dialled(server)
        waiting = flow()
        next(waiting)
        with pytest.raises(Second):
            conn._channel._driver._left(waiting, KeyboardInterrupt())
        assert_closed(conn)


def _stalls(position: str) -> Any:
    """A verdict: there is no answer there, and a moment later the alarm comes."""
    answers = first(**{position: Stall()})

    def verdict(event: Event) -> Any:
        answer = answers(event)
        if answer is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        return answer

    return verdict


@contextlib.contextmanager
def _interrupted(action: Callable[[], None] | None = None, *, after: float = 0) -> Iterator[None]:
    """What an alarm does, and when it comes, if not by the server's verdict."""

    def interrupt(number: int, frame: object) -> None:
        if action is None:
            raise KeyboardInterrupt
        action()

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_while_we_wait_for_a_turn() -> None:
    """FAULTS 96: the other thread's message is not touched."""
    with serving() as server, dialled(server) as conn:
        with busy(conn) as (_, outcome), _interrupted(after=0.1), pytest.raises(KeyboardInterrupt):
            conn.noop()
        assert isinstance(outcome[0], SendResult)
        assert_kept(conn, server)


@pytest.mark.parametrize("tls", ["none", "implicit", "starttls"])
def test_an_interrupt_while_we_connect(tls: str) -> None:
    """FAULTS 96, 99: no socket is left behind."""

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
        peer.hold()

    with ScriptedServer(script) as server:
        with _interrupted(after=0.1), pytest.raises(KeyboardInterrupt):
            server.connect(tls=tls)
        gc.collect()  # a socket that was left open would warn here


def test_a_signal_that_interrupts_nothing_does_not_end_a_call() -> None:
    """A handler that returns: the wait goes on (PEP 475)."""
    hits: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    try:
        with serving(replies={"NOOP": Stall(seconds=0.2)}) as server, dialled(server) as conn:
            signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
            assert conn.noop().code == 250
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert_kept(conn, server)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits


# -- fork -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("transport", ["clear", "implicit", "starttls"])
def test_a_child_cannot_use_its_parents_connection(transport: str) -> None:
    """FAULTS 95: two processes on one TLS session corrupt it for both."""
    with serving(transport) as server, dialled(server) as conn:
        before = [len(commands) for commands in server.ledger.commands]
        assert _in_child(lambda: _all_refuse(conn)) == 0
        assert [len(commands) for commands in server.ledger.commands] == before
        assert_kept(conn, server)
        assert_kept(conn, server)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_in_mid_send_is_refused_too() -> None:
    """FAULTS 95: the lock is held at the moment of the fork, by a thread that the child does not have."""
    with serving("implicit") as server, dialled(server) as conn:
        with busy(conn) as (_, outcome):
            assert _in_child(lambda: _all_refuse(conn)) == 0
        assert isinstance(outcome[0], SendResult)
        assert_kept(conn, server)


def _all_refuse(conn: SmtpConnection) -> None:
    for call in (
        conn.noop,
        conn.rset,
        conn.help,
        lambda: conn.verify("x"),
        lambda: conn.expand("x"),
        lambda: conn.command("NOOP"),
        lambda: conn.send(SENDER, RCPTS, BODY),
        lambda: conn.send_bdat(SENDER, RCPTS, BODY),
        lambda: conn.send_message(b"From: s@x.example\r\nTo: a@x.example\r\n\r\nhi\r\n"),
    ):
        assert isinstance(attempt(call), UsageError)
    conn.quit()  # silently: the descriptor alone goes
    assert conn.closed


def _in_child(check: Callable[[], None]) -> int:
    """Run a check in a forked child; 0 where it holds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            check()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
