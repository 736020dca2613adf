"""What error reporters, logs and reprs show of the faces: no password, token or key, whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from django.core import mail as django_mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from flask import Flask
from support.daemon import CLOSED_PORT
from support.django_site import Site, site
from support.frames import shown
from support.leftovers import log_as_before

import pysmtpx
from pysmtpx.contrib.celery import enqueue, register
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.contrib.pools import close_pools
from pysmtpx.testing import MailServer

__all__ = ["site"]

SECRET = "correct-horse-battery"
OCTETS = b"From: a@x.example\r\nTo: b@x.example\r\n\r\nhello\r\n"


@pytest.fixture(autouse=True)
def _pools_end() -> Iterator[None]:
    yield
    close_pools(0)


def by_flask(server: MailServer | None, **config: Any) -> Callable[[], object]:
    app = Flask(__name__)
    app.config.update(MAIL_DEFAULT_SENDER="a@x.example", MAIL_USERNAME="robot", MAIL_PASSWORD=SECRET)
    if server is not None:
        app.config.update(MAIL_SERVER=server.host, MAIL_PORT=server.port)
    app.config.update(config)
    mail = Mail(app)

    def send() -> None:
        with app.app_context():
            mail.send(Message("x", ["b@x.example"], body="x"))

    return send


def by_celery(url: Any, **options: Any) -> Callable[[], object]:
    def send() -> None:
        app = Celery("secrets", broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update(task_always_eager=True, task_store_eager_result=True, task_eager_propagates=True)
        task = register(app, url, retry=pysmtpx.RetryPolicy(attempts=1), **options)
        enqueue(task, OCTETS).get()

    return send


def by_django(site: Site, server: MailServer | None, **options: Any) -> Callable[[], object]:
    def send() -> None:
        site.use(server, username="robot", password=SECRET, **options)
        EmailMessage("x", "x", "a@x.example", ["b@x.example"]).send()

    return send


def failing(send: Callable[[], object], caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.DEBUG)
    with pytest.raises((pysmtpx.SmtpError, ImproperlyConfigured)) as caught:
        send()
    logged = [shown(record.exc_info[1]) for record in caplog.records if record.exc_info]
    return "\n".join([shown(caught.value), caplog.text, *logged, *getattr(caught.value, "transcript", ())])


def test_a_refused_password(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    users = {"robot": "another"}
    with log_as_before("pysmtpx.wire"), MailServer(users=users, require_auth=True) as server:
        for send in (
            by_flask(server),
            by_flask(None, MAIL_URL=server.url, MAIL_DEBUG=1),
            by_django(site, server),
            by_celery(server.url, username="robot", password=SECRET),
            by_celery(lambda: server.url.replace("//", f"//robot:{SECRET}@")),
        ):
            assert SECRET not in failing(send, caplog)


def test_a_server_that_is_away(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    port = CLOSED_PORT
    url = f"smtp://robot:{SECRET}@127.0.0.1:{port}"
    for send in (
        by_flask(None, MAIL_SERVER="127.0.0.1", MAIL_PORT=port, MAIL_RETRY={"attempts": 1}),
        by_flask(None, MAIL_URL=url, MAIL_USERNAME=None, MAIL_PASSWORD=None, MAIL_RETRY={"attempts": 1}),
        by_django(site, None, host="127.0.0.1", port=port, retry={"attempts": 1}),
        by_celery(url),
    ):
        assert SECRET not in failing(send, caplog)


WRONG_FLASK: list[dict[str, Any]] = [
    {"MAIL_POOL": {"nonsense": 1}},
    {"MAIL_POOL": {"max_connections": -1}},
    {"MAIL_POOL": 7},
    {"MAIL_POOL": {"auth": {1: [{2}]}}},
    {"MAIL_RETRY": {"nonsense": 1}},
    {"MAIL_RETRY": 7},
    {"MAIL_PORT": "smtp"},
    {"MAIL_MAX_EMAILS": "many"},
    {"MAIL_PASSWORD": SECRET + "\n"},
    {"MAIL_USE_TLS": True, "MAIL_USE_SSL": True},
    {"MAIL_SERVER": ""},
    {"MAIL_URL": f"smtp://robot:{SECRET}@h.example:1:2"},
    {"MAIL_URL": f"smtp://robot:{SECRET}@h.example?nonsense=1"},
    {"MAIL_URL": f"//robot:{SECRET}@h.example"},
    {"MAIL_TOKEN": SECRET, "MAIL_TIMEOUT": -1},
    {"MAIL_CELERY": True, "MAIL_CELERY_OPTIONS": {"signing_keys": SECRET}},
    {"MAIL_CELERY": 7, "MAIL_CELERY_OPTIONS": {"signing_keys": SECRET}},
]


@pytest.mark.parametrize("wrong", WRONG_FLASK, ids=str)
def test_wrong_settings_of_flask(wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    def send() -> None:
        by_flask(None, **{"MAIL_SERVER": "h.example"} | wrong)()

    assert SECRET not in failing(send, caplog)


WRONG_DJANGO: list[dict[str, Any]] = [
    {"nonsense": SECRET},
    {"max_connections": -1},
    {"retry": {"nonsense": SECRET}},
    {"token": SECRET},
    {"token": 7, "password": None},
    {"ssl_context": "nonsense.module"},
    {"port": SECRET},
    {"timeout": -1},
    {"host": 7},
    {"on_event": 7},
    {"balance": "nonsense"},
    {"auth": {1: 2}},
    {"use_tls": True, "use_ssl": True},
]


@pytest.mark.parametrize("wrong", WRONG_DJANGO, ids=str)
def test_wrong_settings_of_django(
    site: Site, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def send() -> None:
        site.use(**{"host": "h.example", "username": "robot", "password": SECRET} | wrong)
        site.connection().send_messages([EmailMessage("x", "x", "a@x.example", ["b@x.example"])])

    seen = failing(send, caplog)
    assert SECRET not in seen


@pytest.mark.parametrize(
    "wrong", [{"nonsense": 1}, {"app": "nonsense.app"}, {"signing_keys": "horse-battery"}], ids=str
)
def test_wrong_settings_of_django_through_celery(
    site: Site, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def send() -> None:
        site.use(backend="pysmtpx.contrib.django.CeleryEmailBackend", **{"signing_keys": SECRET} | wrong)
        site.connection().send_messages([EmailMessage("x", "x", "a@x.example", ["b@x.example"])])

    assert "horse-battery" not in failing(send, caplog).replace("keys", "")


def test_what_prints_itself(site: Site) -> None:
    site.use(host="h.example", username="robot", password=SECRET)
    backend = django_mail.get_connection() if not site.by_mailers else site.connection()
    app = Flask(__name__)
    app.config.update(MAIL_SERVER="h.example", MAIL_USERNAME="robot", MAIL_PASSWORD=SECRET)
    mail = Mail(app)
    celery = Celery("secrets", broker="memory://", set_as_current=False)
    task = register(celery, f"smtp://robot:{SECRET}@h.example", signing_keys=SECRET)
    for each in (backend, backend.pool, backend.options, mail, mail.state, mail.state.pool(), task, task.run):
        assert SECRET not in repr(each) + str(each)
