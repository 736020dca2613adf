"""Interleaved rounds and their medians: machines are noisy, ratios within a run are not."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates of one contestant: one a round, in the order of the rounds."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle rate."""
        return statistics.median(self.rates)


def interleave(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Measured]:
    """Run each contestant once a round, A B C A B C …, after one round to warm up.

    A contestant returns its rate (messages or octets a second) for one round.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            rate = run()
            if turn:
                rates[name].append(rate)
    return {name: Measured(name, tuple(values)) for name, values in rates.items()}


def ratio(ours: Measured, theirs: Measured) -> float:
    """The median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(ours.rates, theirs.rates, strict=True))


def table(title: str, unit: str, measured: Mapping[str, Measured], ours: str, scale: float = 1.0) -> str:
    """A table of medians, with ours as a multiple of each."""
    lines = [title, f"  {'':28}{unit:>14}{'min':>12}{'max':>12}{'ours is':>10}"]
    for name, m in measured.items():
        times = "" if name == ours else f"{ratio(measured[ours], m):9.2f}×"
        lines.append(
            f"  {name:28}{m.median / scale:14,.1f}{min(m.rates) / scale:12,.1f}"
            f"{max(m.rates) / scale:12,.1f}{times:>10}"
        )
    return "\n".join(lines)
