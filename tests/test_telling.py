"""News that is told once, and whatever interrupts the telling."""

from __future__ import annotations

import itertools

import pytest
from support.interrupts import interrupted

from pysmtpx import telling
from pysmtpx.telling import Telling


def test_what_a_listener_causes_is_not_told() -> None:
    news, told = Telling("news"), list[str]()

    def tell(text: str) -> None:
        told.append(text)
        assert news.is_under_way
        news.once(tell, "again")

    news.once(tell, "first")
    assert told == ["first"]
    assert not news.is_under_way


def test_a_listener_that_raises_ends_it() -> None:
    news = Telling("news")
    with pytest.raises(ZeroDivisionError):
        news.once(lambda: 1 / 0)
    assert not news.is_under_way


def test_an_interrupt_silences_nobody_for_good() -> None:
    """FAULTS 96: wherever it comes, the next news of this thread is told."""
    news, told = Telling("news"), list[int]()
    for place in itertools.count():
        came = interrupted(place, {telling.__file__}, lambda: news.once(lambda: None))
        news.once(told.append, place)
        assert told == list(range(place + 1)), place
        if not came:
            break
    assert place >= 3
