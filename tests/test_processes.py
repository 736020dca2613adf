"""`pytest --processes N`, by which `make test` runs: whatever happens in one of the processes is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SUPPORT = Path(__file__).parent
FIXTURE = """
import os, pathlib, pytest
@pytest.fixture(scope="session", autouse=True)
def _ended():
    yield
    pathlib.Path(f"ended-{os.getpid()}").touch()
@pytest.fixture
def broken():
    raise ValueError("broken")
@pytest.fixture
def left():
    yield
    raise ValueError("left")
"""
KINDS = """
import pytest, support
def test_passes():
    print("not shown")
def test_fails():
    print("shown")
    assert 1 == 2
def test_error(broken): pass
def test_error_behind(left): pass
@pytest.mark.skip(reason="a reason")
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): assert False
@pytest.mark.parametrize("number", range(3))
def test_each(number): pass
"""
OTHER = "def test_other(tmp_path): tmp_path.joinpath('file').touch()"
DIES = "import os\ndef test_before(): pass\ndef test_dies(): os._exit(3)\ndef test_behind(): pass\n"

INTERRUPTED = DIES.replace("os._exit(3)", "raise KeyboardInterrupt")


def run(folder: Path, *arguments: str, **files: str) -> tuple[int, str]:
    """Run pytest in the folder, which gets these files; return its status and what it said."""
    for name, text in {"conftest": FIXTURE, **files}.items():
        folder.joinpath(f"{name}.py").write_text(text)
    folder.joinpath("pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "support.processes", "-p", "no:cacheprovider", "-rA"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def told(said: str) -> list[str]:
    """The lines of the summary, without what differs, in order."""
    lines = re.findall(r"(?m)^(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL) .*$", said)
    return sorted(lines) + re.findall(r"(?m)^=+ (.*) in [0-9.]+s =+$", said)


def test_it_tells_what_one_process_tells(tmp_path: Path) -> None:
    alone, one = run(tmp_path, test_kinds=KINDS, test_other=OTHER)
    status, several = run(tmp_path, "--processes", "3", test_kinds=KINDS, test_other=OTHER)
    assert status == alone == 1
    assert told(several) == told(one)
    assert "1 failed, 6 passed, 1 skipped, 1 xfailed, 2 errors" in told(several)[-1]
    assert "Captured stdout call" in several
    assert len(list(tmp_path.glob("ended-*"))) == 1 + 2, "fixtures of the session end"


def test_a_process_that_ends_is_a_failure(tmp_path: Path) -> None:
    status, said = run(tmp_path, "--processes", "2", test_a=DIES, test_b=OTHER)
    assert status == 1
    assert "FAILED test_a.py::test_before (what came behind it)" in said
    assert "2 tests were not run to their end" in said
    assert "2 failed, 2 passed" in told(said)[-1]


def test_a_process_that_is_interrupted_is_a_failure(tmp_path: Path) -> None:
    status, said = run(tmp_path, "--processes", "2", test_a=INTERRUPTED, test_b=OTHER)
    assert status == 1
    assert "2 tests were not run to their end" in said


def test_a_file_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    status, said = run(tmp_path, "--processes", "2", test_a="import nothing_of_this_name", test_b=OTHER)
    assert status == 2
    assert "ERROR test_a.py" in said


def test_it_stops_at_the_first_failure_on_request(tmp_path: Path) -> None:
    status, said = run(tmp_path, "--processes", "1", "-x", test_a="def test(): assert False", test_b=OTHER)
    assert status == 1
    assert told(said)[-1] == "1 failed"
