"""The parts of a pool alone: connections without sockets, servers that are only names, a lock that looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pysmtpx import ConnectionLost, MailObject, RetryPolicy, Server, SmtpError
from pysmtpx.events import Event, Events
from pysmtpx.flow.allowance import Allowance
from pysmtpx.flow.pipeline import Done
from pysmtpx.flow.plan import Plan
from pysmtpx.pooling.backoff import Backoff
from pysmtpx.pooling.connection import Lease, PooledConnection, PooledServer
from pysmtpx.pooling.connections import Connections
from pysmtpx.pooling.engine import Engine
from pysmtpx.pooling.job import Job
from pysmtpx.pooling.selection import Limits
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import SendResult

OK = Reply(250)
BODY = b"Subject: x\r\n\r\nhello\r\n"

Talk = Callable[["Stream", Any, Plan], "list[Done]"]
"""What a connection says to the message that is pushed on it."""


def job(path: str = "r@x.example", **options: Any) -> Job:
    return Job(MailObject("s@x.example", path, BODY), **options)


def accepted(plan: Plan) -> SendResult:
    return SendResult(plan.mail.recipients, (), OK)


def takes_all(stream: Stream, token: Any, plan: Plan) -> list[Done]:
    """A server that takes every message, one at a time."""
    return [Done(token, accepted(plan))]


class Stream:
    """A stream of messages over such a channel."""

    is_running = False

    def __init__(self, line: Line, talk: Talk) -> None:
        self.line = line
        self.held: list[tuple[Any, Plan]] = []
        """Pushed, and left under way by ``talk``."""
        self._talk = talk

    @property
    def is_open(self) -> bool:
        return not self.line.closed

    @property
    def is_busy(self) -> bool:
        return bool(self.held) and not self.line.is_eager

    def __enter__(self) -> Stream:
        if self.line.is_dead:
            self.line.closed = True
            raise ConnectionLost("gone", stage=Stage.INPUT)
        return self

    def push(self, token: Any, plan: Plan, deadline: Any = None) -> list[Done]:
        return self._talk(self, token, plan)

    def finish(self) -> list[Done]:
        held, self.held = self.held, []
        return [Done(token, accepted(plan)) for token, plan in held]

    def known(self) -> list[Done]:
        return []

    def __exit__(self, *_: object) -> None:
        if self.held:
            self.line.close()


class Line:
    """A channel without a socket."""

    is_foreign = is_tls = False
    round_trips = 0
    allowance: Allowance | None = None

    def __init__(self, talk: Talk = takes_all) -> None:
        self.closed = False
        self.is_dead = False
        """The look before the first command finds that it is gone."""
        self.is_eager = False
        """Messages are taken for it as if none were under way."""
        self.said: list[str] = []
        self._talk = talk

    def run(self, make: Any, deadline: Any, **options: Any) -> Any:
        self.said.append("run")

    def stream(self, **options: Any) -> Stream:
        return Stream(self, self._talk)

    def close(self) -> None:
        self.closed = True


def server(name: str = "a.example", most: int = 2, **options: Any) -> PooledServer:
    return PooledServer(Server(name, **options), Backoff(most, lambda: 0.0))


def lease(*, is_call: bool = False, thread: int = 0) -> Lease:
    made = Lease()
    made.is_call, made.thread = is_call, thread or id(made)
    return made


def connection(to: PooledServer, moment: float = 0.0, *, is_open: bool = True) -> PooledConnection:
    """One that was made at this moment and is idle since, or that is being dialled since."""
    made = PooledConnection(to, moment)
    if is_open:
        made.made = moment
        made.channel = Line()  # type: ignore[assignment]
    return made


class Exchange:
    """Dials by hand: what each dial comes to is taken from a list, at the end of it a new ``Line``."""

    def __init__(self, *results: Any, mail_max: int | None = None) -> None:
        self.dials: list[str] = []
        self.lines: list[Line] = []
        self._results = list(results)
        self._keywords = {"LIMITS": (f"MAILMAX={mail_max}",)} if mail_max else {}
        self._lock = threading.Lock()

    def __call__(self, server: Server, deadline: Any, attempt: Any) -> Any:
        with self._lock:
            self.dials.append(server.host)
            result = self._results.pop(0) if self._results else None
        if callable(result) and not isinstance(result, Line):
            result = result(server, deadline, attempt)
        if isinstance(result, BaseException):
            raise result
        line = result if isinstance(result, Line) else Line()
        self.lines.append(line)
        capabilities = Capabilities(self._keywords)
        line.allowance = Allowance.of(capabilities)
        return line, capabilities


def connections_of(
    exchange: Exchange, *servers: PooledServer, hook: Callable[[Event], None] | None = None, **options: Any
) -> Connections:
    by_priority = options.pop("by_priority", True)
    limits = Limits(options.pop("connections", 2), **options)
    where = servers or (server(most=limits.connections),)
    return Connections(
        where, limits, Events(hook), {}, by_priority=by_priority, opener=exchange, share=lambda: 0.0
    )


def engine_of(
    exchange: Exchange, *, hook: Callable[[Event], None] | None = None, most: int = 1, **policy: Any
) -> Engine:
    retry = RetryPolicy(**{"backoff": 0.0, "jitter": 0.0, **policy})
    return Engine([server(most=most)], Limits(most), retry, Events(hook), opener=exchange)


class Watched:
    """A lock that calls a function at each release: what can be seen between two steps."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._look = look
        self._depth = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        try:
            if not self._depth:
                self._look()
        finally:
            self._lock.release()


def raised(call: Callable[..., Any], *args: Any, **options: Any) -> SmtpError:
    """The error that a call raises."""
    try:
        result = call(*args, **options)
    except SmtpError as error:
        return error
    raise AssertionError(f"it returned {result!r}")
