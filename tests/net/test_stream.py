"""Octets in, replies out, over a socket of each kind."""

from __future__ import annotations

import socket
import ssl
import statistics
import struct
import threading
import time
from typing import Any

import pytest
from support.lines import SOON, Line, secured, stream_over, tcp
from support.patience import ENOUGH

from pysmtpx.errors import ConnectionLost, ProtocolError, ServiceUnavailable, Timeout
from pysmtpx.flow.effects import WITHHELD
from pysmtpx.net import stream as streams
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.wait import READ

# -- reading -------------------------------------------------------------------------------


def test_octet_by_octet(line: Line) -> None:
    """FAULTS 1."""
    for octet in b"250-one\r\n250 two\r\n":
        line.peer.sendall(bytes([octet]))
    assert line.reply().lines == (b"one", b"two")


def test_replies_wait_for_their_turn(line: Line) -> None:
    """FAULTS 9: only the last reply that is owed must leave nothing behind."""
    line.peer.sendall(b"250 one\r\n250 two\r\n250 three\r\n")
    assert line.reply(last=False).lines == (b"one",)
    with pytest.raises(ProtocolError, match="more than was owed"):
        line.reply()


def test_a_wait_that_ended_loses_nothing(line: Line) -> None:
    """FAULTS 65: a file over a socket is unusable after a timeout; here the octets stay."""
    line.peer.sendall(b"250-first\r\n25")
    with pytest.raises(Timeout):
        line.stream.receive(Deadline.after(0.05), SOON)
    with pytest.raises(Timeout):
        line.stream.receive(Deadline.after(SOON), 0.05)
    line.peer.sendall(b"0 last\r\n")
    assert line.reply().lines == (b"first", b"last")


def test_a_drip_does_not_extend_the_limit(line: Line) -> None:
    """FAULTS 59."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.01):
            line.peer.sendall(b"2")
            line.peer.sendall(b"50-x\r\n")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        start = time.monotonic()
        with pytest.raises(Timeout):
            line.stream.receive(Deadline.after(SOON), 0.2)
        assert 0.2 <= time.monotonic() - start < SOON
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("half", [b"", b"25", b"250-x\r\n", b"250 x"])
def test_the_end_within_a_reply(half: bytes, line: Line) -> None:
    """FAULTS 2, 3, 71: TLS without close_notify included."""
    line.peer.sendall(half)
    socket.socket.shutdown(line.peer, socket.SHUT_WR)
    with pytest.raises(ConnectionLost, match="closed the connection"):
        line.reply()
    with pytest.raises(ConnectionLost):
        line.reply()


def test_the_end_after_a_reply(line: Line) -> None:
    """FAULTS 71: the reply outranks it."""
    line.peer.sendall(b"250 ok\r\n")
    socket.socket.shutdown(line.peer, socket.SHUT_WR)
    assert line.reply().code == 250
    with pytest.raises(ConnectionLost):
        line.reply()


def test_a_flood_that_nobody_asked_for_is_bounded(line: Line, monkeypatch: Any) -> None:
    """FAULTS 10, 11: also while we write."""
    monkeypatch.setattr("pysmtpx.wire.parser.MAX_BACKLOG", 100_000)
    flood = threading.Thread(target=_flood, args=(line.peer,))
    flood.start()
    assert line.send(b"x" * 50_000_000)
    with pytest.raises(ProtocolError):
        [line.reply(last=False) for _ in range(100)]  # what fits is handed out before
    line.stream.close()
    flood.join()


def _flood(peer: socket.socket) -> None:
    try:
        while True:
            peer.sendall(b"250 " + b"x" * 4000 + b"\r\n")
    except OSError:
        return


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 65_536, 3_000_001])
@pytest.mark.parametrize("view", [False, True])
def test_every_octet_arrives_in_order(size: int, view: bool, line: Line) -> None:
    data = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    data = data[:size]
    got = bytearray()

    def read() -> None:
        while len(got) < size:
            got.extend(line.peer.recv(10_000))

    thread = threading.Thread(target=read)
    thread.start()
    assert not line.send(memoryview(data) if view else data)  # type: ignore[arg-type]
    thread.join()
    assert bytes(got) == data


def test_what_is_said_while_we_write_is_kept(line: Line) -> None:
    """FAULTS 44: and the write goes on."""
    size = 20_000_000
    count: list[int] = []

    def serve() -> None:
        for _ in range(1000):
            line.peer.sendall(b"250 " + b"x" * 500 + b"\r\n")
        left = size
        while left:
            left -= len(line.peer.recv(min(left, 65_536)))
        count.append(size)

    thread = threading.Thread(target=serve)
    thread.start()
    line.send(b"z" * size)
    thread.join()
    assert count == [size]
    assert [line.reply(last=i == 999).code for i in range(1000)] == [250] * 1000


def test_watch_stops_a_write_at_the_first_word(line: Line) -> None:
    """FAULTS 27."""
    line.peer.sendall(b"552 enough\r\n")
    line.arrived()
    start = time.monotonic()
    assert line.send(b"z" * 50_000_000, watch=True)
    assert time.monotonic() - start < 2
    assert line.reply().code == 552


def test_watch_sees_what_came_behind_an_unblocked_write(line: Line) -> None:
    """FAULTS 27."""
    assert not line.send(b"z", watch=True)
    line.peer.sendall(b"552 enough\r\n")
    line.arrived()
    assert line.send(b"z", watch=True)


@pytest.mark.parametrize("word", [b"", b"421 bye\r\n"])
def test_a_write_to_a_peer_that_has_reset(word: bytes, line: Line) -> None:
    """FAULTS 27, 29: the write does not raise; the reply that explains it is read, or the loss."""
    line.peer.sendall(word)
    if line.peer.family == socket.AF_INET:
        line.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.peer.close()
    assert line.send(b"z" * 20_000_000)
    if word:
        assert line.reply().code == 421
    with pytest.raises(ConnectionLost):
        line.reply()
    assert line.send(b"more") == WITHHELD


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_write_that_nobody_takes(is_slow: bool, line: Line, monkeypatch: Any) -> None:
    """FAULTS 60."""
    data = b"z" * 50_000_000
    limit = Deadline.after(ENOUGH)
    if is_slow:
        limit = Deadline.after(None)
        monkeypatch.setattr(streams, "BLOCK_LIMIT", 0.5)
    assert line.stream.send(data, limit)
    assert 0 < line.stream.short < 50_000_000
    assert line.stream.send(b"more", Deadline.after(None)) == WITHHELD
    with pytest.raises(Timeout, match="stopped reading"):
        line.reply()


class Over(Deadline):
    """Its time is over when it is first asked, and in that moment the server speaks."""

    def __init__(self, line: Line) -> None:
        super().__init__(0.0)
        self.line = line

    def within(self, seconds: float) -> Deadline:
        return self

    def remaining(self) -> float:
        self.line.peer.sendall(SAID)
        self.line.arrived()
        return -1.0


SAID = b"250 kept\r\n552 enough\r\n"


@pytest.mark.parametrize("is_late", [False, True])
def test_what_was_said_before_a_write_that_nobody_takes(is_late: bool, line: Line) -> None:
    """FAULTS 27, 60: it outranks the end of our patience, and is handed out first."""
    if is_late:
        limit: Deadline = Over(line)
    else:
        line.peer.sendall(SAID)
        line.arrived()
        limit = Deadline.after(0.1)
    assert line.stream.send(b"z" * 50_000_000, limit)
    assert [line.reply(last=False).code, line.reply().code] == [250, 552]
    with pytest.raises(Timeout, match="stopped reading"):
        line.reply()


def test_steady_progress_outlives_the_limit_of_a_block(line: Line, monkeypatch: Any) -> None:
    """FAULTS 61: each 64 KiB has the limit to itself, also within one long write."""
    monkeypatch.setattr(streams, "BLOCK_LIMIT", 1.0)
    line.stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    line.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    size = 6_000_000
    stop = threading.Event()

    def read() -> None:
        left = size
        while left and (got := line.peer.recv(min(left, 65_536))):
            left -= len(got)
            stop.wait(0.012)

    thread = threading.Thread(target=read)
    thread.start()
    start = time.monotonic()
    try:
        line.stream.send(b"z" * size, Deadline.after(20))
        assert time.monotonic() - start > 1.0
    finally:
        line.stream.shutdown()
        thread.join()


# -- an idle line ------------------------------------------------------------------------------------


def test_an_idle_line_is_alive(line: Line) -> None:
    """FAULTS 73: under TLS 1.3 the session tickets have arrived by now, and are nothing."""
    for _ in range(3):
        line.stream.check_idle()
    line.peer.sendall(b"250 ok\r\n")
    assert line.reply().code == 250
    line.stream.check_idle()


def test_tickets_make_the_descriptor_readable_and_are_nothing() -> None:
    """FAULTS 73."""
    ours, theirs = secured(*tcp(), ssl.TLSVersion.TLSv1_3)
    line = Line(stream_over(ours), theirs)
    line.arrived()
    line.stream.check_idle()
    assert not line.stream._waiter.wait(READ, 0)
    line.stream.close()
    theirs.close()


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"421 bye\r\n", ServiceUnavailable),
        (b"250 stray\r\n", ProtocolError),
        (b"2", ProtocolError),
        (b"HTTP/1.1\r\n", ProtocolError),
    ],
)
def test_a_word_on_an_idle_line(octets: bytes, kind: type, line: Line) -> None:
    """FAULTS 9."""
    line.peer.sendall(octets)
    line.arrived()
    with pytest.raises(kind):
        line.stream.check_idle()


def test_the_end_of_an_idle_line(line: Line) -> None:
    socket.socket.shutdown(line.peer, socket.SHUT_WR)
    line.arrived()
    with pytest.raises(ConnectionLost):
        line.stream.check_idle()


# -- the end ------------------------------------------------------------------------------------------------


def test_shutdown_wakes_a_reader(line: Line) -> None:
    """FAULTS 93."""
    failures: list[BaseException] = []

    def read() -> None:
        try:
            line.reply()
        except ConnectionLost as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    line.stream.shutdown()
    thread.join(SOON)
    assert not thread.is_alive()
    assert failures


def test_close_says_nothing(line: Line) -> None:
    """FAULTS 72: no close_notify either; twice is as good as once."""
    line.stream.close()
    line.stream.close()
    assert line.stream.closed
    assert "closed" in repr(line.stream)
    assert socket.socket.recv(line.peer, 100) == b"" if not line.stream.is_tls else True


def test_round_trips(line: Line) -> None:
    """A wait after a write counts; a reply that was there already does not."""
    line.peer.sendall(b"220 hi\r\n")
    line.reply()
    assert line.stream.round_trips == 0
    for turn in range(1, 4):
        line.send(b"x")
        line.peer.sendall(b"250 one\r\n250 two\r\n")
        line.reply(last=False)
        line.reply()
        assert line.stream.round_trips == turn


def test_quickack_is_asked_for_where_the_line_istcp() -> None:
    ours, theirs = socket.socketpair()
    line = Line(stream_over(ours), theirs)
    theirs.sendall(b"250 ok\r\n")
    assert line.reply().code == 250
    assert line.stream._quickack is None, "a UNIX socket refused it, and is not asked again"
    line.stream.close()
    theirs.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="this system has no such option")
def test_a_reply_in_pieces_does_not_wait_for_our_delayed_acknowledgement() -> None:
    """A server with Nagle keeps the second piece until the first is acknowledged: 40 ms, each time."""
    took = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(stream_over(socket.create_connection(listener.getsockname())), listener.accept()[0])
        for _ in range(60):
            line.send(b"x\r\n")
            assert line.peer.recv(100) == b"x\r\n"
            for piece in (b"250-o", b"ne\r\n250", b" two\r\n"):
                line.peer.sendall(piece)
            start = time.monotonic()
            assert line.reply().code == 250
            took.append(time.monotonic() - start)
        line.stream.close()
        line.peer.close()
    assert statistics.median(took[30:]) < 0.03


# -- replies that come together ----------------------------------------------------------------


def together(line: Line, count: int, last: bool = True) -> list[int]:
    """The codes of the next replies."""
    replies = line.stream.receive(Deadline.after(SOON), SOON, last, count)
    assert 1 <= len(replies) <= count
    return [reply.code for reply in replies]


def test_all_that_come_together_are_handed_out_together(line: Line) -> None:
    line.peer.sendall(b"250 a\r\n251 b\r\n354 c\r\n")
    line.arrived()
    codes: list[int] = []
    while len(codes) < 3:  # under TLS a record may end anywhere
        codes += together(line, 3 - len(codes))
    assert codes == [250, 251, 354]
    line.stream.check_idle()


def test_more_than_is_asked_for_waits_for_its_turn(line: Line) -> None:
    line.peer.sendall(b"250 final\r\n250 mail\r\n550 rcpt\r\n503 data\r\n")
    line.arrived()
    assert together(line, 1, last=False) == [250]
    codes: list[int] = []
    while len(codes) < 3:
        codes += together(line, 3 - len(codes))
    assert codes == [250, 550, 503]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_behind_the_last_that_is_owed_is_judged_with_that_one(count: int, line: Line) -> None:
    """FAULTS 9: those before it are handed out."""
    line.peer.sendall(b"250 a\r\n" * count + b"250 surplus\r\n")
    line.arrived()
    while count > 1:
        count -= len(together(line, count))
    with pytest.raises(ProtocolError) as caught:
        together(line, count)
    assert caught.value.surplus is not None
    assert [reply.lines for reply in caught.value.surplus] == [(b"a",), (b"surplus",)]


def test_a_421_behind_the_last_that_is_owed(line: Line) -> None:
    """FAULTS 24."""
    line.peer.sendall(b"250 a\r\n250 b\r\n421 bye\r\n")
    line.arrived()
    left = 2
    while left:
        left -= len(together(line, left))
    assert line.stream.farewell is not None
    assert line.stream.farewell.code == 421


def test_half_of_the_next_one_waits_for_the_rest(line: Line) -> None:
    line.peer.sendall(b"250 a\r\n250-b\r\n25")
    line.arrived()
    assert together(line, 2) == [250]
    line.peer.sendall(b"0 c\r\n")
    assert line.reply().lines == (b"b", b"c")
