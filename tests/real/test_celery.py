"""A Redis broker, worker processes, and one of them killed in the middle."""

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

import pytest
from redis import Redis
from support.celery_app import Worker, closing_app, pid_of
from support.daemon import wait_until
from support.redis import RedisServer

from pysmtpx.contrib.celery import SendFailed, enqueue
from pysmtpx.testing import Cut, Event, MailServer

pytestmark = pytest.mark.slow

MESSAGES = 2000


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


def content(number: int) -> bytes:
    return b"From: s@x.example\r\nSubject: %d\r\n\r\nhello\r\n" % number


class Killer:
    """A verdict that kills twice, each time at one point of a message.

    First one process of the worker, when it has sent the whole of a message and
    waits for the reply. Then the whole worker, with a message under way in
    both processes, and all before them acknowledged: it has taken no third one
    then, which Redis could lose.
    """

    def __init__(self) -> None:
        self.broker: Redis | None = None
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
            self._is_halting |= event.address == "r1200@x.example"
            if self._is_halting and len(self.killed) < 2:
                self._both.wait()
        elif (
            event.verb == "FINAL"
            and self._addresses[event.connection] == "r600@x.example"
            and not self.killed
        ):
            self.killed.append("a process")
            os.kill(self._processes[event.connection], signal.SIGKILL)

    def _kill_all(self) -> None:
        worker, broker = self.worker, self.broker
        assert worker is not None
        assert broker is not None
        wait_until(lambda: broker.hlen("unacked") == 2, 25, "what was sent before to be acknowledged")
        worker.kill()
        self.killed.append("the worker")


@pytest.mark.timeout(300)
def test_two_thousand_messages_and_a_worker_killed_in_the_middle(redis: RedisServer) -> None:
    killer = Killer()
    with MailServer(verdict=killer) as server, closing_app(redis.url) as app, contextlib.ExitStack() as stack:
        killer.broker = app.backend.client
        ids = [
            enqueue(app, content(n), sender="s@x.example", recipients=f"r{n}@x.example").id
            for n in range(MESSAGES)
        ]
        killer.worker = stack.enter_context(Worker(redis.url, server.url))
        wait_until(lambda: len(killer.killed) == 2, 120, "both kills")
        stack.enter_context(Worker(redis.url, server.url))
        states = dict.fromkeys(ids, "")

        def is_done() -> bool:
            missing = [task_id for task_id, state in states.items() if state != "SUCCESS"]
            states.update({task_id: app.backend.get_state(task_id) for task_id in missing})
            return "PENDING" not in states.values()

        wait_until(is_done, 150, "a result for each message")
        times = Counter(address for message in server.messages for address in message.delivered)
    assert set(states.values()) == {"SUCCESS"}
    assert set(times) == {f"r{n}@x.example" for n in range(MESSAGES)}
    twice = {address: count for address, count in times.items() if count > 1}
    # Sent, and never acknowledged. What was under way when the worker was killed had not been sent.
    assert twice == {"r600@x.example": 2}


class Fickle:
    """A verdict that refuses one recipient for now, once, and does not answer for another."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._in_doubt: set[int] = set()

    def __call__(self, event: Event) -> str | Cut | None:
        if event.verb == "RCPT":
            self.asked[event.address] += 1
            self._in_doubt -= {event.connection}
        if event.address == "later@x.example" and self.asked[event.address] == 1:
            return "451 4.3.0 later"
        if event.address == "doubt@x.example":
            self._in_doubt.add(event.connection)
        return Cut() if event.verb == "FINAL" and event.connection in self._in_doubt else None


def test_a_worker_tries_again_only_what_may_be_and_says_good_bye(redis: RedisServer) -> None:
    fickle = Fickle()
    refuse = {"full@x.example": "550 5.2.2 full"}
    recipients = ["now@x.example", "later@x.example", "full@x.example"]
    with MailServer(verdict=fickle, refuse=refuse) as server, closing_app(redis.url) as app:
        with Worker(redis.url, server.url):
            report = enqueue(app, content(0), sender="s@x.example", recipients=recipients).get(timeout=30)
            with pytest.raises(SendFailed) as caught:
                enqueue(app, content(1), sender="s@x.example", recipients="doubt@x.example").get(timeout=30)
        assert {report["status"], report["attempts"]} == {"accepted", 2}
        assert [each["recipient"] for each in report["accepted"]] == ["now@x.example", "later@x.example"]
        assert [(each["recipient"], each["code"]) for each in report["rejected"]] == [("full@x.example", 550)]
        assert caught.value.status == "unknown"
        assert caught.value.unknown_recipients == ("doubt@x.example",)
        # The second try went to one recipient alone, with the same Message-ID; doubt was not tried again.
        assert [message.delivered for message in server.messages[:2]] == [[recipients[0]], [recipients[1]]]
        assert len({message.content for message in server.messages[:2]}) == 1
        assert fickle.asked["doubt@x.example"] == 1
        connections = server.ledger.connections
        assert server.ledger.wait_until(
            lambda: all(each.ending in ("QUIT", "cut") for each in connections), 5
        )


def test_the_example_runs_with_redis(redis: RedisServer) -> None:
    script = Path(__file__).parents[2] / "examples" / "celery_worker" / "run.py"
    environment = {**os.environ, "MAILER_BROKER": redis.url}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "busy@example.com: taken" in done.stdout
