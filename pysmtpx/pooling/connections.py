"""All connections of a pool: leased, dialled, given back and closed, under one lock."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import random
from typing import Any, Final, NamedTuple, TypeAlias

from .. import observing
from ..channel import Channel
from ..errors import ConnectError, ConnectionLost, InputError, NotSupportedError, SmtpError, Timeout
from ..events import Event, Events
from ..lock import Lock
from ..net.deadline import Deadline, now
from ..opening import Attempt, open_channel
from ..retry import RetryPolicy
from ..server import Server
from ..wire.capabilities import Capabilities
from ..wire.limits import Stage
from ..wire.result import SendResult
from .arguments import ServerStats, State
from .blame import Blame, Suspicion, blame_for
from .connection import SLOW_DIAL, Lease, PooledConnection, PooledServer
from .replies import is_policy, is_slowdown, refusal_of, rest_after
from .selection import (
    Limits,
    Situation,
    again,
    choose,
    forgone,
    has_hope,
    is_ahead,
    is_passed_over,
    last_error,
    may_have,
    taken,
    would_take,
)

_JITTER: Final = 0.2
"""The share of its age by which a connection may end early: made together, they must not end together."""
_LOOK_AGAIN: Final = 1.0
"""Seconds until whoever waits looks himself: an interrupt can fall between a change and the wakeup for it."""
_GRACE: Final = 1.0
"""Seconds by which the end of a dial may be later than its deadline: it tells more than that this is over."""

_NEVER: Final = Deadline.after(None)

Opener: TypeAlias = Callable[[Server, Deadline, Attempt], tuple[Channel, Capabilities]]
"""Dials: takes the server, the deadline, and what can be ended from another thread."""


class Counts(NamedTuple):
    """The connections at one moment."""

    open: int
    idle: int
    dialling: int
    waiting: int
    """Leases that wait for one."""


class Connections:
    """Never more than the limit, those that are being dialled counted.

    Everything is decided under the lock and done outside it: by whoever waits,
    in his own thread. Dials have threads of their own, and what they come to is
    for the first of those who wait; so nobody is held up by a dial that hangs.
    ``inside`` are the threads from which the pool calls its caller.
    """

    def __init__(
        self,
        servers: Sequence[PooledServer],
        limits: Limits,
        events: Events,
        inside: dict[int, Any],
        *,
        by_priority: bool = True,
        is_weighted: bool = False,
        opener: Opener | None = None,
        share: Callable[[], float] = random,
    ) -> None:
        self._servers = tuple(servers)
        self._limits = limits
        self._events = events
        self._inside = inside
        self._by_priority = by_priority
        self._is_weighted = is_weighted and len(self._servers) > 1
        self._is_plain = (by_priority or len(self._servers) == 1) and all(s.limit is None for s in servers)
        self.has_several = len(self._servers) > 1
        self._longest_idle = math.inf if limits.idle is None else limits.idle
        self._opener = opener or open_channel
        self._share = share
        self._leases = 0
        self._connections: list[PooledConnection] = []
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._closer = Lease()
        """Has what is idle while that is closed."""
        self._waiting: list[Lease] = []
        self._dials: set[threading.Thread] = set()
        self._calls_waiting = 0
        """Calls for whose sake a stream is to end."""
        self._is_ended = False
        """Nothing is leased any more."""
        self._is_dismissed = False
        """Nothing is leased to workers any more."""

    def abandon(self) -> None:
        """Begin empty, after a fork: descriptors are closed, and not one octet is written."""
        held, self._connections = self._connections, []
        self._begin()
        for server in self._servers:
            if server.limit is not None:
                server.limit.abandon()
            server.sessions.clear()
        for connection in held:
            connection.drop()

    # -- taking -----------------------------------------------------------------------

    def lease(self, lease: Lease, deadline: Deadline) -> PooledConnection:
        """A connection of the lease's own, idle or newly dialled.

        Raises what ``connect`` raises if no server can be reached, at once if a
        password was refused before, and if a dial failed meanwhile and there is
        no other hope; what its own dial raised that is no ``SmtpError``, as a test
        suite's guard of sockets does; ``Timeout`` if the deadline passes, ``ConnectionLost`` if
        the pool is closed, ``UsageError`` if the wait could never end. The lease
        holds nothing then.
        """
        lease.failure = lease.dial = None
        try:
            connection = self._at_once(lease)
            while connection is None:
                connection = self._step(lease, deadline)
            return connection
        except BaseException:
            self.release(lease)
            raise

    def lease_while(self, lease: Lease, is_wanted: Callable[[], float | None]) -> PooledConnection | None:
        """The same for a worker, as long as this gives the seconds until it is to be asked again."""
        lease.failure = lease.dial = None
        try:
            while (seconds := is_wanted()) is not None:
                connection = self._step(lease, _NEVER, seconds)
                if connection is not None:
                    return connection
        except BaseException:
            self.release(lease)
            raise
        self.release(lease)
        return None

    def _at_once(self, lease: Lease) -> PooledConnection | None:
        """What ``choose`` says in short if nobody waits, and the server that comes first has one idle."""
        with self._lock:
            if self._waiting or self._is_ended or self._is_dismissed or not self._is_plain:
                return None
            lease.thread = threading.get_ident()
            moment, server, best = now(), self._servers[0], None
            for each in self._connections:
                if each.lease is None and each.channel is not None:
                    if each.ends <= moment or each.since + self._longest_idle <= moment:
                        return None
                    if each.server is server and (best is None or each.since > best.since):
                        best = each
            if best is None or best.made <= lease.newer_than or server.backoff.rest_until > moment:
                return None
            if best.channel is not None and best.channel.allowance is not None and not lease.may_have(best):
                return None
            if server.backoff.passed_over_until > moment:
                return None
            self._take_locked(lease, best, moment)
            return best

    def _step(self, lease: Lease, deadline: Deadline, seconds: float = math.inf) -> PooledConnection | None:
        """Do what is next for it; its connection, once that is there."""
        with self._lock:
            choice = self._next_locked(lease)
        if isinstance(choice, PooledConnection):
            if choice.channel is not None:
                return choice
            self._begin_dial(choice, lease, deadline)
        elif isinstance(choice, list):
            self._close(choice, "idle for too long, or in the way", part=True)
        else:
            self._wait(lease, min(choice, seconds), deadline)
        return None

    def _next_locked(self, lease: Lease) -> PooledConnection | list[PooledConnection] | float:
        """What is next for it: a connection, which is its own unless it must be dialled; see ``choose``."""
        if self._is_ended or (self._is_dismissed and not lease.is_call):
            raise closed()
        failure, lease.failure = lease.failure, None
        if failure is not None:
            raise again(failure) if isinstance(failure, SmtpError) else failure
        moment = now()
        lease.thread = threading.get_ident()
        if self._is_weighted:
            self._look_locked(moment)
        choice = choose(lease, self._situation(moment))
        if isinstance(choice, PooledConnection):
            self._take_locked(lease, choice, moment)
            return choice
        if lease not in self._waiting:
            lease.alarm()
            self._waiting.append(lease)
        if isinstance(choice, PooledServer):
            server, choice = choice, PooledConnection(choice, moment)
            choice.dialler, lease.dial = lease, choice
            self._connections.append(choice)
            server.backoff.dial_begins(moment)
            self._wake_next_locked()
        elif isinstance(choice, list):
            for connection in choice:
                connection.lease = lease  # nobody else's, until it is closed
        self._count_calls_locked()
        return choice

    def _take_locked(self, lease: Lease, connection: PooledConnection, moment: float) -> None:
        connection.has_heard = connection.is_yielding = False
        connection.rest = moment - connection.since
        self._leases += 1
        connection.server.last_lease = self._leases
        connection.lease, lease.dial = lease, None
        if self._waiting:
            self._leave_locked(lease)

    def _situation(self, moment: float) -> Situation:
        return Situation(
            self._servers,
            self._connections,
            self._waiting,
            self._limits,
            self._by_priority,
            moment,
            self._is_weighted,
        )

    def _look_locked(self, moment: float) -> None:
        """Note which servers have taken something since the last look, and which can have nothing."""
        now = self._situation(moment)
        for server in self._servers:
            count = taken(server, now)
            if count != server.taken_then:
                server.taken_at, server.taken_then = moment, count
        for server, messages in forgone(now):
            server.forgone += messages

    def _wait(self, lease: Lease, seconds: float, deadline: Deadline) -> None:
        left, is_dialling = deadline.remaining(), lease.dial is not None
        if left <= (-_GRACE if is_dialling else 0):
            raise Timeout("no connection became free in time", stage=Stage.INPUT) from self.error
        look = SLOW_DIAL if is_dialling else _LOOK_AGAIN
        lease.alarm().wait(min(seconds, max(left, 0.01), look))

    def _leave_locked(self, lease: Lease) -> None:
        """Take it out of those who wait, if it is there, and wake the next."""
        with suppress(ValueError):
            self._waiting.remove(lease)
        self._count_calls_locked()
        self._wake_next_locked()

    def _wake_next_locked(self) -> None:
        """Something may have changed for the first who can use what is idle, and for who may dial next."""
        waiting = self._waiting
        if not waiting:
            return
        idle, moment = [c for c in self._connections if c.is_idle], now()
        for lease in waiting:
            if any(would_take(lease, c, moment) for c in idle):
                lease.wake()
                break
        dials = [c for c in self._connections if c.channel is None]
        last, first = len(dials), len(dials)
        if self.has_several:  # a slow one keeps nobody from dialling another server
            first = sum(not c.is_slow(moment) for c in dials)
        for lease in waiting[first : last + 1]:
            lease.wake()

    def _count_calls_locked(self) -> None:
        calls = sum(lease.is_call for lease in self._waiting)
        if calls:  # a dial that has only just begun may well be what they need
            moment = now()
            calls -= sum(c.channel is None and not c.is_slow(moment) for c in self._connections)
        self._calls_waiting = calls

    def must_yield(self, connection: PooledConnection) -> bool:
        """Whether the stream on it ends: a call waits for a connection, and this one is to be it.

        Or its server has had its share by weight, and others are to go on.
        """
        if self._is_weighted and self._has_had_its_share(connection):
            return True
        # Read without the lock: what is missed now is seen at the next message.
        if self._calls_waiting > 0 and not connection.is_yielding:
            with self._lock:
                yielding = sum(c.is_yielding for c in self._connections)
                connection.is_yielding = yielding < self._calls_waiting
        return connection.is_yielding

    def _has_had_its_share(self, connection: PooledConnection) -> bool:
        with self._lock:
            moment = now()
            self._look_locked(moment)
            return is_ahead(connection.server, self._servers, self._situation(moment))

    # -- dialling ---------------------------------------------------------------------

    def _begin_dial(self, connection: PooledConnection, lease: Lease, deadline: Deadline) -> None:
        """Dial in a thread of its own; in this one at the end of the process, or at a limit on threads."""
        # A call's own short limit is kept, and not laid to the server's charge. A worker dials for many.
        limit = deadline if lease.is_call else Deadline.after(None)
        arguments = (connection, lease, limit)
        thread = threading.Thread(target=self._dial_aside, args=arguments, name="pysmtpx-dial", daemon=True)
        self._dials.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._dials.discard(thread)
            self._dial(*arguments)

    def _dial_aside(self, connection: PooledConnection, lease: Lease, deadline: Deadline) -> None:
        me = threading.get_ident()
        try:
            self._inside[me] = None
            with observing.within(lease.step):
                self._dial(connection, lease, deadline)
        finally:
            self._inside.pop(me, None)
            self._dials.discard(threading.current_thread())

    def _dial(self, connection: PooledConnection, lease: Lease, deadline: Deadline) -> None:
        try:
            with self._lock:
                if connection not in self._connections:
                    return  # an interrupt fell in between, and nobody waits
                connection.dialler = None
            self._open(connection, lease, deadline)
        finally:
            if lease.dial is connection:
                lease.dial = None
                lease.wake()

    def _open(self, connection: PooledConnection, lease: Lease, deadline: Deadline) -> None:
        server = connection.server
        seconds = server.server.connect_timeout
        is_short = deadline.remaining() < seconds
        limit = deadline.within(seconds)
        began = now()
        try:
            connection.begin(attempt := Attempt(limit, server.unwell, server.answer_time, server.sessions))
            opened = self._opener(server.server, limit, attempt)
        except SmtpError as error:
            raised, failure = None, error
            if isinstance(error, InputError | NotSupportedError):
                # Roots that cannot be read, an extra or AUTH that is not there: no message is to blame.
                error.stage = Stage.CONNECT
        except BaseException as error:
            raised, failure = error, ConnectError("the connection could not be made", stage=Stage.CONNECT)
            failure.__cause__ = error
        else:
            try:
                self._events.emit(Event("connected", server.name, now() - began))
            finally:  # a hook can raise what no net for it may catch, such as the failure of a test
                self._opened(connection, *opened)
            return
        is_ours = connection.is_stopped or (is_short and isinstance(failure, Timeout))
        event = Event("refused", server.name, now() - began, outcome=failure, why=str(failure))
        try:
            self._events.emit(event)
        finally:
            self._failed(connection, lease, failure, None if is_ours else began, raised)

    def _opened(self, connection: PooledConnection, channel: Channel, capabilities: Capabilities) -> None:
        limits, server = self._limits, connection.server
        budgets = (limits.messages, server.most_messages)
        with self._lock:
            connection.budget = min((b for b in budgets if b is not None), default=math.inf)
            connection.made = connection.since = now()
            if limits.age is not None:
                connection.ends = connection.made + limits.age * (1 - _JITTER * self._share())
            connection.is_limited = server.is_next_limited()
            connection.capabilities, connection.attempt = capabilities, None
            connection.channel = channel
            server.backoff.dial_succeeded()
            server.is_failing, server.error = False, None
            is_unwanted = self._is_ended or connection.is_stopped
            # With nobody to take it at once it will have rested when somebody does.
            connection.has_rested = not self._waiting
            self._count_calls_locked()
            self._wake_next_locked()
        if is_unwanted:
            self._close([connection], "the pool was closed", part=not connection.is_stopped)

    def _failed(
        self,
        connection: PooledConnection,
        lease: Lease,
        error: SmtpError,
        began: float | None,
        raised: BaseException | None,
    ) -> None:
        """``began``: None if the server is not to blame. ``raised``: what no network and no server did.

        That is for the call that began the dial, as if it had dialled itself; the error is for all others.
        """
        server, moment = connection.server, now()
        with self._lock:  # in one: whoever waits must not dial before he knows what came of this
            if connection in self._connections:
                self._connections.remove(connection)
            situation = self._situation(moment)
            if began is None:
                told = [lease]
                if self.has_several and not connection.is_stopped and connection.is_slow(moment):
                    # It goes on without a rest, but no call waits for it where another server takes mail.
                    server.is_failing = True
            else:
                mine = situation.on(server)  # of dials that began together the last to fail tells
                established = any(other.channel is not None for other in mine)
                server.backoff.dial_failed(error, len(mine), moment, established=established, began=began)
                server.is_failing, server.error, server.is_well = True, error, False
                told = [] if has_hope(server, error, situation) else self._waiting
            has_told_worker = False
            for each in told:  # workers send for one queue: one of them is told
                if each in self._waiting and (each.is_call or not has_told_worker):
                    each.fail(error)
                    has_told_worker = has_told_worker or not each.is_call
            if raised is not None and lease.is_call and lease.dial is connection:
                lease.fail(raised)
            self._count_calls_locked()
            self._wake_next_locked()

    # -- giving back ------------------------------------------------------------------

    def give_back(self, connection: PooledConnection) -> None:
        """Put it back for the next one, or let it go if it is closed, spent, too old or one too many."""
        channel = connection.channel
        is_open = channel is not None and not channel.closed
        with self._lock:
            if is_open and self._may_keep_locked(connection, now()):
                connection.is_yielding = False
                connection.has_rested = True
                connection.lease = None
                if self._waiting:
                    self._wake_next_locked()
                return
        self._close([connection], "closed, or used up", part=True)

    def _may_keep_locked(self, connection: PooledConnection, moment: float) -> bool:
        server = connection.server
        if self._is_ended or connection.ends <= moment or is_spent(connection):
            return False
        connection.since = moment
        cap = server.backoff.cap
        return len(self._connections) <= cap or sum(c.server is server for c in self._connections) <= cap

    def release(self, lease: Lease) -> None:
        """Close whatever the lease holds, and let it wait no more; does nothing twice."""
        with self._lock:
            for connection in [c for c in self._connections if c.dialler is lease]:
                self._connections.remove(connection)  # its dial was never begun
            held = [c for c in self._connections if c.lease is lease]
            if self._waiting:
                self._leave_locked(lease)
        if held:
            self._close(held, "its use ended badly")

    def _close(self, connections: Sequence[PooledConnection], why: str, *, part: bool = False) -> None:
        """Close them, in good form if they are to ``part``; their places are free."""
        for connection in connections:
            if part:
                connection.part()
            else:
                connection.close()
            with self._lock:
                is_known = connection in self._connections
                if is_known:
                    self._connections.remove(connection)
                    connection.server.taken_before += connection.served
                self._wake_next_locked()
            if is_known:
                seconds = now() - connection.made
                self._events.emit(Event("closed", connection.server.name, seconds, why=why))

    # -- what it is told --------------------------------------------------------------

    def heard(
        self,
        connection: PooledConnection,
        outcome: SendResult | SmtpError,
        *,
        was_tried: bool,
        may_spare: bool,
        trouble: bool = False,
        by_bdat: bool = False,
    ) -> Blame | None:
        """What became of a message on a connection; why that is no try of the message, if it is none.

        ``was_tried``: it has had a try before. ``may_spare``: it may be excused from this one.
        ``trouble``: with an envelope that overlapped.
        """
        server, has_rested = connection.server, connection.has_rested
        if isinstance(outcome, SendResult):
            connection.has_heard, connection.has_rested = True, False
            connection.accepted += 1
            connection.refused = 0
            if server.is_well and not trouble and connection.accepted <= server.message_limit:
                return None  # nearly always; and it costs no lock
        blame, old = None, []
        with self._lock:
            if isinstance(outcome, SmtpError):
                blame = blame_for(connection, outcome, was_tried=was_tried, trouble=trouble)
                self._note_blame_locked(connection, blame)
                if not (blame.is_sure or (blame.spares and may_spare)):
                    blame = None
                elif blame.others_too:
                    old = self._as_old_locked(connection)
            self._learn_locked(connection, outcome, blame, trouble, by_bdat and not has_rested)
            self._wake_next_locked()
        if old:
            self._close(old, "another one as old was dead")
        return blame

    def _note_blame_locked(self, connection: PooledConnection, blame: Blame) -> None:
        connection.has_heard, connection.has_rested = True, False
        connection.has_broken = connection.has_broken or blame.broke
        if blame.in_a_row:
            connection.refused += 1
        if blame.retires:
            connection.budget = 0

    def _as_old_locked(self, connection: PooledConnection) -> list[PooledConnection]:
        """Those that have been idle for as long as this one was, which turned out to be dead."""
        since = connection.since
        old = [
            c for c in self._connections if c.is_idle and c.server is connection.server and c.since <= since
        ]
        for each in old:
            each.lease = connection.lease
        return old

    def _learn_locked(
        self,
        connection: PooledConnection,
        outcome: SendResult | SmtpError,
        blame: Blame | None,
        trouble: bool,
        by_bdat: bool,
    ) -> None:
        server, is_taken = connection.server, isinstance(outcome, SendResult)
        server.learn(outcome, by_bdat=by_bdat, trouble=trouble)
        if is_taken:
            server.limit_passed(connection.accepted)
            server.backoff.accepted(now())
        elif is_slowdown(outcome) and (blame is None or is_policy(outcome)):
            # Else the connection alone is to blame, unless the server says that we are (4.7.x).
            server.backoff.slowed(now(), sum(c.server is server for c in self._connections))
        server.is_well = is_taken and server.backoff.is_over

    def moves_on(self, server: PooledServer, outcome: SendResult | SmtpError, policy: RetryPolicy) -> bool:
        """Whether another server may have at once what this one refused, which is passed over from now on."""
        if isinstance(outcome, SendResult) and not outcome.rejected_recipients:
            return False
        rest = rest_after(outcome, policy)
        if rest is None:
            return False
        moment = now()
        with self._lock:
            server.backoff.pass_over(moment, rest.seconds, rest.reply)
            self._wake_next_locked()
            situation = self._situation(moment)
            return any(may_have(other, situation) for other in self._servers if other is not server)

    def judge(self, suspicion: Suspicion, outcome: SendResult | SmtpError) -> None:
        """See by what became of a message on a new connection whether the old one was to blame."""
        with self._lock:
            if refusal_of(outcome) == suspicion.refusal:
                suspicion.server.refusal_repeated(suspicion.refusal)
            elif suspicion.messages is not None and isinstance(outcome, SendResult):
                suspicion.server.limit_found(suspicion.messages, suspicion.refusal)

    # -- the whole --------------------------------------------------------------------

    def end(self) -> None:
        """Lease no more: who waits is told, and what is idle or being dialled is closed."""
        with self._lock:
            self._is_ended = True
            dials = [c for c in self._connections if c.channel is None]
            self._wake_all_locked()
        for connection in dials:
            connection.close()
        self.close_idle()

    def await_dials(self, seconds: float) -> None:
        """Wait until no thread dials any more; they end at once if their connections were closed."""
        limit = Deadline.after(seconds)
        for thread in self._dials.copy():
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, limit.remaining()))

    def close_idle(self) -> None:
        """Close what nobody uses."""
        closer = self._closer
        with self._lock:
            for connection in self._connections:
                if connection.is_idle:
                    connection.lease = closer
            # Also what an interrupt has left of an earlier call.
            idle = [c for c in self._connections if c.lease is closer]
        self._close(idle, "the pool was closed", part=True)

    def shut_down(self, *, workers_only: bool = False) -> None:
        """Close what is in use, dials under way included; who waits for it is woken.

        With ``workers_only`` calls go on, and no worker gets another connection.
        """
        with self._lock:
            self._is_dismissed = True
            busy = [(c, c.lease) for c in self._connections if not c.is_idle]
            self._wake_all_locked()
        for connection, lease in busy:
            if not (workers_only and (lease is None or lease.is_call)):
                connection.close()

    def _wake_all_locked(self) -> None:
        for lease in self._waiting:
            lease.wake()

    @property
    def servers(self) -> tuple[PooledServer, ...]:
        """All of them, in order."""
        return self._servers

    @property
    def error(self) -> SmtpError | None:
        """What the last dial failed with, if no server could be reached since."""
        return last_error(self._servers)

    def server_stats(self) -> tuple[ServerStats, ...]:
        """The servers at this moment."""
        moment = now()
        with self._lock:
            situation = self._situation(moment)
            return tuple(_stats(server, situation) for server in self._servers)

    def counts(self) -> Counts:
        """The connections at this moment."""
        with self._lock:
            total = len(self._connections)
            dialling = sum(c.channel is None for c in self._connections)
            idle = sum(c.is_idle for c in self._connections)
            return Counts(total - dialling, idle, dialling, len(self._waiting))


def _stats(server: PooledServer, now: Situation) -> ServerStats:
    mine, backoff = now.on(server), server.backoff
    reply = backoff.passed_over_for
    state: State = "usable"
    if backoff.refused is not None:
        state, reply = "refused", backoff.refused.reply
    elif server.error is not None:
        state, reply = "unreachable", server.error.reply
    elif is_passed_over(server, now):
        state = "resting"
    return ServerStats(
        server=server.name,
        state=state,
        connections=sum(c.channel is not None for c in mine),
        idle=sum(c.is_idle for c in mine),
        dialling=sum(c.channel is None for c in mine),
        messages=taken(server, now),
        rest=max(0.0, backoff.passed_over_until - now.moment),
        reply=None if state == "usable" else reply,
    )


def closed() -> SmtpError:
    """What ends a message that the closing of the pool leaves unsent."""
    return ConnectionLost("the pool was closed before the message was sent", stage=Stage.INPUT)


def is_spent(connection: PooledConnection) -> bool:
    """True if it has served what it may: its own budget, or what its server says or was found to take."""
    channel = connection.channel
    if channel is not None and channel.allowance is not None and channel.allowance.is_over:
        return True
    limit = connection.server.message_limit if connection.is_limited else math.inf
    return connection.served >= min(connection.budget, limit)
