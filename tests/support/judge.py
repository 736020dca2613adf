"""Run flows against the strict server without a socket, over a line that can be cut at any octet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from hypothesis import strategies as st

from pysmtpx.errors import (
    AuthenticationError,
    ConnectionLost,
    ProtocolError,
    RejectedError,
    ServiceUnavailable,
    SessionLimitReached,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.effects import WITHHELD, Close, Flow, Hear, Receive, Record, Send, Transcribe, Until
from pysmtpx.flow.pipeline import Done, Pipeline
from pysmtpx.flow.plan import Plan
from pysmtpx.testing.actions import Close as Hangup
from pysmtpx.testing.actions import Write
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.parser import ReplyParser, replies_in
from pysmtpx.wire.reply import Reply


@dataclass(frozen=True)
class Surplus:
    """One reply too many, in one segment with a true one."""

    at: int
    """Which of the server's replies that is, counted from 0."""
    code: int
    is_behind: bool
    """It stands behind the true reply, else before it."""

    @property
    def octets(self) -> bytes:
        return b"%d one too many\r\n" % self.code


def surpluses(most: int = 12) -> st.SearchStrategy[Surplus]:
    """Any reply too many among the first so many, but for 421, which a server may say at any time."""
    codes = st.sampled_from([250, 250, 354, 450, 503, 550, 552])
    return st.builds(Surplus, st.integers(0, most), codes, st.booleans())


class Pause(Enum):
    """Why a source has no message for the moment."""

    LATER = "later"
    END = "end"


LATER, END = Pause.LATER, Pause.END

_KEEPS = (RejectedError, AuthenticationError, SessionLimitReached)

Source: TypeAlias = Callable[[bool], "tuple[Any, Plan | SmtpError] | Pause"]
"""Gives a token and its plan, or the error for which there is none; called with True may take its time."""


@dataclass
class Records:
    """Writes down who is about to be in doubt, unless it fails."""

    fails: tuple[bool, ...] = ()
    """Whether each record in turn does; those behind the last do not."""
    doubtful: set[str] = field(default_factory=set)
    failed: int = 0
    count: int = 0

    def __call__(self, entries: Sequence[tuple[Any, Sequence[str]]]) -> None:
        self.count += 1
        if self.count <= len(self.fails) and self.fails[self.count - 1]:
            self.failed += 1
            raise SmtpError("the disk is full")
        for _, recipients in entries:
            self.doubtful.update(recipients)


def _raised(action: Callable[[], None]) -> SmtpError | None:
    try:
        action()
    except SmtpError as error:
        return error
    return None


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
    """Whoever pushes goes away when so many messages are told, as one who closes an iterator does."""
    surplus: Surplus | None = None
    """What the server says that answers nothing."""
    said: int = 0
    """Replies of the server so far."""
    shut: Reply | None = None
    """The 421 that stood behind the last reply that was owed."""
    is_shifted: bool = False
    """The surplus was said."""

    def run(self, flow: Flow[Any]) -> Any:
        """What the flow returns; raises what it raises. Keeps or closes as the channel does."""
        try:
            effect = next(flow)
            while True:
                try:
                    result = self._perform(effect)
                except SmtpError as error:
                    self._close()
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            self._end(self.farewell)
            return stop.value
        except BaseException as error:
            self._end(self.farewell or not isinstance(error, _KEEPS))
            raise

    def stream(self, pipeline: Pipeline, take: Source, told: list[Done]) -> Exception | None:
        """Push what a source gives, as the owner of a stream does; what the source raised.

        What became of each message is appended to ``told``, in order.
        """
        failure = None
        while not (pipeline.is_closed or self.closed or self.farewell or len(told) == self.stop):
            try:
                entry = take(not pipeline.is_busy)
            except Exception as error:
                failure = error
                break
            if isinstance(entry, tuple) and not isinstance(entry[1], SmtpError):
                self._drive(pipeline.push(*entry), pipeline, told)
                continue
            self._drive(pipeline.finish(), pipeline, told)
            if entry is END:
                break
            if isinstance(entry, tuple) and len(told) != self.stop:
                told.append(Done(*entry))
        if len(told) == self.stop:
            self._end(pipeline.is_busy)
        else:
            self._drive(pipeline.finish(), pipeline, told)
        return failure

    def _drive(self, flow: Flow[None], pipeline: Pipeline, told: list[Done]) -> None:
        self.run(flow)
        assert self.closed or not pipeline.is_closed
        told += pipeline.known()[: None if self.stop is None else self.stop - len(told)]

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
            case Receive(stage=stage, last=last):
                return self._receive(stage, last)
            case Hear(listener=listener, count=count, last=last):
                while count:
                    replies = self._together(count, last)
                    replies = replies or (self._receive(listener.stage, last and count == 1),)
                    count -= len(replies)
                    listener.note(replies)
                return None
            case Close():
                self._close()
                return None
            case Record(action=action):
                return _raised(action)
            case Until() | Transcribe():
                return None
        raise AssertionError(effect)

    def _send(self, effect: Send) -> int:
        data = bytes(effect.data)
        if self.closed or self.shut is not None:
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
                said = self._with_surplus(action.octets)
                octets = said if self.to_client is None else said[: self.to_client]
                if self.to_client is not None:
                    self.to_client -= len(octets)
                    # Also where the last that comes is whole: the end may stand right behind a reply.
                    self.dead = self.dead or not self.to_client
                self.inbox += octets
            elif isinstance(action, Hangup):
                self.dead = True
            else:
                raise AssertionError(action)

    def _with_surplus(self, octets: bytes) -> bytes:
        """What the server says, and what it says too much where that is due."""
        found: list[bytes] = []
        for line in octets.splitlines(keepends=True):
            found.append(line)
            if line[3:4] == b"-":
                continue
            if self.surplus is not None and self.said == self.surplus.at:
                found.insert(len(found) - (not self.surplus.is_behind), self.surplus.octets)
                self.is_shifted = True
            self.said += 1
        return b"".join(found)

    def _has_input(self) -> bool:
        return bool(self.inbox) or self.parser.has_input or self.dead

    def _together(self, count: int, last: bool) -> tuple[Reply, ...]:
        """Replies that arrive together and alone, as the stream of the driver hands them out."""
        if self.closed or self.parser.has_input or self.shut is not None:
            return ()
        size = next(self.slices)
        replies = replies_in(self.inbox[:size]) if self.inbox else None
        is_all = replies is not None and last and len(replies) == count
        if replies is None or replies[count:] or (is_all and self.inbox[size:]):
            return ()
        self.inbox = self.inbox[size:]
        self.farewell = self.farewell or any(reply.code == 421 for reply in replies)
        return replies

    def _receive(self, stage: Stage, last: bool) -> Any:
        if self.closed:
            raise ConnectionLost("closed")
        while (reply := self.parser.next()) is None:
            if not self.inbox:
                raise self._silence()
            size = next(self.slices)
            self.parser.feed(self.inbox[:size])
            self.inbox = self.inbox[size:]
        self.farewell = self.farewell or reply.code == 421
        if last and reply.code != 421 and (self.parser.has_input or self.inbox):
            self._judge_surplus(reply)
        if self.shut is not None and reply.code < 400 and stage is not Stage.FINAL:
            return self.shut
        return reply

    def _silence(self) -> SmtpError:
        """What it means that nothing comes."""
        if self.shut is not None:
            return ServiceUnavailable("the server is closing the connection", reply=self.shut)
        if self.dead:
            return Timeout("the server stopped reading") if self.stalls else ConnectionLost("cut")
        # A server that is alive and silent is one whose replies were miscounted: by the client, unless one
        # too many led it astray.
        assert self.is_shifted, "waits for a reply that is not owed"
        return Timeout("the server says nothing")

    def _judge_surplus(self, reply: Reply) -> None:
        """Octets behind the last reply that is owed, as the stream of the driver takes them."""
        self.parser.feed(self.inbox)
        self.inbox = b""
        surplus = self.parser.next()
        if surplus is None or surplus.code != 421 or self.parser.has_input:
            error = ProtocolError("more than was owed")
            error.surplus = (reply, surplus)
            raise error
        self.farewell, self.shut = True, surplus
