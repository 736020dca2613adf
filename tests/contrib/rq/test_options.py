"""What ``register`` and ``enqueue`` of RQ's face take, and what they refuse before anything goes to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from rq import Queue

from pysmtpx import InputError, MessageTooLarge
from pysmtpx.contrib.pools import close_pools
from pysmtpx.contrib.rq import SendFailed, enqueue, register
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import MailServer

NAME = "shop.mail.send_mail"
MAIL = b"From: a@x.example\r\nTo: b@x.example\r\nSubject: secret words\r\n\r\nhello\r\n"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """Return a queue that keeps what it was given, without a Redis."""
    client = Redis(port=9)
    queue = Queue("mail", connection=client)

    def keep(name: str, **options: Any) -> Any:
        return name, options

    monkeypatch.setattr(queue, "enqueue_call", keep)
    yield queue
    client.close()
    close_pools(0)


def test_what_goes_into_the_queue(queue: Queue) -> None:
    name, options = enqueue(queue, NAME, MAIL, job_timeout=60, result_ttl=5)  # type: ignore[misc]
    assert name == NAME
    assert options["kwargs"].keys() == {"payload"}
    assert (options["timeout"], options["result_ttl"], options["retry"].max) == (60, 5, 3)
    assert options["description"] == "<mail to 1 recipients>"
    job = register(NAME, "smtp://127.0.0.1:9")
    assert enqueue(queue, job, MAIL, retry=None, description="mine")[1]["retry"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"job_timeuot": 60}, "did you mean job_timeout"),
        ({"all_or_noting": True}, "did you mean all_or_nothing"),
        ({"timeout": 5}, "timeout"),
        ({"recipients": "no address"}, "no address"),
    ],
)
def test_a_slip_is_told(queue: Queue, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        enqueue(queue, NAME, MAIL, **options)


def test_a_message_over_the_size_is_refused(queue: Queue) -> None:
    for job, options in ((register(NAME, "smtp://127.0.0.1:9", max_size=20), {}), (NAME, {"max_size": 20})):
        with pytest.raises(MessageTooLarge):
            enqueue(queue, job, MAIL, **options)  # type: ignore[arg-type]


def test_what_is_no_queue_or_no_job_is_refused(queue: Queue) -> None:
    for wrong in ((None, NAME), (queue, len), (queue, "send_mail"), (queue, "shop:send_mail")):
        with pytest.raises(InputError):
            enqueue(*wrong, MAIL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"journal": "outbox.db"}, "a task takes no journal"),
        ({"max_conections": 2}, "did you mean max_connections"),
        ({"resend_kiled": True}, "did you mean resend_killed"),
        ({"retry": 3}, "retry is a RetryPolicy"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_what_cannot_be_right_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        register(NAME, "smtp://127.0.0.1:9", **options)


def test_a_name_that_no_worker_can_import_is_refused() -> None:
    for name in ("send_mail", "shop.mail:send", "shop..mail", ""):
        with pytest.raises(InputError, match=r"package\.module\.attribute"):
            register(name, "smtp://127.0.0.1:9")


def test_called_as_a_function_it_makes_one_try() -> None:
    told: list[Any] = []
    payload = pack(make_submission(MAIL), 1000)
    with MailServer(refuse={"b@x.example": "450 4.2.1 later"}) as server:
        job = register(NAME, server.url, on_outcome=told.append)
        with pytest.raises(SendFailed, match="rejected after 1 tries"):
            job(payload)
    assert [report["status"] for report in told] == ["rejected"]
    close_pools(0)
