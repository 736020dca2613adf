"""Run flows against the strict server without a socket, over a line that can be cut at any octet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pysmtpx.errors import (
    AuthenticationError,
    ConnectionLost,
    ProtocolError,
    RejectedError,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.effects import END, WITHHELD, Close, Flow, Hear, Receive, Report, Send, Settled, Take
from pysmtpx.testing.actions import Close as Hangup
from pysmtpx.testing.actions import Write
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.wire.parser import ReplyParser


class Stopped(Exception):
    """The caller of a stream is gone."""


@dataclass
class Line:
    """A connection to a server session; the driver of ``channel`` in small, over no socket."""

    session: ServerSession
    slices: Iterator[int]
    """How many octets the client receives at a time."""
    to_client: int | None = None
    """Octets of the server that arrive before the line is cut; None: it never is."""
    to_server: int | None = None
    """Octets of the client that arrive."""
    parser: ReplyParser = field(default_factory=ReplyParser)
    inbox: bytes = b""
    stalls: bool = False
    """The write that is cut is taken no further than it arrives: it times out. Else half of the rest is."""
    written: bytes = b""
    """What was handed over while the line was alive."""
    dead: bool = False
    closed: bool = False
    farewell: bool = False
    stop: int | None = None
    """The caller of a stream goes away at this report, as one who closes its iterator does."""
    take: Callable[[bool], Any] = field(default=lambda wait: END)
    reports: list[Report] = field(default_factory=list)

    def run(self, flow: Flow[Any]) -> Any:
        """What the flow returns; raises what it raises. Keeps or closes as the channel does."""
        assert not self.closed
        try:
            effect = next(flow)
            while True:
                try:
                    result = self._perform(effect)
                except SmtpError as error:
                    self._close()
                    effect = flow.throw(error)
                except Stopped:
                    raise
                except Exception as error:
                    if not isinstance(effect, Take):
                        raise
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            self._end(self.farewell)
            return stop.value
        except Stopped:
            raise
        except BaseException as error:
            self._end(self.farewell or not isinstance(error, RejectedError | AuthenticationError))
            raise

    def stream(self, flow: Flow[Any], take: Callable[[bool], Any], reports: list[Report]) -> Any:
        """Run a stream of messages; what it reports, in order."""
        self.take, self.reports = take, reports
        try:
            return self.run(flow)
        except Stopped:
            flow.close()
            self._end(not reports[-1].idle)
            return None

    def _end(self, close: bool) -> None:
        if close:
            self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self.session.eof()

    def _perform(self, effect: Any) -> Any:
        match effect:
            case Send(watch=watch, guard=guard):
                return WITHHELD if (watch or guard) and self._has_input() else self._send(effect)
            case Receive(last=last):
                return self._receive(last)
            case Hear(listener=listener, count=count, last=last):
                for left in reversed(range(count)):
                    listener.note(self._receive(last and not left))
                return None
            case Close():
                self._close()
                return None
            case Settled():
                return None
            case Take(wait=wait):
                return END if self.closed or self.farewell else self.take(wait)
            case Report():
                assert effect.idle or not self.closed, "closed, and something is said to be under way"
                self.reports.append(effect)
                if len(self.reports) == self.stop:
                    raise Stopped
                return None
        raise AssertionError(effect)

    def _send(self, effect: Send) -> int:
        data = bytes(effect.data)
        if self.closed:
            return WITHHELD
        assert not self.farewell, "octets after 421"
        if self.dead:
            return WITHHELD
        arrives = data if self.to_server is None else data[: self.to_server]
        missing = len(data) - len(arrives)
        effect.short = missing if self.stalls else missing // 2
        self.written += data[: len(data) - effect.short]
        if self.to_server is not None:
            self.to_server -= len(arrives)
            self.dead = missing > 0
        unread = bool(self.inbox) or self.parser.has_input
        self._take(self.session.receive(arrives, unread=unread))
        return self._has_input()

    def _take(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Write):
                octets = action.octets if self.to_client is None else action.octets[: self.to_client]
                if self.to_client is not None:
                    self.to_client -= len(octets)
                    # Also where the last that comes is whole: the end may stand right behind a reply.
                    self.dead = self.dead or not self.to_client
                self.inbox += octets
            elif isinstance(action, Hangup):
                self.dead = True
            else:
                raise AssertionError(action)

    def _has_input(self) -> bool:
        return bool(self.inbox) or self.parser.has_input or self.dead

    def _receive(self, last: bool) -> Any:
        if self.closed:
            raise ConnectionLost("closed")
        while (reply := self.parser.next()) is None:
            if not self.inbox:
                # A server that is alive and silent is one whose replies were miscounted.
                if not self.dead:
                    raise AssertionError("waits for a reply that is not owed")
                raise Timeout("the server stopped reading") if self.stalls else ConnectionLost("cut")
            size = next(self.slices)
            self.parser.feed(self.inbox[:size])
            self.inbox = self.inbox[size:]
        self.farewell = self.farewell or reply.code == 421
        if last and (self.parser.has_input or self.inbox):
            raise ProtocolError("more than was owed")
        return reply
