"""What an import costs: seconds in a fresh interpreter, its bytecode cached."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from .report import Goal, Report
from .rounds import Contestant, interleave

OURS = "import pysmtpx"
EVERYTHING = "from pysmtpx import *"
STANDARD = "import smtplib, ssl"
STATEMENTS = (OURS, EVERYTHING, STANDARD, "import smtplib, ssl, email.message, logging", "import aiosmtplib")

_CHILD = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def _times(statement: str, count: int) -> float:
    """How many times a second it could be imported anew."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = 0.0
    for _ in range(count):
        command = [sys.executable, "-c", _CHILD.format(statement)]
        seconds += float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    return count / seconds


def imports(rounds: int = 9) -> Report:
    """Each statement in interpreters of its own."""
    runners: dict[str, Contestant] = {each: partial(_times, each) for each in STATEMENTS}
    measured = interleave(runners, rounds, fixed=2)
    report = Report("Imports, each in a fresh interpreter")
    lines = ["| | ms | min | max |", "|---|---:|---:|---:|"]
    for name, m in measured.items():
        values = (1000 / rate for rate in (m.median, max(m.rates), min(m.rates)))
        lines.append(f"| `{name}` | {' | '.join(f'{value:.1f}' for value in values)} |")
    report.parts.append("\n".join(lines))
    report.parts.append(
        "A name of `pysmtpx` is loaded when it is first asked for; the second line is the cost of all."
    )
    ours, theirs = (1000 / measured[name].median for name in (OURS, STANDARD))
    report.goals = [
        Goal(f"`{OURS}`", 60, ours, "ms", at_most=True),
        Goal(f"`{OURS}` beside `{STANDARD}`", 1.5, ours / theirs, at_most=True),
    ]
    return report
