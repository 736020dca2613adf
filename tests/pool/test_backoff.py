"""How long a server is left alone follows from what it said, and from nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import AuthenticationError, ConnectError, SmtpError
from pysmtpx.pooling.backoff import (
    FIRST_REST,
    LONGEST_DIAL_REST,
    LONGEST_PROBE,
    LONGEST_REST,
    QUIET,
    Backoff,
)
from pysmtpx.wire.reply import Reply

MOST = 4
PASSWORD = AuthenticationError(reply=Reply(535))
BUSY = ConnectError("greeting", reply=Reply(421))
DOWN = ConnectError("nobody answered")


def backoff(share: float = 0.0) -> Backoff:
    return Backoff(MOST, lambda: share)


def rests(state: Backoff, error: SmtpError, times: int, open_now: int = 0) -> list[float]:
    """How long a dial has to wait after each of so many failures, each as soon as it may."""
    now, found = 1000.0, []
    for _ in range(times):
        state.dial_failed(error, open_now, now)
        found.append(state.may_dial(0, now) - now)
        now += found[-1]
    return found


# -- dialling


def test_a_new_server_may_be_dialled_up_to_the_cap() -> None:
    assert [backoff().may_dial(count, 0.0) <= 0.0 for count in range(6)] == [True] * MOST + [False] * 2
    assert backoff().may_dial(MOST, 0.0) == math.inf


def test_a_server_that_cannot_be_reached_is_left_alone_for_longer_and_longer() -> None:
    assert rests(backoff(), DOWN, 10) == [1, 2, 4, 8, 16, *[LONGEST_DIAL_REST] * 5]
    assert rests(backoff(share=1.0), DOWN, 3) == [0.5, 1, 2]


def test_dials_that_fail_together_are_one_failure() -> None:
    state = backoff()
    for _ in range(MOST):
        state.dial_failed(DOWN, 0, 10.0)
    assert state.may_dial(0, 10.0) == 11.0


def test_a_session_ends_all_rests_of_dialling() -> None:
    state = backoff()
    rests(state, DOWN, 5)
    state.dial_succeeded()
    assert state.may_dial(0, 2000.0) <= 2000.0
    assert rests(state, DOWN, 1) == [1]


@pytest.mark.parametrize("open_now", [1, 2, 3])
def test_one_connection_too_many_shrinks_the_cap_and_rests_nobody(open_now: int) -> None:
    """FAULTS 90."""
    state = backoff()
    state.dial_failed(BUSY, open_now, 10.0)
    assert state.cap == open_now
    assert state.may_dial(open_now, 10.0) == math.inf
    assert state.may_dial(open_now - 1, 10.0) <= 10.0


def test_a_refusal_of_all_that_were_dialled_together_does_not_tell_how_many_are_allowed() -> None:
    state = backoff()
    for others in (3, 2, 1, 0):
        state.dial_failed(BUSY, others, 10.0, established=False)
    assert (state.cap, state.may_dial(0, 10.0)) == (MOST, 11.0)


def test_but_what_came_off_meanwhile_does() -> None:
    state = backoff()
    state.dial_failed(BUSY, 3, 10.0, established=False)
    state.dial_failed(BUSY, 2, 10.0, established=False)
    state.dial_succeeded()
    state.dial_succeeded()
    assert state.cap == 2
    state.dial_failed(BUSY, 0, 11.0)
    assert state.cap == 2, "that it is busy later changes nothing"


def test_a_busy_server_without_a_connection_of_ours_is_left_alone() -> None:
    state = backoff()
    state.dial_failed(BUSY, 0, 10.0)
    assert (state.cap, state.may_dial(0, 10.0)) == (MOST, 11.0)


# -- credentials


def test_a_refused_password_is_probed_rarely_and_by_one() -> None:
    """FAULTS 86."""
    state = backoff()
    assert rests(state, PASSWORD, 7) == [30, 60, 120, 240, 480, LONGEST_PROBE, LONGEST_PROBE]
    assert state.refused is PASSWORD
    now = 1e6
    assert state.may_dial(0, now) <= now
    state.dial_begins(now)
    assert state.may_dial(1, now) > now


def test_an_accepted_password_closes_the_breaker() -> None:
    state = backoff()
    rests(state, PASSWORD, 3)
    state.dial_succeeded()
    assert state.refused is None
    assert rests(state, PASSWORD, 1) == [30]


def test_a_server_that_cannot_check_just_now_has_refused_no_password() -> None:
    state = backoff()
    state.dial_failed(AuthenticationError(reply=Reply(454)), 0, 10.0)
    assert state.refused is None


@given(st.floats(0, 1))
def test_chance_never_makes_a_probe_come_early_or_after_the_longest(share: float) -> None:
    found = rests(backoff(share), PASSWORD, 8)
    assert found[0] >= 30 - 1e-6
    assert max(found) <= LONGEST_PROBE + 1e-6


# -- slower, and faster again


def test_a_complaint_costs_one_connection_and_a_rest_that_doubles() -> None:
    state, now, caps, found = backoff(), 10.0, [], []
    for _ in range(12):
        state.slowed(now, state.cap)
        caps.append(state.cap)
        found.append(state.rest_until - now)
        now = state.rest_until
    assert caps == [3, 2] + [1] * 10
    assert found[:3] == pytest.approx([FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST])
    assert found[-1] == pytest.approx(LONGEST_REST)


def test_complaints_about_the_same_burst_count_once() -> None:
    state = backoff()
    for _ in range(MOST):
        state.slowed(10.0, MOST)
    assert (state.cap, state.rest_until) == (MOST - 1, 10.0 + FIRST_REST)


def test_the_cap_follows_what_is_open() -> None:
    state = backoff()
    state.slowed(10.0, 2)
    assert state.cap == 1


def test_an_acceptance_resets_the_rest_and_quiet_spells_raise_the_cap() -> None:
    state = backoff()
    state.slowed(0.0, MOST)
    state.slowed(1.0, 3)
    assert (state.cap, state.is_over) == (2, False)
    state.accepted(1.0 + QUIET - 0.1)
    assert state.cap == 2
    state.accepted(1.0 + QUIET)
    assert state.cap == 3
    state.accepted(1.0 + 100 * QUIET)
    assert (state.cap, state.is_over) == (MOST, True)


STEPS = st.tuples(
    st.sampled_from(["slowed", "accepted", "busy", "down", "password", "dialled"]),
    st.integers(0, MOST),
    st.floats(0, 1000),
)


@given(st.lists(STEPS, max_size=40), st.floats(0, 1))
def test_whatever_happens_one_connection_is_allowed_and_every_rest_ends(
    steps: list[tuple[str, int, float]], share: float
) -> None:
    state, now = backoff(share), 0.0
    acts: dict[str, Any] = {
        "slowed": lambda open_now: state.slowed(now, open_now),
        "accepted": lambda open_now: state.accepted(now),
        "busy": lambda open_now: state.dial_failed(BUSY, open_now, now),
        "down": lambda open_now: state.dial_failed(DOWN, open_now, now),
        "password": lambda open_now: state.dial_failed(PASSWORD, open_now, now),
        "dialled": lambda open_now: state.dial_succeeded(),
    }
    for act, open_now, gap in steps:
        now += gap
        acts[act](min(open_now, state.cap))
        assert 1 <= state.cap <= MOST
        assert state.may_dial(0, now) <= now + LONGEST_PROBE
        assert state.rest_until <= now + LONGEST_REST
