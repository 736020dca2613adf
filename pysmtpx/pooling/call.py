"""A message sent in its caller's thread: by the same path as on a connection, over one that is leased."""

from __future__ import annotations

import math
from typing import Final

from ..errors import SmtpError, Timeout
from ..flow.effects import Flow
from ..flow.transaction import delivery
from ..net.deadline import Deadline, now
from ..sending import possible_in_flight
from ..wire.limits import Stage
from ..wire.result import SendResult
from .connection import Lease, PooledConnection
from .connections import Connections, closed
from .job import Job
from .outcomes import Outcomes
from .ratelimit import RateLimit
from .selection import again

_NEVER: Final = Deadline.after(None)
_EXCUSED: Final = -1.0
"""That was no try: another one at once."""


class Call(Lease):
    """One ``send`` of a pool, from its beginning to its result; the wish for a connection, too.

    ``end`` comes from other threads, the rest from the caller's alone.
    """

    is_call = True

    def __init__(
        self,
        job: Job,
        connections: Connections,
        outcomes: Outcomes,
        rate: RateLimit | None,
        in_flight: int,
    ) -> None:
        self._job = job
        self._connections = connections
        self._outcomes = outcomes
        self._rate = rate
        self._in_flight = in_flight
        self._deadline = job.deadline or _NEVER
        self._is_ended = False
        self._moment = -math.inf
        """When the next try may begin."""

    def run(self) -> SendResult:
        """The result; raises the error."""
        job = self._job
        if self._rate is not None:
            self._moment = self._rate.reserve(job.recipients_count)
        try:
            while self._moment == -math.inf or self._has_time():
                delay = self._try()
                if delay is None:
                    break
                if delay != _EXCUSED:
                    self._moment = now() + delay
                    if self._rate is not None:  # a try of its own, which counts for the rate
                        self._moment = max(self._moment, self._rate.reserve(job.recipients_count))
        except BaseException:
            self._connections.release(self)
            raise
        outcome = job.outcome
        if isinstance(outcome, SendResult):
            return outcome
        assert outcome is not None
        raise outcome

    def end(self) -> None:
        """From another thread: begin nothing more; what is under way comes to its end."""
        self._is_ended = True
        self.wake()

    # -- its turn ---------------------------------------------------------------------

    def _has_time(self) -> bool:
        """Wait for the moment of the next try, without a connection; False if it is over before."""
        self._wait()
        if not self._is_ended and self._deadline.remaining() > 0:
            return True
        self._give_up()
        return False

    def _wait(self) -> None:
        alarm = self.alarm()
        while not self._is_ended:
            seconds = min(self._moment - now(), self._deadline.remaining())
            if seconds <= 0:
                return
            alarm.wait(seconds)

    def _has_its_turn(self, rate: RateLimit) -> bool:
        """Wait for another turn if it missed its own, with the connection: else it may miss that too."""
        self._moment = rate.confirm(self._job.recipients_count, self._moment)
        self._wait()
        return not self._is_ended and self._deadline.remaining() > 0

    def _give_up(self) -> None:
        """It ends with what its last try came to."""
        error = closed()
        if not self._is_ended:
            error = Timeout("its time was over before it was sent", stage=Stage.INPUT)
            error.__cause__ = self._connections.error
        if self._job.end(error):
            self._outcomes.ended(self._job)

    # -- a try ------------------------------------------------------------------------

    def _try(self) -> float | None:
        """One try; seconds until the next one, or None: it has its outcome."""
        try:
            connection = self._connections.lease(self, self._deadline)
        except SmtpError as error:
            if self._is_ended or (isinstance(error, Timeout) and error.stage is Stage.INPUT):
                self._give_up()
                return None
            return self._conclude(again(error))
        if self._rate is not None and not self._has_its_turn(self._rate):
            self._connections.give_back(connection)
            self._give_up()
            return None
        bdat = self._in_flight > 1 and connection.server.chunking_works
        bdat = bdat and possible_in_flight(self._in_flight, connection.capabilities) > 1
        outcome = self._send(connection, bdat)
        is_excused = self._outcomes.is_excused(self._job, connection, outcome, by_bdat=bdat)
        self.newer_than = self._job.newer_than
        self._connections.give_back(connection)
        return _EXCUSED if is_excused else self._conclude(outcome, connection.server.name)

    def _send(self, connection: PooledConnection, bdat: bool) -> SendResult | SmtpError:
        job, channel = self._job, connection.channel
        assert channel is not None

        def begin() -> Flow[SendResult]:
            return delivery(job.plan(connection, bdat=bdat))

        connection.served += 1
        is_reused = connection.has_rested and not connection.has_heard
        try:
            return channel.run(begin, self._deadline, reused=is_reused)
        except SmtpError as error:
            return error
        except Exception as error:
            return job.in_doubt(error)

    def _conclude(self, outcome: SendResult | SmtpError, server: str = "") -> float | None:
        job = self._job
        delay = self._outcomes.note(job, outcome)
        if delay is None or self._is_ended:
            self._outcomes.ended(job, server)
            return None
        self._outcomes.retried(job, server, delay)
        return delay
