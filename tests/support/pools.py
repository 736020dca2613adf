"""Pools for tests, and servers that hold an answer back until the test says so."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pysmtpx import MailObject, SmtpError
from pysmtpx.contrib.pools import close_pools
from pysmtpx.pool import SmtpPool
from pysmtpx.retry import RetryPolicy
from pysmtpx.testing import Event, MailServer

BODY = b"Subject: x\r\n\r\nhello\r\n"
SENDER = "s@x.example"
ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(backoff=0.0)


def mail(*recipients: str, body: Any = BODY) -> MailObject:
    return MailObject(SENDER, recipients or ("a@x.example",), body)


def mails(count: int) -> list[MailObject]:
    return [mail(f"r{number}@x.example") for number in range(count)]


@contextlib.contextmanager
def pool_of(*servers: MailServer, **options: Any) -> Iterator[SmtpPool]:
    """A pool that is shut down at once at the end, whatever hangs."""
    options.setdefault("retry", AT_ONCE)
    pool = SmtpPool([server.url for server in servers], **options)
    try:
        yield pool
    finally:
        pool.close(0)


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call returns, or the SmtpError that it raises."""
    try:
        return call(*args, **options)
    except SmtpError as error:
        return error


def fates(what: Any) -> dict[str, str]:
    """The one fate of each recipient."""
    named = [(path, "accepted") for path in what.accepted_recipients]
    named += [(entry.recipient, f"rejected {entry.reply.code}") for entry in what.rejected_recipients]
    named += [(path, "unknown") for path in getattr(what, "unknown_recipients", ())]
    named += [(path, "unsent") for path in getattr(what, "unsent_recipients", ())]
    assert len(dict(named)) == len(named), f"a recipient has two fates: {named}"
    return dict(named)


class Hold:
    """A verdict that lets the server wait at one verb until ``go`` is set."""

    def __init__(self, verb: str, when: Callable[[Event], bool] = lambda event: True) -> None:
        self.verb = verb
        self.go = threading.Event()
        self._when = when
        self._changed = threading.Condition()
        self._reached = 0

    def __call__(self, event: Event) -> None:
        if event.verb == self.verb and self._when(event):
            with self._changed:
                self._reached += 1
                self._changed.notify_all()
            assert self.go.wait(60)

    def wait_for(self, count: int = 1) -> None:
        """Wait until so many have come to it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._reached >= count, 20), self._reached


def open_now(server: MailServer) -> int:
    """Connections that are open just now, as the server sees it."""
    return sum(not connection.ending for connection in server.ledger.connections)


def connected_to(port: int) -> int:
    """How many descriptors of this process are connected to a port (looks in /proc)."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, IndexError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(number))) as sock:
                    count += sock.getpeername()[1] == port
    return count


class Watermark:
    """A verdict that counts how many sessions are open at once."""

    def __init__(self, server: Callable[[], MailServer], inner: Any = None) -> None:
        self._server = server
        self._inner = inner
        self._lock = threading.Lock()
        self.highest = 0

    def __call__(self, event: Event) -> Any:
        if event.verb == "CONNECT":
            with self._lock:
                self.highest = max(self.highest, open_now(self._server()))
        return None if self._inner is None else self._inner(event)


def in_threads(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Call in so many threads at once; what each returned or raised."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = call(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def shared_pools_end() -> Iterator[None]:
    """The pools that faces share end with a test: a fixture, where one is made of it."""
    yield
    close_pools(0)
