"""Which connection or server is next for whoever waits: a pure function of values that the test names."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pool_parts import connection, lease, raised, server

from pysmtpx import AuthenticationError, ConnectError, ConnectionLost, UsageError
from pysmtpx.flow.allowance import Allowance
from pysmtpx.pooling.connection import Lease, PooledConnection, PooledServer
from pysmtpx.pooling.ratelimit import RateLimit
from pysmtpx.pooling.selection import Limits, Situation, again, choose, has_hope
from pysmtpx.wire.reply import Reply

ONE = server(most=4)


def situation(
    servers: Any,
    connections: Any = (),
    waiting: Any = (),
    *,
    most: int = 2,
    moment: float = 10.0,
    by_priority: bool = True,
    idle: float | None = None,
) -> Situation:
    limits = Limits(most, idle=idle)
    return Situation(tuple(servers), list(connections), list(waiting), limits, by_priority, moment)


def held(to: PooledServer, by: Lease | None = None, moment: float = 0.0) -> PooledConnection:
    made = connection(to, moment)
    made.lease = by or lease()
    return made


def test_a_server_is_dialled_if_nothing_is_idle_up_to_the_limit() -> None:
    asking = lease()
    assert choose(asking, situation([ONE])) is ONE
    assert choose(asking, situation([ONE], [held(ONE)])) is ONE
    assert choose(asking, situation([ONE], [held(ONE), held(ONE)])) == math.inf
    dialling = connection(ONE, is_open=False)
    assert choose(asking, situation([ONE], [held(ONE), dialling])) == math.inf, "it is counted"


def test_the_last_one_used_is_taken_first() -> None:
    idle = [connection(ONE, moment) for moment in (3.0, 5.0, 4.0)]
    assert choose(lease(), situation([ONE], idle, most=3)) is idle[1]


def test_who_waits_is_served_in_turn() -> None:
    """Nobody overtakes, not even who comes just when a connection becomes free."""
    first, second, late = lease(), lease(), lease()
    idle = connection(ONE)
    now = situation([ONE], [idle], [first, second], most=1)
    assert choose(late, now) == choose(second, now) == math.inf
    assert choose(first, now) is idle


def test_each_dial_is_for_one_of_those_who_wait() -> None:
    first, second, third = lease(), lease(), lease()
    dials = [connection(ONE, 9.9, is_open=False)]
    now = situation([ONE], dials, [first, second, third], most=9)
    assert choose(first, now) == math.inf, "one is coming for it"
    assert choose(second, now) is ONE
    assert choose(third, now) is ONE


def test_a_slow_dial_is_for_the_first_of_those_who_wait_where_another_would_be_no_faster() -> None:
    """Whoever began it may have taken what became idle since, and a server may greet nobody for seconds."""
    first, other = lease(), lease()
    dial = connection(ONE, 9.0, is_open=False)
    now = situation([ONE], [dial], [first, other], most=9)
    assert choose(first, now) == math.inf
    assert choose(other, now) is ONE
    other.dial = dial
    assert choose(first, now) == math.inf, "it comes first"
    assert choose(other, now) is ONE, "so this one needs another"


@pytest.mark.parametrize("is_weighted", [False, True])
def test_who_has_dialled_all_servers_and_none_was_fast_dials_no_more(is_weighted: bool) -> None:
    """A greeting that is held back for 6 seconds must not cost a connection for each quarter of one."""
    first, second, asking = server("a.example", most=9), server("b.example", most=9), lease()
    dials = [connection(first, 9.0, is_open=False), connection(second, 9.3, is_open=False)]
    asking.dial = dials[1]
    options: dict[str, Any] = {"most": 9, "by_priority": False}
    now = situation([first, second], dials, [asking], **options)._replace(is_weighted=is_weighted)
    assert choose(asking, now) == math.inf
    asking.dial = None
    assert choose(asking, now) == math.inf


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_server_that_has_shown_nothing_gets_no_more_dials_than_its_part(is_weighted: bool) -> None:
    """If it is a silent one the others would have no place left."""
    first, second = server("a.example", most=9), server("b.example", most=9)
    dials = [connection(first, 9.9, is_open=False), connection(first, 9.9, is_open=False)]
    waiting = [lease() for _ in range(4)]
    options: dict[str, Any] = {"most": 4, "by_priority": False}
    assert choose(waiting[2], situation([first, failing(until=99.0)], dials, waiting, **options)) > 0
    now = situation([first, second], dials, waiting, **options)._replace(is_weighted=is_weighted)
    assert choose(waiting[2], now) is second
    dials[1] = held(first)
    second.backoff.rest_until = 99.0
    assert choose(waiting[2], now._replace(connections=dials)) is first


def test_who_waits_for_the_dial_of_another_looks_again_when_that_is_slow() -> None:
    """He dials elsewhere then, or takes what is idle."""
    first, second, asking = server("a.example", most=9), server("b.example", most=9), lease()
    dial = connection(first, 9.875, is_open=False)
    now = situation([first, second], [dial], [asking], by_priority=False, most=9)
    assert choose(asking, now) == 0.125
    assert choose(asking, now._replace(moment=10.125)) is second


@pytest.mark.parametrize("why", ["rest", "rate"])
def test_evenly_nobody_waits_for_who_cannot_take_what_is_idle(why: str) -> None:
    first, second, early, late = server("a.example"), server("b.example"), lease(), lease()
    if why == "rest":
        first.backoff.rest_until = 99.0
    else:
        first.limit = RateLimit(0.001, None)
        first.limit.reserve(1)
        assert first.limit.ready > 10.0
    early.suits = lambda allowance: False
    idle, other = connection(first, 9.0), connection(second, 9.0)
    other.channel.allowance = Allowance(1)  # type: ignore[union-attr]
    held(second)
    now = situation([first, second], [idle, other], [early, late], by_priority=False, most=2)
    assert choose(late, now) is other


@pytest.mark.parametrize("why", ["age", "idle"])
def test_what_is_over_is_closed_first(why: str) -> None:
    old = connection(ONE, 0.0)
    old.ends = 10.0 if why == "age" else math.inf
    idle = 10.0 if why == "idle" else None
    assert choose(lease(), situation([ONE], [old], moment=9.9, idle=idle)) is old
    assert choose(lease(), situation([ONE], [old], moment=10.0, idle=idle)) == [old]


def test_a_newer_connection_is_made_room_for() -> None:
    """FAULTS 113: whoever is owed a new one is not left waiting behind idle ones, and blocks nobody else."""
    idle = [connection(ONE, moment) for moment in (1.0, 2.0)]
    asking, other = lease(), lease()
    asking.newer_than = 5.0
    now = situation([ONE], idle, [asking], moment=6.0)
    assert choose(asking, now) == [idle[0]]
    assert choose(other, now) is idle[1]
    new = connection(ONE, 5.5)
    assert choose(asking, situation([ONE], [*idle, new], [asking], most=3)) is new


def test_an_idle_connection_elsewhere_makes_room() -> None:
    first, second = server("a.example"), server("b.example")
    idle = connection(second)
    assert choose(lease(), situation([first, second], [idle], most=1)) == [idle]


def failing(name: str = "a.example", *, until: float = 1.0) -> PooledServer:
    made = server(name)
    made.backoff.dial_failed(ConnectError(), 0, until - 1.0)
    made.is_failing, made.error = True, ConnectError()
    return made


def test_the_second_server_is_used_while_the_first_is_left_alone() -> None:
    first, second = failing(until=20.0), server("b.example")
    assert choose(lease(), situation([first, second])) is second


def test_the_second_server_is_used_while_a_failing_first_one_is_dialled_again() -> None:
    """A dial may take half a minute: nobody but who dials waits for it."""
    first, second = failing(), server("b.example")
    asking, other = lease(), lease()
    assert choose(asking, situation([first, second])) is first
    probe = connection(first, is_open=False)
    assert choose(other, situation([first, second], [probe], [asking])) is second


def test_the_second_server_is_not_used_while_the_first_is_only_busy() -> None:
    first, second = server("a.example", most=1), server("b.example", most=1)
    assert choose(lease(), situation([first, second], [held(first)])) == math.inf


def test_evenly() -> None:
    first, second = server("a.example"), server("b.example")
    options: dict[str, Any] = {"most": 4, "by_priority": False}
    assert choose(lease(), situation([first, second], [held(first)], **options)) is second
    first.last_lease = 7
    assert choose(lease(), situation([first, second], **options)) is second
    idle = connection(first)
    assert choose(lease(), situation([first, second], [idle], **options)) is second


def test_who_dials_for_the_sake_of_evenness_does_not_take_what_was_idle_before() -> None:
    first, second = server("a.example"), server("b.example")
    asking, idle, dial = lease(), connection(first, 1.0), connection(second, 9.9, is_open=False)
    asking.dial = dial
    now = situation([first, second], [idle, dial], [asking], by_priority=False, most=4)
    assert choose(asking, now) == pytest.approx(0.15), "until its dial is slow"
    assert choose(lease(), now) is idle, "who came before leaves it alone"
    idle.since = 9.95
    assert choose(asking, now) is idle, "it became free since"


def test_who_dials_for_the_sake_of_evenness_does_not_wait_for_a_slow_dial() -> None:
    first, second, third = server("a.example"), server("b.example"), server("c.example")
    asking, idle, dial = lease(), connection(first, 1.0), connection(second, 9.0, is_open=False)
    asking.dial = dial
    now = situation([first, second], [idle, dial], [asking], by_priority=False, most=4)
    assert choose(asking, now) is idle
    now = situation([second, third], [dial], [asking], by_priority=False, most=4)
    assert choose(asking, now) is third


def test_who_tries_a_failing_server_does_not_wait_for_a_slow_dial() -> None:
    """The other one has a connection, or may be dialled."""
    first, second = failing(), server("b.example")
    asking, dial, idle = lease(), connection(first, 9.0, is_open=False), connection(second, 1.0)
    asking.dial = dial
    assert choose(asking, situation([first, second], [dial, idle], [asking], most=4)) is idle
    assert choose(asking, situation([first, second], [dial], [asking], most=4)) is second
    dial.since = 9.9
    now = situation([first, second], [dial, idle], [asking], most=4)
    assert choose(asking, now) == pytest.approx(0.15)


def test_evenly_nobody_dials_where_it_shows_at_once_that_another_server_is_less_busy() -> None:
    """What is idle for a moment, until who came before takes it, makes its server no less busy."""
    first, second, early, late = server("a.example"), server("b.example"), lease(), lease()
    idle, dial = connection(first, 9.9), connection(second, 9.9, is_open=False)
    now = situation([first, second], [idle, dial], [early, late], by_priority=False, most=4)
    assert choose(early, now) is idle
    assert choose(late, now) == math.inf
    idle.lease = early
    assert choose(late, situation([first, second], [idle, dial], [], by_priority=False, most=4)) is not second


def test_evenly_a_server_whose_dial_is_slow_comes_last() -> None:
    """It may be one of those that never answer."""
    first, second = server("a.example", most=9), server("b.example", most=9)
    dial = connection(first, 9.0, is_open=False)
    there = [dial, held(second), held(second)]
    options: dict[str, Any] = {"most": 9, "by_priority": False}
    assert choose(lease(), situation([first, second], there, **options)) is second
    there += [held(first), held(second)]
    assert choose(lease(), situation([first, second], there, [lease()], **options)) is first


def with_password() -> PooledServer:
    return server(most=9, username="u", password="secret", tls="implicit")


def test_with_a_password_one_dial_goes_ahead() -> None:
    """FAULTS 86."""
    one, first = with_password(), lease()
    dial = connection(one, is_open=False)
    assert choose(lease(), situation([one], [dial], [first], most=9)) == math.inf
    assert choose(lease(), situation([one], [held(one, moment=9.0)], [first], most=9)) is one


def test_a_password_is_doubted_again_after_a_while() -> None:
    """FAULTS 86: it may have changed, and then as many as are dialled at once would lock the account."""
    one, first = with_password(), lease()
    there = [held(one, moment=0.0), connection(one, is_open=False)]
    assert choose(lease(), situation([one], there, [first], most=9, moment=4.9)) is one
    assert choose(lease(), situation([one], there, [first], most=9, moment=5.0)) == math.inf


def test_a_refused_password_is_told_to_whoever_asks() -> None:
    """FAULTS 86."""
    one, refusal = with_password(), AuthenticationError(reply=Reply(535))
    one.backoff.dial_failed(refusal, 0, 0)
    error = raised(choose, lease(), situation([one], moment=1.0))
    assert isinstance(error, AuthenticationError)
    assert error is not refusal
    assert error.reply == refusal.reply


def test_a_call_does_not_wait_for_a_server_that_is_left_alone_for_long() -> None:
    one = failing(until=20.0)
    assert isinstance(raised(choose, lease(is_call=True), situation([one], moment=11.0)), ConnectError)
    assert choose(lease(), situation([one], moment=11.0)) == pytest.approx(9.0)
    assert choose(lease(is_call=True), situation([one], moment=16.0)) == pytest.approx(4.0)


def test_a_wait_for_oneself_is_an_error() -> None:
    """FAULTS 97."""
    there = held(ONE, lease(thread=7))
    now = situation([ONE], [there], most=1)
    assert choose(lease(is_call=True, thread=8), now) == math.inf
    assert isinstance(raised(choose, lease(is_call=True, thread=7), now), UsageError)


def test_what_is_being_closed_to_make_room_is_held_by_nobody() -> None:
    """Each of those who wait may have one for that; none of them waits for himself."""
    first, second = lease(is_call=True, thread=7), lease(is_call=True, thread=8)
    there = [held(ONE, first), held(ONE, second)]
    assert choose(lease(is_call=True, thread=9), situation([ONE], there, [first, second])) == math.inf
    assert choose(second, situation([ONE], there, [first, second])) == math.inf


def bound(moment: float, *domains: str) -> PooledConnection:
    """An idle one to a server that takes recipients at one domain, on which these have been by now."""
    made = connection(ONE, moment)
    assert made.channel is not None
    made.channel.allowance = Allowance(domains=1)
    made.channel.allowance.spend([f"r@{domain}" for domain in domains], 0, 2)
    return made


def wishing(domain: str, **options: Any) -> Lease:
    asking = lease(**options)
    asking.suits = lambda allowance: allowance.takes([f"r@{domain}"], whole=True)
    return asking


def test_one_with_room_for_the_domain_comes_first() -> None:
    """LIMITS RCPTDOMAINMAX (RFC 9422 4.3): then a new one, in place of the one that was idle for longest."""
    there = [bound(1.0, "x.example"), bound(2.0, "y.example")]
    x, y, z = map(wishing, ("x.example", "y.example", "z.example"))
    for by_priority in (True, False):
        assert choose(x, situation([ONE], there, by_priority=by_priority)) is there[0]
        assert choose(y, situation([ONE], there, [z], by_priority=by_priority)) is there[1]
        assert choose(z, situation([ONE], there, by_priority=by_priority)) == [there[0]]
        assert choose(z, situation([ONE], there, most=3, by_priority=by_priority)) is ONE
        assert choose(x, situation([ONE], there, [lease()], by_priority=by_priority)) == math.inf, "in turn"


def test_none_is_closed_for_whom_a_new_one_is_coming() -> None:
    asking, there = wishing("z.example"), bound(1.0, "x.example")
    dialling = connection(ONE, 5.0, is_open=False)
    asking.dial = dialling
    assert choose(asking, situation([ONE], [there, dialling], [asking])) == math.inf


@pytest.mark.parametrize(
    ("error", "hope"), [(ConnectError(), True), (ConnectError(reply=Reply(554)), True)], ids=str
)
def test_hope(error: ConnectError, hope: bool) -> None:
    first, second = failing("a.example", until=20.0), failing("b.example", until=20.0)
    assert not has_hope(first, ConnectError(), situation([first]))
    assert has_hope(first, error, situation([first], [held(first)])) is hope
    assert has_hope(first, error, situation([first, server("b.example")])) is hope
    assert not has_hope(first, ConnectError(), situation([first, second])), "no server is known to work"
    refused = ConnectError(reply=Reply(554))
    assert has_hope(first, refused, situation([first, second])), "the other is only left alone for now"
    second.error = ConnectError(reply=Reply(554))
    assert not has_hope(first, refused, situation([first, second]))


def test_an_error_for_another_message_names_nobody() -> None:
    error = ConnectionLost("gone")
    error.unsent_recipients = ("a@x.example",)
    twin = again(error, "why")
    assert (twin.text, twin.unsent_recipients, twin.__notes__) == ("gone", (), ["why"])
    assert error.unsent_recipients == ("a@x.example",)


_STATES = st.lists(st.sampled_from(["idle", "held", "dialling", "dialling slowly"]), max_size=5)


@given(
    first=_STATES,
    second=_STATES,
    most=st.integers(1, 5),
    ahead=st.integers(0, 4),
    balance=st.sampled_from(["failover", "even", "weighted"]),
    own=st.none() | st.integers(0, 9),
)
def test_whatever_there_is_the_limit_holds_and_nobody_is_robbed(
    first: list[str], second: list[str], most: int, ahead: int, balance: str, own: int | None
) -> None:
    """Nothing that is in use is taken or closed, and no dial is one too many, slow ones elsewhere apart."""
    servers = [server("a.example", most=5), server("b.example", most=5)]
    there: list[PooledConnection] = []
    for one, states in zip(servers, (first, second), strict=True):
        for state in states:
            moment = 9.9 if state == "dialling" else 0.0
            there.append(held(one) if state == "held" else connection(one, moment, is_open=state == "idle"))
    there, asking = there[:most], lease()
    dials = [each for each in there if each.channel is None]
    if own is not None and own < len(dials):
        asking.dial = dials[own]
    waiting = [lease() for _ in range(ahead)]
    now = situation(servers, there, waiting, most=most, by_priority=balance == "failover")
    choice = choose(asking, now._replace(is_weighted=balance == "weighted"))
    if isinstance(choice, PooledServer):
        assert len(there) < most
        assert sum(each.server is choice or each.since == 9.9 for each in dials) <= ahead
    elif isinstance(choice, PooledConnection):
        assert choice.is_idle
        assert not ahead
    elif isinstance(choice, list):
        assert choice
        assert all(each.is_idle for each in choice)
    else:
        assert choice > 0
