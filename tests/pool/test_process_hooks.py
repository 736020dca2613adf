"""Pools, seen by a process that forks or ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.pools import BODY, SENDER, mails, pool_of

from pysmtpx.lock import Wakeup
from pysmtpx.pooling import process
from pysmtpx.testing import MailServer

ROOT = Path(__file__).parent.parent.parent


class Clock:
    """Time that goes on only while somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        monkeypatch.setattr(process, "now", lambda: self.time)
        clock = self

        class Waited(Wakeup):
            def wait(self, seconds: float) -> bool:
                clock.time += min(seconds, 0.4)
                return True

        monkeypatch.setattr(process, "Wakeup", Waited)


class Living:
    """A pool that says how it is, and notes what it is told."""

    def __init__(self, outcomes: int = 0, every: int = 1) -> None:
        self.told: list[str] = []
        self._left = outcomes
        self._every = every
        self._asked = 0

    def after_fork(self) -> None:
        self.told.append("fork")

    def take_leave(self, wakeup: Wakeup) -> None:
        self.told.append("leave")

    @property
    def is_quiet(self) -> bool:
        return self._left == 0

    @property
    def outcomes_count(self) -> int:
        self._asked += 1
        if self._left > 0 and self._asked % self._every == 0:
            self._left -= 1
        return -self._left

    def give_up(self) -> None:
        self.told.append("give up")

    def close_idle(self) -> None:
        self.told.append("close idle")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(process, "_pools", set())
    return Clock(monkeypatch)


def test_it_goes_on_while_outcomes_arrive(clock: Clock) -> None:
    """FAULTS 94."""
    pool = Living(outcomes=50, every=2)
    process._pools.add(pool)
    process.end_workers()
    assert pool.is_quiet
    assert pool.told == ["leave", "give up"]
    assert clock.time > 5 * process.QUIET


def test_it_gives_up_a_second_after_the_last_one(clock: Clock) -> None:
    """FAULTS 94."""
    hung, done = Living(outcomes=-1), Living()
    process._pools.update((hung, done))
    process.end_workers()
    assert hung.told == done.told == ["leave", "give up"]
    assert process.QUIET <= clock.time < 2 * process.QUIET


def test_no_pool_no_wait(clock: Clock) -> None:
    process.end_workers()
    assert clock.time == 0


AT_THE_END = """
import atexit, sys, threading, pysmtpx
pool = pysmtpx.SmtpPool(sys.argv[1])
mail = pysmtpx.MailObject("a@x.example", "b@x.example", b"Subject: x\\r\\n\\r\\n")
def last():
    try:
        pool.submit(mail)
    except pysmtpx.UsageError as error:
        print("submit:", error)
    pool.send("a@x.example", "last@x.example", b"Subject: x\\r\\n\\r\\n")
    print("sent")
atexit.register(last)
pool.submit(mail)
"""


def test_at_exit_submit_says_so_and_a_send_works() -> None:
    """FAULTS 94."""
    with MailServer() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", AT_THE_END, server.url],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("submit: the process is ending")
        assert done.stdout.endswith("sent\n")
        assert [each.addresses for each in server.wait_for(2)] == [["b@x.example"], ["last@x.example"]]


def test_a_pool_that_nobody_has_is_forgotten() -> None:
    with MailServer() as server, pool_of(server) as pool:
        engine = pool._engine
        assert engine in process._pools
    del pool, engine
    import gc

    gc.collect()
    assert not any(getattr(each, "is_closed", False) is False for each in process._pools)


def _in_child(act: object) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(15)
            act()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("which", ["queue", "connections", "outcomes", "rate", "process"])
def test_no_lock_that_was_held_at_the_fork_is_held_in_the_child(which: str) -> None:
    """FAULTS 95."""
    with MailServer() as server, pool_of(server, rate=1e6) as pool:
        engine = pool._engine
        locks = {
            "queue": engine.queue._lock,
            "connections": engine.connections._lock,
            "outcomes": engine.outcomes._lock,
            "rate": engine.rate._lock,  # type: ignore[union-attr]
        }
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            with locks[which]:
                held.set()
                go.wait(30)

        thread = threading.Thread(target=hold)
        if which in locks:
            thread.start()
            assert held.wait(20)

        def act() -> None:
            pool.send(SENDER, "child@x.example", BODY)
            pool.submit(mails(1)[0]).result(20)
            assert pool.stats().accepted == 2
            pool.close()

        try:
            assert _in_child(act) == 0
        finally:
            go.set()
            if which in locks:
                thread.join()
        pool.send(SENDER, "parent@x.example", BODY)


def test_a_closed_pool_is_closed_in_the_child() -> None:
    with MailServer() as server, pool_of(server) as pool:
        pool.close()
        assert pool.closed
        assert _in_child(lambda: pool.close()) == 0


def test_a_child_does_not_end_what_its_parent_has_open() -> None:
    """FAULTS 95: nothing is written on an inherited connection, and nothing shuts it down."""
    with MailServer() as server, pool_of(server) as pool:
        pool.send(SENDER, "a@x.example", BODY)
        assert _in_child(pool.close) == 0
        pool.send(SENDER, "b@x.example", BODY)
        assert {each.connection for each in server.wait_for(2)} == {0}
