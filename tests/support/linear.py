"""Whether something takes time in proportion to the length of what it is given."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from time import process_time

from pysmtpx.errors import SmtpError

_SHORT, _LONG = 5_000, 50_000
"""Characters."""
_FLOOR = 0.001
"""Seconds; below that a clock tells nothing."""
_RATIO = 30
"""For ten times the length. Linear is 10, quadratic is 100; the rest is for caches and other processes."""


def check(run: Callable[[str], object], pattern: str) -> None:
    """Assert that 50 kB cost less than thirty times what 5 kB cost, in time of this process.

    A ``SmtpError`` is as good an end as any. The best of three counts: what else runs on the machine only
    makes a measurement longer.
    """
    short, long = (filled(pattern, size) for size in (_SHORT, _LONG))
    for _ in range(3):
        taken = _seconds(run, long)
        limit = _RATIO * _FLOOR
        if taken >= limit:  # below that it is whatever the short text takes
            limit = max(limit, _RATIO * _seconds(run, short))
        if taken < limit:
            return
    raise AssertionError(f"{pattern[:40]!r}: {taken:.2f} s for 50 kB, over {limit:.2f}")


def filled(pattern: str, size: int) -> str:
    """A text of this many characters: a beginning, up to ``|``, and then the rest over and over."""
    start, _, unit = pattern.rpartition("|")
    return start + unit * (size // len(unit))


def _seconds(run: Callable[[str], object], text: str) -> float:
    gc.disable()  # a collection looks at all that the process holds
    try:
        begin = process_time()
        with suppress(SmtpError):
            run(text)
        return process_time() - begin
    finally:
        gc.enable()
