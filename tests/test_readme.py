"""The README's Python is run, and its tables name what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from support import pages

import pysmtpx
from benchmarks import calls

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = pages.snippets_of(README)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the snippets find around them; every server they name is an embedded one."""
    message = EmailMessage()
    message["From"], message["To"] = "ann@example.org", "bob@example.com, eve@example.com"
    message["Subject"] = "x"
    message.set_content("hello")
    (tmp_path / "report.eml").write_bytes(message.as_bytes())
    with pages.world(monkeypatch, tmp_path) as world, pysmtpx.connect(world.clear.url) as open_connection:
        yield {
            "pysmtpx": pysmtpx,
            "folder": tmp_path,
            "message": message,
            "smtp": open_connection,
            "sender": "ann@example.org",
            "recipients": ["eve@example.com"],
            "messages": [pysmtpx.MailObject("a@example.org", "eve@example.com", b"Subject: x\r\n\r\n")] * 3,
            "ask_a_person": print,
            "try_later": print,
        }


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[number].source
    if "try_later" in snippet:
        names["message"] = b"Subject: x\r\n\r\nhello\r\n"
    pages.run(SNIPPETS[number], "README.md", names, names["folder"])
    printed = capsys.readouterr().out
    if "refused.recipient" in snippet:
        assert printed == "bob@example.com 550 5.1.1 unknown\n"
    if "smtplib" in snippet:
        assert names["refused"] == {"bob@example.com": (550, b"5.1.1 unknown")}
    if "ForwardPath" in snippet:
        assert printed == "(ForwardPath('ann@example.com'),)\nfinal\n"


def test_every_name_in_the_tables_exists() -> None:
    api = README.partition("\n## Speed\n")[0]
    rows = [line for line in api.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z_]+)`", row.split("|")[1])}
    known = set(pysmtpx.__all__) | set(dir(pysmtpx.SmtpConnection)) | set(dir(__builtins__))
    known |= {"ValueError", "TimeoutError", "ConnectionError"}
    assert {name for name in named if name[0].isupper() or "send" in name} - known == set()


def test_the_calls_are_those_that_are_counted() -> None:
    """The figures change with the code, and `python -m benchmarks.calls README.md` writes them anew."""
    table = README.partition(calls.BEGIN)[2].partition(calls.END)[0].strip().splitlines()
    counted = calls.table(calls.measured())
    assert table[:2] == counted[:2]
    assert [row.split(" | ")[0] for row in table] == [row.split(" | ")[0] for row in counted]
    assert calls.refreshed(README, "new").count("new\n\n<!-- end of calls") == 1
    with pytest.raises(ValueError, match="there is no <!-- calls"):
        calls.refreshed("# A page without marks", "new")


def test_every_figure_of_speed_is_one_that_was_measured() -> None:
    """By `make bench`, whose results are part of the repository; and the plots are there."""
    speed = README.partition("\n## Speed\n")[2].partition("\n## ")[0].partition(calls.END)[2]
    results = (ROOT / "benchmarks" / "results" / "README.md").read_text("utf-8")
    rows = [line for line in speed.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 10
    assert [row for row in rows if row not in results] == []
    plots = re.findall(r"!\[[^]]*\]\(([^)]*)\)", speed)
    assert len(plots) == 3
    assert all((ROOT / plot).read_text("utf-8").startswith("<?xml") for plot in plots)
