"""``send_many`` over a pool: order, back-pressure, a stream that is left early; and ``close``."""

from __future__ import annotations

import weakref
from collections import Counter
from email.message import EmailMessage
from typing import Any

import pytest
from support.patience import LONG
from support.pools import BODY, SENDER, Hold, fates, mail, mails, outcome, pool_of

from pysmtpx import ConnectionLost, DeliveryUnknown, InputError, SmtpError, UsageError
from pysmtpx.pooling import fanout
from pysmtpx.testing import Event, MailServer


def test_each_message_has_one_outcome() -> None:
    refuse = {"r7@x.example": "550 5.1.1 unknown"}
    with MailServer(refuse=refuse) as server, pool_of(server) as pool:
        sent = mails(200)
        outcomes = list(pool.send_many(iter(sent)))
        assert {id(each.mail) for each in outcomes} == {id(each) for each in sent}
        assert Counter(each.status for each in outcomes) == {"accepted": 199, "rejected": 1}
        assert len(server.messages) == 199


@pytest.mark.parametrize("in_flight", [1, 4])
def test_in_order_on_request(in_flight: int) -> None:
    with MailServer() as server, pool_of(server, in_flight=in_flight) as pool:
        sent = mails(150)
        assert [each.mail for each in pool.send_many(sent, ordered=True)] == sent


def test_in_the_order_of_completion_otherwise() -> None:
    hold = Hold("FINAL", lambda event: event.connection == 0 and event.transaction == 0)
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2) as pool:
        outcomes = pool.send_many(mails(20))
        early = [next(outcomes).mail for _ in range(10)]
        hold.go.set()
        late = [each.mail for each in outcomes]
        assert len(early) + len(late) == 20
        held = next(m for m in server.messages if (m.connection, m.transaction) == (0, 0))
        assert held.addresses[0] not in {each.recipients[0] for each in early}  # type: ignore[union-attr]


@pytest.mark.parametrize("connections", [1, 3])
def test_nobody_runs_out_of_time_behind_the_others(connections: int) -> None:
    """Of a slow server a message's time begins when it is taken from the iterable, so few are."""
    count, taken, told, most = 60 * connections, 0, 0, 0

    def messages() -> Any:
        nonlocal taken, most
        for each in mails(count):
            taken += 1
            most = max(most, taken - told)
            yield each

    with MailServer() as server, pool_of(server, max_connections=connections) as pool:
        for outcome in pool.send_many(messages(), timeout=LONG):
            assert outcome.status == "accepted"
            told += 1
    assert told == count
    assert most <= LONG / 2 * connections, "at a second for each, the last of them has half of its time left"


def test_an_endless_source_is_taken_only_as_outcomes_are() -> None:
    taken = [0]

    def endless() -> Any:
        while True:
            taken[0] += 1
            yield mail(f"r{taken[0]}@x.example")

    with MailServer(keep=False) as server, pool_of(server) as pool:
        outcomes = pool.send_many(endless())
        for count in range(1, 400):
            assert next(outcomes).status == "accepted"
            assert taken[0] - count <= 64
        outcomes.close()  # type: ignore[attr-defined]
        pool.send(SENDER, "last@x.example", BODY)


@pytest.mark.parametrize("ordered", [False, True])
def test_large_messages_are_not_all_held_at_once(ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by octets as well; and one that is larger than the bound passes alone."""
    monkeypatch.setattr(fanout, "MOST_OCTETS", 100_000)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def source() -> Any:
        nonlocal most
        for number in range(30):
            octets = 250_000 if number % 10 == 3 else 40_000
            made = EmailMessage()
            made["From"], made["To"] = SENDER, f"r{number}@x.example"
            made.set_content("x" * 70 + "\n", cte="7bit")
            made.set_payload(("x" * 70 + "\n") * (octets // 71))
            alive.add(made)
            most = max(most, len(alive))
            yield made

    with MailServer(keep=False) as server, pool_of(server, max_connections=2) as pool:
        statuses = [each.status for each in pool.send_many(source(), ordered=ordered)]
        assert statuses == ["accepted"] * 30
    assert most <= 5, "three, one that the caller has in hand, and one that is being made"


def test_what_the_source_raises_comes_after_all_outcomes() -> None:
    def source() -> Any:
        yield from mails(10)
        raise LookupError("no more rows")

    with MailServer() as server, pool_of(server) as pool:
        outcomes = pool.send_many(source())
        assert Counter(next(outcomes).status for _ in range(10)) == {"accepted": 10}
        with pytest.raises(LookupError, match="no more rows"):
            next(outcomes)


def test_left_early_what_is_queued_is_withdrawn() -> None:
    with MailServer() as server, pool_of(server, max_connections=1) as pool:
        for each in pool.send_many(mails(500)):
            assert each.status == "accepted"
            break
        pool.drain()
        assert pool.stats().queued == 0
        assert len(server.messages) < 60


@pytest.mark.parametrize("wrong", [mail(), "text", 7, b""])
def test_what_is_no_iterable_of_messages_is_refused_at_once(wrong: Any) -> None:
    with MailServer() as server, pool_of(server) as pool, pytest.raises(InputError):
        pool.send_many(wrong)


def test_close_resolves_each_future_once() -> None:
    """FAULTS 93."""
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2) as pool:
        calls: list[Any] = []
        futures = [pool.submit(each) for each in mails(10)]
        for future in futures:
            future.add_done_callback(calls.append)
        hold.wait_for(2)
        pool.close(0)
        assert Counter(type(future.exception(20)) for future in futures) == {
            DeliveryUnknown: 2,
            ConnectionLost: 8,
        }
        assert len(calls) == 10
        hold.go.set()
        with pytest.raises(UsageError):
            pool.submit(mail())
        assert pool.stats().connections == 0


def test_close_lets_what_is_under_way_end() -> None:
    """FAULTS 93."""
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        future = pool.submit(mail("a@x.example"))
        hold.wait_for()
        future.add_done_callback(lambda _: None)
        hold.go.set()
        pool.close(None)
        assert fates(future.result(0)) == {"a@x.example": "accepted"}


def test_leaving_the_block_sends_what_is_queued() -> None:
    with MailServer() as server:
        from pysmtpx import SmtpPool

        with SmtpPool(server.url) as pool:
            futures = [pool.submit(each) for each in mails(100)]
        assert all(future.done() for future in futures)
        assert len(server.messages) == 100


def test_the_rate_is_kept_over_the_whole_pool() -> None:
    """The account of messages is strict: never more than the rate allows since the first."""
    from time import monotonic

    times: list[float] = []

    def verdict(event: Event) -> None:
        if event.verb == "MAIL":
            times.append(monotonic())

    with MailServer(verdict=verdict) as server, pool_of(server, rate=50, max_connections=4) as pool:
        began = monotonic()  # the server sees each some time after it was let go, the first one too
        assert Counter(each.status for each in pool.send_many(mails(30))) == {"accepted": 30}
    assert max(times) >= began + 29 / 50


def test_what_is_told_of_a_pool() -> None:
    events: list[Any] = []
    with MailServer(refuse={"bad@x.example": "550 no"}) as server:
        with pool_of(server, on_event=events.append, max_connections=1) as pool:
            pool.send(SENDER, "a@x.example", BODY)
            assert isinstance(outcome(pool.send, SENDER, "bad@x.example", BODY), SmtpError)
            now = pool.stats()
            assert (now.accepted, now.rejected, now.connections, now.idle) == (1, 1, 1, 1)
            assert "1 of 1 connections" in repr(pool)
        kinds = [event.kind for event in events]
    assert kinds == ["connected", "sent", "refused", "closed"]
    assert all(event.seconds >= 0 for event in events)


def test_a_hook_that_raises_changes_nothing() -> None:
    """FAULTS 92."""

    def hook(event: Any) -> None:
        raise RuntimeError("the hook is broken")

    with MailServer() as server, pool_of(server, on_event=hook) as pool:
        outcomes = list(pool.send_many(mails(20)))
        assert Counter(each.status for each in outcomes) == {"accepted": 20}


def test_a_hook_may_submit() -> None:
    """FAULTS 97: nothing is called under a lock of the pool; and who would wait for himself is told so."""
    sent: list[Any] = []
    with MailServer() as server:

        def hook(event: Any) -> None:
            if event.kind == "sent" and not sent:
                sent.append(outcome(pool.send, SENDER, "hook@x.example", BODY, timeout=10))
                sent.append(pool.submit(mail("hook@x.example")))

        with pool_of(server, on_event=hook, max_connections=2) as pool:
            pool.send(SENDER, "a@x.example", BODY)
            assert {each.status for each in pool.send_many(mails(5))} == {"accepted"}
            assert isinstance(sent[0], UsageError)
            assert "submit" in str(sent[0])
            assert sent[1].result(20)
        assert len(server.messages) == 7
