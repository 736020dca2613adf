"""An interrupt at each bytecode of what a thread notes down about the mail that it serves (FAULTS 96)."""

from __future__ import annotations

import itertools

from support.interrupts import interrupted_within
from support.pools import BODY, SENDER, mails, pool_of

from pysmtpx import SendResult
from pysmtpx.pooling import worker
from pysmtpx.testing import MailServer

WATCHED = frozenset(
    function.__code__
    for function in (
        worker.serve,
        worker._in_service,
        worker._stack,
        worker._Service.end,
        worker._Service._return,
        worker._Service._put_down,
    )
)


def test_whatever_is_interrupted_the_thread_can_use_the_pool_afterwards() -> None:
    """Neither does ``send_many`` believe itself in a callback, nor is a connection lost to the pool."""
    with MailServer(strict=False, keep=False) as server, pool_of(server, max_connections=1) as pool:
        for place in itertools.count():
            if not interrupted_within(place, WATCHED, lambda: pool.send(SENDER, "a@x.example", BODY)):
                break
            assert [each.status for each in pool.send_many(mails(1))] == ["accepted"], place
            assert isinstance(pool.send(SENDER, "b@x.example", BODY, timeout=5.0), SendResult), place
            now = pool.stats()
            assert now.connections - now.idle <= 1, place
            assert not now.dialling
        assert place > 100
