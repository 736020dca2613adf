"""The one clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pysmtpx.errors import InputError
from pysmtpx.net import deadline as clock
from pysmtpx.net.deadline import Deadline


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, for the test to set."""
    time = [1000.0]
    monkeypatch.setattr(clock, "now", lambda: time[0])
    return time


def test_it_runs_down_and_beyond(now: list[float]) -> None:
    deadline = Deadline.after(5)
    assert deadline.remaining() == 5
    now[0] += 4.5
    assert deadline.remaining() == 0.5
    now[0] += 1
    assert deadline.remaining() == -0.5


def test_none_is_never(now: list[float]) -> None:
    deadline = Deadline.after(None)
    now[0] += 1e9
    assert deadline.remaining() == math.inf
    assert deadline.within(3).remaining() == 3


@pytest.mark.parametrize(("seconds", "left"), [(2, 2), (5, 5), (9, 5), (0, 0)])
def test_within_never_outlives_it(seconds: float, left: float, now: list[float]) -> None:
    """FAULTS 62: the limit of a reply lies under the deadline of the call."""
    outer = Deadline.after(5)
    assert outer.within(seconds).remaining() == left
    assert outer.remaining() == 5
    now[0] += 4
    assert outer.within(seconds).remaining() == min(seconds, 1)


@pytest.mark.parametrize("seconds", [0, -1, -0.0, math.nan, -math.inf, True, False, "5", b"5", [], 5j])
def test_what_is_no_timeout(seconds: Any) -> None:
    with pytest.raises(InputError):
        Deadline.after(seconds)


@pytest.mark.parametrize("seconds", [1, 0.001, 10**9, math.inf])
def test_what_is_one(seconds: float, now: list[float]) -> None:
    assert Deadline.after(seconds).remaining() == pytest.approx(seconds)


def test_repr_tells_what_is_left(now: list[float]) -> None:
    assert repr(Deadline.after(2.5)) == "<Deadline in 2.500 s>"
