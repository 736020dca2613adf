"""CPython's own tests of ``smtplib``, as they are, with this module in its place."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_RUNNER = Path(__file__).with_name("cpython.py")


def _is_there() -> bool:
    try:
        return importlib.util.find_spec("test.test_smtplib") is not None
    except ModuleNotFoundError:
        return False


def test_cpythons_own_tests_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not _is_there():
        reason = "This Python has no `test` package: its own tests of smtplib cannot be run"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    run = subprocess.run(
        [sys.executable, str(_RUNNER)], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert run.returncode == 0, run.stdout + run.stderr
    told = re.fullmatch(r"ran (\d+), skipped (\d+) \((.*)\)", run.stdout.splitlines()[-1])
    assert told is not None
    with capsys.disabled():
        print(f" [CPython's test_smtplib: {told[0]}]", end="")
    assert int(told[1]) - int(told[2]) >= 70
