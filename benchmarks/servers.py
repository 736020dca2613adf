"""A real Postfix that throws all mail away, the delay proxy and the blind sink, each ended here."""

from __future__ import annotations

import contextlib
import os
import shutil
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

from .sink import free_port, wait_for

POSTFIX = "/usr/lib/postfix/sbin/master"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/postfix.log
maillog_file_prefixes = {base}
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps =
alias_maps =
alias_database =
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
in_flow_delay = 0
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
_QUEUES = "active bounce corrupt defer deferred flush hold incoming private saved trace"


def has_postfix() -> bool:
    """Whether a Postfix can be started here: only root can."""
    return os.access(POSTFIX, os.X_OK) and os.geteuid() == 0


def _make_folders(base: Path) -> None:
    base.chmod(0o755)
    for name in ("etc", "data", "queue", "queue/pid"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix")
    folders = [(name, 0o700, "root") for name in _QUEUES.split()]
    for name, mode, group in [*folders, ("maildrop", 0o730, "postdrop"), ("public", 0o710, "postdrop")]:
        folder = base / "queue" / name
        folder.mkdir()
        shutil.chown(folder, "postfix", group)
        folder.chmod(mode)


@contextlib.contextmanager
def postfix() -> Iterator[int]:
    """A Postfix of our own on a free port; its queue is in memory where that can be had."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory, ignore_cleanup_errors=True) as folder:
        base, port = Path(folder), free_port()
        _make_folders(base)
        (base / "etc/main.cf").write_text(_MAIN.format(base=base))
        (base / "etc/master.cf").write_text(_MASTER.format(port=port))
        process = subprocess.Popen(
            [POSTFIX, "-c", str(base / "etc"), "-s"],
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
