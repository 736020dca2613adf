"""The backend that queues for Django's own tasks: run at once, and by a real worker from a database."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings
from support import pages
from support.django_site import HAS_MAILERS
from support.django_tasks import run_in

from pysmtpx import InputError
from pysmtpx.contrib.django.task_backend import TaskOptions
from pysmtpx.testing import Cut, Event, MailServer

BACKEND = "pysmtpx.contrib.django.TaskEmailBackend"
SENDING = "pysmtpx.contrib.django.EmailBackend"
HAS_TASKS = django.VERSION >= (6, 0)
with_tasks = pytest.mark.skipif(not HAS_TASKS, reason="Django 6.0 and later have tasks")
IMMEDIATE = "django.tasks.backends.immediate.ImmediateBackend"
told: list[Mapping[str, Any]] = []


def hear(report: Mapping[str, Any]) -> None:
    told.append(report)


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()


def use(
    site: Any, server: MailServer | None, sending: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Queue by this backend with these options, and send to this server by the others."""
    place: dict[str, Any] = {} if server is None else {"host": server.host, "port": server.port}
    place |= sending or {}
    if site.by_mailers:
        mailers = {
            "default": {"BACKEND": BACKEND, "OPTIONS": {"mailer": "smtp", **options}},
            "smtp": {"BACKEND": SENDING, "OPTIONS": place},
        }
        changes: dict[str, Any] = {"MAILERS": mailers}
    else:
        changes = {"EMAIL_BACKEND": BACKEND, "PYSMTPX_TASKS": options}
        changes |= {f"EMAIL_{name.upper()}": place.pop(name) for name in ("host", "port") if name in place}
        changes["PYSMTPX"] = place
    site._stack.enter_context(override_settings(**changes))


def message(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("subject", "body\n", "Me <me@x.example>", list(to), **options)


@with_tasks
@pytest.mark.everywhere
def test_it_arrives_by_way_of_the_task(site: Any) -> None:
    with MailServer(refuse={"full@x.example": "550 5.2.2 full"}) as server:
        use(site, server, on_outcome=f"{__name__}.hear")
        mails = [
            message("Ann <a@x.example>", "full@x.example", bcc=["c@x.example"]),
            message("full@x.example"),
        ]
        assert site.connection().send_messages(mails) == 2
        assert [m.delivered for m in server.messages] == [["a@x.example", "c@x.example"]]
        assert b"c@x.example" not in server.messages[0].content
    first, second = (each.send_task for each in mails)
    assert (first.status, second.status) == ("SUCCESSFUL", "FAILED")
    assert first.return_value["status"] == "accepted"
    assert first.return_value["task_id"] == first.id
    assert [each["recipient"] for each in first.return_value["rejected"]] == ["full@x.example"]
    assert [report["status"] for report in told] == ["accepted", "rejected"]
    (error,) = second.errors
    assert error.exception_class.__name__ == "TaskFailed"
    assert "550 5.2.2 full" in error.traceback


@with_tasks
def test_without_a_backend_that_puts_off_there_is_one_try(site: Any) -> None:
    """Django's immediate backend cannot; who was refused for now is told so."""
    with MailServer(refuse={"later@x.example": "450 4.2.1 later"}) as server:
        use(site, server, {"retry": {"attempts": 5, "temporary": True}}, on_outcome=hear)
        assert send_mail("s", "b", None, ["a@x.example", "later@x.example"]) == 1
    (report,) = told
    assert (report["status"], report["attempts"]) == ("accepted", 1)
    assert [each["recipient"] for each in report["rejected"]] == ["later@x.example"]


@with_tasks
def test_a_second_run_of_a_task_sends_nothing_unless_that_was_asked_for(site: Any) -> None:
    """Backends differ: some hand out again what a lost worker had."""
    from django.tasks import TaskContext

    with MailServer() as server:
        use(site, server, on_outcome=hear)
        mail = message("a@x.example")
        site.connection().send_messages([mail])
        result = mail.send_task  # type: ignore[attr-defined]
        result.worker_ids.append("another")
        with pytest.raises(Exception, match="handed to a worker before"):
            result.task.call(TaskContext(task_result=result), **result.kwargs)
        assert [report["status"] for report in told] == ["accepted", "unknown"]
        assert len(server.messages) == 1
        use(site, server, resend_killed="false")  # of the environment: to Python it would be true
        with pytest.raises(Exception, match="handed to a worker before"):
            result.task.call(TaskContext(task_result=result), **result.kwargs)
        use(site, server, resend_killed="true")
        result.task.call(TaskContext(task_result=result), **result.kwargs)
        assert len(server.messages) == 2


@with_tasks
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"queue": "mail"}, "queue_name"),
        ({"resend_killed": "perhaps"}, "resend_killed"),
        ({"resend_killed": 1}, "resend_killed"),
        ({"queue_name": "bulk"}, "bulk"),
        ({"on_outcome": "no.such.function"}, "on_outcome"),
        ({"max_size": 0}, "max_size"),
        ({"priority": 1000}, "priority"),
    ],
)
def test_wrong_options(site: Any, options: dict[str, Any], why: str) -> None:
    use(site, None, {"host": "mail.example.org"}, **options)
    assert [each.id for each in run_checks(tags=["mail"]) if why in each.msg] == ["pysmtpx.E001"]
    with pytest.raises(ImproperlyConfigured, match=why):
        site.connection().send_messages([message("a@x.example")])


@with_tasks
def test_right_options_pass_the_check(site: Any) -> None:
    use(site, None, {"host": "localhost", "retry": {"attempts": 2}}, priority=5, max_size=1000)
    assert [each for each in run_checks(tags=["mail"]) if each.id.startswith("pysmtpx.E")] == []


@with_tasks
def test_a_journal_beside_the_tasks_is_refused(site: Any, tmp_path: Path) -> None:
    use(site, None, {"host": "localhost", "journal": str(tmp_path / "mail.db")})
    with pytest.raises(ImproperlyConfigured, match="takes no journal"):
        site.connection().sender()


@with_tasks
def test_what_is_wrong_with_a_message_is_told_at_once(site: Any) -> None:
    with MailServer() as server:
        use(site, server)
        mails = [message("no address"), message("a@x.example")]
        with pytest.raises(InputError):
            site.connection().send_messages(mails)
        assert len(server.messages) == 1


@pytest.mark.skipif(HAS_TASKS, reason="this Django has tasks")
def test_an_older_django_says_what_is_missing(site: Any) -> None:
    use(site, None)
    with pytest.raises(ImproperlyConfigured, match=r"needs Django 6\.0"):
        site.connection().send_messages([message("a@x.example")])
    assert [each.id for each in run_checks(tags=["mail"])] == ["pysmtpx.E001"]


# A worker of its own, with the database between them.

SEND = """
from django.core.mail import EmailMessage
from django.db import transaction
for to in {recipients!r}:
    mail = EmailMessage("s", "b", None, to)
    mail.send()
    print(mail.send_task.id)
with transaction.atomic():
    EmailMessage("s", "b", None, ["never@x.example"]).send()
    transaction.set_rollback(True)
"""
WORK = 'call_command("db_worker", "--queue-name", "mail", "--interval", "0.05", "--no-startup-delay")'
RESULTS = """
import json
from django_tasks_db.models import DBTaskResult
rows = DBTaskResult.objects.order_by("enqueued_at")
told = [[str(each.id), each.status, each.return_value, each.exception_class_path] for each in rows]
print(json.dumps(told))
"""


class Project:
    """One database, and processes that use it."""

    def __init__(self, folder: Path, server: MailServer, **tasks: Any) -> None:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "tasks.sqlite3"),
            "OPTIONS": {"timeout": 60},
        }
        self._settings = {
            "DATABASES": {"default": database},
            "EMAIL_HOST": server.host,
            "EMAIL_PORT": server.port,
            "PYSMTPX": {"retry": {"attempts": 3, "backoff": 0.05, "temporary": True}},
            "PYSMTPX_TASKS": {"queue_name": "mail", **tasks},
        }
        self.run('call_command("migrate", verbosity=0)')

    def run(self, program: str) -> str:
        done = run_in(self._settings, program)
        out, err = done.communicate(timeout=100)
        assert done.returncode == 0, err
        return out

    def results(self) -> list[Any]:
        found: list[Any] = json.loads(self.run(RESULTS))
        return found

    @contextlib.contextmanager
    def worker(self) -> Iterator[Any]:
        process = run_in(self._settings, WORK)
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=100)


class Fickle:
    """A verdict that refuses one recipient for now, once, and does not answer for another."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._last: dict[int, str] = {}

    def __call__(self, event: Event) -> str | Cut | None:
        if event.verb == "RCPT":
            self.asked.append(event.address)
            self._last[event.connection] = event.address
            if event.address == "later@x.example" and self.asked.count(event.address) == 1:
                return "451 4.3.0 later"
        is_doubtful = self._last.get(event.connection) == "doubt@x.example"
        return Cut() if event.verb == "FINAL" and is_doubtful else None


@with_tasks
def test_a_worker_tries_again_only_what_may_be(tmp_path: Path) -> None:
    fickle = Fickle()
    with MailServer(verdict=fickle, refuse={"full@x.example": "550 5.2.2 full"}) as server:
        project = Project(tmp_path, server)
        recipients = [["now@x.example", "later@x.example", "full@x.example"], ["doubt@x.example"]]
        project.run(SEND.format(recipients=recipients))
        assert fickle.asked == []
        with project.worker():
            assert server.ledger.wait_until(lambda: len(server.messages) == 3, 60)
        delivered = {each.delivered[0]: each.content for each in server.messages}
        assert delivered.keys() == {"now@x.example", "doubt@x.example", "later@x.example"}
        assert delivered["now@x.example"] == delivered["later@x.example"]
        first, doubtful, second = project.results()
    assert (first[1], doubtful[1], second[1]) == ("SUCCESSFUL", "FAILED", "SUCCESSFUL")
    assert first[2]["next_task"] == second[0]
    report = second[2]
    assert (report["status"], report["attempts"]) == ("accepted", 2)
    assert [each["recipient"] for each in report["accepted"]] == ["now@x.example", "later@x.example"]
    assert [each["recipient"] for each in report["rejected"]] == ["full@x.example"]
    assert doubtful[3] == "pysmtpx.contrib.django.mail_task.TaskFailed"
    assert fickle.asked.count("doubt@x.example") == 1


@with_tasks
def test_a_worker_killed_in_mid_send_leaves_the_task_running(tmp_path: Path) -> None:
    """As the page says: this backend hands it to nobody again, and the others go on."""
    known, workers = threading.Event(), []

    def kill(event: Event) -> None:
        if event.verb == "FINAL":
            known.wait(60)
            for process in workers:
                os.kill(process.pid, signal.SIGKILL)
            workers.clear()

    with MailServer(verdict=kill) as server:
        project = Project(tmp_path, server)
        project.run(SEND.format(recipients=[["a@x.example"], ["b@x.example"]]))
        with project.worker() as first:
            workers.append(first)
            known.set()
            assert server.ledger.wait_until(lambda: len(server.messages) == 1, 60)
        with project.worker():
            assert server.ledger.wait_until(lambda: len(server.messages) == 2, 60)
        assert [each.delivered for each in server.messages] == [["a@x.example"], ["b@x.example"]]
        assert [each[1] for each in project.results()] == ["RUNNING", "SUCCESSFUL"]


# The page and the example.

PATH = pages.DOCS / "how-to/django-tasks.md"


@with_tasks
def test_the_settings_of_the_page_send(site: Any) -> None:
    """Each option that there is has its row; the tasks run at once."""
    sources = pages.sources_of(PATH)
    (source,) = [each for each in sources if ("MAILERS = " in each) is site.by_mailers]
    names: dict[str, Any] = {}
    exec(compile(source, PATH.name, "exec"), names)
    changes = {name: value for name, value in names.items() if name.isupper()}
    changes["TASKS"] = {"default": {"BACKEND": IMMEDIATE, "QUEUES": ["default", "mail"]}}
    with MailServer() as server:
        if site.by_mailers:
            changes["MAILERS"]["smtp"]["OPTIONS"] = {"host": server.host, "port": server.port}
        else:
            assert {"django_tasks_db", "pysmtpx.contrib.django"} <= {*changes.pop("INSTALLED_APPS")}
            changes |= {"EMAIL_HOST": server.host, "EMAIL_PORT": server.port, "EMAIL_USE_TLS": False}
        site._stack.enter_context(override_settings(**changes))
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert [each.delivered for each in server.messages] == [["a@x.example"]]


def test_every_option_is_in_the_page() -> None:
    page = PATH.read_text("utf-8")
    assert [name for name in TaskOptions.__annotations__ if f"`{name}`" not in page] == []


@pytest.mark.skipif(not HAS_MAILERS, reason="the example has MAILERS")
def test_the_example_runs() -> None:
    script = pages.ROOT / "examples" / "tasks_project.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "accepted at try 2: busy@example.com: taken" in done.stdout
    assert "the mail server took 2 messages" in done.stdout
