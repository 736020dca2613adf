"""A message sent in its caller's thread: by the same path as on a connection, over one that is leased."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .. import observing
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


class Call(Lease):
    """One ``send`` of a pool, from its beginning to its result; the wish for a connection, too.

    ``end`` comes from other threads, the rest from the caller's alone, which is
    one of those ``inside`` meanwhile.
    """

    is_call = True

    def __init__(
        self,
        job: Job,
        connections: Connections,
        outcomes: Outcomes,
        inside: dict[int, Any],
        rate: RateLimit | None,
        in_flight: int,
    ) -> None:
        self._job = job
        self._connections = connections
        self._outcomes = outcomes
        self._inside = inside
        self._rate = rate
        self._in_flight = in_flight
        self._deadline = job.deadline or _NEVER
        self.suits = job.fits
        self._whom_to_tell: Callable[[], None] | None = None
        """Who has ended it; None as long as nobody has."""
        self._by_bdat = False
        self.step = job.step
        self._is_observed = False
        self._moment = -math.inf
        """When the next try may begin."""

    def run(self) -> SendResult:
        """The result; raises the error."""
        if self.step is not None and not self._is_observed:
            return self._observed()
        job, inside, me = self._job, self._inside, threading.get_ident()
        try:
            inside[me] = self
            if self._rate is not None:
                self._moment = self._rate.reserve(job.recipients_count)
            is_over = False
            while not is_over and (connection := self._leased()) is not None:
                channel = connection.channel
                assert channel is not None
                if job.step is not None:
                    job.on(connection)
                begin = partial(self._begin, connection)
                outcome: SendResult | SmtpError
                try:
                    outcome = channel.run(begin, self._deadline, reused=connection.has_rested)
                except SmtpError as error:
                    outcome = error
                except Exception as error:
                    outcome = job.in_doubt(error)
                if job.trying is not None:
                    observing.end(job.trying, outcome)
                is_over = self._is_over(connection, outcome)
        except BaseException:
            self._connections.release(self)
            raise
        finally:
            inside.pop(me, None)  # one call of C: no interrupt comes before it
            if self._whom_to_tell is not None:
                self._whom_to_tell()
        result = job.outcome
        if isinstance(result, SendResult):
            return result
        assert result is not None
        raise result

    def _observed(self) -> SendResult:
        """The same, and whoever observes is told how it ends; an interrupt, too."""
        job, self._is_observed = self._job, True
        with observing.within(job.step):
            try:
                result = self.run()
            except BaseException as error:
                observing.end(job.trying, error)
                job.observed(error)
                raise
        job.observed(result)
        return result

    def end(self, whom_to_tell: Callable[[], None]) -> None:
        """From another thread: begin nothing more, and tell this when what is under way is at its end."""
        self._whom_to_tell = whom_to_tell
        self.wake()

    # -- its turn ---------------------------------------------------------------------

    def _leased(self) -> PooledConnection | None:
        """A connection, when its moment has come; None if it is over before."""
        while self._moment == -math.inf or self._has_come():
            try:
                connection = self._connections.lease(self, self._deadline)
            except SmtpError as error:
                if self._whom_to_tell is not None or (
                    isinstance(error, Timeout) and error.stage is Stage.INPUT
                ):
                    break
                if self._note(again(error)):
                    return None
                continue
            if self._rate is None or self._has_come(self._rate):
                limit = connection.server.limit
                if limit is not None and limit.begin(self._job.count_on(connection)) is None:
                    self._connections.give_back(connection)  # another call was faster
                    continue
                connection.served += 1
                bdat = self._in_flight > 1 and connection.server.chunking_works
                self._by_bdat = bdat and possible_in_flight(self._in_flight, connection.capabilities) > 1
                return connection
            self._connections.give_back(connection)
            break
        self._give_up()
        return None

    def _has_come(self, rate: RateLimit | None = None) -> bool:
        """Wait for its moment; False if it is over before.

        With a connection, and the ``rate``: for another moment if it has missed
        its own, and it keeps the connection, or it may miss that too.
        """
        if rate is not None:
            self._moment = rate.confirm(self._job.recipients_count, self._moment)
        alarm = self.alarm()
        while self._whom_to_tell is None:
            left = self._deadline.remaining()
            seconds = min(self._moment - now(), left)
            if seconds <= 0:
                return left > 0
            alarm.wait(seconds)
        return False

    def _give_up(self) -> None:
        """It ends with what its last try came to."""
        error = closed()
        if self._whom_to_tell is None:
            error = Timeout("its time was over before it was sent", stage=Stage.INPUT)
            error.__cause__ = self._connections.error
        if self._job.end(error, stays=self._whom_to_tell is not None):
            self._outcomes.ended(self._job)

    # -- a try ------------------------------------------------------------------------

    def _begin(self, connection: PooledConnection) -> Flow[SendResult]:
        return delivery(self._job.plan(connection, bdat=self._by_bdat))

    def _is_over(self, connection: PooledConnection, outcome: SendResult | SmtpError) -> bool:
        """Give the connection back after a try; whether it was the last one."""
        job = self._job
        is_excused = self._outcomes.is_excused(job, connection, outcome, by_bdat=self._by_bdat)
        self.newer_than = job.newer_than
        goes_on = not is_excused and self._outcomes.goes_on(job, outcome, connection)
        self._connections.give_back(connection)
        if goes_on:
            self._again_from(now())
            return False
        return not is_excused and self._note(outcome, connection)

    def _note(self, outcome: SendResult | SmtpError, connection: PooledConnection | None = None) -> bool:
        """What a try came to, which counts; whether it was the last one."""
        job, server = self._job, "" if connection is None else connection.server.name
        delay = self._outcomes.note(job, outcome, connection)
        if delay is None or self._whom_to_tell is not None:
            if job.record is not None:
                job.recorded(stays=delay is not None)
            self._outcomes.ended(job, server)
            return True
        self._outcomes.retried(job, server, delay)
        self._again_from(now() + delay)
        return False

    def _again_from(self, moment: float) -> None:
        """There is more to send, which counts for the rate."""
        self._moment = moment
        if self._rate is not None:
            self._moment = max(moment, self._rate.reserve(self._job.recipients_count))
