"""Messages a second over round-trip time, over connections and over message size, peers as lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl

from . import contestants as who
from .contestants import Task, message, starters
from .report import Report
from .rounds import OURS, Contestant, interleave
from .servers import delayed, one_processor
from .sink import smtp_sink

RESULTS = Path(__file__).parent / "results"
SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
ROUND_TRIPS = (0.0, 0.005, 0.02, 0.1)
CONNECTIONS = (1, 2, 4, 8, 16)
FAR = 0.02
Curves = dict[str, list[float]]


def _add(curves: Curves, runners: dict[str, Contestant], rounds: int, seconds: float, probe: int) -> None:
    for name, m in interleave(runners, rounds, seconds=seconds, probe=probe).items():
        curves.setdefault(name, []).append(m.median)


def _over_size() -> Curves:
    curves: Curves = {}
    with one_processor(), smtp_sink() as port:
        for size in SIZES:
            runners, _ = starters(Task(port, message(size), warm=20))
            _add(curves, runners, 2, 0.25, 20)
    return curves


def _over_round_trip() -> Curves:
    curves: Curves = {}
    with smtp_sink() as near:
        for trip in ROUND_TRIPS:
            with delayed(near, trip) as port:
                runners, _ = starters(Task(port, message(4096), warm=1 if trip else 100))
                _add(curves, runners, 1 if trip else 3, 0.3 + 4 * trip, 2 if trip else 100)
    return curves


def _over_connections() -> Curves:
    curves: Curves = {}
    names = [name for name in who.ALL if name not in (who.BARE, who.BARE_PLAIN, who.PLAIN)]
    with smtp_sink() as near, delayed(near, FAR) as port:
        for connections in CONNECTIONS:
            runners, _ = starters(Task(port, message(4096), connections), names)
            _add(curves, runners, 1, 0.6, 2 * connections)
    return curves


def _plot(name: str, title: str, x_label: str, xs: Iterable[float], curves: Curves) -> str:
    """Write the plot; return the table of its points."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "pysmtpx"
    from matplotlib import pyplot

    points = list(xs)
    places = range(len(points))  # evenly, so that 0 has a place beside powers
    figure, axes = pyplot.subplots(figsize=(7.5, 4.5))
    for contestant, rates in curves.items():
        width = 2.6 if contestant == OURS else 1.3
        style = "--" if contestant in (who.BARE, who.BARE_PLAIN) else "-"
        axes.plot(places, rates, style, marker="o", markersize=4, linewidth=width, label=contestant)
    axes.set_xticks(places, [f"{x:,g}" for x in points])
    axes.set_yscale("log")
    axes.set(title=title, xlabel=x_label, ylabel="messages a second")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
    RESULTS.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
    rows = [f"| {x_label} | {' | '.join(f'{x:g}' for x in points)} |", "|---|" + "---:|" * len(points)]
    rows += [f"| {key} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |" for key, rates in curves.items()]
    rows += [f"| {key} | missing |" + " |" * (len(points) - 1) for key in who.missing() if key not in curves]
    return f"### {title}\n\n![{title}]({name}.svg)\n\n" + "\n".join(rows)


def plots() -> Report:
    """All three."""
    trips = [1000 * trip for trip in ROUND_TRIPS]
    report = Report("Curves: messages a second")
    report.parts = [
        _plot(
            "round-trips",
            "4 KB messages, one connection, smtp-sink",
            "round trip, ms",
            trips,
            _over_round_trip(),
        ),
        _plot(
            "connections",
            "4 KB messages, smtp-sink, a round trip of 20 ms",
            "connections",
            CONNECTIONS,
            _over_connections(),
        ),
        _plot(
            "sizes",
            "one connection, smtp-sink on loopback, one processor",
            "octets a message",
            SIZES,
            _over_size(),
        ),
    ]
    return report
