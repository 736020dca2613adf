"""Send by Django's own tasks: a project with its tasks in a database, a worker, and an embedded mail server.

``python examples/tasks_project.py`` needs Django 6.1 or later, and django-tasks-db.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from typing import Any

import django
from django.conf import settings
from django.core.mail import EmailMessage
from django.core.management import call_command

from pysmtpx.testing import Event, MailServer

PEOPLE = ["ann@example.com", "busy@example.com", "gone@example.com"]


class Busy:
    """Takes mail for one recipient only when asked a second time."""

    asked = 0

    def __call__(self, event: Event) -> str | None:
        if event.verb == "RCPT" and event.address == "busy@example.com":
            self.asked += 1
            return "450 4.2.1 come back later" if self.asked == 1 else None
        return None


def show(report: Mapping[str, Any]) -> None:
    """Print what became of a message; a real project writes it to its database."""
    told = [f"{each['recipient']}: {each['code']} {each['text']}" for each in report["rejected"]]
    told += [f"{each['recipient']}: taken" for each in report["accepted"]]
    print(f"{report['status']} at try {report['attempts']}: {', '.join(told)}")


def configure(server: MailServer, folder: str) -> None:
    """What a project has in its settings."""
    settings.configure(
        INSTALLED_APPS=["pysmtpx.contrib.django", "django_tasks_db"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}},
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        MAILERS={
            "default": {
                "BACKEND": "pysmtpx.contrib.django.TaskEmailBackend",
                "OPTIONS": {"mailer": "smtp", "on_outcome": show},
            },
            "smtp": {
                "BACKEND": "pysmtpx.contrib.django.EmailBackend",
                "OPTIONS": {
                    "host": server.host,
                    "port": server.port,
                    # Impatient, so that the example does not take minutes.
                    "retry": {"attempts": 4, "backoff": 0.2, "temporary": True},
                },
            },
        },
        SECRET_KEY="only an example",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def main() -> None:
    """Queue, let a worker send, and print what became of each message."""
    from django_tasks_db.models import DBTaskResult

    for to in PEOPLE:
        EmailMessage("Come in", "The door is open.\n", "robot@example.org", [to]).send()
    while DBTaskResult.objects.filter(status="READY").exists():
        call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)
        time.sleep(0.1)  # a worker that is there for good needs none of this


if __name__ == "__main__":
    refuse = {"gone@example.com": "550 5.1.1 no such user"}
    with MailServer(refuse=refuse, verdict=Busy()) as server, tempfile.TemporaryDirectory() as folder:
        configure(server, folder)
        main()
        print(f"the mail server took {len(server.messages)} messages")
