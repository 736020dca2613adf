"""The rack: connections that are dialled, leased, given back and closed, and never one too many."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.busy import until
from support.pools import in_threads
from support.racks import Exchange, Line, Watched, rack_of, raised, site

from pysmtpx import AuthenticationError, ConnectError, ConnectionLost, SmtpError, Timeout, TlsError
from pysmtpx.net.deadline import Deadline
from pysmtpx.pooling import health
from pysmtpx.pooling import rack as racks
from pysmtpx.pooling.events import Event
from pysmtpx.pooling.rack import Rack
from pysmtpx.pooling.session import Claim, Session
from pysmtpx.pooling.shelf import Counts
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

NEVER = Deadline.after(None)
REFUSED = AuthenticationError(reply=Reply(535))


def lease(rack: Rack, *, urgent: bool = True, **options: Any) -> Session:
    return rack.lease(Claim(urgent=urgent), NEVER, **options)


def test_dialled_once_and_used_again() -> None:
    exchange = Exchange()
    rack = rack_of(exchange)
    for _ in range(5):
        rack.give_back(lease(rack))
    assert len(exchange.dials) == 1
    assert rack.counts() == Counts(open=1, idle=1, dialling=0, waiting=0)


def test_never_more_than_the_limit_those_being_dialled_included() -> None:
    highest, lock, count = 0, threading.Lock(), [0]

    def dial(*_: Any) -> Line:
        nonlocal highest
        with lock:
            count[0] += 1
            highest = max(highest, count[0])
        return Line()

    exchange = Exchange(*[dial] * 100)
    rack = rack_of(exchange, connections=3, messages=1)

    def use(_: int) -> None:
        session = lease(rack)
        session.served += 1
        with lock:
            count[0] -= 1
        rack.give_back(session)

    assert in_threads(20, use) == [None] * 20
    assert highest <= 3
    assert len(exchange.dials) == 20
    assert rack.counts() == Counts(0, 0, 0, 0)


@pytest.mark.parametrize("error", [ConnectError("no"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_dial_that_fails_leaves_no_place_behind(error: BaseException) -> None:
    """FAULTS 92, 96."""
    rack = rack_of(Exchange(error), connections=1)
    with pytest.raises(type(error)):
        lease(rack)
    assert rack.counts() == Counts(0, 0, 0, 0)


def test_a_wait_ends_at_its_deadline_and_leaves_the_queue() -> None:
    rack = rack_of(Exchange(), connections=1)
    held = lease(rack)
    other = Claim(urgent=False)
    assert isinstance(raised(rack.lease, other, Deadline(0.0)), Timeout)
    assert rack.counts().waiting == 0
    rack.give_back(held)


def test_a_dial_that_outlasts_a_short_call_is_not_made_again() -> None:
    """The server is not to blame for a short deadline, and not to be dialled without end for it."""
    exchange = Exchange(*[Timeout("slow")] * 50)
    rack = rack_of(exchange)
    error = raised(rack.lease, Claim(urgent=True), Deadline(0.0))
    assert isinstance(error, Timeout)
    assert len(exchange.dials) <= 1
    assert rack.counts() == Counts(0, 0, 0, 0)


def test_nothing_is_seen_between_a_refused_password_and_the_end_of_its_dial() -> None:
    """FAULTS 86: a second try in that gap would be a second step towards a lock-out."""
    one = site(username="u", password="secret", tls="implicit")
    gaps: list[str] = []

    def look() -> None:
        if exchange.dials and not rack.counts_unlocked() and one.health.refused is None:
            gaps.append("the place is free and the refusal not known")

    class Looked(Rack):
        def counts_unlocked(self) -> int:
            return len(self._shelf.sessions)

    exchange = Exchange(REFUSED)
    rack = Looked([one], rack_of(exchange)._shelf.limits, racks.Events(), opener=exchange)
    rack._lock = Watched(look)  # type: ignore[assignment]
    raised(rack.lease, Claim(urgent=True), NEVER)
    assert not gaps


def test_one_refused_password_is_enough() -> None:
    """FAULTS 86: however many ask, one AUTH reaches the server."""
    one = site(most=8, username="u", password="secret", tls="implicit")
    exchange = Exchange(*[REFUSED] * 50)
    rack = rack_of(exchange, one, connections=8)
    errors = in_threads(20, lambda _: raised(lease, rack))
    assert {type(error) for error in errors} == {AuthenticationError}
    assert len(exchange.dials) == 1


def test_a_greeting_of_421_beyond_the_third_costs_nobody_anything() -> None:
    """FAULTS 90."""
    busy = ConnectError("too many", reply=Reply(421))
    exchange = Exchange(None, None, None, busy)
    rack = rack_of(exchange, connections=8)
    held = [lease(rack) for _ in range(3)]
    got: list[Session] = []
    thread = threading.Thread(target=lambda: got.append(lease(rack)))
    thread.start()
    until(lambda: rack.counts().waiting == 1)
    rack.give_back(held[0])
    thread.join()
    assert got == [held[0]]
    assert len(exchange.dials) == 4


def test_the_next_server_where_the_first_does_not_answer() -> None:
    exchange = Exchange(ConnectError("no"))
    rack = rack_of(exchange, site("a.example"), site("b.example"))
    assert lease(rack).site.server.host == "b.example"
    assert exchange.dials == ["a.example", "b.example"]


FOR_GOOD = [ConnectError("greeting", reply=Reply(554)), TlsError("expired"), REFUSED]


@pytest.mark.parametrize("refusal", FOR_GOOD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("urgent", [False, True])
def test_a_server_that_is_only_down_for_now_is_waited_for(
    refusal: SmtpError, urgent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the other one refuses us for good: nothing that is queued ends with that."""
    monkeypatch.setattr(health, "FIRST_DIAL_REST", 0.1)
    monkeypatch.setattr(health, "FIRST_PROBE", 0.01)
    bad, down = site("bad.example"), site("down.example")
    bad.health._share = lambda: 1.0  # it is dialled again before the other may be
    answers = {"bad.example": [refusal] * 9, "down.example": [ConnectError("no answer"), Line()]}
    exchange = Exchange(*[lambda server, *_: answers[server.host].pop(0)] * 11)
    rack = rack_of(exchange, bad, down)
    assert raised(lease, rack, urgent=urgent).temporary, "a try of one message, and its policy decides"
    assert lease(rack, urgent=urgent).site is down
    assert exchange.dials.count("bad.example") >= 2


def test_what_all_servers_refuse_for_good_is_not_waited_for() -> None:
    exchange = Exchange(REFUSED, TlsError("expired"))
    rack = rack_of(exchange, site("a.example"), site("b.example"))
    assert not raised(lease, rack, urgent=False).temporary
    assert exchange.dials == ["a.example", "b.example"]


def test_what_is_released_is_closed_and_its_place_is_free() -> None:
    exchange = Exchange()
    rack = rack_of(exchange, connections=1)
    claim = Claim(urgent=True)
    rack.lease(claim, NEVER)
    rack.release(claim)
    rack.release(claim)
    assert exchange.lines[0].closed
    assert rack.counts() == Counts(0, 0, 0, 0)


def test_what_was_idle_for_as_long_as_a_dead_one_is_closed_too() -> None:
    """FAULTS 87: and what was used since is not."""
    rack = rack_of(Exchange(), connections=3)
    old, dead, young = (lease(rack) for _ in range(3))
    rack.give_back(old)
    rack.give_back(dead)
    assert lease(rack) is dead
    rack.give_back(young)
    rack.distrust(dead)
    assert [session.channel.closed for session in (old, young) if session.channel] == [True, False]
    assert rack.counts() == Counts(open=2, idle=1, dialling=0, waiting=0)


def test_the_servers_own_limit_on_messages() -> None:
    rack = rack_of(Exchange(mail_max=2), messages=5)
    session = lease(rack)
    session.served = 1
    assert not session.is_spent
    session.served = 2
    assert session.is_spent


def test_what_ends_says_quit_and_does_not_wait() -> None:
    exchange = Exchange()
    rack = rack_of(exchange, messages=1)
    session = lease(rack)
    session.served = 1
    rack.give_back(session)
    assert exchange.lines[0].said == ["run"]
    assert exchange.lines[0].closed


def test_a_dial_that_was_stopped_is_not_laid_to_the_servers_charge() -> None:
    """At the end of the process a call can still use a server on which a worker hung."""
    one = site()

    def stopped(*_: Any) -> Any:
        rack.shut_down(workers_only=True)
        return Timeout("stopped", stage=Stage.CONNECT)

    rack = rack_of(Exchange(stopped), one)
    with pytest.raises(ConnectionLost):
        lease(rack, urgent=False)
    assert not one.failing
    assert lease(rack).is_open


def test_a_stream_ends_for_as_many_as_wait() -> None:
    rack = rack_of(Exchange(), connections=2)
    held = [lease(rack, urgent=False) for _ in range(2)]
    assert not rack.must_yield(held[0])
    thread = threading.Thread(target=lambda: rack.give_back(lease(rack)))
    thread.start()
    until(lambda: rack.counts().waiting == 1)
    assert rack.must_yield(held[0])
    assert not rack.must_yield(held[1])
    rack.give_back(held[0])
    thread.join()
    assert not rack.must_yield(held[0])


def test_events_are_told_outside_the_lock() -> None:
    """FAULTS 92, 97."""
    free: list[bool] = []
    events: list[Event] = []
    rack = rack_of(Exchange(), messages=1)

    def hook(event: Event) -> None:
        def look() -> None:
            if acquired := rack._lock.acquire(blocking=False):
                rack._lock.release()
            free.append(acquired)

        events.append(event)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    rack._events = racks.Events(hook)
    session = lease(rack)
    session.served = 1
    rack.give_back(session)
    rack.end()
    assert [event.kind for event in events] == ["connected", "closed"]
    assert free == [True, True]


def test_the_end_closes_what_is_idle_and_wakes_who_waits() -> None:
    """FAULTS 93."""
    exchange = Exchange()
    rack = rack_of(exchange, connections=2)
    held = [lease(rack) for _ in range(2)]
    rack.give_back(held[0])
    first = lease(rack)
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(lease, rack)))
    thread.start()
    until(lambda: rack.counts().waiting == 1)
    rack.end()
    thread.join()
    assert [type(error) for error in errors] == [ConnectionLost]
    rack.give_back(first)
    assert rack.counts().open == 1
    rack.shut_down()
    assert all(line.closed for line in exchange.lines)


@pytest.mark.parametrize("workers_only", [False, True])
def test_a_dial_is_ended_from_another_thread(workers_only: bool) -> None:
    """FAULTS 93, 94."""
    dialling = threading.Event()

    def dial(server: Any, deadline: Deadline, attempt: Any) -> Any:
        dialling.set()
        until(lambda: deadline.remaining() <= 0)
        return Timeout("stopped")

    rack = rack_of(Exchange(dial))
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(lease, rack, urgent=False)))
    thread.start()
    assert dialling.wait(20)
    rack.shut_down(workers_only=workers_only)
    thread.join()
    assert len(errors) == 1
    assert rack.counts() == Counts(0, 0, 0, 0)


def test_a_dial_that_comes_off_too_late_is_closed() -> None:
    def dial(*_: Any) -> Line:
        rack.end()
        return Line()

    exchange = Exchange(dial)
    rack = rack_of(exchange)
    assert isinstance(raised(lease, rack), ConnectionLost)
    assert exchange.lines[0].closed
    assert rack.counts() == Counts(0, 0, 0, 0)


def test_after_a_fork_it_is_empty_and_no_lock_is_held() -> None:
    """FAULTS 95."""
    exchange = Exchange()
    rack = rack_of(exchange)
    lease(rack)
    held = threading.Thread(target=rack._lock.acquire)
    held.start()
    held.join()
    rack.abandon()
    assert rack.counts() == Counts(0, 0, 0, 0)
    assert exchange.lines[0].closed
    assert exchange.lines[0].said == [], "not an octet"
    rack.give_back(lease(rack))
