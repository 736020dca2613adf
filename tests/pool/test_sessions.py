"""Connections that work no more, for a reason that no message has: a number of messages, or a rest."""

from __future__ import annotations

import email.message
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.pools import BODY, ONCE, SENDER, fates, mails, outcome, pool_of

from pysmtpx import SendResult, SmtpError
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import Cut, Event, MailServer

pytestmark = pytest.mark.slow

COUNT, LIMIT = 300, 100
SAYINGS = ("452 4.5.3 too many messages", "450 4.4.5 enough", "451 later", "450 no more", "503 no")


def refuses_from(number: int, verb: str, answer: Any) -> Callable[[Event], Any]:
    """A server that refuses every message from this one of a connection on, at a verb, and stays open."""

    def verdict(event: Event) -> Any:
        is_over = event.transaction >= number
        return answer if event.verb == verb and is_over else None

    return verdict


def _letter(number: int) -> email.message.EmailMessage:
    letter = email.message.EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = SENDER, f"r{number}@x.example", "x"
    letter.set_content("hello\n")
    return letter


def by_send(pool: SmtpPool, count: int) -> list[Any]:
    return [outcome(pool.send, SENDER, f"r{n}@x.example", BODY) for n in range(count)]


def by_send_message(pool: SmtpPool, count: int) -> list[Any]:
    return [outcome(pool.send_message, _letter(n)) for n in range(count)]


def by_submit(pool: SmtpPool, count: int) -> list[Any]:
    futures = [pool.submit(each) for each in mails(count)]
    return [outcome(future.result, 60) for future in futures]


def by_send_many(pool: SmtpPool, count: int) -> list[Any]:
    outcomes: Iterator[Any] = pool.send_many(mails(count))
    return [each.result or each.error for each in outcomes]


WAYS = (by_send, by_send_message, by_submit, by_send_many)


def assert_all_arrived_once(server: MailServer, outcomes: list[Any], count: int = COUNT) -> None:
    assert Counter(type(each).__name__ for each in outcomes) == {"SendResult": count}
    paths = Counter(path for message in server.messages for path in message.delivered)
    assert paths == Counter(f"r{n}@x.example" for n in range(count))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "FINAL"])
@pytest.mark.parametrize("answer", SAYINGS)
def test_a_session_that_only_refuses_is_retired(way: Any, verb: str, answer: str) -> None:
    """FAULTS 113: one more on a new connection, no try charged, and the number is learnt."""
    with (
        MailServer(verdict=refuses_from(10, verb, answer), strict=False) as server,
        pool_of(server, max_connections=1, retry=ONCE) as pool,
    ):
        assert_all_arrived_once(server, way(pool, 60), 60)
        assert len(server.ledger.connections) == 6
        assert pool.stats().retried == 0
        assert pool._servers[0].backoff.cap == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("answer", ["452 4.5.3 too many messages", "421 too many messages", Cut()])
def test_three_hundred_messages_where_a_hundred_are_allowed(way: Any, connections: int, answer: Any) -> None:
    """FAULTS 113, as OpenSMTPD and Exim (421) say it: nobody is charged a try, the pool keeps its size."""
    with (
        MailServer(verdict=refuses_from(LIMIT, "MAIL", answer), strict=False) as server,
        pool_of(server, max_connections=connections, retry=ONCE) as pool,
    ):
        assert_all_arrived_once(server, way(pool, COUNT))
        assert pool.stats().retried == 0
        assert pool._servers[0].backoff.cap == connections


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize("answer", [*SAYINGS[:4], "421 too many"])  # 503 to MAIL: out of step, hence in doubt
@pytest.mark.parametrize("connections", [1, 3])
def test_in_flight(verb: str, answer: str, connections: int) -> None:
    """FAULTS 113: of what was written behind the limit nobody is told that it was refused."""
    options: dict[str, Any] = {"max_connections": connections, "retry": ONCE, "in_flight": 8}
    with (
        MailServer(verdict=refuses_from(20, verb, answer), strict=False) as server,
        pool_of(server, **options) as pool,
    ):
        assert_all_arrived_once(server, by_send_many(pool, 150), 150)
        assert pool.stats().retried == 0


def test_the_number_is_learnt() -> None:
    """FAULTS 113: later connections are retired before; now and then one tries whether it still holds."""
    seen: list[int] = []

    def verdict(event: Event) -> Any:
        if event.verb != "MAIL" or event.transaction < 5:
            return None
        seen.append(event.connection)
        return "452 4.5.3 too many messages"

    with MailServer(verdict=verdict) as server, pool_of(server, max_connections=1, retry=ONCE) as pool:
        assert_all_arrived_once(server, by_send_many(pool, 45), 45)
        assert set(seen) == {0}
        assert len(server.ledger.connections) == 9
        assert_all_arrived_once_more(pool, 45)
        assert len(set(seen)) == 2


def assert_all_arrived_once_more(pool: SmtpPool, count: int) -> None:
    assert {type(each) for each in by_send_many(pool, count)} == {SendResult}


def test_a_number_that_holds_no_more_is_forgotten() -> None:
    numbers = itertools.count()

    def verdict(event: Event) -> Any:
        if event.verb == "MAIL" and next(numbers) == 2:
            return "451 4.3.0 a bad moment"
        return None

    with MailServer(verdict=verdict) as server, pool_of(server, max_connections=1, retry=ONCE) as pool:
        assert {type(each) for each in by_send_many(pool, 100)} == {SendResult}
        # One of two messages, the one that shows the number, eight more, and the one that goes on for ever.
        assert len(server.ledger.connections) <= 11


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "FINAL"])
@pytest.mark.parametrize("answer", SAYINGS)
def test_what_a_new_connection_refuses_too_is_about_the_message(way: Any, verb: str, answer: str) -> None:
    """FAULTS 113 must not loop: tried twice at the server, one refusal told; no second time for another."""
    seen: list[int] = []
    bad = {"r5@x.example", "r30@x.example"}
    current: dict[int, str] = {}

    def verdict(event: Event) -> Any:
        if event.verb == verb and (verb == "MAIL" or event.verb == "RCPT"):
            address = event.address
        else:
            address = current.get(event.connection, "")
        if event.verb == "RCPT":
            current[event.connection] = address = event.address
        if event.verb == verb and (address in bad or (verb == "MAIL" and event.address == "bad@x.example")):
            seen.append(event.connection)
            return answer
        return None

    if verb == "MAIL":
        bad = {"bad@x.example"}
    with MailServer(verdict=verdict) as server, pool_of(server, max_connections=1, retry=ONCE) as pool:
        if verb == "MAIL":
            by_send(pool, 3)
            for _ in range(3):
                error = outcome(pool.send, "bad@x.example", "b@x.example", BODY)
                assert fates(error) == {"b@x.example": f"rejected {answer[:3]}"}
                assert isinstance(pool.send(SENDER, "a@x.example", BODY), SendResult)
            assert seen == [0, 1, 1, 1]
            return
        results = way(pool, 40)
        refused = [path for each in results if isinstance(each, SmtpError) for path in fates(each)]
        assert sorted(refused) == sorted(bad)
        assert seen == [0, 1, 1]
        assert len(server.ledger.connections) == 2


IDLE_ENDS = (
    "451 4.4.2 timeout exceeded",
    "421 4.4.2 idle",
    "421 bye",
    "500 what",
    "500 5.5.2 what",
    "221 bye",
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", IDLE_ENDS)
@pytest.mark.parametrize("then", ["close", "stay"])
def test_a_session_that_had_ended_while_it_was_idle(way: Any, answer: str, then: str) -> None:
    """FAULTS 114: in answer to the first MAIL; the message goes on a new connection and has all its tries."""
    if then == "stay" and answer.startswith("221"):
        return  # it closes by definition
    ended = threading.Event()

    def verdict(event: Event) -> Any:
        if event.verb == "MAIL" and ended.is_set() and event.connection < 3:
            return answer if then == "stay" else Cut(after=None, reply=answer)
        return None

    with (
        MailServer(verdict=verdict, strict=False) as server,
        pool_of(server, max_connections=3, retry=ONCE) as pool,
    ):
        held = [pool.connection() for _ in range(3)]
        for lease in held:
            lease.__enter__()
        for lease in held:
            lease.__exit__(None, None, None)
        assert pool.stats().idle == 3
        ended.set()
        assert_all_arrived_once(server, way(pool, 5), 5)
        assert pool.stats().retried == 0
        assert pool._servers[0].backoff.cap == 3
        assert pool._servers[0].message_limit == float("inf")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "said", [b"421 4.4.2 idle\r\n", b"221 bye\r\n", b"451 4.4.2 timeout\r\n", b"500 what\r\n"]
)
def test_what_an_idle_session_is_told_unasked(way: Any, said: bytes) -> None:
    """FAULTS 114: said before the next MAIL."""

    def verdict(event: Event) -> Any:
        if event.verb == "FINAL" and event.connection == 0:
            return Cut(after=None, reply=b"250 ok\r\n" + said)
        return None

    with (
        MailServer(verdict=verdict, strict=False) as server,
        pool_of(server, max_connections=1, retry=ONCE) as pool,
    ):
        outcome(pool.send, SENDER, "first@x.example", BODY)
        results = way(pool, 3)
        assert {type(each) for each in results} == {SendResult}
        assert pool.stats().retried == 0


GREYLISTED = ("450 4.7.1 greylisted", "451 4.7.1 greylisted", "450 4.2.0 greylisted", "451 try later")


@pytest.mark.parametrize("answer", GREYLISTED)
@pytest.mark.parametrize("verb", ["RCPT", "FINAL"])
def test_greylisting_is_about_the_recipient(answer: str, verb: str) -> None:
    """One in ten is put off, for all of its recipients or for its content: the pool keeps its connections."""
    if verb == "FINAL" and "4.7.1" not in answer:
        return
    putting_off = {f"r{n}@x.example" for n in range(0, 200, 10)}
    current: dict[tuple[int, int], str] = {}

    def verdict(event: Event) -> Any:
        if event.verb == "RCPT":
            current[event.connection, event.transaction] = event.address
        address = current.get((event.connection, event.transaction))
        return answer if event.verb == verb and address in putting_off else None

    with MailServer(verdict=verdict) as server, pool_of(server, max_connections=8, retry=ONCE) as pool:
        statuses = Counter(each.status for each in pool.send_many(mails(200)))
        assert statuses == {"accepted": 180, "rejected": 20}
        assert pool._servers[0].backoff.cap == 8
        # One in doubt for each connection at most is tried on a new one, and then it is known.
        assert len(server.ledger.connections) <= 16


@pytest.mark.parametrize(
    "answer", ["450 4.7.1 who are you", "451 4.7.1 slow", "432 4.3.2 busy", "451 4.5.3 too many"]
)
def test_what_is_said_of_us_at_mail_shrinks_the_pool(answer: str) -> None:
    with (
        MailServer(replies={"MAIL": answer}) as server,
        pool_of(server, max_connections=4, retry=ONCE) as pool,
    ):
        assert Counter(each.status for each in pool.send_many(mails(8))) == {"rejected": 8}
        assert pool._servers[0].backoff.cap < 4
