"""An interrupt at each bytecode of what a thread notes down about the mail that it serves (FAULTS 96)."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
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

    def bytecode() -> None:
        nonlocal came
        if not came and next(left) <= 0:
            came = True
            raise Interrupt

    with contextlib.suppress(Interrupt), each_bytecode(codes, bytecode):
        call()
    return came


@contextlib.contextmanager
def each_bytecode(codes: frozenset[CodeType], told: Callable[[], None]) -> Iterator[None]:
    """Tell of each bytecode of these that this thread is about to run."""
    thread = threading.get_ident()

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            told()
        return trace

    def instruction(_: CodeType, __: int) -> None:
        if threading.get_ident() == thread:
            told()

    if sys.version_info < (3, 12):
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)
        return
    # With settrace, 3.12 and 3.13 leave some bytecodes out, depending on what was traced before.
    monitoring, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
    monitoring.use_tool_id(tool, "interrupts")
    try:
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, instruction)
        for code in codes:
            monitoring.set_local_events(tool, code, monitoring.events.INSTRUCTION)
        yield
    finally:
        for code in codes:
            monitoring.set_local_events(tool, code, 0)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)


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
