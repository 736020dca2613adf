"""A connection in the hands of another thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from support.fates import RCPTS, SENDER, attempt

from pysmtpx import SmtpConnection


class Held:
    """Content that begins, and goes on when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"Subject: held\r\n\r\n"
        self.begun.set()
        assert self.go.wait(10)
        yield b"end\r\n"


@contextlib.contextmanager
def busy(conn: SmtpConnection) -> Iterator[tuple[Held, list[Any]]]:
    """The connection in the hands of another thread, in the middle of a message."""
    held, outcome = Held(), list[Any]()
    thread = threading.Thread(target=lambda: outcome.append(attempt(conn.send, SENDER, RCPTS, iter(held))))
    thread.start()
    assert held.begun.wait(10)
    try:
        yield held, outcome
    finally:
        held.go.set()
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.0005)
