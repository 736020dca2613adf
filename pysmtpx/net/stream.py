"""A socket, clear or TLS, that takes octets and gives replies.

The parser belongs to the stream and dies with it: nothing read in clear
outlives STARTTLS. Every failure of the system is put into the words of
``errors`` here and nowhere else.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from typing import Final

from ..errors import (
    ConnectionLost,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    TlsError,
    unasked,
)
from ..flow.effects import WITHHELD
from ..frames import bare
from ..sasl.binding import ChannelBinding
from ..wire.limits import BLOCK_LIMIT, MIN_RATE, SLICE, Stage
from ..wire.parser import REMEMBERED, ReplyParser, replies_in
from ..wire.reply import Reply
from .deadline import Deadline, now
from .tls import Tls, channel_binding, handshake, is_alert
from .wait import READ, WRITE, Waiter, pass_alarm

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None) if sys.platform == "linux" else None
_RECEIVE: Final = 64 * 1024
_CLOSED: Final = "the connection is closed"


class Stream:
    """One connection's octets, by a socket that does not block. Not safe to share: its owner holds a lock."""

    __slots__ = (
        "_broken",
        "_is_shaking",
        "_parser",
        "_quickack",
        "_sock",
        "_turned",
        "_unacknowledged",
        "_waiter",
        "_want",
        "closed",
        "farewell",
        "is_tls",
        "readable",
        "round_trips",
        "short",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiter = Waiter(sock)
        self.readable: Callable[[int], object] = self._waiter.readable
        """Wait so many milliseconds for something to be read; true also if the connection is broken."""
        self._parser = ReplyParser()
        self._broken: SmtpError | str | None = None
        """What ended it; if we did why, for a ``ConnectionLost`` that mostly nobody asks for."""
        self._quickack = _QUICKACK  # until a socket that is not TCP refuses it
        self._turned = False
        self._unacknowledged = True
        """Something was read behind the last write, which acknowledged what came before it."""
        self._want = READ | WRITE
        self.is_tls: bool = isinstance(sock, ssl.SSLSocket)
        """Whether the octets are encrypted."""
        # Under TLS 1.3 until the server has said something: it may refuse our certificate after our own
        # side of the handshake is through (RFC 8446 4.4.2).
        self._is_shaking = self.is_tls
        self.closed: bool = False
        self.farewell: Reply | None = None
        """A 421 that came behind the last reply that was owed."""
        self.round_trips: int = 0
        """Waits for a reply after something was written."""
        self.short: int = 0
        """Octets at the end of the last write that were never handed over, since it was broken off."""

    # -- writing -----------------------------------------------------------------

    def send(
        self, data: bytes | memoryview, deadline: Deadline, *, watch: bool = False, guard: bool = False
    ) -> int:
        """Write everything; true where something is there to be received.

        While the write is blocked the server's octets are read and kept, so two
        sides that both wait to be read cannot stand still (RFC 2920 3.1). With
        ``guard`` nothing is written, and ``WITHHELD`` answered, where anything
        is there or the time is over; with ``watch`` the write also stops as
        soon as anything arrives.

        Raises nothing: a write that fails, or is blocked until the deadline, or by a
        server that takes fewer than 500 octets a second (RFC 5321 4.5.3.2.5), answers
        True, and any further one ``WITHHELD``. What the server said before that, to
        this write or to an earlier one, is still received; then the failure is raised.
        ``short`` says how much of it was not written.
        """
        if self._broken is not None:
            return WITHHELD
        is_guarded = guard or watch
        if is_guarded and (deadline.at <= now() or self._peek()):
            return WITHHELD
        self._turned = True
        self.short = 0
        size = len(data)
        sent = self._offer(data) if size <= SLICE else 0
        if sent < size:
            self._push(memoryview(data)[sent:], deadline, watch)
        elif is_guarded:
            return 0  # nothing was there, and nothing was read since
        return self._broken is not None or self._parser.has_input

    def _offer(self, data: bytes | memoryview) -> int:
        """One write without waiting; how many octets went."""
        if self._broken is not None:
            return 0
        self._want = READ | WRITE
        try:
            sent = self._sock.send(data)
            self._unacknowledged = False
            return sent
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0
        except ssl.SSLWantReadError:
            self._want = READ
            return 0
        except (OSError, ValueError) as error:  # ValueError: closed by a signal handler in mid-call
            self._fail("the connection broke while writing", error)
            return 0

    def _push(self, left: memoryview, deadline: Deadline, watch: bool) -> None:
        """Write what did not go at once, reading whatever comes meanwhile."""
        goal = len(left)
        while left and self._broken is None:
            if len(left) <= goal:  # the next block of at most a slice begins
                block = min(len(left), SLICE)
                goal = len(left) - block
                limit = deadline.within(_block_limit(block))
            seconds = limit.remaining()
            ready = self._waiter.wait(self._want, seconds) if seconds > 0 else 0
            if not ready:
                self._break(Timeout("the server stopped reading"))
                break
            if ready & READ:
                self._pull()
                if watch and (self._broken is not None or self._parser.has_input):
                    break
            # A slice at a time: what TLS did not take must be offered again as it was, however long.
            left = left[self._offer(left[:SLICE]) :]
        self.short = len(left)

    # -- reading -----------------------------------------------------------------

    def receive(
        self, deadline: Deadline, seconds: float, last: bool = True, count: int = 1
    ) -> tuple[Reply, ...]:
        """The next replies, one or up to ``count``, until the deadline or so many seconds from now.

        Raises ``Timeout``, ``ConnectionLost`` or ``ProtocolError``; the last also if there is more than
        ``count`` and that is the ``last`` which is owed.
        """
        parser, left = self._parser, seconds
        end: float | None = None
        while True:
            if parser.has_input and (replies := parser.take(count, last)):
                if last and parser.has_input and count == 1:
                    self._judge_surplus(replies[0])
                return replies
            if self._broken is not None:
                raise _failure(self._broken)
            if left <= 0:
                # What came in time is taken, but octets that make no reply buy no time.
                raise Timeout("no reply came in time")
            moment = now()
            if end is None:
                end = moment + seconds if moment + seconds < deadline.at else deadline.at
                self.round_trips += self._turned
                self._turned = False
            left = end - moment
            if not (self.is_tls and self._has_pending()):
                if self._unacknowledged and self._quickack is not None:
                    try:
                        # The server's Nagle waits for our delayed acknowledgement: 40 ms each.
                        self._sock.setsockopt(socket.IPPROTO_TCP, self._quickack, 1)
                    except OSError as error:  # the peer is gone: the read that follows says so
                        pass_alarm(error)
                        self._quickack = None
                # Rounded up: a wait that ends too early would spin until the deadline.
                if not self.readable(int(left * 1000) + 1 if left > 0 else 0):
                    raise Timeout("no reply came in time")
            octets = self._read()
            if not parser.has_input and len(octets) <= REMEMBERED and (found := replies_in(octets)):
                # The usual case: the answers to what was written last come together, each whole.
                more = found[count:]
                if not more:
                    return found
                if not last:
                    parser.keep(more)
                    return found[:count]
                parser.keep(found)
            elif octets:
                self._feed(octets)

    def _judge_surplus(self, reply: Reply) -> None:
        """Octets behind the last reply that is owed: a 421 may come at any time, nothing else may.

        Behind a 421 only 250 says more than that: the 421 can have been one too many. Postfix greets
        by 220 behind a 421 about the client's certificate, and others say 221.
        """
        surplus = self._parser.next()
        if reply.code == 421 and (surplus is None or surplus.code != 250):
            return
        if surplus is None or surplus.code != 421 or self._parser.has_input:
            error = ProtocolError("the server sent more than was owed")
            error.surplus = (reply, surplus)
            raise error
        self.farewell = surplus
        self._broken = ServiceUnavailable("the server is closing the connection", reply=surplus)

    def _has_pending(self) -> bool:
        """Whether TLS holds decrypted octets that the descriptor does not show."""
        return isinstance(self._sock, ssl.SSLSocket) and bool(self._sock.pending())

    def _read(self) -> bytes:
        """What can be read without waiting; a failure or the end is kept in ``_broken``."""
        self._unacknowledged = True
        try:
            octets = self._sock.recv(_RECEIVE)
            if octets:
                self._is_shaking = False
                return octets
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except ssl.SSLWantWriteError:
            # A key update that must be written first; the next wait is a short one.
            self._waiter.wait(WRITE, 1.0)
            return b""
        except (OSError, ValueError) as error:
            self._fail("the connection broke while reading", error)
            return b""
        if self._broken is None:
            self._broken = ConnectionLost("the server closed the connection")
        return b""

    def _feed(self, octets: bytes) -> None:
        try:
            self._parser.feed(octets)
        except ProtocolError as error:  # it is too much; the replies before it are still handed out
            self._broken = self._broken or error

    def _pull(self) -> None:
        """Keep what can be read without waiting."""
        if octets := self._read():
            self._feed(octets)

    def _peek(self) -> bool:
        """Read without waiting; whether anything, or the end, is there."""
        if (self.is_tls and self._has_pending()) or self.readable(0):
            self._pull()
        return self._broken is not None or self._parser.has_input

    def _fail(self, text: str, error: Exception) -> None:
        """Note a broken line."""
        pass_alarm(error)
        if self._broken is None:
            self._break(self._loss(text, error))

    def _break(self, error: SmtpError) -> None:
        """Write no more; what the server has said by now outranks that, and is read once."""
        self._broken = error
        self._drain()

    def _loss(self, text: str, error: Exception) -> SmtpError:
        """What it means that the line broke by this error."""
        refused = self._is_shaking and is_alert(error)
        lost: SmtpError = (
            TlsError(f"the server refused the TLS handshake: {error}", stage=Stage.STARTTLS, final=True)
            if refused
            else ConnectionLost(f"{text}: {error}")
        )
        lost.__cause__ = bare(error)  # what was to be written may be a secret, and is a local of its frames
        return lost

    def _drain(self) -> None:
        try:
            if octets := self._sock.recv(_RECEIVE):
                self._feed(octets)
        except (OSError, ValueError) as error:
            pass_alarm(error)
            if self._is_shaking and is_alert(error):  # it explains why the write failed
                self._broken = self._loss("", error)

    def check_idle(self) -> None:
        """Raise unless the connection is alive and silent, without a wait.

        Between calls nothing is owed, so whatever is there is a farewell (421),
        the end, or a breach; it must not be taken for the answer to the next
        command. A TLS 1.3 session ticket is neither.
        """
        if not self._peek():
            return
        reply = self._parser.next()
        if reply is not None or self._broken is None:
            raise unasked(reply)
        raise _failure(self._broken)

    # -- TLS and the end -----------------------------------------------------------

    def start_tls(self, tls: Tls, deadline: Deadline) -> Stream:
        """A new stream over this one's socket, after the handshake.

        Raises ``TlsError``, ``Timeout``, and ``ProtocolError`` where octets are
        waiting that were sent in clear: they could have been injected (RFC
        3207 4.2, CVE-2026-41319).
        """
        if self._parser.has_input:
            raise ProtocolError(
                "the server sent octets in clear behind its answer to STARTTLS", stage=Stage.STARTTLS
            )
        stream = Stream(handshake(self._sock, tls, deadline, self._adopt))
        stream.round_trips = self.round_trips + 1
        self._broken = "the connection goes on under TLS"
        return stream

    def _adopt(self, sock: ssl.SSLSocket) -> None:
        """It has the descriptor now, which ``shutdown`` and ``close`` are about."""
        self._sock = sock

    @property
    def tls_version(self) -> str | None:
        """As ``ssl`` calls it, None without TLS."""
        return self._sock.version() if isinstance(self._sock, ssl.SSLSocket) else None

    def binding(self) -> ChannelBinding | None:
        """What a log-in can be bound to; None without TLS."""
        return channel_binding(self._sock) if isinstance(self._sock, ssl.SSLSocket) else None

    def shutdown(self) -> None:
        """Wake whoever waits on this stream in another thread; it then closes it."""
        try:
            # Not SSLSocket's own, which drops the TLS state from under the reader.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError as error:
            pass_alarm(error)

    def say_farewell(self) -> None:
        """Over TLS write a close_notify (RFC 8446 6.1), if it goes at once; only ``close`` may follow.

        To be called behind the last reply that matters: a server answers it by hanging up. One that keeps
        sessions itself, in place of tickets, forgets that of a connection which ends without it.
        """
        if isinstance(self._sock, ssl.SSLSocket) and self._broken is None:
            self._broken = _CLOSED
            try:
                self._sock.unwrap()
            except (OSError, ValueError) as error:  # that of the server is not there yet, and not waited for
                pass_alarm(error)

    def close(self) -> None:
        """Close the socket without another octet, close_notify included. Does nothing twice.

        Nothing is written after it, and no reply that was read is handed out.
        """
        self._broken = _CLOSED
        self._sock.close()
        if self._parser.has_input:
            self._parser = ReplyParser()
        self.closed = True  # last, so that one whose closing was interrupted is closed again

    def __repr__(self) -> str:
        state = "closed" if self.closed else "TLS" if self.is_tls else "clear"
        return f"<Stream fd={self._sock.fileno()} {state}>"


def _failure(broken: SmtpError | str) -> SmtpError:
    return ConnectionLost(broken) if isinstance(broken, str) else broken


def _block_limit(octets: int) -> float:
    """Seconds for a write of so many octets."""
    return min(BLOCK_LIMIT, max(30.0, octets / MIN_RATE))
