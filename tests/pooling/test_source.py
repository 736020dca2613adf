"""The source of one message, and the rate that all sources share."""

from __future__ import annotations

from itertools import pairwise

from support.racks import job

from pysmtpx.net.deadline import Deadline, now
from pysmtpx.pooling.bell import Bell
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
    assert single.patience().remaining() > 1e9
