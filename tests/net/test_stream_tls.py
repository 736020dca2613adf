"""Handshakes, and TLS that wants to read where we write."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import threading
import warnings
from typing import Any

import pytest
from support import certs
from support.lines import SOON, Line, secured, stream_over, tcp

from pysmtpx.errors import ProtocolError, Timeout, TlsError
from pysmtpx.flow.effects import WITHHELD
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.tls import Tls, handshake

pytestmark = pytest.mark.everywhere


def test_a_read_that_wants_to_write(monkeypatch: Any) -> None:
    """FAULTS 74: a key update, say; the loop handles both wants."""
    ours, theirs = secured(*tcp(), ssl.TLSVersion.TLSv1_3)
    line = Line(stream_over(ours), theirs)
    line.arrived()
    line.stream.check_idle()
    wants: list[type] = [ssl.SSLWantWriteError, ssl.SSLWantReadError]
    real = ours.recv

    def recv(size: int) -> bytes:
        if wants:
            raise wants.pop(0)
        return real(size)

    monkeypatch.setattr(ours, "recv", recv)
    theirs.sendall(b"250 ok\r\n")
    assert line.reply().code == 250
    assert not wants
    line.stream.close()
    theirs.close()


def test_a_write_that_wants_to_read(monkeypatch: Any) -> None:
    """FAULTS 74."""
    ours, theirs = secured(*tcp(), ssl.TLSVersion.TLSv1_3)
    line = Line(stream_over(ours), theirs)
    wants: list[type] = [ssl.SSLWantReadError, ssl.SSLWantWriteError]
    real = ours.send

    def send(data: Any) -> int:
        if wants:
            raise wants.pop(0)
        return real(data)

    monkeypatch.setattr(ours, "send", send)
    theirs.sendall(b"250 early\r\n")
    assert line.send(b"hello")
    assert theirs.recv(10) == b"hello"
    assert line.reply().code == 250
    line.stream.close()
    theirs.close()


def test_start_tls_makes_a_new_stream() -> None:
    """FAULTS 75: nothing read in clear outlives it."""
    ours, theirs = tcp()
    theirs.settimeout(SOON)
    old = stream_over(ours)
    done: list[ssl.SSLSocket] = []
    context = certs.server_context()
    thread = threading.Thread(target=lambda: done.append(context.wrap_socket(theirs, server_side=True)))
    thread.start()
    new = old.start_tls(Tls(certs.client_context(), "mail.test"), Deadline.after(SOON))
    thread.join()
    assert new is not old
    assert new._parser is not old._parser
    assert (new.is_tls, new.closed) == (True, False)
    assert old.send(b"in clear", Deadline.after(SOON)) == WITHHELD
    assert new.binding() is not None
    assert old.round_trips + 1 == new.round_trips
    new.close()
    done[0].close()


def test_start_tls_with_octets_in_clear_behind_the_reply() -> None:
    """FAULTS 66."""
    ours, theirs = tcp()
    line = Line(stream_over(ours), theirs)
    theirs.sendall(b"220 go\r\n250 injected\r\n")
    assert line.reply(last=False).code == 220
    with pytest.raises(ProtocolError):
        line.stream.start_tls(Tls(certs.client_context(), "mail.test"), Deadline.after(SOON))
    line.stream.close()
    assert theirs.recv(1) == b""
    theirs.close()


@pytest.mark.parametrize("answer", [b"220 plain\r\n", b"", b"\x15\x03\x03\x00\x02\x02\x28"])
def test_a_handshake_that_fails_closes_the_socket(answer: bytes) -> None:
    """FAULTS 69, 99."""
    ours, theirs = tcp()
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(TlsError):
        handshake(ours, Tls(certs.client_context(), "mail.test"), Deadline.after(SOON))
    assert ours.fileno() == -1
    theirs.close()


def test_a_handshake_within_its_deadline() -> None:
    ours, theirs = tcp()
    with pytest.raises(Timeout):
        handshake(ours, Tls(certs.client_context(), "mail.test"), Deadline.after(0.1))
    assert ours.fileno() == -1
    theirs.close()


@pytest.mark.parametrize("with_input", [False, True], ids=["nothing more", "octets before"])
def test_a_peer_that_reset_before_the_handshake_leaves_no_descriptor(with_input: bool) -> None:
    """FAULTS 66: nor one for the garbage collector, which would warn of it."""
    ours, theirs = tcp()
    if with_input:
        theirs.sendall(b"220 go ahead\r\n")
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TlsError):
            handshake(ours, Tls(certs.client_context(), "localhost"), Deadline.after(5))
        gc.collect()
    assert ours.fileno() == -1
    assert [str(each.message) for each in caught] == []
