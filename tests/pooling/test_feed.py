"""The queue: who gets which message, who is woken for it, and what happens where it is full or ends."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from support.busy import until
from support.racks import job, raised

from pysmtpx import Timeout, UsageError
from pysmtpx.net.deadline import Deadline, now
from pysmtpx.pooling import feed as feeds
from pysmtpx.pooling import source as sources
from pysmtpx.pooling.bell import Bell
from pysmtpx.pooling.feed import Feed
from pysmtpx.pooling.pace import Pace
from pysmtpx.pooling.source import Pacer

NEVER = Deadline.after(None)
OVER = Deadline(0.0)


def feed_of(limit: int = 100, workers: int = 4, pacer: Pacer | None = None) -> tuple[Feed, list[Any]]:
    """A feed, and the tokens of the workers that it started."""
    started: list[Any] = []
    return Feed(limit, workers, started.append, pacer), started


def test_first_in_first_out() -> None:
    feed, _ = feed_of()
    jobs = [job() for _ in range(5)]
    for each in jobs:
        feed.put(each, NEVER)
    assert [feed.take(Bell(), eager=True) for _ in range(6)] == [*jobs, None]
    assert feed.counts()[:2] == (0, 5)
    for each in jobs:
        feed.done(each)
    assert feed.is_done


def test_a_worker_is_started_for_each_message_up_to_the_most() -> None:
    feed, started = feed_of(workers=3)
    for _ in range(5):
        feed.put(job(), NEVER)
    assert len(started) == 3


def test_no_second_worker_is_started_where_one_is_coming() -> None:
    feed, started = feed_of()
    feed.put(job(), NEVER)
    bell = Bell()
    feed.arrive(started[0], bell)
    feed._call_locked()
    assert len(started) == 1, "it is about to take that one"
    assert feed.wait(bell)
    assert feed.take(bell, eager=True) is not None
    feed.put(job(), NEVER)
    assert len(started) == 2


def test_a_message_is_left_to_the_worker_that_was_woken_for_it() -> None:
    """It would wait behind another one here, and is begun at once there."""
    feed, started = feed_of()
    feed.put(job(), NEVER)
    assert feed.take(Bell(), eager=False) is None
    bell = Bell()
    feed.arrive(started[0], bell)
    assert feed.take(Bell(), eager=False) is None
    assert feed.take(bell, eager=False) is not None


def test_a_worker_that_leaves_hands_on_what_came_meanwhile() -> None:
    feed, started = feed_of(workers=1)
    feed.put(job(), NEVER)
    bell = Bell()
    feed.arrive(started[0], bell)
    feed.put(job(), NEVER)
    feed.leave(started[0], bell)
    assert len(started) == 2


def test_without_threads_it_says_so() -> None:
    """FAULTS 94."""

    def start(token: object) -> None:
        raise RuntimeError("can't start new thread")

    feed = Feed(10, 4, start)
    assert isinstance(raised(feed.put, job(), NEVER), UsageError)
    assert feed.is_done


def test_full_until_the_deadline() -> None:
    """FAULTS 98."""
    feed, _ = feed_of(limit=1)
    feed.put(job(), NEVER)
    error = raised(feed.put, job(), OVER)
    assert isinstance(error, Timeout)
    assert "full" in str(error)
    feed.put(job(), OVER, bounded=False)
    assert feed.counts().queued == 2


def test_who_waits_for_a_place_is_served_in_turn() -> None:
    feed, _ = feed_of(limit=1)
    feed.put(job(), NEVER)
    late = [job() for _ in range(3)]
    threads = []
    for each in late:
        threads.append(threading.Thread(target=feed.put, args=(each, NEVER)))
        threads[-1].start()
        until(lambda: len(feed._putters) == len(threads))
    order = []
    feed.take(Bell(), eager=True)
    while len(order) < 3:
        if (taken := feed.take(Bell(), eager=True)) is not None:
            order.append(taken)
    for thread in threads:
        thread.join()
    assert order == late


def test_a_closed_one_wakes_who_waits_for_a_place() -> None:
    feed, _ = feed_of(limit=1)
    feed.put(job(), NEVER)
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(feed.put, job(), NEVER)))
    thread.start()
    until(lambda: feed._putters)
    feed.close("over")
    thread.join()
    assert [(type(error), error.text) for error in errors] == [(UsageError, "over")]
    assert feed.counts().queued == 1


def test_what_is_put_back_comes_first_in_its_order() -> None:
    feed, _ = feed_of()
    jobs = [job() for _ in range(4)]
    for each in jobs:
        feed.put(each, NEVER)
    taken = [feed.take(Bell(), eager=True) for _ in range(2)]
    assert feed.put_back(taken)  # type: ignore[arg-type]
    assert [feed.take(Bell(), eager=True) for _ in range(4)] == jobs


def test_another_try_comes_when_it_is_due() -> None:
    feed, _ = feed_of()
    first, second = job(), job()
    for each in (first, second):
        feed.put(each, NEVER)
        feed.take(Bell(), eager=True)
    assert feed.put_later(second, now() + 3600)
    assert feed.put_later(first, now())
    assert feed.take(Bell(), eager=True) is first
    assert feed.take(Bell(), eager=True) is None
    assert feed.counts()[:2] == (1, 1)


def test_another_try_does_not_wait_for_the_worker_that_is_busy() -> None:
    feed, started = feed_of()
    first = job()
    feed.put(first, NEVER)
    bell = Bell()
    feed.arrive(started[0], bell)
    assert feed.wait(bell)
    assert feed.take(bell, eager=True) is first
    assert feed.put_later(first, now() + 3600)
    assert len(started) == 2


def test_an_earlier_try_wakes_who_watches_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_LINGER", 0.0)
    feed, started = feed_of()
    jobs = [job() for _ in range(2)]
    for each in jobs:
        feed.put(each, NEVER)
        feed.take(Bell(), eager=True)
    keeper = Bell()
    feed.arrive(started[0], keeper)
    feed.put_later(jobs[0], now() + 3600)
    came: list[bool] = []
    thread = threading.Thread(target=lambda: came.append(feed.wait(keeper)))
    thread.start()
    until(lambda: feed._crew.keeper is keeper)
    feed.put_later(jobs[1], now() + 0.05)
    thread.join(20)
    assert came == [True]


def test_an_early_deadline_wakes_who_watches_the_clock() -> None:
    """A rate that lets the next message go in an hour must not keep the one whose time ends before."""
    feed, started = feed_of(pacer=Pacer(Pace(1 / 3600)))
    feed.put(job(), NEVER)
    while feed.take(Bell(), eager=True) is None:
        pass
    keeper = Bell()
    feed.arrive(started[0], keeper)
    feed.put(job(), NEVER)
    came: list[bool] = []
    thread = threading.Thread(target=lambda: came.append(feed.wait(keeper)))
    thread.start()
    until(lambda: feed._crew.keeper is keeper)
    deadline = Deadline.after(0.05)
    late = job(deadline=deadline)
    feed.put(late, deadline)
    thread.join(20)
    assert came == [True]
    assert feed.expired() == [late]


def guarded() -> tuple[Feed, list[Bell]]:
    """A feed, and the bells of the guards that it posted."""
    posted: list[Bell] = []
    return Feed(100, 4, lambda token: None, None, posted.append), posted


def test_one_guard_is_posted_where_a_deadline_is_to_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_LINGER", 0.0)
    feed, posted = guarded()
    feed.put(job(), NEVER)
    assert not posted
    jobs = [job(deadline=Deadline.after(60)) for _ in range(3)]
    for each in jobs:
        feed.put(each, NEVER)
    assert len(posted) == 1
    feed.take(Bell(), eager=True)
    feed.withdraw(jobs)
    assert not feed.guard(posted[0]), "there is nothing to watch, and it leaves"
    feed.put(job(deadline=Deadline.after(60)), NEVER)
    assert len(posted) == 2
    feed.end()
    assert not feed.guard(posted[1])


def test_an_early_deadline_wakes_the_guard() -> None:
    feed, posted = guarded()
    feed.put(job(deadline=Deadline.after(3600)), NEVER)
    came: list[bool] = []
    thread = threading.Thread(target=lambda: came.append(feed.guard(posted[0])))
    thread.start()
    late = job(deadline=Deadline.after(0.05))
    feed.put(late, NEVER)
    thread.join(20)
    assert came == [True]
    assert feed.expired() == [late]


def test_another_guard_is_posted_where_a_callback_ended_the_first() -> None:
    """FAULTS 92: the deadlines of the others are watched still."""
    feed, posted = guarded()
    feed.put(job(deadline=Deadline.after(60)), NEVER)
    feed.relieve(posted[0])
    assert len(posted) == 2
    feed.end()
    feed.relieve(posted[1])
    assert len(posted) == 2


def test_a_guard_counts_as_long_as_it_is_there() -> None:
    """FAULTS 93: the end of a pool leaves no thread."""
    feed, posted = guarded()
    feed.put(late := job(deadline=Deadline.after(60)), NEVER)
    feed._crew._started.clear()  # no worker
    feed.end()
    feed.withdraw([late])
    assert not feed.is_done
    assert not feed.guard(posted[0])
    assert feed.is_done


def test_whose_time_is_over() -> None:
    feed, _ = feed_of()
    over, other = job(deadline=OVER), job(deadline=Deadline.after(3600))
    for each in (other, over):
        feed.put(each, NEVER)
    assert feed.expired() == [over]
    assert feed.expired() == []
    assert 3500 < feed.patience(Bell()).remaining() < 3601
    assert feed.counts()[:2] == (1, 1)


def test_withdrawn_while_it_is_queued_only() -> None:
    feed, _ = feed_of()
    jobs = [job() for _ in range(3)]
    for each in jobs:
        feed.put(each, NEVER)
    feed.take(Bell(), eager=True)
    assert feed.withdraw(jobs) == jobs[1:]
    assert feed.counts()[:2] == (0, 1)


def test_a_rate() -> None:
    feed, _ = feed_of(pacer=Pacer(Pace(1 / 3600)))
    for _ in range(2):
        feed.put(job(), NEVER)
    taken = [feed.take(Bell(), eager=True) for _ in range(4)]
    assert len([each for each in taken if each is not None]) == 1


def test_a_message_that_may_go_at_once_does() -> None:
    """Not at the next look: a stream would end for it, and the next message pay another round trip."""
    feed, _ = feed_of(pacer=Pacer(Pace(1e9)))
    jobs = [job() for _ in range(3)]
    for each in jobs:
        feed.put(each, NEVER)
    assert [feed.take(Bell(), eager=True) for _ in range(3)] == jobs


def test_the_rate_is_never_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody looks, and though the clock goes on between two looks."""
    clock = itertools.count(1000.0, 0.001)
    for module in (feeds, sources):
        monkeypatch.setattr(module, "now", lambda: next(clock))
    feed, _ = feed_of(pacer=Pacer(Pace(10.0)))
    for _ in range(6):
        feed.put(job(), NEVER)
    taken: list[float] = []
    while len(taken) < 6:
        if feed.take(Bell(), eager=True) is not None:
            taken.append(next(clock))
    assert all(later - earlier >= 0.1 - 0.002 for earlier, later in itertools.pairwise(taken))
    assert taken[-1] - taken[0] < 0.52, "and it is reached"


def test_the_rate_of_recipients_is_that_of_the_message_which_is_sent() -> None:
    """A moment that was kept for one recipient does not do for a hundred."""
    pace = Pace(None, 1 / 3600)
    feed, _ = feed_of(pacer=Pacer(pace))
    first, second = job(), job()
    for each in (first, second):
        feed.put(each, NEVER)
    while feed.take(Bell(), eager=True) is None:
        pass
    feed.take(Bell(), eager=True)  # a moment is kept for the second
    kept = pace.when(1, 0.0)
    feed.withdraw([second])
    feed.put(job(["a@x.example", "b@x.example"]), NEVER)  # type: ignore[arg-type]
    feed.take(Bell(), eager=True)
    assert pace.when(1, 0.0) >= kept + 3600


def test_the_end() -> None:
    feed, started = feed_of()
    jobs = [job() for _ in range(3)]
    for each in jobs:
        feed.put(each, NEVER)
    taken = feed.take(Bell(), eager=True)
    assert taken is jobs[0]
    assert feed.end() == jobs[1:]
    assert feed.end() == jobs[1:], "an interrupt may come before they have their outcome"
    assert feed.withdraw(jobs[1:]) == jobs[1:]
    assert feed.end() == []
    assert not feed.put_back([taken])
    assert not feed.put_later(taken, 0)
    assert feed.take(Bell(), eager=True) is None
    assert not feed.wait(Bell())
    assert isinstance(raised(feed.put, job(), NEVER), UsageError)
    feed.done(taken)
    assert not feed.is_done, "a worker is coming"
    for token in started:
        bell = Bell()
        feed.arrive(token, bell)
        feed.leave(token, bell)
    assert feed.is_done


def test_the_end_wakes_idle_workers() -> None:
    feed, _ = feed_of()
    first = job()
    feed.put(first, NEVER)
    feed.take(Bell(), eager=True)
    feed.put_later(first, now() + 3600)
    came: list[bool] = []
    bell = Bell()
    thread = threading.Thread(target=lambda: came.append(feed.wait(bell)))
    thread.start()
    until(lambda: feed._crew.keeper is bell)
    assert feed.end() == [first]
    thread.join()
    assert came == [False]


def test_a_worker_without_work_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_LINGER", 0.0)
    feed, _ = feed_of()
    assert not feed.wait(Bell())


def test_who_watches_is_told() -> None:
    feed, _ = feed_of()
    bell = Bell()
    feed.watch(bell)
    first = job()
    feed.put(first, NEVER)
    feed.take(Bell(), eager=True)
    assert not bell.wait(0)
    feed.done(first)
    assert bell.wait(0)
    feed.unwatch(bell)
    feed.unwatch(bell)


def test_after_a_fork_it_is_empty_and_no_lock_is_held() -> None:
    """FAULTS 95."""
    feed, _ = feed_of()
    feed.put(job(), NEVER)
    held = threading.Thread(target=feed._lock.acquire)
    held.start()
    held.join()
    feed.abandon()
    assert feed.is_done
    feed.put(job(), NEVER)


def test_what_is_kept_for_a_worker_is_taken_by_nobody_else() -> None:
    """Nor is it lost: it counts, its time runs, and where the worker leaves it is the next for anybody."""
    feed, _ = feed_of()
    first, other = job(), job(deadline=Deadline.after(3600))
    for each in (first, other):
        feed.put(each, NEVER)
    mine, theirs = Bell(), Bell()
    assert feed.take(mine, eager=True) is first
    assert feed.keep([first], mine)
    assert feed.counts()[:2] == (2, 0)
    assert not feed.is_done
    assert feed.patience(mine).remaining() < 2 < 3500 < feed.patience(theirs).remaining()
    assert feed.take(theirs, eager=True) is other
    assert feed.take(theirs, eager=True) is None
    assert feed.wait(mine)
    assert feed.take(mine, eager=False) is first
    assert feed.keep([first], mine)
    feed.let_go(mine)
    assert feed.take(theirs, eager=True) is first
    feed.keep([first], mine)
    assert feed.withdraw([first]) == [first]
    feed.keep([first], mine)
    assert feed.take_ready() == [first]
    feed.keep([first], mine)
    assert feed.end() == [first]
    assert not feed.keep([first], mine)


def test_what_waits_for_a_dial_is_what_is_not_to_be_tried_later() -> None:
    feed, _ = feed_of()
    jobs = [job() for _ in range(3)]
    for each in jobs:
        feed.put(each, NEVER)
    taken = feed.take(Bell(), eager=True)
    assert taken is not None
    feed.put_later(taken, now() + 3600)
    assert feed.take_ready() == jobs[1:]
    assert feed.counts()[:2] == (1, 2)
