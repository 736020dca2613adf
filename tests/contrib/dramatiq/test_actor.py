"""The actor on a broker in memory: what is enqueued, what is tried again, and what cannot be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq import Message
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, TimeLimitExceeded
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from support import pages

from pysmtpx import InputError, MailObject, MessageTooLarge, RetryPolicy, SmtpPool
from pysmtpx.contrib.dramatiq import enqueue, register
from pysmtpx.contrib.pools import close_pools
from pysmtpx.testing import Event, MailServer

LINE = b"Subject: x\r\n\r\nhello\r\n"
POLICY = RetryPolicy(attempts=2, backoff=0.5, jitter=0.0, temporary=True)
A, B = "a@x.example", "b@x.example"
PAGE = pages.DOCS / "how-to/dramatiq.md"


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    broker = StubBroker()  # type: ignore[no-untyped-call]
    broker.add_middleware(Results(backend=StubBackend()))
    yield broker
    close_pools(0)


def mail(*recipients: str) -> MailObject:
    return MailObject("s@x.example", recipients, LINE)


def taken(broker: StubBroker, queue: str = "default") -> Message[Any]:
    """The next one, as a worker takes it."""
    queues = broker.queues
    name = queue if not queues[queue].empty() else f"{queue}.DQ"
    return Message.decode(queues[name].get_nowait())


def performed(broker: StubBroker, message: Message[Any]) -> Any:
    """What a worker does with it."""
    (current,) = [each for each in broker.middleware if isinstance(each, CurrentMessage)]
    current.before_process_message(broker, message)  # type: ignore[no-untyped-call]
    try:
        return broker.get_actor(message.actor_name)(*message.args, **message.kwargs)
    finally:
        current.after_process_message(broker, message)  # type: ignore[no-untyped-call]


def test_the_next_try_is_for_those_who_are_owed_it(broker: StubBroker) -> None:
    asked: list[str] = []
    told: list[Any] = []

    def later(event: Event) -> str | None:
        if event.verb == "RCPT":
            asked.append(event.address)
            return "450 4.2.1 later" if asked == [A, B] else None
        return None

    with MailServer(verdict=later) as server:
        register(broker, server.url, retry=POLICY, on_outcome=told.append, signing_keys="k" * 16)
        first = enqueue(broker.get_actor("pysmtpx.send"), mail(A, B))
        between = performed(broker, taken(broker))
        assert [each["recipient"] for each in between["accepted"]] == [A]
        assert told == []
        second = taken(broker)
        assert second.message_id == first.message_id
        assert second.options["eta"] - second.message_timestamp >= 500
        report = performed(broker, second)
        assert [message.delivered for message in server.messages] == [[A], [B]]
    assert told == [report]
    assert (report["status"], report["attempts"], report["task_id"]) == ("accepted", 2, first.message_id)


def test_nobody_raises_what_dramatiq_would_log_the_message_with(broker: StubBroker) -> None:
    told: list[Any] = []
    with MailServer(refuse={A: "550 5.1.1 unknown"}) as server:
        register(broker, server.url, on_outcome=told.append)
        enqueue(broker, mail(A))
        assert performed(broker, taken(broker))["status"] == "rejected"
    assert [each["status"] for each in told] == ["rejected"]


def test_a_limit_that_strikes_in_a_try_leaves_doubt(
    broker: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq raises in the thread what no ``except Exception`` sees, and would drop the message for it."""

    def struck(*_: Any, **__: Any) -> None:
        raise TimeLimitExceeded

    register(broker, "smtp://127.0.0.1:9")
    monkeypatch.setattr(SmtpPool, "send", struck)
    enqueue(broker, mail(A))
    report = performed(broker, taken(broker))
    assert (report["status"], report["unknown"]) == ("unknown", [A])


def test_a_try_ends_before_the_limit_of_the_actor(
    broker: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def send(*_: Any, timeout: float, **__: Any) -> None:
        given.append(timeout)
        raise InputError("enough")

    monkeypatch.setattr(SmtpPool, "send", send)
    for number, options in enumerate(({}, {"timeout": 10.0}, {"actor_options": {"time_limit": 20_000}})):
        register(broker, "smtp://127.0.0.1:9", name=f"mail{number}", **options)  # type: ignore[arg-type]
        enqueue(broker, mail(A), name=f"mail{number}")
        performed(broker, taken(broker))
    assert given == [540.0, 10.0, 18.0]


def test_without_results_there_is_none() -> None:
    """Dramatiq would warn of each."""
    broker = StubBroker()  # type: ignore[no-untyped-call]
    with MailServer() as server:
        actor = register(broker, server.url)
        enqueue(actor, mail(A))
        assert performed(broker, taken(broker)) is None
        assert len(server.messages) == 1
    close_pools(0)


def test_what_is_not_signed_is_refused(broker: StubBroker) -> None:
    with MailServer() as server:
        register(broker, server.url, signing_keys="k" * 16)
        enqueue(broker, mail(A))
        with pytest.raises(InputError, match="not signed"):
            performed(broker, taken(broker))
        enqueue(broker, mail(A), signing_keys="k" * 16)
        assert performed(broker, taken(broker))["status"] == "accepted"


def test_what_cannot_be_right_is_told(broker: StubBroker) -> None:
    url = "smtp://127.0.0.1:9"
    for options in (
        {"actor_options": {"max_retrys": 1}},
        {"retry": 3},
        {"timeout": 0},
        {"max_conections": 1},
    ):
        with pytest.raises(InputError):
            register(broker, url, **options)  # type: ignore[arg-type]
    actor = register(broker, url)
    with pytest.raises(ValueError, match="already"):
        register(broker, url)
    with pytest.raises(InputError):
        enqueue(None, mail(A))  # type: ignore[arg-type]
    with pytest.raises(MessageTooLarge):
        enqueue(actor, mail(A), max_size=5)
    with pytest.raises(InputError):
        enqueue(actor, mail("no address"))
    assert broker.queues["default"].empty()


def test_the_page_runs_from_top_to_bottom(
    broker: StubBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dramatiq.brokers.redis.RedisBroker", lambda url: broker)
    monkeypatch.setattr("dramatiq.set_broker", lambda _: None)
    names: dict[str, Any] = {}
    for snippet in pages.sources_of(PAGE):
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert capsys.readouterr().out == "pysmtpx.send\n"
    assert taken(broker).message_id == names["task"].message_id
