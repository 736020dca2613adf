"""Rules for every test: stay on this machine, leave nothing behind, say what was skipped and why.

Also which tests come first, and which are run where not all are.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from support import guard
from support.leftovers import Snapshot

pytest_plugins = ["support.processes"]

guard.install()

# To look for cycles, of which a test leaves few, took a twelfth of the processor time of mime/ and wire/.
gc.set_threshold(50_000, 10, 10)

_common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _common, max_examples=50)
settings.register_profile("ci", _common, max_examples=100, derandomize=True, print_blob=True)
settings.register_profile("deep", _common, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    guard.violations.clear()
    before = Snapshot()
    yield
    left = before.leftovers()
    assert not left, "the test left behind: " + ", ".join(left)
    assert not guard.violations, "the test tried to leave this machine: " + ", ".join(guard.violations)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sample",
        type=int,
        metavar="N",
        help="each test, but none marked `once`, with N sets of parameters, or all where marked `everywhere`",
    )
    parser.addoption(
        "--share",
        default="1/1",
        metavar="I/N",
        help="of a sample the part of the I-th of N Pythons: what is marked `everywhere`, and one test in N",
    )


def pytest_configure() -> None:
    """Take Ctrl-C even where a shell, in the background, ignores it: programs under test inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """Make no sets of parameters of a test that the sample has none of: half of the collection."""
    if collector.config.getoption("sample") is None or not collector.istestfunction(obj, name):
        return None
    marks = {mark.name for mark in getattr(obj, "pytestmark", [])}
    if "everywhere" in marks or collector.get_closest_marker("everywhere"):
        return None
    return None if _is_in_share(collector.config, f"{collector.nodeid}::{name}") else []


def _is_in_share(config: pytest.Config, name: str) -> bool:
    place, pythons = map(int, config.getoption("share").split("/"))
    return crc32(name.encode()) % pythons == place - 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left alone with it at the end; take the sample."""
    if unlike := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"this name is another one in each process: {unlike[0]}")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    most: int | None = config.getoption("sample")
    if most is not None:
        kept = _sample(config, items, most)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


def pytest_collection_finish() -> None:
    """What was collected stays until the end: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


def _sample(config: pytest.Config, items: list[pytest.Item], most: int) -> set[pytest.Item]:
    """What is kept; which sets of parameters depends on the names of the test and of this Python alone."""
    kept: set[pytest.Item] = set()
    others: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("everywhere"):
            kept.add(item)
        elif not item.get_closest_marker("once"):
            others[item.nodeid.partition("[")[0]].append(item)
    for name, sets in others.items():
        if not _is_in_share(config, name):
            continue
        chance = Random(f"{name} {sys.version_info[:2]}")
        kept.update(chance.sample(sets, min(most, len(sets))))
    return kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List by reason which tests were skipped, by name."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report, pytest.TestReport) and isinstance(report.longrepr, tuple):
            reasons[report.longrepr[2]].append(report.nodeid)
    for reason, tests in reasons.items():
        terminalreporter.section(f"{len(tests)} not run. {reason}", sep="-")
        for test in tests:
            terminalreporter.line(test)
