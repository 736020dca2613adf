"""From a host and port to a connected socket, within one deadline (RFC 8305)."""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from .. import cures
from ..errors import ConnectError, InputError, Timeout
from ..wire.address import domain_to_ascii
from ..wire.limits import Stage
from .deadline import Deadline, now
from .wait import pass_alarm

STAGGER: Final = 0.25
"""Seconds that one address may be alone before the next is tried (RFC 8305 8), and at most
between two looks at a deadline, which another thread may have stopped."""

_HUNG: Final = 60.0
"""Seconds after which a look-up is waited for by nobody new."""
_UNWELL: Final = 300.0
"""Seconds in which an address that gave no session is tried after all others."""

# Not epoll: a forked child would inherit its descriptor, and nobody there to close it.
_Selector: Final[Any] = getattr(selectors, "PollSelector", selectors.SelectSelector)

_GETADDRINFO: Final = socket.getaddrinfo

Address: TypeAlias = tuple[socket.AddressFamily, Any]
Keep: TypeAlias = Callable[[socket.socket], object]
"""Is given each socket as soon as there is one."""


def dial(
    host: str,
    port: int,
    deadline: Deadline,
    source: tuple[str, int] | None = None,
    keep: Keep | None = None,
    addresses: Addresses | None = None,
) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Every address of the host is tried, a quarter of a second apart or as soon as
    the one before fails, families taking turns; the first that answers wins.
    All others are closed, and that one too where an interrupt comes before it is
    handed over. ``addresses`` are those that an earlier dial of the same call
    left, and are told what became of each. Raises ``ConnectError`` that names every address and its
    failure, or ``Timeout``.
    """
    tried = Addresses() if addresses is None else addresses
    race = _Race(port, source, keep)
    try:
        winner = race.run(deque(tried.begin(host, port, deadline)), deadline)
        race.close(but=winner)
        tried.settle(race.reached, race.failed)
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
        cure = cures.dial(0, [], is_path=True)
        raise ConnectError(f"{path}: {error.strerror or error}", stage=Stage.CONNECT, cure=cure) from error
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
    left behind where the deadline passes first. Whoever asks for the same name
    meanwhile waits for the same one, each until a deadline of its own.
    """
    if (address := _written_out(host, port)) is not None:
        return [address]
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        name = domain_to_ascii(host)
    if name == "localhost" or name.endswith(".localhost"):
        # Whom a resolver takes for it is not asked: passwords go there in clear (RFC 6761 6.3).
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    found = _look_up_once(name, port).wait(deadline)
    if isinstance(found, OSError):
        raise ConnectError(
            f"{name} cannot be looked up: {found.strerror or found}",
            stage=Stage.CONNECT,
            cure=cures.look_up(),
        ) from found
    return found


def _written_out(host: str, port: int) -> Address | None:
    """The address of a host that is one in its usual spelling: nobody has to be asked.

    But for somebody who stands in the resolver's place: a test, say, or a proxy.
    """
    if socket.getaddrinfo is not _GETADDRINFO:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):  # a name, an address with a zone, or one in a spelling of old
        return None
    return (family, (host, port, 0, 0)) if family == socket.AF_INET6 else (family, (host, port))


class _LookUp:
    """One question to the system's resolver, and all who wait for its answer."""

    __slots__ = ("_answer", "_began", "_done", "_name", "_port")

    def __init__(self, name: str, port: int) -> None:
        self._name, self._port = name, port
        self._began = now()
        self._done = threading.Event()
        self._answer: list[Address] | OSError = []

    @property
    def is_hung(self) -> bool:
        """It has taken longer than a resolver that will ever answer."""
        return now() - self._began > _HUNG

    def run(self, key: _Key) -> None:
        """Ask, and let all who wait know."""
        try:
            self._answer = _look_up(self._name, self._port, 0)
        except OSError as error:
            self._answer = error
        except Exception as error:
            self._answer = OSError(str(error))
        finally:
            if _under_way.get(key) is self:  # a hung one may have another in its place
                del _under_way[key]
            self._done.set()

    def wait(self, deadline: Deadline) -> list[Address] | OSError:
        """The answer. Raises ``Timeout``."""
        while not self._done.wait(max(0.0, min(deadline.remaining(), STAGGER))):
            if deadline.remaining() <= 0:
                raise Timeout(
                    f"the look-up of {self._name} did not end in time",
                    stage=Stage.CONNECT,
                    cure=cures.look_up(),
                )
        return self._answer


_Key: TypeAlias = tuple[int, object, str, int]
_under_way: Final[dict[_Key, _LookUp]] = {}
"""Changed by single steps that no other thread falls into: it needs no lock, and no new one after a fork."""


def _look_up_once(name: str, port: int) -> _LookUp:
    """The look-up of this name that is under way, or a new one."""
    # By process: in a forked child the parent's thread never answers. By resolver: one that was put in
    # the place of another is asked itself.
    key = (os.getpid(), socket.getaddrinfo, name, port)
    known = _under_way.get(key)
    if known is not None and known.is_hung:
        _under_way.pop(key, None)
    mine = _LookUp(name, port)
    shared = _under_way.setdefault(key, mine)
    if shared is not mine:
        return shared
    try:
        threading.Thread(target=mine.run, args=(key,), daemon=True, name="pysmtpx-resolve").start()
    except RuntimeError:  # no new thread: the interpreter is at its end, or the limit is reached
        mine.run(key)
    except BaseException:  # an interrupt: nobody may wait for a thread that is not there
        _under_way.pop(key, None)
        raise
    return mine


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


# -- which address ---------------------------------------------------------------------


class Unwell:
    """Addresses that gave no session of late. Safe in any thread, without a lock."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Address, float] = {}

    def note(self, address: Address) -> None:
        """This one gave none."""
        moment = now()
        for each, until in list(self._until.items()):
            if until < moment:  # a name with ever new addresses must not fill the memory
                self._until.pop(each, None)
        self._until[address] = moment + _UNWELL

    def last(self, addresses: list[Address]) -> list[Address]:
        """The same, in their order, but for those that were unwell: they come last."""
        if not self._until:
            return addresses
        moment = now()
        return sorted(addresses, key=lambda address: self._until.get(address, -math.inf) > moment)


class Addresses:
    """The addresses of one host that a call may still try (RFC 5321 5.1)."""

    __slots__ = ("_left", "_reached", "_unwell")

    def __init__(self, unwell: Unwell | None = None) -> None:
        self._unwell = unwell
        self._left: list[Address] | None = None
        self._reached: Address | None = None

    @property
    def is_reached(self) -> bool:
        """The last dial reached one."""
        return self._reached is not None

    @property
    def shown(self) -> str:
        """The one that was reached last."""
        return str(self._reached[1][0]) if self._reached else "the socket"

    def begin(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """Those to dial now, in order; they are looked up once."""
        self._reached = None
        if self._left is None:
            self._left = found = resolve(host, port, deadline)
            if len(found) > 1:
                found = _interleaved(found)
                self._left = found if self._unwell is None else self._unwell.last(found)
        return self._left

    def settle(self, reached: Address | None, failed: list[Address]) -> None:
        """One was reached, and some were not."""
        self._reached = reached
        if failed:
            for address in failed:
                self._note(address)
            self._left = [address for address in self._left or () if address not in failed]

    def share(self, deadline: Deadline) -> Deadline:
        """What of the time the one that was reached may take, so that something is left for the others."""
        others = len(self._left or ()) - 1
        return deadline.within(deadline.remaining() / (others + 1)) if others > 0 else deadline

    def has_another(self, deadline: Deadline) -> bool:
        """The one that was reached gave no session: whether another is left to be tried, and time for it."""
        if self._reached is None:
            return False
        self._note(self._reached)
        self._left = [address for address in self._left or () if address != self._reached]
        return bool(self._left) and deadline.remaining() > 0

    def _note(self, address: Address) -> None:
        if self._unwell is not None:
            self._unwell.note(address)


# -- the race --------------------------------------------------------------------


class _Race:
    """Connection attempts under way."""

    def __init__(self, port: int, source: tuple[str, int] | None, keep: Keep | None) -> None:
        self._port = port
        self._source = source
        self._keep = keep
        self._sockets: list[socket.socket] = []
        self._selector: Any = None
        """Of those that wait for an answer; on this machine the first mostly has it at once."""
        self._failures: list[tuple[str, OSError]] = []
        self.failed: list[Address] = []
        self.reached: Address | None = None

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
                if (winner := self._start(addresses.popleft())) is not None:
                    return winner
            elif not self._waiting():
                raise self._failed()
            if not self._waiting():
                continue
            if (winner := self._first(min(STAGGER, deadline.remaining()))) is not None:
                return winner
            if deadline.remaining() <= 0:
                raise Timeout(
                    f"no address answered in time: {self._told()}",
                    stage=Stage.CONNECT,
                    cure=cures.dial(self._port, []),
                )

    def _start(self, address: Address) -> socket.socket | None:
        """Begin an attempt; the socket, where the answer is there at once."""
        family, target = address
        sock: socket.socket | None = None
        try:
            sock = self.make(family)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._source is not None:
                sock.bind(self._source)
            try:
                # Not connect_ex(): guards of test suites and tracers stand at connect().
                sock.connect(target)
            except BlockingIOError:
                if not _is_connected(sock):  # a server on this machine has answered by now
                    self._wait_for(sock, address)
                    return None
        except OSError as error:
            pass_alarm(error)
            self._lost(address, error, sock)
            return None
        self.reached = address
        return sock

    def _wait_for(self, sock: socket.socket, address: Address) -> None:
        if self._selector is None:
            self._selector = _Selector()
        self._selector.register(sock, selectors.EVENT_WRITE, address)

    def _waiting(self) -> list[Address]:
        """The addresses that have not answered yet."""
        return [] if self._selector is None else [key.data for key in self._selector.get_map().values()]

    def _first(self, seconds: float) -> socket.socket | None:
        """The first attempt to succeed within this time, or None after a failure or the time."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                self.reached = key.data
                return sock
            self._lost(key.data, OSError(code, os.strerror(code)), sock)
        return None

    def _lost(self, address: Address, error: OSError, sock: socket.socket | None) -> None:
        if sock is not None:
            sock.close()
        self.failed.append(address)
        self._failures.append((str(address[1][0]), error))

    def _failed(self) -> ConnectError:
        cure = cures.dial(self._port, [str(error) for _, error in self._failures])
        text = f"cannot connect to port {self._port}: {self._told()}"
        failure = ConnectError(text, stage=Stage.CONNECT, cure=cure)
        if self._failures:
            failure.__cause__ = self._failures[-1][1]
        return failure

    def _told(self) -> str:
        waiting = [(str(address[1][0]), "no answer") for address in self._waiting()]
        lost = [(address, error.strerror or str(error)) for address, error in self._failures]
        return "; ".join(f"{address}: {why}" for address, why in lost + waiting) or "no address"

    def close(self, but: socket.socket | None = None) -> None:
        """Close every socket but this one."""
        for sock in self._sockets:
            if sock is not but:
                sock.close()
        if self._selector is not None:
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
