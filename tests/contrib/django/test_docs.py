"""The page on Django: its Python is run, its settings pass the check, its tables name what exists."""

from __future__ import annotations

import ast
import re
import ssl
import sys
import types
from pathlib import Path
from typing import Any

import django
import pytest
from celery import Celery
from django.core import mail
from django.core.checks import run_checks
from django.test.utils import override_settings
from support import pages

from pysmtpx.contrib.django import (
    EmailBackend,
    message_failed,
    message_sent,
    recipient_refused,
    servers,
)
from pysmtpx.contrib.django import options as backend_options
from pysmtpx.testing import MailServer

PATH = pages.DOCS / "from-django.md"
PAGE = PATH.read_text("utf-8")
SNIPPETS = pages.sources_of(PATH)


def snippet(words: str) -> str:
    """The one with these words."""
    (found,) = [each for each in SNIPPETS if words in each]
    return found


def run(words: str, **names: Any) -> dict[str, Any]:
    exec(compile(snippet(words), "from-django.md", "exec"), names)
    return names


def settings_of(words: str) -> dict[str, Any]:
    return {name: value for name, value in run(words).items() if name.isupper()}


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """What the dotted paths of the page name."""
    package, module = types.ModuleType("project"), types.ModuleType("project.mail")
    package.mail = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "project", package)
    monkeypatch.setitem(sys.modules, "project.mail", module)
    return module


def test_every_snippet_has_its_test() -> None:
    source = Path(__file__).read_text("utf-8")
    literals = re.findall(r"""(?:run|snippet|settings_of)\(\s*("[^"]*"|'[^']*')""", source)
    named = [ast.literal_eval(each) for each in literals]
    assert [s for s in SNIPPETS if not any(words in s for words in named)] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_the_settings_of_5_2(site: Any) -> None:
    if site.by_mailers:  # the two do not go together
        return
    changes = settings_of("EMAIL_USE_TLS = True")
    with override_settings(**changes):
        assert run_checks(tags=["mail"]) == []
        backend = EmailBackend()
    assert backend.pool.servers[0].url == "smtp://user@mail.example.org:587"
    assert backend.options.values["rate"] == 10
    assert "pysmtpx.contrib.django" in changes["INSTALLED_APPS"]


def test_the_settings_of_6_1(site: Any) -> None:
    changes = settings_of("MAILERS = {")
    options = changes["MAILERS"]["default"]["OPTIONS"]
    if django.VERSION < (6, 1):
        assert EmailBackend(**options, port=587).pool.servers[0].url == "smtp://user@mail.example.org:587"
    elif site.by_mailers:
        with override_settings(**changes):
            assert run_checks(tags=["mail"]) == []
            assert mail.mailers.default.pool.servers[0].url == "smtp://user@mail.example.org:587"  # type: ignore[attr-defined]


def test_certificates(site: Any, project: Any) -> None:
    options = settings_of('{"roots": ')["PYSMTPX"]
    site.use(host="mail.example.org", use_tls=True, port=587, **options)
    assert site.connection().pool.servers[0].roots == "/etc/mail/company-ca.pem"
    project.unverified = run("def unverified")["unverified"]
    site.use(host="mail.example.org", use_tls=True, port=587, ssl_context="project.mail.unverified")
    assert site.connection().pool.servers[0].ssl_context.verify_mode is ssl.CERT_NONE


def test_oauth(site: Any, project: Any) -> None:
    names = run("def token", cache_of_tokens={"mail": "token-1"})
    project.token = names["token"]
    site.use(host="mail.example.org", use_tls=True, port=587, username="ann", **names["PYSMTPX"])
    assert site.connection().pool.servers[0].token() == "token-1"


def test_results_and_errors(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with MailServer(refuse={"gone@example.com": "550 5.1.1 unknown"}) as server:
        site.use(server)
        run("message.send_result.accepted_recipients")
        printed = capsys.readouterr().out
        assert "ann@example.com" in printed
        assert "gone@example.com 550 5.1.1 unknown False" in printed
        run("except smtplib.SMTPRecipientsRefused")
        assert "{'gone@example.com': (550, b'5.1.1 unknown')}" in capsys.readouterr().out


def test_signals(site: Any) -> None:
    names = run("@receiver(recipient_refused)", bounced=set(), log=[])
    try:
        with MailServer(refuse={"gone@example.com": "550 5.1.1 unknown"}) as server:
            site.use(server, fail_silently=True)
            message = mail.EmailMessage("one", "b", None, ["ann@example.com", "gone@example.com"])
            failed = mail.EmailMessage("two", "b", None, ["gone@example.com"])
            assert site.connection().send_messages([message, failed]) == 1
        assert names["bounced"] == {"gone@example.com"}
        assert [subject for subject, _ in names["log"]] == ["one", "two"]
    finally:
        for signal, name in (
            (recipient_refused, "strike_off"),
            (message_sent, "note"),
            (message_failed, "complain"),
        ):
            assert signal.disconnect(names[name])


def test_celery(site: Any, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = settings_of("CeleryEmailBackend")
    with MailServer() as server:
        site.use(server)
        monkeypatch.setattr(backend_options, "is_by_mailers", lambda: site.by_mailers)
        source = snippet("register(app, servers")
        if site.by_mailers:
            source = source.replace("(app, servers,", "(app, lambda: servers('default'),")
        names: dict[str, Any] = {}
        exec(compile(source, "from-django.md", "exec"), names)
        app = names["app"]
        assert isinstance(app, Celery)
        assert names["servers"] is servers
        app.conf.update(task_always_eager=True, task_eager_propagates=True)
        project.celery = types.ModuleType("project.celery")
        project.celery.app = app
        monkeypatch.setitem(sys.modules, "project.celery", project.celery)
        sys.modules["project"].celery = project.celery  # type: ignore[attr-defined]
        from pysmtpx.contrib.django import CeleryEmailBackend

        backend = CeleryEmailBackend(
            **options["PYSMTPX_CELERY"], **({"alias": "x"} if site.by_mailers else {})
        )
        message = mail.EmailMessage("s", "b", None, ["ann@example.com"])
        assert backend.send_messages([message]) == 1
        assert message.send_task.successful()  # type: ignore[attr-defined]
        assert server.messages[0].addresses == ["ann@example.com"]


def test_the_tables_name_every_option() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named >= set(backend_options.BackendOptions.__annotations__)
    assert named >= {"host", "use_tls", "use_ssl", "timeout", "ssl_certfile", "ssl_keyfile"}
    assert named >= {"app", "task", "queue", "apply_async"}
    checks = set(re.findall(r"pysmtpx\.[EW]\d{3}", PAGE))
    source = Path(backend_options.__file__).with_name("checks.py").read_text("utf-8")
    assert checks == set(re.findall(r"pysmtpx\.[EW]\d{3}", source))
