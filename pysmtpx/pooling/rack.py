"""The connections of a pool: leased, dialled, given back and closed; the lock over the shelf."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import random
from typing import Final, TypeAlias

from ..channel import Channel
from ..errors import SmtpError, Timeout
from ..net.deadline import Deadline, now
from ..opening import Attempt, open_channel
from ..server import Server
from ..wire.capabilities import Capabilities
from ..wire.limits import Stage
from ..wire.result import SendResult
from .events import Event, Events
from .health import is_policy, is_slowdown
from .session import Claim, Session, Site
from .shelf import NOBODY, Counts, Limits, Shelf, Step, again, closed

_JITTER: Final = 0.2
"""The share of its age by which a connection may end early: made together, they must not end together."""

_SLOW_DIAL: Final = 0.25
"""Seconds after which a call that dials has a stream end for its sake, as if it waited for a connection."""
_LOOK_AGAIN: Final = 1.0
"""Seconds until whoever waits looks himself: an interrupt can fall between a change and its ring."""

Fate: TypeAlias = SendResult | SmtpError
Opener: TypeAlias = Callable[[Server, Deadline, Attempt], tuple[Channel, Capabilities]]
"""Dials: takes the server, the deadline, and what can be ended from another thread."""


class _Dial:
    """What a dial in a thread of its own has come to; written by that thread alone."""

    __slots__ = ("events", "failure", "is_over", "raised")

    def __init__(self) -> None:
        self.is_over = False
        self.failure: SmtpError | None = None
        self.raised: BaseException | None = None
        self.events: list[Event] = []


def _has_started(thread: threading.Thread) -> bool:
    """Start it; False at the end of the process, or at a limit on threads."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


class Rack:
    """All connections of one pool, those that are being dialled counted; never more than the limit.

    Everything is decided under the lock and done outside it. Whoever waits is
    served in turn: the first in the queue alone may take what becomes free.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        limits: Limits,
        events: Events,
        *,
        by_priority: bool = True,
        opener: Opener | None = None,
        share: Callable[[], float] = random,
    ) -> None:
        self._events = events
        self._opener = opener or open_channel
        self._share = share
        self._make = partial(Shelf, sites, limits, by_priority=by_priority)
        self._closer = Claim(urgent=False)
        self._lock = threading.RLock()
        self._shelf = self._make()
        self._dials: set[threading.Thread] = set()

    def abandon(self) -> None:
        """Begin empty, after a fork: descriptors are closed, and not one octet is written."""
        held, self._shelf = self._shelf, self._make()
        self._lock = threading.RLock()
        self._dials = set()
        for session in held.sessions:
            session.drop()

    # -- taking -----------------------------------------------------------------------

    def lease(self, claim: Claim, deadline: Deadline, *, fresh: bool = False) -> Session:
        """A connection of the claim's own, idle or newly dialled (``fresh``: dialled in any case).

        Raises what ``connect`` raises where no server can be reached, at once
        where a password was refused before, and where a dial of somebody else
        failed meanwhile and there is no other hope; ``Timeout`` where the deadline
        passes, ``ConnectionLost`` where the pool is closed, ``UsageError`` where
        the wait could never end. The claim holds nothing then.
        """
        events: list[Event] = []
        claim.failure = None
        try:
            while True:
                session = self._leased(claim, deadline, fresh, events)
                # Told here and not before: whoever listens may need a connection himself, and gets this one.
                self._tell(events)
                if session.owner is claim:
                    return session
        except BaseException:
            self.release(claim)
            self._tell(events)
            raise

    def _leased(self, claim: Claim, deadline: Deadline, fresh: bool, events: list[Event]) -> Session:
        failure: SmtpError | None = None
        failed: list[Site] = []
        while True:
            step = self._step(claim, fresh)
            if isinstance(step, list):
                for session in step:
                    session.part()
                    self._remove(session, events, "idle for too long, or in the way")
            elif isinstance(step, float):
                if failure is not None:
                    raise failure
                self._wait(claim, step, deadline)
            elif step.is_open:
                return step
            elif failure is not None and step.site in failed:
                raise failure
            else:
                dialled = self._dialled(step, claim, deadline, fresh, events)
                if isinstance(dialled, Session):
                    return dialled
                failure = dialled
                failed.append(step.site)

    def _step(self, claim: Claim, fresh: bool) -> Step:
        with self._lock:
            return self._shelf.step(claim, now(), fresh=fresh)

    def _wait(self, claim: Claim, seconds: float, deadline: Deadline) -> None:
        left = deadline.remaining()
        if left <= 0:
            raise Timeout("no connection became free in time", stage=Stage.INPUT) from self._shelf.error
        claim.bell.wait(min(seconds, left, _LOOK_AGAIN))
        failure, claim.failure = claim.failure, None
        if failure is not None:
            raise again(failure)

    def must_yield(self, session: Session) -> bool:
        """Whether a call waits for a connection and this one is to be it: the stream on it ends."""
        # Read without the lock: what is missed now is seen at the next message.
        if self._shelf.urgent and not session.is_yielding:
            with self._lock:
                yielding = sum(s.is_yielding for s in self._shelf.sessions)
                session.is_yielding = yielding < self._shelf.urgent
        return session.is_yielding

    # -- dialling ---------------------------------------------------------------------

    def _dialled(
        self, session: Session, claim: Claim, deadline: Deadline, fresh: bool, events: list[Event]
    ) -> Session | SmtpError | None:
        """The session, or for a call another one that is free sooner; else what ``_dial`` returns."""
        if claim.is_urgent and not fresh and self._shelf.limits.connections > 1:
            dial = _Dial()
            thread = threading.Thread(
                target=self._dial_aside,
                args=(dial, session, claim, deadline),
                name="pysmtpx-dial",
                daemon=True,
            )
            try:
                with self._lock:
                    self._shelf.dials(claim)
                    self._dials.add(thread)
                if _has_started(thread):
                    return self._first_of(dial, session, claim, events)
            finally:
                with self._lock:
                    self._shelf.dialled(claim)
                    if thread.ident is None:
                        self._dials.discard(thread)
        failure = self._dial(session, claim, deadline, events)
        return session if failure is None and session.is_open else failure

    def _first_of(
        self, dial: _Dial, session: Session, claim: Claim, events: list[Event]
    ) -> Session | SmtpError | None:
        """What comes first: the end of the dial, or a connection that is free."""
        # The dial keeps the deadline, so that what it ended with is told and not only that it took too long.
        seconds = _SLOW_DIAL
        while True:
            with self._lock:
                if dial.is_over:
                    break
                free = self._shelf.outrun(claim, session, now())
            if free is not None:
                return free
            if not claim.bell.wait(seconds) and seconds == _SLOW_DIAL:
                seconds = _LOOK_AGAIN
                with self._lock:
                    self._shelf.dials(claim, slow=True)
        events += dial.events
        if dial.raised is not None:
            raise dial.raised
        return session if dial.failure is None and session.is_open else dial.failure

    def _dial_aside(self, dial: _Dial, session: Session, claim: Claim, deadline: Deadline) -> None:
        """Dial in a thread of its own; what nobody waits for any more joins the pool."""
        try:
            dial.failure = self._dial(session, claim, deadline, dial.events)
        except BaseException as error:
            dial.raised = error
        with self._lock:
            dial.is_over = True
            is_nobodys = session.owner is NOBODY
            claim.bell.ring()
        try:
            if session.is_stopped:
                session.close()  # the call has left, by an interrupt, before there was a channel to be closed
            if is_nobodys:
                self.give_back(session)
                self._tell(dial.events)
        finally:
            with self._lock:
                self._dials.discard(threading.current_thread())

    def _dial(
        self, session: Session, claim: Claim, deadline: Deadline, events: list[Event]
    ) -> SmtpError | None:
        """Dial; what it failed with, unless there are other connections to wait for."""
        site = session.site
        with self._lock:
            site.health.dialling(now())
        seconds = site.server.connect_timeout
        # A call's own short limit is kept, and not laid to the server's charge. A worker dials for many.
        is_short = claim.is_urgent and deadline.remaining() < seconds
        limit = deadline.within(seconds) if is_short else Deadline.after(seconds)
        began = now()
        try:
            session.begin(attempt := Attempt(limit, site.unwell, site.answer_time))
            opened = self._opener(site.server, limit, attempt)
        except SmtpError as error:
            is_ours = session.is_stopped or (is_short and isinstance(error, Timeout))
            failure = self._failed(session, claim, error, None if is_ours else began)
            events.append(Event("refused", site.name, now() - began, outcome=error, why=str(error)))
            return failure
        with self._lock:
            self._equip_locked(session, *opened)
            ended = self._shelf.is_ended or session.is_stopped
        events.append(Event("connected", site.name, now() - began))
        if ended:
            raise closed()
        return None

    def _failed(
        self, session: Session, claim: Claim, error: SmtpError, began: float | None
    ) -> SmtpError | None:
        """``began``: None where the server is not to blame."""
        shelf, site = self._shelf, session.site
        with self._lock:  # in one: whoever waits must not dial before he knows what came of this
            if session in shelf.sessions:
                shelf.sessions.remove(session)
            mine = shelf.on(site)
            others = len(mine)  # of dials that began together the last to fail tells
            if began is not None:
                established = any(other.is_open for other in mine)
                site.health.dial_failed(error, others, now(), established=established, began=began)
                site.failing, site.error = True, error
            shelf.ring()
            if began is None or shelf.is_ended:
                return error
            if others or shelf.has_another(site, now()):
                return None
            # What one refuses for good is no reason to give up another that is only left alone for now.
            if not error.temporary and shelf.may_hope(site):
                return None
            shelf.fail(error, claim)
            return error

    def _equip_locked(self, session: Session, channel: Channel, capabilities: Capabilities) -> None:
        limits, site = self._shelf.limits, session.site
        budgets = (limits.messages, capabilities.mail_max)
        session.budget = min((b for b in budgets if b is not None), default=math.inf)
        session.made = session.since = now()
        if limits.age is not None:
            session.ends = session.made + limits.age * (1 - _JITTER * self._share())
        session.is_limited = site.health.is_next_limited()
        session.channel, session.capabilities, session.attempt = channel, capabilities, None
        site.health.dialled(session.made)
        site.failing, site.error = False, None
        self._shelf.ring()

    # -- giving back ------------------------------------------------------------------

    def give_back(self, session: Session) -> None:
        """Put it back for the next one, or let it go where it is closed, spent, too old or one too many."""
        with self._lock:
            is_idle = self._shelf.park(session, now())
        if not is_idle:
            session.part()
            self._retire(session, "closed, or used up")

    def yield_up(self, claim: Claim) -> None:
        """Give back what the claim holds."""
        with self._lock:
            held = [s for s in self._shelf.held_by(claim) if s.channel is not None]
        for session in held:
            self.give_back(session)

    def release(self, claim: Claim) -> None:
        """Close whatever the claim holds and take it out of the queue; does nothing twice."""
        with self._lock:
            held = self._shelf.held_by(claim)
            self._shelf.leave(claim)
        for session in held:
            session.close()
            self._retire(session, "its use ended badly")

    def distrust(self, session: Session) -> None:
        """Close what has been idle for as long as this one was, which turned out to be dead."""
        claim = session.owner or Claim(urgent=False)
        with self._lock:
            old = self._shelf.take_idle(claim, like=session)
        for each in old:
            each.close()
            self._retire(each, "another one as old was dead")

    def _retire(self, session: Session, why: str) -> None:
        events: list[Event] = []
        self._remove(session, events, why)
        self._tell(events)

    def _remove(self, session: Session, events: list[Event], why: str) -> None:
        with self._lock:
            known = self._shelf.remove(session)
        if known and session.channel is not None:
            events.append(Event("closed", session.site.name, now() - session.made, why=why))

    def _tell(self, events: list[Event]) -> None:
        while events:
            self._events.emit(events.pop(0))

    # -- health -----------------------------------------------------------------------

    def heard(
        self, session: Session, outcome: Fate, *, by_bdat: bool, trouble: bool, spared: bool = False
    ) -> None:
        """What became of a message on a connection, and how it went there: learn from it.

        ``spared``: the connection alone is to blame, unless the server says that we are (4.7.x).
        """
        site, health = session.site, session.site.health
        is_taken = isinstance(outcome, SendResult)
        is_beyond = is_taken and session.accepted > health.message_limit
        if is_taken and health.is_well and not (site.is_watched or is_beyond or trouble):
            return  # nearly always; and it costs no lock
        with self._lock:
            site.is_watched = not is_taken
            health.learn(outcome, by_bdat=by_bdat, trouble=trouble)
            if is_beyond:
                health.limit_passed(session.accepted)
            if is_slowdown(outcome):
                if not spared or is_policy(outcome):
                    health.slowed(now(), len(self._shelf.on(site)))
            elif is_taken:
                health.accepted(now())
            self._shelf.ring()

    # -- the whole --------------------------------------------------------------------

    def end(self) -> None:
        """Lease no more: who waits is told, and what is idle is closed."""
        with self._lock:
            self._shelf.is_ended = True
            unwanted = [s for s in self._shelf.held_by(NOBODY) if not s.is_open]
        for session in unwanted:
            session.close()
        self.close_idle()

    def await_dials(self, seconds: float) -> None:
        """Wait until no thread dials any more; they end at once where their sessions were closed."""
        limit = Deadline.after(seconds)
        for thread in self._dials.copy():
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, limit.remaining()))

    def close_idle(self) -> None:
        """Close what nobody uses."""
        with self._lock:
            self._shelf.take_idle(self._closer)
            idle = self._shelf.held_by(self._closer)
            self._ring_all_locked()
        for session in idle:
            session.part()
            self._retire(session, "the pool was closed")

    def _ring_all_locked(self) -> None:
        for claim in self._shelf.queue:
            claim.bell.ring()

    def shut_down(self, *, workers_only: bool = False) -> None:
        """Close what is in use, dials under way included; who waits for it is woken.

        With ``workers_only`` calls go on, and no worker gets another connection.
        """
        with self._lock:
            self._shelf.is_dismissed = True
            held = [(s, s.owner) for s in self._shelf.sessions]
            self._ring_all_locked()
        for session, owner in held:
            if owner is not None and not (workers_only and owner.is_urgent):
                session.close()

    def close_those_with(self, tokens: Iterable[object]) -> None:
        """Close the connections on which one of these messages is under way."""
        wanted = {id(token) for token in tokens}
        with self._lock:
            sessions = self._shelf.sessions.copy()
        for session in sessions:
            if any(id(job) in wanted for job in session.under_way.copy()):
                session.close()

    @property
    def error(self) -> SmtpError | None:
        """What the last dial failed with, where no server could be reached since."""
        return self._shelf.error

    def counts(self) -> Counts:
        """The connections at this moment."""
        with self._lock:
            return self._shelf.counts()
