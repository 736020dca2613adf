"""Which connection or server is next for whoever waits: a pure function of what there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from ..errors import SmtpError, UsageError
from ..flow.transaction import anew
from .connection import SLOW_DIAL, Lease, PooledConnection, PooledServer

_PATIENCE: Final = 5.0
"""Seconds that a call waits for a server that is left alone; if it is longer it fails at once."""
_AHEAD: Final = 10
"""Messages by which a server may be ahead of its share: a stream need not end for each."""
_STALLED: Final = 1.0
"""Seconds in which a server has taken nothing, after which nobody waits for its share."""
_TURN: Final = 0.05
"""Seconds until whoever waits for the share of a busy server looks again."""
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


class Situation(NamedTuple):
    """All that a decision depends on."""

    servers: Sequence[PooledServer]
    connections: Sequence[PooledConnection]
    waiting: Sequence[Lease]
    """Who waits, in turn; the lease in question may be among them."""
    limits: Limits
    by_priority: bool
    moment: float
    is_weighted: bool = False

    @property
    def is_even(self) -> bool:
        """The least busy server is next."""
        return not (self.by_priority or self.is_weighted)

    def on(self, server: PooledServer) -> list[PooledConnection]:
        """The connections to one server, those being dialled included."""
        return [c for c in self.connections if c.server is server]


Choice: TypeAlias = PooledConnection | PooledServer | list[PooledConnection] | float
"""Use this connection; dial this server; close these first; or wait for so many seconds."""


def choose(lease: Lease, now: Situation) -> Choice:
    """What is next for this lease. Raises an ``SmtpError`` if there is nothing to wait for.

    Whoever came before has what is idle, if he can use it; and each dial under
    way is for one of those who wait, in turn.
    """
    ended = [c for c in now.connections if c.is_idle and c.is_over(now.moment, now.limits.idle)]
    if ended:
        return ended
    ahead = _ahead(lease, now.waiting)
    when = math.inf
    waited_for: list[PooledServer] = []
    has_first = False
    for server in order(now):
        if now.is_even and _is_spoken_for(server, ahead, now):
            break  # that makes it busier, and shows at once who is less so
        if has_first and (now.by_priority or is_passed_over(server, now)):
            break  # it is only busy: those behind it must not take over
        if now.is_weighted and is_ahead(server, waited_for, now):
            when = min(when, now.moment + _TURN)
            continue
        choice = _on(server, lease, ahead, now)
        if not isinstance(choice, float):
            return choice
        when = min(when, choice)
        has_first = has_first or _is_usable(server, now)
        waited_for.append(server)
    _judge(lease, when, now)
    return when - now.moment


def _ahead(lease: Lease, waiting: Sequence[Lease]) -> Sequence[Lease]:
    """Who came before."""
    return waiting[: waiting.index(lease)] if lease in waiting else waiting


def _on(server: PooledServer, lease: Lease, ahead: Sequence[Lease], now: Situation) -> Choice:
    """The same for one server; a number is the moment at which it may be tried again."""
    if server.limit is not None and server.limit.ready > now.moment:
        return server.limit.ready
    mine = now.on(server)
    idle = [c for c in mine if c.is_idle]
    fitting = [c for c in idle if would_take(lease, c, now.moment)]
    if fitting:
        rest = server.backoff.rest_until
        if rest > now.moment:
            return rest
        if _is_spoken_for(server, ahead, now):
            return math.inf  # it is another's turn
        return max(fitting, key=_since)
    when = _may_dial(server, mine, now)
    is_coming = _is_coming(server, lease, ahead, now)
    if when > now.moment:
        # A newer one is wanted, or one with room for other domains, and an idle one may stand in its way.
        return _made_room(idle, when) if idle and math.isinf(when) and not is_coming else when
    if is_coming or _has_its_part(server, mine, now):
        return _until_slow(now)
    if len(now.connections) < now.limits.connections:
        return server
    # Also a newer one, or one with room for other domains, in place of any that is idle.
    is_renewal = lease.newer_than > -math.inf or not all(map(lease.may_have, idle))
    return _made_room(now.connections if now.by_priority or is_renewal else _spare(server, now), math.inf)


def would_take(lease: Lease, connection: PooledConnection, moment: float) -> bool:
    """Whether it takes this one, which is idle, in its turn.

    Where it chose to dial although this was idle, as servers are used evenly or by weight, it waits
    for its own dial, as long as that is not slow.
    """
    dial = lease.dial
    is_open = dial is None or connection.since >= dial.since or dial.is_slow(moment)
    return is_open and lease.may_have(connection)


def _is_spoken_for(server: PooledServer, ahead: Sequence[Lease], now: Situation) -> bool:
    """Whether somebody who came before takes what is idle there."""
    if not ahead or _is_resting(server, now):
        return False
    idle = [c for c in now.on(server) if c.is_idle]
    return any(would_take(other, c, now.moment) for c in idle for other in ahead)


def _is_resting(server: PooledServer, now: Situation) -> bool:
    """Whether nobody takes what is idle there for now."""
    limit = server.limit
    return server.backoff.rest_until > now.moment or (limit is not None and limit.ready > now.moment)


def _is_coming(server: PooledServer, lease: Lease, ahead: Sequence[Lease], now: Situation) -> bool:
    """Whether a dial under way is for it, so that it needs none to this server.

    One that is slow counts as far as another to the same server would be no faster: that may greet
    nobody before some seconds have passed.
    """
    dials, own = [c for c in now.connections if c.channel is None], lease.dial
    if own is None or not (own.server is server or _may_end_soon(own, now)):
        dials = [c for c in dials if c.server is server or _may_end_soon(c, now)]
    return len(dials) > len(ahead)


def _has_its_part(server: PooledServer, mine: Sequence[PooledConnection], now: Situation) -> bool:
    """Whether it has to show first that it gives a connection: a silent one must not use up all that may be.

    With ``by_priority`` that would hold up who came at once with others to a good one.
    """
    if now.by_priority or len(now.servers) == 1 or any(c.channel is not None for c in mine):
        return False
    return len(mine) >= _allotted(server, now)


def _until_slow(now: Situation) -> float:
    """When a dial that is counted on for now is to be counted on no more."""
    if len(now.servers) == 1:
        return math.inf
    soon = [c.since for c in now.connections if _may_end_soon(c, now)]
    return min(soon, default=math.inf) + SLOW_DIAL


def _may_end_soon(connection: PooledConnection, now: Situation) -> bool:
    """Whether it is being dialled, and not slowly."""
    return connection.channel is None and not connection.is_slow(now.moment)


def _hangs(server: PooledServer, now: Situation) -> bool:
    """Whether a dial to it is slow, and there is no connection to it by which it is known to be well."""
    mine = now.on(server)
    return all(c.channel is None for c in mine) and not all(_may_end_soon(c, now) for c in mine)


def _spare(server: PooledServer, now: Situation) -> list[PooledConnection]:
    """What others can do without: what is passed over, or has more connections than its weight allows it."""
    spare = [c for c in now.connections if is_passed_over(c.server, now)]
    if now.is_weighted and len(now.on(server)) < _allotted(server, now):
        spare += [c for c in now.connections if _has_too_many(c.server, now)]
    return [c for c in spare if c.server is not server]


def _has_too_many(server: PooledServer, now: Situation) -> bool:
    return len(now.on(server)) > _allotted(server, now)


def _allotted(server: PooledServer, now: Situation) -> int:
    """The connections that are its part by weight, as far as these can be shared: one at least."""
    return max(1, math.floor(now.limits.connections * server.weight / sum(s.weight for s in now.servers)))


def _made_room(connections: Sequence[PooledConnection], when: float) -> Choice:
    """Close the one of these that has been idle for longest, if there is one."""
    idle = [c for c in connections if c.is_idle]
    return [min(idle, key=_since)] if idle else when


def _may_dial(server: PooledServer, mine: Sequence[PooledConnection], now: Situation) -> float:
    if any(c.channel is None for c in mine) and _is_doubtful(server, mine, now.moment):
        return math.inf  # one goes ahead: a wrong password is tried once, a dead server dialled once
    return server.backoff.may_dial(len(mine), now.moment)


def _is_doubtful(server: PooledServer, mine: Sequence[PooledConnection], moment: float) -> bool:
    """Whether the next dial may well fail; the password may also have changed since it was accepted."""
    made = [c.made for c in mine if c.channel is not None]
    if server.server.credentials:
        return max(made, default=-math.inf) + _TRUST <= moment
    return server.is_failing and not made


def _is_usable(server: PooledServer, now: Situation) -> bool:
    """Whether it is only busy, so that a server of lower priority must not take over."""
    if any(c.channel is not None for c in now.on(server)):
        return True
    return not server.is_failing and server.backoff.may_dial(0, now.moment) <= now.moment


def has_hope(server: PooledServer, error: SmtpError, now: Situation) -> bool:
    """Whether whoever waits may still get a connection after this dial has failed."""
    others = [other for other in now.servers if other is not server]
    if now.on(server) or any(_is_usable(other, now) for other in others):
        return True
    # What one refuses for good is no reason to give up another that is only left alone for now.
    return not error.temporary and any(other.is_hopeful for other in others)


def order(now: Situation) -> Sequence[PooledServer]:
    """The servers: as they are given, or the one first that is owed most; those to be passed over last."""
    if len(now.servers) == 1:
        return now.servers
    found = list(now.servers)
    if now.is_weighted:
        found.sort(key=lambda server: share(server, now))
    elif not now.by_priority:
        busy = [c.server for c in now.connections if not c.is_idle]
        found.sort(key=lambda server: (_hangs(server, now), busy.count(server), server.last_lease))
    found.sort(key=lambda server: max(server.backoff.passed_over_until, now.moment))
    return found


def is_passed_over(server: PooledServer, now: Situation) -> bool:
    """Whether it said that it takes no more for now; if all have, the one whose time ends first is asked."""
    return server.backoff.passed_over_until > now.moment


def may_have(server: PooledServer, now: Situation) -> bool:
    """Whether it can be given at once what another one refused for its own sake."""
    return not is_passed_over(server, now) and _is_usable(server, now)


def taken(server: PooledServer, now: Situation) -> int:
    """Messages that it was given, each try counted."""
    return server.taken_before + sum(c.served for c in now.on(server))


def share(server: PooledServer, now: Situation) -> float:
    """What it has had for its weight, counted up for the times in which it could have had none."""
    return (taken(server, now) + server.forgone) / server.weight


def forgone(now: Situation) -> list[tuple[PooledServer, float]]:
    """Messages by which to count up those that can have none now: what others have is not owed to them."""
    there = [server for server in now.servers if _is_available(server, now)]
    if not there:
        return []
    least = min(share(server, now) for server in there)
    away = [server for server in now.servers if server not in there and share(server, now) < least]
    return [(server, (least - share(server, now)) * server.weight) for server in away]


def is_ahead(server: PooledServer, others: Sequence[PooledServer], now: Situation) -> bool:
    """Whether it has had so much more than its share that these others come first, even if they are busy."""
    mine = share(server, now) - _AHEAD / server.weight
    return any(
        mine > share(other, now)
        for other in others
        if other is not server and _is_available(other, now) and _has_room(other, now)
    )


def _is_available(server: PooledServer, now: Situation) -> bool:
    """Whether it takes messages as far as it is asked to: nobody waits for one that is away or hangs."""
    if server.limit is not None and server.limit.ready > now.moment:
        return False
    mine = now.on(server)
    is_busy = bool(mine) and not any(c.is_idle for c in mine)
    has_stalled = is_busy and now.moment - server.taken_at >= _STALLED
    return may_have(server, now) and not has_stalled


def _has_room(server: PooledServer, now: Situation) -> bool:
    """Whether it has a connection, or can get one."""
    if now.on(server) or len(now.connections) < now.limits.connections:
        return True
    return any(_has_too_many(other, now) for other in now.servers)


def _judge(lease: Lease, when: float, now: Situation) -> None:
    """Raise if waiting is of no use."""
    if not now.connections:
        _judge_servers(lease, when, now)
    elif lease.is_call and (len(now.connections) >= now.limits.connections or math.isinf(when)):
        waiting = {other.thread for other in now.waiting} | {lease.thread}
        # What whoever waits has for himself is about to be closed, and makes room.
        held = [c.lease for c in now.connections if c.lease is not None and c.lease not in now.waiting]
        if len(held) == len(now.connections) and all(holder.thread in waiting for holder in held):
            raise UsageError("every connection is held by a call that waits for one")


def _judge_servers(lease: Lease, when: float, now: Situation) -> None:
    refusals = [s.backoff.refused for s in now.servers if s.backoff.refused is not None]
    if len(refusals) == len(now.servers):
        raise again(refusals[0], "refused before, and not tried again for now: no password is guessed")
    error, seconds = last_error(now.servers), when - now.moment
    if lease.is_call and error is not None and seconds > _PATIENCE:
        raise again(error, f"the server is left alone for another {seconds:.0f} s")


def last_error(servers: Sequence[PooledServer]) -> SmtpError | None:
    """What the last dial failed with, if no server could be reached since; rather one that may end."""
    errors = [server.error for server in servers if server.error is not None]
    return min(errors, key=lambda error: not error.temporary, default=None)


def _since(connection: PooledConnection) -> float:
    return connection.since


def again(error: SmtpError, why: str = "") -> SmtpError:
    """The same error for another message, without the recipients of the first."""
    twin = anew(error)
    twin.transcript = error.transcript  # of the dial, which is told to all
    if why:
        twin.__notes__ = [why]
    return twin
