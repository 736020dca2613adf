"""What a server takes on one connection, in a pool: the rest goes over another one (RFC 9422 4.1, 4.3)."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from typing import Any

import pytest
from support.patience import ENOUGH, LONG
from support.pools import BODY, SENDER, Hold, fates, in_threads, mail, outcome, pool_of

from pysmtpx import (
    MailObject,
    NotSupportedError,
    RetryPolicy,
    Route,
    SendResult,
    SessionLimitReached,
    SmtpError,
    SmtpPool,
    Timeout,
)
from pysmtpx.pooling.ratelimit import RateLimit
from pysmtpx.testing import EXTENSIONS, Event, MailServer


def extensions(limits: str) -> list[str]:
    return [*EXTENSIONS, f"LIMITS {limits}"]


class Counting:
    """What a server does that counts: 452 for a domain too many, and 421 for a MAIL too many."""

    def __init__(self, mails: int = 10**9, domains: int = 10**9) -> None:
        self._mails, self._domains = mails, domains
        self._begun: defaultdict[int, int] = defaultdict(int)
        self._seen: defaultdict[int, set[str]] = defaultdict(set)
        self.refused = 0

    def __call__(self, event: Event) -> str | None:
        if event.verb == "MAIL":
            self._begun[event.connection] += 1
            if self._begun[event.connection] > self._mails:
                self.refused += 1
                return "421 4.7.0 enough"
        if event.verb == "RCPT":
            self._seen[event.connection].add(event.address.rpartition("@")[2].lower())
            if len(self._seen[event.connection]) > self._domains:
                self.refused += 1
                return "452 4.5.3 too many domains"
        return None


class Most:
    """A verdict that looks at each RCPT how many connections the pool has."""

    def __init__(self, inner: Any = None) -> None:
        self.pool: SmtpPool | None = None
        self.highest = 0
        self._inner = inner

    def __call__(self, event: Event) -> Any:
        if event.verb == "RCPT" and self.pool is not None:
            self.highest = max(self.highest, self.pool.stats().connections)
        return None if self._inner is None else self._inner(event)


def some_mails(count: int, domains: int, seed: int) -> list[MailObject]:
    chance = random.Random(seed)
    return [
        mail(
            *{
                f"r{chance.randrange(5)}@d{chance.randrange(domains)}.example"
                for _ in range(chance.randrange(1, 5))
            }
        )
        for _ in range(count)
    ]


def delivered(server: MailServer) -> list[str]:
    return sorted(path for message in server.messages for path in message.delivered)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize(
    "limits",
    ["RCPTDOMAINMAX=1", "RCPTDOMAINMAX=2 RCPTMAX=1", "MAILMAX=2 RCPTDOMAINMAX=3", "MAILMAX=1 RCPTMAX=2"],
)
@pytest.mark.parametrize(("in_flight", "overlap"), [(1, False), (1, True), (4, False)])
@pytest.mark.parametrize("size", [1, 4])
def test_everybody_has_it_once_and_no_limit_is_passed(
    size: int, in_flight: int, overlap: bool, limits: str, protocol: str
) -> None:
    stated = dict(word.split("=") for word in limits.split())
    counting = Counting(int(stated.get("MAILMAX", 10**9)), int(stated.get("RCPTDOMAINMAX", 10**9)))
    most = Most(counting)
    server = MailServer(extensions=extensions(limits), verdict=most, protocol=protocol)
    sent = some_mails(24, 4, size)
    with server:
        pool = SmtpPool(
            f"{server.url}{'&' if '?' in server.url else '?'}overlap={str(overlap).lower()}",
            max_connections=size,
            in_flight=in_flight,
            retry=RetryPolicy(attempts=1),
        )
        most.pool = pool
        with pool:
            outcomes = list(pool.send_many(sent))
            stats = pool.stats()
    assert [each.status for each in outcomes] == ["accepted"] * 24
    assert not any(each.error for each in outcomes)
    assert delivered(server) == sorted(path for each in sent for path in each.recipients)
    assert counting.refused == 0
    assert most.highest <= size
    assert stats.retried == 0
    server.ledger.assert_clean()


@pytest.mark.parametrize("size", [1, 4])
def test_a_thousand_domains_by_a_connection_each(size: int) -> None:
    """Never more at a time than the pool may have."""
    most = Most()
    server = MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=most)
    sent = [mail(f"r@d{number}.example") for number in range(1000 if size > 1 else 100)]
    with server, pool_of(server, max_connections=size) as pool:
        most.pool = pool
        assert {each.status for each in pool.send_many(sent)} == {"accepted"}
    assert len(server.messages) == len(sent)
    assert (
        0 <= len(server.ledger.connections) - len(sent) <= size
    )  # a dial when another took the last message
    assert most.highest <= size


@pytest.mark.parametrize("by", ["send", "submit"])
def test_one_message_to_fifty_domains(by: str) -> None:
    """No try is charged for it: with each connection there are fewer left."""
    paths = [f"r@d{number}.example" for number in range(50)]
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server,
        pool_of(server, max_connections=2, retry=RetryPolicy(attempts=1)) as pool,
    ):
        result = pool.send(SENDER, paths, BODY) if by == "send" else pool.submit(mail(*paths)).result(LONG)
        assert result.accepted_recipients == tuple(paths)
        assert len(result.replies) == 50
        assert len(server.ledger.connections) == 50
        assert pool.stats().accepted == 1
        assert pool.stats().retried == 0


@pytest.mark.parametrize("by", ["send", "submit", "send_many"])
def test_a_connection_whose_domains_fit_is_taken_first(by: str) -> None:
    sent = [mail(f"r@d{number % 2}.example") for number in range(20)]
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server,
        pool_of(server, max_connections=2) as pool,
    ):
        for each in sent:
            if by == "send":
                pool.send(each.sender, each.recipients, each.content)
            elif by == "submit":
                pool.submit(each).result(LONG)
            else:
                assert [outcome.status for outcome in pool.send_many([each])] == ["accepted"]
        assert len(server.ledger.connections) == 2


def test_an_idle_connection_makes_room_for_other_domains() -> None:
    """By any balance of the pool; the one that was idle for longest goes."""
    for balance in ("failover", "even", "weighted"):
        with (
            MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server,
            MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as other,
            pool_of(server, other, max_connections=2, balance=balance) as pool,
        ):
            for number in range(12):
                assert pool.send(SENDER, f"r@d{number}.example", BODY)
            assert pool.stats().connections <= 2


@pytest.mark.parametrize("by", ["send", "submit", "submit with a rate"])
@pytest.mark.parametrize("options", [{"all_or_nothing": True}, {}])
def test_what_no_session_takes_is_told_at_once_and_stands_in_nobodys_way(by: str, options: Any) -> None:
    """More domains than the server takes on any connection, and they must go together: there is no way."""
    paths = ["a@x.example", "a@y.example"]
    rate = {"rate": 1000} if by == "submit with a rate" else {}
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server,
        pool_of(server, max_connections=2, **rate) as pool,
    ):
        pool.send(SENDER, ["a@z.example"], BODY)
        content: Any = BODY if options else iter([BODY])
        if by == "send":
            refusal = outcome(pool.send, SENDER, paths, content, **options)
        else:
            futures = [
                pool.submit(MailObject(SENDER, paths, content), **options),
                pool.submit(mail("b@z.example")),
            ]
            assert futures[1].result(LONG).accepted_recipients == ("b@z.example",)
            refusal = futures[0].exception(LONG)
        assert isinstance(refusal, NotSupportedError)
        assert refusal.unsent_recipients == tuple(paths)
        assert len(server.ledger.connections) <= 3


@pytest.mark.parametrize("by", ["send", "submit"])
@pytest.mark.parametrize("options", [{"all_or_nothing": True}, {}])
def test_what_must_go_together_waits_for_a_connection_with_room_for_all(by: str, options: Any) -> None:
    paths = ["a@x.example", "a@y.example"]
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=2")) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        pool.send(SENDER, ["a@z.example"], BODY)
        content: Any = BODY if options else iter([BODY])
        if by == "send":
            result = pool.send(SENDER, paths, content, **options)
        else:
            result = pool.submit(MailObject(SENDER, paths, content), **options).result(LONG)
        assert result.accepted_recipients == tuple(paths)
        assert [message.connection for message in server.messages] == [0, 1]


@pytest.mark.parametrize("by", ["send", "submit"])
@pytest.mark.parametrize("temporary", [False, True])
def test_who_is_refused_for_now_does_not_stand_in_the_way_of_the_rest(by: str, temporary: bool) -> None:
    """The first domain is always refused for now: it would be the first on each new connection."""
    verdict = lambda event: "450 4.2.1 later" if event.verb == "RCPT" and event.address[0] == "a" else None  # noqa: E731
    paths = ["a@x.example", "b@y.example", "c@z.example"]
    retry = RetryPolicy(attempts=3, backoff=0.0, temporary=temporary)
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=verdict) as server,
        pool_of(server, max_connections=1, retry=retry) as pool,
    ):
        result = pool.send(SENDER, paths, BODY) if by == "send" else pool.submit(mail(*paths)).result(LONG)
        assert fates(result) == dict(zip(paths, ["rejected 450", "accepted", "accepted"], strict=True))
        assert server.ledger.commands[0].count("RCPT") == 1
        asked = sum(commands.count("RCPT") for commands in server.ledger.commands)
        assert asked == (5 if temporary else 3)


@pytest.mark.parametrize("by", ["send", "submit"])
def test_its_time_ends_it_between_two_parts(by: str) -> None:
    """Those who have it have it, and the rest is unsent."""
    hold, paths = Hold("CONNECT", when=lambda event: event.connection == 1), ["a@x.example", "a@y.example"]
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=hold) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        try:
            if by == "send":
                error = outcome(pool.send, SENDER, paths, BODY, timeout=ENOUGH)
            else:
                error = pool.submit(mail(*paths), timeout=ENOUGH).exception(LONG)
        finally:
            hold.go.set()
        assert isinstance(error, Timeout | SessionLimitReached)
        assert fates(error) == {"a@x.example": "accepted", "a@y.example": "unsent"}


def test_a_closed_pool_tells_of_the_parts_that_were_sent() -> None:
    hold = Hold("CONNECT", when=lambda event: event.connection == 1)
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=hold) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        future = pool.submit(mail("a@x.example", "a@y.example"))
        hold.wait_for()
        pool.close(0)
        assert fates(future.exception(LONG)) == {"a@x.example": "accepted", "a@y.example": "unsent"}
        hold.go.set()


def test_calls_and_workers_at_once() -> None:
    most = Most()
    server = MailServer(extensions=extensions("RCPTDOMAINMAX=1 MAILMAX=5"), verdict=most)
    with server, pool_of(server, max_connections=3) as pool:
        most.pool = pool
        futures = [pool.submit(each) for each in some_mails(60, 5, 1)]
        results = in_threads(6, lambda n: [pool.send(SENDER, f"t@d{n}.example", BODY) for _ in range(10)])
        assert all(isinstance(result, list) for result in results), results
        assert all(isinstance(future.result(LONG), SendResult) for future in futures)
    assert most.highest <= 3
    server.ledger.assert_clean()


def test_a_leased_connection_has_room_for_any_domain() -> None:
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        pool.send(SENDER, "a@x.example", BODY)
        with pool.connection() as conn:
            conn.send(SENDER, "a@y.example", BODY)
            with pytest.raises(SessionLimitReached):
                conn.send(SENDER, "a@z.example", BODY)
        assert [message.connection for message in server.messages] == [0, 1]


class Spent:
    """The messages and recipients that were taken out of each limit on rates."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: defaultdict[int, list[int]] = defaultdict(list)
        self._lock = threading.Lock()
        reserve, add, withdraw = RateLimit._reserve_locked, RateLimit.add, RateLimit.withdraw

        def reserved(limit: RateLimit, recipients: int) -> float:
            self.costs[id(limit)].append(recipients)
            return reserve(limit, recipients)

        def added(limit: RateLimit, recipients: int, moment: float) -> None:
            self.costs[id(limit)][-1] += recipients
            add(limit, recipients, moment)

        def withdrawn(limit: RateLimit, moment: float) -> None:
            self.costs[id(limit)].pop()
            withdraw(limit, moment)

        monkeypatch.setattr(RateLimit, "withdraw", withdrawn)
        monkeypatch.setattr(RateLimit, "_reserve_locked", reserved)
        monkeypatch.setattr(RateLimit, "add", added)


@pytest.mark.parametrize("by", ["send", "submit"])
@pytest.mark.parametrize("of", ["pool", "route"])
def test_each_part_counts_for_the_rate_and_each_recipient_once(
    by: str, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = Spent(monkeypatch)
    rates = {"rate": 1e6, "recipient_rate": 1e6}
    with MailServer(extensions=extensions("RCPTDOMAINMAX=1")) as server:
        route = Route(server.url, **(rates if of == "route" else {}))
        with SmtpPool(route, max_connections=1, **(rates if of == "pool" else {})) as pool:
            paths = ["a@x.example", "b@x.example", "a@y.example", "a@z.example"]
            if by == "send":
                pool.send(SENDER, paths, BODY)
            else:
                pool.submit(mail(*paths)).result(LONG)
    ((*costs,),) = spent.costs.values()
    assert len(costs) == 3
    assert sum(costs) == 4
    assert len(server.messages) == 3


def test_what_was_refused_counts_as_well() -> None:
    """A refused RCPT has had its domain, and a refused MAIL was one."""
    verdict = lambda event: "550 no" if event.verb == "RCPT" and event.address[0] == "n" else None  # noqa: E731
    with (
        MailServer(extensions=extensions("RCPTDOMAINMAX=1 MAILMAX=2"), verdict=verdict) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        outcome(pool.send, SENDER, "no@x.example", BODY)
        pool.send(SENDER, "a@y.example", BODY)
        outcome(pool.send, SENDER, "no@y.example", BODY)
        pool.send(SENDER, "b@y.example", BODY)
        assert [message.connection for message in server.messages] == [1, 2]
    server.ledger.assert_clean()


class Raising(RetryPolicy):
    """Raises where it is asked, also what ``retryable`` cannot: that is caught where it is called."""

    def allows(self, error: SmtpError) -> bool:
        raise RuntimeError("a bug")


def leave(_: object) -> bool:
    raise SystemExit


def later(event: Event) -> str | None:
    """For everybody whose name begins so."""
    return "450 4.2.0 later" if event.verb == "RCPT" and event.address.startswith("n") else None


THREE = ("a@x.example", "n@x.example", "b@y.example")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_policy_that_ends_its_thread_within_a_part_takes_no_message_with_it() -> None:
    """FAULTS 92: it ends with what is known, and nobody waits for ever."""
    policy = RetryPolicy(temporary=True, backoff=0.0, retryable=leave)
    with MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=later) as server:
        with pool_of(server, max_connections=1, retry=policy) as pool:
            (told,) = pool.send_many([mail(*THREE)], timeout=LONG)
            error = pool.submit(mail(*THREE)).exception(LONG)
            assert isinstance(pool.submit(mail("c@x.example")).result(LONG), SendResult)
            assert pool.drain(LONG)
        assert delivered(server) == ["a@x.example", "a@x.example", "c@x.example"]
    for each in (told.error, error):
        assert isinstance(each, SessionLimitReached)
        assert fates(each) == dict(zip(THREE, ("accepted", "rejected 450", "unsent"), strict=True))


def test_a_policy_that_ends_its_thread_within_a_part_of_a_call() -> None:
    """FAULTS 92: the place of the call is free again."""
    policy = RetryPolicy(temporary=True, backoff=0.0, retryable=leave)
    with MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=later) as server:
        with pool_of(server, max_connections=1, retry=policy) as pool:
            with pytest.raises(SystemExit):
                pool.send(SENDER, THREE, BODY)
            assert isinstance(pool.send(SENDER, "c@x.example", BODY, timeout=LONG), SendResult)
        assert delivered(server) == ["a@x.example", "c@x.example"]


@pytest.mark.parametrize("way", ["send", "submit"])
def test_a_bug_where_a_part_is_weighed_stops_none_of_the_others(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS 92."""
    policy = Raising(temporary=True, backoff=0.0)
    with MailServer(extensions=extensions("RCPTDOMAINMAX=1"), verdict=later) as server:
        with pool_of(server, max_connections=1, retry=policy) as pool:
            sent = mail(*THREE)
            told = pool.send_message(sent) if way == "send" else pool.submit(sent).result(LONG)
        assert delivered(server) == ["a@x.example", "b@y.example"]
    assert fates(told) == dict(zip(THREE, ("accepted", "rejected 450", "accepted"), strict=True))
    assert [record.message for record in caplog.records if record.exc_info] == [
        "the outcome of a message could not be weighed; it stands as it is"
    ]
