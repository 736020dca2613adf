"""Time on a machine that is busy with other things: how long silence is waited for, and what is late."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

ENOUGH = 1.5
"""Seconds of a call that ends by a server's silence. All that comes before the silence must fit in."""
LONG = 20.0
"""Seconds of a call that waits for nothing: no test fails for a machine that stood still for a while."""

_TRIES = 5
_Test = TypeVar("_Test", bound=Callable[..., None])


class Late(AssertionError):
    """Something ended later than it should have; perhaps for what else the machine had to do."""


def on_time(began: float, ended: float, seconds: float, late: float) -> None:
    """Assert that it took so many seconds, and that it ended no later than ``late`` after them."""
    took = ended - began
    assert took >= seconds * 0.999, f"ended after {took:.3f} s, before its {seconds} s"
    if took > seconds + late:
        raise Late(f"ended after {took:.3f} s, and not within {late:.3f} s after its {seconds} s")


def at_best(test: _Test) -> _Test:
    """Let the best of five runs of a test count: a busy machine only makes what it measures longer."""

    @functools.wraps(test)
    def run(*args: object, **options: object) -> None:
        for tries in range(1, _TRIES + 1):
            try:
                return test(*args, **options)
            except Late:
                if tries == _TRIES:
                    raise
        return None

    return run  # type: ignore[return-value]
