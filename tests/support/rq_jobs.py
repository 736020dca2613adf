"""What RQ's workers import in tests, and the worker processes that do."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pysmtpx
from pysmtpx.contrib.rq import register

from .daemon import Daemon
from .workers import WorkerProcess

_SERVER = "PYSMTPX_TEST_SERVER"
_TESTS = Path(__file__).parent.parent


def server() -> pysmtpx.Server:
    """Where to send; EHLO says which process it is, so that a test can end just that one."""
    return pysmtpx.Server.from_url(os.environ[_SERVER], local_hostname=f"pid-{os.getpid()}.example")


QUICK = pysmtpx.RetryPolicy(attempts=3, backoff=0.5, temporary=True)
send = register(f"{__name__}.send", server, retry=QUICK, timeout=30)
send_again = register(f"{__name__}.send_again", server, retry=QUICK, timeout=30, resend_killed=True)
send_once = register(f"{__name__}.send_once", server, retry=pysmtpx.RetryPolicy(attempts=1), timeout=30)


class RqWorker(WorkerProcess):
    """``rq worker`` with a scheduler, and a keeper that ends it in any case."""

    def __init__(
        self, redis_socket: Path, mail_url: str, kind: str = "Worker", serializer: str = "pickle"
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-rq-"))
        pairs = [f"{_SERVER}={mail_url}", f"PYTHONPATH={_TESTS.parent}:{_TESTS}"]
        options = ["--with-scheduler", "--url", f"unix://{redis_socket}", "--serializer", serializer]
        options += ["--worker-class", f"rq.worker.{kind}"]
        rq = [sys.executable, "-m", "rq.cli", "worker", *options, "mail"]
        self._daemon = Daemon(["env", *pairs, *rq], folder, folder / "log")
