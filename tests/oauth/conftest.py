"""Every test begins without what others hold: a port may serve again, and values with it are equal."""

from __future__ import annotations

import pytest
from support.tokens import without_proxy

from pysmtpx.oauth import renewal


@pytest.fixture(autouse=True)
def _nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxy(monkeypatch)
    renewal._used.clear()
    renewal._shared.clear()
    # A provider that refused is not asked again while a test runs, however busy the machine.
    monkeypatch.setattr(renewal, "FIRST_REFUSAL_PAUSE", 300.0)
