"""The rate is strict in every span of time, and no message waits longer than it must."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.pooling import ratelimit
from pysmtpx.pooling.ratelimit import RateLimit, TokenBucket

TINY = 1e-6
GAPS = st.lists(st.floats(0, 5), min_size=1, max_size=40)


def moments(bucket: TokenBucket, costs: list[float], gaps: list[float]) -> list[float]:
    """When each cost is spent, by a caller who comes after these gaps and waits as he is told."""
    spent, clock = [], 1000.0
    for cost, gap in zip(costs, gaps, strict=False):
        clock = bucket.when(cost, clock + gap)
        bucket.spend(cost, clock)
        spent.append(clock)
    return spent


@given(rate=st.floats(0.1, 100), gaps=GAPS, costs=st.lists(st.floats(0.1, 1), min_size=40, max_size=40))
def test_no_span_has_more_than_one_and_what_the_rate_adds(
    rate: float, gaps: list[float], costs: list[float]
) -> None:
    spent = moments(TokenBucket(rate), costs, gaps)
    for first in range(len(spent)):
        for last in range(first, len(spent)):
            total = sum(costs[first : last + 1])
            assert total <= 1 + rate * (spent[last] - spent[first]) + TINY


@given(rate=st.floats(0.1, 100), cost=st.floats(1, 100), gaps=GAPS)
def test_what_costs_more_than_one_is_paid_off_afterwards(rate: float, cost: float, gaps: list[float]) -> None:
    spent = moments(TokenBucket(rate), [cost] * len(gaps), gaps)
    assert spent[0] == 1000 + gaps[0]
    assert all(later - earlier >= cost / rate - TINY for earlier, later in pairwise(spent))


@given(rate=st.floats(0.1, 100), gaps=GAPS)
def test_it_goes_as_fast_as_it_may(rate: float, gaps: list[float]) -> None:
    """A caller who is never late has exactly the rate, and one who is late is not held up."""
    busy = moments(TokenBucket(rate), [1.0] * 30, [0.0] * 30)
    assert busy[-1] - busy[0] == pytest.approx(29 / rate)
    late = TokenBucket(rate)
    for count in range(5):
        moment = 1000.0 + count * (1 / rate + 1)
        assert late.when(1, moment) == moment
        late.spend(1, moment)


def test_moments_can_be_reserved_ahead() -> None:
    bucket = TokenBucket(2)
    taken = []
    for _ in range(4):
        taken.append(bucket.when(1, 10.0))
        bucket.spend(1, taken[-1])
    assert taken == [10, 10.5, 11, 11.5]


def test_a_clock_may_begin_anywhere() -> None:
    for start in (-1e6, 0.0, 1e6):
        assert TokenBucket(1).when(1, start) == start


class Clock:
    """The time that is seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(ratelimit, "now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("rate", "recipient_rate"), [(None, None), (2.0, None), (None, 4.0), (2.0, 4.0), (9.0, 4.0)]
)
def test_the_slower_of_two_rates_decides(clock: Clock, rate: Any, recipient_rate: Any) -> None:
    counts = [1, 3, 1, 8, 1, 1]
    limit, spent = RateLimit(rate, recipient_rate), []
    for count in counts:
        spent.append(limit.reserve(count))
        clock.now = spent[-1]
    for (earlier, later), before in zip(pairwise(spent), counts, strict=False):
        # A full bucket lets one recipient go on credit; all others of the message before are paid off.
        owed = (before - 1) / recipient_rate if recipient_rate else 0
        assert later - earlier >= max(1 / rate if rate else 0, owed) - TINY
    if rate is None and recipient_rate is None:
        assert spent == [1000.0] * len(counts)


def test_each_message_has_a_moment_of_its_own(clock: Clock) -> None:
    limit = RateLimit(10)
    moments = [limit.reserve(1) for _ in range(4)]
    assert [later - earlier for earlier, later in pairwise(moments)] == pytest.approx([0.1] * 3)


def test_a_moment_that_was_missed_is_not_made_up_for(clock: Clock) -> None:
    """Strictly: those who wait for a connection must not all send at once when there is one."""
    limit = RateLimit(10)
    moments = [limit.reserve(1) for _ in range(5)]
    clock.now += 60
    sent = [limit.confirm(1, moment) for moment in moments]
    assert sent[0] == clock.now
    assert all(later - earlier >= 0.1 - 1e-6 for earlier, later in pairwise(sent))
    assert sent[-1] <= clock.now + 0.4 + 1e-6


def test_a_moment_that_was_missed_costs_nothing_if_nobody_is_behind_it(clock: Clock) -> None:
    limit = RateLimit(1 / 3600)
    moment = limit.reserve(1)
    clock.now += 1
    assert limit.confirm(1, moment) == clock.now, "it is sent at once"
    assert limit.reserve(1) == clock.now + 3600, "and the next one an hour later"


def test_a_moment_is_kept_for_a_little_while(clock: Clock) -> None:
    limit = RateLimit(10)
    moments = [limit.reserve(1) for _ in range(2)]
    clock.now += 0.04
    assert limit.confirm(1, moments[0]) == moments[0]
