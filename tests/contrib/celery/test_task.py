"""The task as the app's own code sees it: what it sends, what it tries again, what it tells."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from celery import Celery, signals
from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded
from celery.local import Proxy
from support.daemon import CLOSED_PORT
from support.places import resolve_to

import pysmtpx
from pysmtpx import ForwardPath, InputError, MailObject, RetryPolicy, Route, SmtpPool
from pysmtpx.contrib.celery import SendFailed, enqueue, register
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import Cut, Event, MailServer, Stall

QUICK = RetryPolicy(attempts=3, backoff=0.0, temporary=True)
ONCE = RetryPolicy(attempts=1)
LINE = b"Subject: x\r\n\r\nhello\r\n"


def mail(*recipients: str) -> MailObject:
    return MailObject("s@x.example", recipients or ("a@x.example",), LINE)


def email(to: str = "a@x.example, b@x.example", bcc: str = "c@x.example") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "s@x.example", to, bcc
    message["Subject"] = "hello"
    message.set_content("secret words\n")
    return message


def once(verb: str, answer: str | Cut, address: str | None = None) -> Callable[[Event], str | Cut | None]:
    """A verdict that answers so the first time."""
    seen: Counter[str] = Counter()

    def verdict(event: Event) -> str | Cut | None:
        if event.verb != verb or (address is not None and event.address != address):
            return None
        seen[verb] += 1
        return answer if seen[verb] == 1 else None

    return verdict


# What it tells.


def test_a_report_says_what_became_of_each(eager: Celery) -> None:
    with MailServer(refuse={"b@x.example": "550 5.1.1 unknown"}) as server:
        result = enqueue(register(eager, server.url), email())
        report = result.get()
        (message,) = server.messages
    assert report["status"] == "accepted"
    assert [each["recipient"] for each in report["accepted"]] == ["a@x.example", "c@x.example"]
    assert report["accepted"][0]["code"] == 250
    (rejected,) = report["rejected"]
    assert rejected == {
        "recipient": "b@x.example",
        "code": 550,
        "enhanced": "5.1.1",
        "text": "5.1.1 unknown",
        "stage": "rcpt",
    }
    assert (report["unknown"], report["unsent"], report["error"]) == ([], [], None)
    assert (report["task_id"], report["sender"], report["attempts"]) == (result.id, "s@x.example", 1)
    assert f"Message-ID: {report['message_id']}\r\n".encode() in message.content
    assert b"Bcc:" not in message.content


@pytest.mark.parametrize("head", [b"no field\r\n", b"X: y\r\n" * 200_000, b""])
def test_octets_without_a_message_id_are_sent_and_reported_all_the_same(eager: Celery, head: bytes) -> None:
    with MailServer() as server:
        content = head + b"\r\nhello\r\n"
        report = enqueue(register(eager, server.url), MailObject("s@x.example", "a@x.example", content)).get()
        assert server.messages[0].content == content
    assert (report["status"], report["message_id"]) == ("accepted", None)


def test_nobody_accepted_is_a_failure_and_the_stored_result_says_why(eager: Celery) -> None:
    with MailServer(refuse={"a@x.example": "550 5.1.1 unknown"}) as server:
        task_id = enqueue(register(eager, server.url), mail()).id
    with pytest.raises(SendFailed) as caught:
        eager.AsyncResult(task_id).get()
    assert caught.value.status == "rejected"
    assert caught.value.rejected_recipients[0].reply.code == 550
    assert caught.value.report["error"]["kind"] == "AllRecipientsFailed"
    assert isinstance(caught.value, pysmtpx.SmtpError)


def test_a_call_without_celery_makes_one_try_and_says_what_came_of_it(eager: Celery) -> None:
    with MailServer(refuse={"b@x.example": "451 later"}) as server:
        task = register(eager, server.url, retry=RetryPolicy(attempts=3, temporary=True))
        report = task(pack(make_submission(mail("a@x.example", "b@x.example"))))
    assert (report["status"], report["attempts"], report["unsent"]) == ("accepted", 1, [])
    assert [each["code"] for each in report["rejected"]] == [451]


def test_whoever_wants_to_know_is_told_and_does_no_harm(
    eager: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def on_outcome(report: Any) -> None:
        told.append(report["status"])
        raise RuntimeError("of the callback")

    with MailServer(refuse={"b@x.example": "550 5.1.1 unknown"}) as server:
        task = register(eager, server.url, on_outcome=on_outcome)
        assert enqueue(task, mail()).get()["status"] == "accepted"
        assert isinstance(enqueue(task, mail("b@x.example")).result, SendFailed)
    assert told == ["accepted", "rejected"]
    assert "on_outcome failed" in caplog.text


# What is tried again.


def test_only_those_who_are_owed_it_get_another_try_of_the_same_message(eager: Celery) -> None:
    with MailServer(verdict=once("RCPT", "451 4.3.0 later", "b@x.example")) as server:
        report = enqueue(register(eager, server.url, retry=QUICK), email()).get()
        first, second = server.messages
    assert (first.delivered, second.delivered) == (["a@x.example", "c@x.example"], ["b@x.example"])
    assert first.content == second.content
    assert report["attempts"] == 2
    assert len(report["accepted"]) == 3
    assert report["rejected"] == []


def test_tries_are_bounded_and_the_pool_does_not_multiply_them(eager: Celery) -> None:
    with MailServer(replies={"RCPT": Cut()}) as server:
        result = enqueue(register(eager, server.url, retry=QUICK), mail())
        tries = sum(commands.count("RCPT") for commands in server.ledger.commands)
    assert isinstance(result.result, SendFailed)
    assert (result.result.status, result.result.report["attempts"]) == ("unsent", 3)
    assert result.result.temporary
    assert tries == 3


def test_a_refusal_for_good_or_one_not_asked_for_is_not_tried_again(eager: Celery) -> None:
    with MailServer(replies={"MAIL": "451 4.3.0 later"}) as server:
        hasty = register(eager, server.url, name="hasty", retry=RetryPolicy(backoff=0.0))
        assert enqueue(hasty, mail()).result.report["attempts"] == 1
    with MailServer(replies={"MAIL": "550 5.7.1 never"}) as server:
        task = register(eager, server.url, retry=QUICK)
        assert enqueue(task, mail()).result.report["attempts"] == 1


@pytest.mark.parametrize("unknown", [False, True])
def test_doubt_is_reported_and_tried_again_only_where_asked(eager: Celery, unknown: bool) -> None:
    policy = RetryPolicy(attempts=3, backoff=0.0, unknown=unknown)
    with MailServer(verdict=once("FINAL", Cut())) as server:
        result = enqueue(register(eager, server.url, retry=policy), mail()).result
        tries = sum(commands.count("MAIL") for commands in server.ledger.commands)
    if unknown:
        assert (result["status"], tries) == ("accepted", 2)
    else:
        assert (result.status, tries) == ("unknown", 1)
        assert result.unknown_recipients == ("a@x.example",)


def test_all_or_nothing_is_kept_over_tries(eager: Celery) -> None:
    with MailServer(verdict=once("RCPT", "451 4.3.0 later", "b@x.example")) as server:
        task = register(eager, server.url, retry=QUICK)
        report = enqueue(task, mail("a@x.example", "b@x.example"), all_or_nothing=True).get()
        delivered = [message.delivered for message in server.messages]
    assert (report["status"], report["attempts"]) == ("accepted", 2)
    assert delivered == [["a@x.example", "b@x.example"]], "to nobody first, then to all at once"


def test_a_payload_of_another_version_fails_at_once_and_says_so(eager: Celery) -> None:
    with MailServer() as server:
        task = register(eager, server.url, retry=QUICK)
        payload = {**pack(make_submission(mail())), "version": 9}
        with pytest.raises(InputError, match="version 9"):
            task.apply_async(kwargs={"payload": payload}).get()
        with pytest.raises(InputError, match="malformed account"):
            task.apply_async(
                kwargs={"payload": pack(make_submission(mail())), "account": {"version": 9}}
            ).get()
        assert server.ledger.connections == []


def run(task: Any, payload: Any, account: Any = None, **info: Any) -> Any:
    """What the body of the task comes to in a worker that got it as a message."""
    info = {"exchange": "", "routing_key": task.app.conf.task_default_queue, **info}
    task.push_request(id="t1", called_directly=False, is_eager=False, retries=0, delivery_info=info)
    try:
        return task.run(payload, account)
    finally:
        task.pop_request()


def test_a_message_that_was_delivered_before_can_be_reported_instead(eager: Celery) -> None:
    with MailServer() as server:
        careful = register(eager, server.url, name="careful", retry=QUICK, resend_redelivered=False)
        with pytest.raises(SendFailed) as caught:
            run(careful, pack(make_submission(mail())), redelivered=True)
        assert caught.value.status == "unknown"
        assert server.messages == []
        task = register(eager, server.url)
        assert run(task, pack(make_submission(mail())), redelivered=True)["status"] == "accepted"


def test_where_the_broker_does_not_take_the_next_try_nothing_is_lost(make_app: Callable[..., Celery]) -> None:
    app = make_app(
        broker_url=f"amqp://127.0.0.1:{CLOSED_PORT}",
        broker_transport_options={"max_retries": 1, "interval_start": 0, "interval_step": 0},
        task_publish_retry=False,
    )
    with MailServer(replies={("RCPT", "b@x.example"): "451 4.3.0 later"}) as server:
        task = register(app, server.url, retry=QUICK)
        with pytest.raises(Reject) as back:
            run(task, pack(make_submission(mail("b@x.example"))))
        assert back.value.requeue, "nobody has it: the message goes back to the queue as it is"
        report = run(task, pack(make_submission(mail("a@x.example", "b@x.example"))))
    # Back in the queue it would go to the first recipient once more: so this is the end, and it is told.
    assert [each["recipient"] for each in report["accepted"]] == ["a@x.example"]
    assert [(each["recipient"], each["code"]) for each in report["rejected"]] == [("b@x.example", 451)]


# Time.


@pytest.mark.parametrize("where", ["task", "app"])
def test_a_try_ends_before_celerys_limit_so_that_its_outcome_is_known(eager: Celery, where: str) -> None:
    options: dict[str, float] = {}
    if where == "task":
        options = {"time_limit": 9, "soft_time_limit": 2.0}
    else:
        eager.conf.update(task_time_limit=9, task_soft_time_limit=2.0)
    with MailServer(replies={"FINAL": Stall()}) as server:
        task = register(eager, server.url, retry=ONCE, timeout=20, task_options=options)
        result = enqueue(task, mail()).result
    assert isinstance(result, SendFailed)
    assert (result.status, result.report["error"]["kind"]) == ("unknown", "DeliveryUnknown")


class Alarm:
    """A verdict that lets Celery's time limit strike in the main thread while the server does not answer."""

    def __init__(self, verb: str) -> None:
        self._verb = verb

    def __call__(self, event: Event) -> Stall | None:
        if event.verb != self._verb:
            return None
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return Stall()


def strike(*_: object) -> None:
    raise SoftTimeLimitExceeded


@pytest.mark.parametrize("verb", ["RCPT", "FINAL"])
def test_a_limit_that_strikes_in_the_middle_leaves_doubt(eager: Celery, verb: str) -> None:
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with MailServer(verdict=Alarm(verb)) as server:
            result = enqueue(register(eager, server.url, retry=ONCE), mail()).result
    finally:
        signal.signal(signal.SIGALRM, before)
    assert isinstance(result, SendFailed)
    assert (result.status, result.report["attempts"]) == ("unknown", 1)


def test_what_ends_a_try_without_an_outcome_leaves_doubt(
    eager: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def send(*_: object, **__: object) -> None:
        strike()

    monkeypatch.setattr(SmtpPool, "send", send)
    result = enqueue(register(eager, "smtp://127.0.0.1:1", retry=QUICK), mail()).result
    assert (result.status, result.unknown_recipients) == ("unknown", ("a@x.example",))
    assert "SoftTimeLimitExceeded" in result.report["error"]["text"]
    assert "without an outcome" in caplog.text


# The pool.


@pytest.mark.parametrize("end", [signals.worker_process_shutdown, signals.worker_shutdown])
def test_the_process_has_one_pool_for_a_task_until_it_ends(eager: Celery, end: Any) -> None:
    with MailServer() as server:
        task = register(eager, server.url)
        for _ in range(3):
            enqueue(task, mail())
        end.send(sender=None)
        (connection,) = server.ledger.connections
        assert server.ledger.wait_until(lambda: connection.ending == "QUIT", 5)
        assert enqueue(task, mail()).get()["status"] == "accepted"


@pytest.mark.parametrize("answer", ["452 4.7.1 too much", "550 5.4.5 Daily user sending limit exceeded"])
def test_a_quota_of_one_server_moves_on_within_the_try(eager: Celery, answer: str) -> None:
    """Celery counts one try, and what is about the message waits for Celery's next."""
    with MailServer(replies={"MAIL": answer}) as first, MailServer() as second:
        routes = [Route(first.url, weight=2), second.url]
        task = register(eager, routes, retry=QUICK, balance="weighted")
        for _ in range(2):
            report = enqueue(task, mail()).get()
            assert (report["status"], report["attempts"]) == ("accepted", 1)
        assert len(second.messages) == 2
        assert sum(line.count("MAIL") for line in first.ledger.commands) == 1


def test_what_two_servers_refuse_is_counted_as_one_try(eager: Celery) -> None:
    replies = {"MAIL": "452 4.7.1 too much"}
    with MailServer(replies=replies) as first, MailServer(replies=replies) as second:
        task = register(eager, [first.url, second.url], retry=ONCE)
        result = enqueue(task, mail())
        assert isinstance(result.result, SendFailed)
        assert result.result.report["attempts"] == 1
        assert [line.count("MAIL") for each in (first, second) for line in each.ledger.commands] == [1, 1]


def test_tasks_with_other_names_and_servers_live_side_by_side(eager: Celery) -> None:
    with MailServer() as one, MailServer() as two:
        for name, server in (("mail.one", one), ("mail.two", two)):
            task = register(eager, server.url, name=name, max_connections=1)
            assert task.name == name
        enqueue(eager, mail(), name="mail.two")
        assert (len(one.messages), len(two.messages)) == (0, 1)


def test_one_try_is_enough_where_a_server_or_an_idle_connection_is_dead(eager: Celery) -> None:
    with MailServer(replies={("MAIL", 1): "421 4.4.2 idle for too long"}) as server:
        task = register(eager, [f"smtp://127.0.0.1:{CLOSED_PORT}", server.url], retry=QUICK)
        reports = [enqueue(task, mail()).get() for _ in range(2)]
        assert len(server.ledger.connections) == 2
    assert [(report["status"], report["attempts"]) for report in reports] == [("accepted", 1)] * 2


SERVER = {"url": ""}


def a_server() -> str:
    return SERVER["url"]


@pytest.mark.parametrize("given", [a_server, f"{__name__}:a_server"])
def test_where_to_send_is_asked_for_in_the_worker(eager: Celery, given: Any) -> None:
    task = register(eager, given)
    with MailServer() as server:
        SERVER["url"] = server.url
        assert enqueue(task, mail()).get()["status"] == "accepted"


def test_a_process_that_lacks_its_settings_gives_no_message_up(
    eager: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def server() -> str:
        calls.append(1)
        raise KeyError("hunter2")

    result = enqueue(register(eager, server, retry=QUICK), mail()).result
    assert (result.status, len(calls)) == ("unsent", 3)
    assert "hunter2" not in str(result.report)
    assert "no pool can be made" in caplog.text


def test_what_is_wrong_is_said_when_the_task_is_registered(eager: Celery) -> None:
    for wrong in ({"max_connections": 0}, {"retry": 3}, {"timeout": 0}, {"nonsense": 1}):
        with pytest.raises(InputError):
            register(eager, "smtp://127.0.0.1:25", **wrong)
    register(eager, "smtp://127.0.0.1:25")
    with pytest.raises(InputError, match="has a task"):
        register(eager, "smtp://127.0.0.1:26")


# What goes to the broker.


def taken(app: Celery, queue: str | None = None) -> Any:
    """The next message of a queue, or None."""
    with app.connection_for_read() as connection:
        simple = connection.SimpleQueue(queue or app.conf.task_default_queue)
        try:
            message = simple.get(block=False)
        except simple.Empty:
            return None
        finally:
            simple.close()
        message.ack()
        return message


@pytest.mark.parametrize(
    "message",
    [
        b"From: s@x.example\r\nTo: no address\r\n\r\nx\r\n",
        b"Subject: no sender\r\n\r\nx\r\n",
        MailObject("s@x.example", "a@x.example", b"Subject: x\r\n\r\n" + b"a" * 2000),
        MailObject("s@x.example", "a@x.example", b"Subject: x\r\n\r\n" + b"hello\r\n" * 9000),
        "text",
    ],
)
def test_a_message_that_cannot_be_sent_never_reaches_the_broker(app: Celery, message: Any) -> None:
    task = register(app, "smtp://127.0.0.1:25")
    with pytest.raises((InputError, pysmtpx.NotSupportedError)):
        enqueue(task, message, max_size=50_000)
    assert taken(app) is None


def test_a_name_is_no_application() -> None:
    with pytest.raises(InputError, match="application"):
        enqueue("shop.celery", mail())


def test_nothing_of_the_content_is_shown_where_celery_shows_arguments(app: Celery) -> None:
    with MailServer(replies={"MAIL": "451 4.3.0 later"}) as server:
        task = register(app, server.url, retry=QUICK)
        enqueue(task, email())
        first = taken(app)
        with pytest.raises(Retry) as caught:
            run(task, **first.payload[1])
        second = taken(app)
    for message in (first, second):
        assert "secret words" in str(message.payload)
        assert "secret" not in str(message.headers)
        assert "a@x.example" not in str(message.headers)
    assert second.headers["retries"] == 1
    assert "secret" not in str(caught.value)
    assert second.payload[1]["account"]["attempts"] == 1


@pytest.mark.parametrize(("visibility", "expected"), [(None, [100.0, 150.0]), (240, [100.0, 120.0])])
def test_waits_are_those_of_the_policy_and_shorter_than_the_brokers_patience(
    make_app: Callable[..., Celery], visibility: int | None, expected: list[float]
) -> None:
    app = make_app(broker_transport_options={"visibility_timeout": visibility} if visibility else {})
    policy = RetryPolicy(attempts=5, backoff=100.0, jitter=0.0, max_backoff=150.0)
    task = register(app, f"smtp://127.0.0.1:{CLOSED_PORT}", retry=policy)
    enqueue(task, mail())
    waits = []
    for _ in range(2):
        with pytest.raises(Retry) as caught:
            run(task, **taken(app).payload[1])
        waits.append(caught.value.when)
    assert waits == expected


def test_a_task_has_a_queue_of_its_own(app: Celery) -> None:
    register(app, "smtp://127.0.0.1:25", name="mail.slow", queue="slow", rate_limit="5/m")
    assert app.tasks["mail.slow"].rate_limit == "5/m"
    enqueue(app, mail(), name="mail.slow")
    enqueue(app, mail(), name="mail.slow", queue="other", headers={"x-mine": "1"})
    assert taken(app, "slow").headers["task"] == "mail.slow"
    assert taken(app, "other").headers["x-mine"] == "1"
    assert taken(app) is None


def test_the_next_try_stays_in_the_queue_of_the_first(app: Celery) -> None:
    task = register(app, f"smtp://127.0.0.1:{CLOSED_PORT}", queue="slow", retry=QUICK)
    enqueue(task, mail())
    first = taken(app, "slow")
    with pytest.raises(Retry):
        run(task, **first.payload[1], **first.delivery_info, redelivered=True)
    second = taken(app, "slow")
    assert second.headers["retries"] == 1
    assert not second.delivery_info.get("redelivered"), "the next try is no redelivery of this one"


def test_the_current_app_is_the_one_that_it_stands_for(make_app: Callable[..., Celery]) -> None:
    app = make_app()
    register(app, "smtp://127.0.0.1:25", queue="mine")
    enqueue(Proxy(lambda: app), mail())
    assert taken(app, "mine").headers["task"] == "pysmtpx.send"


def test_who_enqueues_need_not_know_the_task(app: Celery) -> None:
    enqueue(app, mail(), name="known.to.workers")
    assert taken(app).headers["task"] == "known.to.workers"


def test_the_defaults_lose_no_message(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    task = register(app, "smtp://user:hunter2@127.0.0.1:25")
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.max_retries is None
    other = register(app, "smtp://127.0.0.1:25", name="other", task_options={"acks_late": False})
    assert not other.acks_late
    assert "hunter2" not in caplog.text


def test_a_mailbox_that_the_server_of_its_host_knows(eager: Celery, monkeypatch: Any) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    long = f"{'x' * 100}@x.example"
    with (
        MailServer(local_mailboxes=True) as server,
        MailServer(protocol="lmtp", local_mailboxes=True) as lmtp,
    ):
        there = register(eager, f"smtp://mail.test:{server.port}?tls=none", retry=ONCE, name="there")
        here = register(eager, server.url, retry=ONCE, name="here")
        over_lmtp = register(eager, f"lmtp://mail.test:{lmtp.port}?tls=none", retry=ONCE, name="lmtp")
        for task in (here, over_lmtp):
            assert enqueue(task, email("root", long)).get()["status"] == "accepted"
        with pytest.raises(SendFailed) as caught:
            enqueue(there, email("root", "")).get()
        assert "'root'" in str(caught.value.report)
        assert "strict=False" in str(caught.value.report)
        assert not enqueue(there, email("root", ""), recipients=[ForwardPath("root", strict=False)]).get()[
            "unsent"
        ]
    assert [each.addresses for each in (*server.messages, *lmtp.messages)] == [
        ["root", long],
        ["root"],
        ["root", long],
    ]
