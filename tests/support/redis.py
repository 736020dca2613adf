"""A redis-server of a test's own: at a UNIX socket, in memory alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from .daemon import START_LIMIT, Daemon, wait_until


def require_program(name: str) -> str:
    """Return where a program is; skip where it is missing, or fail where CI is set."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", ""))
    if path is not None:
        return path
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"Missing here: {name}, and CI demands the real servers")
    pytest.skip(f"Missing here: {name}")


class RedisServer:
    """It answers from the constructor on, until ``stop``."""

    def __init__(self) -> None:
        program = require_program("redis-server")
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-redis-"))
        self.socket = folder / "redis.sock"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
        }
        command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        self._daemon = Daemon(command, folder, folder / "log")
        try:
            wait_until(self._answers, START_LIMIT, "redis-server answers")
        except BaseException:
            print(self.log_text())
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where it is, for Celery: as its broker, and for results."""
        return f"redis+socket://{self.socket}"

    def log_text(self) -> str:
        """Return what it has logged so far."""
        return self._daemon.log_text()

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        return False
