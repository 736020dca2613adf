"""What people see: by rich in a terminal, plain elsewhere and without rich."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pysmtpx.cli.show import Show
from pysmtpx.testing import MailServer

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; "
RUN = "import sys; from pysmtpx.cli.main import main; sys.exit(main())"
MESSAGE = ("--from", "ann@example.org", "--subject", "Hello {name}", "--body", "Dear {name}.")


def in_a_terminal(program: str, *arguments: object, columns: int = 100) -> tuple[int, str]:
    """Run it with a terminal for its output; the exit code, and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "PYSMTPX_URL", "PYSMTPX_PASSWORD"):
        environment.pop(name, None)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        try:
            written = _read_all(ours)
        finally:
            os.close(ours)
            process.kill()
    return process.returncode, written


def _read_all(terminal: int) -> str:
    octets, limit = b"", time.monotonic() + 60
    while time.monotonic() < limit:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            more = os.read(terminal, 65_536)
        except OSError:  # the other side has closed it
            break
        if not more:
            break
        octets += more
    return octets.decode()


def visible(written: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_tables_in_a_terminal_are_drawn_by_rich() -> None:
    with MailServer(refuse={"eve@example.com": "550 5.1.1 [red]unknown[/red] :smile:"}) as server:
        code, written = in_a_terminal(RUN, "check", server.url, "--to", "eve@example.com")
    assert code == 1
    assert "┃" in written
    assert "\x1b[" in written
    shown = visible(written)
    assert "PIPELINING" in shown
    assert "[red]unknown[/red] :smile:" in shown
    assert "Cure: " in shown


def test_a_narrow_terminal_loses_nothing() -> None:
    address = f"{'x' * 60}@example.com"
    with MailServer() as server:
        code, written = in_a_terminal(RUN, "check", server.url, "--to", address, columns=40)
    assert code == 0
    cells = [line.split("│") for line in visible(written).splitlines()]
    assert address in "".join(cell[2].strip() for cell in cells if len(cell) == 5)


def test_without_rich_tables_are_plain_in_a_terminal_too() -> None:
    with MailServer() as server:
        code, written = in_a_terminal(WITHOUT_RICH + RUN, "check", server.url)
    assert code == 0
    assert "PIPELINING" in written
    assert "\x1b" not in written


@pytest.mark.parametrize("prefix", ["", WITHOUT_RICH], ids=["rich", "no rich"])
def test_what_is_piped_is_plain_and_not_folded(prefix: str) -> None:
    address = f"{'x' * 60}@{'y' * 60}.example.com"
    with MailServer() as server:
        command = [sys.executable, "-c", prefix + RUN, "check", server.url, "--to", address]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\x1b" not in ran.stdout
    assert any(address in line and "250" in line for line in ran.stdout.splitlines())


def people(folder: Path, count: int) -> Path:
    lines = [f"user{number}@example.com,User {number}" for number in range(count)]
    (folder / "people.csv").write_text("\n".join(["email,name", *lines]))
    return folder / "people.csv"


def test_a_bulk_run_has_a_progress_bar_in_a_terminal(tmp_path: Path) -> None:
    with MailServer(refuse={"user1@example.com": "550 5.1.1 unknown"}) as server:
        code, written = in_a_terminal(RUN, "bulk", server.url, "--list", people(tmp_path, 40), *MESSAGE)
        assert server.ledger.count == 39
    assert code == 1
    shown = visible(written)
    assert "40/40" in shown
    assert "39 accepted" in shown
    assert "━" in shown


def test_without_rich_a_bulk_run_tells_lines(tmp_path: Path) -> None:
    told_each_step = "import pysmtpx.cli.bulk as bulk; bulk._TELL = 0.2; "
    with MailServer(delay=0.02) as server:
        code, written = in_a_terminal(
            WITHOUT_RICH + told_each_step + RUN, "bulk", server.url, "--list", people(tmp_path, 60), *MESSAGE
        )
    assert code == 0
    assert re.search(r"\d+ of 60, \d+ accepted in this run; in all: ", written)
    assert "\x1b" not in written


def test_a_json_document_is_all_that_programs_get() -> None:
    out = io.StringIO()
    show = Show(as_json=True, out=out)
    show.line("text")
    show.table("title", ["a"], [["b"]])
    show.value({"ü": "\x1b\u2028"})
    assert out.getvalue() == '{"ü": "\\u001b\u2028"}\n'
