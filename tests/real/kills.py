"""Celery's worker processes killed by SIGKILL while they send; the server's ledger beside the journal.

``python tests/real/kills.py 5000 200`` queues so many messages in a RabbitMQ of its own (or with
``redis`` behind it in a Redis, or with ``files`` in a folder), kills so many processes at random instants,
every twentieth time a whole worker, and says what was lost, sent twice and left in doubt.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.celery_app import Broker, Worker, closing_app
from support.rabbitmq import RabbitServer
from support.redis import RedisServer

from pysmtpx.contrib.celery import enqueue
from pysmtpx.journal.messages import Journal
from pysmtpx.testing import MailServer

BODY = b"Subject: x\r\n\r\n" + b"x" * 500
PATIENCE = 600.0
"""Seconds without any message that came to its end, after which what is missing is lost."""


class Account(NamedTuple):
    """What all those processes came to."""

    messages: int
    kills: int
    delivered: int
    lost: list[str]
    twice: list[str]
    doubtful: list[str]
    unseen: list[str]
    """In doubt, and the server has it not: the process died between the record and the write."""

    def __str__(self) -> str:
        return (
            f"{self.messages} messages, {self.kills} processes killed, {self.delivered} delivered, "
            f"{len(self.lost)} lost, {len(self.twice)} twice, {len(self.doubtful)} in doubt "
            f"({len(self.unseen)} of them have nothing)"
        )


class Victims:
    """Workers on one broker, of which there always is one, and whose processes are killed one by one."""

    def __init__(self, broker: Broker, server: MailServer, journal: str, stack: contextlib.ExitStack) -> None:
        self._arguments = broker, server.url, "prefork", journal
        self._stack = stack
        self.kills = 0
        self._start()

    def _start(self) -> None:
        self._worker = self._stack.enter_context(Worker(*self._arguments))

    def kill_one(self, chance: random.Random) -> bool:
        """Kill one of the processes that send, if there is one."""
        children = _children(self._worker.pid)
        if not children:
            return False
        try:
            os.kill(chance.choice(children), signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.kills += 1
        return True

    def kill_all(self) -> None:
        """Kill the worker and its processes, as a machine does that goes down, and start another one."""
        self.kills += len(_children(self._worker.pid))
        self._worker.kill()
        self._start()


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def run(broker: Broker, folder: Path, messages: int, kills: int, seed: int, *, whole: int = 20) -> Account:
    """Queue so many, kill so many times while they are sent, wait for the rest, and compare."""
    chance = random.Random(seed)
    path = str(folder / "fates.db")
    with MailServer(strict=False) as server, closing_app(broker) as app, contextlib.ExitStack() as stack:
        for n in range(messages):
            options = {"sender": "s@x.example", "recipients": f"r{n}@x.example", "ignore_result": True}
            enqueue(app, BODY, name="mail.recorded", **options)
        victims = Victims(broker, server, path, stack)
        # So that the last kill comes when some are left, each waits for its share of the messages.
        for kill in range(kills):
            share = messages * (kill + 1) // (kills + 2)
            _until(partial(_has_arrived, server, share), server)
            threading.Event().wait(chance.uniform(0.0, 0.02))
            if kill % whole == whole - 1:
                victims.kill_all()
            else:
                _until(lambda: victims.kill_one(chance), server)
        with Journal(path) as journal:
            _until(lambda: _settled(journal) == messages, server, or_give_up=True)
            doubtful = sorted({address for _, address in journal.doubtful(100_000)})
        arrived = Counter(address for each in server.messages for address in each.delivered)
    there = {*arrived, *doubtful}
    return Account(
        messages,
        victims.kills,
        len(arrived),
        [f"r{n}" for n in range(messages) if f"r{n}@x.example" not in there],
        [address for address, times in arrived.items() if times > 1],
        doubtful,
        [address for address in doubtful if address not in arrived],
    )


def _has_arrived(server: MailServer, count: int) -> bool:
    return len(server.messages) >= count


def _settled(journal: Journal) -> int:
    counts = journal.counts()
    assert counts.keys() <= {"accepted", "doubt", "queued"}
    return counts.get("accepted", 0) + counts.get("doubt", 0)


def _until(condition: Callable[[], bool], server: MailServer, *, or_give_up: bool = False) -> None:
    """Wait while messages arrive."""
    last, seen = time.monotonic(), -1
    while not condition():
        count = len(server.messages)
        if count != seen:
            last, seen = time.monotonic(), count
        elif time.monotonic() - last > PATIENCE:
            assert or_give_up, "nothing arrives any more"
            return
        time.sleep(0.002)


@contextlib.contextmanager
def broker_of(kind: str, folder: Path) -> Iterator[Broker]:
    """A broker of this kind, for one run."""
    server = {"rabbitmq": RabbitServer, "redis": RedisServer}.get(kind, lambda: None)()
    try:
        if isinstance(server, RabbitServer):
            yield server.broker()
        else:
            yield Broker.of(str(folder) if server is None else server.url)
    finally:
        if server is not None:
            server.stop()


if __name__ == "__main__":
    began = time.monotonic()
    kind = sys.argv[3] if len(sys.argv) > 3 else "rabbitmq"
    with tempfile.TemporaryDirectory() as name, broker_of(kind, Path(name)) as place:
        print(f"{kind}:", run(place, Path(name), int(sys.argv[1]), int(sys.argv[2]), seed=1))
    print(f"{time.monotonic() - began:.1f} s")
