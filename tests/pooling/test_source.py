"""The source of one message, and the rate that all sources share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.racks import job

from pysmtpx.net.deadline import Deadline, now
from pysmtpx.pooling import feed as feeds
from pysmtpx.pooling import source as sources
from pysmtpx.pooling.bell import Bell
from pysmtpx.pooling.feed import Feed
from pysmtpx.pooling.pace import Pace
from pysmtpx.pooling.source import Pacer, Single


def test_one_message_once() -> None:
    single = Single(made := job())
    bell = Bell()
    assert single.wait(bell)
    assert single.take(bell, eager=True) is made
    assert single.take(bell, eager=True) is None
    single.done(made)
    assert not single.wait(bell)


def test_again_when_it_is_due() -> None:
    single = Single(made := job())
    single.take(Bell(), eager=True)
    assert single.put_later(made, now() + 0.02)
    before = now()
    assert single.wait(Bell())
    assert now() >= before
    assert single.take(Bell(), eager=True) is made
    assert single.put_back([made])
    assert single.take(Bell(), eager=True) is made


def test_over_before_it_was_sent() -> None:
    single = Single(made := job(deadline=Deadline(0.0)), Pacer(Pace(1 / 3600)))
    assert single.wait(Bell())
    assert single.expired() == [made]
    assert single.expired() == []


def test_the_end_wakes_it() -> None:
    pacer = Pacer(Pace(1 / 3600))
    pacer.reserve(1)
    single = Single(made := job(), pacer)
    bell = Bell()
    single._bell = bell
    single.end()
    assert bell.wait(0)
    assert single.wait(bell)
    assert single.take(bell, eager=True) is None
    assert single.expired() == [made]
    assert not single.put_back([made])
    assert not single.put_later(made, 0)


def test_each_message_has_a_moment_of_its_own() -> None:
    pacer = Pacer(Pace(10))
    moments = [pacer.reserve(1) for _ in range(4)]
    steps = [later - earlier for earlier, later in pairwise(moments)]
    assert all(abs(step - 0.1) < 1e-6 for step in steps)


def test_everything_that_is_left() -> None:
    single = Single(made := job())
    assert single.take_all() == [made]
    assert single.take_all() == []
    assert single.patience(Bell()).remaining() > 1e9


class Clock:
    """The time that a pacer sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (sources, feeds):
            monkeypatch.setattr(module, "now", lambda: self.now)


def test_a_moment_that_was_missed_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly: those who wait for a connection must not all send at once when there is one."""
    clock = Clock(monkeypatch)
    pacer = Pacer(Pace(10))
    moments = [pacer.reserve(1) for _ in range(5)]
    clock.now += 60
    sent = [pacer.confirm(1, moment) for moment in moments]
    assert sent[0] == clock.now
    assert all(later - earlier >= 0.1 - 1e-6 for earlier, later in pairwise(sent))
    assert sent[-1] <= clock.now + 0.4 + 1e-6


def test_a_moment_that_was_missed_costs_nothing_where_nobody_is_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    pacer = Pacer(Pace(1 / 3600))
    moment = pacer.reserve(1)
    clock.now += 1
    assert pacer.confirm(1, moment) == clock.now, "it is sent at once"
    assert pacer.reserve(1) == clock.now + 3600, "and the next one an hour later"


def test_a_moment_is_kept_for_a_little_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pacer = Pacer(Pace(10))
    moments = [pacer.reserve(1) for _ in range(2)]
    clock.now += 0.04
    assert pacer.confirm(1, moments[0]) == moments[0]


def test_the_queue_makes_up_for_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    feed = Feed(9, 1, lambda token: None, Pacer(Pace(10)))
    for _ in range(3):
        feed.put(job(), Deadline.after(None))
    assert feed.take(Bell(), eager=True)
    assert feed.take(Bell(), eager=True) is None, "it has a moment now"
    clock.now += 60
    assert feed.take(Bell(), eager=True)
    assert feed.take(Bell(), eager=True) is None
