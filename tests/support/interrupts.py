"""An interrupt at a line of our choice: what a signal does, and each time at the same place."""

from __future__ import annotations

import itertools
import linecache
import sys
from collections.abc import Callable, Collection
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
    left = itertools.count(place, -1)
    came = False

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal came
        name = frame.f_code.co_filename
        if name not in files:
            return None
        is_work = linecache.getline(name, frame.f_lineno).partition("#")[0].strip() not in _NEVER
        if event == "line" and is_work and next(left) == 0:
            came = True
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        assert came
        return True
    finally:
        sys.settrace(before)
    assert not came, "the interrupt was swallowed"
    return False
