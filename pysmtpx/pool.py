"""Many connections to one server or several: a pool that sends in any thread and loses track of nothing."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, Unpack

from .connection import SmtpConnection
from .errors import InputError, SmtpError, UsageError
from .events import Events
from .flow.plan import as_options
from .frames import conceals
from .journal.store import JournalError, Store
from .message import AnyMessage
from .net.deadline import Deadline
from .options import (
    MESSAGE_DEFAULTS,
    MessageOptions,
    TransactionOptions,
    spelled_out,
    unknown,
)
from .outcome import Outcome
from .outgoing import Outgoing, alike
from .pooling.arguments import BALANCES, POOL_DEFAULTS, PoolOptions, PoolStats, parted
from .pooling.backoff import Backoff
from .pooling.call import Call
from .pooling.connection import Lease, PooledConnection, PooledServer
from .pooling.engine import Engine
from .pooling.fanout import FanOut
from .pooling.job import Envelope, Job
from .pooling.journaling import Keeper, opened
from .pooling.ratelimit import RateLimit
from .pooling.selection import Limits
from .retry import RetryPolicy
from .route import Route, routes
from .sending import Mail, check_mail, check_messages
from .server import Server
from .values import above_zero, flag, positive, whole
from .wire.envelope import AnyContent, MailObject
from .wire.limits import CONNECT_TIMEOUT, SEND_TIMEOUT
from .wire.params import MailFromParams, RcptParams
from .wire.result import SendResult

if TYPE_CHECKING:
    from .checking.report import Check

_One: TypeAlias = str | os.PathLike[str] | Server | Route
_WINDOW: Final = 64
"""Messages between the iterable and the caller of ``send_many``, at least."""
_WINDOW_SECONDS: Final = 30.0
"""Where the rate is limited, what it allows in so many seconds."""
_SECONDS_OF_A_MESSAGE: Final = 1.0
"""Of a slow server: what waits behind others must have its turn in half of its time."""


class SmtpPool:
    """Connections to one server, or to several, kept and shared; a context manager, safe in any thread.

    ``server`` is what ``connect`` takes, or a ``Route``, or a sequence of these:
    used by ``balance``, the first that takes mail (``"failover"``, also called
    ``"priority"``), the least busy (``"even"``), or each for its share of the
    messages (``"weighted"``). At most ``max_connections`` are open over all of them, those that are being
    dialled counted. Each is closed after ``max_messages``, ``max_age`` seconds
    or ``max_idle`` seconds without use, whichever comes first; None is no limit. A server that cannot
    be reached is dialled again after a second, then after twice as long, up to
    ``max_reconnect_delay`` seconds. ``rate`` and
    ``recipient_rate`` are the most messages and recipients a second, strictly.
    ``retry`` says what is tried again. ``in_flight`` is that of
    ``SmtpConnection.send_many``. ``max_queued`` messages wait for a worker at
    most: then ``submit`` waits for a place. ``journal`` is the path of a file, the
    URL of a PostgreSQL, or a ``Journal``: each message is recorded there before
    ``submit`` returns, and what an earlier process left is sent; see
    docs/how-to/journal.md. ``on_event`` is called for each ``Event``, in
    the thread in which it happened, but not for mail that the hook sends.
    Other keywords are those of ``Server``.

    Leaving the ``with`` block sends what is queued first; an interrupt shuts
    everything down at once. Raises ``InputError`` for what cannot be right, and
    ``JournalError`` for a journal that cannot be opened.
    """

    @conceals
    @spelled_out(PoolOptions, POOL_DEFAULTS)
    def __init__(
        self,
        server: _One | Sequence[_One],
        *,
        retry: RetryPolicy | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        given, of_server = parted(options, "server", "retry")
        limits = Limits(
            whole("max_connections", given["max_connections"]),
            None if given["max_messages"] is None else whole("max_messages", given["max_messages"]),
            positive("max_age", given["max_age"]),
            positive("max_idle", given["max_idle"]),
        )
        self._rate = positive("rate", given["rate"])
        recipient_rate = positive("recipient_rate", given["recipient_rate"])
        if given["balance"] not in BALANCES:
            raise InputError('balance is "failover" (or "priority"), "even" or "weighted"')
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise InputError("retry is a RetryPolicy")
        if given["on_event"] is not None and not callable(given["on_event"]):
            raise InputError("on_event is a function of an event, or None")
        longest = above_zero("max_reconnect_delay", given["max_reconnect_delay"])
        self._routes = routes(server, of_server, options.keys())
        self._servers = [_pooled(route, limits.connections, longest) for route in self._routes]
        self._outgoing = alike([each.server.outgoing for each in self._servers])
        if self._outgoing is not None:
            self._outgoing.announce(", ".join(each.name for each in self._servers))
        self._engine = Engine(
            self._servers,
            limits,
            retry or RetryPolicy(),
            Events(given["on_event"]),
            by_priority=given["balance"] in ("failover", "priority"),
            is_weighted=given["balance"] == "weighted",
            in_flight=whole("in_flight", given["in_flight"]),
            most_queued=whole("max_queued", given["max_queued"]),
            rate=_rate_limit(self._rate, recipient_rate),
        )
        self._keep(given["journal"], given["max_queued"])

    def _keep(self, journal: str | os.PathLike[str] | Store | None, most: int) -> None:
        """Take up what is owed by a journal, if there is one, and record there what is sent from now on."""
        store, is_own = opened(journal)
        if store is not None:
            engine, room = self._engine, min(most, self._window(None))
            engine.keeper = Keeper(store, is_own, room, engine.put_owed, self._outgoing)
            engine.keeper.start()

    # -- sending ----------------------------------------------------------------------

    @spelled_out(TransactionOptions, MESSAGE_DEFAULTS)
    def send(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        **options: Unpack[TransactionOptions],
    ) -> SendResult:
        """Send a message in the calling thread, over SMTP or LMTP.

        The arguments are those of ``SmtpConnection.send``, and so is what it
        raises, besides what ``connect`` raises. ``timeout`` holds for the whole
        call: the wait for a connection, dialling, and every try. An interrupt
        closes the connection in use and leaves the pool usable. From within a
        callback, a hook or content of the same pool it raises ``UsageError``:
        ``submit`` is for these.
        """
        return self._run(
            _job(
                message,
                outgoing=self._outgoing,
                is_source=True,
                sender=sender,
                recipients=recipients,
                **options,
            )
        )

    @spelled_out(MessageOptions, MESSAGE_DEFAULTS)
    def send_message(self, message: AnyMessage, **options: Unpack[MessageOptions]) -> SendResult:
        """``send`` for an ``email`` message, or the octets or file of one: see ``SmtpConnection``."""
        return self._run(_job(message, outgoing=self._outgoing, **options))

    @spelled_out(MessageOptions, MESSAGE_DEFAULTS)
    def submit(self, message: Mail, **options: Unpack[MessageOptions]) -> Future[SendResult]:
        """Queue a message for the workers. The future has the result, or raises what ``send`` would.

        The message is copied, and may be changed afterwards. ``timeout`` counts
        from now, and includes the wait in the queue and, where that is full,
        for a place in it. ``cancel`` on the future succeeds until a worker has
        taken the message; callbacks are called in the worker.

        Raises ``InputError`` for what is no message, ``Timeout`` where the queue
        stays full, ``UsageError`` where the pool is closed or the process ends,
        and for an envelope beside that of a ``MailObject``.
        """
        check_mail(message)
        future: Future[SendResult] = Future()
        job = _job(message, outgoing=self._outgoing, future=future, **options)
        keeper = self._engine.keeper
        if keeper is not None:
            return self._submit(job, future, keeper)
        job.freeze()
        self._engine.put(job)
        return future

    def _submit(self, job: Job, future: Future[SendResult], keeper: Keeper) -> Future[SendResult]:
        """The same by way of the journal, where it is when this returns."""
        if self._engine.is_closed:
            raise UsageError("the pool is closed")
        try:
            keeper.enter(job, durable=True)
        except JournalError as error:
            job.end(error)
            raise
        except SmtpError as error:
            if job.end(error):
                self._engine.outcomes.ended(job)
            return future
        future.add_done_callback(partial(keeper.resolved, job))
        try:
            self._engine.put(job)
        except SmtpError as error:  # its caller is told that it was not taken in
            job.end(error)
            raise
        except BaseException:
            keeper.give_back(job)
            raise
        return future

    @spelled_out(MessageOptions, MESSAGE_DEFAULTS)
    def send_many(
        self, messages: Iterable[Mail], *, ordered: bool = False, **options: Unpack[MessageOptions]
    ) -> Iterator[Outcome]:
        """Send messages over all connections, and tell what became of each as soon as it is known.

        In order of completion, or with ``ordered`` in that of ``messages``,
        which may be endless: a bounded number of them is in memory. What it
        raises comes after all outcomes. Closed early (``break``), what is
        queued is withdrawn, and what is under way ends in the background. An
        interrupt shuts that down too, and names those in doubt in a note. What
        ``options`` say of the envelope holds for each message; for a
        ``MailObject``, which has its own, it is a ``UsageError``.

        Raises ``InputError`` and ``UsageError`` at once; later an outcome holds its error.
        """
        self._check_open()
        flag("ordered", ordered)
        check_messages(messages)
        _job(None, **options)  # refuses what is no option

        keeper = self._engine.keeper

        def make(message: Mail, done: Callable[[Job], None]) -> Job:
            check_mail(message)
            job = _job(message, outgoing=self._outgoing, done=done, **options)
            if keeper is None:
                job.freeze()
            else:
                self._enter(job, keeper)
            return job

        engine = self._engine
        window = self._window(options.get("timeout", SEND_TIMEOUT))
        return FanOut(engine.queue, make, messages, window=window, ordered=ordered).run()

    def _window(self, timeout: float | None) -> int:
        """How many messages may wait: none of them must run out of its time in the queue."""
        connections, in_flight = self._engine.limits.connections, self._engine.in_flight
        seconds = min(_WINDOW_SECONDS, math.inf if timeout is None else timeout / 2)
        most = max(_WINDOW, 4 * connections * (in_flight + 1))
        if timeout is not None:
            most = min(most, int(seconds * connections / _SECONDS_OF_A_MESSAGE))
        if self._rate is not None:
            most = min(most, int(seconds * self._rate))
        return max(connections * (in_flight + 1), most)  # each has its next one at hand

    @contextlib.contextmanager
    def connection(self, *, timeout: float | None = CONNECT_TIMEOUT) -> Iterator[SmtpConnection]:
        """Lease a connection for the ``with`` block; it goes back afterwards, unless it was closed.

        ``timeout`` is in seconds, for the wait and for dialling. Raises what
        ``connect`` raises, ``Timeout`` and ``UsageError``.
        """
        self._check_open()
        connections, lease = self._engine.connections, Lease()
        lease.is_call = True
        lease.suits = lambda allowance: allowance.is_unbound  # nobody knows for which domains it is to be
        try:
            leased = self._alive(lease, Deadline.after(timeout))
            assert leased.channel is not None
            leased.served += 1
            try:
                server = leased.server
                yield SmtpConnection(
                    leased.channel, server.server, leased.capabilities, server.is_local, self._outgoing
                )
            except Exception:
                self._put_back(leased)
                raise
            self._put_back(leased)
        except BaseException:
            connections.release(lease)
            raise

    def _put_back(self, leased: PooledConnection) -> None:
        """Give it back, unless somebody has the line still, such as a stream that was left half-way."""
        if leased.channel is not None and leased.channel.is_busy:
            leased.close()
        self._engine.connections.give_back(leased)

    def _alive(self, lease: Lease, deadline: Deadline) -> PooledConnection:
        """A leased connection that is alive: one that was idle may have died of it."""
        connections = self._engine.connections
        while True:
            leased = connections.lease(lease, deadline)
            if not leased.has_rested or (leased.channel is not None and leased.channel.is_free()):
                return leased
            leased.close()
            connections.give_back(leased)

    def _run(self, job: Job) -> SendResult:
        """Send it in this thread."""
        call, keeper = self._call(job), self._engine.keeper
        if keeper is None:
            return call.run()
        self._enter(job, keeper)
        try:
            return call.run()
        except Exception:
            raise
        except BaseException:
            keeper.give_back(job)
            raise

    @staticmethod
    def _enter(job: Job, keeper: Keeper) -> None:
        """Put it into the journal; an error names its recipients."""
        try:
            keeper.enter(job, durable=False)  # whoever waits for the outcome has it still
        except SmtpError as error:
            job.end(error)
            raise

    def _call(self, job: Job) -> Call:
        """What sends it in this thread."""
        self._check_open()
        engine = self._engine
        return Call(job, engine.connections, engine.outcomes, engine.inside, engine.rate, engine.in_flight)

    def _check_open(self) -> None:
        """Raise ``UsageError`` if it was closed, or this thread would wait for itself."""
        engine = self._engine
        if engine.is_closed:
            raise UsageError("the pool is closed")
        if threading.get_ident() in engine.inside:
            raise UsageError(
                "this is called from within the pool, by a callback, hook or content: use submit"
            )

    # -- telling ----------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The live state."""
        return self._engine.stats()

    def check(self, *, sender: str | None = None, recipients: str | Sequence[str] = ()) -> tuple[Check, ...]:
        """``Server.check`` for each server, in order, by connections of their own."""
        return tuple(server.check(sender=sender, recipients=recipients) for server in self.servers)

    @property
    def servers(self) -> tuple[Server, ...]:
        """Where it sends."""
        return tuple(each.server for each in self._servers)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The same, each with its weight and limits."""
        return tuple(self._routes)

    @property
    def outgoing(self) -> Outgoing | None:
        """What is done to messages before they leave, by options of the servers; None where nothing is."""
        return self._outgoing

    @property
    def closed(self) -> bool:
        """True once ``close`` was called."""
        return self._engine.is_closed

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):  # ``__init__`` failed, and somebody looks at its frame
            return "<SmtpPool not made>"
        names = ", ".join(each.name for each in self._servers)
        if self.closed:
            return f"<SmtpPool {names} closed>"
        now, most = self.stats(), self._engine.limits.connections
        return (
            f"<SmtpPool {names} {now.connections} of {most} connections, {now.idle} idle; "
            f"{now.queued} queued, {now.under_way} under way>"
        )

    # -- the end ----------------------------------------------------------------------

    def drain(self, timeout: float | None = SEND_TIMEOUT) -> bool:
        """Take in nothing more by ``submit``, and wait until all that was has its outcome.

        False where ``timeout`` seconds were not enough, and at once where it is
        called from a callback or hook. ``send`` goes on working.
        """
        return self._engine.drain(timeout)

    def close(self, timeout: float | None = 30.0) -> None:
        """End the pool; does nothing twice.

        What is queued, or waits for another try, ends unsent at once:
        its future raises ``ConnectionLost``, or what its last try came to. What
        is under way has ``timeout`` seconds (0: none, None: any) to end, then
        the sockets are shut down and it ends as the rules say. Later calls
        raise ``UsageError``. Called from a callback or hook it does not wait. A
        leased connection ends with its block, or with ``timeout=0`` at once.
        """
        if timeout != 0:
            Deadline.after(timeout)  # refuses what is no timeout
        self._engine.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.close(0)
            return
        try:
            self.drain()
            self.close(SEND_TIMEOUT)
        except BaseException:
            self.close(0)
            raise


def _pooled(route: Route, most: int, longest_dial_rest: float) -> PooledServer:
    most = min(most, route.max_connections or most)
    return PooledServer(
        route.server,
        Backoff(most, longest_dial_rest=longest_dial_rest),
        weight=route.weight,
        most_messages=route.max_messages,
        limit=_rate_limit(route.rate, route.recipient_rate),
    )


def _rate_limit(rate: float | None, recipient_rate: float | None) -> RateLimit | None:
    return None if rate is None and recipient_rate is None else RateLimit(rate, recipient_rate)


def _job(
    message: Any,
    *,
    outgoing: Outgoing | None = None,
    is_source: bool = False,
    future: Future[SendResult] | None = None,
    done: Callable[[Job], None] | None = None,
    sender: Any = None,
    recipients: Any = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: RcptParams = None,
    timeout: float | None = SEND_TIMEOUT,
    all_or_nothing: bool = False,
    allow_long_lines: bool = False,
    **others: Any,
) -> Job:
    if others:
        raise unknown(others, (TransactionOptions if is_source else MessageOptions).__annotations__)
    envelope: Envelope | None = None
    if is_source:
        message = MailObject(sender, recipients, message, mail_params=mail_params, rcpt_params=rcpt_params)
    elif not (sender is None and recipients is None and mail_params is None and rcpt_params is None):
        envelope = Envelope(sender, recipients, mail_params, rcpt_params)
    return Job(
        message,
        envelope=envelope,
        outgoing=outgoing,
        options=as_options(False, all_or_nothing, allow_long_lines),
        deadline=None if timeout is None else Deadline.after(timeout),
        future=future,
        done=done,
    )
