"""Waiting for one socket, by either means."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pysmtpx.net import wait
from pysmtpx.net.wait import READ, WRITE

WAITERS = pytest.mark.parametrize("kind", [wait._Poll, wait._Select])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one TCP connection with small buffers."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.socket() as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            ours.connect(listener.getsockname())
            theirs, _ = listener.accept()
            with theirs:
                ours.setblocking(False)
                yield ours, theirs


def _fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(b"x" * 4096)
    except BlockingIOError:
        return


@WAITERS
def test_what_is_ready_now(kind: Any, pair: Any) -> None:
    ours, theirs = pair
    waiter = kind(ours)
    assert waiter.wait(READ, 0) == 0
    assert waiter.wait(WRITE, 0) == WRITE
    assert waiter.wait(READ | WRITE, 0) == WRITE
    theirs.send(b"x")
    assert waiter.wait(READ, 1) == READ
    assert waiter.wait(READ | WRITE, 0) == READ | WRITE
    ours.recv(1)
    _fill(ours)
    assert waiter.wait(WRITE, 0) == 0
    assert waiter.wait(READ, 0) == 0


@WAITERS
@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.0004, 0.05])
def test_a_wait_ends_in_time_and_not_before(kind: Any, seconds: float, pair: Any) -> None:
    """A wait that ends too early spins until the deadline; one of zero does not wait."""
    waiter = kind(pair[0])
    start = time.monotonic()
    assert waiter.wait(READ, seconds) == 0
    elapsed = time.monotonic() - start
    assert max(0.0, seconds) <= elapsed < max(0.0, seconds) + 0.5


@WAITERS
@pytest.mark.parametrize("seconds", [float("inf"), 1e18])
def test_a_wait_without_end(kind: Any, seconds: float, pair: Any) -> None:
    """No system call takes infinity."""
    ours, theirs = pair
    timer = threading.Timer(0.02, theirs.send, (b"x",))
    timer.start()
    assert kind(ours).wait(READ, seconds) == READ
    timer.join()


@WAITERS
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("want", [READ, READ | WRITE])
def test_the_end_counts_as_readable(kind: Any, want: int, reset: bool, pair: Any) -> None:
    """Whoever reads then learns how it ended."""
    ours, theirs = pair
    _fill(ours)
    if reset:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
    else:
        theirs.shutdown(socket.SHUT_WR)
    assert kind(ours).wait(want, 1) & READ


@WAITERS
def test_a_broken_connection_is_ready_for_what_is_wanted(kind: Any, pair: Any) -> None:
    ours, theirs = pair
    _fill(ours)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    assert kind(ours).wait(WRITE, 1) == WRITE


def test_poll_is_taken_where_there_is_one() -> None:
    """FAULTS 99: select fails on descriptors over 1023."""
    assert wait.Waiter is wait._Poll
