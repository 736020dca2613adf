"""One connection, many messages: beside the peers, far away, and with many in flight."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pysmtpx

from . import contestants as who
from .contestants import Task, message, starters
from .report import Goal, Report, against, rates_table
from .rounds import OURS, Contestant, interleave
from .servers import delayed, has_postfix, one_processor, postfix, round_trip
from .sink import smtp_sink

SIZE = 4096
FAR, FARTHER = 0.02, 0.1
WINDOW = 32
_NEEDED: dict[str, dict[str, float]] = {
    "as it comes": {who.SMTPLIB: 3, who.GO: 1.5, who.BARE: 0.75},
    "one processor": {who.SMTPLIB: 2, who.GO: 1.3, who.BARE: 0.45},
}
_NEEDED_ALWAYS: dict[str, float] = {who.NODEMAILER: 3, who.AIOSMTPLIB: 5, who.SMTP_SOURCE: 1.5}
_NEEDED_PLAIN = {"as it comes": 2.2}
_WHY_TWICE = """\
Twice, since the ratios depend on it: a processor that went idle takes some 50 µs to wake, which who waits
for four replies a message pays four times. On one processor nothing sleeps between client and server, and
what is left is each client's own work. A machine with other work to do is somewhere between the two. No
client that waits can pass the bare loop of its kind: with overlap a message is one wait, without it two."""


def loopback(rounds: int = 5) -> Report:
    """``send_many`` of a list, 4 KB each, on loopback: as it comes, and on one processor."""
    report = Report("`send_many`, 4 KB messages, one connection, smtp-sink on loopback")
    _race(report, "as it comes", rounds)
    with one_processor() as possible:
        if possible:
            _race(report, "one processor", rounds)
    report.parts.append(_WHY_TWICE)
    return report


def _race(report: Report, how: str, rounds: int) -> None:
    """Everybody, once more; adds the table and the goals."""
    with smtp_sink() as port:
        runners, missing = starters(Task(port, message(SIZE), warm=1000))
        measured = interleave(runners, rounds, seconds=0.4, probe=300)
    report.parts.append(f"{how}:\n\n{rates_table('messages/s', measured, missing=missing)}")
    for name, needed in {**_NEEDED[how], **_NEEDED_ALWAYS}.items():
        report.goals.append(Goal(f"stream beside {name}, {how}", needed, against(measured, name)))
    if how in _NEEDED_PLAIN:
        times = against(measured, who.SMTPLIB, ours=who.PLAIN)
        report.goals.append(Goal(f"overlap off beside smtplib, {how}", _NEEDED_PLAIN[how], times))


def far(rounds: int = 3) -> Report:
    """The same behind a proxy: messages a round trip."""
    report = Report("`send_many`, 4 KB messages, one connection, far away")
    _far(report, FAR, who.ALL, rounds, 2.0)
    _far(report, FARTHER, (OURS, who.SMTPLIB, who.BARE), 3, 4.0)
    return report


def _far(report: Report, distance: float, names: Sequence[str], rounds: int, seconds: float) -> None:
    """A table and a goal for one round trip. n messages take n + 1 of them, whoever sends them."""
    with smtp_sink() as near, delayed(near, distance) as port:
        trip = round_trip(port)
        runners, missing = starters(Task(port, message(SIZE)), names)
        measured = interleave(runners, rounds, seconds=seconds, probe=4)
    table = rates_table("messages a round trip", measured, missing=missing, scale=1 / trip, digits=3)
    most = max(2, int(seconds * measured[OURS].median))
    report.parts.append(
        f"A round trip of {trip * 1000:.1f} ms; the first message takes two, so that {most / (most + 1):.3f} "
        f"is the most that some {most} messages without CHUNKING can reach:\n\n{table}"
    )
    what = f"stream at {distance * 1000:.0f} ms"
    report.goals.append(Goal(what, 0.95, measured[OURS].median * trip, "a round trip"))
    if who.PLAIN in measured:
        reached = measured[who.PLAIN].median * trip
        report.goals.append(Goal(f"{what}, overlap off", 0.49, reached, "a round trip"))


def in_flight(rounds: int = 5) -> Report:
    """Whole transactions in flight by BDAT to a real Postfix."""
    report = Report(f"`send_many(in_flight={WINDOW})`, 4 KB messages, one connection, Postfix with CHUNKING")
    goal = f"in_flight={WINDOW} at 20 ms"
    if not has_postfix():
        report.goals = [Goal(goal, 10, None, "a round trip")]
        return report
    name = f"{OURS}, in_flight={WINDOW}"
    with postfix() as near, delayed(near, FAR) as port:
        trip = round_trip(port)
        away, here = Task(port, message(SIZE)), Task(near, message(SIZE))
        runners: dict[str, Contestant] = {
            name: partial(who.ours, away, in_flight=WINDOW),
            OURS: partial(who.ours, away),
            who.SMTPLIB: partial(who.by_smtplib, away),
            f"{name}, at 0 ms": partial(who.ours, here, in_flight=WINDOW),
            f"{OURS}, at 0 ms": partial(who.ours, here),
            "bare loop by DATA, at 0 ms": partial(who.by_bare_loop, here, quick=True),
        }
        measured = interleave(runners, rounds, seconds=0.7, probe=64)
    report.parts.append(
        rates_table("messages a round trip", measured, scale=1 / trip, digits=3, ours=name)
        + f"\n\nA round trip is {trip * 1000:.1f} ms here, also in the lines at 0 ms: these show what one "
        "session of this Postfix takes at most."
    )
    most = trip * max(m.median for key, m in measured.items() if key.endswith("0 ms"))
    if most < 10 / 0.9:
        goal += ", or nine tenths of the server's own limit"
    report.goals = [Goal(goal, min(10, 0.9 * most), measured[name].median * trip, "a round trip")]
    return report


# -- delayed acknowledgements ----------------------------------------------------------


def quickack(rounds: int = 5) -> Report:
    """Real Postfix on loopback as we are, and in child processes without one option or both."""
    report = Report("`TCP_QUICKACK` and `TCP_NODELAY`, 4 KB messages, one connection, Postfix on loopback")
    if not has_postfix():
        report.parts.append("Postfix is missing.")
        return report
    for way in ("send", "send_many"):
        with postfix() as port:
            runners = {
                "with both": partial(_in_child, port, way, ""),
                "without TCP_QUICKACK": partial(_in_child, port, way, "TCP_QUICKACK"),
                "without TCP_NODELAY": partial(_in_child, port, way, "TCP_NODELAY"),
                "without either": partial(_in_child, port, way, "TCP_QUICKACK TCP_NODELAY"),
            }
            measured = interleave(runners, rounds, probe=20)
        table = rates_table("messages/s", measured, ours="with both")
        report.parts.append(f"By `{way}`:\n\n{table}")
    return report


def _in_child(port: int, way: str, without: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.stream", str(port), way, without, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _child(port: str, way: str, without: str, count: str) -> None:
    _leave_out({getattr(socket, name) for name in without.split() if hasattr(socket, name)})
    task = Task(int(port), message(SIZE))
    print((who.ours if way == "send_many" else by_send)(task, int(count)))


def _leave_out(left_out: set[int]) -> None:
    """Let no socket of this process set these options of TCP."""
    put = socket.socket.setsockopt

    def setsockopt(self: socket.socket, level: int, option: int, *value: Any) -> None:
        if level != socket.IPPROTO_TCP or option not in left_out:
            put(self, level, option, *value)

    socket.socket.setsockopt = setsockopt  # type: ignore[method-assign, assignment]


def by_send(task: Task, count: int) -> float:
    """``send()``, one after the other."""
    with pysmtpx.connect("127.0.0.1", task.port) as smtp:
        for _ in range(task.warm):
            smtp.send(who.SENDER, who.RECIPIENT, task.content)
        return who.timed(lambda: smtp.send(who.SENDER, who.RECIPIENT, task.content), count)


if __name__ == "__main__":
    _child(*sys.argv[1:])
