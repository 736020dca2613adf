"""One of each real server for the session, if a test asks for it; each test starts with empty mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.dovecot import DovecotServer
from support.postfix import PostfixServer
from support.realserver import RealServer

import pysmtpx
from pysmtpx import Server, SmtpConnection

_LOGS = pytest.StashKey[list[tuple[str, Callable[[], str]]]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real" in item.path.parts:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def _dovecot() -> Iterator[DovecotServer]:
    server = DovecotServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _postfix(_dovecot: DovecotServer) -> Iterator[PostfixServer]:
    server = PostfixServer(_dovecot)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """One server of the kind that a test names; of the session, since it is no leftover of the test."""
    running: RealServer = request.param()
    yield running
    running.stop()


@pytest.fixture
def server(_server: RealServer, request: pytest.FixtureRequest) -> RealServer:
    """Return the running server of the kind that ``on`` names, every mailbox empty."""
    _for_one_test(_server, request)
    return _server


def _for_one_test(server: RealServer, request: pytest.FixtureRequest) -> None:
    server.empty()
    logs = request.node.stash.setdefault(_LOGS, [])
    logs.append((f"log of {type(server).__name__}", server.log_text))


@pytest.fixture
def dovecot(_dovecot: DovecotServer, request: pytest.FixtureRequest) -> DovecotServer:
    """Return the running Dovecot, every mailbox empty."""
    _for_one_test(_dovecot, request)
    return _dovecot


@pytest.fixture
def postfix(_postfix: PostfixServer, request: pytest.FixtureRequest) -> PostfixServer:
    """Return the running Postfix, every mailbox empty."""
    _for_one_test(_postfix, request)
    return _postfix


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Put what the servers logged during the test under its failure."""
    report = yield
    if report.failed:
        report.sections += [(name, log()) for name, log in item.stash.get(_LOGS, [])]
    return report


@pytest.fixture
def line(postfix: PostfixServer) -> Iterator[SmtpConnection]:
    """Yield a connection that pipelines."""
    with pysmtpx.connect(Server(postfix.host, postfix.port)) as connection:
        yield connection


@pytest.fixture
def slow(postfix: PostfixServer) -> Iterator[SmtpConnection]:
    """Yield a connection to a server without extensions."""
    with pysmtpx.connect(Server(postfix.host, postfix.plain_port)) as connection:
        yield connection
