"""What each fault does to a real socket, in clear and under TLS, and that stopping ends them all."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from support import certs
from support.sockets import raw, rest

from pysmtpx.testing import Cut, Drip, Garbage, MailServer, Stall

MAIL = b"MAIL FROM:<ann@x.example>\r\n"
RCPT = b"RCPT TO:<bob@y.example>\r\n"


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (Cut(), b""),
        (Cut(after=5), b"250 2"),
        (Cut(after=None, reply="451 x"), b"451 x\r\n"),
        ("421 bye", b"421 bye\r\n"),
        (Drip(0.001, reply="421 slow"), b"421 slow\r\n"),
        (Stall(seconds=0.01, after=1, reply="421 x"), b"421 x\r\n"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_fault_ends_in_the_right_octets(answer: Any, received: bytes, tls: bool) -> None:
    context = certs.server_context() if tls else None
    mode = "implicit" if tls else "none"
    with MailServer(replies={"NOOP": answer}, ssl_context=context, tls=mode) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        assert rest(sock) == received


def test_a_reset() -> None:
    with MailServer(replies={"NOOP": Cut(reset=True)}) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        with pytest.raises(ConnectionResetError):
            sock.recv(1000)


def test_garbage() -> None:
    with (
        MailServer(replies={"CONNECT": Garbage(b"SSH-2.0-x\r\n")}) as server,
        raw(server, hello=False) as sock,
    ):
        assert sock.recv(1000) == b"SSH-2.0-x\r\n"


def test_a_reply_reaches_a_client_that_is_still_sending() -> None:
    """FAULTS 27: no RST runs after the last reply."""
    with (
        MailServer(replies={("BODY", 1): Cut(after=None, reply="452 4.3.1 full")}) as server,
        raw(server) as sock,
    ):
        sock.sendall(MAIL + RCPT + b"DATA\r\n")
        received = b""
        while b"354" not in received:
            received += sock.recv(1000)
        sock.sendall(b"x\r\n" * 20_000)
        assert rest(sock) == b"452 4.3.1 full\r\n"


def test_octets_after_421_are_read_and_judged() -> None:
    options: dict[str, Any] = {"extensions": [], "replies": {"NOOP": "421 bye"}}
    with MailServer(strict=False, **options) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        assert rest(sock) == b"421 bye\r\n"
        sock.sendall(b"QUIT\r\n")
        assert server.ledger.wait_until(lambda: bool(server.ledger.breaches), 10)
        assert server.breaches == ["connection 0: octets after 421"]


# Stopping.


@pytest.mark.parametrize("answer", [Stall(), Stall(seconds=600.0), Stall(after=3), Drip(600.0)], ids=repr)
def test_stopping_wakes_whatever_waits(answer: Any) -> None:
    before = set(threading.enumerate())
    with MailServer(replies={"NOOP": answer}) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        assert server.ledger.wait_until(lambda: "NOOP" in server.ledger.connections[0].commands, 10)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 5
        assert set(threading.enumerate()) == before


def test_stopping_ends_a_write_that_nobody_reads() -> None:
    endless = b"250-" + b"x" * 1000 + b"\r\n"
    with MailServer(replies={"NOOP": endless * 20_000}, send_buffer=4096) as server, raw(server) as sock:
        sock.sendall(b"NOOP\r\n")
        assert server.ledger.wait_until(lambda: "NOOP" in server.ledger.connections[0].commands, 10)
        server.stop()


def test_stopping_twice_and_starting_again() -> None:
    server = MailServer()
    for _ in range(2):
        server.start()
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
        with raw(server) as sock:
            assert sock.fileno() >= 0
        server.stop()
        server.stop()
    assert len(server.ledger.connections) == 2
    assert repr(server) == "<MailServer stopped, 0 messages, 0 breaches>"


def test_repr_of_a_running_server() -> None:
    with MailServer() as server:
        assert repr(server) == f"<MailServer {server.url}, 0 messages, 0 breaches>"


def test_a_port_that_is_taken_leaves_no_socket() -> None:
    with MailServer() as server, pytest.raises(OSError, match="in use"):
        MailServer(port=server.port).start()
