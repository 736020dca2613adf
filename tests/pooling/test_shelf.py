"""Which connection a claim gets: pure decisions, at moments that the test names."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.racks import Line, raised, site

from pysmtpx import AuthenticationError, ConnectError, ConnectionLost, UsageError
from pysmtpx.pooling.session import Claim, Session, Site
from pysmtpx.pooling.shelf import Counts, Limits, Shelf, again
from pysmtpx.wire.reply import Reply


def claim(*, urgent: bool = False, thread: int = 0) -> Claim:
    made = Claim(urgent=urgent)
    made.thread = thread or id(made)
    return made


def shelf(*sites: Site, connections: int = 2, by_priority: bool = True, **limits: Any) -> Shelf:
    return Shelf(sites or (site(most=connections),), Limits(connections, **limits), by_priority=by_priority)


def opened(shelf: Shelf, moment: float = 0.0, **options: Any) -> Session:
    """A session on which the dial came off."""
    session = shelf.step(claim(**options), moment)
    assert isinstance(session, Session)
    session.channel = session.channel or Line()  # type: ignore[assignment]
    return session


def test_places_are_counted_from_the_dial_on() -> None:
    rack = shelf()
    first, second = (rack.step(claim(), 0) for _ in range(2))
    assert isinstance(first, Session)
    assert isinstance(second, Session)
    assert rack.counts() == Counts(open=0, idle=0, dialling=2, waiting=0)
    third = claim()
    assert rack.step(third, 0) == math.inf
    assert rack.remove(first)
    assert not rack.remove(first)
    assert third.bell.wait(0)
    assert isinstance(rack.step(third, 0), Session)


def test_the_last_one_used_is_taken_first() -> None:
    rack = shelf(connections=3)
    sessions = [opened(rack) for _ in range(3)]
    for moment, session in enumerate(sessions):
        assert rack.park(session, moment)
    assert [opened(rack, 5) for _ in range(3)] == sessions[::-1]


def test_who_waits_is_served_in_turn() -> None:
    """Nobody overtakes, not even who comes just when a connection becomes free."""
    rack = shelf(connections=1)
    held = opened(rack)
    first, second = claim(), claim()
    assert rack.step(first, 0) == rack.step(second, 0) == math.inf
    assert rack.park(held, 1)
    assert rack.step(second, 1) == math.inf
    assert rack.step(claim(), 1) == math.inf
    assert rack.step(first, 1) is held
    assert rack.park(held, 2)
    assert rack.step(second, 2) is held


def test_one_that_goes_wakes_the_next() -> None:
    rack = shelf(connections=1)
    opened(rack)
    first, second = claim(), claim()
    rack.step(first, 0)
    rack.step(second, 0)
    rack.leave(first)
    assert second.bell.wait(0)
    assert list(rack.queue) == [second]


@pytest.mark.parametrize("limits", [{"age": 10.0}, {"idle": 10.0}])
def test_what_is_over_is_closed_first(limits: dict[str, float]) -> None:
    rack = shelf(**limits)
    session = opened(rack)
    session.ends = 10.0 if "age" in limits else math.inf
    assert rack.park(session, 0)
    assert rack.step(claim(), 9.9) is session
    assert rack.park(session, 0)
    asking = claim()
    assert rack.step(asking, 10) == [session]
    assert session.owner is asking
    rack.remove(session)
    fresh = rack.step(asking, 10)
    assert isinstance(fresh, Session)
    assert fresh is not session


def test_a_new_connection_is_made_room_for() -> None:
    """FAULTS 87: whoever wants a new one is not left waiting behind idle ones."""
    rack = shelf()
    sessions = [opened(rack) for _ in range(2)]
    for moment, session in enumerate(sessions):
        rack.park(session, moment)
    asking = claim(urgent=True)
    assert rack.step(asking, 5, fresh=True) == [sessions[0]]
    rack.remove(sessions[0])
    made = rack.step(asking, 5, fresh=True)
    assert isinstance(made, Session)
    assert made.channel is None


def test_an_idle_connection_elsewhere_makes_room() -> None:
    first, second = site("a.example"), site("b.example")
    rack = shelf(first, second, connections=1)
    first.health.dial_failed(ConnectError(), 0, 0)
    held = opened(rack)
    assert held.site is second
    rack.park(held, 1)
    assert rack.step(claim(), 1e6) == [held]


def test_the_second_server_is_used_while_the_first_is_left_alone() -> None:
    first, second = site("a.example"), site("b.example")
    rack = shelf(first, second)
    first.health.dial_failed(ConnectError(), 0, 0)
    first.failing = True
    assert opened(rack, 0.1).site is second


def test_the_second_server_is_used_while_a_failing_first_one_is_dialled_again() -> None:
    """A dial may take half a minute: nobody but who dials waits for it."""
    first, second = site("a.example"), site("b.example")
    rack = shelf(first, second)
    first.health.dial_failed(ConnectError(), 0, 0)
    first.failing = True
    probe = rack.step(claim(), 2)
    assert isinstance(probe, Session)
    assert probe.site is first
    assert opened(rack, 2).site is second


def test_the_second_server_is_not_used_while_the_first_is_only_busy() -> None:
    first, second = site("a.example", most=1), site("b.example", most=1)
    rack = shelf(first, second)
    opened(rack)
    assert rack.step(claim(), 0) == math.inf


def test_evenly() -> None:
    rack = shelf(site("a.example"), site("b.example"), connections=4, by_priority=False)
    names = [opened(rack).site.server.host for _ in range(4)]
    assert sorted(names[:2]) == sorted(names[2:]) == ["a.example", "b.example"]


def test_with_a_password_one_dial_goes_ahead() -> None:
    """FAULTS 86."""
    one = site(username="u", password="secret", tls="implicit")
    rack = shelf(one)
    first = rack.step(claim(), 0)
    assert isinstance(first, Session)
    asking = claim()
    assert rack.step(asking, 0) == math.inf
    first.channel = Line()  # type: ignore[assignment]
    assert isinstance(rack.step(asking, 0), Session)


def test_a_password_is_doubted_again_after_a_while() -> None:
    """FAULTS 86: it may have changed, and then as many as are dialled at once would lock the account."""
    one = site(most=9, username="u", password="secret", tls="implicit")
    rack = shelf(one, connections=9)
    opened(rack).made = 0.0
    assert all(isinstance(rack.step(claim(), 4.9), Session) for _ in range(2)), "accepted just now"
    assert rack.step(claim(), 5.0) == math.inf
    for session in rack.sessions:
        session.channel = Line()  # type: ignore[assignment]
    asking = rack.queue[0]
    assert isinstance(rack.step(asking, 5.0), Session)
    assert rack.step(claim(), 5.0) == math.inf


def test_a_refused_password_is_told_to_whoever_asks() -> None:
    """FAULTS 86."""
    one = site(username="u", password="secret", tls="implicit")
    rack = shelf(one)
    refusal = AuthenticationError(reply=Reply(535))
    one.health.dial_failed(refusal, 0, 0)
    error = raised(rack.step, claim(), 1)
    assert isinstance(error, AuthenticationError)
    assert error is not refusal
    assert error.reply == refusal.reply


def test_a_call_does_not_wait_for_a_server_that_is_left_alone_for_long() -> None:
    one = site()
    rack = shelf(one)
    one.error = ConnectError("refused")
    for moment in (0, 10, 20, 40):
        one.health.dial_failed(one.error, 0, moment)
    assert isinstance(raised(rack.step, claim(urgent=True), 40), ConnectError)
    step = rack.step(claim(), 40)
    assert isinstance(step, float)
    assert 5 < step < math.inf


def test_a_wait_for_oneself_is_an_error() -> None:
    """FAULTS 97."""
    rack = shelf(connections=1)
    opened(rack, thread=7)
    assert rack.step(claim(urgent=True, thread=8), 0) == math.inf
    rack.leave(rack.queue[0])
    assert isinstance(raised(rack.step, claim(urgent=True, thread=7), 0), UsageError)


def test_a_connection_too_many_is_not_kept() -> None:
    rack = shelf()
    first, second = (opened(rack) for _ in range(2))
    first.site.health.slowed(0, 2)
    assert not rack.park(first, 0)
    rack.remove(first)
    assert rack.park(second, 0)


@pytest.mark.parametrize("what", ["closed", "spent", "old", "ended"])
def test_what_cannot_be_used_again_is_not_kept(what: str) -> None:
    rack = shelf()
    session = opened(rack)
    if what == "closed":
        session.channel.close()  # type: ignore[union-attr]
    elif what == "spent":
        session.budget = 0
    elif what == "old":
        session.ends = 5.0
    else:
        rack.is_ended = True
    assert not rack.park(session, 5)
    assert session.owner is not None, "it is still counted until it is closed"


def test_nothing_is_leased_once_it_is_over() -> None:
    rack = shelf()
    rack.is_dismissed = True
    assert isinstance(raised(rack.step, claim(), 0), ConnectionLost)
    assert isinstance(rack.step(claim(urgent=True), 0), Session)
    rack.is_ended = True
    assert isinstance(raised(rack.step, claim(urgent=True), 0), ConnectionLost)


def test_what_was_idle_as_long_as_a_dead_one() -> None:
    """FAULTS 91."""
    rack = shelf(connections=3)
    sessions = [opened(rack) for _ in range(3)]
    for moment, session in enumerate(sessions):
        rack.park(session, moment)
    dead = sessions[1]
    dead.owner = asking = claim()
    assert rack.take_idle(asking, like=dead) == [sessions[0]]
    assert rack.held_by(asking) == sessions[:2]


def test_an_error_for_another_message_names_nobody() -> None:
    error = ConnectionLost("gone")
    error.unsent_recipients = ("a@x.example",)
    twin = again(error, "why")
    assert (twin.text, twin.unsent_recipients, twin.__notes__) == ("gone", (), ["why"])
    assert error.unsent_recipients == ("a@x.example",)
