"""What a measure found, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .rounds import OURS, Measured, ratio


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that must be reached; ``reached`` is None where the peer is missing."""

    what: str
    needed: float
    reached: float | None
    unit: str = "×"
    at_most: bool = False

    @property
    def cells(self) -> str:
        """Its row of the table of goals."""
        bound = f"{'≤' if self.at_most else '≥'} {self.needed:g} {self.unit}"
        if self.reached is None:
            return f"| {self.what} | {bound} | missing | |"
        met = self.reached <= self.needed if self.at_most else self.reached >= self.needed
        return f"| {self.what} | {bound} | {self.reached:.2f} {self.unit} | {'yes' if met else '**no**'} |"


@dataclass(slots=True)
class Report:
    """One measure: its title, its tables and remarks, and the goals it speaks of."""

    title: str
    parts: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def markdown(self) -> str:
        """All of it."""
        parts = [f"## {self.title}", *self.parts]
        if self.goals:
            parts.append(goals_table(self.goals))
        return "\n\n".join(parts)


def goals_table(goals: Iterable[Goal]) -> str:
    """The goals, a row each."""
    head = "| measure | must reach | reached | met |\n|---|---:|---:|---|"
    return "\n".join([head, *(goal.cells for goal in goals)])


def rates_table(
    unit: str,
    measured: Mapping[str, Measured],
    *,
    missing: Iterable[str] = (),
    scale: float = 1.0,
    digits: int = 0,
    ours: str = OURS,
) -> str:
    """Medians of all contestants, with ours as a multiple of each; ``scale`` messages/s are one unit."""
    lines = [f"| | {unit} | min | max | {ours} is |", "|---|---:|---:|---:|---:|"]
    for name, m in measured.items():
        times = "" if name == ours else f"{ratio(measured[ours], m):.2f} ×"
        values = (f"{rate / scale:,.{digits}f}" for rate in (m.median, min(m.rates), max(m.rates)))
        lines.append(f"| {name} | {' | '.join(values)} | {times} |")
    lines += [f"| {name} | missing | | | |" for name in missing]
    return "\n".join(lines)


def against(measured: Mapping[str, Measured], name: str, ours: str = OURS) -> float | None:
    """Ours as a multiple of this one; None where it is missing."""
    return ratio(measured[ours], measured[name]) if name in measured and ours in measured else None
