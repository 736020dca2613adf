"""A pool sends: in the calling thread, in its workers, over everything that a server can be."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from email.message import EmailMessage
from typing import Any

import pytest
from support import certs
from support.busy import until
from support.messages import simple
from support.pools import BODY, ONCE, SENDER, Hold, fates, in_threads, mail, mails, outcome, pool_of

from pysmtpx import (
    AllRecipientsFailed,
    InputError,
    MailObject,
    RecipientsRejected,
    SendResult,
    Server,
    Timeout,
    UsageError,
)
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import MailServer, Stall


def test_a_send_in_the_calling_thread() -> None:
    with MailServer(refuse={"b@x.example": "550 5.1.1 unknown"}) as server, pool_of(server) as pool:
        result = pool.send(SENDER, ["a@x.example", "b@x.example"], BODY)
        assert fates(result) == {"a@x.example": "accepted", "b@x.example": "rejected 550"}
        assert server.messages[0].content == BODY
        assert threading.active_count() < 10
        assert pool.stats().workers == 0


def test_a_warm_pool_sends_in_two_round_trips() -> None:
    with MailServer() as server, pool_of(server) as pool:
        pool.send(SENDER, "a@x.example", BODY)
        with pool.connection() as connection:
            before = connection.round_trips
        for _ in range(5):
            pool.send_message(simple())
        with pool.connection() as connection:
            assert connection.round_trips - before == 10
        assert server.ledger.commands == [["EHLO", *["MAIL", "RCPT", "DATA"] * 6]]


def test_messages_overlap_also_where_the_rate_is_limited() -> None:
    """One round trip for each, where the rate lets them go as fast as that."""
    hold = Hold("EHLO")
    with (
        MailServer(verdict=hold) as server,
        pool_of(server, max_connections=1, rate=1e6, overlap=True) as pool,
    ):
        futures = [pool.submit(each) for each in mails(20)]
        hold.wait_for()
        hold.go.set()
        assert all(future.result(20) for future in futures)
        with pool.connection() as connection:
            assert connection.round_trips <= 20 + 3  # the greeting is none; EHLO, and the two ends


@pytest.mark.parametrize("transport", ["starttls", "implicit"])
def test_over_tls_with_a_password(transport: Any) -> None:
    options: dict[str, Any] = {"ssl_context": certs.server_context(), "tls": transport}
    with MailServer(users={"ann": "s3cret"}, require_auth=True, **options) as server:
        target = Server(
            server.host,
            server.port,
            tls=transport,
            username="ann",
            password="s3cret",
            ssl_context=certs.client_context(),
        )
        with SmtpPool(target) as pool:
            assert pool.send(SENDER, "a@x.example", BODY).accepted_recipients
            assert pool.submit(mail()).result(20).accepted_recipients
            assert "s3cret" not in repr(pool) + repr(pool.stats()) + repr(pool.servers)
        assert {message.user for message in server.messages} == {"ann"}
        assert all(message.tls for message in server.messages)


def test_lmtp() -> None:
    answers: Any = {("FINAL", "b@x.example"): "452 4.2.2 full"}
    with MailServer(protocol="lmtp", replies=answers) as server, pool_of(server) as pool:
        result = pool.send(SENDER, ["a@x.example", "b@x.example"], BODY)
        assert fates(result) == {"a@x.example": "accepted", "b@x.example": "rejected 452"}


def test_arguments_of_the_server_go_along() -> None:
    with MailServer() as server, SmtpPool(server.host, port=server.port, tls="none") as pool:
        assert pool.servers == (Server(server.host, server.port),)
        assert pool.send(SENDER, "a@x.example", BODY)


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"max_connections": True},
        {"max_connections": 1.5},
        {"max_messages": 0},
        {"max_age": 0},
        {"max_age": float("nan")},
        {"max_idle": -1},
        {"rate": 0},
        {"recipient_rate": "x"},
        {"balance": "random"},
        {"in_flight": 0},
        {"max_queued": 0},
        {"retry": 3},
        {"no_such_option": 1},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((InputError, TypeError)):
        SmtpPool("smtp://127.0.0.1:2525", **options)
    with pytest.raises(InputError):
        SmtpPool([])


def test_a_pool_that_was_not_made_can_be_shown() -> None:
    """Whoever has an object whose ``__init__`` failed may look at it."""
    assert repr(SmtpPool.__new__(SmtpPool)) == "<SmtpPool not made>"


def test_all_refused_raises_what_a_connection_raises() -> None:
    with MailServer(replies={"RCPT": "550 5.1.1 no"}) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example", "b@x.example"], BODY)
        assert type(error) is AllRecipientsFailed
        future = pool.submit(mail("a@x.example"))
        assert type(future.exception(20)) is AllRecipientsFailed
        assert pool.stats().rejected == 2


def test_all_or_nothing() -> None:
    with MailServer(refuse={"b@x.example": "550 no"}) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example", "b@x.example"], BODY, all_or_nothing=True)
        assert type(error) is RecipientsRejected
        future = pool.submit(mail("a@x.example", "b@x.example"), all_or_nothing=True)
        assert type(future.exception(20)) is RecipientsRejected
    assert not server.messages


def test_a_message_object_and_its_envelope() -> None:
    message = simple(Bcc="c@x.org")
    with MailServer() as server, pool_of(server) as pool:
        assert pool.submit(message).result(20).accepted_recipients == ("b@x.org", "c@x.org")
        pool.submit(message, sender="", recipients="d@x.org").result(20)
        assert [(m.sender, m.addresses) for m in server.messages] == [
            ("a@x.org", ["b@x.org", "c@x.org"]),
            ("", ["d@x.org"]),
        ]
        with pytest.raises(InputError):
            pool.submit(mail(), sender="x@x.org")
        with pytest.raises(InputError):
            pool.submit(b"Subject: no envelope\r\n\r\n")  # type: ignore[arg-type]


def test_what_cannot_be_sent_says_so_and_harms_nobody_else() -> None:
    with MailServer(extensions=["PIPELINING"]) as server, pool_of(server) as pool:
        bad = [pool.submit(simple(Subject="no recipient", To="")), pool.submit(mail("ü@x.example"))]
        good = pool.submit(mail("a@x.example"))
        assert good.result(20).accepted_recipients
        assert [type(future.exception(20)).__name__ for future in bad] == ["InputError", "NotSupportedError"]
        assert pool.stats().retried == 0
        assert len(server.ledger.connections) <= 3


def test_a_message_may_be_changed_after_it_was_submitted() -> None:
    """FAULTS 98: what is sent is what was submitted."""
    hold = Hold("CONNECT")
    message, buffer = simple(Subject="before"), bytearray(BODY)
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        futures = [pool.submit(message), pool.submit(mail(body=buffer))]
        message.replace_header("Subject", "after")
        message.set_content("other")
        buffer[:7] = b"Tcejbus"
        hold.go.set()
        for future in futures:
            future.result(20)
        assert b"Subject: before" in server.messages[0].content
        assert b"other" not in server.messages[0].content
        assert server.messages[1].content == BODY


def test_many_threads_share_one_pool() -> None:
    with MailServer() as server, pool_of(server, max_connections=3) as pool:

        def call(number: int) -> list[SendResult]:
            return [pool.send(SENDER, f"t{number}-{i}@x.example", BODY) for i in range(20)]

        results = in_threads(8, call)
        assert all(len(result) == 20 for result in results), results
        sent = sorted(message.addresses[0] for message in server.messages)
        assert sent == sorted(f"t{number}-{i}@x.example" for number in range(8) for i in range(20))
        assert len(server.ledger.connections) <= 3


def test_a_callback_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS 92."""

    def bad(future: object) -> None:
        raise RuntimeError("the caller's own")

    with MailServer() as server, pool_of(server, max_connections=1) as pool:
        for _ in range(3):
            future = pool.submit(mail())
            future.add_done_callback(bad)
            assert future.result(20)
        assert pool.stats().connections == 1
        assert len(server.ledger.connections) == 1


def test_a_future_is_cancelled_until_it_is_taken() -> None:
    """FAULTS 98."""
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        futures = [pool.submit(mail(f"{number}@x")) for number in range(9)]
        hold.wait_for()
        assert not futures[0].cancel()
        assert futures[8].cancel()
        hold.go.set()
        with pytest.raises(CancelledError):
            futures[8].result(20)
        assert all(future.result(20) for future in futures[:8])
        assert [message.addresses[0] for message in server.messages] == [f"{n}@x" for n in range(8)]


def test_a_full_queue_is_waited_for_until_the_deadline() -> None:
    """FAULTS 98."""
    hold = Hold("CONNECT")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1, max_queued=2) as pool:
        futures = [pool.submit(mail(f"{number}@x")) for number in range(2)]
        error = outcome(pool.submit, mail("late@x"), timeout=0.05)
        assert type(error) is Timeout
        assert error.stage == "input"
        waiting: list[Any] = []
        thread = threading.Thread(target=lambda: waiting.append(pool.submit(mail("2@x"))))
        thread.start()
        hold.go.set()
        thread.join(20)
        for future in (*futures, *waiting):
            assert future.result(20)
        assert [message.addresses[0] for message in server.messages] == ["0@x", "1@x", "2@x"]


def test_the_deadline_of_a_call_includes_the_wait_for_a_connection() -> None:
    """FAULTS 62, 98."""
    with MailServer() as server, pool_of(server, max_connections=1) as pool:
        with pool.connection():
            results = in_threads(1, lambda _: pool.send(SENDER, "a@x.example", BODY, timeout=0.05))
            assert type(results[0]) is Timeout
            assert fates(results[0]) == {"a@x.example": "unsent"}
            assert results[0].safe_to_retry
        assert pool.send(SENDER, "a@x.example", BODY)
        assert not [m for m in server.messages if m.addresses != ["a@x.example"]]


def test_a_queued_message_whose_time_is_over_ends_unsent() -> None:
    hold = Hold("MAIL", lambda event: event.address == "slow@x.example")
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        slow = pool.submit(MailObject("slow@x.example", "a@x.example", BODY))
        hold.wait_for()
        error = pool.submit(mail("late@x.example"), timeout=0.01).exception(20)
        assert type(error) is Timeout
        assert fates(error) == {"late@x.example": "unsent"}
        hold.go.set()
        assert slow.result(20)
    assert len(server.messages) == 1


@pytest.mark.parametrize("connections", [1, 3])
def test_a_server_that_stalls_at_the_greeting_keeps_nobody_beyond_his_deadline(connections: int) -> None:
    """Though every worker is in the middle of a dial, which has 30 seconds."""
    options = {"max_connections": connections, "connect_timeout": 30.0}
    with MailServer(replies={"CONNECT": Stall()}) as server, pool_of(server, **options) as pool:
        patient = [pool.submit(each) for each in mails(connections)]
        until(lambda: pool.stats().dialling > 0)
        futures = [pool.submit(each, timeout=0.05) for each in mails(9)]
        errors = [future.exception(20) for future in futures]
        assert {type(error) for error in errors} == {Timeout}
        assert fates(errors[3]) == {"r3@x.example": "unsent"}
        outcomes = list(pool.send_many(mails(100), timeout=0.05))
        assert {(each.status, type(each.error)) for each in outcomes} == {("unsent", Timeout)}
        assert pool.stats().dialling, "and the dial goes on for those who have more time"
        assert not any(future.done() for future in patient)


def test_a_callback_of_a_message_whose_time_is_over_may_close_the_pool() -> None:
    """FAULTS 97: nobody waits for himself."""
    closed = threading.Event()
    with MailServer(replies={"CONNECT": Stall()}) as server, pool_of(server) as pool:
        future = pool.submit(mail(), timeout=0.05)
        future.add_done_callback(lambda _: (pool.close(None), closed.set()))
        assert closed.wait(20)


def test_content_that_can_be_read_once() -> None:
    with MailServer() as server, pool_of(server) as pool:
        assert pool.send(SENDER, "a@x.example", iter([b"Subject: once\r\n\r\n", b"x\r\n"]))
        assert pool.submit(mail(body=iter([BODY]))).result(20)
        assert [m.content for m in server.messages] == [b"Subject: once\r\n\r\nx\r\n", BODY]


def test_content_that_raises_is_unsent_and_harms_nobody_else() -> None:
    """FAULTS 35, 92."""

    def content() -> Any:
        yield b"Subject: x\r\n\r\n"
        raise LookupError("the caller's own")

    with MailServer(strict=False) as server, pool_of(server, retry=ONCE, max_connections=1) as pool:
        bad = pool.submit(mail("bad@x.example", body=content()))
        good = pool.submit(mail("good@x.example"))
        error = bad.exception(20)
        assert isinstance(error, InputError)
        assert isinstance(error.__cause__, LookupError)
        assert fates(error) == {"bad@x.example": "unsent"}
        assert good.result(20)
        raised = outcome(pool.send, SENDER, "bad@x.example", content())
        assert isinstance(raised.__cause__, LookupError)
    assert [message.addresses for message in server.messages] == [["good@x.example"]]


def test_a_closed_pool_refuses_everything() -> None:
    with MailServer() as server:
        with SmtpPool(server.url) as pool:
            assert not pool.closed
        assert pool.closed
        assert "closed" in repr(pool)
        for call in (
            lambda: pool.send(SENDER, "a@x.example", BODY),
            lambda: pool.send_message(simple()),
            lambda: pool.submit(mail()),
            lambda: pool.send_many([]),
            lambda: pool.connection().__enter__(),
        ):
            with pytest.raises(UsageError, match="closed"):
                call()
    assert not server.ledger.connections


def test_an_email_message_is_tried_again_under_the_same_message_id() -> None:
    answers: Any = {("MAIL", 0): "421 4.3.2 later"}
    message = EmailMessage()
    message["From"], message["To"] = "a@x.example", "b@x.example"
    message.set_content("Grüße\n")

    def verdict(event: Any) -> Any:
        return "421 4.3.2 later" if event.verb == "FINAL" and event.connection == 0 else None

    with MailServer(verdict=verdict) as server, pool_of(server) as pool:
        assert pool.submit(message).result(20)
        first, second = server.ledger.refused[0].content, server.messages[0].content
        assert first == second
        assert b"Message-ID" in second
    assert answers
