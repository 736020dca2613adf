"""A server that cannot be reached, or hangs: how soon that is told, and what goes on meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.busy import until
from support.daemon import CLOSED_PORT, free_ports
from support.patience import LONG
from support.pools import BODY, ONCE, SENDER, Hold, fates, in_threads, mails, outcome, pool_of

from pysmtpx import ConnectError, InputError, RetryPolicy, SendResult, Timeout
from pysmtpx.events import Event as PoolEvent
from pysmtpx.pool import SmtpPool
from pysmtpx.pooling import selection
from pysmtpx.pooling.connections import Connections
from pysmtpx.testing import Event, MailServer

TWICE = RetryPolicy(attempts=2, backoff=0.05)


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("way", ["send_many", "submit", "send"])
def test_a_failed_dial_counts_for_all_that_wait_for_it(way: str, connections: int) -> None:
    """Twenty messages to a closed port: as soon as one would have its tries, not one after the other."""
    url = f"smtp://127.0.0.1:{CLOSED_PORT}"
    dials: list[PoolEvent] = []
    with SmtpPool(url, max_connections=connections, retry=TWICE, on_event=dials.append) as pool:
        if way == "send_many":
            errors = [each.error for each in pool.send_many(mails(20))]
        elif way == "submit":
            errors = [future.exception(30) for future in [pool.submit(each) for each in mails(20)]]
        else:
            errors = in_threads(20, lambda n: pool.send(SENDER, f"r{n}@x.example", BODY))
        assert Counter(type(each) for each in errors) == {ConnectError: 20}
        assert len([each for each in dials if each.mail is None]) < 20, "and not one for each try of each"
        assert sorted(path for error in errors for path in fates(error)) == sorted(
            f"r{n}@x.example" for n in range(20)
        )
        assert len({id(error) for error in errors}) == 20
        assert pool.stats().unsent == 20


def test_calls_and_workers_together() -> None:
    """Whoever dials, all of them are told."""
    url = f"smtp://127.0.0.1:{CLOSED_PORT}"
    dials: list[PoolEvent] = []
    with SmtpPool(url, max_connections=2, retry=TWICE, on_event=dials.append) as pool:
        futures = [pool.submit(each) for each in mails(10)]
        errors: list[Any] = in_threads(10, lambda n: pool.send(SENDER, f"t{n}@x.example", BODY))
        errors += [future.exception(30) for future in futures]
        assert Counter(type(each) for each in errors) == {ConnectError: 20}
        assert len([each for each in dials if each.mail is None]) < 20


def test_a_server_that_comes_back_is_used_soon() -> None:
    """After the longest pause between two dials, which the caller has set."""
    (port,) = free_ports(1)
    policy = RetryPolicy(attempts=50, backoff=0.1, max_backoff=0.1)
    with SmtpPool(f"smtp://127.0.0.1:{port}", max_reconnect_delay=0.5, retry=policy) as pool:
        futures = [pool.submit(each) for each in mails(5)]
        until(lambda: pool.stats().retried >= 15)
        assert pool._servers[0].backoff.may_dial(0, 0.0) <= time.monotonic() + 0.5
        with MailServer(port=port):
            assert {type(future.result(20)) for future in futures} == {SendResult}


@pytest.mark.parametrize("value", [0, -1, None, float("inf"), float("nan"), "1", True])
def test_what_is_no_delay(value: Any) -> None:
    with pytest.raises(InputError):
        SmtpPool("smtp://127.0.0.1:1", max_reconnect_delay=value)


class _Hangs(Hold):
    """Every connection from the second one on waits for its greeting."""

    def __init__(self) -> None:
        super().__init__("CONNECT", lambda event: event.connection >= 1)


@pytest.mark.parametrize("dialler", ["send", "connection"])
def test_a_connection_that_is_free_sooner_than_the_dial(dialler: str) -> None:
    """The call takes it; the dial goes on, counts, and its connection joins the pool."""
    hold = _Hangs()
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2, retry=ONCE) as pool:
        done: list[Any] = []

        def call() -> None:
            if dialler == "send":
                done.append(outcome(pool.send, SENDER, "b@x.example", BODY, timeout=LONG))
            else:
                with pool.connection(timeout=LONG) as connection:
                    done.append(connection.noop())

        with pool.connection():
            thread = threading.Thread(target=call)
            thread.start()
            hold.wait_for()
        thread.join(20)
        assert not thread.is_alive()
        assert len(done) == 1
        now = pool.stats()
        assert (now.connections, now.dialling) == (1, 1)
        hold.go.set()
        until(lambda: pool.stats().idle == 2)
        assert len(server.ledger.connections) == 2
        assert pool.send(SENDER, "c@x.example", BODY)


def test_a_connection_that_is_free_before_the_wait_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the decision to dial, and before anybody waits for what comes of it."""
    hold = _Hangs()
    started, released = threading.Event(), threading.Event()
    begin_dial = Connections._begin_dial

    def slowly(*args: Any) -> None:
        begin_dial(*args)
        started.set()
        assert released.wait(20)

    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2, retry=ONCE) as pool:
        with pool.connection():
            monkeypatch.setattr(Connections, "_begin_dial", slowly)
            results: list[Any] = []
            thread = threading.Thread(
                target=lambda: results.append(outcome(pool.send, SENDER, "b@x.example", BODY, timeout=LONG))
            )
            thread.start()
            assert started.wait(20)
        released.set()
        thread.join(20)
        hold.go.set()
        assert [type(each) for each in results] == [SendResult]


def test_a_stream_makes_room_for_a_call_whose_dial_hangs() -> None:
    """Workers that have enough to do give one of their connections to it."""
    hold = Hold("CONNECT", lambda event: event.connection >= 1)
    more = threading.Event()

    def messages() -> Any:
        while not more.is_set():
            yield from mails(1)

    with (
        MailServer(verdict=hold, keep=False, delay=0.001) as server,
        pool_of(server, max_connections=3, retry=ONCE) as pool,
    ):
        stream = threading.Thread(target=lambda: [None for _ in pool.send_many(messages())])
        stream.start()
        hold.wait_for()
        result = outcome(pool.send, SENDER, "call@x.example", BODY, timeout=10.0)
        more.set()
        hold.go.set()
        stream.join(20)
        assert isinstance(result, SendResult)


def test_no_more_than_the_limit_while_dials_hang() -> None:
    """Calls that were served otherwise do not dial again and again beside the dial that hangs."""
    hold = _Hangs()
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=3, retry=ONCE) as pool:
        pool.send(SENDER, "a@x.example", BODY)
        for _ in range(3):
            results = in_threads(6, lambda n: pool.send(SENDER, f"r{n}@x.example", BODY, timeout=LONG))
            assert {type(each) for each in results} == {SendResult}
        assert pool.stats().connections + pool.stats().dialling <= 3
        hold.go.set()
        until(lambda: not pool.stats().dialling)
        assert len(server.ledger.connections) <= 3


def test_what_the_dial_fails_with_is_told_where_nothing_becomes_free() -> None:
    hold = Hold("CONNECT")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2, retry=ONCE) as pool:
        began = time.monotonic()
        error = outcome(pool.send, SENDER, "a@x.example", BODY, timeout=0.3)
        assert isinstance(error, Timeout | ConnectError)
        assert time.monotonic() - began < LONG
        assert not pool.stats().dialling
        hold.go.set()


def test_closing_the_pool_ends_a_dial_that_nobody_waits_for() -> None:
    hold = _Hangs()
    with MailServer(verdict=hold) as server:
        with pool_of(server, max_connections=2, retry=ONCE) as pool:
            with pool.connection():
                thread = threading.Thread(target=lambda: pool.send(SENDER, "b@x.example", BODY))
                thread.start()
                hold.wait_for()
            thread.join(20)
            began = time.monotonic()
            pool.close()
            assert time.monotonic() - began < LONG
            assert not [each for each in threading.enumerate() if each.name == "pysmtpx-dial"]
        hold.go.set()


def test_two_refused_passwords_at_once_are_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 86: logins that began together are refused together; the next probe comes no later for it."""
    monkeypatch.setattr(selection, "_TRUST", 600.0)  # a slow machine may need longer until all three dial
    together = threading.Barrier(3)
    refuse = threading.Event()
    refused: list[float] = []

    def verdict(event: Event) -> Any:
        if event.verb == "AUTH" and refuse.is_set():
            together.wait(20)
            refused.append(time.monotonic())
            return "535 5.7.8 no"
        return None

    with MailServer(users={"ann": "s3cret"}, require_auth=True, verdict=verdict, strict=False) as server:
        url = f"smtp://ann:s3cret@127.0.0.1:{server.port}?auth=PLAIN"
        with SmtpPool(url, max_connections=4, retry=ONCE) as pool, ThreadPoolExecutor(3) as threads:
            with pool.connection():
                refuse.set()  # the password was good a moment ago: several may try it at once
                sent = [threads.submit(pool.send, SENDER, "a@x.example", BODY) for _ in range(3)]
                until(lambda: len(refused) == 3 and pool.stats().dialling == 0)
                backoff = pool._servers[0].backoff
                assert 30.0 <= backoff.may_dial(0, 0.0) - min(refused) <= 45.0 + LONG / 2
                assert not any(each.done() for each in sent)
            # What was logged in before goes on.
            assert all(isinstance(each.result(LONG), SendResult) for each in sent)
