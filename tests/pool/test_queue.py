"""The queue: who gets which message, who is woken for it, and what happens if it is full or ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.busy import until
from support.pool_parts import job, raised

from pysmtpx import Timeout, UsageError
from pysmtpx.flow.allowance import Allowance
from pysmtpx.net.deadline import Deadline, now
from pysmtpx.pooling import queue as queues
from pysmtpx.pooling import ratelimit
from pysmtpx.pooling.blame import Blame
from pysmtpx.pooling.job import Job
from pysmtpx.pooling.queue import Queue, Worker
from pysmtpx.pooling.ratelimit import RateLimit

NEVER = Deadline.after(None)
OVER = Deadline(0.0)
NEWEST = float("inf")
"""When a connection was made that any message may go on."""


class Bench:
    """A queue, and the workers that it started."""

    def __init__(self, limit: int = 100, connections: int = 4, rate: RateLimit | None = None) -> None:
        self.started: list[Worker] = []
        self.queue = Queue(limit, connections, self.started.append, rate)

    def put(self, count: int = 1, **options: Any) -> list[Job]:
        jobs = [job(f"r{number}@x.example", **options) for number in range(count)]
        for each in jobs:
            self.queue.put(each, NEVER)
        return jobs

    def take(self, made: float = NEWEST) -> Job | None:
        """For a worker that has nothing under way."""
        return self.queue.take(Worker(), made, eager=True)

    def wait_in_thread(self, worker: Worker) -> Callable[[], bool]:
        """A worker becomes idle; what comes of its wait."""
        came: list[bool] = []
        thread = threading.Thread(target=lambda: came.append(self.queue.wait(worker)))
        thread.start()
        until(lambda: worker in self.queue._idle)

        def result() -> bool:
            thread.join(20)
            return came[0]

        return result


def spared(*jobs: Job | None) -> list[Job]:
    """As if a connection were to blame."""
    for each in jobs:
        assert each is not None
        each.spare(Blame(spares=True, retires=True))
    return list(jobs)  # type: ignore[arg-type]


def test_first_in_first_out() -> None:
    bench = Bench()
    jobs = bench.put(5)
    assert [bench.take() for _ in range(6)] == [*jobs, None]
    assert bench.queue.counts()[:2] == (0, 5)
    for each in jobs:
        bench.queue.done(each)
    assert bench.queue.is_done


def test_a_worker_is_started_for_each_message_and_one_more_than_can_have_a_connection() -> None:
    bench = Bench(connections=3)
    bench.put(9)
    assert len(bench.started) == 4


def test_no_second_worker_is_started_if_one_is_coming() -> None:
    bench = Bench()
    bench.put()
    (worker,) = bench.started
    assert bench.queue.wait(worker)
    bench.queue._call_locked()
    assert len(bench.started) == 1, "it is about to take that one"
    assert bench.queue.take(worker, NEWEST, eager=True) is not None
    bench.put()
    assert len(bench.started) == 2


def test_a_message_is_left_to_the_worker_that_was_started_for_it() -> None:
    """It would wait behind another one here, and is begun at once there."""
    bench = Bench()
    bench.put()
    busy = Worker()
    bench.queue.arrive(busy)
    assert bench.queue.take(busy, NEWEST, eager=False) is None
    assert bench.queue.take(bench.started[0], NEWEST, eager=False) is not None


def test_a_worker_that_can_have_no_connection_is_not_counted_on() -> None:
    """All connections are busy, and one more waits for one: it takes nothing."""
    bench = Bench(connections=1)
    first, second = bench.put(2)
    busy, waiting = bench.started
    assert bench.queue.take(busy, NEWEST, eager=True) is first
    assert waiting.is_coming
    assert bench.queue.take(busy, NEWEST, eager=False) is second


def test_a_worker_that_leaves_hands_on_what_came_meanwhile() -> None:
    bench = Bench(connections=1)
    bench.put(2)
    for worker in bench.started.copy():
        bench.queue.leave(worker)
    assert len(bench.started) == 4, "two others, for two messages"


def test_without_threads_it_says_so() -> None:
    """FAULTS 94."""

    def start(_: Worker) -> None:
        raise RuntimeError("can't start new thread")

    queue = Queue(10, 4, start)
    assert isinstance(raised(queue.put, job(), NEVER), UsageError)
    assert queue.is_done


def test_full_until_the_deadline() -> None:
    """FAULTS 98."""
    bench = Bench(limit=1)
    bench.put()
    error = raised(bench.queue.put, job(), OVER)
    assert isinstance(error, Timeout)
    assert "full" in str(error)
    bench.queue.put(job(), OVER, bounded=False)
    assert bench.queue.counts().queued == 2


def test_who_waits_for_a_place_is_served_in_turn() -> None:
    bench = Bench(limit=1)
    bench.put()
    late = [job() for _ in range(3)]
    threads = []
    for each in late:
        threads.append(threading.Thread(target=bench.queue.put, args=(each, NEVER)))
        threads[-1].start()
        until(lambda: len(bench.queue._putters) == len(threads))
    order: list[Job] = []
    bench.take()
    while len(order) < 3:
        if (taken := bench.take()) is not None:
            order.append(taken)
    for thread in threads:
        thread.join()
    assert order == late


def test_a_closed_one_wakes_who_waits_for_a_place() -> None:
    bench = Bench(limit=1)
    bench.put()
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(bench.queue.put, job(), NEVER)))
    thread.start()
    until(lambda: bench.queue._putters)
    bench.queue.close("over")
    thread.join()
    assert [(type(error), error.text) for error in errors] == [(UsageError, "over")]
    assert bench.queue.counts().queued == 1


def test_what_is_put_back_comes_first_in_its_order() -> None:
    bench = Bench()
    jobs = bench.put(4)
    taken = [bench.take() for _ in range(2)]
    assert bench.queue.put_back(taken)  # type: ignore[arg-type]
    assert [bench.take() for _ in range(4)] == jobs


def test_what_is_owed_a_newer_connection_goes_on_none_that_is_older() -> None:
    """FAULTS 113: others overtake it on those, and where it may go it goes first."""
    bench = Bench()
    first, second, third = bench.put(3)
    before = now()
    assert bench.queue.put_back(spared(bench.take()))
    assert bench.queue.counts()[:2] == (3, 0)
    assert bench.take(made=before) is second
    assert bench.take(made=now()) is first
    assert bench.take(made=before) is third
    assert bench.take(made=before) is None


def test_nor_does_it_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    (only,) = bench.put()
    before = now()
    bench.queue.put_back(spared(bench.take()))
    worker = bench.started[0]
    wish = bench.queue.wish(worker)
    assert wish is not None
    assert wish[0] > before, "its worker asks for a newer connection"
    assert bench.take(made=before) is None
    monkeypatch.setattr(queues, "now", lambda: now() + queues._RENEWAL)
    assert bench.queue.wish(worker) == (float("-inf"), pytest.approx(1.0))
    assert bench.take(made=before) is only


def test_another_try_comes_when_it_is_due() -> None:
    bench = Bench()
    first, second = bench.put(2)
    bench.take(), bench.take()
    assert bench.queue.put_later(second, now() + 3600)
    assert bench.queue.put_later(first, now())
    assert bench.take() is first
    assert bench.take() is None
    assert bench.queue.counts()[:2] == (1, 1)


def test_an_earlier_try_wakes_who_watches_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_LINGER", 60.0)
    bench = Bench()
    jobs = bench.put(2)
    bench.take(), bench.take()
    bench.started[1].is_coming = False
    bench.queue.put_later(jobs[0], now() + 3600)
    result = bench.wait_in_thread(bench.started[0])
    bench.queue.put_later(jobs[1], now() + 0.05)
    assert result()


def test_an_early_deadline_wakes_who_watches_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that lets the next message go in an hour must not keep the one whose time ends before."""
    monkeypatch.setattr(queues, "_LINGER", 60.0)
    bench = Bench(rate=RateLimit(1 / 3600))
    bench.put()
    assert bench.take() is not None
    bench.put()
    bench.take()
    result = bench.wait_in_thread(bench.started[0])
    late = job(deadline=Deadline.after(0.05))
    bench.queue.put(late, NEVER)
    assert result()
    assert bench.queue.expired() == [late]


def test_an_early_deadline_wakes_who_waits_for_a_connection() -> None:
    bench = Bench(connections=1)
    bench.put(2)
    worker = bench.started[1]
    assert not worker.wakeup.wait(0)
    bench.put(deadline=Deadline.after(0.5))
    assert worker.wakeup.wait(0)
    wish = bench.queue.wish(worker)
    assert wish is not None
    assert wish[1] <= 0.5


def test_whose_time_is_over() -> None:
    bench = Bench()
    bench.put(deadline=Deadline.after(3600))
    (over,) = bench.put(deadline=OVER)
    assert bench.queue.expired() == [over]
    assert bench.queue.expired() == []
    assert bench.queue.counts()[:2] == (1, 1)


def test_withdrawn_while_it_is_queued_only() -> None:
    bench = Bench()
    jobs = bench.put(3)
    bench.take()
    assert bench.queue.withdraw(jobs) == jobs[1:]
    assert bench.queue.counts()[:2] == (0, 1)


def test_a_rate() -> None:
    bench = Bench(rate=RateLimit(1 / 3600))
    bench.put(2)
    assert len([each for each in [bench.take() for _ in range(4)] if each is not None]) == 1


def test_a_message_that_may_go_at_once_does() -> None:
    """Not at the next look: a stream would end for it, and the next message pay another round trip."""
    bench = Bench(rate=RateLimit(1e9))
    jobs = bench.put(3)
    assert [bench.take() for _ in range(3)] == jobs


def test_the_rate_is_never_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody looks, and though the clock goes on between two looks."""
    clock = itertools.count(1000.0, 0.001)
    for module in (queues, ratelimit):
        monkeypatch.setattr(module, "now", lambda: next(clock))
    bench = Bench(rate=RateLimit(10.0))
    bench.put(6)
    taken: list[float] = []
    while len(taken) < 6:
        if bench.take() is not None:
            taken.append(next(clock))
    assert all(later - earlier >= 0.1 - 0.002 for earlier, later in itertools.pairwise(taken))
    assert taken[-1] - taken[0] < 0.52, "and it is reached"


def test_moments_that_passed_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    for module in (queues, ratelimit):
        monkeypatch.setattr(module, "now", lambda: clock[0])
    bench = Bench(rate=RateLimit(10))
    bench.put(3)
    assert bench.take()
    assert bench.take() is None, "it has a moment now"
    clock[0] += 60
    assert bench.take()
    assert bench.take() is None


def test_the_rate_of_recipients_is_that_of_the_message_which_is_sent() -> None:
    """A moment that was kept for one recipient does not do for a hundred."""
    rate = RateLimit(None, 1 / 3600)
    bench = Bench(rate=rate)
    bench.put()
    assert bench.take() is not None
    (second,) = bench.put()
    bench.take()  # a moment is kept for it
    bench.queue.withdraw([second])
    bench.queue.put(job(["a@x.example", "b@x.example"]), NEVER)  # type: ignore[arg-type]
    bench.take()
    assert rate.reserve(1) >= now() + 3 * 3600 - 1


def test_the_end() -> None:
    bench = Bench()
    jobs = bench.put(3)
    taken = bench.take()
    assert taken is jobs[0]
    queue = bench.queue
    assert queue.end() == jobs[1:]
    assert queue.end() == jobs[1:], "an interrupt may come before they have their outcome"
    assert queue.withdraw(jobs[1:]) == jobs[1:]
    assert queue.end() == []
    assert not queue.put_back([taken])
    assert not queue.put_later(taken, 0)
    assert bench.take() is None
    assert not queue.wait(Worker())
    assert queue.wish(Worker()) is None
    assert isinstance(raised(queue.put, job(), NEVER), UsageError)
    queue.done(taken)
    assert not queue.is_done, "a worker is coming"
    for worker in bench.started:
        queue.arrive(worker)
        queue.leave(worker)
    assert queue.is_done


def test_the_end_wakes_idle_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_LINGER", 60.0)
    bench = Bench()
    (only,) = bench.put()
    bench.take()
    bench.queue.put_later(only, now() + 3600)
    result = bench.wait_in_thread(bench.started[0])
    assert bench.queue.end() == [only]
    assert not result()


def test_a_worker_without_work_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_LINGER", 0.0)
    assert not Bench().queue.wait(Worker())


def test_who_watches_is_told() -> None:
    bench = Bench()
    worker = Worker()
    bench.queue.watch(worker.wakeup)
    (only,) = bench.put()
    bench.take()
    assert not worker.wakeup.wait(0)
    bench.queue.done(only)
    assert worker.wakeup.wait(0)
    bench.queue.unwatch(worker.wakeup)
    bench.queue.unwatch(worker.wakeup)


def test_what_waits_for_a_dial_is_what_is_not_to_be_tried_later() -> None:
    bench = Bench()
    first, second, third = bench.put(3)
    bench.take()
    bench.queue.put_later(first, now() + 3600)
    assert bench.queue.take_all(ready_only=True) == [second, third]
    assert bench.queue.counts()[:2] == (1, 2)
    assert bench.queue.take_all(ready_only=False) == [first]


def test_after_a_fork_it_is_empty_and_no_lock_is_held() -> None:
    """FAULTS 95."""
    bench = Bench()
    bench.put()
    locked = threading.Thread(target=bench.queue._lock.acquire)
    locked.start()
    locked.join()
    bench.queue.abandon()
    assert bench.queue.is_done
    bench.put()


def test_what_has_no_room_on_a_connection_is_left_to_another() -> None:
    """LIMITS RCPTDOMAINMAX (RFC 9422 4.3): in turn, and its moment by the rate stays its own."""
    bench = Bench(rate=RateLimit(1e6))
    first, second = job("r@x.example"), job("r@y.example")
    for each in (first, second):
        bench.queue.put(each, NEVER)
    x, y = Allowance(domains=1), Allowance(domains=1)
    x.spend(first.recipients, 0, 2)
    y.spend(second.recipients, 0, 2)
    assert (bench.queue.fits_next(x), bench.queue.fits_next(y)) == (True, False)
    assert bench.queue.take(Worker(), NEWEST, eager=True, allowance=y) is None
    slot = bench.queue._slot
    assert slot is not None
    assert slot[1] is first
    assert bench.queue.take(Worker(), NEWEST, eager=True, allowance=x) is first
    assert (bench.queue.fits_next(x), bench.queue.fits_next(y)) == (False, True)
    assert bench.queue.go_on(first)
    assert bench.take() is first, "the next part of it comes before all others"
    assert bench.queue.take(Worker(), NEWEST, eager=True, allowance=y) is second
    assert bench.queue.fits_next(Allowance(domains=1)), "nothing waits"
    bench.queue.end()
    assert not bench.queue.go_on(second)
