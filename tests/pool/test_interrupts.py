"""An interrupt at each bytecode of what a thread notes down about the mail that it serves (FAULTS 96)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from support.interrupts import Interrupt
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


def interrupted_at(place: int, codes: frozenset[CodeType], call: Callable[[], Any]) -> bool:
    """Call it, and interrupt it before the so-manieth bytecode of these; whether it came to that."""
    left = itertools.count(place, -1)
    came = False

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal came
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and not came and next(left) <= 0:
            came = True
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return came


def test_whatever_is_interrupted_the_thread_can_use_the_pool_afterwards() -> None:
    """Neither does ``send_many`` believe itself in a callback, nor is a connection lost to the pool."""
    with MailServer(strict=False, keep=False) as server, pool_of(server, max_connections=1) as pool:
        for place in itertools.count():
            if not interrupted_at(place, WATCHED, lambda: pool.send(SENDER, "a@x.example", BODY)):
                break
            assert [each.status for each in pool.send_many(mails(1))] == ["accepted"], place
            assert isinstance(pool.send(SENDER, "b@x.example", BODY, timeout=5.0), SendResult), place
            now = pool.stats()
            assert now.connections - now.idle <= 1, place
            assert not now.dialling
        assert place > 100
