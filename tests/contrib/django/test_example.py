"""The example project runs as it stands, and its commands tell what is wrong with its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pysmtpx.testing import MailServer

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[3] / "examples" / "django_project"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_whole_example() -> None:
    done = run("run.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "check → System check identified no issues" in done.stdout
    assert "sendtestemail ann@example.com → done" in done.stdout
    assert "'refused': {'gone@example.com': '550 5.1.1 no such user'}" in done.stdout
    assert "GET /news → {'sent': 100}" in done.stdout


def test_sendtestemail_fails_where_the_server_refuses() -> None:
    with MailServer(refuse={"ann@example.com": "550 5.1.1 unknown"}) as server:
        done = run("manage.py", "sendtestemail", "ann@example.com", SHOP_MAIL_PORT=str(server.port))
        assert done.returncode != 0
        assert "550 5.1.1 unknown" in done.stderr
        done = run("manage.py", "sendtestemail", "bob@example.com", SHOP_MAIL_PORT=str(server.port))
        assert (done.returncode, done.stderr) == (0, "")
        assert server.messages[0].addresses == ["bob@example.com"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SHOP_MAIL_PORT": "465"}, "pysmtpx.E002"),
        ({"SHOP_MAIL_HOST": "mail.example.org", "SHOP_MAIL_PASSWORD": "secret-1"}, "pysmtpx.E004"),
        ({"SHOP_MAIL_PORT": "0"}, "pysmtpx.E001"),
    ],
)
def test_check_refuses(environment: dict[str, str], said: str) -> None:
    done = run("manage.py", "check", **environment)
    assert done.returncode != 0
    assert said in done.stderr
    assert "secret-1" not in done.stdout + done.stderr
