"""The loop that sends: what it does with a connection that breaks, a source that ends, and a bug."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from support.racks import Exchange, Line, Stream, accepted, job, rack_of, shop_of

from pysmtpx import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    DeliveryUnknown,
    SendResult,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.pipeline import Done
from pysmtpx.flow.plan import Plan
from pysmtpx.net.deadline import Deadline
from pysmtpx.pooling.bell import Bell
from pysmtpx.pooling.events import Event
from pysmtpx.pooling.feed import Feed
from pysmtpx.pooling.jobs import Job
from pysmtpx.pooling.session import Claim
from pysmtpx.pooling.shelf import Counts
from pysmtpx.pooling.source import Single
from pysmtpx.pooling.worker import is_serving, serve, work
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

NEVER = Deadline.after(None)
GONE = ServiceUnavailable(stage=Stage.MAIL, reply=Reply(421))


def lost(stage: Stage = Stage.MAIL) -> ConnectionLost:
    return ConnectionLost("gone", stage=stage)


class Doubt(DeliveryUnknown):
    """For everybody."""


def broken(*errors: BaseException) -> Line:
    """A connection on which one message is taken for each of these errors, and then it is gone."""

    def talk(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.held.append((token, plan))
        if len(stream.held) < len(errors):
            return []
        stream.line.close()
        return told(stream, *errors)

    line = Line(talk)
    line.is_eager = True
    return line


def told(stream: Stream, *errors: BaseException) -> list[Done]:
    """One of these errors for each message that is under way; raises what is none of ours."""
    held, stream.held = stream.held, []
    done = []
    for (token, plan), error in zip(held, errors, strict=True):
        if not isinstance(error, SmtpError):
            raise error
        name = "unknown" if isinstance(error, DeliveryUnknown) else "unsent"
        setattr(error, f"{name}_recipients", plan.mail.recipients)
        done.append(Done(token, error))
    return done


class Bench:
    """A worker in this thread, over connections that the test has made."""

    def __init__(self, *results: Any, connections: int = 2, **policy: Any) -> None:
        self.events: list[Event] = []
        self.exchange = Exchange(*results)
        self.rack = rack_of(self.exchange, connections=connections)
        self.shop = shop_of(self.rack, self.events, **policy)
        self.feed = Feed(1000, 1, lambda token: None)
        self.futures: list[Future[SendResult]] = []

    def put(self, count: int = 1, **options: Any) -> None:
        for _ in range(count):
            self.futures.append(Future())
            made = job(f"r{len(self.futures)}@x.example", future=self.futures[-1], **options)
            self.feed.put(made, NEVER)

    def work(self) -> list[Any]:
        """Work until nothing is left to do; the outcomes."""
        stop = threading.Thread(target=self._end)
        stop.start()
        work(self.shop, self.feed, object())
        stop.join()
        return [future.exception(0) or future.result(0) for future in self.futures]

    def _end(self) -> None:
        bell = Bell()
        self.feed.watch(bell)
        while not self.feed.is_done:
            assert bell.wait(20), self.feed.counts()
        self.feed.end()

    def has_let_go(self) -> bool:
        counts = self.rack.counts()
        return counts.open == counts.idle and not counts.dialling and not counts.waiting


def test_all_over_one_connection() -> None:
    bench = Bench()
    bench.put(50)
    assert {type(each) for each in bench.work()} == {SendResult}
    assert len(bench.exchange.dials) == 1
    assert bench.has_let_go()


@pytest.mark.parametrize("error", [lost(), Timeout("slow", stage=Stage.CONTENT)])
def test_what_is_safe_is_tried_again(error: SmtpError) -> None:
    bench = Bench(broken(error))
    bench.put()
    assert isinstance(bench.work()[0], SendResult)
    assert [event.kind for event in bench.events if event.mail] == ["retried", "sent"]
    assert bench.has_let_go()


def test_and_not_for_ever() -> None:
    bench = Bench(*[broken(lost()) for _ in range(9)], attempts=3)
    bench.put()
    assert isinstance(bench.work()[0], ConnectionLost)
    assert len(bench.exchange.dials) == 3


def test_what_is_in_doubt_is_not() -> None:
    bench = Bench(broken(Doubt(stage=Stage.FINAL)))
    bench.put()
    assert bench.work()[0].unknown_recipients == ("r1@x.example",)
    assert len(bench.exchange.dials) == 1


def test_messages_behind_a_break_are_no_try() -> None:
    """Nothing of them was written: not even where no second try is allowed do they end with that."""
    bench = Bench(broken(Doubt(stage=Stage.FINAL), lost(Stage.INPUT), lost(Stage.INPUT)), attempts=1)
    bench.put(3)
    assert [type(each) for each in bench.work()] == [Doubt, SendResult, SendResult]


@pytest.mark.parametrize("error", [lost(), Timeout("half-open", stage=Stage.MAIL), GONE])
def test_a_connection_that_died_while_idle_costs_no_try_once(error: SmtpError) -> None:
    """FAULTS 87, 88."""
    error.stage = Stage.MAIL

    def dies(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.line.said.append("used")
        if len(stream.line.said) == 1:
            return [Done(token, accepted(plan))]
        stream.line.close()
        stream.held.append((token, plan))
        return told(stream, error)

    bench = Bench(Line(dies), broken(lost()), attempts=1)
    for _ in range(2):
        bench.put()
        serve(bench.shop, Single(bench.feed.take(Bell(), eager=True)), Claim(urgent=True))  # type: ignore[arg-type]
    first, second = (future.exception(0) for future in bench.futures)
    assert first is None
    assert isinstance(second, ConnectionLost), "the new connection broke as well, and that counts"
    assert len(bench.exchange.dials) == 2


def test_a_dead_connection_that_is_found_in_time_costs_nothing() -> None:
    """FAULTS 87: what the look before the first command finds."""

    def dies(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.line.is_dead = True
        return [Done(token, accepted(plan))]

    bench = Bench(Line(dies), attempts=1)
    for _ in range(2):
        bench.put()
        serve(bench.shop, Single(bench.feed.take(Bell(), eager=True)), Claim(urgent=True))  # type: ignore[arg-type]
    assert [future.exception(0) for future in bench.futures] == [None, None]
    assert len(bench.exchange.dials) == 2


def test_a_new_connection_that_is_dead_at_once_is_a_try() -> None:
    line = Line()
    line.is_dead = True
    bench = Bench(line, attempts=1)
    bench.put()
    assert isinstance(bench.work()[0], ConnectionLost)
    assert len(bench.exchange.dials) == 1


def test_no_connection_is_a_try_of_all_that_wait_for_it() -> None:
    bench = Bench(ConnectError("no"), ConnectError("no"), attempts=1)
    bench.put(2)
    assert [type(each) for each in bench.work()] == [ConnectError, ConnectError]
    assert len(bench.exchange.dials) == 1
    assert bench.has_let_go()


def test_a_refused_password_ends_all_that_is_queued() -> None:
    """FAULTS 86."""
    bench = Bench(AuthenticationError(reply=Reply(535)))
    bench.put(10)
    outcomes = bench.work()
    assert {type(each) for each in outcomes} == {AuthenticationError}
    assert [each.unsent_recipients for each in outcomes] == [(f"r{n}@x.example",) for n in range(1, 11)]
    assert len({id(each) for each in outcomes}) == 10
    assert len(bench.exchange.dials) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("bug", [RuntimeError("a bug"), SystemExit(1), MemoryError()])
def test_a_bug_below_leaves_nobody_without_an_outcome(bug: BaseException) -> None:
    """FAULTS 92: the connection is closed, the future gets it, the place is free."""
    line = broken(bug)
    bench = Bench(line)
    bench.put()
    with contextlib.suppress(SystemExit):
        bench.work()
    error = bench.futures[0].exception(0)
    assert isinstance(error, DeliveryUnknown)
    assert error.__cause__ is bug
    assert error.unknown_recipients == ("r1@x.example",)
    assert line.closed
    assert bench.rack.counts() == Counts(0, 0, 0, 0)
    assert bench.feed.counts().under_way == 0


@pytest.mark.parametrize("is_aside", [False, True])
def test_callbacks_that_end_their_thread_leave_nobody_without_an_outcome(is_aside: bool) -> None:
    """FAULTS 92: those of the messages under way when a connection breaks, and of those that go back."""

    def leave(_: object) -> None:
        raise SystemExit

    def talk(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.held.append((token, plan))
        if len(stream.held) < 4:
            return []
        stream.line.close()
        if not is_aside:
            raise RuntimeError("a bug")
        bench.feed.end()  # nothing can go back
        return told(stream, Doubt(), *[lost(Stage.INPUT) for _ in range(3)])

    line = Line(talk)
    line.is_eager = True
    bench = Bench(line)
    bench.put(4)
    for future in bench.futures[1:] if is_aside else bench.futures:
        future.add_done_callback(leave)
    with pytest.raises(SystemExit):
        serve(bench.shop, bench.feed, Claim(urgent=False))
    assert all(future.done() for future in bench.futures)
    assert bench.feed.counts().under_way == 0
    assert bench.has_let_go()


@pytest.mark.parametrize("bug", [RuntimeError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "hook"])
def test_what_a_callback_or_hook_raises_leaves_nothing_under_way(where: str, bug: Any) -> None:
    """FAULTS 92."""

    def fail(*_: Any) -> None:
        raise bug

    bench = Bench()
    bench.put(3)
    if where == "callback":
        bench.futures[0].add_done_callback(fail)
    else:
        bench.shop.events._hook = lambda event: fail() if event.mail else None
    for _ in range(9):
        if bench.feed.is_done:
            break
        with contextlib.suppress(bug):
            _serve_what_is_there(bench, Claim(urgent=False))
    assert bench.feed.counts()[:2] == (0, 0)
    assert all(future.done() for future in bench.futures)
    assert bench.has_let_go()


def _serve_what_is_there(bench: Bench, claim: Claim) -> None:
    waits = bench.feed.wait

    def wait(bell: Bell) -> bool:
        return bool(bench.feed.counts().queued) and waits(bell)

    bench.feed.wait = wait  # type: ignore[method-assign]
    try:
        serve(bench.shop, bench.feed, claim)
    finally:
        bench.feed.wait = waits  # type: ignore[method-assign]


def test_an_interrupt_in_the_calling_thread_closes_and_frees() -> None:
    """FAULTS 96."""
    line = broken(KeyboardInterrupt())
    bench = Bench(line)
    with pytest.raises(KeyboardInterrupt):
        serve(bench.shop, Single(job()), Claim(urgent=True))
    assert line.closed
    assert bench.rack.counts() == Counts(0, 0, 0, 0)
    assert not is_serving(bench.shop)


def test_a_call_from_a_callback_has_the_connection_of_the_one_around_it() -> None:
    """FAULTS 97."""
    bench = Bench(connections=1)
    inner = Single(job("inner@x.example"))
    bench.put()
    bench.futures[0].add_done_callback(lambda _: serve(bench.shop, inner, Claim(urgent=True)))
    assert isinstance(bench.work()[0], SendResult)
    assert not inner.wait(Bell()), "it has its outcome"
    assert len(bench.exchange.dials) == 1


def test_a_cancelled_message_is_not_sent() -> None:
    """FAULTS 98."""
    bench = Bench()
    bench.put(3)
    assert bench.futures[1].cancel()
    kept = bench.futures.pop(1)
    assert {type(each) for each in bench.work()} == {SendResult}
    assert kept.cancelled()
    assert bench.shop.tally.counts() == {"accepted": 2}


def test_its_time_was_over_in_the_queue() -> None:
    bench = Bench()
    bench.put(deadline=Deadline(0.0))
    bench.put()
    first, second = bench.work()
    assert isinstance(first, Timeout)
    assert first.unsent_recipients == ("r1@x.example",)
    assert isinstance(second, SendResult)


def test_a_closed_pool_ends_a_call_that_has_not_begun() -> None:
    """FAULTS 93."""
    bench = Bench()
    single = Single(made := job())
    single.end()
    serve(bench.shop, single, Claim(urgent=True))
    assert isinstance(made.outcome, ConnectionLost)
    assert bench.rack.counts().open == bench.rack.counts().idle


def test_one_that_ends_amid_its_tries_has_what_the_last_one_came_to() -> None:
    made: Job = job()
    single = Single(made)

    def talk(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        single.end()
        stream.line.close()
        stream.held.append((token, plan))
        return told(stream, lost())

    bench = Bench(Line(talk))
    serve(bench.shop, single, Claim(urgent=True))
    assert isinstance(made.outcome, SmtpError)
    assert made.outcome.unsent_recipients == ("r@x.example",)
