"""A pytest plugin: the fixture ``mail_server``, there wherever pysmtpx is installed.

Set the server up by a mark::

    @pytest.mark.mail_server(refuse={"bob@x.example": "550 5.1.1 unknown"})
    def test_refusal(mail_server): ...

pytest loads this module at every start, so it imports nothing else of the
package before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .server import MailServer

_STRICT = "mail_server_strict"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the setting known."""
    parser.addini(_STRICT, "mail_server forgives clients nothing", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", "mail_server(strict=..., **options): options of the fixture's pysmtpx.testing.MailServer"
    )


@pytest.fixture
def mail_server(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """A running mail server, ``pysmtpx.testing.MailServer``; its options are those of the mark.

    It lets pass what stock clients do. With ``strict=True``, or the setting
    ``mail_server_strict``, a test fails at any breach of the protocol; with
    ``strict=False`` at none.
    """
    from .server import MailServer

    options = _options(request)
    options.setdefault("lenient", not options.get("strict", request.config.getini(_STRICT)))
    with MailServer(**options) as server:
        yield server


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Those of every mark, where the one nearest to the test wins."""
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("mail_server"))):
        if mark.args:
            raise pytest.UsageError("the mark mail_server takes options by name")
        options.update(mark.kwargs)
    return options
