"""Run a flow without a socket, against a script of what is written and what is answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pysmtpx.errors import ConnectionLost, ProtocolError, SmtpError
from pysmtpx.flow.effects import WITHHELD, Close, Hear, Receive, Send, StartTls
from pysmtpx.sasl.binding import ChannelBinding
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.parser import ReplyParser
from pysmtpx.wire.reply import Reply

Answer: TypeAlias = bytes | SmtpError
Written: TypeAlias = bytes | re.Pattern[bytes] | None
"""The exact octets, a pattern for all that is pending, or None for whatever is pending."""
Step: TypeAlias = tuple[Written, Answer]
Server: TypeAlias = Callable[[bytes], Answer]


@dataclass
class Run:
    """What became of a flow."""

    value: Any = None
    error: SmtpError | None = None
    sent: list[bytes] = field(default_factory=list)
    secret: list[bool] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    closed: bool = False
    secure: bool = False

    def result(self) -> Any:
        """Return what the flow returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


def drive(
    flow: Generator[Any, Any, Any], script: Sequence[Step] | Server, *, binding: ChannelBinding | None = None
) -> Run:
    """Run a flow to its end, and catch the ``SmtpError`` that ends it.

    A script is a list of pairs: what the flow writes, and the octets that the
    server then sends (``b""``: none). A first pair of ``(b"", greeting)`` speaks
    before anything was written. One write may satisfy several pairs, and several
    writes one. In place of octets an ``SmtpError`` is thrown into the flow where it
    next receives, as the driver does when the line breaks; where nothing is left to receive,
    that is ``ConnectionLost``. Instead of a list, a function answers each write.

    ``binding`` is what StartTls is answered with. Fails where the flow writes
    something else, goes on after it closed, or ends with steps left over.
    """
    return _Driver(script, binding).run(flow)


def heard(effect: Receive | Hear, replies: Iterator[Reply]) -> Reply | None:
    """What a flow that waits for replies is resumed with."""
    if isinstance(effect, Receive):
        return next(replies)
    for _ in range(effect.count):
        effect.listener.note((next(replies),))
    return None


class _Driver:
    def __init__(self, script: Sequence[Step] | Server, binding: ChannelBinding | None) -> None:
        self.server = script if callable(script) else None
        self.steps = [] if callable(script) else list(script)
        self.binding = binding
        self.parser = ReplyParser()
        self.failure: SmtpError | None = None
        self.pending = b""
        self.outcome = Run()

    def run(self, flow: Generator[Any, Any, Any]) -> Run:
        self._take_steps()
        resume: Callable[[Any], Any] = flow.send
        answer: Any = None
        try:
            while True:
                effect = resume(answer)
                assert not self.outcome.closed, f"the flow asked for {effect} after it had closed"
                try:
                    resume, answer = flow.send, self._perform(effect)
                except SmtpError as error:
                    resume, answer = flow.throw, error
        except StopIteration as stop:
            self.outcome.value = stop.value
        except SmtpError as error:
            self.outcome.error = error
        assert not self.pending, f"written and not in the script: {self.pending!r}"
        assert not self.steps, f"left of the script: {self.steps!r}"
        return self.outcome

    def _perform(self, effect: Any) -> Any:
        match effect:
            case Send(guard=True) if self.parser.has_input or self.failure is not None:
                return WITHHELD
            case Send(data=data, secret=secret):
                return self._send(bytes(data), secret)
            case Receive(stage=stage, last=last):
                return self._receive(stage, last)
            case Hear(listener=listener, count=count, last=last):
                for left in reversed(range(count)):
                    listener.note((self._receive(listener.stage, last and not left),))
                return None
            case StartTls():
                return self._start_tls()
            case Close():
                self.outcome.closed = True
                return None
        raise AssertionError(f"no such effect: {effect!r}")

    def _send(self, data: bytes, secret: bool) -> bool:
        self.outcome.sent.append(data)
        self.outcome.secret.append(secret)
        if self.server is not None:
            self._hear(self.server(data))
        else:
            self.pending += data
            self._take_steps()
        return self.parser.has_input or self.failure is not None

    def _receive(self, stage: Stage, last: bool) -> Any:
        self.outcome.stages.append(stage)
        reply = self.parser.next()
        if reply is None:
            raise self.failure or ConnectionLost("the script has no more replies", stage=stage)
        if last and self.parser.has_input:
            raise ProtocolError("a reply came that nobody asked for", stage=stage)
        return reply

    def _start_tls(self) -> bytes | None:
        if self.parser.has_input:
            raise ProtocolError("clear text is waiting before TLS", stage=Stage.STARTTLS)
        self.parser = ReplyParser()
        self.outcome.secure = True
        return self.binding

    def _take_steps(self) -> None:
        while self.steps:
            length = self._matched(self.steps[0][0])
            if length is None:
                return
            self.pending = self.pending[length:]
            self._hear(self.steps.pop(0)[1])

    def _matched(self, expected: Written) -> int | None:
        """Return how many of the pending octets the next step takes; None: wait for more."""
        if isinstance(expected, bytes):
            if self.pending.startswith(expected):
                return len(expected)
            assert expected.startswith(self.pending), f"{self.pending!r} was written, not {expected!r}"
            return None
        if not self.pending:
            return None
        if expected is not None:
            assert expected.fullmatch(self.pending), f"{self.pending!r} was written, not {expected.pattern!r}"
        return len(self.pending)

    def _hear(self, answer: Answer) -> None:
        if isinstance(answer, SmtpError):
            self.failure = answer
        else:
            self.parser.feed(answer)
