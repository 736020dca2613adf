"""A TLS session as a plain socket: what needs a descriptor of its own, as TLS within TLS does, gets one."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import weakref
from typing import Final

_MOST: Final = 64 * 1024
"""Octets that wait in each direction."""
_IN: Final = select.POLLIN if hasattr(select, "poll") else 1
_OUT: Final = select.POLLOUT if hasattr(select, "poll") else 4


def bridged(outer: ssl.SSLSocket) -> socket.socket:
    """A socket by which the octets of ``outer`` come and go, in clear.

    A thread passes them on until either side is closed, and closes the other one then.
    """
    ours, theirs = socket.socketpair()
    try:
        relay = _Relay(outer, theirs)
        threading.Thread(target=relay.run, daemon=True, name="pysmtpx-bridge").start()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return ours


class _Relay:
    """Passes octets on between a TLS session and one end of a pair of sockets."""

    def __init__(self, outer: ssl.SSLSocket, inner: socket.socket) -> None:
        self._outer, self._inner = outer, inner
        outer.setblocking(False)
        inner.setblocking(False)
        self._inward = bytearray()
        self._outward = bytearray()
        self._is_inner_over = self._is_outer_over = False
        self._outer_wants = 0
        """What a write to the session waits for."""
        _relays.add(self)

    def run(self) -> None:
        """Until one side is over and the other has what came before."""
        try:
            while not self._is_done():
                if not self._step():
                    self._wait()
        except (OSError, ValueError):
            pass  # it broke, or another thread closed it: whoever has the other end sees the end
        finally:
            self.close()

    def close(self) -> None:
        """Close both."""
        self._inner.close()
        self._outer.close()

    def _is_done(self) -> bool:
        return (self._is_inner_over and not self._outward) or (self._is_outer_over and not self._inward)

    def _step(self) -> bool:
        """One look in each direction; whether anything moved."""
        moved = [self._read_inner(), self._write_outer(), self._read_outer(), self._write_inner()]
        return any(moved)

    def _read_inner(self) -> bool:
        if self._is_inner_over or len(self._outward) >= _MOST:
            return False
        try:
            octets = self._inner.recv(_MOST)
        except BlockingIOError:
            return False
        self._outward += octets
        self._is_inner_over = not octets
        return True

    def _write_outer(self) -> bool:
        self._outer_wants = 0
        if not self._outward:
            return False
        try:
            del self._outward[: self._outer.send(self._outward)]
        except ssl.SSLWantReadError:
            self._outer_wants = _IN
            return False
        except (ssl.SSLWantWriteError, BlockingIOError):
            self._outer_wants = _OUT
            return False
        return True

    def _read_outer(self) -> bool:
        if self._is_outer_over or len(self._inward) >= _MOST:
            return False
        try:
            octets = self._outer.recv(_MOST)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except (ssl.SSLEOFError, ConnectionError):
            octets = b""
        self._inward += octets
        self._is_outer_over = not octets
        return True

    def _write_inner(self) -> bool:
        if not self._inward:
            return False
        try:
            del self._inward[: self._inner.send(self._inward)]
        except BlockingIOError:
            return False
        return True

    def _wait(self) -> None:
        waiting = select.poll()
        reads = _IN if not self._is_inner_over and len(self._outward) < _MOST else 0
        waiting.register(self._inner, reads | (_OUT if self._inward else 0))
        reads = _IN if not self._is_outer_over and len(self._inward) < _MOST else 0
        waiting.register(self._outer, reads | self._outer_wants)
        waiting.poll()


_relays: Final[weakref.WeakSet[_Relay]] = weakref.WeakSet()


def _drop_all() -> None:
    """In a forked child, where nobody passes anything on, and a copy would keep the connection open."""
    for relay in list(_relays):
        # Descriptors alone: TLS would say that it ends.
        for sock in (relay._outer, relay._inner):
            if sock.fileno() >= 0:
                os.close(sock.detach())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
