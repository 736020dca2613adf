"""What is tried again, and what is never sent twice."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from support.daemon import CLOSED_PORT
from support.pools import AT_ONCE, BODY, ONCE, SENDER, fates, mail, mails, outcome, pool_of

from pysmtpx import (
    AllRecipientsFailed,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    SendResult,
    ServiceUnavailable,
    SmtpError,
)
from pysmtpx.pool import SmtpPool
from pysmtpx.pooling import backoff
from pysmtpx.pooling.job import Job
from pysmtpx.pooling.outcomes import Outcomes
from pysmtpx.retry import RetryPolicy
from pysmtpx.testing import Cut, Garbage, MailServer

WAYS = pytest.mark.parametrize("way", ["send", "submit"])
LATER = RetryPolicy(backoff=0.0, temporary=True)


def broken(verb: str, answer: Any, times: int = 1) -> Any:
    """A verdict that gives this answer to a verb, so many times, and to each after that nothing."""
    left = itertools.count(1)

    def verdict(event: Any) -> Any:
        return answer if event.verb == verb and next(left) <= times else None

    return verdict


def sent(pool: SmtpPool, way: str, *recipients: str) -> Any:
    """Send in the calling thread or by a worker; the result or the error."""
    if way == "send":
        return outcome(pool.send, SENDER, recipients, BODY)
    return outcome(pool.submit(mail(*recipients)).result, 10)


@WAYS
@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "answer", [Cut(), Cut(after=2), Cut(reset=True), Garbage(b"what\r\n"), "421 4.3.2 later"]
)
def test_what_fails_before_the_end_of_data_is_tried_twice_more(
    way: str, verb: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 24, 42, 91: on another connection, and it arrives once."""
    monkeypatch.setattr(backoff, "FIRST_DIAL_REST", 0.01)
    with (
        MailServer(verdict=broken(verb, answer, 2), strict=False) as server,
        pool_of(server, max_connections=1) as pool,
    ):
        assert fates(sent(pool, way, "a@x.example")) == {"a@x.example": "accepted"}
        assert [message.addresses for message in server.messages] == [["a@x.example"]]
        assert pool.stats().retried == 2
        assert len(server.ledger.connections) == 3


def test_the_tries_come_to_an_end() -> None:
    """Three in all."""
    with MailServer(verdict=broken("MAIL", Cut(), 9)) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example"], BODY)
        assert fates(error) == {"a@x.example": "unsent"}
        assert len(server.ledger.connections) == 3


@pytest.mark.parametrize("answer", [Cut(), Cut(reset=True), "421 4.3.2 later"])
def test_the_tries_come_to_an_end_in_the_middle_of_the_content(answer: Any) -> None:
    """FAULTS 29."""
    body = b"Subject: x\r\n\r\n" + (b"z" * 70 + b"\r\n") * 20_000
    with MailServer(replies={("BODY", 1000): answer}, strict=False) as server, pool_of(server) as pool:
        error = outcome(pool.send, SENDER, "a@x.example", body)
        assert isinstance(error, SmtpError)
        (fate,) = fates(error).values()
        # The whole may be in the system's buffers before a cut is noticed.
        assert fate == "unsent" or (fate == "unknown" and isinstance(answer, Cut)) or "421" in fate
        assert fate == "unknown" or len(server.ledger.connections) == 3


@WAYS
@pytest.mark.parametrize("answer", [Cut(), Cut(after=2), Cut(reset=True)])
def test_what_is_in_doubt_is_never_sent_again(way: str, answer: Any) -> None:
    """FAULTS 31."""
    with MailServer(verdict=broken("FINAL", answer)) as server, pool_of(server) as pool:
        error = sent(pool, way, "a@x.example")
        assert type(error) is DeliveryUnknown
        assert fates(error) == {"a@x.example": "unknown"}
        assert len(server.ledger.connections) == 1
        assert pool.stats().unknown == 1
        assert pool.stats().retried == 0
        assert pool.send(SENDER, "b@x.example", BODY)  # and the pool goes on


def test_what_is_in_doubt_is_sent_again_where_that_is_asked_for() -> None:
    policy = RetryPolicy(backoff=0.0, unknown=True)
    with (
        MailServer(verdict=broken("FINAL", Cut())) as server,
        pool_of(server, retry=policy) as pool,
    ):
        assert fates(pool.send(SENDER, "a@x.example", BODY)) == {"a@x.example": "accepted"}
        assert len(server.messages) == 2  # twice: the cut came after the server had it


def test_a_refusal_is_not_tried_again_unasked() -> None:
    with MailServer(replies={"FINAL": "451 4.3.0 later"}) as server, pool_of(server) as pool:
        assert type(outcome(pool.send, SENDER, "a@x.example", BODY)) is DataRejected
        assert len(server.ledger.refused) == 1


def test_a_temporary_refusal_is_tried_again_where_that_is_asked_for() -> None:
    verdict = broken("FINAL", "451 4.3.0 later", 2)
    with MailServer(verdict=verdict) as server, pool_of(server, retry=LATER) as pool:
        assert pool.send(SENDER, "a@x.example", BODY)
        assert len(server.ledger.refused) == 2
    with (
        MailServer(replies={"FINAL": "550 5.7.1 no"}) as server,
        pool_of(server, retry=LATER) as pool,
    ):
        assert type(outcome(pool.send, SENDER, "a@x.example", BODY)) is DataRejected
        assert len(server.ledger.refused) == 1


@WAYS
def test_only_those_still_owed_get_another_transaction(way: str) -> None:
    """Accepted ones are never sent to again."""
    later = broken("RCPT", "450 4.2.0 greylisted", 10)

    def verdict(event: Any) -> Any:
        if event.address == "c@x.example":
            return "550 5.1.1 unknown"
        return later(event) if event.address == "b@x.example" and event.transaction == 0 else None

    recipients = ("a@x.example", "b@x.example", "c@x.example", "a@x.example")
    with (
        MailServer(verdict=verdict) as server,
        pool_of(server, retry=LATER, max_connections=1) as pool,
    ):
        result = sent(pool, way, *recipients)
        assert result.accepted_recipients == ("a@x.example", "b@x.example", "a@x.example")
        assert [(r.recipient, r.reply.code) for r in result.rejected_recipients] == [("c@x.example", 550)]
        assert [message.addresses for message in server.messages] == [["a@x.example"] * 2, ["b@x.example"]]


def test_the_last_reply_is_what_a_message_ends_with() -> None:
    with MailServer(replies={"RCPT": "450 4.2.1 greylisted"}) as server, pool_of(server, retry=LATER) as pool:
        error = outcome(pool.send, SENDER, ["a@x.example", "b@x.example"], BODY)
        assert type(error) is AllRecipientsFailed
        assert fates(error) == {"a@x.example": "rejected 450", "b@x.example": "rejected 450"}
        assert server.ledger.connections[0].transactions == 3


def test_lmtp_that_ends_half_way_goes_on_for_nobody_in_doubt() -> None:
    """FAULTS 55: accepted and unknown ones are not sent to again."""

    def verdict(event: Any) -> Any:
        return Cut() if event.verb == "FINAL" and event.index == 1 else None

    with (
        MailServer(protocol="lmtp", verdict=verdict, strict=False) as server,
        pool_of(server, retry=LATER) as pool,
    ):
        error = outcome(pool.send, SENDER, ["a@x.example", "b@x.example", "c@x.example"], BODY)
        assert type(error) is DeliveryUnknown
        assert fates(error) == {"a@x.example": "accepted", "b@x.example": "unknown", "c@x.example": "unknown"}
        (reply,) = error.accepted_replies
        assert reply.lines, "what the server said to it, and no reply of our own making"
        assert len(server.ledger.connections) == 1


def test_the_first_command_on_an_idle_connection_fails_silently_once() -> None:
    """FAULTS 87: although only one try was asked for."""

    def verdict(event: Any) -> Any:
        return Cut() if event.verb == "MAIL" and event.connection == 0 and event.index == 1 else None

    with MailServer(verdict=verdict) as server, pool_of(server, retry=ONCE) as pool:
        assert pool.send(SENDER, "a@x.example", BODY)
        assert pool.send(SENDER, "b@x.example", BODY)
        assert [(m.addresses[0], m.connection) for m in server.messages] == [
            ("a@x.example", 0),
            ("b@x.example", 1),
        ]
        assert pool.stats().retried == 0


def test_the_silent_retry_is_one_and_on_a_new_connection() -> None:
    """FAULTS 87: other connections that were idle for as long are as dead."""

    def verdict(event: Any) -> Any:
        return Cut() if event.verb == "MAIL" and (event.index == 1 or event.connection >= 2) else None

    with MailServer(verdict=verdict) as server, pool_of(server, retry=ONCE, max_connections=2) as pool:
        with pool.connection() as first, pool.connection() as second:
            first.send(SENDER, "a@x.example", BODY)
            second.send(SENDER, "a@x.example", BODY)
        error = outcome(pool.send, SENDER, "b@x.example", BODY)
        assert type(error) is ConnectionLost
        assert fates(error) == {"b@x.example": "unsent"}
        assert len(server.ledger.connections) == 3


def test_all_connections_die_at_once() -> None:
    """FAULTS 91: each message under way ends by the commit rule, the rest goes on."""
    die = {"at": 100}
    seen = itertools.count(1)

    def verdict(event: Any) -> Any:
        if event.verb == "MAIL" and next(seen) > die["at"] and event.connection < 4:
            return Cut(reset=True)
        return None

    with MailServer(verdict=verdict, strict=False) as server, pool_of(server) as pool:
        outcomes = list(pool.send_many(mails(300)))
        told = Counter(each.status for each in outcomes)
        assert told["accepted"] + told["unknown"] == 300
        accepted = {path for each in outcomes for path in each.accepted_recipients}
        had = Counter(path for message in server.messages for path in message.delivered)
        assert accepted <= set(had)
        assert max(had.values()) == 1
        assert {path for each in outcomes for path in each.unknown_recipients} >= set(had) - accepted


def test_messages_behind_one_that_broke_the_connection_are_not_charged_for_it() -> None:
    """Only the message on which it broke has had a try."""

    def verdict(event: Any) -> Any:
        return Cut() if event.verb == "FINAL" and event.address == "" and event.transaction == 0 else None

    with MailServer(verdict=verdict) as server, pool_of(server, retry=ONCE, max_connections=1) as pool:
        futures = [pool.submit(each) for each in mails(6)]
        results = [future.exception(20) for future in futures]
        assert all(each is None or isinstance(each, DeliveryUnknown) for each in results), results
        assert server.ledger.count == 6


def test_no_connection_is_a_try() -> None:
    with SmtpPool(f"smtp://127.0.0.1:{CLOSED_PORT}", retry=ONCE) as pool:
        error = outcome(pool.send, SENDER, "a@x.example", BODY)
        assert type(error) is ConnectError
        assert fates(error) == {"a@x.example": "unsent"}
        assert error.safe_to_retry
        future = pool.submit(mail(), timeout=0.05)
        error = future.exception(20)
        assert isinstance(error, SmtpError)
        assert fates(error) == {"a@x.example": "unsent"}


def test_a_server_that_comes_back_is_used_again() -> None:
    with MailServer() as server:
        port = server.port
    with SmtpPool(f"smtp://127.0.0.1:{port}", retry=RetryPolicy(attempts=9, backoff=0.01)) as pool:
        assert isinstance(outcome(pool.send, SENDER, "a@x.example", BODY, timeout=0.01), SmtpError)
        future = pool.submit(mail("b@x.example"))
        with MailServer(port=port):
            assert isinstance(future.result(20), SendResult)
            pool.close(0)


def test_a_greeting_of_421_by_a_server_on_which_nothing_is_open() -> None:
    verdict = broken("CONNECT", "421 4.3.2 not now")
    with MailServer(verdict=verdict) as server, pool_of(server, retry=ONCE) as pool:
        error = outcome(pool.send, SENDER, "a@x.example", BODY)
        assert isinstance(error, ConnectError | ServiceUnavailable)
        assert pool.send(SENDER, "a@x.example", BODY)


def test_a_slow_down_shrinks_the_pool() -> None:
    """421 4.7.0 in mid-session: fewer connections, and nothing is lost."""
    left = itertools.count(1)

    def verdict(event: Any) -> Any:
        return "421 4.7.0 slow down" if event.verb == "MAIL" and 20 < next(left) <= 22 else None

    with MailServer(verdict=verdict, strict=False) as server, pool_of(server, max_connections=4) as pool:
        outcomes = list(pool.send_many(mails(200)))
        assert {each.status for each in outcomes} == {"accepted"}
        assert Counter(path for m in server.messages for path in m.delivered) == Counter(
            f"r{n}@x.example" for n in range(200)
        )
        assert pool.stats().connections < 4


def test_the_policy_has_the_last_word() -> None:
    policy = RetryPolicy(backoff=0.0, retryable=lambda error: not isinstance(error, ConnectionLost))
    with MailServer(verdict=broken("MAIL", Cut())) as server, pool_of(server, retry=policy) as pool:
        assert type(outcome(pool.send, SENDER, "a@x.example", BODY)) is ConnectionLost
    assert AT_ONCE.attempts == 3


class Raising(RetryPolicy):
    """Raises at the second question, also what ``retryable`` cannot: that is caught where it is called."""

    def allows(self, error: SmtpError) -> bool:
        if not super().allows(error):
            raise RuntimeError("a bug")
        return True


def leaving() -> Any:
    """Ends its thread at the second question."""
    asked = itertools.count(1)

    def retryable(error: SmtpError) -> bool:
        if next(asked) > 1:
            raise SystemExit
        return True

    return retryable


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("is_bug", [False, True])
def test_where_the_policy_raises_nobody_who_has_the_message_is_forgotten(is_bug: bool) -> None:
    """FAULTS 92: the tries before that one count, or whoever is told would send it twice."""
    answers = iter([True, False])
    policy = (
        Raising(temporary=True, backoff=0.0, retryable=lambda error: next(answers))
        if is_bug
        else RetryPolicy(temporary=True, backoff=0.0, retryable=leaving())
    )
    with MailServer(refuse={"n@x.example": "450 4.2.0 later"}) as server:
        with pool_of(server, max_connections=1, retry=policy) as pool:
            result = pool.submit(mail("a@x.example", "n@x.example")).result(20)
        assert [message.delivered for message in server.messages] == [["a@x.example"]]
    assert fates(result) == {"a@x.example": "accepted", "n@x.example": "rejected 450"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("bug", [RuntimeError, SystemExit])
def test_what_raises_before_a_try_is_entered_takes_neither_it_nor_those_before(
    bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 92."""
    given = iter([False, True])

    def note(job: Job, *args: Any, **options: Any) -> float | None:
        if next(given):
            raise bug
        return weigh(job, *args, **options)

    weigh = Job.note
    monkeypatch.setattr(Job, "note", note)
    refuse = {"n@x.example": "450 4.2.0 later"}
    with MailServer(refuse=refuse) as server, pool_of(server, max_connections=1, retry=LATER) as pool:
        result = pool.submit(mail("a@x.example", "n@x.example")).result(20)
    assert fates(result) == {"a@x.example": "accepted", "n@x.example": "rejected 450"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("bug", [RuntimeError, SystemExit])
def test_what_raises_where_the_connection_is_judged_takes_no_outcome_with_it(
    bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 92."""

    def fail(*_: Any, **__: Any) -> bool:
        raise bug

    with MailServer() as server, pool_of(server, max_connections=1) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(Outcomes, "is_excused", fail)
            assert isinstance(pool.submit(mail()).result(20), SendResult)
        assert isinstance(pool.submit(mail()).result(20), SendResult)
