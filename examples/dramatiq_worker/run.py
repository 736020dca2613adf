"""Send by Dramatiq's workers: a producer, a worker process, and an embedded mail server.

``python examples/dramatiq_worker/run.py`` starts a ``redis-server`` of its own, which
must be installed. With ``MAILER_REDIS`` it takes the Redis of this URL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path

from redis import ConnectionError as NoRedis
from redis import Redis

from pysmtpx import InputError
from pysmtpx.contrib.dramatiq import enqueue
from pysmtpx.journal.messages import Journal
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
def redis_of_its_own(folder: str) -> Iterator[str]:
    """A Redis in memory, at a UNIX socket."""
    socket = f"{folder}/redis.sock"
    options = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--loglevel", "warning"]
    with running("redis-server", *options):
        client = Redis(unix_socket_path=socket)
        for _ in range(500):
            with suppress(NoRedis):
                client.ping()
                break
            time.sleep(0.02)
        client.close()
        yield f"unix://{socket}"


def main(journal: str) -> None:
    """Enqueue, and let the worker send until nobody is owed anything any more."""
    from mailer import broker, send_mail  # here, because it reads the environment

    for to in PEOPLE:
        enqueue(send_mail, invitation(to))
    try:
        enqueue(send_mail, invitation("ann@example.com; bob@example.com"))
    except InputError as error:
        print(f"not enqueued: {error}", flush=True)
    worker = [sys.executable, "-m", "dramatiq", "mailer", "--processes", "1", "--threads", "2"]
    with Journal(journal) as known, running(*worker):
        while sum(known.counts().values()) < len(PEOPLE) or known.counts().get("queued"):
            time.sleep(0.05)
    broker.client.close()


if __name__ == "__main__":
    refuse = {"gone@example.com": "550 5.1.1 no such user"}
    with (
        MailServer(refuse=refuse, verdict=Busy()) as server,
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        os.environ["SMTP_URL"] = server.url
        os.environ["MAILER_JOURNAL"] = f"{folder}/fates.db"
        if "MAILER_REDIS" not in os.environ:
            os.environ["MAILER_REDIS"] = stack.enter_context(redis_of_its_own(folder))
        main(os.environ["MAILER_JOURNAL"])
        print(f"the mail server took {len(server.messages)} messages")
