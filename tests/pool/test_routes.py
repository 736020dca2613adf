"""Several servers: which has what, what moves on to the next one, and how long one is passed over."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import socket
from collections import Counter
from typing import Any

import pytest
from support.busy import until
from support.patience import LONG
from support.pools import BODY, ONCE, SENDER, Hold, fates, in_threads, mail, mails, outcome, pool_of

import pysmtpx
from pysmtpx import DeliveryUnknown, InputError, RetryPolicy, Route, SendResult, Server, SmtpPool
from pysmtpx.net.deadline import now
from pysmtpx.pooling import selection
from pysmtpx.pooling.connections import Connections
from pysmtpx.testing import Cut, Event, MailServer

FAST = RetryPolicy(backoff=0.0)
BALANCES = pytest.mark.parametrize("balance", ["failover", "priority", "even", "weighted"])
pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is slow because the machine is has its share all the same."""
    monkeypatch.setattr(selection, "_STALLED", 600.0)


def send(pool: SmtpPool, **options: Any) -> Any:
    return outcome(pool.send, SENDER, "a@x.example", BODY, **options)


def submit(pool: SmtpPool, **options: Any) -> Any:
    return outcome(pool.submit(mail(), **options).result, LONG)


def send_many(pool: SmtpPool) -> Any:
    (one,) = pool.send_many([mail()])
    return one.result or one.error


def counted(verb: str, answer: Any) -> tuple[list[Event], Any]:
    """What was asked at this verb, and a verdict that always answers so."""
    seen: list[Event] = []

    def verdict(event: Event) -> Any:
        if event.verb != verb:
            return None
        seen.append(event)
        return answer

    return seen, verdict


# -- what moves on ------------------------------------------------------------------------

SURE = [
    ("MAIL", "452 4.7.1 too much"),
    ("MAIL", "451 4.7.500 server busy"),
    ("MAIL", "454 4.7.0 throttled"),
    ("MAIL", "454 Throttling failure: Daily message quota exceeded"),
    ("MAIL", "550 5.4.5 Daily user sending limit exceeded"),
    ("RCPT", "452 4.7.1 over quota"),
    ("RCPT", "550 5.1.90 daily limit for message recipients"),
    ("DATA", "451 4.7.1 too much"),
    ("FINAL", "454 Throttling failure: Maximum sending rate exceeded"),
    ("FINAL", "550 5.4.5 Daily user sending limit exceeded"),
    ("FINAL", "451 4.4.5 congestion"),
]
"""What can only be about how much we send: the server rests for as long as the policy says."""
DOUBTFUL = [
    ("MAIL", "432 4.3.2 too many connections"),
    ("MAIL", "451 4.3.0 local problem"),
    ("MAIL", "452 no space"),
    ("RCPT", "451 4.7.1 later"),
    ("FINAL", "451 4.7.1 later"),
    ("MAIL", "421 4.7.0 later"),
]
"""What may be over in a moment, or about the message after all: it is passed over for a moment."""
STAYS = [
    ("MAIL", "550 5.7.1 no"),
    ("MAIL", "450 4.1.8 no such domain"),
    ("RCPT", "450 4.2.0 greylisted"),
    ("RCPT", "452 4.2.2 full"),
    ("RCPT", "550 5.1.1 nobody"),
    ("FINAL", "552 5.3.4 too big"),
    ("FINAL", "554 5.6.0 bad content"),
    ("FINAL", "450 4.6.0 conversion"),
]
"""What is about the message or a recipient: no other server is asked."""


@BALANCES
@pytest.mark.parametrize("way", [send, submit, send_many])
@pytest.mark.parametrize(("verb", "answer"), SURE)
def test_a_quota_moves_on_and_the_server_rests(verb: str, answer: str, way: Any, balance: Any) -> None:
    seen, verdict = counted(verb, answer)
    with MailServer(verdict=verdict, strict=False) as first, MailServer() as second:
        options: Any = {"retry": FAST, "balance": balance, "max_connections": 2}
        with SmtpPool([first.url, second.url], **options) as pool:
            results = [way(pool) for _ in range(4)]
            state = pool.stats()
        assert [fates(each) for each in results] == [{"a@x.example": "accepted"}] * 4
        assert len(seen) == 1, "it was asked once, and not again"
        assert (len(first.messages), len(second.messages)) == (0, 4)
    assert (state.accepted, state.retried) == (4, 1)
    resting, usable = state.servers
    assert (resting.state, usable.state) == ("resting", "usable")
    assert 500 < resting.rest <= 600
    assert resting.reply is not None
    assert str(resting.reply.code) == answer[:3]


@pytest.mark.parametrize("way", [send, submit])
@pytest.mark.parametrize(("verb", "answer"), DOUBTFUL)
def test_what_may_be_over_soon_moves_on_for_a_moment(verb: str, answer: str, way: Any) -> None:
    seen, verdict = counted(verb, answer)
    with MailServer(verdict=verdict, strict=False) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            assert fates(way(pool)) == {"a@x.example": "accepted"}
            rest = pool.stats().servers[0].rest
        assert (len(seen), len(second.messages)) == (1, 1)
    assert rest <= 5


@pytest.mark.parametrize("way", [send, submit])
@pytest.mark.parametrize(("verb", "answer"), STAYS)
def test_what_is_about_the_message_does_not_move(verb: str, answer: str, way: Any) -> None:
    seen, verdict = counted(verb, answer)
    with MailServer(verdict=verdict, strict=False) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            assert fates(way(pool)) == {"a@x.example": f"rejected {answer[:3]}"}
            assert pool.stats().servers[0].state == "usable"
        assert (len(seen), second.ledger.connections) == (1, [])


@pytest.mark.parametrize("way", [send, submit])
def test_a_policy_that_moves_nothing(way: Any) -> None:
    policy = RetryPolicy(backoff=0.0, move_on="never")
    with MailServer(replies={"MAIL": "452 4.7.1 no more"}) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=policy) as pool:
            assert fates(way(pool)) == {"a@x.example": "rejected 452"}
        assert second.ledger.connections == []


@pytest.mark.parametrize(("verb", "answer"), [each for each in STAYS if each[1].startswith("4")])
def test_a_policy_that_moves_whatever_is_for_now(verb: str, answer: str) -> None:
    policy = RetryPolicy(backoff=0.0, move_on="temporary")
    _, verdict = counted(verb, answer)
    with MailServer(verdict=verdict, strict=False) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=policy) as pool:
            assert fates(send(pool)) == {"a@x.example": "accepted"}
        assert len(second.messages) == 1


@pytest.mark.parametrize("way", ["call", "worker"])
def test_only_who_is_owed_it_moves(way: str) -> None:
    """FAULTS 54, 88: of those who have it nobody gets it twice; who was refused for good is done."""

    def verdict(event: Event) -> Any:
        answers = {"b@x.example": "452 4.7.1 over quota", "c@x.example": "550 5.1.1 nobody"}
        return answers.get(event.address) if event.verb == "RCPT" else None

    paths = ["a@x.example", "b@x.example", "c@x.example"]
    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            if way == "call":
                found = outcome(pool.send, SENDER, paths, BODY)
            else:
                found = outcome(pool.submit(mail(*paths)).result, LONG)
            state = pool.stats()
        assert fates(found) == {
            "a@x.example": "accepted",
            "b@x.example": "accepted",
            "c@x.example": "rejected 550",
        }
        said = state.servers[0].reply
        assert said is not None
        assert said.code == 452, "not that by which the others were taken"
        assert [each.addresses for each in first.messages] == [["a@x.example"]]
        assert [each.addresses for each in second.messages] == [["b@x.example"]]


def test_all_or_nothing_moves_whole_or_not_at_all() -> None:
    def verdict(event: Event) -> Any:
        is_last = event.verb == "RCPT" and event.address == "b@x.example"
        return "452 4.7.1 over quota" if is_last else None

    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            paths = ["a@x.example", "b@x.example"]
            found = outcome(pool.send, SENDER, paths, BODY, all_or_nothing=True)
        assert (first.messages, second.messages) == ([], [])
        assert isinstance(found, pysmtpx.RecipientsRejected)


@pytest.mark.parametrize("way", [send, submit])
def test_what_is_in_doubt_never_moves(way: Any) -> None:
    """The commit rule."""
    with MailServer(replies={"FINAL": Cut()}, strict=False) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            assert type(way(pool)) is DeliveryUnknown
        assert second.ledger.connections == []


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_each_server_is_a_try(attempts: int) -> None:
    """And no server is asked twice: the last reply is the outcome once all are at their limit."""
    policy, replies = RetryPolicy(attempts=attempts, backoff=0.0), {"MAIL": "452 4.7.1 no more"}
    with MailServer(replies=replies) as one, MailServer(replies=replies) as two:
        with (
            MailServer(replies={"MAIL": "454 4.7.0 nor here"}) as three,
            pool_of(one, two, three, retry=policy) as pool,
        ):
            found = send(pool)
            asked = [each.messages for each in pool.stats().servers]
        assert asked == [int(attempts > place) for place in range(3)]
        assert fates(found) == {"a@x.example": "rejected 454" if attempts > 2 else "rejected 452"}
        assert found.temporary


def test_content_that_can_be_read_once_moves_if_it_was_not_read() -> None:
    with MailServer(replies={"MAIL": "452 4.7.1 no more"}) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST) as pool:
            found = outcome(pool.send, SENDER, "a@x.example", iter([BODY]))
        assert fates(found) == {"a@x.example": "accepted"}
        assert len(second.messages) == 1


def test_when_all_are_at_their_limit_the_one_whose_rest_ends_first_is_asked() -> None:
    """None is given up for what it said before: it is the servers that say no, and not our memory of it."""
    first_seen, first = counted("MAIL", "452 4.7.1 no more")
    second_seen, second = counted("MAIL", "452 4.7.1 no more")
    with (
        MailServer(verdict=first) as one,
        MailServer(verdict=second) as two,
        SmtpPool([one.url, two.url], retry=FAST) as pool,
    ):
        assert fates(send(pool)) == {"a@x.example": "rejected 452"}
        assert (len(first_seen), len(second_seen)) == (1, 1)
        assert fates(send(pool)) == {"a@x.example": "rejected 452"}
        assert (len(first_seen), len(second_seen)) == (2, 1)


def test_one_server_alone_is_never_passed_over() -> None:
    seen, verdict = counted("MAIL", "452 4.7.1 no more")
    with MailServer(verdict=verdict) as server, pool_of(server) as pool:
        for count in (1, 2):
            assert fates(send(pool)) == {"a@x.example": "rejected 452"}
            assert len(seen) == count
        assert pool.stats().servers[0].state == "usable"


@BALANCES
def test_it_is_asked_again_when_its_rest_is_over(balance: Any) -> None:
    answers = ["452 4.7.1 no more"]
    policy = RetryPolicy(backoff=0.0, quota_rest=3600.0)

    def verdict(event: Event) -> Any:
        return answers.pop() if event.verb == "MAIL" and answers else None

    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=policy, balance=balance) as pool:
            assert isinstance(send(pool), SendResult)
            assert 3000 < pool.stats().servers[0].rest <= 3600
            pool._servers[0].backoff.passed_over_until = now()  # an hour later
            assert pool.stats().servers[0].state == "usable"
            until(lambda: isinstance(send(pool), SendResult) and bool(first.messages))
        assert second.messages


def test_a_stream_moves_on_in_the_middle() -> None:
    """The limit of a day is reached in the middle of many: each has one outcome, and is there once."""
    count = [0]

    def verdict(event: Event) -> Any:
        if event.verb != "FINAL":
            return None
        count[0] += 1
        return "550 5.4.5 Daily user sending limit exceeded" if count[0] > 40 else None

    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=RetryPolicy(attempts=9, backoff=0.0)) as pool:
            told = list(pool.send_many(mails(200)))
        assert Counter(each.status for each in told) == {"accepted": 200}
        paths = [path for server in (first, second) for m in server.messages for path in m.addresses]
        assert Counter(paths) == Counter(f"r{n}@x.example" for n in range(200))
        assert len(first.messages) == 40
        assert count[0] <= 40 + 4, "no more than were under way on its four connections"


def test_a_limit_on_the_messages_of_a_connection_is_no_quota() -> None:
    """FAULTS 113: a new connection to the same server is asked first."""

    def verdict(event: Event) -> Any:
        return "452 4.5.3 enough" if event.verb == "MAIL" and event.transaction >= 3 else None

    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST, max_connections=1) as pool:
            for _ in range(8):
                assert isinstance(send(pool), SendResult)
        assert (len(first.messages), len(second.messages)) == (8, 0)


def test_who_leased_before_the_quota_was_named_sends_nothing_more_there() -> None:
    """Two workers have a connection each; what the first is told holds for the second."""
    hold = Hold("FINAL", lambda event: event.connection == 0)
    seen: list[int] = []

    def verdict(event: Event) -> Any:
        if event.verb == "MAIL":
            seen.append(event.connection)
        if event.verb == "FINAL":
            hold(event)
            return "550 5.4.5 limit"
        return None

    with MailServer(verdict=verdict) as first, MailServer() as second:
        with SmtpPool([first.url, second.url], retry=FAST, max_connections=2) as pool:
            held = pool.submit(mail("held@x.example"))
            hold.wait_for()
            assert isinstance(submit(pool), SendResult)
            assert pool.stats().servers[0].state == "resting"
            assert [type(each.result) for each in pool.send_many(mails(10))] == [SendResult] * 10
            hold.go.set()
            assert isinstance(outcome(held.result, LONG), SendResult)
        assert len(seen) == 2
        assert len(second.messages) == 12


# -- credentials and limits of its own ------------------------------------------------------


def test_each_has_its_own_credentials() -> None:
    users = [{"ann": "one"}, {"bob": "two"}]
    with (
        MailServer(users=users[0], require_auth=True) as first,
        MailServer(users=users[1], require_auth=True) as second,
    ):
        urls = [
            f"smtp://ann:one@127.0.0.1:{first.port}?insecure_auth=true&weight=2",
            Route(Server("127.0.0.1", second.port, username="bob", password="two", insecure_auth=True)),
        ]
        with SmtpPool(urls, balance="weighted") as pool:
            for _ in range(6):
                assert isinstance(send(pool), SendResult)
        assert (len(first.messages), len(second.messages)) == (4, 2)


@pytest.mark.parametrize("balance", ["even", "weighted"])
def test_no_server_has_more_connections_than_it_may(balance: Any) -> None:
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as first, MailServer(verdict=hold) as second:
        routes = [Route(first.url, max_connections=1), Route(second.url, max_connections=2)]
        with SmtpPool(routes, max_connections=8, balance=balance) as pool:
            futures = [pool.submit(each) for each in mails(12)]
            hold.wait_for(3)
            assert [each.connections for each in pool.stats().servers] == [1, 2]
            hold.go.set()
            assert all(future.result(LONG) for future in futures)
            assert [each.connections for each in pool.stats().servers] == [1, 2]


def test_in_failover_a_server_at_its_own_limit_is_waited_for() -> None:
    """It is only busy: the second one is for when it fails."""
    with MailServer() as first, MailServer() as second:
        with SmtpPool([Route(first.url, max_connections=1), second.url], max_connections=4) as pool:
            assert {each.status for each in pool.send_many(mails(50))} == {"accepted"}
            assert in_threads(5, lambda _: type(send(pool))) == [SendResult] * 5
        assert (len(first.messages), len(first.ledger.connections)) == (55, 1)
        assert second.ledger.connections == []


def test_messages_of_a_connection() -> None:
    with MailServer() as first:
        with SmtpPool(Route(first.url, max_messages=2), max_connections=1) as pool:
            for _ in range(3):
                send(pool)
            assert {each.status for each in pool.send_many(mails(4))} == {"accepted"}
        assert max(Counter(m.connection for m in first.messages).values()) == 2


@pytest.mark.parametrize("way", ["send", "send_many"])
@pytest.mark.parametrize("limit", ["rate", "recipient_rate"])
def test_a_rate_of_its_own_is_strict(limit: str, way: str) -> None:
    times: list[float] = []

    def verdict(event: Event) -> None:
        if event.verb == "MAIL":
            times.append(now())

    options: Any = {limit: 20.0}
    each = 2 if limit == "recipient_rate" else 1
    with (
        MailServer(verdict=verdict) as server,
        SmtpPool(Route(server.url, **options), max_connections=4) as pool,
    ):
        began = now()
        if way == "send_many":
            messages = [mail(*[f"{n}.{k}@x.example" for k in range(each)]) for n in range(6)]
            assert {told.status for told in pool.send_many(messages)} == {"accepted"}
        else:
            paths = [f"{n}@x.example" for n in range(each)]
            told = in_threads(6, lambda _: type(outcome(pool.send, SENDER, paths, BODY)))
            assert told == [SendResult] * 6
    assert len(times) == 6
    assert max(times) >= began + 5 * each / 20


def test_a_rate_of_a_server_is_strict_beside_that_of_the_pool() -> None:
    """Whoever waits for the one does not lose what the other allowed."""
    times: list[float] = []

    def verdict(event: Event) -> None:
        if event.verb == "MAIL":
            times.append(now())

    with MailServer(verdict=verdict) as server:
        began = now()
        with SmtpPool(Route(server.url, rate=20), rate=30, max_connections=4) as pool:
            futures = [pool.submit(each) for each in mails(3)]
            assert in_threads(3, lambda _: type(send(pool))) == [SendResult] * 3
            assert all(future.result(LONG) for future in futures)
    assert len(times) == 6
    assert max(times) >= began + 5 / 20


def test_who_may_not_send_by_one_server_now_sends_by_the_next() -> None:
    """Where the mail is shared; in failover a rate is no failure, and is waited for."""
    slow = {"rate": 1 / 3600}
    with MailServer() as first, MailServer() as second:
        for balance in ("even", "weighted"):
            options: Any = {"balance": balance, "max_connections": 4}
            with SmtpPool([Route(first.url, **slow), Route(second.url)], **options) as pool:  # type: ignore[arg-type]
                assert {each.status for each in pool.send_many(mails(20))} == {"accepted"}
                assert isinstance(send(pool), SendResult)
                assert pool.stats().servers[0].messages <= 1
        with SmtpPool([Route(first.url, **slow), second.url]) as pool:  # type: ignore[arg-type]
            count = len(second.messages)
            assert isinstance(send(pool), SendResult)
            assert isinstance(send(pool, timeout=0.1), pysmtpx.Timeout)
            assert len(second.messages) == count


# -- shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "shares"), [((3, 1), (30, 10)), ((1, 1), (20, 20)), ((2, 1, 1), (20, 10, 10))]
)
def test_single_messages_are_shared_by_weight(weights: Any, shares: Any) -> None:
    servers = [MailServer().start() for _ in weights]
    try:
        routes = [Route(each.url, weight=w) for each, w in zip(servers, weights, strict=True)]
        with SmtpPool(routes, balance="weighted", max_connections=4) as pool:
            for _ in range(40):
                assert isinstance(send(pool), SendResult)
        assert tuple(len(each.messages) for each in servers) == shares
    finally:
        for each in servers:
            each.stop()


@pytest.mark.parametrize("connections", [2, 4, 8])
def test_many_messages_are_shared_by_weight(connections: int) -> None:
    """Although the connections may be no multiple of the weights."""
    with MailServer() as first, MailServer() as second:
        routes = [Route(first.url, weight=9), Route(second.url, weight=1)]
        with SmtpPool(routes, balance="weighted", max_connections=connections) as pool:
            assert {each.status for each in pool.send_many(mails(400))} == {"accepted"}
        # Ten ahead of its share, and those under way.
        assert abs(len(second.messages) - 40) <= 10 + 2 * connections


def test_nobody_waits_for_the_share_of_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_STALLED", 0.2)
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as first, MailServer() as second:
        routes = [Route(first.url, weight=9, max_connections=1), Route(second.url, weight=1)]
        with SmtpPool(routes, balance="weighted", max_connections=3) as pool:
            held = pool.submit(mail())
            hold.wait_for()
            assert {each.status for each in pool.send_many(mails(60))} == {"accepted"}
            assert len(second.messages) == 60
            hold.go.set()
            assert held.result(LONG)


@pytest.mark.parametrize("away", ["resting", "unreachable"])
def test_what_the_others_had_meanwhile_is_not_owed_to_who_comes_back(away: str) -> None:
    """It would have everything at once, and more than it takes."""
    with MailServer() as gone:
        port = gone.port
    answers = ["452 4.7.1 no more"]
    options: Any = {"balance": "weighted", "retry": FAST}

    def verdict(event: Event) -> Any:
        return answers.pop() if event.verb == "MAIL" and answers else None

    with contextlib.ExitStack() as stack:
        if away == "resting":
            back = stack.enter_context(MailServer(port=port, verdict=verdict))
        other = stack.enter_context(MailServer())
        pool = stack.enter_context(SmtpPool([f"smtp://127.0.0.1:{port}", other.url], **options))
        for _ in range(40):
            assert isinstance(send(pool), SendResult)
        assert pool.stats().servers[0].state == away
        if away == "unreachable":
            back = stack.enter_context(MailServer(port=port))
        backoff = pool._servers[0].backoff
        backoff.passed_over_until = -math.inf
        backoff.dial_succeeded()
        pool._servers[0].is_failing = False
        for _ in range(20):
            assert isinstance(send(pool), SendResult)
        assert abs(len(back.messages) - 10) <= 1
        pool.close(0)


@pytest.mark.parametrize("way", [send, submit, send_many])
@pytest.mark.parametrize("balance", ["even", "weighted"])
@pytest.mark.parametrize(("threads", "most"), [(1, 6), (4, 6), (4, 2)])
def test_nobody_waits_for_a_server_that_takes_connections_and_says_nothing(
    balance: Any, threads: int, most: int, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the other one answers: its greeting is waited for for ten minutes here.

    It is dialled neither by each who comes, nor until there is no place left for the other one.
    """
    monkeypatch.setattr(selection, "_STALLED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, MailServer() as there:
        silence = Server("127.0.0.1", silent.getsockname()[1], connect_timeout=600.0)
        for servers in ([silence, there.url], [there.url, silence]):
            with SmtpPool(servers, balance=balance, max_connections=most) as pool:
                for _ in range(4):
                    assert in_threads(threads, lambda _: type(way(pool))) == [SendResult] * threads
                assert max(each.dialling for each in pool.stats().servers) <= min(threads, most // 2)
                pool.close(0)
        assert len(there.messages) == 8 * threads


@BALANCES
@pytest.mark.parametrize("seconds", [0.5, 600.0])
def test_calls_with_little_time_find_out_as_well_that_a_server_is_silent(
    seconds: float, balance: Any
) -> None:
    """The first may lose its time to it. In Django the timeout bounds both the call and the dial."""
    with socket.create_server(("127.0.0.1", 0)) as silent, MailServer() as there:
        silence = Server("127.0.0.1", silent.getsockname()[1], connect_timeout=seconds)
        with SmtpPool([silence, there.url], balance=balance) as pool:
            send(pool, timeout=0.5)
            sent = len(there.messages)
            for _ in range(3):
                assert isinstance(send(pool, timeout=LONG), SendResult)
            assert isinstance(submit(pool), SendResult)
            pool.close(0)
        assert len(there.messages) - sent == 4


def test_a_server_that_let_calls_with_little_time_down_has_its_mail_when_it_is_back() -> None:
    """It was slow, or away, for a moment: it is tried again, and nobody has to say so."""
    with socket.create_server(("127.0.0.1", 0)) as silent, MailServer() as there:
        port = silent.getsockname()[1]
        with SmtpPool([Server("127.0.0.1", port), there.url]) as pool:
            assert isinstance(send(pool, timeout=0.5), pysmtpx.Timeout)
            assert isinstance(send(pool, timeout=LONG), SendResult)
            silent.close()
            with MailServer(port=port) as back:
                until(lambda: isinstance(send(pool, timeout=LONG), SendResult) and len(back.messages) > 2)
                pool.close(0)


@pytest.mark.parametrize("balance", ["even", "weighted"])
def test_what_one_cannot_have_the_other_has(balance: Any) -> None:
    with MailServer() as gone:
        url = gone.url
    with MailServer() as there, SmtpPool([url, there.url], balance=balance, retry=FAST) as pool:
        assert {each.status for each in pool.send_many(mails(40))} == {"accepted"}
        assert pool.stats().servers[0].state == "unreachable"


def test_a_pool_is_made_room_in_for_a_server_that_is_owed_a_connection() -> None:
    """One that was away, while all connections were made to the other: its share of them is closed."""
    with MailServer() as gone:
        port = gone.port
    with MailServer() as there:
        routes = [Route(f"smtp://127.0.0.1:{port}"), Route(there.url)]
        options: Any = {"balance": "weighted", "max_connections": 2, "max_reconnect_delay": 0.05}
        with SmtpPool(routes, retry=RetryPolicy(backoff=0.0), **options) as pool:
            assert {each.status for each in pool.send_many(mails(40))} == {"accepted"}
            with MailServer(port=port) as back:
                until(lambda: isinstance(send(pool), SendResult) and len(back.messages) > 3)
                pool.close(0)


# -- the value ------------------------------------------------------------------------------


def test_what_a_route_says() -> None:
    route = Route("smtps://ann:s3cret@mail.example.org?weight=3&max_connections=2&rate=0.5&overlap=true")
    assert (route.weight, route.max_connections, route.rate, route.max_messages) == (3, 2, 0.5, None)
    assert route.server == Server.from_url("smtps://ann:s3cret@mail.example.org?overlap=true")
    assert "s3cret" not in repr(route)
    assert pickle.loads(pickle.dumps(route)) == copy.copy(route) == route
    assert hash(route) == hash(copy.copy(route))
    assert Route("smtp://h.example?weight=3", weight=1).weight == 1, "as with Server.from_url"
    with pytest.raises(AttributeError):
        route.weight = 4.0  # type: ignore[misc]


def test_a_route_of_a_dict() -> None:
    route = Route.of({"url": "smtps://h.example", "username": "ann", "password": "x", "weight": 2})
    assert route == Route(Server("h.example", tls="implicit", username="ann", password="x"), weight=2)
    assert Route.of({"host": "h.example", "port": 2525}).server.port == 2525
    assert Route.of(route) is route


@pytest.mark.parametrize(
    "make",
    [
        lambda: Route("h.example", weight=0),
        lambda: Route("h.example", weight=None),
        lambda: Route("h.example", weight=True),
        lambda: Route("h.example", weight=float("nan")),
        lambda: Route("h.example", max_connections=0),
        lambda: Route("h.example", max_messages=1.5),
        lambda: Route("h.example", rate=-1),
        lambda: Route("h.example", wieght=1),
        lambda: Route("smtp://h.example?weight=many-s3cret"),
        lambda: Route("smtp://h.example?weight=1&weight=1"),
        lambda: Route("smtp://h.example?max_connections=1.5"),
        lambda: Route.of({"weight": 1}),
        lambda: Route.of({"url": "smtp://h.example", "host": "h.example"}),
        lambda: Route.of({"url": "smtp://h.example", "nonsense": 1}),
        lambda: SmtpPool([]),
        lambda: SmtpPool("h.example", balance="random"),
        lambda: RetryPolicy(move_on="always"),
        lambda: RetryPolicy(quota_rest=-1),
        lambda: RetryPolicy(quota_rest=None),
    ],
)
def test_what_cannot_be_right(make: Any) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert "s3cret" not in str(caught.value)


def test_options_of_a_pool_are_for_each_server() -> None:
    pool = SmtpPool([Route("a.example", weight=2), "b.example"], local_hostname="www.example.org")
    assert {each.local_hostname for each in pool.servers} == {"www.example.org"}
    assert [each.weight for each in pool.routes] == [2, 1]
    pool.close()


def test_names_that_were_public_before_go_on() -> None:
    for name in ("priority", "even"):
        SmtpPool(["a.example", "b.example"], balance=name).close()  # type: ignore[arg-type]


def test_what_is_asked_at_once_needs_no_lock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that has one server, or is in failover, leases by the short way."""
    steps: list[Any] = []
    step = Connections._step
    monkeypatch.setattr(Connections, "_step", lambda *a, **k: (steps.append(a), step(*a, **k))[1])
    with MailServer() as first, MailServer() as second:
        for servers in ([first.url], [first.url, second.url]):
            with SmtpPool(servers, retry=ONCE) as pool:
                send(pool)
                steps.clear()
                send(pool)
                assert not steps


@pytest.mark.parametrize("options", [{"password": "x"}, {"token": "x"}, {"token": lambda: "x"}])
def test_what_is_given_beside_a_url_completes_it(options: Any) -> None:
    """A user stands in the URL, and what he logs in with does not."""
    url = "smtp://ann@127.0.0.1:2525?weight=3"
    for given in (url, [url], [url, url]):
        SmtpPool(given, **options).close()
    route = Route.of({"url": url, "rate": 2, **options})
    assert (route.weight, route.rate, route.server.username) == (3, 2, "ann")
    with pytest.raises(pysmtpx.InputError, match="without password or token"):
        SmtpPool(url)


@pytest.mark.parametrize("wrong", [5, None, b"h.example", [5], [None], {}, {"url": "smtp://h", "host": "h"}])
def test_what_is_no_server_is_said_at_once(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"a server is a|a pool needs"):
        SmtpPool(wrong)


def test_a_dict_is_one_server() -> None:
    with SmtpPool({"url": "smtp://h.example", "weight": 2}) as pool:
        assert [(each.server.host, each.weight) for each in pool.routes] == [("h.example", 2)]


def test_an_option_of_the_server_says_where_it_goes() -> None:
    with pytest.raises(InputError, match=r"password is an option of the server: Route\(Server") as caught:
        Route("smtp://mail.example.org", username="ann", password="hunter2")
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value, TypeError)
