"""The drop-in face beside the module whose place it takes: ``sendmail``, one call at a time."""

from __future__ import annotations

import contextlib
import os
import smtplib
from collections.abc import Iterator
from functools import partial
from types import ModuleType

import pysmtpx.smtplib

from .contestants import RECIPIENT, SENDER, SMTPLIB, Task, message, timed
from .report import Goal, Report, against, rates_table
from .rounds import Contestant, interleave
from .servers import delayed, one_processor
from .sink import smtp_sink

OURS = "pysmtpx.smtplib"
SIZE = 4096
FAR = 0.02
_WHY_TWICE = """\
Twice, since the ratio depends on it. Where client and server have a processor each, as on two machines,
most of a message's time is their waking up: four times for the four round trips of smtplib, twice for our
two. On a single one nothing sleeps, and what is left is the work of both, of which the account kept of each
recipient is a part."""


def sendmail(rounds: int = 9) -> Report:
    """4 KB messages on one connection to smtp-sink: a processor each, a single one, and far away."""
    report = Report("`sendmail` of the drop-in face, 4 KB messages one by one, one connection, smtp-sink")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_sink_apart())
        stack.enter_context(_on(_processors()[0]))
        apart = _race(report, "a processor each", port, rounds)
    report.goals.append(Goal("`sendmail` beside smtplib, a processor each", 1.5, apart))
    with one_processor() as possible, smtp_sink() as port:
        if possible:
            alone = _race(report, "a single processor", port, rounds)
            report.goals.append(Goal("`sendmail` beside smtplib, a single processor", 1.3, alone))
    report.parts.append(_WHY_TWICE)
    with smtp_sink() as near, delayed(near, FAR) as port:
        far = _race(report, f"a round trip of {FAR * 1000:.0f} ms", port, 3, far=True)
    report.goals.append(Goal(f"`sendmail` beside smtplib, at {FAR * 1000:.0f} ms", 1.9, far))
    return report


def _race(report: Report, how: str, port: int, rounds: int, *, far: bool = False) -> float | None:
    """Both, one after the other; adds the table, and returns how many times as fast ours is."""
    task = Task(port, message(SIZE), warm=1 if far else 300)
    runners: dict[str, Contestant] = {
        OURS: partial(_by, pysmtpx.smtplib, task),
        SMTPLIB: partial(_by, smtplib, task),
    }
    seconds, probe = (1.5, 4) if far else (0.4, 300)
    measured = interleave(runners, rounds, seconds=seconds, probe=probe)
    table = rates_table("messages/s", measured, ours=OURS, digits=1 if far else 0)
    report.parts.append(f"{how}:\n\n{table}")
    return against(measured, SMTPLIB, ours=OURS)


@contextlib.contextmanager
def _sink_apart() -> Iterator[int]:
    """smtp-sink on the last processor, where there are several; the port."""
    with contextlib.ExitStack() as stack:
        with _on(_processors()[-1]):
            port = stack.enter_context(smtp_sink())
        yield port


def _processors() -> list[int]:
    """Those that this process may use; the system's own choice where it cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]


@contextlib.contextmanager
def _on(processor: int) -> Iterator[None]:
    """Keep this process, and those that it starts, on a processor."""
    if processor < 0:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _by(module: ModuleType, task: Task, count: int) -> float:
    """The same program for both."""
    with module.SMTP("127.0.0.1", task.port, local_hostname="bench.example") as smtp:
        for _ in range(task.warm):
            smtp.sendmail(SENDER, [RECIPIENT], task.content)
        return timed(lambda: smtp.sendmail(SENDER, [RECIPIENT], task.content), count)
