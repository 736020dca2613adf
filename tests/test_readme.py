"""The README's Python is run, and its tables name what exists."""

from __future__ import annotations

import re
from email.message import EmailMessage
from pathlib import Path

import pytest
from support.certs import authority, server_context

import pysmtpx
from pysmtpx.net import dial
from pysmtpx.testing import MailServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What the snippets find around them; every server they name is an embedded one."""
    refuse = {"bob@example.com": "550 5.1.1 unknown"}
    full = {("FINAL", "full@example.com"): "452 4.2.2 mailbox full"}
    with MailServer(refuse=refuse) as smtp, MailServer(protocol="lmtp", replies=full) as lmtp:
        real = pysmtpx.connect

        def connect(target: str) -> pysmtpx.SmtpConnection:
            if "127.0.0.1" in target:
                return real(target)
            return real((lmtp if target.startswith("lmtp") else smtp).url)

        pools: list[pysmtpx.SmtpPool] = []

        def pool(target: str, **options: object) -> pysmtpx.SmtpPool:
            pools.append(make_pool(smtp.url, **options))  # type: ignore[arg-type]
            return pools[-1]

        make_pool = pysmtpx.SmtpPool
        monkeypatch.setattr(pysmtpx, "connect", connect)
        monkeypatch.setattr(pysmtpx, "SmtpPool", pool)
        monkeypatch.chdir(tmp_path)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = (
            "ann@example.org",
            "bob@example.com, eve@example.com",
            "x",
        )
        message.set_content("hello")
        (tmp_path / "report.eml").write_bytes(message.as_bytes())
        authority().cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with (
            MailServer(ssl_context=server_context("mail.example.org"), users={"user": "password"}) as secured,
            real(smtp.url) as open_connection,
        ):
            look_up = dial._look_up

            def nearby(host: str, port: int, flags: int) -> object:
                secure = host == "mail.example.org"
                return look_up("127.0.0.1" if secure else host, secured.port if secure else port, flags)

            monkeypatch.setattr(dial, "_look_up", nearby)
            yield {
                "pysmtpx": pysmtpx,
                "message": message,
                "smtp": open_connection,
                "sender": "ann@example.org",
                "recipients": ["eve@example.com"],
                "messages": [pysmtpx.MailObject("a@example.org", "eve@example.com", b"Subject: x\r\n\r\n")]
                * 3,
                "ask_a_person": print,
                "try_later": print,
            }
        for each in pools:
            each.close()


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, names: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[number]
    if "try_later" in snippet:
        names["message"] = b"Subject: x\r\n\r\nhello\r\n"
    exec(compile(snippet, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    if "refused.recipient" in snippet:
        assert printed == "bob@example.com 550 5.1.1 unknown\n"
    if "smtplib" in snippet:
        assert names["refused"] == {}
    if "ForwardPath" in snippet:
        assert printed == "(ForwardPath('ann@example.com'),)\nfinal\n"


def test_every_name_in_the_tables_exists() -> None:
    api = README.partition("\n## Speed\n")[0]
    rows = [line for line in api.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z_]+)`", row.split("|")[1])}
    known = set(pysmtpx.__all__) | set(dir(pysmtpx.SmtpConnection)) | set(dir(__builtins__))
    known |= {"ValueError", "TimeoutError", "ConnectionError"}
    assert {name for name in named if name[0].isupper() or "send" in name} - known == set()


def test_every_figure_of_speed_is_one_that_was_measured() -> None:
    """By `make bench`, whose results are part of the repository; and the plots are there."""
    speed = README.partition("\n## Speed\n")[2].partition("\n## ")[0]
    results = (ROOT / "benchmarks" / "results" / "README.md").read_text("utf-8")
    rows = [line for line in speed.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 10
    assert [row for row in rows if row not in results] == []
    plots = re.findall(r"!\[[^]]*\]\(([^)]*)\)", speed)
    assert len(plots) == 3
    assert all((ROOT / plot).read_text("utf-8").startswith("<?xml") for plot in plots)
