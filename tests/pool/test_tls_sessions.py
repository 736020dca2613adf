"""A new connection of a pool resumes the TLS session of an earlier one, and is as sure of the server."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import certs
from support.pools import BODY, ONCE, SENDER, outcome

from pysmtpx import SendResult, Server, TlsError, connect
from pysmtpx.net import tls, tls_sessions
from pysmtpx.net.deadline import now
from pysmtpx.net.tls_sessions import Resumption, Sessions
from pysmtpx.pool import SmtpPool
from pysmtpx.testing import MailServer
from pysmtpx.testing.tls import server_certificate
from pysmtpx.wire.certificate import fingerprints_of

MODES = ["implicit", "starttls", "opportunistic"]
VERSIONS = ["TLSv1_2", "TLSv1_3"]


def of_version(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context


def served(context: ssl.SSLContext, mode: str = "implicit") -> MailServer:
    return MailServer(ssl_context=context, tls="implicit" if mode == "implicit" else "starttls")


@contextlib.contextmanager
def pool_for(server: MailServer, mode: str = "implicit", **options: Any) -> Iterator[SmtpPool]:
    """Of which each message has a connection of its own."""
    options.setdefault("ssl_context", certs.client_context())
    target = Server("127.0.0.1", server.port, tls=mode, **options)  # type: ignore[arg-type]
    with SmtpPool(target, retry=ONCE, max_messages=1) as pool:
        yield pool


def send(pool: SmtpPool, count: int = 1) -> list[Any]:
    return [outcome(pool.send, SENDER, "a@x.example", BODY) for _ in range(count)]


def reused(context: ssl.SSLContext) -> int:
    """Handshakes of the server in which a session was resumed."""
    return context.session_stats()["hits"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", VERSIONS)
def test_each_connection_but_the_first_resumes(mode: str, version: str) -> None:
    context = of_version(certs.server_context(), version)
    with served(context, mode) as server, pool_for(server, mode) as pool:
        assert all(isinstance(each, SendResult) for each in send(pool, 4))
        assert len(server.ledger.messages) == 4
    assert reused(context) == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pool_of_another_begins_anew(version: str) -> None:
    """Nor does ``connect`` resume anything: sessions are the pool's, and end with it."""
    context, ours = of_version(certs.server_context(), version), certs.client_context()
    with served(context) as server:
        for _ in range(2):
            with pool_for(server, ssl_context=ours) as pool:
                send(pool)
            with connect("127.0.0.1", server.port, tls="implicit", ssl_context=ours):
                pass
    assert reused(context) == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_knows_the_session_no_more(mode: str, version: str) -> None:
    """It was started anew, with other keys: the handshake is whole, and nothing fails."""
    first, second = (of_version(certs.server_context(), version) for _ in range(2))
    with served(first, mode) as before, served(second, mode) as after:
        running = [before]

        def dial(host: str, port: int, seconds: float) -> socket.socket:
            return socket.create_connection(("127.0.0.1", running[-1].port), seconds)

        with pool_for(before, mode, dial=dial) as pool:
            send(pool, 2)
            running.append(after)
            assert [type(each) for each in send(pool, 2)] == [SendResult] * 2
    assert (reused(first), reused(second)) == (1, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fingerprint_is_looked_at_in_a_resumed_session(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed session still has the certificate of its server."""
    context = of_version(certs.server_context(), version)
    certificate, seen = server_certificate(context) or b"", []

    def noted(der: bytes) -> Any:
        seen.append(der)
        return fingerprints_of(der)

    monkeypatch.setattr(tls, "fingerprints_of", noted)
    with served(context) as server, pool_for(server, fingerprint=fingerprints_of(certificate)[0]) as pool:
        assert [type(each) for each in send(pool, 3)] == [SendResult] * 3
    assert reused(context) == 2
    assert seen == [certificate] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_context_that_is_made_stricter_verifies_anew(version: str) -> None:
    """OpenSSL alone would resume what was never verified."""
    context, ours = of_version(certs.server_context(), version), certs.client_context(certs.stranger())
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    with served(context) as server, pool_for(server, ssl_context=ours) as pool:
        assert [type(each) for each in send(pool, 2)] == [SendResult] * 2
        ours.verify_mode = ssl.CERT_REQUIRED
        assert isinstance(send(pool)[0], TlsError)
    assert reused(context) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_verified_an_hour_ago_is_verified_anew(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sessions came of it meanwhile: the hour is that of the certificate."""
    context = of_version(certs.server_context(), version)
    with served(context) as server, pool_for(server) as pool:
        for seconds, count in ((0, 0), (2000, 1), (3500, 2), (3700, 2), (7200, 3)):
            monkeypatch.setattr(tls_sessions, "now", lambda late=seconds: now() + late)
            send(pool)
            assert reused(context) == count, seconds


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is forked")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_resumes_nothing_of_its_parent() -> None:
    context = certs.server_context()
    with served(context) as server, pool_for(server) as pool:
        send(pool, 2)
        child = os.fork()
        if not child:
            os._exit(not isinstance(send(pool)[0], SendResult))
        assert os.waitpid(child, 0)[1] == 0
        assert reused(context) == 1
        send(pool)
        assert reused(context) == 2


def _session(context: ssl.SSLContext, name: str) -> Resumption:
    """Sessions after one connection under these terms."""
    sessions = Sessions()
    with served(certs.server_context()) as server:
        target = Server("127.0.0.1", server.port, tls="implicit", ssl_context=context, server_hostname=name)
        with connect(target) as connection:
            sock: Any = connection._channel._driver.stream._sock
            resumption = Resumption(sessions)
            resumption.verified(sock)
            resumption.learn()
    return Resumption(sessions)


def test_a_session_is_offered_under_its_own_terms_alone_and_once() -> None:
    """OpenSSL resumes under another host name, and checks no name then."""
    ours = certs.client_context()
    assert _session(ours, "mail.test").offer(ours, "localhost") is None
    assert _session(ours, "mail.test").offer(certs.client_context(), "mail.test") is None
    known = _session(ours, "mail.test")
    assert known.offer(ours, "mail.test") is not None
    assert known.offer(ours, "mail.test") is None


def test_a_context_of_another_kind_is_offered_nothing() -> None:
    """Such as truststore's, which looks at the certificate behind the handshake by itself."""

    class Own(ssl.SSLContext):
        pass

    ours = Own(ssl.PROTOCOL_TLS_CLIENT)
    certs.authority().configure_trust(ours)
    assert _session(ours, "mail.test").offer(ours, "mail.test") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_fails_where_a_session_is_offered(version: str) -> None:
    """It should go on with a whole handshake (RFC 8446 4.2.11): one is tried at once, and no session later.

    So does OpenSSL where a client's certificate is wanted and no session id context is set.
    """
    context, refused = of_version(certs.server_context(), version), []

    def fail(sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        if not sock.session_reused:
            return None
        refused.append(name)
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    context.sni_callback = fail
    for mode in MODES:
        refused.clear()
        with served(context, mode) as server, pool_for(server, mode) as pool:
            assert [type(each) for each in send(pool, 5)] == [SendResult] * 5
            assert len(server.ledger.messages) == 5
        assert len(refused) == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_log_in_bound_to_a_certificate_that_is_renewed(mode: str, version: str) -> None:
    """A server keeps its ticket keys and has another certificate: it binds to the new one (RFC 5929 4.1).

    A refused log-in would stop the pool, with a right password.
    """
    context = of_version(certs.server_context(), version)
    with contextlib.ExitStack() as stack:
        running: list[MailServer] = []

        def start() -> None:
            server = MailServer(
                ssl_context=context, tls="implicit" if mode == "implicit" else "starttls", users={"ann": "pw"}
            )
            running.append(stack.enter_context(server))

        def dial(host: str, port: int, seconds: float) -> socket.socket:
            return socket.create_connection(("127.0.0.1", running[-1].port), seconds)

        start()
        pool = stack.enter_context(pool_for(running[0], mode, username="ann", password="pw", dial=dial))
        assert [type(each) for each in send(pool, 2)] == [SendResult] * 2
        certs.authority().issue_cert(*certs.NAMES).configure_cert(context)
        start()
        assert [type(each) for each in send(pool, 2)] == [SendResult] * 2
    assert reused(context) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_log_in_that_is_bound_to_nothing_resumes(version: str) -> None:
    context = of_version(certs.server_context(), version)
    server = MailServer(ssl_context=context, tls="implicit", users={"ann": "pw"})
    with server, pool_for(server, username="ann", password="pw", auth="PLAIN") as pool:
        assert [type(each) for each in send(pool, 3)] == [SendResult] * 3
    assert reused(context) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_certificate_of_a_resumed_session_is_that_of_the_first_handshake(version: str) -> None:
    """Python keeps it with the session, whatever the server would show now: so a fingerprint still fits."""
    context = of_version(certs.server_context(), version)
    first = fingerprints_of(server_certificate(context) or b"")[0]
    with served(context) as server, pool_for(server, fingerprint=first) as pool:
        send(pool)
        certs.authority().issue_cert(*certs.NAMES).configure_cert(context)
        assert isinstance(send(pool)[0], SendResult)
        assert reused(context) == 1
    with served(context) as server, pool_for(server, fingerprint=first) as pool:
        assert isinstance(send(pool)[0], TlsError)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.skipif(not ssl.HAS_NEVER_CHECK_COMMON_NAME, reason="OpenSSL looks at common names anyhow")
def test_a_context_that_trusts_common_names_no_more_verifies_anew(version: str, tmp_path: Path) -> None:
    context, trusted = certs.common_name_only(tmp_path, "mail.test")
    of_version(context, version)
    ours = ssl.create_default_context(cafile=trusted)
    ours.hostname_checks_common_name = True
    with served(context) as server, pool_for(server, ssl_context=ours, server_hostname="mail.test") as pool:
        assert [type(each) for each in send(pool, 2)] == [SendResult] * 2
        ours.hostname_checks_common_name = False
        assert isinstance(send(pool)[0], TlsError)
    assert reused(context) == 1


def test_a_context_that_asks_for_revocations_resumes_nothing() -> None:
    """A list that is loaded later is looked at in whole handshakes alone."""
    ours = certs.client_context()
    known = _session(ours, "mail.test")
    ours.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert known.offer(ours, "mail.test") is None
    ours.verify_flags ^= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert known.offer(ours, "mail.test") is not None


def test_what_is_kept_tells_nothing_and_goes_nowhere() -> None:
    """A session has the keys of a connection: it is neither pickled nor shown. Eight are kept, no more."""
    sessions, ours = Sessions(), certs.client_context()
    context = certs.server_context()
    with served(context) as server:
        target = Server("127.0.0.1", server.port, tls="implicit", ssl_context=ours)
        for _ in range(tls_sessions.KEPT + 3):
            with connect(target) as connection:
                resumption = Resumption(sessions)
                resumption.verified(connection._channel._driver.stream._sock)  # type: ignore[arg-type]
                resumption.learn()
    shown = repr(sessions)
    with pytest.raises(TypeError):
        pickle.dumps(sessions)
    offered = []
    while (session := Resumption(sessions).offer(ours, "127.0.0.1")) is not None:
        offered.append(session)
        assert session.id.hex() not in shown + repr(session)
    assert len(offered) == tls_sessions.KEPT == 8
