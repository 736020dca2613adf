"""A real Postfix that throws all mail away, the delay proxy and the blind sink, each ended here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from . import postfix as postfix_files
from .sink import free_port, wait_for

_SETTINGS = """\
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
in_flow_delay = 0
"""


def has_postfix() -> bool:
    """Whether a Postfix can be started here: only root can."""
    return os.access(postfix_files.MASTER, os.X_OK) and os.geteuid() == 0


@contextlib.contextmanager
def postfix() -> Iterator[int]:
    """A Postfix of our own on a free port; its queue is in memory where that can be had."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory, ignore_cleanup_errors=True) as folder:
        base, port = Path(folder), free_port()
        process = subprocess.Popen(
            postfix_files.write(base, _SETTINGS, f"127.0.0.1:{port} inet n - n - - smtpd\n"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for(port, process, "Postfix")
            yield port
        finally:
            process.terminate()
            process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _child(module: str, *arguments: str) -> Iterator[int]:
    """A server of this package as a process that prints its port; it ends with its standard input."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.communicate()


@contextlib.contextmanager
def delayed(port: int, round_trip: float) -> Iterator[int]:
    """The port of a proxy before that server; the server's own port for a round trip of 0."""
    if not round_trip:
        yield port
        return
    with _child("proxy", str(port), str(round_trip)) as behind:
        yield behind


@contextlib.contextmanager
def blind_sink(authority: trustme.CA | None = None) -> Iterator[int]:
    """The blind sink as a process; with an authority it offers STARTTLS and AUTH."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        if authority is not None:
            issued = authority.issue_cert("localhost", "127.0.0.1")
            files = [os.path.join(folder, name) for name in ("chain.pem", "key.pem")]
            for blob in issued.cert_chain_pems:
                blob.write_to_path(files[0], append=True)
            issued.private_key_pem.write_to_path(files[1])
        with _child("blind", *files) as port:
            yield port


@contextlib.contextmanager
def one_processor() -> Iterator[bool]:
    """Keep this process, and those it starts, on one processor; false where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, allowed)


def round_trip(port: int, count: int = 15) -> float:
    """Seconds that NOOP takes: the middle one of so many."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.recv(4096)
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            sock.sendall(b"NOOP\r\n")
            sock.recv(4096)
            seconds.append(time.perf_counter() - start)
        sock.sendall(b"QUIT\r\n")
        sock.recv(4096)
    return statistics.median(seconds)
