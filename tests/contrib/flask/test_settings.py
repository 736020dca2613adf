"""A slip in the name of a setting is told; what other extensions and the application itself have is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from pysmtpx import InputError
from pysmtpx.contrib.flask.settings import MailSettings

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


def accounts(**settings: Any) -> list[tuple[str | None, Any]]:
    config = {"MAIL_USERNAME": "ann", "MAIL_PASSWORD": "of ann", **settings}
    routes = MailSettings(config)._pool().routes
    return [(each.server.username, each.server.password) for each in routes]


def test_a_password_goes_to_no_server_but_its_own() -> None:
    """One of the settings completes a URL of its user, and one that is alone and names nobody."""
    corp = {"url": "smtps://mail.corp.example", "username": "user", "password": "of user"}
    listed = ["smtps://a.example?weight=3", corp, "smtps://bob:b@b.example", "smtps://ann@c.example"]
    assert accounts(MAIL_URL=listed) == [(None, None), ("user", "of user"), ("bob", "b"), ("ann", "of ann")]
    assert accounts(MAIL_URL="smtps://a.example") == [("ann", "of ann")]
    assert accounts(MAIL_URL="smtps://bob:b@b.example") == [("bob", "b")]


def test_what_a_url_says_wins() -> None:
    listed = ["smtp://ann:a@a.example?insecure_auth=false", {"host": "b.example", "insecure_auth": False}]
    pool = MailSettings({"MAIL_URL": [*listed, "c.example"], "MAIL_INSECURE_AUTH": True})._pool()
    assert [each.server.insecure_auth for each in pool.routes] == [False, False, True]


def test_the_line_has_keys_too() -> None:
    pool = MailSettings(
        {"MAIL_URL": "smtps://a.example", "MAIL_BALANCE": "even", "MAIL_CLIENT_CERTIFICATE": "own.pem"}
    )._pool()
    assert pool.routes[0].server.client_certificate == ("own.pem", None)
