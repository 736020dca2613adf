"""One connection, many threads, interrupts and forks (FAULTS 95 to 97, 99)."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import certs
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving
from support.verdicts import first

from pysmtpx import (
    ConnectError,
    ConnectionLost,
    DeliveryUnknown,
    SendResult,
    SmtpConnection,
    SmtpError,
    Timeout,
    UsageError,
    connect,
)
from pysmtpx.testing import Stall

TRANSPORTS = pytest.mark.parametrize("transport", ["clear", "implicit"])

# -- threads -----------------------------------------------------------------------------


@TRANSPORTS
def test_calls_of_many_threads_take_turns(transport: str) -> None:
    """FAULTS 97: the lock spans the transaction; the strict server judges every command."""
    with serving(transport) as server, dialled(server) as conn, ThreadPoolExecutor(8) as threads:
        bodies = [b"Subject: %d\r\n\r\n%s\r\n" % (i, b"z" * i * 10) for i in range(80)]
        jobs = [
            threads.submit(conn.send, SENDER, f"r{i}@x.example", body) if i % 4 else threads.submit(conn.noop)
            for i, body in enumerate(bodies)
        ]
        outcomes = [job.result() for job in jobs]
        assert all(isinstance(o, SendResult) for i, o in enumerate(outcomes) if i % 4)
        got = {message.addresses[0]: message.content for message in server.messages}
        assert got == {f"r{i}@x.example": body for i, body in enumerate(bodies) if i % 4}


class _Held:
    """Content that begins, and goes on when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"Subject: held\r\n\r\n"
        self.begun.set()
        assert self.go.wait(10)
        yield b"end\r\n"


@contextlib.contextmanager
def _busy(conn: SmtpConnection) -> Iterator[tuple[_Held, list[Any]]]:
    """The connection in the hands of another thread, in the middle of a message."""
    held, outcome = _Held(), list[Any]()
    thread = threading.Thread(target=lambda: outcome.append(attempt(conn.send, SENDER, RCPTS, iter(held))))
    thread.start()
    assert held.begun.wait(10)
    try:
        yield held, outcome
    finally:
        held.go.set()
        thread.join()


def test_the_wait_for_a_turn_counts_against_the_deadline() -> None:
    """FAULTS 62, 97: and the other thread's message is not touched."""
    with serving() as server, dialled(server) as conn:
        with _busy(conn) as (_, outcome):
            start = time.monotonic()
            for call in (conn.noop, lambda timeout: conn.send(SENDER, RCPTS, BODY, timeout=timeout)):
                error = attempt(call, timeout=0.1)
                assert type(error) is Timeout
                assert error.stage == "input"
                assert error.safe_to_retry
            assert 0.2 <= time.monotonic() - start < 0.5
            assert not conn.closed
        assert isinstance(outcome[0], SendResult)
        assert server.messages[0].content == b"Subject: held\r\n\r\nend\r\n"
        assert_kept(conn, server)


def test_a_call_that_waits_goes_on_when_the_turn_is_its_own() -> None:
    with serving() as server, dialled(server) as conn, ThreadPoolExecutor(1) as threads:
        with _busy(conn) as (held, _):
            job = threads.submit(conn.send, SENDER, RCPTS, BODY)
            held.go.set()
        assert isinstance(job.result(), SendResult)
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda conn: conn.noop(),
        lambda conn: conn.rset(),
        lambda conn: conn.verify("x"),
        lambda conn: conn.send(SENDER, RCPTS, BODY),
        lambda conn: conn.send_bdat(SENDER, RCPTS, BODY),
        lambda conn: conn.command("NOOP"),
        lambda conn: conn.send_message(b"From: s@x.example\r\nTo: a@x.example\r\n\r\nhi\r\n"),
    ],
)
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_a_call_from_within_a_call(call: Callable[[SmtpConnection], Any], method: str) -> None:
    """FAULTS 97: raises, does not deadlock, and what it was made from goes on."""
    seen: list[Any] = []

    def content(conn: SmtpConnection) -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n"
        seen.append(attempt(call, conn))
        yield b"end\r\n"

    with serving() as server, dialled(server) as conn:
        assert isinstance(attempt(getattr(conn, method), SENDER, RCPTS, content(conn)), SendResult)
        assert isinstance(seen[0], UsageError)
        assert_kept(conn, server)


@TRANSPORTS
@pytest.mark.parametrize("position", ["MAIL", "DATA", "FINAL"])
def test_close_wakes_a_call_of_another_thread(transport: str, position: str) -> None:
    """FAULTS 93: without a wait for any timeout, and with the truth about the message."""
    with serving(transport, verdict=first(**{position: Stall()}), strict=False) as server:
        conn = dialled(server)
        with ThreadPoolExecutor(1) as threads:
            job = threads.submit(send, conn)
            verb = "DATA" if position == "FINAL" else position
            assert server.ledger.wait_until(lambda: verb in server.ledger.connections[0].commands, 5) or True
            _until(lambda: verb in server.ledger.commands[0])
            start = time.monotonic()
            conn.close()
            error = job.result()
            assert time.monotonic() - start < 1
        assert isinstance(error, ConnectionLost | DeliveryUnknown)
        if position != "FINAL":
            assert type(error) is ConnectionLost
            assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


def _until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit
        os.sched_yield()


def test_close_while_another_thread_writes_content() -> None:
    """FAULTS 93: nobody has the half of a message."""
    with serving(strict=False) as server:
        conn = dialled(server)
        with _busy(conn) as (_, outcome):
            conn.close()
        assert type(outcome[0]) is ConnectionLost
        assert fates(outcome[0]) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)
    assert not server.messages
    assert not server.ledger.refused


def test_close_from_within_the_content() -> None:
    def content(conn: SmtpConnection) -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n" + b"z" * 900 + b"\r\n"
        conn.close()
        yield b"end\r\n"

    with serving(strict=False) as server:
        conn = dialled(server)
        error = attempt(conn.send, SENDER, RCPTS, content(conn))
        assert isinstance(error, ConnectionLost)
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)
    assert not server.messages


# -- interrupts -----------------------------------------------------------------------------


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
    with serving(transport, verdict=first(**{position: Stall()}), strict=False) as server:
        conn = dialled(server)
        with _interrupted_after(0.1), pytest.raises(KeyboardInterrupt) as caught:
            send(conn)
        assert_closed(conn)
        notes = getattr(caught.value, "__notes__", [])
        assert ("perhaps delivered" in "".join(notes)) == (position == "FINAL")


@contextlib.contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_while_we_wait_for_a_turn() -> None:
    """FAULTS 96: the other thread's message is not touched."""
    with serving() as server, dialled(server) as conn:
        with _busy(conn) as (_, outcome), _interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
            conn.noop()
        assert isinstance(outcome[0], SendResult)
        assert_kept(conn, server)


@pytest.mark.parametrize("tls", ["none", "implicit", "starttls"])
def test_an_interrupt_while_we_connect(tls: str) -> None:
    """FAULTS 96, 99: no socket is left behind."""

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.greet("STARTTLS")
            peer.expect("STARTTLS")
            peer.say(b"220 go\r\n")
        peer.hold()

    with ScriptedServer(script) as server:
        with _interrupted_after(0.1), pytest.raises(KeyboardInterrupt):
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
        with _busy(conn) as (_, outcome):
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


# -- descriptors ---------------------------------------------------------------------------------------


@TRANSPORTS
def test_a_descriptor_over_1023(transport: str) -> None:
    """FAULTS 99: select() would fail on it, or write beyond its set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this machine allows no descriptor over 1023")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    files = []
    try:
        while not files or files[-1] < 1040:
            files.append(os.open(os.devnull, os.O_RDONLY))
        with serving(transport) as server, dialled(server) as conn:
            assert conn._channel._stream._sock.fileno() > 1023
            assert_kept(conn, server)
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _scripts() -> dict[str, tuple[Callable[[Peer], None], dict[str, Any]]]:
    def starttls(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.expect("STARTTLS")
        peer.say(b"220 go\r\n")

    trusting = {"ssl_context": certs.client_context()}
    return {
        "refused": (lambda peer: peer.say(b"554 no\r\n"), {}),
        "gone": (lambda peer: None, {}),
        "garbage": (lambda peer: peer.say(b"\x15\x03\x03\x00\x02\x02\x46"), {}),
        "silent": (lambda peer: peer.hold(), {"connect_timeout": 0.1}),
        "no TLS": (lambda peer: peer.say(b"220 hi\r\n"), {"tls": "implicit", **trusting}),
        "TLS that stalls": (
            lambda peer: peer.hold(),
            {"tls": "implicit", "connect_timeout": 0.1, **trusting},
        ),
        "STARTTLS that ends": (starttls, {"tls": "starttls", **trusting}),
        "no AUTH": (lambda peer: peer.greet(), {"username": "u", "password": "p"}),
    }


@pytest.mark.parametrize("name", _scripts())
def test_a_connect_that_fails_leaves_no_socket(name: str) -> None:
    """FAULTS 99."""
    script, options = _scripts()[name]
    with ScriptedServer(script) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert isinstance(attempt(server.connect, **options), SmtpError)
        gc.collect()
        assert [str(w.message) for w in caught] == []


def test_a_connection_that_is_dropped_warns_and_does_no_more(recwarn: Any) -> None:
    """FAULTS 99: no I/O in a finalizer; the socket's own warning says what was forgotten."""
    with serving() as server:
        conn = dialled(server)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del conn
            gc.collect()
        assert any(issubclass(w.category, ResourceWarning) for w in caught)
        _until(lambda: server.ledger.connections[0].ending == "eof")
    assert server.ledger.commands == [["EHLO"]]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_end_of_a_with_block(error: type[BaseException] | None) -> None:
    """QUIT where there is time for it; an interrupt closes at once."""
    with serving() as server:
        with contextlib.suppress(ValueError, KeyboardInterrupt), dialled(server) as conn:
            if error is not None:
                raise error
        assert conn.closed
        _until(lambda: bool(server.ledger.connections[0].ending))
    assert server.ledger.commands == [["EHLO"] if error is KeyboardInterrupt else ["EHLO", "QUIT"]]


def test_connect_that_cannot_bind_leaves_no_socket() -> None:
    """FAULTS 99."""
    with ScriptedServer(lambda peer: None) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            error = attempt(
                connect, "127.0.0.1", server.port, source_address=("127.0.0.1", taken.getsockname()[1])
            )
            gc.collect()
            assert [str(w.message) for w in caught] == []
        assert isinstance(error, ConnectError)
