"""A connection, one message, QUIT: what a script or a web request without a pool does, beside smtplib."""

from __future__ import annotations

import contextlib
import smtplib
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pysmtpx
import pysmtpx.smtplib

from .contestants import RECIPIENT, SENDER, SMTPLIB, message
from .report import Goal, Report, against, rates_table
from .rounds import OURS, Contestant, Rates, interleave
from .servers import has_postfix, postfix
from .sink import smtp_sink

FACE = "pysmtpx.smtplib"
CONTENT = message(1024)
NAME = "bench.example"
"""Given to each, since smtplib would look its own up in DNS."""


def one_message(rounds: int = 11) -> Report:
    """Processor time and clock of a connection, to smtp-sink and to a real Postfix."""
    report = Report("A connection, one message of 1 KB, QUIT, on loopback")
    with smtp_sink() as port:
        spent = _race(report, "smtp-sink, processor time of the client", port, time.process_time, rounds)
        _race(report, "smtp-sink, by the clock", port, time.perf_counter, rounds)
    if has_postfix():
        with postfix() as port:
            _race(report, "Postfix, processor time of the client", port, time.process_time, rounds)
            _race(report, "Postfix, by the clock", port, time.perf_counter, rounds)
    for name in (OURS, FACE):
        times = against(spent, name, ours=SMTPLIB)
        report.goals.append(Goal(f"{name}, a connection: processor time", 1.2, times, at_most=True))
    return report


def _race(report: Report, how: str, port: int, clock: Callable[[], float], rounds: int) -> Rates:
    runners: dict[str, Contestant] = {
        OURS: partial(_timed, clock, partial(_ours, port)),
        FACE: partial(_timed, clock, partial(_by, pysmtpx.smtplib, port)),
        SMTPLIB: partial(_timed, clock, partial(_by, smtplib, port)),
    }
    measured = interleave(runners, rounds, seconds=0.2, probe=30)
    report.parts.append(f"{how}:\n\n{rates_table('connections/s', measured)}")
    return measured


def _timed(clock: Callable[[], float], once: Callable[[], object], count: int) -> float:
    start = clock()
    for _ in range(count):
        once()
    return count / (clock() - start)


def _ours(port: int) -> None:
    with pysmtpx.connect("127.0.0.1", port, local_hostname=NAME) as smtp:
        smtp.send(SENDER, RECIPIENT, CONTENT)


def _by(module: ModuleType, port: int) -> None:
    with contextlib.closing(module.SMTP("127.0.0.1", port, local_hostname=NAME)) as smtp:
        smtp.sendmail(SENDER, [RECIPIENT], CONTENT)
        smtp.quit()
