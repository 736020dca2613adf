"""How the checkers are run."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDS_CHECKERS = [
    pytest.mark.once,  # heavy, and the same on each Python
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (find_spec("pyright") or os.environ.get("CI")), reason="It needs the checkers: the extra dev."
    ),
]


def output(folder: Path, python: Path, *command: str | Path) -> str:
    """What a checker prints of programs that this Python runs; it fails by design, so that tells nothing."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # of a newer version
    env["LC_ALL"] = "C.UTF-8"  # without a locale they do not find a folder with an umlaut
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"  # where pyright --verifytypes looks for it
    option = "--python-executable" if command[0] == "mypy" else "--pythonpath"
    whole = [sys.executable, "-m", *command, option, python]
    done = subprocess.run(whole, cwd=folder, env=env, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout
