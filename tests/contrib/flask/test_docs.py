"""The page for those who come from Flask-Mail is run, its tables name what exists, and the example works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import pages

import pysmtpx
from pysmtpx.contrib import flask as face
from pysmtpx.contrib.flask import settings
from pysmtpx.testing import MailServer

PATH = pages.DOCS / "from-flask-mail.md"
PAGE = PATH.read_text("utf-8")
SNIPPETS = pages.sources_of(PATH)


def test_the_snippets_run(
    server: MailServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def pool(target: str, **options: Any) -> pysmtpx.SmtpPool:
        asked.append((target, options))
        return pysmtpx.SmtpPool(server.url)

    monkeypatch.setattr(settings, "SmtpPool", pool)
    names: dict[str, Any] = {"__name__": __name__}
    for snippet in SNIPPETS:
        exec(compile(snippet, "from-flask-mail.md", "exec"), names)
    refused, errors, recorded, task = capsys.readouterr().out.splitlines()
    assert refused == "nobody@example.com 550 5.1.1 unknown"
    assert errors == "{'nobody@example.com': (550, b'5.1.1 unknown')}"
    assert recorded == "Welcome {'eve@example.com'}"
    assert len(task) > 20
    assert asked == [
        (
            "mail.example.org",
            {"port": 587, "tls": "starttls", "username": "robot", "password": "correct horse"},
        )
    ]
    assert [each.addresses[0] for each in server.messages] == [
        "ann@example.com",
        "ann@example.com",
        "bob@example.com",
    ]
    names["celery"].close()


def test_every_setting_is_in_the_tables() -> None:
    source = Path(settings.__file__).read_text("utf-8")
    known = set(re.findall(r'"(MAIL_[A-Z_]+)"', source)) - settings._OF_OTHERS | settings._POOL_KEYS.keys()
    rows = [line for line in PAGE.splitlines() if line.startswith("| `MAIL_")]
    assert {name for row in rows for name in re.findall(r"`(MAIL_[A-Z_]+)`", row.split("|")[1])} == known


def test_every_name_of_the_page_exists() -> None:
    listed = PAGE[PAGE.index("`Mail`, `Message`") : PAGE.index("are there, with")]
    assert set(re.findall(r"`(\w+)`", listed)) == set(face.__all__)
    errors = re.findall(r"^\| `(\w+)`.*\| `smtplib\.", PAGE, re.M)
    assert len(errors) > 5
    assert all(issubclass(getattr(pysmtpx, name), pysmtpx.SmtpError) for name in errors)


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples/flask_app.py"],
        cwd=pages.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "200 sent to ann@example.com; refused: none",
        "200 sent to bob@example.com; refused: ['nobody@example.com (550 5.1.1 no such user)']",
        "502 not sent: 1 of 1 recipients were refused: nobody@example.com (550 5.1.1 no such user)"
        " [allrecipientsfailed]",
        "2 messages arrived over 1 connection",
    ]
