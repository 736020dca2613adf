"""An interrupt at a place of our choice: what a signal does, and each time at the same one."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from types import CodeType
from typing import Any


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, and no other."""


def interrupted(place: int, files: Collection[str], call: Callable[[], Any]) -> bool:
    """Call it, and interrupt it at the so-manieth place of these files at which CPython looks for signals.

    That is at the entry of a function, and behind a call of one that is written in C. Tells whether it came.
    """
    return _interrupted(place, lambda told: _each_look(files, told), call)


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
def _each_look(files: Collection[str], told: _Told) -> Iterator[None]:
    def look(frame: Any, event: str, _: Any) -> None:
        # A generator is also "called" to be closed, where no signal is seen.
        is_entry = event == "call" and not frame.f_code.co_flags & inspect.CO_GENERATOR
        if (is_entry or event == "c_return") and frame.f_code.co_filename in files:
            told()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


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
