"""Connections that are dialled, leased, given back and closed, and never one too many."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from support.busy import until
from support.patience import LONG
from support.pool_parts import Exchange, Line, Watched, connections_of, raised, server
from support.pools import in_threads

from pysmtpx import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    SenderRejected,
    SendResult,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    TlsError,
)
from pysmtpx.events import Event
from pysmtpx.lock import Wakeup
from pysmtpx.net.deadline import Deadline, now
from pysmtpx.pooling import backoff
from pysmtpx.pooling.connection import Lease, PooledConnection
from pysmtpx.pooling.connections import Connections, Counts, is_spent
from pysmtpx.pooling.ratelimit import RateLimit
from pysmtpx.pooling.replies import Refusal
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import EnhancedCode, Reply

NEVER = Deadline.after(None)
REFUSED = AuthenticationError(reply=Reply(535))
TAKEN = SendResult(("r@x.example",), (), Reply(250), (Reply(250),))
GONE = ConnectionLost("gone", stage=Stage.MAIL)


def leased(connections: Connections, *, is_call: bool = True, deadline: Deadline = NEVER) -> PooledConnection:
    asking = Lease()
    asking.is_call = is_call
    if is_call:
        return connections.lease(asking, deadline)
    found = connections.lease_while(asking, lambda: 1.0)
    assert found is not None
    return found


def heard(connections: Connections, connection: PooledConnection, outcome: Any) -> Any:
    return connections.heard(connection, outcome, was_tried=False, may_spare=True)


def test_dialled_once_and_used_again() -> None:
    exchange = Exchange()
    connections = connections_of(exchange)
    for _ in range(5):
        connections.give_back(leased(connections))
    assert len(exchange.dials) == 1
    assert connections.counts() == Counts(open=1, idle=1, dialling=0, waiting=0)


def test_never_more_than_the_limit_those_being_dialled_included() -> None:
    highest, lock, count = 0, threading.Lock(), [0]

    def dial(*_: Any) -> Line:
        nonlocal highest
        with lock:
            count[0] += 1
            highest = max(highest, count[0])
        return Line()

    exchange = Exchange(*[dial] * 200)
    connections = connections_of(exchange, connections=3, messages=1)

    def use(_: int) -> None:
        connection = leased(connections)
        connection.served += 1
        with lock:
            count[0] -= 1
        connections.give_back(connection)

    assert in_threads(20, use) == [None] * 20
    assert highest <= 3
    assert connections.counts()[2:] == (0, 0)


@pytest.mark.parametrize("error", [ConnectError("no"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_dial_that_fails_leaves_no_place_behind(error: BaseException) -> None:
    """FAULTS 92, 96."""
    connections = connections_of(Exchange(error), connections=1)
    with pytest.raises(type(error)) as told:
        leased(connections)
    assert str(told.value.args) == str(error.args)
    assert connections.counts() == Counts(0, 0, 0, 0)


class Guard(BaseException):
    """As what pytest's ``fail`` raises."""


BUGS = pytest.mark.parametrize("bug", [RuntimeError("a bug"), Guard("no socket here")])


@BUGS
@pytest.mark.parametrize("has_thread", [True, False])
def test_what_no_server_did_is_raised_by_the_call_that_dialled(
    bug: BaseException, has_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, so that a test suite's guard of sockets is seen; with a connection in use elsewhere, too."""
    if not has_thread:
        monkeypatch.setattr(threading.Thread, "start", _no_thread)
    connections = connections_of(Exchange(None, bug), connections=2)
    leased(connections)
    with pytest.raises(type(bug)) as told:
        leased(connections)
    assert told.value is bug
    assert connections.counts() == Counts(1, 0, 0, 0)


@BUGS
def test_what_no_server_did_is_a_failed_dial_for_all_others(bug: BaseException) -> None:
    """Each error is one of its own, and names what was raised as its cause."""
    connections: Connections

    def dial(*_: Any) -> BaseException:
        until(lambda: connections.counts().waiting == 4)
        return bug

    connections = connections_of(Exchange(dial), connections=1)
    told = in_threads(4, lambda _: _told(connections))
    assert sum(each is bug for each in told) == 1
    others = [each for each in told if each is not bug]
    assert {(type(each), each.__cause__) for each in others} == {(ConnectError, bug)}
    assert len({id(each) for each in others}) == 3


@BUGS
def test_what_no_server_did_fails_a_workers_dial(bug: BaseException) -> None:
    told = raised(leased, connections_of(Exchange(bug), connections=1), is_call=False)
    assert isinstance(told, ConnectError)
    assert told.__cause__ is bug


def _told(connections: Connections) -> BaseException:
    try:
        connections.give_back(leased(connections))
    except BaseException as error:
        return error
    raise AssertionError("leased")


@pytest.mark.parametrize("result", [None, ConnectError("no")])
def test_a_hook_that_ends_its_thread_costs_no_place(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 92: a hook in which a test fails raises what is no ``Exception``."""
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type.__name__))

    def hook(event: Event) -> None:
        raise Guard(event.kind)

    connections = connections_of(Exchange(result), connections=1, hook=hook)
    if result is None:
        assert leased(connections).channel is not None
    else:
        assert isinstance(raised(leased, connections), ConnectError)
    connections.await_dials(5)
    assert seen == ["Guard"]
    assert connections.counts() == Counts(int(result is None), 0, 0, 0)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_threads_it_is_dialled_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 94: at the end of the process a call still works."""
    monkeypatch.setattr(threading.Thread, "start", _no_thread)
    dialled_in: list[threading.Thread] = []
    connections = connections_of(Exchange(lambda *_: dialled_in.append(threading.current_thread())))
    assert leased(connections).channel is not None
    assert dialled_in == [threading.current_thread()]


def test_a_wait_ends_at_its_deadline() -> None:
    connections = connections_of(Exchange(), connections=1)
    connection = leased(connections)
    other = in_threads(1, lambda _: raised(leased, connections, deadline=Deadline(0.0)))[0]
    assert isinstance(other, Timeout)
    assert connections.counts().waiting == 0
    connections.give_back(connection)


def test_a_worker_waits_as_long_as_messages_do() -> None:
    connections = connections_of(Exchange(), connections=1)
    leased(connections)
    looks = iter([0.01, 0.01, None])
    assert connections.lease_while(Lease(), lambda: next(looks)) is None
    assert connections.counts().waiting == 0


def test_a_dial_that_outlasts_a_short_call_is_not_made_again() -> None:
    """The server is not to blame for a short deadline, and not to be dialled without end for it."""
    exchange = Exchange(*[Timeout("slow")] * 50)
    one = server()
    connections = connections_of(exchange, one)
    assert isinstance(raised(leased, connections, deadline=Deadline.after(5)), Timeout)
    assert len(exchange.dials) == 1
    assert not one.is_failing
    assert connections.counts() == Counts(0, 0, 0, 0)


def test_nothing_is_seen_between_a_refused_password_and_the_end_of_its_dial() -> None:
    """FAULTS 86: a second try in that gap would be a second step towards a lock-out."""
    one = server(username="u", password="secret", tls="implicit")
    gaps: list[str] = []

    def look() -> None:
        if exchange.dials and not connections._connections and one.backoff.refused is None:
            gaps.append("the place is free and the refusal not known")

    exchange = Exchange(REFUSED)
    connections = connections_of(exchange, one)
    connections._lock = Watched(look)  # type: ignore[assignment]
    raised(leased, connections)
    assert not gaps


def test_one_refused_password_is_enough() -> None:
    """FAULTS 86: however many ask, one AUTH reaches the server."""
    one = server(most=8, username="u", password="secret", tls="implicit")
    exchange = Exchange(*[REFUSED] * 50)
    connections = connections_of(exchange, one, connections=8)
    errors = in_threads(20, lambda _: raised(leased, connections))
    assert {type(error) for error in errors} == {AuthenticationError}
    assert len(exchange.dials) == 1


def test_a_greeting_of_421_beyond_the_third_costs_nobody_anything() -> None:
    """FAULTS 90."""
    busy = ConnectError("too many", reply=Reply(421))
    exchange = Exchange(None, None, None, busy)
    connections = connections_of(exchange, connections=8)
    mine = [leased(connections) for _ in range(3)]
    got: list[PooledConnection] = []
    thread = threading.Thread(target=lambda: got.append(leased(connections)))
    thread.start()
    until(lambda: len(exchange.dials) == 4 and connections.counts().dialling == 0)
    connections.give_back(mine[0])
    thread.join()
    assert got == [mine[0]]


def test_the_next_server_if_the_first_does_not_answer() -> None:
    exchange = Exchange(ConnectError("no"))
    connections = connections_of(exchange, server("a.example"), server("b.example"))
    assert leased(connections).server.name.startswith("b.example")
    assert exchange.dials == ["a.example", "b.example"]


FOR_GOOD = [ConnectError("greeting", reply=Reply(554)), TlsError("expired"), REFUSED]


@pytest.mark.parametrize("refusal", FOR_GOOD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_call", [False, True])
def test_a_server_that_is_only_down_for_now_is_waited_for(
    refusal: SmtpError, is_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the other one refuses us for good: nothing that is queued ends with that."""
    monkeypatch.setattr(backoff, "FIRST_DIAL_REST", 0.1)
    monkeypatch.setattr(backoff, "FIRST_PROBE", 0.01)
    bad, down = server("bad.example"), server("down.example")
    bad.backoff._share = lambda: 1.0  # it is dialled again before the other may be
    answers = {"bad.example": [refusal] * 9, "down.example": [ConnectError("no answer"), Line()]}
    exchange = Exchange(*[lambda to, *_: answers[to.host].pop(0)] * 11)
    connections = connections_of(exchange, bad, down)
    assert raised(leased, connections, is_call=is_call).temporary, "a try, and the policy decides"
    assert leased(connections, is_call=is_call).server is down
    assert exchange.dials.count("bad.example") >= 2


def test_what_all_servers_refuse_for_good_is_not_waited_for() -> None:
    exchange = Exchange(REFUSED, TlsError("expired"))
    connections = connections_of(exchange, server("a.example"), server("b.example"))
    assert not raised(leased, connections, is_call=False).temporary
    assert exchange.dials == ["a.example", "b.example"]


def test_a_failed_dial_is_told_to_all_calls_and_one_worker() -> None:
    go = threading.Event()

    def dial(*_: Any) -> Any:
        assert go.wait(20)
        return ConnectError("no")

    exchange = Exchange(dial, *[ConnectError("again")] * 9)
    connections = connections_of(exchange, connections=1)
    told: list[str] = []

    def wait(is_call: bool) -> None:
        error = raised(leased, connections, is_call=is_call)
        told.append(f"{'call' if is_call else 'worker'}: {error.text}")

    threads = [threading.Thread(target=wait, args=(each,)) for each in (True, False, True, False)]
    for count, thread in enumerate(threads, 1):
        thread.start()
        until(lambda count=count: connections.counts().waiting == count)
    go.set()
    until(lambda: len(told) >= 3)
    connections.end()
    for thread in threads:
        thread.join()
    assert (told.count("call: no"), told.count("worker: no"), len(told)) == (2, 1, 4)


def test_the_server_that_comes_first_is_used_although_another_was_used_last() -> None:
    one, other = server("a.example"), server("b.example")
    connections = connections_of(Exchange(ConnectError("no")), one, other)
    second = leased(connections)
    one.backoff.dial_succeeded()  # it may be dialled again
    first = leased(connections)
    assert (first.server, second.server) == (one, other)
    connections.give_back(first)
    connections.give_back(second)
    assert leased(connections) is first


def test_two_servers_that_are_used_evenly_take_turns() -> None:
    """Also while nothing is under way on either of them."""
    one, other = server("a.example"), server("b.example")
    connections = connections_of(Exchange(), one, other, by_priority=False)
    used = []
    for _ in range(6):
        connection = leased(connections)
        used.append(connection.server)
        connections.give_back(connection)
    assert used == [one, other] * 3


def test_an_old_connection_is_not_kept() -> None:
    connections = connections_of(Exchange(), age=10.0)
    connection = leased(connections)
    assert connection.ends == connection.made + 10
    connection.ends = now()
    connections.give_back(connection)
    assert connections.counts().open == 0


def test_how_long_it_was_idle_is_known_of_a_connection() -> None:
    """FAULTS 113, 114: what is said after a short rest is not about the rest."""
    connections = connections_of(Exchange())
    connection = leased(connections)
    connections.give_back(connection)
    connection.since -= 5
    assert leased(connections) is connection
    assert 5 <= connection.rest < 60


def test_at_the_end_of_the_process_calls_keep_their_connections() -> None:
    connections = connections_of(Exchange())
    of_call, of_worker = leased(connections), leased(connections, is_call=False)
    connections.shut_down(workers_only=True)
    assert [each.channel.closed for each in (of_call, of_worker) if each.channel] == [False, True]
    connections.shut_down()
    assert of_call.channel is not None
    assert of_call.channel.closed


def test_the_connection_that_was_used_last_is_used_next() -> None:
    """So those that are too many become idle for long, and are closed."""
    connections = connections_of(Exchange())
    first, second = leased(connections), leased(connections)
    connections.give_back(second)
    connections.give_back(first)
    assert leased(connections) is first


def test_what_was_taken_behind_a_broken_message_is_always_excused() -> None:
    connections = connections_of(Exchange())
    connection = leased(connections)
    assert heard(connections, connection, GONE) is None
    assert connections.heard(connection, GONE, was_tried=True, may_spare=False) is not None


def test_a_limit_that_was_passed_holds_no_more() -> None:
    """FAULTS 113."""
    one = server()
    connections = connections_of(Exchange(), one)
    connection = leased(connections)
    one.message_limit = 1
    heard(connections, connection, TAKEN)
    assert one.message_limit == 1
    heard(connections, connection, TAKEN)
    assert one.message_limit == math.inf


@pytest.mark.parametrize(
    ("taken", "enhanced", "is_slower"),
    [(1, EnhancedCode(4, 4, 2), False), (1, EnhancedCode(4, 7, 0), True), (0, EnhancedCode(4, 4, 2), True)],
)
def test_421_is_about_the_connection_or_about_all_of_us(
    taken: int, enhanced: EnhancedCode, is_slower: bool
) -> None:
    """FAULTS 113: on one that had taken something it is no complaint, unless it speaks of policy."""
    one = server()
    connections = connections_of(Exchange(), one)
    connection = leased(connections)
    for _ in range(taken):
        heard(connections, connection, TAKEN)
    end = ServiceUnavailable("end", stage=Stage.MAIL, reply=Reply(421, enhanced=enhanced))
    assert (heard(connections, connection, end) is not None) is bool(taken)
    assert (one.backoff.rest_until > -math.inf) is is_slower


def test_a_dial_that_has_failed_lengthens_no_wait() -> None:
    """One under way does, by a second: its end tells more than a timeout."""
    connections = connections_of(Exchange(None, ConnectError("no")))
    other = threading.Thread(target=leased, args=(connections,))
    other.start()
    other.join()
    asking = Lease()
    asking.is_call = True
    with pytest.raises(Timeout):
        connections.lease(asking, Deadline.after(0.1))
    connections.await_dials(5)
    assert asking.dial is None


class _Never(Wakeup):
    def wait(self, seconds: float) -> bool:
        raise AssertionError("its time is over")


def test_who_is_late_does_not_wait() -> None:
    connections = connections_of(Exchange(), connections=1)
    other = threading.Thread(target=leased, args=(connections,))
    other.start()
    other.join()
    late = Lease()
    late.is_call, late.wakeup = True, _Never()
    with pytest.raises(Timeout):
        connections.lease(late, Deadline(now() - 0.1))


def test_an_acceptance_ends_what_was_held_against_a_server() -> None:
    """After it the next complaint is the first one again."""
    one = server(most=4)
    connections = connections_of(Exchange(), one)
    slow = ServiceUnavailable("slow down", stage=Stage.MAIL, reply=Reply(421))
    for _ in range(2):
        connection = leased(connections)
        heard(connections, connection, slow)
        assert not one.backoff.is_over
        assert one.backoff._rest == backoff.FIRST_REST
        one.backoff.rest_until, one.backoff.cap = -math.inf, 4  # which have passed by then
        heard(connections, connection, TAKEN)


def test_what_is_released_is_closed_and_its_place_is_free() -> None:
    exchange = Exchange()
    connections = connections_of(exchange, connections=1)
    asking = Lease()
    connections.lease(asking, NEVER)
    connections.release(asking)
    connections.release(asking)
    assert exchange.lines[0].closed
    assert connections.counts() == Counts(0, 0, 0, 0)


def test_the_end_of_a_connection_is_told_once() -> None:
    events: list[Event] = []
    connections = connections_of(Exchange(), hook=events.append)
    asking = Lease()
    connection = connections.lease(asking, NEVER)
    connections.release(asking)
    connections.give_back(connection)
    assert [event.kind for event in events] == ["connected", "closed"]


@pytest.mark.parametrize(
    ("end", "is_call"),
    [(Connections.end, True), (Connections.end, False), (Connections.shut_down, False)],
)
def test_the_end_is_told_at_once_to_whoever_waits(
    end: Any, is_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to look at the clock for it."""
    monkeypatch.setattr("pysmtpx.pooling.connections._LOOK_AGAIN", 60.0)
    connections, asking = connections_of(Exchange(), connections=1), Lease()
    leased(connections)
    asking.is_call = is_call
    told: list[SmtpError] = []

    def wait() -> None:
        if is_call:
            told.append(raised(connections.lease, asking, NEVER))
        else:
            told.append(raised(connections.lease_while, asking, lambda: 60.0))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: connections.counts().waiting == 1)
    end(connections)
    thread.join(20)
    assert [type(error) for error in told] == [ConnectionLost]


class _Late(Wakeup):
    """Of a thread that is slow to run although it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def wait(self, seconds: float) -> bool:
        return self.go.wait(20)


def test_who_comes_later_does_not_take_what_another_waits_for() -> None:
    connections = connections_of(Exchange(), connections=1)
    held = leased(connections)
    first, late = Lease(), _Late()
    first.is_call, first.wakeup = True, late
    got: list[PooledConnection] = []
    thread = threading.Thread(target=lambda: got.append(connections.lease(first, NEVER)))
    thread.start()
    until(lambda: connections.counts().waiting == 1)
    connections.give_back(held)
    assert isinstance(raised(leased, connections, deadline=Deadline.after(0.05)), Timeout)
    late.go.set()
    thread.join(20)
    assert got == [held]


def test_what_was_idle_for_as_long_as_a_dead_one_is_closed_too() -> None:
    """FAULTS 87, 91: and what was used since is not."""
    connections = connections_of(Exchange(), connections=3)
    old, dead, young = (leased(connections) for _ in range(3))
    connections.give_back(old)
    connections.give_back(dead)
    assert leased(connections) is dead
    connections.give_back(young)
    assert heard(connections, dead, GONE).others_too
    assert [each.channel.closed for each in (old, young) if each.channel] == [True, False]
    assert connections.counts() == Counts(open=2, idle=1, dialling=0, waiting=0)


@pytest.mark.parametrize("limit", [None, 5])
def test_the_servers_own_limit_on_messages(limit: int | None) -> None:
    """LIMITS MAILMAX (RFC 9422 4.1)."""
    connections = connections_of(Exchange(mail_max=2), messages=limit)
    connection = leased(connections)
    assert connection.allowance is not None
    for is_over in (False, True):
        connection.allowance.spend(("r@x.example",), 0, 2)
        assert is_spent(connection) is is_over


@pytest.mark.parametrize("why", ["closed", "spent", "old", "one too many"])
def test_what_cannot_be_used_again_is_not_kept(why: str) -> None:
    one = server()
    connections = connections_of(Exchange(), one)
    connection, other = leased(connections), leased(connections)
    assert connection.channel is not None
    if why == "closed":
        connection.channel.close()
    elif why == "spent":
        connection.budget = 0
    elif why == "old":
        connection.ends = 0.0
    else:
        one.backoff.slowed(0.0, 2)
    connections.give_back(connection)
    assert connections.counts() == Counts(1, 0, 0, 0)
    connections.give_back(other)
    assert connections.counts() == Counts(1, 1, 0, 0)


def test_what_is_given_back_is_had_at_once_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """He need not look at the clock for it."""
    monkeypatch.setattr("pysmtpx.pooling.connections._LOOK_AGAIN", 600.0)
    connections = connections_of(Exchange(), connections=1)
    held, got = leased(connections), list[PooledConnection]()
    thread = threading.Thread(target=lambda: got.append(leased(connections)), daemon=True)
    thread.start()
    until(lambda: connections.counts().waiting == 1)
    connections.give_back(held)
    thread.join(LONG)
    assert got == [held]


def test_a_place_that_is_free_is_had_at_once_by_who_does_not_wait_for_a_slow_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is at another server, and nobody's: whoever began it has long had another connection."""
    monkeypatch.setattr("pysmtpx.pooling.connections._LOOK_AGAIN", 600.0)
    silent, there, busy = server("a.example"), server("b.example"), Lease()
    connections = connections_of(Exchange(), silent, there, by_priority=False)
    held = connections.lease(busy, NEVER)
    held.server = there
    slow = PooledConnection(silent, now() - 9.0)
    connections._connections.append(slow)
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(leased(connections)))
    waiting.start()
    until(lambda: connections.counts().waiting == 1)
    connections.release(busy)
    waiting.join(LONG)
    assert [each.server for each in results] == [there]
    connections.shut_down()


def test_what_is_being_dialled_is_counted_apart() -> None:
    seen: list[Counts] = []
    connections = connections_of(Exchange(None, lambda *_: seen.append(connections.counts())))
    leased(connections)
    leased(connections)
    assert [(each.open, each.idle, each.dialling) for each in seen] == [(1, 0, 1)]
    assert connections.counts() == Counts(open=2, idle=0, dialling=0, waiting=0)


@pytest.mark.parametrize("has_rested", [False, True])
def test_a_loss_by_bdat_says_something_only_of_what_was_alive(has_rested: bool) -> None:
    """FAULTS 53, 87: a connection that was idle may have died of that."""
    one = server()
    connections = connections_of(Exchange(), one)
    connection = leased(connections)
    if has_rested:
        connections.give_back(connection)
        assert leased(connections) is connection
    connections.heard(connection, GONE, was_tried=False, may_spare=True, by_bdat=True)
    assert one.chunking_works is has_rested


def test_refusals_in_a_row_begin_anew_with_each_message_that_is_taken() -> None:
    """FAULTS 113: what a server is known to say of messages is about the connection only in a row."""
    one = server()
    connections = connections_of(Exchange(), one)
    connection = leased(connections)
    refusal = SenderRejected("later", stage=Stage.MAIL, reply=Reply(450))
    one.refusals.add(Refusal(Stage.MAIL, 450, None))
    heard(connections, connection, TAKEN)
    for _ in range(3):
        assert [heard(connections, connection, refusal) for _ in range(2)] == [None, None]
        heard(connections, connection, TAKEN)
    assert [heard(connections, connection, refusal) for _ in range(2)] == [None, None]
    assert heard(connections, connection, refusal).retires, "the third in a row"


def test_trouble_behind_a_message_that_was_taken_ends_the_overlap() -> None:
    one = server()
    connections = connections_of(Exchange(), one)
    connection = leased(connections)
    connections.heard(connection, TAKEN, was_tried=False, may_spare=False)
    assert one.overlap_works
    connections.heard(connection, TAKEN, was_tried=False, may_spare=False, trouble=True)
    assert not one.overlap_works


def test_dials_are_waited_for() -> None:
    dialling, go = threading.Event(), threading.Event()
    order: list[str] = []

    def dial(*_: Any) -> None:
        dialling.set()
        assert go.wait(LONG)
        order.append("dialled")

    connections = connections_of(Exchange(dial))
    asking = threading.Thread(target=lambda: leased(connections))
    asking.start()
    assert dialling.wait(LONG)
    thread = threading.Thread(target=lambda: (connections.await_dials(600), order.append("waited")))
    thread.start()
    thread.join(0.1)  # one that does not wait has come to its end by now
    go.set()
    thread.join()
    asking.join()
    assert order == ["dialled", "waited"]


@pytest.mark.parametrize("result", [None, ConnectError("no")])
def test_an_event_says_how_long_it_took(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, events = [0.0], list[Event]()
    monkeypatch.setattr("pysmtpx.pooling.connections.now", lambda: now() + ahead[0])

    def dial(*_: Any) -> Any:
        ahead[0] += 1000
        return result

    connections = connections_of(Exchange(dial), hook=events.append, messages=1)
    if result is None:
        connection = leased(connections)
        connection.served = 1
        ahead[0] += 5000
        connections.give_back(connection)
    else:
        raised(leased, connections)
    # The rest is what the machine took.
    assert [each.seconds // 1000 for each in events] == ([1, 5] if result is None else [1])


def test_what_ends_says_quit_and_does_not_wait() -> None:
    exchange = Exchange()
    connections = connections_of(exchange, messages=1)
    connection = leased(connections)
    connection.served = 1
    connections.give_back(connection)
    assert exchange.lines[0].said == ["run"]
    assert exchange.lines[0].closed


def test_a_dial_that_was_stopped_is_not_laid_to_the_servers_charge() -> None:
    one, dialling = server(), threading.Event()

    def stopped(to: Any, deadline: Deadline, attempt: Any) -> Any:
        dialling.set()
        until(lambda: deadline.remaining() <= 0)
        return Timeout("stopped", stage=Stage.CONNECT)

    connections = connections_of(Exchange(stopped), one)
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(leased, connections, is_call=False)))
    thread.start()
    assert dialling.wait(20)
    connections.shut_down()
    thread.join()
    assert [type(error) for error in errors] == [ConnectionLost]
    until(lambda: connections.counts() == Counts(0, 0, 0, 0))
    assert not one.is_failing


def test_at_the_end_of_the_process_calls_go_on() -> None:
    """FAULTS 94."""
    connections = connections_of(Exchange())
    connections.shut_down(workers_only=True)
    assert isinstance(raised(leased, connections, is_call=False), ConnectionLost)
    assert leased(connections).is_idle is False


def test_a_stream_ends_for_as_many_as_wait() -> None:
    connections = connections_of(Exchange(), connections=2)
    mine = [leased(connections, is_call=False) for _ in range(2)]
    assert not connections.must_yield(mine[0])
    thread = threading.Thread(target=lambda: connections.give_back(leased(connections)))
    thread.start()
    until(lambda: connections.counts().waiting == 1)
    assert connections.must_yield(mine[0])
    assert not connections.must_yield(mine[1])
    connections.give_back(mine[0])
    thread.join()
    assert not connections.must_yield(mine[0])


def test_events_are_told_outside_the_lock() -> None:
    """FAULTS 92, 97."""
    free: list[bool] = []
    events: list[Event] = []

    def hook(event: Event) -> None:
        def look() -> None:
            if acquired := connections._lock.acquire(timeout=5):
                connections._lock.release()
            free.append(acquired)

        events.append(event)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    connections = connections_of(Exchange(), hook=hook, messages=1)
    connection = leased(connections)
    connection.served = 1
    connections.give_back(connection)
    connections.end()
    assert [event.kind for event in events] == ["connected", "closed"]
    assert free == [True, True]


def test_the_end_closes_what_is_idle_and_wakes_who_waits() -> None:
    """FAULTS 93."""
    exchange = Exchange()
    connections = connections_of(exchange, connections=2)
    mine = [leased(connections) for _ in range(2)]
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(raised(leased, connections)))
    thread.start()
    until(lambda: connections.counts().waiting == 1)
    connections.end()
    thread.join()
    assert [type(error) for error in errors] == [ConnectionLost]
    connections.give_back(mine[0])
    assert connections.counts().open == 1
    connections.shut_down()
    assert all(line.closed for line in exchange.lines)


def test_a_dial_that_comes_off_too_late_is_closed() -> None:
    def dial(*_: Any) -> Line:
        connections.end()
        return Line()

    exchange = Exchange(dial)
    connections = connections_of(exchange)
    assert isinstance(raised(leased, connections), ConnectionLost)
    until(lambda: exchange.lines and exchange.lines[0].closed)
    until(lambda: connections.counts() == Counts(0, 0, 0, 0))


def test_after_a_fork_it_is_empty_and_no_lock_is_held() -> None:
    """FAULTS 95."""
    exchange, one = Exchange(), server()
    connections = connections_of(exchange, one)
    leased(connections)
    locked = threading.Thread(target=connections._lock.acquire)
    locked.start()
    locked.join()
    one.limit = RateLimit(1000.0)
    locked = threading.Thread(target=one.limit._lock.acquire)
    locked.start()
    locked.join()
    connections.abandon()
    assert connections.counts() == Counts(0, 0, 0, 0)
    assert exchange.lines[0].closed
    assert exchange.lines[0].said == [], "not an octet"
    assert one.limit.begin() is not None
    connections.give_back(leased(connections))
