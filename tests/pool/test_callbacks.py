"""Calls from within a callback: a thread of the pool's own, which nobody may wait for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.busy import until
from support.pools import BODY, ONCE, SENDER, Hold, mail, mails, outcome, pool_of

from pysmtpx import ConnectionLost, DeliveryUnknown, MailObject, RetryPolicy, SendResult, UsageError
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import MailServer


def in_callback(pool: SmtpPool, call: Callable[[], Any]) -> Any:
    """What a call from a callback of the pool returns, or the exception that it raises."""
    called: list[Any] = []
    done = threading.Event()

    def back(_: object) -> None:
        try:
            called.append(call())
        except Exception as error:
            called.append(error)
        done.set()

    pool.submit(mail()).add_done_callback(back)
    assert done.wait(20)
    return called[0]


def test_drain_does_not_wait_for_the_callback_that_calls_it() -> None:
    with MailServer() as server, pool_of(server) as pool:
        assert in_callback(pool, lambda: pool.drain(100)) is False
        assert pool.drain(15)


CALLS: dict[str, Callable[[SmtpPool], Any]] = {
    "send": lambda pool: pool.send(SENDER, "a@x.example", BODY),
    "send_many": lambda pool: pool.send_many(mails(1)),
    "connection": lambda pool: pool.connection().__enter__(),
}


@pytest.mark.parametrize("call", CALLS)
def test_who_would_wait_for_himself_is_told_to_submit(call: str) -> None:
    """FAULTS 97: from a callback, a hook, and content; afterwards the thread is as any other."""
    told: list[Any] = []

    def attempt(*_: Any) -> None:
        told.append(outcome(CALLS[call], pool))

    def content() -> Any:
        attempt()
        yield BODY

    def hook(event: Any) -> None:
        if event.kind == "connected":
            attempt()

    with MailServer() as server, pool_of(server, max_connections=1, on_event=hook) as pool:
        pool.send(SENDER, "a@x.example", content())
        pool.submit(mail(body=BODY)).add_done_callback(attempt)
        assert server.wait_for(2)
        assert pool.send(SENDER, "b@x.example", BODY)
        until(lambda: len(told) == 3)
        assert {type(each) for each in told} == {UsageError}
        assert all("submit" in str(each) for each in told)


def test_a_close_at_once_shuts_down_what_hangs() -> None:
    """FAULTS 93: the thread that calls it is not waited for, and neither are the others."""
    hold = Hold("FINAL", lambda event: event.connection == 0)
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2) as pool:
        hanging = pool.submit(mail())
        hold.wait_for()
        assert in_callback(pool, lambda: pool.close(0)) is None
        assert isinstance(hanging.exception(15), DeliveryUnknown)
        hold.go.set()


def test_another_pool_is_as_from_anywhere_else() -> None:
    def send_all() -> list[Any]:
        with pool_of(server) as other:
            outcomes = list(other.send_many(mails(3)))
            with SmtpPool(server.url) as third:
                futures = [third.submit(each) for each in mails(20)]
        return outcomes + [future.result(0) for future in futures]

    with MailServer() as server, pool_of(server) as pool:
        assert len(in_callback(pool, send_all)) == 23


def test_a_fork_leaves_what_is_under_way_to_the_parent() -> None:
    """FAULTS 95: neither sent by the child as well, nor told there."""
    hold = Hold("FINAL", lambda event: event.connection == event.transaction == 0)
    policy = RetryPolicy(backoff=0.0, unknown=True)
    children: list[int] = []

    def back(_: object) -> None:
        child = os.fork()
        if child:
            children.append(child)
            return
        code = 1
        try:
            signal.alarm(20)
            pool.send(SENDER, "child@x.example", BODY)
            code = 2 if any(future.done() for future in futures[1:]) or pool.stats().queued else 0
        finally:
            os._exit(code)

    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1, retry=policy) as pool:
        futures = [pool.submit(each) for each in mails(3)]
        futures[0].add_done_callback(back)
        hold.wait_for()
        hold.go.set()
        assert all(isinstance(future.result(20), SendResult) for future in futures)
        assert [os.waitpid(child, 0)[1] for child in children] == [0]
        sent = sorted(message.addresses[0] for message in server.wait_for(4))
        assert sent == ["child@x.example", "r0@x.example", "r1@x.example", "r2@x.example"]


def test_a_close_at_once_cuts_a_lease_that_hangs() -> None:
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as server, pool_of(server) as pool:
        told: list[Any] = []

        def use() -> None:
            with pool.connection() as conn:
                told.append(outcome(conn.send, SENDER, "a@x.example", BODY))

        thread = threading.Thread(target=use)
        thread.start()
        hold.wait_for()
        pool.close(0)
        thread.join(20)
        is_hanging = thread.is_alive()
        hold.go.set()
        thread.join()
        assert not is_hanging
        assert isinstance(told[0], DeliveryUnknown)


def test_leaving_the_block_leaves_a_lease_to_its_holder() -> None:
    with MailServer() as server:
        with pool_of(server) as pool, pool.connection() as conn:
            with pool:
                pass
            conn.send(SENDER, "a@x.example", BODY)
        assert len(server.messages) == 1


def test_a_call_is_served_although_a_worker_always_has_more() -> None:
    """The stream on the only connection ends for it."""
    stop = threading.Event()

    def endless() -> Any:
        while not stop.is_set():
            yield MailObject(SENDER, "w@x.example", BODY)

    with MailServer() as server, pool_of(server, max_connections=1, retry=ONCE) as pool:
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.extend(pool.send_many(endless())))
        thread.start()
        try:
            assert server.ledger.wait_until(lambda: server.ledger.count > 10, 20)
            assert pool.send(SENDER, "call@x.example", BODY, timeout=10)
        finally:
            stop.set()
            thread.join()
        assert {each.status for each in outcomes} == {"accepted"}
        assert len(server.ledger.connections) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_callbacks_that_end_their_thread_take_no_outcome_with_them() -> None:
    """FAULTS 92: SystemExit goes through everything."""

    def leave(_: object) -> None:
        raise SystemExit

    hold = Hold("MAIL")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        futures = [pool.submit(each) for each in mails(20)]
        for future in futures:
            future.add_done_callback(leave)
        hold.wait_for()
        with pytest.raises(SystemExit):
            pool.close(0)
        hold.go.set()
        told = [future.exception(15) for future in futures]
        assert sum(isinstance(each, ConnectionLost) for each in told) >= 18
