"""CPython's own tests of ``smtplib``, as they are, with this module in its place and after ``install``."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.everywhere

HERE = Path(__file__).parent


def _is_there() -> bool:
    try:
        return importlib.util.find_spec("test.test_smtplib") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("library", ["as it is", "late_host"])
@pytest.mark.parametrize("mode", ["replaced", "installed"])
def test_cpythons_own_tests_pass(
    mode: str, library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not _is_there():
        reason = "This Python has no `test` package: its own tests of smtplib cannot be run"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    arguments = [mode] if library == "as it is" else [mode, library]
    run = subprocess.run(
        [sys.executable, str(HERE / "cpython.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    told = re.match(r"ran (\d+), skipped (\d+) ", run.stdout.splitlines()[-1])
    assert told is not None
    with capsys.disabled():
        print(f" [CPython's test_smtplib, {mode}, {library}: {run.stdout.splitlines()[-1]}]", end="")
    assert int(told[1]) - int(told[2]) >= 70


def test_the_tests_about_names_pass_over_a_standard_library_that_sets_them_late(tmp_path: Path) -> None:
    """Python 3.14.5 sets ``_host`` in ``connect()`` alone."""
    path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "late_host", "-p", "no:cacheprovider"]
        + [str(HERE / f"test_{each}.py") for each in ("host", "dialing", "hooks")],
        cwd=HERE.parent.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
