"""A slip in the name of an option: Celery takes every one, and would send it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pysmtpx import InputError, MailObject, RetryPolicy
from pysmtpx.contrib.celery import enqueue, register

MAIL = MailObject("ann@x.example", ("bob@x.example",), b"Subject: x\r\n\r\nhello\r\n")


@pytest.fixture
def published(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of what goes to the broker."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda name, **options: found.append(options))
    return found


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("all_or_nothin", "all_or_nothing"),
        ("sendr", "sender"),
        ("recipient", "recipients"),
        ("quue", "queue"),
        ("signingkeys", "signing_keys"),
        ("countdwn", "countdown"),
        ("routingkey", "routing_key"),
    ],
)
def test_of_enqueue(app: Celery, published: list[dict[str, Any]], option: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"no such option: '{option}'; did you mean {near}\\?"):
        enqueue(app, MAIL, **{option: True})
    assert published == []


@pytest.mark.parametrize("option", ["of_our_own", "tenant", "priority", "headers", "expires", "shadow"])
def test_what_is_no_slip_goes_on(app: Celery, published: list[dict[str, Any]], option: str) -> None:
    """Celery's, and what routers and task classes of a project's own read."""
    enqueue(app, MAIL, **{option: 5})
    assert published[0][option] == 5


def test_of_the_task(app: Celery) -> None:
    with pytest.raises(InputError, match=r"did you mean acks_late\?"):
        register(app, "smtp://127.0.0.1:1", task_options={"ack_late": True})
    assert register(app, "smtp://127.0.0.1:1", task_options={"acks_late": True, "of_our_own": 1}).acks_late


def test_a_journal_is_opened_where_mail_is_sent(app: Celery, tmp_path: Path) -> None:
    """Whoever enqueues imports the same module."""
    for number, server in enumerate(("smtp://127.0.0.1:1", "some.module:server")):
        task = register(app, server, journal=tmp_path / "fates.db", name=f"mail.{number}")
        enqueue(task, MAIL)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="unknown=True"):
        register(app, "smtp://127.0.0.1:1", journal="x", name="third", retry=RetryPolicy(unknown=True))


def test_of_the_setting_with_the_keys(app: Celery, published: list[dict[str, Any]]) -> None:
    """Nothing would be signed, and workers would take whatever comes."""
    app.conf.pysmtpx_signing_key = "a key of enough octets"
    with pytest.raises(InputError, match=r"did you mean pysmtpx_signing_keys\?") as caught:
        enqueue(app, MAIL)
    assert "octets" not in str(caught.value)
    assert published == []
    app.conf.pysmtpx_signing_keys = "a key of enough octets"
    enqueue(app, MAIL)
