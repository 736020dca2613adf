"""What a journal costs: a pool with and without one, near and far, and an outbox of a million messages."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pysmtpx
from pysmtpx.journal import messages
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import fates_of
from pysmtpx.payload import make_submission, pack
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import SendResult

from .contestants import RECIPIENT, SENDER, accept, mails, message
from .report import Goal, Report, against, rates_table
from .rounds import Contestant, interleave
from .servers import delayed, has_postfix, postfix, round_trip
from .sink import smtp_sink

FAR = 0.02
MILLION = int(os.environ.get("BENCH_MILLION", "1_000_000"))
_EACH = 200
"""Messages by which a rate is measured."""


@contextmanager
def _file() -> Iterator[Path]:
    """A journal of its own, on the disk of this folder."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=Path.cwd()) as folder:
        yield Path(folder) / "outbox.db"


def _rate(port: int, content: bytes, path: Path | None, options: dict[str, Any], count: int) -> float:
    with pysmtpx.SmtpPool("127.0.0.1", port=port, journal=path, **options) as pool:
        accept(pool.send_many(mails(content, options.get("max_connections", 4))))
        start = time.perf_counter()
        accept(pool.send_many(mails(content, count)))
        return count / (time.perf_counter() - start)


def pool(rounds: int = 3, connections: int = 16) -> Report:
    """A pool of 16, 20 ms away, with and without a journal."""
    content, options = message(4096), {"max_connections": connections}
    with _file() as path, smtp_sink() as near, delayed(near, FAR) as port:
        trip = round_trip(port)
        runners: dict[str, Contestant] = {
            "with a journal": partial(_rate, port, content, path, options),
            "without": partial(_rate, port, content, None, options),
        }
        measured = interleave(runners, rounds, seconds=1.0, probe=4 * connections)
    report = Report(f"A journal: pool of {connections}, 4 KB messages, a round trip of {trip * 1000:.1f} ms")
    report.parts.append(rates_table("messages/s", measured, ours="with a journal"))
    times = against(measured, "without", "with a journal")
    report.goals = [Goal("pool of 16 at 20 ms with a journal", 0.9, times, "× without")]
    return report


def near(rounds: int = 3) -> Report:
    """One connection on loopback: what one durable write for a flight amounts to."""
    content = message(4096)
    ways = {"one by one": {}, "overlap": {"overlap": True}, "in_flight=32": {"in_flight": 32}}
    runners: dict[str, Contestant] = {}
    server = postfix if has_postfix() else smtp_sink
    with _file() as path, server() as port:
        for name, options in ways.items():
            for journal in (path, None):
                told = f"{name}, {'with' if journal else 'without'} a journal"
                runners[told] = partial(_rate, port, content, journal, {"max_connections": 1, **options})
        measured = interleave(runners, rounds, seconds=0.7, probe=64)
    report = Report("A journal: one connection, 4 KB messages, loopback")
    first = next(iter(runners))
    report.parts.append(rates_table("messages/s", measured, ours=first))
    return report


def outbox(count: int = MILLION) -> Report:
    """What it costs to hand in and to take a message, by how many are there."""
    rows = ["| messages in it | add, ms | take, doubt and settle, ms |", "|---:|---:|---:|"]
    payload = pack(make_submission(pysmtpx.MailObject(SENDER, RECIPIENT, message(1024))))
    costs = []
    with _file() as path, Journal(path, keep=None) as journal:
        there = 0
        for level in sorted({1000, count // 100, count // 10, count}):
            _fill(journal, payload, level - there)
            there = level
            costs.append((_adding(journal, payload), _taking(journal)))
            rows.append(f"| {level:,} | {costs[-1][0]:.2f} | {costs[-1][1]:.2f} |")
    report = Report(f"A journal of {count:,} messages")
    report.parts.append("\n".join(rows))
    goals = zip(("add", "take, doubt and settle"), costs[-1], costs[0], strict=True)
    report.goals = [
        Goal(f"{what}, full beside empty", 2, full / empty, at_most=True) for what, full, empty in goals
    ]
    return report


def _fill(journal: Journal, payload: dict[str, Any], count: int) -> None:
    octets = json.dumps(payload).encode()
    row = dict.fromkeys(("key", "file", "expires", "due", "until", "now"), 0.0)
    row |= {"key": None, "file": None, "sender": SENDER, "payload": octets, "owner": "", "owed": 1}
    row |= {"digest": messages._digest(octets), "size": len(octets), "expires": 1e300}
    while count > 0:
        part, count = min(count, 10_000), count - 10_000
        journal._disk.write(partial(_add_many, row=row, count=part))


def _add_many(store: Any, row: dict[str, Any], count: int) -> None:
    for _ in range(count):
        messages._add(store, row, [RECIPIENT])


def _adding(journal: Journal, payload: dict[str, Any]) -> float:
    start = time.perf_counter()
    for _ in range(_EACH):
        journal.add(payload)
    return (time.perf_counter() - start) / _EACH * 1000


def _taking(journal: Journal) -> float:
    done = Reply(250, (b"2.0.0 ok",))
    start = time.perf_counter()
    for _ in range(_EACH // 16):
        for owed in journal.take(16):
            journal.doubt([(owed.number, owed.recipients)])
            result = SendResult(owed.recipients, (), done, (done,))
            journal.settle(owed.number, fates_of(result), tries=1)
    return (time.perf_counter() - start) / (_EACH // 16 * 16) * 1000
