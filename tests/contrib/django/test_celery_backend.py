"""The backend that queues: what it hands to the task, and what it says of a broker that is away."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings
from kombu.exceptions import OperationalError
from support.celery_app import Worker, closing_app

from pysmtpx import InputError
from pysmtpx.contrib.celery import SendFailed, enqueue, register
from pysmtpx.contrib.django import message_failed, message_sent, servers
from pysmtpx.testing import MailServer

BACKEND = "pysmtpx.contrib.django.CeleryEmailBackend"


def eager(server: MailServer | None = None, *, name: str = "pysmtpx.send") -> Celery:
    """An app whose tasks run at once, in this process."""
    app = Celery(set_as_current=False, broker="memory://")
    app.conf.update(task_always_eager=True, task_eager_propagates=True, task_store_eager_result=False)
    if server is not None:
        register(app, server.url, name=name)
    return app


def message(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("subject", "body\n", "Me <me@x.example>", list(to), **options)


def test_it_arrives_by_way_of_the_task(site: Any) -> None:
    with MailServer() as server:
        site.use(backend=BACKEND, app=eager(server))
        mails = [message("Ann <a@x.example>", bcc=["c@x.example"]), message("jürgen@x.example")]
        assert site.connection().send_messages(mails) == 2
        assert [m.addresses for m in server.messages] == [
            ["a@x.example", "c@x.example"],
            ["jürgen@x.example"],
        ]
        assert server.messages[0].sender == "me@x.example"
        assert b"c@x.example" not in server.messages[0].content
        assert mails[0].send_task.successful()
        assert (mails[0].send_result, mails[0].send_error) == (None, None)


def test_a_worker_process_sends_it(site: Any, tmp_path: Path) -> None:
    """Nothing but the broker is shared: the envelope and the content are whole in another process."""
    broker = str(tmp_path)
    refuse = {"full@x.example": "550 5.2.2 full"}
    with MailServer(refuse=refuse) as server, closing_app(broker) as app:
        site.use(backend=BACKEND, app=app)
        mails = [
            message("Ann <a@x.example>", "full@x.example", bcc=["c@x.example"]),
            message("full@x.example"),
        ]
        assert site.connection().send_messages(mails) == 2
        assert len(server.messages) == 0
        with Worker(broker, server.url, "threads"):
            report = mails[0].send_task.get(timeout=60)
            with pytest.raises(SendFailed) as caught:
                mails[1].send_task.get(timeout=60)
        ((sender, delivered, content),) = [(m.sender, m.delivered, m.content) for m in server.messages]
    assert (sender, delivered) == ("me@x.example", ["a@x.example", "c@x.example"])
    assert b"c@x.example" not in content
    assert [each["recipient"] for each in report["accepted"]] == ["a@x.example", "c@x.example"]
    assert [each["recipient"] for each in report["rejected"]] == ["full@x.example"]
    assert caught.value.status == "rejected"


def test_the_name_of_the_task(site: Any) -> None:
    with MailServer() as server:
        site.use(backend=BACKEND, app=eager(server, name="mail.send"), task="mail.send")
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert len(server.messages) == 1


@pytest.mark.parametrize("by_path", [True, False])
def test_what_goes_to_the_broker(site: Any, monkeypatch: pytest.MonkeyPatch, by_path: bool) -> None:
    """The task is known to the workers alone."""
    app = eager()
    sent: list[Any] = []
    monkeypatch.setattr(app, "send_task", lambda name, **options: sent.append((name, options)))
    monkeypatch.setattr("celery.current_app", app)
    given = {"app": "celery.current_app"} if by_path else {}
    site.use(backend=BACKEND, task="mail.send", queue="mail", apply_async={"expires": 60}, **given)
    assert send_mail("s", "b", None, ["a@x.example"]) == 1
    ((name, options),) = sent
    assert (name, options["queue"], options["expires"]) == ("mail.send", "mail", 60)
    assert json.loads(json.dumps(options["kwargs"])) == options["kwargs"]
    assert current_app is not app


def test_a_broker_that_is_away(site: Any) -> None:
    """Celery's own error, for every message; silence covers it."""
    app = Celery(set_as_current=False, broker="redis://127.0.0.1:1/0")
    app.conf.update(broker_transport_options={"max_retries": 0, "interval_start": 0, "interval_max": 0})
    failed: list[Any] = []

    def hear(message: Any, error: Any, **_: Any) -> None:
        failed.append(error)

    message_failed.connect(hear)
    try:
        site.use(backend=BACKEND, app=app, apply_async={"retry": False})
        mails = [message("a@x.example"), message("b@x.example")]
        with pytest.raises(OperationalError):
            site.connection().send_messages(mails)
        assert [type(each.send_error) for each in mails] == [OperationalError] * 2
        assert [each.send_task for each in mails] == [None, None]
        site.use(backend=BACKEND, app=app, apply_async={"retry": False}, fail_silently=True)
        assert site.connection().send_messages([message("a@x.example")]) == 0
    finally:
        message_failed.disconnect(hear)
        app.close()
    assert len(failed) == 3


def test_what_is_wrong_with_a_message_is_told_at_once(site: Any) -> None:
    heard: list[Any] = []

    def hear(**told: Any) -> None:
        heard.append(told)

    message_sent.connect(hear)
    try:
        with MailServer() as server:
            site.use(backend=BACKEND, app=eager(server), fail_silently=True)
            mails = [message("no address"), message("a@x.example")]
            with pytest.raises(InputError):
                site.connection().send_messages(mails)
            assert len(server.messages) == 1
    finally:
        message_sent.disconnect(hear)
    assert not heard


def test_wrong_options(site: Any) -> None:
    site.use(backend=BACKEND, app="no.such.app")
    with pytest.raises(ImproperlyConfigured):
        send_mail("s", "b", None, ["a@x.example"])
    site.use(backend=BACKEND, task_name="mail.send")
    with pytest.raises(ImproperlyConfigured, match="task_name"):
        site.connection()


def test_a_journal_beside_the_queue_is_refused(site: Any) -> None:
    """Nothing is sent from here that it could be of."""
    if site.by_mailers:
        site.use(backend=BACKEND, app=eager(), journal="mail.db")
    else:
        site.use(backend=BACKEND, app=eager())
        site._stack.enter_context(override_settings(PYSMTPX={"journal": "mail.db"}))
    with pytest.raises(ImproperlyConfigured, match="journal"):
        site.connection()


def test_the_servers_of_the_settings_are_the_tasks(site: Any) -> None:
    """One place for host and password, which the worker reads when it makes its pool."""
    with MailServer() as server:
        site.use(server)
        app = eager()
        register(app, lambda: servers("default" if site.by_mailers else None))
        enqueue(app, message("a@x.example").message(), sender="s@x.example", recipients=["a@x.example"])
        assert server.messages[0].sender == "s@x.example"


@pytest.mark.parametrize(("error", "is_hidden"), [(ConnectionRefusedError, True), (FileNotFoundError, False)])
def test_silence_covers_the_broker_and_no_more(site: Any, error: type[OSError], is_hidden: bool) -> None:
    class Failing(EmailMessage):
        def message(self, **options: Any) -> Any:
            raise error

    site.use(backend=BACKEND, app=Celery(set_as_current=False), fail_silently=True)
    with contextlib.nullcontext() if is_hidden else pytest.raises(error):
        assert site.connection().send_messages([Failing("s", "b", None, ["a@x.example"])]) == 0
