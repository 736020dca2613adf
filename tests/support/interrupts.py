"""An interrupt at a place of our choice: what a signal does, and each time at the same one."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from types import CodeType
from typing import Any, Final

_NEVER: Final = (
    "try:",
    "finally:",
    "with self._lock:",
    "if mine and self._tenant is None:",
    "self._holder = None",
    "self._lock.release()",
)
"""Lines before which no signal is seen: that is at the begin of a function, behind a call of one that is not
Python's, and at a jump back. Those of the channel that give the line back are written by this."""


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, and no other."""


def interrupted(place: int, files: Collection[str], call: Callable[[], Any]) -> bool:
    """Call it, and interrupt it before the so-manieth line of these files; whether it came to that."""
    return _interrupted(place, lambda told: _each_line(files, told), call)


def interrupted_within(place: int, codes: Collection[CodeType], call: Callable[[], Any]) -> bool:
    """Call it, and interrupt it before the so-manieth bytecode of these; whether it came to that."""
    return _interrupted(place, lambda told: _each_bytecode(codes, told), call)


_Told = Callable[[], None]
_Watch = Callable[[_Told], contextlib.AbstractContextManager[None]]


def _interrupted(place: int, watch: _Watch, call: Callable[[], Any]) -> bool:
    left = itertools.count(place, -1)
    came = False

    def told() -> None:
        nonlocal came
        if next(left) == 0:
            came = True
            raise Interrupt

    try:
        with watch(told):
            call()
    except Interrupt:
        assert came
        return True
    assert not came, "the interrupt was swallowed"
    return False


@contextlib.contextmanager
def _each_line(files: Collection[str], told: _Told) -> Iterator[None]:
    """Tell of each line of these files that this thread is about to run."""

    def trace(frame: Any, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in files:
            return None
        is_work = linecache.getline(name, frame.f_lineno).partition("#")[0].strip() not in _NEVER
        if event == "line" and is_work:
            told()
        return trace

    with _traced(trace):
        yield


@contextlib.contextmanager
def _each_bytecode(codes: Collection[CodeType], told: _Told) -> Iterator[None]:
    """Tell of each bytecode of these that this thread is about to run."""

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            told()
        return trace

    # With settrace, 3.12 and 3.13 leave some bytecodes out, depending on what was traced before.
    with _traced(trace) if sys.version_info < (3, 12) else _monitored(codes, told):
        yield


@contextlib.contextmanager
def _traced(trace: Any) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _monitored(codes: Collection[CodeType], told: _Told) -> Iterator[None]:
    thread = threading.get_ident()

    def instruction(_: CodeType, __: int) -> None:
        if threading.get_ident() == thread:
            told()

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
