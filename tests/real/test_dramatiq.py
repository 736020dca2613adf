"""Dramatiq on a Redis, with worker processes: next tries, doubt, and a worker killed in the middle."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dramatiq.results import Results
from support import pages
from support.daemon import wait_until
from support.dramatiq_actors import DramatiqWorker, make_broker
from support.redis import RedisServer

from pysmtpx import MailObject
from pysmtpx.contrib.dramatiq import enqueue
from pysmtpx.testing import Cut, Event, MailServer

pytestmark = pytest.mark.slow

LINE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def broker(redis: RedisServer) -> Iterator[Any]:
    """As a producer has it: the actor is only known in the workers."""
    broker = make_broker(str(redis.socket))
    yield broker
    broker.client.close()


def mail(*recipients: str) -> MailObject:
    return MailObject("s@x.example", recipients, LINE)


def report_of(broker: Any, message: Any) -> dict[str, Any]:
    """The report of the last try."""
    backend = next(each.backend for each in broker.middleware if isinstance(each, Results))
    found: dict[str, Any] = {}

    def is_over() -> bool:
        try:
            found.update(message.get_result(backend=backend))
        except Exception:
            return False
        return bool(found["accepted"] or found["unknown"]) or found["attempts"] == 3

    wait_until(is_over, 60, "a report")
    return found


class Fickle:
    """A verdict that refuses one recipient for now, once, and does not answer for another.

    The worker that has sent the whole of a message to a third one is killed before it can read the reply.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.killed = False
        self.worker: DramatiqWorker | None = None
        self._addresses: dict[int, str] = {}

    def __call__(self, event: Event) -> str | Cut | None:
        if event.verb == "RCPT":
            self.asked[event.address] += 1
            self._addresses[event.connection] = event.address
            if event.address == "later@x.example" and self.asked[event.address] == 1:
                return "451 4.3.0 later"
        address = self._addresses.get(event.connection)
        if event.verb == "FINAL" and address == "doubt@x.example":
            return Cut()
        if event.verb == "FINAL" and address == "killed@x.example":
            assert self.worker is not None
            self.worker.kill()
            self.killed = True
        return None


def test_only_what_may_be_is_sent_again_also_when_the_worker_was_killed(
    redis: RedisServer, broker: Any, tmp_path: Path
) -> None:
    fickle = Fickle()
    journal = tmp_path / "fates.db"
    refuse = {"full@x.example": "550 5.2.2 full"}
    with MailServer(verdict=fickle, refuse=refuse) as server:
        with DramatiqWorker(redis.socket, server.url, journal) as worker:
            fickle.worker = worker
            several = enqueue(broker, mail("now@x.example", "later@x.example", "full@x.example"))
            doubtful = enqueue(broker, mail("doubt@x.example"))
            wait_until(lambda: len(server.messages) == 2, 60, "both tries")
            assert report_of(broker, doubtful)["unknown"] == ["doubt@x.example"]
            wait_until(lambda: report_of(broker, several)["attempts"] == 2, 60, "the second try's report")
            killed = enqueue(broker, mail("killed@x.example"))
            wait_until(lambda: fickle.killed, 60, "the kill")
        with DramatiqWorker(redis.socket, server.url, journal):
            after = enqueue(broker, mail("after@x.example"))
            assert report_of(broker, after)["status"] == "accepted"
            # Handed out again, since nobody acknowledged it: the journal knows that it was begun.
            assert report_of(broker, killed)["unknown"] == ["killed@x.example"]
        report = report_of(broker, several)
        connections = server.ledger.connections
        assert server.ledger.wait_until(lambda: all(each.ending for each in connections), 20)
        assert "QUIT" in {each.ending for each in connections}
    assert [each["recipient"] for each in report["accepted"]] == ["now@x.example", "later@x.example"]
    assert [(each["recipient"], each["code"]) for each in report["rejected"]] == [("full@x.example", 550)]
    times = Counter(address for message in server.messages for address in message.delivered)
    assert set(times.values()) == {1}
    assert (fickle.asked["doubt@x.example"], fickle.asked["killed@x.example"]) == (1, 1)


def test_the_example_runs() -> None:
    script = pages.ROOT / "examples" / "dramatiq_worker" / "run.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "the mail server took 2 messages" in done.stdout
