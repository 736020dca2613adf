"""One try of a queued message, whichever queue it is: plain values in, plain values out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from support.daemon import CLOSED_PORT

from pysmtpx import InputError, MailObject, MessageTooLarge, RetryPolicy
from pysmtpx.contrib.pools import close_pools
from pysmtpx.contrib.queueing.attempt import Attempt, QueueSender, Servers
from pysmtpx.contrib.queueing.signing import Keys
from pysmtpx.contrib.queueing.submitting import submitted
from pysmtpx.contrib.queueing.tries import SendFailed
from pysmtpx.payload import MAX_SIZE
from pysmtpx.pooling.job import Envelope
from pysmtpx.testing import Cut, Event, MailServer

LINE = b"Subject: x\r\n\r\nhello\r\n"
POLICY = RetryPolicy(attempts=3, backoff=30.0, jitter=0.0, temporary=True)
A, B, C = "a@x.example", "b@x.example", "c@x.example"


@pytest.fixture(autouse=True)
def no_pools_left() -> Iterator[None]:
    yield
    close_pools(0)


def sender(server: Servers, policy: RetryPolicy = POLICY, **others: Any) -> QueueSender:
    given: dict[str, Any] = {"timeout": 20.0, "on_outcome": None, "max_size": MAX_SIZE, "pool_options": {}}
    return QueueSender(server, policy, **{**given, **others})


def first(*recipients: str, content: bytes = LINE, all_or_nothing: bool = False) -> dict[str, Any]:
    """What a queue carries to the first try."""
    made = submitted(
        "send",
        MailObject("s@x.example", recipients, content),
        Envelope(),
        all_or_nothing=all_or_nothing,
        allow_long_lines=False,
        max_size=MAX_SIZE,
        keys=None,
    )
    assert made.shown == f"<mail to {len(recipients)} recipients>"
    keywords: dict[str, Any] = json.loads(json.dumps(made.keywords))
    return keywords


def attempt(queue: QueueSender, payload: object, account: object = None, **others: Any) -> Attempt:
    return queue.attempt(payload, account, **{"task_id": "t1", "timeout": 20.0, **others})


def after(last: Attempt) -> tuple[Any, Any]:
    """Payload and account of the next try, as the queue carries them."""
    payload, account = json.loads(json.dumps([last.payload, last.account]))
    return payload, account


def names(report: Mapping[str, Any], key: str) -> list[str]:
    return [each["recipient"] if isinstance(each, dict) else each for each in report[key]]


def at_first(answers: Mapping[str, str]) -> Callable[[Event], str | None]:
    """A verdict that answers RCPT so, once for each address."""
    asked: Counter[str] = Counter()

    def verdict(event: Event) -> str | None:
        if event.verb != "RCPT":
            return None
        asked[event.address] += 1
        return answers.get(event.address) if asked[event.address] == 1 else None

    return verdict


def test_owed_only_is_sent_and_the_account_goes_through_json() -> None:
    verdict = at_first({B: "450 4.2.1 later", C: "550 5.1.1 unknown"})
    with MailServer(verdict=verdict) as server:
        one = attempt(sender(server.url), first(A, B, C)["payload"])
        assert (one.delay, one.reached, one.recipients) == (30.0, True, 3)
        payload, account = after(one)
        # Another process: nothing but the plain values is left of the first.
        two = attempt(sender(server.url), payload, account, task_id="t2")
    assert [message.delivered for message in server.messages] == [[A], [B]]
    assert len({message.content for message in server.messages}) == 1
    report = two.report
    assert two.delay is None
    assert (report["status"], report["attempts"], report["task_id"]) == ("accepted", 2, "t2")
    assert (names(report, "accepted"), names(report, "rejected")) == ([A, B], [C])
    assert json.loads(json.dumps(report)) == report


def test_the_policy_ends_it() -> None:
    with MailServer(replies={"RCPT": "450 4.2.1 later"}) as server:
        payload, account = first(A)["payload"], None
        delays = []
        for _ in range(3):
            last = attempt(sender(server.url), payload, account)
            delays.append(last.delay)
            payload, account = after(last)
        assert not last.reached
        with pytest.raises(SendFailed, match="rejected after 3 tries"):
            sender(server.url).finish(last.report)
    assert delays == [30.0, 60.0, None]
    assert server.messages == []


def test_in_doubt_nothing_is_sent() -> None:
    """Those who have it keep it; those who were owed it are unknown, and nothing is dialled."""
    with MailServer(verdict=at_first({B: "450 4.2.1 later"})) as server:
        payload, account = after(attempt(sender(server.url), first(A, B)["payload"]))
        queue = sender(lambda: pytest.fail("a server was asked for"))
        last = attempt(queue, payload, account, doubt="the process was killed")
    assert last.delay is None
    assert last.report["status"] == "unknown"
    assert (names(last.report, "accepted"), last.report["unknown"]) == ([A], [B])
    assert "the process was killed" in last.report["error"]["text"]
    assert [message.delivered for message in server.messages] == [[A]]


def test_in_doubt_it_is_sent_where_the_policy_says_so() -> None:
    with MailServer() as server:
        queue = sender(server.url, RetryPolicy(attempts=3, unknown=True))
        payload = first(A)["payload"]
        doubtful = attempt(queue, payload, doubt="the process was killed")
        assert doubtful.delay is not None
        assert attempt(queue, *after(doubtful)).report["status"] == "accepted"
    assert [message.delivered for message in server.messages] == [[A]]


@pytest.mark.parametrize("verb", ["FINAL", "DATA"])
def test_a_line_that_breaks_is_doubt_behind_the_end_of_the_content_alone(verb: str) -> None:
    with MailServer(replies={verb: Cut()}) as server:
        last = attempt(sender(server.url), first(A)["payload"])
    is_doubt = verb == "FINAL"
    assert last.report["status"] == ("unknown" if is_doubt else "unsent")
    assert (last.delay is None, last.reached) == (is_doubt, is_doubt)


def test_what_is_screened_goes_to_the_next_try() -> None:
    """The decision to whom it goes is made once: a later try in a process without the rule keeps it."""
    dev = "dev@x.example"
    with MailServer(verdict=at_first({dev: "450 4.2.1 later"})) as server:
        one = attempt(sender(server.url, pool_options={"redirect_to": dev}), first(A, B)["payload"])
        assert one.delay == 30.0
        two = attempt(sender(server.url), *after(one))
    assert [message.delivered for message in server.messages] == [[dev]]
    assert b"X-Original-Recipients: " in server.messages[0].content
    assert (two.report["status"], two.report["attempts"]) == ("accepted", 2)


def test_whom_it_is_kept_from_is_still_said_after_the_next_try() -> None:
    with MailServer(verdict=at_first({A: "450 4.2.1 later"})) as server:
        queue = sender(server.url, pool_options={"allow_recipients": [A]})
        two = attempt(queue, *after(attempt(queue, first(A, B)["payload"])))
    assert [message.delivered for message in server.messages] == [[A]]
    assert (names(two.report, "accepted"), two.report["withheld"]) == ([A], [B])


def test_all_or_nothing_holds_over_the_tries() -> None:
    with MailServer(verdict=at_first({B: "450 4.2.1 later"})) as server:
        one = attempt(sender(server.url), first(A, B, all_or_nothing=True)["payload"])
        assert not one.reached
        assert attempt(sender(server.url), *after(one)).report["status"] == "accepted"
    assert [message.delivered for message in server.messages] == [[A, B]]


@pytest.mark.parametrize(
    "server", [f"smtp://127.0.0.1:{CLOSED_PORT}", "no.such.module:server"], ids=["down", "no module"]
)
def test_a_process_that_cannot_send_gives_no_message_up(server: str) -> None:
    last = attempt(sender(server, RetryPolicy(attempts=2, backoff=1.0)), first(A)["payload"])
    assert last.delay is not None
    assert not last.reached
    assert (last.report["status"], last.report["unsent"]) == ("unsent", [A])


def test_what_strikes_in_the_middle_of_a_try_leaves_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limit(Exception):
        """A time limit of the queue's."""

    def strike(*_: object, **__: object) -> None:
        raise Limit

    with MailServer() as server:
        queue = sender(server.url)
        monkeypatch.setattr(queue.pool, "send", strike)
        last = attempt(queue, first(A)["payload"])
    assert (last.report["status"], last.report["unknown"], last.delay) == ("unknown", [A], None)
    assert "ended by" in last.report["error"]["text"]


def test_what_cannot_be_read_is_refused() -> None:
    queue = sender(lambda: pytest.fail("a server was asked for"), max_size=100)
    with pytest.raises(MessageTooLarge):
        attempt(queue, first(A, content=LINE + b"a" * 100)["payload"])
    with pytest.raises(InputError, match="malformed payload"):
        attempt(queue, {"version": 1})
    with pytest.raises(InputError, match="malformed account"):
        attempt(queue, first(A)["payload"], {"version": 1})


def test_the_end_is_told_once_and_what_hears_of_it_may_fail() -> None:
    told: list[Any] = []

    def hear(report: Mapping[str, Any]) -> None:
        told.append(report)
        raise RuntimeError

    with MailServer() as server:
        queue = sender(server.url, on_outcome=hear)
        report = attempt(queue, first(A)["payload"]).report
        assert told == []
        assert queue.finish(report) is report
    assert told == [report]


def test_the_next_try_is_signed_like_the_first() -> None:
    keys = Keys.of("k" * 16)
    assert keys is not None
    mail = MailObject("s@x.example", (A,), LINE)
    options: dict[str, Any] = {"all_or_nothing": False, "allow_long_lines": False, "max_size": MAX_SIZE}
    made = submitted("send", mail, Envelope(), keys=keys, **options).keywords
    keys.verify(made["signature"], "send", made["payload"], None)
    with pytest.raises(InputError, match="wrong"):
        keys.verify(made["signature"], "another", made["payload"], None)


@pytest.mark.parametrize(
    ("server", "journal", "told"),
    [
        ("smtp://127.0.0.1:9?auth=GSSAPI", None, "pip install 'pysmtpx[gssapi]'"),
        (lambda: "smtp://127.0.0.1:9?auth=GSSAPI&proxy=http://p.example", None, "pysmtpx[proxy]"),
        ("smtp://127.0.0.1:9", "postgresql://127.0.0.1:9/none", "pip install 'pysmtpx[postgresql]'"),
    ],
)
def test_an_extra_that_a_process_lacks_is_named_and_costs_no_message(
    server: Servers, journal: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have it."""
    for module in ("gssapi", "psycopg", "python_socks"):
        monkeypatch.setitem(sys.modules, module, None)
    options = {} if journal is None else {"journal": journal}
    one = attempt(sender(server, pool_options=options), first(A)["payload"])
    assert (one.delay, one.report["status"], names(one.report, "unsent")) == (30.0, "unsent", [A])
    assert one.report["error"]["kind"] == "ConnectError"
    assert told in one.report["error"]["text"]


def test_a_server_that_offers_no_auth_costs_no_message() -> None:
    with MailServer() as server:
        url = server.url.replace("smtp://", "smtp://ann:secret@")
        one = attempt(sender(url), first(A)["payload"])
    assert (one.delay, one.report["status"], names(one.report, "unsent")) == (30.0, "unsent", [A])
    assert "does not offer AUTH" in one.report["error"]["text"]
