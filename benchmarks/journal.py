"""What a journal costs: a pool with and without one, near and far."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pysmtpx

from .contestants import accept, mails, message
from .report import Goal, Report, against, rates_table
from .rounds import Contestant, interleave
from .servers import delayed, has_postfix, postfix, round_trip
from .sink import smtp_sink

FAR = 0.02


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
