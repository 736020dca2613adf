"""One connection: small messages, one large message, memory, and a server that drips."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiosmtplib

import pysmtpx

from .rounds import interleave, table
from .sink import smtp_sink

SENDER, RECIPIENT = "sender@example.org", "recipient@example.com"
LINE = b"A line of text as people write it, of some seventy octets all in all.\r\n"
HEADER = b"From: sender@example.org\r\nTo: recipient@example.com\r\nSubject: measured\r\n\r\n"


def message(octets: int) -> bytes:
    """A message of about this size in lines."""
    return HEADER + LINE * ((octets - len(HEADER)) // len(LINE))


def _timed(send: Callable[[bytes], object], content: bytes, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        send(content)
    return count / (time.perf_counter() - start)


def _ours(port: int, content: bytes, count: int) -> float:
    with pysmtpx.connect("127.0.0.1", port) as smtp:
        return _timed(lambda data: smtp.send(SENDER, RECIPIENT, data), content, count)


def _smtplib(port: int, content: bytes, count: int) -> float:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        return _timed(lambda data: smtp.sendmail(SENDER, [RECIPIENT], data), content, count)


def _aiosmtplib(port: int, content: bytes, count: int) -> float:
    async def run() -> float:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as smtp:
            start = time.perf_counter()
            for _ in range(count):
                await smtp.sendmail(SENDER, [RECIPIENT], content)
            return count / (time.perf_counter() - start)

    return asyncio.run(run())


def small_messages(rounds: int = 7, count: int = 1000) -> str:
    """``send()`` of 4 KB messages, one after the other on one connection."""
    return _compare("4 KB messages, one connection, smtp-sink", "messages/s", 4096, rounds, count)


def large_message(rounds: int = 7, octets: int = 50_000_000) -> str:
    """One message of 50 MB."""
    return _compare("one 50 MB message, smtp-sink", "MB/s", octets, rounds, 1, 1e6 / octets)


def _compare(title: str, unit: str, octets: int, rounds: int, count: int, scale: float = 1.0) -> str:
    content = message(octets)
    with smtp_sink() as port:
        measured = interleave(
            {
                "pysmtpx": lambda: _ours(port, content, count),
                "smtplib": lambda: _smtplib(port, content, count),
                "aiosmtplib": lambda: _aiosmtplib(port, content, count),
            },
            rounds,
        )
    return table(title, unit, measured, "pysmtpx", scale)


# -- memory ------------------------------------------------------------------------


def large_file(octets: int = 1_000_000_000) -> str:
    """A file of 1 GB: the memory above what the process had before."""
    with tempfile.TemporaryDirectory() as folder, smtp_sink() as port:
        path = Path(folder) / "large.eml"
        with path.open("wb") as file:
            file.write(HEADER)
            block = LINE * 10_000
            for _ in range(octets // len(block) + 1):
                file.write(block)
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.core", str(path), str(port)],
            check=True,
            capture_output=True,
            text=True,
        )
    return f"a file of 1 GB\n  {run.stdout.strip()}"


def _send_file(path: str, port: int) -> None:
    with pysmtpx.connect("127.0.0.1", port) as smtp:
        smtp.send(SENDER, RECIPIENT, message(4096))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        with open(path, "rb") as file:
            smtp.send(SENDER, RECIPIENT, file)
        seconds = time.perf_counter() - start
        above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"{above / 1024:.1f} MB above the start, {os.path.getsize(path) / seconds / 1e6:,.0f} MB/s")


# -- time --------------------------------------------------------------------------


@contextlib.contextmanager
def _dripping() -> Iterator[int]:
    """A server that greets, and then answers with one octet each tenth of a second, without end."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"220 drip\r\n")
            peer.recv(4096)
            peer.sendall(b"250 drip\r\n")
            peer.recv(4096)
            peer.sendall(b"250-")
            while not ended.wait(0.1):
                peer.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def dripping_server(deadline: float = 2.0) -> str:
    """How long after its deadline a call to a server that drips is ended."""
    with _dripping() as port, pysmtpx.connect("127.0.0.1", port) as smtp:
        start = time.perf_counter()
        try:
            smtp.send(SENDER, RECIPIENT, message(4096), timeout=deadline)
        except pysmtpx.Timeout:
            over = time.perf_counter() - start - deadline
            return (
                f"a server that drips, deadline of {deadline} s\n  ended {over / deadline:+.2%} of it later"
            )
    raise SystemExit("the server that drips was not ended by the deadline")


if __name__ == "__main__":
    _send_file(sys.argv[1], int(sys.argv[2]))
