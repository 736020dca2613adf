"""What a pool tries again of its own accord, and how it goes easy on a server."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from support.pools import AT_ONCE, BODY, SENDER, fates, mail, mails, outcome, pool_of

from pysmtpx import AuthenticationError, ConnectError, DeliveryUnknown, RetryPolicy, SendResult, SmtpError
from pysmtpx.testing import Cut, Event, Garbage, MailServer


def first_connections(count: int, verb: str, answer: Any) -> Any:
    """A verdict by which the first so many connections fail at a verb."""

    def verdict(event: Event) -> Any:
        return answer if event.connection < count and event.verb == verb else None

    return verdict


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("fault", [Cut(), Cut(reset=True), Garbage(b"what\r\n"), "421 4.3.2 later"])
def test_what_fails_before_the_end_of_data_is_tried_twice_more(verb: str, fault: Any) -> None:
    """FAULTS 91: by the commit rule."""
    with MailServer(verdict=first_connections(2, verb, fault), strict=False) as server:
        with pool_of(server) as pool:
            assert fates(pool.send(SENDER, ["a@x.example"], BODY)) == {"a@x.example": "accepted"}
        assert len(server.messages) == 1


def test_and_no_more_than_that() -> None:
    with MailServer(verdict=first_connections(9, "MAIL", Cut())) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example"], BODY)
        assert isinstance(error, SmtpError)
        assert fates(error) == {"a@x.example": "unsent"}
        assert len(server.ledger.connections) == 3


def test_what_is_in_doubt_is_not_sent_again() -> None:
    with MailServer(verdict=first_connections(9, "FINAL", Cut())) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example"], BODY)
        assert isinstance(error, DeliveryUnknown)
        assert fates(error) == {"a@x.example": "unknown"}
        assert len(server.ledger.connections) == 1


def test_unless_that_is_asked_for() -> None:
    policy = RetryPolicy(backoff=0.0, unknown=True)
    verdict = first_connections(1, "FINAL", Cut())
    with MailServer(verdict=verdict) as server, pool_of(server, retry=policy) as pool:
        assert fates(pool.send(SENDER, ["a@x.example"], BODY)) == {"a@x.example": "accepted"}


def greylisting(event: Event) -> Any:
    """Refuses one recipient twice, for now."""
    seen = event.connection, event.transaction
    if event.verb == "RCPT" and event.address == "grey@x.example":
        _seen.append(seen)
        return "451 4.7.1 greylisted" if len(_seen) < 3 else None
    return None


_seen: list[Any] = []


@pytest.mark.parametrize("temporary", [False, True])
def test_those_refused_for_now_are_tried_again_only_where_asked(temporary: bool) -> None:
    """Whoever has the message is never sent it again."""
    _seen.clear()
    policy = RetryPolicy(backoff=0.0, temporary=temporary)
    with MailServer(verdict=greylisting) as server, pool_of(server, retry=policy) as pool:
        result = pool.send(SENDER, ["a@x.example", "grey@x.example"], BODY)
        assert fates(result) == {
            "a@x.example": "accepted",
            "grey@x.example": "accepted" if temporary else "rejected 451",
        }
        delivered = Counter(path for message in server.messages for path in message.delivered)
        assert delivered == {"a@x.example": 1} | ({"grey@x.example": 1} if temporary else {})


def test_a_connection_that_died_unseen_costs_no_try() -> None:
    """FAULTS 87: the first command on a reused connection fails; once more, silently, on a fresh one."""

    def verdict(event: Event) -> Any:
        return Cut() if event.verb == "MAIL" and event.connection == 0 and event.transaction == 1 else None

    once = RetryPolicy(attempts=1)
    with MailServer(verdict=verdict) as server, pool_of(server, retry=once, max_connections=1) as pool:
        pool.send(SENDER, ["a@x.example"], BODY)
        pool.send(SENDER, ["b@x.example"], BODY)
        assert [message.addresses[0] for message in server.messages] == ["a@x.example", "b@x.example"]
        assert pool.stats().retried == 0


def test_one_refused_password_stops_every_worker() -> None:
    """FAULTS 86: no storm of attempts that locks the account."""
    with MailServer(users={"ann": "right"}, mechanisms=["PLAIN"]) as server:
        options = {"username": "ann", "password": "wrong", "insecure_auth": True, "max_connections": 8}
        with pool_of(server, **options) as pool:
            outcomes = list(pool.send_many(mails(60)))
            assert {type(each.error) for each in outcomes} == {AuthenticationError}
            assert all(each.status == "unsent" and each.unsent_recipients for each in outcomes)
            again = outcome(pool.send, SENDER, ["a@x.example"], BODY)
            assert isinstance(again, AuthenticationError)
        assert sum(commands.count("AUTH") for commands in server.ledger.commands) == 1
        assert "wrong" not in repr([each.error for each in outcomes]) + repr(pool)


def test_a_server_that_is_down_is_passed_over() -> None:
    with MailServer() as down:
        url = down.url
    with MailServer() as up:
        from pysmtpx import SmtpPool

        with SmtpPool([url, up.url], retry=AT_ONCE) as pool:
            assert {each.status for each in pool.send_many(mails(20))} == {"accepted"}
        assert len(up.messages) == 20


def test_a_server_that_refuses_connections_says_so() -> None:
    with MailServer() as down:
        url = down.url
    from pysmtpx import SmtpPool

    with SmtpPool(url, retry=AT_ONCE) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example"], BODY)
        assert isinstance(error, ConnectError)
        assert fates(error) == {"a@x.example": "unsent"}


def test_two_servers_share_evenly() -> None:
    with MailServer(delay=0.001) as one, MailServer(delay=0.001) as two:
        with pool_of(one, two, balance="even", max_connections=4) as pool:
            assert {each.status for each in pool.send_many(mails(100))} == {"accepted"}
        assert len(one.ledger.connections) == len(two.ledger.connections) == 2


def test_a_pool_slows_down_and_shrinks_and_loses_nothing() -> None:
    """FAULTS 90, 91: every third session is refused for the load."""
    lock = threading.Lock()
    seen = [0]

    def verdict(event: Event) -> Any:
        if event.verb != "MAIL":
            return None
        with lock:
            seen[0] += 1
            return "421 4.3.2 too busy" if seen[0] % 7 == 0 else None

    policy = RetryPolicy(backoff=0.0, attempts=10)
    with MailServer(verdict=verdict) as server, pool_of(server, retry=policy) as pool:
        outcomes = list(pool.send_many(mails(60)))
        assert Counter(each.status for each in outcomes) == {"accepted": 60}
        assert len({each.mail.recipients for each in outcomes}) == 60  # type: ignore[union-attr]
        assert len(server.messages) == 60


def test_recipients_beyond_the_limit_are_in_one_result() -> None:
    """FAULTS 22."""
    extensions = ["PIPELINING", "LIMITS RCPTMAX=2"]
    with MailServer(extensions=extensions) as server, pool_of(server) as pool:
        result = pool.send(SENDER, [f"r{number}@x.example" for number in range(5)], BODY)
        assert isinstance(result, SendResult)
        assert len(result.accepted_recipients) == 5
        assert len(server.messages) == 3
        assert pool.submit(mail(*[f"s{number}@x.example" for number in range(5)])).result(10).reply
