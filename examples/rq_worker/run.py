"""Send by RQ's workers: a producer, a worker process, and an embedded mail server.

``python examples/rq_worker/run.py`` starts a ``redis-server`` of its own, which
must be installed. With ``MAILER_REDIS`` it takes the Redis of this URL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path

from redis import ConnectionError as NoRedis
from redis import Redis
from rq import Queue

from pysmtpx import InputError
from pysmtpx.contrib.rq import enqueue, report_of
from pysmtpx.testing import Event, MailServer

HERE = Path(__file__).parent
PEOPLE = ["ann@example.com", "busy@example.com", "gone@example.com"]


def invitation(to: str) -> EmailMessage:
    """What the producer, a web site perhaps, wants to have sent."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "robot@example.org", to, "Come in"
    message.set_content("The door is open.\n")
    return message


class Busy:
    """Takes mail for one recipient only when asked a second time."""

    asked = 0

    def __call__(self, event: Event) -> str | None:
        if event.verb == "RCPT" and event.address == "busy@example.com":
            self.asked += 1
            return "450 4.2.1 come back later" if self.asked == 1 else None
        return None


@contextmanager
def running(*command: str) -> Iterator[None]:
    """A process that ends what it has begun."""
    process = subprocess.Popen(command, cwd=HERE)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def redis_of_its_own() -> Iterator[str]:
    """A Redis in memory, at a UNIX socket."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        options = [
            "--port",
            "0",
            "--unixsocket",
            socket,
            "--dir",
            folder,
            "--save",
            "",
            "--loglevel",
            "warning",
        ]
        with running("redis-server", *options):
            client = Redis(unix_socket_path=socket)
            for _ in range(500):
                with suppress(NoRedis):
                    client.ping()
                    break
                time.sleep(0.02)
            client.close()
            yield f"unix://{socket}"


def main(url: str) -> None:
    """Enqueue, let the worker send, and print what became of each recipient."""
    queue = Queue("mail", connection=Redis.from_url(url))
    jobs = [enqueue(queue, "mailer.send_mail", invitation(to)) for to in PEOPLE]
    try:
        enqueue(queue, "mailer.send_mail", invitation("ann@example.com; bob@example.com"))
    except InputError as error:
        print(f"not enqueued: {error}")
    worker = [sys.executable, "-m", "rq.cli", "worker", "--with-scheduler", "--logging_level", "ERROR"]
    with running(*worker, "--url", url, "mail"):
        for job in jobs:
            while job.get_status() not in ("finished", "failed"):
                time.sleep(0.05)
            if report := report_of(job):
                told = [f"{each['recipient']}: {each['code']} {each['text']}" for each in report["rejected"]]
                told += [f"{each['recipient']}: taken" for each in report["accepted"]]
                print(f"{report['status']} at try {report['attempts']}: {', '.join(told)}")
    queue.connection.close()


if __name__ == "__main__":
    refuse = {"gone@example.com": "550 5.1.1 no such user"}
    with MailServer(refuse=refuse, verdict=Busy()) as server:
        os.environ["SMTP_URL"] = server.url
        if given := os.environ.get("MAILER_REDIS"):
            main(given)
        else:
            with redis_of_its_own() as url:
                main(url)
        print(f"the mail server took {len(server.messages)} messages")
