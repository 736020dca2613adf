"""FAULTS group F as a caller sees it: whatever a server does with time, a call ends when it must."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import certs
from support.daemon import CLOSED_PORT
from support.fates import BODY, RCPTS, SENDER, assert_closed, attempt, fates, send
from support.patience import ENOUGH, at_best, on_time
from support.scripted import Peer, ScriptedServer
from support.transports import SEQUENTIAL, dialled, serving
from support.verdicts import first

from pysmtpx import (
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    SendResult,
    SmtpError,
    Timeout,
    connect,
)
from pysmtpx.net import stream
from pysmtpx.testing import EXTENSIONS, Drip, Stall
from pysmtpx.wire import limits
from pysmtpx.wire.limits import REPLY_LIMITS, Stage

LONG = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 200_000
GIVEN = 0.6


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the limit of a stage a tenth of a second, or that of a block of content a quarter."""

    def shorten(*stages: Stage, block: float = 0.25) -> None:
        for stage in stages:
            monkeypatch.setitem(REPLY_LIMITS, stage, 0.1)
        if not stages:
            monkeypatch.setattr(stream, "BLOCK_LIMIT", block)

    return shorten


def _octets(peer: Peer) -> None:
    """An octet of an endless reply each 20 ms."""
    while not peer._stopping.wait(0.02):
        peer.say(b"x")


def _lines(peer: Peer) -> None:
    while not peer._stopping.wait(0.02):
        peer.say(b"250-more\r\n")


def _greeting_drips(peer: Peer) -> None:
    peer.say(b"220 ")
    _octets(peer)


def _ehlo_drips(peer: Peer) -> None:
    peer.say(b"220 hi\r\n")
    peer.expect("EHLO")
    _lines(peer)


def _silent(peer: Peer) -> None:
    peer.hold()


def _timed(call: Callable[[], Any], seconds: float = GIVEN) -> SmtpError:
    """The error of a call that must end at its deadline, and within 5 % of it."""
    start = time.monotonic()
    error = attempt(call)
    on_time(start, time.monotonic(), seconds, late=seconds * 0.05)
    assert isinstance(error, SmtpError)
    return error


@at_best
@pytest.mark.parametrize("script", [_silent, _greeting_drips, _ehlo_drips])
def test_connect_ends_at_its_deadline(script: Any) -> None:
    """FAULTS 3, 59, 62: one deadline for the whole of it, not one for each octet."""
    with ScriptedServer(script) as server:
        error = _timed(lambda: server.connect(connect_timeout=GIVEN))
        assert type(error) is Timeout
        assert isinstance(error, TimeoutError)
        assert error.temporary
        assert error.safe_to_retry


@at_best
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_handshake_that_stalls_ends_at_the_deadline(tls: str) -> None:
    """FAULTS 59, 62."""

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
        peer.hold()

    with ScriptedServer(script) as server:
        error = _timed(lambda: server.connect(tls=tls, connect_timeout=GIVEN))
        assert type(error) is Timeout


@at_best
@pytest.mark.parametrize("position", ["RCPT1", "FINAL"])
@pytest.mark.parametrize("fault", [Drip(0.02, reply="250 " + "x" * 500), Stall()], ids=["drip", "stall"])
@pytest.mark.parametrize("transport", ["clear", "implicit"])
def test_send_ends_at_its_deadline(transport: str, fault: Any, position: str) -> None:
    """FAULTS 31, 42, 59: unsent before the end of data, unknown after it."""
    with serving(
        transport, extensions=SEQUENTIAL, verdict=first(**{position: fault}), strict=False
    ) as server:
        conn = dialled(server)
        error = _timed(lambda: _raise(send(conn, timeout=ENOUGH)), ENOUGH)
        if position == "FINAL":
            assert isinstance(error, DeliveryUnknown)
            assert isinstance(error.__cause__, Timeout)
            assert fates(error) == dict.fromkeys(RCPTS, "unknown")
        else:
            assert type(error) is Timeout
            assert error.stage == position.rstrip("1").lower()
            assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


def _raise(outcome: Any) -> Any:
    if isinstance(outcome, SmtpError):
        raise outcome
    return outcome


@at_best
@pytest.mark.parametrize("method", ["noop", "rset"])
def test_a_single_command_ends_at_its_deadline(method: str) -> None:
    """FAULTS 59."""
    with serving(replies={method.upper(): Stall()}, strict=False) as server:
        conn = dialled(server)
        assert type(_timed(lambda: getattr(conn, method)(timeout=GIVEN))) is Timeout
        assert_closed(conn)


# -- the limit of each reply ---------------------------------------------------------------


def test_the_limits_are_those_of_the_rfc() -> None:
    """FAULTS 62 (RFC 5321 4.5.3.2): a short final limit would manufacture doubt."""
    assert {stage.value: seconds for stage, seconds in REPLY_LIMITS.items()} == {
        "greeting": 300,
        "hello": 300,
        "starttls": 300,
        "auth": 300,
        "mail": 300,
        "rcpt": 300,
        "data": 120,
        "content": 180,
        "final": 600,
        "command": 300,
        "rset": 20,
        "quit": 5,
    }
    assert (limits.CONNECT_TIMEOUT, limits.SEND_TIMEOUT, limits.BLOCK_LIMIT) == (30, 600, 180)


@pytest.mark.parametrize("position", ["MAIL", "RCPT1", "DATA", "FINAL"])
@pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])
def test_each_reply_has_a_limit_under_the_deadline(position: str, extensions: Any, short: Any) -> None:
    """FAULTS 62: also where the caller gave no deadline at all."""
    stage = Stage(position.rstrip("1").lower())
    short(stage)
    with serving(extensions=extensions, verdict=first(**{position: Stall()}), strict=False) as server:
        conn = dialled(server)
        error = send(conn, timeout=None)
        assert type(error) is (DeliveryUnknown if position == "FINAL" else Timeout)
        assert error.stage == stage
        assert_closed(conn)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5", True])
def test_a_timeout_is_a_positive_number(seconds: Any) -> None:
    with serving() as server, dialled(server) as conn:
        for call in (conn.noop, lambda timeout: conn.send(SENDER, RCPTS, BODY, timeout=timeout)):
            with pytest.raises(InputError):
                call(timeout=seconds)
        assert server.ledger.commands == [["EHLO"]]


def test_a_reset_that_is_not_answered_ends_and_keeps_the_first_error(short: Any) -> None:
    """FAULTS 33, 62."""
    short(Stage.RSET)
    with serving(verdict=first(DATA="554 no", RSET=Stall()), strict=False) as server:
        conn = dialled(server)
        error = send(conn, timeout=None)
        assert isinstance(error, DataRejected)
        assert fates(error) == dict.fromkeys(RCPTS, "rejected 554 data")
        assert_closed(conn)


def test_a_late_reply_is_never_read() -> None:
    """FAULTS 32: a reply that comes after our timeout would answer the next command."""
    with serving(verdict=first(FINAL=Stall(seconds=2 * ENOUGH)), strict=False) as server:
        conn = dialled(server)
        error = send(conn, timeout=ENOUGH)
        assert isinstance(error, DeliveryUnknown)
        assert_closed(conn)
        server.wait_for(1)  # it had the message all the while
        assert_closed(conn)
    assert server.ledger.commands[0][-1] == "DATA"


# -- writing ---------------------------------------------------------------------------------


def _takes_no_content(peer: Peer) -> None:
    peer.greet("SIZE", "CHUNKING")
    peer.envelope()
    peer.hold()


def _takes_no_chunk(peer: Peer) -> None:
    peer.greet("SIZE", "CHUNKING")
    peer.envelope(data=False)
    peer.hold()


def _takes_ten_octets_at_a_time(peer: Peer) -> None:
    peer.greet("SIZE")
    peer.envelope()
    while not peer._stopping.wait(0.02) and peer.sock.recv(10):
        pass


@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("script", [_takes_no_content, _takes_ten_octets_at_a_time, _takes_no_chunk])
def test_a_server_that_stops_reading_is_given_up(script: Any, tls: str, short: Any) -> None:
    """FAULTS 53, 60: a closed window, or a trickle, that the kernel alone would wait for for ever."""
    short()
    context = certs.server_context() if tls == "implicit" else None
    with ScriptedServer(script, tls=context, buffer=16 * 1024) as server:
        conn = server.connect(tls=tls, ssl_context=certs.client_context() if context else None)
        call = conn.send_bdat if script is _takes_no_chunk else conn.send
        start = time.monotonic()
        error = attempt(call, SENDER, RCPTS[0], LONG, timeout=None)
        assert time.monotonic() - start < 10
        assert type(error) is Timeout
        assert error.stage == "content"
        assert fates(error) == {RCPTS[0]: "unsent"}
        assert_closed(conn)


@at_best
@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_a_server_that_stops_reading_is_given_up_at_the_deadline(tls: str) -> None:
    """FAULTS 60."""
    context = certs.server_context() if tls == "implicit" else None
    with ScriptedServer(_takes_no_content, tls=context, buffer=16 * 1024) as server:
        conn = server.connect(tls=tls, ssl_context=certs.client_context() if context else None)
        error = _timed(lambda: conn.send(SENDER, RCPTS[0], LONG, timeout=GIVEN))
        assert type(error) is Timeout
        assert_closed(conn)


def test_the_slowest_server_that_is_waited_for_takes_500_octets_a_second() -> None:
    """FAULTS 60."""
    assert stream._block_limit(limits.SLICE) == pytest.approx(limits.SLICE / 500)
    assert stream._block_limit(10 * limits.SLICE) == 180
    assert stream._block_limit(1) == 30


@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_steady_progress_outlives_the_limit_of_a_block(tls: str, short: Any) -> None:
    """FAULTS 61: the limit is for 64 KiB, not for the whole message."""
    short(block=1.0)
    elapsed: list[float] = []

    def script(peer: Peer) -> None:
        peer.greet("SIZE")
        peer.envelope()
        start = time.monotonic()
        tail = b""
        while not tail.endswith(b"\r\n.\r\n"):
            peer._stopping.wait(0.005)
            tail = (tail + peer.sock.recv(64 * 1024))[-5:]
        elapsed.append(time.monotonic() - start)
        peer.say(b"250 ok\r\n")
        peer.quit()

    context = certs.server_context() if tls == "implicit" else None
    options = {"tls": tls, "ssl_context": certs.client_context() if context else None}
    slow = ScriptedServer(script, tls=context, buffer=16 * 1024)
    with slow as server, server.connect(**options) as conn:
        assert isinstance(conn.send(SENDER, RCPTS[0], LONG[:5_000_000]), SendResult)
    assert elapsed[0] > stream.BLOCK_LIMIT


# -- a call that is slow itself ------------------------------------------------------------------


def test_content_that_stalls_counts_against_the_deadline() -> None:
    """FAULTS 35: what comes of the caller's own iterator after the deadline is not sent."""

    def slow() -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n" + b"z" * 900 + b"\r\n"
        for _ in range(200):
            yield b"z" * 998 + b"\r\n"
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        yield b"z" * 998 + b"\r\n"

    with serving(strict=False) as server:
        conn = dialled(server)
        error = attempt(conn.send, SENDER, RCPTS, slow(), timeout=0.2)
        assert isinstance(error, Timeout | DeliveryUnknown)
        if isinstance(error, Timeout):
            assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


def test_connect_refuses_a_port_that_nobody_listens_on_at_once() -> None:
    start = time.monotonic()
    error = attempt(connect, "127.0.0.1", CLOSED_PORT)
    assert time.monotonic() - start < 2
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, ConnectionLost)
