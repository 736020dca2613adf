"""What a test can leave behind: threads, child processes, sockets, and a log that says more."""

from __future__ import annotations

import gc
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GRACE = 5.0
"""Seconds that a thread or process which is already on its way out may still take."""


class Snapshot:
    """The threads, child processes, sockets and levels of logs at one moment."""

    def __init__(self) -> None:
        self.threads = set(threading.enumerate())
        self.children = _children()
        self.sockets = _sockets()
        self.levels = _levels()

    def leftovers(self) -> list[str]:
        """Describe what is there now and was not then; waits a little for what is just ending."""
        limit = time.monotonic() + GRACE
        for thread in set(threading.enumerate()) - self.threads:
            thread.join(max(0.0, limit - time.monotonic()))
        found = [f"thread {t.name!r}" for t in set(threading.enumerate()) - self.threads]
        found += [f"process {pid}: {_command(pid)}" for pid in _children() - self.children]
        if _sockets() - self.sockets:
            gc.collect()  # in a cycle: its ResourceWarning now names it
            found += sorted(_sockets() - self.sockets)
        for name, level in _levels().items():
            if level != self.levels.get(name, level):
                found.append(f"level {level} of the log {name!r}")
        return found


@contextmanager
def log_as_before(name: str) -> Iterator[None]:
    """Put level and handlers of this log back at the end."""
    log = logging.getLogger(name)
    level, handlers = log.level, list(log.handlers)
    try:
        yield
    finally:
        log.setLevel(level)
        log.handlers[:] = handlers


def _levels() -> dict[str, int]:
    return {name: logging.getLogger(name).level for name in ("pysmtpx", "pysmtpx.wire")}


def _children() -> set[int]:
    pids: set[int] = set()
    for task in _listing("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", "rb", 0) as file:
                pids.update(map(int, file.read().split()))
        except OSError:  # the thread has ended, or the kernel does not tell
            continue
    return pids


def _sockets() -> set[str]:
    """By the number that the kernel gave each; a link of ``/proc`` takes five times as long to read."""
    found: set[str] = set()
    for descriptor in _listing("/proc/self/fd"):
        try:
            status = os.fstat(int(descriptor))
        except OSError:  # the descriptor of the listing itself
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add(f"socket:[{status.st_ino}]")
    return found


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() or "(ended, not waited for)"
        )
    except OSError:
        return "(ended)"
