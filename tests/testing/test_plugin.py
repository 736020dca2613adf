"""The pytest plugin, run as its users run it: found by its entry point, in a project of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import projects
from support.projects import run_pytest

STOCK = """
import smtplib
from email.message import EmailMessage

import pytest


def letter(text="Hällo\\n"):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ann@x.example", "bob@y.example", "Hällo"
    message.set_content(text)
    return message


def test_smtplib(mail_server):
    with smtplib.SMTP(mail_server.host, mail_server.port, local_hostname="my_app_1") as client:
        client.sendmail("ann@x.example", "bob@y.example", "Subject: no end of line")
        client.sendmail("ann@x.example", "bob@y.example", "Subject: x\\n\\nhällo\\n".encode())
        client.send_message(letter())
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("ann@x.example", "b b@y.example", "x")
    assert len(mail_server.messages) == 3


def test_django(mail_server):
    from django.conf import settings

    settings.configure(EMAIL_HOST=mail_server.host, EMAIL_PORT=mail_server.port)
    from django.core.mail import EmailMultiAlternatives, send_mail

    send_mail("Hällo", "Hällo", "ann@x.example", ["bob@y.example"], html_message="<b>Hällo</b>")
    send_mail("Hello", "x" * 2000, "Ann <ann@x.example>", ["bob@exämple.example"])
    message = EmailMultiAlternatives("x", "y", to=["bob@y.example"], bcc=["eve@y.example"])
    message.attach("data", bytes(range(256)))
    message.send()
    assert mail_server.messages[2].addresses == ["bob@y.example", "eve@y.example"]


def test_flask_mail(mail_server):
    from flask import Flask
    from flask_mail import Mail, Message

    app = Flask("app")
    app.config.update(MAIL_SERVER=mail_server.host, MAIL_PORT=mail_server.port)
    app.config["MAIL_DEFAULT_SENDER"] = "ann@x.example"
    mail = Mail(app)
    with app.app_context():
        mail.send(Message("Hällo", ["bob@y.example"], "Hällo\\n.\\n", html="<b>Hällo</b>"))
        mail.send(Message("Hello", ["bob@y.example"], "x" * 2000))
    assert [m.size > 100 for m in mail_server.messages] == [True, True]
"""
MARKS = """
import smtplib

import pytest

pytestmark = pytest.mark.mail_server(users={"ann": "p"})


def send(mail_server, text="Subject: x\\r\\n"):
    with smtplib.SMTP(mail_server.host, mail_server.port, local_hostname="c.example") as client:
        client.sendmail("ann@x.example", "bob@y.example", text)


@pytest.mark.mail_server(refuse={"bob@y.example": "550 no"})
def test_marks_add_up(mail_server):
    with smtplib.SMTP(mail_server.host, mail_server.port, local_hostname="c.example") as client:
        client.login("ann", "p")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("ann@x.example", "bob@y.example", "x\\r\\n")


def test_a_habit(mail_server):
    send(mail_server, "Subject: no end of line")


@pytest.mark.mail_server(strict=True)
def test_a_habit_by_the_letter(mail_server):
    send(mail_server, "Subject: no end of line")


@pytest.mark.mail_server(strict=True)
def test_by_the_letter(mail_server):
    send(mail_server)


@pytest.mark.parametrize("strict", [pytest.param(None, id="default"), pytest.param(
    False, marks=pytest.mark.mail_server(strict=False), id="off")])
def test_octets_that_no_server_understands(mail_server, strict):
    import socket
    with socket.create_connection((mail_server.host, mail_server.port)) as sock:
        sock.sendall(b"QUIT\\r\\nNOOP\\r\\n")
        while sock.recv(1000):
            pass
"""
LOADED = """
import json, sys

def pytest_sessionfinish():
    with open("loaded.json", "w") as file:
        json.dump([name for name in sys.modules if name.split(".")[0] == "pysmtpx"], file)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return projects.project(tmp_path)


def test_what_stock_clients_do_fails_no_test(project: Path) -> None:
    (project / "test_stock.py").write_text(STOCK, "utf-8")
    assert "3 passed" in run_pytest(project, "--strict-markers")


def test_marks_and_how_strict_they_make_it(project: Path) -> None:
    (project / "test_marks.py").write_text(MARKS, "utf-8")
    told = run_pytest(project, "--strict-markers")
    assert "6 passed, 2 errors" in told
    assert "SIZE=23, the content has 25 octets" in told
    assert "octets after QUIT" in told
    (project / "pytest.ini").write_text("[pytest]\nmail_server_strict = true\n", "utf-8")
    assert "6 passed, 3 errors" in run_pytest(project)


@pytest.mark.once
def test_it_may_be_named_as_before_and_be_switched_off(project: Path) -> None:
    (project / "conftest.py").write_text('pytest_plugins = ["pysmtpx.testing.plugin"]\n', "utf-8")
    (project / "test_it.py").write_text("def test_it(mail_server):\n    assert mail_server.messages == []\n")
    assert "1 passed" in run_pytest(project)
    assert "1 passed" in run_pytest(project, "-p", "pysmtpx.testing.plugin")
    (project / "conftest.py").write_text("", "utf-8")
    assert "fixture 'mail_server' not found" in run_pytest(project, "-p", "no:pysmtpx.testing.plugin")


@pytest.mark.once
def test_options_without_names_are_no_options(project: Path) -> None:
    (project / "test_it.py").write_text(
        "import pytest\n@pytest.mark.mail_server('lmtp')\ndef test_it(mail_server): pass\n"
    )
    assert "the mark mail_server takes options by name" in run_pytest(project)


def test_who_does_not_use_it_does_not_pay_for_it(project: Path) -> None:
    (project / "conftest.py").write_text(LOADED, "utf-8")
    (project / "test_it.py").write_text("def test_it():\n    pass\n", "utf-8")
    assert "1 passed" in run_pytest(project)
    loaded = json.loads((project / "loaded.json").read_text("utf-8"))
    assert loaded == ["pysmtpx", "pysmtpx.testing", "pysmtpx.testing.plugin"]
