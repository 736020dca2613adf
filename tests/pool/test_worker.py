"""What a worker does with a connection that breaks, with a bug below it, and with callbacks that raise."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any

import pytest
from support.busy import until
from support.pool_parts import Exchange, Line, Stream, accepted, engine_of, job

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
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

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
    """The workers of a pool, over connections that the test has made."""

    def __init__(self, *results: Any, hook: Any = None, most: int = 1, **policy: Any) -> None:
        self.exchange = Exchange(*results)
        self.engine = engine_of(self.exchange, hook=hook, most=most, **policy)
        self.futures: list[Future[SendResult]] = []

    def put(self, count: int = 1, back: Any = None) -> None:
        """Queue them all before any worker can take the first."""
        with self.engine.queue._lock:
            for _ in range(count):
                self.futures.append(Future())
                if back is not None:
                    self.futures[-1].add_done_callback(back)
                self.engine.put(job(f"r{len(self.futures)}@x.example", future=self.futures[-1]))

    def outcomes(self) -> list[Any]:
        assert not wait(self.futures, 20).not_done
        until(self.has_let_go)
        return [future.exception(0) or future.result(0) for future in self.futures]

    def has_let_go(self) -> bool:
        """Nothing is queued or under way, nor any connection leased."""
        counts, queued = self.engine.connections.counts(), self.engine.queue.counts()
        return (counts.open, counts.dialling, *queued[:2]) == (counts.idle, 0, 0, 0)

    def close(self) -> None:
        self.engine.close(0)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Any:
    """Makes one that is closed afterwards."""

    def make(*results: Any, **options: Any) -> Bench:
        made = Bench(*results, **options)
        request.addfinalizer(made.close)
        return made

    return make


def test_all_over_one_connection(bench: Any) -> None:
    made = bench()
    made.put(50)
    assert {type(each) for each in made.outcomes()} == {SendResult}
    assert len(made.exchange.dials) == 1


@pytest.mark.parametrize("error", [lost(), lost(Stage.DATA), Timeout(stage=Stage.RCPT), GONE])
def test_what_is_safe_is_tried_again_and_not_for_ever(bench: Any, error: SmtpError) -> None:
    made = bench(broken(error))
    made.put()
    assert isinstance(made.outcomes()[0], SendResult)
    for_ever = bench(*[broken(lost()) for _ in range(9)], attempts=3)
    for_ever.put()
    assert isinstance(for_ever.outcomes()[0], ConnectionLost)
    # Connections that it broke: a second worker may have dialled one more for it that nobody used.
    assert sum(line.closed for line in for_ever.exchange.lines) == 3


def test_what_is_in_doubt_is_not(bench: Any) -> None:
    made = bench(broken(Doubt(stage=Stage.FINAL)))
    made.put()
    assert isinstance(made.outcomes()[0], DeliveryUnknown)
    assert len(made.exchange.dials) == 1


def test_messages_behind_a_break_are_no_try(bench: Any) -> None:
    """Nothing of them was written: not even if no second try is allowed do they end with that."""
    made = bench(broken(Doubt(stage=Stage.FINAL), lost(Stage.INPUT), lost(Stage.INPUT)), attempts=1)
    made.put(3)
    first, *others = made.outcomes()
    assert isinstance(first, DeliveryUnknown)
    assert {type(each) for each in others} == {SendResult}


@pytest.mark.parametrize("error", [lost(), Timeout("half-open", stage=Stage.MAIL), GONE])
def test_a_connection_that_died_while_idle_costs_no_try_once(bench: Any, error: SmtpError) -> None:
    """FAULTS 87, 88."""
    error.stage = Stage.MAIL

    def dies(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.line.said.append("used")
        if len(stream.line.said) == 1:
            return [Done(token, accepted(plan))]
        stream.line.close()
        stream.held.append((token, plan))
        return told(stream, error)

    made = bench(Line(dies), broken(lost()), attempts=1)
    made.put()
    assert isinstance(made.outcomes()[0], SendResult)
    made.put()
    assert isinstance(made.outcomes()[1], ConnectionLost), "the new one broke as well, and that counts"
    assert len(made.exchange.dials) == 2


def test_a_dead_connection_that_is_found_in_time_costs_nothing(bench: Any) -> None:
    """FAULTS 87: what the look before the first command finds."""

    def dies(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.line.is_dead = True
        return [Done(token, accepted(plan))]

    made = bench(Line(dies), attempts=1)
    for _ in range(2):
        made.put()
        made.outcomes()
    assert {type(each) for each in made.outcomes()} == {SendResult}
    assert len(made.exchange.dials) == 2


def test_a_new_connection_that_is_dead_at_once_is_a_try(bench: Any) -> None:
    line = Line()
    line.is_dead = True
    made = bench(line, attempts=1)
    made.put()
    assert isinstance(made.outcomes()[0], ConnectionLost)
    assert len(made.exchange.dials) == 1


@pytest.mark.parametrize("error", [ConnectError("no"), AuthenticationError(reply=Reply(535))])
def test_no_connection_is_a_try_of_all_that_wait_for_it(bench: Any, error: SmtpError) -> None:
    """FAULTS 86."""
    made = bench(*[error] * 9, attempts=1)
    made.put(10)
    outcomes = made.outcomes()
    assert {type(each) for each in outcomes} == {type(error)}
    assert [each.unsent_recipients for each in outcomes] == [(f"r{n}@x.example",) for n in range(1, 11)]
    assert len({id(each) for each in outcomes}) == 10
    assert len(made.exchange.dials) == 1


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), SystemExit(1), MemoryError()])
def test_a_bug_below_leaves_nobody_without_an_outcome(bench: Any, bug: BaseException) -> None:
    """FAULTS 92: the connection is closed, the future gets it, the place is free."""
    line = broken(bug)
    made = bench(line)
    made.put()
    (error,) = made.outcomes()
    assert isinstance(error, DeliveryUnknown)
    assert error.__cause__ is bug
    assert error.unknown_recipients == ("r1@x.example",)
    assert line.closed
    made.put()
    assert isinstance(made.outcomes()[1], SendResult)


@pytest.mark.parametrize("is_ended", [False, True])
def test_callbacks_that_end_their_thread_leave_nobody_without_an_outcome(bench: Any, is_ended: bool) -> None:
    """FAULTS 92: those of the messages under way when a connection breaks, and of those that go back."""

    def leave(_: object) -> None:
        raise SystemExit

    def talk(stream: Stream, token: Any, plan: Plan) -> list[Done]:
        stream.held.append((token, plan))
        if len(stream.held) < 4:
            return []
        stream.line.close()
        if not is_ended:
            raise RuntimeError("a bug")
        made.engine.queue.end()  # nothing can go back
        return told(stream, Doubt(), *[lost(Stage.INPUT) for _ in range(3)])

    line = Line(talk)
    line.is_eager = True
    made = bench(line)
    made.put(4, leave)
    assert len(made.outcomes()) == 4


@pytest.mark.parametrize("bug", [RuntimeError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "hook"])
def test_what_a_callback_or_hook_raises_leaves_nothing_under_way(bench: Any, where: str, bug: Any) -> None:
    """FAULTS 92."""

    def fail(*_: Any) -> None:
        raise bug

    hook = (lambda event: fail() if event.mail else None) if where == "hook" else None
    made = bench(hook=hook)
    made.put(3, fail if where == "callback" else None)
    assert {type(each) for each in made.outcomes()} == {SendResult}


def test_a_cancelled_message_is_not_sent(bench: Any) -> None:
    """FAULTS 98."""
    go = threading.Event()

    def dial(*_: Any) -> Line:
        assert go.wait(20)
        return Line()

    made = bench(dial)
    made.put(2)
    assert made.futures[0].cancel()
    go.set()
    assert isinstance(made.futures[1].result(20), SendResult)
    until(made.has_let_go)
