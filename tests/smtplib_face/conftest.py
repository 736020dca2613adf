"""What the tests of the drop-in face share."""

from __future__ import annotations

import smtplib as standard
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.certs import authority

import pysmtpx.smtplib as ours


@pytest.fixture(params=[standard, ours], ids=["standard", "ours"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Either module: what a test of both says holds for both."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Call it, and the tests' authority is the one that is trusted by default."""

    def set_up() -> None:
        file = tmp_path / "authority.pem"
        authority().cert_pem.write_to_path(file)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))

    return set_up


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    ours.allow_unverified_tls(False)
    ours.uninstall()
