"""Frameworks that know nothing of this project, over ``install()``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

from pysmtpx.testing import MailServer

DJANGO = """
    import pysmtpx.smtplib
    pysmtpx.smtplib.install()
    import django
    from django.conf import settings
    settings.configure()
    django.setup()
    from django.core.mail import EmailMessage
    from django.core.mail.backends.smtp import EmailBackend
    options = dict(host="127.0.0.1", port={port}, username="ann", password="pässword", timeout=10)
    if django.VERSION >= (6, 1):
        options["alias"] = "default"
    backend = EmailBackend(**options)
    assert backend.open() is True
    assert isinstance(backend.connection, pysmtpx.smtplib.SMTP), type(backend.connection)
    letters = [
        EmailMessage("Grüße", "Hällo", "robot@example.org", ["bob@example.com", "eve@bücher.example"])
        for _ in range(2)
    ]
    assert backend.send_messages(letters) == 2
    backend.close()
"""
FLASK_MAIL = """
    import pysmtpx.smtplib
    pysmtpx.smtplib.install()
    import flask
    import flask_mail
    app = flask.Flask("tests")
    app.config.update(
        MAIL_SERVER="127.0.0.1", MAIL_PORT={port}, MAIL_USERNAME="ann", MAIL_PASSWORD="pässword"
    )
    mail = flask_mail.Mail(app)
    with app.app_context(), mail.connect() as connection:
        assert isinstance(connection.host, pysmtpx.smtplib.SMTP), type(connection.host)
        for _ in range(2):
            recipients = ["bob@example.com", "eve@bücher.example"]
            connection.send(flask_mail.Message("Grüße", recipients, "Hällo", sender="robot@example.org"))
"""


def need(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"Missing here: {', '.join(missing)}, and CI demands them")
    if missing:
        pytest.skip(f"Missing here: {', '.join(missing)}")


@pytest.mark.parametrize(
    ("program", "names"),
    [(DJANGO, ["django"]), (FLASK_MAIL, ["flask", "flask_mail"])],
    ids=["Django", "Flask-Mail"],
)
def test_its_own_backend_sends_by_our_classes(program: str, names: list[str]) -> None:
    need(*names)
    with MailServer(users={"ann": "pässword"}) as server:
        code = textwrap.dedent(program).format(port=server.port)
        run = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, timeout=30
        )
        assert run.returncode == 0, run.stdout + run.stderr
    assert len(server.messages) == 2
    for message in server.messages:
        assert sorted(message.delivered) == ["bob@example.com", "eve@xn--bcher-kva.example"]
    assert all(message.user == "ann" for message in server.messages)
    assert server.ledger.commands[0][0] == "EHLO"
