"""Send by a Celery worker: a producer, a worker process, and an embedded mail server.

``python examples/celery_worker/run.py`` needs no broker: messages travel as
files in a temporary folder. With a Redis, give its URL in ``MAILER_BROKER``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

from pysmtpx import InputError
from pysmtpx.contrib.celery import SendFailed, enqueue
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
def worker() -> Iterator[None]:
    """A worker in a process of its own, which ends what it has begun."""
    options = ["--concurrency", "2", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-q", "-A", "mailer", "worker", *options], cwd=HERE
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Enqueue, let the worker send, and print what became of each recipient."""
    from mailer import send_mail  # here, because it reads the environment

    results = [enqueue(send_mail, invitation(to)) for to in PEOPLE]
    try:
        enqueue(send_mail, invitation("ann@example.com; bob@example.com"))
    except InputError as error:
        print(f"not enqueued: {error}")
    with worker():
        for result in results:
            try:
                report = result.get(timeout=50)
            except SendFailed as error:
                report = error.report
            told = [f"{each['recipient']}: {each['code']} {each['text']}" for each in report["rejected"]]
            told += [f"{each['recipient']}: taken" for each in report["accepted"]]
            print(f"{report['status']} at try {report['attempts']}: {', '.join(told)}")


if __name__ == "__main__":
    refuse = {"gone@example.com": "550 5.1.1 no such user"}
    with MailServer(refuse=refuse, verdict=Busy()) as server, tempfile.TemporaryDirectory() as folder:
        os.environ["SMTP_URL"] = server.url
        os.environ.setdefault("MAILER_BROKER", folder)
        main()
        print(f"the mail server took {len(server.messages)} messages")
