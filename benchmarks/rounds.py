"""Interleaved rounds and their medians: machines are noisy, ratios within a run are not."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

OURS = "pysmtpx"
Contestant = Callable[[int], float]
"""Sends so many messages and returns how many a second that was."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates of one contestant: one a round, in the order of the rounds."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle rate."""
        return statistics.median(self.rates)


Rates = dict[str, Measured]


def interleave(
    contestants: Mapping[str, Contestant],
    rounds: int,
    *,
    seconds: float = 0.5,
    probe: int = 50,
    fixed: int | None = None,
) -> Rates:
    """Run each contestant once a round, A B C A B C …, after one round to warm up.

    The first round sends ``probe`` messages; from its rate each contestant gets as many as take ``seconds``,
    or ``fixed`` in every round.
    """
    warm = {name: run(fixed or probe) for name, run in contestants.items()}
    counts = {name: fixed or max(2, int(rate * seconds)) for name, rate in warm.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run(counts[name]))
    return {name: Measured(name, tuple(values)) for name, values in rates.items()}


def ratio(ours: Measured, theirs: Measured) -> float:
    """The median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(ours.rates, theirs.rates, strict=True))
