"""Run the measures and print their tables: ``python -m benchmarks [name …]``.

A run of all of them also writes ``results/README.md``, anew after each measure; the measures ``plots`` and
``outbox`` always write their SVG files. ``BENCH_MILLION`` lowers the million messages of ``memory`` and
``outbox``.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time

import pysmtpx

from . import (
    calls,
    cold,
    connections,
    core,
    curves,
    django_mail,
    face,
    imports,
    journal,
    many,
    outbox,
    resumed,
    secured,
    shares,
    stream,
)
from .curves import RESULTS
from .report import Report, goals_table

MEASURES = {
    "small": core.small_messages,
    "stream": stream.loopback,
    "shares": shares.shares,
    "far": stream.far,
    "in_flight": stream.in_flight,
    "pool": many.pool,
    "journal": journal.pool,
    "journal_near": journal.near,
    "outbox": outbox.outbox,
    "connections": connections.one_message,
    "cold": cold.cold,
    "resumed": resumed.resumed,
    "one": secured.one_at_a_time,
    "face": face.sendmail,
    "django": django_mail.send_mail,
    "django_near": django_mail.processor_time,
    "large": secured.large,
    "quickack": stream.quickack,
    "file": core.large_file,
    "drip": core.dripping_server,
    "memory": many.memory,
    "imports": imports.imports,
    "calls": calls.calls,
    "plots": curves.plots,
}


def _machine() -> str:
    return (
        f"pysmtpx {pysmtpx.__version__}, Python {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} processors shared by client and server."
    )


def _write(reports: list[Report], left: list[str]) -> None:
    goals = [goal for report in reports for goal in report.goals]
    parts = [
        "# Benchmarks",
        f"One run of `make bench`: {_machine()}",
        "Contestants take turns, A B C A B C …; figures are medians of the rounds, ratios "
        "are medians of the ratios round by round.",
        *([f"The run is not complete: without {', '.join(left)}."] if left else []),
        goals_table(goals),
        *(report.markdown() for report in reports),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def main(names: list[str]) -> None:
    """Run the measures of these names, or all."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise SystemExit(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # by way of what ends the servers
    print(_machine(), flush=True)
    reports = []
    wanted = names or list(MEASURES)
    for done, name in enumerate(wanted, 1):
        start = time.perf_counter()
        reports.append(MEASURES[name]())
        print(f"\n{reports[-1].markdown()}\n\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)
        if not names:
            _write(reports, wanted[done:])


if __name__ == "__main__":
    main(sys.argv[1:])
