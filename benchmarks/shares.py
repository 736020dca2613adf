"""Where a message's time goes on one processor: each client's own code, the system's calls, the server.

The client's processor time is taken from the system (``getrusage``); what is left of the clock on a single
processor is the server's and the changing between both. Whose code it is within the package is sampled by a
timer of processor time: each sample counts for the innermost function of the package on the stack, so that
what it calls in C or in the standard library, and its system calls, are its own.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

import pysmtpx

from . import contestants as who
from .contestants import Task, message
from .report import Report
from .rounds import OURS
from .servers import one_processor
from .sink import smtp_sink
from .stream import SIZE

_COUNT, _ROUNDS = 6000, 5
_EVERY = 0.001
_PLACES = 15
_PACKAGE = os.path.dirname(pysmtpx.__file__) + os.sep


@dataclass(slots=True)
class Spent:
    """Microseconds, of one message or of several."""

    clock: float = 0.0
    user: float = 0.0
    system: float = 0.0

    @property
    def cells(self) -> str:
        """Its cells of the table; what is neither is the server's."""
        rest = self.clock - self.user - self.system
        return " | ".join(f"{value:.0f}" for value in (self.clock, self.user, self.system, rest))


def shares() -> Report:
    """``send_many`` of 4 KB messages to smtp-sink, all on one processor."""
    report = Report("Where a message's time goes: `send_many`, 4 KB, smtp-sink, one processor")
    with one_processor() as possible, smtp_sink() as port:
        if not possible:
            report.parts.append("This system cannot keep a process on one processor.")
            return report
        task = Task(port, message(SIZE))
        runs = {name: run for name, run in who.available(_NAMES).items() if name in _NAMES}
        found = {name: partial(_spent, partial(run, task)) for name, run in runs.items()}
        table = [_HEAD, *(f"| {name} | {_median(spend).cells} |" for name, spend in found.items())]
        report.parts.append("\n".join(table))
        for name in (OURS, who.PLAIN):
            report.parts.append(f"{name}, by file and function:\n\n{_sampled(partial(runs[name], task))}")
    report.parts.append(_MEANING)
    return report


_NAMES = (OURS, who.PLAIN, who.SMTPLIB, who.BARE, who.BARE_PLAIN)
_HEAD = "| µs a message | clock | client, user | client, system | server |\n|---|---:|---:|---:|---:|"
_MEANING = """\
Samples are taken by a timer of processor time; each counts for the innermost function of the package, with
what it calls in C and of the system. The server is `smtp-sink`; it takes more where it wakes more often."""


def _spent(run: Callable[[int], float]) -> Spent:
    """A message's part of a run."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run(_COUNT)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    each = 1e6 / _COUNT
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Spent(clock * each, user * each, system * each)


def _median(spend: Callable[[], Spent]) -> Spent:
    return sorted((spend() for _ in range(_ROUNDS)), key=lambda spent: spent.clock)[_ROUNDS // 2]


def _sampled(run: Callable[[int], float]) -> str:
    """The places that took most, and the files."""
    places: Counter[tuple[str, str]] = Counter()
    with _sampling(places):
        run(_COUNT * _ROUNDS)
    total, files = places.total(), Counter[str]()
    for (file, _), samples in places.items():
        files[file] += samples
    lines = ["| file | share | | function | share |", "|---|---:|---|---|---:|"]
    for (file, of_file), (place, of_place) in zip(
        files.most_common(_PLACES), places.most_common(_PLACES), strict=False
    ):
        shares = (f"{samples / total:.1%}" for samples in (of_file, of_place))
        lines.append(
            "| {} | {} | | {} | {} |".format(file, next(shares), ": ".join(filter(None, place)), next(shares))
        )
    return "\n".join(lines)


@contextmanager
def _sampling(places: Counter[tuple[str, str]]) -> Iterator[None]:
    """Count where this thread is, again and again."""

    def sample(_: int, frame: FrameType | None) -> None:
        places[_place(frame)] += 1

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _place(frame: FrameType | None) -> tuple[str, str]:
    """File and function of the innermost frame of the package."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            return file.removeprefix(_PACKAGE), frame.f_code.co_name
        frame = frame.f_back
    return "the benchmark", ""
