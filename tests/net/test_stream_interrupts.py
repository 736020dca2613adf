"""Handlers of signals, and other threads, in the middle of what a stream does (FAULTS 93, 96)."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import certs
from support.interrupts import interrupted
from support.lines import SOON, Line, stream_over, tcp

from pysmtpx.errors import ConnectionLost, SmtpError, TlsError
from pysmtpx.net import stream as streams
from pysmtpx.net import tls
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.stream import Stream
from pysmtpx.net.tls import Tls

FILES = (streams.__file__, tls.__file__)


class Alarmed(socket.socket):
    """A socket in whose calls an alarm goes off; the handler raises what is mostly raised."""

    alarm: type[Exception] | None = TimeoutError
    calls: tuple[str, ...] = ()

    def _ring(self, call: str) -> None:
        if call in self.calls and self.alarm is not None:
            raise self.alarm("the alarm went off")

    def send(self, *args: Any) -> int:
        self._ring("send")
        return super().send(*args)

    def recv(self, *args: Any) -> bytes:
        self._ring("recv")
        return super().recv(*args)

    def setsockopt(self, *args: Any) -> None:
        self._ring("setsockopt")
        super().setsockopt(*args)


@pytest.mark.parametrize("call", ["send", "recv", "setsockopt"])
def test_an_alarm_is_not_taken_for_a_loss(call: str) -> None:
    """FAULTS 96: a TimeoutError that no system call gave comes out, or the caller would wait for ever."""
    ours, theirs = tcp()
    line = Line(stream_over(Alarmed(fileno=ours.detach())), theirs)
    sock: Any = line.stream._sock
    sock.calls = (call,)
    theirs.sendall(b"250 ok\r\n" if call == "recv" else b"")
    actions: dict[str, Callable[[], Any]] = {"send": lambda: line.send(b"NOOP\r\n")}
    with pytest.raises(TimeoutError, match="the alarm went off") as caught:
        actions.get(call, line.reply)()
    assert not isinstance(caught.value, SmtpError)
    line.stream.close()
    theirs.close()


def test_the_kernels_own_time_out_is_a_loss() -> None:
    """ETIMEDOUT: nothing was acknowledged for too long."""

    class Kernel(TimeoutError):
        def __init__(self, *_: object) -> None:
            super().__init__(110, "Connection timed out")

    ours, theirs = tcp()
    line = Line(stream_over(Alarmed(fileno=ours.detach())), theirs)
    sock: Any = line.stream._sock
    sock.calls, sock.alarm = ("recv",), Kernel
    theirs.sendall(b"250 ok\r\n")
    with pytest.raises(ConnectionLost, match="timed out"):
        line.reply()
    line.stream.close()
    theirs.close()


def test_close_that_is_interrupted_anywhere_is_done_by_the_next() -> None:
    """FAULTS 96, 99: no descriptor is left to the garbage collector, and nothing more is written."""
    for place in itertools.count(1):
        ours, theirs = tcp()
        stream = stream_over(ours)
        came = interrupted(place, FILES, stream.close)
        assert not stream.closed or stream._sock.fileno() == -1, place
        stream.close()
        assert stream.closed
        assert stream._sock.fileno() == -1
        theirs.close()
        if not came:
            break


def test_start_tls_that_is_interrupted_anywhere_leaves_a_stream_to_close() -> None:
    """FAULTS 96, 99: also when the descriptor has gone over to the socket under TLS."""
    server, client = certs.server_context(), certs.client_context()
    for place in itertools.count(1):
        ours, theirs = tcp()
        theirs.settimeout(SOON)

        def serve(peer: socket.socket = theirs) -> None:
            try:
                server.wrap_socket(peer, server_side=True).close()
            except OSError:
                peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        old, new = stream_over(ours), list[Stream]()
        came = interrupted(
            place,
            FILES,
            lambda: new.append(old.start_tls(Tls(client, "mail.test"), Deadline.after(SOON))),  # noqa: B023
        )
        for stream in (old, *new):
            stream.close()
        assert ours.fileno() == -1
        thread.join(SOON)
        assert not thread.is_alive(), "the other side was not told"
        if not came:
            break


def test_shutdown_wakes_a_handshake() -> None:
    """FAULTS 93: whoever closes from another thread does not wait for the deadline."""
    ours, theirs = tcp()
    stream = stream_over(ours)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            stream.start_tls(Tls(certs.client_context(), "mail.test"), Deadline.after(20))
        except SmtpError as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert theirs.recv(5)  # ClientHello: the handshake is under way
    stream.shutdown()
    thread.join(SOON)
    woken = not thread.is_alive()
    theirs.close()
    thread.join(SOON)
    stream.close()
    assert woken
    assert isinstance(failures[0], TlsError)


def test_a_stream_that_went_over_to_tls_says_no_more_in_clear() -> None:
    ours, theirs = tcp()
    theirs.settimeout(SOON)
    done: list[ssl.SSLSocket] = []
    context = certs.server_context()
    thread = threading.Thread(target=lambda: done.append(context.wrap_socket(theirs, server_side=True)))
    thread.start()
    old = stream_over(ours)
    new = old.start_tls(Tls(certs.client_context(), "mail.test"), Deadline.after(SOON))
    thread.join()
    with pytest.raises(ConnectionLost):
        old.receive(Deadline.after(SOON), SOON)
    old.close()
    assert new._sock.fileno() == -1
    new.close()
    done[0].close()
