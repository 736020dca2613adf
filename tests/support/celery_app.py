"""A Celery app for tests, and the worker processes of one.

``python -m celery -A support.celery_app worker`` serves the app of the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import pools

import pysmtpx
from pysmtpx.contrib.celery import register
from pysmtpx.journal import sql, statements

from .daemon import Daemon, wait_until
from .workers import WorkerProcess

_BROKER, _SERVER, _JOURNAL = "PYSMTPX_TEST_BROKER", "PYSMTPX_TEST_SERVER", "PYSMTPX_TEST_JOURNAL"
_TESTS = Path(__file__).parent.parent

REDELIVERY = {"visibility_timeout": 8, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
"""A message that nobody acknowledged for 8 seconds goes to another worker; looked at every second."""
QUICK = pysmtpx.RetryPolicy(attempts=3, backoff=0.05, temporary=True)


@dataclass(frozen=True)
class Broker:
    """Where messages and results of an app are."""

    url: str
    results: str
    queue: str = "celery"
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, place: str | Broker) -> Broker:
        """That of the URL of a Redis, or of a folder: then messages and results are files in it."""
        if isinstance(place, Broker):
            return place
        if "://" in place:
            return cls(place, place, options=REDELIVERY)
        options: dict[str, Any] = {name: f"{place}/{name}" for name in ("data_folder_in", "control_folder")}
        options |= {"data_folder_out": options["data_folder_in"], "polling_interval": 0.02}
        for name in ("data_folder_in", "results"):
            Path(place, name).mkdir(exist_ok=True)
        return cls("filesystem://", f"file://{place}/results", options=options)


def make_app(broker: Broker) -> Celery:
    """Return an app of which nobody keeps more than a test needs."""
    app = Celery("tests", set_as_current=False)
    app.conf.update(
        broker_url=broker.url,
        result_backend=broker.results,
        task_default_queue=broker.queue,
        broker_transport_options=broker.options,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    return app


@contextlib.contextmanager
def closing_app(broker: str | Broker) -> Iterator[Celery]:
    """An app for this process, without sockets of it afterwards."""
    broker = Broker.of(broker)
    app = make_app(broker)
    try:
        yield app
    finally:
        if not broker.results.startswith("file:"):
            app.backend.result_consumer.stop()
            app.backend.client.connection_pool.disconnect()
        pools.reset()  # they belong to the URL: another app could be given a closed one
        app.close()


def server() -> pysmtpx.Server:
    """Where to send; EHLO says which process it is, so that a test can end just that one."""
    return pysmtpx.Server.from_url(os.environ[_SERVER], local_hostname=f"pid-{os.getpid()}.example")


def pid_of(ehlo: str) -> int:
    """The process that introduced itself so."""
    return int(ehlo.removeprefix("pid-").removesuffix(".example"))


class Worker(WorkerProcess):
    """A worker with two processes or threads, and a keeper that ends it in any case."""

    def __init__(
        self, broker: str | Broker, mail_url: str, pool: str = "prefork", journal: str | None = None
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-celery-"))
        place = json.dumps(asdict(Broker.of(broker)))
        environment = {_BROKER: place, _SERVER: mail_url, "PYTHONPATH": f"{_TESTS.parent}:{_TESTS}"}
        if journal is not None:
            environment[_JOURNAL] = journal
        pairs = [f"{name}={value}" for name, value in environment.items()]
        self._pid_file = folder / "pid"
        # The shell tells its id, and goes on as the worker.
        start = [
            "/bin/sh",
            "-c",
            'echo $$ >"$0.new" && mv "$0.new" "$0" && exec env "$@"',
            str(self._pid_file),
        ]
        options = ["--pool", pool, "--concurrency", "2", "--loglevel", "INFO"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        celery = [sys.executable, "-m", "celery", "-A", "support.celery_app", "worker", *options, *quiet]
        self._daemon = Daemon([*start, *pairs, *celery], folder, folder / "log")

    @property
    def pid(self) -> int:
        """The process that the others belong to."""
        wait_until(self._pid_file.exists, 60, "the worker has started")
        return int(self._pid_file.read_text())

    def kill(self) -> None:
        """End all its processes without a word, as a machine does that goes down."""
        os.killpg(self.pid, signal.SIGKILL)


if _BROKER in os.environ:
    app = make_app(Broker(**json.loads(os.environ[_BROKER])))
    here: Any = f"{__name__}:server"
    register(app, here, retry=QUICK, timeout=20)
    register(app, here, name="mail.once", retry=pysmtpx.RetryPolicy(attempts=1), timeout=20)
    register(app, here, name="mail.careful", retry=QUICK, timeout=20, resend_redelivered=False)
    if _JOURNAL in os.environ:
        # Whoever is killed holds nothing for a minute: the next one may look at once.
        statements.LEASE = sql.LEASE = 0.0
        register(app, here, name="mail.recorded", retry=QUICK, timeout=60, journal=os.environ[_JOURNAL])
