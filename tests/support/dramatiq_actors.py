"""A broker of Dramatiq's for tests, and the worker processes that serve it."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

import pysmtpx
from pysmtpx.contrib.dramatiq import register
from pysmtpx.journal import sql, statements

from .daemon import Daemon, wait_until
from .workers import WorkerProcess

_PLACE = "PYSMTPX_TEST_DRAMATIQ"
_TESTS = Path(__file__).parent.parent
_HEARTBEATS = 3000
"""Milliseconds without a word after which what a worker had taken is handed out again."""


def make_broker(socket: str) -> RedisBroker:
    """A broker at this socket, which looks at every command for workers that have died."""
    client: Any = Redis(unix_socket_path=socket)
    broker = RedisBroker(client=client, heartbeat_timeout=_HEARTBEATS, maintenance_chance=1_000_000)
    broker.add_middleware(Results(backend=RedisBackend(client=client)))
    return broker


def server() -> pysmtpx.Server:
    """Where to send; EHLO says which process it is, so that a test can end just that one."""
    url = json.loads(os.environ[_PLACE])[1]
    return pysmtpx.Server.from_url(url, local_hostname=f"pid-{os.getpid()}.example")


class DramatiqWorker(WorkerProcess):
    """``dramatiq`` with one process of two threads, and a keeper that ends it in any case."""

    def __init__(self, socket: Path, mail_url: str, journal: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-dramatiq-"))
        place = json.dumps([str(socket), mail_url, str(journal)])
        pairs = [f"{_PLACE}={place}", f"PYTHONPATH={_TESTS.parent}:{_TESTS}"]
        self._pid_file = folder / "pid"
        options = ["--processes", "1", "--threads", "2", "--pid-file", str(self._pid_file)]
        command = [sys.executable, "-m", "dramatiq", "support.dramatiq_actors", *options]
        self._daemon = Daemon(["env", *pairs, *command], folder, folder / "log")

    def kill(self) -> None:
        """End all its processes without a word, as a machine does that goes down."""
        wait_until(self._pid_file.exists, 60, "the worker has started")
        os.killpg(int(self._pid_file.read_text()), signal.SIGKILL)


if _PLACE in os.environ:
    _socket, _url, _journal = json.loads(os.environ[_PLACE])
    # Whoever is killed holds nothing for a minute: the next one may look at once.
    statements.LEASE = sql.LEASE = 0.0  # type: ignore[misc]
    dramatiq.set_broker(make_broker(_socket))
    register(
        dramatiq.get_broker(),
        server,
        retry=pysmtpx.RetryPolicy(attempts=3, backoff=0.05, temporary=True),
        timeout=30,
        actor_options={"store_results": True},
        journal=_journal,
    )
