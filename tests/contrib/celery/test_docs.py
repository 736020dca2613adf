"""The page's Python is run, and so is the example."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import celery
import pytest
from support import pages

from pysmtpx.contrib import celery as face
from pysmtpx.testing import MailServer

PATH = pages.DOCS / "celery.md"
PAGE = PATH.read_text("utf-8")
SNIPPETS = pages.sources_of(PATH)


def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, make_app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every server that it names is an embedded one, and every task runs at once."""
    register = face.register
    with MailServer(refuse={"nobody@example.com": "550 5.1.1 unknown"}) as server:

        def on_loopback(app: Any, given: Any, **options: Any) -> Any:
            return register(app, given if callable(given) else server.url, **options)

        monkeypatch.setenv("SMTP_URL", server.url)
        monkeypatch.setenv("MAIL_KEYS", "0123456789abcdef")
        monkeypatch.setattr(celery, "Celery", lambda *_, **__: make_app(task_always_eager=True))
        monkeypatch.setattr(face, "register", on_loopback)
        names: dict[str, Any] = {}
        for snippet in SNIPPETS:
            exec(compile(snippet, "docs/celery.md", "exec"), names)
        assert len(server.messages) == 2
    printed = re.findall(r"print\(.*#\s(.*)", PAGE)
    assert capsys.readouterr().out.splitlines() == printed


def test_every_key_of_a_report_is_in_the_page(eager: Any) -> None:
    with MailServer() as server:
        task = face.register(eager, server.url)
        report = face.enqueue(task, b"From: a@x.example\r\nTo: b@x.example\r\n\r\nhello\r\n").get()
    assert [key for key in report if f"`{key}`" not in PAGE] == []


def test_the_example_runs() -> None:
    script = pages.ROOT / "examples" / "celery_worker" / "run.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "busy@example.com: taken" in done.stdout
    assert "the mail server took 2 messages" in done.stdout
