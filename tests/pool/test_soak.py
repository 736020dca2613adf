"""The account of the pool is that of the server, fault by fault: ``tests/soak.py``, in short."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import soak

from pysmtpx import MailObject, Outcome, Reply, SendResult

pytestmark = pytest.mark.slow


@pytest.mark.once
@pytest.mark.timeout(300)
def test_twenty_thousand_messages_with_faults() -> None:
    """Six seconds; under coverage three times as many."""
    verdict = soak.soak(20_000)
    print(verdict)
    assert verdict.wrong == []
    assert verdict.account.outcomes["accepted"] > 19_000
    assert sum(verdict.told["faults"].values()) > 500


@pytest.mark.parametrize(
    ("share", "options"),
    [
        pytest.param(0.2, {}, id="a fifth"),
        pytest.param(0.05, {"in_flight": 8}, id="in flight"),
        pytest.param(0.05, {"max_messages": 7, "max_age": 0.05, "max_idle": 0.01}, id="short lives"),
        pytest.param(0.05, {"max_queued": 1}, id="a short queue"),
    ],
)
def test_other_soaks(share: float, options: dict[str, Any]) -> None:
    verdict = soak.soak(1_500, seed=7, share=share, **options)
    assert verdict.wrong == []


def _outcomes(told: Iterable[Outcome]) -> Iterator[Outcome]:
    """The second outcome is told twice, and the third not at all."""
    for count, outcome in zip(itertools.count(), told, strict=False):
        if count == 1:
            yield outcome
        if count != 2:
            yield outcome


def test_the_soak_sees_what_is_wrong() -> None:
    verdict = soak.soak(50, share=0.0, progress=_outcomes)
    assert sum("has a second fate" in each for each in verdict.wrong) == soak.RECIPIENTS
    assert f"{soak.RECIPIENTS} recipients are without a fate here and were delivered 1 times" in verdict.wrong


def test_the_soak_sees_duplicates_and_losses() -> None:
    account = soak.Account(2)
    for number in range(2):
        mail: MailObject = soak.mail(number)
        account.enter(_accepted(mail))
    assert account.compare(bytes([1, 1, 1, 1, 1, 1])) == []
    assert account.compare(bytes([1, 1, 2, 1, 0, 0])) == [
        "1 recipients are accepted here and were delivered 2 times",
        "2 recipients are accepted here and were delivered 0 times",
    ]


def _accepted(mail: MailObject) -> Outcome:
    return Outcome.of(mail, SendResult(mail.recipients, (), Reply(250)))
