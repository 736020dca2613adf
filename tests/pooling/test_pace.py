"""The rate is strict in every span of time, and no message waits longer than it must."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import InputError
from pysmtpx.pooling.pace import Pace, TokenBucket

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


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 10),
    gaps=GAPS,
    costs=st.lists(st.floats(0.1, 10), min_size=40, max_size=40),
)
def test_no_span_has_more_than_the_burst_and_what_the_rate_adds(
    rate: float, burst: float, gaps: list[float], costs: list[float]
) -> None:
    costs = [min(cost, burst) for cost in costs]
    spent = moments(TokenBucket(rate, burst), costs, gaps)
    for first in range(len(spent)):
        for last in range(first, len(spent)):
            total = sum(costs[first : last + 1])
            assert total <= burst + rate * (spent[last] - spent[first]) + TINY


@given(rate=st.floats(0.1, 100), burst=st.floats(1, 5), cost=st.floats(5, 100), gaps=GAPS)
def test_what_costs_more_than_the_burst_is_paid_off_afterwards(
    rate: float, burst: float, cost: float, gaps: list[float]
) -> None:
    spent = moments(TokenBucket(rate, burst), [cost] * len(gaps), gaps)
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


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_nonsense_is_refused(value: float) -> None:
    with pytest.raises(InputError):
        TokenBucket(value)
    with pytest.raises(InputError):
        TokenBucket(1, value)


@given(
    rate=st.none() | st.floats(0.5, 50),
    recipient_rate=st.none() | st.floats(0.5, 50),
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=30),
)
def test_the_slower_of_two_rates_decides(
    rate: float | None, recipient_rate: float | None, counts: list[int]
) -> None:
    pace, clock, spent = Pace(rate, recipient_rate), 5.0, []
    for count in counts:
        clock = pace.when(count, clock)
        pace.spend(count, clock)
        spent.append(clock)
    for (earlier, later), before in zip(pairwise(spent), counts, strict=False):
        least = max(1 / rate if rate else 0, 0)
        # A full bucket lets one recipient go on credit; all others of the message before are paid off.
        owed = (before - 1) / recipient_rate if recipient_rate else 0
        assert later - earlier >= max(least, owed) - TINY
    if rate is None and recipient_rate is None:
        assert spent == [5.0] * len(counts)
