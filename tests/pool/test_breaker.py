"""One refused password, and several servers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.busy import until
from support.patience import LONG
from support.pools import BODY, ONCE, SENDER, Hold, fates, in_threads, mails, outcome, pool_of

from pysmtpx import AuthenticationError, RetryPolicy, SendResult, Server
from pysmtpx.pool import SmtpPool
from pysmtpx.pooling import backoff, selection
from pysmtpx.testing import Event, MailServer


def with_password(server: MailServer, password: str) -> Server:
    return Server(server.host, server.port, username="ann", password=password)


@pytest.fixture(autouse=True)
def _is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may take nothing for a second here, for want of a processor."""
    monkeypatch.setattr(selection, "_STALLED", 600.0)


def tried(server: MailServer) -> int:
    """Connections on which a password was tried."""
    return sum("AUTH" in commands for commands in server.ledger.commands)


def test_a_refused_password_is_tried_once() -> None:
    """FAULTS 86: however many workers and callers there are, and nobody waits for it."""
    with MailServer(users={"ann": "s3cret"}, require_auth=True) as server:
        with SmtpPool(with_password(server, "wrong"), max_connections=8) as pool:
            futures = [pool.submit(each) for each in mails(30)]
            called = in_threads(4, lambda n: pool.send(SENDER, f"t{n}@x.example", BODY))
            errors = [future.exception(20) for future in futures] + called
            assert {type(error) for error in errors} == {AuthenticationError}
            assert fates(errors[7]) == {"r7@x.example": "unsent"}
            later = outcome(pool.send, SENDER, "a@x.example", BODY)
            assert type(later) is AuthenticationError
            assert {each.status for each in pool.send_many(mails(100))} == {"unsent"}
            assert "wrong" not in repr(errors) + repr(pool) + repr(later)
        assert tried(server) == 1


def test_the_first_password_goes_ahead_and_the_others_follow() -> None:
    with (
        MailServer(users={"ann": "s3cret"}, require_auth=True) as server,
        SmtpPool(with_password(server, "s3cret"), max_connections=4) as pool,
    ):
        assert {each.status for each in pool.send_many(mails(100))} == {"accepted"}


def test_the_second_server_serves_where_the_first_cannot() -> None:
    with MailServer() as gone:
        url = gone.url
    with MailServer() as server, SmtpPool([url, server.url], retry=ONCE) as pool:
        for _ in range(3):
            assert isinstance(pool.send(SENDER, "a@x.example", BODY), SendResult)
        assert {each.status for each in pool.send_many(mails(50))} == {"accepted"}
        assert pool.stats().retried == 0


def test_by_priority_the_second_one_is_left_alone() -> None:
    with MailServer() as first, MailServer() as second, pool_of(first, second) as pool:
        assert {each.status for each in pool.send_many(mails(100))} == {"accepted"}
        assert not second.ledger.connections


def test_evenly_both_are_used() -> None:
    with MailServer() as first, MailServer() as second:
        options: dict[str, Any] = {"balance": "even", "max_connections": 2}
        with pool_of(first, second, **options) as pool:
            for _ in range(10):
                pool.send(SENDER, "a@x.example", BODY)
            assert (len(first.messages), len(second.messages)) == (5, 5)


def test_evenly_the_workers_are_divided() -> None:
    four = threading.Barrier(4, timeout=20)

    def wait_for_the_others(event: Event) -> None:
        """A connection's first message: the others would be ready before the last worker has dialled."""
        if event.verb == "MAIL" and event.transaction == 0:
            four.wait()

    with MailServer(verdict=wait_for_the_others) as one, MailServer(verdict=wait_for_the_others) as two:
        with pool_of(one, two, balance="even", max_connections=4) as pool:
            assert {each.status for each in pool.send_many(mails(100))} == {"accepted"}
        assert len(one.ledger.connections) == len(two.ledger.connections) == 2


@pytest.mark.parametrize("refusal", ["password", "greeting", "tls"])
def test_what_the_first_server_refuses_for_good_waits_for_the_second(
    refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is only down for now: nothing that is queued is given up meanwhile."""
    monkeypatch.setattr(backoff, "FIRST_DIAL_REST", 0.05)
    options: dict[str, Any] = {"users": {"ann": "s3cret"}, "require_auth": True}
    if refusal == "greeting":
        options = {"replies": {"CONNECT": "554 5.3.2 no"}}
    with MailServer() as second:
        url, port = second.url, second.port
    with MailServer(**options) as first:
        server = first.url if refusal == "greeting" else with_password(first, "wrong")
        if refusal == "tls":
            server = Server(first.host, first.port, tls="starttls")
        policy = RetryPolicy(attempts=50, backoff=0.0)
        with SmtpPool([server, url], max_reconnect_delay=0.05, retry=policy) as pool:
            futures = [pool.submit(each) for each in mails(30)]
            until(lambda: pool.stats().retried > 0)
            with MailServer(port=port):
                assert all(isinstance(future.result(20), SendResult) for future in futures)
                pool.close(0)
        assert refusal != "password" or tried(first) == 1


def test_a_refused_password_at_the_first_server_leaves_the_second() -> None:
    with (
        MailServer(users={"ann": "s3cret"}, require_auth=True) as first,
        MailServer() as second,
        SmtpPool([with_password(first, "wrong"), second.url]) as pool,
    ):
        assert {each.status for each in pool.send_many(mails(20))} == {"accepted"}
        assert tried(first) == 1


def test_a_password_that_was_changed_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 86: also where a connection is open on which it was accepted a while ago; that one goes on."""
    monkeypatch.setattr(selection, "_TRUST", 0.0)
    users = {"ann": "s3cret"}
    hold = Hold("AUTH", lambda event: event.connection > 0)
    with (
        MailServer(users=users, require_auth=True, verdict=hold) as server,
        SmtpPool(with_password(server, "s3cret"), max_connections=8, retry=ONCE) as pool,
    ):
        with pool.connection():
            users["ann"] = "changed"
            futures = [pool.submit(each) for each in mails(12)]
            hold.wait_for()
            assert pool.stats().dialling == 1
            hold.go.set()
            until(lambda: pool.stats().servers[0].state == "refused")
            assert not any(future.done() for future in futures)
        assert all(isinstance(future.result(LONG), SendResult) for future in futures)
        assert tried(server) == 2
