"""A TLS session as a plain socket."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator

import pytest
from support import certs
from support.daemon import wait_until
from support.patience import LONG

from pysmtpx.net.bridge import bridged

pytestmark = pytest.mark.everywhere


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, ssl.SSLSocket]]:
    """The bridged end, and the TLS end that is far away."""
    near, far = socket.socketpair()
    context = certs.server_context("mail.test")
    context.minimum_version = context.maximum_version = request.param
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(context.wrap_socket(far, server_side=True)))
    thread.start()
    ours = bridged(certs.client_context().wrap_socket(near, server_hostname="mail.test"))
    thread.join()
    for each in (ours, made[0]):
        each.settimeout(LONG)
    yield ours, made[0]
    for each in (ours, made[0]):
        each.close()
    wait_until(lambda: not _bridges(), LONG, "the end of the thread")


def _bridges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pysmtpx-bridge"]


def _all(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += sock.recv(65536) or b"<end>"
    return bytes(data)


def test_each_direction(ends: tuple[socket.socket, ssl.SSLSocket]) -> None:
    """More than any buffer holds."""
    ours, theirs = ends
    octets = bytes(range(256)) * 8192
    for writer, reader in ((ours, theirs), (theirs, ours)):
        writing = threading.Thread(target=writer.sendall, args=(octets,))
        writing.start()
        assert _all(reader, len(octets)) == octets
        writing.join()


def test_what_came_before_the_end_is_there_and_then_the_end(
    ends: tuple[socket.socket, ssl.SSLSocket],
) -> None:
    ours, theirs = ends
    theirs.sendall(b"221 bye\r\n")
    theirs.close()
    assert _all(ours, 9) == b"221 bye\r\n"
    assert ours.recv(1) == b""


def test_what_was_written_before_our_end_arrives(ends: tuple[socket.socket, ssl.SSLSocket]) -> None:
    ours, theirs = ends
    ours.sendall(b"QUIT\r\n")
    ours.close()
    assert _all(theirs, 6) == b"QUIT\r\n"
    assert theirs.recv(1) == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="No fork on this system")
def test_a_forked_child_does_not_keep_it_open(ends: tuple[socket.socket, ssl.SSLSocket]) -> None:
    ours, theirs = ends
    go, wait = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork
        child = os.fork()
    if not child:
        os.close(wait)
        os.close(theirs.detach())
        os.close(ours.detach())  # as a pool does with its own end
        os.read(go, 1)
        os._exit(0)
    try:
        os.close(go)
        ours.close()
        assert theirs.recv(1) == b""
    finally:
        os.close(wait)
        os.waitpid(child, 0)
