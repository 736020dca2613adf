"""The migration page is run, and the example."""

from __future__ import annotations

import re
import smtplib as standard
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from support import pages
from support.certs import authority, server_context

import pysmtpx
import pysmtpx.smtplib as smtplib
from pysmtpx.drop_in.standard import SMTP
from pysmtpx.net import dial
from pysmtpx.testing import Cut, MailServer

PATH = pages.DOCS / "from-smtplib.md"
PAGE = PATH.read_text("utf-8")
ROBOT = "robot@example.org"
SNIPPETS = pages.sources_of(PATH)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trust: Any) -> Any:
    """What the snippets find around them; every server that they name is an embedded one."""
    trust()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "robot@example.org",
        "gone@example.com, ann@example.com",
        "x",
    )
    message.set_content("hello\n")
    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.chdir(tmp_path)
    with MailServer(
        ssl_context=server_context("mail.example.org", "localhost"),
        users={"ann@example.org": "password"},
        refuse={"gone@example.com": "550 5.1.1 none"},
        verdict=lambda event: Cut() if event.verb == "FINAL" and event.transaction == 1 else None,
    ) as server:
        real = dial._look_up
        monkeypatch.setattr(dial, "_look_up", lambda host, port, flags: real("127.0.0.1", server.port, flags))
        smtp = smtplib.SMTP("mail.example.org", 587, "me.example")
        smtp.sendmail(ROBOT, "ann@example.com", b"Subject: first\r\n\r\n")
        yield {"message": message, "smtp": smtp, "smtplib": smtplib}
        smtp.close()


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) == 7


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[number]
    exec(compile(snippet, "from-smtplib.md", "exec"), names)
    told = capsys.readouterr().out
    if "refused.items()" in snippet:
        assert told == "gone@example.com 550 b'5.1.1 none'\n"
    if "unknown_recipients" in snippet:
        assert told == "perhaps delivered, do not send again: ann@example.com bob@example.com\n"
    if "uninstall" in snippet:
        assert standard.SMTP is SMTP
    if "result.reply" in snippet:
        assert told.startswith("250 ")


def test_what_the_page_names_exists() -> None:
    table = PAGE.partition("## Beyond the drop-in")[2]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 15
    theirs = {*dir(standard), *dir(standard.SMTP(local_hostname="me.example"))}
    ours = {*pysmtpx.__all__, *dir(pysmtpx.SmtpConnection), *dir(pysmtpx.Server), "timeout"}
    for left, right in rows[1:]:
        named = {a or b for a, b in re.findall(r"`\.([a-z_]+)|\b(SMTP[A-Z][A-Za-z_]+)", left)}
        assert named <= theirs, named - theirs
        found = re.findall(r"`\.([a-z_]+)|\b([A-Z][a-z]+[A-Z]\w+)|\b([a-z_]{4,})(?==)", right)
        named = {"".join(each) for each in found}
        assert named <= ours, named - ours


def test_the_script_says_what_happened() -> None:
    run = subprocess.run(
        [sys.executable, str(pages.ROOT / "examples" / "script.py")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines() == [
        "logged in: 235",
        "refused: gone@example.com: 550 5.1.1 no such user",
        "refused, all: gone@example.com",
        "sent, refused: {}",
        "nobody knows: doubt@example.com",
        "received: The nightly report for bob@example.com, eve@xn--bcher-kva.example",
        "received: still usable for bob@example.com",
        "received: in doubt for doubt@example.com",
    ]
