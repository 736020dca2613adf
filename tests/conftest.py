"""Rules for every test: stay on this machine, leave nothing behind, say what was skipped and why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from support import guard
from support.leftovers import Snapshot

guard.install()

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
