"""What a worker's thread does: wait for a message, lease a connection, push messages, give it back."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from .. import observing
from ..channel import MailStream
from ..errors import SmtpError, Timeout, UsageError
from ..flow.pipeline import Done
from ..net.deadline import now
from ..records import fields
from ..sending import possible_in_flight
from ..wire.limits import Stage
from ..wire.result import SendResult
from .connection import Lease, PooledConnection
from .connections import Connections, closed, is_spent
from .job import Job
from .outcomes import Outcomes
from .queue import Queue, Worker
from .selection import again

_log: Final = logging.getLogger("pysmtpx")
_T = TypeVar("_T")


class Sender:
    """One worker of a pool, from when its thread begins to its end."""

    def __init__(
        self, worker: Worker, queue: Queue, connections: Connections, outcomes: Outcomes, in_flight: int
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._connections = connections
        self._outcomes = outcomes
        self._most_in_flight = in_flight
        self._lease = Lease()
        self._lease.wakeup = worker.wakeup
        self._lease.suits = queue.fits_next
        self._under_way: list[Job] = []
        """Taken for the connection, and not settled yet."""
        self._known: deque[Done] = deque()
        """What became of some of them, and is not settled yet."""
        self._back: list[Job] = []
        """Taken, and not begun after all."""
        self._in_flight = 1

    def run(self) -> None:
        """Serve the queue until there is nothing for this worker."""
        self._queue.arrive(self._worker)
        try:
            while self._queue.wait(self._worker):
                self._serve()
        except Exception:
            extra = fields(event="failed")
            _log.exception("a worker of the pool failed; its messages have their outcome", extra=extra)
        finally:
            self._connections.release(self._lease)
            self._queue.leave(self._worker)

    def _serve(self) -> None:
        """Send as many messages as one connection takes."""
        try:
            connection = self._connections.lease_while(self._lease, self._is_wanted)
        except SmtpError as error:
            self._not_leased(error)
            return
        if connection is None:
            return
        try:
            self._send(connection)
        finally:
            try:
                self._return()
            finally:
                self._connections.give_back(connection)

    # -- a connection -----------------------------------------------------------------

    def _is_wanted(self) -> float | None:
        """Seconds until the next one is late, if any wait; tells those that are by now."""
        self._expire()
        wish = self._queue.wish(self._worker)
        if wish is None:
            return None
        self._lease.newer_than, seconds = wish
        return seconds

    def _not_leased(self, error: SmtpError) -> None:
        """Nobody has to wait for what will not come: all that waited for it have had their try."""
        if self._queue.is_ended:
            return
        is_for_now = error.temporary or isinstance(error, UsageError)
        for_each(self._queue.take_all(ready_only=is_for_now), lambda job: self._tried(job, again(error)))

    def _tried(self, job: Job, error: SmtpError) -> None:
        if job.begin(now()):
            self._conclude(job, error)
        else:
            self._queue.done(job)

    def _expire(self) -> None:
        """End what was not sent in time with what its last try came to."""
        for_each(self._queue.expired(), self._too_late)

    def _too_late(self, job: Job) -> None:
        error = Timeout("its time was over before it was sent", stage=Stage.INPUT)
        error.__cause__ = self._connections.error
        self._end(job, error)

    # -- the messages on it -----------------------------------------------------------

    def _send(self, connection: PooledConnection) -> None:
        """Push messages until there is none, or the connection must end."""
        channel, server, served = connection.channel, connection.server, connection.served
        assert channel is not None
        self._in_flight = 1
        if self._most_in_flight > 1 and server.chunking_works:
            self._in_flight = possible_in_flight(self._most_in_flight, connection.capabilities)
        stream = channel.stream(
            seconds=None,
            overlap=server.server.overlap and server.overlap_works,
            in_flight=self._in_flight,
            reused=connection.has_rested,
        )
        try:
            with stream:
                self._push_all(connection, stream)
        except BaseException as error:
            self._known += stream.known()
            self._broken(connection, error, took=connection.served > served)
            if not isinstance(error, Exception):
                raise

    def _push_all(self, connection: PooledConnection, stream: MailStream) -> None:
        while stream.is_open:
            job = self._next(connection, eager=not stream.is_busy)
            if job is not None:
                self._push(connection, stream, job)
            elif stream.is_busy:
                self._settle(connection, stream.finish())  # before any wait, nothing may be under way
            else:
                return
        self._settle(connection, stream.finish())

    def _push(self, connection: PooledConnection, stream: MailStream, job: Job) -> None:
        try:
            plan = job.plan(connection, bdat=self._in_flight > 1)
        except SmtpError as error:
            self._settle(connection, [*stream.finish(), Done(job, error)])
        else:
            self._settle(connection, stream.push(job, plan, job.deadline))

    def _next(self, connection: PooledConnection, *, eager: bool) -> Job | None:
        """The next message for this connection; None if there is none, or it must end."""
        if is_spent(connection):
            return None
        if self._connections.has_several and connection.is_passed_over:
            return None
        has_taken = self._under_way or connection.has_heard
        if has_taken and (connection.must_rest(now()) or self._connections.must_yield(connection)):
            return None
        if not eager and self._in_flight == 1 and not connection.server.overlap_works:
            return None  # another connection found out, in the middle of this stream
        limit, moment = connection.server.limit, None
        if limit is not None and (moment := limit.begin()) is None:
            return None
        made, room = connection.made, connection.allowance
        while (job := self._queue.take(self._worker, made, eager=eager, allowance=room)) is not None:
            if job.is_recalled:
                self._drop(job)
            elif job.begin(now()):
                if limit is not None and moment is not None:
                    limit.add(job.count_on(connection) - 1, moment)
                connection.served += 1
                job.connection = connection
                self._under_way.append(job)  # before anybody is told of it, who may end this thread
                if job.step is not None:
                    job.on(connection)
                return job
            else:
                self._queue.done(job)
        if limit is not None and moment is not None:
            limit.withdraw(moment)
        return None

    def _settle(self, connection: PooledConnection, known: list[Done]) -> None:
        """What became of messages; a callback may raise in the middle, and what is left is not forgotten."""
        self._known += known
        while self._known:
            self._settle_one(connection, self._known.popleft())

    def _settle_one(self, connection: PooledConnection, done: Done) -> None:
        job, outcome = done.token, done.outcome
        self._under_way.remove(job)
        job.connection = None
        try:
            observing.end(job.trying, outcome)
        finally:
            try:
                is_excused = self._outcomes.is_excused(
                    job, connection, outcome, trouble=done.trouble, by_bdat=self._in_flight > 1
                )
                goes_on = not is_excused and self._outcomes.goes_on(job, outcome, connection)
            except BaseException:
                # ``retryable`` may raise SystemExit. Nobody else has the message: it ends with what is known.
                job.stand(outcome)
                self._finish(job, connection.server.name, stays=False)
                raise
            if is_excused:
                self._back.append(job)
            elif goes_on:
                if not self._queue.go_on(job):
                    self._drop(job)
            else:
                self._conclude(job, outcome, connection)

    def _broken(self, connection: PooledConnection, error: BaseException, *, took: bool) -> None:
        """Something was raised that is no outcome: what was taken and is not known by now is in doubt."""
        if isinstance(error, SmtpError) and not self._under_way:
            # Found dead before anything was taken. A new one counts, or this would go on for ever.
            if not took and not connection.has_rested:
                job = self._queue.take(self._worker, connection.made, eager=True)
                if job is not None:
                    self._tried(job, again(error))
            return
        connection.close()
        known = list(self._known)
        self._known.clear()
        try:
            for_each(known, lambda done: self._settle_one(connection, done))
        finally:
            jobs, self._under_way = self._under_way, []
            for_each(jobs, lambda job: self._left(job, error, connection))

    def _left(self, job: Job, error: BaseException, connection: PooledConnection) -> None:
        try:
            observing.end(job.trying, error)
        finally:
            self._conclude(job, job.in_doubt(error), connection)

    # -- what became of it ------------------------------------------------------------

    def _conclude(
        self, job: Job, outcome: SendResult | SmtpError, connection: PooledConnection | None = None
    ) -> None:
        """Note an outcome: the message is to be tried again later, or has it."""
        server = "" if connection is None else connection.server.name
        delay, waits = None, False
        try:
            delay = self._outcomes.note(job, outcome, connection)
            waits = delay is not None and self._queue.put_later(job, now() + delay)
        finally:
            if not waits:
                self._finish(job, server, stays=delay is not None)
        if delay is not None and waits:
            self._outcomes.retried(job, server, delay)

    def _finish(self, job: Job, server: str, *, stays: bool) -> None:
        try:
            if job.finish(stays=stays):
                self._outcomes.ended(job, server)
        finally:
            self._queue.done(job)

    def _return(self) -> None:
        """Hand back what was taken and not begun."""
        back, self._back = self._back, []
        recalled = [job for job in back if job.is_recalled]
        rest = [job for job in back if not job.is_recalled]
        if rest and not self._queue.put_back(rest):
            recalled = back
        for_each(recalled, self._drop)

    def _drop(self, job: Job) -> None:
        """One that goes back nowhere; if its caller has left there is nobody to tell."""
        self._end(job, closed(), stays=True)

    def _end(self, job: Job, error: SmtpError, *, stays: bool = False) -> None:
        try:
            if job.end(error, stays=stays) and not job.is_recalled:
                self._outcomes.ended(job)
        finally:
            self._queue.done(job)


def for_each(things: Iterable[_T], action: Callable[[_T], object]) -> None:
    """Do it with all of them; what a callback of one raises comes after that."""
    failure: BaseException | None = None
    for thing in things:
        try:
            action(thing)
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure
