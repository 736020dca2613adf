"""``manage.py check_mail`` looks at the servers of the settings, and says by its exit code what it found."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from support.certs import authority, server_context

from pysmtpx.contrib.django.options import is_by_mailers
from pysmtpx.testing import MailServer

CELERY = "pysmtpx.contrib.django.CeleryEmailBackend"
DUMMY = "django.core.mail.backends.dummy.EmailBackend"


def checked(*arguments: str) -> str:
    out = io.StringIO()
    call_command("check_mail", *arguments, stdout=out)
    return out.getvalue()


def failed(*arguments: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        checked(*arguments)
    return caught.value.returncode, str(caught.value)


def test_a_server_in_order_is_told_and_nobody_gets_a_message(site: Any) -> None:
    with MailServer(users={"ann": "s3cret-word"}) as server:
        site.use(server, username="ann", password="s3cret-word")
        told = checked("--from", "ann@example.org", "--to", "bob@example.com")
        assert server.messages == []
        assert {"AUTH", "MAIL", "RCPT", "RSET"} <= set(server.ledger.commands[-1])
    assert "Mail can be sent to this server." in told
    assert "s3cret" not in told
    assert "\n\n\n" not in told


def test_each_server_has_a_document_in_json(site: Any) -> None:
    with MailServer() as server:
        site.use(host=["127.0.0.1", "localhost"], port=server.port)
        told = [json.loads(line) for line in checked("--json").splitlines()]
        port = server.port
    assert [each["ok"] for each in told] == [True, True]
    assert [each["server"] for each in told] == [f"smtp://127.0.0.1:{port}", f"smtp://localhost:{port}"]


def test_a_refusal_a_wrong_password_and_a_server_that_is_away(site: Any) -> None:
    with MailServer(refuse={"bob@example.com": "550 5.1.1 unknown"}, users={"ann": "right"}) as server:
        site.use(server)
        assert failed("--to", "bob@example.com")[0] == 1
        site.use(server, username="ann", password="wrong")
        assert failed()[0] == 5
    assert failed()[0] == 5


def test_a_cure_names_the_settings(site: Any) -> None:
    with MailServer(strict=False) as server:
        site.use(server, use_ssl=True)
        out = io.StringIO()
        with pytest.raises(CommandError):
            call_command("check_mail", stdout=out)
    name = '"use_tls": True' if is_by_mailers() else "EMAIL_USE_TLS = True"
    assert f"Cure: Use {name}." in out.getvalue()


def test_the_authority_of_the_settings_counts(site: Any, monkeypatch: Any, tmp_path: Any) -> None:
    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    with MailServer(ssl_context=server_context("localhost")) as server:
        site.use(host="localhost", port=server.port, use_tls=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        (told,) = map(json.loads, checked("--json").splitlines())
    assert told["tls"]["verified"] is True
    assert str(tmp_path) in told["tls"]["roots"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "127.0.0.1", "port": 25, "use_tls": True, "use_ssl": True}, "use_tls"),
        ({"backend": DUMMY}, "No backend"),
        ({"backend": CELERY}, "No backend"),
    ],
)
def test_settings_without_a_server_to_look_at(site: Any, options: dict[str, Any], said: str) -> None:
    site.use(**options)
    code, text = failed()
    assert code == 2
    assert said.lower() in text.lower()


def test_addresses_that_are_none(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        code, _ = failed("--to", "a b@example.com")
        assert server.ledger.connections == []
    assert code == 2


def test_a_mailer_by_its_alias(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        if site.by_mailers:
            assert "Mail can be sent" in checked("--mailer", "default")
    code, text = failed("--mailer", "other")
    assert code == 2
    assert "other" in text
