"""Brokers, Redis and RabbitMQ, worker processes, and one of them killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.mail import EmailMessage
from flask import Flask
from support.celery_app import Broker, Worker, closing_app, pid_of
from support.daemon import wait_until
from support.django_site import site as site
from support.rabbitmq import RabbitServer
from support.redis import RedisServer

from pysmtpx.contrib.celery import SendFailed, enqueue
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.testing import Cut, Event, MailServer

from . import kills

pytestmark = pytest.mark.slow

MESSAGES = {"redis": 2000, "amqp": 150}
"""By broker; RabbitMQ hands each out as Redis does, and fewer show the same."""


@pytest.fixture(scope="session", params=["redis", "rabbitmq"])
def _rabbitmq(request: pytest.FixtureRequest) -> Iterator[RabbitServer | None]:
    """The session's, since it takes seconds to start; None where Redis is the broker."""
    server = RabbitServer() if request.param == "rabbitmq" else None
    yield server
    if server is not None:
        server.stop()


@pytest.fixture
def broker(_rabbitmq: RabbitServer | None) -> Iterator[Broker]:
    """Each of the brokers in turn, with nothing in it."""
    if _rabbitmq is not None:
        yield _rabbitmq.broker()
    else:
        redis = RedisServer()
        yield Broker.of(redis.url)
        redis.stop()


def content(number: int) -> bytes:
    return b"From: s@x.example\r\nSubject: %d\r\n\r\nhello\r\n" % number


class Killer:
    """A verdict that kills twice, each time at one point of a message.

    First one process of the worker, when it has sent the whole of a message and
    waits for the reply. Then the whole worker, with a message under way in
    both processes, and all before them acknowledged. RabbitMQ hands the two out
    only then; for Redis it is waited for, since it could lose a third one.
    """

    def __init__(self, messages: int) -> None:
        self.first = f"r{messages // 10 * 3}@x.example"
        self._second = f"r{messages // 10 * 6}@x.example"
        self.app: Celery | None = None
        self._processes: dict[int, int] = {}
        self._addresses: dict[int, str] = {}
        self._is_halting = False
        self._both = threading.Barrier(2, self._kill_all, timeout=30)
        self.worker: Worker | None = None
        self.killed: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.verb == "EHLO":
            self._processes[event.connection] = pid_of(event.address)
        elif event.verb == "RCPT":
            self._addresses[event.connection] = event.address
            self._is_halting |= event.address == self._second
            if self._is_halting and len(self.killed) < 2:
                self._both.wait()
        elif event.verb == "FINAL" and self._addresses[event.connection] == self.first and not self.killed:
            self.killed.append("a process")
            os.kill(self._processes[event.connection], signal.SIGKILL)

    def _kill_all(self) -> None:
        worker, app = self.worker, self.app
        assert worker is not None
        assert app is not None
        if app.conf.broker_url.startswith("redis"):
            redis = app.backend.client
            wait_until(lambda: redis.hlen("unacked") == 2, 25, "what was sent before to be acknowledged")
        worker.kill()
        self.killed.append("the worker")


@pytest.mark.timeout(300)
def test_many_messages_and_a_worker_killed_in_the_middle(broker: Broker) -> None:
    messages = MESSAGES[broker.url[:5].rstrip(":")]
    killer = Killer(messages)
    with MailServer(verdict=killer) as server, closing_app(broker) as app, contextlib.ExitStack() as stack:
        killer.app = app
        ids = [
            enqueue(app, content(n), sender="s@x.example", recipients=f"r{n}@x.example").id
            for n in range(messages)
        ]
        killer.worker = stack.enter_context(Worker(broker, server.url))
        wait_until(lambda: len(killer.killed) == 2, 120, "both kills")
        stack.enter_context(Worker(broker, server.url))

        def is_done() -> bool:
            """Asked from the last one on, and no further than to the first that has none."""
            while ids and (state := app.backend.get_state(ids[-1])) not in ("PENDING", "RETRY"):
                assert state == "SUCCESS"
                ids.pop()
            return not ids

        wait_until(is_done, 150, "a result for each message")
        times = Counter(address for message in server.messages for address in message.delivered)
    assert set(times) == {f"r{n}@x.example" for n in range(messages)}
    twice = {address: count for address, count in times.items() if count > 1}
    # Sent, and never acknowledged. What was under way when the worker was killed had not been sent.
    assert twice == {killer.first: 2}


@pytest.mark.timeout(300)
def test_with_a_journal_nothing_is_lost_and_nothing_goes_twice(broker: Broker, tmp_path: Path) -> None:
    """At length by ``python tests/real/kills.py 5000 200``."""
    # Redis can lose what a worker has just taken, where the whole of it is killed.
    whole = 4 if broker.url.startswith("amqp") else 1000
    account = kills.run(broker, tmp_path, 60, 4, seed=7, whole=whole)
    assert (account.lost, account.twice) == ([], [])
    assert account.kills >= 4
    assert len(account.doubtful) <= account.kills  # a process has one message at a time


class Fickle:
    """A verdict that refuses one recipient for now, once, and does not answer for another.

    The process that sent the whole of a message to a third one is killed before it can read the reply.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.killed: int | None = None
        self._processes: dict[int, int] = {}
        self._addresses: dict[int, str] = {}

    def __call__(self, event: Event) -> str | Cut | None:
        if event.verb == "EHLO":
            self._processes[event.connection] = pid_of(event.address)
        if event.verb == "RCPT":
            self.asked[event.address] += 1
            self._addresses[event.connection] = event.address
        if event.address == "later@x.example" and self.asked[event.address] == 1:
            return "451 4.3.0 later"
        address = self._addresses.get(event.connection)
        if event.verb == "FINAL" and address == "doubt@x.example":
            return Cut()
        if event.verb == "FINAL" and address == "killed@x.example":
            self.killed = event.connection
            os.kill(self._processes[event.connection], signal.SIGKILL)
        return None


def test_a_worker_tries_again_only_what_may_be_and_says_good_bye(broker: Broker) -> None:
    fickle = Fickle()
    refuse = {"full@x.example": "550 5.2.2 full"}
    recipients = ["now@x.example", "later@x.example", "full@x.example"]
    with MailServer(verdict=fickle, refuse=refuse) as server, closing_app(broker) as app:
        careful = {"sender": "s@x.example", "recipients": "killed@x.example", "name": "mail.careful"}
        with Worker(broker, server.url):
            report = enqueue(app, content(0), sender="s@x.example", recipients=recipients).get(timeout=60)
            with pytest.raises(SendFailed) as caught:
                enqueue(app, content(1), sender="s@x.example", recipients="doubt@x.example").get(timeout=60)
            enqueue(app, content(4), sender="s@x.example", recipients="after@x.example").get(timeout=60)
        connections = server.ledger.connections
        assert server.ledger.wait_until(lambda: all(each.ending for each in connections), 5)
        endings = Counter(each.ending for each in connections)
        assert endings.keys() == {"QUIT", "cut"}
        assert endings["cut"] == 1  # by us
        # How a worker ends that has lost a process is Celery's: the kill has another one.
        with Worker(broker, server.url):
            with pytest.raises(SendFailed) as killed:
                enqueue(app, content(2), **careful).get(timeout=60)
            enqueue(app, content(3), sender="s@x.example", recipients="last@x.example").get(timeout=60)
        assert {report["status"], report["attempts"]} == {"accepted", 2}
        assert [each["recipient"] for each in report["accepted"]] == ["now@x.example", "later@x.example"]
        assert [(each["recipient"], each["code"]) for each in report["rejected"]] == [("full@x.example", 550)]
        assert caught.value.status == "unknown"
        assert caught.value.unknown_recipients == ("doubt@x.example",)
        # The second try went to one recipient alone, with the same Message-ID; doubt was not tried again.
        assert [message.delivered for message in server.messages[:2]] == [[recipients[0]], [recipients[1]]]
        assert len({message.content for message in server.messages[:2]}) == 1
        assert fickle.asked["doubt@x.example"] == 1
        # The broker handed it out a second time, and said so: for this task that is doubt.
        assert killed.value.unknown_recipients == ("killed@x.example",)
        assert fickle.asked["killed@x.example"] == 1
        assert server.ledger.wait_until(lambda: all(each.ending for each in connections), 5)
        assert [each.ending for each in connections if each.number == fickle.killed] == ["eof"]


def test_django_and_flask_hand_over_by_it(site: Any, broker: Broker) -> None:
    mail = Mail()
    by_flask = Message(
        "Grüße", ["Ann <ann@x.example>"], body="Grüße", bcc=["eve@x.example"], sender="me@x.example"
    )
    by_django = EmailMessage("Grüße", "Grüße", "me@x.example", ["Bob <bob@x.example>"], bcc=["eve@x.example"])
    with MailServer() as server, closing_app(broker) as celery:
        flask = Flask(__name__)
        flask.config["MAIL_CELERY"] = celery
        mail.init_app(flask)
        with flask.app_context():
            mail.send(by_flask)
        site.use(backend="pysmtpx.contrib.django.CeleryEmailBackend", app=celery)
        assert by_django.send() == 1
        assert len(server.messages) == 0
        with Worker(broker, server.url):
            reports = [each.send_task.get(timeout=60) for each in (by_flask, by_django)]
        sent = {(message.sender, *message.delivered): message.content for message in server.messages}
    assert [report["status"] for report in reports] == ["accepted", "accepted"]
    assert sent.keys() == {
        ("me@x.example", "ann@x.example", "eve@x.example"),
        ("me@x.example", "bob@x.example", "eve@x.example"),
    }
    assert not any(b"eve@" in each for each in sent.values())


def test_the_example_runs(broker: Broker) -> None:
    script = Path(__file__).parents[2] / "examples" / "celery_worker" / "run.py"
    environment = {**os.environ, "MAILER_BROKER": broker.url}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "busy@example.com: taken" in done.stdout
