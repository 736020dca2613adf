"""From a host and port to a connected socket, within one deadline (RFC 8305)."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from ..errors import ConnectError, InputError, Timeout
from ..wire.address import domain_to_ascii
from ..wire.limits import Stage
from .deadline import Deadline
from .wait import pass_alarm

STAGGER: Final = 0.25
"""Seconds that one address may be alone before the next is tried (RFC 8305 8), and at most
between two looks at a deadline, which another thread may have stopped."""

# Not epoll: a forked child would inherit its descriptor, and nobody there to close it.
_Selector: Final[Any] = getattr(selectors, "PollSelector", selectors.SelectSelector)

Address: TypeAlias = tuple[socket.AddressFamily, Any]
Keep: TypeAlias = Callable[[socket.socket], object]
"""Is given each socket as soon as there is one."""


def dial(
    host: str,
    port: int,
    deadline: Deadline,
    source: tuple[str, int] | None = None,
    keep: Keep | None = None,
) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Every address of the host is tried, a quarter of a second apart or as soon as
    the one before fails, families taking turns; the first that answers wins.
    All others are closed, and that one too where an interrupt comes before it is
    handed over. Raises ``ConnectError`` that names every address and its
    failure, or ``Timeout``.
    """
    race = _Race(port, source, keep)
    try:
        winner = race.run(deque(_interleaved(resolve(host, port, deadline))), deadline)
        race.close(but=winner)
        return winner
    except BaseException:
        race.close()
        raise


def dial_unix(path: str, deadline: Deadline, keep: Keep | None = None) -> socket.socket:
    """A connected, non-blocking UNIX socket. Raises ``ConnectError`` or ``Timeout``."""
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("this system has no UNIX sockets")
    race = _Race(0, None, keep)
    try:
        return _connected(race.make(socket.AF_UNIX), path, deadline)
    except BaseException:
        race.close()
        raise


def _connected(sock: socket.socket, path: str, deadline: Deadline) -> socket.socket:
    try:
        # The kernel waits for a place in a full backlog only where the descriptor blocks.
        while not _is_connected(sock):
            if (seconds := deadline.remaining()) <= 0:
                raise BlockingIOError
            _limit_writes(sock, max(0.001, min(seconds, 86_400.0)))
            sock.connect(path)
        _limit_writes(sock, 0.0)
    except BlockingIOError:
        raise Timeout(f"{path} did not answer in time", stage=Stage.CONNECT) from None
    except OSError as error:
        pass_alarm(error)
        raise ConnectError(f"{path}: {error.strerror or error}", stage=Stage.CONNECT) from error
    sock.setblocking(False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Whether connect did what it said: after a signal it can return with nothing done."""
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


def _limit_writes(sock: socket.socket, seconds: float) -> None:
    """SO_SNDTIMEO, which bounds connect as well; 0 is no limit."""
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


# -- names ---------------------------------------------------------------------


def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """The addresses of a host, in the system's order.

    A look-up cannot be interrupted, so it runs in a thread of its own that is
    left behind where the deadline passes first.
    """
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        name = domain_to_ascii(host)
    if name == "localhost" or name.endswith(".localhost"):
        # Whom a resolver takes for it is not asked: passwords go there in clear (RFC 6761 6.3).
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    answer: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
    try:
        threading.Thread(
            target=_answer, args=(answer, name, port), daemon=True, name="pysmtpx-resolve"
        ).start()
    except RuntimeError:  # no new thread: the interpreter is at its end, or the limit is reached
        _answer(answer, name, port)
    found = _awaited(answer, name, deadline)
    if isinstance(found, OSError):
        raise ConnectError(
            f"{name} cannot be looked up: {found.strerror or found}", stage=Stage.CONNECT
        ) from found
    return found


def _awaited(
    answer: queue.SimpleQueue[list[Address] | OSError], name: str, deadline: Deadline
) -> list[Address] | OSError:
    while True:
        try:
            return answer.get(timeout=max(0.0, min(deadline.remaining(), STAGGER)))
        except queue.Empty:
            if deadline.remaining() <= 0:
                raise Timeout(f"the look-up of {name} did not end in time", stage=Stage.CONNECT) from None


def _answer(answer: queue.SimpleQueue[list[Address] | OSError], name: str, port: int) -> None:
    try:
        answer.put(_look_up(name, port, 0))
    except OSError as error:
        answer.put(error)
    except Exception as error:
        answer.put(OSError(str(error)))


def _look_up(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _interleaved(addresses: Iterable[Address]) -> list[Address]:
    """The first family's addresses and the other's in turn (RFC 8305 4)."""
    left = list(addresses)
    ordered: list[Address] = []
    while left:
        wanted = ordered[-1][0] if ordered else None
        index = next((i for i, (family, _) in enumerate(left) if family != wanted), 0)
        ordered.append(left.pop(index))
    return ordered


# -- the race --------------------------------------------------------------------


class _Race:
    """Connection attempts under way."""

    def __init__(self, port: int, source: tuple[str, int] | None, keep: Keep | None) -> None:
        self._port = port
        self._source = source
        self._keep = keep
        self._sockets: list[socket.socket] = []
        self._selector = _Selector()
        self._failures: list[tuple[str, OSError]] = []

    def make(self, family: int) -> socket.socket:
        """A socket that is closed at the end, whatever happens."""
        # In one step: an interrupt in between would leave it to the garbage collector.
        self._sockets.append(socket.socket(family, socket.SOCK_STREAM))
        sock = self._sockets[-1]
        if self._keep is not None:
            self._keep(sock)
        return sock

    def run(self, addresses: deque[Address], deadline: Deadline) -> socket.socket:
        while True:
            if addresses:
                self._start(addresses.popleft())
            elif not self._selector.get_map():
                raise self._failed()
            if not self._selector.get_map():
                continue
            if (winner := self._first(min(STAGGER, deadline.remaining()))) is not None:
                return winner
            if deadline.remaining() <= 0:
                raise Timeout(f"no address answered in time: {self._told()}", stage=Stage.CONNECT)

    def _start(self, address: Address) -> None:
        family, target = address
        sock: socket.socket | None = None
        try:
            sock = self.make(family)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._source is not None:
                sock.bind(self._source)
            # Not connect_ex(): guards of test suites and tracers stand at connect().
            with contextlib.suppress(BlockingIOError):
                sock.connect(target)
            self._selector.register(sock, selectors.EVENT_WRITE, target)
        except OSError as error:
            pass_alarm(error)
            self._lost(target, error, sock)

    def _first(self, seconds: float) -> socket.socket | None:
        """The first attempt to succeed within this time, or None after a failure or the time."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return sock
            self._lost(key.data, OSError(code, os.strerror(code)), sock)
        return None

    def _lost(self, target: Any, error: OSError, sock: socket.socket | None) -> None:
        if sock is not None:
            sock.close()
        self._failures.append((str(target[0]), error))

    def _failed(self) -> ConnectError:
        failure = ConnectError(f"cannot connect to port {self._port}: {self._told()}", stage=Stage.CONNECT)
        if self._failures:
            failure.__cause__ = self._failures[-1][1]
        return failure

    def _told(self) -> str:
        waiting = [(str(key.data[0]), "no answer") for key in self._selector.get_map().values()]
        lost = [(address, error.strerror or str(error)) for address, error in self._failures]
        return "; ".join(f"{address}: {why}" for address, why in lost + waiting) or "no address"

    def close(self, but: socket.socket | None = None) -> None:
        """Close every socket but this one."""
        for sock in self._sockets:
            if sock is not but:
                sock.close()
        self._selector.close()


# -- our own name ------------------------------------------------------------------


def own_name(sock: socket.socket) -> str:
    """What to say in EHLO where nothing is configured (RFC 5321 4.1.1.1, 4.1.3).

    The host's name where it has a dot, else the address literal of our end of
    the connection. Nothing is looked up: a resolver can stall for half a minute.
    """
    name = socket.gethostname()
    if "." in name.strip("."):
        try:
            return domain_to_ascii(name)
        except InputError:
            pass
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "[127.0.0.1]"
    address = str(sock.getsockname()[0]).partition("%")[0]
    if sock.family == socket.AF_INET6:
        mapped = address.removeprefix("::ffff:")
        return f"[{mapped}]" if "." in mapped else f"[IPv6:{address}]"
    return f"[{address}]"
