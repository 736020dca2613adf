"""A real Redis, RQ's workers in processes of their own, and some of them killed in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from redis import Redis
from rq import Queue, requeue_job
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from support import pages, rq_jobs
from support.daemon import wait_until
from support.redis import RedisServer
from support.rq_jobs import RqWorker

from pysmtpx.contrib import rq as face
from pysmtpx.contrib.rq import enqueue, report_of
from pysmtpx.testing import Cut, Event, MailServer

pytestmark = pytest.mark.slow

ENDED = {JobStatus.FINISHED, JobStatus.FAILED}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    client = Redis(unix_socket_path=str(redis_server.socket))
    client.flushall()
    yield client
    client.close()


def content(number: int) -> bytes:
    return b"From: s@x.example\r\nSubject: %d\r\n\r\nhello\r\n" % number


def put(queue: Queue, job: object, *recipients: str) -> Job:
    return enqueue(queue, job, content(0), sender="s@x.example", recipients=recipients)  # type: ignore[arg-type]


def ended(*jobs: Job) -> None:
    wait_until(lambda: all(job.get_status() in ENDED for job in jobs), 60, "each job has ended")


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


@pytest.mark.parametrize(
    ("kind", "serializer"), [("Worker", "pickle"), ("SimpleWorker", "json"), ("SpawnWorker", "json")]
)
def test_a_worker_tries_again_only_what_may_be_and_says_good_bye(
    redis_server: RedisServer, redis: Redis, kind: str, serializer: str
) -> None:
    fickle = Fickle()
    queue = Queue("mail", connection=redis, serializer=serializer)
    with MailServer(verdict=fickle, refuse={"full@x.example": "550 5.2.2 full"}) as server:
        with RqWorker(redis_server.socket, server.url, kind, serializer):
            sent = put(queue, rq_jobs.send, "now@x.example", "later@x.example", "full@x.example")
            doubtful = put(queue, f"{rq_jobs.__name__}.send", "doubt@x.example")
            ended(sent, doubtful)
        report, doubt = report_of(sent), report_of(doubtful)
        assert report is not None
        assert doubt is not None
        assert report == sent.return_value(refresh=True)
        assert (sent.get_status(), report["status"], report["attempts"]) == ("finished", "accepted", 2)
        assert [each["recipient"] for each in report["accepted"]] == ["now@x.example", "later@x.example"]
        assert [(each["recipient"], each["code"]) for each in report["rejected"]] == [("full@x.example", 550)]
        assert (doubtful.get_status(), doubt["status"]) == ("failed", "unknown")
        assert (report["task_id"], doubt["unknown"]) == (sent.id, ["doubt@x.example"])
        # The second try went to one recipient alone, with the same Message-ID; doubt was not tried again.
        delivered = [message.delivered for message in server.messages]
        assert delivered[0] == ["now@x.example"]
        assert ["later@x.example"] in delivered
        assert (
            len({message.content for message in server.messages if "doubt" not in str(message.delivered)})
            == 1
        )
        assert fickle.asked["doubt@x.example"] == 1
        assert server.ledger.wait_until(
            lambda: all(each.ending in ("QUIT", "cut") for each in server.ledger.connections), 20
        )


class Killer:
    """A verdict that kills the process that sends, once for each message, at some point of it."""

    def __init__(self, points: dict[str, str]) -> None:
        self._points = points
        self._processes: dict[int, int] = {}
        self._addresses: dict[int, str] = {}

    def __call__(self, event: Event) -> None:
        if event.verb == "EHLO":
            self._processes[event.connection] = int(event.address.split(".")[0].removeprefix("pid-"))
        elif event.verb == "RCPT":
            self._addresses[event.connection] = event.address
        address = self._addresses.get(event.connection, "")
        if self._points.get(address) == event.verb:
            del self._points[address]
            os.kill(self._processes[event.connection], signal.SIGKILL)


def test_a_worker_killed_in_mid_send(redis_server: RedisServer, redis: Redis) -> None:
    """The job comes back; in doubt it is not sent again unless that was asked for."""
    points = {"a@x.example": "FINAL", "b@x.example": "RCPT", "c@x.example": "FINAL", "d@x.example": "RCPT"}
    queue = Queue("mail", connection=redis)
    with MailServer(verdict=Killer(dict(points))) as server:
        with RqWorker(redis_server.socket, server.url):
            jobs = [
                put(queue, rq_jobs.send, "a@x.example"),
                put(queue, rq_jobs.send, "b@x.example"),
                put(queue, rq_jobs.send_again, "c@x.example"),
                put(queue, rq_jobs.send_again, "d@x.example"),
            ]
            ended(*jobs)
        times = Counter(address for message in server.messages for address in message.delivered)
    reports = [report_of(job) for job in jobs]
    assert [report and report["status"] for report in reports] == [
        "unknown",
        "unknown",
        "accepted",
        "accepted",
    ]
    assert times == {"a@x.example": 1, "c@x.example": 2, "d@x.example": 1}


def test_a_whole_worker_killed_in_mid_send(redis_server: RedisServer, redis: Redis) -> None:
    """RQ finds the job when it looks for lost ones, here at once; nothing is sent for the second time."""
    queue = Queue("mail", connection=redis)
    killed: list[int] = []

    def kill(event: Event) -> None:
        if event.verb == "EHLO":
            pid = int(event.address.split(".")[0].removeprefix("pid-"))
            status = Path(f"/proc/{pid}/status").read_text()
            killed.extend([int(re.findall(r"PPid:\s*(\d+)", status)[0]), pid])
        elif event.verb == "FINAL":
            for each in killed:
                os.kill(each, signal.SIGKILL)

    with MailServer(verdict=kill) as server:
        with RqWorker(redis_server.socket, server.url):
            job = put(queue, rq_jobs.send, "a@x.example")
            assert server.ledger.wait_until(lambda: len(server.messages) == 1, 60)
        assert job.get_status() == "started"
        StartedJobRegistry(queue=queue).cleanup(timestamp=time.time() + 1e6)
        with RqWorker(redis_server.socket, server.url):
            ended(job)
        assert (report_of(job) or {})["status"] == "unknown"
        assert [message.delivered for message in server.messages] == [["a@x.example"]]


def test_what_was_put_back_is_sent_where_nobody_has_it(redis_server: RedisServer, redis: Redis) -> None:
    """An administrator's ``rq requeue``."""
    queue = Queue("mail", connection=redis)
    refused = {"down@x.example"}
    contents: Counter[str] = Counter()

    def verdict(event: Event) -> str | Cut | None:
        contents[event.verb] += 1
        if event.verb == "FINAL":
            return Cut()
        return "451 4.3.0 later" if event.verb == "RCPT" and event.address in refused else None

    with MailServer(verdict=verdict) as server, RqWorker(redis_server.socket, server.url):
        job = put(queue, rq_jobs.send_once, "down@x.example")
        ended(job)
        assert (report_of(job) or {})["status"] == "rejected"
        refused.clear()
        for _ in range(2):  # in doubt now: put back once more it stays so
            requeue_job(job.id, redis)
            ended(job)
            assert (report_of(job) or {})["status"] == "unknown"
    assert contents["FINAL"] == 1
    assert job.get_status() == "failed"


def test_the_page_runs_from_top_to_bottom(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's module is one that can be imported, and the job runs at once."""
    register = face.register
    path = pages.DOCS / "how-to/rq.md"
    module, *rest = pages.sources_of(path)
    with MailServer() as server:
        monkeypatch.setattr(face, "register", lambda name, _: register(name, server.url))
        monkeypatch.setattr("redis.Redis", lambda: redis)
        monkeypatch.setattr("rq.Queue", partial(Queue, is_async=False))
        shop, mail = ModuleType("shop"), ModuleType("shop.mail")
        monkeypatch.setitem(sys.modules, "shop", shop)
        monkeypatch.setitem(sys.modules, "shop.mail", mail)
        exec(compile(module, str(path), "exec"), vars(mail))
        names: dict[str, Any] = {}
        for snippet in rest:
            exec(compile(snippet, str(path), "exec"), names)
        mail.send_mail.sender.close()
        assert [message.delivered for message in server.messages] == [["ann@example.com"]]
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*#\s(.*)", path.read_text("utf-8"))


def test_the_example_runs(redis_server: RedisServer, redis: Redis) -> None:
    script = pages.ROOT / "examples" / "rq_worker" / "run.py"
    environment = {**os.environ, "MAILER_REDIS": f"unix://{redis_server.socket}"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "busy@example.com: taken" in done.stdout
    assert "the mail server took 2 messages" in done.stdout
