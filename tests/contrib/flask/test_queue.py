"""MAIL_CELERY: messages go into a queue instead, envelope and all."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask
from kombu.exceptions import OperationalError
from support.celery_app import Worker, closing_app

from pysmtpx import InputError, MailFromParams, MessageTooLarge
from pysmtpx.contrib.celery import register
from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.payload import unpack
from pysmtpx.testing import MailServer

MakeApp = Callable[..., Flask]
NOWHERE = "smtp://127.0.0.1:9"


@pytest.fixture
def celery():
    app = Celery("tests", broker="memory://", set_as_current=False)
    yield app
    app.close()


def queued(celery: Celery, queue: str = "celery") -> Any:
    """What a worker would get."""
    with celery.connection_for_read() as connection, connection.SimpleQueue(queue) as simple:
        got = simple.get(block=False)
        got.ack()
        return unpack(got.decode()[1]["payload"]).mail


def test_a_message_goes_into_the_queue(make_app: MakeApp, celery: Celery) -> None:
    mail = Mail()
    task = register(celery, NOWHERE)
    one = Message(
        "Grüße", ["Ann <ann@example.com>"], body="Grüße", bcc=["eve@example.com"], sender="me@example.org"
    )
    one.mail_options, one.rcpt_options = ["RET=HDRS"], ["NOTIFY=NEVER"]
    with make_app(MAIL_CELERY=task).app_context(), mail.record_messages() as outbox:
        mail.send(one)
    assert outbox == [one]
    assert one.send_result is None
    assert one.send_task.id
    got = queued(celery)
    assert (got.sender, got.recipients) == ("me@example.org", ("ann@example.com", "eve@example.com"))
    assert got.mail_params == MailFromParams(ret="HDRS")
    assert [params.notify for params in got.rcpt_params] == [("NEVER",)] * 2
    content = b"".join(got.content.for_bdat(binary=True))
    assert one.msgId.encode() in content
    assert b"eve@" not in content
    assert content.isascii()  # the server is not known yet


def test_a_worker_process_sends_it(make_app: MakeApp, tmp_path: Path) -> None:
    """Nothing but the broker is shared: the envelope and the content are whole in another process."""
    broker = str(tmp_path)
    mail = Mail()
    one = Message(
        "Grüße", ["Ann <ann@example.com>"], body="Grüße", bcc=["eve@example.com"], sender="me@example.org"
    )
    with MailServer() as server, closing_app(broker) as celery:
        with make_app(mail=mail, MAIL_CELERY=celery).app_context():
            mail.send(one)
        assert len(server.messages) == 0
        with Worker(broker, server.url, "threads"):
            report = one.send_task.get(timeout=60)
        ((sender, delivered, content),) = [(m.sender, m.delivered, m.content) for m in server.messages]
    assert (sender, delivered) == ("me@example.org", ["ann@example.com", "eve@example.com"])
    assert one.msgId.encode() in content
    assert b"eve@" not in content
    assert [each["recipient"] for each in report["accepted"]] == delivered


def test_the_application_of_flask(make_app: MakeApp, celery: Celery) -> None:
    mail = Mail()
    options = {"name": "mine.send", "queue": "letters"}
    app = make_app(mail=mail, MAIL_CELERY=True, MAIL_CELERY_OPTIONS=options)
    app.extensions["celery"] = celery
    with app.app_context(), mail.connect() as connection:
        assert connection.host is None
        connection.send_message("x", ["ann@example.com"], body="x")
    assert queued(celery, "letters").recipients == ("ann@example.com",)


def test_a_message_too_large_for_the_queue(make_app: MakeApp, celery: Celery) -> None:
    options = {"max_size": 1000}
    one = Message("x", ["ann@example.com"], body="x" * 2000, sender="me@example.org")
    app = make_app(MAIL_CELERY=celery, MAIL_CELERY_OPTIONS=options)
    with app.app_context(), pytest.raises(smtplib.SMTPException) as caught:
        Mail().send(one)
    assert isinstance(caught.value, MessageTooLarge)
    assert one.send_error is caught.value


def test_nothing_is_queued_in_a_test(make_app: MakeApp) -> None:
    with make_app(MAIL_CELERY=True, TESTING=True).app_context(), Mail().record_messages() as outbox:
        Mail().send(Message("x", ["ann@example.com"]))
    assert len(outbox) == 1


def test_a_name_is_no_application(make_app: MakeApp) -> None:
    with make_app(MAIL_CELERY="shop.celery").app_context(), pytest.raises(InputError, match="application"):
        Mail().send(Message("x", ["ann@example.com"], body="x"))


@pytest.mark.parametrize("journal", [{"MAIL_JOURNAL": "mail.db"}, {"MAIL_POOL": {"journal": "mail.db"}}])
def test_a_journal_beside_the_queue_is_refused(make_app: MakeApp, journal: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="MAIL_JOURNAL and MAIL_CELERY"):
        make_app(MAIL_CELERY=True, **journal)


def test_a_broker_that_is_away(make_app: MakeApp) -> None:
    celery = Celery(set_as_current=False, broker="redis://127.0.0.1:1/0")
    celery.conf.update(broker_transport_options={"max_retries": 0, "interval_start": 0, "interval_max": 0})
    one = Message("x", ["ann@example.com"], sender="me@example.org")
    app = make_app(MAIL_CELERY=celery, MAIL_CELERY_OPTIONS={"retry": False})
    with app.app_context(), pytest.raises(OperationalError) as caught:
        Mail().send(one)
    assert one.send_error is caught.value
    assert one.send_task is None
    celery.close()
