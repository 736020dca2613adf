"""An interrupt wherever CPython looks for signals, in all that a thread does for the pool (FAULTS 96)."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.busy import until
from support.interrupts import interrupted
from support.patience import LONG
from support.pools import BODY, SENDER, mail, mails, pool_of

import pysmtpx
from pysmtpx import SendResult
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import MailServer

OWN = os.path.join(os.path.dirname(pysmtpx.__file__), "")
NOT_OWN = os.path.join(OWN, "testing", "")


def files() -> set[str]:
    """All of the package but the server."""
    names = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    return {name for name in names if name.startswith(OWN) and not name.startswith(NOT_OWN)}


def send(pool: SmtpPool) -> None:
    pool.send(SENDER, "a@x.example", BODY)


def lease(pool: SmtpPool) -> None:
    with pool.connection() as connection:
        connection.noop()


def submit(pool: SmtpPool) -> None:
    pool.submit(mail())


def send_many(pool: SmtpPool) -> None:
    outcomes = pool.send_many(mails(2))
    list(outcomes)


def places(step: int) -> Iterator[int]:
    return itertools.count(0, step)


@pytest.mark.parametrize(
    ("use", "step"),
    [
        pytest.param(use, step, id=use.__name__)
        for use, step in ((send, 1), (lease, 1), (submit, 1), (send_many, 3))
    ],
)
def test_whatever_is_interrupted_the_pool_can_be_used_afterwards(
    use: Callable[[SmtpPool], None], step: int
) -> None:
    """Neither is a connection or a place in the line lost, nor does the thread count as within a callback."""
    with MailServer(strict=False, keep=False) as server, pool_of(server, max_connections=1) as pool:
        watched = files()
        use(pool)
        for place in places(step):
            if not interrupted(place, watched, lambda: use(pool)):
                break
            assert_usable(pool, place)
        assert place > 40


def assert_usable(pool: SmtpPool, place: Any) -> None:
    assert isinstance(pool.send(SENDER, "b@x.example", BODY, timeout=LONG), SendResult), place
    with pool.connection(timeout=LONG) as connection:
        assert connection.noop().code == 250
    assert [each.status for each in pool.send_many(mails(1), timeout=LONG)] == ["accepted"], place
    # A worker for which nothing is left may wait for another moment.
    until(lambda: not (pool.stats().queued or pool.stats().under_way or pool.stats().waiting))
    assert pool.stats().connections <= 1, place
    assert not pool.stats().dialling, place


def test_the_first_call_which_dials() -> None:
    """The thread of the dial may be started or not."""
    with MailServer(strict=False, keep=False) as server:
        watched = files()
        for place in itertools.count(0, 2):
            with pool_of(server, max_connections=1) as pool:
                came = interrupted(place, watched, lambda pool=pool: send(pool))
                assert isinstance(pool.send(SENDER, "b@x.example", BODY, timeout=LONG), SendResult), place
                now = pool.stats()
                assert (now.connections, now.dialling, now.waiting) == (1, 0, 0), place
            if not came:
                break
        assert place > 60


def test_closing_a_pool() -> None:
    """A second ``close`` ends what the first one has left."""
    with MailServer(strict=False, keep=False) as server:
        watched = files()
        for place in itertools.count():
            pool = SmtpPool(server.url, max_connections=1)
            futures = [pool.submit(each) for each in mails(3)]
            came = interrupted(place, watched, lambda pool=pool: pool.close(5.0))
            pool.close(5.0)
            assert all(future.done() for future in futures), place
            now = pool.stats()
            assert (now.connections, now.queued, now.under_way) == (0, 0, 0), place
            if not came:
                break
        assert place > 30
