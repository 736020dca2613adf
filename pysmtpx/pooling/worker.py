"""The one loop that sends, from a source of messages over a connection, for a worker and for a call."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Final

from ..channel import MailStream
from ..errors import (
    ConnectError,
    ConnectionLost,
    DeliveryUnknown,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    UsageError,
)
from ..flow.pipeline import Done
from ..flow.plan import Plan
from ..net.deadline import now
from ..sending import possible_in_flight
from ..wire.limits import Stage
from ..wire.result import SendResult
from .bell import Bell
from .feed import Feed
from .health import is_idle_end, refusal_of
from .jobs import Job, Suspicion
from .session import Claim, Session
from .shelf import again, closed
from .shop import Shop, for_each
from .source import Source

_log: Final = logging.getLogger("pysmtpx")
_GONE: Final = (ConnectionLost, Timeout, ServiceUnavailable, ProtocolError)
"""What a connection fails with that died while it was idle, or at its last message."""
_BREAKS: Final = (*_GONE, DeliveryUnknown)
"""What ends a connection with the message on which it happened."""


_BEFORE_CONTENT: Final = (Stage.INPUT, Stage.MAIL, Stage.RCPT, Stage.DATA)
"""Also RCPT and DATA: 221 in answer to MAIL is an acceptance by its code, and the loss comes behind it."""
_IN_A_ROW: Final = 3
"""So many messages refused in a row by what was about the message before mean the connection after all."""
_SHORT_REST: Final = 1.0
"""Seconds in which no server gives up an idle connection: what it says then is about how many it takes."""


def work(shop: Shop, feed: Feed, token: object) -> None:
    """What a worker's thread does: serve the feed until there is nothing for it."""
    claim = Claim(urgent=False)
    feed.arrive(token, claim.bell)
    try:
        serve(shop, feed, claim)
    except Exception:
        _log.exception("a worker of the pool failed; its messages have their outcome")
    finally:
        feed.leave(token, claim.bell)


def serve(shop: Shop, source: Source, claim: Claim) -> None:
    """Send what a source gives until it says that this is all.

    Made from within another ``serve`` of the same thread, by a callback or
    hook, it has the connection of that one: what is under way there is ended
    first.
    """
    step_aside()
    service = _Service(shop, source, claim)
    _in_service(service, service.run)


def guard(shop: Shop, feed: Feed, bell: Bell) -> None:
    """What the thread does that ends messages in time while every worker may be held up by a server."""

    def watch() -> None:
        while feed.guard(bell):
            shop.expire(feed)

    try:
        _in_service(_Service(shop, feed, Claim(urgent=False)), watch)
    except Exception:
        _log.exception("the guard of the pool failed; its messages have their outcome")
    finally:
        feed.relieve(bell)


def _in_service(service: _Service, run: Callable[[], None]) -> None:
    service.frame = sys._getframe()
    try:
        _stack().append(service)  # in here: an interrupt right behind it must not leave it there for ever
        run()
    finally:
        try:
            service.end()
        except BaseException:  # an interrupt in the middle of it; it does nothing twice
            service.end()
            raise


def step_aside() -> None:
    """Give the connection of the ``serve`` that this thread is in the middle of back to the rack."""
    for service in _stack():
        service.step_aside()


def is_serving(shop: Shop) -> bool:
    """Whether this thread is in the middle of a ``serve`` for it: nobody else may do its work meanwhile."""
    return any(service.is_of(shop) for service in _stack())


def abandon() -> None:
    """Forget, in a forked child, what its thread was in the middle of: the parent does that."""
    _stack().clear()


_local: Final = threading.local()


def _stack() -> list[_Service]:
    try:
        stack: list[_Service] = _local.stack
    except AttributeError:
        stack = _local.stack = []
    for service in [each for each in stack if not each.is_running()]:
        # An interrupt fell between its last step and its end.
        stack.remove(service)
        service.end()
    return stack


class _Service:
    """One ``serve``: a claim, and the session and stream that it has at the moment."""

    def __init__(self, shop: Shop, source: Source, claim: Claim) -> None:
        self._shop = shop
        self._rack = shop.rack
        self._source = source
        self._claim = claim
        self._session: Session | None = None
        self._stream: MailStream | None = None
        self._known: deque[Done] = deque()
        """What the stream told, and is not settled yet."""
        self._again: list[Job] = []
        """Taken and not begun: they go back."""
        self._reused = self._heard = self._took = self._broke = False
        self._in_flight = 1
        self._rest = 0.0
        """Seconds for which the connection had been idle."""
        self._fresh = False
        """The next connection must be a new one."""
        self._is_aside = self._is_stepping = False
        self.frame: FrameType | None = None
        """Of the call that serves."""

    def is_running(self) -> bool:
        """Whether the call that serves is among those that this thread is in the middle of."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None

    def is_of(self, shop: Shop) -> bool:
        """Whether it sends for this pool."""
        return self._shop is shop

    def run(self) -> None:
        """Rounds of one connection each, until the source has nothing more."""
        while self._source.wait(self._claim.bell):
            self._shop.expire(self._source)
            self._round()

    def end(self) -> None:
        """Let go of everything; does nothing twice."""
        stack: list[_Service] = getattr(_local, "stack", [])
        if self in stack:
            stack.remove(self)
        self.frame = None
        if self._stream is not None:
            self._stream.close()
        self._return()
        self._rack.release(self._claim)

    def _return(self) -> None:
        """Hand back what was taken and not begun."""
        back = [job for job in self._again if not job.is_recalled]
        if back and (
            self._source.keep(back, self._claim.bell) if self._fresh else self._source.put_back(back)
        ):
            self._again = [job for job in self._again if job.is_recalled]
        try:
            for_each(self._again.copy(), self._drop)
        finally:
            self._again.clear()

    def _drop(self, job: Job) -> None:
        """One that goes back nowhere; where its caller has left there is nobody to tell."""
        try:
            if job.end(closed()) and not job.is_recalled:
                self._shop.ended(job)
        finally:
            self._source.done(job)

    # -- one connection ---------------------------------------------------------------

    def _round(self) -> None:
        try:
            session = self._rack.lease(
                self._claim, self._source.patience(self._claim.bell), fresh=self._fresh
            )
        except SmtpError as error:
            self._not_leased(error)
            return
        except Exception as error:
            failure = ConnectError("the connection could not be made", stage=Stage.CONNECT)
            failure.__cause__ = error
            self._not_leased(failure)
            return
        self._heard = self._took = self._broke = self._fresh = self._is_aside = False
        self._known.clear()
        self._session = session
        self._stream = self._stream_on(session)
        self._converse()

    def _stream_on(self, session: Session) -> MailStream:
        assert session.channel is not None
        self._reused = session.has_rested
        self._rest = now() - session.since
        self._in_flight = 1
        if self._shop.in_flight > 1 and session.site.health.chunking_works:
            self._in_flight = possible_in_flight(self._shop.in_flight, session.capabilities)
        return session.channel.stream(
            seconds=None,
            overlap=session.site.server.overlap and session.site.health.overlap_works,
            in_flight=self._in_flight,
            reused=self._reused,
        )

    def _converse(self) -> None:
        """Push what can be taken and settle what became of it to the end, then put the session down.

        A callback of a message may do that within a step of it: then nothing is left here.
        """
        session, stream = self._session, self._stream
        if session is None or stream is None:
            return
        try:
            while self._known or self._step(session, stream):
                if self._known:
                    self._settle(session, self._known.popleft())
        except BaseException as error:
            self._known += stream.known()
            self._broken(session, error)
            if not isinstance(error, Exception):
                raise
        finally:
            stream.close()
        self._put_down(session)

    def _step(self, session: Session, stream: MailStream) -> bool:
        """Push the next message, or finish what is under way; False when the stream is at its end."""
        if self._stream is not stream:
            return False
        self._is_stepping = True
        try:
            stream.open()
            job = self._take(session, stream) if stream.is_open else None
            if job is not None:
                self._push(session, stream, job)
            elif stream.is_busy:
                self._known += stream.finish()
            else:
                return False
            return True
        finally:
            self._is_stepping = False

    def _push(self, session: Session, stream: MailStream, job: Job) -> None:
        plan = self._plan(job, session)
        if not isinstance(plan, SmtpError):
            self._known += stream.push(job, plan, job.deadline)
            return
        try:
            self._known += stream.finish()
        finally:
            self._known.append(Done(job, plan))

    def _put_down(self, session: Session) -> None:
        if self._session is session:
            self._session = self._stream = None
            self._return()
            self._rack.give_back(session)

    def step_aside(self) -> None:
        """End the stream after what is under way, and give the connection back."""
        self._is_aside = True
        if not self._is_stepping:  # else from within a message's own content
            self._converse()
            self._rack.yield_up(self._claim)

    def _take(self, session: Session, stream: MailStream) -> Job | None:
        """The next message, if the connection may serve one."""
        if self._is_aside or session.is_spent:
            return None
        if self._took and (session.must_rest(now()) or self._rack.must_yield(session)):
            return None
        wait = not stream.is_busy
        if not wait and self._in_flight == 1 and not session.site.health.overlap_works:
            return None  # another connection found out, in the middle of this stream
        while (job := self._source.take(self._claim.bell, eager=wait)) is not None:
            if job.is_recalled:
                self._drop(job)
            elif job.begin(now()):
                self._took = True
                session.served += 1
                session.under_way.append(job)
                return job
            else:
                self._source.done(job)
        return None

    def _plan(self, job: Job, session: Session) -> Plan | SmtpError:
        assert session.channel is not None
        plan = job.plan(
            session.capabilities,
            session.site.server.protocol,
            is_tls=session.channel.is_tls,
            is_local=session.site.server.is_local,
            bdat=self._in_flight > 1,
        )
        learnt = session.site.health.recipient_limit
        if learnt is None or isinstance(plan, SmtpError):
            return plan
        return plan._replace(limit=min(learnt, plan.limit or learnt))

    # -- what became of it ------------------------------------------------------------

    def _settle(self, session: Session, done: Done) -> None:
        job: Job = done.token
        outcome = done.outcome
        is_first, self._heard = not self._heard, True
        del session.under_way[0]
        if isinstance(outcome, SendResult):
            session.accepted += 1
            session.refused, is_spared = 0, False
        else:
            is_spared = done.trouble and _nobody_may_have(outcome) and job.spare()
            is_spared = is_spared or self._is_spared(session, job, outcome, is_first)
            self._broke = self._broke or isinstance(outcome, _BREAKS)
        self._rack.heard(
            session,
            outcome,
            by_bdat=self._in_flight > 1 and not (is_first and self._reused),
            trouble=done.trouble,
            spared=is_spared,
        )
        if is_spared:
            self._again.append(job)
            return
        suspicion, job.suspicion = job.suspicion, None
        if suspicion is not None:
            suspicion.judge(outcome)
        self._conclude(job, outcome, session.site.name)

    def _is_spared(self, session: Session, job: Job, error: SmtpError, is_first: bool) -> bool:
        """Whether the connection alone is to blame: that is no try of the message.

        So for whatever was taken behind the message on which it broke, which
        has had its try; and where a connection that has worked before does so no
        more: it died while it was idle (FAULTS 87, 114), or its server takes no
        more messages on it (FAULTS 113). That one is retired, and the message
        tried on a new connection, where the answer is about the message.
        """
        is_gone = error.safe_to_retry and isinstance(error, _GONE)
        if is_gone and self._broke and error.stage in (Stage.INPUT, Stage.MAIL):
            return True
        refusal = refusal_of(error)
        if not (is_gone or refusal):
            return False  # above all what is in doubt
        is_idle = error.stage in _BEFORE_CONTENT if is_gone else is_idle_end(error)
        has_rested = is_first and self._reused and is_idle
        if not (session.accepted or has_rested):
            return False
        if not (has_rested or self._is_suspect(session, job, error, refusal)):
            return False
        session.budget = 0
        if not job.spare():
            return False
        self._fresh = True
        if has_rested and error.stage in (Stage.INPUT, Stage.MAIL):
            self._rack.distrust(session)
        if refusal is not None:
            says_how_many = session.accepted and (not has_rested or self._rest < _SHORT_REST)
            messages = session.accepted if says_how_many else None
            job.suspicion = Suspicion(session.site.health, refusal, messages)
        return True

    def _is_suspect(self, session: Session, job: Job, error: SmtpError, refusal: object) -> bool:
        """Whether a connection that has not rested may take no more; 421 says so, and hanging up at MAIL."""
        if isinstance(error, ServiceUnavailable):
            return True
        if refusal is None:
            return error.stage in (Stage.INPUT, Stage.MAIL) and not isinstance(error, Timeout)
        if job.attempts:
            return False  # it was refused before, and is none to tell by
        session.refused += 1
        return refusal not in session.site.health.refusals or session.refused >= _IN_A_ROW

    def _broken(self, session: Session, error: BaseException) -> None:
        """The stream ended by what is no outcome: whatever was taken for it is in doubt."""
        jobs, session.under_way = session.under_way, []
        if isinstance(error, SmtpError) and not jobs:
            # Found dead before anything was taken. A new one counts, or this would go on for ever.
            if not self._took and not self._reused:
                self._charge(error)
            return
        session.close()
        name = session.site.name
        known = {id(done.token): done.outcome for done in self._known}
        self._known.clear()
        for_each(jobs, lambda job: self._conclude(job, known.get(id(job)) or job.in_doubt(error), name))

    def _conclude(self, job: Job, outcome: SendResult | SmtpError, server: str = "") -> None:
        """Note an outcome: the message is to be tried again later, or has it."""
        try:
            delay = job.note(outcome, self._shop.policy, now())
        except Exception:
            _log.exception("the outcome of a message could not be weighed; it stands as it is")
            job.outcome, delay = outcome, None
        if delay is not None and self._source.put_later(job, now() + delay):
            self._shop.retried(job, server, delay)
            return
        self._hand_over(job, server)

    def _hand_over(self, job: Job, server: str = "") -> None:
        try:
            if job.finish():
                self._shop.ended(job, server)
        finally:
            self._source.done(job)

    # -- no connection ----------------------------------------------------------------

    def _not_leased(self, error: SmtpError) -> None:
        """Nobody has to wait for what will not come; otherwise all that waited for it have had their try."""
        if self._source.is_ended or (isinstance(error, Timeout) and error.stage is Stage.INPUT):
            self._source.let_go(self._claim.bell)
            self._shop.expire(self._source)
            return
        is_for_now = error.temporary or isinstance(error, UsageError)
        jobs = self._source.take_ready() if is_for_now else self._source.take_all()
        for_each(jobs, lambda job: self._tried(job, again(error)))

    def _charge(self, error: SmtpError) -> None:
        job = self._source.take(self._claim.bell, eager=True)
        if job is not None:
            self._tried(job, again(error))

    def _tried(self, job: Job, error: SmtpError) -> None:
        if job.begin(now()):
            self._conclude(job, error)
        else:
            self._source.done(job)


def _nobody_may_have(error: SmtpError) -> bool:
    """Whether a message that ended so was delivered to nobody, for certain."""
    return not (error.accepted_recipients or error.unknown_recipients)
