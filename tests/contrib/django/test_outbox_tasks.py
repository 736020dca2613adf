"""Who sends from the outbox by a queue: a real Celery worker, beat, and django.tasks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage
from django.db import transaction
from django.test import override_settings
from support import outbox
from support.daemon import Daemon, wait_until
from support.redis import RedisServer

from pysmtpx.contrib.django.outbox.models import Message
from pysmtpx.testing import MailServer

ALIAS = "by_tasks"
PROJECT = """
import warnings
import django
from celery import Celery
from django.conf import settings

warnings.simplefilter("ignore")
settings.configure(
    INSTALLED_APPS=["pysmtpx.contrib.django", "pysmtpx.contrib.django.outbox"],
    SECRET_KEY="not secret", USE_TZ=True, DATABASES={{"default": {database!r}}},
    EMAIL_BACKEND="pysmtpx.contrib.django.OutboxEmailBackend", EMAIL_HOST={host!r}, EMAIL_PORT={port!r},
    PYSMTPX_OUTBOX={options!r},
)
django.setup()
app = Celery("shop", broker={broker!r})
app.autodiscover_tasks(lambda: settings.INSTALLED_APPS)
app.conf.beat_schedule = {{"outbox": {{"task": "pysmtpx.send_outbox", "schedule": 1.0}}}}
app.conf.broker_connection_retry_on_startup = True
"""
SEND = """
import shop
from django.core.mail import send_mail
from django.db import transaction
with transaction.atomic():
    send_mail("Hello", "body", "s@x.example", ["a@x.example"])
    send_mail("Hello", "body", "s@x.example", ["b@x.example"])
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[dict[str, Any]]:
    settings = outbox.sqlite(tmp_path)
    outbox.add_database(ALIAS, settings)
    yield settings
    outbox.forget_database(ALIAS)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("options", "more"), [({}, ["--beat"]), ({"on_commit": "at_once"}, [])])
def test_a_worker_of_celery_sends_what_was_committed(
    database: dict[str, Any], redis: RedisServer, options: dict[str, Any], more: list[str]
) -> None:
    """It finds the task by itself; beat calls it, or the commit does."""
    folder = Path(tempfile.mkdtemp(prefix="pysmtpx-celery-"))
    if options:
        options = {"on_commit": "pysmtpx.contrib.django.outbox.tasks.at_once"}
    with MailServer() as server:
        place = {"host": server.host, "port": server.port, "broker": redis.url}
        (folder / "shop.py").write_text(PROJECT.format(database=database, options=options, **place))
        environment = [f"PYTHONPATH={':'.join([str(folder), *sys.path])}", "COVERAGE_PROCESS_START="]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        if more:
            more = [*more, "--schedule", str(folder / "schedule")]
        celery = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--concurrency", "1", *quiet]
        worker = Daemon(["/usr/bin/env", *environment, *celery, *more], folder, folder / "log")
        try:
            sent = subprocess.run(
                ["/usr/bin/env", *environment, sys.executable, "-c", SEND],
                capture_output=True,
                text=True,
                check=False,
            )
            assert sent.returncode == 0, sent.stderr
            wait_until(lambda: len(server.messages) == 2, 60, "both were sent")
            found = Message.objects.using(ALIAS).filter(is_owed=True)
            wait_until(lambda: not found.exists(), 60, "that is written down")
        except BaseException:
            print(worker.log_text()[-5000:])
            raise
        finally:
            worker.stop()
        assert sorted(each.addresses[0] for each in server.messages) == ["a@x.example", "b@x.example"]


def test_a_task_of_django_sends_what_was_committed(database: dict[str, Any]) -> None:
    if django.VERSION < (6, 1):  # django.tasks came with 6.0, MAILERS with 6.1
        return
    hook = "pysmtpx.contrib.django.outbox.django_tasks.at_once"
    with MailServer() as server:
        place = {"host": server.host, "port": server.port}
        mailers = {
            "default": {
                "BACKEND": "pysmtpx.contrib.django.OutboxEmailBackend",
                "OPTIONS": {"mailer": "smtp", "using": ALIAS, "on_commit": hook},
            },
            "smtp": {"BACKEND": "pysmtpx.contrib.django.EmailBackend", "OPTIONS": place},
        }
        tasks = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
        with override_settings(MAILERS=mailers, TASKS=tasks):
            with transaction.atomic(ALIAS):
                EmailMessage("x", "x", "s@x.example", ["a@x.example"]).send()
                assert server.messages == []
            assert [each.addresses for each in server.messages] == [["a@x.example"]]
            assert not Message.objects.using(ALIAS).filter(is_owed=True).exists()


def test_the_hook_is_called_once_for_a_transaction(database: dict[str, Any]) -> None:
    from pysmtpx.contrib.django import OutboxEmailBackend

    called: list[int] = []

    def hook() -> None:
        called.append(Message.objects.using(ALIAS).count())

    with override_settings(PYSMTPX_OUTBOX={"using": ALIAS, "on_commit": hook}):
        if django.VERSION >= (6, 1):
            backend = OutboxEmailBackend(alias="default", mailer="smtp", using=ALIAS, on_commit=hook)
        else:
            backend = OutboxEmailBackend()
        one = EmailMessage("x", "x", "s@x.example", ["a@x.example"])
        with transaction.atomic(ALIAS):
            with transaction.atomic(ALIAS):
                backend.send_messages([one])
                transaction.set_rollback(True, ALIAS)
            backend.send_messages([one, one])
            with transaction.atomic(ALIAS):
                backend.send_messages([one])
        assert called == [3], "once, and not for what was rolled back alone"
        backend.send_messages([one, one])
        assert called == [3, 4, 5], "no transaction is open: each message is one"
