"""Flask applications that send to embedded servers, and pools that do not outlive a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from support.pools import shared_pools_end

from pysmtpx.contrib.flask import Mail
from pysmtpx.testing import MailServer

_pools_end = pytest.fixture(autouse=True)(shared_pools_end)


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A server that knows one recipient who is refused."""
    with MailServer(refuse={"nobody@example.com": "550 5.1.1 unknown"}) as server:
        yield server


@pytest.fixture
def make_app() -> Callable[..., Flask]:
    """An application with these settings, ``Mail`` included."""

    def make(server: MailServer | None = None, mail: Mail | None = None, **config: Any) -> Flask:
        app = Flask(__name__)
        app.config["MAIL_DEFAULT_SENDER"] = "robot@example.org"
        if server is not None:
            app.config.update(MAIL_SERVER=server.host, MAIL_PORT=server.port)
        app.config.update(config)
        (mail or Mail()).init_app(app)
        return app

    return make


@pytest.fixture
def app(server: MailServer, make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """An application that sends to ``server``, active for the test."""
    app = make_app(server)
    with app.app_context():
        yield app


@pytest.fixture
def mail(app: Flask) -> Mail:
    return Mail(app)
