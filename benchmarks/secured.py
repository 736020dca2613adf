"""Sessions over STARTTLS, as programs run them: one large message, and one small one at a time."""

from __future__ import annotations

import smtplib
import ssl
from functools import partial

import trustme

import pysmtpx

from .contestants import RECIPIENT, SENDER, SMTPLIB, Task, message, timed
from .report import Goal, Report, against, rates_table
from .rounds import OURS, Contestant, interleave
from .servers import blind_sink, delayed, round_trip

USER, PASSWORD = "user", "benchmark"
FAR = 0.02


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def ours(task: Task, context: ssl.SSLContext | None, count: int) -> float:
    """``send`` on one connection."""
    line = {"tls": "none"} if context is None else {"tls": "starttls", "ssl_context": context}
    with pysmtpx.connect("127.0.0.1", task.port, **line) as smtp:
        return timed(lambda: smtp.send(SENDER, RECIPIENT, task.content), count)


def by_smtplib(task: Task, context: ssl.SSLContext | None, count: int) -> float:
    """``sendmail`` on one connection."""
    with smtplib.SMTP("127.0.0.1", task.port) as smtp:
        if context is not None:
            smtp.starttls(context=context)
        return timed(lambda: smtp.sendmail(SENDER, [RECIPIENT], task.content), count)


def large(rounds: int = 5, octets: int = 50_000_000) -> Report:
    """One message of 50 MB, in clear and over TLS."""
    report = Report("One 50 MB message, a sink that does not look")
    authority, content = trustme.CA(), message(octets)
    for kind, context in (("plain", None), ("TLS", _trusting(authority))):
        with blind_sink(authority) as port:
            task = Task(port, content)
            runners: dict[str, Contestant] = {
                OURS: partial(ours, task, context),
                SMTPLIB: partial(by_smtplib, task, context),
            }
            measured = interleave(runners, rounds, fixed=1)
        report.parts.append(f"{kind}:\n\n{rates_table('MB/s', measured, scale=1e6 / octets)}")
        report.goals.append(Goal(f"50 MB, {kind}, beside smtplib", 1.8, against(measured, SMTPLIB)))
    return report


def one_at_a_time(rounds: int = 5, each: int = 5) -> Report:
    """``send_message`` through a warm pool, and smtplib opening a connection for each message."""
    authority, content = trustme.CA(), message(1024)
    context = _trusting(authority)
    with blind_sink(authority) as near, delayed(near, FAR) as port:
        trip = round_trip(port)
        with pysmtpx.SmtpPool(
            "127.0.0.1", port=port, tls="starttls", ssl_context=context, username=USER, password=PASSWORD
        ) as pool:
            pool.send_message(content)
            runners: dict[str, Contestant] = {
                OURS: lambda count: 1 / timed(lambda: pool.send_message(content), count),
                SMTPLIB: lambda count: 1 / timed(lambda: _whole_session(port, context, content), count),
            }
            measured = interleave(runners, rounds, fixed=each)
            counted = _counted(pool, content)
    report = Report(f"one small message at a time, TLS and AUTH, a round trip of {trip * 1000:.1f} ms")
    lines = ["| | round trips a message | min | max |", "|---|---:|---:|---:|"]
    for name, m in measured.items():
        values = (seconds / trip for seconds in (m.median, min(m.rates), max(m.rates)))
        how = "a warm pool" if name == OURS else "a connection each time"
        lines.append(f"| {name}, {how} | {' | '.join(f'{value:.2f}' for value in values)} |")
    report.parts.append("\n".join(lines))
    report.parts.append(f"By the count of the pool's connection: {counted} round trips a message.")
    trips = measured[OURS].median / trip
    report.goals.append(Goal("`send_message`, warm pool at 20 ms", 2.1, trips, "round trips", at_most=True))
    report.goals.append(
        Goal("smtplib, a connection each time", 9, measured[SMTPLIB].median / trip, "round trips")
    )
    return report


def _counted(pool: pysmtpx.SmtpPool, content: bytes) -> int:
    """Round trips of one ``send_message``, as the connection counts them."""
    counts = []
    for _ in range(2):
        pool.send_message(content)
        with pool.connection(timeout=30) as smtp:
            counts.append(smtp.round_trips)
    return counts[1] - counts[0]


def _whole_session(port: int, context: ssl.SSLContext, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.starttls(context=context)
        smtp.login(USER, PASSWORD)
        smtp.sendmail(SENDER, [RECIPIENT], content)
