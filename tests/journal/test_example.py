"""The example that ``make demo`` shows: a worker that is killed, and another one."""

from __future__ import annotations

import re
import subprocess
import sys

from support import pages


def test_of_a_killed_worker_nothing_is_lost_or_sent_twice() -> None:
    script = pages.ROOT / "examples" / "killed_worker.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, encoding="utf-8", check=False, cwd=pages.ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: 0, twice: 0, in doubt: customer" in done.stdout
    (queued, doubtful, accepted) = map(int, re.findall(r"was killed\D+(\d+)\D+(\d+)\D+(\d+)", done.stdout)[0])
    assert queued + doubtful + accepted == 60
    assert 1 <= doubtful <= 2, "one message of each connection"
    (queued, doubtful, accepted, got) = map(
        int, re.findall(r"ended\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)", done.stdout)[0]
    )
    assert queued == 0
    assert accepted + doubtful == 60
    assert accepted <= got <= 60
