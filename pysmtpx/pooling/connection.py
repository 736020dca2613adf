"""One place of a pool: a connection, or the dial that is to become one; its server; and who has it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Final

from ..channel import Channel
from ..errors import SmtpError
from ..flow.allowance import Allowance
from ..flow.effects import PART, Flow, Send
from ..lock import Wakeup
from ..net.deadline import AnswerTime, Deadline
from ..net.dial import Unwell
from ..net.tls_sessions import Sessions
from ..observing import Step
from ..opening import Attempt
from ..server import Server
from ..wire import command
from ..wire.capabilities import Capabilities
from ..wire.limits import MIN_RECIPIENTS
from ..wire.result import SendResult
from .backoff import Backoff
from .ratelimit import RateLimit
from .replies import Refusal, is_break, is_hang_up_on_recipients

_PARTING: Final = 1.0
"""Seconds for the write of a QUIT whose answer nobody waits for."""
SLOW_DIAL: Final = 0.25
"""Seconds after which a dial is not counted on: who waits for it looks for another connection as well."""
_MOST_REFUSALS: Final = 64
_LIMITED_CONNECTIONS: Final = 8
"""Connections that keep a number of messages that was learnt, until one tries whether it still holds."""


class PooledServer:
    """One server, and what is known of it. Changed under the lock of the pool's connections."""

    def __init__(
        self,
        server: Server,
        backoff: Backoff,
        *,
        weight: float = 1.0,
        most_messages: int | None = None,
        limit: RateLimit | None = None,
    ) -> None:
        self.server = server
        self.backoff = backoff
        self.weight = weight
        self.most_messages = most_messages
        """Taken by one connection to it; None is no bound."""
        self.limit = limit
        """Messages and recipients a second, of its own."""
        self.taken_before = 0
        """Messages that were taken for connections which are no more."""
        self.taken_at, self.taken_then = -math.inf, -1
        """When it was first seen to have taken so many, if that was looked at."""
        self.forgone = 0.0
        """Messages that others had while it could have none: they are not owed to it."""
        self.is_local = server.is_local
        self.name = server.path or f"{server.host}:{server.port}"
        self.unwell = Unwell()
        """Its addresses that gave no session of late."""
        self.sessions = Sessions()
        """TLS sessions that its connections hand on."""
        self.answer_time = AnswerTime()
        """How long it lately took to answer the end of data."""
        self.last_lease = 0
        """The lease that used it last, counted from the first."""
        self.is_failing = False
        """The last dial failed: the next one goes alone."""
        self.error: SmtpError | None = None
        """Why it failed."""
        self.is_well = True
        """There is nothing to learn from one more message that it takes."""
        self.chunking_works = True
        """False once it hung or broke on several transactions by BDAT (an Exchange server may hang)."""
        self.overlap_works = True
        """False once it mishandled an envelope behind another message's end of data."""
        self.recipient_limit: int | None = None
        """Recipients of a transaction, once it hung up on more than every server has to take."""
        self.message_limit = math.inf
        """Messages after which it refuses all others of the same connection, if it was seen to do so."""
        self.refusals: set[Refusal] = set()
        """Refusals that a new connection repeated: what they say of the message holds on any."""
        self._limited = 0
        """Connections that were told of ``message_limit``."""

    @property
    def is_hopeful(self) -> bool:
        """Unless it refused us for good when it was dialled last."""
        return self.error is None or self.error.temporary

    # -- what it can do -----------------------------------------------------------------

    def learn(self, outcome: SendResult | SmtpError, *, by_bdat: bool, trouble: bool) -> None:
        """What became of a message that went by BDAT, or overlapped with another.

        The first loss or breach rules out BDAT, several in flight, for good; the
        first ``trouble`` with an envelope behind an end of data rules that out.
        """
        if by_bdat and is_break(outcome):
            self.chunking_works = False
        if trouble:
            self.overlap_works = False
        if is_hang_up_on_recipients(outcome):
            self.recipient_limit = MIN_RECIPIENTS

    # -- how many messages a connection may send ------------------------------------------

    def is_next_limited(self) -> bool:
        """Whether the next connection keeps to ``message_limit``; now and then one tries whether it holds."""
        if math.isinf(self.message_limit):
            return True
        self._limited += 1
        return self._limited % (_LIMITED_CONNECTIONS + 1) != 0

    def limit_found(self, messages: int, refusal: Refusal) -> None:
        """It refused by this what came behind so many on one connection, and took it on another."""
        self.refusals.discard(refusal)
        if messages < self.message_limit:
            self.message_limit, self._limited = messages, 0

    def limit_passed(self, messages: int) -> None:
        """It took so many on one connection."""
        if messages > self.message_limit:
            self.message_limit = math.inf

    def refusal_repeated(self, refusal: Refusal) -> None:
        """A new connection refused the same message in the same way."""
        if len(self.refusals) >= _MOST_REFUSALS:
            self.refusals.clear()
        self.refusals.add(refusal)


class Lease:
    """A right to one connection, or the wish for it; belongs to one call or worker.

    It is made before anything is held, so that whatever an interrupt leaves
    half done can be found by it and given back.
    """

    is_call = False
    """A call waits for it: a stream is to end for its sake."""
    newer_than = -math.inf
    """It takes only a connection that was made after this moment."""
    suits: Callable[[Allowance], bool] | None = None
    """Whether a connection with this left of its server's limits is of use; None: any is."""
    wakeup: Wakeup | None = None
    thread = 0
    """Who waits by it."""
    failure: BaseException | None = None
    """What a dial failed with while it waited for one; if it was its own, perhaps no ``SmtpError``."""
    step: Step | None = None
    """The message of a call, for those who observe: a dial that is begun for it is a part of that."""
    dial: PooledConnection | None = None
    """The dial that was begun for it, while it is under way; that of a call has the same deadline."""

    def may_have(self, connection: PooledConnection) -> bool:
        """Whether this one is of use to it."""
        if connection.made <= self.newer_than:
            return False
        suits, allowance = self.suits, connection.allowance
        return suits is None or allowance is None or suits(allowance)

    def alarm(self) -> Wakeup:
        """By which its thread is woken."""
        if self.wakeup is None:
            self.wakeup = Wakeup()
        return self.wakeup

    def wake(self) -> None:
        """Let its thread look again, if it waits."""
        if self.wakeup is not None:
            self.wakeup.wake()

    def fail(self, error: BaseException) -> None:
        """There is nothing to wait for."""
        self.failure = error
        self.wake()


class PooledConnection:
    """A connection, or the dial to it.

    ``lease`` alone says whose it is; None is idle, or being dialled. Whoever
    has the lease sends on it; everything else in here is changed under the lock
    of the pool's connections.
    """

    def __init__(self, server: PooledServer, moment: float) -> None:
        self.server = server
        self.lease: Lease | None = None
        self.channel: Channel | None = None
        """None while it is being dialled."""
        self.capabilities = Capabilities.none()
        self.attempt: Attempt | None = None
        """The dial, while it is under way."""
        self.dialler: Lease | None = None
        """Who began the dial, until that goes its own way in a thread of its own."""
        self.is_stopped = False
        self.made = -math.inf
        self.since = moment
        """When it was last put down; until then, when it was decided to dial it."""
        self.ends = math.inf
        """When it is too old."""
        self.budget: float = math.inf
        """Messages that it may serve in all."""
        self.is_limited = True
        """It keeps to the number of messages that was learnt of its server; not if it is to try that."""
        self.served = 0
        """Messages that were taken for it."""
        self.accepted = 0
        """Messages that somebody accepted."""
        self.refused = 0
        """Messages in a row that were refused as if the server took no more on this connection."""
        self.has_rested = False
        """It was idle when it was leased and nobody heard of it since: it may have died of that."""
        self.rest = 0.0
        """Seconds for which it was idle then."""
        self.has_heard = False
        """It was told what became of a message since it was leased."""
        self.has_broken = False
        """It ended with one of its messages."""
        self.is_yielding = False
        """It is about to be handed to a call that waits."""

    @property
    def allowance(self) -> Allowance | None:
        """What its server takes in the session, if it says so."""
        return None if self.channel is None else self.channel.allowance

    @property
    def is_idle(self) -> bool:
        """Open, and nobody's."""
        return self.lease is None and self.channel is not None

    def must_rest(self, moment: float) -> bool:
        """True if it is too old, or its server wants to be left alone for a while."""
        backoff = self.server.backoff
        return self.ends <= moment or backoff.rest_until > moment or backoff.passed_over_until > moment

    @property
    def is_passed_over(self) -> bool:
        """Its server said after it was leased that it takes no more for now."""
        return self.server.backoff.passed_over_at > self.since + self.rest

    def is_over(self, moment: float, longest_idle: float | None) -> bool:
        """True if it is too old, or has been idle for too long."""
        return self.ends <= moment or (longest_idle is not None and self.since + longest_idle <= moment)

    # -- its end, from any thread ---------------------------------------------------------

    def begin(self, attempt: Attempt) -> None:
        """The dial begins."""
        self.attempt = attempt
        if self.is_stopped:
            attempt.stop()

    def close(self) -> None:
        """End it at once, whoever uses it."""
        self.is_stopped = True
        channel, attempt = self.channel, self.attempt
        if channel is not None:
            channel.close()
        elif attempt is not None:
            attempt.stop()

    def drop(self) -> None:
        """Close it without an octet, in a forked child."""
        if self.channel is not None:
            self.channel.close()
        elif self.attempt is not None:
            self.attempt.drop()

    def is_slow(self, moment: float) -> bool:
        """Whether it, if it is being dialled, is to be counted on no more."""
        return self.since + SLOW_DIAL <= moment

    def part(self) -> None:
        """Say QUIT without waiting for the answer, and close (RFC 5321 4.1.1.10)."""
        channel = self.channel
        if channel is not None and not channel.closed:
            with contextlib.suppress(SmtpError):
                channel.run(_farewell, Deadline.after(_PARTING))
        self.close()


def _farewell() -> Flow[None]:
    yield Send(command.QUIT)
    yield PART
