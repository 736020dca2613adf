"""What a pool resumes with ``openssl s_server``, Dovecot and Postfix, by their own account."""

from __future__ import annotations

import os
import signal
import ssl
from pathlib import Path

import pytest
from support import certs, corpus
from support.daemon import wait_until
from support.dovecot import TlsDovecotServer
from support.postfix import PostfixServer
from support.proxies import TlsProxyServer
from support.realserver import on
from support.resumption import pool_for, watch_handshakes
from support.s_server import SServer

from pysmtpx import Server, SmtpPool
from pysmtpx.net.tls_sessions import Resumption

SENDER, ALICE = "sender@elsewhere.test", "alice@mail.test"
MAIL = corpus.SEVEN_BIT["plain"]
WHOLE, RESUMED = False, True
VERSIONS = {"-tls1_2": ssl.TLSVersion.TLSv1_2, "-tls1_3": ssl.TLSVersion.TLSv1_3}
TICKETS = ["-tls1_2", "-tls1_3", "-tls1_3 -num_tickets 1", "-tls1_3 -num_tickets 2", "-tls1_3 -num_tickets 5"]


def send(pool: SmtpPool, count: int) -> None:
    for _ in range(count):
        assert pool.send(SENDER, [ALICE], MAIL).accepted_recipients == (ALICE,)


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each handshake, whether it resumed a session, as Python says."""
    return watch_handshakes(monkeypatch)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The id of each session that was offered; under TLS 1.3 OpenSSL makes it of the ticket."""
    ids: list[bytes] = []
    offer = Resumption.offer

    def noted(resumption: Resumption, context: ssl.SSLContext, name: str | None) -> ssl.SSLSession | None:
        if (session := offer(resumption, context, name)) is not None:
            ids.append(session.id)
        return session

    monkeypatch.setattr(Resumption, "offer", noted)
    return ids


# -- s_server --------------------------------------------------------------------------


@pytest.mark.parametrize("options", TICKETS)
def test_tickets(options: str, offered: list[bytes]) -> None:
    """However many a server hands out: one for each connection, and none twice (RFC 8446 C.4)."""
    with SServer(*options.split()) as server, pool_for(server.port) as pool:
        send(pool, 5)
    assert server.resumed == [WHOLE, *[RESUMED] * 4]
    if options.startswith("-tls1_3"):
        assert len(set(offered)) == 4


@pytest.mark.parametrize("options", ["-tls1_3 -num_tickets 0", "-tls1_2 -no_ticket -no_cache"])
def test_a_server_that_hands_out_nothing(options: str) -> None:
    with SServer(*options.split()) as server, pool_for(server.port) as pool:
        send(pool, 3)
    assert server.resumed == [WHOLE] * 3


@pytest.mark.parametrize("options", ["-tls1_2 -no_ticket", "-tls1_3 -no_ticket"])
def test_session_ids(options: str) -> None:
    """The server keeps the sessions itself, as long as each connection ends by close_notify."""
    with SServer(*options.split()) as server, pool_for(server.port) as pool:
        send(pool, 4)
    assert server.resumed[:2] == [WHOLE, RESUMED]
    assert len(server.resumed) == 4


@pytest.mark.parametrize("options", ["-tls1_2", "-tls1_2 -no_ticket", "-tls1_3", "-tls1_3 -no_ticket"])
def test_a_server_that_was_started_anew(options: str) -> None:
    """It has other keys and no sessions: the handshake is whole, in the same attempt."""
    with SServer(*options.split()) as server, pool_for(server.port) as pool:
        send(pool, 2)
        server.stop()
        with SServer(*options.split(), port=server.port) as other:
            send(pool, 2)
    assert len(server.resumed) == len(other.resumed) == 2
    assert other.resumed[0] is WHOLE


@pytest.mark.parametrize("before", VERSIONS)
def test_a_server_that_speaks_another_version_by_now(before: str) -> None:
    """A session of one version is none of another."""
    after = next(each for each in VERSIONS if each != before)
    with SServer(before) as server, pool_for(server.port) as pool:
        send(pool, 2)
        server.stop()
        with SServer(after, port=server.port) as other:
            send(pool, 2)
    assert (server.resumed, other.resumed) == ([WHOLE, RESUMED], [WHOLE, RESUMED])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_context_that_allows_a_newer_version_alone_resumes_no_older(version: str) -> None:
    context = certs.client_context()
    context.maximum_version = VERSIONS[version]
    with SServer() as server, pool_for(server.port, ssl_context=context) as pool:
        send(pool, 2)
        context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_3
        send(pool, 2)
    assert server.resumed == [WHOLE, RESUMED, RESUMED if version == "-tls1_3" else WHOLE, RESUMED]


# -- client certificates ----------------------------------------------------------------


def _context(name: str) -> ssl.SSLContext:
    """One with a certificate of this name; with none for no name."""
    context = certs.client_context()
    if name:
        certs.authority().issue_cert(f"{name}.test", common_name=name).configure_cert(context)
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_accounts_that_differ_by_their_certificate(version: str) -> None:
    """Pools of one process at one server: each shows its own, and one shows none (RFC 8446 4.6.1, C.4)."""
    names = ["ann", "bob", ""]
    with SServer(version, "-verify", "5", "-verify_quiet") as server:
        pools = [pool_for(server.port, ssl_context=_context(name)) for name in names]
        for _ in range(3):
            for pool in pools:
                send(pool, 1)
        for pool in pools:
            pool.close()
    assert server.resumed == [WHOLE] * 3 + [RESUMED] * 6
    assert server.subjects == names * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_is_loaded_into_a_context_in_use(version: str) -> None:
    """Python does not tell of it: it is shown from the next whole handshake on, as the docs say."""
    context = _context("ann")
    with SServer(version, "-verify", "5", "-verify_quiet") as server:
        with pool_for(server.port, ssl_context=context) as pool:
            send(pool, 1)
            certs.authority().issue_cert("bob.test", common_name="bob").configure_cert(context)
            send(pool, 1)
        with pool_for(server.port, ssl_context=context) as pool:
            send(pool, 1)
    assert server.subjects == ["ann", "ann", "bob"]


# -- Dovecot and Postfix ------------------------------------------------------------------


@on(TlsDovecotServer)
@pytest.mark.parametrize("version", VERSIONS)
def test_dovecot_by_lmtp(server: TlsDovecotServer, version: str, resumed: list[bool]) -> None:
    """Each of its processes has keys of its own, and refuses the tickets of the others: nothing fails."""
    context = certs.client_context()
    context.minimum_version = context.maximum_version = VERSIONS[version]
    with pool_for(server.port, "starttls", ssl_context=context, protocol="lmtp") as pool:
        send(pool, 4)
    assert (resumed[0], len(resumed)) == (WHOLE, 4)
    assert len(server.mailbox(ALICE).take(4)) == 4


@pytest.mark.parametrize("version", VERSIONS)
def test_postfix_with_new_keys(postfix: PostfixServer, version: str, resumed: list[bool]) -> None:
    """A reload ends tlsmgr, which has the keys of the tickets: a handshake is whole, and nothing fails."""
    context = certs.client_context()
    context.minimum_version = context.maximum_version = VERSIONS[version]
    with pool_for(postfix.port, "starttls", ssl_context=context) as pool:
        send(pool, 3)
        os.kill(int((postfix.base / "queue/pid/master.pid").read_text()), signal.SIGHUP)
        # Some of its processes from before may still take connections.
        for each in (WHOLE, RESUMED):
            wait_until(lambda wanted=each: send(pool, 1) or resumed[-1] is wanted, 30.0, "each kind")  # type: ignore[misc]
    assert len(postfix.mailbox(ALICE).take(len(resumed))) == len(resumed)


def test_postfix_renews_no_ticket_of_tls_1_3(
    postfix: PostfixServer, offered: list[bytes], resumed: list[bool]
) -> None:
    """So that each second handshake is whole: the one ticket is spent (RFC 8446 C.4)."""
    with pool_for(postfix.port, "starttls") as pool:
        send(pool, 5)
    assert resumed == [WHOLE, RESUMED, WHOLE, RESUMED, WHOLE]
    assert len(offered) == len(set(offered)) == 2
    assert len(postfix.mailbox(ALICE).take(5)) == 5


def test_postfix_without_tickets(postfix: PostfixServer, resumed: list[bool]) -> None:
    """It keeps no sessions of its own either."""
    with pool_for(postfix.ticketless_port, "starttls") as pool:
        send(pool, 3)
    assert resumed == [WHOLE] * 3
    assert len(postfix.mailbox(ALICE).take(3)) == 3


def test_postfix_at_two_ports_with_two_kinds_of_tls(
    postfix: PostfixServer, offered: list[bytes], resumed: list[bool]
) -> None:
    """Each of them has sessions of its own."""
    context = certs.client_context()
    servers = [
        Server("127.0.0.1", port, tls=tls, ssl_context=context)  # type: ignore[arg-type]
        for port, tls in ((postfix.port, "starttls"), (postfix.smtps_port, "implicit"))
    ]
    with SmtpPool(servers, balance="even", max_messages=1) as pool:
        send(pool, 6)
    assert sorted(resumed) == [WHOLE] * 4 + [RESUMED] * 2
    assert len(offered) == len(set(offered)) == 2
    assert len(postfix.mailbox(ALICE).take(6)) == 6


# -- a proxy with TLS of its own ------------------------------------------------------------


@on(TlsProxyServer)
def test_a_proxy_over_tls_is_offered_no_session(
    server: TlsProxyServer, tmp_path: Path, offered: list[bytes], resumed: list[bool]
) -> None:
    """Neither one of its own nor one of the server behind it, which resumes those alone."""
    certs.authority().cert_pem.write_to_path(tmp_path / "roots.pem")
    options = {"ssl_context": None, "roots": str(tmp_path / "roots.pem"), "proxy": server.url()}
    with SServer("-tls1_3") as behind, pool_for(behind.port, **options) as pool:
        send(pool, 4)
    assert behind.resumed == resumed == [WHOLE, *[RESUMED] * 3]
    assert len(set(offered)) == 3
    wait_until(lambda: server.log_text().count("TLS accepted") == 4, 30.0, "each connection in the log")
    assert server.log_text().count("TLS accepted: new session negotiated") == 4
