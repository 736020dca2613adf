"""Shared pools: one for each configuration, whatever threads, forks and ends do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from support.pools import BODY, SENDER, in_threads

from pysmtpx.contrib import pools
from pysmtpx.contrib.pools import close_pools, shared_pool
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import MailServer


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_pools(0)


def of(server: MailServer, key: object = "key") -> SmtpPool:
    return shared_pool(key, lambda: SmtpPool(server.url))


def test_one_for_each_key() -> None:
    with MailServer() as server:
        assert of(server) is of(server)
        assert of(server, "other") is not of(server)


def test_threads_that_come_at_once_get_the_same() -> None:
    made: list[SmtpPool] = []
    barrier = threading.Barrier(5)

    def make() -> SmtpPool:
        barrier.wait(20)  # all of them make one
        made.append(SmtpPool("localhost"))
        return made[-1]

    found = in_threads(5, lambda _: shared_pool("key", make))
    assert len(set(map(id, found))) == 1
    assert len(made) == 5
    assert [pool.closed for pool in made].count(False) == 1
    assert not found[0].closed


def test_making_one_may_ask_for_another() -> None:
    """An option is a dotted path, and the module behind it may send mail when it is imported."""

    def make() -> SmtpPool:
        shared_pool("inner", lambda: SmtpPool("localhost"))
        return SmtpPool("localhost")

    assert shared_pool("outer", make) is shared_pool("outer", make)


def test_what_make_raises_is_raised_and_nothing_is_kept() -> None:
    with pytest.raises(ZeroDivisionError):
        shared_pool("key", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with MailServer() as server:
        assert of(server).send(SENDER, "a@x.example", BODY)


def test_a_closed_pool_is_made_anew() -> None:
    with MailServer() as server:
        first = of(server)
        first.close()
        assert of(server) is not first
        second = of(server)
        second.send(SENDER, "a@x.example", BODY)
        close_pools()
        assert second.closed
        assert server.ledger.wait_until(lambda: server.ledger.commands[0][-1] == "QUIT", 5)


def test_pools_that_nobody_asks_for_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each tenant must not keep a connection to each for ever."""
    moment = [1000.0]
    monkeypatch.setattr(pools, "now", lambda: moment[0])
    with MailServer() as server:
        old = [of(server, number) for number in range(pools.MOST + 3)]
        old[0].send(SENDER, "a@x.example", BODY)
        assert not any(pool.closed for pool in old)
        moment[0] += pools.REST / 2
        assert of(server, 1) is old[1]
        moment[0] += pools.REST / 2 + 1
        with old[2].connection():  # it is at work
            new = of(server, "new")
            closed = [number for number, pool in enumerate(old) if pool.closed]
        assert closed == [0, 3, 4, 5]
        assert of(server, "new") is new
        assert of(server, 1) is old[1]
        assert of(server, 2) is old[2]
        assert of(server, 0) is not old[0]


def test_a_fork_while_another_thread_holds_the_lock() -> None:
    with MailServer() as server:
        pool = of(server)
        pool.send(SENDER, "a@x.example", BODY)
        with pools._lock:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if of(server) is pool and pool.send(SENDER, "c@x.example", BODY) else 1
                finally:
                    os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert [message.connection for message in server.messages] == [0, 1]


def test_they_are_closed_when_the_process_ends() -> None:
    code = (
        "import sys; from pysmtpx.contrib.pools import shared_pool; from pysmtpx.pool import SmtpPool\n"
        "pool = shared_pool('key', lambda: SmtpPool(sys.argv[1]))\n"
        "pool.send('s@x.example', 'a@x.example', b'Subject: x\\r\\n\\r\\n')\n"
    )
    with MailServer() as server:
        subprocess.run([sys.executable, "-W", "error", "-c", code, server.url], check=True, timeout=30)
        expected = [["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]]
        assert server.ledger.wait_until(lambda: server.ledger.commands == expected, 5)


def test_a_handler_of_signals_may_come_at_any_point() -> None:
    """One that sends, or closes the pools, while its own thread is in here."""
    with MailServer() as server, pools._lock:
        assert pools._lock.acquire(blocking=False)  # else the rest would wait for ever
        pools._lock.release()
        assert of(server).send(SENDER, "a@x.example", BODY)
        close_pools(0)
