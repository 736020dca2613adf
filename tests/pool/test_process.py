"""A pool in a forked child, at the end of the interpreter, and under an interrupt."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.patience import LONG
from support.pools import BODY, SENDER, Hold, mails, pool_of

from pysmtpx import SmtpPool
from pysmtpx.pooling.fanout import FanOut
from pysmtpx.testing import MailServer, Stall

ROOT = Path(__file__).parent.parent.parent

AT_THE_END = """
import sys, time, pysmtpx
pool = pysmtpx.SmtpPool(sys.argv[1])
mail = pysmtpx.MailObject("a@x.example", "b@x.example", b"Subject: x\\r\\n\\r\\n")
for _ in range(int(sys.argv[2])):
    pool.submit(mail)
sys.stdin.readline()
print(time.time())
"""


def ended(server: MailServer, count: int, ready: Any) -> tuple[float, str]:
    """Seconds that a process took to end after its main thread did, and what it complained of."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", AT_THE_END, server.url, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert server.ledger.wait_until(ready, 20)
    import time

    out, err = process.communicate("\n", timeout=30)
    assert process.returncode == 0, err
    return time.time() - float(out), err


@pytest.mark.parametrize("stage", ["CONNECT", "MAIL", "FINAL"])
def test_the_interpreter_ends_although_every_worker_hangs(stage: str) -> None:
    """FAULTS 94: the process is gone within two seconds (the machine's own time is allowed for)."""
    with MailServer(replies={stage: Stall()}) as server:
        seconds, _ = ended(server, 20, lambda: len(server.ledger.connections) == 4)
    assert seconds < LONG, "an executor would wait for its hung workers for good"


def test_what_was_submitted_is_sent_before_the_interpreter_ends() -> None:
    """FAULTS 94: it goes on while outcomes arrive."""
    with MailServer() as server:
        ended(server, 200, lambda: server.ledger.count > 0)
        assert server.ledger.count == 200


@pytest.mark.parametrize("tls", ["none", "implicit"])
def test_a_forked_child_begins_with_an_empty_pool(tls: Any) -> None:
    """FAULTS 95: the child's mail goes over a connection of its own, and the parent's goes on."""
    options: dict[str, Any] = {}
    if tls != "none":
        options = {"ssl_context": certs.server_context(), "tls": tls}
    client = {"ssl_context": certs.client_context(), "tls": tls} if options else {}
    with MailServer(**options) as server, pool_of(server, **client) as pool:
        pool.send(SENDER, "parent@x.example", BODY)
        child = os.fork()
        if not child:
            code = 1
            try:
                assert pool.stats().connections == 0
                pool.send(SENDER, "child@x.example", BODY)
                pool.submit(mails(1)[0]).result(20)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        pool.send(SENDER, "parent@x.example", BODY)
        paths = [message.addresses[0] for message in server.wait_for(4)]
        assert sorted(paths) == ["child@x.example", "parent@x.example", "parent@x.example", "r0@x.example"]
        parents = {m.connection for m in server.messages if m.addresses == ["parent@x.example"]}
        assert len(parents) == 1


def test_a_fork_while_workers_send() -> None:
    """FAULTS 95: locks that other threads hold do not hang the child."""
    with MailServer() as server, pool_of(server) as pool:
        outcomes = pool.send_many(mails(300))
        next(outcomes)
        children = []
        for _ in range(5):
            child = os.fork()
            if not child:
                code = 1
                try:
                    signal.alarm(20)
                    pool.send(SENDER, "child@x.example", BODY)
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
        assert sum(outcome.status == "accepted" for outcome in outcomes) == 299
        assert len(server.messages) == 305


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, and no other."""


@pytest.fixture
def interrupt() -> Iterator[Any]:
    """Call it from any thread to interrupt the main one.

    Hypothesis counts collections of garbage by a function that the collector calls, and what is raised
    in there is lost: so none is made meanwhile.
    """

    def raise_it(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, raise_it)
    gc.disable()
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    gc.enable()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "FINAL"])
def test_an_interrupt_in_a_send_leaves_the_pool_usable(interrupt: Any, verb: str) -> None:
    """FAULTS 96."""
    hold = Hold(verb, lambda event: event.connection == 0)
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=1) as pool:
        thread = threading.Thread(target=lambda: (hold.wait_for(), interrupt()))
        thread.start()
        with pytest.raises(Interrupt):
            pool.send(SENDER, "a@x.example", BODY)
        thread.join()
        hold.go.set()
        assert pool.stats().connections == 0
        pool.send(SENDER, "b@x.example", BODY)


@pytest.mark.parametrize("is_late", [False, True])
def test_an_interrupt_in_send_many_leaves_nothing_running_and_names_those_in_doubt(
    interrupt: Any, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """FAULTS 96; also where the workers are faster than the caller that takes his messages back."""
    hold = Hold("FINAL")
    if is_late:
        monkeypatch.setattr(FanOut, "_withdraw", lambda self: None)
    with MailServer(verdict=hold) as server, pool_of(server, max_connections=2) as pool:
        thread = threading.Thread(target=lambda: (hold.wait_for(2), interrupt()))
        thread.start()
        with pytest.raises(Interrupt) as caught:
            list(pool.send_many(mails(20)))
        thread.join()
        now = pool.stats()
        assert (now.queued, now.under_way) == (0, 0)
        (note,) = caught.value.__notes__
        assert note.startswith("perhaps delivered: ")
        assert note.count("@x.example") == 2, "one on each connection"
        assert sum(c.transactions for c in server.ledger.connections[2:]) == 0, "none goes on elsewhere"
        hold.go.set()
        pool.send(SENDER, "b@x.example", BODY)


def test_leaving_the_block_by_an_interrupt_does_not_wait() -> None:
    """FAULTS 93, 96."""
    hold = Hold("FINAL")
    with MailServer(verdict=hold) as server:
        pool = SmtpPool(server.url).__enter__()
        futures = [pool.submit(each) for each in mails(6)]
        hold.wait_for()
        pool.__exit__(KeyboardInterrupt)
        assert all(future.done() for future in futures)
        hold.go.set()
