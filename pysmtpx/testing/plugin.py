"""A pytest plugin: the fixture ``mail_server``.

Switch it on with ``pytest_plugins = ["pysmtpx.testing.plugin"]`` in the
``conftest.py`` at the root of your tests, and set the server up by a mark::

    @pytest.mark.mail_server(refuse={"bob@x.example": "550 5.1.1 unknown"})
    def test_refusal(mail_server): ...
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import MailServer


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "mail_server(**options): options of the fixture's MailServer")


@pytest.fixture
def mail_server(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """A running server; the test fails if a client breaks the protocol."""
    mark = request.node.get_closest_marker("mail_server")
    with MailServer(**(mark.kwargs if mark else {})) as server:
        yield server
