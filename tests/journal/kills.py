"""Processes that are killed by SIGKILL in the middle of sending; the server's ledger beside the journal.

``python tests/journal/kills.py 2000`` kills so many, and says what was lost, sent twice and left in doubt.
A child of one thread forks each process, so that a kill costs milliseconds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pysmtpx import SmtpPool
from pysmtpx.journal.opening import open_journal
from pysmtpx.testing import Event, MailServer

WAYS: dict[str, dict[str, Any]] = {
    "one by one": {},
    "overlap": {"overlap": True},
    "in flight": {"in_flight": 8},
    "submit alone": {"max_connections": 1, "rate": 400.0},
}

FORKING = """
import os, signal, sys, time
import pysmtpx
from pysmtpx import driver, MailObject, SmtpPool
from pysmtpx.journal import messages, opening, sql, statements
# Whoever is killed holds nothing for a minute: the next one takes it up at once.
statements.LEASE = sql.LEASE = 0.0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def count_down(left, behind):
    def wrapped(perform):
        def run(*arguments):
            nonlocal left
            left -= 1
            if left == 0 and not behind:
                die()
            try:
                return perform(*arguments)
            finally:
                if left == 0 and behind:
                    die()
        return run
    for kind, perform in list(driver._PERFORM.items()):
        driver._PERFORM[kind] = wrapped(perform)

def send(url, journal, told, first, count, options, effect, behind):
    if effect:
        count_down(effect, behind)
    with SmtpPool(url, journal=journal, **options) as pool:
        for n in range(first, first + count):
            mail = MailObject("s@x.example", [f"r{n}@x.example"], b"Subject: x\\r\\n\\r\\n" + b"x" * 500)
            pool.submit(mail)
            os.write(told, b"%d\\n" % n)

if sys.argv[1:] == ["server"]:
    from pysmtpx.journal import postgresql
    import psycopg

for line in sys.stdin:
    url, journal, path, first, count, options, seconds, effect, behind = eval(line)
    told = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    child = os.fork()
    if not child:
        try:
            send(url, journal, told, first, count, options, effect, behind)
        finally:
            os._exit(0)
    os.close(told)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""


class Account(NamedTuple):
    """What all those processes came to."""

    kills: int
    submitted: int
    delivered: int
    lost: list[str]
    twice: list[str]
    doubtful: list[str]
    unseen: list[str]
    """In doubt, though the server saw no content begin: killed between the record and the write."""

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.submitted} messages told to be on disk, {self.delivered} delivered, "
            f"{len(self.lost)} lost, {len(self.twice)} twice, {len(self.doubtful)} in doubt, "
            f"{len(self.unseen)} of these before the server saw their content begin"
        )


@dataclass
class Victims:
    """A server, a journal, and processes that send to the one from the other until they are killed."""

    folder: Path
    journal: str = ""
    """Unless it is a file of this folder."""
    server: MailServer = field(init=False)
    begun: set[str] = field(default_factory=set)
    _named: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    """By connection and transaction."""
    kills: int = 0
    first: int = 0

    def __enter__(self) -> Victims:
        self.server = MailServer(verdict=self._seen, strict=False).start()
        self.journal = self.journal or str(self.folder / "outbox.db")
        self.told = self.folder / "told"
        self._forker = subprocess.Popen(
            [sys.executable, "-c", FORKING, "server" if "://" in self.journal else "file"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._forker.communicate()
        self.server.stop()

    def _seen(self, event: Event) -> None:
        if event.verb == "RCPT":
            self._named.setdefault((event.connection, event.transaction), set()).add(event.address)
        elif event.verb in ("DATA", "BDAT"):
            self.begun |= self._named.pop((event.connection, event.transaction), set())

    def run(
        self,
        count: int,
        options: dict[str, Any],
        *,
        seconds: float | None = None,
        effect: int = 0,
        behind: bool = False,
    ) -> bool:
        """One process that submits so many messages; whether it was killed before it came to its end."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        order = (
            self.server.url,
            self.journal,
            str(self.told),
            self.first,
            count,
            options,
            seconds,
            effect,
            behind,
        )
        self._forker.stdin.write(f"{order!r}\n")
        self._forker.stdin.flush()
        self.first += count
        is_killed = int(self._forker.stdout.readline()) != 0
        self.kills += is_killed
        return is_killed

    def account(self) -> Account:
        """Send what is owed still, and compare."""
        with SmtpPool(self.server.url, journal=self.journal), open_journal(self.journal) as journal:
            while journal.counts().get("queued"):
                time.sleep(0.02)
        with open_journal(self.journal) as journal:
            doubtful = sorted({address for _, address in journal.doubtful(100_000)})
            assert journal.counts().keys() <= {"accepted", "doubt"}
        told = self.told.read_text().split()
        arrived = Counter(address for message in self.server.messages for address in message.delivered)
        there = {*arrived, *doubtful}
        return Account(
            self.kills,
            len(told),
            len(arrived),
            [n for n in told if f"r{n}@x.example" not in there],
            [address for address, times in arrived.items() if times > 1],
            doubtful,
            [address for address in doubtful if address not in self.begun],
        )


def at_random(folder: Path, kills: int, seed: int, journal: str = "", longest: float = 0.12) -> Account:
    """Kill so many at random instants within so many seconds, of each way to send."""
    chance = random.Random(seed)
    with Victims(folder, journal) as victims:
        ways = list(WAYS.values())
        while victims.kills < kills:
            victims.run(6, ways[victims.kills % len(ways)], seconds=chance.uniform(0.0, longest))
        victims.run(6, {})  # so many are there at least, on however slow a machine
        return victims.account()


def at_each_effect(folder: Path, options: dict[str, Any], step: int = 1, journal: str = "") -> Account:
    """Kill at every effect of a dialogue: before it, and behind it."""
    with Victims(folder, journal) as victims:
        for behind in (False, True):
            effect = 1
            while victims.run(3, options, effect=effect, behind=behind):
                effect += step
        return victims.account()


if __name__ == "__main__":
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        print("at random instants:", at_random(Path(folder), int(sys.argv[1]), seed=1))
    for name, options in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"at each effect, {name}:", at_each_effect(Path(folder), options))
    print(f"{time.monotonic() - began:.1f} s, process {os.getpid()}")
