"""A slip in the name of a setting is told; what other extensions and the application itself have is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from pysmtpx import InputError

Make = Callable[..., Flask]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAIL_SEVER", "MAIL_SERVER"),
        ("MAIL_PROT", "MAIL_PORT"),
        ("MAIL_USE_TSL", "MAIL_USE_TLS"),
        ("MAIL_USERNANE", "MAIL_USERNAME"),
        ("MAIL_PASSWD", "MAIL_PASSWORD"),
        ("MAIL_MAX_CONNECTION", "MAIL_MAX_CONNECTIONS"),
        ("MAIL_CELRY", "MAIL_CELERY"),
        ("MAIL_HOST", "MAIL_SERVER"),
        ("MAIL_USER", "MAIL_USERNAME"),
    ],
)
def test_a_slip(make_app: Make, caplog: pytest.LogCaptureFixture, name: str, meant: str) -> None:
    make_app(**{name: "hunter2"})
    assert warned(caplog) == [f"the setting {name!r} is none of ours; did you mean {meant}?"]
    caplog.clear()
    make_app(**{name: "hunter2", meant: None})  # it stands beside the right one: somebody's own
    assert warned(caplog) == []


@pytest.mark.parametrize(
    "name",
    [
        *("MAIL_BACKEND", "MAIL_FILE_PATH", "MAIL_SSL_KEYFILE", "MAIL_SSL_CERTFILE", "MAIL_USE_LOCALTIME"),
        *("MAIL_SENDER", "MAIL_ADMINS", "MAIL_SUBJECT_PREFIX", "MAIL_REPLY_TO", "MAIL_TEMPLATES"),
        *("MAIL_FAIL_SILENTLY", "MAIL_SERVER_NAME", "MAILGUN_SERVER", "SECURITY_EMAIL_SENDER"),
    ],
)
def test_a_key_of_somebody_else(make_app: Make, caplog: pytest.LogCaptureFixture, name: str) -> None:
    make_app(**{name: "x"})
    assert warned(caplog) == []


def test_options_within_a_setting(make_app: Make) -> None:
    for config, said in (
        ({"MAIL_POOL": {"max_connection": 3}}, "did you mean max_connections"),
        ({"MAIL_RETRY": {"atempts": 3}}, "no such option in MAIL_RETRY: 'atempts'; did you mean attempts"),
    ):
        app = make_app(**config)
        with pytest.raises(InputError, match=said):
            app.extensions["mail"].pool()


@pytest.mark.parametrize("value", ["shop.celery", {"queue": "mail"}, 3])
def test_what_is_no_queue(make_app: Make, value: Any) -> None:
    with pytest.raises(InputError, match="options go into MAIL_CELERY_OPTIONS"):
        make_app(MAIL_CELERY=value).extensions["mail"].task()
