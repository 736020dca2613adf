"""Runs the command inside this process, and tells what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pysmtpx.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What one run of the command came to."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The last JSON document."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run the command with these arguments, and no variable of the environment that it reads."""
    for name in ("PYSMTPX_URL", "PYSMTPX_PASSWORD", "PYSMTPX_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def go(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return go
