"""Kill a worker in the middle of sending, start another one, and compare the journal with the server.

Run by ``make demo``, and alone by ``python examples/killed_worker.py``. Everything is on loopback and in a
temporary folder; nothing is left behind.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pysmtpx import MailObject, SmtpPool
from pysmtpx.journal.messages import Journal
from pysmtpx.testing import Event, MailServer, Stall

COUNT = 60
KILLED_AT = 25
"""Messages of which the server has seen the end of the content when the worker is killed."""


def work(url: str, path: str, count: int) -> None:
    """What a worker does: hand messages to a pool that keeps a journal. Without any it sends what is owed."""
    with SmtpPool(url, journal=path, max_connections=2) as pool:
        for number in range(count):
            content = f"Subject: order {number}\r\n\r\nThanks!\r\n".encode()
            pool.submit(MailObject("shop@example.org", [f"customer{number}@example.com"], content))
        print("handed in", flush=True)
        sys.stdin.read()  # until it is killed, or told to end


def main(console: Console | None = None) -> int:
    """Show it; how many messages were lost, or came twice."""
    console = console or Console()
    console.rule("a worker is killed in the middle of sending")
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder, MailServer(verdict=ends.verdict, lenient=True) as server:
        path = str(Path(folder) / "outbox.db")
        with _worker(server.url, path, COUNT) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()  # all are on disk
            ends.reached.wait(60)
            worker.kill()
        before = _states(path)
        ends.is_killed = True
        with _worker(server.url, path, 0) as worker:
            while "queued" in _states(path).values():
                time.sleep(0.05)
            worker.communicate()
        got = Counter(address for message in server.messages for address in message.addresses)
        return _tell(console, before, _states(path), got)


class Ends:
    """Counts the ends of contents at the server, and holds back the replies from a certain one on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.is_killed = False
        self._lock = threading.Lock()
        self._count = 0

    def verdict(self, event: Event) -> Stall | None:
        """What the server does at this point."""
        if event.verb != "FINAL" or self.is_killed:
            return None
        with self._lock:
            self._count += 1
            if self._count < KILLED_AT:
                return None
        self.reached.set()
        return Stall()


def _worker(url: str, path: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, url, path, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _states(path: str) -> dict[str, str]:
    """What the journal has of each recipient."""
    with Journal(path) as journal:
        messages = journal.summaries(most=COUNT)
        return {fate.address: fate.state for each in messages for fate in journal.fates(each.number)}


def _tell(console: Console, before: dict[str, str], after: dict[str, str], got: Counter[str]) -> int:
    table = Table(title=f"{COUNT} messages in the journal, one recipient each")
    table.add_column("")
    for column in ("queued", "in doubt", "accepted", "at the server"):
        table.add_column(column, justify="right")
    told = {"queued": "queued", "doubt": "in doubt", "accepted": "accepted"}
    for when, states in (("the worker was killed", before), ("another one has ended", after)):
        counts = Counter(states.values())
        here = str(got.total()) if states is after else ""
        table.add_row(when, *(str(counts[state]) for state in told), here)
    console.print(table)
    lost = [address for address, state in after.items() if state != "doubt" and not got[address]]
    twice = [address for address, count in got.items() if count > 1]
    doubtful = [address for address, state in after.items() if state == "doubt"]
    console.print(f"lost: {len(lost)}, twice: {len(twice)}, in doubt: {', '.join(doubtful) or 'nobody'}")
    return len(lost) + len(twice) + (len(after) != COUNT)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        sys.exit()
    sys.exit(main())
