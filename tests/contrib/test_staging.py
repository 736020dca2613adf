"""Staging by settings: Django, Flask and Celery write to nobody who is not meant to have mail."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage as DjangoMessage
from flask import Flask
from support.django_site import site
from support.pools import shared_pools_end

from pysmtpx import InputError, MailObject, RecipientsWithheld, RetryPolicy
from pysmtpx.contrib.celery import SendFailed, enqueue, register
from pysmtpx.contrib.django import servers
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.outgoing import FIELD
from pysmtpx.testing import Event, MailServer

__all__ = ["site"]
DEV = "dev@example.org"
CUSTOMERS = ["ann@example.com", "bob@example.net", "eve@example.com"]
CELERY_BACKEND = "pysmtpx.contrib.django.CeleryEmailBackend"


_pools_end = pytest.fixture(autouse=True)(shared_pools_end)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def eager() -> Iterator[Celery]:
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=True)
    yield app
    app.close()


def stamp(octets: bytes, mail: MailObject) -> bytes:
    return b"X-Stamp: 1\r\n" + octets


# Django.


def django_message(*to: str) -> DjangoMessage:
    return DjangoMessage(
        "x", "body\n", "Me <me@example.org>", to or CUSTOMERS[:1], bcc=CUSTOMERS[1:2], cc=CUSTOMERS[2:]
    )


def test_django(site: Any, server: MailServer) -> None:
    site.use(server, redirect_to=[DEV], before_send=f"{__name__}.stamp")
    messages = [django_message(), django_message()]
    assert site.connection().send_messages(messages) == 2
    assert site.connection().send_messages([django_message()]) == 1
    assert [got.addresses for got in server.messages] == [[DEV]] * 3
    assert all(got.content.startswith(f"X-Stamp: 1\r\n{FIELD}: ".encode()) for got in server.messages)
    assert set(messages[0].send_result.withheld_recipients) == set(CUSTOMERS)
    assert {each.redirect_to for each in servers(site.connection().alias)} == {(DEV,)}


def test_django_nobody_left(site: Any, server: MailServer) -> None:
    site.use(server, allow_recipients={"example.org"})
    message = django_message()
    with pytest.raises(RecipientsWithheld) as caught:
        message.send()
    assert isinstance(caught.value, smtplib.SMTPException)
    assert message.send_result is None
    assert site.connection().send_messages([DjangoMessage("x", "y", "me@example.org", [DEV])]) == 1
    site.use(server, allow_recipients={"example.org"}, fail_silently=True)
    assert site.connection().send_messages([django_message(), django_message()]) == 0
    assert [got.addresses for got in server.messages] == [[DEV]]


@pytest.mark.parametrize(
    "options",
    [{"redirect_to": ""}, {"allow_recipients": "*"}, {"before_send": "no.such.thing"}, {"before_send": "x"}],
)
def test_django_says_what_is_wrong(site: Any, server: MailServer, options: dict[str, Any]) -> None:
    site.use(server, **options)
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        site.connection()


def test_django_by_way_of_celery(site: Any, server: MailServer, eager: Celery) -> None:
    register(eager, server.url)  # which knows nothing of it
    site.use(backend=CELERY_BACKEND, app=eager, redirect_to=DEV)
    assert site.connection().send_messages([django_message()]) == 1
    site.use(backend=CELERY_BACKEND, app=eager, allow_recipients=["example.net"])
    assert site.connection().send_messages([django_message()]) == 1
    message = django_message("ann@example.com")
    message.bcc = []
    with pytest.raises(RecipientsWithheld):
        site.connection().send_messages([message])
    assert [got.addresses for got in server.messages] == [[DEV], ["bob@example.net"]]


def test_django_by_way_of_celery_and_the_setting_of_the_other_backend(
    settings_of: Any, server: MailServer, eager: Celery
) -> None:
    register(eager, server.url)
    backend = settings_of(PYSMTPX={"redirect_to": DEV}, PYSMTPX_CELERY={"app": eager})
    assert backend.send_messages([django_message()]) == 1
    assert [got.addresses for got in server.messages] == [[DEV]]


@pytest.fixture
def settings_of() -> Iterator[Any]:
    from contextlib import ExitStack

    from django.test.utils import override_settings

    from pysmtpx.contrib.django import CeleryEmailBackend

    with ExitStack() as stack:

        def make(**values: Any) -> Any:
            stack.enter_context(override_settings(**values))
            return CeleryEmailBackend()

        yield make


# Flask.


def flask_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(MAIL_DEFAULT_SENDER="robot@example.org", **config)
    Mail().init_app(app)
    return app


def flask_message() -> Message:
    return Message("x", CUSTOMERS[:1], body="y", bcc=CUSTOMERS[1:2], cc=CUSTOMERS[2:])


@pytest.mark.parametrize("by", ["keys", "pool", "url"])
def test_flask(server: MailServer, by: str) -> None:
    config: dict[str, Any] = {"MAIL_SERVER": server.host, "MAIL_PORT": server.port}
    if by == "keys":
        config |= {"MAIL_REDIRECT_TO": DEV, "MAIL_BEFORE_SEND": f"{__name__}.stamp"}
    elif by == "pool":
        config["MAIL_POOL"] = {"redirect_to": DEV, "before_send": [stamp]}
    else:
        config = {"MAIL_URL": f"{server.url}?redirect_to={DEV}", "MAIL_BEFORE_SEND": stamp}
    with flask_app(**config).app_context():
        message = flask_message()
        Mail().send(message)
    (got,) = server.messages
    assert got.addresses == [DEV]
    assert got.content.startswith(f"X-Stamp: 1\r\n{FIELD}: ".encode())
    assert set(message.send_result.withheld_recipients) == set(CUSTOMERS)


def test_flask_nobody_left(server: MailServer) -> None:
    config = {"MAIL_SERVER": server.host, "MAIL_PORT": server.port, "MAIL_ALLOW_RECIPIENTS": ["example.org"]}
    with flask_app(**config).app_context():
        message = flask_message()
        with pytest.raises(smtplib.SMTPException):
            Mail().send(message)
    assert isinstance(message.send_error, RecipientsWithheld)
    assert server.messages == []


def test_flask_by_way_of_celery(server: MailServer, eager: Celery) -> None:
    task = register(eager, server.url)
    for config in ({"MAIL_REDIRECT_TO": DEV}, {"MAIL_URL": f"smtp://127.0.0.1?redirect_to={DEV}"}):
        with flask_app(MAIL_CELERY=task, **config).app_context():
            Mail().send(flask_message())
    assert [got.addresses for got in server.messages] == [[DEV], [DEV]]


@pytest.mark.parametrize("value", ["no.such.thing", "x", 7, [7]])
def test_flask_says_what_is_wrong(server: MailServer, value: Any) -> None:
    with pytest.raises(InputError, match=r"before_send|MAIL_BEFORE_SEND"):
        flask_app(MAIL_SERVER=server.host, MAIL_BEFORE_SEND=value).extensions["mail"].pool()


# Celery.


def mail() -> MailObject:
    return MailObject("s@example.org", CUSTOMERS, b"Subject: x\r\n\r\n")


def test_a_task(server: MailServer, eager: Celery) -> None:
    task = register(eager, server.url, redirect_to=DEV)
    report = enqueue(task, mail()).get()
    assert report["status"] == "accepted"
    assert [each["recipient"] for each in report["accepted"]] == [DEV]
    assert report["withheld"] == CUSTOMERS
    assert report["unsent"] == report["rejected"] == []
    (got,) = server.messages
    assert got.addresses == [DEV]


def test_a_task_of_which_nobody_is_left(server: MailServer, eager: Celery) -> None:
    task = register(eager, server.url, allow_recipients=())
    with pytest.raises(SendFailed, match="RecipientsWithheld") as caught:
        enqueue(task, mail()).get()
    report = caught.value.report
    assert (report["status"], report["withheld"], report["unsent"]) == ("unsent", CUSTOMERS, [])
    assert caught.value.withheld_recipients == tuple(CUSTOMERS)
    assert report["attempts"] == 1
    assert server.messages == []


@pytest.mark.parametrize("who", ["task", "caller"])
def test_a_task_that_tries_again(eager: Celery, who: str) -> None:
    """Those owed another try, the field and the report stay right over tries."""
    asked: list[Event] = []

    def verdict(event: Event) -> str | None:
        if event.verb == "RCPT" and event.address == DEV:
            asked.append(event)
            return "451 4.3.0 later" if len(asked) < 3 else None
        return None

    options: dict[str, Any] = {"redirect_to": DEV, "allow_recipients": ["bob@example.net"]}
    retry = RetryPolicy(attempts=5, backoff=0.0, temporary=True)
    with MailServer(verdict=verdict) as server:
        if who == "task":
            report = enqueue(register(eager, server.url, retry=retry, **options), mail()).get()
        else:
            report = enqueue(register(eager, server.url, retry=retry), mail(), **options).get()
        assert [got.addresses for got in server.messages] == [["bob@example.net"], [DEV]]
        for got in server.messages:
            assert got.content.count(FIELD.encode()) == 1
            assert got.content.startswith(f"{FIELD}: ann@example.com,\r\n eve@example.com\r\n".encode())
    assert [each["recipient"] for each in report["accepted"]] == ["bob@example.net", DEV]
    assert report["unsent"] == report["rejected"] == []
    assert report["attempts"] == 2  # of which the first had two transactions
    if who == "task":
        assert report["withheld"] == ["ann@example.com", "eve@example.com"]
