"""The lock that an interrupt cannot leave behind, wherever CPython looks for signals (FAULTS 96)."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable

import pytest
from support.interrupts import interrupted, interrupted_within
from support.pools import in_threads

from pysmtpx import lock as locks
from pysmtpx.lock import Busy, Lock, Wakeup


def soon() -> float:
    return 1.0


def is_free(lock: Lock) -> bool:
    """As another thread sees it."""

    def look(_: int) -> bool:
        if acquired := lock.acquire(blocking=False):
            lock.release()
        return acquired

    (found,) = in_threads(1, look)
    assert isinstance(found, bool)
    return found


def short_step(lock: Lock) -> None:
    with lock:
        len("what")


def long_step(lock: Lock) -> None:
    lock.alone(lambda: len("what"), soon)


def nested(lock: Lock) -> None:
    """As a handler of signals does it in the middle of a step."""
    with lock, lock:
        len("what")


def refused(lock: Lock) -> None:
    """What it does ends by an error of its own."""

    def act() -> None:
        raise LookupError

    with contextlib.suppress(LookupError):
        lock.alone(act, soon)


@pytest.mark.parametrize("use", [short_step, long_step, nested, refused])
def test_whatever_is_interrupted_it_is_free_afterwards(use: Callable[[Lock], None]) -> None:
    files = {locks.__file__, __file__}
    lock = Lock()
    for place in itertools.count():
        came = interrupted(place, files, lambda: use(lock))
        assert is_free(lock), place
        if not came:
            break
    assert place >= 3


def test_alone_is_safe_between_any_two_bytecodes() -> None:
    lock = Lock()
    codes = {Lock.alone.__code__}
    for place in itertools.count():
        came = interrupted_within(place, codes, lambda: long_step(lock))
        assert is_free(lock), place
        if not came:
            break
    assert place >= 15


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_an_action_raises_comes_out_and_the_lock_is_free(error: type[BaseException]) -> None:
    def act() -> None:
        raise error

    lock = Lock()
    with pytest.raises(error):
        lock.alone(act, soon)
    assert is_free(lock)


def test_one_thread_at_a_time_and_no_longer_than_the_seconds() -> None:
    lock, go = Lock(), threading.Event()
    begun = threading.Event()

    def keep() -> None:
        begun.set()
        assert go.wait(20)

    thread = threading.Thread(target=lambda: lock.alone(keep, soon))
    thread.start()
    assert begun.wait(20)
    for seconds in (0.0, 0.01, -1.0):
        with pytest.raises(Busy):
            lock.alone(lambda: None, lambda seconds=seconds: seconds)
    assert not lock.is_mine
    go.set()
    thread.join()
    assert lock.alone(lambda: lock.is_mine, lambda: float("inf"))


def test_woken_before_during_and_never() -> None:
    wakeup = Wakeup()
    assert not wakeup.wait(0)
    assert not wakeup.wait(0.01)
    wakeup.wake()
    wakeup.wake()
    assert wakeup.wait(20)
    assert not wakeup.wait(0), "many calls are one"
    timer = threading.Timer(0.02, wakeup.wake)
    timer.start()
    assert wakeup.wait(20)
    timer.join()
