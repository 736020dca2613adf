"""docs/command-line.md: each command in it is run by a shell, each snippet by Python, each table is true."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certs import authority, server_context

import pysmtpx
from pysmtpx.cli.exits import Exit
from pysmtpx.cli.main import parser
from pysmtpx.testing import MailServer

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "command-line.md").read_text("utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A folder with the files that the page speaks of, and servers where it says that they are."""
    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password.txt").write_text("password\n")
    (tmp_path / "page.html").write_text("<p>Hello</p>")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "news.txt").write_text("Dear {name},\nthere is news.\n")
    (tmp_path / "people.csv").write_text("email,name\nann@example.com,Ann\nbob@example.net,Bob\n")
    (tmp_path / "message.eml").write_text("From: a@example.org\nTo: b@example.com\nSubject: x\n\nhello\n")
    command = tmp_path / "bin" / "pysmtpx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pysmtpx "$@"\n')
    command.chmod(0o755)
    context = server_context("localhost")
    with (
        MailServer() as plain,
        MailServer(ssl_context=context, tls="implicit", users={"user": "password"}) as secure,
    ):
        yield {
            "localhost:1025": f"127.0.0.1:{plain.port}",
            "mail.example.org": f"localhost:{secure.port}",
            "pysmtpx sink": "pysmtpx sink --port 0 --web-port 0",
        }


def here(text: str, place: dict[str, str]) -> str:
    for said, meant in place.items():
        text = text.replace(said, meant)
    return text


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command_runs(number: int, place: dict[str, str], tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    script = here(COMMANDS[number], place)
    if "sink" in script:
        process = subprocess.Popen(
            ["sh", "-ec", f"exec {script}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "Mail to" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        return
    ran = subprocess.run(["sh", "-ec", script], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "password" not in (ran.stdout + ran.stderr).replace("password.txt", "")


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, place: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(here(SNIPPETS[number], place), "command-line.md", "exec"), {"pysmtpx": pysmtpx})
    assert capsys.readouterr().out == ""


def test_the_exit_codes_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", PAGE, re.M)
    assert {int(code): name.replace(" ", "_").upper() for code, name in rows} == {
        each.value: each.name for each in Exit
    }


def test_every_option_that_the_page_names_exists() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    known = {"--help"}
    for action in parser()._actions:
        for each in getattr(action.choices, "values", tuple)():
            known |= set(each._option_string_actions)
    assert named - known == set()
