"""A delay proxy, a process of its own: ``python -m benchmarks.proxy PORT RTT``; prints its port.

Each direction is held up by half the round trip; order is kept, bandwidth is not limited. Linux
answers a dial on loopback at once, so the round trip of the TCP handshake is made up for before the server
is dialled: the greeting comes two round trips after the dial, as it would from afar.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections import deque

_BLOCK = 1 << 18
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Side:
    """A socket, and what is on its way to it: (due, octets)."""

    def __init__(self, sock: socket.socket, *, connected: bool = True) -> None:
        self.sock = sock
        self.coming: deque[tuple[float, bytes]] = deque()
        self.other: Side = self
        self.is_open = True
        self.is_connected = connected
        self.is_blocked = False


class Proxy:
    """All connections of one listener, in one thread."""

    def __init__(self, port: int, round_trip: float) -> None:
        self.port = port
        self.half = round_trip / 2
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.sides: dict[socket.socket, Side] = {}
        self.dials: deque[tuple[float, Side]] = deque()

    def accept(self) -> None:
        near, far = self.listener.accept()[0], socket.socket()
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        a, b = Side(near), Side(far, connected=False)
        a.other, b.other = b, a
        self.sides[near] = a
        self.dials.append((time.monotonic() + 3 * self.half, b))

    def dial(self, moment: float) -> None:
        while self.dials and self.dials[0][0] <= moment:
            side = self.dials.popleft()[1]
            if not side.other.is_open:
                continue
            side.sock.setblocking(True)
            side.sock.connect(("127.0.0.1", self.port))
            side.sock.setblocking(False)
            side.is_connected = True
            self.sides[side.sock] = side

    def read(self, side: Side) -> None:
        if _QUICKACK is not None:  # a server's Nagle would wait 40 ms for the proxy, not for the client
            side.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        try:
            data = side.sock.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        side.is_open = bool(data)
        side.other.coming.append((time.monotonic() + self.half, data))
        if not data and not side.other.is_connected:  # left before the server was dialled
            side.other.sock.close()
            self.sides.pop(side.sock).sock.close()

    def write(self, side: Side, moment: float) -> None:
        """Hand over what is due."""
        side.is_blocked = False
        while side.coming and side.coming[0][0] <= moment:
            due, data = side.coming.popleft()
            if not data:
                self.end(side)
                return
            try:
                sent = side.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.end(side)
                return
            if sent < len(data):
                side.coming.appendleft((due, data[sent:]))
                side.is_blocked = True
                return

    def end(self, side: Side) -> None:
        for each in (side, side.other):
            each.is_open = False
            each.coming.clear()
            if self.sides.pop(each.sock, None):
                each.sock.close()

    def pause(self, moment: float) -> float | None:
        """Seconds until something is due."""
        due = [s.coming[0][0] for s in self.sides.values() if s.coming and not s.is_blocked]
        due += [self.dials[0][0]] if self.dials else []
        return max(0.0, min(due) - moment) if due else None

    def turn(self) -> bool:
        """One wait and what follows from it; false once nobody wants the proxy any more."""
        readers = [s.sock for s in self.sides.values() if s.is_open]
        writers = [s.sock for s in self.sides.values() if s.is_blocked]
        # select, since a poll knows no part of a millisecond.
        ready, _, _ = select.select(
            [self.listener, sys.stdin, *readers], writers, [], self.pause(time.monotonic())
        )
        for sock in ready:
            if sock is sys.stdin:
                return False
            if sock is self.listener:
                self.accept()
            elif sock in self.sides:
                self.read(self.sides[sock])
        moment = time.monotonic()
        self.dial(moment)
        for side in list(self.sides.values()):
            if side.coming:
                self.write(side, moment)
        return True


if __name__ == "__main__":
    proxy = Proxy(int(sys.argv[1]), float(sys.argv[2]))
    print(proxy.listener.getsockname()[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while proxy.turn():
            pass
