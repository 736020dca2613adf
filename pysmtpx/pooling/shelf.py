"""Which connection a claim gets, or what it has to do for one: pure decisions, made under the rack's lock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from ..errors import ConnectionLost, SmtpError, UsageError
from ..flow.transaction import anew
from ..wire.limits import Stage
from .session import Claim, Session, Site

_PATIENCE: Final = 5.0
"""Seconds that a call waits for a server that is left alone; where it is longer it fails at once."""
_TRUST: Final = 5.0
"""Seconds for which a password that was accepted is not doubted, so that several may log in at once."""


class Limits(NamedTuple):
    """What bounds the connections; None is no bound."""

    connections: int
    messages: int | None = None
    """Taken by one connection."""
    age: float | None = None
    """Seconds since it was made."""
    idle: float | None = None
    """Seconds since it was used."""


class Counts(NamedTuple):
    """The connections at one moment."""

    open: int
    idle: int
    dialling: int
    waiting: int
    """Claims that wait for one."""


Step: TypeAlias = Session | list[Session] | float
"""Use this session, or dial it where it has no channel; close these first; or wait for so many seconds."""


class Shelf:
    """The sessions of a pool and the queue for them.

    A session's ``owner`` is the one truth about it, so an interrupt between two
    steps leaves nothing that ``held_by`` would not find. The first of the queue
    alone may take what is free.
    """

    def __init__(self, sites: Sequence[Site], limits: Limits, *, by_priority: bool = True) -> None:
        self.sites = tuple(sites)
        self.limits = limits
        self.sessions: list[Session] = []
        self.queue: deque[Claim] = deque()
        self.dialling: dict[Claim, bool] = {}
        """Calls whose connection is being dialled in another thread; they take one that is free sooner.

        True where that dial is slow, so that a stream is to end for the call's sake."""
        self.urgent = 0
        """How many of those that wait are urgent."""
        self.is_ended = False
        """Nothing is leased any more."""
        self.is_dismissed = False
        """Nothing is leased to workers any more."""
        self._by_priority = by_priority
        self._leases = 0

    # -- taking -----------------------------------------------------------------------

    def step(self, claim: Claim, moment: float, *, fresh: bool = False) -> Step:
        """What the claim is to do next; it is in the queue unless it got a session.

        Raises an ``SmtpError`` where it need not wait.
        """
        if self.is_ended or (self.is_dismissed and not claim.is_urgent):
            raise closed()
        if self.queue and self.queue[0] is not claim:
            return self._queued(claim, math.inf)
        over = [s for s in self.sessions if s.owner is None and self.is_over(s, moment)]
        if over:
            return self._doomed(claim, over)
        when = math.inf
        for site in self._order():
            step = self._step_on(claim, site, fresh, moment)
            if not isinstance(step, float):
                return step
            when = min(when, step)
            if self._by_priority and self._is_usable(site, moment):
                break
        self._judge(claim, when, moment)
        return self._queued(claim, when - moment)

    def _step_on(self, claim: Claim, site: Site, fresh: bool, moment: float) -> Step:
        """The same for one server; a number is the moment at which it may be tried again."""
        mine = self.on(site)
        idle = [] if fresh else [s for s in mine if s.owner is None]
        if idle:
            rest = site.health.rest_until
            return rest if rest > moment else self._claimed(claim, max(idle, key=_since))
        when = self._may_dial(site, mine, moment)
        if when > moment:
            # A new one is wanted, and an idle one may stand in its way.
            return self._made_room(claim, mine, when) if fresh and math.isinf(when) else when
        if len(self.sessions) < self.limits.connections:
            return self._claimed(claim, Session(site, claim, moment))
        return self._made_room(claim, self.sessions if self._by_priority or fresh else [], math.inf)

    def _made_room(self, claim: Claim, sessions: list[Session], when: float) -> Step:
        """Close the one of these that has been idle for longest, if there is one."""
        idle = [s for s in sessions if s.owner is None]
        return self._doomed(claim, [min(idle, key=_since)]) if idle else when

    def _may_dial(self, site: Site, mine: list[Session], moment: float) -> float:
        if any(s.channel is None for s in mine) and self._is_doubtful(site, mine, moment):
            return math.inf  # one goes ahead: a wrong password is tried once, a dead server dialled once
        return site.health.may_dial(len(mine), moment)

    def _is_doubtful(self, site: Site, mine: list[Session], moment: float) -> bool:
        """Whether the next dial may well fail; the password may also have changed since it was accepted."""
        made = [s.made for s in mine if s.channel is not None]
        if site.server.credentials:
            return max(made, default=-math.inf) + _TRUST <= moment
        return site.failing and not made

    def _is_usable(self, site: Site, moment: float) -> bool:
        """Whether it is only busy, so that a server of lower priority must not take over."""
        if any(s.channel is not None for s in self.on(site)):
            return True
        return not site.failing and site.health.may_dial(0, moment) <= moment

    def has_another(self, site: Site, moment: float) -> bool:
        """Whether there is a server besides this one that works, as far as is known."""
        return any(other is not site and self._is_usable(other, moment) for other in self.sites)

    def may_hope(self, site: Site) -> bool:
        """Whether there is one besides it that has not refused us for good, and may be waited for."""
        return any(other is not site and other.is_hopeful for other in self.sites)

    def _order(self) -> Sequence[Site]:
        if self._by_priority or len(self.sites) == 1:
            return self.sites
        busy = [s.site for s in self.sessions if s.owner is not None]
        return sorted(self.sites, key=lambda site: (busy.count(site), site.last))

    def _claimed(self, claim: Claim, session: Session) -> Session:
        session.owner = claim
        session.is_yielding = False
        if session.channel is None:
            self.sessions.append(session)
        self._leases += 1
        session.site.last = self._leases
        self.leave(claim)
        return session

    def _doomed(self, claim: Claim, sessions: list[Session]) -> list[Session]:
        for session in sessions:
            session.owner = claim
        self._queued(claim, 0.0)
        return sessions

    def _judge(self, claim: Claim, when: float, moment: float) -> None:
        """Raise where waiting is of no use."""
        if not self.sessions:
            self._judge_servers(claim, when - moment)
        elif claim.is_urgent and (len(self.sessions) >= self.limits.connections or math.isinf(when)):
            waiting = {other.thread for other in self.queue} | {claim.thread}
            owners = [s.owner for s in self.sessions]
            if all(owner is not None and owner.thread in waiting for owner in owners):
                raise UsageError("every connection is held by a call that waits for one")

    def _judge_servers(self, claim: Claim, seconds: float) -> None:
        refusals = [site.health.refused for site in self.sites if site.health.refused is not None]
        if len(refusals) == len(self.sites):
            raise again(refusals[0], "refused before, and not tried again for now: no password is guessed")
        error = self.error
        if claim.is_urgent and error is not None and seconds > _PATIENCE:
            raise again(error, f"the server is left alone for another {seconds:.0f} s")

    @property
    def error(self) -> SmtpError | None:
        """What the last dial failed with, where no server could be reached since; rather one that may end."""
        errors = [site.error for site in self.sites if site.error is not None]
        return min(errors, key=lambda error: not error.temporary, default=None)

    def is_over(self, session: Session, moment: float) -> bool:
        """Whether it is too old, or has been idle for too long."""
        idle = self.limits.idle
        return session.ends <= moment or (idle is not None and session.since + idle <= moment)

    # -- the queue --------------------------------------------------------------------

    def _queued(self, claim: Claim, seconds: float) -> float:
        if claim not in self.queue:
            self.queue.append(claim)
            self._count()
        return seconds

    def leave(self, claim: Claim) -> None:
        """Take it out of the queue, if it is there, and wake the first."""
        if claim in self.queue:
            self.queue.remove(claim)
        self._count()
        self.ring()

    def _count(self) -> None:
        self.urgent = sum(claim.is_urgent for claim in self.queue) + sum(self.dialling.values())

    def ring(self) -> None:
        """Something may have become free: wake the first of the queue, and who only waits for a dial."""
        for claim in self.dialling:
            claim.bell.ring()
        if self.queue:
            self.queue[0].bell.ring()

    # -- while it is dialled --------------------------------------------------------------

    def dials(self, claim: Claim, *, slow: bool = False) -> None:
        """Its connection is being dialled in another thread, and ``slow`` to come."""
        self.dialling[claim] = slow
        self._count()

    def dialled(self, claim: Claim) -> None:
        """It waits for that no more."""
        self.dialling.pop(claim, None)
        self._count()

    def outrun(self, claim: Claim, session: Session, moment: float) -> Session | None:
        """One that has become free since the claim was to dial its own, which is nobody's then."""
        for site in self._order():
            idle = [s for s in self.on(site) if s.owner is None and s.since >= session.since]
            if idle and site.health.rest_until <= moment:
                session.owner = NOBODY
                return self._claimed(claim, max(idle, key=_since))
            if self._by_priority and site is session.site:
                break  # those of lower priority do not take over
        return None

    def fail(self, error: SmtpError, dialler: Claim | None) -> None:
        """A dial failed and nothing else is to be hoped for: that is an answer to all calls that wait.

        Workers send for one queue: one of them is told, unless it was one that dialled.
        """
        told = dialler is not None and not dialler.is_urgent
        for claim in self.queue:
            if claim is not dialler and (claim.is_urgent or not told):
                claim.failure = error
                claim.bell.ring()
                told = told or not claim.is_urgent

    # -- giving back ------------------------------------------------------------------

    def park(self, session: Session, moment: float) -> bool:
        """Make it idle; False where it is closed, spent, too old or one too many, and must be closed."""
        session.since = moment
        channel = session.channel
        if self.is_ended or channel is None or channel.closed or session.is_spent:
            return False
        if len(self.on(session.site)) > session.site.health.cap or self.is_over(session, moment):
            return False
        session.is_yielding = False
        session.has_rested = True
        session.owner = None
        self.ring()
        return True

    def remove(self, session: Session) -> bool:
        """Its place is free; False where it was so already."""
        known = session in self.sessions
        if known:
            self.sessions.remove(session)
        self.ring()
        return known

    def take_idle(self, claim: Claim, like: Session | None = None) -> list[Session]:
        """Every idle session for this claim, or those that are idle on the same server for as long."""
        idle = [s for s in self.sessions if s.owner is None]
        if like is not None:
            idle = [s for s in idle if s.site is like.site and s.since <= like.since]
        for session in idle:
            session.owner = claim
        return idle

    # -- telling ----------------------------------------------------------------------

    def on(self, site: Site) -> list[Session]:
        """The sessions on one server, those being dialled included."""
        return [s for s in self.sessions if s.site is site]

    def held_by(self, claim: Claim) -> list[Session]:
        """What this claim owns."""
        return [s for s in self.sessions if s.owner is claim]

    def counts(self) -> Counts:
        """How many connections are open, idle and being dialled, and how many claims wait."""
        dialling = sum(s.channel is None for s in self.sessions)
        idle = sum(s.owner is None for s in self.sessions)
        return Counts(len(self.sessions) - dialling, idle, dialling, len(self.queue))


NOBODY: Final = Claim(urgent=False, thread=0)
"""Owns what is being dialled when the call that began it is served already."""


def _since(session: Session) -> float:
    return session.since


def closed() -> SmtpError:
    """What ends a message that the closing of the pool leaves unsent."""
    return ConnectionLost("the pool was closed before the message was sent", stage=Stage.INPUT)


def again(error: SmtpError, why: str = "") -> SmtpError:
    """The same error for another message, without the recipients of the first."""
    twin = anew(error)
    twin.transcript = error.transcript  # of the dial, which is told to all
    if why:
        twin.__notes__ = [why]
    return twin
