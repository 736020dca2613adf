"""Many connections: the pool beside one connection, and a million messages in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial

import pysmtpx

from . import contestants as who
from .blind import in_process
from .contestants import RECIPIENT, SENDER, Task, accept, message
from .peak import peak
from .report import Goal, Report, against, rates_table
from .rounds import interleave
from .servers import delayed, round_trip
from .sink import smtp_sink

FAR = 0.02
MILLION = int(os.environ.get("BENCH_MILLION", "1_000_000"))
"""Messages of the measure of memory."""


def pool(rounds: int = 3, connections: int = 16) -> Report:
    """A pool of 16 beside one connection, 20 ms away."""
    content, ours = message(4096), f"pool of {connections}"
    with smtp_sink() as near, delayed(near, FAR) as port:
        trip = round_trip(port)
        many, missing = who.starters(
            Task(port, content, connections=connections),
            (who.OURS, who.SMTPLIB, who.AIOSMTPLIB, who.NODEMAILER, who.GO, who.SMTP_SOURCE),
        )
        runners = {ours: many.pop(who.OURS), "one connection": partial(who.ours, Task(port, content))}
        runners |= {f"{name}, {connections} connections": run for name, run in many.items()}
        measured = interleave(runners, rounds, seconds=0.8, probe=4 * connections)
    report = Report(f"Pool of {connections}, 4 KB messages, a round trip of {trip * 1000:.1f} ms")
    report.parts.append(rates_table("messages/s", measured, missing=missing, ours=ours))
    report.goals = [Goal(f"{ours} at 20 ms", 14, against(measured, "one connection", ours), "× one")]
    return report


def memory(count: int = MILLION) -> Report:
    """A million messages from a generator, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.many", str(count)], check=True, stdout=subprocess.PIPE, text=True
    )
    above, rate = map(float, run.stdout.split())
    report = Report(f"{count:,} messages from a generator through the pool, a sink in the same process")
    report.parts.append(
        f"{above:.1f} MB above the start; {rate:,.0f} messages/s, the sink's own work included."
    )
    report.goals = [Goal(f"memory for {count:,} messages", 40, above, "MB", at_most=True)]
    return report


def _generate(count: int) -> Iterator[pysmtpx.MailObject]:
    content = message(200)
    for _ in range(count):
        yield pysmtpx.MailObject(SENDER, RECIPIENT, bytes(bytearray(content)))


def _watched(outcomes: Iterable[pysmtpx.Outcome], count: int) -> Iterable[pysmtpx.Outcome]:
    """With a progress bar on the standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        return outcomes
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(outcomes, f"{count:,} messages", total=count, console=console, update_period=0.5)


def _child(count: int) -> None:
    with in_process() as port, pysmtpx.SmtpPool("127.0.0.1", port=port) as smtp:
        accept(_watched(smtp.send_many(_generate(1)), 1))
        before = peak()
        start = time.perf_counter()
        accept(_watched(smtp.send_many(_generate(count)), count))
        seconds = time.perf_counter() - start
        print(peak() - before, count / seconds)


if __name__ == "__main__":
    _child(int(sys.argv[1]))
