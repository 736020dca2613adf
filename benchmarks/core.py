"""One connection, one call at a time: small messages, a large file's memory, and a server that drips."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pysmtpx

from . import contestants as who
from .contestants import HEADER, LINE, RECIPIENT, SENDER, Task, message, starters
from .peak import peak
from .report import Report, rates_table
from .rounds import OURS, interleave
from .sink import smtp_sink
from .stream import by_send


def small_messages(rounds: int = 7) -> Report:
    """``send()`` of 4 KB messages, one after the other on one connection."""
    with smtp_sink() as port:
        task = Task(port, message(4096))
        runners, missing = starters(task, (who.SMTPLIB, who.AIOSMTPLIB))
        measured = interleave({OURS: partial(by_send, task), **runners}, rounds, probe=200)
    report = Report("`send`, 4 KB messages one after the other, one connection, smtp-sink")
    report.parts.append(rates_table("messages/s", measured, missing=missing))
    return report


# -- memory ------------------------------------------------------------------------


def large_file(octets: int = 1_000_000_000) -> Report:
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
    return Report("A file of 1 GB by `send`", [run.stdout.strip()])


def _send_file(path: str, port: int) -> None:
    with pysmtpx.connect("127.0.0.1", port) as smtp:
        smtp.send(SENDER, RECIPIENT, message(4096))
        before = peak()
        start = time.perf_counter()
        with open(path, "rb") as file:
            smtp.send(SENDER, RECIPIENT, file)
        seconds = time.perf_counter() - start
        above = peak() - before
        print(f"{above:.1f} MB above the start, {os.path.getsize(path) / seconds / 1e6:,.0f} MB/s")


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


def dripping_server(deadline: float = 2.0) -> Report:
    """How long after its deadline a call to a server that drips is ended."""
    with _dripping() as port, pysmtpx.connect("127.0.0.1", port) as smtp:
        start = time.perf_counter()
        try:
            smtp.send(SENDER, RECIPIENT, message(4096), timeout=deadline)
        except pysmtpx.Timeout:
            over = time.perf_counter() - start - deadline
            return Report(
                f"A server that drips, a deadline of {deadline} s",
                [f"Ended {over / deadline:+.2%} of it later."],
            )
    raise SystemExit("the server that drips was not ended by the deadline")


if __name__ == "__main__":
    _send_file(sys.argv[1], int(sys.argv[2]))
