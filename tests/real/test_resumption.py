"""TLS sessions that a pool resumes with servers of other people, by OpenSSL, GnuTLS and Go."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import certs
from support.chasquid import ChasquidServer
from support.exim import ResumingEximServer, TlsEximServer
from support.proxies import TlsProxyServer
from support.realserver import RealServer, on
from support.resumption import pool_for, watch_handshakes
from support.stunnel import Stunnel

from pysmtpx import Server, SmtpPool
from pysmtpx.testing import MailServer

SENDER, ALICE = "sender@elsewhere.test", "alice@mail.test"
MAIL = (
    b"Date: Sat, 28 Nov 2026 04:32:42 +0000\r\nMessage-ID: <1@elsewhere.test>\r\nSubject: x\r\n\r\nHello\r\n"
)
VERSIONS = ["TLSv1_2", "TLSv1_3"]
WHOLE, RESUMED = False, True
SERVICES = {
    "TLS 1.2, tickets": "sslVersion = TLSv1.2",
    "TLS 1.2, session ids": "sslVersion = TLSv1.2\noptions = NO_TICKET",
    "TLS 1.3, tickets": "sslVersion = TLSv1.3",
    "TLS 1.3, session ids": "sslVersion = TLSv1.3\noptions = NO_TICKET",
    "nothing resumed": "sessionResume = no",
    "a certificate demanded": "requireCert = yes\nverifyChain = yes\nCAfile = {roots}",
}
"""What each service of stunnel does, by which options of its own."""


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each handshake, in order, whether it resumed a session."""
    return watch_handshakes(monkeypatch)


@pytest.fixture(scope="module")
def behind() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def stunnel(behind: MailServer) -> Iterator[Stunnel]:
    running = Stunnel(behind.port, SERVICES)
    yield running
    running.stop()


def of_version(version: str) -> ssl.SSLContext:
    context = certs.client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context


def send(pool: SmtpPool, count: int) -> None:
    for _ in range(count):
        assert pool.send(SENDER, [ALICE], MAIL).accepted_recipients == (ALICE,)


# -- servers ---------------------------------------------------------------------------


@on(ChasquidServer, ResumingEximServer)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_hands_out_tickets(server: RealServer, version: str, resumed: list[bool]) -> None:
    with pool_for(server.port, tls="starttls", ssl_context=of_version(version)) as pool:
        send(pool, 3)
    assert resumed == [WHOLE, RESUMED, RESUMED]
    assert len(server.mailbox(ALICE).take(3)) == 3


@on(TlsEximServer)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_resumes_nothing(server: RealServer, version: str, resumed: list[bool]) -> None:
    with pool_for(server.port, tls="starttls", ssl_context=of_version(version)) as pool:
        send(pool, 3)
    assert resumed == [WHOLE, WHOLE, WHOLE]
    assert len(server.mailbox(ALICE).take(3)) == 3


# -- a proxy of TLS before a server ------------------------------------------------------


@pytest.mark.parametrize("service", list(SERVICES)[:4])
def test_by_tickets_and_by_session_ids(stunnel: Stunnel, service: str, resumed: list[bool]) -> None:
    """Also where the server keeps them, which needs a close_notify of the connection before (RFC 8446 6.1).

    OpenSSL 3.0 forgets one of those that came of a resumed handshake of TLS 1.3.
    """
    count = 2 if service == "TLS 1.3, session ids" else 4
    with pool_for(stunnel.ports[service]) as pool:
        send(pool, count)
    assert resumed == [WHOLE, *[RESUMED] * (count - 1)]


def test_a_proxy_that_resumes_nothing(stunnel: Stunnel, resumed: list[bool]) -> None:
    with pool_for(stunnel.ports["nothing resumed"]) as pool:
        send(pool, 3)
    assert resumed == [WHOLE, WHOLE, WHOLE]


@pytest.mark.parametrize("service", list(SERVICES)[:4])
def test_one_that_was_started_anew_refuses_the_session_and_nothing_fails(
    behind: MailServer, service: str, resumed: list[bool]
) -> None:
    with contextlib.ExitStack() as stack:
        running = Stunnel(behind.port, {service: SERVICES[service]})
        stack.callback(running.stop)
        pool = stack.enter_context(pool_for(running.ports[service]))
        send(pool, 2)
        running.restart()
        send(pool, 2)
    assert resumed == [WHOLE, RESUMED, WHOLE, RESUMED]


# -- client certificates -----------------------------------------------------------------


def _issued(folder: Path, name: str) -> None:
    certs.authority().issue_cert(name, common_name=name).private_key_and_cert_chain_pem.write_to_path(
        folder / "client.pem"
    )


def test_a_client_certificate_that_was_renewed_is_shown(
    stunnel: Stunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: list[bool]
) -> None:
    """A session that was made with one must not stand for the other (RFC 8446 C.4 and 4.6.1)."""
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    _issued(tmp_path, "first.test")
    options = {"ssl_context": None, "client_certificate": str(tmp_path / "client.pem")}
    with pool_for(stunnel.ports["a certificate demanded"], **options) as pool:
        send(pool, 2)
        _issued(tmp_path, "second.test")
        send(pool, 2)
    assert resumed == [WHOLE, RESUMED, WHOLE, RESUMED]
    assert re.findall(r"Certificate accepted at depth=0: .*CN ?= ?(\w+)", stunnel.log_text()) == [
        "first",
        "second",
    ]


def test_two_servers_of_a_pool_with_a_certificate_each(stunnel: Stunnel, resumed: list[bool]) -> None:
    port, contexts = stunnel.ports["a certificate demanded"], []
    for name in ("third.test", "fourth.test"):
        contexts.append(certs.client_context())
        certs.authority().issue_cert(name, common_name=name).configure_cert(contexts[-1])
    servers = [
        Server("127.0.0.1", port, tls="implicit", server_hostname="mail.test", ssl_context=context)
        for context in contexts
    ]
    with SmtpPool(servers, balance="even", max_messages=1) as pool:
        send(pool, 6)
    assert sorted(resumed) == [WHOLE] * 2 + [RESUMED] * 4
    seen = re.findall(r"Certificate accepted at depth=0: .*CN ?= ?(\w+)", stunnel.log_text())
    assert sorted(seen[-2:]) == ["fourth", "third"]


# -- through a proxy ---------------------------------------------------------------------


@on(TlsProxyServer)
def test_the_server_behind_a_proxy_over_tls(
    server: TlsProxyServer, stunnel: Stunnel, tmp_path: Path, resumed: list[bool]
) -> None:
    """The sessions are the server's: none of them is offered to the proxy, which has TLS of its own."""
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    options = {"ssl_context": None, "roots": str(tmp_path / "roots.pem"), "proxy": server.url()}
    with pool_for(stunnel.ports["TLS 1.3, tickets"], **options) as pool:
        send(pool, 3)
    assert resumed == [WHOLE, RESUMED, RESUMED]
