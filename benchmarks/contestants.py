"""The clients that are measured: each sends so many messages and returns how many a second that was.

What comes before the first message (a process, a dial, EHLO) does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import smtplib
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiosmtplib

import pysmtpx

from . import bare
from .rounds import OURS, Contestant

SENDER, RECIPIENT = "sender@example.org", "recipient@example.com"
LINE = b"A line of text as people write it, of some seventy octets all in all.\r\n"
HEADER = b"From: sender@example.org\r\nTo: recipient@example.com\r\nSubject: measured\r\n\r\n"
PEERS = Path(__file__).parent / ".peers"
SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/lib/postfix/sbin:/usr/bin")

PLAIN = "pysmtpx, overlap off"
"""As it is by default; the contestants of ours overlap, on servers that are known to take it."""
SMTPLIB, AIOSMTPLIB, NODEMAILER, GO, SMTP_SOURCE, BARE, BARE_PLAIN = (
    "smtplib",
    "aiosmtplib",
    "nodemailer",
    "Go net/smtp",
    "smtp-source",
    "bare loop",
    "bare loop, overlap off",
)
ALL = (OURS, PLAIN, SMTPLIB, AIOSMTPLIB, NODEMAILER, GO, SMTP_SOURCE, BARE, BARE_PLAIN)


def message(octets: int) -> bytes:
    """A message of about this size in lines."""
    return HEADER + LINE * max(1, (octets - len(HEADER)) // len(LINE))


def mails(content: bytes, count: int) -> list[pysmtpx.MailObject]:
    """So many messages for ``send_many``, each with octets of its own: the same object is looked at once."""
    return [pysmtpx.MailObject(SENDER, RECIPIENT, bytes(bytearray(content))) for _ in range(count)]


def accept(outcomes: Iterable[pysmtpx.Outcome]) -> None:
    """Go through the outcomes; every one must be an acceptance."""
    for outcome in outcomes:
        if outcome.status != "accepted":
            raise SystemExit(f"a message was not accepted: {outcome}")


def timed(send: Callable[[], object], count: int) -> float:
    """Calls a second."""
    start = time.perf_counter()
    for _ in range(count):
        send()
    return count / (time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Task:
    """What every contestant of a measure has to send, and where."""

    port: int
    content: bytes
    connections: int = 1
    warm: int = 1
    """Messages before the clock starts, on each connection."""


# -- Python ------------------------------------------------------------------------


def ours(task: Task, count: int, in_flight: int = 1, overlap: bool = True) -> float:
    """``SmtpConnection.send_many``."""
    prepared = mails(task.content, count)
    with pysmtpx.connect("127.0.0.1", task.port, overlap=overlap) as smtp:
        accept(smtp.send_many(mails(task.content, task.warm)))
        start = time.perf_counter()
        accept(smtp.send_many(prepared, in_flight=in_flight))
        return count / (time.perf_counter() - start)


def our_pool(task: Task, count: int) -> float:
    """``SmtpPool.send_many``."""
    prepared = mails(task.content, count)
    connections = {"max_connections": task.connections, "overlap": True}
    with pysmtpx.SmtpPool("127.0.0.1", port=task.port, **connections) as pool:
        with contextlib.ExitStack() as held:  # all at once, so that each of them is dialled
            lines = [held.enter_context(pool.connection(timeout=30)) for _ in range(task.connections)]
            for line in lines:
                accept(line.send_many(mails(task.content, task.warm)))
        start = time.perf_counter()
        accept(pool.send_many(prepared))
        return count / (time.perf_counter() - start)


def _shares(count: int, connections: int) -> list[int]:
    return [len(range(i, count, connections)) for i in range(connections)]


def by_smtplib(task: Task, count: int) -> float:
    """A thread for each connection."""
    ready = threading.Barrier(task.connections + 1)

    def work(share: int) -> None:
        with smtplib.SMTP("127.0.0.1", task.port) as smtp:
            for _ in range(task.warm):
                smtp.sendmail(SENDER, [RECIPIENT], task.content)
            ready.wait()
            for _ in range(share):
                smtp.sendmail(SENDER, [RECIPIENT], task.content)
            ready.wait()

    threads = [threading.Thread(target=work, args=(n,)) for n in _shares(count, task.connections)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    ready.wait()
    seconds = time.perf_counter() - start
    for thread in threads:
        thread.join()
    return count / seconds


def by_aiosmtplib(task: Task, count: int) -> float:
    """A task for each connection."""

    async def send(smtp: aiosmtplib.SMTP, share: int) -> None:
        for _ in range(share):
            await smtp.sendmail(SENDER, [RECIPIENT], task.content)

    async def run() -> float:
        async with contextlib.AsyncExitStack() as stack:
            lines = [
                await stack.enter_async_context(
                    aiosmtplib.SMTP(hostname="127.0.0.1", port=task.port, start_tls=False)
                )
                for _ in range(task.connections)
            ]
            await asyncio.gather(*(send(line, task.warm) for line in lines))
            start = time.perf_counter()
            shares = _shares(count, task.connections)
            await asyncio.gather(*(send(line, n) for line, n in zip(lines, shares, strict=True)))
            return count / (time.perf_counter() - start)

    return asyncio.run(run())


def by_bare_loop(task: Task, count: int, quick: bool = False, overlap: bool = True) -> float:
    """Socket calls with no checks."""
    return bare.stream(task.port, SENDER, RECIPIENT, task.content, count, quick=quick, overlap=overlap)


# -- others ------------------------------------------------------------------------


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def _program(command: list[str], task: Task, count: int) -> float:
    with _file(task.content) as name:
        arguments = [str(n) for n in (count, task.connections, task.warm)]
        env = {**os.environ, "NODE_PATH": str(PEERS / "node_modules")}
        run = subprocess.run(
            [*command, str(task.port), name, *arguments], check=True, capture_output=True, text=True, env=env
        )
    return float(run.stdout)


def by_smtp_source(task: Task, count: int) -> float:
    """Less the time for one message on each connection, since it does not tell when it begins.

    More messages than asked for, where these take no longer than that.
    """
    command = [str(SOURCE), "-d", "-f", SENDER, "-t", RECIPIENT, "-s", str(task.connections)]
    command += ["-l", str(len(task.content))]

    def seconds(messages: int) -> float:
        start = time.perf_counter()
        subprocess.run([*command, "-m", str(messages), f"127.0.0.1:{task.port}"], check=True)
        return time.perf_counter() - start

    overhead = seconds(task.connections)
    while (took := seconds(count + task.connections) - overhead) < overhead:
        count *= 4
    return count / took


def available(names: Iterable[str] = ALL) -> dict[str, Callable[[Task, int], float]]:
    """Those of the names that can be run here."""
    runs: dict[str, Callable[[Task, int], float]] = {
        OURS: ours,
        PLAIN: partial(ours, overlap=False),
        SMTPLIB: by_smtplib,
        AIOSMTPLIB: by_aiosmtplib,
        BARE: by_bare_loop,
        BARE_PLAIN: partial(by_bare_loop, overlap=False),
    }
    if shutil.which("node") and (PEERS / "node_modules/nodemailer").is_dir():
        runs[NODEMAILER] = partial(_program, ["node", str(Path(__file__).parent / "peers/send.js")])
    if os.access(PEERS / "send", os.X_OK):
        runs[GO] = partial(_program, [str(PEERS / "send")])
    if SOURCE is not None:
        runs[SMTP_SOURCE] = by_smtp_source
    return {name: runs[name] for name in names if name in runs}


def missing(names: Iterable[str] = ALL) -> list[str]:
    """Those of the names that cannot be run here."""
    runs = available(names)
    return [name for name in names if name not in runs]


def starters(task: Task, names: Iterable[str] = ALL) -> tuple[dict[str, Contestant], list[str]]:
    """The contestants of a measure, and the names of those that are missing."""
    runs = available(names)
    if OURS in runs and task.connections > 1:
        runs[OURS] = our_pool
    contestants: dict[str, Contestant] = {name: partial(run, task) for name, run in runs.items()}
    return contestants, missing(names)
