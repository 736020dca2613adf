"""A slip in the name of a setting is told; what other extensions and the application itself have is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from pysmtpx import InputError, Server, SmtpError
from pysmtpx.contrib.flask.settings import _POOL_KEYS, MailSettings, _Asked
from pysmtpx.options import SERVER_DEFAULTS
from pysmtpx.pooling.arguments import PoolLimits

Make = Callable[..., Flask]
DEV = "dev@example.org"


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


@pytest.mark.parametrize("name", ["MAIL_REDIRCT_TO", "MAIL_ALLOW_RECIPIENT", "MAIL_SUPRESS_SEND"])
def test_a_slip_that_would_let_mail_out(make_app: Make, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.*did you mean MAIL_"):
        make_app(**{name: "dev@example.org"})


def test_a_list_that_names_no_server(make_app: Make) -> None:
    app = make_app(MAIL_URL=[])
    with pytest.raises(InputError, match="MAIL_URL names no server"):
        app.extensions["mail"].pool()


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


@pytest.mark.parametrize("name", [*SERVER_DEFAULTS, *PoolLimits.__annotations__])
def test_every_option_has_a_key(name: str) -> None:
    """But those for which Flask-Mail has names, and ``protocol``."""
    found = MailSettings({f"MAIL_{name.upper()}": print}).pool_options
    is_elsewhere = name in ("protocol", "tls", "username", "password", "max_messages")
    assert found == ({} if is_elsewhere else {name: print})


@pytest.mark.parametrize(
    ("key", "value"),
    [("MAIL_SERVER", "b.example"), ("MAIL_PORT", 587), ("MAIL_USE_TLS", True), ("MAIL_USE_SSL", True)],
)
@pytest.mark.parametrize("url", ["smtps://a.example", ["smtps://a.example"]])
def test_a_place_is_set_once(key: str, value: Any, url: Any) -> None:
    with pytest.raises(InputError, match=f"{key} beside MAIL_URL"):
        MailSettings({"MAIL_URL": url, key: value}).pool()
    MailSettings({"MAIL_URL": url, "MAIL_PORT": None, "MAIL_USE_TLS": False, "MAIL_USE_SSL": False})._pool()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"MAIL_OAUTH": "microsoft", "MAIL_PASSWORD": "s3cret"}, "MAIL_OAUTH and MAIL_PASSWORD"),
        ({"MAIL_TOKEN": "t0ken", "MAIL_PASSWORD": "s3cret"}, "password and token"),
        ({"MAIL_RATE": 2, "MAIL_POOL": {"rate": 5}}, "MAIL_RATE and MAIL_POOL"),
        ({"MAIL_MAX_EMAILS": 2, "MAIL_POOL": {"max_messages": 5}}, "MAIL_MAX_EMAILS and MAIL_POOL"),
    ],
)
def test_what_is_said_twice(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        MailSettings({"MAIL_USERNAME": "ann@example.org", **config}).pool()
    assert "s3cret" not in str(caught.value)


SWITCHES = {
    "MAIL_USE_TLS": lambda settings: settings.use_tls,
    "MAIL_USE_SSL": lambda settings: settings.use_ssl,
    "MAIL_SUPPRESS_SEND": lambda settings: settings.suppress,
    "MAIL_ASCII_ATTACHMENTS": lambda settings: settings.ascii_attachments,
    "MAIL_INSECURE_AUTH": lambda settings: settings.pool_options["insecure_auth"],
    "MAIL_OVERLAP": lambda settings: settings.pool_options["overlap"],
}


@pytest.mark.parametrize("key", SWITCHES)
def test_true_and_false_as_texts_of_the_environment(key: str) -> None:
    """Of "false" Python would think that it is true: with MAIL_SUPPRESS_SEND no mail would go."""
    for text, said in (("false", False), ("True", True), ("0", False), ("on", True), ("", False)):
        assert SWITCHES[key](MailSettings({key: text})) is said
    with pytest.raises(InputError, match="True or False"):
        MailSettings({key: "perhaps"})


TEXTS = ("true", "false", "", "ten", "nan", "-1", "0", "30", "1e400", "9" * 5000, "\x00", "http://[")


def asked() -> list[str]:
    """Every key that the settings look at."""
    keys = _Asked({})
    MailSettings(keys)
    return sorted({*keys.names, *_POOL_KEYS})


@pytest.mark.parametrize("key", asked())
def test_any_key_may_be_any_text_of_the_environment(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a meaning, or is an error of ours that shows no secret."""
    monkeypatch.chdir(tmp_path)  # a journal may be called anything
    for text in TEXTS:
        try:
            settings = MailSettings({key: text})
            settings.task()
            settings._pool().close()
        except SmtpError as error:
            said = str(error)
            if key not in ("MAIL_SERVER", "MAIL_URL"):  # these say what a host is
                assert key.removeprefix("MAIL_").lower() in said.lower()


NUMBERS: dict[str, Callable[[MailSettings], Any]] = {
    "MAIL_TIMEOUT": lambda settings: settings.timeout,
    "MAIL_DEBUG": lambda settings: settings.debug,
    "MAIL_MAX_EMAILS": lambda settings: settings._options()["max_messages"],
    "MAIL_PORT": lambda settings: settings._options()["port"],
}


@pytest.mark.parametrize(("key", "said"), NUMBERS.items(), ids=NUMBERS)
def test_numbers_as_texts_of_the_environment(key: str, said: Callable[[MailSettings], Any]) -> None:
    assert said(MailSettings({key: "30"})) == 30
    with pytest.raises(InputError, match=key):
        said(MailSettings({key: "ten"}))


@pytest.mark.parametrize("name", ["max_connections", "connect_timeout", "rate", "max_age", "in_flight"])
def test_numbers_of_a_pool_as_texts_of_the_environment(name: str) -> None:
    key = f"MAIL_{name.upper()}"
    assert MailSettings({key: "30"}).pool_options == {name: 30}
    assert MailSettings({key: "30", "MAIL_POOL": {name: 30}}).pool_options == {name: 30}
    with pytest.raises(InputError, match=name):
        MailSettings({key: "ten"})._pool()


def test_debug_as_a_text_of_the_environment() -> None:
    texts = {"true": 1, "False": 0, "": 0, "0": 0, "1": 1, "2": 2}
    assert {text: MailSettings({"MAIL_DEBUG": text}).debug for text in texts} == texts
    for wrong in ("perhaps", [1], 1.5):
        with pytest.raises(InputError, match="MAIL_DEBUG"):
            MailSettings({"MAIL_DEBUG": wrong})


def test_no_limit_on_a_connection_is_one_in_any_form() -> None:
    for none in (None, 0, "0", ""):
        assert MailSettings({"MAIL_MAX_EMAILS": none})._options().get("max_messages") is None


def test_a_queue_is_switched_on_by_a_text_too() -> None:
    with pytest.raises(InputError, match="holds no Celery application"):
        MailSettings({"MAIL_CELERY": "true"}).task()
    assert MailSettings({"MAIL_CELERY": "off"}).task() is None
    with pytest.raises(InputError, match="MAIL_CELERY_OPTIONS"):
        MailSettings({"MAIL_CELERY_OPTIONS": "queue=mail"})


@pytest.mark.parametrize(
    "first", [{"url": "smtps://a.example", "redirect_to": DEV}, Server("a.example", redirect_to=DEV)]
)
def test_a_task_screens_by_whatever_describes_a_server(first: Any) -> None:
    assert MailSettings({"MAIL_URL": [first]}).screening()["redirect_to"] == (DEV,)
    with pytest.raises(InputError, match="proxie"):
        MailSettings({"MAIL_URL": [{"host": "a.example", "proxie": "x"}]}).screening()
