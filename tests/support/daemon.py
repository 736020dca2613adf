"""A server program that a test starts, watches and ends by its own process id."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

START_LIMIT = 60.0
"""Seconds until a server must answer."""

_RANDOM = random.SystemRandom()
_kept = socket.socket()
_kept.bind(("127.0.0.1", 0))
atexit.register(_kept.close)
CLOSED_PORT: int = _kept.getsockname()[1]
"""A port of 127.0.0.1 that nobody listens on, and that no other process of the tests is given."""


def require(*files: str) -> None:
    """Skip where a file, mostly a program, is missing or this is not root; fail instead where CI is set."""
    require_files(*files)
    if os.geteuid() != 0:
        _skip("Only root can start a real mail server")


def require_files(*files: str) -> None:
    """Skip where a file, mostly a program, is missing; fail instead where CI is set. Any user may go on."""
    missing = [path for path in files if not os.access(path, os.R_OK)]
    if missing:
        _skip(f"Missing here: {', '.join(missing)}")


def _skip(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}, and CI demands the real servers")
    pytest.skip(reason)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, all of them different.

    Below those that the system gives to clients: one of these could be some connection's before the server
    that it is for has begun.
    """
    with contextlib.ExitStack() as stack:
        return [_free_port(stack) for _ in range(count)]


def _free_port(stack: contextlib.ExitStack) -> int:
    """Return a port that nobody else binds before the stack ends."""
    while True:
        each = stack.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            each.bind(("127.0.0.1", _RANDOM.randrange(12_000, 32_000)))
            return int(each.getsockname()[1])


def wait_until(condition: Callable[[], bool], limit: float, what: str) -> None:
    """Return as soon as the condition holds; AssertionError after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.02)


_KEEPER = """
import os, shutil, signal, subprocess, sys
folder, log, *command = sys.argv[1:]
with open(log, "ab") as out:
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
    )
sys.stdin.read()
server.terminate()
try:
    server.wait(10)
except subprocess.TimeoutExpired:
    pass
try:
    os.killpg(server.pid, signal.SIGKILL)
except ProcessLookupError:
    pass
shutil.rmtree(folder)
"""


class Daemon:
    """A server in the foreground, under a keeper that ends it and removes its folder.

    The keeper does so when its standard input ends: at `stop`, and also where this process was killed.
    """

    def __init__(self, command: list[str], folder: Path, log: Path) -> None:
        self.log = log
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(folder), str(log), *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_for_port(self, *ports: int) -> None:
        """Return when every port of 127.0.0.1 is listened on."""
        for port in ports:
            try:
                wait_until(partial(_answers, port), START_LIMIT, f"port {port}")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log_text()}") from None

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def stop(self) -> None:
        """End the server and every process of its group, and remove its folder."""
        # Its end is not waited for without limit: any copy of the descriptor would keep it alive.
        self._keeper.communicate(timeout=START_LIMIT)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
