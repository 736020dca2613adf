"""``manage.py check`` says what is wrong with the settings before mail is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import override_settings
from support import certs

CELERY = "pysmtpx.contrib.django.CeleryEmailBackend"
REMOTE = "mail.example.org"


def found(site: Any, **options: Any) -> list[str]:
    site.use(**options)
    messages = run_checks(tags=["mail"])
    assert all(str(each.msg).count("MAILERS['default']") == site.by_mailers for each in messages)
    return [str(each.id) for each in messages]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"port": 587, "use_tls": True}, []),
        ({"port": 465, "use_ssl": True}, []),
        ({"port": 2525, "use_tls": True, "username": "ann", "password": "x"}, []),
        ({"host": "localhost", "port": 25}, []),
        ({"host": "127.0.0.1", "port": 25, "username": "ann", "password": "x"}, []),
        ({"port": 465, "use_tls": True}, ["pysmtpx.E002"]),
        ({"host": "localhost", "port": 465}, ["pysmtpx.E002"]),
        ({"port": 587, "use_ssl": True}, ["pysmtpx.E002"]),
        ({"port": 25, "use_ssl": True}, ["pysmtpx.E002"]),
        ({"port": 25}, ["pysmtpx.W001"]),
        ({"port": 25, "username": "ann", "password": "x"}, ["pysmtpx.E004"]),
        ({"port": 25, "username": "ann", "token": "builtins.str"}, ["pysmtpx.E004"]),
        ({"port": 25, "username": "ann", "password": "x", "insecure_auth": True}, ["pysmtpx.W001"]),
        ({"port": 25, "username": "ann", "password": "x", "auth": "SCRAM-SHA-256"}, ["pysmtpx.W001"]),
        ({"port": 25, "use_tls": True, "use_ssl": True}, ["pysmtpx.E001"]),
        ({"port": 587, "use_tls": True, "max_conections": 2}, ["pysmtpx.E001"]),
        ({"port": 587, "use_tls": True, "rate": 0}, ["pysmtpx.E001"]),
        ({"port": 587, "use_tls": True, "ssl_certfile": "/no/such/file.pem"}, ["pysmtpx.E003"]),
        ({"host": [REMOTE, "localhost"], "port": 25}, ["pysmtpx.W001"]),
        ({"port": 587, "use_tls": True, "roots": "sytem"}, ["pysmtpx.E003"]),
        (
            {"servers": ["smtps://a.example", "smtps://b.example?roots=/no/such.pem"]},
            ["pysmtpx.E003"],
        ),
        ({"servers": []}, ["pysmtpx.E001"]),
        ({"host": "preset://gmail"}, ["pysmtpx.E001"]),
        ({"port": 587, "use_tls": True, "fingerprint": []}, ["pysmtpx.E001"]),
    ],
)
def test_settings(site: Any, options: dict[str, Any], ids: list[str]) -> None:
    assert found(site, **{"host": REMOTE, **options}) == ids


def test_a_certificate_and_its_key(site: Any, tmp_path: Path) -> None:
    chain, key = certs.server_files(tmp_path, "client.test")
    options = {"host": REMOTE, "port": 587, "use_tls": True, "ssl_certfile": str(chain)}
    assert found(site, **options, ssl_keyfile=str(key)) == []
    assert found(site, **options, ssl_keyfile=str(chain)) == ["pysmtpx.E003"]


def test_another_backend_is_none_of_ours(site: Any) -> None:
    assert found(site, backend="django.core.mail.backends.dummy.EmailBackend") == []
    assert found(site, backend="no.such.Backend") == []


def test_celery(site: Any) -> None:
    assert found(site, backend=CELERY) == []
    assert found(site, backend=CELERY, app="no.such.app") == ["pysmtpx.E001"]
    assert found(site, backend=CELERY, app="os.sep") == ["pysmtpx.E001"]
    assert found(site, backend=CELERY, no_such_option=1) == ["pysmtpx.E001"]


def test_without_celery(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.use(backend=CELERY)
    monkeypatch.setitem(sys.modules, "celery", None)
    (message,) = run_checks(tags=["mail"])
    assert message.id == "pysmtpx.E001"
    assert "pip install 'pysmtpx[celery]'" in message.msg


def test_a_hint_names_the_option_where_it_is_set(site: Any) -> None:
    site.use(host=REMOTE, port=465, use_tls=True)
    (message,) = run_checks(tags=["mail"])
    assert ("'use_ssl'" if site.by_mailers else "EMAIL_USE_SSL") in str(message.hint)


@pytest.mark.parametrize(
    ("entry", "label"),
    [("pysmtpx.contrib.django", "django"), ("pysmtpx.contrib.django.MailConfig", "pysmtpx")],
)
def test_the_app(entry: str, label: str) -> None:
    config = AppConfig.create(entry)
    assert (config.name, config.label) == ("pysmtpx.contrib.django", label)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EMAIL_HOTS", "EMAIL_HOST"),
        ("EMAIL_HOST_PASWORD", "EMAIL_HOST_PASSWORD"),
        ("EMAIL_USER", "EMAIL_HOST_USER"),
        ("PYSMPTX", "PYSMTPX"),
        ("PYSMTPX_CELRY", "PYSMTPX_CELERY"),
        ("EMAIL_SIGNATURE", ""),
        ("EMAIL_REPLY_TO", ""),
        ("PROJECT_EMAIL_HOST", ""),
    ],
)
def test_a_slip_in_the_name_of_a_setting(site: Any, name: str, meant: str) -> None:
    site.use(host="localhost", port=25)
    with override_settings(**{name: {}}):
        found = run_checks(tags=["mail"])
    expected = [f"The setting {name} is none of Django's or ours; did you mean {meant}?"] if meant else []
    # Where the right one is set too, the other is somebody's own.
    is_set = settings.is_overridden(meant) if meant else False
    assert [each.msg for each in found if each.id == "pysmtpx.W002"] == ([] if is_set else expected)


def test_a_slip_that_would_let_mail_out_is_an_error(site: Any) -> None:
    site.use(host="localhost", port=25)
    with override_settings(PYSMPTX={"redirect_to": "dev@example.org"}):
        ids = [each.id for each in run_checks(tags=["mail"])]
    assert ids == (["pysmtpx.E005"] if site.by_mailers else [])  # else PYSMTPX is set too: somebody's own


def test_what_nobody_reads_beside_mailers(site: Any) -> None:
    """A project that is moved to MAILERS goes on to keep mail in, or is told that it does not."""
    if not site.by_mailers:
        return
    site.use(host="localhost", port=25)
    with override_settings(PYSMTPX={"rate": 3}):
        assert [each.id for each in run_checks(tags=["mail"])] == ["pysmtpx.W003"]
        site.connection()
    with override_settings(PYSMTPX={"allow_recipients": []}):
        assert [each.id for each in run_checks(tags=["mail"])] == ["pysmtpx.E001", "pysmtpx.W003"]
        with pytest.raises(ImproperlyConfigured, match="is not read beside MAILERS"):
            site.connection()
    site.use(host="localhost", port=25, redirect_to="dev@example.org")
    with override_settings(PYSMTPX={"redirect_to": "dev@example.org"}):
        site.connection()


def test_a_setting_of_another_backend_is_nobodys_slip(site: Any) -> None:
    with override_settings(EMAIL_HOTS="x"):
        assert found(site, backend="django.core.mail.backends.dummy.EmailBackend") == []
